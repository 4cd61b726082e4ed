"""From a job's exit to the store: how long a whole study of short jobs takes to settle each run."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import windlass as wl
from windlass.lab import Event, Settled

TRAINER = 'import json,sys; x=json.load(open(sys.argv[2]))["config"]["x"]; print(json.dumps({"metrics": {"loss": x}}))'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    delays: list[float] = []

    def watch(event: Event) -> None:
        if isinstance(event, Settled):
            ended = lab.folder(event.run.id).exit()
            assert ended is not None
            delays.append(time.time() - ended.ended)

    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "train.py"
        script.write_text(TRAINER)
        lab = wl.Lab.create(Path(folder) / "lab")
        study = wl.Study.model_validate(
            {
                "name": "short",
                "trainer": {"command": [sys.executable, "-I", "-S", str(script)]},
                "space": {"x": {"type": "float", "low": 0, "high": 1}},
                "objectives": [{"metric": "loss", "direction": "minimize"}],
                "budget": {"runs": args.runs, "concurrent": 2},
            }
        )
        began = time.perf_counter()
        lab.run(study, on_event=watch)
        wall = time.perf_counter() - began
    median = statistics.median(delays) * 1000
    rows = [
        {
            "name": f"process exit -> settled in the store, median of {args.runs} runs",
            "value": median,
            "unit": "ms",
            "reference": f"goal 30 ms; p95 {sorted(delays)[int(0.95 * len(delays))] * 1000:.1f} ms",
            "ratio": median / 30,
        },
        {
            "name": "whole cycle of a trivial job: decide, record, run, settle",
            "value": wall / args.runs * 1000,
            "unit": "ms a run",
            "reference": "2 slots",
            "ratio": None,
        },
    ]
    if args.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['name']:70} {row['value']:8.2f} {row['unit']}   {row['reference']}")


if __name__ == "__main__":
    main()
