"""The journal beside bare system calls: what ``run.log`` costs, and how fast a history is read, live and compacted.

``python benchmarks/journal.py [--calls 100000] [--steps 1000000] [--json]``. Writers take turns in one process, round
by round, and the bare side writes the very bytes that ``run.log`` wrote: its loop of ``os.write`` is the physical limit
of a line that is complete when the call returns. Ratios are time (or size) over the reference's.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from windlass.runs.compact import compact
from windlass.runs.folder import RunFolder
from windlass.runs.reader import read_metric, summaries
from windlass.runs.sdk import Run, start_run
from windlass.settings import SETTINGS_FILE

ROUNDS = 5
POINTS = 100_000
READ_GOAL_MS = 100
FIRST_READ = """
import sys, time
from windlass.runs.folder import RunFolder
began = time.perf_counter()
from windlass.runs.reader import read_metric
assert len(read_metric(RunFolder(sys.argv[1]), "loss")[0]) == int(sys.argv[2])
print((time.perf_counter() - began) * 1000)
"""


def row(name: str, value: float, unit: str, reference: str, ratio: float | None) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "reference": reference, "ratio": ratio}


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median_ms(work: Callable[[], object]) -> float:
    return statistics.median(seconds(work) for _ in range(ROUNDS)) * 1000


def writing(lab: Path, calls: int, metrics: int) -> dict[str, Any]:
    """``run.log`` of one step with ``metrics`` values, beside ``os.write`` of the same lines."""
    mine, bare = [], []
    with start_run("benchmark", lab=lab) as run:
        values = {f"metric{i}": i / 7 for i in range(1, metrics)}
        for _ in range(ROUNDS):
            before = run.folder.journal_file.stat().st_size
            mine.append(seconds(lambda: log(run, calls, values)))
            with run.folder.journal_file.open("rb") as file:
                file.seek(before)
                lines = file.readlines()
            assert len(lines) == calls, f"{calls} calls left {len(lines)} lines"
            bare.append(seconds(partial(write, lab / "bare.jsonl", lines)))
    ours, limit = statistics.median(mine), statistics.median(bare)
    what = "run.log(step=, loss=)" if metrics == 1 else f"run.log of {metrics} metrics"
    reference = f"bare os.write of the same bytes: {calls / limit:,.0f}/s"
    return row(what, calls / ours, "calls/s", reference, ours / limit)


def log(run: Run, calls: int, values: dict[str, float]) -> None:
    if values:
        for step in range(calls):
            run.log(values, step=step, loss=step / 7)
    else:
        for step in range(calls):
            run.log(step=step, loss=step / 7)


def write(path: Path, lines: list[bytes]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o644)
    try:
        for line in lines:
            os.write(fd, line)
    finally:
        os.close(fd)


def reading(lab: Path, points: int) -> list[dict[str, Any]]:
    """One metric of ``points`` points, from the journal and from the columnar file."""
    folder = journal(lab, "reading", points)
    assert len(read_metric(folder, "loss")[0]) == points  # also loads the libraries
    live = median_ms(lambda: read_metric(folder, "loss"))
    parse = median_ms(lambda: [orjson.loads(line) for line in folder.journal_file.read_bytes().splitlines()])
    first = first_read(folder, points)
    compact(folder)
    stored = median_ms(lambda: read_metric(folder, "loss"))
    goal = f"goal {READ_GOAL_MS} ms"
    name = f"read {points:,} points of one metric"
    bare = f"{goal}; orjson on the same lines, one by one: {parse:.0f} ms"
    return [
        row(f"{name}, live", live, "ms", bare, live / READ_GOAL_MS),
        row(f"{name}, compacted", stored, "ms", goal, stored / READ_GOAL_MS),
        row(f"{name}, live, first in a process", first, "ms", "with the import of numpy and polars", None),
    ]


def first_read(folder: RunFolder, points: int) -> float:
    argv = [sys.executable, "-c", FIRST_READ, str(folder.path), str(points)]
    done = [subprocess.run(argv, capture_output=True, text=True, check=True) for _ in range(ROUNDS)]
    return statistics.median(float(one.stdout) for one in done)


def settling(lab: Path, steps: int) -> list[dict[str, Any]]:
    """What the end of a long run costs: its summaries and its columnar file."""
    folder = journal(lab, "settling", steps)
    size = folder.journal_file.stat().st_size
    scan = seconds(folder.journal_file.read_bytes)
    summed = seconds(lambda: summaries(folder))
    compacted = seconds(lambda: compact(folder))
    columnar = folder.metrics_file.stat().st_size
    plain = f"{size / steps:.0f} bytes a point in the journal, read in {scan:.2f} s"
    return [
        row(f"summaries of {steps:,} steps", summed, "s", plain, summed / scan),
        row(f"compaction of {steps:,} steps", compacted, "s", plain, compacted / scan),
        row("metrics.parquet, bytes a point", columnar / steps, "bytes", plain, columnar / size),
    ]


def journal(lab: Path, name: str, steps: int) -> RunFolder:
    """A run folder with a journal of one metric, as ``run.log`` writes it."""
    folder = RunFolder(lab / "runs" / name)
    folder.path.mkdir(parents=True)
    with folder.journal_file.open("w", encoding="utf-8") as file:
        for step in range(steps):
            file.write(f'{{"time":{1.79e9 + step * 0.01:.6f},"step":{step},"metrics":{{"loss":{1 / (1 + step)!r}}}}}\n')
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lab = Path(folder).resolve()
        (lab / SETTINGS_FILE).touch()
        (lab / "runs").mkdir()
        rows = [
            writing(lab, args.calls, metrics=1),
            writing(lab, args.calls // 5, metrics=10),
            *reading(lab, POINTS),
            *settling(lab, args.steps),
        ]
    if args.json:
        print(json.dumps(rows))
        return
    for one in rows:
        ratio = "" if one["ratio"] is None else f"x{one['ratio']:.2f}"
        print(f"{one['value']:12,.2f} {one['unit']:8} {ratio:8} {one['name']}   {one['reference']}")


if __name__ == "__main__":
    main()
