"""What two checkpoints differ in, and which bytes nothing refers to any more."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from windlass.errors import DataError, NotFound
from windlass.records.audit import Change as Entered
from windlass.records.audit import ChangeKind
from windlass.records.checkpoint import Checkpoint, FileEntry
from windlass.records.content import flatten
from windlass.records.deployment import Stage
from windlass.records.result import encode_number
from windlass.records.verdict import Ruling
from windlass.registry.blobs import Blobs
from windlass.registry.protocol import Registry
from windlass.registry.state import State
from windlass.runs.differences import Change, changes

# Two checkpoints ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPair:
    """The last value of one metric in both runs; None where a run has none."""

    name: str
    a: float | None
    b: float | None

    @property
    def delta(self) -> float | None:
        """B minus A."""
        return None if self.a is None or self.b is None else self.b - self.a

    def to_dict(self) -> dict[str, Any]:
        values = {"a": self.a, "b": self.b, "delta": self.delta}
        return {"name": self.name} | {k: None if v is None else encode_number(v) for k, v in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePair:
    """A file that differs, or that only one of the two has."""

    path: str
    a: FileEntry | None
    b: FileEntry | None

    def to_dict(self) -> dict[str, Any]:
        sides = {"a": self.a, "b": self.b}
        return {"path": self.path} | {k: None if v is None else asdict(v) for k, v in sides.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """Of checkpoint A and checkpoint B; everything is sorted by name."""

    a: Checkpoint
    b: Checkpoint
    origin: tuple[Change, ...]  #: run, study, number, seed, parent
    config: tuple[Change, ...]  #: flat
    fingerprints: tuple[Change, ...]  #: config, code, data, environment
    metrics: tuple[MetricPair, ...]  #: all of them, equal ones included
    files: tuple[FilePair, ...]
    same_files: int
    notes: tuple[str, ...]  #: why files could not be compared

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        data: dict[str, Any] = {"a": self.a.id, "b": self.b.id}
        for name in ("origin", "config", "fingerprints", "metrics", "files"):
            data[name] = [one.to_dict() for one in getattr(self, name)]
        return {**data, "same_files": self.same_files, "notes": list(self.notes)}


def differences(state: State, blobs: Blobs, a: str, b: str) -> Differences:
    """By manifests and records; no file is read. Of bytes that were removed or are damaged a note tells.

    Raises NotFound for an unknown checkpoint.
    """
    one, other = state.checkpoint(a), state.checkpoint(b)
    notes: list[str] = []
    files_a, files_b = _files(state, blobs, one, notes), _files(state, blobs, other, notes)
    paths = sorted(files_a.keys() | files_b.keys()) if not notes else ()
    pairs = [FilePair(path=path, a=files_a.get(path), b=files_b.get(path)) for path in paths]
    metrics = sorted({*one.metrics, *other.metrics})
    return Differences(
        a=one,
        b=other,
        origin=changes(_origin(one), _origin(other)),
        config=changes(flatten(one.config), flatten(other.config)),
        fingerprints=changes(one.fingerprints, other.fingerprints),
        metrics=tuple(MetricPair(name=name, a=one.metrics.get(name), b=other.metrics.get(name)) for name in metrics),
        files=tuple(pair for pair in pairs if pair.a != pair.b),
        same_files=sum(pair.a == pair.b for pair in pairs),
        notes=tuple(notes),
    )


def _origin(checkpoint: Checkpoint) -> dict[str, Any]:
    return {name: getattr(checkpoint, name) for name in ("run", "study", "number", "seed", "parent")}


def _files(state: State, blobs: Blobs, checkpoint: Checkpoint, notes: list[str]) -> dict[str, FileEntry]:
    try:
        return {file.path: file for file in blobs.manifest(checkpoint.digest).files}
    except (NotFound, DataError) as error:
        removed = checkpoint.id in state.removed
        notes.append(f"{checkpoint.id}: {'its bytes were removed' if removed else error.message}")
        return {}


# Collection ---------------------------------------------------------------------------------------------------------


class ItemKind(StrEnum):
    CHECKPOINT = "checkpoint"
    SCORES = "scores"  #: of evaluations of checkpoints that are not kept
    ORPHAN = "orphan"  #: bytes that no entry names: the process that added them was killed before it entered them
    LEFTOVER = "leftover"  #: a hidden folder of a process that was killed


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A folder of bytes that nothing refers to."""

    kind: ItemKind
    name: str  #: of a checkpoint its id, else the folder's name
    folder: str  #: its name: a digest, but for a leftover
    reason: str
    bytes: int  #: of its files
    freed: int  #: of these, what the disk gains; the rest has other hard links, a run folder's for example

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "kind": str(self.kind)}


@dataclass(frozen=True, slots=True, kw_only=True)
class GcPlan:
    """What would go, in this order, and what stays."""

    items: tuple[Item, ...]
    kept: Mapping[str, str]  #: checkpoint id -> why its bytes stay

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)

    @property
    def freed(self) -> int:
        return sum(item.freed for item in self.items)

    def to_dict(self) -> dict[str, Any]:
        items = [item.to_dict() for item in self.items]
        return {"items": items, "kept": dict(self.kept), "bytes": self.bytes, "freed": self.freed}


