"""One suite for every executor. What a twin does not promise is marked where it is tested."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobspecs import drain, ended, job, script, wait_for_start
from windlass.errors import DuplicateId, JobError
from windlass.jobs.collect import collect
from windlass.jobs.inprocess import InProcessExecutor
from windlass.jobs.local import LocalExecutor
from windlass.jobs.protocol import Executor, JobEvent, JobEventKind
from windlass.records.run import EarlyStop, FailureKind, RunSpec, Status
from windlass.runs.folder import RunFolder
from windlass.runs.lease import Lease, claim

FUNCTIONS = """
import os, sys
from pathlib import Path
from windlass.errors import Diverged

def good(config, run):
    run.log(loss=config["x"] + 1, step=0)
    run.log(loss=config["x"], step=1)
    return {"loss": config["x"]}

def surroundings(config, run):
    Path("here.txt").write_text(os.getcwd() + "\\n" + os.environ["WINDLASS_RUN_DIR"] + "\\n" + os.environ["EXTRA"])
    return {"loss": 0.0}

def once(config, run):
    with open("count.txt", "a") as file:
        file.write("x")
    return {"loss": 0.0}

def error(config, run):
    raise RuntimeError("the data is not there")

def diverged(config, run):
    run.log(loss=1e9, step=7)
    raise Diverged("loss above 1e8")

def memory(config, run):
    raise MemoryError("too much")

def nan(config, run):
    return {"loss": float("nan")}

def nothing_required(config, run):
    return {"accuracy": 1.0}

def noisy(config, run):
    print("hello on stdout")
    print("hello on stderr", file=sys.stderr)
    return {"loss": 0.5}
