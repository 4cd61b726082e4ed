"""Runs that were ended from outside go on: by themselves in a study, by hand with a command. Real processes."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import windlass as wl
from processes import processes_of, start_windlass, until, windlass
from trainers import COUNTING
from windlass.errors import NotFound, StateError, WindlassError
from windlass.lab import Changed, Continued, Course, Event, Pause, Settled
from windlass.lab.resume import resume
from windlass.loop.cycle import MOST_ATTEMPTS
from windlass.records.run import FailureKind, RunRecord, Status
from windlass.runs.folder import RunFolder
from windlass.runs.lease import read_lease, start_ticks


@pytest.fixture
def lab(tmp_path: Path) -> wl.Lab:
    return wl.Lab.create(tmp_path / "lab")


def study(folder: Path, *, code: str = COUNTING, budget: int = 1, **trainer: Any) -> Path:
    (folder / "counting.py").write_text(code)
    path = folder / "study.yaml"
    data = {
        "name": "counting",
        "trainer": {"command": [sys.executable, "-I", "-S", "counting.py"], **trainer},
        "space": {"x": {"type": "float", "low": 0, "high": 1}},
        "baseline": {"ends": [2, 4]},
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "budget": {"runs": budget},
    }
    path.write_text(yaml.safe_dump(data))
    return path


def starts(lab: wl.Lab, run: RunRecord) -> int:
    return len((lab.runs_root / run.id / "count").read_text())


def preempted(lab: wl.Lab, path: Path) -> RunRecord:
    """The study's run, whose first attempt ended while the study was being paused."""
    pause = Pause()
    lab.run(path, pause=pause, on_event=lambda event: pause.asked or pause.ask())
    (run,) = lab.runs()
    assert run.failure is not None and (run.failure.kind, run.attempt) == (FailureKind.PREEMPTED, 1)
    return run


def test_a_study_lets_its_preempted_runs_go_on(lab: wl.Lab, tmp_path: Path) -> None:
    seen: list[Event] = []
    record = lab.run(study(tmp_path, budget=3), on_event=seen.append)
    assert record.stopped_because == "budget: 3 runs"
    runs = lab.runs()
    assert [(run.status, run.attempt, starts(lab, run)) for run in runs] == [(Status.COMPLETED, 3, 3)] * 3
    again = [event for event in seen if isinstance(event, Continued)]
    assert [(event.run.attempt, event.after.kind) for event in again] == [(2, "preempted"), (3, "preempted")] * 3
    assert len([event for event in seen if isinstance(event, Settled)]) == 3, "a run is settled once"
    assert all(cycle.same for cycle in lab.retrace("counting"))
    told = lab.explain(runs[0].id).markdown()
    assert "completed (attempt 3)" in told and "attempt 3 goes on at step 4: attempt 2 was preempted" in told
    summary = RunFolder(lab.runs_root / runs[0].id).summary_file.read_text()
    assert "completed (attempt 3)" in summary and "> attempt 2 goes on at step 2" in summary


def test_a_run_has_ten_attempts_by_itself(lab: wl.Lab, tmp_path: Path) -> None:
    code = "import os\nos.makedirs('state/x', exist_ok=True)\nopen('count', 'a').write('x')\nraise SystemExit(143)"
    seen: list[Event] = []
    lab.run(study(tmp_path, code=code), on_event=seen.append)
    (run,) = lab.runs()
    assert run.failure is not None and run.failure.kind is FailureKind.PREEMPTED
    assert (run.attempt, starts(lab, run)) == (MOST_ATTEMPTS, MOST_ATTEMPTS)
    assert sum(isinstance(event, Continued) for event in seen) == MOST_ATTEMPTS - 1
    assert lab.resume(run.id).attempt == MOST_ATTEMPTS + 1, "a person may go further"


