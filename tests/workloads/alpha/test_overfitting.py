"""The probability of backtest overfitting: against the paper's steps written out, on searches with a known answer."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from windlass.workloads.alpha.gate.overfitting import pbo


def written_out(returns: np.ndarray, blocks: int) -> float:
    """Bailey et al. (2017), section 2: the rank of one half's best in the other half, its logit, the share below 0."""
    both = np.hstack([returns, -returns])
    parts = np.array_split(np.arange(len(both)), blocks)
    low = []
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[i] for i in chosen])
        outside = np.setdiff1d(np.arange(len(both)), inside)
        best = np.argmax(both[inside].mean(axis=0) / both[inside].std(axis=0))
        later = both[outside].mean(axis=0) / both[outside].std(axis=0)
        share = (later <= later[best]).sum() / (both.shape[1] + 1)
        low.append(math.log(share / (1 - share)) < 0)
    return float(np.mean(low))


def noise(days: int, trials: int, seed: int = 0) -> np.ndarray:
    return 1e-3 * np.random.default_rng(seed).standard_normal((days, trials))


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_papers(seed: int) -> None:
    returns = noise(96, 9, seed) + 2e-4 * np.linspace(-1, 1, 9)
    assert pbo(returns, blocks=8) == pytest.approx(written_out(returns, 8), abs=1e-12)


def test_days_that_do_not_divide_are_shared_out() -> None:
    returns = noise(203, 5)
    assert 0 <= pbo(returns, blocks=16) <= 1


def test_skill_is_not_overfitting_and_luck_is() -> None:
    skill = noise(480, 30)
    skill[:, 3] += 5e-4
    assert pbo(skill) < 0.01
    luck = [pbo(noise(480, 30, seed)) for seed in range(6)]
    assert 0.35 < np.mean(luck) < 0.75


def test_what_turns_over_is_always_overfitting() -> None:
    # earns in the first half what it loses in the second: the best of a half is the worst of the other
    returns = noise(160, 4)
    returns -= returns.mean(axis=0)
    assert pbo(returns) > 0.95


def test_a_high_mean_does_not_hide_the_variance() -> None:
    returns = noise(160, 6) + 1e3
    assert pbo(returns) == 0.0


def test_ties_count_half_and_still_trials_change_nothing() -> None:
    assert pbo(np.zeros((64, 3))) == 0.5
    returns = noise(160, 6)
    assert pbo(np.hstack([returns, np.zeros((160, 2))])) == pbo(returns)


@pytest.mark.parametrize("shape", [(160, 0), (31, 4)])
def test_no_answer_is_nan(shape: tuple[int, int]) -> None:
    assert math.isnan(pbo(np.ones(shape)))
