"""Ranks over the valid names of each row, from the engine's sort, and what a share at each end holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from windlass.workloads.alpha.engine.kernels import Kernels
from windlass.workloads.alpha.engine.rank import rank
from windlass.workloads.alpha.panel import Bools, Floats

BLOCK = 64  #: rows worked on at a time: what is made on the way then stays in the processor's cache


def blocks(start: int, stop: int) -> Iterator[slice]:
    """The rows from ``start`` up to ``stop``, BLOCK by BLOCK."""
    return (slice(first, min(first + BLOCK, stop)) for first in range(start, stop, BLOCK))


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    valid: Bools  #: (T, N)
    count: Floats  #: (T,) valid names
    centred: Floats  #: (T, N) average rank minus its mean, over count: in (-0.5, 0.5), sums to 0; 0 where not valid

    def on(self, rows: slice) -> Ranking:
        return Ranking(self.valid[rows], self.count[rows], self.centred[rows])

    def ends(self, share: float) -> tuple[Floats, Floats]:
        """Weights (T, N) of the upper and of the lower ``share`` of the valid names; each row of each sums to 1.

        Of n names share x n make an end, a fraction allowed: names in it weigh the same, and the one or the tie at its
        border has what is left, in equal parts. A row without valid names is zero.
        """
        n = np.maximum(self.count, 1.0)[:, None]
        twice = np.rint(2.0 * n * self.centred + n + 1.0)  # 2 x average rank: 2 ... 2 n
        size = self._ties(twice)
        last = 0.5 * twice + 0.5 * (size - 1.0)  # a tie has the ranks first + 1 ... last
        first = last - size
        held = share * n
        upper = np.maximum(last - np.maximum(first, n - held), 0.0)
        lower = np.maximum(np.minimum(last, held) - first, 0.0)
        size *= held
        for one in (upper, lower):
            one /= size
            one *= self.valid
        return upper, lower

    def _ties(self, twice: Floats) -> Floats:
        """How many names share each one's rank. Squares of ranks add up to less where there are ties, exactly."""
        size, n = np.ones_like(twice), self.count
        squares = np.einsum("tn,tn,tn->t", twice, twice, self.valid.astype(np.float64))
        tied = np.flatnonzero(squares != 4.0 * n * (n + 1.0) * (2.0 * n + 1.0) / 6.0)
        if len(tied):
            keys = twice[tied].astype(np.int64) + (2 * twice.shape[1] + 2) * np.arange(len(tied))[:, None]
            counts = np.bincount(keys[self.valid[tied]], minlength=int(keys.max()) + 1)
            size[tied] = np.where(self.valid[tied], counts[keys], 1.0)
        return size


def ranking(x: Floats, valid: Bools, kernels: Kernels) -> Ranking:
    """``valid`` is False where ``x`` is NaN. Ties share their mean rank; the engine says what is a tie."""
    count = valid.sum(axis=1).astype(np.float64)
    middle = 0.5 * (count + 1.0) / np.maximum(count, 1.0)
    centred = np.empty(x.shape)
    for rows in blocks(0, len(x)):
        np.subtract(rank(x[rows], valid[rows], kernels), middle[rows, None], out=centred[rows])
        np.copyto(centred[rows], 0.0, where=~valid[rows])
    return Ranking(valid, count, centred)


def ranked_again(known: Ranking, x: Floats, valid: Bools, kernels: Kernels) -> Ranking:
    """``ranking`` of ``x``, with ``known`` of the same ``x`` over other names: only rows that differ are sorted."""
    differ = np.flatnonzero((known.valid != valid).any(axis=1))
    if not len(differ):
        return known
    again = ranking(x[differ], valid[differ], kernels)
    count, centred = known.count.copy(), known.centred.copy()
    count[differ], centred[differ] = again.count, again.centred
    return Ranking(valid, count, centred)
