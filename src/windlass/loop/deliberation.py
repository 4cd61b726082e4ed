"""From what is known to decisions: pure. Equal knowledge gives equal decisions, to the bit, today and in a replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

from windlass import __version__
from windlass.agents import Council, Situation, World, check, direct, review_all
from windlass.errors import ConfigRejected
from windlass.history import learn
from windlass.loop.stopping import Partial
from windlass.records.content import digest, flatten
from windlass.records.decision import (
    Approval,
    Decision,
    Incident,
    Mode,
    Outcome,
    Override,
    Proposal,
    Strategy,
)
from windlass.records.forecast import Forecast
from windlass.records.lessons import Lessons
from windlass.records.run import RunRecord, Status, make_run_id
from windlass.records.study import Study
from windlass.space.generate import ConfigGenerator, best_baseline
from windlass.space.space import Space
from windlass.worldmodel import WorldModel, caution, initial_points, trials_of

ROUNDS = 3  #: how often the slots of rejected proposals are proposed for again, in one cycle
NOTES = 20  #: most notes on record for one cycle
INITIAL_SHARE = 0.4  #: most of the runs of a budget that go into the initial design


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """Everything a cycle decides from."""

    study: Study
    space: Space
    generator: ConfigGenerator
    runs: tuple[RunRecord, ...]  #: by number
    decided: tuple[Decision, ...]  #: by number
    approvals: Mapping[int, Approval] = field(default_factory=dict)  #: a person's answers, by decision number
    partial: Mapping[str, Partial] = field(default_factory=dict)  #: what runs that were stopped would have come to

    def refused(self, decision: Decision) -> bool:
        answer = self.approvals.get(decision.number)
        return answer is not None and not answer.approved

    def unanswered(self) -> list[Decision]:
        return [d for d in self.decided if d.waiting and d.number not in self.approvals]

    def news(self) -> tuple[str, ...]:
        """Runs whose fate changed since the last cycle: answered by a person, or settled; one entry a change."""
        told = Counter(run_id for decision in self.decided for run_id in decision.learned)
        settled = {run.id for run in self.runs if run.status.terminal}
        changed: list[str] = []
        for decision in self.decided:
            if decision.run_id is not None:
                answered = decision.waiting and decision.number in self.approvals
                changed += [decision.run_id] * (answered + (decision.run_id in settled) - told[decision.run_id])
        return tuple(changed)


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


def deliberate(known: Knowledge, council: Council, slots: int, at: float) -> list[Decision]:
    """The decisions of the next cycle, rejected proposals among them. ``at`` is when, in seconds since the epoch.

    Linear algebra runs on one thread: how many there are changes the last bits, and the jobs need the cores.
    """
    with _threads().limit(limits=1, user_api="blas"):
        return _deliberate(known, council, slots, at)


def _deliberate(known: Knowledge, council: Council, slots: int, at: float) -> list[Decision]:
    study, space = known.study, known.space
    pending = _pending(known)
    trials, aside = trials_of(study, space, known.runs, known.partial)
    careful = caution(_failure_forecasts(known))
    world = WorldModel.fit(study, space, trials, pending, careful)
    lessons = learn(study, space, known.runs, known.decided, world.noise_sd)
    lessons = replace(lessons, set_aside={**aside, **lessons.set_aside})
    configs = {digest(d.config): d.run_id for d in known.decided if d.run_id is not None}
    rejected: dict[str, Mapping[str, Any]] = {}  #: this cycle's rejected proposals: digest of the values -> flat config
    situation = _situation(known, lessons, world, configs, rejected)
    strategy = asked = direct(situation, slots, tuple(council.proposers))
    made: list[Decision] = []
    incidents: list[Incident] = []
    for turn in range(ROUNDS):
        open_slots = slots - sum(d.run_id is not None for d in made)
        if open_slots <= 0:
            break
        if turn:
            handled: list[Mapping[str, Any]] = [flatten(d.config) for d in made if d.run_id is not None]
            handled += [config for config in rejected.values() if config]  # so that the next ones lie elsewhere
            if handled:
                world = WorldModel.fit(study, space, trials, [*pending, *handled], careful)
                situation = replace(situation, world=world)
            strategy = _instead(situation, asked, council, open_slots, last=turn == ROUNDS - 1)
        for proposal in _propose(situation, strategy, council, open_slots, incidents):
            decision = _judge(known, situation, council, proposal, asked, at, incidents)
            made.append(decision)
            if decision.run_id is not None:
                configs.setdefault(digest(decision.config), decision.run_id)
            else:
                rejected[digest(proposal.values)] = flatten(situation.config(proposal.values)) if decision.votes else {}
            situation = replace(situation, decided=(*situation.decided, decision), next_number=decision.number + 1)
    if made:
        notes = [*lessons.notes, *(f"set aside: run {run_id}, {why}" for run_id, why in lessons.set_aside.items())]
        made[0] = replace(
            made[0],
            evidence={**asked.evidence, "slots": slots, **({"notes": notes[:NOTES]} if notes else {})},
            learned=known.news(),
            incidents=tuple(dict.fromkeys((*incidents, *council.take_incidents()))),
            exchanges=council.take_exchanges(),
            terms=_new_terms(known),
        )
    return made


def _pending(known: Knowledge) -> list[Mapping[str, Any]]:
    """Configs that are decided on and have no result yet."""
    settled = {run.id for run in known.runs if run.status.terminal}
    return [
        flatten(d.config)
        for d in known.decided
        if d.run_id is not None and d.run_id not in settled and not known.refused(d)
    ]


def _failure_forecasts(known: Knowledge) -> list[tuple[Forecast, bool]]:
    """Where the search followed its model: what was forecast, and whether the run failed; by decision number."""
    ended = {run.id: run for run in known.runs if run.status in (Status.COMPLETED, Status.FAILED)}
    return [
        (d.forecast, ended[d.run_id].status is Status.FAILED)
        for d in known.decided
        if d.forecast is not None and d.mode is not Mode.EXPLORE and d.run_id in ended
    ]


def _situation(
    known: Knowledge, lessons: Lessons, world: World, configs: Mapping[str, str], rejected: Container[str]
) -> Situation:
    study = known.study
    baseline = best_baseline(study, lessons.progress.ranked)

    def config(values: Mapping[str, Any]) -> dict[str, Any]:
        return known.generator.generate(values, baseline)

    learned = [one.constraint for one in lessons.constraints]

    def acceptable(values: Mapping[str, Any]) -> bool:
        if digest(values) in rejected:
            return False
        try:
            whole = config(values)
        except ConfigRejected:
            return False
        flat = flatten(whole)
        return digest(whole) not in configs and not any(constraint.rejects(flat) for constraint in learned)

    initial = initial_points(known.space.dimensions)
    if study.budget.runs is not None:
        initial = min(initial, max(1, round(INITIAL_SHARE * study.budget.runs)))
    return Situation(
        study=study,
        space=known.space,
        lessons=lessons,
        world=world,
        runs=known.runs,
        decided=known.decided,
        next_number=len(known.decided) + 1,
        initial=initial,
        baseline_is_complete=known.generator.baseline_complete,
        configs=configs,
        config=config,
        acceptable=acceptable,
    )


def _new_terms(known: Knowledge) -> dict[str, Any] | None:
    """How the study is run, where that is not what the last decision that says so says."""
    terms = {**known.study.terms, "windlass": __version__}
    before = next((d.terms for d in reversed(known.decided) if d.terms is not None), None)
    return None if before == terms else terms


def _instead(situation: Situation, asked: Strategy, council: Council, slots: int, *, last: bool) -> Strategy:
    """Who proposes for the slots of rejected proposals: the world model, once; the explorer after that."""
    name = "bayesian" if not last and situation.world.usable and "bayesian" in council.proposers else "explorer"
    return replace(asked, slots={name: slots})


def _propose(
    situation: Situation, strategy: Strategy, council: Council, slots: int, incidents: list[Incident]
) -> list[Proposal]:
    """Ask each proposer for its slots; decision numbers are given out in the strategy's order."""
    proposals: list[Proposal] = []
    for name, count in strategy.slots.items():
        first = situation.next_number + len(proposals)
        try:
            proposals += council.proposers[name].propose(situation, range(first, first + count))[:count]
        except Exception as error:  # an agent's fault must not end the study; it is on record
            incidents.append(Incident(agent=name, message=f"could not propose: {type(error).__name__}: {error}"))
    return proposals[:slots]


