"""``deployments/<name>.outcomes.jsonl``: what became of the answers of a deployment, one JSON line an answer.

Appended with O_APPEND, so that serving processes and threads may share the file without a lock. The order of its lines
is the order that counts: a clock that jumps changes nothing. What a call has written survives the end of its process;
a power cut may take the last seconds.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self, TypeVar

import orjson

from windlass.errors import DataError, StoreError, nearest
from windlass.records.deployment import Role, Served, ServedOutcome

CHUNK = 1 << 22  #: bytes read at a time
LINE = 1 << 12  #: bytes in which a line usually ends
RETRIES = 100_000  #: newest answers among which a retry is known as one

_OUTCOMES = {str(outcome): outcome for outcome in ServedOutcome}
_ROLES = {str(role): role for role in Role}
_Word = TypeVar("_Word", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many answers came to what."""

    accepted: int = 0
    rejected: int = 0
    escalated: int = 0
    timed_out: int = 0
    threw: int = 0
    invalid: int = 0

    @classmethod
    def of(cls, counts: Mapping[ServedOutcome, int]) -> Self:
        return cls(**{str(outcome): number for outcome, number in counts.items()})

    @property
    def n(self) -> int:
        return self.accepted + self.rejected + self.escalated + self.failed

    @property
    def failed(self) -> int:
        """Answers that nobody could use."""
        return self.timed_out + self.threw + self.invalid

    @property
    def accepted_share(self) -> float:
        """NaN where there are no answers."""
        return self.accepted / self.n if self.n else math.nan

    @property
    def failed_share(self) -> float:
        """NaN where there are no answers."""
        return self.failed / self.n if self.n else math.nan

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            accepted=self.accepted + other.accepted,
            rejected=self.rejected + other.rejected,
            escalated=self.escalated + other.escalated,
            timed_out=self.timed_out + other.timed_out,
            threw=self.threw + other.threw,
            invalid=self.invalid + other.invalid,
        )

    def __sub__(self, other: Tally) -> Tally:
        return Tally(
            accepted=self.accepted - other.accepted,
            rejected=self.rejected - other.rejected,
            escalated=self.escalated - other.escalated,
            timed_out=self.timed_out - other.timed_out,
            threw=self.threw - other.threw,
            invalid=self.invalid - other.invalid,
        )

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


