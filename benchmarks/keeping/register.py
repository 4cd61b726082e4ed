"""Registering a checkpoint beside ``sha256sum`` of the same file: what it costs that bytes are kept and known.

``python benchmarks/keeping/register.py [--folder DIR] [--bytes 2000000000] [--rounds 3] [--json]``. All take turns,
round by round, on the same bytes, which are in the page cache; ``openssl`` is there since its SHA-256 uses the
processor's own instructions where ``sha256sum`` may not. Ratios are time over that of ``sha256sum``: the goal, 60 % of
its speed, is a ratio of 1.67. DIR (by default the current folder) needs three times the bytes for a while.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from windlass.records.run import RunRecord, Status, make_run_id
from windlass.registry.blobs import Blobs
from windlass.registry.register import register
from windlass.registry.sql import SqlRegistry
from windlass.runs.folder import RunFolder
from windlass.store.database import Database

GOAL = 0.6
PARTS = 20
BLOCK = 1 << 24  #: bytes
HASHERS = {"sha256sum": ["sha256sum"], "openssl": ["openssl", "dgst", "-sha256"]}


def row(name: str, value: float, unit: str, reference: str, ratio: float | None) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "reference": reference, "ratio": ratio}


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def write(path: Path, size: int, *, flush: bool = True) -> None:
    block = os.urandom(min(size, BLOCK))
    with path.open("wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])
        if flush:
            file.flush()
            os.fsync(file.fileno())


def run_with_checkpoint(folder: Path, number: int) -> RunRecord:
    run = RunRecord(
        id=make_run_id(1.79e9, "benchmark", {"number": number}),
        name="benchmark",
        status=Status.COMPLETED,
        created=1.79e9,
        number=number,
        config={"lr": 0.1},
    )
    RunFolder(folder / run.id).checkpoint.mkdir(parents=True)
    return run


class Measured:
    """Seconds of every round, by what was done."""

    def __init__(self, place: Path, size: int) -> None:
        self.place, self.size = place, size
        self.times: dict[str, list[float]] = {}
        self.file, self.folder = place / "model.bin", place / "shards"
        write(self.file, size)
        self.folder.mkdir()
        for part in range(PARTS):
            write(self.folder / f"{part}.bin", size // PARTS)
        self.registry = SqlRegistry(Database(place / "windlass.db"))

    def time(self, what: str, work: Callable[[], object]) -> None:
        self.times.setdefault(what, []).append(seconds(work))

    def kept(self, what: str, source: Path) -> None:
        """Added to an empty place of its own, and read again."""
        blobs = Blobs(self.place / "blobs")
        self.time(what, lambda: blobs.add(source))
        (digest,) = blobs.digests()
        self.time(f"verify, {what}", lambda: blobs.verify(digest))
        shutil.rmtree(blobs.root)

    def round(self, number: int) -> None:
        for what, command in HASHERS.items():
            if shutil.which(command[0]):
                argv = [*command, str(self.file)]
                self.time(what, partial(subprocess.run, argv, stdout=subprocess.DEVNULL, check=True))
        self.kept("file", self.file)
        self.kept("folder", self.folder)
        blobs, run = Blobs(self.place / "blobs"), run_with_checkpoint(self.place, number)
        folder = RunFolder(self.place / run.id)
        os.link(self.file, folder.checkpoint / self.file.name)
        self.time("register", lambda: register(self.registry, blobs, run, folder, actor="benchmark"))
        self.time("again", lambda: register(self.registry, blobs, run, folder, actor="benchmark"))
        shutil.rmtree(folder.path)
        shutil.rmtree(blobs.root)
        new = self.place / "new.bin"
        write(new, self.size, flush=False)
        self.time("new", lambda: blobs.add(new))
        shutil.rmtree(blobs.root)
        new.unlink()

    def ratio(self, what: str) -> float:
        """The median over rounds, so that what else the machine does weighs on both sides alike."""
        return statistics.median(a / b for a, b in zip(self.times[what], self.times["sha256sum"], strict=True))

    def rows(self) -> list[dict[str, Any]]:
        median = {what: statistics.median(times) for what, times in self.times.items()}
        gb = self.size / 1e9
        peers = "; ".join(f"{what}: {gb / median[what]:.2f} GB/s" for what in HASHERS if what in median)
        names = {
            "register": f"register a checkpoint of {gb:g} GB, one file",
            "file": f"keep a file of {gb:g} GB",
            "folder": f"keep {PARTS} files of {gb / PARTS:g} GB",
            "verify, file": f"verify a file of {gb:g} GB",
            "verify, folder": f"verify {PARTS} files of {gb / PARTS:g} GB",
            "again": "register it again: the kept bytes are verified",
            "new": f"keep a file of {gb:g} GB that is not on the disk yet, and put it there",
        }
        return [
            row(name, gb / median[what], "GB/s", f"{peers}; goal x{1 / GOAL:.2f}", self.ratio(what))
            for what, name in names.items()
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to be measured")
    parser.add_argument("--bytes", type=int, default=2_000_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        measured = Measured(Path(name).resolve(), args.bytes)
        for number in range(args.rounds):
            measured.round(number)
        rows = measured.rows()
    if args.json:
        print(json.dumps(rows))
        return
    for one in rows:
        print(f"{one['value']:8.2f} {one['unit']:5} x{one['ratio']:<6.2f} {one['name']}   {one['reference']}")


if __name__ == "__main__":
    main()
