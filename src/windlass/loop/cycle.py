"""One cycle: plan what to run next, and settle what has ended. The rest of Windlass hangs on this page.

Plan and settle are apart because runs outlive processes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from windlass.agents import Council
from windlass.errors import NotFound, StateError
from windlass.history import Progress, review
from windlass.jobs.collect import collect
from windlass.jobs.protocol import Executor
from windlass.loop.deliberation import Knowledge, deliberate
from windlass.loop.keeping import Challengers
from windlass.loop.stopping import EarlyStopper
from windlass.records.content import digest
from windlass.records.decision import Approval, Decision
from windlass.records.ranking import noise_floor
from windlass.records.run import Failure, FailureKind, RunRecord, RunSpec, Status
from windlass.records.study import Study
from windlass.runs.attempts import due
from windlass.runs.folder import RunFolder
from windlass.space.generate import ConfigGenerator
from windlass.space.space import Space
from windlass.store.decisions import DecisionLog
from windlass.store.protocol import Store

MOST_ATTEMPTS = 10  #: that a run has by itself; a person may resume it further
#: what a run's record has of its spec
IDENTITY = ("id", "name", "created", "study", "number", "config", "seed", "tags", "fingerprints", "lineage")


@dataclass(kw_only=True)
class Bench:
    """What the cycles of one study work with; the lab builds it once."""

    study: Study
    store: Store
    executor: Executor
    log: DecisionLog
    runs_root: Path
    template: RunSpec  #: everything about a run that is the same for the whole study
    council: Council
    challengers: Challengers | None = None  #: the study's way to its gate, where it has one
    space: Space = field(init=False)
    generator: ConfigGenerator = field(init=False)
    history: dict[str, RunRecord] = field(init=False)  #: the study's runs, as the store has them
    decided: list[Decision] = field(init=False)
    approvals: dict[int, Approval] = field(init=False)  #: a person's answers, by decision number
    stopper: EarlyStopper = field(init=False)
    _progress: Progress | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.space = Space.of(self.study)
        self.generator = ConfigGenerator(self.study)
        self.stopper = EarlyStopper(self.study, self.runs_root, self.executor)
        self.history = {run.id: run for run in self.store.history(self.study.name)}
        self.decided = self.store.decisions(self.study.name)
        self.approvals = {answer.number: answer for answer in self.store.approvals(self.study.name)}

    @property
    def knowledge(self) -> Knowledge:
        return Knowledge(
            study=self.study,
            space=self.space,
            generator=self.generator,
            runs=tuple(sorted(self.history.values(), key=lambda run: (run.number or 0, run.id))),
            decided=tuple(self.decided),
            approvals=dict(self.approvals),
            partial=self.stopper.partial_values(self.history.values()),
        )

    @property
    def progress(self) -> Progress:
        if self._progress is None:
            self._progress = review(self.study, list(self.history.values()))
        return self._progress

    @property
    def challenger(self) -> RunRecord | None:
        """The run that goes before the gate next: the best one, where its gain on the baseline exceeds the noise."""
        placed = self.progress.standings
        if self.study.baseline_runs < 2:
            return placed[0].run if placed else None
        first = {d.run_id for d in self.decided if d.proposal.proposer == "baseline"}
        floor = noise_floor(self.study, self.history.values())
        if floor is None and all(self.history[i].status.terminal for i in first if i in self.history):
            return placed[0].run if placed and not len(first) < self.study.baseline_runs else None
        won = (one.run for one in placed if one.run.id in first or (floor is not None and floor.won(one)))
        return next(won, None)

    @property
    def unanswered(self) -> list[Decision]:
        """Decisions that wait for a person."""
        return [d for d in self.decided if d.waiting and d.number not in self.approvals]

    @property
    def cycle(self) -> int:
        """The number of the last cycle planned, 0 before the first."""
        return self.decided[-1].cycle if self.decided else 0

    def remember(self, decisions: Sequence[Decision], runs: Sequence[RunRecord] = ()) -> None:
        """Take over what the store now has."""
        self.decided.extend(decisions)
        self.history.update({run.id: run for run in runs})
        self._progress = None

    def note(self, *runs: RunRecord) -> None:
        """Record runs in the store, and remember them. Where a reader saw a run's folder first, its record stands."""
        try:
            self.store.put(runs)
        except StateError:
            runs = tuple(self.store.run(run.id) for run in runs)
        self.remember((), runs)

    def goes(self, decision: Decision) -> bool:
        """Whether a decision leads to a run: approved by the lab, or by the person it waited for."""
        answer = self.approvals.get(decision.number)
        return decision.approved or (decision.waiting and answer is not None and answer.approved)


