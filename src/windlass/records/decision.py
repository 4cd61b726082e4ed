"""The records of deciding: what was proposed, forecast and voted, and what the lab decided about it.

Append-only, in the store and in ``studies/<name>/decisions.jsonl``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from windlass.records.forecast import Forecast


class Mode(StrEnum):
    """What a cycle is for."""

    EXPLORE = "explore"  #: cover the space
    EXPLOIT = "exploit"  #: improve on the best
    RECOVER = "recover"  #: back to what is known to work
    REPLAY = "replay"  #: a proof that a run reproduces


class Stance(StrEnum):
    """What a critic, or the panel as a whole, wants done with a proposal."""

    APPROVE = "approve"
    REJECT = "reject"
    REVISE = "revise"  #: something else should be proposed
    ABSTAIN = "abstain"  #: nothing to say; does not count


class Outcome(StrEnum):
    """What became of a proposal when it was decided."""

    APPROVED = "approved"
    REJECTED = "rejected"
    WAITING = "waiting"  #: a person has to approve it


class Risk(StrEnum):
    """How much a run may cost or break, as the supervisor sees it."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """The director's choice for one cycle."""

    mode: Mode
    reason: str  #: in words and numbers
    slots: Mapping[str, int]  #: proposer name -> how many proposals it may make
    evidence: Mapping[str, Any] = field(default_factory=dict)  #: the numbers behind it


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Values for some or all parameters of the space (flat names); the baseline fills the rest."""

    values: Mapping[str, Any]
    proposer: str
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)  #: numbers and run ids behind the reason
    repeats: str | None = None  #: the run whose config this runs again with another seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One critic's judgement of one proposal."""

    critic: str
    stance: Stance
    confidence: float  #: 0 to 1
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)  #: numbers and run ids behind the reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The votes on one proposal, counted."""

    stance: Stance  #: APPROVE, REJECT or REVISE
    score: float  #: -1 (all reject) to 1 (all approve)
    active: int  #: votes that were no abstentions
    agreement: float  #: share of the voting weight behind the most supported stance, 0 to 1
    entropy: float  #: of the weight over the stances, in bits
    reason: str  #: the rule that decided, with its numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """The supervisor's change of what the panel decided."""

    rule: str
    before: Outcome
    after: Outcome
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """An agent that could not do its part; the study went on without it."""

    agent: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request to a language model and what came back; a replay reads ``reply`` instead of asking."""

    agent: str
    model: str
    request: str  #: digest of the prompt
    reply: str | None  #: as it came; None where none came
    error: str = ""  #: why the reply could not be had or used
    input_tokens: int = 0
    output_tokens: int = 0
    money: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One proposal and its fate. ``run_id`` is None exactly when the proposal was rejected."""

    study: str
    number: int  #: from 1, without gaps; the seed of everything random about it
    cycle: int  #: from 1
    at: float  #: seconds since the epoch
    mode: Mode
    strategy: str  #: the director's reason
    proposal: Proposal
    config: Mapping[str, Any]  #: what will run (nested); empty when rejected
    outcome: Outcome
    verdict: str  #: why, with the rule's name
    seen: int  #: how many settled runs of this study the deciders knew
    run_id: str | None = None
    seed: int = 0  #: of the run
    forecast: Forecast | None = None
    votes: tuple[Vote, ...] = ()
    tally: Tally | None = None
    risk: Risk | None = None
    overrides: tuple[Override, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)  #: of the strategy; in a cycle's first decision
    #: runs whose fate changed since the cycle before: settled, or answered by a person; in a cycle's first decision
    learned: tuple[str, ...] = ()
    incidents: tuple[Incident, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    terms: Mapping[str, Any] | None = None  #: ``Study.terms`` and the version, where they are not as before

    @property
    def approved(self) -> bool:
        return self.outcome is Outcome.APPROVED

    @property
    def waiting(self) -> bool:
        return self.outcome is Outcome.WAITING

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        known = {f.name for f in fields(cls)}
        values = {key: value for key, value in data.items() if key in known}
        values["mode"] = Mode(values["mode"])
        values["outcome"] = Outcome(values["outcome"])
        values["proposal"] = Proposal(**values["proposal"])
        values["risk"] = Risk(values["risk"]) if values.get("risk") else None
        values["forecast"] = Forecast.from_dict(values["forecast"]) if values.get("forecast") else None
        values["votes"] = tuple(Vote(**{**v, "stance": Stance(v["stance"])}) for v in values.get("votes", ()))
        if values.get("tally"):
            values["tally"] = Tally(**{**values["tally"], "stance": Stance(values["tally"]["stance"])})
        values["overrides"] = tuple(
            Override(**{**o, "before": Outcome(o["before"]), "after": Outcome(o["after"])})
            for o in values.get("overrides", ())
        )
        values["learned"] = tuple(values.get("learned", ()))
        values["incidents"] = tuple(Incident(**one) for one in values.get("incidents", ()))
        values["exchanges"] = tuple(Exchange(**one) for one in values.get("exchanges", ()))
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A person's answer to a decision that waited for one."""

    study: str
    number: int  #: the decision's
    approved: bool
    reason: str
    by: str  #: user name
    at: float  #: seconds since the epoch

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class StudyStatus(StrEnum):
    ACTIVE = "active"  #: being driven, or killed while driven
    PAUSED = "paused"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """A study as the store knows it."""

    name: str
    definition: Mapping[str, Any]  #: the study file as data; ``Study.model_validate`` reads it back
    created: float
    status: StudyStatus = StudyStatus.ACTIVE
    cycles: int = 0  #: cycles planned so far
    cycles_goal: int | None = None  #: where the command in progress will stop; None: the study's own limits
    cycles_asked: int | None = None  #: what the command in progress asked for: the same command takes it up again
    stopped_because: str = ""
    folder: str = ""  #: where the study file was; its trainer's files are relative to it
    active_s: float = 0.0  #: wall seconds driven so far, counted against ``budget.wall_time``
