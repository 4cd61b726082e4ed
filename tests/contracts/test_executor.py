"""One suite for every executor. What a twin does not promise is marked where it is tested."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from jobspecs import drain, ended, job, script, wait_for_start
from windlass.errors import DuplicateId, JobError, NotFound, StateError
from windlass.jobs.collect import collect
from windlass.jobs.inprocess import InProcessExecutor
from windlass.jobs.local import LocalExecutor
from windlass.jobs.protocol import Executor, JobEvent, JobEventKind
from windlass.records.run import EarlyStop, FailureKind, RunSpec, Status
from windlass.runs import attempts
from windlass.runs.folder import RunFolder
from windlass.runs.lease import Lease, claim, read_lease
from windlass.runs.reader import read_metric

FUNCTIONS = """
import os, sys
from pathlib import Path
from windlass.errors import Diverged, Preempted, PreflightError, Unhealthy

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

def counting(config, run):
    file = run.folder.state / "step"
    begin = int(file.read_text()) if file.exists() else 0
    assert (run.attempt, run.resumed_step) == (begin // 2 + 1, begin or None)
    for step in range(begin + 1, 7):
        run.log(loss=1 / step, step=step)
        if step in (2, 4):
            file.parent.mkdir(exist_ok=True)
            file.write_text(str(step))
            print("no result")
            raise Preempted(f"saved at step {step}")
    return {"loss": 1 / 6}

def preflight(config, run):
    raise PreflightError("data.changed", "other rows than the spec says")

def unhealthy(config, run):
    raise Unhealthy("the weights did not change")

def torch_memory(config, run):
    raise RuntimeError("[enforce fail] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

def stateless(config, run):
    raise Preempted("saved nothing")

def elsewhere(config, run):
    run.identify(backend="other")
    return {"loss": 0.0}

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
        ("preflight", FailureKind.PREFLIGHT, "other rows than the spec says [data.changed]"),
        ("unhealthy", FailureKind.UNHEALTHY, "did not change"),
        ("torch_memory", FailureKind.OUT_OF_MEMORY, "tried to allocate 9"),
        ("stateless", FailureKind.PREEMPTED, "saved nothing"),
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


def test_exit_codes_of_functions(executor: Executor, function: Any, tmp_path: Path) -> None:
    codes = {"good": 0, "error": 1, "unhealthy": 1, "preflight": 3, "stateless": 143}
    specs = {name: function(name) for name in codes}
    executor.submit(list(specs.values()))
    drain(executor)
    exits = {name: folder_of(tmp_path, spec).exit() for name, spec in specs.items()}
    assert {name: exit and exit.code for name, exit in exits.items()} == codes


def test_a_result_file_is_of_its_start(executor: Executor, function: Any, tmp_path: Path) -> None:
    spec = function("good")
    folder = folder_of(tmp_path, spec)
    folder.create(spec)
    folder.result_file.write_text('{"metrics": {"loss": -1.0}}')
    executor.submit([spec])
    drain(executor)
    lease, result = read_lease(folder), json.loads(folder.result_file.read_text())
    assert lease is not None and len(lease.nonce) == 32 and result["nonce"] == lease.nonce
    assert collect(folder).values == {"loss": 0.25}
    for nonce, words in (("", "has no nonce"), ("0" * 32, "which is not that of this start")):
        folder.result_file.write_text(json.dumps({**result, "nonce": nonce}))
        run = collect(folder)
        assert run.failure is not None and run.failure.kind is FailureKind.INVALID_RESULT
        assert words in run.failure.message and "WINDLASS_NONCE" in run.failure.message


def test_a_result_repeats_the_identity(executor: Executor, function: Any, tmp_path: Path) -> None:
    fingerprints = {"config": "c" * 64, "data": "d" * 64}
    declared = {"backend": "own", "profile": "reader"}
    mine, other = (
        function(name, identity=declared, fingerprints=fingerprints).identified() for name in ("good", "elsewhere")
    )
    executor.submit([mine, other])
    drain(executor)
    folder = folder_of(tmp_path, mine)
    assert json.loads(folder.result_file.read_text())["identity"] == {**declared, "run": mine.id, **fingerprints}
    assert collect(folder).status is Status.COMPLETED
    run = collect(folder_of(tmp_path, other))
    assert run.failure is not None and run.failure.kind is FailureKind.INVALID_RESULT
    assert run.failure.message.endswith(
        "not of this run: backend: expected 'own', is 'other' (the result is of another backend)"
    )
    assert run.values == {}, "nothing is taken over from it"


def test_a_preempted_job_goes_on_from_what_it_left(executor: Executor, function: Any, tmp_path: Path) -> None:
    spec = function("counting")
    folder = folder_of(tmp_path, spec)
    executor.submit([spec])
    drain(executor)
    for attempt, step in ((2, 2), (3, 4)):
        run = collect(folder)
        assert run.failure is not None and run.failure.kind is FailureKind.PREEMPTED
        assert (run.attempt, run.failure.message) == (attempt - 1, f"saved at step {step}")
        assert executor.resume(spec.id) == attempt
        if isinstance(executor, InProcessExecutor):
            assert executor.resume(spec.id) == attempt, "asked again before it started"
        assert drain(executor) == [JobEvent(spec.id, JobEventKind.STARTED), JobEvent(spec.id, JobEventKind.ENDED)]
    run = collect(folder)
    assert (run.status, run.attempt, run.values) == (Status.COMPLETED, 3, {"loss": 1 / 6})
    assert run.notes == (
        "attempt 2 goes on at step 2: attempt 1 was preempted: saved at step 2",
        "attempt 3 goes on at step 4: attempt 2 was preempted: saved at step 4",
    )
    steps, _, values = read_metric(folder, "loss")
    assert steps.tolist() == [1, 2, 3, 4, 5, 6] and values.tolist() == [1 / step for step in range(1, 7)]
    for number in (1, 2):
        aside = RunFolder(folder.attempt_folder(number))
        lease, exit = read_lease(aside), aside.exit()
        assert lease is not None and exit is not None and (lease.attempt, exit.code) == (number, 143)
        assert aside.stdout_file.read_text() == "no result\n" and "saved at step" in aside.stderr_file.read_text()
    nonces = {
        lease.nonce for lease in map(read_lease, [folder, *map(RunFolder, folder.path.glob("attempts/*"))]) if lease
    }
    assert len(nonces) == 3


def test_what_has_no_next_attempt(executor: Executor, function: Any, tmp_path: Path) -> None:
    wanted = {
        "good": "is completed: there is nothing to go on with",
        "error": r"failed by itself \(error\); only runs that were preempted, killed, lost or cancelled",
        "preflight": r"failed by itself \(preflight\)",
        "stateless": r"left nothing in .*state to go on from",
    }
    specs = {name: function(name) for name in wanted}
    executor.submit(list(specs.values()))
    drain(executor)
    for name, words in wanted.items():
        before = collect(folder_of(tmp_path, specs[name]))
        with pytest.raises(StateError, match=words):
            executor.resume(specs[name].id)
        assert collect(folder_of(tmp_path, specs[name])) == before
    with pytest.raises(NotFound):
        executor.resume("20260101T000000Z_none_0123456789")
    queued = function("good")
    executor.submit([function("once"), function("once"), function("once"), queued])
    with pytest.raises(StateError, match="is queued"):
        executor.resume(queued.id)
    drain(executor)


def test_a_cancelled_job_that_left_something_may_go_on(executor: Executor, function: Any, tmp_path: Path) -> None:
    spec = function("good")
    executor.submit([function("once"), function("once"), function("once"), spec])
    executor.cancel(spec.id, "not now")
    drain(executor)
    folder = folder_of(tmp_path, spec)
    assert collect(folder).status is Status.CANCELLED
    folder.state.mkdir()
    (folder.state / "step").write_text("1")
    assert executor.resume(spec.id) == 2
    executor.cancel(spec.id, "still not")
    assert ended(drain(executor)) == [spec.id]
    assert (collect(folder).status, collect(folder).attempt) == (Status.CANCELLED, 2)
    assert executor.resume(spec.id) == 3
    drain(executor)
    run = collect(folder)
    assert (run.status, run.attempt) == (Status.COMPLETED, 3)
    assert (folder.attempt_folder(1) / "exit.json").exists() and not folder.cancel_file.exists()


def test_another_executor_starts_what_was_reopened(executor: Executor, function: Any, tmp_path: Path) -> None:
    """Whatever of the ended attempt had been moved aside when the first one was killed."""
    spec = function("counting")
    folder = folder_of(tmp_path, spec)
    executor.submit([spec])
    drain(executor)
    executor.close()
    for attempt in (2, 3):
        with attempts.locked(folder):
            step = attempts.Attempt(
                number=attempt, step=2.0 * (attempt - 1), spent_s=1.0, after="was preempted", at=1.0
            )
            folder.attempt_file.write_text(json.dumps(asdict(step)))
        assert (collect(folder).status, collect(folder).attempt) == (Status.QUEUED, attempt)
        with closing(type(executor)(tmp_path / "lab" / "runs")) as second:  # type: ignore[call-arg]
            if attempt == 2:
                second.submit([spec])
            else:
                assert second.resume(spec.id) == 3
            assert drain(second) == [JobEvent(spec.id, JobEventKind.STARTED), JobEvent(spec.id, JobEventKind.ENDED)]
    assert collect(folder).status is Status.COMPLETED


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
