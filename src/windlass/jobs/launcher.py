"""The launcher: a small process that forks one detached shim a job, so that jobs outlive the lab.

``python -c "from windlass.jobs.launcher import main; main()" FD [MODULE ...]``; FD is a SOCK_SEQPACKET socket:

    executor -> launcher   the path of a run folder
    launcher -> executor   for each path, the path with the shim's pidfd, or the path, NUL and an error
    end of file            the executor is gone: the launcher exits; shims and jobs go on

A forked shim costs a millisecond or two; an interpreter of its own would cost as much as a short job.

With MODULEs the launcher is a preloaded parent: it imports them once, and a ``function`` job runs in the forked
leader itself. That is safe only while it has a single thread, which is checked; the executor pins the thread pools
of numerical libraries to one. Do not preload what opens connections or touches a GPU at import.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from windlass.jobs.shim import SHIM_SIGNALS, supervise
from windlass.runs.folder import RunFolder
from windlass.runs.lease import boot_id, pid_namespace

OWN = ("windlass.runs.entry", "windlass.runs.monitor")  #: what every function job imports of Windlass


def main() -> None:
    """Serve launch requests until the executor closes its end."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    modules = sys.argv[2:]
    boot_id(), pid_namespace()  # read once here, not once a shim
    problem = preload(modules)
    signal.signal(signal.SIGCHLD, _reap)
    try:
        while path := channel.recv(65536):
            _launch(channel, path, bool(modules), problem)
    except (BrokenPipeError, ConnectionResetError):
        return


def preload(modules: Sequence[str]) -> str:
    """Import modules for all jobs to come; returns what is wrong, or an empty string."""
    for module in (*modules, *OWN) if modules else ():
        try:
            importlib.import_module(module)
        except BaseException as error:
            return f"preload of {module!r} failed: {type(error).__name__}: {error}"
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"preload of {', '.join(modules)} started {threads - 1} threads: forking that process is not safe"
    gc.collect()
    gc.freeze()  # the children's collectors leave the shared pages alone
    return ""


def _launch(channel: socket.socket, path: bytes, preloaded: bool, problem: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, SHIM_SIGNALS)  # pending handlers run here, none before the pidfd is open
    try:
        pid = os.fork()
        if pid == 0:
            channel.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            supervise(RunFolder(Path(os.fsdecode(path))), preloaded, problem)
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        channel.send(path + b"\0" + str(error).encode())
    else:
        socket.send_fds(channel, [path], [pidfd])
        os.close(pidfd)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SHIM_SIGNALS)


def _reap(*_: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
