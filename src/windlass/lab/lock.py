"""One process drives a lab at a time; any number may read it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from windlass.errors import LabBusy, StoreError

LOCK_FILE = ".lock"


@contextmanager
def exclusive(lab: Path, name: str = LOCK_FILE, busy: str = "") -> Iterator[None]:
    """Hold the lab's lock, or another one by ``name``; the kernel lets it go when the process ends, however it ends.

    ``busy`` says in words what its holder does. Raises LabBusy with the holder's pid, StoreError where the folder
    cannot be written.
    """
    path = lab / name
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(f"cannot write in lab {lab}: {error.strerror}", f"Check: ls -ld {lab}; df {lab}") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabBusy(
                f"{busy or f'lab {lab} is being driven'} by process {holder(lab, name) or 'unknown'}",
                "Wait for it, or pause it with Ctrl-C in its terminal; reading commands work meanwhile.",
            ) from None
        try:
            os.truncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}", f"Check: df {lab}") from error
        yield
    finally:
        os.close(fd)


def holder(lab: Path, name: str = LOCK_FILE) -> int | None:
    """The pid that drives the lab now, or holds another lock in the folder; or None."""
    path = lab / name
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(fd, 32, 0).decode().strip()
            return int(text) if text.isdigit() else None
        return None
    finally:
        os.close(fd)
