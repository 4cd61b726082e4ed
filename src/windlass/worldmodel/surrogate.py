"""One number as a function of the config, and the chance that a run fails: Gaussian processes with their upbringing.

Hyper-parameters are learned on the first m results, m from a fixed schedule, and kept in a cache by content: a fit
is a function of the results alone, and a cycle rarely pays for learning.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from windlass.records.forecast import Prediction
from windlass.worldmodel.classification import LabelDensity, base, conditioned, label_start
from windlass.worldmodel.cube import Array, Cube, Groups, Mask
from windlass.worldmodel.gp import Density, Distances, Fit, GaussianProcess, rough_start, sample, smooth_start
from windlass.worldmodel.targets import POWERS, Warp

EVERY_UNTIL = 100  #: results up to which each one is learned from; then every twentieth of them
LEARN_FROM = 250  #: results that hyper-parameters are learned from, at most
TAMED_FROM = 5  #: results from which powers of the warp are tried
MEMBERS = 4  #: of an ensemble
ENSEMBLE_UNTIL = 100  #: results; beyond, hyper-parameters are certain enough
FREEDOM = 4.0  #: degrees of Student's t that forecasts follow: measured errors have heavier tails than the normal
NODES = 33  #: equally likely quantiles that stand for a distribution
Rows = NDArray[np.int64]
#: over the central 90 %: what a long-tailed target may come to in the last 5 % would drown a mean
_LEVELS = 0.05 + 0.9 * (np.arange(NODES) + 0.5) / NODES
_NORMAL = 0.7894  #: standard deviation of a standard normal's central 90 %
_PERCENTILES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])


def learning_size(count: int) -> int:
    """How many of the first ``count`` results hyper-parameters are learned on."""
    size = min(count, EVERY_UNTIL)
    while size >= EVERY_UNTIL and size + size // 20 <= count:
        size += size // 20
    return size


def _learning_rows(y: Array) -> Rows:
    """At most ``LEARN_FROM`` rows: the best half of that number, and an even spread of the others."""
    if len(y) <= LEARN_FROM:
        return np.arange(len(y))
    order = np.argsort(y, kind="stable")
    half = LEARN_FROM // 2
    rest = np.random.default_rng(len(y)).choice(order[half:], LEARN_FROM - half, replace=False)
    return np.sort(np.concatenate([order[:half], rest]))


@lru_cache(maxsize=128)
def _learn(
    F: bytes, y: bytes, extra_sd: bytes, groups: bytes, powers: tuple[float | None, ...], rough: bool, members: int
) -> tuple[Warp, tuple[bytes, ...]]:
    """Arrays travel as bytes, the cache's key."""
    targets, errors = np.frombuffer(y), np.frombuffer(extra_sd)
    dimension_of = np.frombuffer(groups, dtype=np.int64)
    features = np.frombuffer(F).reshape(len(targets), len(dimension_of))
    choices: list[tuple[float, Warp, Density, Fit]] = []
    distances = Distances(features, dimension_of)
    d = len(distances.D)
    start = smooth_start(d)
    for power in powers:
        warp = Warp.of(targets, power)
        density = Density(distances, warp(targets), warp.variance(targets, errors))
        fit = Fit.of(density, start)
        choices.append((fit.value - warp.log_slope(targets), warp, density, fit))
        start = fit.theta  # the same data, bent a little more
    _, warp, density, fit = min(choices, key=lambda choice: choice[0])
    if rough:
        fit = min(fit, Fit.of(density, rough_start(d)), key=lambda one: one.value)
    thetas = [fit.theta]
    if members > 1:
        thetas = sample(density, fit.theta, members, np.random.default_rng(len(targets)))
    return warp, tuple(theta.tobytes() for theta in thetas)


