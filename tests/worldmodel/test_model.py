from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from windlass.records.forecast import Forecast
from windlass.records.study import Study
from windlass.space.space import Space
from windlass.worldmodel import Outcome, Suggestion, Trial, WorldModel, calibration, initial_points
from windlass.worldmodel.surrogate import learning_size
from worldmodel.problems import MIXED, PLANE, Values, bowl, draws, make_study, mixed_loss, trial, trials, wavy

STUDY = make_study()
SPACE = Space.of(STUDY)
TESTS = Path(__file__).parent.parent


def anything(values: Values) -> bool:
    return True


def suggest(model: WorldModel, count: int = 1, seed: int = 1) -> list[Suggestion]:
    return model.suggest(count, seed=[seed], acceptable=anything)


def use_everything(model: WorldModel, configs: list[dict[str, Any]]) -> list[Forecast]:
    """Every answer is there and finite, whatever the data."""
    forecasts = model.forecast(configs)
    assert np.isfinite(model.merit(configs)).all()
    model.expected_score(configs)
    model.recommend()
    assert model.noise_sd is None or math.isfinite(model.noise_sd)
    for one in forecasts:
        assert 0 <= one.fails <= 1
        assert sum(one.kinds.values()) == pytest.approx(one.fails if one.kinds else 0)
        for prediction in [*one.metrics.values(), *([one.score] if one.score else [])]:
            assert prediction.p5 <= prediction.p25 <= prediction.p50 <= prediction.p75 <= prediction.p95
            assert all(map(math.isfinite, (prediction.mean, prediction.sd, prediction.p5, prediction.p95)))
    return forecasts


# ---------------------------------------------------------------- bad data


def degenerate() -> dict[str, list[Trial]]:
    points = draws(SPACE, 12)
    return {
        "none": [],
        "one": [trial(0, points[0], loss=1.0)],
        "two": [trial(i, points[i], loss=float(i)) for i in range(2)],
        "equal": [trial(i, points[0], loss=2.0) for i in range(8)],
        "equal_configs": [trial(i, points[0], loss=float(i)) for i in range(8)],
        "equal_values": [trial(i, points[i], loss=-3.0) for i in range(8)],
        "all_failed": [trial(i, points[i], "error") for i in range(8)],
        "one_ran": [trial(i, points[i], "timeout" if i else None, loss=1.0) for i in range(8)],
        "constant_column": [trial(i, {**points[i], "x": 0.5}, loss=points[i]["y"]) for i in range(8)],
        "huge": [trial(i, points[i], loss=10.0 ** (i * 20)) for i in range(12)],
        "tiny": [trial(i, points[i], loss=1e-200 * i) for i in range(12)],
        "one_outlier": [trial(i, points[i], loss=1e30 if i == 5 else points[i]["x"]) for i in range(12)],
    }


@pytest.mark.parametrize("data", degenerate())
def test_degenerate_data_never_break_it(data: str) -> None:
    model = WorldModel.fit(STUDY, SPACE, degenerate()[data], pending=draws(SPACE, 2, seed=5))
    found = suggest(model, 2)
    assert len(found) == 2 and found[0].values != found[1].values
    use_everything(model, [one.values for one in found])


def test_without_results_it_says_that_it_knows_nothing() -> None:
    model = WorldModel.fit(STUDY, SPACE, [])
    (forecast,) = model.forecast(draws(SPACE, 1))
    assert (model.usable, model.noise_sd, model.recommend()) == (False, None, None)
    assert (forecast.known, forecast.metrics, forecast.score, forecast.cost_s) == (0, {}, None, None)
    assert np.isnan(model.expected_score(draws(SPACE, 1))[0]).all()


def test_nothing_acceptable_gives_nothing() -> None:
    model = WorldModel.fit(STUDY, SPACE, trials(SPACE, 10))
    assert model.suggest(3, seed=[1], acceptable=lambda values: False) == []


def test_only_acceptable_and_different_configs_are_suggested() -> None:
    model = WorldModel.fit(STUDY, SPACE, trials(SPACE, 15))
    found = model.suggest(4, seed=[1], acceptable=lambda values: values["x"] > 0.6)
    assert len(found) == 4
    assert all(one.values["x"] > 0.6 for one in found)
    assert len({json.dumps(one.values) for one in found}) == 4


