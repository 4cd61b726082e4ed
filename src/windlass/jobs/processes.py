"""Process trees as Linux shows them in /proc. Standard library only: the launcher imports this module."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping

PAGE = os.sysconf("SC_PAGE_SIZE")
SWEEP_S = 5.0  #: how long a sweep insists on processes that do not go (another user's, or stuck in the kernel)


def children(pid: int) -> list[int]:
    """Direct children of every thread of ``pid``; empty where it is gone."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        pass
    return found


def descendants(pid: int) -> list[int]:
    """Everything below ``pid``, zombies included. Of a subreaper this holds daemons that left their parent, too."""
    found = children(pid)
    for child in found:  # grows while it is walked
        found += children(child)
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal every process that is still there and may be signalled."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def resident_bytes(pids: Iterable[int]) -> int:
    """Sum of resident memory: quick, and too high where processes share pages."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                total += int(file.read().split()[1]) * PAGE
        except OSError:
            continue
    return total


def proportional_bytes(pids: Iterable[int]) -> int:
    """Sum of resident memory with every shared page divided among its users: true, and dearer to ask for."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                total += next(int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:"))
        except (OSError, StopIteration):
            total += resident_bytes((pid,))
    return total


def kernel_oom_kills() -> int:
    """How many processes the kernel's out-of-memory killer has ended since boot."""
    try:
        with open("/proc/vmstat", "rb") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(b"oom_kill "))
    except (OSError, StopIteration):
        return 0


def members(environment: Mapping[str, str], session: int, since_ticks: int) -> Iterator[int]:
    """Processes of a job: those with ``environment`` in theirs, and those of its session.

    A fork of a preloaded parent shows that parent's environment: its session finds it. ``since_ticks`` leaves out
    processes that started before the session did.
    """
    wanted = {f"{name}={value}".encode() for name, value in environment.items()}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                columns = file.read().rpartition(b")")[2].split()
            if columns[0] in (b"Z", b"X"):
                continue
            if int(columns[3]) == session and int(columns[19]) >= since_ticks:
                yield int(name)
                continue
            with open(f"/proc/{name}/environ", "rb") as file:
                if wanted <= set(file.read().split(b"\0")):
                    yield int(name)
        except OSError:
            continue


def sweep(environment: Mapping[str, str], session: int, since_ticks: int) -> list[int]:
    """Kill what a vanished supervisor left of its job; repeats until nothing is left. Returns the pids it met."""
    met: list[int] = []
    deadline = time.monotonic() + SWEEP_S
    while (left := list(members(environment, session, since_ticks))) and time.monotonic() < deadline:
        send(left, signal.SIGKILL)
        met += (pid for pid in left if pid not in met)
        time.sleep(0.005)
    return met
