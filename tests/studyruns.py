"""A study with every kind of parameter, and histories of it: values follow from the parameters by a fixed formula."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from windlass.records.content import nest
from windlass.records.decision import (
    Decision,
    Mode,
    Outcome,
    Override,
    Proposal,
    Risk,
    Stance,
    StudyRecord,
    StudyStatus,
    Tally,
    Vote,
)
from windlass.records.forecast import Forecast, Prediction
from windlass.records.lessons import (
    Credit,
    Expired,
    LearnedConstraint,
    Lessons,
    Pattern,
    Progress,
    Stagnation,
    Trend,
)
from windlass.records.ranking import standings
from windlass.records.region import Constraint, Region
from windlass.records.run import Failure, FailureKind, MetricSummary, RunRecord, Status, make_run_id
from windlass.records.study import Study
from windlass.report.study import StudyReport, study_report

BEGAN = 1_760_000_000.0


def make_study(**changes: Any) -> Study:
    data: dict[str, Any] = {
        "name": "bowl",
        "trainer": {"command": ["train"]},
        "space": {
            "model": {"type": "categorical", "choices": ["linear", "tree"]},
            "linear.rate": {"type": "float", "low": 1e-4, "high": 1, "log": True, "when": {"model": "linear"}},
            "tree.depth": {"type": "int", "low": 2, "high": 9, "when": {"model": "tree"}},
            "bias": {"type": "bool"},
            "augment": {"type": "set", "choices": ["flip", "crop"]},
            "noise": {"type": "float", "low": 0, "high": 1},
        },
        "objectives": [{"metric": "loss", "direction": "minimize", "scale": 0.1}],
        "budget": {"runs": 100, "wall_time": "10m", "concurrent": 2},
    }
    return Study.model_validate({**data, **changes})


def draw(number: int) -> dict[str, Any]:
    """Flat parameters of run ``number``."""
    rng = np.random.default_rng(number)
    own: dict[str, Any]
    if rng.random() < 0.6:
        own = {"model": "linear", "linear.rate": float(10 ** rng.uniform(-4, 0))}
    else:
        own = {"model": "tree", "tree.depth": int(rng.integers(2, 10))}
    augment = [name for name in ("flip", "crop") if rng.random() < 0.5]
    return {**own, "bias": bool(rng.random() < 0.5), "augment": augment, "noise": float(rng.random())}


def loss_of(params: dict[str, Any]) -> float:
    """Lowest at a rate of 0.01 or a depth of 5; ``noise`` says nothing about it."""
    if params["model"] == "linear":
        return 0.1 + (math.log10(params["linear.rate"]) + 2) ** 2 / 4
    return 0.15 + abs(params["tree.depth"] - 5) / 8


def make_run(number: int, params: dict[str, Any] | None = None, **fields: Any) -> RunRecord:
    """Run ``number`` of two slots, a second each: completed, unless a failure or a status is given."""
    params = draw(number) if params is None else params
    began = BEGAN + (number - 1) // 2
    failure = fields.get("failure")
    loss = loss_of(params) if "model" in params else 1.0
    values: dict[str, Any] = {
        "id": make_run_id(began, "bowl", {"number": number}),
        "name": "bowl",
        "study": "bowl",
        "number": number,
        "status": Status.FAILED if failure else Status.COMPLETED,
        "created": began,
        "started": began,
        "ended": began + 1,
        "config": nest(params),
        "metrics": {} if failure else {"loss": MetricSummary.of(loss), "size": MetricSummary.of(float(number))},
        "fingerprints": {"code": "c0de" * 16, "config": f"{number:064x}"},
    }
    return RunRecord(**{**values, **fields})


def diverged(message: str = "the loss is NaN at step 3") -> Failure:
    return Failure(kind=FailureKind.DIVERGED, message=message, traceback="Traceback\n  line\nDiverged: NaN")


def decided(run: RunRecord, proposer: str = "explorer") -> Decision:
    assert run.number is not None
    return Decision(
        study="bowl",
        number=run.number,
        cycle=run.number,
        at=run.created,
        mode=Mode.EXPLORE,
        strategy="cover the space",
        proposal=Proposal(values=run.params, proposer=proposer, reason="a point of the sequence"),
        config=run.config,
        outcome=Outcome.APPROVED,
        verdict="valid and new",
        seen=run.number - 1,
        run_id=run.id,
    )


def rejected(number: int, verdict: str) -> Decision:
    proposal = Proposal(values={"noise": 0.5}, proposer="local", reason="a step")
    return Decision(
        study="bowl",
        number=number,
        cycle=number,
        at=BEGAN,
        mode=Mode.EXPLOIT,
        strategy="",
        proposal=proposal,
        config={},
        outcome=Outcome.REJECTED,
        verdict=verdict,
        seen=0,
    )


def make_record(study: Study, **fields: Any) -> StudyRecord:
    values: dict[str, Any] = {"name": study.name, "definition": study.model_dump(mode="json"), "created": BEGAN}
    ended = {"status": StudyStatus.FINISHED, "stopped_because": "budget: 100 runs", "active_s": 61.0, "cycles": 9}
    return StudyRecord(**{**values, **ended, **fields})


def make_report(runs: list[RunRecord], runs_root: Path, study: Study | None = None, **parts: Any) -> StudyReport:
    """The report of these runs; the first one is the baseline's."""
    study = study or make_study()
    decisions = parts.get("decisions") or [decided(run, "explorer" if i else "baseline") for i, run in enumerate(runs)]
    record = parts.get("record") or make_record(study)
    more = {name: parts[name] for name in ("lessons", "calibration", "approvals", "hypervolumes") if name in parts}
    return study_report(study, runs, decisions, record, runs_root, **more)