def gc_plan(state: State, blobs: Blobs, keep: Mapping[str, str] | None = None) -> GcPlan:
    """What nothing refers to. ``keep`` names further checkpoints, each with the reason why it stays.

    A checkpoint stays while it serves or has served, is in shadow or canary, has passed a gate and could be promoted,
    is part of a rollback under way, or is the parent of one that stays; with it, the scores of its evaluations.

    Raises NotFound for an unknown checkpoint in ``keep``.
    """
    asked = {state.checkpoint(reference).id: why for reference, why in (keep or {}).items()}
    kept = _kept(state, asked)
    used = {state.checkpoints[checkpoint].digest for checkpoint in kept}
    used |= {evaluation.scores for evaluation in state.evaluations.values() if evaluation.checkpoint in kept}
    known = {checkpoint.digest: checkpoint for checkpoint in state.checkpoints.values()}
    scored = {evaluation.scores: evaluation.checkpoint for evaluation in state.evaluations.values()}
    found: list[tuple[ItemKind, str, str, str]] = []
    for digest in blobs.digests():
        if digest in used:
            continue
        if digest in known:
            found.append((ItemKind.CHECKPOINT, known[digest].id, digest, _unused(state, known[digest].id)))
        elif digest in scored:
            found.append((ItemKind.SCORES, digest, digest, f"scores of {scored[digest]}, which is not kept"))
        else:
            found.append((ItemKind.ORPHAN, digest, digest, "no entry of the log names it"))
    found += [(ItemKind.LEFTOVER, name, name, "half of something, left by a process") for name in blobs.leftovers()]
    order = list(ItemKind)
    links: Counter[tuple[int, int]] = Counter()
    items = []
    for kind, name, folder, reason in sorted(found, key=lambda one: (order.index(one[0]), one[1])):
        size, freed = _sizes(blobs.root / folder, links)
        items.append(Item(kind=kind, name=name, folder=folder, reason=reason, bytes=size, freed=freed))
    return GcPlan(items=tuple(items), kept=kept)


def _kept(state: State, asked: Mapping[str, str]) -> dict[str, str]:
    """Checkpoint id -> why its bytes stay."""
    kept = {one: why for one in state.checkpoints if (why := state.held_by(one))}
    for line in state.deployments.values():
        for tenure in line.tenures:
            kept.setdefault(tenure.checkpoint, f"it has served as {line.name}, and may again")
        for verdict in state.verdicts_of(line.name):
            passed = verdict.ruling is Ruling.PROMOTE and verdict.champion == line.champion
            if passed and line.stages.get(verdict.challenger) is Stage.EVALUATED:
                kept.setdefault(verdict.challenger, f"it has passed the gate of {line.name}")
    kept = {**asked, **kept}
    for one in list(kept):
        for ancestor in _ancestors(state, one):
            kept.setdefault(ancestor, f"{one} began from it")
    return {one: why for one, why in kept.items() if one not in state.removed}


def _ancestors(state: State, checkpoint: str) -> Iterator[str]:
    """What it began from, and that from, as far as bytes are kept."""
    parent = state.checkpoints[checkpoint].parent
    while parent in state.checkpoints and parent not in state.removed:
        yield parent
        parent = state.checkpoints[parent].parent


def _unused(state: State, checkpoint: str) -> str:
    if checkpoint in state.removed:
        return "its removal is on record, and was not finished"
    stages = state.stages_of(checkpoint)
    stands = " and ".join(f"{stage} for {name}" for name, stage in stages.items())
    return f"nothing refers to it; it is {stands}" if stands else "nothing refers to it; no gate has judged it"


def _sizes(folder: Path, links: Counter[tuple[int, int]]) -> tuple[int, int]:
    """Bytes of the files under ``folder``, and those that removing them frees.

    ``links`` counts the names of each file that go with this folder and those before it: the last one frees the file.
    A sparse file has the bytes that it takes. Reflinks cannot be seen: their bytes count as freed.
    """
    size = freed = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                info = os.lstat(os.path.join(path, name))
            except FileNotFoundError:  # somebody is at work there
                continue
            taken = min(info.st_size, 512 * info.st_blocks) if stat.S_ISREG(info.st_mode) else 0
            size += taken
            links[info.st_dev, info.st_ino] += 1
            if links[info.st_dev, info.st_ino] == info.st_nlink:
                freed += taken
    return size, freed


def gc(registry: Registry, blobs: Blobs, plan: GcPlan, *, actor: str) -> tuple[Item, ...]:
    """Remove what a plan names, and say what that was; what came into use since the plan was made stays.

    A removal is entered before it is carried out: after a kill, a new plan names what is left, and finishes it.

    Raises LabBusy while something is being added; StateError where a checkpoint comes into use at this very moment:
    it stays, and so does what comes after it.
    """
    if not plan.items:
        return ()
    with blobs.collecting():
        fresh = gc_plan(registry.state(), blobs)
        agreed = {(item.kind, item.name) for item in plan.items}
        items = [item for item in fresh.items if (item.kind, item.name) in agreed]
        for item in items:
            if item.kind is ItemKind.CHECKPOINT and item.name not in registry.state().removed:
                body = {"bytes": item.bytes, "reason": item.reason}
                registry.append(Entered(kind=ChangeKind.REMOVED, subject=item.name, body=body), actor=actor)
            blobs.remove(item.folder)
    return tuple(items)
