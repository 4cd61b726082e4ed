"""Early ends of real jobs: on record before the signal, never of a job that was done, and never forgotten."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from jobspecs import drain, ended, job, script, wait_for_file, wait_for_start
from processes import SOURCE, until
from windlass.errors import StateError
from windlass.jobs.collect import collect
from windlass.jobs.local import LocalExecutor
from windlass.jobs.stop import read_stop, write_stop
from windlass.records.run import EarlyStop, Exit, FailureKind, Limits, RunSpec, Status
from windlass.runs.folder import RunFolder
from windlass.runs.lease import start_ticks

WHY = EarlyStop(
    metric="loss", step=4, value=9.5, rule="median", reason="9.5 at step 4, worse than 1", evidence={"median": 1.0}
)
#: says that it is there, and waits for what the test does
HOLD = "import os, time; open('part', 'w').write(str(os.getpid())); os.rename('part', 'here'); time.sleep(60)"


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[LocalExecutor]:
    with closing(LocalExecutor(tmp_path / "runs", 2)) as executor:
        yield executor


def started(executor: LocalExecutor, spec: RunSpec) -> RunFolder:
    """The folder of a job that has come to its ``here``."""
    folder = RunFolder(executor.runs_root / spec.id)
    executor.submit([spec])
    wait_for_start(executor, spec.id)
    wait_for_file(folder.path / "here")
    return folder


def exit_of(folder: RunFolder) -> Exit:
    exit = folder.exit()
    assert exit is not None
    return exit


def test_the_whole_tree_ends_with_it(executor: LocalExecutor) -> None:
    code = (
        "import os, subprocess, sys, time; p = subprocess.Popen(['sleep', '61'], start_new_session=True); "
        "open('part', 'w').write(str(p.pid)); os.rename('part', 'here'); time.sleep(60)"
    )
    folder = started(executor, script(code))
    daemon = int((folder.path / "here").read_text())
    assert executor.stop(folder.id, WHY)
    assert ended(drain(executor)) == [folder.id]
    assert start_ticks(daemon) is None
    assert (exit_of(folder).reason, exit_of(folder).signal) == ("stop", signal.SIGTERM)
    assert collect(folder).status is Status.STOPPED


def test_one_that_ignores_sigterm_is_killed_after_the_grace(executor: LocalExecutor) -> None:
    spec = script(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {HOLD}", limits=Limits(grace_s=0.2))
    folder = started(executor, spec)
    assert executor.stop(folder.id, WHY)
    drain(executor)
    assert (exit_of(folder).signal, exit_of(folder).reason) == (signal.SIGKILL, "stop")
    assert exit_of(folder).wall_s >= 0.2
    assert collect(folder).stopped_early == WHY


def test_a_result_on_the_way_out_makes_it_no_completed_run(executor: LocalExecutor) -> None:
    code = (
        "import json, signal, sys\n"
        "def leave(*_):\n"
        "    print(json.dumps({'metrics': {'auc': 0.5}}), flush=True); sys.exit(0)\n"
        f"signal.signal(signal.SIGTERM, leave)\n{HOLD}"
    )
    folder = started(executor, script(code, required_metrics=("auc",)))
    assert executor.stop(folder.id, WHY)
    drain(executor)
    run = collect(folder)
    assert exit_of(folder).code == 0 and (run.status, run.values) == (Status.STOPPED, {"auc": 0.5})


def test_a_job_with_a_result_is_left_to_end(executor: LocalExecutor) -> None:
    """Asked by the executor, and by one that had not seen the result yet."""
    result = "{'metrics': {'auc': 0.9}, 'nonce': os.environ['WINDLASS_NONCE']}"
    code = f"import json, os; json.dump({result}, open('result.json', 'w')); {HOLD.replace('60', '0.3')}"
    folder = started(executor, script(code, required_metrics=("auc",)))
    assert not executor.stop(folder.id, WHY) and not folder.stop_file.exists()
    write_stop(folder, WHY)
    executor._signal(folder.id)
    drain(executor)
    run = collect(folder)
    assert (run.status, run.values, run.stopped_early) == (Status.COMPLETED, {"auc": 0.9}, None)
    assert run.notes == ("was to be stopped early, and had ended before: 9.5 at step 4, worse than 1",)


def test_a_person_who_cancels_goes_first(executor: LocalExecutor) -> None:
    spec = script(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {HOLD}", limits=Limits(grace_s=0.2))
    folder = started(executor, spec)
    executor.cancel(folder.id, "wrong data")
    assert not executor.stop(folder.id, WHY) and not folder.stop_file.exists()
    drain(executor)
    assert collect(folder).status is Status.CANCELLED


def test_a_failure_that_came_first_stays_one(tmp_path: Path) -> None:
    spec = job("train")
    folder = RunFolder(tmp_path / spec.id)
    folder.create(spec)
    write_stop(folder, WHY)
    folder.write_exit(Exit(code=None, signal=9, reason="timeout", message="ran past 3 s"))
    run = collect(folder)
    assert run.failure is not None and run.failure.kind is FailureKind.TIMEOUT
    assert run.status is Status.FAILED and run.stopped_early is None


KILLED_LAB = """
import os, signal, sys
from pathlib import Path
from windlass.jobs import local
from windlass.jobs.stop import write_stop
from windlass.records.run import EarlyStop, RunSpec
from windlass.runs.folder import RunFolder

