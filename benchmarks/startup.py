"""What starting costs: ``import windlass`` and ``windlass runs list``, beside a bare interpreter."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

WINDLASS = str(Path(sys.executable).with_name("windlass"))


def seconds(argv: Sequence[str], cwd: str) -> float:
    """Median wall seconds of a command over 9 starts."""
    times = []
    for _ in range(9):
        began = time.perf_counter()
        subprocess.run(argv, cwd=cwd, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([WINDLASS, "init", "lab"], cwd=folder, check=True, capture_output=True)
        lab = f"{folder}/lab"
        bare = seconds([sys.executable, "-c", "pass"], lab)
        sdk = seconds([sys.executable, "-c", "import windlass; windlass.start_run"], lab)
        listing = seconds([WINDLASS, "runs", "list"], lab)
    rows = [
        row("import windlass and its SDK, above a bare interpreter", sdk - bare, bare),
        row("windlass runs list", listing, bare),
    ]
    if args.json:
        print(json.dumps(rows))
        return
    for item in rows:
        print(f"{item['name']:55} {item['value']:8.1f} {item['unit']}   ({item['reference']})")


def row(name: str, value: float, bare: float) -> dict[str, object]:
    reference = f"bare interpreter {bare * 1000:.1f} ms"
    return {"name": name, "value": value * 1000, "unit": "ms", "reference": reference, "ratio": value / bare}


if __name__ == "__main__":
    main()
