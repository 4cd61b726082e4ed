"""``factor_registry.jsonl``: every expression that was ever tried, what was said of it, and each look at a holdout.

One line of JSON an event, in the order in which it happened; nothing is changed or taken away later. A trial is written
down before it is evaluated, so that the trials of a campaign that was killed count, too. A gate remembers the size of
the file when it counted: whoever reads up to there counts the same.

Writers of any number of processes take turns (``flock``). An append is durable when it returns. What a killed writer
left of a line is cut off by the next one: nobody was told that it is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args

from windlass.errors import DataError, StoreError
from windlass.runs.folder import flush

LEDGER_FILE = "factor_registry.jsonl"
LONGEST = 1 << 16  #: bytes of a line

Window = tuple[str, str]  #: first and last day, as ISO dates
Standing = Literal["provisional", "promoted", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """An expression that is about to be evaluated on the development days of a panel."""

    at: float  #: seconds since the epoch
    run: str
    data: str  #: the panel's ``market``: its prices alone
    window: Window  #: of the development days
    hash: str  #: of the canonical expression
    expr: str
    proposer: str
    parents: tuple[str, ...] = ()  #: hashes
    mode: str
    portfolio: str  #: digest of what else shapes the series of returns

    @property
    def key(self) -> tuple[str, str, Window]:
        """Two trials with one key, on one panel, are one trial."""
        return self.hash, self.portfolio, self.window

    @classmethod
    def from_fields(cls, event: str, fields: Mapping[str, Any]) -> Self:
        return cls(
            at=float(fields["at"]),
            window=_window(fields["window"]),
            parents=_texts(fields["parents"]),
            **{name: _text(fields[name]) for name in ("run", "data", "hash", "expr", "proposer", "mode", "portfolio")},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a gate said of an expression."""

    standing: Standing
    at: float
    run: str
    hash: str
    grade: str
    reasons: tuple[str, ...] = ()

    @classmethod
    def from_fields(cls, event: str, fields: Mapping[str, Any]) -> Self:
        return cls(
            standing=cast(Standing, event),
            at=float(fields["at"]),
            reasons=_texts(fields["reasons"]),
            **{name: _text(fields[name]) for name in ("run", "hash", "grade")},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A look at a holdout, written down before it is taken."""

    at: float
    run: str
    data: str
    of: str  #: the campaign's run
    window: Window  #: of the holdout
    hashes: tuple[str, ...]

    @classmethod
    def from_fields(cls, event: str, fields: Mapping[str, Any]) -> Self:
        return cls(
            at=float(fields["at"]),
            window=_window(fields["window"]),
            hashes=_texts(fields["hashes"]),
            **{name: _text(fields[name]) for name in ("run", "data", "of")},
        )


Event = Trial | Judged | Opened


@dataclass(frozen=True, slots=True)
class Overlap:
    """Another panel that was used in the same days: perhaps the same one with a day more or less."""

    data: str
    window: Window  #: from the first day to the last one of all that was tried or opened on it
    trials: int  #: distinct
    openings: int

    @property
    def words(self) -> str:
        opened = f" and {self.openings} openings of a holdout" if self.openings else ""
        first, last = self.window
        return (
            f"on another panel ({self.data[:10]}) with days in common, {first} to {last}: "
            f"{self.trials} trials{opened}. They are not counted here; where it is nearly the same panel they should be"
        )


class Ledger:
    """A file that need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def size(self) -> int:
        """Bytes of the whole lines: what a gate remembers."""
        return len(self._whole())

    def append(self, events: Iterable[Event]) -> int:
        """Write all of them, or none; the size of the file behind them.

        When it returns, they are on the disk. Raises DataError where a line is too long, StoreError where the file
        cannot be written.
        """
        data = b"".join(_line(event) for event in events)
        try:
            with self._locked(os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX) as fd:
                return self._write(fd, data)
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror or error}", f"ls -ld {self.path}") from error

    def append_once(self, events: Iterable[Event]) -> None:
        """Those that are not there yet, whatever their time: for a run that is resumed."""
        known = {replace(event, at=0.0) for event in self.read()}
        if new := [event for event in events if replace(event, at=0.0) not in known]:
            self.append(new)

    def read(self, until: int | None = None) -> tuple[Event, ...]:
        """Events up to byte ``until``, by default all; those of a kind that is not known are passed over.

        Raises DataError with the number of a line that is damaged, or where the file does not reach ``until``.
        """
        data = self._whole()
        if until is not None:
            if until > len(data) or data[:until][-1:] not in (b"", b"\n"):
                raise DataError(
                    f"{self.path} has {len(data):,} bytes in whole lines, and {until:,} were counted before: "
                    "it is not the file that it was",
                    "put the file back from a copy; without it nobody knows how much was tried",
                )
            data = data[:until]
        events = (self._event(number, line) for number, line in enumerate(data.split(b"\n")[:-1], start=1))
        return tuple(event for event in events if event is not None)

    def trials(self, data: str, until: int | None = None) -> tuple[Trial, ...]:
        """Distinct trials on a panel, by expression, portfolio and window; the first of each."""
        return _distinct(event for event in self.read(until) if isinstance(event, Trial) and event.data == data)

    def openings(self, data: str, until: int | None = None) -> tuple[Opened, ...]:
        """Every look at a holdout of the panel."""
        return tuple(event for event in self.read(until) if isinstance(event, Opened) and event.data == data)

    def kept(self, until: int | None = None) -> tuple[Judged, ...]:
        """The last word on each expression of each run, where it is that it was promoted."""
        last = {(event.run, event.hash): event for event in self.read(until) if isinstance(event, Judged)}
        return tuple(event for event in last.values() if event.standing == "promoted")

    def _whole(self) -> bytes:
        try:
            with self._locked(os.O_RDONLY, fcntl.LOCK_SH) as fd:
                data = _content(fd)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StoreError(f"cannot read {self.path}: {error.strerror or error}", f"ls -l {self.path}") from error
        return data[: data.rfind(b"\n") + 1]

    @contextlib.contextmanager
    def _locked(self, flags: int, how: int) -> Iterator[int]:
        fd = os.open(self.path, flags | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, how)
            yield fd
        finally:
            os.close(fd)

    def _write(self, fd: int, data: bytes) -> int:
        end = _end(fd)
        os.ftruncate(fd, end)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(fd, data[written:], end + written)
            os.fsync(fd)
            if not end:
                flush(self.path.parent)
        except OSError:
            os.ftruncate(fd, end)
            raise
        return end + len(data)

    def _event(self, number: int, line: bytes) -> Event | None:
        try:
            if len(line) >= LONGEST:
                raise ValueError(f"it has {len(line):,} bytes; a line has at most {LONGEST - 1:,}")
            fields = json.loads(line)
            event = _text(fields["event"])
            kind = _KINDS.get(event)
            return kind(event, fields) if kind is not None else None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(
                f"line {number} of {self.path} is damaged: {reason}", f"sed -n '{number}p' '{self.path}'"
            ) from None


