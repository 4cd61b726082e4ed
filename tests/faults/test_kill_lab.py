"""``kill -9`` of the lab, for real, again and again: nothing lost, nothing twice, nobody left behind."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from processes import make_lab, processes_of, start_windlass, until, windlass
from trainers import quadratic_study

KILLS = [(6, 30), pytest.param(30, 120, marks=pytest.mark.slow)]  #: and enough runs that the study outlasts them


def story(lab: Path) -> list[tuple[int, str, str]]:
    """(number, parameters, status) of every run, by number."""
    runs = json.loads(windlass("runs", "list", "--limit", "1000", "--json", cwd=lab).stdout)
    return sorted((r["number"], json.dumps(r["params"], sort_keys=True), r["status"]) for r in runs)


def decisions(lab: Path, study: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (lab / "studies" / study / "decisions.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("wanted", "runs"), KILLS)
def test_kills_end_in_the_same_runs_as_an_undisturbed_study(tmp_path: Path, wanted: int, runs: int) -> None:
    study = quadratic_study(tmp_path, budget={"runs": runs})
    study["baseline"]["seconds"] = 0.02
    undisturbed = make_lab(tmp_path / "undisturbed", study)
    windlass("run", "study.yaml", cwd=undisturbed)

    disturbed = make_lab(tmp_path / "disturbed", study)
    rng = random.Random(20)
    kills = 0
    while kills < wanted:
        process = start_windlass("run", "study.yaml", "--json", cwd=disturbed)
        assert process.stdout is not None
        lines = rng.randrange(0, 5)  # so many events, and then a random moment
        for _ in range(lines):
            if not process.stdout.readline():
                break
        try:
            process.wait(rng.uniform(0, 0.06) if lines else rng.uniform(0, 1.2))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.stdout.close()
        code = process.wait()
        assert process.stderr is not None
        talk = process.stderr.read()
        process.stderr.close()
        assert code in (0, -signal.SIGKILL), talk
        if code == 0:
            break
    assert kills == wanted, f"the study ended after {kills} kills"
    windlass("run", "study.yaml", cwd=disturbed)

    assert story(disturbed) == story(undisturbed)
    numbers = [d["number"] for d in decisions(disturbed, "quadratic")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(list((disturbed / "runs").glob("[0-9]*Z_*"))) == runs
    until(lambda: not processes_of(disturbed))


def test_running_jobs_outlive_the_lab_and_are_taken_up_again(tmp_path: Path) -> None:
    study = quadratic_study(tmp_path, budget={"runs": 2, "concurrent": 2})
    study["baseline"]["seconds"] = 1.5
    lab = make_lab(tmp_path / "lab", study)
    process = start_windlass("run", "study.yaml", "--json", cwd=lab)
    until(lambda: len(list((lab / "runs").glob("*/lease.json"))) == 2)
    leases = {path: path.read_text() for path in (lab / "runs").glob("*/lease.json")}
    process.kill()
    process.communicate()
    assert processes_of(lab)

    windlass("run", "study.yaml", cwd=lab)
    assert [status for _, _, status in story(lab)] == ["completed", "completed"]
    assert {path: path.read_text() for path in leases} == leases, "a run was started a second time"
    until(lambda: not processes_of(lab))


def test_the_same_seed_gives_the_same_configs_to_the_bit(tmp_path: Path) -> None:
    study = quadratic_study(tmp_path, budget={"runs": 16})
    labs = [make_lab(tmp_path / name, study) for name in ("a", "b")]
    for lab in labs:
        windlass("run", "study.yaml", cwd=lab)
    assert story(labs[0]) == story(labs[1])
    other = make_lab(tmp_path / "c", {**study, "seed": 4})
    windlass("run", "study.yaml", cwd=other)
    assert story(other) != story(labs[0])
