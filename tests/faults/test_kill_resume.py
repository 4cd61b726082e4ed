"""``kill -9`` at every step of giving a run its next attempt: it is started once, and goes on to its end."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from jobspecs import drain, script
from killing import Interpreter
from processes import processes_of, until
from trainers import COUNTING
from windlass.jobs.local import LocalExecutor
from windlass.lab import Lab
from windlass.settings import lay_out

MOST = 60  #: points of one work
WHOLE = ["completed", 2, {"loss": 1 / 6, "tokens": 600.0}, "xx"]


@pytest.fixture(scope="module")
def interpreter() -> Iterator[Interpreter]:
    with Interpreter() as started:
        yield started


def test_a_kill_at_any_step_of_reopening(interpreter: Interpreter, tmp_path: Path) -> None:
    lay_out(tmp_path / "lab")
    spec = script(COUNTING, config={"ends": [2]}, required_metrics=("loss",))
    with closing(LocalExecutor(tmp_path / "lab" / "runs")) as executor:
        executor.submit([spec])
        drain(executor)
    points: list[str] = []
    for at in range(1, MOST):
        lab = tmp_path / f"lab{at}"
        shutil.copytree(tmp_path / "lab", lab)
        killed = interpreter.run("go_on", lab, spec.id, at=at)["killed"]
        assert interpreter.run("go_on", lab, spec.id)["value"] == WHOLE, f"killed at {killed}"
        until(lambda lab=lab: not processes_of(lab))  # type: ignore[misc]
        if killed is None:
            break
        points.append(killed.split()[1].removeprefix(f"runs/{spec.id}/"))
    moved = [point for point in points if point.startswith("attempts/1/")]
    assert points[0] == "attempt.json" and moved[-2:] == ["attempts/1/exit.json", "attempts/1/lease.json"]


def test_kills_at_every_step_of_a_study_whose_runs_are_preempted(interpreter: Interpreter, tmp_path: Path) -> None:
    lab = tmp_path / "work" / "lab"
    lay_out(lab)
    (lab.parent / "counting.py").write_text(COUNTING)
    study = {
        "name": "counting",
        "trainer": {"command": [sys.executable, "-I", "-S", "counting.py"]},
        "space": {"x": {"type": "float", "low": 0, "high": 1}},
        "baseline": {"ends": [2]},
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "budget": {"runs": 2},
    }
    (lab.parent / "study.yaml").write_text(yaml.safe_dump(study))
    points: list[str] = []
    while (found := interpreter.run("train", lab, spare=points))["killed"]:
        points.append(found["killed"])
        assert len(points) < 2 * MOST, f"it never ends: {points[-10:]}"
    assert found["value"] == [WHOLE, WHOLE], points
    words = " ".join(points)
    assert all(word in words for word in ("attempt.json", "attempts/1/lease.json", "'queued')", "'completed')"))
    with Lab(lab) as opened:
        assert all(cycle.same for cycle in opened.retrace("counting"))
        assert [check for check in opened.doctor() if check.level == "problem"] == []
    until(lambda: not processes_of(lab))
