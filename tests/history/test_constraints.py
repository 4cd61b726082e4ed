"""What failures teach: planted regions are found, chance teaches nothing, contradictions are heard."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from history.histories import PARAMETERS, SPACE, STUDY, Values, history, make_run, make_study, random_values
from windlass.history.boxes import log_tail
from windlass.history.constraints import PURITY, learn_constraints, roundest, wilson_bound
from windlass.history.openness import left_open
from windlass.records.region import Constraint, Interval, Region
from windlass.records.run import EarlyStop, FailureKind, RunRecord, Status
from windlass.space.generate import ConfigGenerator
from windlass.space.space import Space

Rule = Callable[[Values], bool]
Fails = Callable[[Values, np.random.Generator], bool]

PLANTED: dict[str, Rule] = {
    "batch": lambda v: v["batch"] >= 90,
    "lr": lambda v: 1e-3 < v["lr"] < 2e-2,
    "opt": lambda v: v["opt"] in ("lion", "rms"),
    "bias": lambda v: v["bias"] is True,
    "augment": lambda v: "mix" in v["augment"],
    "tree.depth": lambda v: v.get("tree.depth", 0) >= 8,
    "batch width": lambda v: v["batch"] >= 70 and v["width"] >= 64,
    "lr opt": lambda v: v["lr"] > 0.01 and v["opt"] in ("adam", "rms"),
    "bias opt": lambda v: v["bias"] and v["opt"] in ("adam", "rms"),
    "augment opt": lambda v: "flip" in v["augment"] and v["opt"] in ("sgd", "lion"),
    "augment augment": lambda v: "flip" in v["augment"] and "mix" in v["augment"],
}


def rejects(learned: Any, values: Values) -> bool:
    return any(one.constraint.rejects(values) for one in learned)


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_region_is_found_and_nothing_beside_it(planted: str) -> None:
    rule = PLANTED[planted]
    runs = history(120, seed=3, fails=lambda values, rng: rule(values))
    learned, _ = learn_constraints(STUDY, SPACE, runs)
    assert {name for one in learned for name in one.constraint.region.root} == set(planted.split())
    test = random_values(500)
    truth = np.array([rule(values) for values in test])
    found = np.array([rejects(learned, values) for values in test])
    assert (found & truth).sum() >= 0.8 * truth.sum(), "most of the region"
    assert (found & ~truth).sum() <= 0.02 * len(test), "and hardly more"
    failed = {run.id for run in runs if run.failure}
    for one in learned:
        inside = {run.id for run in runs if one.constraint.rejects(run.params)}
        assert inside == {*one.failed, *one.survived} and set(one.failed) <= failed
        assert one.purity == 1.0 and one.kinds == {"error": len(one.failed)}
        assert one.bound == wilson_bound(len(one.failed), len(one.failed)) > 0.6
    ConfigGenerator(STUDY, [one.constraint for one in learned], SPACE)


def test_bounds_hug_the_failed_runs_and_read_well() -> None:
    runs = history(120, seed=3, fails=lambda values, rng: values["batch"] >= 90)
    (one,), _ = learn_constraints(STUDY, SPACE, runs)
    lowest = min(run.params["batch"] for run in runs if run.failure)
    assert one.constraint.name == f"learned: batch >= {lowest}"
    assert one.constraint.region.root == {"batch": Interval(min=lowest)}
    assert one.constraint.reason.startswith(f"{len(one.failed)} of {len(one.failed)} runs inside failed")
    runs = history(120, seed=3, fails=lambda values, rng: values["lr"] > 0.1)
    (one,), _ = learn_constraints(STUDY, SPACE, runs)
    end = one.constraint.region.root["lr"].min  # type: ignore[union-attr]
    assert max(run.params["lr"] for run in runs if not run.failure) < end
    assert end <= min(run.params["lr"] for run in runs if run.failure)


def test_an_interval_stays_closed_where_nothing_was_tried_beyond() -> None:
    space = Space.of(make_study(space={"x": {"type": "float", "low": 0, "high": 1}}))
    study = make_study(space={"x": {"type": "float", "low": 0, "high": 1}})
    tried = [*np.linspace(0.01, 0.4, 20), *np.linspace(0.5, 0.7, 12)]
    runs = [
        make_run(i, {"x": float(x)}, failure=FailureKind.DIVERGED if x > 0.45 else None)
        for i, x in enumerate(np.random.default_rng(1).permutation(tried), start=1)
    ]
    (one,), _ = learn_constraints(study, space, runs)
    assert one.constraint.region.root["x"] == Interval(min=0.5, max=0.7)
    assert one.constraint.name == "learned: 0.5 <= x <= 0.7"
    assert one.kinds == {"diverged": 12} and one.base_rate == 0.0


def test_two_causes_give_two_constraints_with_their_kinds() -> None:
    def fails(values: Values, rng: np.random.Generator) -> bool | FailureKind:
        if values["batch"] >= 64 and values["width"] >= 64:
            return FailureKind.OUT_OF_MEMORY
        return FailureKind.DIVERGED if values["lr"] > 0.1 else False

    learned, _ = learn_constraints(STUDY, SPACE, history(150, seed=1, fails=fails))
    assert {
        frozenset(one.constraint.region.root): max(one.kinds, key=lambda kind: one.kinds[kind]) for one in learned
    } == {
        frozenset({"batch", "width"}): "out_of_memory",
        frozenset({"lr"}): "diverged",
    }


@pytest.mark.parametrize("kind", [FailureKind.LOST, FailureKind.KILLED, FailureKind.PREEMPTED])
def test_lost_and_killed_runs_teach_nothing(kind: FailureKind) -> None:
    runs = history(100, seed=2, fails=lambda values, rng: kind if values["batch"] >= 64 else False)
    assert learn_constraints(STUDY, SPACE, runs) == ([], [])


def test_a_run_without_a_finite_metric_failed_and_one_stopped_early_did_not() -> None:
    runs = history(60, seed=2)
    worse = [make_run(run.number or 0, run.params, None) if run.params["batch"] >= 80 else run for run in runs]
    (one,), _ = learn_constraints(STUDY, SPACE, worse)
    assert list(one.constraint.region.root) == ["batch"] and set(one.kinds) == {"diverged"}
    stop = EarlyStop(metric="loss", step=3, value=9.0, rule="median", reason="worse than half")
    stopped = [
        make_run(run.number or 0, run.params, None, status=Status.STOPPED, stopped_early=stop)
        if run.params["batch"] >= 80
        else run
        for run in runs
    ]
    assert learn_constraints(STUDY, SPACE, stopped) == ([], [])


@pytest.mark.parametrize("runs, share", [(25, 0.5), (60, 0.3), (90, 0.2)])
def test_chance_teaches_nothing(runs: int, share: float) -> None:
    taught = sum(
        bool(learn_constraints(STUDY, SPACE, history(runs, seed=s, fails=lambda values, rng: rng.random() < share))[0])
        for s in range(67)
    )
    assert taught <= 1, "of 67 histories in which failures have nothing to do with the configs"


def test_a_search_that_settles_after_early_bad_luck_teaches_nothing() -> None:
    def early(numbers: Iterator[int]) -> Fails:
        return lambda values, rng: rng.random() < (0.4 if next(numbers) <= 20 else 0.03)

    taught = sum(
        bool(learn_constraints(STUDY, SPACE, history(120, seed=seed, fails=early(count(1)), searching=0.1))[0])
        for seed in range(40)
    )
    assert taught <= 1, "survivors crowd where the search settled; that is no evidence about the rest"


def test_a_machine_that_fails_for_a_while_teaches_nothing() -> None:
    def meanwhile(numbers: Iterator[int]) -> Fails:
        return lambda values, rng: 30 < next(numbers) <= 50

    taught = sum(
        bool(learn_constraints(STUDY, SPACE, history(120, seed=seed, fails=meanwhile(count(1)), searching=0.1))[0])
        for seed in range(20)
    )
    assert taught <= 1


def test_the_best_configs_are_never_forbidden() -> None:
    runs = history(100, seed=4, fails=lambda values, rng: values["batch"] >= 64)
    learned, _ = learn_constraints(STUDY, SPACE, runs)
    assert rejects(learned, {"batch": 120})
    found = next(run for run in runs if run.failure and run.params["batch"] > 100)
    best = make_run(found.number or 0, found.params, -100.0)
    changed = [best if run.id == found.id else run for run in runs]
    again, _ = learn_constraints(STUDY, SPACE, changed)
    assert not rejects(again, best.params)


def test_a_contradicted_constraint_expires_and_says_by_whom() -> None:
    early = history(60, seed=5, fails=lambda values, rng: values["opt"] == "lion")
    (one,), expired = learn_constraints(STUDY, SPACE, early)
    assert one.constraint.name == "learned: opt = lion" and not expired
    fine = [values for values in random_values(200) if values["opt"] == "lion"][:6]
    later = [make_run(100 + i, values, -5.0) for i, values in enumerate(fine)]
    learned, (gone,) = learn_constraints(STUDY, SPACE, [*early, *later])
    assert not learned
    assert gone.constraint.name == "learned: opt = lion"
    assert "the first 50 runs taught it" in gone.reason
    assert "r0100, r0101, r0102, r0103, r0104" in gone.reason


def test_a_region_that_shrank_says_what_is_in_its_place() -> None:
    early = history(50, seed=6, fails=lambda values, rng: values["batch"] >= 60)
    later = history(150, seed=7, fails=lambda values, rng: values["batch"] >= 90)
    runs = [*early, *(make_run(50 + (r.number or 0), r.params, 0.0, r.failure and r.failure.kind) for r in later)]
    # what failed at 60 to 89 in the beginning works by now
    learned, expired = learn_constraints(STUDY, SPACE, runs)
    assert [list(one.constraint.region.root) for one in learned] == [["batch"]]
    (gone,) = expired
    assert "in its place: batch >=" in gone.reason


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(sorted(PLANTED)), st.floats(0, 0.3), st.randoms())
def test_invariants(seed: int, planted: str, flaky: float, shuffle: random.Random) -> None:
    runs = history(60, seed=seed, fails=lambda values, rng: PLANTED[planted](values) or rng.random() < flaky)
    learned, expired = learn_constraints(STUDY, SPACE, runs)
    for one in learned:
        assert len(one.failed) >= 6 and one.purity >= PURITY and one.bound > one.base_rate
        assert sum(one.kinds.values()) == len(one.failed)
        survivors = [run for run in runs if run.failure is None and one.constraint.rejects(run.params)]
        assert [run.id for run in survivors] == list(one.survived)
        assert (one.purity == 1.0) == (not survivors)
    assert len({one.constraint.name for one in learned}) == len(learned) <= 8
    shuffle.shuffle(runs)
    assert learn_constraints(STUDY, SPACE, runs) == (learned, expired)


def test_the_stratified_tail_is_the_hypergeometric_one_in_one_block() -> None:
    # 5 of 20 runs failed, a box holds 6 runs: all 5 failed ones (scipy.stats.hypergeom(20, 5, 6).sf(4) = 0.000387)
    assert np.exp(log_tail(5, [(20, 5, 6)])) == pytest.approx(6 / 15504, rel=1e-9)
    both = np.exp(log_tail(10, [(20, 5, 6), (20, 5, 6)]))
    assert both == pytest.approx((6 / 15504) ** 2, rel=1e-9)
    assert log_tail(0, [(20, 5, 6), (9, 0, 3)]) == pytest.approx(0.0, abs=1e-12)


@given(st.floats(1e-6, 1e6), st.floats(-1, 1))
def test_roundest_stays_between(value: float, share: float) -> None:
    limit = value + share * value
    found = roundest(value, limit)
    assert min(value, limit) <= found <= max(value, limit)


def test_roundest_takes_few_digits() -> None:
    assert roundest(0.09946, 0.0912) == 0.099
    assert roundest(0.0301, 0.0299) == 0.03
    assert roundest(0.7, 0.75) == 0.7
    assert roundest(-3.21, -3.4) == -3.3
    assert roundest(0.0, 0.5) == 0.0


# ---------------------------------------------------------------- is anything left


def region(**conditions: Any) -> Constraint:
    return Constraint(name=f"own {sorted(conditions)}", forbid=Region.model_validate(conditions))


def learned_from(rule: Rule) -> list[Any]:
    return learn_constraints(STUDY, SPACE, history(120, seed=3, fails=lambda values, rng: rule(values)))[0]


def test_left_open_keeps_what_leaves_enough() -> None:
    learned = learned_from(lambda v: v["batch"] >= 90 or v["lr"] > 0.1)
    kept, notes = left_open(STUDY, SPACE, learned, seed=1)
    assert {one.constraint.name for one in kept} == {one.constraint.name for one in learned} and not notes


def test_left_open_drops_the_weakest_first_and_says_so() -> None:
    strong, weak = sorted(
        [*learned_from(lambda v: v["batch"] >= 60), *learned_from(lambda v: v["opt"] == "lion")],
        key=lambda one: -one.bound,
    )
    closed = make_study(constraints=[{"name": "only lion", "allow": {"opt": "lion"}}])
    kept, notes = left_open(closed, Space.of(closed), [weak, strong], seed=1)
    assert weak.constraint.name == "learned: opt = lion"
    assert kept == [strong]
    assert len(notes) == 1 and "'learned: opt = lion' is not held" in notes[0] and "leaves 0 of" in notes[0]


def test_a_study_that_leaves_nothing_is_told_with_its_rules() -> None:
    closed = make_study(
        constraints=[
            {"name": "small", "allow": {"batch": {"max": 20}}},
            {"name": "large", "forbid": {"batch": {"max": 30}}},
        ]
    )
    learned = learned_from(lambda v: v["batch"] >= 90)
    kept, (note,) = left_open(closed, Space.of(closed), learned, seed=1)
    assert kept == learned
    assert "leave none of 1500 random configs" in note and "'small' rejects" in note and "'large' rejects" in note


def test_rules_that_are_met_by_moving_count_as_open() -> None:
    part = {"type": "float", "low": 0.1, "high": 0.8}
    study = make_study(space={"a": part, "b": part}, rules=["a + b == 1"])
    assert left_open(study, Space.of(study), [], seed=0) == ([], [])


def test_runs_outside_todays_space_are_left_out() -> None:
    runs = history(60, seed=3, fails=lambda values, rng: values["batch"] >= 90)
    smaller = make_study(space={**PARAMETERS, "batch": {"type": "int", "low": 8, "high": 64}})
    learned, _ = learn_constraints(smaller, Space.of(smaller), runs)
    assert not any("batch" in one.constraint.region.root for one in learned)


def test_no_runs_teach_nothing() -> None:
    assert learn_constraints(STUDY, SPACE, []) == ([], [])
    all_failed: list[RunRecord] = history(40, seed=1, fails=lambda values, rng: True)
    assert learn_constraints(STUDY, SPACE, all_failed) == ([], []), "nothing to hold them against"