def test_pending_configs_that_no_longer_fit_are_passed_over() -> None:
    pending = [{"x": 7.0, "y": 0.5}, {"x": 0.5}]
    assert suggest(WorldModel.fit(STUDY, SPACE, trials(SPACE, 6), pending))


# ---------------------------------------------------------------- the same again


def fingerprint() -> str:
    space = Space.of(make_study(MIXED))
    told = trials(space, 25, mixed_loss)
    told[3] = trial(3, told[3].values, "error")
    model = WorldModel.fit(make_study(MIXED), space, told, draws(space, 2, seed=9))
    found = suggest(model, 2)
    answers = [[one.values, one.merit.hex(), one.reason] for one in found]
    forecasts = [forecast.score.mean.hex() for forecast in model.forecast([s.values for s in found]) if forecast.score]
    return json.dumps([answers, forecasts])


def test_the_same_data_give_the_same_suggestions_to_the_bit() -> None:
    """In this process, with its caches, and in fresh ones without."""
    here = [fingerprint(), fingerprint()]
    lines = (
        "import sys",
        "sys.path.insert(0, sys.argv[1])",
        "from worldmodel.test_model import fingerprint",
        "print(fingerprint())",
    )
    command = [sys.executable, "-c", "; ".join(lines), str(TESTS)]
    fresh = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert {*here, fresh} == {here[0]}


def test_seeds_lead_to_different_searches() -> None:
    model = WorldModel.fit(STUDY, SPACE, [])
    assert suggest(model, seed=1)[0].values != suggest(model, seed=2)[0].values


def test_what_hyper_parameters_are_learned_on_is_a_schedule_of_counts() -> None:
    sizes = [learning_size(count) for count in range(1, 1001)]
    assert sizes[:100] == list(range(1, 101))
    assert sizes == sorted(sizes)
    assert all(0.95 * count <= size <= count for count, size in enumerate(sizes, start=1))
    assert len(set(sizes[100:])) < 60


# ---------------------------------------------------------------- forecasts


def test_forecasts_cover_what_comes() -> None:
    rng = np.random.default_rng(1)

    def noisy(values: Values) -> float:
        return bowl(values) + float(rng.normal(0, 0.1))

    model = WorldModel.fit(STUDY, SPACE, trials(SPACE, 60, noisy))
    unseen = draws(SPACE, 400, seed=7)
    outcomes = [Outcome(failed=False, metrics={"loss": value}, score=-value) for value in map(noisy, unseen)]
    found = calibration(zip(model.forecast(unseen), outcomes, strict=True))
    assert found.metrics["loss"].share90 == pytest.approx(0.9, abs=0.07)
    assert found.metrics["loss"].share50 == pytest.approx(0.5, abs=0.15)
    assert found.score.within90 == found.metrics["loss"].within90
    assert model.noise_sd == pytest.approx(0.1, rel=0.4)


def test_long_tails_are_covered_too() -> None:
    rng = np.random.default_rng(1)

    def skewed(values: Values) -> float:
        return math.exp(3 * wavy(values) + float(rng.normal(0, 0.2)))

    model = WorldModel.fit(STUDY, SPACE, trials(SPACE, 60, skewed))
    unseen = draws(SPACE, 400, seed=7)
    outcomes = [Outcome(failed=False, metrics={"loss": value}) for value in map(skewed, unseen)]
    coverage = calibration(zip(model.forecast(unseen), outcomes, strict=True)).metrics["loss"]
    assert coverage.share90 == pytest.approx(0.9, abs=0.08)


def crashes(values: Values) -> str | None:
    if values["x"] + values["y"] > 1.2:
        return "out_of_memory"
    return "diverged" if values["x"] < 0.15 else None


def test_failure_forecasts_beat_the_base_rate_and_know_the_kind() -> None:
    told = [trial(i, v, crashes(v), loss=bowl(v)) for i, v in enumerate(draws(SPACE, 40))]
    model = WorldModel.fit(STUDY, SPACE, told)
    unseen = draws(SPACE, 300, seed=3)
    forecasts = model.forecast(unseen)
    failed = np.array([crashes(values) is not None for values in unseen])
    fails = np.array([one.fails for one in forecasts])
    rate = np.mean([one.failure is not None for one in told])
    assert np.mean((fails - failed) ** 2) < 0.5 * np.mean((rate - failed) ** 2)
    (memory, diverged) = model.forecast([{"x": 0.9, "y": 0.9}, {"x": 0.03, "y": 0.5}])
    assert memory.kinds["out_of_memory"] > 5 * memory.kinds["diverged"]
    assert diverged.kinds["diverged"] > diverged.kinds["out_of_memory"]


