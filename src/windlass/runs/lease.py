"""Who answers for a run that has not ended: ``lease.json``.

A job's lease is held by its supervisor, and lasts as long as that process. A script's own run holds its lease itself,
and gives signs of life by touching the file. Claiming is atomic, so a run is started at most once.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self

from windlass.runs.folder import RunFolder, write_atomic


class Holder(StrEnum):
    NONE = "none"  #: nobody has claimed the run
    ALIVE = "alive"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    host: str
    boot_id: str
    pid_namespace: str  #: where ``pid`` means something: a container has its own
    pid: int
    start_ticks: int  #: of the process, in clock ticks since boot: tells it from a later one with its pid
    heartbeat: bool = False  #: the holder touches the file; without it, the process alone counts
    lasts_s: float = 45.0  #: how long one sign of life lasts
    attempt: int = 1
    nonce: str = ""  #: of this start of a job: its result.json repeats it; empty for a script's own run

    @classmethod
    def of(cls, pid: int, **more: Any) -> Self:
        """The lease of a living process of this machine."""
        return cls(
            host=socket.gethostname(),
            boot_id=boot_id(),
            pid_namespace=pid_namespace(),
            pid=pid,
            start_ticks=start_ticks(pid) or 0,
            **more,
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})

    @property
    def visible(self) -> bool:
        """Whether this process can look the holder's pid up."""
        return self.boot_id == boot_id() and self.pid_namespace == pid_namespace()


@functools.cache
def boot_id() -> str:
    """Changes with every start of the machine."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read().strip().decode()


@functools.cache
def pid_namespace() -> str:
    return os.readlink("/proc/self/ns/pid")


def start_ticks(pid: int) -> int | None:
    """When a process started, or None where it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            columns = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if columns[0] in (b"Z", b"X") else int(columns[19])


def claim(folder: RunFolder, lease: Lease) -> bool:
    """Make a run one's own; False where somebody else was first. The file appears with its content."""
    beside = folder.path / f".lease.{os.getpid()}"
    beside.write_text(json.dumps(asdict(lease)), encoding="utf-8")
    try:
        os.link(beside, folder.lease_file)
        return True
    except FileExistsError:
        return False
    finally:
        beside.unlink()


def take_over(folder: RunFolder, lease: Lease) -> None:
    """Replace a dead holder's lease, for a new attempt."""
    write_atomic(folder.lease_file, json.dumps(asdict(lease)).encode())


def read_lease(folder: RunFolder) -> Lease | None:
    try:
        return Lease.from_dict(json.loads(folder.lease_file.read_bytes()))
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def open_holder(lease: Lease) -> int | None:
    """A pidfd of the holder; None where it is not a living process of this machine and boot."""
    if not lease.visible:
        return None
    try:
        pidfd = os.pidfd_open(lease.pid)
    except OSError:
        return None
    if start_ticks(lease.pid) != lease.start_ticks:
        os.close(pidfd)
        return None
    return pidfd


def holder(folder: RunFolder, now: float | None = None) -> Holder:
    """Whether somebody still answers for a run.

    Where the process can be seen, it alone decides, at once: one that is stopped, or a laptop that slept, is not lost.
    Of a process elsewhere the last sign of life counts; without a heartbeat (a shim), only its own machine knows.
    """
    if not folder.lease_file.exists():
        return Holder.NONE  # asked first: a lease appears whole, at any moment
    lease = read_lease(folder)
    if lease is None:
        return Holder.DEAD
    if lease.visible:
        return Holder.ALIVE if start_ticks(lease.pid) == lease.start_ticks else Holder.DEAD
    if not lease.heartbeat:
        return Holder.DEAD if lease.host == socket.gethostname() else Holder.ALIVE
    try:
        age = (time.time() if now is None else now) - folder.lease_file.stat().st_mtime
    except OSError:
        return Holder.DEAD
    return Holder.ALIVE if abs(age) <= lease.lasts_s else Holder.DEAD  # the future: a clock that differs a little


class Heartbeat:
    """Touches a lease until it is stopped; ends with its process. A disk that fails for a while is no death."""

    def __init__(self, folder: RunFolder, every_s: float) -> None:
        import threading  # here: a launcher that has imported it pays in every process it forks

        self._file = folder.lease_file
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="windlass-heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(self._every_s):
            with contextlib.suppress(OSError):
                os.utime(self._file)

    def stop(self) -> None:
        self._stop.set()
