"""The executor of one machine: a queue, a limit on how many jobs run, and supervision by events alone.

Jobs are started by launchers (one for each set of preloaded modules, when first needed) and belong to detached
shims; this class watches the shims' pidfds. Nothing is polled, and there is no thread: supervision happens inside
``submit``, ``cancel`` and ``wait``. These may be called from several threads.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from windlass.errors import JobError
from windlass.jobs import processes
from windlass.jobs.protocol import JobEvent, JobEventKind
from windlass.jobs.resume import reopen
from windlass.jobs.shim import never_ran
from windlass.jobs.stop import write_stop
from windlass.records.run import EarlyStop, RunSpec
from windlass.runs import attempts, index
from windlass.runs.folder import RunFolder, write_atomic
from windlass.runs.lease import open_holder, read_lease

ROOT = Path(__file__).parents[2]
LAUNCH = "from windlass.jobs.launcher import main; main()"
#: one thread in the parent: it forks; and as many processes as slots do not fight over the cores
PINNED = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"),
    "POLARS_MAX_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow's allocator, wherever scikit-learn finds pandas
}
LAUNCHES = 3  #: launchers that may die while they start one job, before the job is given up


class Launcher:
    """The executor's end of one launcher process."""

    def __init__(self, preload: tuple[str, ...], env: Mapping[str, str]) -> None:
        self.preload = preload
        self.waiting: dict[str, bool] = {}  #: run ids without an answer yet -> asked to cancel meanwhile
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  closed in close()
        flags = ["-P"] if preload else ["-I", "-S"]
        where = f"sys.path.append({str(ROOT)!r})" if preload else f"sys.path.insert(0, {str(ROOT)!r})"
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, *flags, "-c", f"import sys; {where}; {LAUNCH}", str(theirs.fileno()), *preload],
                env={**env, **PINNED} if preload else dict(env),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.errors,
                start_new_session=True,
            )

    def close(self) -> str:
        """End the process (jobs go on); returns how it had ended if it had by itself."""
        self.channel.close()
        code = self.process.poll()
        if code is None:
            self.process.kill()
            self.process.wait()
        self.errors.seek(0)
        tail = self.errors.read()[-2000:].decode(errors="replace").strip()
        self.errors.close()
        return f"exit code {code}" + (f": {tail}" if tail else "")


