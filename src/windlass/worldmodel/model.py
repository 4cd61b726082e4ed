"""PREDICT: one model of everything that is known about a study; suggestions and forecasts come from it.

A pure function of (study, space, trials, pending): nothing is carried from fit to fit except caches by content.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from windlass.records.forecast import Forecast, Prediction
from windlass.records.study import Study
from windlass.space.space import Space
from windlass.worldmodel.acquisition import (
    Acquisition,
    Below,
    Cheapness,
    HypervolumeGain,
    Improvement,
    Novelty,
    Term,
    search,
)
from windlass.worldmodel.cube import Array, Cube, Mask
from windlass.worldmodel.pareto import pareto_front
from windlass.worldmodel.surrogate import Failures, Surrogate, predictions
from windlass.worldmodel.trials import Trial

USABLE = 3  #: finite results from which the score's model means something
#: the chance to run, Phi(z), counts as 4 log Phi(2.5 z) in an acquisition: where only what lies beyond a border
#: promises anything, a plain exponent lets a search fail again and again at 90 %
CAUTION, STEEPNESS = 4.0, 2.5
CHECKS = 300  #: candidates at a time that ``acceptable`` is asked about, for one suggestion
FURTHER = 21  #: times as many at most, drawn anew, where none is acceptable


def initial_points(dimensions: int) -> int:
    """How many space-filling results to have before the world model chooses: d + 2, from 5 to 10.

    Five for every d crashed less (14.2 of 50 against 16.8), and cost regret at 20 trials.
    """
    return min(10, max(5, dimensions + 2))


@dataclass(slots=True)
class Suggestion:
    """A config that the world model would try next."""

    values: dict[str, Any]  #: flat
    merit: float  #: log of the acquisition value
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)


class WorldModel:
    """Fitted by :meth:`fit`; every method takes flat values, also of parameters that are not active."""

    def __init__(
        self,
        study: Study,
        space: Space,
        trials: Sequence[Trial],
        pending: Sequence[Mapping[str, Any]],
        caution: float,
    ) -> None:
        self.study, self.space, self.trials, self.caution = study, space, list(trials), caution
        self.cube = Cube(space)
        self._U = self.cube.encode([trial.values for trial in trials])
        self._pending = self._known(pending)
        self._ran: Mask = np.array(
            [trial.failure is None and study.score(trial.metrics) is not None for trial in trials], dtype=np.bool_
        )
        self._fitted: dict[str, Surrogate | None] = {}

    @classmethod
    def fit(
        cls,
        study: Study,
        space: Space,
        trials: Sequence[Trial],
        pending: Sequence[Mapping[str, Any]] = (),
        caution: float = 0.0,
    ) -> WorldModel:
        """Never raises on few, equal, constant or failed results; ValueError on values outside the space's domains.

        ``caution``: by how much past failure forecasts were too low (``windlass.worldmodel.caution``).
        """
        return cls(study, space, trials, pending, caution)

    # ------------------------------------------------------------------ what is known

    @property
    def usable(self) -> bool:
        """Whether there are enough results for the score's model to mean something."""
        return int(self._ran.sum()) >= USABLE

    @property
    def noise_sd(self) -> float | None:
        """Estimated sd of the score between repeats of one config."""
        return self._score.noise_sd() * self._score_unit if self._score is not None else None

    @cached_property
    def _failures(self) -> Failures:
        return Failures(self.cube, self._U, [trial.failure for trial in self.trials], self.caution)

    @property
    def _single(self) -> bool:
        return len(self.study.objectives) == 1

    @property
    def _score_unit(self) -> float:
        return 1 / self.study.objectives[0].scale if self._single else 1.0

    @cached_property
    def _score(self) -> Surrogate | None:
        """Of the score's loss: minus the score, in units of ``_score_unit``."""
        if self._single:
            return self._metric(self.study.objectives[0].metric)
        return self._surrogate({i: -score for i, score in self._scores().items()})

    def _scores(self) -> dict[int, float]:
        found = {i: self.study.score(self.trials[i].metrics) for i in np.flatnonzero(self._ran)}
        return {int(i): score for i, score in found.items() if score is not None}

    def _sign(self, metric: str) -> float:
        """1 where a metric is a loss, -1 where more is better."""
        wanted = [one.direction for one in self.study.objectives if one.metric == metric]
        return -1.0 if wanted == ["maximize"] else 1.0

    def _metric(self, name: str) -> Surrogate | None:
        """Of ``_sign`` times the metric; None with fewer than ``USABLE`` results."""
        if name not in self._fitted:
            sign = self._sign(name)
            known = {
                i: sign * trial.metrics[name]
                for i, trial in enumerate(self.trials)
                if trial.failure is None and math.isfinite(trial.metrics.get(name, math.nan))
            }
            objective = any(one.metric == name for one in self.study.objectives)
            self._fitted[name] = self._surrogate(known, lambda trial: trial.extra_sd.get(name, 0.0), tamed=objective)
        return self._fitted[name]

    def _surrogate(
        self,
        known: Mapping[int, float],
        extra_sd: Callable[[Trial], float] = lambda trial: 0.0,
        *,
        tamed: bool = True,
        thorough: bool = True,
    ) -> Surrogate | None:
        if len(known) < USABLE:
            return None
        rows = list(known)
        extra = np.array([extra_sd(self.trials[i]) for i in rows])
        return Surrogate(
            self.cube, self._U[rows], np.array(list(known.values())), extra, tamed=tamed, thorough=thorough
        )

    @cached_property
    def _cost(self) -> Surrogate | None:
        costs = {i: trial.cost_s for i, trial in enumerate(self.trials) if trial.failure is None}
        known = {i: math.log(cost) for i, cost in costs.items() if cost is not None and cost > 0}
        return self._surrogate(known, tamed=False, thorough=False)

    @cached_property
    def _keeps(self) -> Mask:
        """Which trials ran and keep every guard."""
        kept = [
            bool(ran) and not self.study.broken_guards(t.metrics) for ran, t in zip(self._ran, self.trials, strict=True)
        ]
        return np.array(kept, dtype=np.bool_)

    # ------------------------------------------------------------------ forecasts

    def forecast(self, configs: Sequence[Mapping[str, Any]]) -> list[Forecast]:
        """What each config would give."""
        U = self.cube.encode(configs)
        if not len(U):
            return []
        metrics: list[dict[str, Prediction]] = [{} for _ in configs]
        for name in self.study.required_metrics:
            surrogate = self._metric(name)
            if surrogate is not None:
                for into, one in zip(metrics, predictions(surrogate, U, factor=self._sign(name)), strict=True):
                    into[name] = one
        scores = predictions(self._score, U, factor=-self._score_unit) if self._score is not None else [None] * len(U)
        costs = predictions(self._cost, U, log=True) if self._cost is not None else [None] * len(U)
        fails, kinds = self._failures.probability(U), self._failures.by_kind(U)
        keeps, merit = self._keeps_guards(U), self._merit(U)
        return [
            Forecast(
                known=len(self.trials),
                metrics=metrics[i],
                fails=float(fails[i]),
                caution=self.caution,
                kinds=kinds[i],
                keeps_guards=float(keeps[i]),
                cost_s=costs[i],
                score=scores[i],
                merit=float(merit[i]),
            )
            for i in range(len(U))
        ]

    def expected_score(self, configs: Sequence[Mapping[str, Any]]) -> tuple[Array, Array]:
        """Posterior mean and sd of ``Study.score``, without noise; NaN where nothing is known."""
        U = self.cube.encode(configs)
        if self._score is None:
            return np.full(len(U), np.nan), np.full(len(U), np.nan)
        mean, sd = self._score.expected(U)
        return -self._score_unit * mean, self._score_unit * sd

    def _keeps_guards(self, U: Array) -> Array:
        keeps = np.ones(len(U))
        for guard in self.study.guards:
            surrogate, sign = self._metric(guard.metric), self._sign(guard.metric)
            if surrogate is not None:
                ends = (-math.inf if guard.min is None else guard.min, math.inf if guard.max is None else guard.max)
                low, high = sorted((sign * ends[0], sign * ends[1]))
                keeps *= surrogate.probability(U, low, high)
        return keeps

    def recommend(self) -> Trial | None:
        """The tried config with the best expected score among those that ran and keep the guards."""
        rows = np.flatnonzero(self._keeps)
        if not len(rows):
            return None
        if self._score is None:
            scores = self._scores()
            return self.trials[max(map(int, rows), key=lambda i: (scores[i], -i))]
        mean, _ = self._score.latent(self._U[rows])
        return self.trials[int(rows[np.argmin(mean)])]

    # ------------------------------------------------------------------ suggestions

    def merit(self, configs: Sequence[Mapping[str, Any]]) -> Array:
        """Log acquisition value of each config, comparable within one fit only."""
        return self._merit(self.cube.encode(configs))

    def _merit(self, U: Array) -> Array:
        return self._surface(self._pending)(U) if len(U) else np.empty(0)

    def _surface(self, pending: Array, weights: Array | None = None, *, per_second: bool = False) -> Acquisition:
        """``weights`` (objectives,): of a scalarisation, for more than two objectives."""
        terms: list[Term] = []
        F = self.cube.features(pending)
        if self._score is None:
            terms.append(Novelty(self.cube.features(np.vstack([self._U, pending]))))
        elif len(self.study.objectives) == 2:
            terms.append(self._hypervolume_gain(F))
        else:
            score = self._score if weights is None else self._scalarised(weights)
            keeps = self._keeps[self._ran]
            bests = [float(mean[keeps].min() if keeps.any() else mean.max()) for mean in score.points]
            if len(F) and keeps.any():  # what is under way counts as found
                believed = [float(model.predict(F).mean.min()) for model in score.models]
                bests = [min(pair) for pair in zip(bests, believed, strict=True)]
            terms.append(Improvement([model.believing(F) for model in score.models], bests))
        if (runs := self._failures.model) is not None:
            spread, limit = self._failures.SPREAD, self._failures.limit
            terms.append(Below(runs, limit, spread, weight=CAUTION, caution=self.caution, steepness=STEEPNESS))
        if per_second and self._cost is not None:
            terms.append(Cheapness(self._cost.models[0], self._cost.warp.sd * self._cost.warp.width))
        return Acquisition(self.cube, [*terms, *self._guard_terms()])

    def _objectives(self) -> list[Surrogate]:
        found = [self._metric(one.metric) for one in self.study.objectives]
        return [one for one in found if one is not None]

    def _hypervolume_gain(self, pending: Array) -> HypervolumeGain:
        """Over the front of the posterior means of tried configs, on the models' own scales."""
        surrogates = self._objectives()
        means = np.column_stack([one.points[0] for one in surrogates])
        keeps = self._keeps[self._ran]
        front = means[keeps] if keeps.any() else means
        front = front[pareto_front(front)]
        worst, best = front.max(axis=0), front.min(axis=0)
        reference = worst + 0.1 * np.where(worst > best, worst - best, 1.0)
        return HypervolumeGain([one.models[0].believing(pending) for one in surrogates], front, reference)

    def _scalarised(self, weights: Array) -> Surrogate:
        """Of the augmented Chebyshev loss of the objectives' warped losses (ParEGO: Knowles 2006)."""
        rows = np.flatnonzero(self._ran)
        losses = np.column_stack([one.models[0].y for one in self._objectives()]) * weights
        return Surrogate(self.cube, self._U[rows], losses.max(axis=1) + 0.05 * losses.sum(axis=1))

    def _guard_terms(self) -> list[Term]:
        terms: list[Term] = []
        for guard in self.study.guards:
            surrogate, sign = self._metric(guard.metric), self._sign(guard.metric)
            if surrogate is None:
                continue
            for end, side in ((guard.max, 1.0), (guard.min, -1.0)):
                if end is not None:
                    limit = float(surrogate.warp(np.array([sign * end]))[0])
                    flipped = side * sign
                    terms.append(Below(surrogate.models[0], limit, surrogate.noise, flipped=flipped < 0))
        return terms

    def suggest(
        self,
        count: int,
        *,
        seed: Sequence[int],
        acceptable: Callable[[Mapping[str, Any]], bool],
        per_second: bool = False,
    ) -> list[Suggestion]:
        """``count`` configs worth trying together, best first; fewer where ``acceptable`` refuses what is found.

        ``acceptable`` says whether flat values are valid and new. The same arguments give the same suggestions.
        """
        rng = np.random.default_rng(list(seed))
        pending = self._pending
        found: list[Suggestion] = []
        for _ in range(count):
            objectives = len(self.study.objectives)
            weights = rng.dirichlet(np.ones(objectives)) if objectives > 2 else None
            surface = self._surface(pending, weights, per_second=per_second)
            one = self._next(
                surface, rng, lambda values: values not in [s.values for s in found] and acceptable(values)
            )
            if one is None:
                break
            found.append(self._explained(*one))
            pending = np.vstack([pending, self.cube.encode([one[0]])])
        return found

    def _next(
        self, surface: Acquisition, rng: np.random.Generator, acceptable: Callable[[Mapping[str, Any]], bool]
    ) -> tuple[dict[str, Any], float] | None:
        rows = np.flatnonzero(self._ran)
        if self._score is not None:
            leaders = self._U[rows[np.argsort(self._score.points[0], kind="stable")[:8]]]
        else:
            leaders = self._U[rows] if len(rows) else np.full((1, self.cube.dimensions), 0.5)
        U = search(surface, self.cube.snap(leaders), rng, draws=_draws(len(self.trials)))

        def candidates() -> Iterator[Array]:
            yield U
            yield self.cube.mutate(U, CHECKS, 0.1, rng)
            for _ in range(FURTHER):  # where little of the space is acceptable
                yield self.cube.draw(CHECKS, rng)

        for points in candidates():
            values = [self.space.repair(self.space.decode(point)) for point in points]
            if self.space.rules:
                points = self.cube.encode(values)
            merits = surface(points)
            for i in np.argsort(-merits, kind="stable"):
                if acceptable(values[i]):
                    return values[i], float(merits[i])
        return None

    def _explained(self, values: dict[str, Any], merit: float) -> Suggestion:
        fails = float(self._failures.probability(self.cube.encode([values]))[0])
        risk = f"fails with probability {fails:.2g}"
        evidence: dict[str, Any] = {"results": len(self.trials), "fails": fails}
        best = self.recommend()
        if self._score is None or best is None:
            return Suggestion(values, merit, f"far from the {len(self.trials)} results so far; {risk}", evidence)
        mean, sd = self.expected_score([values, best.values])
        evidence |= {"score": float(mean[0]), "sd": float(sd[0]), "best": float(mean[1]), "best_run": best.run_id}
        if self.study.guards:
            evidence["keeps_guards"] = float(self._keeps_guards(self.cube.encode([values]))[0])
        forecast = f"score {mean[0]:.4g} ± {sd[0]:.2g} expected, {mean[1]:.4g} of the best so far ({best.run_id})"
        return Suggestion(values, merit, f"{forecast}; {risk}", evidence)

    def _known(self, configs: Sequence[Mapping[str, Any]]) -> Array:
        """Points of configs; those that do not fit today's space are left out."""
        points = []
        for values in configs:
            try:
                points.append(self.cube.encode([values])[0])
            except ValueError:
                continue
        return np.array(points).reshape(-1, self.cube.dimensions)


def _draws(known: int) -> int:
    """Candidates of a search: fewer where each costs more."""
    return 1200 if known <= 200 else 800
