"""The few calls of Linux that Python does not have. Cheap to import: a supervisor starts with every program."""

from __future__ import annotations

import ctypes
import os
import struct

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1 << 1, 1 << 2
CAPABILITY_VERSION_3 = 0x20080522
SIG_SETMASK = 2
SIGSET_BYTES = 128  #: of the C library's sigset_t

libc = ctypes.CDLL(None, use_errno=True)


def checked(name: str, result: int) -> int:
    """``result`` of a call that gives -1 where it fails.

    :raises OSError: it failed; ``name`` is in the message
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def prctl(option: int, first: int, second: int = 0) -> None:
    number = ctypes.c_ulong
    checked(f"prctl {option}", libc.prctl(option, number(first), number(second), number(0), number(0)))


def permitted_capabilities() -> int:
    """The capabilities that this process may have effective; bit N is capability N."""
    low, high = struct.unpack("=4xI8xI4x", _capabilities())
    return int(low | high << 32)


def keep_capabilities(capabilities: int) -> None:
    """Give up every capability but these, which then outlive an exec (as ambient ones).

    :raises OSError: one of them is not permitted
    """
    low, high = capabilities & 0xFFFFFFFF, capabilities >> 32
    _set_capabilities(struct.pack("=6I", low, low, low, high, high, high))
    for number in range(64):
        if capabilities >> number & 1:
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)


def raise_capabilities() -> None:
    """Make every permitted capability effective; a change of the user takes that away."""
    _, low, low_inheritable, _, high, high_inheritable = struct.unpack("=6I", _capabilities())
    _set_capabilities(struct.pack("=6I", low, low, low_inheritable, high, high, high_inheritable))


def _capabilities() -> bytes:
    """(effective, permitted, inheritable), the lower 32 of each and then the upper."""
    data = ctypes.create_string_buffer(24)
    checked("capget", libc.capget(struct.pack("=Ii", CAPABILITY_VERSION_3, 0), data))
    return data.raw


def _set_capabilities(data: bytes) -> None:
    checked("capset", libc.capset(struct.pack("=Ii", CAPABILITY_VERSION_3, 0), data))


def reset_signals() -> None:
    """Every signal at its default and none blocked; both would outlive an exec."""
    for number in range(1, 65):
        libc.signal(number, ctypes.c_void_p(0))
    libc.sigprocmask(SIG_SETMASK, ctypes.create_string_buffer(SIGSET_BYTES), None)
