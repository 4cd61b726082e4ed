"""What a portfolio is made neutral to: groups, and up to three characteristics of the names, as a projection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from windlass.workloads.alpha.panel import Bools, Floats, Int16s

NEGLIGIBLE = 1e-6  #: what is left of a row after a projection, as a share of what it was, that counts as nothing


@dataclass(frozen=True, slots=True, eq=False)
class Controls:
    """An orthogonal projection per row, over that row's tradable names.

    The groups' dummies (they span the constant) are handled as means; the characteristics are kept orthonormal, without
    their groups' means: together a basis of the regression's columns (Frisch-Waugh-Lovell), so that the projection
    leaves the residual of the regression on all of them.
    """

    tradable: Floats  #: (T, N), 1 or 0
    order: npt.NDArray[np.intp]  #: (N,) columns, group by group
    starts: npt.NDArray[np.intp]  #: (S,) where a group begins in ``order``
    column: npt.NDArray[np.intp]  #: (N,) each column's place among the S groups
    counts: Floats  #: (T, S) tradable names, at least 1
    basis: tuple[Floats, ...]  #: (T, N) each, zero where not tradable; a row of zeros where nothing is left of it

    @classmethod
    def of(cls, tradable: Bools, groups: Int16s | None, characteristics: Sequence[Floats]) -> Self:
        """``characteristics``: (T, N) each; where one is NaN the name counts as the mean of its group.

        ``groups``: (N,), unknown ones are a group of their own; None is one group of all, so that only the sum is 0.
        """
        codes = np.zeros(tradable.shape[1], np.int16) if groups is None else groups
        known, column = np.unique(codes, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], known)
        ones = tradable.astype(np.float64)
        counts = np.maximum(np.add.reduceat(ones[:, order], starts, axis=1), 1.0)
        made = cls(ones, order, starts, column, counts, ())
        basis: list[Floats] = []
        for values in characteristics:
            basis.append(made._orthonormal(values, basis))
        return cls(ones, order, starts, column, counts, tuple(basis))

    def head(self, rows: int) -> Self:
        basis = tuple(one[:rows] for one in self.basis)
        return type(self)(self.tradable[:rows], self.order, self.starts, self.column, self.counts[:rows], basis)

    def project(self, x: Floats, rows: slice) -> Floats:
        """``x`` (R, N) on these ``rows``, 0 where not tradable, without what the controls explain; in place."""
        self._centre(x, rows)
        for one in self.basis:
            x -= np.einsum("tn,tn->t", x, one[rows])[:, None] * one[rows]
        return x

    def _centre(self, x: Floats, rows: slice) -> None:
        means = np.add.reduceat(x[:, self.order], self.starts, axis=1)
        means /= self.counts[rows]
        spread = means[:, self.column]
        spread *= self.tradable[rows]
        x -= spread

    def _orthonormal(self, values: Floats, earlier: Sequence[Floats]) -> Floats:
        known = (self.tradable > 0) & np.isfinite(values)
        x = np.where(known, values, 0.0)
        counts = np.maximum(np.add.reduceat(known.astype(np.float64)[:, self.order], self.starts, axis=1), 1.0)
        means = np.add.reduceat(x[:, self.order], self.starts, axis=1) / counts
        x = np.where(known, x - means[:, self.column], 0.0)
        before = np.sqrt(np.einsum("tn,tn->t", x, x))
        for _ in range(2):  # once more takes off what rounding left
            for one in earlier:
                x -= np.einsum("tn,tn->t", x, one)[:, None] * one
            self._centre(x, slice(None))
        length = np.sqrt(np.einsum("tn,tn->t", x, x))
        left = length > NEGLIGIBLE * before
        x *= np.divide(1.0, length, out=np.zeros_like(length), where=left)[:, None]
        return x
