"""``kill -9`` at every step of register, evaluate, judge, promote, serve and roll back: the next start ends it all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from keepinglab import NAME, Snapshot, add_run, champion, gate_of, leftovers, make_lab, story, study, told
from killing import Interpreter
from processes import processes_of, until
from windlass.lab import Lab
from windlass.records.deployment import ROLLBACK_STEPS, Stage

MOST = 200  #: points of one work
#: what blobs do before they put something in place, walked through in one test
ADDING = ("link blobs", "replace blobs")


@pytest.fixture(scope="module")
def interpreter() -> Iterator[Interpreter]:
    with Interpreter() as started:
        yield started


def serves_whole(lab: Path) -> None:
    """Whatever was killed: who reads the pointer finds a checkpoint, and all of it."""
    file = lab / "deployments" / f"{NAME}.json"
    if file.exists():
        assert json.loads((Path(json.loads(file.read_text())["path"]) / "model.json").read_bytes())


def cleared(lab: Path) -> None:
    """What kills left goes with the next look at the lab's health, and nothing else does."""
    for file in lab.rglob(".*"):
        os.utime(file, (1, 1))  # nobody takes them for files in the making
    with Lab(lab) as opened:
        before = list(told(opened))
        problems = [check for check in opened.doctor() if check.level in ("problem", "warning")]
        assert not problems and list(told(opened)) == before
    assert leftovers(lab) == []


def each_kill_alone(interpreter: Interpreter, lab: Path, *work: Any, skip: Sequence[str] = ()) -> set[str]:
    """Kill at the first point and do it again; from the start: at the second, and again. The kinds of points."""
    snapshot = Snapshot(lab.parent)
    undisturbed = interpreter.run(work[0], lab, *work[1:])["value"]
    assert undisturbed["damages"] == [] and undisturbed["open"] == []
    kinds = set()
    for point in range(1, MOST):
        snapshot.restore()
        killed = interpreter.run(work[0], lab, *work[1:], at=point, skip=skip)["killed"]
        serves_whole(lab)
        after = interpreter.run(work[0], lab, *work[1:])
        assert after["value"] == undisturbed, f"killed at point {point}, {killed}: {after}"
        if killed is None:
            break
        kinds.add(killed.split()[0])
        if leftovers(lab):
            cleared(lab)
    else:
        raise AssertionError(f"more than {MOST} points: the last was {killed}")
    assert story(lab) == undisturbed
    return kinds


def every_kill_in_turn(interpreter: Interpreter, lab: Path, *work: Any, skip: Sequence[str] = ()) -> list[str]:
    """Kill at the first point, go on to the next one and kill there, until nothing is left to do. The points."""
    snapshot = Snapshot(lab.parent)
    undisturbed = interpreter.run(work[0], lab, *work[1:])["value"]
    assert undisturbed["damages"] == [] and undisturbed["open"] == []
    snapshot.restore()
    points: list[str] = []
    while (found := interpreter.run(work[0], lab, *work[1:], spare=points, skip=skip))["killed"]:
        serves_whole(lab)
        points.append(found["killed"])
        assert len(points) < MOST, f"it never ends: {points[-20:]}"
    assert found["value"] == undisturbed, f"{found} after kills at {points}"
    cleared(lab)
    return points


def test_a_kill_at_any_step_from_a_run_to_serving(interpreter: Interpreter, tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "work")
    before = champion(lab, 0.5)
    run = add_run(lab, 0.7)
    with Lab(lab) as opened:
        opened.sync()
    kinds = each_kill_alone(interpreter, lab, "promote", run)
    assert kinds == {"append", "copy", "half", "link", "put", "rename", "replace", "submit", "submitted"}
    with Lab(lab) as opened:
        line = opened.keeping.state.deployment(NAME)
        assert line.tenures[0].checkpoint == before and len(line.tenures) == 2
    until(lambda: not processes_of(lab))


def test_a_kill_at_any_step_of_a_rollback(interpreter: Interpreter, tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "work")
    target, source = champion(lab, 0.5), champion(lab, 0.7)
    kinds = each_kill_alone(interpreter, lab, "roll_back", target, skip=[*ADDING, "copy", "half"])
    assert kinds == {"append", "put", "rename", "replace", "submit", "submitted"}
    found = story(lab)
    assert found["stages"] == {NAME: {target: Stage.CHAMPION, source: Stage.ROLLED_BACK}}
    steps = [entry[1:] for entry in found["entries"] if entry[0] == "stepped"]
    assert steps == [[step, state] for step in ROLLBACK_STEPS for state in ("started", "done")]
    until(lambda: not processes_of(lab))


