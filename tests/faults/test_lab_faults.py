"""What goes wrong around a lab: other labs, the disk, the database, a person's Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from processes import make_lab, processes_of, start_windlass, until, windlass
from trainers import quadratic_study


def statuses(lab: Path) -> list[str]:
    return [run["status"] for run in json.loads(windlass("runs", "list", "--json", cwd=lab).stdout)]


def test_a_second_driver_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    study = quadratic_study(tmp_path, budget={"runs": 1})
    study["baseline"]["seconds"] = 5
    lab = make_lab(tmp_path / "lab", study)
    first = start_windlass("run", "study.yaml", cwd=lab)
    until(lambda: list((lab / "runs").glob("*/lease.json")))
    second = windlass("run", "study.yaml", cwd=lab, code=1)
    assert str(first.pid) in second.stderr
    assert windlass("runs", "list", cwd=lab).stdout, "reading works meanwhile"
    first.communicate()
    assert statuses(lab) == ["completed"]


def test_ctrl_c_waits_for_running_jobs_and_the_same_command_goes_on(tmp_path: Path) -> None:
    study = quadratic_study(tmp_path, budget={"runs": 4})
    study["baseline"]["seconds"] = 0.8
    lab = make_lab(tmp_path / "lab", study)
    process = start_windlass("run", "study.yaml", "--cycles", "4", cwd=lab)
    until(lambda: list((lab / "runs").glob("*/lease.json")))
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=20)
    assert process.returncode == 0, talk
    assert "paused" in talk and "windlass run quadratic" in talk
    done = statuses(lab)
    assert done and set(done) == {"completed"} and len(done) < 4
    windlass("run", "study.yaml", "--cycles", "4", cwd=lab)
    assert statuses(lab) == ["completed"] * 4, "the command goes on to its four cycles"


def test_a_second_ctrl_c_leaves_at_once_and_jobs_go_on(tmp_path: Path) -> None:
    study = quadratic_study(tmp_path, budget={"runs": 1})
    study["baseline"]["seconds"] = 3
    lab = make_lab(tmp_path / "lab", study)
    process = start_windlass("run", "study.yaml", cwd=lab)
    until(lambda: list((lab / "runs").glob("*/lease.json")))
    process.send_signal(signal.SIGINT)
    until(lambda: "pausing" in (process.stderr.readline() if process.stderr else ""))
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=10)
    assert process.returncode == 0 and "go on" in talk
    assert processes_of(lab), "the job goes on"
    windlass("run", "quadratic", cwd=lab)
    assert statuses(lab) == ["completed"]


def test_a_corrupt_database_is_told_and_reindex_restores_everything(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", quadratic_study(tmp_path, budget={"runs": 5}))
    windlass("run", "study.yaml", cwd=lab)
    before = json.loads(windlass("runs", "list", "--json", cwd=lab).stdout)
    for file in lab.glob("windlass.db*"):
        file.write_bytes(b"this is no database at all " * 400)
    broken = windlass("runs", "list", cwd=lab, code=1)
    assert "windlass reindex" in broken.stderr and "Traceback" not in broken.stderr
    windlass("reindex", cwd=lab)
    assert json.loads(windlass("runs", "list", "--json", cwd=lab).stdout) == before
    assert "quadratic" in windlass("studies", "list", cwd=lab).stdout
    assert windlass("doctor", cwd=lab).returncode == 0
    windlass("run", "quadratic", cwd=lab)
    assert len(statuses(lab)) == 5, "the study knows what was decided"


def test_a_run_that_was_decided_and_lost_with_the_database_is_run(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", quadratic_study(tmp_path, budget={"runs": 4}))
    windlass("run", "study.yaml", cwd=lab)
    before = {run["number"]: run["params"] for run in json.loads(windlass("runs", "list", "--json", cwd=lab).stdout)}
    shutil.rmtree(max((lab / "runs").glob("*Z_*")))
    (lab / "windlass.db").unlink()
    assert "3 runs and 1 studies" in windlass("reindex", cwd=lab).stdout
    windlass("run", "quadratic", cwd=lab)
    runs = json.loads(windlass("runs", "list", "--json", cwd=lab).stdout)
    assert {run["number"]: run["params"] for run in runs} == before


def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mount.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "disk", "size=3m")


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "disk", "size=64m")


def test_a_full_disk_is_told_and_nothing_recorded_is_lost(tmp_path: Path, small_disk: Path) -> None:
    lab = make_lab(small_disk / "lab", quadratic_study(tmp_path, budget={"runs": 8}))
    windlass("run", "study.yaml", "--cycles", "3", cwd=lab)
    stuffing = small_disk / "stuffing"
    with open(stuffing, "wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"x" * 4096)
    full = windlass("run", "quadratic", cwd=lab, code=None)
    assert full.returncode != 0 and "Traceback" not in full.stderr and "internal error" not in full.stderr
    assert "space" in full.stderr or "full" in full.stderr, full.stderr
    stuffing.unlink()
    windlass("run", "quadratic", cwd=lab)
    done = json.loads(windlass("runs", "list", "--json", cwd=lab).stdout)
    assert sorted(run["number"] for run in done) == list(range(1, 9))
    assert all(run["status"] in ("completed", "failed") for run in done)
    assert sum(run["status"] == "completed" for run in done) >= 7, [run["failure"] for run in done]


def test_a_read_only_lab_can_be_read_and_says_why_it_cannot_be_driven(tmp_path: Path, other_disk: Path) -> None:
    lab = make_lab(other_disk / "lab", quadratic_study(tmp_path, budget={"runs": 3}))
    windlass("run", "study.yaml", cwd=lab)
    subprocess.run(["mount", "-o", "remount,ro", str(other_disk)], check=True)
    assert len(json.loads(windlass("runs", "list", "--json", cwd=lab).stdout)) == 3
    assert "completed" in windlass("runs", "show", "latest", cwd=lab).stdout
    refused = windlass("run", "quadratic", cwd=lab, code=1)
    assert "cannot write" in refused.stderr and "Traceback" not in refused.stderr
    assert windlass("doctor", cwd=lab, code=1).stdout.count("read-only") == 1


def test_a_killed_job_is_a_result_and_the_study_goes_on(tmp_path: Path) -> None:
    study = quadratic_study(tmp_path, budget={"runs": 2})
    study["baseline"]["seconds"] = 1
    lab = make_lab(tmp_path / "lab", study)
    process = start_windlass("run", "study.yaml", cwd=lab)
    lease = until(lambda: next((lab / "runs").glob("*/lease.json"), None))
    shim = json.loads(lease.read_text())["pid"]
    job = until(lambda: Path(f"/proc/{shim}/task/{shim}/children").read_text().split())
    os.kill(int(job[0]), signal.SIGKILL)
    process.communicate(timeout=30)
    runs = json.loads(windlass("runs", "list", "--order-by", "number", "--json", cwd=lab).stdout)
    assert [run["status"] for run in runs] == ["failed", "completed"]
    assert runs[0]["failure"]["kind"] == "killed"
