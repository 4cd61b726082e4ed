"""The gate's measured error rates: the panels without and with skill, the table, resuming, and two processes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from windlass.errors import StudyError
from windlass.workloads.alpha.evaluation.timeline import LABEL
from windlass.workloads.alpha.selftest import (
    BLOCK,
    SLOW,
    Bench,
    Outcome,
    Rate,
    cases,
    measure,
    permuted,
    table,
)
from windlass.workloads.alpha.spec import Config, read_config
from windlass.workloads.alpha.synthetic import synthetic_panel


def config(**options: object) -> Config:
    walk = {"train": 60, "valid": 20, "test": 40, "embargo": 0, "warmup": 80}
    workload = {"idea": "momentum", "candidates": 8, "engine": "numpy", "walk": walk, **options}
    portfolio = {"adv_floor": 0, "neutralize": ["sector", "beta"]}
    return read_config({"workload": workload, "search": {"generation": 6}, "portfolio": portfolio})


@pytest.fixture(scope="module")
def panel():
    return synthetic_panel(40, 420, seed=3)


@pytest.fixture(scope="module")
def bench(panel) -> Bench:
    return Bench(panel, config(), seed=5)


@pytest.fixture(scope="module")
def whole(panel):
    told: list[Outcome] = []
    rows = measure(panel, config(), nulls=1, planted={0.05: 1, 0.3: 2}, seed=5, processes=1, on_campaign=told.append)
    return rows, told


def returns(days: int = 107, names: int = 4) -> np.ndarray:
    forward = np.random.default_rng(0).standard_normal((days, names)) + np.arange(names)
    forward[-LABEL:] = np.nan
    forward[:30, 1] = np.nan
    return forward


def test_permuted_days_stay_whole_and_with_their_neighbours() -> None:
    forward = returns()
    found = permuted(forward, np.random.default_rng(1), tilts=True)
    day = {row.tobytes(): number for number, row in enumerate(forward[:-LABEL])}
    order = np.array([day[row.tobytes()] for row in found[:-LABEL]])
    assert sorted(order) == list(range(105))
    assert (order != np.arange(105)).any()
    assert (np.diff(order) != 1).sum() < 105 / BLOCK + 1
    assert np.isnan(found[-LABEL:]).all()


def test_tilts_are_kept_or_removed() -> None:
    forward = returns()
    kept = permuted(forward, np.random.default_rng(1), tilts=True)
    removed = permuted(forward, np.random.default_rng(1), tilts=False)
    assert np.nanmean(kept, axis=0) == pytest.approx(np.nanmean(forward, axis=0))
    assert np.nanmean(removed, axis=0) == pytest.approx(np.zeros(4), abs=1e-12)
    assert (np.isnan(kept) == np.isnan(removed)).all()


def test_the_panel_it_permutes_is_left_alone() -> None:
    forward = returns()
    before = forward.copy()
    permuted(forward, np.random.default_rng(1), tilts=False)
    assert np.array_equal(forward, before, equal_nan=True)


def test_cases_take_turns() -> None:
    found = cases(2, {0.015: 1, 0.01: 2})
    assert [(c.kind, c.level, c.number) for c in found] == [
        ("null, tilts kept", 0.0, 0),
        ("null, tilts removed", 0.0, 0),
        ("planted", 0.01, 0),
        ("planted", 0.015, 0),
        ("null, tilts kept", 0.0, 1),
        ("null, tilts removed", 0.0, 1),
        ("planted", 0.01, 1),
    ]


def test_the_interval_is_wilsons() -> None:
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for count, of, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert Rate(count, of).interval == pytest.approx((low, high), abs=5e-5)
    assert Rate(1, 29).interval == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert Rate(0, 0).interval == (0.0, 1.0) and math.isnan(Rate(0, 0).value)
    assert str(Rate(1, 29)) == "3.4% (0.6% to 17.2%)"


def test_a_planted_factor_is_slow_and_has_the_level_that_was_asked_for(bench: Bench) -> None:
    factor = bench._factor(1, np.random.default_rng(0))
    held = bench._book(factor, bench.market).held
    assert 0 < np.abs(np.diff(held[bench.timeline.scored], axis=0)).sum(axis=1).mean() / 2 <= SLOW
    null = permuted(bench.market.forward, np.random.default_rng(1), tilts=True)
    planted = bench._planted(factor, null, 0.05)
    before = bench._ic(held, bench.market.with_forward(null))
    assert bench._ic(held, bench.market.with_forward(planted)) - before == pytest.approx(0.05, abs=1e-5)
    assert 0 < abs(before) < 0.03
    assert (np.isnan(planted) == np.isnan(null)).all()


def test_a_strong_factor_is_found_and_a_null_is_not(whole) -> None:
    rows, _ = whole
    by_kind = {(row.kind, row.level): row for row in rows}
    assert by_kind["planted", 0.3].promoted.count == 2
    assert by_kind["planted", 0.3].found.count == 2
    assert by_kind["null, tilts removed", 0.0].promoted.count == 0


def test_a_row_has_every_clause(whole) -> None:
    rows, told = whole
    assert [(row.kind, row.level, row.campaigns) for row in rows] == [
        ("null, tilts kept", 0.0, 1),
        ("null, tilts removed", 0.0, 1),
        ("planted", 0.05, 1),
        ("planted", 0.3, 2),
    ]
    for row in rows:
        clauses = {"max_t", "net", "timing", "correlation", "truncation", "placebo", "holdout_t", "holdout_net"}
        assert set(row.clauses) == clauses
        assert row.clauses["truncation"].value == 1.0
        assert row.grade_a.count <= row.promoted.count <= row.provisional.count
    assert len(told) == 5 and all(one.trials == 8 for one in told)


def test_a_campaign_is_the_same_each_time_and_alone(bench: Bench, whole) -> None:
    _, told = whole
    for one in told[:3]:
        assert bench.run(one.case).to_dict() == one.to_dict()


def test_finished_campaigns_are_not_run_again(panel, whole) -> None:
    rows, told = whole
    kept = [Outcome.from_dict(json.loads(json.dumps(one.to_dict()))) for one in told]
    assert kept == told
    again: list[Outcome] = []
    resumed = measure(
        panel,
        config(),
        nulls=1,
        planted={0.05: 1, 0.3: 2},
        seed=5,
        processes=1,
        finished=kept[1:],
        on_campaign=again.append,
    )
    assert resumed == rows
    assert again == told[:1]


def test_two_processes_give_the_same_table(panel, whole) -> None:
    _, told = whole
    found: list[Outcome] = []
    rows = measure(panel, config(), nulls=1, seed=5, processes=2, on_campaign=found.append)
    assert sorted(found, key=lambda one: one.case) == sorted(told[:2], key=lambda one: one.case)
    assert rows == table(told[:2])


def test_what_cannot_be_measured_is_refused(panel) -> None:
    with pytest.raises(StudyError, match="p1 promotes nothing"):
        measure(panel, config(mode="p1"), nulls=1)
    with pytest.raises(StudyError, match="no campaign"):
        measure(panel, config(), nulls=0)
