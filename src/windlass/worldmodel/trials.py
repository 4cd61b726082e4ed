"""What the world model is told: each terminal run as a trial, in an order that never changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from windlass.records.run import FailureKind, RunRecord, Status
from windlass.records.study import Study
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


def trials_of(
    study: Study,
    space: Space,
    runs: Sequence[RunRecord],
    partial: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
) -> tuple[list[Trial], dict[str, str]]:
    """The terminal ``runs`` as trials, by end, number and id; and why runs were set aside, by run id.

    Cancelled, lost and preempted runs say nothing about their config, and resumed ones nothing about cost: only their
    last attempt was timed. A run that was stopped early did not fail; ``partial`` has
    what its metrics would have come to: run id -> metric -> (value, standard deviation).

    A parameter that the space no longer has is dropped; one that a run lacks takes its value in the study's
    baseline, and without one, or with a value outside today's domain, the run is set aside. A completed run whose
    required metric is absent or not finite counts as failed, of kind ``diverged``.
    """
    settled = [run for run in runs if run.status.terminal and not _ended_from_outside(run)]
    settled.sort(key=lambda run: (run.ended or run.created, run.number or 0, run.id))
    trials: list[Trial] = []
    aside: dict[str, str] = {}
    for run in settled:
        try:
            values = space.place(run.params)
        except ValueError as error:
            aside[run.id] = str(error)
            continue
        metrics = {name: value for name in study.required_metrics if math.isfinite(value := _metric(run, name))}
        extra_sd: dict[str, float] = {}
        failure: str | None = None
        if run.status is Status.FAILED:
            failure = str(run.failure.kind) if run.failure is not None else str(FailureKind.ERROR)
        elif run.status is Status.STOPPED:
            expected = (partial or {}).get(run.id, {})
            metrics = {name: value for name, (value, _) in expected.items() if name in study.required_metrics}
            extra_sd = {name: expected[name][1] for name in metrics}
        elif len(metrics) < len(study.required_metrics):
            failure = str(FailureKind.DIVERGED)
        timed = run.status is not Status.STOPPED and run.attempt == 1
        cost = run.duration_s if timed else None
        trials.append(
            Trial(
                run_id=run.id,
                values=values,
                metrics=metrics if failure is None else {},
                failure=failure,
                cost_s=cost if cost is not None and math.isfinite(cost) else None,
                extra_sd=extra_sd,
            )
        )
    return trials, aside


def _ended_from_outside(run: RunRecord) -> bool:
    kinds = (FailureKind.LOST, FailureKind.PREEMPTED)
    return run.status is Status.CANCELLED or (run.failure is not None and run.failure.kind in kinds)


def _metric(run: RunRecord, name: str) -> float:
    summary = run.metrics.get(name)
    return math.nan if summary is None else summary.last
