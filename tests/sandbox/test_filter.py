"""The call filter as a program: read by an interpreter of its own, for both machines, whichever this one is."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from windlass.sandbox import seccomp
from windlass.sandbox.landlock import SIGNALS_SINCE, TRUNCATE_SINCE

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS, ENOTTY = (0x50000 | number for number in (errno.EPERM, errno.ENOSYS, errno.ENOTTY))
PID = 4711
MACHINES = pytest.mark.parametrize("machine", seccomp.MACHINES)
#: calls that every program makes: (x86-64, aarch64)
ORDINARY = {
    **{"read": (0, 63), "write": (1, 64), "openat": (257, 56), "close": (3, 57), "mmap": (9, 222), "brk": (12, 214)},
    **{"execve": (59, 221), "exit_group": (231, 94), "futex": (202, 98), "rt_sigaction": (13, 134)},
    **{"wait4": (61, 260), "getrandom": (318, 278), "unlinkat": (263, 35), "mkdirat": (258, 34), "pipe2": (293, 59)},
    **{"dup3": (292, 24), "statx": (332, 291), "newfstatat": (262, 79), "ftruncate": (77, 46), "rseq": (334, 293)},
    **{"epoll_create1": (291, 20), "close_range": (436, 436), "faccessat2": (439, 439), "set_robust_list": (273, 99)},
}


def verdict(machine: str, number: int, *arguments: int, abi: int = 7, architecture: int | None = None) -> int:
    """What the kernel would do at a call: classic BPF over ``struct seccomp_data``."""
    known, _ = seccomp.MACHINES[machine]
    values = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, architecture or known, 0, *values)
    steps = list(struct.iter_unpack("=HBBI", seccomp.program(machine, abi, PID)))
    at = accumulator = 0
    while True:
        operation, when_true, when_false, value = steps[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x06:
            return int(value)
        else:
            tests = {0x15: accumulator == value, 0x25: accumulator > value, 0x35: accumulator >= value}
            at += when_true if {**tests, 0x45: bool(accumulator & value)}[operation] else when_false


def number(machine: str, numbers: tuple[int | None, int | None]) -> int:
    found = numbers[seccomp.MACHINES[machine][1]]
    assert found is not None
    return found


@MACHINES
def test_ordinary_calls_pass(machine: str) -> None:
    assert {name: verdict(machine, number(machine, both)) for name, both in ORDINARY.items()} == dict.fromkeys(
        ORDINARY, ALLOW
    )


@MACHINES
def test_every_listed_call_is_refused_and_nothing_else_without_arguments(machine: str) -> None:
    column = seccomp.MACHINES[machine][1]
    refused = {both[column] for both in seccomp.REFUSED.values()} - {None}
    found = {n for n in range(seccomp.LAST + 1) if verdict(machine, n) == EPERM}
    conditional = {seccomp.PRCTL[column], seccomp.SOCKETPAIR[column]}
    assert found == refused | conditional


@MACHINES
def test_unknown_calls_are_refused_unseen(machine: str) -> None:
    first, last = seccomp.UNASSIGNED[seccomp.MACHINES[machine][1]]
    for unknown in (first, last, seccomp.LAST + 1, 10_000, 0x40000000, 0x40000000 + 41, 0xFFFFFFFF):
        assert verdict(machine, unknown) == ENOSYS
    assert verdict(machine, last + 1, abi=7) == ALLOW
    assert verdict(machine, number(machine, seccomp.CLONE3)) == ENOSYS


@MACHINES
def test_another_architecture_ends_the_program(machine: str) -> None:
    assert verdict(machine, 20, architecture=0x40000003) == KILL  # i386


@MACHINES
def test_calls_that_depend_on_their_arguments(machine: str) -> None:
    def answer(numbers: tuple[int, int], *arguments: int, abi: int = 7) -> int:
        return verdict(machine, number(machine, numbers), *arguments, abi=abi)

    assert answer(seccomp.CLONE, 0x01200011) == ALLOW
    assert [answer(seccomp.CLONE, 1 << bit | 17) for bit in (17, 25, 26, 27, 28, 29, 30)] == [EPERM] * 7
    assert [answer(seccomp.PRCTL, option) for option in (15, 38)] == [ALLOW] * 2
    assert [answer(seccomp.PRCTL, option) for option in (1, 4, 35, 36, 62)] == [EPERM] * 5
    assert (answer(seccomp.IOCTL, 0, 0x5401), answer(seccomp.IOCTL, 0, 0x5412)) == (ALLOW, ENOTTY)
    assert (answer(seccomp.FCNTL, 0, 2), answer(seccomp.FCNTL, 0, 8), answer(seccomp.FCNTL, 0, 10)) == (
        *(ALLOW, EPERM, EPERM),
    )
    assert (answer(seccomp.PRLIMIT64, 0), answer(seccomp.PRLIMIT64, PID)) == (ALLOW, EPERM)
    assert answer(seccomp.SOCKETPAIR, 1, 1 | 0o2000000) == ALLOW
    assert [answer(seccomp.SOCKETPAIR, *pair) for pair in ((1, 2), (2, 1), (1, 5), (16, 3))] == [EPERM] * 4
    assert answer(seccomp.SENDTO, 3, 0, 1, 0, 0, 0) == ALLOW
    assert [answer(seccomp.SENDTO, 3, 0, 1, 0, pointer, 16) for pointer in (8, 1 << 32, 1 << 40 | 8)] == [EPERM] * 3


@MACHINES
def test_what_an_old_landlock_does_not_hold_the_filter_does(machine: str) -> None:
    truncate = number(machine, seccomp.TRUNCATE["truncate"])
    assert verdict(machine, truncate, abi=TRUNCATE_SINCE) == ALLOW
    assert verdict(machine, truncate, abi=TRUNCATE_SINCE - 1) == EPERM
    for numbers in seccomp.SIGNALS.values():
        assert verdict(machine, number(machine, numbers), abi=SIGNALS_SINCE) == ALLOW
        assert verdict(machine, number(machine, numbers), abi=SIGNALS_SINCE - 1) == EPERM
    tgkill = number(machine, seccomp.TGKILL)
    assert verdict(machine, tgkill, PID, PID, 6, abi=1) == ALLOW  # abort()
    assert verdict(machine, tgkill, PID + 1, PID + 1, 6, abi=1) == EPERM


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_numbers_are_those_of_the_kernels_headers(machine: str, header: str) -> None:
    if not Path(header).exists():
        pytest.skip(f"{header} is not installed")
    lines = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text(), re.MULTILINE)
    known = {name: int(value) for name, value in lines}
    single = {"clone": seccomp.CLONE, "clone3": seccomp.CLONE3, "prctl": seccomp.PRCTL, "ioctl": seccomp.IOCTL}
    single |= {"fcntl": seccomp.FCNTL, "prlimit64": seccomp.PRLIMIT64, "socketpair": seccomp.SOCKETPAIR}
    single |= {"sendto": seccomp.SENDTO, "tgkill": seccomp.TGKILL}
    listed = {**seccomp.REFUSED, **seccomp.SIGNALS, **seccomp.TRUNCATE, **single, **ORDINARY}
    column = seccomp.MACHINES[machine][1]
    known.pop("syscalls", None)  # their count
    known.setdefault("newfstatat", known.get("fstatat", 0))
    newest = max(known.values())
    checked = 0
    for name, numbers in listed.items():
        value = numbers[column]
        if value is None:
            assert name not in known, f"{machine} has {name}"
        elif value <= newest:
            assert known[name] == value, name
            checked += 1
    assert checked > 100
