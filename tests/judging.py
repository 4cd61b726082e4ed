"""What critics and supervisor are shown in tests: a study of two parameters, runs of it, and a made-up world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from windlass.agents.situation import Situation
from windlass.records.content import digest, nest
from windlass.records.decision import Decision, Mode, Outcome, Proposal, Stance, Tally
from windlass.records.forecast import Forecast, Prediction
from windlass.records.lessons import LearnedConstraint, Lessons, Progress, Stagnation
from windlass.records.ranking import standings
from windlass.records.region import Constraint
from windlass.records.run import Failure, FailureKind, MetricSummary, RunRecord, Status
from windlass.records.study import Study
from windlass.space.generate import ConfigGenerator, best_baseline

DATA: dict[str, Any] = {
    "name": "s",
    "trainer": {"command": ["train"]},
    "space": {
        "model.lr": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
        "kind": {"type": "categorical", "choices": ["a", "b"]},
        "n": {"type": "int", "low": 1, "high": 1000, "when": {"kind": "b"}},
    },
    "baseline": {"model": {"lr": 0.01}, "kind": "a"},
    "objectives": [{"metric": "loss", "direction": "minimize"}],
}


def make_study(**changes: Any) -> Study:
    return Study.model_validate({**DATA, **changes})


def prediction(mean: float, sd: float) -> Prediction:
    p5, p25, p75, p95 = (mean + z * sd for z in (-1.645, -0.6745, 0.6745, 1.645))
    return Prediction(mean=mean, sd=sd, p5=p5, p25=p25, p50=mean, p75=p75, p95=p95)


def make_forecast(**changes: Any) -> Forecast:
    """Of a promising config that is likely to run; ``cost`` is the expected duration in seconds."""
    cost = changes.pop("cost", None)
    given = {
        "known": 20,
        "fails": 0.05,
        "score": prediction(0.0, 0.5),
        "merit": 0.0,
        "cost_s": None if cost is None else prediction(cost, 0.1 * cost),
    }
    return Forecast(**{**given, **changes})


def make_run(number: int, values: Mapping[str, Any], loss: float | None = 1.0, **changes: Any) -> RunRecord:
    """Completed, ten seconds long; failed by an error where ``loss`` is None."""
    given: dict[str, Any] = {
        "id": f"r{number}",
        "name": "s",
        "number": number,
        "created": float(number),
        "started": 10.0 * number,
        "ended": 10.0 * number + 10.0,
        "status": Status.FAILED if loss is None else Status.COMPLETED,
        "failure": Failure(kind=FailureKind.ERROR, message="boom") if loss is None else None,
        "config": nest(values),
        "metrics": {} if loss is None else {"loss": MetricSummary.of(loss)},
    }
    return RunRecord(**{**given, **changes})


@dataclass
class FakeWorld:
    """Merits from -5 to 0 by the learning rate: every config drawn at random is somewhere between."""

    usable: bool = True
    noise_sd: float | None = None

    def forecast(self, configs: Sequence[Mapping[str, Any]]) -> list[Forecast]:
        return [make_forecast(merit=float(merit)) for merit in self.merit(configs)]

    def merit(self, configs: Sequence[Mapping[str, Any]]) -> np.ndarray:
        return np.array([1.25 * np.log10(values["model.lr"]) for values in configs])

    def suggest(self, count: int, **how: Any) -> list[Any]:
        return []

    def expected_score(self, configs: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(len(configs)), np.ones(len(configs))


def make_lessons(study: Study, runs: Sequence[RunRecord], **changes: Any) -> Lessons:
    placed = tuple(standings(study, runs))
    failed = [run.failure.kind for run in runs if run.failure is not None]
    progress = Progress(
        settled=sum(run.status in (Status.COMPLETED, Status.FAILED) for run in runs),
        active=sum(not run.status.terminal for run in runs),
        completed=sum(run.status is Status.COMPLETED for run in runs),
        failures={kind: failed.count(kind) for kind in set(failed)},
        standings=placed,
        best_score=placed[0].score if placed else None,
        since_improvement=0,
        recent_failure_share=0.0,
    )
    calm = Stagnation(stagnant=False, since_improvement=0, noise_sd=None, reason="")
    return Lessons(**{"progress": progress, "stagnation": calm, **changes})


def learned(failed: int, survived: int, bound: float, **region: Any) -> LearnedConstraint:
    return LearnedConstraint(
        constraint=Constraint.model_validate({"name": "hot", "forbid": region}),
        kinds={"error": failed},
        failed=tuple(f"f{i}" for i in range(failed)),
        survived=tuple(f"s{i}" for i in range(survived)),
        purity=failed / (failed + survived),
        bound=bound,
        base_rate=0.1,
    )


def make_situation(
    runs: Sequence[RunRecord] = (), study: Study | None = None, world: Any = None, **lessons: Any
) -> Situation:
    study = study or make_study()
    generator = ConfigGenerator(study)
    facts = make_lessons(study, runs, **lessons)
    baseline = best_baseline(study, facts.progress.ranked)
    return Situation(
        study=study,
        space=generator.space,
        lessons=facts,
        world=world or FakeWorld(),
        runs=tuple(runs),
        decided=(),
        next_number=len(runs) + 1,
        initial=5,
        baseline_is_complete=generator.baseline_complete,
        configs={digest(run.config): run.id for run in reversed(runs)},
        config=lambda values: generator.generate(values, baseline),
        acceptable=lambda values: True,
    )


def make_decision(number: int, config: Mapping[str, Any], **changes: Any) -> Decision:
    given: dict[str, Any] = {
        "study": "s",
        "number": number,
        "cycle": 1,
        "at": 0.0,
        "mode": Mode.EXPLOIT,
        "strategy": "",
        "proposal": propose(),
        "config": config,
        "outcome": Outcome.APPROVED,
        "verdict": "",
        "seen": 0,
        "run_id": f"d{number}",
    }
    return Decision(**{**given, **changes})


def propose(proposer: str = "bayesian", values: Mapping[str, Any] | None = None, **changes: Any) -> Proposal:
    return Proposal(**{"values": values or {}, "proposer": proposer, "reason": "why not", **changes})


def make_tally(stance: Stance = Stance.APPROVE, score: float = 1.0, **changes: Any) -> Tally:
    given = {"stance": stance, "score": score, "active": 3, "agreement": 1.0, "entropy": 0.0, "reason": "counted"}
    return Tally(**{**given, **changes})