def test_cost_is_forecast_in_seconds() -> None:
    told = [
        Trial(run_id=str(i), values=v, metrics={"loss": bowl(v)}, cost_s=math.exp(4 * v["x"]))
        for i, v in enumerate(draws(SPACE, 30))
    ]
    low, high = WorldModel.fit(STUDY, SPACE, told).forecast([{"x": 0.1, "y": 0.5}, {"x": 0.9, "y": 0.5}])
    assert low.cost_s is not None and high.cost_s is not None
    assert low.cost_s.p50 == pytest.approx(math.exp(0.4), rel=0.2)
    assert high.cost_s.p50 == pytest.approx(math.exp(3.6), rel=0.2)


def test_per_second_prefers_cheap_configs() -> None:
    told = [
        Trial(run_id=str(i), values=v, metrics={"loss": v["y"]}, cost_s=math.exp(6 * v["x"]))
        for i, v in enumerate(draws(SPACE, 20))
    ]
    model = WorldModel.fit(STUDY, SPACE, told)
    (cheap,) = model.suggest(1, seed=[1], acceptable=anything, per_second=True)
    assert cheap.values["x"] < 0.2


def test_a_maximised_metric_is_not_taken_for_a_loss() -> None:
    study = make_study(PLANE, objectives=[{"metric": "gain", "direction": "maximize", "scale": 0.5}])
    told = [trial(i, v, gain=-bowl(v)) for i, v in enumerate(draws(SPACE, 25))]
    model = WorldModel.fit(study, SPACE, told)
    near, far = model.forecast([{"x": 0.3, "y": 0.7}, {"x": 0.9, "y": 0.1}])
    assert near.metrics["gain"].p50 == pytest.approx(0.0, abs=0.03)
    assert far.metrics["gain"].p50 == pytest.approx(-0.72, abs=0.1)
    assert near.score is not None and near.score.p50 == pytest.approx(near.metrics["gain"].p50 / 0.5)
    mean, _ = model.expected_score([{"x": 0.9, "y": 0.1}])
    assert mean[0] == pytest.approx(-1.44, abs=0.2)
    assert bowl(suggest(model)[0].values) < 0.05


# ---------------------------------------------------------------- suggestions


def test_pending_configs_are_not_suggested_again() -> None:
    told = trials(SPACE, 12)
    (first,) = suggest(WorldModel.fit(STUDY, SPACE, told))
    again = WorldModel.fit(STUDY, SPACE, told, [first.values])
    (second,) = suggest(again)
    distance = math.dist(list(first.values.values()), list(second.values.values()))
    assert distance > 0.003
    assert again.merit([first.values])[0] < WorldModel.fit(STUDY, SPACE, told).merit([first.values])[0] - 1


def test_guards_keep_suggestions_where_they_hold() -> None:
    study = make_study(PLANE, guards=[{"metric": "size", "max": 0.4}])
    told = [trial(i, v, loss=v["y"] - v["x"], size=v["x"]) for i, v in enumerate(draws(SPACE, 25))]
    model = WorldModel.fit(study, SPACE, told)
    inside, outside = model.forecast([{"x": 0.2, "y": 0.5}, {"x": 0.6, "y": 0.5}])
    assert inside.keeps_guards > 0.9 and outside.keeps_guards < 0.1
    assert suggest(model)[0].values["x"] < 0.45
    best = model.recommend()
    assert best is not None and best.metrics["size"] <= 0.4


def test_failures_keep_suggestions_away() -> None:
    def fails(values: Values) -> bool:
        return values["x"] > 0.5  # the loss falls towards it

    told = [trial(i, v, "error" if fails(v) else None, loss=-v["x"]) for i, v in enumerate(draws(SPACE, 30))]
    model = WorldModel.fit(STUDY, SPACE, told)
    careless = WorldModel.fit(STUDY, SPACE, [one for one in told if one.failure is None])
    assert suggest(careless)[0].values["x"] > 0.8
    assert suggest(model)[0].values["x"] < 0.65


