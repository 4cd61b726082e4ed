"""A completed run's checkpoint made known: first its bytes, then the entry that names them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from windlass.errors import DataError, DuplicateId, NotFound, StateError
from windlass.records.audit import Change, ChangeKind
from windlass.records.checkpoint import Checkpoint, FileEntry, Manifest
from windlass.records.run import RunRecord, Status
from windlass.registry.blobs import Blobs
from windlass.registry.files import OnBytes
from windlass.registry.protocol import Registry
from windlass.registry.state import State
from windlass.runs.folder import RunFolder

#: in ``lineage`` of a run: the checkpoint that its training began from
PARENT = "parent"
#: ``kind`` of the artifact that is the run's checkpoint
CHECKPOINT = "checkpoint"


def register(
    registry: Registry,
    blobs: Blobs,
    run: RunRecord,
    folder: RunFolder,
    *,
    actor: str,
    on_bytes: OnBytes | None = None,
) -> Checkpoint:
    """Keep what a run left, and enter it. Safe to repeat, and to be killed at any step: the next call finishes it.

    It is the run's one artifact of kind ``checkpoint``, else all of ``checkpoint/``. Bytes that another run gave before
    are that checkpoint, which is returned; the run is noted as having reproduced it. Of a run that is on record, the
    kept bytes are read again, and its folder is only looked at where they are damaged or were removed.

    Raises StateError for a run that is not completed; NotFound where it left no checkpoint, or began from one that is
    not known; DataError for a source that leads out of the run folder or has anything but files and folders in it, for
    several checkpoints, and where a file is not what the run says of it; StoreError where the disk is full or fails.
    Nothing is kept then.
    """
    if run.status is not Status.COMPLETED:
        why = f" ({run.failure.kind})" if run.failure is not None else ""
        raise StateError(
            f"run {run.id} is {run.status}{why}; only a completed run leaves a checkpoint to keep",
            f"windlass runs show {run.id}",
        )
    if folder.id != run.id:
        raise DataError(f"{folder.path} is not the folder of run {run.id}", f"windlass runs show {run.id}")
    state = registry.state()
    earlier = state.made_by(run.id)
    if earlier is not None and earlier.id not in state.removed and not blobs.verify(earlier.digest, on_bytes):
        return earlier
    parent = _parent(state, run)
    source = _source(run, folder)
    base = source.parent if (folder.path / source).is_file() else source

    def check(manifest: Manifest) -> None:
        wrong = list(_contradictions(run, source, {base / file.path: file for file in manifest.files}))
        if earlier is not None and manifest.digest != earlier.digest:
            wrong.append(f"{source} was checkpoint {earlier.id} when it was registered")
        if wrong:
            raise DataError(
                f"run {run.id} left other bytes than are on record: {'; '.join(wrong)}", f"windlass runs show {run.id}"
            )

    with blobs.adding():
        manifest = blobs.add(folder.path / source, on_bytes, within=folder.path, check=check)
        checkpoint = Checkpoint(
            digest=manifest.digest,
            bytes=manifest.bytes,
            files=len(manifest.files),
            created=time.time(),
            run=run.id,
            study=run.study,
            number=run.number,
            config=run.config,
            seed=run.seed,
            metrics=run.values,
            fingerprints=run.fingerprints,
            parent=parent,
        )
        return _enter(registry, checkpoint, actor)


def _parent(state: State, run: RunRecord) -> str | None:
    if PARENT not in run.lineage:
        return None
    try:
        return state.checkpoint(run.lineage[PARENT]).id
    except NotFound as error:
        raise NotFound(f"run {run.id} says what it began from: {error.message}", error.next_step) from error


def _source(run: RunRecord, folder: RunFolder) -> PurePosixPath:
    """The checkpoint's path in the run folder."""
    named = [artifact for artifact in run.artifacts if artifact.kind == CHECKPOINT]
    if len(named) > 1:
        raise DataError(
            f"run {run.id} names {len(named)} checkpoints: {', '.join(artifact.path for artifact in named)}",
            "Name the one to keep, a file or a folder; give the others another kind.",
        )
    if not named:
        if folder.checkpoint.is_symlink() or (folder.checkpoint.is_dir() and any(folder.checkpoint.iterdir())):
            return PurePosixPath(folder.checkpoint.name)
        raise NotFound(
            f"run {run.id} left no checkpoint",
            "Write one to run.checkpoint_dir, or name one: run.artifact(path, kind='checkpoint')",
        )
    path = PurePosixPath(named[0].path)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise DataError(f"checkpoint {named[0].path!r} leads out of the run folder {folder.path}")
    if not os.path.lexists(folder.path / path):
        said = _measure(named[0].bytes, named[0].sha256)
        raise DataError(f"checkpoint {path} of run {run.id} is missing: {said}", f"windlass runs show {run.id}")
    return path


def _contradictions(run: RunRecord, source: PurePosixPath, there: Mapping[PurePosixPath, FileEntry]) -> Iterator[str]:
    """What the run has on record of files and folders in ``source``, and is not so, in words."""
    for artifact in run.artifacts:
        path = PurePosixPath(artifact.path)
        if not (path == source or source in path.parents) or not (artifact.bytes or artifact.sha256):
            continue
        now = there.get(path)
        below = [file.bytes for at, file in there.items() if path in at.parents]
        if now is None and not below:
            yield f"{path} is missing: {_measure(artifact.bytes, artifact.sha256)}"
            continue
        size, sha256 = (sum(below), "") if now is None else (now.bytes, now.sha256)
        if (artifact.bytes or size) == size and (artifact.sha256.lower() or sha256) == sha256:
            continue
        how = "altered" if size == artifact.bytes else "truncated" if size < artifact.bytes else "extended"
        yield f"{path} was {how}: {_measure(size, sha256)}, not {_measure(artifact.bytes, artifact.sha256)}"


def _measure(size: int, sha256: str) -> str:
    return f"{size:,} bytes{' with SHA-256 ' if sha256 else ''}{sha256[:12]}"


def _enter(registry: Registry, checkpoint: Checkpoint, actor: str) -> Checkpoint:
    """The checkpoint as it is on record afterwards. What another process enters meanwhile counts."""
    while changes := _changes(registry.state(), checkpoint):
        try:
            registry.append(*changes, actor=actor, at=checkpoint.created)
        except StateError:
            if _changes(registry.state(), checkpoint) == changes:
                raise
    return registry.state().checkpoints[checkpoint.id]


def _changes(state: State, checkpoint: Checkpoint) -> list[Change]:
    """What is to be entered: nothing where the run and its bytes are on record."""
    known = state.checkpoints.get(checkpoint.id, checkpoint)
    if known.digest != checkpoint.digest:
        raise DuplicateId(f"checkpoint {checkpoint.id} is {known.digest}, and {checkpoint.digest} begins like it")
    changes = []
    if known.id not in state.checkpoints or known.id in state.removed:
        body = {"checkpoint": known.to_dict()}
        changes.append(Change(kind=ChangeKind.REGISTERED, subject=known.id, body=body))
    if checkpoint.run != known.run and checkpoint.run not in state.runs.get(known.id, ()):
        changes.append(Change(kind=ChangeKind.REPRODUCED, subject=known.id, body={"run": checkpoint.run}))
    return changes