def _judge(
    known: Knowledge,
    situation: Situation,
    council: Council,
    proposal: Proposal,
    strategy: Strategy,
    at: float,
    incidents: list[Incident],
) -> Decision:
    """Config, forecast, votes, tally, supervisor: the fate of one proposal."""
    study, number = situation.study, situation.next_number
    decision = Decision(
        study=study.name,
        number=number,
        cycle=known.decided[-1].cycle + 1 if known.decided else 1,
        at=at,
        mode=strategy.mode,
        strategy=strategy.reason,
        proposal=proposal,
        config={},
        outcome=Outcome.REJECTED,
        verdict="",
        seen=situation.lessons.progress.settled,
    )
    try:
        config = situation.config(proposal.values)
    except ConfigRejected as rejection:
        return replace(decision, verdict=f"rejected by {rejection.rule!r}: {rejection.message}")
    key = digest(config)
    again = sum(d.run_id is not None and digest(d.config) == key for d in situation.decided)
    if again and (proposal.repeats is None or again >= study.repeats):
        return replace(decision, verdict=f"rejected by 'duplicate': run {situation.configs[key]} has this config")
    (forecast,) = situation.world.forecast([flatten(config)])
    votes, troubles = review_all(council.critics, situation, proposal, config, forecast)
    incidents += troubles
    tally = council.tally(votes)
    ruling = check(situation, proposal, config, forecast, tally)
    outcome, verdict, overrides = ruling.outcome, ruling.verdict, ruling.overrides
    wait = [*known.unanswered(), *(d for d in situation.decided[len(known.decided) :] if d.waiting)]
    if outcome is Outcome.WAITING and len(wait) >= waiting_room(study):
        reason = f"{len(wait)} proposals wait for a person already"
        outcome, verdict = Outcome.REJECTED, f"rejected by 'approvals': {reason}"
        overrides = (*overrides, Override(rule="approvals", before=Outcome.WAITING, after=outcome, reason=reason))
    rejected = outcome is Outcome.REJECTED
    seed = study.seed + again
    identity = {"study": study.fingerprint, "config": config, "number": number, "seed": seed}
    return replace(
        decision,
        config={} if rejected else config,
        outcome=outcome,
        verdict=verdict,
        run_id=None if rejected else make_run_id(at, study.name, identity),
        seed=seed,
        forecast=forecast,
        votes=tuple(votes),
        tally=tally,
        risk=ruling.risk,
        overrides=overrides,
    )


def waiting_room(study: Study) -> int:
    """How many proposals may wait for a person at a time."""
    return max(2 * study.budget.concurrent, 4)
