from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr

from windlass.worldmodel.classification import LabelDensity, base, conditioned, label_start, mode
from windlass.worldmodel.gp import MEAN_VARIANCE, Distances, Fit

GROUPS = np.array([0, 1, 2, 2, 2])  # two ordered dimensions, one with three values


def points(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.hstack([rng.random((n, 2)), np.sqrt(0.5) * np.eye(3)[rng.integers(3, size=n)]])


def border(F: np.ndarray) -> np.ndarray:
    """+1 on one side of a line that one of the three values moves."""
    return np.where(F[:, 0] + 0.5 * F[:, 1] + 0.3 * F[:, 2] > 0.85, 1.0, -1.0)


def chance(F: np.ndarray, y: np.ndarray, at: np.ndarray, rate: float = 0.5) -> np.ndarray:
    m = base(rate)
    fit = Fit.of(LabelDensity(Distances(F, GROUPS), y, m), label_start(3))
    found = conditioned(F, y, GROUPS, fit.theta, m).predict(at)
    return np.asarray(ndtr((m + found.mean) / np.sqrt(1 + found.var)))


def test_the_densitys_gradient_is_right() -> None:
    F = points(25, 0)
    density = LabelDensity(Distances(F, GROUPS), border(F), -0.8)
    for theta in (label_start(3), np.array([-1.0, 0.3, 0.6, 1.0, -12.0])):
        steps = 1e-5 * np.eye(5)[:4]
        numeric = [(density(theta + step)[0] - density(theta - step)[0]) / 2e-5 for step in steps]
        assert density(theta)[1][:4] == pytest.approx(numeric, rel=1e-3, abs=1e-3)
        assert density(theta)[1][4] == 0


def test_the_mode_is_where_the_prior_balances_the_labels() -> None:
    rng = np.random.default_rng(1)
    A = rng.normal(size=(12, 12))
    K, y, m = A @ A.T + 0.1 * np.eye(12), np.where(rng.random(12) < 0.5, 1.0, -1.0), -0.4
    found = mode(K, y, m)
    assert found.latent == pytest.approx(K @ found.slope, abs=1e-2)


def test_the_evidence_of_one_label_is_its_probability() -> None:
    for m in (-1.0, 0.0, 0.7):
        exact = math.log(ndtr(m / math.sqrt(1 + 0.5)))
        assert mode(np.full((1, 1), 0.5), np.ones(1), m).evidence == pytest.approx(exact, abs=0.02)


def test_the_process_of_pseudo_targets_has_the_modes_values() -> None:
    F = points(15, 2)
    theta = label_start(3)
    distances = (((F[:, None] - F[None]) / np.exp(theta[:3])[GROUPS]) ** 2).sum(axis=2)
    q = np.sqrt(5 * distances)
    K = math.exp(theta[3]) * (1 + q + q * q / 3) * np.exp(-q) + MEAN_VARIANCE
    found = conditioned(F, border(F), GROUPS, theta, -0.5).predict(F)
    assert found.mean == pytest.approx(mode(K, border(F), -0.5).latent, abs=2e-2)


def test_a_border_is_learned_from_forty_labels() -> None:
    F, at = points(40, 3), points(400, 4)
    fails = border(at) > 0
    found = chance(F, border(F), at)
    assert ((found > 0.5) == fails).mean() > 0.92
    assert ((found - fails) ** 2).mean() < 0.06


def test_failures_that_follow_nothing_are_a_rate() -> None:
    rng = np.random.default_rng(5)
    y = np.where(rng.random(80) < 0.25, 1.0, -1.0)
    found = chance(points(80, 6), y, points(200, 7), rate=0.25)
    assert found.mean() == pytest.approx(0.25, abs=0.1)
    assert found.max() < 0.75


def test_far_from_all_labels_the_rate_is_left() -> None:
    F = 1e-3 * points(6, 8)
    theta = np.array([-4.0, -4.0, -4.0, math.log(16.0), -12.0])
    y = np.where(np.arange(6) < 3, 1.0, -1.0)
    found = conditioned(F, y, GROUPS, theta, base(0.1)).predict(np.ones((1, 5)))
    assert ndtr((base(0.1) + found.mean) / np.sqrt(1 + found.var))[0] == pytest.approx(0.1, abs=0.03)
