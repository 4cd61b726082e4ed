"""A folder of pairs under review: ``pairs.jsonl`` and ``reviews.jsonl``, which only ever grow.

``reviews.jsonl`` is the truth. An import writes its pairs first, and then the entry that says how far they reach: what
lies behind the last such entry is what a killed import left, and is not there. A review, of one pair or of all, is one
line. What a writer says is done is on disk (fsync). A last line without its end never was said to be done; the next
writer takes its place. Writers hold a lock on ``reviews.jsonl``, and decide on what they read under it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from windlass.datasets.clashes import WORDS, ClashKind
from windlass.datasets.preferences import as_row, numbered_pairs
from windlass.datasets.reviews import (
    Entry,
    Imported,
    Reviewed,
    ReviewState,
    Standing,
    Standings,
    apply,
    entry_of,
    line_of,
    require_known,
    require_reason,
)
from windlass.datasets.rows import OnBytes, Problems
from windlass.errors import DataError, NotFound, StateError, StoreError
from windlass.records.fields import Strict
from windlass.records.task import Pair

RESTORE = "The folder is damaged; bring it back from a backup"
_Made = TypeVar("_Made", bound=Strict)


@dataclass(frozen=True)
class Preferences:
    """What a folder holds at one moment."""

    pairs: Mapping[str, Pair]  #: by id, in the order of their import
    standings: Mapping[str, Standing]
    origins: Mapping[str, Imported]  #: the import that each pair came with
    entries: Sequence[Entry]

    @cached_property
    def counts(self) -> dict[ReviewState, int]:
        """Of every state."""
        found = Counter(standing.state for standing in self.standings.values())
        return {state: found[state] for state in ReviewState}

    def find(self, pair: str) -> Pair:
        """Raises NotFound with the nearest id."""
        require_known([pair], self.pairs)
        return self.pairs[pair]

    def within(self, *states: ReviewState) -> list[Pair]:
        return [pair for pair in self.pairs.values() if self.standings[pair.id].state in states]

    def source(self, pair: Pair) -> str:
        """Where a pair is from: ``source`` in its metadata, else what its import says."""
        own = pair.metadata.get("source")
        return own if isinstance(own, str) and own.strip() else self.origins[pair.id].source

    def reviews(self, pair: str) -> list[Reviewed]:
        """Every review of a pair, oldest first."""
        return [entry for entry in self.entries if isinstance(entry, Reviewed) and pair in entry.pairs]


class Added(NamedTuple):
    new: int
    known: int  #: rows that were in the folder already


class PreferenceFolder:
    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def pairs_file(self) -> Path:
        """Every pair that was imported, as :func:`windlass.datasets.preferences.read_pairs` reads it."""
        return self.path / "pairs.jsonl"

    @property
    def reviews_file(self) -> Path:
        """Every import and every review: who, when and why."""
        return self.path / "reviews.jsonl"

    def read(self) -> Preferences:
        """Raises NotFound where there is no such folder, StoreError where it is damaged or cannot be read."""
        try:
            with self.reviews_file.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                data = file.read()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(
                f"{self.path} holds no preferences", f"windlass preferences import FILE --to {self.path}"
            ) from None
        except OSError as error:
            raise StoreError(f"cannot read {self.reviews_file}: {error.strerror}") from error
        return self._parsed(data)

    def import_file(
        self,
        file: Path,
        *,
        by: str,
        at: float,
        source: str = "",
        keep: Collection[str] = (),
        on_bytes: OnBytes | None = None,
    ) -> Added:
        """Add the pairs of a file, which are pending then; the folder is made where there is none. All or none.

        ``source`` says where they are from (default: the file's name), ``at`` is in seconds since the epoch. A pair
        that is in the folder already, id and content, is passed over; so an import can be repeated.

        Raises DataError as :func:`windlass.datasets.preferences.read_pairs` does, and with the rows that have the id or
        the content of a pair in the folder; StateError where the folder holds other things; StoreError.
        """
        before, name = _stamp(file), os.fsencode(file.name).decode(errors="replace")
        rows = numbered_pairs(file, keep=keep, on_bytes=on_bytes)
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if _stamp(file) != before:
            raise DataError(f"{file} changed while it was read")
        with self._writing(create=True) as (fd, data):
            there = self._parsed(data)
            new = _new_rows(file, rows, there)
            if new:
                written = b"".join(_line(pair) for pair in new)
                start = _end(there.entries)
                entry = _made(
                    Imported,
                    at=at,
                    by=by.strip(),
                    source=source.strip() or name,
                    file=name,
                    file_sha256=digest,
                    rows=len(new),
                    ends=start + len(written),
                    sha256=hashlib.sha256(written).hexdigest(),
                )
                pairs_fd = os.open(self.pairs_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                try:
                    _extend(pairs_fd, start, written)
                finally:
                    os.close(pairs_fd)
                for folder in (self.path, self.path.parent):
                    sync_folder(folder)
                _extend(fd, _whole(data), line_of(entry))
        return Added(len(new), len(rows) - len(new))

    def review(
        self,
        pairs: Iterable[str] | None,
        state: ReviewState,
        *,
        by: str,
        at: float,
        reason: str = "",
        instead: str | None = None,
    ) -> tuple[str, ...]:
        """Decide on pairs, on all pending ones with None; those in that state already stay as they are. All or none.

        The ids of those that changed. Raises NotFound for an unknown id, StateError where a pair cannot change so,
        DataError where a reason or a name is missing, StoreError.
        """
        with self._writing() as (fd, data):
            there = self._parsed(data)
            standings = dict(there.standings)
            asked = (
                [one.id for one in there.within(ReviewState.PENDING)] if pairs is None else list(dict.fromkeys(pairs))
            )
            require_known(asked, standings)
            changing = tuple(one for one in asked if not _is_so(standings[one], state, instead))
            if changing:
                review = _made(
                    Reviewed, at=at, by=by.strip(), state=state, pairs=changing, reason=reason.strip(), instead=instead
                )
                require_reason(standings, review)
                apply(standings, review)
                _extend(fd, _whole(data), line_of(review))
        return changing

    # The two files ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self, create: bool = False) -> Iterator[tuple[int, bytes]]:
        """Alone: ``reviews.jsonl``, and what it holds."""
        try:
            if create:
                self.path.mkdir(parents=True, exist_ok=True)
                if self.reviews_file.name not in (names := os.listdir(self.path)) and names:
                    raise StateError(f"{self.path} holds other things", "Name a folder that is new or empty")
            elif not self.reviews_file.exists():
                self.read()  # says that there is none
            fd = os.open(self.reviews_file, os.O_RDWR | (os.O_CREAT if create else 0) | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield fd, _all(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise StoreError(
                f"cannot write {error.filename or self.path}: {error.strerror}", f"ls -ld {self.path}; df {self.path}"
            ) from error

    def _parsed(self, data: bytes) -> Preferences:
        """Raises StoreError where the log or the pairs are not as they were written."""
        entries: list[Entry] = []
        pairs: dict[str, Pair] = {}
        origins: dict[str, Imported] = {}
        standings: Standings = {}
        for number, line in enumerate(data.split(b"\n")[:-1], 1):
            where = f"line {number} of {self.reviews_file}"
            try:
                entry = entry_of(line)
            except ValueError as error:
                raise StoreError(f"{where} is no entry: {error}", RESTORE) from None
            if isinstance(entry, Imported):
                for pair in self._imported(entry, _end(entries)):
                    if pair.id in pairs:
                        raise StoreError(f"{where} imports the pair {pair.id!r} again", RESTORE)
                    pairs[pair.id], origins[pair.id], standings[pair.id] = pair, entry, Standing()
            else:
                try:
                    apply(standings, entry)
                except (NotFound, StateError) as error:
                    raise StoreError(f"{where} cannot follow: {error.message}", RESTORE) from None
            entries.append(entry)
        return Preferences(pairs, standings, origins, entries)

    def _imported(self, entry: Imported, start: int) -> Iterator[Pair]:
        try:
            with self.pairs_file.open("rb") as file:
                file.seek(start)
                data = file.read(entry.ends - start)
        except OSError as error:
            raise StoreError(f"cannot read {self.pairs_file}: {error.strerror}", RESTORE) from error
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise StoreError(
                f"{self.pairs_file} is not as it was imported from {entry.file}: of {entry.ends - start:,} bytes from"
                f" byte {start:,}, {'some differ' if len(data) == entry.ends - start else f'{len(data):,} are there'}",
                RESTORE,
            )
        for line in data.split(b"\n")[:-1]:
            yield Pair.model_validate_json(line)


def _line(pair: Pair) -> bytes:
    return json.dumps(as_row(pair), ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _made(model: type[_Made], **values: Any) -> _Made:
    """Raises DataError that names what is missing or cannot be written."""
    for name, value in values.items():
        if isinstance(value, str) and value.encode(errors="replace").decode() != value:
            raise DataError(f"{name!r} has a character that is no text in UTF-8")
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise DataError(f"'{first['loc'][0]}': {first['msg']}") from None


def _is_so(standing: Standing, state: ReviewState, instead: str | None) -> bool:
    return standing.state is state and (standing.review is None or standing.review.instead == instead)


def _new_rows(file: Path, rows: Sequence[tuple[int, Pair]], there: Preferences) -> list[Pair]:
    """Those that are not there. Raises DataError with the rows that clash with one that is."""
    problems, new = Problems(file), []
    contents = {(pair.prompt, pair.chosen, pair.rejected): pair for pair in there.pairs.values()}
    for row, pair in rows:
        same = contents.get((pair.prompt, pair.chosen, pair.rejected))
        if same is not None and same.id != pair.id:
            problems.add(row, WORDS[ClashKind.DUPLICATE].format(f"{same.id!r}, which is there already"))
        elif same is None and pair.id in there.pairs:
            problems.add(row, f"the id {pair.id!r} is that of another pair, which is there already")
        elif same is not None and same != pair:
            problems.add(row, f"{pair.id!r} is there already, with other metadata")
        elif same is None:
            new.append(pair)
    problems.refuse("A pair that corrects one gets an id of its own: windlass preferences supersede FOLDER OLD NEW")
    return new


def _end(entries: Sequence[Entry]) -> int:
    """Bytes of ``pairs.jsonl`` that count."""
    return next((entry.ends for entry in reversed(entries) if isinstance(entry, Imported)), 0)


def _whole(data: bytes) -> int:
    """Bytes up to the end of the last whole line."""
    return data.rfind(b"\n") + 1


def _all(fd: int) -> bytes:
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        return file.read()


def _extend(fd: int, end: int, data: bytes) -> None:
    """Put ``data`` behind the first ``end`` bytes, on disk when this returns. Where that fails, the file ends there."""
    try:
        os.ftruncate(fd, end)
        written = 0
        while written < len(data):
            written += os.pwrite(fd, data[written:], end + written)
        os.fsync(fd)
    except OSError:
        with suppress(OSError):
            os.ftruncate(fd, end)
        raise


def sync_folder(path: Path) -> None:
    """Keep the names of its files over a loss of power."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        stat = file.stat()
    except FileNotFoundError:
        raise DataError(f"there is no file {file}") from None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
