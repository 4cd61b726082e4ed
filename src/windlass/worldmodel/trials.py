"""What the world model is told: each terminal run as a trial, in an order that never changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from windlass.records.run import FailureKind, RunRecord, Status
from windlass.records.study import Study
from windlass.space.parameters import canonical_value
from windlass.space.space import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One result as the model sees it."""

    run_id: str
    values: Mapping[str, Any]  #: flat, active parameters of the space only
    metrics: Mapping[str, float] = field(default_factory=dict)  #: finite, of objectives and guards; {} where it failed
    failure: str | None = None  #: a FailureKind's value; None where it ran
    cost_s: float | None = None  #: wall seconds
    extra_sd: Mapping[str, float] = field(default_factory=dict)  #: metric -> extra sd of an extrapolated value


def trials_of(study: Study, space: Space, runs: Sequence[RunRecord]) -> tuple[list[Trial], dict[str, str]]:
    """The completed and failed ``runs`` as trials, by end, number and id; and why runs were set aside, by run id.

    A parameter that the space no longer has is dropped; one that a run lacks takes its value in the study's
    baseline, and without one, or with a value outside today's domain, the run is set aside. A completed run whose
    required metric is absent or not finite counts as failed, of kind ``diverged``.
    """
    settled = [run for run in runs if run.status in (Status.COMPLETED, Status.FAILED)]
    settled.sort(key=lambda run: (run.ended or run.created, run.number or 0, run.id))
    trials: list[Trial] = []
    aside: dict[str, str] = {}
    for run in settled:
        try:
            values = _values(space, run.params)
        except ValueError as error:
            aside[run.id] = str(error)
            continue
        metrics = {name: value for name in study.required_metrics if math.isfinite(value := _metric(run, name))}
        failure: str | None = None
        if run.status is Status.FAILED:
            failure = str(run.failure.kind) if run.failure is not None else str(FailureKind.ERROR)
        elif len(metrics) < len(study.required_metrics):
            failure = str(FailureKind.DIVERGED)
        cost = run.duration_s
        trials.append(
            Trial(
                run_id=run.id,
                values=values,
                metrics=metrics if failure is None else {},
                failure=failure,
                cost_s=cost if cost is not None and math.isfinite(cost) else None,
            )
        )
    return trials, aside


def _metric(run: RunRecord, name: str) -> float:
    summary = run.metrics.get(name)
    return math.nan if summary is None else summary.last


def _values(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Canonical values of the parameters that are active; raises ValueError in words."""
    chosen: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        if parameter.when is not None and not parameter.when.contains(chosen):
            continue
        if name in params:
            value = params[name]
        elif name in space.fixed:
            value = space.fixed[name]
        else:
            raise ValueError(f"it has no value for {name}, and neither has the study's baseline")
        try:
            chosen[name] = canonical_value(parameter, value)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
    return chosen
