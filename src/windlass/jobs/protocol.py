"""The executor's contract; ``tests/contracts/test_executor.py`` runs on every implementation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from windlass.records.run import EarlyStop, RunSpec


class JobEventKind(StrEnum):
    STARTED = "started"  #: the job's process runs
    ENDED = "ended"  #: exit.json is there, or the job is lost; collect() now gives the outcome


@dataclass(frozen=True, slots=True)
class JobEvent:
    run_id: str
    kind: JobEventKind


class Executor(Protocol):
    """Runs jobs with a limit on how many at a time; knows run folders, nothing about studies or the store.

    Jobs outlive the executor: ``close()`` and even ``kill -9`` leave them running, ``attach`` takes them over.
    """

    def submit(self, specs: Sequence[RunSpec]) -> None:
        """Queue jobs, first come first served; creates the run folders that are missing.

        Submitting a run twice is harmless, also across processes: a job starts at most once.
        A run that was started before is attached to instead (running: watched; ended: its ENDED event comes).
        """

    def cancel(self, run_id: str, reason: str = "") -> None:
        """End a queued or running job with its whole process tree; its ENDED event follows. Harmless when ended."""

    def stop(self, run_id: str, why: EarlyStop) -> bool:
        """End a running job early, as ``cancel`` does, but for a reason that its learning curve gave.

        The reason is on record in the run folder before the job hears of it, so that a kill in between loses nothing:
        whoever takes the run over ends it. True where this call is the first to ask. A job that is not running here,
        was asked to end before, or has written its result is left to itself: False.
        """

    def resume(self, run_id: str) -> int:
        """Queue a run that was ended from outside for its next attempt; the number of that attempt.

        The run has to have left something in ``state/``. It keeps its folder, its id and its curves; what the ended
        attempt left of its own moves to ``attempts/``. Reopening is on record before anything starts, so that after a
        kill ``submit`` and ``resume`` alike take it up; asking again while it waits to start is harmless, also across
        processes: an attempt starts at most once.

        Raises NotFound for a run that nobody knows, StateError for one that has no next attempt: it is queued or
        running, completed, failed by itself, was stopped early, or left nothing to go on from.
        """

    def wait(self, timeout: float | None = None) -> list[JobEvent]:
        """Events since the last call; blocks until there is one, or ``timeout`` seconds (0: no blocking).

        Returns an empty list at the time-out, and at once where nothing is queued or running.
        """

    def active(self) -> tuple[str, ...]:
        """Ids of queued and running jobs."""

    def close(self) -> None:
        """Stop supervising. Queued jobs that have not started stay unstarted; running jobs go on."""
