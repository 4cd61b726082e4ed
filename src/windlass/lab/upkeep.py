"""What keeps a lab in order: tidying after a run, and taking in what scripts of their own did."""

from __future__ import annotations

import os
import queue
import re
import shutil
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from windlass.errors import MissingExtra, NotFound, StateError
from windlass.jobs.collect import collect
from windlass.records.run import RUN_ID, RunRecord, Status
from windlass.runs import index
from windlass.runs.capture import capture, interpreter_of
from windlass.runs.compact import compact
from windlass.runs.folder import RunFolder, write_atomic
from windlass.store.protocol import Store

SYNCED_FILE = ".synced"  #: how far ``_index.jsonl`` is in the store, in bytes
LEFTOVER = re.compile(rf"\.{RUN_ID.pattern}\.(\d+)\.[0-9a-f]+")
LEFTOVER_S = 10.0  #: younger ones may be in the making, by a process that cannot be seen


def tidy(runs_root: Path, run: RunRecord) -> None:
    """Compact the metric history and write SUMMARY.md and REPORT.md, of a campaign of factor research report.html too;
    of a completed run, clear what it could have gone on from. Safe to repeat; a full disk is no failure.
    """
    from windlass.report.alpha import CampaignReport, alpha_page
    from windlass.report.run import run_report, run_summary

    folder = RunFolder(runs_root / run.id)
    try:
        if run.status is Status.COMPLETED:
            shutil.rmtree(folder.state, ignore_errors=True)
        compact(folder)
        write_atomic(folder.report_file, run_report(run, folder).encode())
        write_atomic(folder.summary_file, run_summary(run, folder).encode())
        if (campaign := CampaignReport.read(folder)) is not None:
            with suppress(MissingExtra):
                write_atomic(folder.path / "report.html", alpha_page(run, campaign).encode())
    except OSError as error:
        print(f"run {run.id} is settled, but its reports could not be written: {error.strerror}", file=sys.stderr)


def describe(runs_root: Path, run_id: str) -> None:
    """Write down what a job of this lab runs on: host, packages, the git state of its code."""
    folder = RunFolder(runs_root / run_id)
    spec = folder.spec()
    source = Path(spec.python_path[0]) if spec.python_path else Path.cwd()
    argv = spec.command or (spec.function or "",)
    capture(folder, source, argv, interpreter_of(spec.command, spec.env))


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
    if not os.access(runs_root, os.W_OK):
        return
    offset_file = runs_root / SYNCED_FILE
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
    for run in changed:
        try:
            store.put([run])
        except StateError:
            continue  # settled by the process that drives the lab, a moment ago
        if run.status.terminal:
            tidy(runs_root, run)
    if end != offset:
        write_atomic(offset_file, str(end).encode())
