"""``runs/_index.jsonl``, the append-only list of runs, and ``runs/LATEST``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from windlass.records.run import RUN_ID, RunSpec
from windlass.runs.folder import RunFolder, write_atomic

INDEX_FILE, LATEST_FILE = "_index.jsonl", "LATEST"


@dataclass(frozen=True, slots=True)
class Entry:
    id: str
    time: float
    event: str  #: queued, started, resumed, ended


def enter(runs_root: Path, specs: Sequence[RunSpec]) -> None:
    """Make the folders of runs that are new, and list them."""
    made: list[str] = []
    try:
        for spec in specs:
            if RunFolder(runs_root / spec.id).create(spec):
                made.append(spec.id)
    finally:
        if made:
            append(runs_root, made, "queued")


def append(runs_root: Path, run_ids: Sequence[str], event: str) -> None:
    """A line a run, in one write(2). The last of runs that start becomes the latest."""
    now = round(time.time(), 6)
    line = "".join(json.dumps({"id": run_id, "time": now, "event": event}) + "\n" for run_id in run_ids)
    fd = os.open(runs_root / INDEX_FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(fd).st_size
        torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        os.write(fd, ("\n" if torn else "").encode() + line.encode())
    finally:
        os.close(fd)
    if event != "ended":
        write_atomic(runs_root / LATEST_FILE, f"{run_ids[-1]}\n".encode())


def read_from(runs_root: Path, offset: int) -> tuple[list[Entry], int]:
    """Entries behind a byte offset, and the offset behind them. A torn last line waits; other garbage is passed over.

    An index shorter than ``offset`` was made anew, and is read from its start.
    """
    try:
        with open(runs_root / INDEX_FILE, "rb") as file:
            if file.seek(0, os.SEEK_END) < offset:
                offset = 0
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], 0
    whole = data.rfind(b"\n") + 1
    entries = []
    for line in data[:whole].splitlines():
        try:
            fields = json.loads(line)
            run_id = str(fields["id"])
            if RUN_ID.fullmatch(run_id):
                entries.append(Entry(run_id, float(fields["time"]), str(fields["event"])))
        except (ValueError, KeyError, TypeError):
            continue
    return entries, offset + whole


def latest(runs_root: Path) -> str | None:
    """The id of the run that started last, or None."""
    try:
        run_id = (runs_root / LATEST_FILE).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return run_id if RUN_ID.fullmatch(run_id) else None
