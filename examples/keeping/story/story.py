"""The whole way of a champion, for real: python examples/keeping/story/story.py FOLDER

A study promotes three champions in turn; its fourth challenger is inconclusive, its fifth breaks a guard. A sixth gets
a canary, does well until the scanners get worse, and goes back by itself. A person rolls the champion back and forward
again. The audit log verifies; then one byte of a checkpoint is flipped, and verify names it.

Every line that begins with ``$`` is a command that was run, what follows is what it printed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = ("reading.py", "train.py", "evaluate.py", "live.py", "study.yaml", "canary.yaml")


class Story:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copy(HERE / name, folder)
        shutil.copy(HERE.parent / "make_data.py", folder)

    def tell(self, words: str) -> None:
        print(f"\n# {words}", flush=True)

    def run(self, command: str, *, code: int = 0) -> str:
        """Run a command in the folder and print both; raises where it does not end with ``code``."""
        print(f"$ {command}", flush=True)
        program, *arguments = command.split()
        argv = [sys.executable, *(["-m", "windlass"] if program == "windlass" else []), *arguments]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # for the jobs' python
        env = {**os.environ, "COLUMNS": "120", "PATH": path}
        ended = subprocess.run(
            argv, cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        print(ended.stdout.rstrip().replace(str(self.folder), "."), flush=True)
        if ended.returncode != code:
            raise SystemExit(f"{command}: exit code {ended.returncode}, {code} was expected")
        return ended.stdout

    def champions(self) -> list[str]:
        """Who serves, then those before, newest first."""
        pointer = json.loads((self.folder / "lab" / "deployments" / "reader.json").read_text())
        return [pointer["checkpoint"], *(past["checkpoint"] for past in pointer["previous"])]


def main(folder: Path) -> None:
    story = Story(folder)
    story.run("python make_data.py .")
    story.run("windlass init lab")

    story.tell("Three champions in turn, one inconclusive, one that breaks a guard")
    story.run("windlass run study.yaml --lab lab")
    story.run("windlass deployments list --lab lab")
    shown = story.run("windlass audit show --last 2 --lab lab")
    story.run("windlass checkpoints list --lab lab")
    for rejected in re.findall(r"judged (\w+) for reader against \w+: keep", shown):
        story.run(f"windlass promote reader {rejected} --lab lab", code=3)

    story.tell("A canary that does well, until the scanners get worse")
    story.run("windlass run canary.yaml --lab lab")
    story.run("python live.py lab 2000")
    story.run("python live.py lab 600 0.35")
    story.run("windlass deployments show reader --lab lab")

    story.tell("Back, and forward again")
    story.run("windlass rollback reader --plan --lab lab")
    story.run(f"windlass rollback reader --to {story.champions()[1]} --lab lab")
    story.run("windlass rollback reader --forward --lab lab")
    story.run("windlass checkpoints lineage reader --lab lab")

    story.tell("Nothing was touched, and then one byte is")
    story.run("windlass audit verify --lab lab")
    champion = story.champions()[0]
    path = next((folder / "lab" / "blobs" / "sha256").glob(f"{champion}*")) / "files" / "reader.npz"
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    print(f"$ # one bit of {path.relative_to(folder)} is flipped")
    story.run(f"windlass checkpoints verify {champion} --lab lab", code=1)
    story.run("windlass audit verify --lab lab", code=1)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve())
