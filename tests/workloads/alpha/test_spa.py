"""Hansen's test: against arch, its parts against slow ones, and searches with a known answer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from windlass.workloads.alpha.gate.spa import long_run_variance, spa, stationary_counts


def trials(days: int, count: int, seed: int, best: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    shocks = random.standard_normal((days + 1, count))
    returns = 1e-3 * (shocks[1:] + 0.3 * shocks[:-1])
    returns[:, 0] += best * 1e-3
    returns[:, -1] -= 0.3e-3
    return returns


@pytest.mark.parametrize(("seed", "best"), [(0, 0.0), (1, 0.15), (2, 0.3)])
def test_it_is_archs_within_resampling_error(seed: int, best: float) -> None:
    bootstrap = pytest.importorskip("arch.bootstrap")
    returns = trials(300, 8, seed, best)
    # arch takes losses, and compares means as they are: studentised beforehand, with the variance that it uses itself
    error = np.sqrt(long_run_variance(returns - returns.mean(axis=0), 10))
    both = np.hstack([returns / error, -returns / error])
    oracle = bootstrap.SPA(np.zeros(300), -both, block_size=10, reps=2000, seed=7)
    oracle.compute()
    found = spa(returns, block=10, draws=2000, seed=3)
    for ours, theirs in zip((found.lower, found.consistent, found.upper), oracle.pvalues, strict=True):
        spread = math.sqrt(max(theirs * (1 - theirs), 1e-3) / 1000)
        assert abs(ours - theirs) <= 3.5 * spread


def test_the_variance_is_archs() -> None:
    bootstrap = pytest.importorskip("arch.bootstrap")
    returns = trials(120, 3, 5)
    oracle = bootstrap.SPA(np.zeros(120), -returns, block_size=10, reps=2, seed=7)
    oracle.compute()
    assert np.allclose(long_run_variance(returns - returns.mean(axis=0), 10), oracle._loss_diff_var, rtol=1e-10)


def test_the_variance_is_that_of_the_resampled_mean() -> None:
    returns = trials(150, 2, 6)
    means = stationary_counts(150, 6, 20_000, seed=1) @ returns / 150
    expected = long_run_variance(returns - returns.mean(axis=0), 6) / 150
    assert means.var(axis=0) == pytest.approx(expected, rel=0.05)


def test_resamples_have_all_days_in_blocks_of_the_mean_length() -> None:
    counts = stationary_counts(400, 20, 500, seed=2)
    assert (counts.sum(axis=1) == 400).all()
    assert counts.mean() == 1.0
    alone = stationary_counts(400, 1, 500, seed=2)
    # drawn one by one, a day is missing with probability 1/e
    assert (alone == 0).mean() == pytest.approx(math.exp(-1), abs=0.01)


def test_the_three_are_in_order_and_both_sides_count() -> None:
    returns = trials(300, 8, 1, best=0.15)
    found = spa(returns, block=10, seed=3)
    assert found.lower <= found.consistent <= found.upper
    assert spa(-returns, block=10, seed=3) == found


def test_skill_is_found_and_luck_is_not() -> None:
    assert spa(trials(400, 20, 1, best=0.5), seed=1).upper < 0.01
    assert np.mean([spa(trials(400, 20, seed)[:, :-1], draws=200, seed=1).upper for seed in range(20)]) > 0.3


def test_a_still_trial_changes_nothing() -> None:
    returns = trials(200, 5, 2)
    assert spa(np.hstack([returns, np.zeros((200, 1))]), seed=1) == spa(returns, seed=1)


@pytest.mark.parametrize("returns", [np.zeros((50, 2)), np.zeros((50, 0)), np.ones((2, 2))])
def test_no_answer_is_nan(returns: np.ndarray) -> None:
    assert math.isnan(spa(returns, seed=1).consistent)
