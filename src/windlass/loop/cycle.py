"""One cycle: plan what to run next, and settle what has ended. The rest of Windlass hangs on this page.

Plan and settle are apart because runs outlive processes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from windlass.agents import PROPOSERS, Situation, direct
from windlass.errors import ConfigRejected, NotFound, StateError
from windlass.history import Progress, review
from windlass.jobs.collect import collect
from windlass.jobs.protocol import Executor
from windlass.records.content import digest
from windlass.records.decision import Decision, Proposal, Strategy
from windlass.records.run import Failure, FailureKind, RunRecord, RunSpec, Status, make_run_id
from windlass.records.study import Study
from windlass.space.generate import ConfigGenerator, best_baseline
from windlass.space.space import Space
from windlass.store.decisions import DecisionLog
from windlass.store.protocol import Store


@dataclass(kw_only=True)
class Bench:
    """What the cycles of one study work with; the lab builds it once."""

    study: Study
    store: Store
    executor: Executor
    log: DecisionLog
    runs_root: Path
    template: RunSpec  #: everything about a run that is the same for the whole study
    space: Space = field(init=False)
    generator: ConfigGenerator = field(init=False)
    history: dict[str, RunRecord] = field(init=False)  #: the study's runs, as the store has them
    decided: list[Decision] = field(init=False)
    configs: dict[str, str] = field(init=False)  #: digest of an approved config -> run id
    _progress: Progress | None = field(init=False, default=None)
    _baseline: Mapping[str, Any] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.space = Space.of(self.study)
        self.generator = ConfigGenerator(self.study)
        self.history = {run.id: run for run in self.store.history(self.study.name)}
        self.decided, self.configs = [], {}
        self.remember(self.store.decisions(self.study.name))

    @property
    def progress(self) -> Progress:
        if self._progress is None:
            self._progress = review(self.study, sorted(self.history.values(), key=lambda run: run.number or 0))
        return self._progress

    @property
    def baseline(self) -> Mapping[str, Any]:
        """The config that proposals are laid over: the best run's so far, the study's before there is one."""
        if self._baseline is None:
            self._baseline = best_baseline(self.study, self.progress.ranked)
        return self._baseline

    @property
    def cycle(self) -> int:
        """The number of the last cycle planned, 0 before the first."""
        return self.decided[-1].cycle if self.decided else 0

    def remember(self, decisions: Sequence[Decision], runs: Sequence[RunRecord] = ()) -> None:
        """Take over what the store now has."""
        self.decided.extend(decisions)
        self.configs.update({digest(d.config): d.run_id for d in decisions if d.run_id})
        self.history.update({run.id: run for run in runs})
        self._progress = self._baseline = None

    def note(self, *runs: RunRecord) -> None:
        """Record runs in the store, and remember them. Where a reader saw a run's folder first, its record stands."""
        try:
            self.store.put(runs)
        except StateError:
            runs = tuple(self.store.run(run.id) for run in runs)
        self.remember((), runs)


def plan(bench: Bench, slots: int) -> list[Decision]:
    """Decide what the next ``slots`` runs are, record it, and submit it; rejected proposals are decisions, too."""
    progress = bench.progress
    situation = assess(bench, progress)
    strategy = direct(situation, slots)
    proposals = propose(situation, strategy)
    decisions = [decide(bench, proposal, situation.next_number + i, strategy) for i, proposal in enumerate(proposals)]
    pending = waiting(bench, decisions)
    bench.store.record(decisions, pending)  # known before acted on
    bench.log.append(decisions)
    bench.remember(decisions, pending)
    submit(bench, decisions)
    return decisions


def assess(bench: Bench, progress: Progress) -> Situation:
    """What the deciders get to see."""
    baseline = bench.baseline

    def acceptable(values: Mapping[str, Any]) -> bool:
        try:
            return digest(bench.generator.generate(values, baseline)) not in bench.configs
        except ConfigRejected:
            return False

    return Situation(
        study=bench.study,
        space=bench.space,
        progress=progress,
        next_number=len(bench.decided) + 1,
        explored=sum(d.proposal.proposer == "explorer" for d in bench.decided),
        baseline_is_complete=bench.generator.baseline_complete,
        acceptable=acceptable,
    )


