"""Jobs: throughput beside a bare Popen loop, how soon an exit is read, and how soon a preloaded job starts."""

from __future__ import annotations

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from windlass.jobs.collect import collect
from windlass.jobs.local import LocalExecutor
from windlass.jobs.protocol import JobEventKind
from windlass.records.run import RunSpec, Status, make_run_id
from windlass.runs.folder import RunFolder

COMMAND = (sys.executable, "-c", "pass")
TRAINER = (sys.executable, "-I", "-S", "-c", 'print(\'{"metrics": {"auc": 0.9}}\')')
FUNCTIONS = """
import time
FIRST_LINE = time.time()
from sklearn.linear_model import LogisticRegression

def fit(config, run):
    LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    return {"first_line": FIRST_LINE, "fitted": time.time()}
"""


def specs(count: int, **fields: Any) -> list[RunSpec]:
    created = time.time()
    return [
        RunSpec(id=make_run_id(created, "bench", {"at": created, "i": i}), name="bench", created=created, **fields)
        for i in range(count)
    ]


def ends(executor: LocalExecutor) -> Iterator[str]:
    """Run ids as they end, until nothing is active."""
    while executor.active():
        for event in executor.wait():
            if event.kind is JobEventKind.ENDED:
                yield event.run_id


def windlass_per_s(runs_root: Path, count: int, slots: int) -> float:
    with closing(LocalExecutor(runs_root, slots)) as executor:
        executor.submit(specs(1, command=COMMAND))
        list(ends(executor))  # the launcher is up
        began = time.perf_counter()
        executor.submit(specs(count, command=COMMAND))
        list(ends(executor))
        return count / (time.perf_counter() - began)


def popen_per_s(count: int, slots: int) -> float:
    """Popen, and a wait for whichever ends first; no folder, no log, no supervision."""
    began = time.perf_counter()
    poller, live, started = select.epoll(), dict[int, subprocess.Popen[bytes]](), 0
    while started < count or live:
        while started < count and len(live) < slots:
            process = subprocess.Popen(COMMAND, stdout=subprocess.DEVNULL)
            fd = os.pidfd_open(process.pid)
            live[fd] = process
            poller.register(fd, select.EPOLLIN)
            started += 1
        for fd, _ in poller.poll():
            live.pop(fd).wait()
            poller.unregister(fd)
            os.close(fd)
    poller.close()
    return count / (time.perf_counter() - began)


def throughput(folder: Path, rounds: int, count: int, slots: int = 2) -> dict[str, Any]:
    """Rounds alternate, so that a busy moment of the machine hits both."""
    pairs = [(windlass_per_s(folder / "runs", count, slots), popen_per_s(count, slots)) for _ in range(rounds)]
    ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "name": f"python -c pass as a job, {slots} at a time",
        "value": ours,
        "unit": "jobs/s",
        "reference": f"bare Popen loop {bare:.0f} jobs/s; goal at least half",
        "ratio": statistics.median(a / b for a, b in pairs),
    }


def collection(folder: Path, count: int) -> list[dict[str, Any]]:
    """From the moment the supervisor has seen the end to the finished record."""
    noticed, collected = [], []
    with closing(LocalExecutor(folder / "runs", 2)) as executor:
        executor.submit(specs(count, command=TRAINER, required_metrics=("auc",)))
        for run_id in ends(executor):
            at = time.time()
            run = collect(RunFolder(executor.runs_root / run_id))
            assert run.status is Status.COMPLETED and run.ended is not None, run.failure
            noticed.append((at - run.ended) * 1000)
            collected.append((time.time() - at) * 1000)
    both = [a + b for a, b in zip(noticed, collected, strict=True)]
    return [
        {
            "name": f"process exit -> run record, median of {count}",
            "value": statistics.median(both),
            "unit": "ms",
            "reference": f"goal 30 ms with the store; p95 {sorted(both)[int(0.95 * count)]:.1f} ms",
            "ratio": statistics.median(both) / 30,
        },
        {
            "name": "of which reading the run folder",
            "value": statistics.median(collected),
            "unit": "ms",
            "reference": "goal 5 ms",
            "ratio": statistics.median(collected) / 5,
        },
    ]


def start(folder: Path, count: int) -> list[dict[str, Any]]:
    """A function that fits a model of scikit-learn: from a cold interpreter, and from a preloaded parent."""
    (folder / "fit_function.py").write_text(FUNCTIONS)
    medians: dict[str, tuple[float, float]] = {}
    for name, preload, jobs in (("cold", (), max(3, count // 5)), ("preloaded", ("sklearn.linear_model",), count)):
        first_line, fitted = [], []
        with closing(LocalExecutor(folder / "runs", 1)) as executor:
            for number in range(jobs + 1):
                (spec,) = specs(
                    1, function="fit_function:fit", preload=preload, python_path=(str(folder),), required_metrics=()
                )
                began = time.time()
                executor.submit([spec])
                list(ends(executor))
                run = collect(RunFolder(executor.runs_root / spec.id))
                assert run.status is Status.COMPLETED, run.failure
                if number:  # the first one waits for the parent, or fills the page cache
                    first_line.append(run.values["first_line"] - began)
                    fitted.append(run.values["fitted"] - began)
        medians[name] = statistics.median(first_line), statistics.median(fitted)
    return [
        {
            "name": f"submit -> {what}, from a preloaded parent",
            "value": preloaded * 1000,
            "unit": "ms",
            "reference": f"cold interpreter {cold * 1000:.0f} ms{goal}",
            "ratio": preloaded / cold,
        }
        for what, goal, preloaded, cold in zip(
            ("first line of user code", "scikit-learn imported and a model fitted"),
            ("; goal 100 ms", ""),
            medians["preloaded"],
            medians["cold"],
            strict=True,
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=150, help="per round of the throughput")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [throughput(folder, args.rounds, args.jobs), *collection(folder, 100), *start(folder, 20)]
    if args.json:
        print(json.dumps(rows))
        return
    for row in rows:
        ratio = f"{row['ratio']:6.2f}"
        print(f"{row['name']:68} {row['value']:9.2f} {row['unit']:7} {ratio}   {row['reference']}")


if __name__ == "__main__":
    main()
