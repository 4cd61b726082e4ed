"""A deployment: a name under which one checkpoint serves, the line of those before it, and the ones on their way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

from windlass.records.content import digest


class Stage(StrEnum):
    """candidate -> evaluated -> (shadow -> canary ->) champion -> retired; rejected; rolled_back."""

    CANDIDATE = "candidate"
    EVALUATED = "evaluated"
    SHADOW = "shadow"
    CANARY = "canary"
    CHAMPION = "champion"
    RETIRED = "retired"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled_back"


class ServedOutcome(StrEnum):
    """What became of one answer."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    ESCALATED = "escalated"
    TIMED_OUT = "timed_out"
    THREW = "threw"
    INVALID = "invalid"

    @property
    def failed(self) -> bool:
        """There was no usable answer."""
        return self in (ServedOutcome.TIMED_OUT, ServedOutcome.THREW, ServedOutcome.INVALID)


class Role(StrEnum):
    """In what part a checkpoint answered."""

    CHAMPION = "champion"
    SHADOW = "shadow"
    CANARY = "canary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One answer of a deployment, and what became of it."""

    checkpoint: str  #: id of the one that answered
    role: Role
    outcome: ServedOutcome
    key: str = ""  #: of the request, not of its user: a second outcome under one key is a retry and does not count
    at: float = 0.0  #: seconds since the epoch; for people, the log's order is what counts


class StepState(StrEnum):
    WAITING = "waiting"
    STARTED = "started"
    DONE = "done"
    FAILED = "failed"


#: the steps of a rollback, in order
FREEZE, VERIFY, SMOKE, SWITCH, MONITOR = ROLLBACK_STEPS = ("freeze", "verify", "smoke", "switch", "monitor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """A planned way back (or forward again), and how far it has come."""

    deployment: str
    source: str  #: checkpoint id that serves when it is planned
    target: str  #: checkpoint id that is to serve
    reason: str
    at: float  #: when it was planned, seconds since the epoch
    evidence: Mapping[str, Any] = field(default_factory=dict)  #: numbers, JSON values
    steps: Mapping[str, StepState] = field(default_factory=lambda: dict.fromkeys(ROLLBACK_STEPS, StepState.WAITING))
    notes: tuple[str, ...] = ()  #: what the steps found

    @property
    def id(self) -> str:
        return digest([self.deployment, self.source, self.target, self.at])[:12]

    @property
    def failed(self) -> bool:
        return StepState.FAILED in self.steps.values()

    @property
    def switched(self) -> bool:
        """Whether the target has come to serve."""
        return self.steps[SWITCH] is StepState.DONE

    @property
    def open(self) -> bool:
        """Neither finished nor undone."""
        return not self.failed and any(state is not StepState.DONE for state in self.steps.values())

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError or TypeError on a shape that no Windlass wrote."""
        if sorted(data["steps"]) != sorted(ROLLBACK_STEPS):
            raise ValueError(f"the steps of a rollback are {', '.join(ROLLBACK_STEPS)}, not {', '.join(data['steps'])}")
        steps = {name: StepState(data["steps"][name]) for name in ROLLBACK_STEPS}
        return cls(**{**data, "steps": steps, "notes": tuple(data["notes"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenure:
    """The time a checkpoint served."""

    checkpoint: str
    since: float  #: seconds since the epoch
    until: float | None = None
    because: str = ""  #: why it came: the verdict's or the rollback's words
    verdict: str | None = None
    rollback: str | None = None
    outcomes_from: int = 0  #: where in the outcome log its answers begin, in bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where a name stands; folded from the audit log."""

    name: str
    tenures: tuple[Tenure, ...] = ()  #: oldest first; the last one serves
    stages: Mapping[str, Stage] = field(default_factory=dict)  #: checkpoint id -> where it stands on this line
    share: float = 0.0  #: of keys that the canary serves
    trial_from: int = 0  #: where in the outcome log the challenger's current step begins, in bytes
    frozen: str | None = None  #: id of the rollback that holds it
    sequence: int = 0  #: of the last entry about it

    @property
    def champion(self) -> str | None:
        return self.tenures[-1].checkpoint if self.tenures else None

    @property
    def challenger(self) -> str | None:
        """The checkpoint in shadow or canary."""
        on_the_way = (Stage.SHADOW, Stage.CANARY)
        return next((checkpoint for checkpoint, stage in self.stages.items() if stage in on_the_way), None)
