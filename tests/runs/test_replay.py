"""Verdicts of replays: bit-equal, within tolerance or drift, and never a pass without proof."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studyruns import diverged, make_run
from windlass.records.run import EarlyStop, Failure, FailureKind, MetricSummary, RunRecord, Status
from windlass.runs.folder import RunFolder
from windlass.runs.replay import ReplayVerdict, Reproduction, replay_verdict

NOWHERE = RunFolder(Path("/nonexistent/run"))
BIT_EQUAL, WITHIN, DRIFT = Reproduction.BIT_EQUAL, Reproduction.WITHIN_TOLERANCE, Reproduction.DRIFT


def ran(metrics: dict[str, float], **fields: Any) -> RunRecord:
    return make_run(1, metrics={name: MetricSummary.of(value) for name, value in metrics.items()}, **fields)


def judge(original: RunRecord, replayed: RunRecord, tolerance: float = 0.0) -> ReplayVerdict:
    return replay_verdict(original, replayed, NOWHERE, NOWHERE, tolerance)


@pytest.mark.parametrize(
    ("a", "b", "tolerance", "verdict"),
    [
        (0.1, 0.1, 0.0, BIT_EQUAL),
        (0.1, math.nextafter(0.1, 1), 0.0, DRIFT),
        (0.1, math.nextafter(0.1, 1), 1e-12, WITHIN),
        (1e9, 1e9 + 1, 1e-8, WITHIN),
        (1.0, 1.1, 1e-3, DRIFT),
        (0.0, -0.0, 0.0, WITHIN),
        (math.nan, math.nan, 0.0, BIT_EQUAL),
        (math.nan, 0.1, 1.0, DRIFT),
        (math.inf, math.inf, 0.0, BIT_EQUAL),
        (math.inf, 1e308, 1.0, DRIFT),
        (math.inf, -math.inf, 1.0, DRIFT),
    ],
)
def test_one_metric(a: float, b: float, tolerance: float, verdict: Reproduction) -> None:
    seen = judge(ran({"auc": a}), ran({"auc": b}), tolerance)
    assert seen.metrics[0].verdict is verdict and seen.overall is verdict
    assert seen.reproduced == (verdict is not DRIFT)


def test_the_worst_metric_decides_and_comes_first() -> None:
    seen = judge(ran({"a": 1.0, "b": 1.0, "c": 1.0}), ran({"a": 1.0, "b": 1.0 + 1e-12, "c": 2.0}), 1e-9)
    assert [(m.metric, m.verdict) for m in seen.metrics] == [("c", DRIFT), ("b", WITHIN), ("a", BIT_EQUAL)]
    assert seen.overall is DRIFT and "# Replay: drift" in seen.markdown()
    assert "| `c` | 1.0 | 2.0 | +1 | drift |" in seen.markdown()


@pytest.mark.parametrize("swap", [False, True])
def test_a_metric_that_one_side_lacks_is_drift(swap: bool) -> None:
    pair = (ran({"auc": 1.0, "loss": 1.0}), ran({"auc": 1.0}))
    seen = judge(*(pair[::-1] if swap else pair), tolerance=10)
    assert seen.metrics[0].metric == "loss" and seen.overall is DRIFT


def test_what_a_machine_measures_about_itself_is_left_out() -> None:
    seen = judge(
        ran({"auc": 1.0, "system/memory": 5.0, "fit_seconds": 1.0}),
        ran({"auc": 1.0, "system/cpu": 7.0, "fit_seconds": 2.0}),
    )
    assert [m.metric for m in seen.metrics] == ["auc"] and seen.overall is BIT_EQUAL


def test_nothing_to_compare_proves_nothing() -> None:
    seen = judge(ran({}), ran({}))
    assert seen.overall is DRIFT and seen.reasons == ("neither run has a metric to compare",)


def test_another_ending_is_drift_whatever_the_metrics_say() -> None:
    seen = judge(ran({"auc": 1.0}), ran({"auc": 1.0}, failure=diverged("NaN <b>")))
    assert seen.overall is DRIFT and "the original is completed, the replay failed (diverged)" in seen.reasons
    assert "NaN &lt;b&gt;" in seen.markdown()
    error = Failure(kind=FailureKind.ERROR, message="boom")
    assert judge(make_run(1, failure=diverged()), make_run(2, failure=error)).overall is DRIFT


def test_a_failure_that_comes_again_is_reproduced() -> None:
    first = make_run(1, failure=diverged())
    assert judge(first, replace(first, id="again")).overall is BIT_EQUAL


def stopped(folder: RunFolder, losses: list[float], **fields: Any) -> RunRecord:
    """A run that logged ``losses`` from step 1 on, and was then stopped early."""
    log(folder, losses)
    stop = EarlyStop(metric="loss", step=len(losses), value=losses[-1], rule="median", reason="worse than half")
    summary = MetricSummary(last=losses[-1], min=min(losses), max=max(losses), step=len(losses), count=len(losses))
    return make_run(1, status=Status.STOPPED, stopped_early=stop, metrics={"loss": summary}, **fields)


def log(folder: RunFolder, losses: list[float]) -> None:
    folder.path.mkdir()
    events = ({"time": 1.0, "step": step, "metrics": {"loss": loss}} for step, loss in enumerate(losses, start=1))
    folder.journal_file.write_text("".join(json.dumps(event) + "\n" for event in events))


@pytest.mark.parametrize(
    ("again", "verdict"),
    [
        ([5.0, 4.0, 0.5], BIT_EQUAL),
        ([5.0, 4.0 + 1e-12, 0.5], WITHIN),
        ([5.0, 3.0, 0.5], DRIFT),
        ([5.0], DRIFT),
    ],
)
def test_a_run_that_was_stopped_early_is_compared_where_it_stopped(
    tmp_path: Path, again: list[float], verdict: Reproduction
) -> None:
    folders = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    original = stopped(folders[0], [5.0, 4.0])
    log(folders[1], again)
    replayed = ran({"loss": 0.4, "auc": 0.9})
    seen = replay_verdict(original, replayed, *folders, tolerance=1e-9)
    assert (seen.overall, seen.reasons) == (verdict, ())
    assert [m.metric for m in seen.metrics] == ["loss"], "of what came later there is nothing to compare"
    assert "stopped early, at step 2" in seen.markdown()
    json.dumps(seen.to_dict(), allow_nan=False)


def test_a_stopped_run_whose_replay_fails_drifts(tmp_path: Path) -> None:
    folders = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    original = stopped(folders[0], [5.0, 4.0])
    log(folders[1], [5.0, 4.0])
    seen = replay_verdict(original, ran({"loss": 4.0}, failure=diverged()), *folders)
    assert seen.overall is DRIFT and seen.reasons[0] == "the original is stopped, the replay failed (diverged)"


def test_another_config_or_seed_is_no_replay() -> None:
    original = ran({"auc": 1.0})
    seen = judge(original, replace(original, seed=9, config={**original.config, "noise": -1.0}))
    assert seen.overall is DRIFT and seen.reasons == ("seeds differ: 0 and 9", "configs differ in noise")


def test_what_may_explain_a_drift_is_told(tmp_path: Path) -> None:
    folders = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    for folder, version in zip(folders, ("1.0", "2.0"), strict=True):
        folder.path.mkdir()
        folder.environment_file.write_text(json.dumps({"packages": {"numpy": version}, "host": "box"}))
    original = ran({"auc": 1.0}, fingerprints={"data": "d1"})
    seen = replay_verdict(original, ran({"auc": 2.0}, fingerprints={"data": "d2"}), *folders)
    assert [c.name for c in seen.environment] == ["data", "packages.numpy"]
    assert "| `packages.numpy` | `1.0` | `2.0` |" in seen.markdown()
    data = json.loads(json.dumps(seen.to_dict(), allow_nan=False))
    assert data["verdict"] == "drift" and data["metrics"][0] == {
        "metric": "auc", "original": 1.0, "replayed": 2.0, "verdict": "drift"
    }  # fmt: skip


metrics = st.dictionaries(st.sampled_from("abc"), st.floats(), min_size=1)


@given(metrics, metrics, st.floats(0, 1))
def test_verdicts_are_symmetric_and_reflexive(a: dict[str, float], b: dict[str, float], tolerance: float) -> None:
    assert judge(ran(a), ran(a), tolerance).overall is BIT_EQUAL
    there, back = judge(ran(a), ran(b), tolerance), judge(ran(b), ran(a), tolerance)
    assert there.overall is back.overall
    if there.reproduced:
        assert a.keys() == b.keys()
    json.dumps(there.to_dict(), allow_nan=False)
