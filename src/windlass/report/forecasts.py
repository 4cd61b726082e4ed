"""Forecasts against outcomes: one run's for ``why``, a study's for the report's figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from windlass.records.decision import Decision
from windlass.records.forecast import Prediction
from windlass.records.run import RunRecord, Status
from windlass.records.study import Study
from windlass.report.figures import RunPoint, run_points
from windlass.report.words import within
from windlass.runs.text import duration, number

DURATION = "duration"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastCheck:
    """One number that was forecast and came."""

    name: str  #: a metric, or ``duration`` in seconds
    prediction: Prediction
    actual: float

    @property
    def verdict(self) -> str:
        return within(self.prediction, self.actual)

    def words(self, value: float) -> str:
        return duration(value) if self.name == DURATION else number(float(f"{value:.4g}"))


def forecast_checks(decision: Decision, run: RunRecord | None) -> tuple[ForecastCheck, ...]:
    """Of a completed run, the metrics that came and are finite, and its duration; empty for every other run."""
    forecast = decision.forecast
    if forecast is None or run is None or run.status is not Status.COMPLETED:
        return ()
    actual = {name: value for name, value in run.values.items() if math.isfinite(value)}
    found = [
        ForecastCheck(name=name, prediction=prediction, actual=actual[name])
        for name, prediction in forecast.metrics.items()
        if name in actual
    ]
    if forecast.cost_s is not None and run.duration_s is not None:
        found.append(ForecastCheck(name=DURATION, prediction=forecast.cost_s, actual=run.duration_s))
    return tuple(found)


class Coverage(Protocol):
    """How often a central interval held the value."""

    @property
    def count(self) -> int: ...
    @property
    def share50(self) -> float | None: ...
    @property
    def share90(self) -> float | None: ...


class Calibration(Protocol):
    """How the forecasts of a study's runs turned out (``windlass.worldmodel.calibration``)."""

    @property
    def runs(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def brier(self) -> float | None: ...
    @property
    def brier_base(self) -> float | None: ...
    @property
    def metrics(self) -> Mapping[str, Coverage]: ...
    @property
    def score(self) -> Coverage: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasts:
    """One metric's forecasts and outcomes. All arrays have the shape (runs,), by number."""

    metric: str
    direction: str
    points: tuple[RunPoint, ...]
    low: np.ndarray  #: of the central 90 % interval
    middle: np.ndarray  #: the median; a mean is ruled by the far tail of a skewed forecast
    high: np.ndarray
    actual: np.ndarray


def metric_forecasts(
    study: Study, metric: str, decisions: Sequence[Decision], runs: Sequence[RunRecord]
) -> Forecasts | None:
    """Of completed runs whose forecast knew some result; None without any."""
    by_id = {run.id: run for run in runs}
    found: list[tuple[RunRecord, ForecastCheck]] = []
    for decision in decisions:
        run = by_id.get(decision.run_id or "")
        if run is not None and decision.forecast is not None and decision.forecast.known:
            found += [(run, check) for check in forecast_checks(decision, run) if check.name == metric]
    if not found:
        return None
    predictions = [check.prediction for _, check in found]
    return Forecasts(
        metric=metric,
        direction=next((o.direction for o in study.objectives if o.metric == metric), "guard"),
        points=run_points(study, [run for run, _ in found]),
        low=np.array([p.p5 for p in predictions]),
        middle=np.array([p.p50 for p in predictions]),
        high=np.array([p.p95 for p in predictions]),
        actual=np.array([check.actual for _, check in found]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureForecasts:
    """The forecast probability of failure of every settled run. Arrays of shape (runs,), by number."""

    points: tuple[RunPoint, ...]
    fails: np.ndarray  #: 0 to 1
    failed: np.ndarray  #: bool


def failure_forecasts(
    study: Study, decisions: Sequence[Decision], runs: Sequence[RunRecord]
) -> FailureForecasts | None:
    """None where no settled run has a forecast that knew some result, or none failed."""
    by_id = {run.id: run for run in runs}
    pairs = [
        (by_id[d.run_id], d.forecast.fails)
        for d in decisions
        if d.run_id in by_id and d.forecast is not None and d.forecast.known
    ]
    pairs = [(run, p) for run, p in pairs if run.status in (Status.COMPLETED, Status.FAILED)]
    failed = np.array([run.status is Status.FAILED for run, _ in pairs], dtype=bool)
    if not failed.any():
        return None
    return FailureForecasts(
        points=run_points(study, [run for run, _ in pairs]), fails=np.array([p for _, p in pairs]), failed=failed
    )
