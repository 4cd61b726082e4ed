"""The journal's writer: one JSON line an event, one write(2) a line, complete when the call returns.

What a call has written survives ``kill -9`` of its process, as it is the kernel's by then. Where the disk is full, or
the folder cannot be written, nothing is raised and nothing waits: lines are kept in memory, up to a limit, and written
as soon as that works again; what had to be dropped is counted, and told in the journal.

Event lines (any program may append them): ``{"time": 1.7e9, "step": 1, "metrics": {"loss": 0.3}}``, and the same with
``tags``, ``note``, ``artifact`` or ``attempt``. NaN and infinity are the strings of ``records.result``.
"""

from __future__ import annotations

import contextlib
import json
import operator
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from windlass.errors import StateError, WindlassError
from windlass.records.result import encode_number

LARGEST_BACKLOG = 16 * 2**20  #: bytes kept in memory while the journal cannot be written
RETRY_S = 1.0
EXACT = 2**53  #: integers below this are floats without loss
NAMES_CACHED = 50_000


class Journal:
    """Appends to one file. Threads and forked processes may share it."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._monotonic = monotonic
        self._epoch = clock() - monotonic()  # a wall clock that jumps later on moves no event
        self._names: dict[str, str] = {}
        self._closed = False
        self._fd = -1
        self._reset()
        self._open()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """An empty backlog; a forked child's starts anew, the parent writes what it has."""
        self._lock = threading.RLock()  # a signal handler may log while a line waits
        self._flushing = False
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._dropped = 0
        self._torn = False  # the file ends in half a line
        self._retry_at = 0.0
        self._warned = False

    def _open(self) -> None:
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            size = os.fstat(self._fd).st_size
            if size:
                with open(self.path, "rb") as file:
                    file.seek(size - 1)
                    self._torn = file.read(1) != b"\n"
        except OSError as error:
            self._warn(error)

    def metrics(self, values: Mapping[str, Any], step: float | None = None) -> None:
        """Values at a step; without one, readers count.

        Raises WindlassError for a value or step that is no number.
        """
        parts = []
        for name, value in values.items():
            if value.__class__ is not float and not (value.__class__ is int and -EXACT < value < EXACT):
                value = _number(name, value)
            if value - value == 0:
                parts.append(f"{self._names.get(name) or self._name(name)}{value!r}")
            else:
                parts.append(f'{self._names.get(name) or self._name(name)}"{encode_number(value)}"')
        if step is None:
            at = ""
        elif step.__class__ is int:
            at = f'"step":{step},'
        else:
            at = f'"step":{_step(step)!r},'
        now = self._epoch + self._monotonic()
        self._write(f'{{"time":{now:.6f},{at}"metrics":{{{",".join(parts)}}}}}\n'.encode())

    def event(self, **fields: Any) -> None:
        """Any other event, for example ``event(note="...")``."""
        now = round(self._epoch + self._monotonic(), 6)
        self._write(json.dumps({"time": now, **fields}, ensure_ascii=False).encode(errors="replace") + b"\n")

    def close(self) -> None:
        """Write what is waiting, if that is possible now."""
        with self._lock:
            self._retry_at = 0.0
            self._flush()
            if self._dropped or self._backlog:
                tell(f"{self._dropped + len(self._backlog)} events could not be written to {self.path}")
            self._closed = True
            if self._fd >= 0:
                fd, self._fd = self._fd, -1
                os.close(fd)

    def _name(self, name: str) -> str:
        quoted = json.dumps(str(name), ensure_ascii=False).encode(errors="replace").decode() + ":"
        if len(self._names) < NAMES_CACHED:
            self._names[name] = quoted
        return quoted

    def _write(self, line: bytes) -> None:
        if not self._backlog and not self._torn and self._fd >= 0:
            try:
                written = os.write(self._fd, line)
            except OSError as error:
                self._later(line, error)
            else:
                if written != len(line):
                    self._torn = True
                    self._later(line, None)
        else:
            self._later(line, None)

    def _later(self, line: bytes, error: OSError | None) -> None:
        if self._closed:
            raise StateError(
                f"{self.path.parent.name} is finished: nothing can be logged any more", "Log before finish()."
            )
        with self._lock:
            if error is not None:
                self._warn(error)
                self._retry_at = self._monotonic() + RETRY_S
            self._backlog.append(line)
            self._backlog_bytes += len(line)
            while self._backlog_bytes > LARGEST_BACKLOG:
                self._backlog_bytes -= len(self._backlog.popleft())
                self._dropped += 1
            self._flush()

    def _flush(self) -> None:
        """Write the backlog, oldest first, unless the last failure was a moment ago, or this is a signal's call."""
        if self._flushing or self._monotonic() < self._retry_at:
            return
        self._flushing = True
        try:
            self._write_backlog()
        finally:
            self._flushing = False

    def _write_backlog(self) -> None:
        if self._fd < 0 and self._backlog:
            self._open()
        if self._fd < 0:
            self._retry_at = self._monotonic() + RETRY_S
            return
        if self._dropped:
            note = f"{self._dropped} events were dropped while the journal could not be written"
            line = json.dumps({"time": self._epoch + self._monotonic(), "note": note}).encode() + b"\n"
            self._backlog.appendleft(line)
            self._backlog_bytes += len(line)
            self._dropped = 0
        while self._backlog:
            line = self._backlog[0]
            data = b"\n" + line if self._torn else line
            try:
                written = os.write(self._fd, data)
            except OSError as error:
                self._warn(error)
                self._retry_at = self._monotonic() + RETRY_S
                return
            self._torn = written != len(data)
            if self._torn:
                self._retry_at = self._monotonic() + RETRY_S
                return
            self._backlog.popleft()
            self._backlog_bytes -= len(line)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            tell(f"cannot write {self.path}: {error.strerror}; training goes on, events wait in memory")


def tell(text: str) -> None:
    """A line on stderr; without one, silence: a closed terminal must not end a training."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(f"windlass: {text}", file=sys.stderr)


def _number(name: str, value: Any) -> float:
    """Python, numpy and torch numbers as a float."""
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise WindlassError(f"metric {name!r} is {value!r}, which is no number", "Log a number.") from None


def _step(step: Any) -> float:
    try:
        return operator.index(step)
    except TypeError:
        pass
    try:
        value = float(step)
    except (TypeError, ValueError):
        value = float("nan")
    if value - value != 0:
        raise WindlassError(f"step {step!r} is no finite number", "Count steps with integers.")
    return value