def plan(bench: Bench, slots: int) -> list[Decision]:
    """Decide what the next ``slots`` runs are, record it, and submit it; rejected proposals are decisions, too."""
    decisions = deliberate(bench.knowledge, bench.council, slots, time.time())
    pending = waiting(bench, decisions)
    bench.store.record(decisions, pending)  # known before acted on
    bench.log.append(decisions)
    bench.remember(decisions, pending)
    submit(bench, decisions)
    return decisions


def hear(bench: Bench) -> list[tuple[Decision, Approval]]:
    """Take in what people answered since the last look; what they approved is recorded and submitted."""
    known = bench.approvals
    answers = {a.number: a for a in bench.store.approvals(bench.study.name) if a.number not in known}
    heard = [(decision, answers[decision.number]) for decision in bench.decided if decision.number in answers]
    known.update(answers)
    approved = [decision for decision, answer in heard if answer.approved]
    bench.note(*waiting(bench, [d for d in approved if d.run_id not in bench.history]))
    submit(bench, approved)
    return heard


def configure(bench: Bench, decision: Decision) -> RunSpec:
    """The job of a decision that goes, with the trainer and the limits of this start."""
    assert decision.run_id is not None
    spec = replace(
        bench.template,
        id=decision.run_id,
        created=decision.at,
        config={**decision.config, **bench.template.config},
        seed=decision.seed,
        number=decision.number,
        fingerprints={**bench.template.fingerprints, "config": digest(decision.config)},
    )
    return spec.identified()


def waiting(bench: Bench, decisions: Sequence[Decision]) -> list[RunRecord]:
    """The pending runs that decisions lead to."""
    return [RunRecord(**_identity(configure(bench, d)), status=Status.PENDING) for d in decisions if bench.goes(d)]


def submit(bench: Bench, decisions: Sequence[Decision]) -> None:
    """Hand the decisions that go to the executor. Doing it again after a kill is harmless."""
    specs = [configure(bench, d) for d in decisions if bench.goes(d)]
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


def go_on(bench: Bench, run: RunRecord) -> RunRecord | None:
    """Let a run that was ended from outside go on, with its next attempt; None where it has failed for good.

    That is where it left nothing to go on from, had its ``MOST_ATTEMPTS``, or would go on with other code or data.
    """
    now, then = bench.template.fingerprints, run.fingerprints
    same = all(then.get(what) == now.get(what) for what in ("code", "data"))
    if run.failure is None or not run.failure.kind.resumable or run.attempt >= MOST_ATTEMPTS or not same:
        return None
    try:
        number = bench.executor.resume(run.id)
    except (StateError, NotFound):
        return None
    bench.note(_reopened(run, number))
    return bench.history[run.id]


def catch_up(bench: Bench) -> None:
    """Take over attempts that are not on record: the process that reopened a run was killed, or was a person's."""
    for run in list(bench.history.values()):
        later = due(RunFolder(bench.runs_root / run.id)) if run.status.terminal else None
        if later is not None and later.number > run.attempt:
            bench.note(_reopened(run, later.number))


def _reopened(run: RunRecord, attempt: int) -> RunRecord:
    fresh = RunRecord(**{name: getattr(run, name) for name in IDENTITY}, status=Status.QUEUED, attempt=attempt)
    return replace(fresh, metrics=run.metrics, artifacts=run.artifacts, notes=run.notes)


def _identity(spec: RunSpec) -> dict[str, Any]:
    """The fields that a run's record takes over from its spec."""
    return {name: getattr(spec, name) for name in IDENTITY}
