"""How good each proposer's proposals and each critic's votes turned out to be."""

from __future__ import annotations

import bisect
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from windlass.history.table import BLAMELESS
from windlass.records.decision import Decision, Outcome, Stance, Vote
from windlass.records.lessons import Credit
from windlass.records.ranking import counted_score
from windlass.records.run import RunRecord, Status
from windlass.records.study import Study

MEMORY = 0.97  #: weight of a case in units of the one after it
PRIOR = 1.0  #: cases of each kind that an agent starts with
REJECTED = 0.1  #: penalty of a proposer all of whose proposals are rejected
NOT_FOR_GAIN = frozenset({"ablation"})  #: proposers whose runs are for knowledge


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """How a decided run turned out, against the results of the runs with smaller numbers."""

    failed: bool
    improved: bool  #: beat all of them by more than the noise
    rank: float  #: share of them that it beats, ties by half; 0.5 where there are none
    good: bool  #: as good as their median at least

    @property
    def reward(self) -> float:
        """0 of a failure, else half for the rank and half for an improvement."""
        return 0.0 if self.failed else (self.rank + self.improved) / 2


def credit(
    study: Study, runs: Sequence[RunRecord], decided: Sequence[Decision], noise_sd: float | None = None
) -> tuple[dict[str, Credit], dict[str, Credit]]:
    """Credit of each proposer and of each critic by name.

    A proposer's case is a settled run, its reward in 0..1 half the share of earlier results that it beats and half
    whether it improved on all of them; failures get 0. Repeats and ablations run for knowledge and are no cases. A
    critic's case is a vote on a run that settled: right when it approved a run that became good (completed, guards
    kept, score at or above the median of the results before it) or opposed one that did not; it weighs as much as the
    vote was confident. Killed, lost and cancelled runs are nobody's case. ``value`` is the mean of a Beta posterior
    over cases, a uniform prior, where each case weighs ``MEMORY`` of the next.
    """
    by_id = {run.id: run for run in runs}
    ordered = sorted(decided, key=lambda decision: decision.number)
    outcomes = _outcomes(study, ordered, by_id, noise_sd or 0.0)
    return _proposers(ordered, outcomes), _critics(ordered, outcomes)


def _outcomes(
    study: Study, ordered: Sequence[Decision], runs: Mapping[str, RunRecord], noise: float
) -> dict[int, _Outcome]:
    """By decision number; only of runs that say something about their config."""
    known: list[float] = []
    outcomes: dict[int, _Outcome] = {}
    for decision in ordered:
        run = runs.get(decision.run_id) if decision.run_id is not None else None
        if run is None or not run.status.terminal or run.status is Status.CANCELLED:
            continue
        if run.failure is not None and run.failure.kind in BLAMELESS:
            continue
        score = counted_score(study, run)
        if score is None:
            failed = run.status is Status.FAILED
            outcomes[decision.number] = _Outcome(failed=failed, improved=False, rank=0.0, good=False)
            continue
        below, upto = bisect.bisect_left(known, score), bisect.bisect_right(known, score)
        outcomes[decision.number] = _Outcome(
            failed=False,
            improved=not known or score > known[-1] + noise,
            rank=(below + upto) / (2 * len(known)) if known else 0.5,
            good=not known or score >= _median(known),
        )
        known.insert(upto, score)
    return outcomes


def _proposers(ordered: Sequence[Decision], outcomes: Mapping[int, _Outcome]) -> dict[str, Credit]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    cases: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for decision in ordered:
        proposal, outcome = decision.proposal, outcomes.get(decision.number)
        count = counts[proposal.proposer]
        count["proposed"] += 1
        count[str(decision.outcome)] += 1
        count["repeats"] += proposal.repeats is not None
        if outcome is None:
            continue
        count["settled"] += 1
        count["failed"] += outcome.failed
        count["improved"] += outcome.improved and proposal.repeats is None
        if proposal.repeats is None and proposal.proposer not in NOT_FOR_GAIN:
            cases[proposal.proposer].append((outcome.reward, 1.0))
    found = {}
    for name, count in counts.items():
        rejected = count[str(Outcome.REJECTED)] / count["proposed"]
        found[name] = _credit(name, cases[name], {**_shown(count), "penalty": REJECTED * rejected})
    return found


def _critics(ordered: Sequence[Decision], outcomes: Mapping[int, _Outcome]) -> dict[str, Credit]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    cases: dict[str, list[tuple[float, float]]] = defaultdict(list)
    squares: dict[str, list[float]] = defaultdict(list)
    for decision in ordered:
        outcome = outcomes.get(decision.number)
        for vote in decision.votes:
            counts[vote.critic]["votes"] += 1
            counts[vote.critic][str(vote.stance)] += 1
            if outcome is None or vote.stance is Stance.ABSTAIN:
                continue
            cases[vote.critic].append((float((vote.stance is Stance.APPROVE) == outcome.good), vote.confidence))
            squares[vote.critic].append((_chance_of_good(vote) - outcome.good) ** 2)
    found = {}
    for name, count in counts.items():
        brier = {"brier": math.fsum(squares[name]) / len(squares[name])} if squares[name] else {}
        found[name] = _credit(name, cases[name], {**_shown(count), **brier})
    return found


def _chance_of_good(vote: Vote) -> float:
    """The probability that the run becomes good, as the vote says it: 1 approved for certain, 0 opposed for certain."""
    return 0.5 + (0.5 if vote.stance is Stance.APPROVE else -0.5) * vote.confidence


def _shown(count: Counter[str]) -> dict[str, float]:
    return {key: float(value) for key, value in count.items() if value}


def _credit(agent: str, cases: Sequence[tuple[float, float]], facts: Mapping[str, float]) -> Credit:
    """``cases``: how right, in 0..1, and the case's weight; oldest first."""
    a = b = PRIOR
    for age, (right, weight) in enumerate(reversed(cases)):
        a += MEMORY**age * weight * right
        b += MEMORY**age * weight * (1 - right)
    return Credit(
        agent=agent,
        cases=len(cases),
        good=math.fsum(right for right, _ in cases),
        value=a / (a + b),
        sd=math.sqrt(a * b / ((a + b) ** 2 * (a + b + 1))),
        facts=dict(facts),
    )


def _median(known: Sequence[float]) -> float:
    middle = len(known) // 2
    return known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) / 2