def test_what_was_preempted_while_pausing_goes_on_with_the_next_start(lab: wl.Lab, tmp_path: Path) -> None:
    path = study(tmp_path)
    preempted(lab, path)
    seen: list[Event] = []
    lab.run(path, on_event=seen.append)
    (run,) = lab.runs()
    assert (run.status, run.attempt, starts(lab, run)) == (Status.COMPLETED, 3, 3)
    assert isinstance(seen[0], Continued) and all(cycle.same for cycle in lab.retrace("counting"))


def test_with_other_code_a_run_goes_on_only_by_hand(lab: wl.Lab, tmp_path: Path) -> None:
    path = study(tmp_path)
    first = preempted(lab, path)
    study(tmp_path, code=COUNTING + "# mended\n", budget=2)
    seen: list[Event] = []
    lab.run(path, on_event=seen.append)
    assert isinstance(seen[0], Changed) and lab.get(first.id) == first
    assert [run.status for run in lab.runs(order_by="created")] == [Status.FAILED, Status.COMPLETED]
    lab.run(path)
    assert lab.get(first.id) == first, "by now decisions know it as failed"
    assert lab.resume(first.id).attempt == 2


def test_after_everything_was_killed_a_study_goes_on(lab: wl.Lab, tmp_path: Path) -> None:
    path = study(tmp_path)
    path.write_text(path.read_text().replace("ends:\n  - 2\n  - 4", "hold: 3"))
    driving = start_windlass("run", "../study.yaml", cwd=lab.path)
    saved = until(lambda: next(lab.runs_root.glob("*/state/step"), None))
    until(lambda: saved.read_text() == "3")
    run_id = saved.parent.parent.name
    lease = read_lease(RunFolder(saved.parent.parent))
    assert lease is not None
    for pid in (driving.pid, lease.pid, *processes_of(lab.path)):
        if start_ticks(pid) is not None:
            os.kill(pid, signal.SIGKILL)
    driving.communicate()
    done = windlass("run", "../study.yaml", cwd=lab.path)
    assert "#1 goes on with attempt 2, after lost: its supervisor vanished" in done.stderr
    run = lab.get(run_id)
    assert (run.status, run.attempt, starts(lab, run)) == (Status.COMPLETED, 2, 2)


def test_a_run_that_a_person_resumed_is_taken_up_by_its_study(lab: wl.Lab, tmp_path: Path) -> None:
    """Reopened, and not on record in the database: as where that process was killed."""
    from contextlib import closing

    from windlass.jobs.local import LocalExecutor

    path = study(tmp_path)
    run = preempted(lab, path)
    with closing(LocalExecutor(lab.runs_root)) as executor:
        executor.resume(run.id)
        while executor.active():
            executor.wait()
    assert lab.store.run(run.id).attempt == 1
    lab.run(path)
    found = lab.get(run.id)
    assert (found.status, found.attempt, starts(lab, found)) == (Status.COMPLETED, 3, 3)


def test_resuming_by_hand_waits_for_the_end_and_tells_how_far_it_is(lab: wl.Lab, tmp_path: Path) -> None:
    run = preempted(lab, study(tmp_path))
    told: list[Course] = []
    again = resume(lab, run.id, told.append)
    assert again.failure is not None and (again.failure.kind, again.attempt) == (FailureKind.PREEMPTED, 2)
    assert (told[-1].run, told[-1].attempt, told[-1].step) == (run.id, 2, 4)
    assert told[-1].metrics == {"loss": 1 / 4, "tokens": 400}
    whole = lab.resume(run.id[-10:])
    assert (whole.status, whole.attempt, whole.values["loss"]) == (Status.COMPLETED, 3, 1 / 6)
    folder = RunFolder(lab.runs_root / run.id)
    assert folder.environment_file.exists() and (folder.attempt_folder(2) / "environment.json").exists()
    assert "completed (attempt 3)" in folder.summary_file.read_text()
    with pytest.raises(StateError, match="is completed"):
        lab.resume(run.id)
    with pytest.raises(NotFound):
        lab.resume("nobody")


