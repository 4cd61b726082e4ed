"""Attempts of real jobs: killed, lost, asked to end; from several processes at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobspecs import drain, job, script, wait_for_start
from processes import ENVIRONMENT, until
from trainers import COUNTING
from windlass.errors import JobError, StateError
from windlass.jobs.collect import collect
from windlass.jobs.local import LocalExecutor
from windlass.jobs.protocol import JobEvent, JobEventKind
from windlass.jobs.resume import reopen
from windlass.records.run import EarlyStop, FailureKind, Limits, RunSpec, Status
from windlass.runs import attempts, index
from windlass.runs.folder import RunFolder
from windlass.runs.lease import Holder, Lease, claim, holder, read_lease, start_ticks
from windlass.runs.reader import read_metric


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[LocalExecutor]:
    with closing(LocalExecutor(tmp_path / "runs", 2)) as executor:
        yield executor


def counting(**config: Any) -> RunSpec:
    return script(COUNTING, config=config, required_metrics=("loss",))


def hold(executor: LocalExecutor, spec: RunSpec) -> tuple[RunFolder, Lease]:
    """Start a job that holds, once it has logged and saved the step at which it does."""
    executor.submit([spec])
    wait_for_start(executor, spec.id)
    folder = RunFolder(executor.runs_root / spec.id)
    until(lambda: (folder.state / "step").exists() and (folder.state / "step").read_text() == str(spec.config["hold"]))
    lease = read_lease(folder)
    assert lease is not None
    return folder, lease


def preempted(executor: LocalExecutor, **config: Any) -> RunFolder:
    """A run whose first attempt is over."""
    spec = counting(ends=[2], **config)
    executor.submit([spec])
    drain(executor)
    return RunFolder(executor.runs_root / spec.id)


def leader(lease: Lease) -> int:
    return int(Path(f"/proc/{lease.pid}/task/{lease.pid}/children").read_text().split()[0])


def whole(folder: RunFolder, starts: str = "xx") -> bool:
    """Completed, with one curve, and started as often as it should be."""
    run = collect(folder)
    steps, _, _ = read_metric(folder, "loss")
    done = (run.status, run.failure, run.attempt) == (Status.COMPLETED, None, len(starts))
    return done and steps.tolist() == [1, 2, 3, 4, 5, 6] and (folder.path / "count").read_text() == starts


def test_asked_to_end_it_saves_and_goes_on(executor: LocalExecutor) -> None:
    folder, lease = hold(executor, counting(hold=3))
    with pytest.raises(StateError, match="is still running"):
        executor.resume(folder.id)
    os.kill(leader(lease), signal.SIGTERM)
    drain(executor)
    run = collect(folder)
    assert run.failure is not None and (run.failure.kind, run.failure.message) == (
        FailureKind.PREEMPTED,
        "saved at step 3",
    )
    assert executor.resume(folder.id) == 2
    drain(executor)
    assert whole(folder)
    assert [entry.event for entry in index.read_from(executor.runs_root, 0)[0]] == ["queued", "resumed"]
    with pytest.raises(StateError, match="is completed"):
        executor.resume(folder.id)


def test_killed_in_the_middle_of_a_line_it_goes_on(executor: LocalExecutor) -> None:
    folder, lease = hold(executor, counting(hold=3))
    with open(folder.journal_file, "a") as journal:
        journal.write('{"time": 1, "step": 4, "metr')
    os.kill(leader(lease), signal.SIGKILL)
    drain(executor)
    run = collect(folder)
    assert run.failure is not None and run.failure.kind is FailureKind.KILLED
    executor.resume(folder.id)
    drain(executor)
    assert whole(folder) and collect(folder).attempt == 2


def test_lost_with_its_job_alive_the_job_ends_before_the_next_attempt(executor: LocalExecutor) -> None:
    folder, lease = hold(executor, counting(hold=3))
    pid = leader(lease)
    executor.close()
    os.kill(lease.pid, signal.SIGKILL)
    until(lambda: start_ticks(lease.pid) is None)
    assert start_ticks(pid) is not None and holder(folder) is Holder.DEAD
    with closing(LocalExecutor(executor.runs_root, 1)) as second:
        assert second.resume(folder.id) == 2
        assert start_ticks(pid) is None, "of two that train into one folder, nobody knows what comes out"
        drain(second)
    assert whole(folder)
    assert (
        collect(folder).notes[0].startswith("attempt 2 goes on at step 3: attempt 1 was lost: its supervisor vanished")
    )


def test_a_run_whose_lease_is_garbage_goes_on(executor: LocalExecutor) -> None:
    folder = preempted(executor)
    folder.exit_file.unlink()
    folder.lease_file.write_bytes(b"\0garbage")
    assert executor.resume(folder.id) == 2
    drain(executor)
    assert whole(folder) and (folder.attempt_folder(1) / "lease.json").read_bytes() == b"\0garbage"


def test_of_many_processes_that_resume_a_run_one_starts_it(executor: LocalExecutor) -> None:
    folder = preempted(executor)
    code = (
        "import sys\n"
        "from windlass.errors import StateError\n"
        "from windlass.jobs.local import LocalExecutor\n"
        "executor = LocalExecutor(sys.argv[1])\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n"
        "    print(executor.resume(sys.argv[2]))\n"
        "    while executor.active(): executor.wait()\n"
        "except StateError as error: print(error.message)\n"
    )
    argv = [sys.executable, "-c", code, str(executor.runs_root), folder.id]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    resuming = [subprocess.Popen(argv, **pipes) for _ in range(6)]
    for process in resuming:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    told = [""] * len(resuming)

    def go(number: int) -> None:
        told[number] = resuming[number].communicate("go\n", timeout=60)[0].strip()

    threads = [threading.Thread(target=go, args=(number,)) for number in range(len(resuming))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert whole(folder)
    assert "2" in told and all(one == "2" or one.startswith(f"run {folder.id} is ") for one in told)
    assert [path.name for path in folder.path.glob("attempts/*")] == ["1"]


def test_resuming_a_queued_attempt_again_is_harmless(executor: LocalExecutor) -> None:
    folder = preempted(executor)
    waiting = [job("sh", "-c", "while test ! -e go; do sleep 0.01; done; echo '{}'") for _ in range(2)]
    executor.submit(waiting)
    assert [executor.resume(folder.id) for _ in range(3)] == [2, 2, 2]
    assert executor.active() == (*(spec.id for spec in waiting), folder.id)
    with closing(LocalExecutor(executor.runs_root, 1)) as second:
        assert second.resume(folder.id) == 2
        drain(second)
    assert whole(folder)
    for spec in waiting:
        (executor.runs_root / spec.id / "go").touch()
    drain(executor)
    assert whole(folder)


@pytest.mark.parametrize("started", [True, False])
def test_who_watches_an_attempt_that_another_process_follows_up_watches_the_next(
    executor: LocalExecutor, started: bool
) -> None:
    """The end of the first attempt is heard of when the second runs, or waits to."""
    spec = counting(ends=[2], hold=4)
    executor.submit([spec])
    wait_for_start(executor, spec.id)
    folder = RunFolder(executor.runs_root / spec.id)
    until(folder.exit_file.exists)
    if started:
        with closing(LocalExecutor(executor.runs_root)) as other:
            other.resume(spec.id)
            until(lambda: (folder.state / "step").read_text() == "4")
    else:
        reopen(folder)
    events = executor.wait(10)
    assert JobEvent(spec.id, JobEventKind.ENDED) not in events
    until(lambda: executor.wait(0) == [] and (folder.state / "step").read_text() == "4")
    lease = read_lease(folder)
    assert lease is not None and executor.active() == (spec.id,)
    os.kill(leader(lease), signal.SIGTERM)
    drain(executor)
    assert (collect(folder).attempt, (folder.path / "count").read_text()) == (2, "xx")
    executor.resume(spec.id)
    drain(executor)
    assert whole(folder, "xxx")


def test_a_step_that_is_no_number_is_no_place_to_go_on_from(executor: LocalExecutor) -> None:
    folder = preempted(executor)
    with open(folder.journal_file, "a") as journal:
        journal.write(
            '{"time": 1, "step": "NaN", "metrics": {"loss": 0}}\n{"step": "Infinity", "metrics": {"loss": 0}}\n'
        )
    folder.attempt_file.write_text('{"number": 1, "step": NaN, "spent_s": NaN, "after": "", "at": 0}')
    assert collect(folder).status is Status.FAILED
    assert executor.resume(folder.id) == 2
    drain(executor)
    later = attempts.due(folder)
    assert later is not None and later.step is None and collect(folder).status is Status.COMPLETED


def test_the_time_limit_is_of_all_attempts_together(executor: LocalExecutor) -> None:
    spec = replace(counting(ends=[2], hold=4), limits=Limits(time_s=30))
    executor.submit([spec])
    drain(executor)
    folder = RunFolder(executor.runs_root / spec.id)
    exit = folder.exit()
    assert exit is not None
    folder.write_exit(replace(exit, wall_s=29.7))
    executor.resume(spec.id)
    drain(executor)
    run = collect(folder)
    assert run.failure is not None and run.failure.kind is FailureKind.TIMEOUT
    assert run.failure.message == "ran past its time limit of 30 s, 29.7 s of them in earlier attempts"
    assert run.duration_s is not None and run.duration_s < 15
    with pytest.raises(StateError, match=r"failed by itself \(timeout\)"):
        executor.resume(spec.id)


def test_tokens_are_those_that_the_attempt_says(executor: LocalExecutor) -> None:
    """It counts from the run's begin: 600 in all, 200 of them in the first attempt."""
    for tokens, kind in ((600, None), (599, FailureKind.BUDGET)):
        spec = replace(counting(ends=[2]), limits=Limits(tokens=tokens))
        executor.submit([spec])
        drain(executor)
        executor.resume(spec.id)
        drain(executor)
        failure = collect(executor.runs_root / spec.id).failure
        assert (failure and failure.kind) == kind


