"""Approved pairs as files to train on: one a part, who approved each pair, and a manifest.

    train.jsonl, validation.jsonl, heldout.jsonl    pairs, ordered by content
    lineage.jsonl                                   a row a pair: where it is from, who approved it, when and why
    manifest.json                                   the fingerprint, the counts, and the digest of every file

A pair's part follows from its prompt (:func:`windlass.datasets.preferences.together`): pairs with the same prompt are
never in two parts. All of it is a function of what was approved and by whom: the same reviews give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from windlass.datasets.clashes import WORDS, ClashKind, clashes
from windlass.datasets.folder import Preferences, sync_folder
from windlass.datasets.preferences import fingerprint_of, together, write_pairs
from windlass.datasets.reviews import MOST_TOLD, Digest, Filled, Reviewed, ReviewState
from windlass.datasets.rows import write_lines
from windlass.datasets.splits import split
from windlass.errors import DataError, StateError, StoreError, nearest
from windlass.records.content import digest
from windlass.records.fields import Number, Strict, Text
from windlass.records.task import Pair

MANIFEST_FILE, LINEAGE_FILE = "manifest.json", "lineage.jsonl"


class PartName(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"
    HELDOUT = "heldout"


SHARES: Mapping[str, float] = {PartName.TRAIN: 0.8, PartName.VALIDATION: 0.1, PartName.HELDOUT: 0.1}


class Part(Strict):
    """A file of pairs."""

    share: Number  #: of all prompts, that was asked for
    rows: int
    bytes: int
    sha256: Digest
    fingerprint: Digest  #: of its pairs alone


class LineageFile(Strict):
    rows: int
    bytes: int
    sha256: Digest


class Manifest(Strict):
    """What an export is; a function of its content."""

    format: Literal[1] = 1
    fingerprint: Digest  #: of all pairs
    rows: int
    parts: Mapping[PartName, Part]
    lineage: LineageFile

    @property
    def id(self) -> str:
        """12 hex digits of the digest of everything else."""
        return digest(self.model_dump(mode="json"))[:12]


class Lineage(Strict):
    """Why a pair is in the export."""

    id: Filled
    content: Digest
    part: PartName
    source: Filled
    file: Filled
    file_sha256: Digest
    imported_by: Filled
    imported_at: float  #: seconds since the epoch
    approved_by: Filled
    approved_at: float  #: seconds since the epoch
    reason: Text = ""
    supersedes: tuple[Text, ...] = Field(default=(), description="pairs that were replaced by this one")


class Exported(NamedTuple):
    manifest: Manifest
    left_out: dict[ReviewState, int]  #: of every other state
    alike: int  #: pairs that are the same as another one but for white space or case


def export(preferences: Preferences, out: Path, shares: Mapping[str, float] = SHARES) -> Exported:
    """Write the approved pairs to ``out``, which appears whole or not at all. ``shares`` of the parts add up to 1.

    Raises DataError where nothing is approved, approved pairs contradict each other, or a part would be empty;
    StateError where ``out`` exists; StoreError where it cannot be written.
    """
    known = [str(name) for name in PartName]
    if wrong := [name for name in shares if name not in known]:
        raise DataError(f"there is no part {wrong[0]!r}.{nearest(wrong[0], known)}", f"Parts: {', '.join(known)}")
    approved = preferences.within(ReviewState.APPROVED)
    if not approved:
        counts = ", ".join(f"{count:,} {state}" for state, count in preferences.counts.items() if count)
        raise DataError(
            f"no pair is approved ({counts or 'there are none'})", "windlass preferences approve FOLDER --all"
        )
    alike = _alike(approved)
    contents = {pair.id: pair.content for pair in approved}
    pairs = sorted(approved, key=lambda pair: contents[pair.id])
    names = split([together(pair) for pair in pairs], shares)
    parts: dict[PartName, list[Pair]] = {name: [] for name in PartName if shares.get(name)}
    for pair, name in zip(pairs, names, strict=True):
        parts[PartName(name)].append(pair)
    _require_filled(parts)
    if out.exists():
        raise StateError(f"{out} exists", "Name another folder: an export is never written over")
    aside = out.with_name(f".{out.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        aside.mkdir(parents=True)
        manifest = _write(aside, parts, contents, shares, preferences)
        os.rename(aside, out)
        sync_folder(out.parent)
    except OSError as error:
        if out.exists():
            raise StateError(f"{out} exists", "Another export was first") from None
        raise StoreError(f"cannot write {out}: {error.strerror}", f"ls -ld {out.parent}; df {out.parent}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    left_out = dict(preferences.counts)
    del left_out[ReviewState.APPROVED]
    return Exported(manifest, left_out, alike)


def _alike(pairs: Sequence[Pair]) -> int:
    """Near duplicates. Raises DataError where pairs contradict each other, or are there twice."""
    found = list(clashes(pairs, alike=True))
    if wrong := [clash for clash in found if clash.kind is not ClashKind.NEAR_DUPLICATE]:
        lines = [f"{len(wrong):,} approved pair{' does' if len(wrong) == 1 else 's do'} not go with another one:"]
        lines += [f"  {pairs[b].id}: {WORDS[kind].format(pairs[a].id)}" for kind, a, b in wrong[:MOST_TOLD]]
        lines += [f"  and {len(wrong) - MOST_TOLD:,} more"] if len(wrong) > MOST_TOLD else []
        raise DataError(
            "\n".join(lines), "windlass preferences reject FOLDER ID --reason '...', or supersede FOLDER OLD NEW"
        )
    return len(found)


def _require_filled(parts: Mapping[PartName, Sequence[Pair]]) -> None:
    for name, own in parts.items():
        if not own:
            pairs = [pair for others in parts.values() for pair in others]
            prompts = len({together(pair) for pair in pairs})
            raise DataError(
                f"{name} would be empty: the {len(pairs):,} approved pairs have {prompts:,} different prompts, and"
                " pairs with the same prompt are in one part",
                "Approve more pairs, or give it a larger share: --split train=0.5,validation=0.5",
            )


def _write(
    folder: Path,
    parts: Mapping[PartName, Sequence[Pair]],
    contents: Mapping[str, str],
    shares: Mapping[str, float],
    preferences: Preferences,
) -> Manifest:
    made = {}
    for name, own in parts.items():
        write_pairs(folder / f"{name}.jsonl", own)
        size, sha256 = size_and_digest(folder / f"{name}.jsonl")
        made[name] = Part(
            share=shares[name],
            rows=len(own),
            bytes=size,
            sha256=sha256,
            fingerprint=fingerprint_of(contents[pair.id] for pair in own),
        )
    replaced = _replaced(preferences)
    rows = [
        _lineage(preferences, pair, contents[pair.id], name, replaced) for name, own in parts.items() for pair in own
    ]
    write_lines(folder / LINEAGE_FILE, (row.model_dump(mode="json") for row in rows))
    size, sha256 = size_and_digest(folder / LINEAGE_FILE)
    manifest = Manifest(
        fingerprint=fingerprint_of(contents.values()),
        rows=len(rows),
        parts=made,
        lineage=LineageFile(rows=len(rows), bytes=size, sha256=sha256),
    )
    text = json.dumps({"id": manifest.id, **manifest.model_dump(mode="json")}, ensure_ascii=False, indent=1)
    with (folder / MANIFEST_FILE).open("x", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)
    return manifest


def _lineage(
    preferences: Preferences, pair: Pair, content: str, part: PartName, replaced: Mapping[str, Sequence[str]]
) -> Lineage:
    origin, review = preferences.origins[pair.id], preferences.standings[pair.id].review
    assert review is not None  # approved
    return Lineage(
        id=pair.id,
        content=content,
        part=part,
        source=preferences.source(pair),
        file=origin.file,
        file_sha256=origin.file_sha256,
        imported_by=origin.by,
        imported_at=origin.at,
        approved_by=review.by,
        approved_at=review.at,
        reason=review.reason,
        supersedes=tuple(replaced.get(pair.id, ())),
    )


def _replaced(preferences: Preferences) -> dict[str, list[str]]:
    """By the pair that is there instead, in the order of the reviews."""
    found: dict[str, list[str]] = {}
    for entry in preferences.entries:
        if isinstance(entry, Reviewed) and entry.instead is not None:
            found.setdefault(entry.instead, []).extend(entry.pairs)
    return found


def size_and_digest(path: Path) -> tuple[int, str]:
    """Bytes, and their SHA-256."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), sha256


def read_manifest(folder: Path) -> Manifest:
    """Raises DataError where there is none, or it is not as it was written."""
    path = folder / MANIFEST_FILE
    try:
        data = json.loads(path.read_bytes())
        claimed = data.pop("id")
        manifest = Manifest.model_validate(data)
    except FileNotFoundError:
        raise DataError(f"{folder} has no {MANIFEST_FILE}: it is no export") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{path} is no manifest of an export") from None
    if claimed != manifest.id:
        raise DataError(f"{path} was changed: its id is {claimed!r}, its content gives {manifest.id!r}")
    return manifest
