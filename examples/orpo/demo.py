"""The demonstration behind ``make demo-orpo``: a small model learns to prefer polite answers, up to the gate."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "demo-orpo"
TRAIN = """windlass train orpo --data reader/pairs --model reader/base --profile reader --tier cpu-experimental \
-s batch=8 -s accumulation=1 -s steps=75 -s max_length=96 -s learning_rate=2e-3"""


def show(command: str, cwd: Path) -> None:
    """Print a command as a person would type it, and run it."""
    print(f"\n$ {command}", flush=True)
    program, *rest = shlex.split(command)
    beside = Path(sys.executable).with_name(program)
    subprocess.run([str(beside) if beside.exists() else program, *rest], cwd=cwd, check=True)


def main() -> None:
    shutil.rmtree(LAB, ignore_errors=True)
    os.environ.setdefault("COLUMNS", "120")
    show("windlass init demo-orpo", ROOT)
    print("\nA base model of a million parameters learns to answer, mostly rudely: about half a minute.")
    show("python ../examples/orpo/make_base.py reader", LAB)
    show(TRAIN, LAB)
    print("\nThe same with two other configurations beside it, and the noise of three runs of the first one:")
    show(f"{TRAIN} --trials 2", LAB)
    show("windlass deployments show reader", LAB)
    print(f"\nEverything is in {LAB.name}/: studies/*/TRAINING.md, runs/, deployments/reader.card.md.")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
