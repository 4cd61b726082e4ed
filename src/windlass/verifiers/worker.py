"""Processes that make checks which may hang, exhaust memory or die: one for each kind of check, from any thread.

    done = worker("math").ask(answer="\\boxed{42}", expected="42", options={}, limit=2.0)

The process is ``checks.py``. It starts with the first check (its libraries load then), and anew after it was killed.
Each check has a limit of CPU time, which the kernel holds and which does not depend on how busy the machine is.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from windlass.errors import DataError, nearest
from windlass.verifiers.protocol import VerifierFailed, shown

CHECKS = Path(__file__).with_name("checks.py")
MEMORY = 4 << 30  #: bytes of address space of a process
PREPARING = 60.0  #: CPU seconds for loading libraries and for what a check needs of the task
STALLED = 10.0  #: the wall time after which a process is given up: so many times its limit, and so many seconds


class Done(NamedTuple):
    """What a check came to. ``score`` is None where the process died or stalled."""

    score: float | None
    reason: str


class Worker:
    """One process for one kind of check; calls wait for each other."""

    def __init__(self, check: str) -> None:
        self.check = check
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, *, limit: float, **request: Any) -> Done:
        """One check. ``limit``: seconds of CPU time; a check that takes longer scores 0.

        Raises DataError for a task that cannot be checked, VerifierFailed where the check raised.
        """
        answered = self._exchange({**request, "limit": limit}, limit)
        return Done(answered["score"], answered["reason"])

    def get(self, **request: Any) -> Any:
        """What the check prepares from a request, without checking anything. Raises as :meth:`ask` does."""
        answered = self._exchange(request, 0)
        if "value" not in answered:
            raise VerifierFailed(f"the check {self.check!r} could not be prepared: {answered['reason']}")
        return answered["value"]

    def close(self) -> None:
        """End the process; the next request starts another."""
        with self._lock:
            self._stop()

    def _exchange(self, request: dict[str, Any], limit: float) -> dict[str, Any]:
        line = json.dumps(request).encode() + b"\n"
        wait = PREPARING + STALLED + STALLED * limit
        with self._lock:
            answered: dict[str, Any] | None = None
            while answered is None:
                process = self._running()
                try:
                    self._write(process, line)
                    answered = json.loads(self._read(process, wait))
                except TimeoutError:
                    self._stop()
                    answered = {"score": None, "reason": f"the check stalled: no answer in {wait:.0f} s"}
                except (BrokenPipeError, EOFError):
                    answered = self._died(self._stop(), limit, request.get("expected"))
        self._raise(answered)
        return answered

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
            environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(CHECKS), self.check, str(MEMORY), str(PREPARING)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        return self._process

    @staticmethod
    def _write(process: subprocess.Popen[bytes], line: bytes) -> None:
        assert process.stdin is not None
        process.stdin.write(line)
        process.stdin.flush()

    @staticmethod
    def _read(process: subprocess.Popen[bytes], seconds: float) -> bytes:
        """One line. Raises EOFError where the process ended, TimeoutError."""
        assert process.stdout is not None
        descriptor, end, got = process.stdout.fileno(), time.monotonic() + seconds, bytearray()
        ready = select.poll()
        ready.register(descriptor, select.POLLIN)
        while not got.endswith(b"\n"):
            if not ready.poll(max(0.0, end - time.monotonic()) * 1000):
                raise TimeoutError
            some = os.read(descriptor, 1 << 16)
            if not some:
                raise EOFError
            got += some
        return bytes(got)

    @staticmethod
    def _died(code: int, limit: float, expected: Any) -> dict[str, Any] | None:
        """What its exit code makes of a check; None: a signal for the whole job ended it, so that it is asked again."""
        match -code:
            case signal.SIGINT | signal.SIGTERM | signal.SIGHUP:
                return None
            case signal.SIGPROF:
                return {"score": 0.0, "reason": f"checking it takes more than {limit:g} s of CPU time"}
            case signal.SIGVTALRM:
                message = f"preparing the check of a task takes more than {PREPARING:g} s of CPU time"
                return {"fault": "data", "message": f"{message}: it expects {shown(expected)}"}
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return {"score": None, "reason": f"the checking process died: {how}"}

    def _stop(self) -> int:
        """The exit code; negative: the signal."""
        process, self._process = self._process, None
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        try:
            return process.wait(0.2)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _raise(self, answered: dict[str, Any]) -> None:
        match answered.get("fault"):
            case "data":
                hint = nearest(answered["word"], answered["known"]) if answered.get("known") else ""
                raise DataError(f"{answered['message']}{hint}", "windlass verifiers list")
            case "bug":
                raise VerifierFailed(f"the check {self.check!r} raised {shown(answered['message'], 300)}")


@functools.cache
def worker(check: str) -> Worker:
    """The process for a kind of check: ``regex``, ``schema``, ``math`` or ``gym``."""
    return Worker(check)


os.register_at_fork(after_in_child=worker.cache_clear)  # pipes and locks are not shared with a fork
