"""Windlass's world model alone, and the history of runs that Windlass is told as its lab would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from problems import METRIC, Outcome, Problem

from windlass.agents.proposers import sobol
from windlass.records.content import digest, nest
from windlass.records.forecast import Forecast
from windlass.records.run import Failure, MetricSummary, RunRecord, Status, make_run_id
from windlass.worldmodel import WorldModel, initial_points, trials_of

Values = Mapping[str, Any]
STARTED = 1_700_000_000.0  #: when the first run of every history begins; a number, so that runs repeat to the bit


class History:
    """The runs of one study, one after the other."""

    def __init__(self, problem: Problem, seed: int, without: tuple[str, ...] = ()) -> None:
        self.study, self.space = problem.study(seed, agents={"without": without}), problem.space
        self.runs: list[RunRecord] = []
        self.clock = STARTED

    def add(self, run_id: str, number: int, config: Mapping[str, Any], seed: int, outcome: Outcome) -> None:
        """A run that began when the last one ended; ``number`` is its decision's, ``config`` is nested."""
        began, self.clock = self.clock, self.clock + outcome.cost_s
        self.runs.append(
            RunRecord(
                id=run_id,
                name=self.study.name,
                study=self.study.name,
                number=number,
                seed=seed,
                status=Status.FAILED if outcome.observed is None else Status.COMPLETED,
                created=began,
                started=began,
                ended=self.clock,
                failure=Failure(kind=outcome.failure, message=outcome.failure.value) if outcome.failure else None,
                config=config,
                metrics={} if outcome.observed is None else {METRIC: MetricSummary.of(outcome.observed)},
            )
        )

    def recommended(self) -> Values | None:
        """The config that the world model expects most of, among those that ran."""
        trials, _ = trials_of(self.study, self.space, self.runs)
        best = WorldModel.fit(self.study, self.space, trials).recommend()
        return None if best is None else best.values


class WorldModelAlone:
    """The middle of the space, Sobol points while there are few results, then what the world model suggests.

    Its random numbers are those of the whole deciding side, so that the two part where an agent decides otherwise, and
    only there: what is compared is the agents, not two draws.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        self.history = History(problem, seed)
        self.study, self.space = self.history.study, self.history.space
        self.first = initial_points(self.space.dimensions)
        spread = sobol(self.space.dimensions, self.study.seed, 1)
        self.points = np.vstack([np.full((1, self.space.dimensions), 0.5), spread[: self.first - 1]])
        self.tried: set[str] = set()
        self.forecast: Forecast | None = None

    def ask(self) -> Values:
        number = len(self.history.runs) + 1
        model = WorldModel.fit(self.study, self.space, trials_of(self.study, self.space, self.history.runs)[0])
        if number <= self.first:
            values: Values = self.space.decode(self.points[number - 1])
        else:
            seed = [self.study.seed, number, 3]  # that of windlass.agents.informed.Bayesian
            found = model.suggest(1, seed=seed, acceptable=self._new)
            values = found[0].values if found else self._drawn(number)
        self.forecast = model.forecast([values])[0] if self.history.runs else None
        return values

    def _new(self, values: Values) -> bool:
        return digest(self.space.active(values)) not in self.tried

    def _drawn(self, number: int) -> Values:
        return self.space.decode(np.random.default_rng([self.study.seed, number]).random(self.space.dimensions))

    def tell(self, values: Values, outcome: Outcome) -> None:
        active, number = self.space.active(values), len(self.history.runs) + 1
        self.tried.add(digest(active))
        run_id = make_run_id(self.history.clock, self.study.name, {"number": number})
        self.history.add(run_id, number, nest(active), self.study.seed, outcome)

    def recommend(self) -> Values | None:
        return self.history.recommended()

    def notes(self) -> Mapping[str, Any]:
        return {} if self.forecast is None else {"forecast": asdict(self.forecast)}
