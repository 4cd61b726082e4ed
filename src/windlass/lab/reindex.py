"""The store built anew from what lies on disk: run folders, study files, decision logs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.errors import StoreError, WindlassError
from windlass.jobs.collect import collect
from windlass.records.audit import Entry
from windlass.records.decision import StudyRecord, StudyStatus
from windlass.records.run import RunRecord
from windlass.records.studyfile import parse_study
from windlass.runs.folder import read_json
from windlass.settings import lay_out
from windlass.store.decisions import DecisionLog
from windlass.store.protocol import Store

if TYPE_CHECKING:
    from windlass.store.sql import SqlStore

STUDY_FILE, RECORD_FILE, DECISIONS_FILE = "study.yaml", "record.json", "decisions.jsonl"
BATCH = 500  #: runs put into the store in one transaction


@dataclass(frozen=True, slots=True)
class Reindexed:
    runs: int
    studies: int
    skipped: tuple[str, ...]  #: folders without a readable spec or study file
    kept_aside: Path | None  #: the database that was replaced


def reindex(lab: Path, database: Path, on_progress: Callable[[int, int], None] | None = None) -> Reindexed:
    """Build a new database beside the old one, then swap them; the old one is kept as ``<name>.replaced-<time>``.

    What only the old database knows, runs that ended and whose folders are gone, is taken over where it can be read.
    """
    from windlass.store.sql import SqlStore

    lay_out(lab)
    beside = database.with_name(f"{database.name}.new")
    for leftover in _database_files(beside):
        leftover.unlink(missing_ok=True)
    folders = sorted((lab / "runs").glob("[!.]*/"))
    store = SqlStore(beside)
    skipped: list[str] = []
    batch: list[RunRecord] = []
    studies = 0
    try:
        for folder in sorted((lab / "studies").glob("*/")):
            try:
                studies += _restore_study(store, folder)
            except WindlassError:
                skipped.append(f"studies/{folder.name}")
        store.put(_without_folder(database, {folder.name for folder in folders}))
        for done, folder in enumerate(folders, start=1):
            try:
                batch.append(collect(folder))
            except WindlassError:
                skipped.append(f"runs/{folder.name}")
            if len(batch) == BATCH or done == len(folders):
                store.put(batch)
                batch = []
            if on_progress and (done % 50 == 0 or done == len(folders)):
                on_progress(done, len(folders))
        _restore_registry(lab, database, store)
        known = len(store.search())
    finally:
        store.close()
    return Reindexed(known, studies, tuple(skipped), _swap(beside, database))


def _restore_registry(lab: Path, database: Path, store: SqlStore) -> None:
    """The audit log from ``registry.jsonl``, or from the old database where that knows more."""
    from windlass.registry.mirror import Mirror
    from windlass.registry.sql import SqlRegistry
    from windlass.store.sql import SqlStore

    copies: list[list[Entry]] = []
    refused: WindlassError | None = None
    try:
        copies.append(Mirror(lab / "registry.jsonl").entries())
    except WindlassError as error:
        refused = error
    if database.exists():
        with suppress(WindlassError), closing(SqlStore(database)) as old:
            copies.append(SqlRegistry(old.database).entries())
    for entries in sorted(copies, key=len, reverse=True):
        try:
            SqlRegistry(store.database).restore(entries)
            if entries:
                return
        except WindlassError as error:
            refused = refused or error
    if refused is not None:
        raise StoreError(
            f"no copy of the audit log is sound: {refused.message}",
            "Put registry.jsonl back from a backup, or move it away to begin without what was kept; windlass reindex",
        )


def _without_folder(database: Path, folders: Container[str]) -> list[RunRecord]:
    from windlass.store.sql import SqlStore

    if not database.exists():
        return []
    try:
        with closing(SqlStore(database)) as old:
            gone = [run for run in old.search() if run.status.terminal and run.id not in folders]
    except WindlassError:
        return []
    return [replace(run, notes=tuple(dict.fromkeys((*run.notes, "its folder is gone")))) for run in gone]


def _swap(beside: Path, database: Path) -> Path | None:
    """Put the new database in the old one's place, last, by one rename; returns where the old one is kept."""
    aside: Path | None = None
    if database.exists():
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside = database.with_name(f"{database.name}.replaced-{stamp}-{os.urandom(2).hex()}")
        os.link(database, aside)
    for suffix in ("-wal", "-shm"):
        log = database.with_name(database.name + suffix)
        if log.exists() and aside is not None:
            os.replace(log, aside.with_name(aside.name + suffix))
    os.replace(beside, database)
    return aside


def _database_files(database: Path) -> list[Path]:
    return [database.with_name(database.name + suffix) for suffix in ("-wal", "-shm", "")]


def _restore_study(store: Store, folder: Path) -> bool:
    """A study from its ``study.yaml``, ``record.json`` and ``decisions.jsonl``; False where there is no study file."""
    file = folder / STUDY_FILE
    if not file.is_file():
        return False
    study = parse_study(file.read_text(encoding="utf-8"), str(file))
    log = DecisionLog(folder / DECISIONS_FILE)
    decisions = log.read()
    known = read_json(folder / RECORD_FILE)
    known = known if isinstance(known, dict) else {}
    store.save_study(
        StudyRecord(
            name=study.name,
            definition=study.model_dump(mode="json", exclude_defaults=True),
            created=decisions[0].at if decisions else file.stat().st_mtime,
            status=StudyStatus(known.get("status", StudyStatus.PAUSED)),
            cycles=decisions[-1].cycle if decisions else 0,
            stopped_because=str(known.get("stopped_because", "")),
            folder=str(known.get("folder", "")),
            active_s=float(known.get("active_s", 0.0)),
        )
    )
    store.record(decisions)
    for approval in log.approvals():
        store.answer(approval)
    return True
