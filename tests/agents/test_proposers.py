"""The proposers: valid, new, reasoned, the same to the bit; and each does what it is for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from proposing import MadeUpWorld, Suggestion, decision_of, drawn, loss, make_run, make_study, situation, stagnation
from windlass.agents.candidates import AT_LEAST
from windlass.agents.proposers import PROPOSERS, nearest_known
from windlass.agents.situation import Situation
from windlass.records.content import digest, flatten
from windlass.records.decision import Proposal
from windlass.records.lessons import Pattern
from windlass.records.region import Region
from windlass.records.run import RunRecord
from windlass.records.study import Study
from windlass.space.space import Space

INFORMED = ("bayesian", "local", "pattern", "ablation")
COMPLETE = {"baseline": {"kind": "a", "x": 0.5, "flags": [], "train": 0.5, "test": 0.5}}


def propose(name: str, now: Situation, count: int = 1) -> list[Proposal]:
    return PROPOSERS[name].propose(now, range(now.next_number, now.next_number + count))


def points(space: Space, proposals: Sequence[Proposal]) -> np.ndarray:
    return np.array([space.encode(p.values, fill=np.nan) for p in proposals])


def spread(space: Space, found: np.ndarray) -> float:
    """The smallest distance between any two."""
    return min(float(nearest_known(space, found[i : i + 1], np.delete(found, i, axis=0))[0]) for i in range(len(found)))


# ---------------------------------------------------------------- what holds for all of them


@pytest.mark.parametrize("name", ["explorer", *INFORMED])
@pytest.mark.parametrize("usable", [True, False])
def test_proposals_are_valid_new_reasoned_and_the_same_to_the_bit(name: str, usable: bool) -> None:
    runs = drawn(25)
    now = situation(runs, usable=usable)
    proposals = propose(name, now, 4)
    assert proposals == propose(name, situation(drawn(25), usable=usable), 4)
    assert len({digest(now.config(p.values)) for p in proposals}) == len(proposals)
    for proposal in proposals:
        assert now.acceptable(proposal.values)
        assert proposal.proposer == name and proposal.repeats is None
        assert any(letter.isdigit() for letter in proposal.reason), "a reason has numbers"
        assert any(letter.isdigit() for letter in str(proposal.evidence))
    assert len(proposals) == (0 if name == "bayesian" and not usable else 4)


@pytest.mark.parametrize("name", [*INFORMED, "repeat"])
def test_with_nothing_known_there_is_nothing_to_propose(name: str) -> None:
    assert propose(name, situation(), 3) == []
    failed = [make_run(i, flatten(run.config), None) for i, run in enumerate(drawn(8), start=1)]
    assert propose(name, situation(failed), 3) == []


@pytest.mark.parametrize("name", ["explorer", "bayesian", "local", "pattern"])
def test_another_number_or_seed_proposes_something_else(name: str) -> None:
    now = situation(drawn(25))
    (first,), (other,) = propose(name, now), propose(name, situation(drawn(25), make_study(seed=6)))
    assert first.values != other.values
    if name != "explorer":
        (later,) = PROPOSERS[name].propose(now, [now.next_number + 1])
        assert first.values != later.values


@pytest.mark.parametrize("name", ["local", "pattern"])
def test_the_candidate_of_the_highest_merit_is_taken(name: str) -> None:
    runs = drawn(25)
    (guided,) = propose(name, situation(runs))
    (blind,) = propose(name, situation(runs, usable=False))
    assert loss(guided.values) < loss(blind.values)
    assert guided.evidence["merit"] == pytest.approx(-loss(guided.values))


@pytest.mark.parametrize("name", ["local", "pattern"])
def test_the_slot_is_left_to_a_world_model_that_promises_clearly_more(name: str) -> None:
    now = situation(drawn(25))
    (proposal,) = propose(name, now)
    merit = proposal.evidence["merit"]
    assert proposal.evidence["suggested_merit"] <= merit - math.log(AT_LEAST)

    class Sure(MadeUpWorld):
        margin = 0.0

        def suggest(self, count: int, **options: Any) -> list[Suggestion]:
            return [Suggestion({}, merit + self.margin, "", {}) for _ in range(count)]

    sure = Sure(now.space, score=lambda values: -loss(values))
    assert propose(name, replace(now, world=sure)) != []
    Sure.margin = -math.log(AT_LEAST) - 1e-6
    assert propose(name, replace(now, world=sure)) != []
    Sure.margin = -math.log(AT_LEAST) + 1e-6
    assert propose(name, replace(now, world=sure)) == []


@pytest.mark.parametrize("name", ["local", "pattern", "ablation"])
def test_runs_of_an_earlier_space_are_no_parents(name: str) -> None:
    runs = drawn(12)
    foreign = make_run(13, {**flatten(runs[0].config), "x": 7.0}, -99.0)
    for proposal in propose(name, situation([*runs, foreign]), 3):
        assert foreign.id not in str(proposal)


# ---------------------------------------------------------------- baseline, explorer


def test_the_baseline_is_proposed_once() -> None:
    now = situation((), make_study(**COMPLETE))
    proposals = propose("baseline", now, 3)
    assert [p.values for p in proposals] == [{}] and proposals[0].evidence["values"]["x"] == 0.5
    assert propose("baseline", situation(drawn(3), make_study(**COMPLETE))) == []
    assert propose("baseline", situation()) == []


def test_explorer_covers_better_than_random_one_by_one_as_in_a_batch() -> None:
    study = make_study(rules=[], constraints=[])
    now = situation((), study)
    batch = propose("explorer", now, 24)
    random = [spread(now.space, points(now.space, _random(now, 24, seed))) for seed in range(20)]
    assert spread(now.space, points(now.space, batch)) > max(random)
    runs: list[RunRecord] = []
    for number in range(1, 9):
        (proposal,) = propose("explorer", situation(runs, study))
        assert proposal.values == batch[number - 1].values
        runs.append(make_run(number, proposal.values, 1.0))


def test_a_study_without_a_complete_baseline_begins_in_the_middle() -> None:
    study = make_study(rules=[], constraints=[])
    (first,) = propose("explorer", situation((), study))
    assert first.values["x"] == situation((), study).space.decode([0.5] * situation((), study).space.dimensions)["x"]
    assert "middle" in first.reason
    later = propose("explorer", situation([make_run(1, {**first.values, "x": 0.9}, 1.0)], study))
    with_baseline = propose("explorer", situation((), make_study(rules=[], constraints=[], **COMPLETE)))
    assert not any("middle" in proposal.reason for proposal in later + with_baseline)


def _random(now: Situation, count: int, seed: int) -> list[Proposal]:
    rng = np.random.default_rng(seed)
    drawings = (now.space.decode(rng.random(now.space.dimensions)) for _ in range(count))
    return [Proposal(values=values, proposer="random", reason="") for values in drawings]


def test_explorer_keeps_away_from_what_others_proposed() -> None:
    untouched = situation()
    first = propose("explorer", untouched)[0].values
    near = {**first, "x": first["x"] + 1e-3}
    runs = [make_run(1, near, 1.0)]
    now = situation(runs, decided=[decision_of(runs[0], "language_model")])
    (moved,) = propose("explorer", now)
    assert moved.values != first
    assert moved.evidence["distance"] > 0.1


def test_explorer_avoids_what_is_likely_to_fail() -> None:
    runs = [*drawn(6), make_run(7, flatten(drawn(7)[-1].config), None)]
    for risk, kind in ((0.9, "a"), (0.9, "b")):
        chance = lambda values, kind=kind, risk=risk: risk if values["kind"] == kind else 0.1  # noqa: E731
        proposals = propose("explorer", situation(runs, fails=chance), 6)
        assert kind not in {p.values["kind"] for p in proposals}
        assert all(p.evidence["fails"] == pytest.approx(0.1) and "10% likely to fail" in p.reason for p in proposals)


def test_explorer_prefers_the_safe_to_the_far() -> None:
    space = situation().space
    near = propose("explorer", situation())[0].values

    def chance(values: dict[str, Any]) -> float:
        return 0.1 if distance(values) < 0.3 else 0.9

    def distance(values: dict[str, Any]) -> float:
        points = [space.encode(one, fill=math.nan)[None] for one in (values, near)]
        return float(nearest_known(space, *points)[0])

    runs = [make_run(1, near, 1.0), make_run(2, near, None)]
    (proposal,) = propose("explorer", situation(runs, fails=chance))
    assert proposal.evidence["fails"] == pytest.approx(0.1)


def test_explorer_names_what_leaves_nothing() -> None:
    study = make_study(constraints=[{"name": "nothing", "forbid": {"x": {"min": -1}}}])
    now = situation((), study)
    (proposal,) = propose("explorer", now)
    assert proposal.values and not now.acceptable(proposal.values)
    assert "none of" in proposal.reason


def test_a_parameter_that_is_not_active_has_no_distance() -> None:
    space = Space.of(make_study())
    base = {"x": 0.0, "flags": ["p"], "train": 0.5, "test": 0.5}
    a, b, far = ({"kind": "a", **base}, {"kind": "b", "n": 1, **base}, {"kind": "b", "n": 1000, **base})
    encoded = [space.encode(values, fill=np.nan)[None] for values in (a, b, far)]
    assert nearest_known(space, encoded[0], encoded[1]) == nearest_known(space, encoded[0], encoded[2])
    assert nearest_known(space, encoded[1], encoded[2]) > 0.3
    assert nearest_known(space, encoded[0], np.vstack(encoded)) == 0


# ---------------------------------------------------------------- those that build on results


def test_bayesian_asks_for_the_whole_batch_at_once() -> None:
    now = situation(drawn(20))
    proposals = propose("bayesian", now, 3)
    assert len({p.values["x"] for p in proposals}) == 3
    assert [p.evidence["merit"] for p in proposals] == sorted((p.evidence["merit"] for p in proposals), reverse=True)
    assert proposals[0].reason == "best of 60" and proposals[0].evidence["results"] == 20


def test_local_steps_stay_near_and_keep_the_rest_to_the_bit() -> None:
    runs = drawn(40)
    by_id = {run.id: run.params for run in runs}
    for proposal in propose("local", situation(runs, usable=False), 30):
        (parent,) = (by_id[run_id] for run_id in proposal.evidence["parents"])
        moved = set(proposal.evidence["moved"])
        assert moved == {name for name, value in proposal.values.items() if parent.get(name) != value}
        if "train" not in moved:
            assert proposal.values["train"] == parent["train"]
        assert abs(proposal.values["x"] - parent["x"]) < 2 * 5 * proposal.evidence["width"]


def test_local_steps_improve_on_exploring() -> None:
    runs = drawn(20)
    best_drawn = min(loss(run.params) for run in drawn(60))
    for number in range(21, 61):
        (proposal,) = propose("local", situation(runs, usable=False))
        runs.append(make_run(number, proposal.values, loss(proposal.values)))
    assert min(loss(run.params) for run in runs) < best_drawn


def test_pattern_crosses_good_runs() -> None:
    runs = drawn(30)
    by_id = {run.id: run.params for run in runs}
    ranked = [standing.run.id for standing in situation(runs).lessons.progress.standings]
    for proposal in propose("pattern", situation(runs, usable=False), 10):
        first, second = (by_id[run_id] for run_id in proposal.evidence["parents"])
        assert first is not second and {ranked.index(i) for i in proposal.evidence["parents"]} <= set(range(6))
        for name in ("kind", "x", "flags"):
            assert proposal.values[name] in (first[name], second[name])


def test_pattern_takes_up_what_is_known_to_help_and_says_so() -> None:
    def learned(region: dict[str, object], low: float) -> Pattern:
        return Pattern(
            region=Region.model_validate(region), effect=low + 0.1, low=low, high=low + 0.2, runs=("r1", "r2")
        )

    wanted = learned({"x": {"min": -0.61, "max": -0.6}, "kind": "b"}, 0.5)
    unsure = learned({"x": {"min": 0.9}}, -0.1)
    lessons = {"patterns": (wanted, unsure)}
    proposals = propose("pattern", situation(drawn(30), lessons=lessons, score=lambda v: -abs(v["x"] + 0.605)), 5)
    for proposal in proposals:
        assert -0.61 <= proposal.values["x"] <= -0.6 and proposal.values["kind"] == "b"
        assert proposal.evidence["patterns"] == [{"parameters": ["x", "kind"], "effect": 0.6, "runs": ["r1", "r2"]}]
        assert "+0.6 (+0.5 to +0.7)" in proposal.reason


def test_ablation_takes_the_least_known_change_back() -> None:
    study = make_study(**COMPLETE)
    champion = {"kind": "b", "x": 0.3, "n": 30, "flags": ["p", "q"], "train": 0.5, "test": 0.5}
    runs = [*drawn(5), make_run(6, champion, -5.0)]

    def least_known(values: object) -> float:
        return 2.0 if values["flags"] == [] else 0.2  # type: ignore[index]

    now = situation(runs, study, sd=least_known)
    first, *rest = propose("ablation", now, 5)
    assert first.values == {**champion, "flags": []}
    assert first.evidence["champion"] == "r6" and first.evidence["parameter"] == "flags"
    assert first.evidence["from"] == ["p", "q"] and first.evidence["to"] == []
    assert "flags" in first.evidence["hypothesis"] and "lowers the score" in first.evidence["hypothesis"]
    # kind, x: n has no value in the baseline and goes to the middle of its range; train and test were not changed
    assert [p.evidence["parameter"] for p in rest] == ["kind", "x", "n"]


# ---------------------------------------------------------------- repeats


def close_race(gap: float, study: Study | None = None, noise_sd: float | None = 0.1) -> Situation:
    """Ten runs, the best two ``gap`` apart; the world model holds the scores for what they are."""
    runs = drawn(10)
    scores = {run.id: -1.0 - i / 10 for i, run in enumerate(runs)}
    scores |= {runs[4].id: 0.0, runs[7].id: -gap}
    runs = [make_run(i, run.params, -scores[run.id]) for i, run in enumerate(runs, start=1)]
    known = {digest(run.config): scores[run.id] for run in runs}
    now = situation(runs, study, noise_sd=noise_sd)
    score = lambda values: known[digest(now.config(values))]  # noqa: E731
    return situation(runs, study, noise_sd=noise_sd, score=score, sd=lambda values: 0.1)


def again(now: Situation, run: RunRecord, result: float | None) -> Situation:
    """The same after one more run of ``run``'s config."""
    number = now.next_number
    repeat = make_run(number, run.params, result)
    decided = [*now.decided, decision_of(repeat, "repeat", repeats=run.id)]
    world = now.world
    after = situation([*now.runs, repeat], now.study, decided=decided)
    return replace(after, world=world)


