"""What a run ran on: this interpreter, another one, or no Python at all."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import windlass as wl
from windlass.lab import upkeep
from windlass.records.run import RunSpec
from windlass.runs.capture import Interpreter, interpreter_of
from windlass.runs.folder import RunFolder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of its own with one package."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    asked = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True
    )
    (Path(asked.stdout.strip()) / "only_there-4.2.dist-info").mkdir()
    script = folder / "bin" / "accelerate"
    script.write_text(f"#!{python}\nprint('launched')\n")
    script.chmod(0o755)
    (folder / "bin" / "by-env").write_text("#!/usr/bin/env python\n")
    (folder / "bin" / "by-env").chmod(0o755)
    return python


def test_this_interpreter_is_known() -> None:
    assert interpreter_of((), {}) is None, "a function runs in it"
    assert interpreter_of((sys.executable, "train.py"), {}) is None


@pytest.mark.parametrize(
    "command",
    [
        ("{bin}/python", "train.py"),
        ("nice", "-n", "5", "{bin}/python", "train.py"),
        ("{bin}/accelerate", "launch", "train.py"),
        ("accelerate", "launch", "train.py"),
        ("by-env", "train.py"),
        ("python", "train.py"),
    ],
)
def test_another_interpreter_is_asked(other: Path, command: tuple[str, ...]) -> None:
    path = {"PATH": f"{other.parent}:/usr/bin:/bin"}
    found = interpreter_of(tuple(part.format(bin=other.parent) for part in command), path)
    assert found is not None and found.executable == str(other)
    assert found.version == sys.version.split()[0] and any(str(other.parents[1]) in where for where in found.path)


def test_of_another_program_the_path_is_known(tmp_path: Path) -> None:
    (tmp_path / "tool").write_bytes(b"\x7fELF")
    (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
    for name in ("tool", "python"):
        (tmp_path / name).chmod(0o755)
        assert interpreter_of((str(tmp_path / name),), {}) == Interpreter(str(tmp_path / name))
    assert interpreter_of(("no-such-trainer",), {}) == Interpreter("no-such-trainer")


def test_the_environment_of_a_job_is_its_interpreters(other: Path, tmp_path: Path) -> None:
    lab = wl.Lab.create(tmp_path / "lab")
    for number, (command, packages) in enumerate(
        [((str(other), "train.py"), {"only-there": "4.2"}), (("sh", "-c", "true"), {})]
    ):
        spec = RunSpec(id=f"20260101T000000Z_x_000000000{number}", name="x", created=0.0, command=command)
        folder = RunFolder(lab.runs_root / spec.id)
        folder.create(spec)
        upkeep.describe(lab.runs_root, spec.id)
        recorded = json.loads(folder.environment_file.read_text())
        assert (recorded["packages"], recorded["argv"]) == (packages, list(command))
        assert recorded["host"] and (recorded["python"] is None) == (command[0] == "sh")
