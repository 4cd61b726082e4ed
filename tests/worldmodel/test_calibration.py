from __future__ import annotations

import numpy as np
import pytest

from windlass.records.forecast import Forecast, Prediction
from windlass.worldmodel import Outcome, calibration


def prediction(centre: float, sd: float = 1.0) -> Prediction:
    p5, p25, p50, p75, p95 = (centre + sd * z for z in (-1.645, -0.674, 0.0, 0.674, 1.645))
    return Prediction(mean=centre, sd=sd, p5=p5, p25=p25, p50=p50, p75=p75, p95=p95)


def forecast(fails: float = 0.1, centre: float = 0.0, sd: float = 1.0) -> Forecast:
    return Forecast(known=5, fails=fails, metrics={"loss": prediction(centre, sd)}, score=prediction(-centre, sd))


def test_right_forecasts_cover_their_share() -> None:
    rng = np.random.default_rng(0)
    pairs = [(forecast(), Outcome(failed=False, metrics={"loss": x}, score=-x)) for x in rng.standard_normal(2000)]
    found = calibration(pairs)
    for coverage in (found.metrics["loss"], found.score):
        assert coverage.count == 2000
        assert coverage.share50 == pytest.approx(0.5, abs=0.03)
        assert coverage.share90 == pytest.approx(0.9, abs=0.02)


def test_overconfident_forecasts_show() -> None:
    rng = np.random.default_rng(0)
    pairs = [(forecast(sd=0.3), Outcome(failed=False, metrics={"loss": x})) for x in rng.standard_normal(500)]
    assert calibration(pairs).metrics["loss"].share90 < 0.5


def test_failure_forecasts_are_held_against_the_rate_known_before_each_run() -> None:
    failed, ran = Outcome(failed=True, metrics={}), Outcome(failed=False, metrics={"loss": 0.0})
    found = calibration([(forecast(0.9), failed), (forecast(0.2), ran), (forecast(0.8), failed)])
    assert (found.runs, found.failures) == (3, 2)
    assert found.brier == pytest.approx((0.1**2 + 0.2**2 + 0.2**2) / 3)
    assert found.brier_base == pytest.approx((0.5**2 + 0.75**2 + 0.5**2) / 3)
    assert found.metrics["loss"].count == 1


def test_nothing_forecast_yet_is_said_as_none() -> None:
    found = calibration([])
    assert (found.runs, found.brier, found.brier_base, found.score.share90) == (0, None, None, None)
