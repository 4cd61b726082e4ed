"""What the sandbox costs: wall milliseconds of an empty Python program at each level, beside bare Python.

The levels take turns, so that a busy machine is as busy for all of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from windlass.sandbox import Level, SandboxUnavailable, run_untrusted
from windlass.sandbox.run import base_python


def bare() -> None:
    subprocess.run([base_python(), "-s", "-S", "-c", ""], check=True, capture_output=True)


def kept(level: Level) -> Callable[[], None]:
    def run() -> None:
        finished = run_untrusted("", level=level)
        assert finished.code == 0, finished

    return run


def measure(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            began = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - began) * 1000)
    return times


def a_second(run: Callable[[], None], threads: int, programs: int) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(run) for _ in range(programs)]:
            done.result()
    return programs / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    ways = {"bare Python": bare}
    for level in Level:
        try:
            run_untrusted("", level=level)
            ways[level] = kept(level)
        except SandboxUnavailable as error:
            print(f"{level} is left out: {error}", file=sys.stderr)
    rows = [
        {
            "name": name,
            "median_ms": round(statistics.median(times), 1),
            "least_ms": round(min(times), 1),
            "programs_a_second": round(a_second(ways[name], args.threads, args.rounds), 1),
        }
        for name, times in measure(ways, args.rounds).items()
    ]
    if args.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(
            f"{row['name']:12} median {row['median_ms']:6.1f} ms   least {row['least_ms']:6.1f} ms   "
            f"{row['programs_a_second']:6.1f} a second on {args.threads} threads"
        )


if __name__ == "__main__":
    main()
