"""What a run ran on: host, Python, packages, git commit and the uncommitted diff.

Never fails a run. Leaves environment variables out: they hold secrets. No program that
a repository's configuration names is run.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from windlass.runs.folder import RunFolder, write_atomic

LARGEST_DIFF = 4 * 2**20  #: bytes
GIT_TIMEOUT_S = 20.0


def capture(folder: RunFolder, source: Path, argv: Sequence[str] | None = None) -> None:
    """Write environment.json and, for a dirty work tree that holds ``source``, git.diff.

    ``packages`` are those of ``executable``, this process's interpreter; ``argv`` is what ran, by default this script.
    """
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        git, diff = _git(source)
        environment = {
            "host": socket.gethostname(),
            "platform": platform.platform(),
            "cpu_count": os.cpu_count(),
            "python": platform.python_version(),
            "executable": sys.executable,
            "argv": list(sys.argv if argv is None else argv),
            "packages": packages(),
            "git": git,
        }
        if diff:
            write_atomic(folder.git_diff_file, diff, mode=0o600)
        write_atomic(folder.environment_file, json.dumps(environment, indent=1).encode())


def packages() -> dict[str, str]:
    """Name -> version of what is installed, read off the names of the metadata folders, which takes milliseconds."""
    found: dict[str, str] = {}
    for path in sys.path:
        with contextlib.suppress(OSError):
            for name in os.listdir(path or "."):
                if name.endswith(".dist-info"):
                    package, _, version = name.removesuffix(".dist-info").rpartition("-")
                    found.setdefault(package.replace("_", "-").lower(), version)
    return dict(sorted(found.items()))


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