def predicted(mean: float, sd: float) -> Prediction:
    """A normal forecast."""
    p5, p25, p75, p95 = (mean + z * sd for z in (-1.645, -0.674, 0.674, 1.645))
    return Prediction(mean=mean, sd=sd, p5=p5, p25=p25, p50=mean, p75=p75, p95=p95)


def forecast_of(loss: float, *, fails: float = 0.1, known: int = 9, sd: float = 0.1, **fields: Any) -> Forecast:
    kinds = {"diverged": 0.75 * fails, "timeout": 0.25 * fails}
    values: dict[str, Any] = {"metrics": {"loss": predicted(loss, sd)}, "cost_s": predicted(1.1, 0.2), "kinds": kinds}
    return Forecast(**{**values, "known": known, "fails": fails, "score": predicted(-10 * loss, 10 * sd), **fields})


def voted(*stances: Stance) -> tuple[Vote, ...]:
    """A vote of each critic in turn: world, feasibility, cost."""
    return tuple(
        Vote(critic=name, stance=stance, confidence=0.8, reason=f"{name} says so", evidence={"merit": 0.25})
        for name, stance in zip(("world", "feasibility", "cost"), stances, strict=False)
    )


def tallied(stance: Stance, score: float, agreement: float = 1.0) -> Tally:
    entropy = 0.0 if agreement == 1 else 0.92
    reason = f"score {score:+.3f}, +0.66 or more approves"
    return Tally(stance=stance, score=score, active=3, agreement=agreement, entropy=entropy, reason=reason)


RATE_TOO_HIGH = Constraint(name="rate", forbid=Region.model_validate({"linear.rate": {"min": 0.1}}))
NOISY_TREE = Constraint(name="noisy", forbid=Region.model_validate({"model": "tree", "noise": {"min": 0.8}}))


def fails_by_rule(params: dict[str, Any]) -> Failure | None:
    if params.get("linear.rate", 0) >= 0.1:
        return diverged()
    if params["model"] == "tree" and params["noise"] >= 0.8:
        return Failure(kind=FailureKind.TIMEOUT, message="ran past its limit of 60 s")
    return None


