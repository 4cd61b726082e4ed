"""The records of deciding: what was proposed, and what the lab decided about it.

Append-only, in the store and in ``studies/<name>/decisions.jsonl``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self


class Mode(StrEnum):
    """What a cycle is for."""

    EXPLORE = "explore"  #: cover the space
    EXPLOIT = "exploit"  #: improve on the best
    RECOVER = "recover"  #: back to what is known to work
    REPLAY = "replay"  #: a proof that a run reproduces


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """The director's choice for one cycle."""

    mode: Mode
    reason: str  #: in words and numbers
    slots: Mapping[str, int]  #: proposer name -> how many proposals it may make


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Values for some or all parameters of the space (flat names); the baseline fills the rest."""

    values: Mapping[str, Any]
    proposer: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One proposal and its fate. ``run_id`` is None exactly when ``approved`` is False."""

    study: str
    number: int  #: from 1, without gaps; the seed of everything random about it
    cycle: int  #: from 1
    at: float  #: seconds since the epoch
    mode: Mode
    strategy: str  #: the director's reason
    proposal: Proposal
    config: Mapping[str, Any]  #: what will run (nested); empty when rejected
    approved: bool
    verdict: str  #: why it was approved or rejected, with the rule's name
    seen: int  #: how many settled runs of this study the deciders knew
    run_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        known = {f.name for f in fields(cls)}
        values = {key: value for key, value in data.items() if key in known}
        values["mode"] = Mode(values["mode"])
        values["proposal"] = Proposal(**values["proposal"])
        return cls(**values)


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
