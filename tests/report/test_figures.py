"""The data of figures: what is drawn, before anything draws it."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studyruns import BEGAN, diverged, draw, make_run, make_study
from windlass.records.ranking import ranked
from windlass.records.run import MetricSummary, RunRecord, Status
from windlass.report.figures import (
    State,
    downsample,
    learning_curve,
    optimisation_history,
    run_points,
    sparkline,
    timeline,
    tradeoffs,
)
from windlass.report.parameters import OTHER, explained, parallel_coordinates, parameter_effects


def with_metrics(number: int, **values: float) -> RunRecord:
    return make_run(number, metrics={name: MetricSummary.of(value) for name, value in values.items()})


def test_best_so_far_takes_only_runs_that_count() -> None:
    study = make_study(guards=[{"metric": "size", "max": 10}])
    runs = [
        with_metrics(1, loss=3.0, size=1.0),
        with_metrics(2, loss=0.1, size=11.0),
        make_run(3, failure=diverged()),
        with_metrics(4, loss=math.inf, size=1.0),
        with_metrics(5, loss=2.0, size=1.0),
    ]
    history = optimisation_history(study, "loss", runs)
    assert [p.state for p in history.points] == [
        State.COMPLETED,
        State.GUARD_BROKEN,
        State.FAILED,
        State.COMPLETED,
        State.COMPLETED,
    ]
    np.testing.assert_array_equal(history.best, [3.0, 3.0, 3.0, 3.0, 2.0])
    np.testing.assert_array_equal(history.values, [3.0, 0.1, np.nan, np.nan, 2.0])
    assert [run.number for run in ranked(study, runs)] == [5, 1]


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=30), st.booleans())
def test_best_so_far_is_the_best_of_every_prefix(losses: list[float | None], maximize: bool) -> None:
    study = make_study(objectives=[{"metric": "loss", "direction": "maximize" if maximize else "minimize"}])
    runs = [
        make_run(i, {}, failure=diverged()) if loss is None else with_metrics(i, loss=loss)
        for i, loss in enumerate(losses, 1)
    ]
    history = optimisation_history(study, "loss", runs)
    for i in range(len(losses)):
        known = [loss for loss in losses[: i + 1] if loss is not None]
        if known:
            assert history.best[i] == (max(known) if maximize else min(known))
        else:
            assert math.isnan(history.best[i])


def test_runs_without_a_number_come_after_those_with_one() -> None:
    runs = [make_run(4), make_run(7), replace(make_run(8), number=None)]
    assert [point.number for point in run_points(make_study(), runs)] == [4, 7, 8]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=400), st.integers(1, 20))
def test_downsampling_keeps_spikes_ends_and_order(values: list[float], buckets: int) -> None:
    array = np.array(values)
    steps, kept = downsample(np.arange(len(array), dtype=float), array, buckets)
    assert len(kept) <= 2 * buckets + 2
    assert kept.min() == array.min() and kept.max() == array.max(), "no spike is lost"
    assert steps[0] == 0 and steps[-1] == len(array) - 1
    assert (np.diff(steps) > 0).all()
    np.testing.assert_array_equal(kept, array[steps.astype(int)])


def test_a_diverged_curve_ends_where_it_stopped_being_a_number() -> None:
    point = run_points(make_study(), [make_run(1, failure=diverged())])[0]
    curve = learning_curve(point, np.arange(5.0), np.array([1.0, 2.0, 4.0, np.inf, np.nan]))
    assert curve.diverged_at == 3.0
    np.testing.assert_array_equal(curve.values, [1.0, 2.0, 4.0])


def test_timeline_gives_every_run_a_slot_of_its_own_while_it_runs() -> None:
    runs = [
        make_run(1, started=BEGAN, ended=BEGAN + 10),
        make_run(2, started=BEGAN + 1, ended=BEGAN + 2),
        make_run(3, started=BEGAN + 2, ended=BEGAN + 4),
        make_run(4, started=BEGAN + 5, ended=None, status=Status.RUNNING),
        make_run(5, started=None, ended=None, status=Status.PENDING),
    ]
    data = timeline(make_study(), runs)
    assert [(bar.point.number, bar.slot) for bar in data.bars] == [(1, 0), (2, 1), (3, 1), (4, 1)]
    assert data.slots == 2
    assert data.bars[-1].open and data.bars[-1].end == BEGAN + 10, "a running bar ends at the last known moment"
    assert data.busy_share == pytest.approx((10 + 1 + 2 + 5) / 20)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), max_size=30))
def test_bars_of_one_slot_never_overlap(spans: list[tuple[float, float]]) -> None:
    runs = [
        make_run(i, {}, started=BEGAN + start, ended=BEGAN + start + length)
        for i, (start, length) in enumerate(spans, 1)
    ]
    data = timeline(make_study(), runs)
    assert len(data.bars) == len(spans)
    for slot in range(data.slots):
        bars = sorted((b for b in data.bars if b.slot == slot), key=lambda b: (b.start, b.end))
        assert all(first.end <= second.start for first, second in itertools.pairwise(bars))


def test_effects_find_what_matters_even_where_it_is_no_slope() -> None:
    runs = [make_run(i) for i in range(1, 121)]
    effects = {effect.name: effect for effect in parameter_effects(make_study(), runs)}
    assert next(iter(effects)) in ("linear.rate", "tree.depth")
    assert effects["linear.rate"].effect > 0.8, "a bowl over a log scale"  # type: ignore[operator]
    assert effects["tree.depth"].effect > 0.8  # type: ignore[operator]
    assert effects["noise"].effect < 0.15  # type: ignore[operator]
    assert effects["linear.rate"].kind == "log" and effects["model"].kind == "category"
    assert len(effects["linear.rate"].values) == sum("linear.rate" in run.params for run in runs), "only where active"


def test_a_parameter_that_never_varies_has_no_effect_and_no_axis() -> None:
    runs = [make_run(i, {**draw(i), "bias": True}) for i in range(1, 20)]
    assert "bias" not in {effect.name for effect in parameter_effects(make_study(), runs)}
    assert "bias" not in {axis.name for axis in parallel_coordinates(make_study(), runs).axes}


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), max_size=60), st.booleans())
def test_explained_is_a_share_or_unknown(pairs: list[tuple[float, float]], numeric: bool) -> None:
    values = [value if numeric else str(round(value / 50)) for value, _ in pairs]
    share = explained(values, np.array([outcome for _, outcome in pairs]), numeric=numeric)
    assert share is None or 0.0 <= share <= 1.0


def test_explained_equals_the_textbook_epsilon_squared() -> None:
    from scipy.stats import kruskal

    rng = np.random.default_rng(0)
    groups = rng.integers(0, 3, 40).astype(str).tolist()
    outcomes = rng.normal(size=40) + np.array([float(g) for g in groups])
    outcomes[:5] = outcomes[5:10]  # ties
    h = kruskal(*(outcomes[np.array(groups) == g] for g in sorted(set(groups)))).statistic
    assert explained(groups, outcomes, numeric=False) == pytest.approx((h - 3 + 1) / (40 - 3))


def test_parallel_coordinates_show_inactive_values_failures_and_every_kind_of_axis() -> None:
    runs = [*(make_run(i) for i in range(1, 40)), make_run(40, failure=diverged())]
    data = parallel_coordinates(make_study(), runs)
    kinds = {axis.name: axis.kind for axis in data.axes}
    assert kinds["linear.rate"] == "log" and kinds["tree.depth"] == "linear" and kinds["augment"] == "category"
    assert data.axes[-1].name == "loss"
    rate = [axis.name for axis in data.axes].index("linear.rate")
    for run, place in zip(runs, data.positions[:, rate], strict=True):
        assert math.isnan(place) == ("linear.rate" not in run.params)
        if "linear.rate" in run.params:
            assert place == pytest.approx((math.log10(run.params["linear.rate"]) + 4) / 4)
    assert math.isnan(data.rank[-1]) and math.isnan(data.positions[-1, -1]), "a failed run has no place"
    assert np.nanmin(data.rank) == 0.0 and np.nanmax(data.rank) == 1.0
    best = ranked(make_study(), runs)[0]
    assert data.rank[runs.index(best)] == 0.0


def test_too_many_runs_are_thinned_but_the_best_stay() -> None:
    runs = [make_run(i) for i in range(1, 201)]
    data = parallel_coordinates(make_study(), runs, limit=50)
    assert len(data.points) == 50 and data.left_out == 150
    shown = {point.id for point in data.points}
    assert {run.id for run in ranked(make_study(), runs)[:25]} <= shown
    assert make_run(200).id in shown or make_run(199).id in shown, "the rest is spread over the whole study"


def test_many_categories_end_in_other() -> None:
    choices = [f"c{i}" for i in range(40)]
    study = make_study(space={"kind": {"type": "categorical", "choices": choices}})
    runs = [make_run(i + 1, {"kind": choice}) for i, choice in enumerate(choices)]
    effect = parameter_effects(study, runs)[0]
    assert len(effect.levels) == 12 and effect.levels[-1] == OTHER
    assert effect.values.count(OTHER) == 29


def test_the_front_holds_what_no_other_run_beats_in_both() -> None:
    objectives = [{"metric": "loss", "direction": "minimize"}, {"metric": "auc", "direction": "maximize"}]
    study = make_study(objectives=objectives)
    pairs = [(1.0, 0.5), (2.0, 0.9), (3.0, 0.8), (0.5, 0.1), (1.0, 0.4)]
    runs = [with_metrics(i, loss=loss, auc=auc) for i, (loss, auc) in enumerate(pairs, 1)]
    (data,) = tradeoffs(study, runs)
    assert [data.points[i].number for i in data.front] == [4, 1, 2]
    assert tradeoffs(make_study(), runs) == ()


def test_sparkline() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([1.0, math.nan, 2.0]) == "▁ █"
    assert sparkline([5, 5]) == "▄▄" and sparkline([]) == "" and sparkline([math.nan]) == ""
    assert len(sparkline(range(1000), width=20)) == 20
