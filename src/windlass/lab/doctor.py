"""What is wrong with the machine, a lab's folder, its database and its runs, and what to do about it."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from windlass import sandbox
from windlass.errors import NotFound, StoreError, WindlassError
from windlass.lab.lock import holder
from windlass.lab.upkeep import LEFTOVER_S, clear_leftovers, tidy
from windlass.records.decision import StudyStatus
from windlass.records.deployment import StepState
from windlass.records.run import FailureKind, RunRecord, Status
from windlass.registry.audit import Damage, verify_log
from windlass.runs.folder import RunFolder
from windlass.store.decisions import DecisionLog

if TYPE_CHECKING:
    from windlass.lab.keeping import Keeping
    from windlass.lab.lab import Lab

LOW_DISK_BYTES = 500 * 2**20
HALF_WRITTEN = re.compile(r"\..+\.(\d+)\.[0-9a-f]{8}")  #: what ``write_atomic`` writes first; with its pid


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
    """Checks of the machine, the lab's folder, its database, its runs, and what it keeps."""
    store = list(_check_store(lab))
    readable = all(check.level is not Level.PROBLEM for check in store)
    return [*_check_machine(), *_check_folder(lab.path), *store, *(_check_keeping(lab) if readable else ())]


def _check_machine() -> Iterable[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check(Level.OK, f"Python {version} on {sys.platform}, {os.cpu_count()} cores")
    extras = (
        ("tabular", "sklearn", "the tabular workload"),
        ("report", "plotly", "report.html"),
        ("agents", "pydantic_ai", "language model"),
        ("train", "torch", "training of language models"),
        ("trl", "trl", "ORPO, nor RLVR by TRL"),
    )
    for extra, module, use in extras:
        if find_spec(module):
            yield Check(Level.OK, f"extra '{extra}' is installed")
        else:
            yield Check(Level.NOTE, f"extra '{extra}' is missing: no {use}", f"pip install 'windlass[{extra}]'")
    try:
        yield Check(Level.OK, f"code that a model wrote would run in a sandbox: {sandbox.available()}")
    except sandbox.SandboxUnavailable as error:
        yield Check(Level.NOTE, error.message, error.next_step)


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
    if cleared := _clear_half_written(lab):
        yield Check(Level.OK, f"removed {cleared} half-written files that a kill had left")


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


def _clear_half_written(lab: Path) -> int:
    """Remove what ``write_atomic`` of a killed process left beside a file; how many there were."""
    patterns = (".*", "runs/.*", "runs/*/.*", "studies/*/.*", "deployments/.*")
    cleared = 0
    for file in (found for pattern in patterns for found in lab.glob(pattern)):
        named = HALF_WRITTEN.fullmatch(file.name)
        if named is None or Path(f"/proc/{named[1]}").exists() or not file.is_file():
            continue
        if time.time() - file.stat().st_mtime > LEFTOVER_S:
            file.unlink(missing_ok=True)
            cleared += 1
    return cleared


def _check_keeping(lab: Lab) -> Iterable[Check]:
    """The audit log, its copy, pointers, open rollbacks, what kills left. No checkpoint is read."""
    keeping = lab.keeping
    before = keeping.audit(read_bytes=False)
    if os.access(lab.path, os.W_OK):
        try:
            if cleared := keeping.clear_leftovers():
                yield Check(Level.OK, f"removed {cleared} halves of checkpoints and pointers that a kill had left")
            keeping.settle()
        except WindlassError as error:
            yield Check(Level.PROBLEM, error.message, error.next_step)
        except OSError as error:
            yield Check(Level.PROBLEM, f"cannot write {error.filename}: {error.strerror}", f"df {lab.path}")
    damages = keeping.audit(read_bytes=False)
    for damage in before:
        if damage not in damages:
            yield Check(Level.OK, f"put in order again: {damage}")
    for damage in damages:
        yield Check(Level.PROBLEM, str(damage), _way_out(keeping, damages))
    if damages or not (state := keeping.state).sequence:
        return
    yield Check(Level.OK, f"{state.sequence} entries of the audit log follow one another, copy and pointers agree")
    kept = set(keeping.blobs.digests())
    for checkpoint in state.checkpoints.values():
        if checkpoint.id not in state.removed and checkpoint.digest not in kept:
            what = f"checkpoint {checkpoint.id}: {keeping.blobs.folder(checkpoint.digest)} is gone"
            yield Check(Level.PROBLEM, what, f"windlass checkpoints register {checkpoint.run}")
    named = {one.digest for one in state.checkpoints.values()} | {one.scores for one in state.evaluations.values()}
    if nobodys := kept - named:
        yield Check(
            Level.NOTE, f"{len(nobodys)} folders in blobs/ are in no entry of the log", "windlass checkpoints gc"
        )
    for name in state.deployments:
        rollback = state.open_rollback(name)
        if rollback is None:
            continue
        if pid := keeping.rolling_back(name):
            yield Check(Level.NOTE, f"process {pid} is rolling {name} back to {rollback.target}")
        else:
            step = next(one for one, now in rollback.steps.items() if now is not StepState.DONE)
            what = f"the rollback of {name} to {rollback.target} was interrupted at its step {step}"
            yield Check(Level.WARNING, f"{what}: no promotion goes on", f"windlass rollback {name}")


def _way_out(keeping: Keeping, damages: Sequence[Damage]) -> str:
    mirror = keeping.vault.mirror
    copy_alone = all(damage.where == mirror.path.name for damage in damages)
    if copy_alone and verify_log(enumerate(mirror.lines(), start=1))[1]:
        return f"The database's log is sound, its copy is not: mv {mirror.path} {mirror.path}.damaged; windlass doctor"
    return "windlass audit verify"


def _is_tidy(lab: Lab, run: RunRecord) -> bool:
    return RunFolder(lab.runs_root / run.id).summary_file.exists()


def is_readable(folder: RunFolder) -> bool:
    try:
        return bool(folder.spec())
    except NotFound:
        return False
