"""What keeps a lab in order: tidying after a run, taking in scripts' own runs, reindex and doctor."""

from __future__ import annotations

import os
import queue
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

from windlass.errors import NotFound, StateError, StoreError, WindlassError
from windlass.jobs.collect import collect
from windlass.lab.lock import holder
from windlass.records.decision import StudyRecord, StudyStatus
from windlass.records.run import RUN_ID, FailureKind, RunRecord, Status
from windlass.runs import index
from windlass.runs.capture import capture
from windlass.runs.compact import compact
from windlass.runs.folder import RunFolder, write_atomic
from windlass.store.decisions import DecisionLog
from windlass.store.protocol import Store

if TYPE_CHECKING:
    from windlass.lab.lab import Lab

BATCH = 500  #: runs put into the store in one transaction
LOW_DISK_BYTES = 500 * 2**20
LEFTOVER = re.compile(rf"\.{RUN_ID.pattern}\.(\d+)\.[0-9a-f]+")
LEFTOVER_S = 10.0  #: younger ones may be in the making, by a process that cannot be seen


def tidy(runs_root: Path, run: RunRecord) -> None:
    """Compact the metric history and write SUMMARY.md and REPORT.md. Safe to repeat; a full disk is no failure."""
    from windlass.report.run import run_report, run_summary

    folder = RunFolder(runs_root / run.id)
    try:
        compact(folder)
        write_atomic(folder.report_file, run_report(run, folder).encode())
        write_atomic(folder.summary_file, run_summary(run, folder).encode())
    except OSError as error:
        print(f"run {run.id} is settled, but its reports could not be written: {error.strerror}", file=sys.stderr)


def describe(runs_root: Path, run_id: str) -> None:
    """Write down what a job of this lab runs on: host, packages, the git state of its code."""
    folder = RunFolder(runs_root / run_id)
    spec = folder.spec()
    source = Path(spec.python_path[0]) if spec.python_path else Path.cwd()
    capture(folder, source, spec.command or (spec.function or "",))


def clear_leftovers(runs_root: Path) -> int:
    """Remove run folders that a kill left half made; returns how many. They hold no run: those appear whole."""
    cleared = 0
    for folder in runs_root.glob(".*Z_*"):
        named = LEFTOVER.fullmatch(folder.name)
        if named and not Path(f"/proc/{named[1]}").exists() and time.time() - folder.stat().st_mtime > LEFTOVER_S:
            shutil.rmtree(folder, ignore_errors=True)
            cleared += 1
    return cleared


