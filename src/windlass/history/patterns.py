"""Which values, and which pairs of them, go with better or worse scores: effects with intervals, others held apart.

Symbols: y (n,) centred mean scores of n configs, X (n, p) centred indicators of the levels of all axes (a number's
range in equal parts, each category, each member of a set). y = X b + e, b ~ N(0, s2 / l), e ~ N(0, s2): ridge
regression, with l and s2 by marginal likelihood (Rasmussen & Williams 2006, 5.4; MacKay 1992), so that in pure noise
all effects shrink to nothing. An effect is a level's b less the mean b of the axis's other levels, by their runs. A
pair's effect g is what its product indicator z adds: y = z g + X b + e, which is its mean beyond the sum of its parts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from windlass.history.constraints import roundest
from windlass.history.table import Axis, Floats, Mask, Table
from windlass.records.lessons import Pattern
from windlass.records.parameters import IntParameter
from windlass.records.ranking import Standing, standings
from windlass.records.region import Condition, Contains, Interval, OneOf, Region
from windlass.records.run import RunRecord
from windlass.records.study import Study
from windlass.space.space import Space

FEWEST = 10  #: configs with scores, without which nothing is said
INSIDE = 3  #: configs inside, and outside, at least
MOST = 8  #: patterns
PARTS = 3  #: of a number's range
CHANCE = 0.1  #: that noise alone gives any pattern (a bound, by Bonferroni)
FENCE = 3.0  #: interquartile ranges below the lower quartile at which terrible scores are cut off
PENALTIES = np.logspace(-2, 4, 25)  #: l that are tried


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Level:
    axis: int
    condition: Condition
    inside: Mask  #: (n,)
    active: Mask  #: (n,)


def learn_patterns(study: Study, space: Space, runs: Sequence[RunRecord]) -> tuple[Pattern, ...]:
    """Effects on ``Study.score`` whose 90 % interval leaves out 0, strongest first, at most ``MOST``."""
    table, _ = Table.of(study, space, runs)
    return patterns_of(table, standings(study, table.runs))


def patterns_of(table: Table, placed: Sequence[Standing]) -> tuple[Pattern, ...]:
    """The same from a table and the standings of its runs. Repeats of a config count once, with their mean."""
    row = {run.id: i for i, run in enumerate(table.runs)}
    firsts = sorted((row[one.run.id], one.mean) for one in placed)
    if len(firsts) < FEWEST:
        return ()
    rows = np.array([i for i, _ in firsts])
    scores = _cut(np.array([score for _, score in firsts]))
    if np.ptp(scores) <= 1e-12 * max(1.0, float(np.abs(scores).max())):
        return ()
    levels = _levels(table.axes, rows)
    if not levels:
        return ()
    fit = _Fit(np.column_stack([level.inside for level in levels]).astype(np.float64), scores)
    pairs = _pairs(levels, table.axes)
    strict = -float(ndtri(CHANCE / (2 * (len(levels) + len(pairs)))))
    found = [level for level, stands in zip(levels, _stand_out(fit, levels, strict), strict=True) if stands]
    shown: list[tuple[_Level, ...]] = [(level,) for level in _one_of_two(found, levels)]
    shown += _strongest(fit, pairs, strict)
    reach = float(stdtrit(fit.freedom, 0.95))
    patterns = []
    for members in shown:
        inside = np.logical_and.reduce([level.inside for level in members])
        own = np.array([any(level.axis == member.axis for member in members) for level in levels])
        held = [member.active for member in members]
        if len(members) > 1:  # what the pair adds to its parts
            held += [level.inside for level, is_own in zip(levels, own, strict=True) if is_own]
        effect, sd = fit.alone(inside, held, ~own)
        if abs(effect) > max(reach, strict) * sd:
            patterns.append(
                Pattern(
                    region=_region(members, table.axes),
                    effect=effect,
                    low=effect - reach * sd,
                    high=effect + reach * sd,
                    runs=_runs(table, rows, scores, members),
                )
            )
    return tuple(sorted(patterns, key=lambda one: -abs(one.effect))[:MOST])


class _Fit:
    """Ridge regression; X (n, p) not centred yet."""

    def __init__(self, X: Floats, y: Floats) -> None:
        self.n = len(y)
        self.X = X - X.mean(axis=0)
        self.y = y - y.mean()
        U, S, Vt = np.linalg.svd(self.X, full_matrices=False)
        z2 = (U.T @ self.y) ** 2
        rest = max(float(self.y @ self.y - z2.sum()), 1e-12 * float(self.y @ self.y))
        best = -math.inf
        for penalty in PENALTIES:
            d = 1 + S * S / penalty
            total = rest + float((z2 / d).sum())
            likelihood = -0.5 * (self.n - 1) * math.log(total) - 0.5 * float(np.log(d).sum())
            if likelihood > best:
                best, self.penalty, self.variance = likelihood, float(penalty), total / (self.n - 1)
        shrink = 1 / (S * S + self.penalty)
        self.inverse = (Vt.T * (shrink - 1 / self.penalty)) @ Vt + np.eye(X.shape[1]) / self.penalty
        self.b = self.inverse @ (self.X.T @ self.y)
        self.freedom = self.n - 1.0

    def contrast(self, c: Floats) -> tuple[Floats, Floats]:
        """Estimates and standard deviations of c @ b; c (m, p)."""
        return c @ self.b, np.sqrt(self.variance * np.einsum("ij,jk,ik->i", c, self.inverse, c))

    def added(self, Z: Floats) -> tuple[Floats, Floats]:
        """Estimates and standard deviations of the effect g of each column of Z (n, m), each added by itself."""
        Z = Z - Z.mean(axis=0)
        XZ = self.X.T @ Z
        residual = self.y - self.X @ self.b
        free = np.einsum("ij,ij->j", Z, Z) - np.einsum("ij,ij->j", XZ, self.inverse @ XZ)
        precision = np.maximum(free, 0.0) + self.penalty
        return (Z.T @ residual) / precision, np.sqrt(self.variance / precision)

    def alone(self, inside: Mask, held: Sequence[Mask], shrunk: Mask) -> tuple[float, float]:
        """Estimate and standard deviation of the effect of ``inside`` (n,), not shrunk.

        Beside it are ``held``, indicators (n,) that are not shrunk either, and the columns ``shrunk`` (p,) of X.
        """
        W = np.column_stack([*(one - one.mean() for one in (inside, *held)), self.X[:, shrunk]])
        prior = np.repeat([0.0, self.penalty], [1 + len(held), shrunk.sum()])
        inverse = np.linalg.inv(W.T @ W + np.diag(prior + 1e-9 * self.n))
        return float(inverse[0] @ (W.T @ self.y)), math.sqrt(self.variance * float(inverse[0, 0]))


def _cut(scores: Floats) -> Floats:
    low, high = np.quantile(scores, [0.25, 0.75])
    return np.maximum(scores, low - FENCE * (high - low)) if high > low else scores


def _levels(axes: Sequence[Axis], rows: Floats) -> list[_Level]:
    """The levels of each axis with enough runs in them and beside them."""
    levels: list[_Level] = []
    for i, axis in enumerate(axes):
        column, active = axis.column[rows], axis.active[rows]
        for condition, inside in _conditions(axis, column):
            if INSIDE <= inside.sum() <= active.sum() - INSIDE:
                levels.append(_Level(axis=i, condition=condition, inside=inside, active=active))
    return levels


def _conditions(axis: Axis, column: Floats) -> list[tuple[Condition, Mask]]:
    if axis.member is not None:
        return [(Contains(contains=(axis.member,)), column == 0)]
    if not axis.ordered:
        return [(OneOf((choice,)), column == i) for i, choice in enumerate(axis.choices)]
    ends = _ends(axis)
    step = 1 if isinstance(axis.parameter, IntParameter) else 0
    found: list[tuple[Condition, Mask]] = []
    for low, high in zip([None, *ends], [*ends, None], strict=True):
        inside = ~np.isnan(column)
        if low is not None:
            inside &= column >= low
        if high is not None:
            inside &= column < high
        top = None if high is None else high - step
        if low is not None and top is not None and low > top:
            continue
        found.append((Interval(min=low, max=top), inside))
    return found


def _ends(axis: Axis) -> list[float]:
    """Where the parts of a number's range meet, in few digits; whole for an int."""
    parameter = axis.parameter
    low, high = float(parameter.low), float(parameter.high)  # type: ignore[union-attr]
    log = parameter.log  # type: ignore[union-attr]
    ends = []
    for part in range(1, PARTS):
        share = part / PARTS
        value = low ** (1 - share) * high**share if log else low + (high - low) * share
        near = value * 1.1 if log else value + 0.02 * (high - low)
        ends.append(float(math.ceil(value)) if isinstance(parameter, IntParameter) else roundest(value, near))
    return sorted(set(ends))