class LocalExecutor:
    """Runs jobs as processes of this machine; see ``Executor`` for the contract.

    ``concurrency`` is how many jobs run at a time; ``env`` replaces this process's environment for the jobs.
    Commands that are relative paths are relative to the run folder.
    """

    def __init__(self, runs_root: Path | str, concurrency: int = 1, env: Mapping[str, str] | None = None) -> None:
        if concurrency < 1:
            raise JobError(f"concurrency is {concurrency}: at least one job must be able to run")
        self.runs_root = Path(runs_root).resolve()
        self.concurrency = concurrency
        self._env = dict(os.environ if env is None else env)
        self._queue: dict[str, RunSpec] = {}
        self._specs: dict[str, RunSpec] = {}  #: of everything queued, launching or running
        self._running: dict[str, int] = {}  #: run id -> pidfd of its shim
        self._watched: dict[int, str | Launcher] = {}  #: fd -> what becomes readable there
        self._launchers: dict[tuple[str, ...], Launcher] = {}
        self._tries: Counter[str] = Counter()
        self._attempts: Counter[str] = Counter()  #: run id -> the last attempt that was launched or watched here
        self._events: deque[JobEvent] = deque()
        self._lock = threading.RLock()
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # wakes a wait() in another thread
        self._epoll.register(self._bell, select.EPOLLIN)
        self._closed = False

    # the protocol

    def submit(self, specs: Sequence[RunSpec]) -> None:
        with self._lock:
            self._check_open()
            new = [spec for spec in specs if spec.id not in self._specs]
            index.enter(self.runs_root, new)
            for spec in new:
                self._specs[spec.id] = spec
                self._take_up(spec.id)
            self._fill_slots()
        self._ring()

    def cancel(self, run_id: str, reason: str = "") -> None:
        with self._lock:
            self._check_open()
            if run_id not in self._specs:
                self._meet(run_id)
            if run_id in self._queue:
                del self._queue[run_id]
                if not self._end_unstarted(run_id, "cancel", reason):
                    self._take_up(run_id)  # another executor was quicker: it runs
            if run_id in self._specs and run_id not in self._queue:
                folder = self._folder(run_id)
                if not folder.cancel_file.exists():
                    write_atomic(folder.cancel_file, reason.encode())
                self._signal(run_id)
            self._fill_slots()
        self._ring()

    def stop(self, run_id: str, why: EarlyStop) -> bool:
        with self._lock:
            self._check_open()
            folder = self._folder(run_id)
            if run_id not in self._running or any(
                file.exists() for file in (folder.stop_file, folder.cancel_file, folder.result_file, folder.exit_file)
            ):
                return False
            write_stop(folder, why)
            self._signal(run_id)
            return True

    def resume(self, run_id: str) -> int:
        with self._lock:
            self._check_open()
            folder = self._folder(run_id)
            number = reopen(folder)
            if run_id not in self._specs:
                self._specs[run_id] = folder.spec()
                self._take_up(run_id)
            self._fill_slots()
        self._ring()
        return number

    def wait(self, timeout: float | None = None) -> list[JobEvent]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                self._check_open()
                self._fill_slots()
                left = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
                if self._events or not self._specs:
                    left = 0.0
            ready = self._epoll.poll(left)
            with self._lock:
                for fd, _ in ready:
                    self._handle(fd)
                self._fill_slots()
                expired = deadline is not None and time.monotonic() >= deadline
                if self._events or expired or not self._specs:
                    events = list(self._events)
                    self._events.clear()
                    return events

    def active(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._specs)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for launcher in self._launchers.values():
                launcher.close()
            for pidfd in self._running.values():
                os.close(pidfd)
            self._epoll.close()
            os.close(self._bell)
            self._specs.clear()

    # starting

    def _fill_slots(self) -> None:
        """Start queued jobs while there are free slots."""
        while self._queue and len(self._specs) - len(self._queue) < self.concurrency:
            run_id = next(iter(self._queue))
            spec = self._queue.pop(run_id)
            launcher = self._launcher(spec.preload if spec.function else ())
            due = attempts.due(self._folder(run_id))
            self._attempts[run_id] = due.number if due is not None else 1
            launcher.waiting[run_id] = False
            with suppress(BrokenPipeError, ConnectionResetError):  # it died: its end of file is on the way
                launcher.channel.send(os.fsencode(self._folder(run_id).path))

    def _launcher(self, preload: tuple[str, ...]) -> Launcher:
        if preload not in self._launchers:
            try:
                launcher = Launcher(preload, self._env)
            except OSError as error:
                raise JobError(f"cannot start a process: {error}", "windlass doctor") from error
            self._launchers[preload] = launcher
            self._watch(launcher.channel.fileno(), launcher)
        return self._launchers[preload]

    def _handle(self, fd: int) -> None:
        """Something happened at ``fd``: a bell, a launcher's answer, the end of a shim."""
        if fd == self._bell:
            with suppress(BlockingIOError):
                os.eventfd_read(fd)
            return
        what = self._watched.get(fd)
        if isinstance(what, Launcher):
            self._hear(what)
        elif what is not None:
            self._unwatch(fd)
            os.close(self._running.pop(what))
            self._take_up(what, launched=True)

    def _hear(self, launcher: Launcher) -> None:
        try:
            message, fds, _, _ = socket.recv_fds(launcher.channel, 65536, 1, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            message, fds = b"", []
        if not message:
            self._bury(launcher)
        else:
            path, _, problem = message.partition(b"\0")
            run_id = Path(os.fsdecode(path)).name
            cancelled = launcher.waiting.pop(run_id)
            if fds:
                self._adopt(run_id, fds[0])
                if cancelled:
                    self._signal(run_id)
            elif not self._end_unstarted(run_id, "not_started", f"cannot fork: {problem.decode()}"):
                self._take_up(run_id)

    def _bury(self, launcher: Launcher) -> None:
        """A launcher died. Its unanswered requests go to a new one: a claimed run cannot start twice."""
        self._unwatch(launcher.channel.fileno())
        del self._launchers[launcher.preload]
        with suppress(subprocess.TimeoutExpired):
            launcher.process.wait(1.0)
        end = launcher.close()
        again: dict[str, RunSpec] = {}
        for run_id in launcher.waiting:
            self._tries[run_id] += 1
            if self._tries[run_id] < LAUNCHES:
                again[run_id] = self._specs[run_id]
                continue
            what = f"the parent process that preloads {', '.join(launcher.preload)}" if launcher.preload else "launcher"
            if not self._end_unstarted(run_id, "not_started", f"{what} ended with {end}"):
                self._take_up(run_id)
        self._queue = {**again, **self._queue}

    # knowing what a run is up to

    def _take_up(self, run_id: str, launched: bool = False) -> None:
        """Do what the folder says: ended, running (watch it), lost, or never started (queue it)."""
        folder = self._folder(run_id)
        waiting = attempts.due(folder) if attempts.waits(folder) else None
        if waiting is not None and waiting.number > self._attempts[run_id]:  # reopened, by whomever
            self._queue[run_id] = self._specs[run_id]
            with suppress(OSError), attempts.locked(folder):
                attempts.finish(folder)
        elif folder.exit_file.exists():
            self._ended(run_id)
        elif folder.lease_file.exists():
            lease = read_lease(folder)
            pidfd = None if lease is None else open_holder(lease)
            if lease is not None and pidfd is not None:
                self._attempts[run_id] = lease.attempt
                self._adopt(run_id, pidfd)
                # asked for by an executor that died before it could send the signal
                if folder.cancel_file.exists() or folder.stop_file.exists():
                    self._signal(run_id)
                return
            if lease is not None and not folder.exit_file.exists():
                if lease.heartbeat and folder.cancel_file.exists():  # a script of its own: nobody else writes its exit
                    folder.write_exit(never_ran("cancel", folder.cancel_file.read_text(encoding="utf-8")))
                processes.sweep(folder.job_environment, lease.pid, lease.start_ticks)
            self._ended(run_id)
        elif not launched:
            self._queue[run_id] = self._specs[run_id]
        elif not self._end_unstarted(run_id, "not_started", f"its supervisor failed: see {folder.stderr_file}"):
            self._take_up(run_id)

    def _meet(self, run_id: str) -> None:
        """Take up a run that somebody else submitted and that has not ended."""
        folder = self._folder(run_id)
        if folder.spec_file.exists() and (attempts.waits(folder) or not folder.exit_file.exists()):
            self._specs[run_id] = folder.spec()
            self._take_up(run_id)

    def _end_unstarted(self, run_id: str, reason: str, message: str) -> bool:
        """Claim the run and write its exit; False where somebody else has claimed it."""
        folder = self._folder(run_id)
        try:
            if attempts.claim_next(folder, os.getpid()) is None:
                return False
            folder.write_exit(never_ran(reason, message))
        except FileNotFoundError:
            pass  # its folder was removed
        except OSError as error:
            self._queue[run_id] = self._specs[run_id]
            raise JobError(
                f"run {run_id} can neither start nor end: {error}", "Free space, then start again."
            ) from error
        self._ended(run_id)
        return True

    def _adopt(self, run_id: str, pidfd: int) -> None:
        self._running[run_id] = pidfd
        self._watch(pidfd, run_id)
        self._events.append(JobEvent(run_id, JobEventKind.STARTED))

    def _ended(self, run_id: str) -> None:
        del self._specs[run_id]
        self._tries.pop(run_id, None)
        self._attempts.pop(run_id, None)
        self._events.append(JobEvent(run_id, JobEventKind.ENDED))

    def _signal(self, run_id: str) -> None:
        """Ask the shim to end its job; where the launcher has not answered yet, as soon as it does."""
        if run_id in self._running:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._running[run_id], signal.SIGTERM)
        for launcher in self._launchers.values():
            if run_id in launcher.waiting:
                launcher.waiting[run_id] = True

    # small things

    def _folder(self, run_id: str) -> RunFolder:
        return RunFolder(self.runs_root / run_id)

    def _watch(self, fd: int, what: str | Launcher) -> None:
        self._watched[fd] = what
        self._epoll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        del self._watched[fd]
        self._epoll.unregister(fd)

    def _ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def _check_open(self) -> None:
        if self._closed:
            raise JobError("this executor is closed")
