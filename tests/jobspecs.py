"""Specs of real jobs for tests, and how to see them to their end."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from windlass.jobs.protocol import Executor, JobEvent, JobEventKind
from windlass.records.run import RunSpec, make_run_id

PYTHON = (sys.executable, "-I", "-S", "-c")
_numbers = itertools.count()


def job(*command: str, **fields: Any) -> RunSpec:
    """A spec with an id of its own; limits end within moments."""
    created = time.time()
    run_id = make_run_id(created, "test", {"number": next(_numbers), "created": created})
    return RunSpec(id=run_id, name="test", created=created, command=command, **fields)


def script(code: str, **fields: Any) -> RunSpec:
    """A job that runs Python code, as fast as Python starts."""
    return job(*PYTHON, code, **fields)


def drain(executor: Executor, timeout: float = 30.0) -> list[JobEvent]:
    """Every event until nothing is active."""
    deadline = time.monotonic() + timeout
    events: list[JobEvent] = []
    while True:
        events += executor.wait(max(0.0, deadline - time.monotonic()))
        if not executor.active():
            return events + executor.wait(0)
        assert time.monotonic() < deadline, f"still active: {executor.active()}"


def wait_for_start(executor: Executor, run_id: str, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while JobEvent(run_id, JobEventKind.STARTED) not in executor.wait(0.1):
        assert time.monotonic() < deadline, f"{run_id} has not started"


def wait_for_file(path: Path, timeout: float = 20.0) -> str:
    """The content of a file that a job writes by rename."""
    deadline = time.monotonic() + timeout
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} has not appeared"
        time.sleep(0.005)
    return path.read_text()


def ended(events: Iterable[JobEvent]) -> list[str]:
    return [event.run_id for event in events if event.kind is JobEventKind.ENDED]
