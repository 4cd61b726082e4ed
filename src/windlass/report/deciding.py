"""The data of what the deciders did: modes, slots, votes, overrides, and what became of each agent's part."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from windlass.records.decision import Approval, Decision, Mode, Outcome, Stance
from windlass.records.lessons import Credit
from windlass.records.run import RunRecord, Status

BINS = 40  #: most bars of one figure over decisions


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Decisions in a row that were made in one mode."""

    mode: Mode
    first: int  #: decision numbers
    last: int
    reason: str  #: the director's, of its first cycle


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What the decisions were for, and who made the proposals. ``since`` and ``numbers`` have the shape (cycles,)."""

    spans: tuple[Span, ...]
    numbers: np.ndarray  #: of each cycle's first decision
    since: np.ndarray  #: settled runs since the last improvement, as the director saw it; NaN where not on record
    stagnant: np.ndarray  #: bool, (cycles,)
    proposers: tuple[str, ...]  #: in the order in which they first came
    edges: np.ndarray  #: (bins + 1,), decision numbers: bin i is edges[i] to edges[i + 1] - 1
    slots: np.ndarray  #: (bins, proposers), proposals


def course(decisions: Sequence[Decision]) -> Course | None:
    """None before the first decision."""
    if not decisions:
        return None
    cycles = [list(group) for _, group in groupby(decisions, key=lambda d: d.cycle)]
    spans = []
    for mode, group in groupby(decisions, key=lambda d: d.mode):
        part = list(group)
        spans.append(Span(mode=mode, first=part[0].number, last=part[-1].number, reason=part[0].strategy))
    proposers = tuple(dict.fromkeys(d.proposal.proposer for d in decisions))
    first, last = decisions[0].number, decisions[-1].number
    width = max(1, math.ceil((last - first + 1) / BINS))
    edges = np.arange(first, last + width + 1, width)
    slots = np.zeros((len(edges) - 1, len(proposers)), dtype=int)
    for d in decisions:
        slots[(d.number - first) // width, proposers.index(d.proposal.proposer)] += 1
    since = [group[0].evidence.get("since_improvement") for group in cycles]
    return Course(
        spans=tuple(spans),
        numbers=np.array([group[0].number for group in cycles]),
        since=np.array([math.nan if value is None else value for value in since], dtype=float),
        stagnant=np.array([bool(group[0].evidence.get("stagnant")) for group in cycles]),
        proposers=proposers,
        edges=edges,
        slots=slots,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposerPart:
    """What became of one proposer's proposals."""

    name: str
    proposals: int
    approved: int  #: by the lab or by a person
    ran: int  #: settled runs
    failed: int
    stopped: int  #: early
    credit: Credit | None


def proposer_parts(
    decisions: Sequence[Decision],
    runs: Sequence[RunRecord],
    approvals: Sequence[Approval],
    credit: Mapping[str, Credit],
) -> tuple[ProposerPart, ...]:
    """By number of proposals."""
    by_id = {run.id: run for run in runs}
    yes = {answer.number for answer in approvals if answer.approved}
    parts = []
    for name, count in Counter(d.proposal.proposer for d in decisions).most_common():
        own = [d for d in decisions if d.proposal.proposer == name]
        ended = [by_id[d.run_id] for d in own if d.run_id in by_id and by_id[d.run_id].status.terminal]
        settled = [run for run in ended if run.status is not Status.CANCELLED]
        parts.append(
            ProposerPart(
                name=name,
                proposals=count,
                approved=sum(d.approved or (d.waiting and d.number in yes) for d in own),
                ran=len(settled),
                failed=sum(run.status is Status.FAILED for run in settled),
                stopped=sum(run.status is Status.STOPPED for run in settled),
                credit=credit.get(name),
            )
        )
    return tuple(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticPart:
    """How one critic voted."""

    name: str
    stances: Mapping[Stance, int]
    against: int  #: active votes that differ from the panel's stance
    credit: Credit | None

    @property
    def active(self) -> int:
        return sum(count for stance, count in self.stances.items() if stance is not Stance.ABSTAIN)


def critic_parts(decisions: Sequence[Decision], credit: Mapping[str, Credit]) -> tuple[CriticPart, ...]:
    """In the order in which they first voted."""
    votes: dict[str, Counter[Stance]] = {}
    against: Counter[str] = Counter()
    for decision in decisions:
        for vote in decision.votes:
            votes.setdefault(vote.critic, Counter())[vote.stance] += 1
            active = vote.stance is not Stance.ABSTAIN
            against[vote.critic] += active and decision.tally is not None and vote.stance is not decision.tally.stance
    return tuple(
        CriticPart(name=name, stances=stances, against=against[name], credit=credit.get(name))
        for name, stances in votes.items()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Overridden:
    """What one of the supervisor's rules changed."""

    rule: str
    before: Outcome
    after: Outcome
    count: int
    example: Decision
    reason: str  #: of the example


def overridden(decisions: Sequence[Decision]) -> tuple[Overridden, ...]:
    """The most frequent first."""
    groups: dict[tuple[str, Outcome, Outcome], list[tuple[Decision, str]]] = {}
    for decision in decisions:
        for one in decision.overrides:
            groups.setdefault((one.rule, one.before, one.after), []).append((decision, one.reason))
    found = [
        Overridden(rule=rule, before=before, after=after, count=len(cases), example=cases[0][0], reason=cases[0][1])
        for (rule, before, after), cases in groups.items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.count, one.rule)))
