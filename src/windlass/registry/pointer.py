"""``deployments/<name>.json``: which checkpoint serves. Any program can read it; it is moved by rename, and last.

It is derived from the registry's state: recorded first, pointed at afterwards. Paths are absolute.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

from windlass.errors import NotFound, StateError, StoreError
from windlass.records.checkpoint import Checkpoint
from windlass.records.deployment import Deployment, Role, Stage
from windlass.runs.folder import write_atomic

_HALF = re.compile(r"\.(.+\.json)\.\d+\.[0-9a-f]+")  #: what ``write_atomic`` writes first


class Challenger(TypedDict):
    """A checkpoint in shadow or canary."""

    checkpoint: str
    digest: str
    path: str
    role: str  #: shadow or canary
    share: float  #: of keys; 0 in shadow


class Past(TypedDict):
    """A checkpoint that served before."""

    checkpoint: str
    digest: str
    path: str
    since: float
    until: float | None


class Pointer(TypedDict):
    """The file's content."""

    deployment: str
    checkpoint: str
    digest: str
    path: str  #: the folder with the checkpoint's files, absolute
    since: float  #: seconds since the epoch
    sequence: int  #: the audit log's entry that it follows
    challenger: Challenger | None  #: None while a rollback freezes the deployment
    previous: list[Past]  #: the newest first


def pointer(deployment: Deployment, checkpoints: Mapping[str, Checkpoint], blobs: Path, sequence: int) -> Pointer:
    """What the pointer has to say after entry ``sequence``; ``blobs`` is the folder of checkpoints.

    Raises StateError where nothing serves yet.
    """
    if not deployment.tenures:
        raise StateError(
            f"nothing serves as {deployment.name} yet: there is nothing to point at",
            f"windlass promote {deployment.name}",
        )

    def place(checkpoint: str) -> tuple[str, str]:
        digest = checkpoints[checkpoint].digest
        return digest, str(blobs.absolute() / digest / "files")

    now = deployment.tenures[-1]
    digest, path = place(now.checkpoint)
    challenger: Challenger | None = None
    if deployment.challenger is not None and deployment.frozen is None:
        theirs, where = place(deployment.challenger)
        in_canary = deployment.stages[deployment.challenger] is Stage.CANARY
        challenger = {
            "checkpoint": deployment.challenger,
            "digest": theirs,
            "path": where,
            "role": str(Role.CANARY if in_canary else Role.SHADOW),
            "share": deployment.share if in_canary else 0.0,
        }
    previous: list[Past] = []
    for tenure in reversed(deployment.tenures[:-1]):
        theirs, where = place(tenure.checkpoint)
        previous.append(
            {
                "checkpoint": tenure.checkpoint,
                "digest": theirs,
                "path": where,
                "since": tenure.since,
                "until": tenure.until,
            }
        )
    return {
        "deployment": deployment.name,
        "checkpoint": now.checkpoint,
        "digest": digest,
        "path": path,
        "since": now.since,
        "sequence": sequence,
        "challenger": challenger,
        "previous": previous,
    }


def write_pointer(path: Path, data: Pointer) -> bool:
    """Put the pointer in place, durably; False where it says the same already. A damaged one is replaced.

    Raises StateError where a newer one is in place (two processes at once: the other knew more), StoreError where it
    cannot be written.
    """
    text = (json.dumps(data, indent=1, allow_nan=False) + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            try:
                before = path.read_bytes()
            except FileNotFoundError:
                before = b""
            if before == text:
                return False
            try:
                known = parse_pointer(before, path)["sequence"]
            except StoreError:
                known = 0
            if known > data["sequence"]:
                raise StateError(
                    f"the pointer of {data['deployment']} follows entry {known} of the audit log; one that follows"
                    f" entry {data['sequence']} is older, and was not written",
                    f"Where the log lost its end: put registry.jsonl back from a backup, or go on without: rm {path}",
                )
            write_atomic(path, text, durable=True)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}", f"Check: df {path.parent}; ls -ld {path.parent}"
        ) from error
    return True


def clear_leftovers(deployments: Path) -> int:
    """Remove pointers that killed processes left half written in a folder of pointers; how many those were."""
    cleared = 0
    for left in deployments.glob(".*.json.*"):
        if named := _HALF.fullmatch(left.name):
            with _alone(deployments / named[1]):  # nobody is writing it now
                left.unlink(missing_ok=True)
                cleared += 1
    return cleared


def read_pointer(path: Path) -> Pointer:
    """Raises NotFound where there is none, StoreError where it is no pointer."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    return parse_pointer(text, path)


def unreadable(path: Path, error: OSError) -> NotFound | StoreError:
    if isinstance(error, FileNotFoundError):
        return NotFound(f"nothing serves as {path.stem!r}: there is no {path}", "windlass deployments list")
    return StoreError(f"cannot read {path}: {error.strerror}", f"ls -l {path}")


def parse_pointer(text: bytes, path: Path) -> Pointer:
    """Raises StoreError, naming ``path``, on anything that is no pointer.

    A pointer is moved by rename, never seen half written: what cannot be read was damaged.
    """
    try:
        data = json.loads(text)
        _check(data)
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{path} is damaged: {error}",
            "windlass doctor  (writes it again from the audit log)",
        ) from None
    found: Pointer = data
    return found


def _check(data: Any) -> None:
    """Raises ValueError, TypeError or KeyError where a field that counts is missing or of another kind."""
    if not isinstance(data, dict):
        raise ValueError(f"{type(data).__name__} in place of fields")
    challenger = data["challenger"]
    for one in [data, *([challenger] if challenger is not None else [])]:
        for name in ("checkpoint", "digest", "path"):
            if not isinstance(one[name], str) or not one[name]:
                raise ValueError(f"{name} is {one[name]!r}")
    if not isinstance(data["deployment"], str) or not isinstance(data["sequence"], int):
        raise ValueError(f"deployment {data['deployment']!r}, sequence {data['sequence']!r}")
    if challenger is not None:
        if challenger["role"] not in (Role.SHADOW, Role.CANARY):
            raise ValueError(f"role {challenger['role']!r}")
        if not 0 <= float(challenger["share"]) <= 1:
            raise ValueError(f"share {challenger['share']!r}")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One writer at a time; the kernel lets go when a process ends, however it ends."""
    fd = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
