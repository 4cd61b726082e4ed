"""The deciding side as people reach it: what waits for them, why a run was made, whether the log can be repeated."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from windlass.errors import NotFound, StateError, nearest
from windlass.history import learn, review
from windlass.jobs.resume import obstacle
from windlass.loop.retrace import Retraced, retrace
from windlass.loop.stopping import EarlyStopper
from windlass.records.decision import Approval, Decision, StudyRecord, StudyStatus
from windlass.records.lessons import Lessons
from windlass.records.ranking import counted_score, standings
from windlass.records.run import RunRecord, Status
from windlass.records.study import Study
from windlass.report.why import Explained
from windlass.runs.folder import RunFolder
from windlass.settings import secret
from windlass.space.space import Space
from windlass.store.decisions import DecisionLog
from windlass.worldmodel import Calibration, Outcome, calibration
from windlass.worldmodel.pareto import hypervolume

if TYPE_CHECKING:
    from windlass.agents import Council
    from windlass.lab.lab import Lab


def assemble(study: Study, replies: Sequence[Decision] | None = None) -> Council:
    """The agents of a study. With ``replies``, decisions of one cycle, the language model's part is read from them."""
    from windlass.agents import Council, LanguageModelAgent

    section = study.agents.language_model
    if section is None:
        return Council.of(study)
    if replies is not None:
        recorded = [exchange for decision in replies for exchange in decision.exchanges]
        return Council.of(study, LanguageModelAgent.recorded(section, recorded))
    return Council.of(study, LanguageModelAgent(section, secret(section.key_variable)))


def waiting(lab: Lab) -> list[tuple[StudyRecord, Decision]]:
    """Proposals that wait for a person, in studies that are not finished; oldest first."""
    found = []
    for record in lab.studies():
        if record.status is not StudyStatus.FINISHED:
            answered = {answer.number for answer in lab.store.approvals(record.name)}
            decisions = lab.store.decisions(record.name)
            found += [(record, d) for d in decisions if d.waiting and d.number not in answered]
    return sorted(found, key=lambda pair: pair[1].at)


def answer(lab: Lab, reference: str, approved: bool, reason: str) -> Approval:
    """Raises NotFound for an unknown reference, StateError where nothing waits (any more)."""
    decision = find_decision(lab, reference)
    record = lab.study(decision.study)
    answered = {one.number for one in lab.store.approvals(record.name)}
    if record.status is StudyStatus.FINISHED and decision.waiting and decision.number not in answered:
        raise StateError(
            f"study {record.name} is finished ({record.stopped_because}); #{decision.number} will not run",
            f"windlass run {record.name} --cycles 1 takes it up again",
        )
    given = Approval(
        study=decision.study,
        number=decision.number,
        approved=approved,
        reason=reason,
        by=getpass.getuser(),
        at=time.time(),
    )
    lab.store.answer(given)
    stored = next(one for one in lab.store.approvals(decision.study) if one.number == decision.number)
    DecisionLog(lab.decisions_file(decision.study)).append([], [stored])
    return stored


def find_decision(lab: Lab, reference: str) -> Decision:
    """By ``STUDY#NUMBER``, or by a run id, a unique part of one, or ``latest``."""
    study, mark, number = reference.rpartition("#")
    if mark and number.isdigit():
        decisions = {d.number: d for d in lab.store.decisions(lab.study(study).name)}
        if int(number) not in decisions:
            there = f"it has #1 to #{max(decisions)}" if decisions else "it has none yet"
            raise NotFound(f"study {study} has no decision #{number}; {there}", f"windlass studies report {study}")
        return decisions[int(number)]
    reserved = {
        d.run_id: d for record in lab.studies() for d in lab.store.decisions(record.name) if d.run_id is not None
    }
    try:
        run = lab.get(reference)
    except NotFound as error:
        matches = [d for run_id, d in reserved.items() if reference in run_id]
        if len(matches) == 1:
            return matches[0]
        raise NotFound(f"{error.message}{nearest(reference, reserved)}", error.next_step) from error
    if run.id not in reserved:
        raise NotFound(
            f"run {run.id} was not decided by Windlass: a script of its own or a replay started it",
            f"windlass runs show {run.id}",
        )
    return reserved[run.id]


def explain(lab: Lab, reference: str) -> Explained:
    """Everything on record about one decision."""
    decision = find_decision(lab, reference)
    study = Study.model_validate(lab.study(decision.study).definition)
    runs = lab.store.history(study.name)
    decisions = lab.store.decisions(study.name)
    known = {run_id for d in decisions if d.cycle <= decision.cycle for run_id in d.learned}
    before = review(study, [run for run in runs if run.id in known and run.status.terminal]).best
    run = next((run for run in runs if run.id == decision.run_id), None)
    ranking = standings(study, runs)
    place = next((i for i, one in enumerate(ranking, start=1) if run is not None and run in one.runs), None)
    return Explained(
        study=study,
        decision=decision,
        run=run,
        approval=next((a for a in lab.store.approvals(study.name) if a.number == decision.number), None),
        before=before,
        standing=ranking[place - 1] if place else None,
        siblings=[d for d in decisions if d.cycle == decision.cycle and d.number != decision.number],
        place=place,
        places=len(ranking),
        resumable=run is not None and _resumable(lab, run),
    )


def _resumable(lab: Lab, run: RunRecord) -> bool:
    folder = RunFolder(lab.runs_root / run.id)
    return folder.spec_file.exists() and obstacle(run, folder, folder.spec()) is None


def retraced(lab: Lab, name: str, cycle: int | None) -> Iterator[Retraced]:
    """Raises NotFound for an unknown study or cycle."""
    study = Study.model_validate(lab.study(name).definition)
    decisions = lab.store.decisions(name)
    if cycle is not None and cycle not in {d.cycle for d in decisions}:
        last = decisions[-1].cycle if decisions else 0
        raise NotFound(f"study {name} has no cycle {cycle}; its last is {last}", f"windlass studies report {name}")
    stopper = EarlyStopper(study, lab.runs_root)
    return retrace(
        study,
        lab.store.history(name),
        decisions,
        lab.store.approvals(name),
        assemble,
        cycle,
        stopper.partial_values,
    )


def learned(study: Study, runs: Sequence[RunRecord], decisions: Sequence[Decision]) -> tuple[Lessons, Calibration]:
    """What the whole history teaches, and how the forecasts of its runs turned out."""
    ended = {run.id: run for run in runs if run.status in (Status.COMPLETED, Status.FAILED)}
    pairs = [
        (d.forecast, _outcome(study, ended[d.run_id]))
        for d in decisions
        if d.forecast is not None and d.run_id in ended and d.forecast.known
    ]
    return learn(study, Space.of(study), runs, decisions), calibration(pairs)


def hypervolumes(study: Study, runs: Sequence[RunRecord]) -> list[float]:
    """What the results up to each run cover, down to the worst of them in every objective; empty with one objective."""
    if len(study.objectives) < 2:
        return []
    counted = [counted_score(study, run) is not None for run in runs]
    losses = np.array(
        [
            [-o.gain(run.values[o.metric]) if counts else np.inf for o in study.objectives]
            for run, counts in zip(runs, counted, strict=True)
        ]
    )
    if not any(counted):
        return []
    worst = losses[counted].max(axis=0)
    return [hypervolume(losses[: i + 1], worst) for i in range(len(runs))]


def _outcome(study: Study, run: RunRecord) -> Outcome:
    failed = run.status is Status.FAILED
    return Outcome(
        failed=failed, metrics={} if failed else run.values, score=None if failed else study.score(run.values)
    )
