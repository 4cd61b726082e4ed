from __future__ import annotations

import math

import numpy as np
import pytest

from windlass.worldmodel import GaussianProcess
from windlass.worldmodel.gp import (
    FLOOR,
    JITTER,
    MEAN_VARIANCE,
    Density,
    Distances,
    Fit,
    rough_start,
    sample,
    smooth_start,
)

GROUPS = np.array([0, 1, 2, 2, 2])  # two ordered dimensions, one with three values


def data(n: int = 14) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    F = np.hstack([rng.random((n, 2)), np.sqrt(0.5) * np.eye(3)[rng.integers(3, size=n)]])
    y = np.sin(5 * F[:, 0]) + F[:, 1] + F[:, 2]
    return F, (y - y.mean()) / y.std(), np.where(rng.random(n) < 0.4, 0.2, 0.0)


def theta() -> np.ndarray:
    return np.array([-1.0, -0.3, 0.4, 0.2, -3.0])


def dense_covariance(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    lengths = np.exp(theta()[:3])[GROUPS]
    q = np.sqrt(5 * ((((A[:, None] - B[None]) / lengths) ** 2).sum(axis=2)))
    return math.exp(theta()[3]) * (1 + q + q**2 / 3) * np.exp(-q)


def numeric_gradient(function, x: np.ndarray, step: float = 1e-5) -> np.ndarray:
    return np.array([(function(x + step * e) - function(x - step * e)) / (2 * step) for e in np.eye(len(x))])


def test_the_densitys_gradient_is_right() -> None:
    F, y, extra = data()
    density = Density(Distances(F, GROUPS), y, extra)
    for shift in (0.0, 0.7, -0.5):
        _, gradient = density(theta() + shift)
        assert gradient == pytest.approx(numeric_gradient(lambda t: density(t)[0], theta() + shift), rel=1e-5, abs=1e-6)


def test_predictions_equal_the_textbook_formula() -> None:
    F, y, extra = data()
    points = np.vstack([F[:2], np.hstack([[[0.2, 0.9]], np.sqrt(0.5) * np.eye(3)[:1]])])
    found = GaussianProcess(F, y, GROUPS, theta(), extra).predict(points)
    # a constant mean under a normal prior is one more term of the covariance
    K = dense_covariance(F, F) + np.diag(math.exp(-3.0) + FLOOR + JITTER + extra)
    cross = dense_covariance(points, F)
    total = K + MEAN_VARIANCE
    mean = (cross + MEAN_VARIANCE) @ np.linalg.solve(total, y)
    var = dense_covariance(points, points) - cross @ np.linalg.solve(K, cross.T)
    assert found.mean == pytest.approx(mean, abs=1e-9)
    assert found.var == pytest.approx(np.diag(var), abs=1e-9)


def test_gradients_of_predictions_are_right() -> None:
    F, y, extra = data()
    process = GaussianProcess(F, y, GROUPS, theta(), extra)
    points = np.random.default_rng(0).random((3, 5))
    found = process.predict(points, gradients=True)
    assert found.mean_grad is not None and found.var_grad is not None
    for i in range(3):
        mean = numeric_gradient(lambda x: process.predict(x[None]).mean[0], points[i])
        var = numeric_gradient(lambda x: process.predict(x[None]).var[0], points[i])
        assert found.mean_grad[i] == pytest.approx(mean, abs=1e-7)
        assert found.var_grad[i] == pytest.approx(var, abs=1e-7)


def test_left_out_results_are_predicted_as_if_they_had_never_been() -> None:
    F, y, extra = data()
    whole = GaussianProcess(F, y, GROUPS, theta(), extra)
    mean, var = whole.left_out()
    for i in (0, 5):
        keep = np.arange(len(y)) != i
        part = GaussianProcess(F[keep], y[keep], GROUPS, theta(), extra[keep])
        part.alpha = part.Linv.T @ (part.Linv @ (y[keep] - whole.mean))  # the same constant mean
        part.mean = whole.mean
        found = part.predict(F[i : i + 1])
        assert mean[i] == pytest.approx(found.mean[0], abs=1e-8)
        assert var[i] == pytest.approx(found.var[0] + whole.noise + extra[i], abs=1e-8)


def test_believing_shrinks_the_spread_and_keeps_the_mean() -> None:
    F, y, extra = data()
    process = GaussianProcess(F, y, GROUPS, theta(), extra)
    points = np.random.default_rng(1).random((4, 5))
    believing = process.believing(points[:2])
    assert believing.predict(points).mean == pytest.approx(process.predict(points).mean, abs=1e-9)
    told = np.concatenate([y, process.predict(points[:2]).mean])
    whole = GaussianProcess(np.vstack([F, points[:2]]), told, GROUPS, theta(), np.concatenate([extra, [0, 0]]))
    assert believing.predict(points).var == pytest.approx(whole.predict(points).var, abs=1e-7)
    assert believing.predict(points[:2]).var.max() < 0.5 * process.predict(points[:2]).var.min()


def test_learning_finds_which_dimensions_matter_and_how_much_noise_there_is() -> None:
    rng = np.random.default_rng(0)
    F = rng.random((80, 3))
    y = np.sin(7 * F[:, 0]) + rng.normal(0, 0.3, 80)
    y = (y - y.mean()) / y.std()
    density = Density(Distances(F, np.arange(3)), y, np.zeros(80))
    fits = [Fit.of(density, start) for start in (smooth_start(3), rough_start(3))]
    fit = min(fits, key=lambda one: one.value)
    members = [fit.theta, *sample(density, fit.theta, 4, np.random.default_rng(0))]
    for theta in members:
        lengths = np.exp(theta[:3])
        assert lengths[0] < 0.4 * lengths[1:].min()
        assert math.exp(theta[4]) == pytest.approx(0.09 / (0.09 + 0.5), rel=0.7)
    assert len({theta.tobytes() for theta in members}) > 2


def test_more_known_noise_means_less_weight() -> None:
    F = np.array([[0.2], [0.2], [0.8]])
    y = np.array([1.0, -1.0, 0.0])
    hyper = np.array([-1.0, 0.0, -4.0])
    even = GaussianProcess(F, y, np.array([0]), hyper, np.array([0.1, 0.1, 0.1]))
    uneven = GaussianProcess(F, y, np.array([0]), hyper, np.array([0.1, 5.0, 0.1]))
    assert abs(even.predict(F[:1]).mean[0]) < 0.2
    assert uneven.predict(F[:1]).mean[0] > 0.6


def test_equal_points_do_not_break_it() -> None:
    F, y = np.zeros((30, 2)), np.zeros(30)
    process = GaussianProcess(F, y, np.arange(2), np.array([0.0, 0.0, 0.0, -12.0]))
    assert np.isfinite(process.predict(F).mean).all()