"""


@pytest.fixture(params=["local", "in-process"])
def executor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Executor]:
    runs = tmp_path / "lab" / "runs"
    make: dict[str, Callable[[], Executor]] = {
        "local": lambda: LocalExecutor(runs, 2),
        "in-process": lambda: InProcessExecutor(runs),
    }
    with closing(make[request.param]()) as executor:
        yield executor


@pytest.fixture
def function(tmp_path: Path) -> Callable[..., RunSpec]:
    module = f"functions_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{module}.py").write_text(FUNCTIONS)

    def spec(name: str, **fields: Any) -> RunSpec:
        chosen: dict[str, Any] = {"required_metrics": ("loss",), "config": {"x": 0.25}, **fields}
        return job(function=f"{module}:{name}", python_path=(str(tmp_path),), **chosen)

    return spec


def folder_of(tmp_path: Path, spec: RunSpec) -> RunFolder:
    return RunFolder(tmp_path / "lab" / "runs" / spec.id)


def test_a_job_starts_ends_and_leaves_its_result(executor: Executor, function: Any, tmp_path: Path) -> None:
    spec = function("good")
    executor.submit([spec])
    assert executor.active() == (spec.id,)
    assert drain(executor) == [JobEvent(spec.id, JobEventKind.STARTED), JobEvent(spec.id, JobEventKind.ENDED)]
    run = collect(folder_of(tmp_path, spec))
    assert run.status is Status.COMPLETED and run.failure is None
    assert run.values == {"loss": 0.25}
    assert (run.metrics["loss"].max, run.metrics["loss"].count) == (1.25, 2)
    assert run.started is not None and run.ended is not None and spec.created <= run.started <= run.ended
    assert run.peak_memory_bytes > 2**20 and run.cpu_s > 0


def test_what_a_job_finds_around_it(executor: Executor, function: Any, tmp_path: Path) -> None:
    before = dict(os.environ), os.getcwd()
    spec = function("surroundings", env={"EXTRA": "of the spec"})
    executor.submit([spec])
    drain(executor)
    folder = folder_of(tmp_path, spec)
    assert (folder.path / "here.txt").read_text().split("\n") == [str(folder.path), str(folder.path), "of the spec"]
    assert (dict(os.environ), os.getcwd()) == before


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("error", FailureKind.ERROR, "the data is not there"),
        ("diverged", FailureKind.DIVERGED, "loss above 1e8"),
        ("memory", FailureKind.OUT_OF_MEMORY, "too much"),
        ("nan", FailureKind.DIVERGED, "'loss' is nan"),
        ("nothing_required", FailureKind.INVALID_RESULT, "no metric 'loss'"),
        ("absent", FailureKind.ERROR, "has no 'absent'"),
    ],
)
def test_causes_of_failure(
    executor: Executor, function: Any, tmp_path: Path, name: str, kind: FailureKind, message: str
) -> None:
    spec = function(name)
    executor.submit([spec])
    drain(executor)
    run = collect(folder_of(tmp_path, spec))
    assert run.status is Status.FAILED and run.failure is not None
    assert run.failure.kind is kind and message in run.failure.message
    if name == "error":
        assert "in error" in run.failure.traceback, "the failure arrives whole"
    if name == "diverged":
        assert run.metrics["loss"].last == 1e9, "what it logged before is kept"


def test_output_goes_to_the_logs(executor: Executor, function: Any, tmp_path: Path) -> None:
    spec = function("noisy")
    executor.submit([spec])
    drain(executor)
    folder = folder_of(tmp_path, spec)
    assert folder.stdout_file.read_text() == "hello on stdout\n"
    assert "hello on stderr\n" in folder.stderr_file.read_text()
    assert collect(folder).status is Status.COMPLETED


def test_first_come_first_served(executor: Executor, function: Any) -> None:
    specs = [function("once") for _ in range(5)]
    executor.submit(specs[:3])
    executor.submit(specs[3:])
    assert executor.active() == tuple(spec.id for spec in specs)
    started = [event.run_id for event in drain(executor) if event.kind is JobEventKind.STARTED]
    assert started == [spec.id for spec in specs]


def test_submitting_again_is_harmless(executor: Executor, function: Any, tmp_path: Path) -> None:
    spec = function("once")
    executor.submit([spec, spec])
    executor.submit([spec])
    assert ended(drain(executor)) == [spec.id]
    executor.submit([spec])
    assert drain(executor) == [JobEvent(spec.id, JobEventKind.ENDED)], "a run that ended before only says so"
    assert (folder_of(tmp_path, spec).path / "count.txt").read_text() == "x"


def test_another_executor_finds_what_ended(executor: Executor, function: Any, tmp_path: Path) -> None:
    spec = function("once")
    executor.submit([spec])
    drain(executor)
    executor.close()
    with closing(type(executor)(tmp_path / "lab" / "runs")) as second:  # type: ignore[call-arg]
        second.submit([spec])
        assert second.wait(0) == [JobEvent(spec.id, JobEventKind.ENDED)]
    assert (folder_of(tmp_path, spec).path / "count.txt").read_text() == "x"


def test_an_id_with_another_content_is_refused(executor: Executor, function: Any) -> None:
    spec = function("good")
    executor.submit([spec])
    drain(executor)
    with pytest.raises(DuplicateId):
        executor.submit([replace(spec, config={"x": 4.0})])
    assert executor.active() == ()


def test_cancelling_a_queued_job(executor: Executor, function: Any, tmp_path: Path) -> None:
    specs = [function("once") for _ in range(4)]
    executor.submit(specs)
    executor.cancel(specs[-1].id, "not needed any more")
    executor.cancel(specs[-1].id, "twice is harmless")
    executor.cancel("20260101T000000Z_none_0123456789", "so is a run that nobody knows")
    assert sorted(ended(drain(executor))) == sorted(spec.id for spec in specs)
    folder = folder_of(tmp_path, specs[-1])
    run = collect(folder)
    assert run.status is Status.CANCELLED and run.failure is None
    assert run.notes == ("cancelled: not needed any more",)
    assert not (folder.path / "count.txt").exists()
    executor.cancel(specs[0].id, "ended")
    assert drain(executor) == [] and collect(folder_of(tmp_path, specs[0])).status is Status.COMPLETED
    executor.submit([specs[-1]])
    assert drain(executor) == [JobEvent(specs[-1].id, JobEventKind.ENDED)], "cancelled is for good"
    assert not (folder.path / "count.txt").exists()


WHY = EarlyStop(metric="loss", step=3, value=2.5, rule="median", reason="worse than half", evidence={"median": 1.0})


def test_only_a_running_job_is_stopped_early(executor: Executor, function: Any, tmp_path: Path) -> None:
    specs = [function("once") for _ in range(4)]
    executor.submit(specs)
    assert not executor.stop(specs[-1].id, WHY), "it is queued"
    assert not executor.stop("20260101T000000Z_none_0123456789", WHY), "nobody knows it"
    assert sorted(ended(drain(executor))) == sorted(spec.id for spec in specs)
    assert not executor.stop(specs[0].id, WHY), "it has ended"
    for spec in specs:
        run = collect(folder_of(tmp_path, spec))
        assert (run.status, run.stopped_early, run.notes) == (Status.COMPLETED, None, ())
        assert not folder_of(tmp_path, spec).stop_file.exists()


def test_a_stopped_job_says_why(executor: Executor, tmp_path: Path) -> None:
    if isinstance(executor, InProcessExecutor):
        pytest.skip("the twin has no running job to stop")
    line = {"step": 3, "metrics": {"loss": 2.5}}
    spec = script(f"import time; open('journal.jsonl', 'w').write({json.dumps(line)!r}); time.sleep(60)")
    executor.submit([spec])
    wait_for_start(executor, spec.id)
    assert executor.stop(spec.id, WHY)
    assert not executor.stop(spec.id, replace(WHY, reason="again")), "asked before"
    assert ended(drain(executor)) == [spec.id]
    run = collect(folder_of(tmp_path, spec))
    assert (run.status, run.failure, run.stopped_early) == (Status.STOPPED, None, WHY)
    executor.submit([spec])
    assert drain(executor) == [JobEvent(spec.id, JobEventKind.ENDED)], "stopped is for good"


def test_wait_without_jobs_returns_at_once(executor: Executor) -> None:
    assert executor.wait() == [] and executor.wait(10) == [] and executor.active() == ()


def test_closing_leaves_queued_jobs_unstarted(executor: Executor, function: Any, tmp_path: Path) -> None:
    specs = [function("once") for _ in range(6)]
    executor.submit(specs)
    executor.close()
    executor.close()
    assert collect(folder_of(tmp_path, specs[-1])).status is Status.QUEUED
    with closing(type(executor)(tmp_path / "lab" / "runs")) as second:  # type: ignore[call-arg]
        second.submit(specs)
        assert set(ended(drain(second))) == {spec.id for spec in specs}
    for spec in specs:
        assert (folder_of(tmp_path, spec).path / "count.txt").read_text() == "x"


def test_a_command_that_does_not_exist_fails_with_its_name(executor: Executor, tmp_path: Path) -> None:
    spec = job("no-such-trainer", "--fast")
    executor.submit([spec])
    assert ended(drain(executor)) == [spec.id]
    run = collect(folder_of(tmp_path, spec))
    assert run.failure is not None and run.failure.kind is FailureKind.ERROR
    assert "cannot start" in run.failure.message and "no-such-trainer" in run.failure.message


def test_a_command_gets_spec_and_output_folder(executor: Executor, tmp_path: Path) -> None:
    if isinstance(executor, InProcessExecutor):
        pytest.skip("the twin runs functions only")
    spec = script("import json, sys; print(json.dumps({'metrics': {}, 'info': {'argv': sys.argv[1:]}}))")
    executor.submit([spec])
    drain(executor)
    folder = folder_of(tmp_path, spec)
    argv = json.loads(folder.stdout_file.read_text())["info"]["argv"]
    assert argv == ["--spec", str(folder.spec_file), "--output-dir", str(folder.path)]
    assert collect(folder).status is Status.COMPLETED


def test_a_run_that_another_process_holds_is_no_twins_business(function: Any, tmp_path: Path) -> None:
    spec = function("good")
    folder = folder_of(tmp_path, spec)
    folder.create(spec)
    assert claim(folder, Lease.of(os.getppid()))
    with (
        closing(InProcessExecutor(tmp_path / "lab" / "runs")) as twin,
        pytest.raises(JobError, match="another process"),
    ):
        twin.submit([spec])
