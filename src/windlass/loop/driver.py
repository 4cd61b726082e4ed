"""Repeat cycles until a limit, a stop rule or a person says stop; resume where a kill left off.

``drive`` is a generator of what happens: the command line shows it, tests read it, nobody has to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from windlass.history import Progress, stop_reason
from windlass.jobs.protocol import JobEventKind
from windlass.loop import keeping
from windlass.loop.cycle import Bench, catch_up, go_on, hear, plan, settle, start, submit, waiting
from windlass.records.content import digest
from windlass.records.decision import Approval, Decision, StudyRecord, StudyStatus
from windlass.records.run import EarlyStop, Failure, RunRecord

TICK_S = 0.5  #: how often a wait for jobs looks at the clock and at ``pause``
ALIKE_FAILURES = 3  #: first runs of a command that fail with one message, after which a study stops
FRUITLESS_CYCLES = 5  #: cycles in a row without one acceptable proposal, after which a study stops


@dataclass(frozen=True, slots=True)
class Resumed:
    settled: int  #: runs that had ended while nobody looked
    running: int  #: runs that still go on, or are queued again


@dataclass(frozen=True, slots=True)
class Changed:
    what: tuple[str, ...]  #: ``code``, ``data``: not what the study's last run had


@dataclass(frozen=True, slots=True)
class Planned:
    decisions: list[Decision]


@dataclass(frozen=True, slots=True)
class Waiting:
    decisions: list[Decision]  #: that wait for a person


@dataclass(frozen=True, slots=True)
class Answered:
    decision: Decision
    approval: Approval


@dataclass(frozen=True, slots=True)
class Started:
    run: RunRecord


@dataclass(frozen=True, slots=True)
class StoppedEarly:
    run: RunRecord
    why: EarlyStop


@dataclass(frozen=True, slots=True)
class Settled:
    run: RunRecord
    best: bool  #: it is now the study's best run


@dataclass(frozen=True, slots=True)
class Continued:
    """A run was ended from outside and goes on from what it left."""

    run: RunRecord  #: queued again, for its attempt ``run.attempt``
    after: Failure  #: how the attempt before ended


@dataclass(frozen=True, slots=True)
class Pausing:
    running: int  #: runs that are waited for


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing happened for a moment."""


@dataclass(frozen=True, slots=True)
class Stopped:
    reason: str
    status: StudyStatus


Event = (
    Resumed
    | Changed
    | Planned
    | Waiting
    | Answered
    | Started
    | StoppedEarly
    | Settled
    | Continued
    | keeping.KeepingEvent
    | Pausing
    | Tick
    | Stopped
)


class Pause:
    """Asked once: plan nothing more, wait for what runs. Asked twice: leave at once; running jobs go on."""

    def __init__(self) -> None:
        self.asked = 0

    def ask(self) -> None:
        self.asked += 1


def drive(
    bench: Bench, record: StudyRecord, pause: Pause, clock: Callable[[], float] = time.monotonic
) -> Iterator[Event]:
    """Drive a study; the last event is Stopped. ``record`` is the study's record with the goal of this command."""
    began, before = clock(), record.active_s

    def save(**changes: object) -> None:
        nonlocal record
        record = replace(record, cycles=bench.cycle, active_s=before + clock() - began, **changes)  # type: ignore[arg-type]
        bench.store.save_study(record)

    save(status=StudyStatus.ACTIVE, stopped_because="")
    if changed := _changed(bench):
        yield Changed(changed)
    yield from _resume(bench)
    fruitless, pausing, told = 0, False, 0
    settled, endings = 0, set[str | None]()  # by this process: how many runs, and their failures' messages
    while True:
        for decision, answer in hear(bench) if bench.unanswered else ():
            fruitless = 0
            yield Answered(decision, answer)
        if bench.challengers and (best := bench.challenger) and not pause.asked:
            yield from bench.challengers.consider(best)
        unanswered = bench.unanswered
        now = replace(record, active_s=before + clock() - began)
        reason = _stop(bench, bench.progress, now) or (None if unanswered else _goal(now))
        if reason is None and settled >= max(ALIKE_FAILURES, bench.study.budget.concurrent) and len(endings) == 1:
            (message,) = endings
            reason = f"the first {settled} runs all failed alike: {message}" if message else None
        busy = bench.executor.active()
        if reason is None and fruitless >= FRUITLESS_CYCLES and not busy and not unanswered:
            reason = f"no acceptable proposal: {bench.decided[-1].verdict}"
        if pause.asked > 1 or (pause.asked and not busy):
            reason = "as asked" + (f"; {len(busy)} runs go on and are collected by the next start" if busy else "")
            save(status=StudyStatus.PAUSED, stopped_because=reason)
            yield Stopped(reason, StudyStatus.PAUSED)
            return
        if pause.asked and not pausing:
            pausing = True
            yield Pausing(len(busy))
        idle = reason is None and _goal(now) is None and not pause.asked and fruitless < FRUITLESS_CYCLES
        if idle and (slots := _free_slots(bench, len(unanswered))):
            decisions = plan(bench, slots)
            fruitless = 0 if any(d.run_id for d in decisions) else fruitless + 1
            save()
            yield Planned(decisions)
            continue
        if reason is not None and not busy:
            save(status=StudyStatus.FINISHED, stopped_because=reason, cycles_goal=None)
            yield Stopped(reason, StudyStatus.FINISHED)
            return
        if unanswered and len(unanswered) != told and not busy:
            yield Waiting(unanswered)
        told = len(unanswered)
        events = bench.executor.wait(TICK_S)
        for run_id, why in bench.stopper.look(bench.history.values()).items():
            yield StoppedEarly(bench.history[run_id], why)
        for event in events:
            if event.run_id not in bench.history:
                if bench.challengers and bench.challengers.expects(event.run_id) and event.kind is JobEventKind.ENDED:
                    yield from bench.challengers.ended(event.run_id)
                continue
            if event.kind is JobEventKind.STARTED:
                yield Started(start(bench, event.run_id))
            else:
                ended = _ended(bench, event.run_id, may_go_on=not pause.asked)
                if isinstance(ended, Settled):
                    endings.add(ended.run.failure.message if ended.run.failure else None)
                    settled += 1
                fruitless = 0
                yield ended
        if not events:
            yield Tick()


