"""How past forecasts turned out: coverage of intervals, Brier score of failure forecasts. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_ndtr, ndtri

from windlass.records.forecast import Forecast

RECENT = 30  #: forecasts that ``caution`` looks back at


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a run that was forecast."""

    failed: bool
    metrics: Mapping[str, float]  #: finite values; {} where it failed
    score: float | None = None  #: ``Study.score``


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How often a central interval held the value."""

    count: int
    within50: int
    within90: int

    @property
    def share50(self) -> float | None:
        return self.within50 / self.count if self.count else None

    @property
    def share90(self) -> float | None:
        return self.within90 / self.count if self.count else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Forecasts against outcomes. A Brier score is a mean squared error of probabilities: 0 is perfect."""

    runs: int  #: forecasts with an outcome
    failures: int
    brier: float | None  #: of the failure forecasts; None without runs
    brier_base: float | None  #: of always saying the share of failures before the run, (f + 1/2) / (n + 1)
    metrics: Mapping[str, Coverage]
    score: Coverage


def calibration(pairs: Iterable[tuple[Forecast, Outcome]]) -> Calibration:
    """Sum up forecasts and outcomes, given in the order in which the runs were decided."""
    runs = failures = 0
    error = base = 0.0
    counts: dict[str, list[int]] = {}
    score = [0, 0, 0]
    for forecast, outcome in pairs:
        rate = (failures + 0.5) / (runs + 1)
        error += (forecast.fails - outcome.failed) ** 2
        base += (rate - outcome.failed) ** 2
        runs += 1
        failures += outcome.failed
        for name, prediction in forecast.metrics.items():
            if name in outcome.metrics:
                _count(counts.setdefault(name, [0, 0, 0]), prediction.covers, outcome.metrics[name])
        if forecast.score is not None and outcome.score is not None:
            _count(score, forecast.score.covers, outcome.score)
    return Calibration(
        runs=runs,
        failures=failures,
        brier=error / runs if runs else None,
        brier_base=base / runs if runs else None,
        metrics={name: _coverage(count) for name, count in counts.items()},
        score=_coverage(score),
    )


def caution(pairs: Sequence[tuple[Forecast, bool]]) -> float:
    """By how much the last ``RECENT`` failure forecasts were too low, in standard normal units; 0 where they were not.

    ``pairs``: forecast, and whether the run failed, in the order of decisions. The shift d maximises the posterior of
    P(fails) = Phi(z + d), z the forecast without the caution of its own time, d ~ N(0, 1). A search that follows its
    model to where failures are underestimated meets just those; without this it goes on meeting them.
    """
    recent = pairs[-RECENT:]
    if not any(failed for _, failed in recent):
        return 0.0
    z = ndtri(np.clip([forecast.fails for forecast, _ in recent], 1e-6, 1 - 1e-6)) - [f.caution for f, _ in recent]
    side = np.where([failed for _, failed in recent], 1.0, -1.0)
    found = minimize_scalar(
        lambda d: 0.5 * d * d - log_ndtr(side * (z + d)).sum(), bounds=(-3.0, 3.0), method="bounded"
    )
    return max(0.0, round(float(found.x), 3))


def _count(counts: list[int], covers: Callable[[float, float], bool], value: float) -> None:
    counts[0] += 1
    counts[1] += covers(value, 0.5)
    counts[2] += covers(value, 0.9)


def _coverage(counts: list[int]) -> Coverage:
    return Coverage(count=counts[0], within50=counts[1], within90=counts[2])
