"""The last steps of a process before it becomes the program: from here on it can only lose rights.

The order matters: files are written while there is room, the user changes before the death signal is asked for (the
change clears it), Landlock and the call filter come last, when nothing more has to be opened.
"""

from __future__ import annotations

import os
import resource

from windlass.sandbox import landlock, seccomp
from windlass.sandbox.linux import (
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    keep_capabilities,
    permitted_capabilities,
    prctl,
    reset_signals,
)
from windlass.sandbox.request import Request
from windlass.sandbox.usage import threads_of_user

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
STACK_BYTES = 8 * 2**20
FIRST_VICTIM = b"1000"  #: of the kernel, where memory runs out: the program rather than the training
KILL = 9


def become(request: Request, supervisor: int) -> None:
    """Turn this process into the program.

    :raises OSError: a protection could not be put on (the program was not started), or ``NotStarted``
    """
    with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        file.write(FIRST_VICTIM)
    os.umask(0o077)
    os.chdir(request.folder)
    _become_guest(request)
    _write(request.contents)
    prctl(PR_SET_PDEATHSIG, KILL)
    if os.getppid() != supervisor:
        os._exit(1)
    _limit(request)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    if request.abi:
        landlock.restrict(request.abi, request.readable, DEVICES)
    seccomp.install(request.machine, request.abi)
    reset_signals()
    try:
        os.execvpe(request.argv[0], request.argv, request.environment)
    except (OSError, ValueError) as error:
        raise NotStarted(f"{request.argv[0]}: {error}") from error


class NotStarted(Exception):
    """The program itself cannot be: its files cannot lie beside each other, or it cannot be executed."""


def _write(contents: dict[str, bytes]) -> None:
    try:
        for path, content in contents.items():
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
    except (OSError, ValueError) as error:
        raise NotStarted(f"{path}: {error}") from error


def _become_guest(request: Request) -> None:
    """Another user where there is a right to be one, and no capability.

    With one exception: an interpreter (or a temporary folder) below a folder that only root enters, such as /root, asks
    for the right to pass through. What is read and written is then held by Landlock alone, and so it has to be there.
    """
    if request.guest is None:
        keep_capabilities(0)
        return
    prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(request.guest, request.guest, request.guest)
    os.setresuid(request.guest, request.guest, request.guest)
    reachable = all(os.access(path, os.R_OK | os.X_OK) for path in (*request.interpreter, request.folder))
    permitted = permitted_capabilities()
    passing = permitted & CAP_DAC_READ_SEARCH or permitted & CAP_DAC_OVERRIDE  # a container's root has the second alone
    keep_capabilities(passing if request.abi and not reachable else 0)


def _limit(request: Request) -> None:
    cpu = int(request.cpu_s) + (request.cpu_s % 1 > 0)
    tasks = request.processes
    if request.guest is None:
        tasks += threads_of_user(os.getuid()) - 1 + request.room_for_others  # less this one, which is its first
    for kind, soft, hard in (
        (resource.RLIMIT_CPU, cpu, cpu + 1),  # a signal at the first, the end at the second
        (resource.RLIMIT_AS, request.memory_bytes, request.memory_bytes),
        (resource.RLIMIT_STACK, STACK_BYTES, request.memory_bytes),
        (resource.RLIMIT_FSIZE, request.file_bytes, request.file_bytes),
        (resource.RLIMIT_NOFILE, request.open_files, request.open_files),
        (resource.RLIMIT_NPROC, tasks, tasks),
        (resource.RLIMIT_CORE, 1, 1),  # with 0 the kernel would still start a crash reporter; 1 leaves it out
        (resource.RLIMIT_MEMLOCK, 0, 0),
        (resource.RLIMIT_MSGQUEUE, 0, 0),
    ):
        most = resource.getrlimit(kind)[1]
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.setrlimit(kind, (soft, hard))
