"""Search for the box in which runs fail beyond chance: over one axis or two.

Symbols: n runs that count, F of them failed; a box holds k failed and s survived ones. Were failures independent of
the config, the number of failed runs in a box would be hypergeometric, so P(K >= k | n, F, k + s) says how surprising
the box is (Fisher's exact test). The base rate may change as a search settles, or while a machine has a fault; so the
test is stratified: n, F and k + s are those of ``BLOCK`` runs after each other, and K is the sum over the blocks. A box
that was searched for is surprising by luck: the probability is multiplied with the number of boxes of its shape that
could have been found (Bonferroni), once for each choice made: which axes, which ends or which categories. Runs count
only where all axes of the box are active.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from windlass.history.table import Axis, Floats, Mask

SURVIVOR = 9.0  #: failed runs that outweigh one survivor in a box
GOOD = 1e6  #: the same for a survivor that is among the better half: it is never given up
TRIFLE = 1e-6  #: weight of a failed run whose config failed before
THRESHOLDS = 10  #: values of an axis that the coarse search looks at; what it finds is then made exact
SWEEPS = 2  #: over the axes of a box, to make it exact
BLOCK = 15  #: runs, by number, that are compared with each other
LOOKS = 5  #: boxes of the coarse search that are tested
SUPPORT = 6  #: different failed runs in a box, at least


@dataclass(frozen=True, slots=True)
class Side:
    """What a box asks of one axis: an interval of its column, or some of its choices."""

    axis: int
    low: float = -math.inf
    high: float = math.inf
    chosen: tuple[int, ...] = ()

    def holds(self, axes: Sequence[Axis]) -> Mask:
        column = axes[self.axis].column
        if axes[self.axis].ordered:
            return (column >= self.low) & (column <= self.high)
        inside = np.zeros(len(column), dtype=bool)
        for choice in self.chosen:
            inside |= column == choice
        return inside


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    sides: tuple[Side, ...]
    surprise: float  #: log of the corrected probability; lower is more surprising


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """The runs a search looks at; shape (n,)."""

    axes: tuple[Axis, ...]
    failed: Mask  #: failed runs, one of each config
    survived: Mask  #: survivors, one of each config
    weight: Floats  #: what a box gains by holding a run
    block: npt.NDArray[np.int64]  #: which block a run is in

    @classmethod
    def of(cls, axes: tuple[Axis, ...], failed: Mask, survived: Mask, good: Mask, different: Mask) -> Evidence:
        """``different``: the first run of each config and fate."""
        weight = np.where(different, 1.0, TRIFLE) * failed - SURVIVOR * survived - GOOD * good
        block = np.arange(len(failed)) // BLOCK
        return cls(axes=axes, failed=failed & different, survived=survived & different, weight=weight, block=block)

    def without(self, inside: Mask) -> Evidence:
        return replace(
            self,
            failed=self.failed & ~inside,
            survived=self.survived & ~inside,
            weight=np.where(inside, 0.0, self.weight),
        )


def most_surprising(evidence: Evidence, level: float) -> Box | None:
    """The box with the lowest surprise; None where none is below ``log(level)``."""
    if evidence.failed.sum() < SUPPORT:
        return None
    grids = [_grid(axis, i, evidence) for i, axis in enumerate(evidence.axes)]
    usable = [grid for grid in grids if len(grid.sides)]
    pairs = [(a, b) for a, b in combinations(usable, 2) if _may_pair(evidence.axes[a.axis], evidence.axes[b.axis])]
    counts = (len(usable), len(pairs))
    found = [_coarse(evidence, group) for group in [*((grid,) for grid in usable), *pairs]]
    found = sorted((one for one in found if one.sides), key=lambda one: one.surprise)[:LOOKS]
    tested = [replace(one, surprise=surprise(evidence, one.sides, counts)) for one in found]
    if not tested:
        return None
    box = _exact(evidence, min(tested, key=lambda one: one.surprise), counts)
    return box if box.surprise <= math.log(level) else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Grid:
    """An axis in cells, and the conditions on it that the coarse search tries."""

    axis: int
    cell: npt.NDArray[np.int64]  #: (n,) of each run; -1 where not active
    cells: int
    picks: Floats  #: (conditions, cells), 1 where a condition holds
    price: Floats  #: (conditions,) log of how many alike there are
    sides: list[Side]


def _grid(axis: Axis, index: int, evidence: Evidence) -> _Grid:
    active = axis.active
    if not axis.ordered:
        cell = np.where(active, axis.column, -1.0).astype(np.int64)
        several = len(axis.choices)
        cells = 2 if axis.member is not None else several
        sides = [Side(index, chosen=(choice,)) for choice in range(several)] if cells > 1 else []
        return _Grid(
            axis=index,
            cell=cell,
            cells=cells,
            picks=np.eye(several, cells),
            price=np.full(several, math.log(several)),
            sides=sides,
        )
    values = np.unique(axis.column[evidence.failed & active])
    distinct = len(values)
    if distinct > THRESHOLDS:
        values = values[np.linspace(0, distinct - 1, THRESHOLDS).round().astype(int)]
    m = len(values)
    # cell 2i + 1 is the i-th value itself, cell 2i lies below it
    place = np.searchsorted(values, axis.column)
    exact = values[np.minimum(place, m - 1)] == axis.column if m else np.zeros(len(place), dtype=bool)
    cell = np.where(active, 2 * place + exact, -1)
    first, last, picks = _intervals(m)
    seen = np.bincount(cell[(evidence.weight != 0) & active], minlength=2 * m + 1) > 0
    one_sided = ((first == 0) & ~seen[0]) | ((last == m - 1) & ~seen[-1])
    return _Grid(
        axis=index,
        cell=cell,
        cells=2 * m + 1,
        picks=picks,
        price=np.where(one_sided, math.log(2 * max(distinct, 1)), 2 * math.log(max(distinct, 2))),
        sides=[Side(index, float(values[i]), float(values[j])) for i, j in zip(first, last, strict=True)],
    )


@cache
def _intervals(m: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """First and last value of each interval between m values, and the cells it covers."""
    first, last = np.triu_indices(m)
    cells = np.arange(2 * m + 1)
    picks = (cells >= 2 * first[:, None] + 1) & (cells <= 2 * last[:, None] + 1)
    return first, last, picks.astype(np.float64)


def _may_pair(a: Axis, b: Axis) -> bool:
    return a.name != b.name or (a.member is not None and b.member is not None)


def _coarse(evidence: Evidence, group: Sequence[_Grid]) -> Box:
    """The best of all boxes of the grids by a quick estimate: one block, and s survivors cost what they weigh."""
    active = np.logical_and.reduce([grid.cell >= 0 for grid in group])
    failed = int((evidence.failed & active).sum())
    if failed < SUPPORT:
        return Box(sides=(), surprise=0.0)
    n = failed + int((evidence.survived & active).sum())
    cell = group[0].cell[active]
    for grid in group[1:]:
        cell = cell * grid.cells + grid.cell[active]
    shape = [grid.cells for grid in group]
    sums = _weigh(cell, evidence.weight[active], math.prod(shape)).reshape(shape)
    sums = group[0].picks @ sums
    if len(group) > 1:
        sums = sums @ group[1].picks.T
    k = np.arange(failed + 1)
    chance = gammaln(failed + 1) - gammaln(failed - k + 1) - gammaln(n + 1) + gammaln(n - k + 1)
    chance[:SUPPORT] = 0.0
    estimate = chance[np.maximum(sums + 0.5, 0.0).astype(np.int64)]
    for i, grid in enumerate(group):
        estimate = estimate + grid.price.reshape([-1 if i == j else 1 for j in range(len(group))])
    where = np.unravel_index(int(np.argmin(estimate)), estimate.shape)
    sides = tuple(grid.sides[i] for grid, i in zip(group, where, strict=True))
    return Box(sides=sides, surprise=float(estimate[where]))


def _exact(evidence: Evidence, best: Box, counts: tuple[int, int]) -> Box:
    """The box with its ends at the best of all values instead of those of the coarse grid."""
    sides = best.sides
    for _ in range(SWEEPS if len(sides) > 1 else 1):
        for i in range(len(sides)):
            for side in _better_sides(evidence, best.sides, i):
                changed = (*best.sides[:i], side, *best.sides[i + 1 :])
                found = surprise(evidence, changed, counts)
                if found < best.surprise:
                    best = Box(sides=changed, surprise=found)
    return best


def _better_sides(evidence: Evidence, sides: tuple[Side, ...], i: int) -> Iterator[Side]:
    """What could stand in the place of side ``i``, given the others."""
    axis = evidence.axes[sides[i].axis]
    inside = axis.active & (evidence.weight != 0)
    for j, other in enumerate(sides):
        if j != i:
            inside &= other.holds(evidence.axes)
    if not inside.any():
        return
    values, place = np.unique(axis.column[inside], return_inverse=True)
    gains = _weigh(place, evidence.weight[inside], len(values))
    if axis.ordered:
        yield Side(sides[i].axis, *_heaviest(values, gains))
        return
    chosen = sorted(
        (int(v) for v, gain in zip(values, gains, strict=True) if gain >= 1), key=lambda v: (-gains[values == v][0], v)
    )
    for size in range(1, len(chosen) + 1):
        if size < len(axis.choices):
            yield Side(sides[i].axis, chosen=tuple(sorted(chosen[:size])))


def _weigh(place: npt.NDArray[np.int64], weights: Floats, places: int) -> Floats:
    """The sum of the weights at each place."""
    return np.bincount(place, weights=weights, minlength=places).astype(np.float64)


def _heaviest(values: Floats, gains: Floats) -> tuple[float, float]:
    """The interval with the largest sum of gains, as short as possible (Kadane's algorithm, as in Bentley 1984)."""
    sums = np.concatenate([[0.0], np.cumsum(gains)])
    ends = sums[1:] - np.minimum.accumulate(sums[:-1])
    last = int(np.argmax(ends))
    before = sums[: last + 1]
    first = last - int(np.argmin(before[::-1]))
    return float(values[first]), float(values[last])


def surprise(evidence: Evidence, sides: Sequence[Side], counts: tuple[int, int]) -> float:
    """Log of the corrected probability of a box. ``counts``: axes, and pairs of axes, that were searched."""
    axes = evidence.axes
    active = np.logical_and.reduce([axes[side.axis].active for side in sides])
    inside = np.logical_and.reduce([side.holds(axes) for side in sides])
    failed, survived = evidence.failed & active, evidence.survived & active
    k = int((failed & inside).sum())
    if k < SUPPORT:
        return 0.0
    price = math.log(2 * max(counts[len(sides) - 1], 1))
    for side in sides:
        axis = axes[side.axis]
        if axis.ordered:
            distinct = len(np.unique(axis.column[evidence.failed & axis.active]))
            there = axis.column[(evidence.weight != 0) & axis.active]
            one_sided = bool((there >= side.low).all() or (there <= side.high).all())
            price += math.log(2 * distinct) if one_sided else 2 * math.log(max(distinct, 2))
        else:
            price += math.log(math.comb(len(axis.choices), len(side.chosen)))
    blocks = [np.bincount(evidence.block[one]) for one in (failed | survived, failed, (failed | survived) & inside)]
    size = min(map(len, blocks))
    return log_tail(k, [tuple(one) for one in zip(*(b[:size].tolist() for b in blocks), strict=True)]) + price


def log_tail(k: int, blocks: Sequence[tuple[int, int, int]]) -> float:
    """log P(K >= k): K is a sum of independent hypergeometric numbers, one for each block's (n, F, drawn)."""
    chances = np.ones(1)
    for block in blocks:
        if block[2]:
            chances = np.convolve(chances, _hypergeometric(*block))
    return math.log(min(1.0, max(float(chances[k:].sum()), 1e-300)))


@lru_cache(maxsize=4096)
def _hypergeometric(n: int, failed: int, drawn: int) -> Floats:
    """P(K = 0), P(K = 1), ... of failed runs among ``drawn`` of n."""
    ways = [math.comb(failed, k) * math.comb(n - failed, drawn - k) for k in range(min(failed, drawn) + 1)]
    return np.array(ways) / math.comb(n, drawn)
