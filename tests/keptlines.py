"""A registry's history, made step by step: runs, checkpoints, evaluations, verdicts, promotions, rollbacks."""

from __future__ import annotations

from typing import Any

from windlass.records.audit import Change, ChangeKind
from windlass.records.checkpoint import Checkpoint
from windlass.records.content import digest, nest
from windlass.records.deployment import ROLLBACK_STEPS, SWITCH, Rollback
from windlass.records.evaluation import Evaluation, Leakage
from windlass.records.gate import GatePolicy
from windlass.records.lineage import Lineage
from windlass.records.run import MetricSummary, RunRecord, Status, make_run_id
from windlass.records.verdict import Comparison, Finding, Ruling, Verdict
from windlass.registry.lineage import lineage
from windlass.registry.memory import MemoryRegistry
from windlass.registry.state import State
from windlass.report.card import Card

BEGAN = 1_760_000_000.0
HOUR = 3600.0
DATA = digest("training data")

POLICY = GatePolicy.model_validate(
    {
        "deployment": "reader",
        "benchmarks": [
            {
                "name": "reading",
                "data": "reading.jsonl",
                "function": "evaluators:reading",
                "metric": "accuracy",
                "direction": "maximize",
                "min_delta": 0.005,
                "detect": 0.02,
                "min_examples": 200,
                "guards": [{"metric": "toxicity", "direction": "minimize", "margin": 0.01}],
                "slices": ["language"],
                "max_age": "30d",
            },
            {
                "name": "recall",
                "data": "recall.jsonl",
                "function": "evaluators:recall",
                "metric": "hits",
                "direction": "maximize",
                "require": "no_worse",
                "margin": 0.02,
            },
        ],
    }
)


def compared(ruling: Ruling, delta: float, before: float, **fields: Any) -> Comparison:
    """Of ``accuracy`` on ``reading``; the interval is wide where the ruling is inconclusive."""
    half = 0.03 if ruling is Ruling.INCONCLUSIVE else 0.012
    finding = {Ruling.PROMOTE: Finding.PASSED, Ruling.KEEP: Finding.BROKEN}.get(ruling, Finding.OPEN)
    values: dict[str, Any] = {
        "benchmark": "reading",
        "metric": "accuracy",
        "role": "better",
        "n": 500,
        "champion": before,
        "challenger": before + delta,
        "delta": delta,
        "low": delta - half,
        "high": delta + half,
        "threshold": 0.005,
        "level": 0.0025,
        "p_value": 0.0004 if ruling is Ruling.PROMOTE else 0.21,
        "test": "exact McNemar",
        "finding": finding,
        "power": 0.86,
        "detectable": 0.018,
    }
    return Comparison(**{**values, **fields})


