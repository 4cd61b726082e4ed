"""What a point is worth trying: log expected improvement, weighted by the chance to run and to keep the guards.

A ``Term`` gives log values of points and, on request, gradients with respect to features; an ``Acquisition`` is the
sum of its terms. ``climb`` walks points uphill with all of them in one L-BFGS run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.optimize import minimize
from scipy.special import erfcx, log_ndtr, ndtr

from windlass.worldmodel.cube import Array, Cube
from windlass.worldmodel.gp import GaussianProcess
from windlass.worldmodel.pareto import expected_hypervolume_improvement


class Term(Protocol):
    def values(self, F: Array) -> Array:
        """Log values at features (k, p)."""

    def slopes(self, F: Array) -> tuple[Array, Array]:
        """Values (k,) and gradients (k, p)."""


def log_h(z: Array) -> Array:
    """log(phi(z) + z Phi(z)), also where that underflows (LogEI: Ament et al. 2023, eq. 9)."""
    z = np.asarray(z, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        plain = np.log(np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) + z * ndtr(z))
        if (z > -1).all():
            return np.asarray(plain)
        t = np.maximum(-z, 1.0)
        rest = 1 - t * math.sqrt(math.pi / 2) * erfcx(t / math.sqrt(2))
        rest = np.where(t > 1e3, 1 / (t * t), np.maximum(rest, 1e-300))
        tail = -0.5 * t * t - 0.5 * math.log(2 * math.pi) + np.log(rest)
    return np.asarray(np.where(z > -1, plain, tail))


def _ratio(z: Array, log_value: Array) -> Array:
    """d log_h / dz = Phi(z) / h(z)."""
    return np.asarray(np.exp(np.clip(log_ndtr(z) - log_value, -700.0, 700.0)))


@dataclass(frozen=True, slots=True)
class Improvement:
    """Log expected improvement below ``bests``, averaged over the models of an ensemble (one best for each)."""

    models: Sequence[GaussianProcess]
    bests: Sequence[float]

    def values(self, F: Array) -> Array:
        found = [model.predict(F) for model in self.models]
        sd = np.sqrt(np.array([one.var for one in found]))
        z = (np.array(self.bests)[:, None] - np.array([one.mean for one in found])) / sd
        return np.asarray(np.logaddexp.reduce(np.log(sd) + log_h(z)) - math.log(len(found)))

    def slopes(self, F: Array) -> tuple[Array, Array]:
        found = [model.predict(F, gradients=True) for model in self.models]
        sd = np.sqrt(np.array([one.var for one in found]))
        z = (np.array(self.bests)[:, None] - np.array([one.mean for one in found])) / sd
        h = log_h(z)
        logs, ratio = np.log(sd) + h, _ratio(z, h)
        total = np.logaddexp.reduce(logs)
        shares = np.exp(logs - total) / sd  # of each member, (models, k)
        along_mean, along_var = -shares * ratio, shares * (1 - ratio * z) / (2 * sd)
        gradient = np.zeros(F.shape)
        for one, by_mean, by_var in zip(found, along_mean, along_var, strict=True):
            assert one.mean_grad is not None and one.var_grad is not None
            gradient += by_mean[:, None] * one.mean_grad + by_var[:, None] * one.var_grad
        return np.asarray(total - math.log(len(found))), gradient


@dataclass(frozen=True, slots=True)
class Below:
    """``weight`` times log P(observation of the model < ``limit``), or of > where ``flipped``.

    ``caution`` makes the event less likely by so many standard deviations.
    """

    model: GaussianProcess
    limit: float
    spread: float  #: variance added to the model's own
    weight: float = 1.0
    flipped: bool = False
    caution: float = 0.0
    steepness: float = 1.0  #: factor of z; above 1 what is unlikely counts as more so

    def values(self, F: Array) -> Array:
        found = self.model.predict(F)
        z = (self.limit - found.mean) / np.sqrt(found.var + self.spread)
        return np.asarray(self.weight * log_ndtr(self.steepness * ((-z if self.flipped else z) - self.caution)))

    def slopes(self, F: Array) -> tuple[Array, Array]:
        found = self.model.predict(F, gradients=True)
        assert found.mean_grad is not None and found.var_grad is not None
        sd = np.sqrt(found.var + self.spread)
        side = -1.0 if self.flipped else 1.0
        z = side * (self.limit - found.mean) / sd
        sure = self.steepness * (z - self.caution)
        log_p = log_ndtr(sure)
        density = -0.5 * sure**2 - 0.5 * math.log(2 * math.pi)
        hazard = self.steepness * np.exp(np.clip(density - log_p, -700.0, 700.0))
        z_grad = -side * found.mean_grad / sd[:, None] - (z / (2 * sd * sd))[:, None] * found.var_grad
        return np.asarray(self.weight * log_p), self.weight * hazard[:, None] * z_grad


@dataclass(frozen=True, slots=True)
class Acquisition:
    """The sum of its terms at snapped points of the cube."""

    cube: Cube
    terms: Sequence[Term]

    def __call__(self, U: Array) -> Array:
        F = self.cube.features(U)
        return np.asarray(sum(term.values(F) for term in self.terms) + np.zeros(len(U)))

    def climb(self, starts: Array, steps: int = 20) -> Array:
        """``starts`` (k, d) moved uphill along the smooth dimensions, snapped again; shape (k, d)."""
        smooth = self.cube.smooth
        free = smooth & ~self.cube.inactive(starts)
        if not free.any():
            return starts
        columns = {int(j): f for f, j in enumerate(self.cube.groups) if smooth[j]}
        into = np.array([columns[int(j)] for j in np.flatnonzero(smooth)])
        F0, where = self.cube.features(starts), np.flatnonzero(smooth)
        off = ~free[:, where]

        def downhill(x: Array) -> tuple[float, Array]:
            F = F0.copy()
            F[:, into] = x.reshape(len(starts), len(where))
            value, gradient = np.zeros(len(F)), np.zeros(F.shape)
            for term in self.terms:
                one, slope = term.slopes(F)
                value, gradient = value + one, gradient + slope
            down = -gradient[:, into]
            down[off] = 0.0
            return -float(value.sum()), down.ravel()

        x0 = starts[:, where].ravel()
        options = {"maxiter": steps, "ftol": 1e-6}
        found = minimize(downhill, x0, jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * len(x0), options=options)
        moved = starts.copy()
        moved[:, where] = found.x.reshape(len(starts), len(where))
        return self.cube.snap(moved)


def search(surface: Acquisition, leaders: Array, rng: np.random.Generator, *, draws: int, kept: int = 24) -> Array:
    """Snapped points of high value, best first, shape (m, d): uniform draws and mutants of ``leaders`` (k, d), then
    ever finer mutants of the best, then ``climb`` with all of them, then one discrete change at a time."""
    cube = surface.cube
    U = np.vstack([cube.draw(draws // 2, rng), cube.mutate(leaders, draws // 2, 0.15, rng), leaders])
    values = surface(U)
    U, values = _best(U, values, kept)
    for width in (0.1, 0.03, 0.01):
        U, values = _joined(surface, U, values, cube.mutate(U[:8], draws // 8, width, rng), kept)
    starts = U[:4]
    U, values = _joined(surface, U, values, surface.climb(starts), kept)
    if (cube.levels > 1).any():
        for _ in range(3):
            best = float(values[0])
            U, values = _joined(surface, U, values, cube.neighbours(U[0]), kept)
            if values[0] <= best:
                break
            U, values = _joined(surface, U, values, surface.climb(U[:1]), kept)
    return U


def _joined(surface: Acquisition, U: Array, values: Array, more: Array, kept: int) -> tuple[Array, Array]:
    if not len(more):
        return U, values
    return _best(np.vstack([U, more]), np.concatenate([values, surface(more)]), kept)


def _best(U: Array, values: Array, count: int) -> tuple[Array, Array]:
    order = np.argsort(-values, kind="stable")
    chosen = order[:count]
    return U[chosen], values[chosen]


@dataclass(frozen=True, slots=True)
class Novelty:
    """Log distance to the nearest of known features (n, p); where nothing is known, all points are equal."""

    known: Array

    def values(self, F: Array) -> Array:
        if not len(self.known):
            return np.zeros(len(F))
        return np.asarray(0.5 * np.log(((F[:, None] - self.known[None]) ** 2).sum(axis=2).min(axis=1) + 1e-12))

    def slopes(self, F: Array) -> tuple[Array, Array]:
        if not len(self.known):
            return np.zeros(len(F)), np.zeros(F.shape)
        difference = F[:, None] - self.known[None]
        squared = (difference**2).sum(axis=2)
        nearest = squared.argmin(axis=1)
        rows = np.arange(len(F))
        least = squared[rows, nearest] + 1e-12
        return np.asarray(0.5 * np.log(least)), difference[rows, nearest] / least[:, None]


@dataclass(frozen=True, slots=True)
class HypervolumeGain:
    """Log expected gain of hypervolume over ``front`` (n, 2) below ``reference`` (2,), of two models' losses."""

    models: Sequence[GaussianProcess]
    front: Array
    reference: Array

    def values(self, F: Array) -> Array:
        found = [model.predict(F) for model in self.models]
        mean = np.column_stack([one.mean for one in found])
        sd = np.sqrt(np.column_stack([one.var for one in found]))
        return np.log(np.maximum(expected_hypervolume_improvement(mean, sd, self.front, self.reference), 1e-300))

    def slopes(self, F: Array) -> tuple[Array, Array]:
        """The gradient by central differences."""
        k, p = F.shape
        step = 1e-5 * np.eye(p)
        around = np.concatenate([F[:, None] + step, F[:, None] - step], axis=1).reshape(-1, p)
        found = self.values(np.vstack([F, around]))
        pairs = found[k:].reshape(k, 2, p)
        return found[:k], (pairs[:, 0] - pairs[:, 1]) / 2e-5


@dataclass(frozen=True, slots=True)
class Cheapness:
    """Minus the expected log of the cost; ``unit``: of the model's targets, in logs."""

    model: GaussianProcess
    unit: float

    def values(self, F: Array) -> Array:
        return -self.unit * self.model.predict(F).mean

    def slopes(self, F: Array) -> tuple[Array, Array]:
        found = self.model.predict(F, gradients=True)
        assert found.mean_grad is not None
        return -self.unit * found.mean, -self.unit * found.mean_grad
