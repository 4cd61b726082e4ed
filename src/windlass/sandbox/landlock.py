"""Landlock: the kernel's own file rules for a process and all that come from it, with no privilege needed.

Reference: https://docs.kernel.org/userspace-api/landlock.html. What a ruleset handles and no rule grants is refused.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys

from windlass.sandbox.linux import checked, libc

TYPE_CHECKING = False  # `typing` is not loaded: it would cost every program milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
VERSION = 1
PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE = 1 << 4, 1 << 5
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK = 1 << 6, 1 << 7, 1 << 8, 1 << 9
MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = 1 << 10, 1 << 11, 1 << 12
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

FIRST_VERSION = (1 << 13) - 1
SINCE = ((2, REFER), (3, TRUNCATE), (5, IOCTL_DEV))
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV  #: the rights that a rule on a file may name
READ = EXECUTE | READ_FILE | READ_DIR
WORK = READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | REFER | MAKE_DIR | MAKE_REG
WORK |= MAKE_FIFO | MAKE_SYM
TCP = 0b11  #: bind and connect
SCOPES = 0b11  #: abstract Unix sockets and signals

SIGNALS_SINCE, TRUNCATE_SINCE = 6, 3  #: versions that hold signals and ``truncate``; before, the call filter has to


def version() -> int:
    """The kernel's Landlock version (ABI); 0 where there is none or it is switched off."""
    if sys.platform != "linux":
        return 0
    return max(0, int(libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION)))


def restrict(abi: int, readable: Iterable[str], devices: Iterable[str]) -> None:
    """Hold this process for good to reading ``readable``, reading and writing ``devices``, and its current folder.

    ``abi`` is the version whose rules are used, at most ``version()``. A path that is not there grants nothing.

    :raises OSError: the kernel refused
    """
    handled = FIRST_VERSION | sum(right for since, right in SINCE if abi >= since)
    ruleset = struct.pack("=QQQ", handled, TCP, SCOPES)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    fd = checked("landlock_create_ruleset", libc.syscall(CREATE_RULESET, ruleset, ctypes.c_size_t(len(ruleset)), 0))
    try:
        for path in readable:
            _grant(fd, path, handled & READ)
        for path in devices:
            _grant(fd, path, handled & (READ_FILE | WRITE_FILE))
        _grant(fd, ".", handled & WORK)
        checked("landlock_restrict_self", libc.syscall(RESTRICT_SELF, fd, 0))
    finally:
        os.close(fd)


def _grant(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= OF_FILES
        rule = struct.pack("=Qi", rights, fd)
        checked(f"landlock_add_rule {path}", libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, rule, 0))
    finally:
        os.close(fd)
