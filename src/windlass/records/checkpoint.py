"""A checkpoint: immutable bytes, named by their content, with where they came from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any, Self

from windlass.records.content import digest
from windlass.records.result import decode_number, encode_number

ID_LENGTH = 12
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FileEntry:
    """One file of a manifest."""

    path: str  #: posix, relative; no ``..``
    bytes: int
    sha256: str  #: 64 hex digits


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a checkpoint, sorted by path. Raises ValueError on what cannot be one."""

    files: tuple[FileEntry, ...]

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("a manifest has at least one file")
        paths = [file.path for file in self.files]
        if paths != sorted(set(paths)):
            raise ValueError("the files of a manifest are sorted by path, each once")
        for file in self.files:
            path = PurePosixPath(file.path)
            if path.is_absolute() or ".." in path.parts or str(path) != file.path or file.path == ".":
                raise ValueError(f"path {file.path!r} leads out of the checkpoint")
            if not SHA256.fullmatch(file.sha256) or file.bytes < 0:
                raise ValueError(f"{file.path}: {file.bytes} bytes, SHA-256 {file.sha256!r}")

    @classmethod
    def of(cls, files: Iterable[FileEntry]) -> Self:
        return cls(tuple(sorted(files)))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of ``[[path, bytes, sha256], ...]``: equal content, equal digest."""
        return digest([[file.path, file.bytes, file.sha256] for file in self.files])

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        return {"files": [asdict(file) for file in self.files]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError, TypeError or KeyError on anything else."""
        return cls(tuple(FileEntry(**file) for file in data["files"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a valid, completed run left to be used; registered once, never changed."""

    digest: str  #: of its manifest; ``blobs/sha256/<digest>/`` holds it
    bytes: int
    files: int
    created: float  #: when it was registered, seconds since the epoch
    run: str  #: the run that made it
    study: str | None = None
    number: int | None = None  #: of the decision that led to the run
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)  #: the run's last values
    fingerprints: Mapping[str, str] = field(default_factory=dict)  #: config, code, data, environment
    parent: str | None = None  #: the checkpoint that training began from

    @property
    def id(self) -> str:
        """The digest's beginning; people and commands use it."""
        return self.digest[:ID_LENGTH]

    def to_dict(self) -> dict[str, Any]:
        data = asdict(self)
        data["metrics"] = {name: encode_number(value) for name, value in self.metrics.items()}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError or TypeError on a shape that no Windlass wrote."""
        return cls(**{**data, "metrics": {k: decode_number(v) for k, v in data["metrics"].items()}})