def test_with_other_data_no_run_goes_on(lab: wl.Lab, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("1,2\n")
    run = preempted(lab, study(tmp_path, data=["rows.csv"]))
    data.write_text("1,3\n")
    with pytest.raises(StateError, match=r"the data of run .* have changed since it began"):
        lab.resume(run.id)
    assert lab.get(run.id) == run
    data.write_text("1,2\n")
    (tmp_path / "counting.py").unlink()
    with pytest.raises(WindlassError, match=r"counting\.py is gone"):
        lab.resume(run.id)


def test_a_replay_has_an_identity_of_its_own(lab: wl.Lab, tmp_path: Path) -> None:
    code = "import json, sys; spec = json.load(open(sys.argv[2]))\n"
    code += "print(json.dumps({'metrics': {'loss': 1}, 'identity': spec['identity']}))"
    lab.run(study(tmp_path, code=code, identity={"profile": "reader"}))
    (run,) = lab.runs()
    spec = RunFolder(lab.runs_root / run.id).spec()
    wanted = {
        "profile": "reader",
        "run": run.id,
        "config": run.fingerprints["config"],
        "code": run.fingerprints["code"],
    }
    assert (run.status, spec.identity) == (Status.COMPLETED, wanted)
    again, verdict = lab.replay(run.id)
    identity = RunFolder(lab.runs_root / again.id).spec().identity
    assert verdict.reproduced and identity == {**wanted, "run": again.id}


def test_a_studys_token_budget_holds_for_each_run(lab: wl.Lab, tmp_path: Path) -> None:
    path = study(tmp_path, budget=1)
    path.write_text(path.read_text().replace("budget:\n", "budget:\n  run_tokens: 500\n"))
    lab.run(path)
    (run,) = lab.runs()
    assert run.failure is not None and run.failure.kind is FailureKind.BUDGET
    assert run.failure.message == "used 600 tokens, more than its budget of 500"


def test_the_command(lab: wl.Lab, tmp_path: Path) -> None:
    run = preempted(lab, study(tmp_path))
    shown = windlass("runs", "show", run.id, cwd=lab.path).stdout
    assert f"Next: `windlass runs resume {run.id}`" in shown
    assert f"windlass runs resume {run.id}" in windlass("why", run.id, cwd=lab.path).stdout
    once = windlass("runs", "resume", run.id, cwd=lab.path, code=1)
    assert once.stdout == f"{run.id} is failed: preempted (attempt 2)\n" and "saved at step 4" in once.stderr
    again = windlass("runs", "resume", "latest", "--json", cwd=lab.path)
    assert json.loads(again.stdout)["attempt"] == 3 and again.stderr == ""
    refused = windlass("runs", "resume", run.id, cwd=lab.path, code=1)
    assert "is completed: there is nothing to go on with" in refused.stderr
    assert f"windlass runs replay {run.id}" in refused.stderr


def test_ctrl_c_leaves_it_running(lab: wl.Lab, tmp_path: Path) -> None:
    path = study(tmp_path)
    path.write_text(path.read_text().replace("- 4", "\n  hold: 4"))
    run = preempted(lab, path)
    folder = RunFolder(lab.runs_root / run.id)
    command = start_windlass("runs", "resume", run.id, cwd=lab.path)
    until(lambda: (folder.state / "step").read_text() == "4")
    command.send_signal(signal.SIGINT)
    said = command.communicate(timeout=60)[1]
    assert command.returncode == 130
    assert f"{run.id} goes on by itself" in said and f"windlass runs cancel {run.id}" in said
    assert lab.get(run.id).status is Status.RUNNING
    refused = windlass("runs", "resume", run.id, cwd=lab.path, code=1)
    assert "is still running" in refused.stderr
    cancelled = lab.cancel(run.id)
    assert (cancelled.status, cancelled.attempt) == (Status.CANCELLED, 2)
    assert lab.resume(run.id).status is Status.COMPLETED, "it had left something to go on from"
