"""bubblewrap: a world of its own for the program, with no host files, processes or network in it.

Inside, the same supervisor puts on the same limits, call filter and, where there is one, Landlock. As root no user
namespace is made: the program becomes another user, which a namespace of one user would not let it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

FOLDER = "/sandbox"
CODE = "/supervisor"
NOBODY = "65534"
#: what the supervisor needs of root: to become the guest, to own its folder to it, to end it
CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_KILL")
NAMESPACES = ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")


def find() -> str | None:
    """Where ``bwrap`` is on PATH."""
    return shutil.which("bwrap")


def command(bwrap: str, code: str, readable: Iterable[str], file_bytes: int, argv: Sequence[str]) -> list[str]:
    """The command that runs ``argv`` in a world of ``readable``, of the supervisor's ``code`` and of ``FOLDER``.

    ``FOLDER`` is in memory, ``file_bytes`` large, and the only place that can be written to.
    """
    if os.geteuid() == 0:
        who = ["--cap-drop", "ALL", *(word for name in CAPABILITIES for word in ("--cap-add", name))]
    else:
        who = ["--unshare-user", "--uid", NOBODY, "--gid", NOBODY]
    return [
        *(bwrap, *NAMESPACES, *who, "--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"),
        *(word for path in readable for word in _show(path)),
        *("--ro-bind", code, CODE, "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"),
        *("--size", str(file_bytes), "--tmpfs", FOLDER, "--remount-ro", "/", "--chdir", "/", "--", *argv),
    ]


def _show(path: str) -> Iterator[str]:
    if os.path.islink(path):
        yield from ("--symlink", os.readlink(path), path)
    elif os.path.exists(path):
        for folder in reversed(PurePosixPath(path).parents[:-1]):  # bwrap would make these for root alone
            yield from ("--perms", "0755", "--dir", str(folder))
        yield from ("--ro-bind", path, path)
