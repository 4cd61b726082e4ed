"""The time-shift placebo: against shifting by hand, and on skill, tilts and missing values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from windlass.workloads.alpha.gate.placebo import curve, search_wide, shifts, spectrum

DAYS, NAMES = 247, 12


def panel(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    weights = random.standard_normal((DAYS, NAMES))
    weights /= np.abs(weights).sum(axis=1, keepdims=True)
    return weights, 0.01 * random.standard_normal((DAYS, NAMES))


def observed(weights: np.ndarray, forward: np.ndarray) -> float:
    return float(np.nansum(weights * forward) / len(forward))


def test_a_curve_is_what_shifting_by_hand_gives() -> None:
    weights, forward = panel(0)
    by_hand = [(weights * np.roll(forward, -int(s), axis=0)).sum() / DAYS for s in shifts(DAYS, 60)]
    found = curve(weights, forward)
    assert len(found) == DAYS - 119
    assert np.allclose(found, by_hand, atol=2e-6 * np.abs(forward).mean())


def test_a_spectrum_saves_work_and_changes_nothing() -> None:
    weights, forward = panel(0)
    assert curve(weights, spectrum(forward)).tolist() == curve(weights, forward).tolist()


def test_missing_values_are_nothing() -> None:
    weights, forward = panel(1)
    gaps = np.random.default_rng(2).random((2, DAYS, NAMES)) < 0.1
    missing = curve(np.where(gaps[0], np.nan, weights), np.where(gaps[1], np.nan, forward))
    zero = curve(np.where(gaps[0], 0.0, weights), np.where(gaps[1], 0.0, forward))
    assert missing.tolist() == zero.tolist()


def test_skill_stands_out_from_its_own_placebos() -> None:
    weights, forward = panel(3)
    skilled = forward + 0.05 * weights
    others = [panel(seed)[0] for seed in range(10, 20)]
    trials = [weights, *others]
    found = search_wide(np.array([observed(w, skilled) for w in trials]), np.stack([curve(w, skilled) for w in trials]))
    assert found.p[0] == 1 / (1 + DAYS - 119)
    assert found.observed_max > found.null.max()
    assert (found.p[1:] > 0.05).all()


def test_the_side_does_not_matter() -> None:
    weights, forward = panel(3)
    skilled = forward + 0.05 * weights
    sold = search_wide(np.array([observed(-weights, skilled)]), curve(-weights, skilled)[None])
    bought = search_wide(np.array([observed(weights, skilled)]), curve(weights, skilled)[None])
    assert sold.p.tolist() == bought.p.tolist()


def test_a_tilt_to_names_that_rose_is_no_skill() -> None:
    _, forward = panel(4)
    drift = np.linspace(-0.01, 0.01, NAMES)
    tilt = np.tile(drift / np.abs(drift).sum(), (DAYS, 1))
    rising = forward + drift
    assert observed(tilt, rising) / (tilt * rising).sum(axis=1).std() > 0.5  # a Sharpe ratio above 8 a year
    found = search_wide(np.array([observed(tilt, rising)]), curve(tilt, rising)[None])
    assert found.p[0] == 1.0


def test_it_holds_its_size() -> None:
    passed = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        trials = [random.standard_normal((DAYS, NAMES)) for _ in range(8)]
        forward = random.standard_t(4, (DAYS, NAMES))
        found = search_wide(
            np.array([observed(w, forward) for w in trials]), np.stack([curve(w, forward) for w in trials])
        )
        passed += np.nanmin(found.p) < 0.05
    assert passed <= 9  # 3 expected; 9 or fewer with probability 0.998


def test_the_null_is_search_wide() -> None:
    curves = np.array([[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -3.0]])
    found = search_wide(np.array([1.0, 0.0]), curves)
    second = math.sqrt((1 + 1 + 1 + 9) / 5)
    assert found.null == pytest.approx([1, 1, 1, 3 / second])
    assert found.p == pytest.approx([1.0, 1.0])
    assert found.observed_max == 1.0


def test_no_answer_is_nan() -> None:
    weights, forward = panel(5)
    still = search_wide(np.array([0.0, observed(weights, forward)]), np.stack([np.zeros(128), curve(weights, forward)]))
    assert math.isnan(still.p[0]) and 0 < still.p[1] <= 1
    short = search_wide(np.array([0.1]), curve(weights[:100], forward[:100])[None])
    assert math.isnan(short.p[0]) and math.isnan(short.observed_max)