def test_kills_at_every_step_of_a_study_with_a_gate(interpreter: Interpreter, tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "work")
    (lab.parent / "study.yaml").write_text(json.dumps(study(budget={"runs": 3})))
    points = every_kill_in_turn(interpreter, lab, "drive", skip=[*ADDING, "copy", "half", "replace runs"])
    assert {point.split()[0] for point in points} == {"append", "put", "rename", "replace", "submit", "submitted"}
    with Lab(lab) as opened:
        assert len(opened.runs("study = 'readers'")) == 3
        assert len(opened.keeping.state.deployment(NAME).tenures) == 2
    until(lambda: not processes_of(lab))


def test_kills_at_every_step_of_shadow_canary_and_a_rollback_by_itself(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    lab = make_lab(tmp_path / "work")
    before = champion(lab, 0.5)
    trial = {"power": 0.5, "confidence": 0.8, "failed": 0.3}
    make_lab(
        tmp_path / "work",
        shadow={"accepted": 0.5, "detect": 0.4, **trial},
        canary={"shares": [0.2, 0.5], "worse": 0.45, **trial},
        monitor={"window": 16, "drop": 0.3, "confidence": 0.6, "act": "auto"},
    )
    challenger = champion(lab, 0.7)
    points = every_kill_in_turn(interpreter, lab, "serve", before, challenger, skip=[*ADDING, "half of copy"])
    kinds = {point.split()[0] for point in points}
    assert kinds == {"append", "copy", "outcomes", "half", "put", "rename", "replace", "submit", "submitted"}
    found = story(lab)
    assert found["stages"] == {NAME: {before: Stage.CHAMPION, challenger: Stage.ROLLED_BACK}}
    staged = [entry[2:4] for entry in found["entries"] if entry[0] == "staged"]
    assert staged == [["shadow", "0.0"], ["canary", "0.2"], ["canary", "0.5"]]
    assert sum(entry[0] == "planned" for entry in found["entries"]) == 1


def both(interpreter: Interpreter, lab: Path, step: str, *checkpoints: str) -> list[list[Any]]:
    """Two processes promote, and come to ``step`` at one time; exit code and words of each."""
    pipes = [str(lab.parent / name) for name in ("there", "back")]
    for pipe in pipes:
        os.mkfifo(pipe)
    runs = set(os.listdir(lab / "runs"))
    for checkpoint, ways in zip(checkpoints, ("rw", "wr"), strict=True):
        meeting = [step, *(f"{way}{pipe}" for way, pipe in zip(ways, pipes, strict=True))]
        interpreter.start("command", lab, meeting, "promote", NAME, checkpoint, "--policy", str(gate_of(lab)))
        until(lambda: [run for run in os.listdir(lab / "runs") if run[0] != "." and run not in runs])
    return sorted(interpreter.answer()["value"] for _ in checkpoints)


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(interpreter: Interpreter, tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "work")
    before = champion(lab, 0.5)
    with Lab(lab) as opened:
        rivals = [opened.keeping.register(add_run(lab, right)).id for right in (0.7, 0.8)]
    ends = both(interpreter, lab, "advance", *rivals)
    assert [code for code, _ in ends] == [0, 1]
    assert "another promotion came first" in ends[1][1] and "Traceback" not in ends[1][1]
    found = story(lab)
    promoted = [entry[1] for entry in found["entries"] if entry[0] == "promoted"]
    assert promoted[0] == before and len(promoted) == 2 and found["pointers"] == {NAME: promoted[1]}
    assert [entry[3] for entry in found["entries"] if entry[0] == "judged"] == ["promote"] * 3
    assert found["damages"] == []
    loser = next(rival for rival in rivals if rival != promoted[1])
    assert found["stages"][NAME] == {before: "retired", promoted[1]: "champion", loser: "evaluated"}


@pytest.mark.parametrize("step", ["Change", "advance"], ids=["before the evaluation is entered", "after the gate"])
def test_two_that_promote_the_same_checkpoint_do_it_once(interpreter: Interpreter, tmp_path: Path, step: str) -> None:
    lab = make_lab(tmp_path / "work")
    champion(lab, 0.5)
    with Lab(lab) as opened:
        one = opened.keeping.register(add_run(lab, 0.7)).id
    ends = both(interpreter, lab, step, one, one)
    assert [code for code, _ in ends] == [0, 0], ends
    found = story(lab)
    kinds = [entry[0] for entry in found["entries"]]
    assert kinds == ["registered", "evaluated", "judged", "promoted"] * 2
    assert found["champions"] == found["pointers"] == {NAME: one} and found["damages"] == []
