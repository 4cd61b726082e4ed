"""What a run ran on: host, Python, packages, git commit and the uncommitted diff.

Never fails a run. Leaves environment variables out: they hold secrets. No program that
a repository's configuration names is run.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windlass.runs.folder import RunFolder, write_atomic

LARGEST_DIFF = 4 * 2**20  #: bytes
GIT_TIMEOUT_S = 20.0
PYTHON_TIMEOUT_S = 20.0
_PYTHON = re.compile(r"(python|pypy)[\d.]*")
_QUESTION = "import json, platform, sys; print(json.dumps([sys.executable, platform.python_version(), *sys.path[1:]]))"
#: environment variables that bear on where an interpreter finds packages
_BEARING = (
    "PATH",
    "HOME",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONUSERBASE",
    "PYTHONNOUSERSITE",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python, or another program: then only its path is known."""

    executable: str
    version: str | None = None
    path: tuple[str, ...] = ()  #: its ``sys.path``


def capture(
    folder: RunFolder, source: Path, argv: Sequence[str] | None = None, interpreter: Interpreter | None = None
) -> None:
    """Write environment.json and, for a dirty work tree that holds ``source``, git.diff.

    ``packages`` are those of ``interpreter``, by default this process's; ``argv`` is what ran, by default this script.
    """
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        git, diff = _git(source)
        ran = interpreter or Interpreter(sys.executable, platform.python_version(), tuple(sys.path))
        environment = {
            "host": socket.gethostname(),
            "platform": platform.platform(),
            "cpu_count": os.cpu_count(),
            "python": ran.version,
            "executable": ran.executable,
            "argv": list(sys.argv if argv is None else argv),
            "packages": packages(ran.path),
            "git": git,
        }
        if diff:
            write_atomic(folder.git_diff_file, diff, mode=0o600)
        write_atomic(folder.environment_file, json.dumps(environment, indent=1).encode())


def packages(where: Sequence[str]) -> dict[str, str]:
    """Name -> version of what is installed, read off the names of the metadata folders, which takes milliseconds.

    ``where`` are the folders that modules are found in, as in ``sys.path``.
    """
    found: dict[str, str] = {}
    for path in where:
        with contextlib.suppress(OSError):
            for name in os.listdir(path or "."):
                if name.endswith(".dist-info"):
                    package, _, version = name.removesuffix(".dist-info").rpartition("-")
                    found.setdefault(package.replace("_", "-").lower(), version)
    return dict(sorted(found.items()))


def interpreter_of(command: Sequence[str], env: Mapping[str, str]) -> Interpreter | None:
    """What runs a command: the Python that one of its parts or the script that it names calls for; None for this one.

    ``env`` is added to this process's environment. Of another program only the path is told.
    """
    if not command:
        return None
    environment = {**os.environ, **env}

    def find(name: str) -> str:
        return shutil.which(name, path=environment.get("PATH")) or name

    named = next((part for part in command if _PYTHON.fullmatch(os.path.basename(part))), None)
    program = find(named or command[0])
    if named is None:
        wanted = _first_line(program)
        if not any(_PYTHON.fullmatch(os.path.basename(part)) for part in wanted):
            return Interpreter(program)
        program = find(wanted[-1]) if os.path.basename(wanted[0]) == "env" else wanted[0]
    if program == sys.executable:
        return None
    return _asked(program, tuple(sorted((name, environment[name]) for name in environment if name in _BEARING)))


@functools.cache
def _asked(program: str, bearing: tuple[tuple[str, str], ...]) -> Interpreter:
    """The interpreter's own word on itself, once a process."""
    try:
        done = subprocess.run(
            [program, "-c", _QUESTION],
            env=dict(bearing),
            capture_output=True,
            timeout=PYTHON_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            check=True,
        )
        executable, version, *path = json.loads(done.stdout)
        return Interpreter(str(executable), str(version), tuple(map(str, path)))
    except (OSError, subprocess.SubprocessError, ValueError):
        return Interpreter(program)


def _first_line(program: str) -> list[str]:
    """The words of a script's ``#!`` line; empty for another file."""
    try:
        with open(program, "rb") as file:
            line = file.readline(1024)
    except OSError:
        return []
    return line[2:].decode(errors="replace").split() if line.startswith(b"#!") else []


def _git(source: Path) -> tuple[dict[str, Any] | None, bytes]:
    """Commit, branch and whether there are changes; and the diff of tracked files. None outside a work tree."""
    head = _run_git(source, "rev-parse", "HEAD", "--abbrev-ref", "HEAD")
    if head is None:
        return None, b""
    commit, branch = [*head.decode().split(), "", ""][:2]
    status = _run_git(source, "status", "--porcelain", "--untracked-files=normal") or b""
    diff = (_run_git(source, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv") or b"") if status else b""
    if len(diff) > LARGEST_DIFF:
        diff = diff[:LARGEST_DIFF] + b"\n# cut: the diff is larger than 4 MiB\n"
    return {"commit": commit, "branch": branch, "dirty": bool(status)}, diff


def _run_git(source: Path, *args: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "-C", str(source), "--no-optional-locks", *args],
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
