"""What is wrong with the machine, a lab's folder, its database and its runs, and what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.errors import NotFound, StoreError
from windlass.lab.lock import holder
from windlass.lab.upkeep import clear_leftovers, tidy
from windlass.records.decision import StudyStatus
from windlass.records.run import FailureKind, RunRecord, Status
from windlass.runs.folder import RunFolder
from windlass.store.decisions import DecisionLog

if TYPE_CHECKING:
    from windlass.lab.lab import Lab

LOW_DISK_BYTES = 500 * 2**20


class Level(StrEnum):
    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    level: Level
    what: str
    next_step: str = ""


def doctor(lab: Lab) -> Sequence[Check]:
    """Checks of the machine, the lab's folder, its database and its runs."""
    return [*_check_machine(), *_check_folder(lab.path), *_check_store(lab)]


def _check_machine() -> Iterable[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check(Level.OK, f"Python {version} on {sys.platform}, {os.cpu_count()} cores")
    extras = (
        ("tabular", "sklearn", "the tabular workload"),
        ("report", "plotly", "report.html"),
        ("agents", "pydantic_ai", "language model"),
    )
    for extra, module, use in extras:
        if find_spec(module):
            yield Check(Level.OK, f"extra '{extra}' is installed")
        else:
            yield Check(Level.NOTE, f"extra '{extra}' is missing: no {use}", f"pip install 'windlass[{extra}]'")


def _check_folder(lab: Path) -> Iterable[Check]:
    if os.access(lab, os.W_OK):
        yield Check(Level.OK, f"lab {lab} can be written")
    else:
        yield Check(Level.PROBLEM, f"lab {lab} is read-only: reading works, driving does not", f"ls -ld {lab}")
    free = shutil.disk_usage(lab).free
    level = Level.OK if free >= LOW_DISK_BYTES else Level.WARNING
    yield Check(level, f"{free / 2**30:.1f} GiB free on its disk", "" if level is Level.OK else f"df -h {lab}")
    if pid := holder(lab):
        yield Check(Level.NOTE, f"process {pid} is driving the lab now")
    if cleared := clear_leftovers(lab / "runs"):
        yield Check(Level.OK, f"removed {cleared} half-made run folders that a kill had left")


def _check_store(lab: Lab) -> Iterable[Check]:
    try:
        lab.sync()
        complaints = lab.store.check()
        stored = {run.id: run for run in lab.store.search()}
    except StoreError as error:
        yield Check(Level.PROBLEM, error.message, error.next_step)
        return
    if complaints:
        yield Check(Level.PROBLEM, f"database {lab.settings.database}: {complaints[0]}", "windlass reindex")
    else:
        yield Check(Level.OK, f"database {lab.settings.database} is sound: {len(stored)} runs")
    folders = {p.name for p in lab.runs_root.glob("[!.]*/")}
    unknown = folders - stored.keys()
    unreadable = {name for name in unknown if not is_readable(RunFolder(lab.runs_root / name))}
    if unreadable:
        yield Check(
            Level.NOTE, f"{len(unreadable)} folders in runs/ have no readable spec.json, e.g. {min(unreadable)}"
        )
    if unknown := unknown - unreadable:
        yield Check(
            Level.WARNING, f"{len(unknown)} run folders are not in the store, e.g. {min(unknown)}", "windlass reindex"
        )
    if gone := [run.id for run in stored.values() if run.id not in folders and run.status is not Status.PENDING]:
        yield Check(
            Level.NOTE, f"{len(gone)} runs have lost their folder, e.g. {min(gone)}; the store still knows them"
        )
    lost = [r.id for r in stored.values() if r.failure and r.failure.kind is FailureKind.LOST]
    if lost:
        yield Check(
            Level.NOTE, f"{len(lost)} runs are lost: their supervisor vanished", f"windlass runs show {lost[0]}"
        )
    for record in lab.studies():
        if record.status is StudyStatus.ACTIVE and holder(lab.path) is None:
            yield Check(
                Level.WARNING,
                f"study {record.name} was interrupted in cycle {record.cycles}",
                f"windlass run {record.name}",
            )
        logged = len(DecisionLog(lab.decisions_file(record.name)).read())
        decided = len(lab.store.decisions(record.name))
        if logged != decided:
            yield Check(
                Level.WARNING,
                f"study {record.name}: decisions.jsonl has {logged} of {decided} decisions",
                f"windlass run {record.name}",
            )
    untidy = [r for r in stored.values() if r.status.terminal and r.id in folders and not _is_tidy(lab, r)]
    if untidy:
        for run in untidy:
            tidy(lab.runs_root, run)
        yield Check(Level.OK, f"wrote the missing reports of {len(untidy)} runs")


def _is_tidy(lab: Lab, run: RunRecord) -> bool:
    return RunFolder(lab.runs_root / run.id).summary_file.exists()


def is_readable(folder: RunFolder) -> bool:
    try:
        return bool(folder.spec())
    except NotFound:
        return False
