"""Is every resume bit-equal? A training is interrupted at random instants, by SIGTERM and by kill -9, and resumed.

    python benchmarks/training/kills.py examples/rlvr/kills.yaml --kills 50
    python benchmarks/training/kills.py examples/orpo/kills.yaml --kills 50

The study's first run is trained once without interruption. Then runs of the same spec are started and disturbed, each
again and again until it has come to its end, and the digest of every checkpoint is held against the first one's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from windlass.jobs.collect import collect
from windlass.jobs.local import LocalExecutor
from windlass.jobs.processes import descendants
from windlass.lab import load_study
from windlass.lab.trainer import job_template
from windlass.records.content import digest
from windlass.records.run import RunRecord, RunSpec, Status, make_run_id
from windlass.runs.folder import RunFolder
from windlass.runs.lease import read_lease
from windlass.runs.source import file_digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, help="a folder for the runs, instead of a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = args.runs or Path(scratch)
        sys.exit(0 if disturb(root, specification(args.study), args.kills, random.Random(args.seed)) else 1)


def specification(path: Path) -> RunSpec:
    """The job of the study's baseline."""
    study = load_study(path)
    template = job_template(study, path.resolve().parent)
    config = {**study.baseline, **template.config}
    return replace(template, config=config, fingerprints={**template.fingerprints, "config": digest(study.baseline)})


def disturb(root: Path, spec: RunSpec, kills: int, rng: random.Random) -> bool:
    began = time.monotonic()
    whole = train(root, named(spec, 0))
    wall_s = time.monotonic() - began
    reference = weights(root, whole)
    print(f"uninterrupted: {wall_s:.1f} s, weights {reference[:16]}", flush=True)
    done, number, equal, runs = Counter[str](), 0, True, 0
    while sum(done.values()) < kills:
        number += 1
        run, blows = interrupted(root, named(spec, number), wall_s, rng, kills - sum(done.values()))
        done.update(blows)
        runs += 1
        same = run.status is Status.COMPLETED and weights(root, run) == reference
        equal &= same
        told = "equal to the bit" if same else f"DIFFERENT ({run.failure.message if run.failure else run.status})"
        print(
            f"run {number}: {len(blows)} interruptions ({', '.join(blows)}), {run.attempt} attempts: {told}", flush=True
        )
    print(json.dumps({"interruptions": sum(done.values()), **done, "runs": runs, "all_equal": equal}))
    return equal


def named(spec: RunSpec, number: int) -> RunSpec:
    now = time.time()
    return replace(
        spec, id=make_run_id(now, spec.name, {"number": number}), created=now, study=None, number=None
    ).identified()


def train(root: Path, spec: RunSpec) -> RunRecord:
    with closing(LocalExecutor(root, 1)) as executor:
        executor.submit([spec])
        while executor.active():
            executor.wait(1.0)
    run = collect(root / spec.id)
    if run.status is not Status.COMPLETED:
        sys.exit(f"the uninterrupted run is {run.status}: {run.failure.message if run.failure else ''}")
    return run


def interrupted(
    root: Path, spec: RunSpec, wall_s: float, rng: random.Random, at_most: int
) -> tuple[RunRecord, list[str]]:
    """A run that is struck at a random instant of each attempt until ``at_most`` is reached, or it comes to its end."""
    blows = list[str]()
    with closing(LocalExecutor(root, 1)) as executor:
        executor.submit([spec])
        while True:
            if blow := strike(executor, RunFolder(root / spec.id), rng, wall_s if len(blows) < at_most else None):
                blows.append(blow)
            run = collect(root / spec.id)
            if run.failure is None or not run.failure.kind.resumable:
                return run, blows
            state = RunFolder(root / spec.id).state
            if state.is_dir() and any(state.iterdir()):
                executor.resume(run.id)
            else:  # struck before anything was saved: from the beginning
                spec = named(spec, -len(blows))
                executor.submit([spec])


def strike(executor: LocalExecutor, folder: RunFolder, rng: random.Random, within_s: float | None) -> str | None:
    """Wait for the run's end; somewhere ``within_s`` seconds, signal its processes. The signal's name, if any."""
    at, struck = time.monotonic() + (math.inf if within_s is None else rng.uniform(0.0, within_s)), None
    while executor.active():
        executor.wait(min(1.0, max(0.0, at - time.monotonic())))
        if time.monotonic() < at or struck or not executor.active():
            continue
        lease = read_lease(folder)
        number = rng.choice((signal.SIGTERM, signal.SIGKILL))
        for pid in descendants(lease.pid) if lease else ():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                struck = number.name
    return struck


def weights(root: Path, run: RunRecord) -> str:
    """Of every file of the checkpoint."""
    folder = root / run.id / "checkpoint"
    return digest([[str(f.relative_to(folder)), file_digest(f)] for f in sorted(folder.rglob("*")) if f.is_file()])


if __name__ == "__main__":
    main()