def overlaps(events: Iterable[Event], data: str, window: Window) -> tuple[Overlap, ...]:
    """Other panels with trials or looks at a holdout in days of ``window``, most trials first.

    A panel's identity is its content: whoever takes a day away has another panel, and with it a count that starts at
    nothing. This finds what was tried on such panels. ``window`` best covers development days and holdout.
    """
    found: dict[str, list[Trial | Opened]] = {}
    for event in events:
        if not isinstance(event, Judged) and event.data != data and _meet(event.window, window):
            found.setdefault(event.data, []).append(event)
    rows = (
        Overlap(
            data=other,
            window=(min(event.window[0] for event in those), max(event.window[1] for event in those)),
            trials=len(_distinct(event for event in those if isinstance(event, Trial))),
            openings=sum(isinstance(event, Opened) for event in those),
        )
        for other, those in found.items()
    )
    return tuple(sorted(rows, key=lambda row: (-row.trials, row.data)))


_KINDS: Mapping[str, Any] = {
    "trial": Trial.from_fields,
    "opened": Opened.from_fields,
    **dict.fromkeys(get_args(Standing), Judged.from_fields),
}


def fields_of(event: Event) -> dict[str, Any]:
    """A line's content; ``event`` says of which kind it is."""
    fields = asdict(event)
    kind = fields.pop("standing", None) or ("trial" if isinstance(event, Trial) else "opened")
    return {"event": kind, **fields}


def _line(event: Event) -> bytes:
    fields = fields_of(event)
    line = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    if len(line) > LONGEST:
        raise DataError(
            f"a {fields['event']} of run {event.run} takes {len(line):,} bytes; a line of {LEDGER_FILE} has at most"
            f" {LONGEST:,}",
            "shorten the expression",
        )
    return line


def _end(fd: int) -> int:
    """Where the last whole line ends."""
    size = os.fstat(fd).st_size
    start = max(0, size - LONGEST)
    tail = os.pread(fd, size - start, start)
    if not start or b"\n" in tail:
        return start + tail.rfind(b"\n") + 1
    return _content(fd).rfind(b"\n") + 1


def _content(fd: int) -> bytes:
    parts: list[bytes] = []
    position = 0
    while part := os.pread(fd, 1 << 20, position):
        parts.append(part)
        position += len(part)
    return b"".join(parts)


def _distinct(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    first: dict[tuple[str, str, Window], Trial] = {}
    for trial in trials:
        first.setdefault(trial.key, trial)
    return tuple(first.values())


def _meet(one: Window, other: Window) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise TypeError(f"{values!r} is not a list of texts")
    return tuple(_text(value) for value in values)


def _window(value: Any) -> Window:
    first, last = _texts(value)
    return first, last
