"""The shim: the supervisor of one job, a process of its own that outlives the lab and the launcher.

It claims the run (a job starts at most once), starts the job's first process, the *leader*, holds it to its limits,
ends every descendant with it, and writes exit.json by rename. It has one thread and waits for signals only: SIGCHLD,
and SIGTERM, which asks it to end the job: cancelled or stopped early, where cancel.txt or stop.json says so, else it
is passed on. Twice a second it looks at how much the job has printed, and at its tokens where there is a limit.

Nobody escapes by leaving the session: the shim is a subreaper, so daemons become its children. Where the shim itself
is killed, the executor ends what is left of its job; the next executor, if there is none at that time.
Not a sandbox: a job may do what its user may.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import math
import os
import resource
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from windlass.errors import NotFound
from windlass.jobs import processes
from windlass.jobs.tokens import TokenCount
from windlass.records.run import Exit, RunSpec
from windlass.runs import attempts
from windlass.runs.folder import RunFolder
from windlass.runs.lease import Lease

SHIM_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
MEMORY_POLL_S = 0.05
LOOK_S = 0.5  #: between two looks at how much the job has printed, and at its tokens
LARGEST_OUTPUT = 64 * 2**20  #: bytes on stdout, which is for one result; more would only fill the disk
KILL_AGAIN_S = 0.02  #: between two rounds of SIGKILL, until no descendant is left
GIVE_UP_S = 10.0  #: of SIGKILL; what lives on then belongs to another user or is stuck in the kernel
FULL_DISK_S = 30.0  #: how long exit.json is tried again
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LIBC = ctypes.CDLL(None, use_errno=True)
ENTRY = "from windlass.runs.entry import main; main()"


def never_ran(reason: str, message: str) -> Exit:
    """The exit of a job that has not been started and never will be."""
    now = time.time()
    return Exit(code=None, reason=reason, message=message, started=now, ended=now)


def supervise(folder: RunFolder, preloaded: bool, problem: str) -> NoReturn:
    """Run the job of ``folder`` to its end; this process is its shim from here on.

    ``problem`` is why no job can be started here; it becomes the run's exit. SHIM_SIGNALS must be blocked.
    """
    try:
        os.setsid()  # the session's id is the shim's pid: a sweep knows the job's processes by it
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        lease = attempts.claim_next(folder, os.getpid(), nonce=os.urandom(16).hex())
        if lease is not None:
            _write(folder, _run(folder, lease, preloaded, problem))
    except BaseException:
        traceback.print_exc()  # into the run's stderr.log
    finally:
        os._exit(0)


def _run(folder: RunFolder, lease: Lease, preloaded: bool, problem: str) -> Exit:
    os.chdir(folder.path)
    for fd, path, keep in ((2, folder.stderr_file, 0), (1, folder.stdout_file, os.O_TRUNC)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | keep, 0o644), fd)
    if problem:
        return never_ran("not_started", problem)
    try:
        spec, spent_s = folder.spec(), attempts.begin(folder, lease)
        os.environ.update({**spec.env, **folder.start_environment(lease.nonce)})
        tokens = TokenCount(folder.journal_file)
        forked = preloaded and spec.function is not None
        leader = _fork(folder, spec) if forked else _spawn(job_argv(folder, spec))
    except (NotFound, ValueError, OSError) as error:
        return never_ran("not_started", f"cannot start the job: {error}")
    return Watch(folder, spec, leader, forked, spent_s, tokens).until_gone()


def _write(folder: RunFolder, exit: Exit) -> None:
    """Write exit.json; on a full disk, insist for a while."""
    deadline = time.monotonic() + FULL_DISK_S
    while True:
        try:
            return folder.write_exit(exit)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _spawn(argv: list[str]) -> int:
    """Execute a command as leader of its own process group; a vfork, far cheaper than a fork of this process."""
    return os.posix_spawnp(
        argv[0],
        argv,
        os.environ,
        setpgroup=0,
        setsigmask=(),
        setsigdef=(*SHIM_SIGNALS, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGQUIT),
    )


def _fork(folder: RunFolder, spec: RunSpec) -> int:
    """Run a function in a fork of this process, with everything that its parent has imported."""
    shim = os.getpid()
    leader = os.fork()
    if leader:
        return leader
    code = 1
    try:
        os.setpgid(0, 0)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # of the parent's *thread*: the shim has only one
        if os.getppid() == shim:
            for number in SHIM_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            sys.argv = ["-c", *trainer_arguments(folder)]
            code = _call(folder, spec)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def job_argv(folder: RunFolder, spec: RunSpec) -> list[str]:
    """The command line of a job. Raises ValueError where its spec names neither a command nor a function."""
    command = list(spec.command)
    if spec.function is not None:
        root = str(Path(__file__).parents[2])
        command = [sys.executable, "-P", "-c", f"import sys; sys.path.append({root!r}); {ENTRY}"]
    if not command:
        raise ValueError("its spec names neither a command nor a function")
    return [*command, *trainer_arguments(folder)]


def trainer_arguments(folder: RunFolder) -> list[str]:
    """What every trainer gets."""
    return ["--spec", str(folder.spec_file), "--output-dir", str(folder.path)]


def _call(folder: RunFolder, spec: RunSpec) -> int:
    """Run a function job in this process; like an interpreter's end, joins threads and runs exit handlers."""
    from windlass.runs.entry import call

    try:
        return call(spec, folder)
    finally:
        import threading  # here: after a fork it costs every process that has imported it

        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()


