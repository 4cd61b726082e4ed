"""``registry.jsonl``: the audit log without a database, one JSON line an entry.

The database is written first. What a kill kept out of the file is appended by the next start; where the database lost
entries (a reindex, an old backup), they come back from the file. Two copies that differ are never made one by this.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from windlass.errors import StateError, StoreError
from windlass.records.audit import GENESIS, Entry
from windlass.registry.protocol import Registry


class Mirror:
    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> Iterator[bytes]:
        """Whole lines; a last one without its end is left out."""
        try:
            with self.path.open("rb") as file:
                yield from (line for line in file if line.endswith(b"\n"))
        except FileNotFoundError:
            return

    def entries(self) -> list[Entry]:
        """Raises StoreError on a line that is no entry."""
        found: list[Entry] = []
        for number, line in enumerate(self.lines(), start=1):
            try:
                found.append(Entry.from_text(line))
            except ValueError as error:
                raise StoreError(
                    f"line {number} of {self.path} is no entry: {error}", "windlass audit verify"
                ) from error
        return found

    def catch_up(self, registry: Registry) -> None:
        """Bring the file and the log to the same end; a file that is there already is not opened for writing.

        Raises StateError where they differ before it, StoreError where the file cannot be read or written.
        """
        state = registry.state()
        try:
            if self._reaches(state.sequence, state.hash):
                return
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                self._level(fd, registry)
            finally:
                os.close(fd)
        except OSError as error:
            raise StoreError(
                f"cannot write {self.path}: {error.strerror or error}", f"ls -ld {self.path.parent}"
            ) from error

    def _reaches(self, sequence: int, head: str) -> bool:
        """Whether the file ends with the entry that the log ends with."""
        try:
            with self.path.open("rb") as file:
                last, end = self._last(file.fileno())
                whole = os.fstat(file.fileno()).st_size == end
        except FileNotFoundError:
            return sequence == 0
        return whole and (last is None if sequence == 0 else last is not None and last.hash == head)

    def _level(self, fd: int, registry: Registry) -> None:
        last, end = self._last(fd)
        known = last.sequence if last is not None else 0
        state = registry.state()
        if known > state.sequence:
            entries = self.entries()
            if state.hash not in (GENESIS, *(entry.hash for entry in entries)):
                raise self._differs(state.sequence)
            registry.restore([entry for entry in entries if entry.sequence > state.sequence])
        beyond = registry.entries(known - 1)
        if last is not None and (not beyond or beyond[0].hash != last.hash):
            raise self._differs(known)
        new = [entry for entry in beyond if entry.sequence > known]
        os.ftruncate(fd, end)
        os.lseek(fd, end, os.SEEK_SET)
        data = "".join(f"{entry.to_text()}\n" for entry in new).encode()
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)

    def _differs(self, sequence: int) -> StateError:
        return StateError(
            f"entry {sequence} of the audit log is not the one in {self.path}: one of the two was changed",
            "windlass audit verify",
        )

    def _last(self, fd: int) -> tuple[Entry | None, int]:
        """The last whole line's entry, and where it ends. Raises StateError where that line is no entry."""
        size = os.fstat(fd).st_size
        span = 1 << 16
        while True:
            start = max(0, size - span)
            data = os.pread(fd, size - start, start)
            end = data.rfind(b"\n") + 1
            begin = data.rfind(b"\n", 0, end - 1) + 1 if end else 0
            if begin or not start:
                break
            span *= 8
        if not end:
            return None, 0
        try:
            return Entry.from_text(data[begin:end]), start + end
        except ValueError as error:
            raise StateError(f"the last line of {self.path} is no entry: {error}", "windlass audit verify") from None
