"""What serving costs: ``Router.route`` a request, and its outcome on record.

``python benchmarks/keeping/route.py [--calls 200000] [--answers 200000] [--json]``. The limit of a route is a draw by
hash in a dict's entry, without noticing that the pointer moved; a stat is what noticing costs. The limit of an outcome
is a bare write of the same bytes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from windlass.records.deployment import Role, Served, ServedOutcome
from windlass.registry.outcomes import OutcomeLog
from windlass.registry.pointer import Challenger, Pointer, write_pointer
from windlass.registry.routing import Router

ROUNDS = 5
GOAL_US = 20


def row(name: str, value: float, unit: str, reference: str, ratio: float | None) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "reference": reference, "ratio": ratio}


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def microseconds(keys: list[str], *calls: Callable[[str], object]) -> list[float]:
    """Of each call, the median of some rounds, in which all take turns."""

    def work(call: Callable[[str], object]) -> None:
        for key in keys:
            call(key)

    rounds = [[seconds(partial(work, call)) for call in calls] for _ in range(ROUNDS)]
    return [statistics.median(one) / len(keys) * 1e6 for one in zip(*rounds, strict=True)]


def pointer(folder: Path, challenger: Challenger | None) -> Path:
    path = folder / "deployments" / "reader.json"
    past = [
        {
            "checkpoint": f"{i:012x}",
            "digest": f"{i:064x}",
            "path": f"{folder}/{i:064x}/files",
            "since": i,
            "until": i + 1,
        }
        for i in range(20)
    ]
    data: Pointer = {
        "deployment": "reader",
        "checkpoint": "a" * 12,
        "digest": "a" * 64,
        "path": f"{folder}/{'a' * 64}/files",
        "since": 20.0,
        "sequence": 2 if challenger else 1,
        "challenger": challenger,
        "previous": past,  # type: ignore[typeddict-item]
    }
    write_pointer(path, data)
    return path


def routing(folder: Path, calls: int) -> list[dict[str, Any]]:
    keys = [f"user-{i}" for i in range(calls)]
    alone = Router(pointer(folder / "alone", None))
    path = pointer(folder, {"checkpoint": "b" * 12, "digest": "b" * 64, "path": "/b", "role": "canary", "share": 0.2})
    name = str(path)
    answers, salt, below = {"reader": ("a", "b")}, b"reader\0" + b"b" * 64 + b"\0", int(0.2 * 2**64)

    def limit(key: str) -> str:
        champion, challenger = answers["reader"]
        drawn = int.from_bytes(blake2b(salt + key.encode(), digest_size=8).digest(), "big")
        return challenger if drawn < below else champion

    def reread(key: str) -> str:
        data = json.loads(path.read_bytes())
        drawn = int.from_bytes(blake2b(salt + key.encode(), digest_size=8).digest(), "big")
        chosen = data["challenger"] if drawn < data["challenger"]["share"] * 2**64 else data
        return str(chosen["path"])

    calls_in_turn = (alone.route, Router(path).route, limit, lambda key: os.stat(name))
    plain, canary, bare, stat = microseconds(keys, *calls_in_turn)
    (parsed,) = microseconds(keys[: max(1, calls // 20)], reread)
    goal = f"goal {GOAL_US} µs"
    beside = f"{goal}; dict look-up and blake2b {bare:.2f} µs, os.stat {stat:.2f} µs, reading the JSON {parsed:.0f} µs"
    return [
        row("route, champion alone", plain, "µs", f"{goal}; os.stat {stat:.2f} µs", plain / GOAL_US),
        row("route, canary of 20 %", canary, "µs", beside, canary / GOAL_US),
        row(
            "route, canary of 20 %, over its limit",
            canary,
            "µs",
            "look-up, blake2b and os.stat",
            canary / (bare + stat),
        ),
    ]


def recording(folder: Path, answers: int) -> list[dict[str, Any]]:
    log = OutcomeLog(folder / "deployments" / "reader.outcomes.jsonl")
    outcomes = list(ServedOutcome)
    served = [
        Served(checkpoint="a" * 12, role=Role.CHAMPION, outcome=outcomes[i % 6], key=f"request-{i}", at=1.8e9 + i)
        for i in range(answers)
    ]
    some = served[: answers // 10]
    alone = seconds(lambda: [log.append([one]) for one in some]) / len(some) * 1e6
    lines = log.path.read_bytes().splitlines(keepends=True)
    fd = os.open(folder / "bare.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    bare = seconds(lambda: [os.write(fd, line) for line in lines]) / len(lines) * 1e6
    os.close(fd)
    for start in range(len(some), answers, 1000):
        log.append(served[start : start + 1000])
    tallied = seconds(log.tallies)
    assert sum(tally.n for tally in log.tallies().values()) == answers
    text = log.path.read_bytes()
    parse = seconds(lambda: [orjson.loads(line) for line in text.splitlines()])
    again = statistics.median(seconds(log.tallies) for _ in range(ROUNDS)) * 1e6
    return [
        row(
            "outcome on record, one a call", alone, "µs", f"bare os.write of the same bytes {bare:.2f} µs", alone / bare
        ),
        row(
            f"tallies of {answers:,} outcomes",
            answers / tallied,
            "outcomes/s",
            f"orjson on the same lines, one by one: {answers / parse:,.0f}/s",
            tallied / parse,
        ),
        row("tallies again, nothing new", again, "µs", "", None),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--answers", type=int, default=200_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        rows = [*routing(folder, args.calls), *recording(folder, args.answers)]
    if args.json:
        print(json.dumps(rows))
        return
    for one in rows:
        ratio = "" if one["ratio"] is None else f"x{one['ratio']:.2f}"
        print(f"{one['value']:12,.2f} {one['unit']:10} {ratio:8} {one['name']}   {one['reference']}")


if __name__ == "__main__":
    main()