def _prctl(option: int, value: int) -> None:
    if LIBC.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


@dataclass
class Watch:
    """Holds one job to its limits until the last of its processes is gone."""

    folder: RunFolder
    spec: RunSpec
    leader: int
    forked: bool  #: the leader shares the memory of a preloaded parent
    spent_s: float  #: by earlier attempts
    tokens: TokenCount
    status: int | None = None  #: of the leader, once it has ended
    reason: str = "exit"
    message: str = ""
    kill_at: float = math.inf  #: monotonic; set when the end has begun
    peak: int = 0  #: bytes of the whole tree, sampled where there is a memory limit
    started: float = field(default_factory=time.time)
    began: float = field(default_factory=time.monotonic)
    oom_kills: int = field(default_factory=processes.kernel_oom_kills)

    def until_gone(self) -> Exit:
        while self._reap():
            now = time.monotonic()
            if now >= self.kill_at + GIVE_UP_S:
                self.message += f"; these processes cannot be ended: {processes.descendants(os.getpid())}"
                break
            if now >= self.kill_at:
                processes.send(processes.descendants(os.getpid()), signal.SIGKILL)
            elif self.kill_at == math.inf:
                self._hold_to_limits(now)
            event = signal.sigtimedwait(SHIM_SIGNALS, self._pause())
            if event is not None and event.si_signo == signal.SIGTERM:
                self._asked_to_end(event.si_pid)
        return self._exit()

    def _reap(self) -> bool:
        """Whether any descendant is left; all of them become children of this subreaper in the end."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self.leader:
                    self.status = status
        except ChildProcessError:
            return False

    def _hold_to_limits(self, now: float) -> None:
        limits = self.spec.limits
        if self.status is not None:
            self._end(self.reason)  # what the job left behind ends with it
        elif limits.time_s is not None and now >= self.began + limits.time_s - self.spent_s:
            before = f", {self.spent_s:.3g} s of them in earlier attempts" if self.spent_s else ""
            self._end("timeout", f"ran past its time limit of {limits.time_s:g} s{before}")
        elif too_much := self._printed_too_much():
            self._end("output", too_much)
        elif too_much := self._over_budget():
            self._end("budget", too_much)
        elif limits.memory_bytes is not None and (used := self._memory(limits.memory_bytes)) > limits.memory_bytes:
            self._end("memory", _over(used, limits.memory_bytes))

    def _memory(self, limit: int) -> int:
        """Bytes that the tree holds now. Above the limit, pages that processes share are counted once."""
        tree = processes.descendants(os.getpid())
        used = processes.resident_bytes(tree)
        if used > limit:
            used = processes.proportional_bytes(tree)
        self.peak = max(self.peak, used)
        return used

    def _printed_too_much(self) -> str:
        """In words; empty where that is not so."""
        printed = os.fstat(1).st_size
        if printed <= LARGEST_OUTPUT:
            return ""
        most = f"at most {LARGEST_OUTPUT // 2**20} MiB are kept"
        return f"printed {printed:,} bytes on stdout ({most}), which is for the one JSON result; logs go to stderr"

    def _over_budget(self) -> str:
        """Of tokens, in words; empty where that is not so."""
        limit = self.spec.limits.tokens
        if limit is None or (used := self.tokens.look()) <= limit:
            return ""
        return f"used {used:,.12g} tokens, more than its budget of {limit:,}"

    def _end(self, reason: str, message: str = "") -> None:
        """SIGTERM to every process now, SIGKILL after the grace."""
        if self.kill_at < math.inf:
            return
        self.reason, self.message = reason, message
        self.kill_at = time.monotonic() + self.spec.limits.grace_s
        processes.send(processes.descendants(os.getpid()), signal.SIGTERM)

    def _asked_to_end(self, by: int) -> None:
        """By process ``by``. A job that ended a moment ago, or has its result, was too quick to be stopped early.

        SIGTERM without a word from Windlass comes from outside, to all processes of this machine perhaps: it is passed
        on, and how the job ends then says what became of it.
        """
        self._reap()
        if self.status is not None:
            return
        if self.folder.cancel_file.exists():
            self._end("cancel", self.folder.cancel_file.read_text(encoding="utf-8"))
        elif not self.folder.stop_file.exists():
            self._end("exit", f"SIGTERM from process {by}")
        elif not self.folder.result_file.exists():
            self._end("stop")

    def _pause(self) -> float:
        """Seconds until this has to look again without a signal."""
        now, limits = time.monotonic(), self.spec.limits
        if now >= self.kill_at:
            return KILL_AGAIN_S
        due = [self.kill_at - now, 3600.0]
        if self.kill_at == math.inf:
            due += [LOOK_S] if self.status is None else []
            due += [] if limits.time_s is None else [self.began + limits.time_s - self.spent_s - now]
            due += [] if limits.memory_bytes is None else [MEMORY_POLL_S]
        return max(0.0, min(due))

    def _exit(self) -> Exit:
        wall_s = time.monotonic() - self.began
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        largest = usage.ru_maxrss * 1024  # of one process; a forked leader counts its parent's pages
        code = None if self.status is None else os.waitstatus_to_exitcode(self.status)
        limit = self.spec.limits.memory_bytes
        if self.reason == "exit" and limit is not None and largest > limit and not self.forked:
            self.reason, self.message = "memory", _over(largest, limit)
        if self.reason == "exit" and code == -signal.SIGKILL and processes.kernel_oom_kills() > self.oom_kills:
            self.reason, self.message = "memory", "the kernel's out-of-memory killer ended it"
        if self.reason == "exit" and (too_much := self._over_budget()):
            self.reason, self.message = "budget", too_much
        if too_much := self._printed_too_much():
            os.ftruncate(1, LARGEST_OUTPUT)
            if self.reason == "exit":
                self.reason, self.message = "output", too_much
        return Exit(
            code=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            reason=self.reason,
            message=self.message,
            started=self.started,
            ended=time.time(),
            wall_s=wall_s,
            cpu_s=usage.ru_utime + usage.ru_stime,
            peak_memory_bytes=max(self.peak, largest),
        )


def _over(used: int, limit: int) -> str:
    return f"used {used / 2**20:,.0f} MiB, more than its limit of {limit / 2**20:,.0f} MiB"