class OutcomeLog:
    """One deployment's outcomes. Threads and processes may append and read at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.fspath(path)
        self._lock = threading.Lock()
        self._follower = Follower(path)
        self._counts: dict[tuple[str, Role], Counter[ServedOutcome]] = {}

    def append(self, served: Sequence[Served]) -> None:
        """Write all of them in one write(2), in order.

        Raises DataError for an outcome or a role that is none, before anything is written; StoreError where the file
        cannot be written, with how many are on record.
        """
        lines = [_line(one) for one in served]
        if not lines:
            return
        try:
            fd = self._open()
        except OSError as error:
            raise self._unwritable(error, 0, len(lines)) from error
        left = lines
        try:
            while left:
                left = _write(fd, left)
        except OSError as error:
            raise self._unwritable(error, len(lines) - len(left), len(lines)) from error
        finally:
            os.close(fd)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            return os.open(self._file, flags, 0o644)
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self._file, flags, 0o644)

    def _unwritable(self, error: OSError, written: int, count: int) -> StoreError:
        return StoreError(
            f"cannot write outcomes to {self.path}: {error.strerror}; {written} of {count} are on record",
            f"Check: df {self.path.parent}; ls -ld {self.path.parent}",
        )

    def end(self) -> int:
        """Where the next answer's line will begin or has begun, in bytes; what is before it is on disk for good.

        Raises StoreError where that cannot be had.
        """
        try:
            with self.path.open("rb") as file:
                place = file.seek(0, os.SEEK_END)
                os.fsync(file.fileno())
                while place > 0:
                    start = max(0, place - LINE)
                    file.seek(start)
                    newline = file.read(place - start).rfind(b"\n")
                    if newline >= 0:
                        return start + newline + 1
                    place = start
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StoreError(f"cannot read {self.path}: {error.strerror}", f"ls -l {self.path}") from error
        return 0

    def read(self, after: int = 0) -> tuple[list[Served], int]:
        """The answers behind a byte offset, each once, and the offset behind the last of them."""
        follower = Follower(self.path, after)
        return list(follower.new()), follower.offset

    def tally(self, checkpoint: str, role: Role, start: int = 0, end: int | None = None) -> Tally:
        """Of one checkpoint in one role, between two byte offsets that ``end()`` gave."""
        follower, counts = Follower(self.path, start), Counter[ServedOutcome]()
        for served in follower.new():
            if end is not None and follower.offset > end:
                break
            if (served.checkpoint, served.role) == (checkpoint, role):
                counts[served.outcome] += 1
        return Tally.of(counts)

    def tallies(self) -> Mapping[tuple[str, Role], Tally]:
        """By checkpoint and role, of the whole log; each call reads only what is new."""
        with self._lock:
            for served in self._follower.new():
                self._counts.setdefault((served.checkpoint, served.role), Counter())[served.outcome] += 1
            return {who: Tally.of(counts) for who, counts in self._counts.items()}


class Follower:
    """Reads a log from an offset on, as it grows. Not for several threads at once.

    A last line without its end waits; any other line that is no answer is counted in ``garbled`` and passed over.
    Of two outcomes of one request (equal checkpoint, role and key, the key not empty) the first counts: it is what the
    one who asked got. Later ones are counted in ``repeated``, as long as no more than ``RETRIES`` answers lie between.
    """

    def __init__(self, path: Path, start: int = 0) -> None:
        self.path = path
        self.offset = start
        self.garbled = 0
        self.repeated = 0
        self._keys: set[int] = set()
        self._order: deque[int] = deque()

    def new(self) -> Iterator[Served]:
        """The answers since the last call. Raises DataError where the file is shorter than it was."""
        for line in self._lines():
            served = _parsed(line)
            if served is None:
                self.garbled += bool(line)
            elif self._first(served):
                yield served

    def _lines(self) -> Iterator[bytes]:
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            size = 0
        else:
            with file:
                size = os.fstat(file.fileno()).st_size
                while self.offset < size:
                    file.seek(self.offset)
                    data = file.read(CHUNK)
                    whole = data.rfind(b"\n") + 1
                    if not whole:
                        data += file.readline()
                        whole = len(data) if data.endswith(b"\n") else 0
                    if not whole:
                        return
                    for line in data[: whole - 1].split(b"\n"):
                        self.offset += len(line) + 1
                        yield line
        if size < self.offset:
            raise DataError(
                f"{self.path} has {size} bytes, and {self.offset} were on record: it was cut or replaced",
                "Put it back from a backup; what is left of it cannot tell how a checkpoint serves.",
            )

    def _first(self, served: Served) -> bool:
        if not served.key:
            return True
        key = hash((served.checkpoint, served.role, served.key))
        if key in self._keys:
            self.repeated += 1
            return False
        self._keys.add(key)
        self._order.append(key)
        if len(self._order) > RETRIES:
            self._keys.discard(self._order.popleft())
        return True


def outcome(word: str) -> ServedOutcome:
    """Raises DataError with the nearest outcome."""
    return _known(word, _OUTCOMES, "outcome")


def _known(word: str, known: Mapping[str, _Word], what: str) -> _Word:
    if word not in known:
        raise DataError(
            f"there is no {what} {word!r}.{nearest(str(word), known)}", f"{what.capitalize()}s: {', '.join(known)}"
        )
    return known[word]


def _line(served: Served) -> bytes:
    at = served.at if served.at else time.time()
    if not math.isfinite(at):
        raise DataError(f"an answer's time is seconds since the epoch, not {at!r}")
    fields = {
        "checkpoint": served.checkpoint,
        "role": _known(served.role, _ROLES, "role"),
        "outcome": outcome(served.outcome),
        "key": served.key,
        "at": round(at, 3),
    }
    try:
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # half a character, which no UTF-8 can hold
        return orjson.dumps({**fields, "key": served.key.encode(errors="replace").decode()}) + b"\n"


def _parsed(line: bytes) -> Served | None:
    try:
        fields = orjson.loads(line)
        checkpoint, key = fields["checkpoint"], fields["key"]
        if checkpoint.__class__ is not str or key.__class__ is not str:
            return None
        return Served(
            checkpoint=checkpoint,
            role=_ROLES[fields["role"]],
            outcome=_OUTCOMES[fields["outcome"]],
            key=key,
            at=float(fields["at"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _write(fd: int, lines: list[bytes]) -> list[bytes]:
    """Append lines in one write; those that are still to be written.

    Behind half a line, left by a full disk or a power cut, a new line is begun. Where another writer left one in the
    very moment before, the first of ``lines`` went down with it, and is written again.
    """
    lead = b"" if _ends_whole(fd, os.fstat(fd).st_size) else b"\n"
    written = os.write(fd, lead + b"".join(lines))
    begin = os.lseek(fd, 0, os.SEEK_CUR) - written
    whole, size = 0, len(lead)
    while whole < len(lines) and size + len(lines[whole]) <= written:
        size += len(lines[whole])
        whole += 1
    lost = not lead and whole > 0 and not _ends_whole(fd, begin)
    return [*(lines[:1] if lost else []), *lines[whole:]]


def _ends_whole(fd: int, size: int) -> bool:
    return size == 0 or os.pread(fd, 1, size - 1) == b"\n"