root, run_id, step = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
executor = local.LocalExecutor(root, 1)
executor.submit([RunFolder(root / run_id).spec()])
while not (root / run_id / "here").exists():
    executor.wait(0.05)
if step == "before":
    local.write_stop = die
else:
    executor._signal = die
executor.stop(run_id, EarlyStop(metric="loss", step=4, value=9.5, rule="median", reason="of the killed lab"))
"""


@pytest.mark.parametrize("step", ["before", "after"])
def test_a_lab_killed_around_the_record_neither_loses_nor_doubles_a_stop(tmp_path: Path, step: str) -> None:
    spec = script(HOLD)
    folder = RunFolder(tmp_path / "runs" / spec.id)
    folder.create(spec)
    lab = subprocess.run(
        [sys.executable, "-c", KILLED_LAB, str(tmp_path / "runs"), spec.id, step],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])},
        timeout=60,
        check=False,
    )
    assert lab.returncode == -signal.SIGKILL
    assert folder.stop_file.exists() == (step == "after")
    assert collect(folder).status is Status.RUNNING and collect(folder).stopped_early is None
    with closing(LocalExecutor(tmp_path / "runs", 1)) as second:
        second.submit([spec])
        assert second.stop(spec.id, WHY) == (step == "before")
        assert ended(drain(second)) == [spec.id]
    run = collect(folder)
    assert run.status is Status.STOPPED and run.stopped_early is not None
    assert run.stopped_early.reason == ("of the killed lab" if step == "after" else WHY.reason)


def test_taking_a_run_over_is_enough_to_end_it(tmp_path: Path) -> None:
    """Nobody has to judge it again: the record alone counts."""
    spec = script(HOLD)
    with closing(LocalExecutor(tmp_path / "runs", 1)) as first:
        folder = started(first, spec)
    write_stop(folder, WHY)
    with closing(LocalExecutor(tmp_path / "runs", 1)) as second:
        second.submit([spec])
        drain(second)
    assert collect(folder).stopped_early == WHY


def test_what_the_record_says_comes_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    odd = replace(WHY, value=math.nan, step=4.5, evidence={"median": math.inf, "runs": ["a"], "by": {"x": -math.inf}})
    write_stop(folder, odd)
    text = folder.stop_file.read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    back = read_stop(folder)
    assert back == replace(odd, evidence={"median": "Infinity", "runs": ["a"], "by": {"x": "-Infinity"}})


@pytest.mark.parametrize("garbage", ["", "[]", "null", "{}", '{"metric": "loss"}', "\0", '{"value": "x"}'])
def test_a_record_that_windlass_did_not_write_is_none(tmp_path: Path, garbage: str) -> None:
    spec = job("train")
    folder = RunFolder(tmp_path / spec.id)
    folder.create(spec)
    folder.stop_file.write_text(garbage)
    folder.write_exit(Exit(code=None, signal=15, reason="stop"))
    assert read_stop(folder) is None
    assert (collect(folder).status, collect(folder).stopped_early) == (Status.STOPPED, None)


def test_a_stopped_run_cannot_be_resumed(executor: LocalExecutor, tmp_path: Path) -> None:
    from windlass.runs.sdk import start_run

    (tmp_path / "windlass.toml").write_text("")
    folder = started(executor, script(HOLD))
    executor.stop(folder.id, WHY)
    drain(executor)
    with pytest.raises(StateError, match="was stopped early"):
        start_run(lab=tmp_path, resume=folder.path)
    assert folder.exit_file.exists() and until(lambda: collect(folder).status is Status.STOPPED)
