"""What a level does not hold, in words."""

from __future__ import annotations

from windlass.sandbox.records import Level

EITHER = (
    "bugs of the kernel: the program talks to the same kernel as everything else",
    "side channels: timing, caches, what the load of the machine tells",
    "what it is given: its input and files can be read by it, so a test it is scored by can be read, too",
    "reading the Python installation and the system's programs and libraries, with what is installed there",
    "speed: it shares cores, memory bandwidth and disk with the training, and a slow machine uses up its wall time",
    "memory of the kernel that no process is charged for, such as pipes and open files",
    "devices such as GPUs: none can be opened",
    "between two looks, 20 ms apart, its processes together may pass a limit; each one's own limits hold always",
)
AT = {
    Level.BUBBLEWRAP: ("memory behind its folder: up to file_bytes more than memory_bytes",),
    Level.LANDLOCK: (
        "names: whether a path of the host exists, its size and times, and which process numbers are taken",
        "disk that is held by a deleted file which is mapped and no longer open, until little of the disk is free",
        "its folder stays behind where caller and supervisor are killed at one instant",
        "modes and times of its own files: it cannot change them either",
    ),
}


def not_covered(level: Level) -> tuple[str, ...]:
    """What a program at this level could still do, or could not do though it is harmless; one sentence each."""
    return (*EITHER, *AT[level])
