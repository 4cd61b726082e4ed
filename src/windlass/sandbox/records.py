"""What is asked of the sandbox and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

from windlass.errors import WindlassError

MIB = 2**20


class SandboxUnavailable(WindlassError):
    """This machine has no way to run untrusted code: nothing was run."""


class Level(StrEnum):
    """How a program was kept in; the order is the order of preference."""

    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one program and everything it starts may use, together.

    :raises ValueError: a limit is not above 0; its name is in the message
    """

    wall_s: float = 10.0  #: seconds from its first instruction
    cpu_s: float = 10.0  #: CPU seconds of all its processes
    memory_bytes: int = 512 * MIB  #: address space of each process, and resident memory of all of them
    processes: int = 16  #: processes and threads at a time
    file_bytes: int = 16 * MIB  #: all its files, and so the largest of them
    files: int = 1000  #: files and folders at a time
    output_bytes: int = MIB  #: standard output, and the same again for standard error
    open_files: int = 64  #: file descriptors of each process

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"sandbox limit {field.name} is {getattr(self, field.name)}; it has to be above 0")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended. It ended by itself where ``reason`` is empty."""

    level: Level
    code: int | None  #: exit code; 127 where it could not be started; None where a signal ended it
    signal: int | None  #: the signal that ended it
    timed_out: bool  #: it used up its wall time or its CPU time
    stdout: str
    stderr: str
    truncated: bool  #: it wrote more than ``output_bytes``; what was below is here
    wall_s: float
    reason: str  #: the limit it met, with its value; or why it could not be started
