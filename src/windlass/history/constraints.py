"""Constraints learned from failures: regions in which runs fail, as far as the runs say and no farther.

They reject proposals outright, and nothing that is rejected can show that they are wrong. So a region has to be pure,
surprising even among all regions that were searched (see :mod:`windlass.history.boxes`), and tight: its ends are at
failed runs. All is derived anew from the whole history each time: what later runs contradict is gone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from windlass.history.boxes import Box, Evidence, Side, most_surprising
from windlass.history.table import Axis, Floats, Mask, Table
from windlass.history.words import condition_words
from windlass.records.lessons import Expired, LearnedConstraint
from windlass.records.parameters import IntParameter
from windlass.records.region import Condition, Constraint, Contains, Interval, OneOf, Region
from windlass.records.run import FailureKind, RunRecord
from windlass.records.study import Study
from windlass.space.space import Space

LEVEL = 0.05  #: corrected probability of a region by chance, at most
PURITY = 0.9  #: share of a region's runs that failed, at least
BOUND = 0.6  #: lower end of that share's 95 % interval, at least
MOST = 8  #: regions
REACH = 0.1  #: share of the way from the outermost failed run to the next survivor that a rounder end may take
EDGE = 0.1  #: of the range: a failed run so near the range's end opens the interval
FIRST_LOOK = 25  #: runs; what the history taught at so many, and at each doubling, may expire
Z95 = 1.959964


def learn_constraints(
    study: Study, space: Space, runs: Sequence[RunRecord]
) -> tuple[list[LearnedConstraint], list[Expired]]:
    """Regions in which runs fail, and those that part of the history taught and all of it refutes.

    Killed and lost runs say nothing about a config and are left out; so are runs outside today's space.
    """
    return constraints_of(Table.of(study, space, runs)[0])


def constraints_of(table: Table) -> tuple[list[LearnedConstraint], list[Expired]]:
    """The same from a table."""
    if not table.failed.any():
        return [], []
    different = _different(table)
    everything = np.ones(len(table), dtype=bool)
    learned = _derive(table, different, everything)
    return [_told(table, one) for one in learned], _expired(table, different, learned)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    region: Region
    inside: Mask  #: of the whole table, whatever part of it taught the region


def _derive(table: Table, different: Mask, known: Mask) -> list[_Found]:
    """Regions taught by the runs in ``known``, one after the other, each judged by the runs outside those before."""
    good = known & (table.score >= _median(table.score[known]))
    evidence = Evidence.of(table.axes, table.failed & known, table.survived & known, good, different)
    found: list[_Found] = []
    while len(found) < MOST and (box := most_surprising(evidence, LEVEL)) is not None:
        one = _worded(table, box, table.survived & known)
        if one is None or not _convincing(table, known, one.inside, good):
            break
        found.append(one)
        evidence = evidence.without(one.inside)
    return _without_explained(table, found)


def _worded(table: Table, box: Box, survived: Mask) -> _Found | None:
    """The box as a region, its ends rounded where no survivor is in the way."""
    sides = list(box.sides)
    conditions: dict[str, Condition] = {}
    for i, side in enumerate(sides):
        axis = table.axes[side.axis]
        others = [other.holds(table.axes) for j, other in enumerate(sides) if j != i]
        condition, sides[i] = _condition(axis, side, np.logical_and.reduce([survived, *others]))
        if condition is not None:
            conditions[axis.name] = _both(conditions.get(axis.name), condition)
    if not conditions:
        return None
    return _Found(region=Region(conditions), inside=np.logical_and.reduce([side.holds(table.axes) for side in sides]))


def _without_explained(table: Table, found: list[_Found]) -> list[_Found]:
    """Without regions whose failed runs all lie in the others, narrow ones first."""
    for one in sorted(found, key=lambda one: (-len(one.region.root), int((one.inside & table.failed).sum()))):
        others = [other.inside for other in found if other is not one]
        if others and not (one.inside & table.failed & ~np.logical_or.reduce(others)).any():
            found = [other for other in found if other is not one]
    return found


def _convincing(table: Table, known: Mask, inside: Mask, good: Mask) -> bool:
    """Pure enough, and worse than outside even where luck made it look worse."""
    failed, survived = int((table.failed & known & inside).sum()), int((table.survived & known & inside).sum())
    if not failed or (good & inside).any() or failed < PURITY * (failed + survived):
        return False
    return wilson_bound(failed, failed + survived) >= max(BOUND, _base_rate(table, known, inside))


def _base_rate(table: Table, known: Mask, inside: Mask) -> float:
    failed, survived = int((table.failed & known & ~inside).sum()), int((table.survived & known & ~inside).sum())
    return failed / (failed + survived) if failed + survived else 0.0


def _condition(axis: Axis, side: Side, survivors: Mask) -> tuple[Condition | None, Side]:
    """The condition in the study's words and the side as it is then; None where it asks nothing.

    ``survivors``: those that the rest of the box would hold.
    """
    if axis.member is not None:
        return Contains(contains=(axis.member,)), side
    if not axis.ordered:
        return OneOf(tuple(axis.choices[i] for i in side.chosen)), side
    there = axis.column[survivors & axis.active]
    low = _end(axis, side.low, there[there < side.low], -1)
    high = _end(axis, side.high, there[there > side.high], 1)
    if low is None and high is None:
        if axis.parameter.when is None:
            return None, Side(side.axis)
        low = float(axis.parameter.low)  # type: ignore[union-attr]
    if isinstance(axis.parameter, IntParameter):
        low, high = (None if end is None else int(end) for end in (low, high))
    exact = Side(side.axis, -math.inf if low is None else low, math.inf if high is None else high)
    return Interval(min=low, max=high), exact


def _end(axis: Axis, value: float, survivors: Floats, outward: int) -> float | None:
    """One end of an interval; None (open): little is between ``value`` and the range's end, and no survivor."""
    low, high = float(axis.parameter.low), float(axis.parameter.high)  # type: ignore[union-attr]
    edge = low if outward < 0 else high
    if not len(survivors) and abs(axis.unit(edge) - axis.unit(value)) <= EDGE:
        return None
    if isinstance(axis.parameter, IntParameter):
        return value
    nearest = float(survivors.max() if outward < 0 else survivors.min()) if len(survivors) else edge
    return roundest(value, value + REACH * (nearest - value))


