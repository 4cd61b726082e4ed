"""A study in memory: the real deliberation over runs whose results a function gives at once or later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from windlass.agents import Council
from windlass.loop.deliberation import Knowledge, deliberate
from windlass.records.decision import Approval, Decision
from windlass.records.run import Failure, FailureKind, MetricSummary, RunRecord, Status
from windlass.records.study import Study
from windlass.space.generate import ConfigGenerator
from windlass.space.space import Space

Objective = Callable[[Mapping[str, Any], int], float | FailureKind]

STUDY: dict[str, Any] = {
    "name": "bowl",
    "trainer": {"command": ["train"]},
    "space": {
        "x": {"type": "float", "low": -2.0, "high": 2.0},
        "y": {"type": "float", "low": -2.0, "high": 2.0},
        "kind": {"type": "categorical", "choices": ["a", "b"]},
    },
    "objectives": [{"metric": "loss", "direction": "minimize"}],
    "budget": {"runs": 40},
    "seed": 1,
}


def bowl(config: Mapping[str, Any], seed: int) -> float | FailureKind:
    """Fails where x is above 1."""
    if config["x"] > 1:
        return FailureKind.DIVERGED
    return float((config["x"] + 0.5) ** 2 + (config["y"] - 0.3) ** 2 + (config["kind"] == "a"))


class Simulation:
    def __init__(self, objective: Objective = bowl, council: Council | None = None, **changes: Any) -> None:
        self.study = Study.model_validate({**STUDY, **changes})
        self.council = council or Council.of(self.study)
        self.objective = objective
        self.decided: list[Decision] = []
        self.runs: dict[str, RunRecord] = {}
        self.approvals: dict[int, Approval] = {}
        self.clock = 1_700_000_000.0

    @property
    def knowledge(self) -> Knowledge:
        return Knowledge(
            study=self.study,
            space=Space.of(self.study),
            generator=ConfigGenerator(self.study),
            runs=tuple(sorted(self.runs.values(), key=lambda run: (run.number or 0, run.id))),
            decided=tuple(self.decided),
            approvals=dict(self.approvals),
        )

    def cycle(self, slots: int = 1, *, settle: bool = True) -> list[Decision]:
        self.clock += 1
        decisions = deliberate(self.knowledge, self.council, slots, self.clock)
        self.decided += decisions
        for decision in decisions:
            if decision.approved:
                self._start(decision)
                if settle:
                    self.settle(decision)
        return decisions

    def answer(self, decision: Decision, approved: bool) -> None:
        self.approvals[decision.number] = Approval(
            study=self.study.name, number=decision.number, approved=approved, reason="so", by="ada", at=self.clock
        )
        if approved:
            self._start(decision)

    def _start(self, decision: Decision) -> None:
        assert decision.run_id is not None
        self.runs[decision.run_id] = RunRecord(
            id=decision.run_id,
            name=self.study.name,
            study=self.study.name,
            number=decision.number,
            status=Status.PENDING,
            created=decision.at,
            config=decision.config,
            seed=decision.seed,
        )

    def settle(self, decision: Decision) -> RunRecord:
        assert decision.run_id is not None
        run = self.runs[decision.run_id]
        self.clock += 1
        value = self.objective(run.config, run.seed)
        ended = {"started": self.clock - 1, "ended": self.clock}
        if isinstance(value, FailureKind):
            run = replace(run, status=Status.FAILED, failure=Failure(kind=value, message="boom"), **ended)
        else:
            run = replace(run, status=Status.COMPLETED, metrics={"loss": MetricSummary.of(value)}, **ended)
        self.runs[run.id] = run
        return run