def test_partial_curves_count_for_less() -> None:
    told = trials(SPACE, 14)
    lucky = Trial(run_id="p", values={"x": 0.9, "y": 0.1}, metrics={"loss": -0.5}, extra_sd={"loss": 2.0}, cost_s=1.0)
    sure = Trial(run_id="p", values={"x": 0.9, "y": 0.1}, metrics={"loss": -0.5}, cost_s=1.0)
    unsure_mean = WorldModel.fit(STUDY, SPACE, [*told, lucky]).expected_score([lucky.values])[0][0]
    sure_mean = WorldModel.fit(STUDY, SPACE, [*told, sure]).expected_score([sure.values])[0][0]
    assert sure_mean > unsure_mean + 0.1


def test_a_lucky_repeat_is_not_recommended() -> None:
    rng = np.random.default_rng(2)
    told = [trial(i, v, loss=bowl(v) + float(rng.normal(0, 0.05))) for i, v in enumerate(draws(SPACE, 30))]
    good, bad = {"x": 0.3, "y": 0.7}, {"x": 0.8, "y": 0.2}
    told += [trial(40 + i, good, loss=float(rng.normal(0, 0.05))) for i in range(5)]
    told += [trial(50 + i, bad, loss=-0.12 if i == 0 else 0.5) for i in range(5)]
    best = WorldModel.fit(STUDY, SPACE, told).recommend()
    assert best is not None and bowl(best.values) < 0.1


def test_rules_hold_in_what_is_suggested() -> None:
    study = make_study(PLANE, rules=["x + y == 1"])
    space = Space.of(study)
    told = [trial(i, v, loss=(v["x"] - 0.2) ** 2) for i, v in enumerate(draws(space, 12))]
    for one in suggest(WorldModel.fit(study, space, told), 3):
        assert one.values["x"] + one.values["y"] == pytest.approx(1)


def test_conditions_hold_in_what_is_suggested() -> None:
    study = make_study(MIXED)
    space = Space.of(study)
    for one in suggest(WorldModel.fit(study, space, trials(space, 20, mixed_loss)), 5):
        assert one.values == space.active(one.values)


def two_goals(**changes: Any) -> Study:
    goals = [{"metric": name, "direction": "minimize"} for name in ("a", "b")]
    return make_study(PLANE, objectives=goals, **changes)


def test_two_objectives_spread_along_the_front() -> None:
    """a is least at x = 0, b at x = 1; the front is y = 0."""

    def told(i: int, v: Values) -> Trial:
        return trial(i, v, a=v["x"] ** 2 + v["y"], b=(1 - v["x"]) ** 2 + v["y"])

    history = [told(i, values) for i, values in enumerate(draws(SPACE, 10))]
    for number in range(10, 24):
        (one,) = suggest(WorldModel.fit(two_goals(), SPACE, history), seed=number)
        history.append(told(number, one.values))
    chosen = [one.values for one in history[14:]]
    assert np.mean([values["y"] < 0.1 for values in chosen]) > 0.6
    assert min(v["x"] for v in chosen) < 0.25 and max(v["x"] for v in chosen) > 0.7


def test_three_objectives_are_scalarised() -> None:
    goals = [{"metric": name, "direction": "minimize"} for name in ("a", "b", "c")]
    study = make_study(PLANE, objectives=goals)
    told = [trial(i, v, a=v["x"], b=1 - v["x"], c=v["y"]) for i, v in enumerate(draws(SPACE, 15))]
    found = suggest(WorldModel.fit(study, SPACE, told), 3)
    assert len(found) == 3
    assert np.mean([one.values["y"] for one in found]) < 0.3


def optimise(study: Study, of: Any, seed: int, runs: int) -> float:
    space = Space.of(study)
    history = trials(space, initial_points(space.dimensions), of, seed=seed)
    for number in range(len(history), runs):
        (one,) = suggest(WorldModel.fit(study, space, history), seed=number)
        history.append(trial(number, one.values, loss=of(one.values)))
    return min(one.metrics["loss"] for one in history)


def test_it_finds_better_configs_than_random_search() -> None:
    for seed in range(3):
        assert optimise(STUDY, wavy, seed, 18) < -1.22  # the minimum is -1.235; the best of 20 random draws -1.04
        study = make_study(MIXED)
        random = min(mixed_loss(values) for values in draws(Space.of(study), 200, seed=50 + seed))
        assert optimise(study, mixed_loss, seed, 30) <= random


def test_more_dimensions_want_more_first_results() -> None:
    sizes = [initial_points(d) for d in (1, 2, 6, 20, 200)]
    assert sizes == sorted(sizes)
    assert sizes[0] >= 3 and sizes[-1] <= 20
