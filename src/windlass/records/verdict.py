"""A verdict: the gate's judgement of a challenger against the champion, with the numbers behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

    PASSED = "passed"  #: what was asked for is shown
    BROKEN = "broken"  #: shown not to hold; of ``better``: no improvement that matters is left within the interval
    OPEN = "open"  #: neither; more examples would settle it
    UNTESTED = "untested"  #: of a slice with so few examples that nothing could be shown; told, not counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One metric of challenger and champion over the same examples. Differences are turned so that more is better."""

    benchmark: str
    metric: str
    role: str  #: better, no_worse, least, guard, slice
    group: str = ""  #: of a slice: ``column=value``, or ``column=(rest)`` for rare values together
    n: int  #: paired examples
    champion: float  #: mean, in the metric's own direction; of ``least`` that value itself
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
    more: int | None = None  #: further examples that would settle it with the policy's power, should the estimates hold
    toward: Finding | None = None  #: and how

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError or TypeError on a shape that no Windlass wrote."""
        toward = data.get("toward")
        return cls(**{**data, "finding": Finding(data["finding"]), "toward": toward and Finding(toward)})


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
        return verdict_id(self.deployment, self.challenger, self.champion, self.policy, self.evaluations)

    @property
    def tested(self) -> bool:
        """Whether it looked at an improvement: such looks share the policy's alpha."""
        return any(comparison.role == "better" for comparison in self.comparisons)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError or TypeError on a shape that no Windlass wrote."""
        comparisons = tuple(Comparison.from_dict(comparison) for comparison in data["comparisons"])
        texts = {name: tuple(data[name]) for name in ("reasons", "evaluations", "stages")}
        return cls(**{**data, **texts, "ruling": Ruling(data["ruling"]), "comparisons": comparisons})


def verdict_id(deployment: str, challenger: str, champion: str | None, policy: str, evaluations: Iterable[str]) -> str:
    """What makes two verdicts the same one: who was judged against whom, on which evidence, by which policy."""
    return digest([deployment, challenger, champion, policy, sorted(evaluations)])[:ID_LENGTH]
