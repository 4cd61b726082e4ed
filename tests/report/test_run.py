"""A run's SUMMARY.md and REPORT.md, and runs as tables."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import polars as pl
from markdown_it import MarkdownIt

from studyruns import diverged, make_run
from windlass.records.run import Artifact, Failure, FailureKind, MetricSummary, RunSpec, Status
from windlass.report.run import run_report, run_summary
from windlass.report.tables import run_dict, runs_frame, runs_table
from windlass.runs.folder import RunFolder
from windlass.runs.journal import Journal
from windlass.runs.reader import summaries


def rendered(text: str) -> str:
    html: str = MarkdownIt("commonmark").enable("table").render(text)
    return html


def test_a_failed_run_tells_why_and_where_to_look(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.stderr_file.write_text("warning\nTraceback ...\n")
    trace = (
        "Traceback (most recent call last):\n" + "\n".join(f"  frame {i}" for i in range(100)) + "\nValueError: boom"
    )
    run = make_run(3, failure=Failure(kind=FailureKind.ERROR, message="ValueError: boom", traceback=trace))
    report = run_report(run, folder)
    assert "Failed (error): ValueError: boom" in report
    assert "frame 99" in report and "frame 10\n" not in report and "lines above" in report
    assert f"tail -n 50 {folder.stderr_file}" in report
    summary = run_summary(run, folder)
    assert "**Failed: error.** ValueError: boom" in summary and "No metric on record." in summary
    assert f"Next: `tail -n 50 {folder.stderr_file}`" in summary


def test_metrics_with_their_course_from_the_journal(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    journal = Journal(folder.journal_file)
    for step in range(100):
        journal.metrics({"loss": 1 / (1 + step)}, step)
    journal.close()
    run = make_run(1, metrics={**summaries(folder), "final": MetricSummary.of(math.nan)})
    report = run_report(run, folder)
    assert "| `loss` | 0.01 | 0.01 | 1 | 99 | 100 | █" in report
    assert "| `final` | NaN |" in report
    assert "| `loss` | 0.01 |" in run_summary(run, folder)


def test_artifacts_environment_lineage_and_next_commands(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    environment = {
        "host": "box",
        "platform": "Linux",
        "cpu_count": 8,
        "python": "3.11.7",
        "packages": {"numpy": "2.0", "scipy": "1.0"},
        "git": {"commit": "0123456789abcdef", "branch": "main", "dirty": True},
        "argv": ["train.py", "--rate", "0 1"],
    }
    folder.environment_file.write_text(json.dumps(environment))
    original = make_run(1)
    run = make_run(
        2,
        artifacts=(Artifact(name="model", path="checkpoint/model.skops", kind="model", bytes=2048, sha256="ab" * 32),),
        lineage={"replay_of": original.id},
        notes=("the data had <2> gaps",),
    )
    report = run_report(run, folder)
    assert "| `model` | model | `checkpoint/model.skops` | 2.0 KiB | `abababababab` |" in report
    assert "box, Linux, 8 cores" in report and "2 packages" in report
    assert "0123456789ab on main, with uncommitted changes (git.diff)" in report
    assert "`train.py --rate '0 1'`" in report
    assert f"(../{original.id}/REPORT.md)" in report
    assert f"windlass runs compare {original.id} {run.id}" in report and "windlass studies report bowl" in report
    assert "the data had &lt;2&gt; gaps" in report


def test_next_commands_follow_the_state(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    running = make_run(1, status=Status.RUNNING, ended=None)
    assert f"windlass runs cancel {running.id}" in run_summary(running, folder)
    lost = replace(make_run(2, failure=Failure(kind=FailureKind.LOST, message="no sign of life")), study=None)
    script = RunFolder(tmp_path / "script")
    script.create(RunSpec(id=lost.id, name="script", created=0.0))
    assert f'windlass.start_run(resume="{lost.id}")' in run_report(lost, script)
    job = RunFolder(tmp_path / "job")
    job.create(RunSpec(id=lost.id, name="job", created=0.0, command=("train",)))
    again = f"windlass runs resume {lost.id}"
    assert again not in run_summary(lost, job), "it left nothing to go on from"
    (job.state / "step-3").mkdir(parents=True)
    cancelled = make_run(2, status=Status.CANCELLED)
    assert all(again in run_summary(run, job) for run in (lost, replace(cancelled, id=lost.id)))
    assert again not in run_summary(replace(lost, status=Status.COMPLETED, failure=None), job)


def test_markup_in_a_run_stays_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> | `x` [a](javascript:alert(1))\n# title"
    run = make_run(
        1,
        {f"p{evil}": evil},
        metrics={evil: MetricSummary.of(1.0)},
        tags={evil: evil},
        notes=(evil,),
        artifacts=(Artifact(name=evil, path=evil, kind=evil),),
        fingerprints={evil: evil},
        failure=replace(diverged(evil), traceback=f"```\n{evil}"),
    )
    for text in (run_report(run, RunFolder(tmp_path)), run_summary(run, RunFolder(tmp_path))):
        html = rendered(text)
        assert "<script" not in html and 'href="javascript' not in html
        assert html.count("<h1>") == 1, "no title of theirs"


def test_a_table_of_runs() -> None:
    runs = [make_run(1), make_run(2, failure=diverged()), replace(make_run(3), study=None, attempt=2)]
    table = runs_table(runs, ["loss"])
    assert table.columns == ("id", "study", "status", "started (UTC)", "duration", "loss")
    assert [row[2] for row in table.rows] == ["completed", "failed: diverged", "completed (attempt 2)"]
    assert table.rows[1][-1] == "–" and table.rows[0][3] == "2025-10-09 08:53:20" and table.rows[0][4] == "1.0 s"
    assert runs_table([]).rows == ()
    assert "loss" in runs_table(runs).columns


def test_runs_as_json_values() -> None:
    run = make_run(1, metrics={"loss": MetricSummary(last=math.nan, min=-math.inf, max=1.0, step=3, count=4)})
    data = json.loads(json.dumps(run_dict(run), allow_nan=False))
    assert data["metrics"]["loss"] == {"last": "NaN", "min": "-Infinity", "max": 1.0, "step": 3, "count": 4}
    assert data["id"] == run.id and data["params"] == run.params and data["duration_s"] == 1.0


def test_runs_as_a_data_frame() -> None:
    runs = [
        make_run(1, {"a": 1, "b": "x", "c": [1, 2], "d": True}, tags={"who": "me"}),
        make_run(2, {"a": 0.5, "b": 3}, failure=diverged()),
    ]
    frame = runs_frame(runs)
    assert frame.height == 2 and frame["id"].to_list() == [run.id for run in runs]
    assert frame["params.a"].to_list() == [1.0, 0.5] and frame["params.b"].to_list() == ["x", "3"]
    assert frame["params.d"].to_list() == [True, None] and frame["tags.who"].to_list() == ["me", None]
    assert frame["metrics.loss"].dtype == pl.Float64 and frame["failure"].to_list() == [None, "diverged"]
    empty = runs_frame([])
    assert empty.height == 0 and "status" in empty.columns
