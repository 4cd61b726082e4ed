"""An evaluation: per-example scores of one checkpoint on one benchmark, and what they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from windlass.records.checkpoint import ID_LENGTH
from windlass.records.content import digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Leakage:
    """Examples of a benchmark that were trained on, counted by content."""

    overlap: int | None  #: examples of the benchmark that the training data has, too; None where that is unknown
    examples: int = 0  #: of the benchmark
    declared: bool = False  #: whether the training says what it trained on, be it there to be read or not
    words: str = ""  #: what was compared, or why nothing could be


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Recorded once, never changed. Means are for display: the gate derives them from the scores again."""

    checkpoint: str  #: its id
    benchmark: str  #: its name
    data: str  #: SHA-256 of the benchmark's data
    evaluator: str  #: digest of the evaluator's command and code
    scores: str  #: digest of the scores' manifest, in ``blobs/``
    n: int  #: examples
    means: Mapping[str, float] = field(default_factory=dict)  #: of every numeric column
    at: float  #: when the scores were made, seconds since the epoch
    run: str | None = None  #: the job that made them
    imported: str = ""  #: where scores that were made elsewhere come from
    leakage: Leakage = Leakage(overlap=None)
    notes: tuple[str, ...] = ()  #: what the evaluator said otherwise than its scores do

    @property
    def id(self) -> str:
        """Of what was scored and what came out; the same scores twice are one evaluation."""
        identity = [self.checkpoint, self.benchmark, self.data, self.evaluator, self.scores, self.at, self.imported]
        return digest(identity)[:ID_LENGTH]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError or TypeError on a shape that no Windlass wrote."""
        notes = tuple(data.get("notes", ()))
        return cls(**{**data, "leakage": Leakage(**data["leakage"]), "notes": notes})
