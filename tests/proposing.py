"""What director and proposers are shown in tests: a mixed, conditional study, runs of it, and a made-up world model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from windlass.agents.situation import Situation
from windlass.errors import ConfigRejected
from windlass.records.content import digest, flatten, nest
from windlass.records.decision import Decision, Mode, Outcome, Proposal
from windlass.records.forecast import Forecast
from windlass.records.lessons import Lessons, Progress, Stagnation
from windlass.records.ranking import standings
from windlass.records.run import Failure, FailureKind, MetricSummary, RunRecord, Status
from windlass.records.study import Study
from windlass.space.generate import ConfigGenerator
from windlass.space.space import Space

Values = Mapping[str, Any]

DATA: dict[str, Any] = {
    "name": "s",
    "trainer": {"command": ["train"]},
    "space": {
        "kind": {"type": "categorical", "choices": ["a", "b"]},
        "x": {"type": "float", "low": -1.0, "high": 1.0},
        "n": {"type": "int", "low": 1, "high": 1000, "log": True, "when": {"kind": "b"}},
        "flags": {"type": "set", "choices": ["p", "q", "r"]},
        "train": {"type": "float", "low": 0.1, "high": 0.9},
        "test": {"type": "float", "low": 0.1, "high": 0.9},
    },
    "rules": ["train + test == 1"],
    "constraints": [{"name": "no-big-b", "forbid": {"kind": "b", "x": {"min": 0.8}}}],
    "objectives": [{"metric": "loss", "direction": "minimize"}],
    "budget": {"runs": 100},
    "seed": 5,
}


def make_study(**changes: Any) -> Study:
    return Study.model_validate({**DATA, **changes})


def loss(values: Values) -> float:
    """Smallest, -0.1, at kind b, x 0.3, n 30, all but flag r."""
    far = abs(values["x"] - 0.3) + (values["kind"] == "a") + abs(np.log10(values.get("n", 30) / 30)) / 3
    return float(far + 0.1 * ("r" in values["flags"]) - 0.05 * len(values["flags"]))


@dataclass(frozen=True)
class MadeUpWorld:
    """Knows the truth, or what it is told to think. Suggests the best of a few drawn points."""

    space: Space
    usable: bool = True
    noise_sd: float | None = None
    score: Callable[[Values], float] = lambda values: -loss(values)
    sd: Callable[[Values], float] = lambda values: 0.1
    fails: Callable[[Values], float] = lambda values: 0.0

    def forecast(self, configs: Sequence[Values]) -> list[Forecast]:
        return [Forecast(known=0, fails=self.fails(values)) for values in configs]

    def merit(self, configs: Sequence[Values]) -> np.ndarray:
        return np.array([self.score(values) for values in configs])

    def expected_score(self, configs: Sequence[Values]) -> tuple[np.ndarray, np.ndarray]:
        return self.merit(configs), np.array([self.sd(values) for values in configs])

    def suggest(
        self, count: int, *, seed: Sequence[int], acceptable: Callable[[Values], bool], per_second: bool = False
    ) -> list[Suggestion]:
        rng = np.random.default_rng(list(seed))
        drawn = [self.space.repair(self.space.decode(u)) for u in rng.random((60, self.space.dimensions))]
        best = sorted(filter(acceptable, drawn), key=self.score, reverse=True)
        return [Suggestion(values, self.score(values), "best of 60", {"drawn": 60}) for values in best[:count]]


@dataclass(frozen=True)
class Suggestion:
    values: Values
    merit: float
    reason: str
    evidence: Mapping[str, Any]


def make_run(number: int, values: Values, result: float | None, **changes: Any) -> RunRecord:
    """Completed with this loss; failed where it is None."""
    config = nest(values)
    given: dict[str, Any] = {
        "id": f"r{number}",
        "name": "s",
        "number": number,
        "created": float(number),
        "ended": number + 1.0,
        "status": Status.FAILED if result is None else Status.COMPLETED,
        "failure": Failure(kind=FailureKind.ERROR, message="boom") if result is None else None,
        "config": config,
        "fingerprints": {"config": digest(config)},
        "metrics": {} if result is None else {"loss": MetricSummary.of(result)},
    }
    return RunRecord(**{**given, **changes})


def decision_of(run: RunRecord, proposer: str = "explorer", repeats: str | None = None) -> Decision:
    return Decision(
        study="s",
        number=run.number or 0,
        cycle=run.number or 0,
        at=run.created,
        mode=Mode.EXPLORE,
        strategy="",
        proposal=Proposal(values=run.params, proposer=proposer, reason="because", repeats=repeats),
        config=run.config,
        outcome=Outcome.APPROVED,
        verdict="",
        seen=0,
        run_id=run.id,
    )


def make_lessons(study: Study, runs: Sequence[RunRecord], **changes: Any) -> Lessons:
    settled = [run for run in runs if run.status.terminal]
    places = tuple(standings(study, settled))
    failed = sum(run.status is Status.FAILED for run in settled)
    recent = settled[-6:]
    progress = Progress(
        settled=len(settled),
        active=len(runs) - len(settled),
        completed=len(settled) - failed,
        failures={FailureKind.ERROR: failed} if failed else {},
        standings=places,
        best_score=places[0].score if places else None,
        since_improvement=changes.pop("since_improvement", 0),
        recent_failure_share=sum(r.status is Status.FAILED for r in recent) / len(recent) if recent else 0.0,
    )
    calm = Stagnation(stagnant=False, since_improvement=0, noise_sd=None, reason="it still improves")
    return replace(Lessons(progress=progress, stagnation=calm), **changes)


def stagnation(runs: int = 20) -> Stagnation:
    reason = f"{runs} runs without an improvement above the noise"
    return Stagnation(stagnant=True, since_improvement=runs, noise_sd=0.1, reason=reason)


def situation(
    runs: Sequence[RunRecord] = (),
    study: Study | None = None,
    *,
    decided: Sequence[Decision] | None = None,
    lessons: Mapping[str, Any] | None = None,
    initial: int = 10,
    **world: Any,
) -> Situation:
    """``lessons``: fields of Lessons that are not as the runs say; ``world``: fields of the made-up world."""
    study = study or make_study()
    space, generator = Space.of(study), ConfigGenerator(study)
    decisions = tuple(map(decision_of, runs)) if decided is None else tuple(decided)
    configs = {digest(d.config): d.run_id for d in decisions if d.run_id is not None}
    learned = make_lessons(study, runs, **(lessons or {}))

    def acceptable(values: Values) -> bool:
        try:
            return digest(generator.generate(values)) not in configs
        except ConfigRejected:
            return False

    return Situation(
        study=study,
        space=space,
        lessons=learned,
        world=MadeUpWorld(space, **{"usable": len(learned.progress.standings) >= 3, **world}),
        runs=tuple(runs),
        decided=decisions,
        next_number=len(decisions) + 1,
        initial=initial,
        baseline_is_complete=generator.baseline_complete,
        configs=configs,
        config=generator.generate,
        acceptable=acceptable,
    )


def drawn(count: int, study: Study | None = None, seed: int = 0) -> list[RunRecord]:
    """Runs of valid configs drawn at random, with their losses."""
    now = situation((), study)
    rng = np.random.default_rng(seed)
    found: list[RunRecord] = []
    while len(found) < count:
        values = now.space.repair(now.space.decode(rng.random(now.space.dimensions)))
        if now.acceptable(values):
            found.append(make_run(len(found) + 1, flatten(now.config(values)), loss(values)))
    return found