def learn(
    F: Array,
    y: Array,
    extra_sd: Array,
    groups: Groups,
    *,
    powers: tuple[float | None, ...] = (None,),
    rough: bool = False,
    members: int = 1,
) -> tuple[Warp, list[Array]]:
    """The warp and the hyper-parameters of each member of the ensemble.

    Features (n, p), targets (n,) and their known extra sd (n,). Among ``powers`` of the warp the evidence decides;
    with ``rough`` the fit begins a second time, at short length scales.
    """
    F, y, extra_sd = (np.ascontiguousarray(one, dtype=np.float64) for one in (F, y, extra_sd))
    codes = np.asarray(groups, dtype=np.int64)
    warp, found = _learn(F.tobytes(), y.tobytes(), extra_sd.tobytes(), codes.tobytes(), powers, rough, members)
    return warp, [np.frombuffer(theta) for theta in found]


@lru_cache(maxsize=64)
def _learn_labels(F: bytes, y: bytes, groups: bytes, centre: float) -> bytes:
    """Arrays travel as bytes, the cache's key."""
    labels, dimension_of = np.frombuffer(y), np.frombuffer(groups, dtype=np.int64)
    features = np.frombuffer(F).reshape(len(labels), len(dimension_of))
    density = LabelDensity(Distances(features, dimension_of), labels, centre)
    return Fit.of(density, label_start(density.d)).theta.tobytes()


class Surrogate:
    """Losses y (n,) at snapped points U (n, d): warped, learned, conditioned. Needs n >= 1.

    ``tamed``: long tails are warped. ``thorough``: learned from two starts, and averaged over posterior samples.
    """

    def __init__(
        self,
        cube: Cube,
        U: Array,
        y: Array,
        extra_sd: Array | None = None,
        *,
        tamed: bool = True,
        thorough: bool = True,
    ) -> None:
        self.cube = cube
        F = cube.features(U)
        errors = np.zeros(len(y)) if extra_sd is None else extra_sd
        m = learning_size(len(y))
        rows = _learning_rows(y[:m])
        members = MEMBERS if thorough and m <= ENSEMBLE_UNTIL else 1
        powers = POWERS if tamed and m >= TAMED_FROM else (None,)
        self.warp, thetas = learn(
            F[rows], y[rows], errors[rows], cube.groups, powers=powers, rough=thorough, members=members
        )
        z = self.warp(y)
        extra = self.warp.variance(y, errors)
        self.models = [GaussianProcess(F, z, cube.groups, theta, extra) for theta in thetas]
        self.points = [model.predict(F).mean for model in self.models]  #: posterior means at the data

    def latent(self, U: Array) -> tuple[Array, Array]:
        """Mean and variance of the warped loss without noise at snapped points."""
        F = self.cube.features(U)
        found = [model.predict(F) for model in self.models]
        means = np.array([one.mean for one in found])
        return means.mean(axis=0), np.mean([one.var for one in found], axis=0) + means.var(axis=0)

    @property
    def noise(self) -> float:
        """Variance of the warped loss between repeats."""
        return float(np.mean([model.noise for model in self.models]))

    def quantiles(self, U: Array, levels: Array) -> Array:
        """Of an observed loss, in its own unit; shape (k, levels)."""
        mean, var = self.latent(U)
        sd = np.sqrt(var + self.noise)
        return self.warp.back(mean[:, None] + sd[:, None] * stdtrit(FREEDOM, levels))

    def expected(self, U: Array) -> tuple[Array, Array]:
        """Mean and sd of the loss without noise, in its own unit, from the central 90 %."""
        mean, var = self.latent(U)
        table = self.warp.back(mean[:, None] + np.sqrt(var)[:, None] * ndtri(_LEVELS))
        return table.mean(axis=1), _spread(table)

    def probability(self, U: Array, low: float, high: float) -> Array:
        """That an observed loss lies in [low, high]."""
        mean, var = self.latent(U)
        sd = np.sqrt(var + self.noise)
        ends = self.warp(np.array([low, high]))
        return np.asarray(stdtr(FREEDOM, (ends[1] - mean) / sd) - stdtr(FREEDOM, (ends[0] - mean) / sd))

    def noise_sd(self) -> float:
        """Between repeats, in the loss's own unit, at the median of the data."""
        z = self.warp(np.array([self.warp.centre]))
        return float(math.sqrt(self.noise) / self.warp.slope(self.warp.back(z))[0])


