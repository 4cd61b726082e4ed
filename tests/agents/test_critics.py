"""Each critic on constructed situations: what it approves and rejects, with which evidence, and when it is quiet."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judging import (
    FakeWorld,
    learned,
    make_decision,
    make_forecast,
    make_run,
    make_situation,
    make_study,
    prediction,
    propose,
)
from windlass.agents.critics import CRITICS, review_all
from windlass.agents.nearness import neighbours
from windlass.agents.odds import chance_above, seconds_left
from windlass.agents.panel import tally
from windlass.agents.situation import Situation
from windlass.records.content import canonical, digest, flatten, nest
from windlass.records.decision import Proposal, Stance, Vote
from windlass.records.forecast import Forecast, Prediction
from windlass.records.lessons import Pattern
from windlass.records.region import Region
from windlass.records.run import Failure, FailureKind, RunRecord, Status
from windlass.worldmodel import WorldModel, trials_of

RUNS = tuple(make_run(i, {"model.lr": 10.0**-i, "kind": "a"}, loss=float(i)) for i in (1, 2, 3))
NEW = {"model.lr": 0.03, "kind": "a"}


def review(name: str, situation: Situation, proposal: Proposal | None = None, **forecast: Any) -> Vote:
    """The vote on ``proposal``, or on the new config."""
    proposal = proposal or propose(values=NEW)
    config = situation.config(proposal.values)
    (vote,), incidents = review_all({name: CRITICS[name]}, situation, proposal, config, make_forecast(**forecast))
    assert not incidents
    return vote


def of(vote: Vote) -> tuple[Stance, float]:
    return vote.stance, vote.confidence


# ---------------------------------------------------------------- chances


@given(st.floats(-10, 10), st.floats(0.01, 10), st.floats(-4, 4))
def test_chance_above_is_the_normal_one_where_the_forecast_is_normal(mean: float, sd: float, z: float) -> None:
    assert chance_above(prediction(mean, sd), mean + z * sd) == pytest.approx(0.5 * math.erfc(z / 2**0.5), abs=2e-3)


@given(st.lists(st.floats(-5, 5), min_size=5, max_size=5).map(sorted), st.floats(-9, 9), st.floats(0, 3))
def test_chance_above_falls_and_is_a_probability(points: list[float], level: float, more: float) -> None:
    one = Prediction(mean=points[2], sd=1.0, p5=points[0], p25=points[1], p50=points[2], p75=points[3], p95=points[4])
    low, high = chance_above(one, level), chance_above(one, level + more)
    assert 0 <= high <= low <= 1


def test_chance_above_meets_the_percentiles() -> None:
    one = Prediction(mean=3.0, sd=5.0, p5=0.0, p25=1.0, p50=2.0, p75=5.0, p95=20.0)
    found = [chance_above(one, level) for level in (0.0, 1.0, 2.0, 5.0, 20.0)]
    assert found == pytest.approx([0.95, 0.75, 0.5, 0.25, 0.05])
    certain = Prediction(mean=1.0, sd=0.0, p5=1.0, p25=1.0, p50=1.0, p75=1.0, p95=1.0)
    assert (chance_above(certain, 0.9), chance_above(certain, 1.1)) == (1.0, 0.0)


# ---------------------------------------------------------------- world


def test_world_approves_what_promises() -> None:
    vote = review("world", make_situation(RUNS), merit=0.0)
    assert of(vote) == (Stance.APPROVE, 1.0)
    assert vote.evidence["best_run"] == "r1"
    assert vote.evidence["best_score"] == -1.0
    assert vote.evidence["chance_to_lead"] == pytest.approx(0.977, abs=2e-3)
    assert "random configs" in vote.reason


def test_world_rejects_the_hopeless() -> None:
    hopeless = {"merit": -100.0, "score": prediction(-50.0, 0.5)}
    situation = make_situation(RUNS)
    for proposer in ("local", "pattern", "language_model"):
        vote = review("world", situation, propose(proposer, NEW), **hopeless)
        assert of(vote) == (Stance.REJECT, 1.0), proposer
        assert "hopeless" in vote.reason


@pytest.mark.parametrize("forecast", [{"score": None}, {"score": prediction(-2.5, 1.0)}])
def test_world_only_doubts_without_proof(forecast: dict[str, Any]) -> None:
    vote = review("world", make_situation(RUNS), propose("local", NEW), merit=-100.0, **forecast)
    if forecast["score"] is None:
        assert vote.stance is Stance.REVISE
    else:  # 7 % to lead
        assert vote.stance is Stance.APPROVE


def test_world_leaves_the_explorer_more_room() -> None:
    below_median = {"merit": -4.0, "score": prediction(-50.0, 0.5)}  # better than a fifth
    situation = make_situation(RUNS)
    assert review("world", situation, propose("explorer", NEW), **below_median).stance is Stance.APPROVE
    assert review("world", situation, propose("local", NEW), **below_median).stance is Stance.REJECT


def test_world_is_quiet_where_it_knows_little_or_gain_is_not_the_point() -> None:
    hopeless = {"merit": -100.0, "score": prediction(-50.0, 0.5)}
    situation = make_situation(RUNS)
    local = propose("local", NEW)
    unusable = make_situation(RUNS, world=FakeWorld(usable=False))
    assert review("world", unusable, local, **hopeless).stance is Stance.ABSTAIN
    assert review("world", situation, local, **{**hopeless, "known": 4}).stance is Stance.ABSTAIN
    assert review("world", situation, local, **{**hopeless, "merit": None}).stance is Stance.ABSTAIN
    assert review("world", situation, local, **{**hopeless, "known": 5}).stance is Stance.REJECT
    for proposal in (propose("baseline", NEW), propose("ablation", NEW), propose("repeat", NEW, repeats="r1")):
        assert review("world", situation, proposal, **hopeless).stance is Stance.ABSTAIN


def test_world_never_rejects_its_own_choice() -> None:
    vote = review("world", make_situation(RUNS), propose("bayesian", NEW), merit=-100.0, score=prediction(-50.0, 0.5))
    assert vote.stance is Stance.ABSTAIN
    assert "own choice" in vote.reason


def test_an_infinite_merit_is_no_evidence_that_json_cannot_hold() -> None:
    vote = review("world", make_situation(RUNS), propose("local", NEW), merit=-math.inf, score=prediction(-50.0, 0.5))
    assert vote.stance is Stance.REJECT
    assert "merit" not in vote.evidence


def test_world_compares_with_the_world_at_hand() -> None:
    class Poorer(FakeWorld):
        def merit(self, configs: Any) -> Any:
            return super().merit(configs) - 1000

    one = make_situation(RUNS)
    assert review("world", one, propose("local", NEW), merit=-100.0, score=None).stance is Stance.REVISE
    other = replace(one, world=Poorer())
    assert review("world", other, propose("local", NEW), merit=-100.0, score=None).stance is Stance.APPROVE


# ---------------------------------------------------------------- feasibility


def test_feasibility_approves_with_what_it_expects() -> None:
    vote = review("feasibility", make_situation(RUNS), fails=0.1, kinds={"error": 0.06, "timeout": 0.04})
    assert of(vote) == (Stance.APPROVE, 0.9)
    assert "10%" in vote.reason and "error" in vote.reason


def test_feasibility_lets_a_promising_risk_pass() -> None:
    assert of(review("feasibility", make_situation(RUNS), fails=0.4)) == (Stance.APPROVE, 0.6)
    vote = review("feasibility", make_situation(RUNS), fails=0.7)
    assert vote.stance is Stance.APPROVE
    assert vote.evidence["worth"] == pytest.approx(0.3 * 0.977, abs=2e-3)


def test_feasibility_rejects_a_risk_for_nothing() -> None:
    stranger, situation = propose("local"), make_situation(RUNS)
    vote = review("feasibility", situation, stranger, fails=0.7, score=prediction(-3.0, 1.0))
    assert of(vote) == (Stance.REJECT, 0.7)
    assert review("feasibility", situation, stranger, fails=0.99).stance is Stance.REJECT


def test_the_explorer_may_take_a_risk() -> None:
    """It is asked where nothing else passes; without it a search that meets only risks would end."""
    vote = review("feasibility", make_situation(RUNS), propose("explorer"), fails=0.9, score=prediction(-3.0, 1.0))
    assert vote.stance is Stance.APPROVE and vote.confidence == pytest.approx(0.1)
    assert "asks for what is not known" in vote.reason


def test_guards_that_will_break_are_no_gain() -> None:
    vote = review("feasibility", make_situation(RUNS), propose("local"), fails=0.6, keeps_guards=0.01)
    assert vote.stance is Stance.REJECT


def test_a_study_in_which_everything_fails_goes_on() -> None:
    runs = [make_run(i, {"model.lr": 10.0**-i, "kind": "a"}, loss=None) for i in (1, 2, 3)]
    vote = review("feasibility", make_situation(runs, world=FakeWorld(usable=False)), fails=1.0, score=None)
    assert vote.stance is Stance.APPROVE
    assert vote.confidence > 0


def test_no_more_risk_than_usual_is_no_reason() -> None:
    failing = [make_run(10 + i, {"model.lr": 0.5 + i / 100, "kind": "a"}, loss=None) for i in range(27)]
    situation = make_situation([*RUNS, *failing])
    poor = {"score": prediction(-3.0, 1.0)}
    assert review("feasibility", situation, propose("local"), fails=0.8, **poor).stance is Stance.APPROVE
    assert review("feasibility", situation, propose("local"), fails=0.95, **poor).stance is Stance.REJECT


def test_learned_constraints_reject_as_far_as_their_evidence_goes() -> None:
    inside = {"model.lr": {"min": 0.02}}
    for failed, survived, bound, expected in ((10, 0, 0.72, 0.44), (30, 1, 0.84, 0.68), (100, 0, 0.96, 0.92)):
        situation = make_situation(RUNS, constraints=(learned(failed, survived, bound, **inside),))
        vote = review("feasibility", situation, fails=0.05)
        assert vote.stance is Stance.REJECT
        assert vote.confidence == pytest.approx(expected)
        assert vote.evidence["constraint"] == "hot"
        assert vote.evidence["support"] == failed + survived
        assert vote.evidence["failed"] == [f"f{i}" for i in range(5)]
        assert "'hot'" in vote.reason and f"{failed} of {failed + survived}" in vote.reason
    outside = propose(values={"model.lr": 0.001, "kind": "a"})
    assert review("feasibility", situation, outside).stance is Stance.APPROVE


def test_a_region_that_fails_every_other_time_is_no_reason() -> None:
    situation = make_situation(RUNS, constraints=(learned(3, 1, 0.3, **{"model.lr": {"min": 0.02}}),))
    assert review("feasibility", situation, fails=0.4).stance is Stance.APPROVE


def test_a_repeat_of_what_ran_is_feasible() -> None:
    situation = make_situation(RUNS, constraints=(learned(100, 1, 0.9, **{"model.lr": {"min": 0.02}}),))
    repeat = propose("repeat", {"model.lr": 0.1, "kind": "a"}, repeats="r1")
    assert review("feasibility", situation, repeat).stance is Stance.APPROVE


# ---------------------------------------------------------------- cost


def timed(**budget: Any) -> Situation:
    return make_situation(RUNS, study=make_study(budget=budget))


def test_cost_is_quiet_without_a_forecast_or_a_limit() -> None:
    assert review("cost", timed(wall_time=1000)).stance is Stance.ABSTAIN
    assert review("cost", timed(runs=100), cost=10.0).stance is Stance.ABSTAIN


def test_what_is_left() -> None:
    assert seconds_left(timed(wall_time=100)) == 70.0
    assert seconds_left(timed(wall_time=100, concurrent=3)) == 90.0
    assert seconds_left(timed(wall_time=10)) == 0.0
    assert seconds_left(timed(runs=10)) is None


def test_cost_against_limits() -> None:
    vote = review("cost", timed(wall_time=1000, run_time=60), cost=10.0)
    assert vote.stance is Stance.APPROVE
    assert vote.confidence > 0.99
    vote = review("cost", timed(wall_time=1000, run_time=60), cost=90.0)
    assert vote.stance is Stance.REJECT
    assert vote.confidence > 0.99
    assert (vote.evidence["seconds"], vote.evidence["limit"]) == (90.0, 60.0)
    vote = review("cost", timed(wall_time=100), cost=75.0)
    assert (vote.stance, vote.evidence["left"]) == (Stance.REJECT, 70.0)
    assert 0.5 < vote.confidence < 1
    assert review("cost", timed(wall_time=30), cost=1.0).stance is Stance.REJECT


def test_cost_wants_something_cheaper_than_most_of_what_is_left() -> None:
    vote = review("cost", timed(wall_time=100), cost=40.0)
    assert vote.stance is Stance.REVISE
    assert "runs typically take 10 s" in vote.reason
    assert review("cost", timed(wall_time=100, runs=4), cost=40.0).stance is Stance.APPROVE  # the last one


# ---------------------------------------------------------------- novelty


def test_novelty_of_new_and_equal_configs() -> None:
    assert of(review("novelty", make_situation())) == (Stance.APPROVE, 1.0)
    assert review("novelty", make_situation(RUNS)).stance is Stance.APPROVE
    vote = review("novelty", make_situation(RUNS), propose(values={"model.lr": 0.01, "kind": "a"}))
    assert of(vote) == (Stance.REJECT, 1.0)
    assert vote.evidence == {"run": "r2"}


def near(proposer: str = "bayesian") -> Proposal:
    return propose(proposer, {"model.lr": 0.0102, "kind": "a"})


def test_a_near_copy_of_a_good_run_is_a_refinement() -> None:
    vote = review("novelty", make_situation(RUNS), near())
    assert of(vote) == (Stance.APPROVE, 0.5)
    assert vote.evidence["run"] == "r2"
    assert vote.evidence["largest_difference"] == pytest.approx(math.log10(1.02) / 4)
    assert review("novelty", make_situation(RUNS), near("explorer")).stance is Stance.REVISE


def test_a_near_copy_of_a_failure_is_rejected_unless_it_was_chance() -> None:
    failed = make_run(2, {"model.lr": 0.01, "kind": "a"}, loss=None)
    vote = review("novelty", make_situation([failed]), near())
    assert vote.stance is Stance.REJECT
    assert vote.evidence["failed"] == ["r2"]
    other = propose(values={"model.lr": 0.0102, "kind": "b", "n": 3})
    assert review("novelty", make_situation([failed]), other).stance is Stance.APPROVE
    for kind in FailureKind:
        one = replace(failed, failure=Failure(kind=kind, message=""))
        rejected = review("novelty", make_situation([one]), near()).stance is Stance.REJECT
        assert rejected is (kind not in (FailureKind.KILLED, FailureKind.LOST, FailureKind.PREEMPTED))
    survivor = make_run(3, {"model.lr": 0.0099, "kind": "a"})
    assert review("novelty", make_situation([failed, survivor]), near()).stance is Stance.APPROVE


def test_another_category_is_a_range_away() -> None:
    """And so is a parameter that is active in one of the two."""
    run = make_run(1, {"model.lr": 0.01, "kind": "b", "n": 500})
    (found,) = neighbours(make_situation([run]), {"model.lr": 0.1, "kind": "a"})
    assert (found.largest, found.mean) == (1.0, pytest.approx((0.25 + 1 + 1) / 3))
    (found,) = neighbours(make_situation([run]), {"model.lr": 0.1, "kind": "b", "n": 500})
    assert (found.largest, found.mean) == (pytest.approx(0.25), pytest.approx(0.25 / 3))


def test_a_cancelled_run_and_a_foreign_one_are_not_near() -> None:
    cancelled = make_run(1, {"model.lr": 0.01, "kind": "a"}, loss=None, status=Status.CANCELLED, failure=None)
    foreign = make_run(2, {"model.lr": 17.0, "kind": "z"}, loss=None)
    assert "nothing" in review("novelty", make_situation([cancelled, foreign]), near()).reason


def test_what_was_decided_in_this_cycle_is_near() -> None:
    decided = make_decision(4, {"model": {"lr": 0.0101}, "kind": "a"})
    rejected = make_decision(5, {}, run_id=None)
    vote = review("novelty", replace(make_situation(RUNS), decided=(decided, rejected)), near())
    assert vote.evidence["run"] == "d4"


def test_repeats_end_when_the_seeds_are_used_up() -> None:
    config = {"model.lr": 0.1, "kind": "a"}
    repeat = propose("repeat", config, repeats="r1")
    vote = review("novelty", make_situation(RUNS), repeat)
    assert of(vote) == (Stance.APPROVE, 1.0)
    assert vote.evidence["count"] == 1
    again = [make_run(i, config) for i in (4, 5)]
    vote = review("novelty", make_situation([*RUNS, *again]), repeat)
    assert of(vote) == (Stance.REJECT, 1.0)
    assert vote.evidence["runs"] == ["r1", "r4", "r5"]
    waiting = tuple(make_decision(i, nest(config), proposal=repeat) for i in (4, 5))
    assert review("novelty", replace(make_situation(RUNS), decided=waiting), repeat).stance is Stance.REJECT
    cancelled = [replace(run, status=Status.CANCELLED) for run in again]
    assert review("novelty", make_situation([*RUNS, *cancelled]), repeat).stance is Stance.APPROVE


def test_a_repeat_of_nothing_is_rejected() -> None:
    vote = review("novelty", make_situation(RUNS), propose("repeat", NEW, repeats="r1"))
    assert vote.stance is Stance.REJECT
    assert "r1" in vote.reason


# ---------------------------------------------------------------- hypothesis


def pattern(effect: float) -> Pattern:
    region = Region.model_validate({"model.lr": {"min": 0.02, "max": 0.05}})
    return Pattern(region=region, effect=effect, low=effect - 0.5, high=effect + 0.5, runs=("r1", "r2"))


def words(text: Any, proposer: str = "language_model") -> Proposal:
    return propose(proposer, NEW, evidence={"hypothesis": text})


def test_hypothesis_is_quiet_without_words() -> None:
    for text in (None, "", "  ", 3, ["raise lr"]):
        assert review("hypothesis", make_situation(RUNS), words(text)).stance is Stance.ABSTAIN


@pytest.mark.parametrize("text", ["Raise lr: loss falls", "a higher LR", "model.lr matters for loss"])
def test_hypothesis_approves_words_that_say_something(text: str) -> None:
    assert of(review("hypothesis", make_situation(RUNS), words(text))) == (Stance.APPROVE, 0.6)


def test_hypothesis_takes_the_reason_where_an_effect_is_expected() -> None:
    proposal = propose("language_model", NEW, evidence={"expects": "loss falls"})
    assert (
        review("hypothesis", make_situation(RUNS), replace(proposal, reason="lr"), score=None).stance is Stance.APPROVE
    )
    assert review("hypothesis", make_situation(RUNS), replace(proposal, reason="luck")).stance is Stance.REVISE


@pytest.mark.parametrize("text", ["lr is nice", "a lower loss", "kind b lowers the loss", "clr is higher"])
def test_hypothesis_wants_a_parameter_that_changes_and_a_direction(text: str) -> None:
    vote = review("hypothesis", make_situation(RUNS), words(text))
    assert vote.stance is Stance.REVISE


def test_hypothesis_against_the_patterns() -> None:
    text = "a lower lr lowers the loss"
    vote = review("hypothesis", make_situation(RUNS, patterns=(pattern(-2.0),)), words(text))
    assert vote.stance is Stance.REVISE
    assert vote.evidence["runs"] == ["r1", "r2"]
    assert "2" in vote.reason
    assert review("hypothesis", make_situation(RUNS, patterns=(pattern(2.0),)), words(text)).confidence == 0.8
    assert of(review("hypothesis", make_situation(RUNS, patterns=(pattern(0.1),)), words(text))) == (
        Stance.APPROVE,
        0.6,
    )
    vote = review("hypothesis", make_situation(RUNS, patterns=(pattern(-2.0),)), words(text, "ablation"))
    assert vote.stance is Stance.APPROVE  # it is there to measure the loss


# ---------------------------------------------------------------- all together


class Raises:
    name, weight = "novelty", 1.0

    def review(self, *args: Any) -> Vote:
        raise ZeroDivisionError("no luck")


@pytest.mark.parametrize(
    "change",
    [
        {"confidence": math.nan},
        {"confidence": 1.5},
        {"confidence": "high"},
        {"critic": "somebody"},
        {"stance": "approve!"},
        {"evidence": {"number": math.inf}},
        {"evidence": {"object": object()}},
    ],
)
def test_a_vote_that_cannot_be_counted_is_an_abstention_and_an_incident(change: dict[str, Any]) -> None:
    class Odd:
        name, weight = "novelty", 1.0

        def review(self, *args: Any) -> Vote:
            good = Vote(critic="novelty", stance=Stance.APPROVE, confidence=1.0, reason="")
            return replace(good, **change)

    situation = make_situation(RUNS)
    critics: Any = {**CRITICS, "novelty": Odd()}
    votes, (incident,) = review_all(critics, situation, propose(values=NEW), nest(NEW), make_forecast())
    (vote,) = [one for one in votes if one.critic == "novelty"]
    assert of(vote) == (Stance.ABSTAIN, 0.0)
    assert incident.agent == "novelty"
    assert incident.message in vote.reason


def test_a_critic_that_raises_stops_nobody() -> None:
    critics: Any = {**CRITICS, "novelty": Raises()}
    votes, (incident,) = review_all(critics, make_situation(RUNS), propose(values=NEW), nest(NEW), make_forecast())
    assert [vote.critic for vote in votes] == list(CRITICS)
    assert "ZeroDivisionError: no luck" in incident.message
    assert votes[3].stance is Stance.ABSTAIN


def test_votes_are_the_same_every_time_and_plain_json() -> None:
    study = make_study(budget={"wall_time": 1000, "run_time": 100})
    constraint = learned(9, 1, 0.6, **{"model.lr": {"min": 0.02}})
    make = lambda: make_situation(RUNS, study=study, constraints=(constraint,), patterns=(pattern(-2.0),))  # noqa: E731
    proposal, forecast = words("raise lr"), make_forecast(cost=10.0)
    first, second = (review_all(CRITICS, make(), proposal, nest(NEW), forecast) for _ in range(2))
    assert first == second
    assert not first[1]
    assert all(canonical(vote.evidence) for vote in first[0])


def panel(situation: Situation, proposal: Proposal, config: Mapping[str, Any], forecast: Forecast) -> Stance:
    votes, incidents = review_all(CRITICS, situation, proposal, config, forecast)
    assert not incidents
    weights = {name: critic.weight for name, critic in CRITICS.items()}
    return tally(votes, weights, situation.study.panel).stance


def test_the_panel_passes_what_is_sane_and_stops_what_is_not() -> None:
    first = make_situation(world=FakeWorld(usable=False))
    unknown = make_forecast(known=0, score=None, merit=None, fails=0.5)
    assert panel(first, propose("baseline"), first.config({}), unknown) is Stance.APPROVE
    assert panel(first, propose("explorer", NEW), nest(NEW), unknown) is Stance.APPROVE
    situation = make_situation(RUNS)
    assert panel(situation, propose(values=NEW), nest(NEW), make_forecast()) is Stance.APPROVE
    assert panel(situation, propose(values=NEW), nest(NEW), make_forecast(fails=0.4)) is Stance.APPROVE
    repeat = propose("repeat", flatten(RUNS[0].config), repeats="r1")
    assert panel(situation, repeat, RUNS[0].config, make_forecast()) is Stance.APPROVE
    hopeless = make_forecast(merit=-100.0, score=prediction(-50.0, 0.5))
    assert panel(situation, propose("local", NEW), nest(NEW), hopeless) is not Stance.APPROVE
    assert panel(situation, propose("local", NEW), nest(NEW), make_forecast(fails=0.99)) is not Stance.APPROVE
    assert panel(situation, propose(), RUNS[0].config, make_forecast()) is not Stance.APPROVE
    assert digest(RUNS[0].config) in situation.configs


# ---------------------------------------------------------------- with the real world model


def loss(values: Mapping[str, Any]) -> float | None:
    """Best at a learning rate of 0.03 and n of 30; fails above 0.1, and for b above n = 500."""
    if values["model.lr"] > 0.1 or values.get("n", 0) > 500:
        return None
    n = math.log10(values["n"] / 30) if "n" in values else 1.5
    return (math.log10(values["model.lr"]) + 1.5) ** 2 + n**2


def test_a_realistic_study() -> None:
    study, n = make_study(), 28
    space = make_situation(study=study).space
    runs: list[RunRecord] = []
    passed = Counter[str]()
    rng = np.random.default_rng(1)

    def look() -> Situation:
        trials, _ = trials_of(study, space, runs)
        return make_situation(runs, study=study, world=WorldModel.fit(study, space, trials))

    def judge(kind: str, situation: Situation, proposal: Proposal) -> None:
        config = situation.config(proposal.values)
        (forecast,) = situation.world.forecast([flatten(config)])
        passed[kind] += panel(situation, proposal, config, forecast) is Stance.APPROVE

    for number in range(1, n + 1):
        situation = look()
        if number <= 8:
            values = space.decode(rng.random(space.dimensions))
            judge("explorer", situation, propose("explorer", values))
        else:
            new = lambda one, now=situation: digest(now.config(one)) not in now.configs  # noqa: E731
            (found,) = situation.world.suggest(1, seed=[0, number], acceptable=new)
            values = dict(found.values)
            judge("bayesian", situation, propose("bayesian", values))
        runs.append(make_run(number, values, loss(values)))
    assert passed["explorer"] == 8
    assert passed["bayesian"] >= 0.95 * 20

    situation = look()
    assert 0 < situation.lessons.progress.failed < n / 2
    leader = situation.lessons.progress.best
    assert leader is not None
    judge("repeat", situation, propose("repeat", flatten(leader.config), repeats=leader.id))
    assert passed["repeat"] == 1
    judge("duplicate", situation, propose("bayesian", flatten(runs[3].config)))
    for failed in (flatten(run.config) for run in runs if run.failure):
        judge("infeasible", situation, propose("local", {**failed, "model.lr": 0.96 * failed["model.lr"]}))
    for rate in (1.3e-4, 2e-4, 3e-4):
        judge("hopeless", situation, propose("local", {"kind": "a", "model.lr": rate}))
    assert not passed["duplicate"] and not passed["infeasible"] and not passed["hopeless"]
