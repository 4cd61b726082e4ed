"""The supervisor: risk, hard rules, autonomy, and that every change of the panel's decision is on record."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judging import learned, make_forecast, make_run, make_situation, make_study, make_tally, propose
from windlass.agents.panel import tally
from windlass.agents.situation import Situation
from windlass.agents.supervisor import PERSON, Ruling, check
from windlass.records.content import nest
from windlass.records.decision import Outcome, Risk, Stance, Tally, Vote

RUNS = tuple(make_run(i, {"model.lr": 10.0**-i, "kind": "a"}, loss=float(i)) for i in (1, 2, 3))
NEW = {"model.lr": 0.03, "kind": "a"}


def rule(
    situation: Situation | None = None, proposer: str = "bayesian", counted: Tally | None = None, **forecast: Any
) -> Ruling:
    situation = situation or make_situation(RUNS)
    return check(situation, propose(proposer, NEW), nest(NEW), make_forecast(**forecast), counted or make_tally())


def study(**changes: Any) -> Situation:
    lessons = {"constraints": changes.pop("constraints", ())}
    return make_situation(RUNS, study=make_study(**changes), **lessons)


REJECTED = make_tally(Stance.REJECT, -1.0)
TORN = make_tally(Stance.REVISE, 0.1, agreement=0.55)


def test_the_panel_decides() -> None:
    for counted, outcome, words in (
        (make_tally(), Outcome.APPROVED, "approved: counted"),
        (REJECTED, Outcome.REJECTED, "rejected by 'panel': counted"),
        (TORN, Outcome.REJECTED, "rejected by 'panel': counted"),
    ):
        ruling = rule(counted=counted)
        assert (ruling.outcome, ruling.overrides, ruling.verdict) == (outcome, (), words)


def test_a_conflict_waits_for_a_person_where_the_study_asks_for_one() -> None:
    asks = study(panel={"conflict": "ask"})
    assert rule(asks, counted=TORN).outcome is Outcome.WAITING
    assert rule(asks, counted=REJECTED).outcome is Outcome.REJECTED
    assert rule(asks).outcome is Outcome.APPROVED
    votes = [Vote(critic=name, stance=Stance.APPROVE, confidence=1.0, reason="") for name in "a"]
    too_few = tally(votes, {"a": 1.0}, asks.study.panel)
    assert rule(asks, counted=too_few).outcome is Outcome.REJECTED


@pytest.mark.parametrize(
    ("forecast", "counted", "expected"),
    [
        ({"fails": 0.19}, {}, Risk.LOW),
        ({"fails": 0.2}, {}, Risk.MEDIUM),
        ({"fails": 0.5}, {}, Risk.HIGH),
        ({"fails": 0.8}, {}, Risk.CRITICAL),
        ({"fails": 0.9, "known": 0}, {}, Risk.LOW),
        ({"cost": 60.0}, {}, Risk.LOW),
        ({"cost": 100.0}, {}, Risk.MEDIUM),
        ({"cost": 250.0}, {}, Risk.HIGH),
        ({"cost": 500.0}, {}, Risk.CRITICAL),
        ({}, {"agreement": 0.74}, Risk.MEDIUM),
        ({}, {"agreement": 0.55}, Risk.HIGH),
        ({}, {"agreement": 0.0, "active": 0}, Risk.LOW),
    ],
)
def test_risk(forecast: dict[str, Any], counted: dict[str, Any], expected: Risk) -> None:
    situation = study(budget={"wall_time": 1030})  # 1000 s left
    assert rule(situation, counted=make_tally(**counted), **forecast).risk is expected


def test_risk_of_passing_the_time_limit() -> None:
    assert rule(study(budget={"run_time": 100}), cost=50.0).risk is Risk.LOW
    assert rule(study(budget={"run_time": 100}), cost=105.0).risk is Risk.CRITICAL
    assert rule(study(budget={"wall_time": 30}), cost=1.0).risk is Risk.CRITICAL


def test_far_from_everything_is_medium_at_most() -> None:
    assert rule(make_situation()).risk is Risk.MEDIUM
    far = {"model.lr": 0.03, "kind": "b", "n": 900}
    situation = make_situation(RUNS)
    assert check(situation, propose(values=far), nest(far), make_forecast(), make_tally()).risk is Risk.MEDIUM


def test_hard_rules_veto() -> None:
    for situation, forecast, name, told in (
        (study(safety={"failure_risk": 0.3}), {"fails": 0.31}, "safety.failure_risk", "0.31, above 0.3"),
        (study(safety={"run_cost": "1m"}), {"cost": 61.0}, "safety.run_cost", "61 s, above 60 s"),
        (study(constraints=(learned(16, 0, 0.81, **{"model.lr": {"min": 0.02}}),)), {}, "hot", "all of 16 runs"),
    ):
        ruling = rule(situation, **forecast)
        (override,) = ruling.overrides
        assert (override.rule, override.before, override.after) == (name, Outcome.APPROVED, Outcome.REJECTED)
        assert told in override.reason
        assert ruling.outcome is Outcome.REJECTED
        assert ruling.verdict == f"rejected by {name!r}: {override.reason}"


def test_hard_rules_need_their_evidence() -> None:
    assert rule(study(safety={"failure_risk": 0.3}), fails=0.3).outcome is Outcome.APPROVED
    assert rule(study(safety={"failure_risk": 0.3}), fails=0.5, known=0).outcome is Outcome.APPROVED
    assert rule(study(safety={"run_cost": 60})).outcome is Outcome.APPROVED
    for failed, survived, bound in ((15, 0, 0.796), (40, 1, 0.87)):
        constraint = learned(failed, survived, bound, **{"model.lr": {"min": 0.02}})
        assert rule(study(constraints=(constraint,))).outcome is Outcome.APPROVED
    elsewhere = learned(40, 0, 0.91, **{"model.lr": {"min": 0.5}})
    assert rule(study(constraints=(elsewhere,))).outcome is Outcome.APPROVED


def test_every_broken_rule_is_told() -> None:
    ruling = rule(study(safety={"failure_risk": 0.3, "run_cost": 60}), fails=0.5, cost=90.0)
    assert [one.rule for one in ruling.overrides] == ["safety.failure_risk"]
    assert "'safety.run_cost' forbids it, too" in ruling.verdict
    ruling = rule(study(safety={"failure_risk": 0.3}), counted=REJECTED, fails=0.5)
    assert ruling.overrides == ()
    assert "rejected by 'panel'" in ruling.verdict and "'safety.failure_risk'" in ruling.verdict


def test_a_veto_comes_before_a_person_is_asked() -> None:
    ruling = rule(study(safety={"failure_risk": 0.3}, panel={"conflict": "ask"}), counted=TORN, fails=0.5)
    assert ruling.outcome is Outcome.REJECTED
    (override,) = ruling.overrides
    assert override.before is Outcome.WAITING
    assert rule(study(safety={"failure_risk": 0.3}, autonomy="manual"), fails=0.5).outcome is Outcome.REJECTED


def test_manual_lets_everything_wait() -> None:
    ruling = rule(study(autonomy="manual"))
    assert ruling.outcome is Outcome.WAITING
    assert [one.rule for one in ruling.overrides] == ["autonomy.manual"]
    assert ruling.verdict.startswith("waits for a person by 'autonomy.manual': ")
    assert rule(study(autonomy="manual"), counted=REJECTED).outcome is Outcome.REJECTED


@pytest.mark.parametrize(
    ("fails", "outcome"),
    [(0.1, Outcome.APPROVED), (0.3, Outcome.APPROVED), (0.6, Outcome.WAITING), (0.9, Outcome.WAITING)],
)
def test_semi_lets_the_risky_wait(fails: float, outcome: Outcome) -> None:
    ruling = rule(study(autonomy="semi"), fails=fails)
    assert ruling.outcome is outcome
    assert ("fails with probability" in ruling.verdict) is (outcome is Outcome.WAITING)
    assert rule(fails=fails).outcome is Outcome.APPROVED  # auto


def test_the_first_baseline_runs_though_the_panel_could_not_judge_it() -> None:
    ruling = rule(make_situation(), "baseline", make_tally(Stance.REJECT, 0.0, active=0, agreement=0.0), known=0)
    assert ruling.outcome is Outcome.APPROVED
    (override,) = ruling.overrides
    assert (override.rule, override.before, override.after) == ("baseline", Outcome.REJECTED, Outcome.APPROVED)
    assert rule(make_situation(RUNS), "baseline", REJECTED).outcome is Outcome.REJECTED
    assert rule(make_situation(), "baseline").overrides == ()
    costly = make_situation(study=make_study(safety={"run_cost": 10}))
    ruling = rule(costly, "baseline", REJECTED, cost=20.0)
    assert ruling.outcome is Outcome.REJECTED
    assert [one.rule for one in ruling.overrides] == ["baseline", "safety.run_cost"]


def test_a_persons_request_is_held_against_hard_rules_only() -> None:
    ruling = rule(proposer=PERSON, counted=REJECTED)
    assert ruling.outcome is Outcome.APPROVED
    assert [one.rule for one in ruling.overrides] == ["person"]
    assert rule(study(safety={"failure_risk": 0.3}), PERSON, REJECTED, fails=0.5).outcome is Outcome.REJECTED


proposers = st.sampled_from(("bayesian", "explorer", "baseline", "ablation", PERSON))
tallies = st.builds(
    make_tally,
    stance=st.sampled_from((Stance.APPROVE, Stance.REJECT, Stance.REVISE)),
    score=st.floats(-1, 1),
    active=st.integers(0, 5),
    agreement=st.floats(0, 1),
)
studies = st.fixed_dictionaries(
    {},
    optional={
        "autonomy": st.sampled_from(("manual", "semi", "auto")),
        "panel": st.fixed_dictionaries({"conflict": st.sampled_from(("revise", "cautious", "majority", "ask"))}),
        "safety": st.fixed_dictionaries({}, optional={"failure_risk": st.floats(0, 1), "run_cost": st.floats(1, 100)}),
        "budget": st.fixed_dictionaries({}, optional={"wall_time": st.floats(1, 500), "run_time": st.floats(1, 500)}),
    },
)
forecasts = st.builds(
    make_forecast,
    fails=st.floats(0, 1),
    known=st.integers(0, 3),
    cost=st.none() | st.floats(0.1, 1000),
)
constraints = st.none() | st.integers(1, 60).map(
    lambda failed: learned(failed, 0, failed / (failed + 3.84), **{"model.lr": {"min": 0.02}})
)


@given(proposers, tallies, studies, forecasts, constraints, st.booleans())
def test_what_holds_for_every_ruling(
    proposer: str, counted: Tally, terms: dict[str, Any], forecast: Any, constraint: Any, fresh: bool
) -> None:
    learnt = () if constraint is None else (constraint,)
    situation = make_situation(() if fresh else RUNS, study=make_study(**terms), constraints=learnt)
    ruling = check(situation, propose(proposer, NEW), nest(NEW), forecast, counted)
    asked = counted.stance is Stance.REVISE and situation.study.panel.conflict == "ask"
    start = {Stance.APPROVE: Outcome.APPROVED}.get(counted.stance, Outcome.WAITING if asked else Outcome.REJECTED)

    chain = [start, *(one.after for one in ruling.overrides)]
    assert [one.before for one in ruling.overrides] == chain[:-1]
    assert ruling.outcome is chain[-1]
    assert all(one.before is not one.after and one.rule and one.reason for one in ruling.overrides)

    lifted = [one.rule for one in ruling.overrides if one.before is Outcome.REJECTED]
    if lifted:
        assert (
            lifted == ["person"]
            if proposer == PERSON
            else (proposer, fresh, lifted) == ("baseline", True, ["baseline"])
        )
    if start is Outcome.REJECTED and not lifted:
        assert ruling.outcome is Outcome.REJECTED

    safety, cost = situation.study.safety, forecast.cost_s
    forbidden = (
        (safety.failure_risk is not None and forecast.known > 0 and forecast.fails > safety.failure_risk)
        or (safety.run_cost is not None and cost is not None and cost.p50 > safety.run_cost)
        or (constraint is not None and constraint.bound >= 0.8)
    )
    if forbidden:
        assert ruling.outcome is Outcome.REJECTED
        assert "rejected by" in ruling.verdict
        if start is not Outcome.REJECTED or lifted:
            vetoes = [one for one in ruling.overrides if one.after is Outcome.REJECTED]
            assert len(vetoes) == 1 and repr(vetoes[0].rule) in ruling.verdict

    match situation.study.autonomy:
        case "manual":
            assert ruling.outcome is not Outcome.APPROVED
        case "semi":
            assert ruling.outcome is not Outcome.APPROVED or ruling.risk in (Risk.LOW, Risk.MEDIUM)
        case "auto":
            assert ruling.outcome is not Outcome.WAITING or asked