def propose(situation: Situation, strategy: Strategy) -> list[Proposal]:
    """Ask each proposer for its slots; decision numbers are given out in the strategy's order."""
    proposals: list[Proposal] = []
    for name, count in strategy.slots.items():
        first = situation.next_number + len(proposals)
        proposals += PROPOSERS[name].propose(situation, range(first, first + count))
    return proposals


def decide(bench: Bench, proposal: Proposal, number: int, strategy: Strategy) -> Decision:
    """Approve a proposal that gives a valid, new config; reject every other one with the rule named."""
    config: dict[str, Any] = {}
    try:
        config = bench.generator.generate(proposal.values, bench.baseline)
        twin = bench.configs.get(digest(config))
        verdict = f"rejected by 'duplicate': run {twin} has this config" if twin else "valid and new"
        approved = twin is None
    except ConfigRejected as rejection:
        verdict, approved = f"rejected by {rejection.rule!r}: {rejection.message}", False
    decision = Decision(
        study=bench.study.name,
        number=number,
        cycle=bench.cycle + 1,
        at=time.time(),
        mode=strategy.mode,
        strategy=strategy.reason,
        proposal=proposal,
        config=config if approved else {},
        approved=approved,
        verdict=verdict,
        seen=bench.progress.settled,
    )
    if not approved:
        return decision
    identity = {"study": bench.study.fingerprint, "config": config, "number": number}
    return replace(decision, run_id=make_run_id(decision.at, bench.study.name, identity))


def configure(bench: Bench, decision: Decision) -> RunSpec:
    """The job of an approved decision, with the trainer and the limits of this start."""
    assert decision.run_id is not None
    return replace(
        bench.template,
        id=decision.run_id,
        created=decision.at,
        config={**decision.config, **bench.template.config},
        number=decision.number,
        fingerprints={**bench.template.fingerprints, "config": digest(decision.config)},
    )


def waiting(bench: Bench, decisions: Sequence[Decision]) -> list[RunRecord]:
    """The pending runs that approved decisions lead to."""
    return [RunRecord(**_identity(configure(bench, d)), status=Status.PENDING) for d in decisions if d.approved]


def submit(bench: Bench, decisions: Sequence[Decision]) -> None:
    """Hand approved decisions to the executor. Doing it again after a kill is harmless."""
    specs = [configure(bench, d) for d in decisions if d.approved]
    bench.executor.submit(specs)
    pending = [bench.history[spec.id] for spec in specs if bench.history[spec.id].status is Status.PENDING]
    bench.note(*(replace(run, status=Status.QUEUED) for run in pending))


def start(bench: Bench, run_id: str) -> RunRecord:
    """Record that a run's process has started."""
    run = bench.history[run_id]
    if run.status in (Status.PENDING, Status.QUEUED):
        bench.note(replace(run, status=Status.RUNNING, started=time.time()))
    return bench.history[run_id]


def settle(bench: Bench, run_id: str) -> RunRecord:
    """Run folder -> store; safe to repeat."""
    if not bench.history[run_id].status.terminal:
        try:
            run = collect(bench.runs_root / run_id)
        except NotFound:
            run = bench.history[run_id]
        if not run.status.terminal:  # claimed by a supervisor that is not of this machine: the lab was copied
            removed = not (bench.runs_root / run_id).exists()
            message = "its folder was removed" if removed else "its supervisor cannot be found on this machine"
            failure = Failure(kind=FailureKind.LOST, message=message)
            run = replace(run, status=Status.FAILED, failure=failure, ended=run.started)
        bench.note(run)
    return bench.history[run_id]


def _identity(spec: RunSpec) -> dict[str, Any]:
    """The fields that a run's record takes over from its spec."""
    names = ("id", "name", "created", "study", "number", "config", "seed", "tags", "fingerprints", "lineage")
    return {name: getattr(spec, name) for name in names}
