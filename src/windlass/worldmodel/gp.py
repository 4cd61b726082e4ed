"""Gaussian process regression on features of the unit cube, with analytic gradients.

    k(x, x') = s (1 + q + q^2/3) exp(-q),   q^2 = 5 sum_f w_f^2 (F_f - F'_f)^2,   w_f = 1 / l_group(f)
    y = m + f(x) + e,   f ~ GP(0, k),   e_i ~ N(0, noise + FLOOR + extra_i)

Matern 5/2 with a length scale l for each dimension (Rasmussen & Williams 2006, 4.17 and 2.3). Shapes: F (n, p)
features, y (n,) targets of about zero mean and unit variance, theta = (log l (d), log s, log noise). The length
scales' prior grows with the square root of the number of dimensions (Hvarfner, Hellsten & Nardi 2024); the constant
mean m is the generalised least squares one, under a normal prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from scipy.linalg import blas, lapack
from scipy.optimize import minimize

from windlass.worldmodel.cube import Array, Groups

FLOOR = 1e-5  #: least noise variance
MEAN_VARIANCE = 0.1  #: of the prior of the constant mean
SCALE_SD = 0.7  #: of log s around 0
NOISE_CENTRE, NOISE_SD = -4.0, 1.5  #: of log noise
LENGTH_CENTRE, LENGTH_SD = math.sqrt(2), math.sqrt(3)
JITTER = 1e-9
THINNING, LEAPS, STEP = 3, 5, 0.25  #: of Hamiltonian Monte Carlo


@dataclass(frozen=True, slots=True)
class Posterior:
    """Mean and variance of f + m at k points and, where asked for, their gradients with respect to features."""

    mean: Array  #: (k,)
    var: Array  #: (k,), without noise
    mean_grad: Array | None = None  #: (k, p)
    var_grad: Array | None = None  #: (k, p)


class GaussianProcess:
    """A Gaussian process with given hyper-parameters, conditioned on data.

    ``theta``: log length scales of the d dimensions, log signal variance, log noise variance. ``extra`` (n,):
    known extra noise variance of each target. Raises numpy.linalg.LinAlgError where the covariance is not positive
    definite even with jitter.
    """

    def __init__(self, F: Array, y: Array, groups: Groups, theta: Array, extra: Array | None = None) -> None:
        d = len(theta) - 2
        self.theta, self.groups = theta, groups
        self.weights = np.exp(-theta[:d])[groups]
        self.signal = math.exp(theta[d])
        self.noise = math.exp(theta[d + 1]) + FLOOR
        self.Z = F * self.weights
        self.norms = (self.Z * self.Z).sum(axis=1)
        self.y = y
        n = len(y)
        diagonal = self.noise + (extra if extra is not None else np.zeros(n))
        K = self._kernel(self.Z)
        np.fill_diagonal(K, self.signal + diagonal)
        self.L = _cholesky(K)
        self.Linv, _ = lapack.dtrtri(self.L, lower=1)
        ones = self.Linv.T @ self.Linv.sum(axis=1)
        self.mean = float(ones @ y / (ones.sum() + 1 / MEAN_VARIANCE))
        self.alpha = self.Linv.T @ (self.Linv @ (y - self.mean))

    def _kernel(self, Z: Array) -> Array:
        """Covariance (k, n) of scaled features ``Z`` (k, p) with the data."""
        return matern(squared_distances(Z, self.Z, self.norms), self.signal)

    def predict(self, F: Array, *, gradients: bool = False) -> Posterior:
        """At features ``F`` (k, p)."""
        Z = F * self.weights
        q = squared_distances(Z, self.Z, self.norms)  # in place from here on: memory costs as much as arithmetic
        q *= 5
        np.sqrt(q, out=q)
        decay = np.negative(q)
        np.exp(decay, out=decay)
        decay *= self.signal
        K = q * q
        K /= 3
        rising = np.add(q, 1, out=q)
        K += rising
        K *= decay
        V = blas.dtrmm(1.0, self.Linv, K, side=1, lower=1, trans_a=1)
        var = np.maximum(self.signal - np.einsum("ij,ij->i", V, V), 1e-12)
        mean = self.mean + K @ self.alpha
        if not gradients:
            return Posterior(mean, var)
        slope = rising * (-5 / 3)
        slope *= decay
        mean_grad = self._pull(slope * self.alpha, Z)
        var_grad = -2 * self._pull(slope * (V @ self.Linv), Z)
        return Posterior(mean, var, mean_grad, var_grad)

    def _pull(self, share: Array, Z: Array) -> Array:
        """Sum over data n of ``share`` (k, n) times (Z_k - Z_n), by features; shape (k, p)."""
        return np.asarray((share.sum(axis=1)[:, None] * Z - share @ self.Z) * self.weights)

    def left_out(self) -> tuple[Array, Array]:
        """Mean and variance (noise included) of each target given the others (Rasmussen & Williams 2006, 5.12)."""
        precision = np.einsum("ij,ij->j", self.Linv, self.Linv)
        return self.y - self.alpha / precision, 1 / precision

    def believing(self, F: Array) -> GaussianProcess:
        """Conditioned on its own mean at features ``F`` (k, p), too: spread shrinks there, the mean stays."""
        if not len(F):
            return self
        grown = object.__new__(GaussianProcess)
        grown.__dict__.update(self.__dict__)
        Z = F * self.weights
        cross = self._kernel(Z)
        n, k = len(self.y), len(Z)
        corner = matern(squared_distances(Z, Z), self.signal) + np.eye(k) * self.noise
        B = cross @ self.Linv.T
        S = _cholesky(corner - B @ B.T)
        Sinv, _ = lapack.dtrtri(S, lower=1)
        Linv = np.zeros((n + k, n + k), order="F")
        Linv[:n, :n], Linv[n:, n:], Linv[n:, :n] = self.Linv, Sinv, -Sinv @ B @ self.Linv
        grown.Z, grown.Linv = np.vstack([self.Z, Z]), Linv
        grown.norms = (grown.Z * grown.Z).sum(axis=1)
        grown.alpha = np.concatenate([self.alpha, np.zeros(k)])
        grown.y = np.concatenate([self.y, self.mean + cross @ self.alpha])
        return grown


class NegativeLog(Protocol):
    """Of a density of theta within bounds, with its gradient."""

    @property
    def bounds(self) -> tuple[Array, Array]: ...

    def __call__(self, theta: Array) -> tuple[float, Array]: ...


@dataclass(frozen=True, slots=True)
class Fit:
    """Hyper-parameters at a maximum of the posterior density, and the negative log of that density."""

    theta: Array
    value: float

    @classmethod
    def of(cls, density: NegativeLog, start: Array, iterations: int = 60) -> Self:
        """L-BFGS-B from ``start``."""
        low, high = density.bounds
        found = minimize(
            density,
            np.clip(start, low, high),
            jac=True,
            method="L-BFGS-B",
            bounds=np.column_stack([low, high]),
            options={"maxiter": iterations, "ftol": 1e-6, "gtol": 1e-3},
        )
        return cls(found.x, float(found.fun))


def smooth_start(d: int) -> Array:
    """Where a fit begins: smooth and noisy. From short length scales it often ends where noise is explained."""
    return np.concatenate([np.full(d, 0.5 * math.log(d)), [0.0, -3.0]])


def rough_start(d: int) -> Array:
    """A second beginning: short length scales, hardly any noise."""
    return np.concatenate([np.full(d, 0.5 * math.log(d) - 1.0), [0.0, -6.0]])


class Density:
    """Negative log posterior density of (l, log s, noise), with its gradient with respect to theta:
    ``density(theta) -> (value, gradient)``."""

    def __init__(self, distances: Distances, y: Array, extra: Array) -> None:
        self.y, self.extra = y, extra
        self.pairs, self.D = distances.pairs, distances.D
        self.d = len(self.D)

    @property
    def bounds(self) -> tuple[Array, Array]:
        d = self.d
        return (
            np.concatenate([np.full(d, math.log(0.01)), [-4.0, -12.0]]),
            np.concatenate([np.full(d, math.log(60.0)), [4.0, 1.0]]),
        )

    def __call__(self, theta: Array) -> tuple[float, Array]:
        d, n, y = self.d, len(self.y), self.y
        inverse = np.exp(-2 * theta[:d])
        signal, noise = math.exp(theta[d]), math.exp(theta[d + 1])
        q = np.sqrt(inverse @ self.D)
        decay = signal * np.exp(-q)
        rising = 1 + q
        diagonal = noise + FLOOR + self.extra
        K = np.zeros(n * n)  # one triangle is enough
        K[self.pairs] = (rising + q * q / 3) * decay
        K[:: n + 1] = signal + diagonal
        L, info = lapack.dpotrf(K.reshape(n, n).T, lower=1, clean=0, overwrite_a=1)
        if info:
            return 1e10, np.zeros_like(theta)
        log_det = np.log(np.diagonal(L)).sum()
        P, _ = lapack.dpotri(L, lower=1, overwrite_c=1)  # lower triangle of the inverse, zeros above
        trace = np.diagonal(P)
        sums = P.sum(axis=1) + P.sum(axis=0) - trace  # P 1
        ky = P @ y + y @ P - trace * y
        mean = float(sums @ y / (sums.sum() + 1 / MEAN_VARIANCE))
        a = ky - mean * sums
        value = 0.5 * ((y - mean) @ a + mean * mean / MEAN_VARIANCE) + log_det
        W = (np.multiply.outer(a, a) - P.T).ravel()[self.pairs]  # a a' - inverse(K), of each pair
        gradient = np.empty(d + 2)
        gradient[:d] = -(1 / 3) * (self.D @ (W * (rising * decay))) * inverse
        fit, complexity = a * a, trace
        gradient[d] = -0.5 * (a @ (y - mean) - (fit * diagonal).sum() - (n - (complexity * diagonal).sum()))
        gradient[d + 1] = -0.5 * noise * (fit - complexity).sum()
        penalty, slope = log_prior(theta)
        return float(value - penalty), gradient - slope


def log_prior(theta: Array) -> tuple[float, Array]:
    """Log prior density of theta up to a constant, and its gradient."""
    d = len(theta) - 2
    gradient = np.empty(d + 2)
    z = (theta[:d] - LENGTH_CENTRE - 0.5 * math.log(d)) / LENGTH_SD
    value = -0.5 * z @ z - theta[:d].sum()  # the density of l itself, not of log l
    gradient[:d] = -z / LENGTH_SD - 1
    z = theta[d] / SCALE_SD
    value -= 0.5 * z * z
    gradient[d] = -z / SCALE_SD
    z = (theta[d + 1] - NOISE_CENTRE) / NOISE_SD
    value -= 0.5 * z * z + theta[d + 1]
    gradient[d + 1] = -z / NOISE_SD - 1
    return float(value), gradient


class Distances:
    """Between the rows of F (n, p): ``D`` (d, m), five times the squared ones by dimension, of the m pairs i < j;
    ``pairs`` (m,), where those lie in a flat matrix (n * n,)."""

    def __init__(self, F: Array, groups: Groups) -> None:
        self.pairs = np.flatnonzero(np.tri(len(F), k=-1, dtype=np.bool_).T)
        one, other = np.divmod(self.pairs, len(F))
        self.D = np.zeros((int(groups.max()) + 1, len(one)))
        for f, j in enumerate(groups):
            self.D[j] += (F[one, f] - F[other, f]) ** 2
        self.D *= 5


def squared_distances(A: Array, B: Array, norms: Array | None = None) -> Array:
    """Between the rows of A (k, p) and B (n, p), shape (k, n); ``norms`` (n,): the squares of B's, where known."""
    squared = (A * A).sum(axis=1)[:, None] + ((B * B).sum(axis=1) if norms is None else norms)
    squared -= 2 * A @ B.T
    return np.asarray(np.maximum(squared, 0.0, out=squared))


