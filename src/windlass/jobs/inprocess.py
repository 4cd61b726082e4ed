"""The executor's small twin: runs ``function`` jobs in this process, one after the other, inside ``wait``.

For tests, notebooks and debuggers. It holds the same contract, but for what needs a process of its own: limits are
not enforced, a running job cannot be cancelled or stopped, a crash of the interpreter is a crash of the lab, and
output is caught as far as Python's ``sys.stdout`` and ``sys.stderr`` write it. Commands do not start here: they fail.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from windlass.errors import JobError
from windlass.jobs.protocol import JobEvent, JobEventKind
from windlass.jobs.resume import reopen
from windlass.jobs.shim import never_ran
from windlass.records.run import EarlyStop, Exit, RunSpec
from windlass.runs import attempts, index
from windlass.runs.entry import call
from windlass.runs.folder import RunFolder
from windlass.runs.lease import Holder, holder


class InProcessExecutor:
    def __init__(self, runs_root: Path | str) -> None:
        self.runs_root = Path(runs_root).resolve()
        self._queue: dict[str, RunSpec] = {}
        self._events: deque[JobEvent] = deque()

    def submit(self, specs: Sequence[RunSpec]) -> None:
        new = [spec for spec in specs if spec.id not in self._queue]
        index.enter(self.runs_root, new)
        for spec in new:
            folder = RunFolder(self.runs_root / spec.id)
            held = holder(folder)
            if attempts.waits(folder) or (held is Holder.NONE and not folder.exit_file.exists()):
                self._queue[spec.id] = spec
            elif held is Holder.ALIVE and not folder.exit_file.exists():
                raise JobError(f"run {spec.id} is running in another process", "Wait for it with the local executor.")
            else:
                self._tell(spec.id, JobEventKind.ENDED)

    def cancel(self, run_id: str, reason: str = "") -> None:
        if self._queue.pop(run_id, None) is not None:
            folder = RunFolder(self.runs_root / run_id)
            if attempts.claim_next(folder, os.getpid()) is not None:
                folder.write_exit(never_ran("cancel", reason))
            self._tell(run_id, JobEventKind.ENDED)

    def stop(self, run_id: str, why: EarlyStop) -> bool:
        return False

    def resume(self, run_id: str) -> int:
        folder = RunFolder(self.runs_root / run_id)
        number = reopen(folder)
        self._queue.setdefault(run_id, folder.spec())
        return number

    def wait(self, timeout: float | None = None) -> list[JobEvent]:
        """Runs the next job to its end where no event is waiting, however long that takes."""
        if not self._events and self._queue:
            run_id, spec = next(iter(self._queue.items()))
            self._run(RunFolder(self.runs_root / run_id), spec)
            del self._queue[run_id]
        events = list(self._events)
        self._events.clear()
        return events

    def active(self) -> tuple[str, ...]:
        return tuple(self._queue)

    def close(self) -> None:
        self._queue.clear()

    def _run(self, folder: RunFolder, spec: RunSpec) -> None:
        lease = attempts.claim_next(folder, os.getpid(), nonce=os.urandom(16).hex())
        if lease is not None:
            if spec.function is None:
                problem = f"cannot start {list(spec.command)}: the in-process executor runs functions only"
                folder.write_exit(never_ran("not_started", problem))
            else:
                self._tell(folder.id, JobEventKind.STARTED)
                attempts.begin(folder, lease)
                folder.write_exit(_call(folder, spec, lease.nonce))
        self._tell(folder.id, JobEventKind.ENDED)

    def _tell(self, run_id: str, kind: JobEventKind) -> None:
        self._events.append(JobEvent(run_id, kind))


def _call(folder: RunFolder, spec: RunSpec, nonce: str) -> Exit:
    started, began, cpu = time.time(), time.monotonic(), time.process_time()
    with _surroundings(folder, spec, nonce):
        code = call(spec, folder)
    return Exit(
        code=code,
        started=started,
        ended=time.time(),
        wall_s=time.monotonic() - began,
        cpu_s=time.process_time() - cpu,
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,  # of the whole lab
    )


@contextlib.contextmanager
def _surroundings(folder: RunFolder, spec: RunSpec, nonce: str) -> Iterator[None]:
    """What a job finds around it; afterwards everything is as it was."""
    environment, path, here = dict(os.environ), list(sys.path), os.getcwd()
    with open(folder.stdout_file, "w") as out, open(folder.stderr_file, "a") as err:
        try:
            os.chdir(folder.path)
            os.environ.update({**spec.env, **folder.start_environment(nonce)})
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                yield
        finally:
            os.chdir(here)
            sys.path[:] = path
            os.environ.clear()
            os.environ.update(environment)
