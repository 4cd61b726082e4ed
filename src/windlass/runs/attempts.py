"""Attempts: a run that was ended from outside goes on in its folder, with its curves, from what it left in ``state/``.

    attempt.json      that a later attempt is due, and what it goes on from
    attempts/<n>/     what attempt n left: its lease, exit, result, output, ...

The order makes a kill harmless. ``attempt.json`` comes first: from then on the run waits for its next attempt, whatever
else is still there. Then the files of the ended attempt move aside, its lease last. What is left is the folder of a run
that was never started: the lease can be claimed once, so an attempt starts once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from windlass.runs.folder import RunFolder, read_json, write_atomic
from windlass.runs.lease import Lease, claim, read_lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """``attempt.json``: an attempt after the first one."""

    number: int  #: from 2
    step: float | None  #: the last one that the attempts before logged
    spent_s: float  #: wall seconds of the attempts before
    after: str  #: how the one before ended
    at: float  #: seconds since the epoch

    @property
    def words(self) -> str:
        where = "" if self.step is None else f" at step {self.step:g}"
        return f"attempt {self.number} goes on{where}: attempt {self.number - 1} {self.after}"


def left_state(folder: RunFolder) -> bool:
    """Whether a run left something to go on from."""
    try:
        return any(folder.state.iterdir())
    except OSError:
        return False


def due(folder: RunFolder) -> Attempt | None:
    """The last attempt that was asked for, started or not; None where the first one is the only one."""
    data = read_json(folder.attempt_file)
    try:
        return Attempt(
            number=int(data["number"]),
            step=None if data["step"] is None else float(data["step"]),
            spent_s=float(data["spent_s"]),
            after=str(data["after"]),
            at=float(data["at"]),
        )
    except (TypeError, ValueError, KeyError):
        return None


def waits(folder: RunFolder) -> bool:
    """Whether an attempt after the first was asked for, and nobody has claimed it."""
    attempt = due(folder)
    if attempt is None:
        return False
    lease = read_lease(folder)
    return lease.attempt < attempt.number if lease is not None else not folder.lease_file.exists()


@contextlib.contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Of two that claim or reopen one run, the second waits, and then finds what the first did. Not reentrant."""
    fd = os.open(folder.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def claim_next(folder: RunFolder, pid: int, **more: Any) -> Lease | None:
    """Claim the attempt that is due for process ``pid``; its lease, or None where somebody else was first.

    ``more`` are fields of the lease.
    """
    with locked(folder):
        finish(folder)
        attempt = due(folder)
        lease = Lease.of(pid, attempt=attempt.number if attempt is not None else 1, **more)
        return lease if claim(folder, lease) else None


def reopen(folder: RunFolder, attempt: Attempt) -> None:
    """Let an ended run wait for its next attempt. For the holder of the lock."""
    write_atomic(folder.attempt_file, json.dumps(asdict(attempt)).encode(), durable=True)
    _release(folder, attempt.number - 1)


def finish(folder: RunFolder) -> None:
    """Do what a kill in ``reopen`` left undone. For the holder of the lock."""
    attempt = due(folder)
    if attempt is not None and waits(folder) and (folder.lease_file.exists() or folder.exit_file.exists()):
        _release(folder, attempt.number - 1)


def _release(folder: RunFolder, number: int) -> None:
    set_aside(folder, number)
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder.lease_file, folder.attempt_folder(number) / folder.lease_file.name)


def set_aside(folder: RunFolder, number: int) -> None:
    """Move what attempt ``number`` left of its own to ``attempts/<number>/``, all but its lease."""
    aside = folder.attempt_folder(number)
    aside.mkdir(parents=True, exist_ok=True)
    of_one_attempt = (
        folder.result_file,
        folder.stdout_file,
        folder.stderr_file,
        folder.environment_file,
        folder.git_diff_file,
        folder.cancel_file,
        folder.stop_file,
        folder.exit_file,
    )
    for file in of_one_attempt:
        with contextlib.suppress(FileNotFoundError):
            os.rename(file, aside / file.name)


def begin(folder: RunFolder, lease: Lease) -> float:
    """What the supervisor does before it starts a job; returns the wall seconds that earlier attempts took.

    A result that is there already is of no start of this job. The journal hears of a later attempt.
    """
    folder.result_file.unlink(missing_ok=True)
    attempt = due(folder)
    if attempt is None or attempt.number != lease.attempt:
        return 0.0
    from windlass.runs.journal import Journal  # here: first attempts do without

    journal = Journal(folder.journal_file)
    journal.event(attempt=attempt.number, resumed_at_step=attempt.step)
    journal.event(note=attempt.words)
    journal.close()
    return attempt.spent_s
