"""The audit log's entries: every change of the registry's state, each bound to the one before by its hash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from windlass.records.content import canonical, digest

#: what the first entry is bound to
GENESIS = "0" * 64


class ChangeKind(StrEnum):
    REGISTERED = "registered"  #: a checkpoint, from a run
    REPRODUCED = "reproduced"  #: another run gave the same bytes
    EVALUATED = "evaluated"  #: an evaluation was recorded
    JUDGED = "judged"  #: the gate gave a verdict
    STAGED = "staged"  #: a checkpoint moved on a deployment's line, short of serving
    PROMOTED = "promoted"  #: a checkpoint serves from now on
    PLANNED = "planned"  #: a rollback
    STEPPED = "stepped"  #: a rollback's step started, was done, or failed
    REMOVED = "removed"  #: a checkpoint's bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be entered."""

    kind: ChangeKind
    subject: str  #: checkpoint id, or the deployment's name
    body: Mapping[str, Any] = field(default_factory=dict)  #: JSON values; ``registry.state`` says which


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A change on record: ``hash`` is SHA-256 of the canonical JSON of everything else."""

    sequence: int  #: from 1, without gaps
    at: float  #: seconds since the epoch, as the clock was
    actor: str  #: who: ``study digits``, a user's name, ``canary``
    kind: ChangeKind
    subject: str
    body: Mapping[str, Any]
    previous: str  #: hash of the entry before, ``GENESIS`` for the first
    hash: str

    @classmethod
    def after(cls, sequence: int, previous: str, at: float, actor: str, change: Change) -> Self:
        content: dict[str, Any] = {
            "sequence": sequence,
            "at": at,
            "actor": actor,
            "kind": str(change.kind),
            "subject": change.subject,
            "body": change.body,
            "previous": previous,
        }
        return cls(**{**content, "kind": change.kind, "hash": digest(content)})

    @property
    def sound(self) -> bool:
        """Whether its content is what its hash was made of."""
        try:
            return digest({key: value for key, value in self.to_dict().items() if key != "hash"}) == self.hash
        except ValueError:  # a number that JSON does not have: no Windlass wrote it
            return False

    def to_dict(self) -> dict[str, Any]:
        return {
            "sequence": self.sequence,
            "at": self.at,
            "actor": self.actor,
            "kind": str(self.kind),
            "subject": self.subject,
            "body": self.body,
            "previous": self.previous,
            "hash": self.hash,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError, TypeError or KeyError on a shape that no Windlass wrote."""
        entry = cls(**{**data, "kind": ChangeKind(data["kind"])})
        for name, types in _TYPES.items():
            value = getattr(entry, name)
            if not isinstance(value, types) or isinstance(value, bool):
                raise TypeError(f"{name} is {value!r}")
        return entry

    def to_text(self) -> str:
        """Canonical JSON: how it is stored, to the byte."""
        return canonical(self.to_dict())

    @classmethod
    def from_text(cls, text: str | bytes) -> Self:
        """Raises ValueError on anything that is no entry."""
        try:
            return cls.from_dict(json.loads(text.decode() if isinstance(text, bytes) else text))
        except (TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None


_TYPES: dict[str, type | tuple[type, ...]] = {
    "sequence": int,
    "at": (int, float),
    "actor": str,
    "subject": str,
    "body": Mapping,
    "previous": str,
    "hash": str,
}