def test_a_close_race_is_run_again_with_its_numbers() -> None:
    now = close_race(0.02)
    (proposal,) = propose("repeat", now, 3)
    assert proposal.repeats in ("r5", "r8")
    assert proposal.values == now.runs[int(proposal.repeats[1:]) - 1].params
    assert proposal.evidence["leader"] == "r5" and proposal.evidence["rival"] == "r8"
    assert 0.4 < proposal.evidence["chance"] < 0.5
    assert "run 2 of at most 3" in proposal.reason and "noise of 0.1" in proposal.reason


def test_only_one_repeat_until_the_noise_is_measured() -> None:
    now = close_race(0.02)
    (first,) = propose("repeat", now, 3)
    run = next(run for run in now.runs if run.id == first.repeats)
    waiting = replace(now, decided=(*now.decided, decision_of(make_run(11, run.params, 0.0), "repeat", run.id)))
    assert propose("repeat", waiting) == []


def test_equal_repeats_end_it() -> None:
    now = close_race(0.0)
    (first,) = propose("repeat", now)
    run = next(run for run in now.runs if run.id == first.repeats)
    assert propose("repeat", again(now, run, run.values["loss"])) == []
    assert propose("repeat", again(now, run, run.values["loss"] + 0.1)) != []


def test_repeats_that_fail_end_it() -> None:
    now = close_race(0.0)
    for _ in range(2):
        (proposal,) = propose("repeat", now)
        now = again(now, next(run for run in now.runs if run.id == proposal.repeats), None)
    assert propose("repeat", now) == []