def _stand_out(fit: _Fit, levels: Sequence[_Level], strict: float) -> Mask:
    """Which levels differ from the others of their axis by more than ``strict`` standard deviations."""
    counts = np.array([level.inside.sum() for level in levels], dtype=np.float64)
    outside = np.array([level.active.sum() for level in levels]) - counts
    axis = np.array([level.axis for level in levels])
    others = (axis[:, None] == axis[None, :]) & ~np.eye(len(levels), dtype=bool)
    effects, sds = fit.contrast(np.eye(len(levels)) - others * counts / outside[:, None])
    return np.abs(effects) > strict * sds


def _pairs(levels: Sequence[_Level], axes: Sequence[Axis]) -> list[tuple[_Level, _Level]]:
    """Pairs of levels with runs in both, in each alone, and in neither."""
    inside = np.array([level.inside for level in levels], dtype=np.float64)
    active = np.array([level.active for level in levels], dtype=np.float64)
    both, active_both = inside @ inside.T, active @ active.T
    one = inside @ active.T  # inside the first, where the second is active
    enough = (both >= INSIDE) & (one - both > 0) & (one.T - both > 0) & (active_both - one - one.T + both > 0)
    pairs = []
    for i, j in zip(*np.nonzero(np.triu(enough, 1)), strict=True):
        a, b = levels[i], levels[j]
        if a.axis != b.axis:
            pairs.append((a, b))
    return pairs