class Housekeeper:
    """Tidies settled runs in the background, so that a free slot never waits for a report."""

    def __init__(self, runs_root: Path) -> None:
        self._runs_root = runs_root
        self._waiting: queue.SimpleQueue[RunRecord | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="housekeeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.put(None)
        self._thread.join()

    def look_after(self, run: RunRecord) -> None:
        """Describe what a run that started runs on; tidy one that has ended."""
        self._waiting.put(run)

    def _work(self) -> None:
        while (run := self._waiting.get()) is not None:
            try:
                if run.status.terminal:
                    tidy(self._runs_root, run)
                else:
                    describe(self._runs_root, run.id)
            except Exception as error:
                print(f"reports of run {run.id} failed: {error!r}; see: windlass doctor", file=sys.stderr)


def sync(runs_root: Path, store: Store) -> None:
    """Bring the store up to date with run folders: new runs of scripts, and runs that ended or were lost meanwhile.

    A lab that cannot be written is read as it is.
    """
    offset_file = runs_root / ".synced"
    try:
        offset = int(offset_file.read_text())
    except (OSError, ValueError):
        offset = 0
    entries, end = index.read_from(runs_root, offset)
    known_open = {run.id: run for run in store.search("status IN ('pending', 'queued', 'running')")}
    changed: list[RunRecord] = []
    for run_id in dict.fromkeys([*(entry.id for entry in entries), *known_open]):
        try:
            run = collect(runs_root / run_id)
        except NotFound:
            continue  # pending: decided, its folder not made yet; or removed by hand
        if run != known_open.get(run_id):
            changed.append(run)
    try:
        for run in changed:
            try:
                store.put([run])
            except StateError:
                continue  # settled by the process that drives the lab, a moment ago
            if run.status.terminal:
                tidy(runs_root, run)
        if end != offset:
            write_atomic(offset_file, str(end).encode())
    except (StoreError, OSError) as error:
        print(f"the lab could not be brought up to date: {error}", file=sys.stderr)


@dataclass(frozen=True, slots=True)
class Reindexed:
    runs: int
    studies: int
    skipped: tuple[str, ...]  #: folders without a readable spec
    kept_aside: Path | None  #: the database that was replaced


def reindex(lab: Path, database: Path, on_progress: Callable[[int, int], None] | None = None) -> Reindexed:
    """Build a new database beside the old one, then swap them; the old one is kept as ``<name>.replaced-<time>``."""
    from windlass.store.sql import SqlStore

    beside = database.with_name(f"{database.name}.new")
    for leftover in _database_files(beside):
        leftover.unlink(missing_ok=True)
    folders = sorted(p for p in (lab / "runs").iterdir() if p.is_dir() and not p.name.startswith("."))
    store = SqlStore(beside)
    skipped: list[str] = []
    batch: list[RunRecord] = []
    try:
        studies = [_restore_study(store, folder) for folder in sorted((lab / "studies").glob("*/"))]
        for done, folder in enumerate(folders, start=1):
            try:
                batch.append(collect(folder))
            except WindlassError:
                skipped.append(folder.name)
            if len(batch) == BATCH or done == len(folders):
                store.put(batch)
                batch = []
            if on_progress and (done % 50 == 0 or done == len(folders)):
                on_progress(done, len(folders))
    finally:
        store.close()
    aside: Path | None = None
    if database.exists():
        aside = database.with_name(f"{database.name}.replaced-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        for old, new in zip(_database_files(database), _database_files(aside), strict=True):
            if old.exists():
                os.replace(old, new)
    for old, new in zip(_database_files(beside), _database_files(database), strict=True):
        if old.exists():
            os.replace(old, new)
    return Reindexed(len(folders) - len(skipped), sum(studies), tuple(skipped), aside)


def _database_files(database: Path) -> list[Path]:
    """SQLite's files, the main one last, so that a kill between renames never leaves a log beside a foreign file."""
    return [database.with_name(database.name + suffix) for suffix in ("-wal", "-shm", "")]


def _restore_study(store: Store, folder: Path) -> bool:
    """A study from its ``study.yaml`` and ``decisions.jsonl``; False where the folder has no readable study."""
    from windlass.lab.study import load_study

    file = folder / "study.yaml"
    if not file.is_file():
        return False
    study = load_study(file)
    decisions = DecisionLog(folder / "decisions.jsonl").read()
    store.save_study(
        StudyRecord(
            name=study.name,
            definition=study.model_dump(mode="json", exclude_defaults=True),
            created=decisions[0].at if decisions else file.stat().st_mtime,
            status=StudyStatus.PAUSED,
            cycles=decisions[-1].cycle if decisions else 0,
            folder=str(folder),
        )
    )
    store.record(decisions)
    return True


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
    for extra, module, use in (("tabular", "sklearn", "the tabular workload"), ("report", "plotly", "report.html")):
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
    folders = {p.name for p in lab.runs_root.iterdir() if p.is_dir() and not p.name.startswith(".")}
    if unknown := folders - stored.keys():
        yield Check(
            Level.WARNING, f"{len(unknown)} run folders are not in the store, e.g. {min(unknown)}", "windlass reindex"
        )
    if gone := [run.id for run in stored.values() if run.id not in folders and run.status is not Status.PENDING]:
        yield Check(Level.WARNING, f"{len(gone)} runs have lost their folder, e.g. {min(gone)}", "windlass reindex")
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
        logged = len(DecisionLog(lab.study_folder(record.name) / "decisions.jsonl").read())
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