@pytest.mark.parametrize("noise_sd", [None, 0.0, 1e-6, float("nan")])
def test_noise_that_does_not_matter_is_not_looked_into(noise_sd: float | None) -> None:
    assert propose("repeat", close_race(0.0, noise_sd=noise_sd)) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_no_config_is_run_more_often_than_the_study_allows(limit: int) -> None:
    study, now = make_study(repeats=limit), close_race(0.0, make_study(repeats=limit))
    spent = 0
    while proposals := propose("repeat", now):
        run = next(run for run in now.runs if run.id == proposals[0].repeats)
        now = again(now, run, run.values["loss"] + (0.1 if spent % 2 else -0.1))
        spent += 1
    configs = [digest(run.config) for run in now.runs]
    assert max(map(configs.count, configs)) == limit
    assert study.repeats == limit


def test_a_closer_race_gets_more_repeats() -> None:
    def spent(gap: float) -> int:
        now, count = close_race(gap, make_study(repeats=6), noise_sd=0.1), 0
        while count < 30 and (proposals := propose("repeat", now)):
            run = next(run for run in now.runs if run.id == proposals[0].repeats)
            now = again(now, run, run.values["loss"] + (0.1 if count % 2 else -0.1))
            count += 1
        return count

    counts = [spent(gap) for gap in (0.0, 0.1, 0.6)]
    assert counts[0] > counts[1] >= counts[2] == 0


def test_a_lucky_champion_is_run_again() -> None:
    """The world model thinks little of the run that stands first, and is sure of it."""
    now = close_race(0.3)
    lucky = now.runs[4].config["x"]
    assert isinstance(now.world, MadeUpWorld)
    truth = now.world.score
    doubting = replace(now.world, score=lambda values: truth(values) - (values["x"] == lucky), sd=lambda values: 1e-3)
    (proposal,) = propose("repeat", replace(now, world=doubting))
    assert proposal.repeats == "r5" and proposal.evidence["leader"] == "r8"
    assert proposal.evidence["worth"] == pytest.approx(0.7)


def test_stagnation_is_no_reason_in_itself() -> None:
    now = close_race(0.9)
    assert propose("repeat", replace(now, lessons=replace(now.lessons, stagnation=stagnation()))) == []