def _strongest(fit: _Fit, pairs: Sequence[tuple[_Level, _Level]], strict: float) -> list[tuple[_Level, ...]]:
    """Of each pair of axes the pair of levels that stands out most, if one does."""
    if not pairs:
        return []
    effects, sds = fit.added(np.column_stack([a.inside & b.inside for a, b in pairs]).astype(np.float64))
    best: dict[tuple[int, int], tuple[float, tuple[_Level, ...]]] = {}
    for (a, b), ratio in zip(pairs, np.abs(effects / sds).tolist(), strict=True):
        if ratio > max(strict, best.get((a.axis, b.axis), (0.0, ()))[0]):
            best[a.axis, b.axis] = (ratio, (a, b))
    strongest = sorted(best.values(), key=lambda one: -one[0])[:MOST]
    return [members for _, members in strongest]


def _one_of_two(found: Sequence[_Level], levels: Sequence[_Level]) -> list[_Level]:
    """Where an axis has two levels, only the first one found: the other says the same."""
    of_axis = Counter(level.axis for level in levels)
    first = {level.axis: level for level in reversed(found)}
    return [level for level in found if of_axis[level.axis] != 2 or level is first[level.axis]]


def _region(members: tuple[_Level, ...], axes: Sequence[Axis]) -> Region:
    conditions: dict[str, Condition] = {}
    for level in members:
        name, condition = axes[level.axis].name, level.condition
        before = conditions.get(name)
        if isinstance(before, Contains) and isinstance(condition, Contains):
            condition = Contains(contains=(*before.contains, *condition.contains))
        conditions[name] = condition
    return Region(conditions)


def _runs(table: Table, rows: Floats, scores: Floats, members: tuple[_Level, ...]) -> tuple[str, ...]:
    inside = np.flatnonzero(np.logical_and.reduce([level.inside for level in members]))
    best_first = inside[np.argsort(-scores[inside], kind="stable")]
    return tuple(table.runs[rows[i]].id for i in best_first)
