"""The search-wide t statistic: against a slow one, its size, its power, and searches without an answer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from windlass.workloads.alpha.gate.hac import hac_t_columns, long_run_variance
from windlass.workloads.alpha.gate.max_t import block_counts, max_t


def noise(days: int, trials: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return 1e-3 * (random.standard_normal((days, trials)) + 0.5 * random.standard_normal((days, 1)))


def slow(returns: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The largest |t| of each resample, one resample and one trial at a time."""
    days, trials = returns.shape
    found = []
    for times in counts:
        drawn = np.repeat(np.arange(days), times)
        sizes = []
        for trial in range(trials):
            series = returns[:, trial]
            error = math.sqrt(long_run_variance(series[:, None])[0] / days)
            sizes.append(abs(series[drawn].mean() - series.mean()) / error)
        found.append(max(sizes))
    return np.array(found)


def test_it_is_equal_to_a_slow_one() -> None:
    returns = noise(90, 7, seed=1)
    result = max_t(returns, block=8, draws=60, seed=3)
    expected = slow(returns, block_counts(90, 8, 60, 3))
    assert np.allclose(result.null, expected, rtol=1e-5)
    assert np.allclose(result.t, hac_t_columns(returns))
    for t, p in zip(result.t, result.p, strict=True):
        assert p == (1 + (expected >= abs(t) * (1 - 1e-6)).sum()) / 61


def test_every_resample_has_all_days_in_blocks() -> None:
    counts = block_counts(50, 12, 200, 0)
    assert counts.shape == (200, 50)
    assert (counts.sum(axis=1) == 50).all()
    # four whole blocks and two days: the sums of neighbours jump at no more than ten places
    assert (np.abs(np.diff(counts, axis=1)) > 0).sum(axis=1).max() <= 10
    assert counts.mean(axis=0) == pytest.approx(np.ones(50), abs=0.35)


def test_the_critical_value_is_where_p_reaches_the_level() -> None:
    result = max_t(noise(300, 40, seed=2), seed=5)
    ordered = np.sort(result.null)
    p = (1 + (ordered >= result.critical).sum()) / (1 + len(ordered))
    above = (1 + (ordered > result.critical).sum()) / (1 + len(ordered))
    assert above < 0.05 <= p + 1e-9
    assert result.observed_max == np.abs(result.t).max()


def test_a_search_without_skill_is_refused_nineteen_times_in_twenty() -> None:
    passed = [np.nanmin(max_t(noise(400, 60, seed), draws=200, seed=seed).p) < 0.05 for seed in range(120)]
    assert sum(passed) <= 14  # 6 expected; 14 or fewer with probability 0.999


def test_skill_is_found_on_either_side() -> None:
    returns = noise(400, 60, seed=9)
    returns[:, 17] += 4e-4
    result = max_t(returns, seed=1)
    assert result.p[17] < 0.01 and result.t[17] > 4
    assert np.nanargmin(result.p) == 17
    turned = max_t(-returns, seed=1)
    assert turned.t[17] == -result.t[17] and turned.p[17] == result.p[17]


def test_more_trials_ask_for_more_and_copies_do_not() -> None:
    returns = noise(300, 400, seed=4)
    few = max_t(returns[:, :5], seed=1)
    many = max_t(returns, seed=1)
    assert many.critical > few.critical + 0.5
    assert (many.p[:5] >= few.p).all()
    copied = max_t(np.tile(returns[:, :5], 30), seed=1)
    assert copied.p[:5].tolist() == few.p.tolist()


def test_the_scale_of_a_trial_does_not_matter() -> None:
    returns = noise(200, 10, seed=6)
    scaled = returns * np.array([1.0, 100.0] * 5)
    assert np.allclose(max_t(scaled, seed=1).null, max_t(returns, seed=1).null, rtol=1e-4)


def test_the_seed_decides() -> None:
    returns = noise(200, 10, seed=6)
    assert max_t(returns, seed=1).null.tolist() == max_t(returns, seed=1).null.tolist()
    assert max_t(returns, seed=1).null.tolist() != max_t(returns, seed=2).null.tolist()


def test_a_trial_that_does_not_move_has_no_answer_and_changes_nothing() -> None:
    returns = noise(120, 3, seed=8)
    with_flat = np.column_stack([returns[:, :1], np.zeros(120), returns[:, 1:]])
    result = max_t(with_flat, seed=1)
    assert math.isnan(result.t[1]) and math.isnan(result.p[1])
    assert result.p[[0, 2, 3]].tolist() == max_t(returns, seed=1).p.tolist()


@pytest.mark.parametrize("returns", [np.zeros((50, 2)), np.zeros((50, 0)), np.zeros((1, 3))])
def test_a_search_that_does_not_move_has_no_answer(returns: np.ndarray) -> None:
    result = max_t(returns, draws=20, seed=1)
    assert np.isnan(result.p).all() and math.isnan(result.critical) and math.isnan(result.observed_max)


def test_missing_returns_are_none() -> None:
    returns = noise(120, 3, seed=8)
    returns[:10, 1] = np.nan
    assert max_t(returns, seed=1).p.tolist() == max_t(np.nan_to_num(returns), seed=1).p.tolist()
