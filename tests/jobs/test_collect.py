"""Whatever a job leaves is data: collect never raises on it, and says what is wrong."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobspecs import job
from windlass.errors import NotFound
from windlass.jobs.collect import LARGEST_RESULT, collect, read_result
from windlass.records.run import Exit, FailureKind, RunRecord, Status
from windlass.runs.folder import RunFolder
from windlass.runs.lease import Lease, claim

CLEAN = Exit(code=0, started=100.0, ended=103.0, wall_s=3.0, cpu_s=2.0, peak_memory_bytes=5_000_000)


def make(tmp_path: Path, exit: Exit | None = CLEAN, **files: str | bytes) -> RunFolder:
    """A folder of a job that left ``files`` (``stdout_log`` is stdout.log)."""
    spec = job("train", config={"x": 1}, required_metrics=("auc",), tags={"team": "a"}, study="s", number=3)
    folder = RunFolder(tmp_path / spec.id)
    folder.create(spec)
    claim(folder, Lease.of(os.getpid()))
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder.path / name.replace("_", ".")).write_bytes(data)
    if exit is not None:
        folder.write_exit(exit)
    return folder


def failure_of(run: RunRecord) -> tuple[FailureKind, str]:
    assert run.status is Status.FAILED and run.failure is not None
    return run.failure.kind, run.failure.message


def test_all_of_it(tmp_path: Path) -> None:
    journal = [
        {"time": 101.0, "step": 0, "metrics": {"auc": 0.5, "loss": 2.0}},
        {"time": 102.0, "step": 1, "metrics": {"auc": 0.8, "loss": "NaN"}},
        {"time": 102.0, "tags": {"colour": "blue"}},
        {"time": 102.0, "note": "warm start"},
        {"time": 102.0, "artifact": {"name": "figure", "path": "artifacts/roc.png", "kind": "figure", "bytes": 7}},
        {"time": 102.0, "artifact": {"name": "escape", "path": "../../etc/passwd"}},
    ]
    result = {"metrics": {"auc": 0.7}, "notes": ["done"], "artifacts": [{"name": "model", "path": "model.skops"}]}
    folder = make(
        tmp_path, journal_jsonl="".join(json.dumps(line) + "\n" for line in journal), stdout_log=json.dumps(result)
    )
    run = collect(folder)
    assert run.status is Status.COMPLETED and (run.study, run.number, run.config) == ("s", 3, {"x": 1})
    assert (run.metrics["auc"].last, run.metrics["auc"].min, run.metrics["auc"].max) == (0.7, 0.5, 0.8)
    assert math.isnan(run.metrics["loss"].last) and run.metrics["loss"].max == 2.0
    assert run.tags == {"team": "a", "colour": "blue"} and run.notes == ("warm start", "done")
    assert [artifact.path for artifact in run.artifacts] == ["artifacts/roc.png", "model.skops"]
    assert (run.started, run.ended, run.duration_s, run.cpu_s) == (100.0, 103.0, 3.0, 2.0)
    assert run.peak_memory_bytes == 5_000_000
    assert collect(folder.path) == run


GARBAGE = {
    "nothing": (b"", "nothing on stdout, and no result.json"),
    "blank": (b"\n \n", "nothing on stdout"),
    "prose": (b"Epoch 1 done\n", "not JSON at line 1: 'Epoch 1 done'"),
    "two lines": (b'{"metrics": {"auc": 1}}\n{"metrics": {"auc": 2}}\n', "goes on after one JSON value"),
    "prose after": (b'{"metrics": {"auc": 1}}\nbye\n', "goes on after one JSON value: 'bye'"),
    "torn": (b'{"metrics": {"auc": 0.', "not JSON"),
    "no object": (b"[1, 2]", "not list"),
    "not UTF-8": (b'{"metrics": {"auc\xff": 1}}', "is not UTF-8"),
    "half a pair": (b'{"notes": ["\\ud800"], "metrics": {"auc": 1}}', "surrogates not allowed"),
    "unknown key": (b'{"metric": {"auc": 1}}', "Did you mean 'metrics'"),
    "text metric": (b'{"metrics": {"auc": "high"}}', "'high' is no number"),
    "huge number": (b'{"metrics": {"auc": 1' + b"0" * 400 + b"}}", "too large"),
    "deep": (b"[" * 100_000, "recursion"),
    "escaping artifact": (b'{"metrics": {"auc": 1}, "artifacts": [{"name": "x", "path": "/etc/passwd"}]}', "leads out"),
    "wrong artifact": (b'{"metrics": {"auc": 1}, "artifacts": [{"name": 1, "path": 2}]}', "malformed"),
    "wrong failure": (b'{"failure": {"kind": "bad luck", "message": ""}}', "bad luck"),
    "missing metric": (b'{"metrics": {"loss": 1}}', "no metric 'auc'"),
}


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize("file", ["stdout_log", "result_json"])
def test_garbage_instead_of_a_result(tmp_path: Path, name: str, file: str) -> None:
    data, message = GARBAGE[name]
    kind, said = failure_of(collect(make(tmp_path, **{file: data})))
    assert kind is FailureKind.INVALID_RESULT
    assert message in said or (file == "result_json" and not data.strip())


def test_a_result_of_exactly_the_largest_size_is_read(tmp_path: Path) -> None:
    text = '{"metrics": {"auc": 1}}'
    folder = make(tmp_path, stdout_log=text + " " * (LARGEST_RESULT - len(text)))
    assert collect(folder).status is Status.COMPLETED
    with open(folder.stdout_file, "a") as file:
        file.write(" ")
    kind, said = failure_of(collect(folder))
    assert kind is FailureKind.INVALID_RESULT and "1,048,577 bytes" in said


@pytest.mark.parametrize("literal", ["NaN", '"NaN"', "Infinity", '"-Infinity"'])
def test_a_required_metric_that_is_not_finite_is_divergence(tmp_path: Path, literal: str) -> None:
    run = collect(make(tmp_path, stdout_log=f'{{"metrics": {{"auc": {literal}}}}}'))
    assert failure_of(run)[0] is FailureKind.DIVERGED and not math.isfinite(run.values["auc"])


def test_result_json_goes_before_stdout(tmp_path: Path) -> None:
    folder = make(tmp_path, stdout_log="Epoch 1\n", result_json='{"metrics": {"auc": 0.6}}')
    assert collect(folder).values == {"auc": 0.6}


def test_a_failed_exit_keeps_its_metrics_and_the_tail_of_stderr(tmp_path: Path) -> None:
    error = "x" * 10_000 + "\nKeyError: 'label'\n"
    run = collect(make(tmp_path, Exit(code=2), stdout_log='{"metrics": {"auc": 0.6}}', stderr_log=error))
    kind, said = failure_of(run)
    assert kind is FailureKind.ERROR and said == "exit code 2: KeyError: 'label'"
    assert run.values == {"auc": 0.6}
    assert run.failure is not None and len(run.failure.traceback) == 2048


def test_states_before_the_end(tmp_path: Path) -> None:
    folder = make(tmp_path, exit=None)
    running = collect(folder)
    assert running.status is Status.RUNNING and running.ended is None
    assert running.started is not None and running.started >= running.created - 1
    folder.lease_file.unlink()
    assert collect(folder).status is Status.QUEUED
    lease = Lease.of(os.getpid())
    folder.lease_file.write_text(json.dumps({**_fields(lease), "start_ticks": lease.start_ticks - 1}))
    lost = collect(folder)
    assert failure_of(lost)[0] is FailureKind.LOST and lost.ended is not None
    folder.lease_file.write_bytes(b"\0\0garbage")
    assert failure_of(collect(folder))[0] is FailureKind.LOST


def _fields(lease: Lease) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(lease)


def test_a_folder_without_a_spec_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        collect(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metrics", "artifacts", "notes", "failure", "info", "kind", "auc", "path", "name"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(result=st.binary(max_size=60) | json_values, journal=st.lists(st.binary(max_size=30) | json_values, max_size=4))
def test_collect_never_raises_on_what_a_job_wrote(tmp_path: Path, result: Any, journal: list[Any]) -> None:
    def written(value: Any) -> bytes:
        return value if isinstance(value, bytes) else json.dumps(value).encode()

    folder = make(tmp_path, stdout_log=written(result), journal_jsonl=b"\n".join(map(written, journal)) + b"\n")
    run = collect(folder)
    assert run.status in (Status.COMPLETED, Status.FAILED)
    parsed, problem = read_result(folder)
    assert (parsed is None) == bool(problem)
    json.dumps([run.tags, run.notes, [a.path for a in run.artifacts]], ensure_ascii=False).encode()