def _ended(bench: Bench, run_id: str, *, may_go_on: bool) -> Settled | Continued:
    run = settle(bench, run_id)
    if may_go_on and run.failure is not None and (again := go_on(bench, run)) is not None:
        return Continued(again, run.failure)
    champion = bench.progress.best
    return Settled(run, best=champion is not None and champion.id == run.id)


def _resume(bench: Bench) -> Iterator[Event]:
    """Take up what an earlier process left: catch up the log, submit or attach every run that is not terminal.

    Runs that were ended from outside, and that no decision knows as failed yet, go on.
    """
    bench.log.catch_up(bench.decided, list(bench.approvals.values()))
    unknown = [d for d in bench.decided if bench.goes(d) and d.run_id not in bench.history]
    bench.note(*waiting(bench, unknown))  # decided, and lost with a database before the folder was made
    catch_up(bench)
    for run_id in dict.fromkeys(bench.knowledge.news()):
        run = bench.history[run_id]
        if run.failure is not None and (again := go_on(bench, run)) is not None:
            yield Continued(again, run.failure)
    open_runs = [d for d in bench.decided if bench.goes(d) and not bench.history[d.run_id or ""].status.terminal]
    if not open_runs:
        return
    submit(bench, open_runs)
    settled = 0
    for event in bench.executor.wait(0):
        if event.kind is JobEventKind.STARTED:
            yield Started(start(bench, event.run_id))
        else:
            ended = _ended(bench, event.run_id, may_go_on=True)
            settled += isinstance(ended, Settled)
            yield ended
    yield Resumed(settled, len(open_runs) - settled)


def _changed(bench: Bench) -> tuple[str, ...]:
    """What of the trainer and its data is not as it was for the study's last run."""
    if not bench.history:
        return ()
    before = max(bench.history.values(), key=lambda run: run.number or 0).fingerprints
    now = bench.template.fingerprints
    return tuple(what for what in ("code", "data") if what in before and before[what] != now.get(what))


def _free_slots(bench: Bench, unanswered: int) -> int:
    budget = bench.study.budget
    free = budget.concurrent - len(bench.executor.active())
    if bench.study.autonomy == "manual":  # every proposal will wait
        free = min(free, budget.concurrent - unanswered)
    if budget.runs is not None:
        free = min(free, budget.runs - len(bench.history) - unanswered)
    return max(0, free)


def _stop(bench: Bench, progress: Progress, record: StudyRecord) -> str | None:
    """Why to plan nothing more, or None."""
    budget = bench.study.budget
    if budget.runs is not None and len(bench.history) >= budget.runs:
        return f"budget: {budget.runs} runs"
    if budget.wall_time is not None and record.active_s >= budget.wall_time:
        return f"budget: {budget.wall_time:g} s of wall time"
    if reason := stop_reason(bench.study, progress):
        return reason
    if bench.space.size is not None and len({digest(run.config) for run in bench.history.values()}) >= bench.space.size:
        return f"the space has no more than {bench.space.size} configs, and all were run"
    return None


def _goal(record: StudyRecord) -> str | None:
    """Why the command in progress has done its part, or None."""
    reached = record.cycles_goal is not None and record.cycles >= record.cycles_goal
    return f"{record.cycles} cycles, as asked" if reached else None
