"""The demonstrations behind ``make demo``, ``demo-rlvr``, ``demo-orpo`` and ``demo-alpha``: commands that a person
could type, run one after the other in a new lab. ``python examples/demo.py [main|rlvr|orpo|alpha]``."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

RLVR = """windlass train rlvr --data adder/tasks.jsonl --heldout adder/heldout.jsonl --model adder/base \
--profile adder --verifier '{"kind": "exact"}' -s learning_rate=3e-4 -s steps=300 -s batch=64 -s max_new_tokens=4"""
ORPO = """windlass train orpo --data reader/pairs --model reader/base --profile reader --tier cpu-experimental \
-s batch=8 -s accumulation=1 -s steps=75 -s max_length=96 -s learning_rate=2e-3"""

#: name -> the lab's folder, and the steps in it; a line that begins with # is said, not run
DEMOS: dict[str, tuple[str, list[str]]] = {
    "main": (
        "demo-lab",
        [
            "cp ../examples/digits.yaml .",
            "windlass run digits.yaml",
            "windlass runs search \"status = 'completed'\" --order-by metrics.log_loss --limit 5",
            "windlass studies report digits",
            "# Open demo-lab/studies/digits/report.html in a browser.",
        ],
    ),
    "rlvr": (
        "demo-rlvr",
        [
            "# A base model of 0.1 million parameters is warmed up on a teacher who forgets the carry: half a minute.",
            "python ../examples/rlvr/make_base.py adder",
            'windlass verifiers audit adder/heldout.jsonl --verifier \'{"kind": "exact"}\'',
            RLVR,
            "cp ../examples/rlvr/sweep.yaml adder/",
            "windlass run adder/sweep.yaml",
            "windlass deployments show adder",
            "windlass studies report adder-sweep",
            "# Look at studies/*/TRAINING.md, studies/adder-sweep/report.html, runs/.",
        ],
    ),
    "orpo": (
        "demo-orpo",
        [
            "# A base model of a million parameters learns to answer, mostly rudely: about half a minute.",
            "python ../examples/orpo/make_base.py reader",
            ORPO,
            "# The same with two other configurations beside it, and the noise of three runs of the first one:",
            f"{ORPO} --trials 2",
            "windlass deployments show reader",
            "# Look at studies/*/TRAINING.md, runs/, deployments/reader.card.md.",
        ],
    ),
    "alpha": (
        "demo-alpha",
        [
            "# A market of 200 names over five years, made up, with nothing to find in it:",
            'windlass alpha --idea "Momentum + liquidity" --candidates 100',
            "# The same market with a weak signal in it, of an information coefficient of 0.02 a day:",
            'windlass alpha --idea "Volume and price" --candidates 100 -s \'synthetic={"ic": 0.02}\'',
            "# What passed so far is judged on the days that nobody has seen; every look is counted:",
            "windlass alpha open latest",
            "windlass alpha factors",
            "# Open the report.html that the commands named in a browser.",
        ],
    ),
}


def run(command: str, lab: Path) -> None:
    """Print a command as a person would type it, and run it with this Python's programs."""
    if command.startswith("#"):
        print(f"\n{command.removeprefix('# ')}", flush=True)
        return
    print(f"\n$ {command}", flush=True)
    program, *rest = shlex.split(command)
    beside = Path(sys.executable).with_name(program)
    subprocess.run([str(beside) if beside.exists() else program, *rest], cwd=lab, check=True)


def main(name: str) -> None:
    folder, steps = DEMOS[name]
    lab = ROOT / folder
    shutil.rmtree(lab, ignore_errors=True)
    os.environ.setdefault("COLUMNS", "120")
    run(f"windlass init {folder}", ROOT)
    for step in steps:
        run(step, lab)
    print(f"\nEverything is in {folder}/.")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:] or ["main"])
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
