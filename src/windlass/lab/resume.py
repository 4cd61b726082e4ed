"""A run that was ended from outside goes on: its next attempt is started, and waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.errors import StateError
from windlass.jobs.collect import collect
from windlass.jobs.local import LocalExecutor
from windlass.jobs.protocol import JobEventKind
from windlass.jobs.resume import obstacle
from windlass.lab import upkeep
from windlass.lab.trainer import check_code, code_and_data
from windlass.records.run import RunRecord, RunSpec
from windlass.runs import attempts
from windlass.runs.folder import RunFolder

if TYPE_CHECKING:
    from windlass.lab.lab import Lab

TICK_S = 0.5  #: between two words on how far the run is


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How far a run is that goes on."""

    run: str
    attempt: int
    seconds: float  #: since it was resumed
    step: float | None = None  #: the last one logged in this attempt
    metrics: Mapping[str, float] = field(default_factory=dict)  #: their last values


def resume(lab: Lab, run_id: str, on_tick: Callable[[Course], None] | None = None) -> RunRecord:
    """Start the next attempt of a run and wait for its end. Where the wait is interrupted, the job goes on.

    Raises StateError for a run that has no next attempt, and where the data are not what it was trained on.
    """
    run = lab.get(run_id)
    folder = RunFolder(lab.runs_root / run.id)
    spec = folder.spec()
    if not attempts.waits(folder) and (problem := obstacle(run, folder, spec)) is not None:
        raise problem
    check_code(spec)
    _check_data(spec)
    with closing(LocalExecutor(lab.runs_root, 1)) as executor:
        number = executor.resume(run.id)
        _note(lab, run.id)
        course = _Follower(folder, number)
        while executor.active():
            for event in executor.wait(TICK_S):
                if event.kind is JobEventKind.STARTED:
                    _note(lab, run.id)
                    upkeep.describe(lab.runs_root, run.id)
            if on_tick is not None:
                on_tick(course.look())
    _note(lab, run.id)
    ended = lab.store.run(run.id)
    upkeep.tidy(lab.runs_root, ended)
    return ended


def _note(lab: Lab, run_id: str) -> None:
    """Put what the folder says into the store, where no other process did so before."""
    with suppress(StateError):
        lab.store.put([collect(lab.runs_root / run_id)])


def _check_data(spec: RunSpec) -> None:
    """Raises StateError where a run would go on with other data than it began with."""
    if "data" not in spec.fingerprints:
        return
    where = Path(spec.python_path[0]) if spec.python_path else Path.cwd()
    now = code_and_data(spec.command, spec.function, spec.config, where, spec.data).get("data")
    if now != spec.fingerprints["data"]:
        raise StateError(
            f"the data of run {spec.id} have changed since it began: {spec.fingerprints['data'][:12]} then, "
            f"{str(now)[:12]} now ({', '.join(spec.data)}); it cannot go on with other data",
            "Put the data back as they were, or start a new run.",
        )


class _Follower:
    """Reads what the journal gains."""

    def __init__(self, folder: RunFolder, attempt: int) -> None:
        self._folder, self._attempt = folder, attempt
        self._began = time.monotonic()
        self._offset = folder.journal_file.stat().st_size if folder.journal_file.exists() else 0
        self._step: float | None = None
        self._metrics: dict[str, float] = {}

    def look(self) -> Course:
        from windlass.runs.reader import read_journal

        found = read_journal(self._folder, self._offset, self._attempt)
        self._offset = found.offset
        for name, series in found.series.items():
            if not name.startswith("system/"):
                self._step = max(series.steps[-1], self._step or 0.0)
                self._metrics[name] = series.values[-1]
        return Course(
            run=self._folder.id,
            attempt=self._attempt,
            seconds=time.monotonic() - self._began,
            step=self._step,
            metrics=dict(self._metrics),
        )