def test_the_output_of_an_attempt_is_no_result_of_the_next(executor: LocalExecutor) -> None:
    first = "print('{\"metrics\": {\"loss\": 1}}'); open('state/step', 'w').close(); raise SystemExit(143)"
    spec = script(f"import os\nif not os.path.exists('state'): os.mkdir('state'); {first}")
    executor.submit([spec])
    drain(executor)
    folder = RunFolder(executor.runs_root / spec.id)
    folder.result_file.write_text('{"metrics": {"loss": 1}}')
    executor.resume(spec.id)
    drain(executor)
    run = collect(folder)
    assert run.failure is not None and run.failure.kind is FailureKind.INVALID_RESULT
    assert "nothing on stdout, and no result.json" in run.failure.message
    assert '"loss": 1' in (folder.attempt_folder(1) / "stdout.log").read_text()


def test_a_stopped_run_stays_stopped(executor: LocalExecutor) -> None:
    folder, _ = hold(executor, counting(hold=3))
    why = EarlyStop(metric="loss", step=3, value=1.0, rule="median", reason="hopeless")
    assert executor.stop(folder.id, why)
    drain(executor)
    with pytest.raises(StateError, match="was stopped early, for good"):
        executor.resume(folder.id)


def test_a_script_of_its_own_is_not_started_by_windlass(executor: LocalExecutor) -> None:
    spec = job()
    folder = RunFolder(executor.runs_root / spec.id)
    folder.create(spec)
    claim(folder, replace(Lease.of(os.getpid()), start_ticks=1, heartbeat=True))
    folder.state.mkdir()
    (folder.state / "step").touch()
    with pytest.raises(StateError, match="script of its own") as caught:
        executor.resume(spec.id)
    assert f"start_run(resume='{spec.id}')" in caught.value.next_step


