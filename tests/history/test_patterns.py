"""Which values matter: planted effects are found with honest intervals, noise has none."""

from __future__ import annotations

import random

import numpy as np

from history.histories import PARAMETERS, SPACE, STUDY, Values, history, make_run, make_study
from windlass.history.patterns import learn_patterns
from windlass.records.lessons import Pattern
from windlass.records.region import Contains, Interval, OneOf
from windlass.records.run import RunRecord
from windlass.space.space import Space


def score(values: Values) -> float:
    """Additive but for one pair: without bias, sgd does better by 1.5."""
    effect = 1.0 * (values["opt"] == "adam") - 1.0 * ("mix" in values["augment"]) + 0.8 * (values["lr"] < 5e-4)
    return float(effect + 1.5 * (not values["bias"] and values["opt"] == "sgd"))


def runs_of(count: int, seed: int) -> list[RunRecord]:
    return history(
        count, seed=seed, loss=lambda values: -score(values), noise=0.5, fails=lambda values, rng: rng.random() < 0.1
    )


#: what is planted, by the names of the region
TRUE = {
    ("opt", "adam"): 1.0 - 1.5 / 2 / 3,  # against the mean of the other three, one of which gains in half of its runs
    ("augment", "mix"): -1.0,
    ("lr", "low"): 0.8,
    ("bias", "opt"): 1.5,
}


def key(pattern: Pattern) -> tuple[str, ...] | None:
    match dict(pattern.region.root):
        case {"opt": OneOf(root=("adam",)), **rest} if not rest:
            return ("opt", "adam")
        case {"augment": Contains(contains=("mix",)), **rest} if not rest:
            return ("augment", "mix")
        case {"lr": Interval(min=None), **rest} if not rest:
            return ("lr", "low")
        case {"opt": OneOf(root=("sgd",)), "bias": OneOf(), **rest} if not rest:
            return ("bias", "opt")
    return None


def test_planted_effects_and_the_pair_are_found_with_intervals_that_cover() -> None:
    covered: dict[tuple[str, ...], list[bool]] = {name: [] for name in TRUE}
    strange = 0
    for seed in range(25):
        for pattern in learn_patterns(STUDY, SPACE, runs_of(200, seed)):
            strange += not set(pattern.region.root) <= {"opt", "augment", "lr", "bias"}
            if (name := key(pattern)) is not None:
                sign = -1 if pattern.region.root.get("bias") == OneOf((True,)) else 1
                covered[name].append(pattern.low <= sign * TRUE[name] <= pattern.high)
    assert strange <= 3, "parameters that do nothing, in 25 histories"
    assert all(len(found) >= 23 for found in covered.values()), "each is found in nearly every history"
    share = np.mean([one for found in covered.values() for one in found])
    assert 0.8 <= share <= 0.97, f"90 % intervals; {share:.3f}"


def test_noise_has_no_patterns() -> None:
    told = sum(
        bool(learn_patterns(STUDY, SPACE, history(count, seed=seed, loss=lambda values: 0.0)))
        for count in (15, 40, 80)
        for seed in range(30)
    )
    assert told <= 3, "of 90 histories"


def test_patterns_are_in_order_and_name_their_runs_best_first() -> None:
    runs = runs_of(150, 1)
    patterns = learn_patterns(STUDY, SPACE, runs)
    assert 3 <= len(patterns) <= 8
    assert [abs(one.effect) for one in patterns] == sorted((abs(one.effect) for one in patterns), reverse=True)
    by_id = {run.id: run for run in runs}
    for one in patterns:
        assert (one.low > 0 or one.high < 0) and one.low < one.effect < one.high
        losses = [by_id[run_id].values["loss"] for run_id in one.runs]
        assert losses == sorted(losses) and all(one.region.contains(by_id[run_id].params) for run_id in one.runs)


def test_the_effect_of_one_parameter_is_held_apart_from_another_that_goes_along() -> None:
    space = Space.of(study := make_study(space={name: PARAMETERS[name] for name in ("bias", "opt", "drop")}))
    blamed = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        runs = []
        for number in range(1, 121):
            bias = bool(rng.random() < 0.5)
            opt = "adam" if rng.random() < (0.85 if bias else 0.15) else "sgd"  # adam goes along with bias
            values = {"bias": bias, "opt": opt, "drop": float(rng.uniform(0, 0.8))}
            runs.append(make_run(number, values, -1.0 * (opt == "adam") + float(rng.normal(0, 0.3))))
        patterns = learn_patterns(study, space, runs)
        assert list(patterns[0].region.root) == ["opt"] and abs(abs(patterns[0].effect) - 1.0) < 0.3
        blamed += any("bias" in one.region.root for one in patterns)
    assert blamed <= 2, "bias does nothing"


def test_a_conditional_parameter_is_compared_where_it_is_active() -> None:
    runs = history(
        200,
        seed=2,
        loss=lambda values: 3.0 * (values["model"] == "tree") - 1.0 * (values.get("tree.depth", 0) >= 9),
        noise=0.3,
    )
    patterns = learn_patterns(STUDY, SPACE, runs)
    (deep,) = [one for one in patterns if one.region.contains({"tree.depth": 12})]
    assert 0.7 < deep.effect < 1.3 and "model" in patterns[0].region.root


def test_one_terrible_score_does_not_make_a_pattern() -> None:
    runs = history(60, seed=3, loss=lambda values: 0.0)
    worst = make_run(61, {**runs[0].params, "opt": "lion"}, 1e9)
    assert learn_patterns(STUDY, SPACE, [*runs, worst]) == learn_patterns(STUDY, SPACE, runs) == ()


def test_equal_scores_few_runs_and_any_order() -> None:
    assert learn_patterns(STUDY, SPACE, history(50, seed=1, loss=lambda values: 1.0, noise=0.0)) == ()
    assert learn_patterns(STUDY, SPACE, runs_of(9, 1)) == ()
    runs = runs_of(80, 1)
    shuffled = random.Random(1).sample(runs, len(runs))
    assert learn_patterns(STUDY, SPACE, shuffled) == learn_patterns(STUDY, SPACE, runs) != ()