def argued_history(count: int = 60) -> tuple[list[RunRecord], list[Decision], Lessons]:
    """Runs that fail in two regions, with all that a decision has on record; every tenth proposal is vetoed."""
    rng = np.random.default_rng(5)
    runs: list[RunRecord] = []
    decisions: list[Decision] = []
    since, best = 0, math.inf
    for number in range(1, count + 1):
        params = draw(number)
        run = make_run(number, params, failure=fails_by_rule(params))
        proposer = "baseline" if number == 1 else "explorer" if number <= 12 or number % 8 == 0 else "bayesian"
        mode = Mode.EXPLORE if number <= 12 else Mode.RECOVER if number in (30, 31) else Mode.EXPLOIT
        truth = loss_of(params)
        forecast = forecast_of(
            truth + 0.1 * float(rng.normal()), fails=0.8 if run.failure and number > 12 else 0.15, known=number - 1
        )
        decision = replace(
            decided(run, proposer),
            mode=mode,
            strategy=f"best loss {best:.3g} after {number - 1} results",
            forecast=forecast,
            votes=voted(Stance.APPROVE, Stance.APPROVE, Stance.ABSTAIN),
            tally=tallied(Stance.APPROVE, 1.0),
            risk=Risk.LOW,
            evidence={"settled": number - 1, "since_improvement": since, "stagnant": since > 9, "slots": 1},
        )
        if number % 10 == 0:
            decision = vetoed(decision)
        else:
            runs.append(run)
            since = 0 if not run.failure and truth < best else since + 1
            best = best if run.failure else min(best, truth)
        decisions.append(decision)
    return runs, decisions, lessons_of(runs)


def vetoed(decision: Decision) -> Decision:
    reason = "80% likely to fail, above the limit of 50%"
    return replace(
        decision,
        outcome=Outcome.REJECTED,
        config={},
        run_id=None,
        verdict=f"rejected by 'failure_risk': {reason}",
        votes=voted(Stance.APPROVE, Stance.REJECT, Stance.APPROVE),
        tally=tallied(Stance.APPROVE, 0.7, agreement=0.66),
        risk=Risk.HIGH,
        overrides=(
            Override(rule="failure_risk", before=Outcome.APPROVED, after=Outcome.REJECTED, reason=reason),
        ),
    )  # fmt: skip


def lessons_of(runs: list[RunRecord]) -> Lessons:
    """What a historian would say, in part by hand."""
    learned = []
    for constraint, kind in ((RATE_TOO_HIGH, "diverged"), (NOISY_TREE, "timeout")):
        inside = [run for run in runs if constraint.rejects(run.params)]
        failed = tuple(run.id for run in inside if run.failure)
        survived = tuple(run.id for run in inside if not run.failure)
        learned.append(
            LearnedConstraint(
                constraint=constraint,
                kinds={kind: len(failed)},
                failed=failed,
                survived=survived,
                purity=len(failed) / max(1, len(inside)),
                bound=0.7,
                base_rate=0.05,
            )
        )
    study = make_study()
    region = Region.model_validate({"model": "tree"})
    shown = tuple(run.id for run in runs if region.contains(run.params))
    return Lessons(
        progress=Progress(
            settled=len(runs),
            active=0,
            completed=sum(run.failure is None for run in runs),
            failures={},
            standings=tuple(standings(study, runs)),
            best_score=None,
            since_improvement=3,
            recent_failure_share=0.2,
        ),
        constraints=tuple(learned),
        expired=(Expired(constraint=RATE_TOO_HIGH, reason="run 7 completed inside"),),
        patterns=(
            Pattern(region=region, effect=1.5, low=0.6, high=2.4, runs=shown),
            Pattern(region=Region.model_validate({"noise": {"max": 0.3}}), effect=-0.2, low=-1, high=0.6, runs=shown),
        ),
        trend=Trend(slope=0.01, low=-0.02, high=0.04, runs=20),
        stagnation=Stagnation(stagnant=True, since_improvement=3, noise_sd=0.1, reason="3 runs without a gain"),
        proposers={
            "bayesian": Credit(agent="bayesian", cases=30, good=20.0, value=0.64, sd=0.08, facts={"improved": 4.0}),
            "explorer": Credit(agent="explorer", cases=12, good=3.0, value=0.32, sd=0.11),
        },
        critics={"world": Credit(agent="world", cases=40, good=30.0, value=0.73, sd=0.07)},
        notes=("constraints 'a' and 'b' leave nothing together",),
    )
