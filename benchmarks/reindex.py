"""Rebuilding the store from 10,000 run folders, beside reading their files and doing nothing with them."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import windlass as wl
from windlass.records.run import Exit, RunSpec, make_run_id
from windlass.runs.folder import RunFolder


def make_folder(runs_root: Path, number: int, rng: random.Random) -> None:
    """A settled run as a study leaves it: spec, exit, result, and a journal of 50 points."""
    created = 1.7e9 + number
    config = {f"p{i}": rng.random() for i in range(6)}
    spec = RunSpec(
        id=make_run_id(created, "bench", {"number": number}),
        name="bench",
        study="bench",
        number=number,
        created=created,
        config=config,
        command=("true",),
        required_metrics=("loss",),
    )
    folder = RunFolder(runs_root / spec.id)
    folder.create(spec)
    folder.exit_file.write_text(json.dumps(Exit(code=0, started=created, ended=created + 5).to_dict()))
    folder.result_file.write_text(json.dumps({"metrics": {"loss": rng.random(), "auc": rng.random()}}))
    points = ({"time": created + s, "step": s, "metrics": {"loss": rng.random()}} for s in range(50))
    folder.journal_file.write_text("".join(json.dumps(point) + "\n" for point in points))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        lab = wl.Lab.create(Path(folder) / "lab")
        for number in range(1, args.runs + 1):
            make_folder(lab.runs_root, number, rng)
        began = time.perf_counter()
        for path in lab.runs_root.glob("*/*.json*"):
            path.read_bytes()
        reading = time.perf_counter() - began
        began = time.perf_counter()
        result = lab.reindex()
        seconds = time.perf_counter() - began
        assert result.runs == args.runs
        lab.close()
    row = {
        "name": f"reindex of {args.runs:,} run folders",
        "value": seconds,
        "unit": "s",
        "reference": f"goal 60 s; reading the same files {reading:.2f} s",
        "ratio": seconds / reading,
    }
    print(json.dumps([row]) if args.json else f"{row['name']}: {seconds:.1f} s ({row['reference']})")


if __name__ == "__main__":
    main()
