"""Deliberation as a whole: real agents, real world model, constructed histories."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from loop.simulation import STUDY, Simulation, bowl
from windlass.agents import Council
from windlass.loop.deliberation import waiting_room
from windlass.loop.retrace import retrace
from windlass.records.content import digest
from windlass.records.decision import Decision, Outcome, Proposal
from windlass.records.run import FailureKind
from windlass.records.study import Study


def text(decisions: Sequence[Decision]) -> str:
    return json.dumps([decision.to_dict() for decision in decisions], sort_keys=True)


def retraced(simulation: Simulation) -> list[str]:
    """What is different when every cycle is decided again from the log, as it comes back from JSON."""
    decided = [Decision.from_dict(json.loads(json.dumps(d.to_dict()))) for d in simulation.decided]
    runs, answers = list(simulation.runs.values()), list(simulation.approvals.values())
    found = list(retrace(simulation.study, runs, decided, answers, lambda study, _: Council.of(study)))
    assert [one.cycle for one in found] == sorted({d.cycle for d in decided})
    return [difference for one in found for difference in one.differences]


def test_a_study_gets_better_and_every_cycle_can_be_decided_again() -> None:
    simulation = Simulation(seed=2)
    for _ in range(24):
        simulation.cycle()
    assert retraced(simulation) == []
    losses = [run.values["loss"] for run in simulation.runs.values() if run.metrics]
    assert min(losses) < 0.02
    failed = [d.number for d in simulation.decided if d.run_id and simulation.runs[d.run_id].failure]
    assert 0 < len(failed) <= 3 and max(failed) < 16, "a quarter of the space fails, and failures are not learned from"


def test_equal_knowledge_gives_equal_decisions() -> None:
    simulation = Simulation()
    for _ in range(9):
        simulation.cycle(2)
    assert text(Simulation.cycle(_copy(simulation), 3)) == text(Simulation.cycle(_copy(simulation), 3))


def _copy(simulation: Simulation) -> Simulation:
    twin = Simulation()
    twin.decided, twin.runs, twin.clock = list(simulation.decided), dict(simulation.runs), simulation.clock
    return twin


def test_slots_that_settle_out_of_order_can_be_decided_again() -> None:
    simulation = Simulation()
    open_runs: list[Decision] = []
    for turn in range(12):
        open_runs += [d for d in simulation.cycle(1 + turn % 3, settle=False) if d.run_id]
        for decision in open_runs[::-2]:
            simulation.settle(decision)
            open_runs.remove(decision)
    assert open_runs
    assert retraced(simulation) == []
    ids = [d.run_id for d in simulation.decided if d.run_id]
    assert len({digest(d.config) for d in simulation.decided if d.run_id and not d.proposal.repeats}) == len(
        [d for d in simulation.decided if d.run_id and not d.proposal.repeats]
    )
    assert len(ids) == len(set(ids))


def test_every_decision_says_why() -> None:
    simulation = Simulation()
    for _ in range(14):
        simulation.cycle()
    for decision in simulation.decided:
        assert decision.strategy and decision.proposal.reason and decision.verdict
        if decision.run_id is not None:
            assert decision.forecast is not None and decision.tally is not None and decision.risk is not None
            assert len(decision.votes) >= 2
    assert simulation.decided[-1].forecast is not None and simulation.decided[-1].forecast.score is not None


def test_manual_runs_wait_for_a_person() -> None:
    simulation = Simulation(autonomy="manual", budget={"runs": 40, "concurrent": 2})
    first, second = (simulation.cycle()[0] for _ in range(2))
    assert (first.outcome, second.outcome) == (Outcome.WAITING, Outcome.WAITING)
    assert first.run_id and not simulation.runs
    assert digest(first.config) != digest(second.config)
    simulation.answer(first, approved=False)
    simulation.answer(second, approved=True)
    simulation.settle(second)
    third = simulation.cycle()[0]
    assert third.learned == (first.run_id, second.run_id, second.run_id)
    assert third.seen == 1
    assert digest(third.config) not in {digest(first.config), digest(second.config)}
    assert retraced(simulation) == []


def test_the_waiting_room_has_an_end() -> None:
    simulation = Simulation(autonomy="manual")
    for _ in range(8):
        simulation.cycle()
    waiting = [d for d in simulation.decided if d.waiting]
    assert len(waiting) == waiting_room(simulation.study)
    turned_away = next(d for d in simulation.decided if not d.waiting)
    assert turned_away.verdict.startswith("rejected by 'approvals'") and turned_away.overrides[-1].rule == "approvals"
    assert turned_away.run_id is None and turned_away.config == {}


class Broken:
    """An agent with a fault."""

    name: ClassVar[str] = "broken"
    weight: ClassVar[float] = 1.0

    def propose(self, *_: Any) -> list[Proposal]:
        raise RuntimeError("no idea")

    def review(self, *_: Any) -> Any:
        raise ValueError("no opinion")


def test_agents_that_raise_are_on_record_and_the_study_goes_on() -> None:
    council = Council.of(Study.model_validate(STUDY))
    broken = Broken()
    council = replace(
        council,
        proposers={**council.proposers, "bayesian": broken},
        critics={**council.critics, "broken": broken},
    )
    simulation = Simulation(council=council)
    for _ in range(14):
        assert any(d.run_id for d in simulation.cycle())
    incidents = {(one.agent, one.message) for d in simulation.decided for one in d.incidents}
    assert ("bayesian", "could not propose: RuntimeError: no idea") in incidents
    assert any(agent == "broken" and "no opinion" in message for agent, message in incidents)


def test_everything_fails_and_the_search_goes_on() -> None:
    simulation = Simulation(objective=lambda config, seed: FailureKind.ERROR)
    for _ in range(15):
        assert any(d.run_id for d in simulation.cycle())
    assert retraced(simulation) == []


def test_all_results_equal() -> None:
    simulation = Simulation(objective=lambda config, seed: 1.0)
    for _ in range(15):
        assert any(d.run_id for d in simulation.cycle())
    assert retraced(simulation) == []


def test_terms_are_on_record_where_they_change() -> None:
    simulation = Simulation()
    for _ in range(3):
        simulation.cycle()
    simulation.study = Study.model_validate({**STUDY, "budget": {"runs": 60}, "repeats": 1})
    simulation.council = Council.of(simulation.study)
    for _ in range(9):
        simulation.cycle()
    changed = {d.number: d.terms for d in simulation.decided if d.terms is not None}
    assert list(changed) == [1, 4]
    assert changed[4] is not None and changed[4]["budget"] == {"runs": 60} and changed[4]["repeats"] == 1
    assert retraced(simulation) == []


def test_a_changed_log_is_found_out() -> None:
    simulation = Simulation()
    for _ in range(12):
        simulation.cycle()
    old = simulation.decided[10]
    simulation.decided[10] = replace(old, proposal=replace(old.proposal, reason="because"))
    assert any("#11 proposal" in difference for difference in retraced(simulation))


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_repeats_are_for_noise(noise: float) -> None:
    def noisy(config: Any, seed: int) -> float | FailureKind:
        value = bowl(config, seed)
        if isinstance(value, FailureKind):
            return value
        return value + noise * (int(digest([dict(config), seed])[:6], 16) / 0xFFFFFF - 0.5)

    simulation = Simulation(objective=noisy, budget={"runs": 30}, repeats=3)
    for _ in range(30):
        simulation.cycle()
    repeats = [d for d in simulation.decided if d.proposal.repeats and d.run_id]
    assert repeats if noise else len(repeats) <= 1
    for repeat in repeats:
        first = next(d for d in simulation.decided if d.run_id == repeat.proposal.repeats)
        assert repeat.config == first.config and repeat.seed != first.seed
    assert retraced(simulation) == []


def test_what_was_learned_to_fail_is_not_proposed_again_and_again() -> None:
    """The best of the bowl lies where everything fails: the search goes on beside it."""
    simulation = Simulation(
        objective=lambda config, seed: FailureKind.DIVERGED if config["x"] > -1 else bowl(config, seed),
        budget={"runs": 60},
    )
    for _ in range(45):
        assert any(d.run_id for d in simulation.cycle())
    forbidding = [d for d in simulation.decided if "learned:" in d.verdict]
    assert len(forbidding) <= 3
    late = [simulation.runs[d.run_id] for d in simulation.decided[30:] if d.run_id]
    assert sum(run.failure is not None for run in late) <= len(late) / 3
