"""The data of the figures about parameters: parallel coordinates, and what each parameter did to the target."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from windlass.records.parameters import Parameter
from windlass.records.ranking import ranked
from windlass.records.run import RunRecord
from windlass.records.study import Study
from windlass.report.figures import RunPoint, is_wide, run_points, target_values
from windlass.runs.text import show

CATEGORIES = 12  #: most levels of one categorical axis; rarer ones become "other"
OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One parameter (or the objective) as an axis from 0 to 1."""

    name: str
    kind: str  #: linear, log or category
    ticks: tuple[tuple[float, str], ...]  #: (position, label)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelCoordinates:
    axes: tuple[Axis, ...]  #: the last one is the objective
    points: tuple[RunPoint, ...]
    positions: np.ndarray  #: (runs, axes), 0 to 1; NaN where a parameter is inactive or the objective is missing
    rank: np.ndarray  #: (runs,), 0 for the best to 1 for the worst run that counts; NaN for the others
    left_out: int  #: runs not shown


def parallel_coordinates(study: Study, runs: Sequence[RunRecord], limit: int = 1000) -> ParallelCoordinates:
    """At most ``limit`` runs: the better half of them the best ones, the rest evenly spread over the study.

    Parameters that never vary have no axis.
    """
    chosen = _thin(study, runs, limit)
    columns: list[np.ndarray] = []
    axes: list[Axis] = []
    params = [run.params for run in chosen]
    for name, parameter in study.space.items():
        values = [p.get(name) for p in params]
        if len({repr(v) for v in values if v is not None}) > 1:
            axis, column = axis_of(name, parameter, values)
            axes.append(axis)
            columns.append(column)
    target, values_ = target_values(study, chosen)
    if np.isfinite(values_).any():
        axis, column = _numeric_axis(target, values_, values_[np.isfinite(values_)], log=is_wide(values_))
        axes.append(axis)
        columns.append(column)
    points = run_points(study, chosen)
    scores = np.array([study.score(r.values) if p.counts else None for r, p in zip(chosen, points, strict=True)], float)
    return ParallelCoordinates(
        axes=tuple(axes),
        points=points,
        positions=np.column_stack(columns) if columns else np.empty((len(chosen), 0)),
        rank=_rank(-scores),
        left_out=len(runs) - len(chosen),
    )