def test_a_run_that_cannot_be_reopened_stays_as_it_is(executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = preempted(executor)
    before = collect(folder)
    monkeypatch.setattr("windlass.runs.attempts.write_atomic", _full)
    with pytest.raises(JobError, match=r"cannot be reopened: .*No space left"):
        executor.resume(folder.id)
    monkeypatch.undo()
    assert collect(folder) == before and executor.active() == ()
    executor.resume(folder.id)
    drain(executor)
    assert whole(folder)


def _full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_reading_while_a_run_is_reopened_sees_the_old_attempt_or_the_new_one(executor: LocalExecutor) -> None:
    """Never half of each: a run that is neither preempted nor queued, running, completed."""
    folder = preempted(executor)
    seen: set[tuple[Status, int, FailureKind | None]] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            run = collect(folder)
            seen.add((run.status, run.attempt, run.failure and run.failure.kind))

    reader = threading.Thread(target=read)
    reader.start()
    executor.resume(folder.id)
    drain(executor)
    done.set()
    reader.join()
    allowed = {(Status.FAILED, 1, FailureKind.PREEMPTED)}
    allowed |= {(status, 2, None) for status in (Status.QUEUED, Status.RUNNING, Status.COMPLETED)}
    assert seen <= allowed


def test_attempt_json_that_windlass_did_not_write_is_none(executor: LocalExecutor) -> None:
    folder = preempted(executor)
    for garbage in ("", "[]", "{}", '{"number": 2}', json.dumps({"number": 2, "more": 1})):
        folder.attempt_file.write_text(garbage)
        assert attempts.due(folder) is None and not attempts.waits(folder)
    assert executor.resume(folder.id) == 2
    drain(executor)
    assert whole(folder)
