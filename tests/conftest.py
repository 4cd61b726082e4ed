"""Shared settings of the tests."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("windlass", deadline=None)  # a busy machine is no failure
settings.load_profile("windlass")

MEMORY, ROOM = "/dev/shm", 4 << 30


def has_room() -> bool:
    """Whether temporary folders may lie in memory: a third of the time of tests/registry went into flushing a disk."""
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize >= ROOM and not found.f_flag & os.ST_NOEXEC


if has_room():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)
