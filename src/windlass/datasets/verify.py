"""An export read again: every difference from its manifest and its lineage, and pairs that do not go together.

A *problem* is a reason not to train on it. Near duplicates within a part are only a note: they weigh a pair twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from windlass.datasets.clashes import WORDS, ClashKind, clashes
from windlass.datasets.export import (
    LINEAGE_FILE,
    MANIFEST_FILE,
    Lineage,
    LineageFile,
    Manifest,
    Part,
    read_manifest,
    size_and_digest,
)
from windlass.datasets.preferences import fingerprint_of, together
from windlass.datasets.rows import parse
from windlass.datasets.splits import Item, leaks, split
from windlass.errors import DataError
from windlass.records.task import Pair


class FindingKind(StrEnum):
    MANIFEST = "manifest"
    FILE = "file"  #: missing, changed, or not part of the export
    ROW = "row"  #: no pair, or no lineage
    LINEAGE = "lineage"  #: a pair that nobody approved so
    SAME_ID = "same_id"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    CONTRADICTION = "contradiction"
    LEAKAGE = "leakage"  #: a prompt in two parts
    PART = "part"  #: a pair in another part than its prompt says


class Finding(NamedTuple):
    kind: FindingKind
    file: str
    row: int | None  #: its line, from 1
    words: str
    note: bool = False  #: no reason not to train on it

    def __str__(self) -> str:
        return f"{self.file}{'' if self.row is None else f' row {self.row}'}: {self.words}"


class Verification(NamedTuple):
    manifest: Manifest | None  #: None where there is none that can be read
    rows: int
    findings: Sequence[Finding]

    @property
    def sound(self) -> bool:
        return all(finding.note for finding in self.findings)


class _Row(NamedTuple):
    part: str
    number: int
    pair: Pair
    content: str

    @property
    def place(self) -> str:
        return f"{self.part}.jsonl row {self.number}"


def verify(folder: Path) -> Verification:
    """Read everything in an export again. Raises DataError where ``folder`` is none."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    try:
        manifest = read_manifest(folder)
    except DataError as error:
        return Verification(None, 0, [Finding(FindingKind.MANIFEST, MANIFEST_FILE, None, error.message)])
    findings = list(_files(folder, manifest))
    rows: list[_Row] = []
    for name in manifest.parts:
        rows += _pairs(folder / f"{name}.jsonl", findings)
    lineage = _lineage(folder / LINEAGE_FILE, findings)
    findings += _counts(manifest, rows)
    findings += _approvals(rows, lineage)
    findings += _clashes(rows)
    findings += _leaks(rows)
    findings += _misplaced(manifest, rows)
    return Verification(manifest, len(rows), findings)


