"""Verification of the audit log: what was edited, removed, put in another order, or does not fit what is on disk.

Each entry carries the hash of the one before, so an edit, a gap or another order shows. A log that was made anew from
some entry on, or cut off at its end, is sound in itself: it shows beside its other copy, or against an anchor that was
noted down elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from windlass.errors import DataError, StateError, WindlassError
from windlass.records.audit import GENESIS, Entry
from windlass.registry.blobs import Blobs
from windlass.registry.pointer import read_pointer
from windlass.registry.state import State

#: stored entries in their order: the sequence (or line number) under which each stands, and its text
Lines = Iterable[tuple[int, str | bytes]]


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as it was."""

    where: str  #: ``entry 12``, ``registry.jsonl``, ``checkpoint 3f2a9c…``
    what: str  #: in words and values

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def verify_log(lines: Lines) -> tuple[State, list[Damage]]:
    """The state as far as the entries are sound and follow one another, and everything that is wrong with them."""
    state = State()
    damages: list[Damage] = []
    before, previous, shift = 0, GENESIS, 0  # sequence and hash of the entry before; how far its place is off
    for number, text in lines:
        try:
            entry = Entry.from_text(text)
        except ValueError as error:
            damages.append(Damage(f"entry {number}", f"cannot be read: {error}"))
            before, previous = before + 1, ""
            continue
        damages += _faults(entry, text, before, previous)
        if entry.sequence == before + 1 and number - entry.sequence != shift:
            damages.append(Damage(f"entry {entry.sequence}", f"stands in place {number}"))
        before, previous, shift = entry.sequence, entry.hash, number - entry.sequence
        if not damages:
            try:
                state.apply(entry)
            except StateError as error:
                damages.append(Damage(f"entry {entry.sequence}", f"is not allowed: {error.message}"))
    return state, damages


def _faults(entry: Entry, text: str | bytes, before: int, previous: str) -> Iterator[Damage]:
    where = f"entry {entry.sequence}"
    if not entry.sound:
        yield Damage(where, f"was edited: {entry.kind} of {entry.subject}")
    elif _bytes(text) != entry.to_text().encode():
        yield Damage(where, "was written anew, with the same content")
    if entry.sequence != before + 1:
        yield Damage(where, _gap(before, entry.sequence))
    elif previous and entry.previous != previous:
        yield Damage(where, f"does not follow entry {before} as it is now: one of the two was changed")


def _bytes(text: str | bytes) -> bytes:
    return (text if isinstance(text, bytes) else text.encode(errors="surrogatepass")).removesuffix(b"\n")


def _gap(before: int, found: int) -> str:
    if found <= before:
        return f"stands after entry {before}: it is there twice, or the order was changed"
    missing = f"entry {before + 1} is" if found == before + 2 else f"entries {before + 1} to {found - 1} are"
    return f"{missing} missing before it"


def compare_copies(log: Lines, mirror: Iterable[bytes]) -> list[Damage]:
    """Where the database's log and ``registry.jsonl`` differ, by sequence."""
    damages: list[Damage] = []
    stored = {number: _bytes(text) for number, text in log}
    copied: dict[int, bytes] = {}
    for number, line in enumerate(mirror, start=1):
        try:
            sequence = Entry.from_text(line).sequence
        except ValueError as error:
            damages.append(Damage("registry.jsonl", f"line {number} cannot be read: {error}"))
            continue
        if sequence in copied:
            damages.append(Damage("registry.jsonl", f"has entry {sequence} twice"))
        elif copied and sequence < next(reversed(copied)):
            damages.append(Damage("registry.jsonl", f"has entry {sequence} after entry {next(reversed(copied))}"))
        copied[sequence] = _bytes(line)
    for sequence in sorted(stored.keys() & copied.keys()):
        if stored[sequence] != copied[sequence]:
            damages.append(Damage("registry.jsonl", f"entry {sequence} is not the database's entry {sequence}"))
    for name, here, there in (("registry.jsonl", copied, stored), ("the database", stored, copied)):
        if lost := sorted(there.keys() - here.keys()):
            some = ", ".join(map(str, lost[:10])) + (", ..." if len(lost) > 10 else "")
            damages.append(Damage(name, f"lacks {len(lost)} of the other copy's entries: {some}"))
    return damages


def compare_anchor(lines: Lines, expect: str) -> list[Damage]:
    """Whether a log still holds the entry that an anchor ``SEQUENCE:HASH`` was taken of; it stands for all before it.

    The hash may be cut, to no less than 12 of its digits. Raises DataError on text that is no anchor.
    """
    found = re.fullmatch(r"(\d{1,18}):([0-9a-f]{12,64})", expect.strip().lower())
    if found is None:
        raise DataError(f"{expect!r} is no anchor", "windlass audit verify prints one: SEQUENCE:HASH")
    sequence, start = int(found[1]), found[2]
    where = f"entry {sequence}"
    for number, text in lines:
        if number != sequence:
            continue
        try:
            entry = Entry.from_text(text)
        except ValueError as error:
            return [Damage(where, f"cannot be read: {error}")]
        if entry.sound and entry.sequence == sequence and entry.hash.startswith(start):
            return []
        return [Damage(where, f"is not the one that the anchor was taken of: {entry.hash[: len(start)]}")]
    if sequence == 0 and GENESIS.startswith(start):  # of a log without entries
        return []
    return [Damage(where, "is missing, and the anchor was taken of it")]


def verify_pointers(state: State, deployments: Path) -> list[Damage]:
    """Where the pointers in a folder are not what a log, read to its end, leads to."""
    damages: list[Damage] = []
    serving = {line.name: line.champion for line in state.deployments.values() if line.champion is not None}
    for name in sorted({*serving, *(file.stem for file in deployments.glob("[!.]*.json"))}):
        where, champion = f"deployment {name}", serving.get(name)
        try:
            pointed = read_pointer(deployments / f"{name}.json")
        except WindlassError as error:
            damages.append(Damage(where, error.message))
            continue
        if pointed["sequence"] > state.sequence:
            what = f"its pointer follows entry {pointed['sequence']}, and the log ends with entry {state.sequence}"
            damages.append(Damage(where, f"{what}: what came after that is lost"))
        elif champion is None:
            damages.append(Damage(where, f"its pointer says {pointed['checkpoint']}, and the log knows of none"))
        elif (pointed["checkpoint"], pointed["digest"]) != (champion, state.checkpoints[champion].digest):
            damages.append(Damage(where, f"its pointer says {pointed['checkpoint']}, the log {champion}"))
    return damages


def verify_bytes(
    state: State, blobs: Blobs, on_bytes: Callable[[int], None] | None = None, only: str | None = None
) -> list[Damage]:
    """Every checkpoint, or ``only`` one, and its evaluations' scores, read again and held against their digests."""
    damages: list[Damage] = []
    for checkpoint in state.checkpoints.values():
        if checkpoint.id in state.removed or only not in (None, checkpoint.id):
            continue
        damages += [Damage(f"checkpoint {checkpoint.id}", what) for what in blobs.verify(checkpoint.digest, on_bytes)]
    for evaluation in state.evaluations.values():
        if evaluation.checkpoint in state.removed or only not in (None, evaluation.checkpoint):
            continue
        damages += [Damage(f"evaluation {evaluation.id}", what) for what in blobs.verify(evaluation.scores, on_bytes)]
    return damages