class Line:
    """What happens to one deployment; every method returns what it put on record."""

    def __init__(self, policy: GatePolicy = POLICY, study: str = "digits") -> None:
        self.registry = MemoryRegistry()
        self.policy, self.study = policy, study
        self.runs: dict[str, RunRecord] = {}
        self.now = BEGAN

    @property
    def state(self) -> State:
        return self.registry.state()

    def of(self, reference: str, **kwargs: Any) -> Lineage:
        return lineage(self.state, reference, self.runs.get, **kwargs)

    def card(self, reference: str, **fields: Any) -> Card:
        state, name = self.state, self.state.checkpoint(reference).id
        lines = [line for line in state.deployments.values() if name in line.stages]
        values: dict[str, Any] = {
            "checkpoint": state.checkpoints[name],
            "sequence": state.sequence,
            "hash": state.hash,
            "description": "Reads handwritten digits on forms.",
            "runs": state.runs[name],
            "removed": state.removed.get(name),
            "evaluations": state.evaluations_of(name),
            "verdicts": [v for v in state.verdicts.values() if v.challenger == name],
            "policies": {fingerprint: policy for fingerprint, (policy, _) in state.policies.items()},
            "deployments": lines,
            "rollbacks": [r for r in state.rollbacks.values() if name in (r.source, r.target)],
        }
        return Card(**{**values, **fields})

    def later(self) -> float:
        self.now += HOUR
        return self.now

    def enter(self, kind: ChangeKind, subject: str, **body: Any) -> None:
        self.registry.append(Change(kind=kind, subject=subject, body=body), actor="study digits", at=self.later())

    def run(self, number: int, **fields: Any) -> RunRecord:
        config = nest({"lr": 0.1 / number, "model.depth": 3, "augment": ["flip", "crop"]})
        began = self.later()
        values: dict[str, Any] = {
            "id": make_run_id(began, self.study, {"number": number}),
            "name": self.study,
            "study": self.study,
            "number": number,
            "status": Status.COMPLETED,
            "created": began,
            "started": began,
            "ended": began + 187,
            "config": config,
            "seed": number,
            "metrics": {"loss": MetricSummary.of(0.4 / number)},
            "fingerprints": {
                "config": digest(config), "code": digest("code"), "data": DATA, "environment": digest("environment"),
            },
        }  # fmt: skip
        run = RunRecord(**{**values, **fields})
        self.runs[run.id] = run
        return run

    def register(self, number: int, parent: str | None = None, run: RunRecord | None = None, **fields: Any) -> str:
        run = run or self.run(number)
        values: dict[str, Any] = {
            "digest": digest(["bytes", number]),
            "bytes": 1_300_000,
            "files": 3,
            "created": self.later(),
            "run": run.id,
            "study": run.study,
            "number": run.number,
            "config": run.config,
            "seed": run.seed,
            "metrics": run.values,
            "fingerprints": run.fingerprints,
            "parent": parent,
        }
        checkpoint = Checkpoint(**{**values, **fields})
        self.enter(ChangeKind.REGISTERED, checkpoint.id, checkpoint=checkpoint.to_dict())
        return checkpoint.id

    def evaluate(self, checkpoint: str, benchmark: str = "reading", mean: float = 0.9, **fields: Any) -> Evaluation:
        at = self.later()
        job = make_run_id(at, f"eval-{benchmark}", {"checkpoint": checkpoint, "benchmark": benchmark})
        asked = {"evaluates": checkpoint, "benchmark": benchmark}
        self.runs[job] = RunRecord(id=job, name="eval", status=Status.COMPLETED, created=at, lineage=asked)
        columns = {"reading": {"accuracy": mean, "toxicity": 0.011}, "recall": {"hits": mean}}
        values: dict[str, Any] = {
            "checkpoint": checkpoint,
            "benchmark": benchmark,
            "data": digest(["data of", benchmark]),
            "evaluator": digest(["evaluator of", benchmark]),
            "scores": digest(["scores", checkpoint, benchmark, mean]),
            "n": 500,
            "means": columns.get(benchmark, {"score": mean}),
            "at": at,
            "run": job,
            "leakage": Leakage(overlap=0, examples=500, words="compared line by line"),
        }
        evaluation = Evaluation(**{**values, **fields})
        self.enter(ChangeKind.EVALUATED, checkpoint, evaluation=evaluation.to_dict())
        return evaluation

    def judge(self, challenger: str, ruling: Ruling = Ruling.PROMOTE, delta: float = 0.021, **fields: Any) -> Verdict:
        line = self.state.deployments.get(self.policy.deployment)
        champion = line.champion if line else None
        used = [e.id for c in (challenger, champion) if c for e in self.state.evaluations_of(c)]
        before = [e.means["accuracy"] for e in self.state.evaluations_of(champion or "", "reading")]
        values: dict[str, Any] = {
            "deployment": self.policy.deployment,
            "challenger": challenger,
            "champion": champion,
            "ruling": ruling,
            "reasons": (f"reading: accuracy is {delta:+.3f} better; more than 0.005 was needed.",)
            if champion
            else ("Nothing serves yet; every least that is asked for is reached.",),
            "comparisons": (compared(ruling, delta, before[-1] if before else 0.9),) if champion else (),
            "evaluations": tuple(used),
            "policy": self.policy.fingerprint,
            "look": len(self.state.verdicts) + 1,
            "level": 0.0025,
            "more": 800 if ruling is Ruling.INCONCLUSIVE else None,
            "at": self.later(),
        }
        verdict = Verdict(**{**values, **fields})
        body = {"verdict": verdict.to_dict(), "policy": self.policy.model_dump(mode="json"), "folder": "/studies"}
        self.enter(ChangeKind.JUDGED, self.policy.deployment, **body)
        return verdict

    def serve(self, verdict: Verdict) -> None:
        body = {"previous": verdict.champion, "verdict": verdict.id, "rollback": None, "reason": verdict.reasons[0]}
        self.enter(ChangeKind.PROMOTED, verdict.deployment, checkpoint=verdict.challenger, **body)

    def roll_back(self, target: str, reason: str = "answers were rejected more often") -> Rollback:
        name = self.policy.deployment
        source = self.state.deployments[name].champion
        assert source is not None
        rollback = Rollback(deployment=name, source=source, target=target, reason=reason, at=self.later())
        self.enter(ChangeKind.PLANNED, name, rollback=rollback.to_dict())
        for step in ROLLBACK_STEPS:
            self.enter(ChangeKind.STEPPED, name, rollback=rollback.id, step=step, state="started", note="")
            if step == SWITCH:
                body = {"previous": source, "verdict": None, "rollback": rollback.id, "reason": reason}
                self.enter(ChangeKind.PROMOTED, name, checkpoint=target, **body)
            self.enter(
                ChangeKind.STEPPED, name, rollback=rollback.id, step=step, state="done", note=f"{step} went well"
            )
        return self.state.rollbacks[rollback.id]

    def remove(self, checkpoint: str) -> None:
        self.enter(ChangeKind.REMOVED, checkpoint, bytes=1_300_000, reason="nothing refers to it")

    def generation(self, number: int, parent: str | None = None, benchmarks: int = 2) -> str:
        """A checkpoint that is evaluated, judged and serves."""
        checkpoint = self.register(number, parent)
        for name in ("reading", "recall", "safety")[:benchmarks]:
            self.evaluate(checkpoint, name, 0.85 + 0.02 * number)
        self.serve(self.judge(checkpoint))
        return checkpoint


def generations(count: int, benchmarks: int = 2) -> tuple[Line, list[str]]:
    """Checkpoints that each continued from the one before and took its place."""
    line = Line()
    made: list[str] = []
    for number in range(1, count + 1):
        made.append(line.generation(number, made[-1] if made else None, benchmarks))
    return line, made
