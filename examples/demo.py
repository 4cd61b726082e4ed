"""The demonstration behind ``make demo``: a real study on real data, from an empty folder to its report."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LAB = HERE.parent / "demo-lab"
WINDLASS = str(Path(sys.executable).with_name("windlass"))


def show(command: str, cwd: Path) -> None:
    """Print a command as a person would type it, and run it."""
    print(f"\n$ {command}", flush=True)
    argv = shlex.split(command)
    subprocess.run([WINDLASS if argv[0] == "windlass" else argv[0], *argv[1:]], cwd=cwd, check=True)


def main() -> None:
    shutil.rmtree(LAB, ignore_errors=True)
    os.environ.setdefault("COLUMNS", "120")
    show("windlass init demo-lab", LAB.parent)
    shutil.copy(HERE / "digits.yaml", LAB)
    show("windlass run digits.yaml", LAB)
    show("windlass runs search \"status = 'completed'\" --order-by metrics.log_loss --limit 5", LAB)
    show("windlass studies report digits", LAB)
    print(f"\nEverything is in {LAB.name}/. Open {LAB.name}/studies/digits/report.html in a browser.")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