def roundest(value: float, limit: float) -> float:
    """Of the numbers from ``value`` to ``limit`` with the fewest digits the one nearest to ``value``."""
    if value == 0 or value == limit:
        return value
    low, high = min(value, limit), max(value, limit)
    magnitude = math.floor(math.log10(abs(value)))
    for digits in range(17):
        exponent = digits - magnitude
        steps = value * 10.0**exponent
        candidate = float(f"{math.floor(steps) if limit < value else math.ceil(steps)}e{-exponent}")
        if low <= candidate <= high:
            return candidate
    return value


def _both(first: Condition | None, second: Condition) -> Condition:
    """One condition for two members of a set."""
    if isinstance(first, Contains) and isinstance(second, Contains):
        return Contains(contains=(*first.contains, *second.contains))
    return second


def _told(table: Table, found: _Found) -> LearnedConstraint:
    failed, survived = table.failed & found.inside, table.survived & found.inside
    k, n = int(failed.sum()), int(failed.sum() + survived.sum())
    kinds = Counter(_kind(table.runs[i]) for i in np.flatnonzero(failed))
    outside = int(((table.failed | table.survived) & ~found.inside).sum())
    base = _base_rate(table, np.ones(len(table), dtype=bool), found.inside)
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    reason = f"{k} of {n} runs inside failed ({counted}); outside, {round(base * outside)} of {outside}"
    return LearnedConstraint(
        constraint=Constraint(name=_name(found.region), forbid=found.region, reason=reason),
        kinds=dict(kinds),
        failed=table.ids(failed),
        survived=table.ids(survived),
        purity=k / n,
        bound=wilson_bound(k, n),
        base_rate=base,
    )


def _name(region: Region) -> str:
    return "learned: " + " and ".join(condition_words(name, one) for name, one in region.root.items())


def _kind(run: RunRecord) -> str:
    return str(run.failure.kind if run.failure is not None else FailureKind.DIVERGED)


def _expired(table: Table, different: Mask, learned: Sequence[_Found]) -> list[Expired]:
    """What the first 25, 50, 100, ... runs taught and the whole history refutes; the latest for each set of names."""
    everything = np.ones(len(table), dtype=bool)
    good = table.score >= _median(table.score)
    expired: dict[frozenset[str], Expired] = {}
    size = FIRST_LOOK
    while size < len(table):
        known = np.arange(len(table)) < size
        for one in _derive(table, different, known) if table.failed[:size].any() else ():
            if not _convincing(table, everything, one.inside, good):
                expired[frozenset(one.region.root)] = _refuted(table, one, known, good, learned)
        size *= 2
    return list(expired.values())


def _refuted(table: Table, one: _Found, known: Mask, good: Mask, learned: Sequence[_Found]) -> Expired:
    size = int(known.sum())
    before = int((table.failed & known & one.inside).sum())
    against = table.ids(table.survived & ~known & one.inside) or table.ids(good & one.inside)
    if against:
        told = f"contradicted by {len(against)} runs inside that did not fail: {', '.join(against[:5])}"
        told += ", ..." if len(against) > 5 else ""
    else:
        told = "outside as many fail by now"
    reason = f"the first {size} runs taught it, {before} of them failed inside; {told}"
    for other in learned:
        if other.region.root.keys() == one.region.root.keys():
            reason += f"; in its place: {_name(other.region).removeprefix('learned: ')}"
            break
    return Expired(constraint=Constraint(name=_name(one.region), forbid=one.region, reason=reason), reason=reason)


def wilson_bound(good: int, n: int) -> float:
    """Lower end of the 95 % interval of a share (Wilson 1927); 0 where n is 0."""
    if not n:
        return 0.0
    share, z2 = good / n, Z95 * Z95
    spread = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, (share + z2 / (2 * n) - spread) / (1 + z2 / n))


def _median(scores: Floats) -> float:
    counted = scores[~np.isnan(scores)]
    return float(np.median(counted)) if len(counted) else math.inf


def _different(table: Table) -> Mask:
    """The first run of each config and fate; repeats are no evidence of their own."""
    rows = np.column_stack([np.nan_to_num(axis.column, nan=-math.inf) for axis in table.axes])
    seen: set[tuple[bool, bytes]] = set()
    kept = np.zeros(len(table), dtype=bool)
    for i, key in enumerate(zip(table.failed.tolist(), map(bytes, rows), strict=True)):
        kept[i] = key not in seen
        seen.add(key)
    return kept
