"""The demonstration behind ``make demo-rlvr``: a small model learns the carry from a verifier, up to the gate."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LAB = ROOT / "demo-rlvr"
TRAIN = """windlass train rlvr --data adder/tasks.jsonl --heldout adder/heldout.jsonl --model adder/base \
--profile adder --verifier '{"kind": "exact"}' -s learning_rate=3e-4 -s steps=300 -s batch=64 -s max_new_tokens=4"""


def show(command: str, cwd: Path) -> None:
    """Print a command as a person would type it, and run it."""
    print(f"\n$ {command}", flush=True)
    program, *rest = shlex.split(command)
    beside = Path(sys.executable).with_name(program)
    subprocess.run([str(beside) if beside.exists() else program, *rest], cwd=cwd, check=True)


def main() -> None:
    shutil.rmtree(LAB, ignore_errors=True)
    os.environ.setdefault("COLUMNS", "120")
    show("windlass init demo-rlvr", ROOT)
    print("\nA base model of 0.1 million parameters is warmed up on a teacher who forgets the carry: half a minute.")
    show("python ../examples/rlvr/make_base.py adder", LAB)
    show('windlass verifiers audit adder/heldout.jsonl --verifier \'{"kind": "exact"}\'', LAB)
    show(TRAIN, LAB)
    shutil.copy(HERE / "sweep.yaml", LAB / "adder")
    show("windlass run adder/sweep.yaml", LAB)
    show("windlass deployments show adder", LAB)
    show("windlass studies report adder-sweep", LAB)
    print(f"\nEverything is in {LAB.name}/: studies/*/TRAINING.md, studies/adder-sweep/report.html, runs/.")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