def predictions(surrogate: Surrogate, U: Array, *, factor: float = 1.0, log: bool = False) -> list[Prediction]:
    """Of ``factor`` times the loss (its exponential where ``log``), noise included, for each point."""
    tables = surrogate.quantiles(U, np.concatenate([_PERCENTILES, _LEVELS])) * factor
    if log:
        tables = np.exp(np.minimum(tables, 700.0))
    if factor < 0:
        tables[:, :5] = tables[:, 4::-1]
    means, spreads = tables[:, 5:].mean(axis=1), _spread(tables[:, 5:])
    found = []
    for mean, sd, row in zip(means, spreads, tables, strict=True):
        p5, p25, p50, p75, p95 = map(float, row[:5])
        found.append(Prediction(mean=float(mean), sd=float(sd), p5=p5, p25=p25, p50=p50, p75=p75, p95=p95))
    return found


def _spread(table: Array) -> Array:
    """Standard deviation of each row of ``_LEVELS``, as of a whole normal; squares of huge values would overflow."""
    unit = np.maximum(np.abs(table).max(axis=1), 1e-300)
    return np.asarray(unit * (table / unit[:, None]).std(axis=1) / _NORMAL)


class Failures:
    """The chance that a run fails, and of what: Gaussian process classification.

    Without both kinds of results there is only the rate, with ``PRIOR_COUNT`` results of rate ``PRIOR`` added.
    """

    PRIOR, PRIOR_COUNT = 0.1, 2.0
    SPREAD = 1.0  #: variance that Phi adds to a forecast's

    def __init__(self, cube: Cube, U: Array, kinds: Sequence[str | None], caution: float = 0.0) -> None:
        self.cube, self.caution = cube, caution
        failed: Mask = np.array([kind is not None for kind in kinds], dtype=np.bool_)
        n = len(failed)
        self.rate = self._rate(failed)
        self.model: GaussianProcess | None = None
        self.limit = 0.0
        self.counts: Mapping[str, int] = Counter(kind for kind in kinds if kind is not None)
        self.U, self.kinds = U[failed], [kind for kind in kinds if kind is not None]
        if not n or failed.all() or not failed.any():
            return
        F, y = cube.features(U), np.where(failed, 1.0, -1.0)
        m = learning_size(n)
        rows, centre = _learning_rows(-y[:m]), base(self._rate(failed[:m]))
        theta = _learn_labels(F[rows].tobytes(), y[rows].tobytes(), cube.groups.tobytes(), centre)
        self.model = conditioned(F, y, cube.groups, np.frombuffer(theta), centre)
        self.limit = -centre  #: of the model's scale, where a run is as likely to fail as not

    def _rate(self, failed: Mask) -> float:
        return float((failed.sum() + self.PRIOR * self.PRIOR_COUNT) / (len(failed) + self.PRIOR_COUNT))

    def probability(self, U: Array) -> Array:
        """That a run fails, at snapped points; shape (k,)."""
        if self.model is None:
            return np.full(len(U), self.rate)
        found = self.model.predict(self.cube.features(U))
        z = (found.mean - self.limit) / np.sqrt(found.var + self.SPREAD)
        return np.asarray(ndtr(z + self.caution))

    def by_kind(self, U: Array) -> list[dict[str, float]]:
        """Each kind's share of that probability: failures of a kind count by their nearness."""
        fails = self.probability(U)
        if not self.kinds:
            return [{} for _ in fails]
        names = sorted(self.counts)
        prior = np.array([self.counts[name] for name in names]) / len(self.kinds)
        if self.model is None:
            near = np.ones((len(U), len(self.kinds)))
        else:
            w = self.model.weights
            A, B = self.cube.features(U) * w, self.cube.features(self.U) * w
            squared = ((A[:, None] - B[None]) ** 2).sum(axis=2)
            near = np.exp(-np.sqrt(5 * squared))
        member = np.array([[kind == name for name in names] for kind in self.kinds], dtype=np.float64)
        weight = near @ member + 0.1 * prior
        shares = weight / weight.sum(axis=1, keepdims=True)
        return [dict(zip(names, map(float, row), strict=True)) for row in shares * fails[:, None]]