def matern(squared: Array, signal: float) -> Array:
    q = np.sqrt(5 * squared)
    K: Array = (1 + q + q * q / 3) * np.exp(-q)
    K *= signal
    return K


def _cholesky(K: Array) -> Array:
    """Lower factor in Fortran order; jitter grows until it exists."""
    jitter = JITTER
    while True:
        matrix = np.array(K, order="F")
        matrix[np.diag_indices(len(K))] += jitter
        L, info = lapack.dpotrf(matrix, lower=1, clean=1, overwrite_a=1)
        if not info:
            return np.asarray(L)
        if jitter > 1e-3:
            raise np.linalg.LinAlgError(f"a covariance of {len(K)} points is not positive definite")
        jitter *= 100


def sample(density: Density, theta: Array, count: int, rng: np.random.Generator) -> list[Array]:
    """``count`` draws of theta from its posterior by Hamiltonian Monte Carlo (Neal 2011) that begins at a maximum.

    The step adapts to acceptance all the way: a handful of draws that show the spread is all that is asked for.
    """
    low, high = density.bounds

    def energy(x: Array) -> tuple[float, Array]:
        inside = np.clip(x, low, high)
        value, gradient = density(inside)
        value -= float(inside[-1])  # the density of log noise
        gradient[-1] -= 1
        return value + 50 * float(((x - inside) ** 2).sum()), gradient + 100 * (x - inside)

    x, size = theta, STEP
    value, gradient = energy(x)
    found: list[Array] = []
    for _ in range(count * THINNING):
        momentum = rng.normal(size=len(x))
        before = value + 0.5 * momentum @ momentum
        step = size * (0.6 + 0.8 * rng.random())
        to, slope, level = x, gradient, value
        for _ in range(LEAPS):
            momentum = momentum - 0.5 * step * slope
            to = to + step * momentum
            level, slope = energy(to)
            momentum = momentum - 0.5 * step * slope
        if math.log(rng.random()) < before - level - 0.5 * momentum @ momentum:
            x, value, gradient = to, level, slope
            size *= 1.1
        else:
            size *= 0.7
        found.append(np.clip(x, low, high))
    return found[THINNING - 1 :: THINNING]
