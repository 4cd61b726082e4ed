"""Windlass's whole deciding side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from problems import Outcome, Problem
from world import History

from windlass.agents.council import Council
from windlass.loop.deliberation import Knowledge, deliberate
from windlass.records.content import flatten, nest
from windlass.records.decision import Decision, Mode, Proposal
from windlass.records.decision import Outcome as DecisionOutcome
from windlass.records.run import make_run_id
from windlass.space.generate import ConfigGenerator

Values = Mapping[str, Any]


class DecidingSide:
    """A cycle at a time with one slot: director, proposers, critics, panel and supervisor, as the lab runs them.

    ``without`` names agents that stay out. Nothing is written and no process starts.
    """

    CYCLES = 20  #: cycles without a run after which the study counts as stuck

    def __init__(self, problem: Problem, seed: int, without: tuple[str, ...] = ()) -> None:
        self.history = History(problem, seed, without)
        self.council = Council.of(self.history.study)
        self.generator = ConfigGenerator(self.history.study)
        self.decided: list[Decision] = []
        self.last: Sequence[Decision] = ()
        self.asked: Decision | None = None

    def ask(self) -> Values:
        for _ in range(self.CYCLES):
            self.last = deliberate(self._knowledge(), self.council, 1, self.history.clock)
            self.decided += self.last
            for decision in self.last:
                if decision.run_id is not None:
                    self.asked = decision
                    return flatten(decision.config)
        said = f": {self.last[-1].verdict}" if self.last else ""
        raise RuntimeError(f"{self.CYCLES} cycles in a row without a run{said}")

    def _knowledge(self) -> Knowledge:
        return Knowledge(
            study=self.history.study,
            space=self.history.space,
            generator=self.generator,
            runs=tuple(self.history.runs),
            decided=tuple(self.decided),
        )

    def tell(self, values: Values, outcome: Outcome) -> None:
        decision = self.asked or self._as_if_decided(values)
        self.asked = None
        assert decision.run_id is not None
        self.history.add(decision.run_id, decision.number, decision.config, decision.seed, outcome)

    def _as_if_decided(self, values: Values) -> Decision:
        """A decision that would have led to a trial that was not asked for."""
        number, active = len(self.decided) + 1, self.history.space.active(values)
        decision = Decision(
            study=self.history.study.name,
            number=number,
            cycle=number,
            at=self.history.clock,
            mode=Mode.EXPLORE,
            strategy="told",
            proposal=Proposal(values=active, proposer="explorer", reason="told"),
            config=nest(active),
            outcome=DecisionOutcome.APPROVED,
            verdict="told",
            seen=len(self.history.runs),
            run_id=make_run_id(self.history.clock, self.history.study.name, {"number": number}),
        )
        self.decided.append(decision)
        return decision

    def recommend(self) -> Values | None:
        return self.history.recommended()

    def notes(self) -> Mapping[str, Any]:
        decision = self.last[-1]
        return {
            "proposer": decision.proposal.proposer,
            "mode": decision.mode.value,
            "repeats": decision.proposal.repeats,
            "forecast": None if decision.forecast is None else asdict(decision.forecast),
            "rejected": [f"{one.proposal.proposer}: {one.verdict}" for one in self.last if one.run_id is None],
        }
