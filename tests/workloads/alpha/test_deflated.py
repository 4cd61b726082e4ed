"""Sharpe ratios and their luck: the published example, skfolio, and series without an answer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from windlass.workloads.alpha.gate.deflated import (
    deflated_sharpe,
    expected_max_sharpe,
    probabilistic_sharpe,
    sharpe_confidence,
)


def skewed(days: int, trials: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return 0.01 * (random.standard_t(5, (days, trials)) - 0.3 * random.exponential(size=(days, trials)) + 0.35)


def test_the_published_example() -> None:
    # Bailey & Lopez de Prado (2014): 2.5 a year over 1,250 days of 250, 100 trials whose ratios have variance 1/2
    benchmark = expected_max_sharpe(100, math.sqrt(0.5 / 250))
    assert benchmark == pytest.approx(0.1132, abs=5e-5)
    found = sharpe_confidence(2.5 / math.sqrt(250), benchmark, 1250, skewness=-3, kurtosis=10)
    assert found == pytest.approx(0.9004, abs=5e-5)


def test_the_same_example_with_fewer_trials() -> None:
    # the paper again: 46 independent trials would have been accepted at 95 %
    benchmark = expected_max_sharpe(46, math.sqrt(0.5 / 250))
    found = sharpe_confidence(2.5 / math.sqrt(250), benchmark, 1250, skewness=-3, kurtosis=10)
    assert found == pytest.approx(0.95, abs=0.005)


@pytest.mark.parametrize("benchmark", [0.0, 0.05])
def test_the_probabilistic_ratio_is_skfolios(benchmark: float) -> None:
    measures = pytest.importorskip("skfolio.measures")
    returns = skewed(500, 1)[:, 0]
    expected = measures.probabilistic_sharpe_ratio(returns, benchmark_sharpe_ratio=benchmark)
    assert probabilistic_sharpe(returns, benchmark) == pytest.approx(expected, abs=1e-12)


def test_the_deflated_ratio_is_skfolios() -> None:
    measures = pytest.importorskip("skfolio.measures")
    returns = skewed(500, 200)
    sharpes = returns.mean(axis=0) / returns.std(axis=0, ddof=1)
    best = returns[:, sharpes.argmax()]
    for ratios in (sharpes, np.concatenate([sharpes, -sharpes])):
        expected = measures.deflated_sharpe_ratio(best, ratios)
        assert 0.001 < expected < 0.999
        assert deflated_sharpe(best, ratios) == pytest.approx(expected, abs=1e-12)


def test_the_short_side_is_a_trial_too() -> None:
    returns = skewed(500, 200)
    sharpes = returns.mean(axis=0) / returns.std(axis=0, ddof=1)
    best = returns[:, sharpes.argmax()]
    assert deflated_sharpe(best, np.concatenate([sharpes, -sharpes])) < deflated_sharpe(best, sharpes)


def test_one_trial_is_not_deflated() -> None:
    returns = skewed(300, 1)[:, 0]
    assert deflated_sharpe(returns, np.array([0.1])) == probabilistic_sharpe(returns)
    assert expected_max_sharpe(1, 1.0) == 0.0
    assert expected_max_sharpe(50, 0.0) == 0.0


def test_the_expected_best_is_that_of_normal_draws() -> None:
    best = np.random.default_rng(1).standard_normal((4000, 300)).max(axis=1)
    assert expected_max_sharpe(300, 1.0) == pytest.approx(best.mean(), abs=0.03)


def test_missing_terms_are_left_out() -> None:
    returns = skewed(300, 1)[:, 0]
    assert probabilistic_sharpe(np.append(returns, np.nan)) == probabilistic_sharpe(returns)
    assert deflated_sharpe(returns, np.array([0.1, np.nan, -0.1])) == deflated_sharpe(returns, np.array([0.1, -0.1]))


@pytest.mark.parametrize("returns", [[], [0.1, 0.2], [0.3] * 9, [math.nan] * 9])
def test_no_answer_is_nan(returns: list[float]) -> None:
    assert math.isnan(probabilistic_sharpe(np.array(returns)))
