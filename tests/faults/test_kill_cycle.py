"""``kill -9`` between any two steps of a cycle: no decision is lost, none is made twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from processes import ENVIRONMENT, make_lab, processes_of, until, windlass
from trainers import quadratic_study
from windlass.lab import Lab
from windlass.records.run import Status

#: run by a process of its own: the named step's ``time``-th call kills the process, before or after it is done
KILLER = """
import os, signal, sys
from windlass.lab import Lab
target, moment, time = sys.argv[1], sys.argv[2], int(sys.argv[3])
from windlass.loop import cycle, driver
from windlass.store.decisions import DecisionLog
from windlass.store.sql import SqlStore
place, _, name = target.rpartition(".")
owners = {"store": [SqlStore], "log": [DecisionLog], "": [cycle, driver]}[place]
step, calls = getattr(owners[0], name), 0
def killing(*args, **kwargs):
    global calls
    calls += 1
    if calls == time and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = step(*args, **kwargs)
    if calls == time and moment == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return result
for owner in owners:
    if hasattr(owner, name):
        setattr(owner, name, killing)
Lab(".").run("study.yaml")
"""

#: before one step is after the one before it, but for what lies between: of those, two are always tried
STEPS = [
    pytest.param(
        step, moment, 4, marks=[] if moment == "after" or step in ("log.append", "submit") else pytest.mark.slow
    )
    for step in ("deliberate", "store.record", "log.append", "waiting", "submit", "settle")
    for moment in ("before", "after")
]


def killed_at(lab: Path, step: str, moment: str, time: int) -> None:
    command = [sys.executable, "-c", KILLER, step, moment, str(time)]
    done = subprocess.run(command, cwd=lab, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr


def log(lab: Path) -> list[dict[str, Any]]:
    lines = (lab / "studies" / "quadratic" / "decisions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def configs(lab: Path) -> list[tuple[int, str]]:
    return [(line["number"], json.dumps(line["config"], sort_keys=True)) for line in log(lab) if "number" in line]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    lab = make_lab(folder / "lab", quadratic_study(folder, budget={"runs": 6}))
    windlass("run", "study.yaml", cwd=lab)
    return configs(lab)


@pytest.mark.parametrize(("step", "moment", "time"), STEPS, ids=lambda value: str(value))
def test_no_decision_is_lost_or_made_twice(
    tmp_path: Path, undisturbed: list[tuple[int, str]], step: str, moment: str, time: int
) -> None:
    lab = make_lab(tmp_path / "lab", quadratic_study(tmp_path, budget={"runs": 6}))
    killed_at(lab, step, moment, time)
    windlass("run", "study.yaml", cwd=lab)
    assert configs(lab) == undisturbed
    with Lab(lab) as opened:
        runs = opened.runs()
    assert sorted(run.number or 0 for run in runs) == [number for number, _ in undisturbed]
    assert {run.status for run in runs} == {Status.COMPLETED}
    until(lambda: not processes_of(lab))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_answer_survives_a_kill_before_its_run_starts(tmp_path: Path, moment: str) -> None:
    lab = make_lab(tmp_path / "lab", quadratic_study(tmp_path, budget={"runs": 1}, autonomy="manual"))
    killed_at(lab, "log.append", "after", 2)  # catching up, then the first proposal, which waits
    windlass("approvals", "approve", "quadratic#1", "--reason", "go", cwd=lab)
    killed_at(lab, "submit", moment, 1)
    windlass("run", "study.yaml", cwd=lab)
    runs = json.loads(windlass("runs", "list", "--json", cwd=lab).stdout)
    assert [(run["number"], run["status"]) for run in runs] == [(1, "completed")]
    lines = log(lab)
    assert [line["number"] for line in lines if "number" in line] == [1]
    assert [line["approval"]["approved"] for line in lines if "approval" in line] == [True]
