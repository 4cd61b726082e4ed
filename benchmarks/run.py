"""Every figure beside its limit, in one command: ``make bench``, or ``python benchmarks/run.py [NAME ...]``.

Each part is a script of its own that prints the same rows. Where MLflow can be imported (``--mlflow PYTHON`` names an
interpreter that has it), it does the same work in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PARTS = (
    "startup",
    "journal",
    "config",
    "store",
    "reindex",
    "jobs",
    "settle",
    "suggest/latency",
    "keeping/register",
    "keeping/route",
)


def measure(part: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, str(HERE / f"{part}.py"), "--json"], stdout=subprocess.PIPE, text=True, cwd=folder
        )
    if done.returncode:
        sys.exit(f"benchmarks/{part}.py failed; run it alone to see why")
    return list(json.loads(done.stdout))


def peer(python: str | None) -> dict[str, Any] | None:
    if python is None and find_spec("mlflow") is None:
        return None
    done = subprocess.run(
        [python or sys.executable, str(HERE / "peer_mlflow.py")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return json.loads(done.stdout) if done.returncode == 0 else None


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| figure | measured | reference | ratio |", "|---|---|---|---|"]
    for row in rows:
        ratio = f"{row['ratio']:.3g}" if row.get("ratio") is not None else ""
        name, reference = row["name"].replace("|", "·"), row.get("reference") or ""
        lines.append(f"| {name} | {number(row['value'])} {row['unit']} | {reference} | {ratio} |")
    return "\n".join(lines)


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="NAME", help=f"some of: {', '.join(PARTS)}")
    parser.add_argument("--mlflow", metavar="PYTHON", help="an interpreter that has MLflow")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part {sorted(unknown)}; parts: {', '.join(PARTS)}")
    rows: list[dict[str, Any]] = []
    for part in args.parts or PARTS:
        began = time.monotonic()
        print(f"{part} ...", end="", file=sys.stderr, flush=True)
        rows += measure(part)
        print(f" {time.monotonic() - began:.0f} s", file=sys.stderr)
    mlflow = None if args.parts else peer(args.mlflow)
    if args.json:
        print(json.dumps({"rows": rows, "mlflow": mlflow}, indent=1))
        return
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} cores\n")
    print(table(rows))
    if mlflow:
        print(f"\nMLflow {mlflow['version']} (sqlite:///, the same work, the same run):")
        for name, value in mlflow.items():
            print(f"  {name:28} {value}")


if __name__ == "__main__":
    main()
