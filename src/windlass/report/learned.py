"""The data of what was learned: forbidden regions over the runs they were learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from windlass.records.lessons import LearnedConstraint
from windlass.records.parameters import Parameter
from windlass.records.region import Condition, Interval
from windlass.records.run import RunRecord
from windlass.records.study import Study
from windlass.report.figures import RunPoint, jitter, run_points, target_values
from windlass.report.parameters import Axis, axis_of, category

OPEN = 0.04  #: how far an open end of a region reaches beyond the axis
HALF = 0.012  #: half the width of a band around one number


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One parameter of a region as an axis from 0 to 1."""

    axis: Axis
    positions: np.ndarray  #: (runs,); NaN where the parameter is not active
    bands: tuple[tuple[float, float], ...]  #: where the region's condition holds


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionOverRuns:
    """A learned region over one parameter or two, with every run that has them."""

    learned: LearnedConstraint
    points: tuple[RunPoint, ...]
    x: Lane
    y: Lane | None  #: None: the target is the other axis
    target: str
    outcomes: np.ndarray  #: (runs,), the target; NaN for runs that did not complete


def region_over_runs(study: Study, learned: LearnedConstraint, runs: Sequence[RunRecord]) -> RegionOverRuns | None:
    """None where the region is over more than two parameters, or over one that the space has not (any more)."""
    conditions = learned.constraint.region.root
    if len(conditions) > 2 or not all(name in study.space for name in conditions):
        return None
    params = [run.params for run in runs]
    shown = [i for i, one in enumerate(params) if all(one.get(name) is not None for name in conditions)]
    lanes = [
        _lane(name, study.space[name], condition, [params[i][name] for i in shown])
        for name, condition in conditions.items()
    ]
    target, outcomes = target_values(study, runs)
    points = run_points(study, runs)
    return RegionOverRuns(
        learned=learned,
        points=tuple(points[i] for i in shown),
        x=lanes[0],
        y=lanes[1] if len(lanes) > 1 else None,
        target=target,
        outcomes=outcomes[shown],
    )


def _lane(name: str, parameter: Parameter, condition: Condition, values: Sequence[Any]) -> Lane:
    if isinstance(condition, Interval):
        ends = [end for end in (condition.min, condition.max) if end is not None]
        axis, places = axis_of(name, parameter, [*values, *ends])
        low = float(places[len(values)]) if condition.min is not None else -OPEN
        high = float(places[-1]) if condition.max is not None else 1 + OPEN
        return Lane(axis=axis, positions=places[: len(values)], bands=((low, high),))
    axis, places = axis_of(name, parameter, values)
    if axis.kind != "category":
        inside = sorted({float(place) for place, value in zip(places, values, strict=True) if condition.holds(value)})
        return Lane(axis=axis, positions=places, bands=tuple((place - HALF, place + HALF) for place in inside))
    known = [*getattr(parameter, "choices", (False, True)), *values]
    held = {category(value) for value in known if condition.holds(value)}
    half = 0.5 / max(1, len(axis.ticks))
    bands = tuple((place - half, place + half) for place, level in axis.ticks if level in held)
    return Lane(axis=axis, positions=places + jitter(len(places)) * 1.3 * half, bands=bands)
