"""What the processes of ``killing`` do: each a command that a person or a server would give."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import keepinglab
from windlass.cli.main import run_command_line
from windlass.errors import StateError
from windlass.jobs.collect import collect
from windlass.jobs.local import LocalExecutor
from windlass.lab import Lab
from windlass.loop import keeping as steps
from windlass.records.deployment import Role, Served, ServedOutcome, Stage
from windlass.runs.folder import RunFolder

ANSWERS = 16  #: of each side, in a batch


def promote(lab: Path, run: str) -> dict[str, Any]:
    """From a run to serving."""
    with Lab(lab) as opened:
        made = opened.keeping.register(run)
        opened.keeping.promote(keepinglab.NAME, made.id, keepinglab.gate_of(lab))
    return keepinglab.story(lab)


def roll_back(lab: Path, target: str) -> dict[str, Any]:
    """The next start first, then the command, where it is still to be given."""
    with Lab(lab) as opened:
        opened.keeping.resume()
        if opened.keeping.state.deployment(keepinglab.NAME).champion != target:
            opened.keeping.rollback(keepinglab.NAME, target)
    return keepinglab.story(lab)


def drive(lab: Path) -> dict[str, Any]:
    """A study with a gate, to its end."""
    with Lab(lab) as opened:
        opened.run(lab.parent / "study.yaml")
    return keepinglab.story(lab)


def go_on(lab: Path, run: str) -> list[Any]:
    """A run that was ended from outside, to its end: what became of it, and how often it was started."""
    folder = RunFolder(lab / "runs" / run)
    with closing(LocalExecutor(folder.path.parent)) as executor:
        try:
            executor.resume(run)
        except StateError:  # by a process before this one
            executor.submit([folder.spec()])
        while executor.active():
            executor.wait()
    found = collect(folder)
    return [found.status, found.attempt, found.values, (folder.path / "count").read_text()]


def train(lab: Path) -> list[Any]:
    """A study to its end: of each run, the same."""
    with Lab(lab) as opened:
        opened.run(lab.parent / "study.yaml")
        runs = opened.runs(order_by="created")
        counts = [(lab / "runs" / run.id / "count").read_text() for run in runs]
        return [[run.status, run.attempt, run.values, count] for run, count in zip(runs, counts, strict=True)]


def serve(lab: Path, champion: str, challenger: str) -> dict[str, Any]:
    """Answers come in until the challenger serves; then its answers are bad, until it serves no more."""
    with Lab(lab) as opened:
        opened.keeping.tend(keepinglab.NAME)
        for batch in range(20):
            line = opened.keeping.state.deployment(keepinglab.NAME)
            stage = line.stages[challenger]
            if line.frozen is not None:
                opened.keeping.tend(keepinglab.NAME)
            elif stage is Stage.CHAMPION:
                opened.keeping.observe(keepinglab.NAME, _answers(challenger, Role.CHAMPION, batch, "rejected"))
            elif stage in (Stage.SHADOW, Stage.CANARY):
                theirs = _answers(champion, Role.CHAMPION, batch, "accepted")
                ours = _answers(challenger, Role(str(stage)), batch, "accepted")
                opened.keeping.observe(keepinglab.NAME, [*theirs, *ours])
            else:
                return keepinglab.story(lab)
    raise AssertionError(f"{challenger} is still {stage}")


def _answers(checkpoint: str, role: Role, batch: int, outcome: str) -> list[Served]:
    """Under the same keys each time, as a server would that does not know whether they are on record."""
    return [
        Served(checkpoint=checkpoint, role=role, outcome=ServedOutcome(outcome), key=f"{outcome} {batch} {number}")
        for number in range(ANSWERS)
    ]


def command(lab: Path, meeting: list[str], *argv: str) -> list[Any]:
    """The command line: its exit code, and what it said. Two meet just before a step.

    ``meeting`` is the step's name, then two pipes in the order in which they are opened: ``r`` or ``w``, and the path.
    """
    step, *pipes = meeting
    before = getattr(steps, step)

    def together(*args: Any, **options: Any) -> Any:
        for pipe in pipes:
            open(pipe[1:], pipe[0]).close()
        return before(*args, **options)

    def alone(*_: Any) -> None:
        raise TimeoutError("the other one did not come")

    setattr(steps, step, together)
    signal.signal(signal.SIGALRM, alone)
    signal.alarm(60)
    os.chdir(lab)
    said = lab / f"said.{os.getpid()}"
    fd = os.open(said, os.O_WRONLY | os.O_CREAT)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    sys.argv = ["windlass", *argv]
    try:
        run_command_line()
        code: Any = 0
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    return [code or 0, said.read_text()]
