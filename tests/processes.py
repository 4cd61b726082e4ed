"""Real processes for tests: Windlass's command line, and what is left of a lab's jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from windlass.lab import Lab

SOURCE = Path(__file__).parent.parent / "src"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE), "NO_COLOR": "1", "COLUMNS": "160"}
ARGV = [sys.executable, "-m", "windlass"]


def windlass(*args: str, cwd: Path, code: int | None = 0, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its exit code must be ``code`` unless that is None."""
    done = subprocess.run(
        [*ARGV, *args], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert code is None or done.returncode == code, f"{args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def start_windlass(*args: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*ARGV, *args], cwd=cwd, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def make_lab(folder: Path, study: dict[str, Any]) -> Path:
    """A lab in ``folder`` with ``study.yaml`` in it."""
    Lab.create(folder)
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return folder


def processes_of(lab: Path) -> list[int]:
    """Every process that carries a run folder of this lab in its environment, or names the lab in its arguments."""
    needle, found = str(lab).encode(), []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if b"\nState:\tZ" in (entry / "status").read_bytes():
                continue
            if needle in (entry / "environ").read_bytes() or needle in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def open_files() -> dict[str, str]:
    """Number -> target, of this process."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own, and what another thread closes meanwhile
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait for a condition of another process; fails after a deadline."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.01)
    return value


def kill_job(run: Path) -> None:
    """The supervisor of a run and everything under it. They are forked from a launcher: their arguments name no run."""
    with suppress(psutil.NoSuchProcess):
        supervisor = psutil.Process(json.loads((run / "lease.json").read_text())["pid"])
        family = [supervisor, *supervisor.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family)
