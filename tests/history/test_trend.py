"""Trend and stagnation against noise."""

from __future__ import annotations

import numpy as np
import pytest

from history.histories import STUDY, make_run, make_study
from windlass.history.trend import stagnation, trend, trend_of
from windlass.records.run import FailureKind, RunRecord


def runs_of(losses: list[float | None]) -> list[RunRecord]:
    return [
        make_run(i, {"batch": i}, loss, FailureKind.ERROR if loss is None else None)
        for i, loss in enumerate(losses, start=1)
    ]


def test_the_slope_is_that_of_the_last_results_and_one_outlier_does_not_move_it() -> None:
    losses: list[float | None] = [10.0 - 0.5 * i for i in range(20)]
    found = trend(STUDY, runs_of([99.0, None, *losses]))
    assert found is not None and found.runs == 20
    assert (found.slope, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    losses[10] = 1e6
    again = trend(STUDY, runs_of(losses))
    assert again is not None and again.slope == pytest.approx(0.5)


def test_the_trend_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        found = trend_of((0.1 * np.arange(20) + rng.normal(0, 1, 20)).tolist())
        assert found is not None
        covered += found.low <= 0.1 <= found.high
    assert 0.86 <= covered / 400 <= 0.95


def test_few_results_have_no_trend_and_equal_ones_a_flat_one() -> None:
    assert trend_of([1.0, 2.0, 3.0, 4.0]) is None
    flat = trend_of([1.0] * 8)
    assert flat is not None and (flat.slope, flat.low, flat.high) == (0.0, 0.0, 0.0)


def test_gains_within_the_noise_are_stagnation_and_the_reason_has_the_numbers() -> None:
    creeping = runs_of([1.0 - 0.001 * i for i in range(30)])
    assert not stagnation(STUDY, creeping).stagnant, "without noise each is an improvement"
    stuck = stagnation(STUDY, creeping, noise_sd=0.1)
    assert stuck.stagnant and stuck.since_improvement == 29 and stuck.noise_sd == 0.1
    assert "29 settled runs since the best score last rose by more than 0.1" in stuck.reason
    assert "0.1 as modelled" in stuck.reason and "10 such runs are stagnation" in stuck.reason


def test_repeats_tell_the_noise_better_than_a_model() -> None:
    repeated = [*runs_of([1.0, 0.9]), make_run(3, {"batch": 2}, 0.7)]
    found = stagnation(STUDY, repeated, noise_sd=5.0)
    assert found.noise_sd == pytest.approx(0.2 / 2**0.5)
    assert "between repeats" in found.reason and not found.stagnant


def test_the_studys_own_patience_counts() -> None:
    rule = make_study(stop={"stagnation": {"runs": 3, "min_improvement": 0.5}})
    runs = runs_of([1.0, 0.9, 0.8, 0.7])
    assert stagnation(rule, runs).stagnant
    assert not stagnation(rule, runs[:3]).stagnant
    assert not stagnation(STUDY, runs).stagnant


def test_nothing_yet_and_only_failures() -> None:
    assert not stagnation(STUDY, []).stagnant
    failed = stagnation(STUDY, runs_of([None] * 12))
    assert failed.stagnant and "none of 12 settled runs has a result that counts" in failed.reason