def _thin(study: Study, runs: Sequence[RunRecord], limit: int) -> list[RunRecord]:
    if len(runs) <= limit:
        return list(runs)
    best = {run.id for run in ranked(study, runs)[: limit // 2]}
    rest = [run for run in runs if run.id not in best]
    spread = {rest[i].id for i in np.linspace(0, len(rest) - 1, limit - len(best)).astype(int)}
    return [run for run in runs if run.id in best or run.id in spread]


def _rank(values: np.ndarray) -> np.ndarray:
    """Ascending rank from 0 to 1 with ties shared; NaN stays NaN. Shape (n,) -> (n,)."""
    finite = np.isfinite(values)
    rank = np.full(len(values), np.nan)
    if finite.any():
        _, inverse = np.unique(values[finite], return_inverse=True)
        rank[finite] = inverse / max(1, inverse.max())
    return rank


def axis_of(name: str, parameter: Parameter, values: Sequence[Any]) -> tuple[Axis, np.ndarray]:
    """A parameter's axis over its whole range (of a category: over the levels that occur), and where ``values`` lie."""
    if parameter.type in ("float", "int"):
        column = np.array([_as_float(value) for value in values])
        bounds = np.array([parameter.low, parameter.high], dtype=float)
        finite = np.concatenate([bounds, column[np.isfinite(column)]])
        log = parameter.log and bool((finite > 0).all())
        return _numeric_axis(name, column, finite, log=log, whole=parameter.type == "int")
    levels = category_levels(parameter, values)
    places = {level: (i + 0.5) / len(levels) for i, level in enumerate(levels)}
    column = np.array([math.nan if v is None else places.get(category(v), places.get(OTHER, math.nan)) for v in values])
    ticks = tuple((place, level) for level, place in places.items())
    return Axis(name=name, kind="category", ticks=ticks), column


def _as_float(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def _numeric_axis(
    name: str, column: np.ndarray, within: np.ndarray, *, log: bool, whole: bool = False
) -> tuple[Axis, np.ndarray]:
    transform = np.log10 if log else np.asarray
    low, high = float(transform(within.min())), float(transform(within.max()))
    span = (high - low) or 1.0
    marks = np.linspace(low, high, 5 if high > low else 1)
    values = np.unique(np.round(10**marks if log else marks) if whole else 10**marks if log else marks)
    ticks = tuple(((float(transform(value)) - low) / span, _mark(float(value))) for value in values)
    return Axis(name=name, kind="log" if log else "linear", ticks=ticks), (transform(column) - low) / span


def _mark(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def category(value: Any) -> str:
    """The level of a categorical, boolean or set-valued parameter."""
    if isinstance(value, (list, tuple)):
        return " + ".join(show(item) for item in value) or "∅"
    return show(value)


def category_levels(parameter: Parameter, values: Iterable[Any]) -> list[str]:
    """Levels in the order of the choices, sets by frequency; at most ``CATEGORIES``, the rest as ``OTHER``."""
    counts = Counter(category(value) for value in values if value is not None)
    declared = [category(choice) for choice in getattr(parameter, "choices", (False, True))]
    known = [level for level in declared if level in counts] if parameter.type != "set" else []
    levels = known + [level for level, _ in counts.most_common() if level not in known]
    return levels if len(levels) <= CATEGORIES else [*levels[: CATEGORIES - 1], OTHER]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterEffect:
    """What one parameter did to the target, over the runs in which it is active."""

    name: str
    kind: str  #: linear, log or category
    whole: bool  #: whole numbers only
    target: str
    maximize: bool  #: whether a higher target is better
    effect: float | None  #: share of the target's rank variance that it explains alone, 0 to 1; None: too few runs
    points: tuple[RunPoint, ...]
    values: tuple[Any, ...]  #: numbers, or levels of a category
    levels: tuple[str, ...]  #: of a category, in order
    outcomes: np.ndarray  #: (runs,), the target; NaN for runs that did not complete


def parameter_effects(study: Study, runs: Sequence[RunRecord]) -> tuple[ParameterEffect, ...]:
    """By size of effect; parameters that never vary are left out."""
    target, outcomes = target_values(study, runs)
    points = run_points(study, runs)
    all_params = [run.params for run in runs]
    effects = []
    for name, parameter in study.space.items():
        active = [i for i, params in enumerate(all_params) if params.get(name) is not None]
        values = [all_params[i][name] for i in active]
        numeric = parameter.type in ("float", "int")
        if numeric:
            active = [i for i, value in zip(active, values, strict=True) if math.isfinite(_as_float(value))]
            values = [float(all_params[i][name]) for i in active]
            levels: list[str] = []
            log = bool(getattr(parameter, "log", False)) and all(value > 0 for value in values)
        else:
            levels = category_levels(parameter, values)
            values = [level if (level := category(value)) in levels else OTHER for value in values]
            log = False
        if len(set(values)) < 2:
            continue
        effects.append(
            ParameterEffect(
                name=name,
                kind="log" if log else "linear" if numeric else "category",
                whole=parameter.type == "int",
                target=target,
                maximize=len(study.objectives) > 1 or study.objectives[0].direction == "maximize",
                effect=explained(values, outcomes[active], numeric=numeric),
                points=tuple(points[i] for i in active),
                values=tuple(values),
                levels=tuple(levels),
                outcomes=outcomes[active],
            )
        )
    return tuple(sorted(effects, key=lambda e: (-(e.effect if e.effect is not None else -1.0), e.name)))


def explained(values: Sequence[Any], outcomes: np.ndarray, *, numeric: bool) -> float | None:
    """Epsilon squared of Kruskal and Wallis: the share of the rank variance between groups, corrected for chance.

    Numbers are grouped into quantile bins, so that a peak in the middle counts as much as a slope. None below 6
    finished runs, or where there are not two groups.
    """
    finite = np.isfinite(outcomes)
    n = int(finite.sum())
    if n < 6:
        return None
    if numeric:
        array = np.array(values, dtype=float)[finite]
        bins = min(5, n // 3)
        groups = np.searchsorted(np.quantile(array, np.linspace(0, 1, bins + 1)[1:-1]), array)
    else:
        groups = np.unique(np.array(values, dtype=object)[finite].astype(str), return_inverse=True)[1]
    _, inverse, counts = np.unique(outcomes[finite], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # mid-ranks
    total = ((ranks - ranks.mean()) ** 2).sum()
    labels = np.unique(groups)
    k = len(labels)
    if k < 2 or n <= k or total == 0:
        return None
    between = sum((groups == g).sum() * (ranks[groups == g].mean() - ranks.mean()) ** 2 for g in labels)
    return max(0.0, float(1 - (n - 1) / (n - k) * (1 - between / total)))
