"""Comparing two runs: config, metrics, paired tests over real score files, surroundings."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, wilcoxon

from studyruns import diverged, make_run
from windlass.records.run import Artifact, MetricSummary, RunRecord
from windlass.runs.compare import Comparison, compare, metric_delta
from windlass.runs.differences import changes, environment_changes
from windlass.runs.folder import RunFolder
from windlass.runs.paired import paired_test


@pytest.fixture
def folders(tmp_path: Path) -> tuple[RunFolder, RunFolder]:
    for name in "ab":
        (tmp_path / name / "artifacts").mkdir(parents=True)
    return RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")


def scored(number: int, folder: RunFolder, table: pl.DataFrame | str, name: str = "scores.parquet") -> RunRecord:
    path = folder.artifacts / name
    if isinstance(table, str):
        path.write_text(table)
    elif name.endswith(".csv"):
        table.write_csv(path)
    else:
        table.write_parquet(path)
    return make_run(number, artifacts=(Artifact(name="scores", path=f"artifacts/{name}", kind="scores"),))


def both(folders: tuple[RunFolder, RunFolder], a: Any, b: Any, name: str = "scores.parquet") -> Comparison:
    return compare(scored(1, folders[0], a, name), scored(2, folders[1], b, name), *folders)


def test_config_metrics_and_verdicts(folders: tuple[RunFolder, RunFolder]) -> None:
    a = make_run(1, {"kind": "tree", "tree.depth": 3, "noise": 0.5, "n": 1}, metrics={
        "loss": MetricSummary.of(2.0), "auc": MetricSummary.of(0.5), "old": MetricSummary.of(1.0)
    })  # fmt: skip
    b = make_run(2, {"kind": "linear", "rate": 0.1, "noise": 0.5, "n": 1.0}, metrics={
        "loss": MetricSummary.of(1.5), "auc": MetricSummary.of(0.4), "new": MetricSummary.of(1.0)
    })  # fmt: skip
    seen = compare(a, b, *folders, {"loss": "minimize", "auc": "maximize"})
    assert [(c.name, c.kind, c.a, c.b) for c in seen.config] == [
        ("kind", "changed", "tree", "linear"),
        ("rate", "added", None, 0.1),
        ("tree.depth", "removed", 3, None),
    ]
    assert seen.equal_parameters == 2, "1 and 1.0 are equal"
    deltas = {d.metric: d for d in seen.metrics}
    assert [d.metric for d in seen.metrics] == ["auc", "loss", "new", "old"], "those with a direction first"
    assert deltas["loss"].verdict == "better" and deltas["loss"].difference == -0.5 and deltas["loss"].relative == -0.25
    assert deltas["auc"].verdict == "worse"
    assert deltas["new"].verdict == "only in B" and deltas["old"].verdict == "only in A"
    assert seen.notes == ("no paired test: neither run has per-example scores",)
    text = seen.markdown()
    assert "| `loss` | 2 | 1.5 | -0.5 | -25 % | better |" in text and "| `rate` | *absent* | `0.1` |" in text
    assert json.loads(json.dumps(seen.to_dict(), allow_nan=False))["metrics"][0]["metric"] == "auc"


@given(st.floats(), st.floats(), st.sampled_from(["maximize", "minimize", None]))
def test_deltas_never_say_nonsense(a: float, b: float, direction: Any) -> None:
    there, back = metric_delta("m", a, b, direction), metric_delta("m", b, a, direction)
    opposite = {"better": "worse", "worse": "better", "equal": "equal", "changed": "changed"}
    assert back.verdict == opposite[there.verdict]
    if math.isfinite(a) and not math.isfinite(b) and direction:
        assert there.verdict == "worse", "a value that is not finite is never an improvement"
    if direction and math.isfinite(a) and math.isfinite(b) and a != b:
        assert (there.verdict == "better") == ((b > a) == (direction == "maximize"))
    json.dumps(there.to_dict(), allow_nan=False)


def test_binary_scores_get_the_exact_mcnemar_test(folders: tuple[RunFolder, RunFolder]) -> None:
    a = [1] * 60 + [0] * 3 + [1] * 12 + [0] * 25
    b = [1] * 60 + [1] * 3 + [0] * 12 + [0] * 25
    frame = {"row": list(range(100))}
    seen = both(folders, pl.DataFrame({**frame, "accuracy": a}), pl.DataFrame({**frame, "accuracy": b}).reverse())
    (test,) = seen.paired
    assert test.test == "McNemar, exact" and test.n == 100
    assert (test.b_higher, test.a_higher, test.ties) == (3, 12, 85)
    assert test.p_value == pytest.approx(binomtest(3, 15, 0.5).pvalue)
    assert test.difference == pytest.approx(-0.09) and test.low < -0.09 < test.high < 0.0
    assert "McNemar, exact: p = 0.0352" in seen.markdown()


def test_real_scores_get_wilcoxon_and_a_bootstrap_interval(folders: tuple[RunFolder, RunFolder]) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=200)
    y = x - 0.2 + 0.3 * rng.normal(size=200)
    ids = [f"example {i}" for i in range(200)]
    frames = [pl.DataFrame({"id": ids, "log_loss": v, "name": ids}) for v in (x, y)]
    for name in ("scores.parquet", "scores.csv"):
        (test,) = both(folders, *frames, name=name).paired
        assert test.test == "Wilcoxon signed-rank" and test.p_value == pytest.approx(wilcoxon(y - x).pvalue)
        assert test.low < test.difference < test.high < 0
        half = 1.96 * (y - x).std(ddof=1) / math.sqrt(200)
        assert test.high - test.low == pytest.approx(2 * half, rel=0.1), "as wide as the normal interval"
    assert both(folders, *frames).to_dict() == both(folders, *frames).to_dict(), "seeded"


def test_rows_that_do_not_match_are_said(folders: tuple[RunFolder, RunFolder]) -> None:
    a = pl.DataFrame({"row": range(0, 80), "correct": [True] * 80})
    b = pl.DataFrame({"row": range(20, 110), "correct": [False] * 90})
    seen = both(folders, a, b)
    assert seen.paired[0].n == 60 and seen.paired[0].a_higher == 60
    assert seen.notes == ("scores: rows do not all match: 60 in both, 20 only in A, 30 only in B",)


@pytest.mark.parametrize(
    ("b", "note"),
    [
        (pl.DataFrame({"row": [7, 8], "s": [0.1, 0.2]}), "the runs scored different examples"),
        (pl.DataFrame({"row": [1, 1], "s": [0.1, 0.2]}), "rows repeat in column 'row'"),
        (pl.DataFrame({"row": ["1", "2"], "s": [0.1, 0.2]}), "rows are named by Int64 in A and by String in B"),
        (pl.DataFrame({"row": [1, 2], "other": [0.1, 0.2]}), "no numeric column in common"),
        (pl.DataFrame({"id": [1, 2], "s": [0.1, 0.2]}), "A names its rows in column 'row', B in 'id'"),
        ("this is no parquet", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_files_that_cannot_be_paired(folders: tuple[RunFolder, RunFolder], b: Any, note: str) -> None:
    seen = both(folders, pl.DataFrame({"row": [1, 2], "s": [0.5, 0.7]}), b)
    assert seen.paired == () and note in " ".join(seen.notes) and note in seen.markdown().replace("&#x27;", "'")


def test_a_missing_file_and_one_outside_of_the_run_are_notes(folders: tuple[RunFolder, RunFolder]) -> None:
    a = scored(1, folders[0], pl.DataFrame({"row": [1], "s": [0.5]}))
    gone = make_run(2, artifacts=(Artifact(name="scores", path="artifacts/gone.parquet", kind="scores"),))
    assert "cannot be read" in compare(a, gone, *folders).notes[0]
    outside = make_run(2, artifacts=(Artifact(name="scores", path="../a/artifacts/scores.parquet", kind="scores"),))
    assert "outside of the run folder" in compare(a, outside, *folders).notes[0]
    assert compare(a, make_run(2), *folders).notes == ("scores: only A has these scores",)


def test_scores_that_are_no_numbers_are_left_out_and_counted(folders: tuple[RunFolder, RunFolder]) -> None:
    a = pl.DataFrame({"row": [1, 2, 3, 4], "s": [0.1, math.nan, 0.3, None]})
    b = pl.DataFrame({"row": [1, 2, 3, 4], "s": [0.2, 0.2, 0.2, 0.2]})
    seen = both(folders, a, b)
    assert seen.paired[0].n == 2 and "2 pairs with a missing or infinite score left out" in seen.notes[0]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60))
def test_a_paired_test_counts_every_example_once(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    there, back = paired_test("s", a, b), paired_test("s", b, a)
    assert there.a_higher + there.b_higher + there.ties == there.n == len(pairs)
    assert there.p_value == pytest.approx(back.p_value) and 0 <= there.p_value <= 1
    assert there.difference == -back.difference and there.low <= there.high
    assert there.difference == pytest.approx((there.b_higher - there.a_higher) / there.n)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40))
def test_equal_scores_are_alike(scores: list[float]) -> None:
    array = np.array(scores)
    test = paired_test("s", array, array.copy())
    assert test.p_value == 1.0 and test.low == test.difference == test.high == 0.0


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        x = rng.normal(size=50)
        test = paired_test("s", x, x + 0.3 + rng.normal(size=50))
        covered += test.low <= 0.3 <= test.high
    assert 180 <= covered <= 198


def test_environments(folders: tuple[RunFolder, RunFolder]) -> None:
    a, b = folders
    assert environment_changes(a, b) == ()
    one = {"python": "3.11", "packages": {"numpy": "1.0", "scipy": "2"}, "git": {"commit": "a", "dirty": False}}
    two = {"python": "3.11", "packages": {"numpy": "2.0"}, "git": {"commit": "b", "dirty": True}, "argv": ["x"]}
    a.environment_file.write_text(json.dumps(one))
    assert [c.name for c in environment_changes(a, b)] == ["environment"], "not on record is not equal"
    b.environment_file.write_text(json.dumps(two))
    b.git_diff_file.write_text("diff")
    seen = {c.name: (c.a, c.b) for c in environment_changes(a, b)}
    assert seen.pop("git.diff")[1].startswith("sha256 ")
    assert seen == {
        "packages.numpy": ("1.0", "2.0"),
        "packages.scipy": ("2", None),
        "git.commit": ("a", "b"),
        "git.dirty": (False, True),
    }


def test_fingerprints_and_failures_are_shown(folders: tuple[RunFolder, RunFolder]) -> None:
    a = make_run(1, fingerprints={"data": "d1", "config": "c1"})
    b = make_run(2, fingerprints={"data": "d2", "config": "c2"}, failure=diverged("<b>boom</b>"))
    seen = compare(a, b, *folders)
    assert [c.name for c in seen.fingerprints] == ["data"], "the configs themselves are compared"
    assert "failed: diverged" in seen.markdown() and "| `data` | `d1` | `d2` |" in seen.markdown()
    assert seen.to_dict()["b"]["failure"] == "diverged"


keys = st.text("ab.", min_size=1, max_size=3)
values = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.floats(), st.text("xy", max_size=2))


@given(st.dictionaries(keys, values), st.dictionaries(keys, values))
def test_changes_turn_one_mapping_into_the_other(a: dict[str, Any], b: dict[str, Any]) -> None:
    made = dict(a)
    for change in changes(a, b):
        if change.kind == "removed":
            del made[change.name]
        else:
            made[change.name] = change.b
    assert changes(made, b) == () and changes(a, a) == ()
    assert len(changes(a, b)) == len(changes(b, a))


def test_what_counts_as_equal() -> None:
    assert changes({"n": 1, "x": math.nan}, {"n": 1.0, "x": math.nan}) == ()
    assert [c.name for c in changes({"n": 1}, {"n": True})] == ["n"], "a number is no switch"
