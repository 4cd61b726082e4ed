"""Which configs fail: Gaussian process classification by Laplace's approximation.

    P(fails at x) = Phi(m + f(x)),   f ~ GP(0, c + k)

with the kernel k and the constant's variance c of ``windlass.worldmodel.gp``. Around its mode the posterior of f is
that of a regression on pseudo-targets with a noise of their own (Rasmussen & Williams 2006, 3.4 and 5.5.1), so that a
``GaussianProcess`` forecasts it. Labels y are +1 (failed) and -1 (ran).

Regression on the labels themselves, which came before, has no smooth function to find: a step in many dimensions looks
like noise or like very short length scales to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack
from scipy.special import log_ndtr, ndtri

from windlass.worldmodel.cube import Array, Groups
from windlass.worldmodel.gp import (
    MEAN_VARIANCE,
    Distances,
    GaussianProcess,
    matern,
    squared_distances,
)

LENGTH_CENTRE, LENGTH_SD = -0.5, 0.7  #: of log l less log sqrt(d)
SIGNAL_CENTRE, SIGNAL_SD = math.log(16.0), 1.0  #: of log s: large, so a border is sharp
LOG_NOISE = -12.0  #: hardly any: Phi holds what is random about a failure
NEWTON = 30  #: steps at most
CLOSE = 1e-5  #: gain of log density at which they end
LEAST = 1e-6  #: curvature of a label's log likelihood; less says nothing


@dataclass(frozen=True, slots=True)
class Mode:
    """The most likely f at n labels, and what Laplace's approximation needs there."""

    latent: Array  #: f (n,)
    slope: Array  #: of the log likelihoods (n,)
    curvature: Array  #: minus their second derivatives (n,), at least LEAST
    third: Array  #: their third derivatives (n,)
    L: Array  #: lower Cholesky factor of I + W^1/2 K W^1/2, W the curvature
    evidence: float  #: log marginal likelihood


def _likelihood(f: Array, y: Array) -> tuple[float, Array, Array, Array]:
    """Sum of log Phi(y f), and each one's first, minus second and third derivative with respect to f."""
    z = y * f
    log_p = log_ndtr(z)
    ratio = np.exp(-0.5 * z * z - 0.5 * math.log(2 * math.pi) - log_p)
    curvature = np.maximum(ratio * (ratio + z), LEAST)
    return float(log_p.sum()), y * ratio, curvature, y * ((2 * ratio + z) * curvature - ratio)


def mode(K: Array, y: Array, m: float) -> Mode:
    """Newton's method (Rasmussen & Williams 2006, algorithm 3.1) for labels y (n,) under the prior covariance K."""
    n = len(y)
    weights, latent = np.zeros(n), np.zeros(n)
    log_p, slope, curvature, third = _likelihood(latent + m, y)
    objective = log_p
    for _ in range(NEWTON):
        root = np.sqrt(curvature)
        L = _factor(K, root)
        b = curvature * latent + slope
        solved, _ = lapack.dpotrs(L, root * (K @ b), lower=1)
        step = b - root * solved - weights
        size = 1.0
        while True:
            to = weights + size * step
            at = K @ to
            found = _likelihood(at + m, y)
            level = found[0] - 0.5 * float(to @ at)
            if level >= objective - 1e-12 or size < 1e-3:
                break
            size *= 0.5
        gain, objective = level - objective, level
        weights, latent, (log_p, slope, curvature, third) = to, at, found
        if gain < CLOSE:
            break
    L = _factor(K, np.sqrt(curvature))
    evidence = objective - float(np.log(np.diagonal(L)).sum())
    return Mode(latent, slope, curvature, third, L, evidence)


def _factor(K: Array, root: Array) -> Array:
    B = root[:, None] * K * root
    B.flat[:: len(B) + 1] += 1.0
    L, info = lapack.dpotrf(B.T, lower=1, clean=1, overwrite_a=0)
    if info:
        raise np.linalg.LinAlgError(f"a covariance of {len(B)} labels is not positive definite")
    return np.asarray(L)


class LabelDensity:
    """Negative log posterior density of (log l, log s) given labels, with its gradient; the noise is not learned."""

    def __init__(self, distances: Distances, y: Array, m: float) -> None:
        self.y, self.m = y, m
        self.pairs, self.D = distances.pairs, distances.D
        self.d = len(self.D)

    @property
    def bounds(self) -> tuple[Array, Array]:
        d = self.d
        return (
            np.concatenate([np.full(d, math.log(0.01)), [-4.0, LOG_NOISE]]),
            np.concatenate([np.full(d, math.log(60.0)), [5.0, LOG_NOISE]]),
        )

    def __call__(self, theta: Array) -> tuple[float, Array]:
        d, n, y = self.d, len(self.y), self.y
        inverse = np.exp(-2 * theta[:d])
        q = np.sqrt(inverse @ self.D)
        signal = math.exp(theta[d])
        decay = signal * np.exp(-q)
        rising = 1 + q
        triangle = np.zeros(n * n)
        triangle[self.pairs] = (rising + q * q / 3) * decay
        k = triangle.reshape(n, n)
        k = k + k.T
        np.fill_diagonal(k, signal)
        K = k + MEAN_VARIANCE
        try:
            at = mode(K, y, self.m)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(theta)
        root = np.sqrt(at.curvature)
        inside, _ = lapack.dpotri(at.L, lower=1)
        inside = inside + np.tril(inside, -1).T
        R = root[:, None] * inside * root  # (K + W^-1)^-1
        half = K @ R  # K R
        spread = np.diagonal(K) - np.einsum("ij,ji->i", half, K)
        s = 0.5 * spread * at.third  # d evidence / d latent, algorithm 5.1
        u = s - half.T @ s
        # d evidence = sum of (a a' - R) / 2 * dK + u dK a', symmetrised
        W = 0.5 * (np.multiply.outer(at.slope, at.slope) - R) + np.multiply.outer(u, at.slope)
        gradient = np.zeros(d + 2)
        gradient[:d] = -(1 / 3) * (self.D @ ((W + W.T).ravel()[self.pairs] * (rising * decay))) * inverse
        gradient[d] = -float((W * k).sum())
        lengths = (theta[:d] - LENGTH_CENTRE - 0.5 * math.log(d)) / LENGTH_SD
        strength = (theta[d] - SIGNAL_CENTRE) / SIGNAL_SD
        gradient[:d] += lengths / LENGTH_SD
        gradient[d] += strength / SIGNAL_SD
        return float(0.5 * (lengths @ lengths + strength * strength) - at.evidence), gradient


def base(rate: float) -> float:
    """The m from which P(fails) far from all labels is ``rate``."""
    return float(ndtri(rate)) * math.sqrt(1 + math.exp(SIGNAL_CENTRE))


def label_start(d: int) -> Array:
    """Where a fit of (log l, log s, log noise) begins."""
    return np.concatenate([np.full(d, 0.5 * math.log(d)), [SIGNAL_CENTRE, LOG_NOISE]])


def conditioned(F: Array, y: Array, groups: Groups, theta: Array, m: float) -> GaussianProcess:
    """The posterior of f given all labels, as the process of their pseudo-targets.

    P(fails) = Phi((m + mean) / sqrt(1 + var)) of its predictions (Rasmussen & Williams 2006, 3.82).
    """
    Z = F * np.exp(-theta[:-2])[groups]
    at = mode(matern(squared_distances(Z, Z), math.exp(theta[-2])) + MEAN_VARIANCE, y, m)
    return GaussianProcess(F, at.latent + at.slope / at.curvature, groups, theta, 1 / at.curvature)
