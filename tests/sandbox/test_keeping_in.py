"""One suite for every level and caller: what a program reaches for, and that it does not get it."""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.attacks import REACHING, REFUSED_CALLS, SYSCALL
from sandbox.keeping import BY_LEVEL, Kept

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
ON_X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")


def every_attack(fill_in: Callable[[str, int], str], pid: int) -> str:
    """One program that makes each attack in a child of its own; the attack's name comes before what it prints."""
    return "import os, sys\nabove = os.getppid()\n" + "".join(
        f"if os.fork() == 0:\n"
        f"    print({name!r}, flush=True)\n"
        f"    exec({fill_in(code, pid)!r}, {{'__name__': '__main__', 'ABOVE': above}})\n"
        f"    sys.stdout.flush()\n    os._exit(0)\nos.wait()\n"
        for name, code in REACHING.items()
    )


def succeeded(stdout: str) -> list[str]:
    """The attacks that got what they wanted; every attack has to have begun."""
    lines = stdout.splitlines()
    assert [line for line in lines if line in REACHING] == list(REACHING)
    return [before for before, line in itertools.pairwise(lines) if line == "SUCCEEDED"]


@ON_X86
def test_attacks_work_where_nothing_keeps_them_in(
    attack: Callable[[str, int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "shibboleth")
    argv = [sys.executable, "-S", "-c", every_attack(attack, os.getpid())]
    with tempfile.TemporaryDirectory() as folder:  # on the file system of what is outside: one attack is a hard link
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True)
    assert succeeded(done.stdout) == list(REACHING), done.stderr


@ON_X86
def test_attacks_fail_in_the_sandbox(kept: Kept, attack: Callable[[str, int], str]) -> None:
    finished = kept.run(every_attack(attack, kept.caller.pid))
    assert finished.reason == "" and finished.code == 0, finished
    assert succeeded(finished.stdout) == []


@ON_X86
def test_calls_into_the_kernel_are_refused(kept: Kept) -> None:
    code = f"""{SYSCALL}
import errno
for name, number in {REFUSED_CALLS!r}.items():
    try:
        call(number, 0, 0, 0, 0, 0, 0)
    except OSError as error:
        print(name, errno.errorcode[error.errno])
for name, number in ("of x32", 0x40000000 + 39), ("of tomorrow", 4000), ("clone3", 435):
    try:
        call(number, 0, 0, 0)
    except OSError as error:
        print(name, errno.errorcode[error.errno])
try:
    call(56, 0x10000000 | 17, 0, 0, 0, 0)
except OSError as error:
    print("clone a user namespace", errno.errorcode[error.errno])
"""
    expected = [f"{name} EPERM" for name in REFUSED_CALLS]
    expected += ["of x32 ENOSYS", "of tomorrow ENOSYS", "clone3 ENOSYS", "clone a user namespace EPERM"]
    assert kept.run(code).stdout.splitlines() == expected


def test_devices_are_closed_but_for_the_harmless(kept: Kept) -> None:
    code = """
import fcntl, os, stat
for name in ("tty", "mem", "kmsg", "vda", "sda", "kvm", "fuse", "net/tun", "nvidia0", "dri/card0"):
    try:
        os.open("/dev/" + name, os.O_RDONLY)
        print("OPENED", name)
    except OSError:
        pass
for kind in (stat.S_IFCHR, stat.S_IFBLK):
    try:
        os.mknod("device", 0o600 | kind, os.makedev(1, 1))
        print("MADE", kind)
    except OSError:
        pass
try:
    fcntl.ioctl(0, 0x5412, b"x")
    print("TYPED")
except OSError:
    pass
open("/dev/null", "w").write("x")
print(len(open("/dev/urandom", "rb").read(8)), open("/dev/zero", "rb").read(1))
"""
    finished = kept.run(code)
    assert finished.stdout == "8 b'\\x00'\n", finished


def test_no_descriptor_of_the_caller_is_there(tmp_path: Path, kept: Kept) -> None:
    with open(tmp_path / "journal", "w") as journal:
        os.set_inheritable(journal.fileno(), True)
        code = """
import os
for fd in range(3, 1024):
    try:
        os.write(fd, b"forged")
        print("WROTE TO", fd)
    except OSError:
        pass
print("done")
"""
        assert kept.run(code).stdout == "done\n"
    assert (tmp_path / "journal").read_text() == ""


@BY_LEVEL
def test_the_environment_is_cleared(kept: Kept) -> None:
    finished = kept.run("import os; print(*sorted(os.environ))")
    assert set(finished.stdout.split()) == {
        *("HOME", "LANG", "MALLOC_ARENA_MAX", "OMP_NUM_THREADS", "PATH", "PYTHONDONTWRITEBYTECODE"),
        *("PYTHONHASHSEED", "TMPDIR"),
    }


def test_root_is_somebody_else_inside_and_has_no_right_it_can_do_without(kept: Kept) -> None:
    code = (
        SYSCALL
        + """
import struct
data = ctypes.create_string_buffer(24)
libc.capget(struct.pack("=Ii", 0x20080522, 0), data)
low, high = struct.unpack("=4xI8xI4x", data.raw)
print(os.getuid() == 0, os.getgid() == 0, len(os.getgroups()) - os.getgroups().count(os.getgid()), low & ~6, high)
"""
    )
    finished = kept.run(code)
    assert finished.stdout.split()[:2] == ["False", "False"] and finished.stdout.split()[3:] == ["0", "0"], finished
    if os.geteuid() == 0:
        assert finished.stdout.split()[2] == "0"
