"""The two demonstrations beside their goals: held-out score before and after, and how long it takes, over five seeds.

    python benchmarks/training/demos.py [--seeds 5]

The base model is built once and timed by itself. A row is one ``windlass train`` in a lab of its own, as a process:
wall seconds from its start to its end, and those of the training job alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXACT = '{"kind": "exact"}'
PROGRAMS: dict[str, dict[str, Any]] = {
    "rlvr": {
        "args": ["--data", "tasks.jsonl", "--heldout", "heldout.jsonl", "--verifier", EXACT, "--profile", "adder"],
        "set": ["learning_rate=3e-4", "steps=300", "batch=64", "max_new_tokens=4"],
        "metric": "score",
        "goal": "at most 0.40 -> at least 0.85 in 180 s",
    },
    "orpo": {
        "args": ["--data", "pairs", "--tier", "cpu-experimental", "--profile", "reader"],
        "set": ["learning_rate=2e-3", "steps=75", "batch=8", "accumulation=1", "max_length=96"],
        "metric": "accuracy",
        "goal": "about 0.40 -> at least 0.95 in 60 s",
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with tempfile.TemporaryDirectory() as scratch:
        for name, program in PROGRAMS.items():
            folder = Path(scratch) / name
            folder.mkdir()
            began = time.monotonic()
            maker = [sys.executable, str(ROOT / "examples" / name / "make_base.py"), "."]
            subprocess.run(maker, cwd=folder, env=environment, check=True, stdout=sys.stderr)
            print(f"{name}: goal {program['goal']}; the base took {time.monotonic() - began:.0f} s", flush=True)
            for seed in range(1, args.seeds + 1):
                print(json.dumps(trained(folder, name, program, seed, environment)), flush=True)


def trained(folder: Path, name: str, program: dict[str, Any], seed: int, environment: dict[str, str]) -> dict[str, Any]:
    lab = folder / f"lab{seed}"
    windlass = [sys.executable, "-m", "windlass"]
    subprocess.run([*windlass, "init", str(lab)], env=environment, check=True, capture_output=True)
    settings = [part for setting in program["set"] for part in ("--set", setting)]
    command = [*windlass, "train", name, *program["args"], *settings, "--model", "base", "--seed", str(seed)]
    began = time.monotonic()
    done = subprocess.run([*command, "--lab", str(lab)], cwd=folder, env=environment, capture_output=True, text=True)
    wall_s = time.monotonic() - began
    if done.returncode != 0:
        sys.exit(done.stderr)
    told, metric = json.loads(done.stdout)["metrics"], program["metric"]
    (run,) = (path for path in (lab / "runs").glob(f"*_{name}-*") if path.is_dir())
    job_s = json.loads((run / "exit.json").read_text())["wall_s"]
    return {
        "program": name,
        "seed": seed,
        "before": round(told[f"{metric}_before"], 3),
        "after": round(told[metric], 3),
        "job_s": round(job_s, 1),
        "wall_s": round(wall_s, 1),
    }


if __name__ == "__main__":
    main()
