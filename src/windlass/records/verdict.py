"""A verdict: the gate's judgement of a challenger against the champion, with the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from windlass.records.checkpoint import ID_LENGTH
from windlass.records.content import digest


class Ruling(StrEnum):
    """What the gate says."""

    PROMOTE = "promote"  #: shown to be better, and no guard is broken
    KEEP = "keep"  #: the champion stays: a guard is broken, or an improvement that matters is ruled out
    INCONCLUSIVE = "inconclusive"  #: not enough evidence; never deployable


class Finding(StrEnum):
    """What one comparison shows."""

    PASSED = "passed"
    BROKEN = "broken"
    OPEN = "open"  #: more examples would settle it


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One metric of challenger and champion over the same examples. Differences are turned so that more is better."""

    benchmark: str
    metric: str
    role: str  #: better, no_worse, guard, slice
    group: str = ""  #: of a slice: ``column=value``
    n: int  #: paired examples
    champion: float  #: mean, in the metric's own direction
    challenger: float
    delta: float  #: mean improvement
    low: float  #: two-sided interval of the improvement, at ``1 - 2 * level``
    high: float
    threshold: float  #: what ``delta`` is held against: min_delta, or minus the margin
    level: float  #: one-sided, after correction
    p_value: float  #: one-sided: of an improvement so large where the true one is ``threshold``
    test: str  #: paired bootstrap, exact McNemar, ...
    finding: Finding
    power: float | None = None  #: to find ``detect`` with these examples
    detectable: float | None = None  #: the improvement that is found with the policy's power
    more: int | None = None  #: further examples that would settle it, should the estimates hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Append-only. Equal evidence under an equal policy is the same verdict."""

    deployment: str
    challenger: str  #: checkpoint id
    champion: str | None  #: checkpoint id; None where nothing serves yet
    ruling: Ruling
    reasons: tuple[str, ...]  #: in words and numbers
    comparisons: tuple[Comparison, ...] = ()
    evaluations: tuple[str, ...] = ()  #: ids
    policy: str  #: its fingerprint
    stages: tuple[str, ...] = ()  #: what lies between this verdict and serving
    look: int = 1  #: the how-manieth challenger on these benchmarks
    level: float = 0.05  #: one-sided, of this look
    more: int | None = None  #: further examples that would settle it
    at: float  #: seconds since the epoch

    @property
    def id(self) -> str:
        return digest([self.deployment, self.challenger, self.champion, self.policy, sorted(self.evaluations)])[
            :ID_LENGTH
        ]

    @property
    def tested(self) -> bool:
        """Whether it looked at an improvement: such looks share the policy's alpha."""
        return any(comparison.role == "better" for comparison in self.comparisons)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError or TypeError on a shape that no Windlass wrote."""
        comparisons = tuple(Comparison(**{**c, "finding": Finding(c["finding"])}) for c in data["comparisons"])
        texts = {name: tuple(data[name]) for name in ("reasons", "evaluations", "stages")}
        return cls(**{**data, **texts, "ruling": Ruling(data["ruling"]), "comparisons": comparisons})
