from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from windlass.records.forecast import Forecast, Prediction
from windlass.worldmodel import Outcome, calibration, caution


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


def fails(probability: float, caution: float = 0.0) -> Forecast:
    return Forecast(known=10, fails=probability, caution=caution)


def test_failure_forecasts_that_were_too_low_make_cautious() -> None:
    assert caution([]) == 0.0
    assert caution([(fails(0.1), False)] * 20) == 0.0
    fair = [(fails(0.3), i % 10 < 3) for i in range(30)]
    low = [(fails(0.3), i % 10 < 8) for i in range(30)]
    assert caution(fair) < 0.05
    assert caution(low) == pytest.approx(1.25, abs=0.2)  # Phi^-1(0.8) - Phi^-1(0.3), drawn to 0 by the prior
    assert caution([(fails(0.7), i % 10 < 3) for i in range(30)]) == 0.0, "too high a forecast makes nobody bold"


def test_a_caution_already_in_a_forecast_is_not_counted_again() -> None:
    shifted = float(ndtr(ndtri(0.3) + 1.2))
    outcomes = [i % 10 < 8 for i in range(30)]
    once, again = ([(fails(p, c), o) for o in outcomes] for p, c in ((0.3, 0.0), (shifted, 1.2)))
    assert caution(again) == pytest.approx(caution(once), abs=0.01)


def test_caution_looks_at_the_latest_forecasts() -> None:
    early, late = [(fails(0.2), True)] * 60, [(fails(0.2), False)] * 30
    assert caution([*early, *late]) == 0.0 < caution(early)