def _files(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    expected: dict[str, Part | LineageFile] = {f"{name}.jsonl": part for name, part in manifest.parts.items()}
    expected[LINEAGE_FILE] = manifest.lineage
    for name, told in expected.items():
        try:
            size, sha256 = size_and_digest(folder / name)
        except OSError as error:
            yield Finding(FindingKind.FILE, name, None, f"cannot be read: {error.strerror}")
            continue
        if size != told.bytes:
            yield Finding(FindingKind.FILE, name, None, f"has {size:,} bytes, {told.bytes:,} in the manifest")
        elif sha256 != told.sha256:
            yield Finding(FindingKind.FILE, name, None, f"its SHA-256 is {sha256}, {told.sha256} in the manifest")
    for path in sorted(folder.iterdir()):
        if path.name not in (*expected, MANIFEST_FILE):
            yield Finding(FindingKind.FILE, path.name, None, "is no part of the export")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            yield from enumerate(file, 1)
    except OSError:
        return  # told with the files


def _pairs(path: Path, findings: list[Finding]) -> list[_Row]:
    rows = []
    for number, line in _lines(path):
        try:
            pair = Pair.model_validate(parse(line))
            rows.append(_Row(path.stem, number, pair, pair.content))
        except ValueError as error:
            findings.append(Finding(FindingKind.ROW, path.name, number, f"is no pair: {_without_texts(error)}"))
    return rows


def _lineage(path: Path, findings: list[Finding]) -> dict[str, tuple[int, Lineage]]:
    """By the pair's id."""
    found: dict[str, tuple[int, Lineage]] = {}
    for number, line in _lines(path):
        try:
            one = Lineage.model_validate(parse(line))
        except ValueError as error:
            findings.append(Finding(FindingKind.ROW, path.name, number, f"is no lineage: {_without_texts(error)}"))
            continue
        if one.id in found:
            words = f"the pair {one.id!r} has a row already, row {found[one.id][0]}"
            findings.append(Finding(FindingKind.LINEAGE, path.name, number, words))
        found.setdefault(one.id, (number, one))
    return found


def _without_texts(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    problems = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['type'].replace('_', ' ')}" for one in problems)


def _counts(manifest: Manifest, rows: Sequence[_Row]) -> Iterator[Finding]:
    counts = Counter(row.part for row in rows)
    for name, part in manifest.parts.items():
        if counts[name] != part.rows:
            words = f"has {counts[name]:,} pairs, {part.rows:,} in the manifest"
            yield Finding(FindingKind.FILE, f"{name}.jsonl", None, words)
        own = fingerprint_of(row.content for row in rows if row.part == name)
        if own != part.fingerprint:
            words = f"the fingerprint of its pairs is {own}, {part.fingerprint} in the manifest"
            yield Finding(FindingKind.FILE, f"{name}.jsonl", None, words)
    if fingerprint_of(row.content for row in rows) != manifest.fingerprint:
        words = f"the fingerprint is that of other pairs than the {len(rows):,} that are there"
        yield Finding(FindingKind.MANIFEST, MANIFEST_FILE, None, words)
    if manifest.rows != sum(part.rows for part in manifest.parts.values()):
        yield Finding(FindingKind.MANIFEST, MANIFEST_FILE, None, "its rows are not the sum of its parts' rows")


def _approvals(rows: Sequence[_Row], lineage: Mapping[str, tuple[int, Lineage]]) -> Iterator[Finding]:
    for part, number, pair, content in rows:
        _, approved = lineage.get(pair.id, (0, None))
        words = ""
        if approved is None:
            words = f"nobody approved the pair {pair.id!r}: it has no lineage"
        elif approved.content != content:
            words = f"the pair {pair.id!r} is not as {approved.approved_by} approved it"
        elif approved.part != part:
            words = f"the pair {pair.id!r} was exported to {approved.part}"
        if words:
            yield Finding(FindingKind.LINEAGE, f"{part}.jsonl", number, words)
    there = {row.pair.id for row in rows}
    for identity, (number, approved) in lineage.items():
        if identity not in there:
            words = f"the pair {identity!r} is missing in {approved.part}.jsonl"
            yield Finding(FindingKind.LINEAGE, LINEAGE_FILE, number, words)


def _clashes(rows: Sequence[_Row]) -> Iterator[Finding]:
    for kind, a, b in clashes([row.pair for row in rows], alike=True):
        first, second = rows[a], rows[b]
        note = kind is ClashKind.NEAR_DUPLICATE and first.part == second.part
        words = WORDS[kind].format(first.place)
        yield Finding(FindingKind(kind), f"{second.part}.jsonl", second.number, words, note)


def _leaks(rows: Sequence[_Row]) -> Iterator[Finding]:
    """A row for each pair whose prompt is in an earlier part, too."""
    parts: dict[str, list[Item]] = {}
    for row in rows:
        parts.setdefault(row.part, []).append(Item(row.number, asks=together(row.pair), says=None))
    for leak in leaks(parts):
        words = f"has the prompt of {leak.other}.jsonl row {leak.other_row}"
        yield Finding(FindingKind.LEAKAGE, f"{leak.part}.jsonl", leak.row, words)


def _misplaced(manifest: Manifest, rows: Sequence[_Row]) -> Iterator[Finding]:
    try:
        own = split([together(row.pair) for row in rows], {name: part.share for name, part in manifest.parts.items()})
    except DataError as error:
        yield Finding(FindingKind.MANIFEST, MANIFEST_FILE, None, error.message)
        return
    for row, part in zip(rows, own, strict=True):
        if row.part != part:
            yield Finding(FindingKind.PART, f"{row.part}.jsonl", row.number, f"by its prompt it belongs to {part}")
