"""The lab from Python: run, resume, read, replay, scripts of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

import windlass as wl
from processes import ENVIRONMENT
from trainers import quadratic_study
from windlass.errors import NotFound, StateError, StoreError, StudyError, WindlassError
from windlass.lab import Changed, Pause, Started
from windlass.records.decision import StudyStatus
from windlass.records.run import FailureKind, Status


@pytest.fixture
def lab(tmp_path: Path) -> wl.Lab:
    return wl.Lab.create(tmp_path / "lab")


def study_file(folder: Path, **changes: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(quadratic_study(folder, **changes), sort_keys=False))
    return path


def test_a_study_runs_to_its_budget_and_keeps_the_best(lab: wl.Lab, tmp_path: Path) -> None:
    record = lab.run(study_file(tmp_path))
    assert record.status is StudyStatus.FINISHED and record.stopped_because == "budget: 12 runs"
    runs = lab.store.history("quadratic")
    assert [run.number for run in runs] == list(range(1, 13))
    assert {run.status for run in runs} == {Status.COMPLETED}
    assert runs[0].config == {"x": 1.0, "y": 1.0}, "the baseline first"
    best = lab.best("quadratic")
    assert best is not None and best.values["loss"] == min(run.values["loss"] for run in runs) < 2.0
    for run in runs:
        loss = run.config["x"] ** 2 + run.config["y"] ** 2
        assert run.values["loss"] == pytest.approx(loss)


def test_search_gives_a_data_frame(lab: wl.Lab, tmp_path: Path) -> None:
    lab.run(study_file(tmp_path))
    frame = lab.search("metrics.loss < 4 and params.x > 0", order_by="metrics.loss")
    assert frame["metrics.loss"].is_sorted() and (frame["params.x"] > 0).all() and frame.height >= 1
    history = lab.metrics(lab.best("quadratic").id, "loss")  # type: ignore[union-attr]
    assert history["step"].to_list() == [0, 1, 2]


def test_files_beside_the_database_tell_the_same_story(lab: wl.Lab, tmp_path: Path) -> None:
    lab.run(study_file(tmp_path, budget={"runs": 2}))
    for run in lab.runs():
        folder = lab.folder(run.id)
        names = {path.name for path in folder.path.iterdir()}
        assert {"spec.json", "config.yaml", "lease.json", "journal.jsonl", "stdout.log", "exit.json"} <= names
        assert {"metrics.parquet", "SUMMARY.md", "REPORT.md"} <= names
        assert folder.spec_file.stat().st_mode & 0o777 == 0o600 == folder.config_file.stat().st_mode & 0o777
        assert yaml.safe_load(folder.config_file.read_text()) == run.config
    assert (lab.runs_root / "LATEST").read_text().strip() == lab.store.history("quadratic")[-1].id
    assert len((lab.study_folder("quadratic") / "decisions.jsonl").read_text().splitlines()) == 2


def test_concurrent_slots_are_kept_full(lab: wl.Lab, tmp_path: Path) -> None:
    study = quadratic_study(tmp_path, budget={"runs": 6, "concurrent": 3})
    study["baseline"]["seconds"] = 0.3
    began = time.monotonic()
    lab.run(wl.Study.model_validate(study))
    assert time.monotonic() - began < 6 * 0.3 + 2
    runs = lab.store.history("quadratic")
    overlap = max(sum(a.started <= b.started < a.ended for a in runs) for b in runs)  # type: ignore[operator]
    assert overlap == 3


def test_rejections_are_decisions_that_name_the_rule(lab: wl.Lab, tmp_path: Path) -> None:
    nothing = [{"name": "never", "forbid": {"x": {"min": -2.0}}, "reason": "nothing is allowed"}]
    record = lab.run(study_file(tmp_path, constraints=nothing, baseline={}))
    assert record.status is StudyStatus.FINISHED and "'never'" in record.stopped_because
    decisions = lab.store.decisions("quadratic")
    assert decisions and not any(d.approved for d in decisions) and not lab.runs()


def test_constraints_hold_for_every_run(lab: wl.Lab, tmp_path: Path) -> None:
    corner = [{"name": "corner", "forbid": {"x": {"max": 0.0}, "y": {"max": 0.5}}}]
    lab.run(study_file(tmp_path, constraints=corner, budget={"runs": 20}))
    runs = lab.store.history("quadratic")
    assert len(runs) == 20
    assert not any(run.config["x"] <= 0 and run.config["y"] <= 0.5 for run in runs)


def test_a_small_space_is_run_once_through(lab: wl.Lab, tmp_path: Path) -> None:
    space = {"x": {"type": "int", "low": 0, "high": 2}, "y": {"type": "categorical", "choices": [0, 1]}}
    record = lab.run(study_file(tmp_path, space=space, baseline={}, budget={"runs": 100}))
    assert "no more than 6 configs" in record.stopped_because
    assert len({str(run.config) for run in lab.runs()}) == 6 == len(lab.runs())


def test_a_changed_question_under_an_old_name_is_refused(lab: wl.Lab, tmp_path: Path) -> None:
    lab.run(study_file(tmp_path, budget={"runs": 1}))
    with pytest.raises(StudyError, match="changed: seed"):
        lab.run(study_file(tmp_path, seed=99))
    lab.run(study_file(tmp_path, budget={"runs": 3}))
    assert len(lab.runs()) == 3, "more budget is the same question"


def test_failures_are_results_with_their_kind(lab: wl.Lab, tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text(
        "import json, sys, time\n"
        "x = json.load(open(sys.argv[2]))['config']['x']\n"
        "if x == 0: raise RuntimeError('no zero')\n"
        "if x == 1: time.sleep(60)\n"
        "if x == 2: print('garbage'); sys.exit()\n"
        "if x == 3: hog = bytearray(400_000_000); time.sleep(60)\n"
        "print(json.dumps({'metrics': {'loss': float('nan') if x == 4 else x}}))\n"
    )
    lab.run(
        study_file(
            tmp_path,
            trainer={"command": [sys.executable, str(script)]},
            space={"x": {"type": "int", "low": 0, "high": 5}},
            baseline={},
            budget={"runs": 6, "run_time": 1.5, "run_memory": "200MB", "concurrent": 2},
        )
    )
    kinds = {run.config["x"]: run.failure.kind if run.failure else None for run in lab.runs()}
    assert kinds == {
        0: FailureKind.ERROR,
        1: FailureKind.TIMEOUT,
        2: FailureKind.INVALID_RESULT,
        3: FailureKind.OUT_OF_MEMORY,
        4: FailureKind.DIVERGED,
        5: None,
    }
    zero = next(run for run in lab.runs() if run.config["x"] == 0)
    assert zero.failure is not None and "no zero" in zero.failure.message + zero.failure.traceback


def test_a_replay_reproduces_and_a_changed_trainer_drifts(lab: wl.Lab, tmp_path: Path) -> None:
    lab.run(study_file(tmp_path, budget={"runs": 2}))
    first = lab.store.history("quadratic")[0]
    replayed, verdict = lab.replay(first.id)
    assert verdict.reproduced and replayed.lineage == {"replay_of": first.id} and replayed.id != first.id
    assert len(lab.store.history("quadratic")) == 2, "a replay is no run of the study"
    script = tmp_path / "quadratic.py"
    script.write_text(script.read_text().replace('{"loss": x * x + y * y}', '{"loss": x * x}'))
    _, verdict = lab.replay(first.id)
    assert not verdict.reproduced
    assert any(change.name == "code" for change in verdict.environment), "the changed code is named"


def test_function_trainers_run_cold_and_from_a_preloaded_parent(lab: wl.Lab, tmp_path: Path) -> None:
    (tmp_path / "trainer_module.py").write_text(
        "def train(config, run):\n"
        "    for step in range(4):\n"
        "        run.log(step=step, loss=config['x'] / (step + 1))\n"
        "    run.note('hello')\n"
        "    return {'loss': config['x'] ** 2}\n"
    )
    for name, preload in (("cold", []), ("warm", ["json", "statistics"])):
        trainer = {"function": "trainer_module:train", "preload": preload}
        space = {"x": {"type": "float", "low": 1, "high": 2}}
        lab.run(study_file(tmp_path, name=name, trainer=trainer, space=space, baseline={}, budget={"runs": 2}))
        for run in lab.store.history(name):
            assert run.status is Status.COMPLETED, run.failure
            assert run.values["loss"] == run.config["x"] ** 2 and run.notes == ("hello",)


def test_readers_all_the_while_change_nothing(lab: wl.Lab, tmp_path: Path) -> None:
    """A reader meets runs at every moment of their start and end, and takes none of them for lost."""
    over, looks = threading.Event(), 0

    def read() -> None:
        nonlocal looks
        with wl.Lab(lab.path) as reader:
            while not over.is_set():
                reader.sync()
                looks += 1

    thread = threading.Thread(target=read)
    thread.start()
    try:
        lab.run(study_file(tmp_path, budget={"runs": 60, "concurrent": 3}))
    finally:
        over.set()
        thread.join()
    assert looks > 60 and [run.status for run in lab.runs()] == [Status.COMPLETED] * 60


def test_runs_of_scripts_appear_and_lost_ones_are_told(lab: wl.Lab, tmp_path: Path) -> None:
    script = (
        "import windlass as wl, os, sys\nrun = wl.start_run('mine', config={'lr': 0.1})\nrun.log(step=1, loss=0.5)\n"
    )
    environment = {**ENVIRONMENT, "WINDLASS_LAB": str(lab.path)}
    subprocess.run([sys.executable, "-c", script + "run.finish()"], env=environment, check=True, cwd=tmp_path)
    subprocess.run(
        [sys.executable, "-c", script + "os.kill(os.getpid(), 9)"], env=environment, cwd=tmp_path, check=False
    )
    runs = lab.runs("name = 'mine'", order_by="created")
    assert sorted(run.status for run in runs) == [Status.COMPLETED, Status.FAILED]
    lost = next(run for run in runs if run.failure)
    assert lost.failure is not None and lost.failure.kind is FailureKind.LOST
    assert {run.values["loss"] for run in runs} == {0.5}


def test_clear_errors_for_what_is_not_there(lab: wl.Lab, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no study 'nothing'"):
        lab.run("nothing")
    with pytest.raises(NotFound, match="no study file"):
        lab.run(tmp_path / "absent.yaml")
    with pytest.raises(NotFound, match="is no lab"):
        wl.Lab(tmp_path)
    with pytest.raises(NotFound):
        lab.get("latest")
    missing = study_file(tmp_path, trainer={"command": ["no-such-trainer-at-all"]}, budget={"runs": 1})
    lab.run(missing)
    failure = lab.runs()[0].failure
    assert failure is not None and "no-such-trainer-at-all" in failure.message


def test_half_made_folders_of_the_dead_are_cleared_and_others_stay(lab: wl.Lab, tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    name = ".20260101T000000Z_x_0123456789"
    folders = {pid: lab.runs_root / f"{name}.{pid}.abcd1234" for pid in (dead.pid, os.getpid())}
    for folder in folders.values():
        folder.mkdir()
        os.utime(folder, (0, 0))
    lab.run(study_file(tmp_path, budget={"runs": 1}))
    assert not folders[dead.pid].exists() and folders[os.getpid()].exists()


def test_cancel_ends_a_run_of_another_process(lab: wl.Lab, tmp_path: Path) -> None:
    study = quadratic_study(tmp_path, budget={"runs": 1})
    study["baseline"]["seconds"] = 60
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    driver = subprocess.Popen(
        [sys.executable, "-m", "windlass", "run", str(tmp_path / "study.yaml"), "--lab", str(lab.path)],
        env=ENVIRONMENT,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while not any(run.status is Status.RUNNING for run in lab.runs()):
        assert time.monotonic() < deadline and driver.poll() is None
        os.sched_yield()
    assert lab.cancel(lab.runs()[0].id).status is Status.CANCELLED
    assert driver.wait(20) == 0
    assert lab.runs()[0].status is Status.CANCELLED


def test_a_missing_database_is_no_new_beginning(lab: wl.Lab, tmp_path: Path) -> None:
    file = study_file(tmp_path, budget={"runs": 4})
    lab.run(file, cycles=2)
    lab.close()
    for path in lab.path.glob("windlass.db*"):
        path.unlink()
    with pytest.raises(StoreError, match="is gone"):
        lab.run(file)
    assert lab.reindex().runs == 2
    lab.run("quadratic")
    assert [run.number for run in lab.store.history("quadratic")] == [1, 2, 3, 4], "from where its files are"
    assert {run.status for run in lab.runs()} == {Status.COMPLETED}


def test_reindex_keeps_what_only_the_database_knows_and_passes_over_garbage(lab: wl.Lab, tmp_path: Path) -> None:
    lab.run(study_file(tmp_path, budget={"runs": 3}))
    before = {run.id: run.values for run in lab.runs()}
    shutil.rmtree(lab.runs_root / min(before))
    with lab.decisions_file("quadratic").open("a") as file:
        file.write("garbage\n")
    (lab.path / "studies" / "broken").mkdir()
    (lab.path / "studies" / "broken" / "study.yaml").write_text("name: [")
    lab.doctor()
    result = lab.reindex()
    assert result.runs == 3 and result.skipped == ("studies/broken",)
    assert {run.id: run.values for run in lab.runs()} == before
    record = lab.study("quadratic")
    assert record.status is StudyStatus.FINISHED and record.active_s > 0
    shutil.rmtree(lab.runs_root)
    assert lab.reindex().runs == 3
    lab.doctor()


def test_a_trainer_that_never_starts_is_told_after_three_runs_and_can_be_mended(lab: wl.Lab, tmp_path: Path) -> None:
    broken = {"command": [sys.executable, str(tmp_path / "absent.py")]}
    record = lab.run(study_file(tmp_path, trainer=broken))
    assert "3 runs all failed alike" in record.stopped_because and len(lab.runs()) == 3
    record = lab.run(study_file(tmp_path))
    assert record.stopped_because == "budget: 12 runs"
    with pytest.raises(StudyError, match="changed: trainer"):
        lab.run(study_file(tmp_path, trainer=broken))


def test_what_a_command_prints_goes_over_what_it_logged(lab: wl.Lab, tmp_path: Path) -> None:
    (tmp_path / "both.py").write_text(
        "import windlass as wl, json\n"
        "with wl.start_run() as run: run.log(step=1, loss=5.0, x=2.0)\n"
        "print(json.dumps({'metrics': {'loss': 1.0}}))\n"
    )
    trainer = {"command": [sys.executable, "both.py"], "env": {"PYTHONPATH": ENVIRONMENT["PYTHONPATH"]}}
    lab.run(study_file(tmp_path, trainer=trainer, budget={"runs": 1}))
    (run,) = lab.runs()
    assert run.status is Status.COMPLETED, run.failure
    assert run.values == {"loss": 1.0, "x": 2.0}


def test_changed_code_between_two_starts_is_told(lab: wl.Lab, tmp_path: Path) -> None:
    lab.run(study_file(tmp_path, budget={"runs": 1}))
    events: list[object] = []
    lab.run(study_file(tmp_path, budget={"runs": 2}), on_event=events.append)
    assert not any(isinstance(event, Changed) for event in events)
    file = study_file(tmp_path, budget={"runs": 3})
    with (tmp_path / "quadratic.py").open("a") as script:
        script.write("# changed\n")
    lab.run(file, on_event=events.append)
    assert [event.what for event in events if isinstance(event, Changed)] == [("code",)]


def test_the_same_command_is_taken_up_and_another_one_is_new(lab: wl.Lab, tmp_path: Path) -> None:
    file, pause = study_file(tmp_path, budget={"runs": 50}), Pause()

    def after_two(event: object) -> None:
        if len(lab.store.history("quadratic")) >= 2:
            pause.ask()

    lab.run(file, cycles=5, pause=pause, on_event=after_two)
    assert lab.study("quadratic").cycles < 5
    assert lab.run(file, cycles=5).cycles == 5
    pause = Pause()
    pause.ask()
    lab.run(file, cycles=9, pause=pause)
    assert lab.run(file, cycles=1).cycles == 6


def test_a_run_whose_folder_is_removed_while_it_runs_is_lost_and_the_study_goes_on(lab: wl.Lab, tmp_path: Path) -> None:
    study = quadratic_study(tmp_path, budget={"runs": 3})
    study["baseline"]["seconds"] = 0.5
    removed: list[str] = []

    def remove(event: object) -> None:
        if isinstance(event, Started) and not removed:
            removed.append(event.run.id)
            shutil.rmtree(lab.runs_root / event.run.id)

    lab.run(study, on_event=remove)
    runs = {run.id: run for run in lab.store.history("quadratic")}
    assert len(runs) == 3 and sum(run.status is Status.COMPLETED for run in runs.values()) == 2
    assert runs[removed[0]].failure is not None


def test_settings_refuse_what_they_do_not_know(lab: wl.Lab) -> None:
    (lab.path / "windlass.toml").write_text("hartbeat_s = 3\n")
    with pytest.raises(WindlassError, match="Did you mean 'heartbeat_s'"):
        wl.Lab(lab.path)


def test_an_answer_for_a_finished_study_is_refused(lab: wl.Lab, tmp_path: Path) -> None:
    study = quadratic_study(tmp_path, budget={"runs": 3, "wall_time": "1s"}, autonomy="manual")
    record = lab.run(study)
    assert record.stopped_because == "budget: 1 s of wall time" and not lab.runs()
    assert lab.waiting() == [], "what waits in a finished study waits for nobody"
    with pytest.raises(StateError, match=r"is finished \(budget: 1 s of wall time\); #1 will not run"):
        lab.answer("quadratic#1", approved=True, reason="late")
