"""The report of a study: what it found, how it went, what failed, and how to get there again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from windlass.records.decision import Approval, Decision, Outcome, StudyRecord
from windlass.records.lessons import Lessons
from windlass.records.ranking import Standing, repeat_noise, standings
from windlass.records.run import FailureKind, RunRecord, Status
from windlass.records.study import Study
from windlass.report.deciding import (
    Course,
    CriticPart,
    Overridden,
    ProposerPart,
    course,
    critic_parts,
    overridden,
    proposer_parts,
)
from windlass.report.figures import (
    LearningCurve,
    LearningCurves,
    OptimisationHistory,
    Timeline,
    Tradeoff,
    learning_curve,
    optimisation_history,
    pareto_front,
    run_points,
    timeline,
    tradeoffs,
)
from windlass.report.forecasts import (
    Calibration,
    FailureForecasts,
    Forecasts,
    failure_forecasts,
    metric_forecasts,
)
from windlass.report.keeping import GateHistory
from windlass.report.learned import RegionOverRuns, region_over_runs
from windlass.report.parameters import ParallelCoordinates, ParameterEffect, parallel_coordinates, parameter_effects
from windlass.report.tables import run_dict
from windlass.runs.compare import MetricDelta, metric_delta
from windlass.runs.folder import RunFolder

CURVES_OF_BEST, CURVES_OF_FAILED, CURVES_OF_STOPPED = 20, 8, 20  #: runs whose learning curves are read and shown
CURVE_METRICS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    kind: FailureKind
    count: int
    example: RunRecord  #: the first one


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    rule: str
    count: int
    example: Decision


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """The data of a study's report; figures are computed when they are first asked for."""

    study: Study
    record: StudyRecord
    runs: tuple[RunRecord, ...]  #: by number
    decisions: tuple[Decision, ...]  #: by number
    runs_root: Path
    lessons: Lessons | None = None  #: what the whole history teaches
    calibration: Calibration | None = None  #: how the forecasts of its runs turned out
    approvals: tuple[Approval, ...] = ()  #: people's answers, by decision number
    hypervolumes: tuple[float, ...] = ()  #: after each of ``runs``; empty with one objective
    gate: GateHistory | None = None  #: what the gate said; None where the study has none

    @cached_property
    def standings(self) -> tuple[Standing, ...]:
        """Configs with a completed run that keeps all guards and has a score, best first."""
        return tuple(standings(self.study, self.runs))

    @cached_property
    def ranked(self) -> tuple[RunRecord, ...]:
        """The first run of each of them."""
        return tuple(standing.run for standing in self.standings)

    @cached_property
    def noise(self) -> float | None:
        """Spread of the score between runs of one config; None while none was repeated."""
        return repeat_noise(self.study, self.runs)

    @property
    def champion(self) -> RunRecord | None:
        return self.ranked[0] if self.ranked else None

    @cached_property
    def reference(self) -> tuple[str, RunRecord] | None:
        """What gains are measured against: the baseline's run, or else the first run that completed; with its name."""
        completed = {run.id: run for run in self.runs if run.status is Status.COMPLETED}
        for decision in self.decisions:
            if decision.proposal.proposer == "baseline" and decision.run_id in completed:
                return "baseline", completed[decision.run_id]
        first = next(iter(completed.values()), None)
        return ("first completed run", first) if first else None

    @cached_property
    def gains(self) -> tuple[MetricDelta, ...]:
        """Objectives and guards of the champion against the reference; empty where one of the two is missing."""
        if self.champion is None or self.reference is None:
            return ()
        directions = {objective.metric: objective.direction for objective in self.study.objectives}
        before, after = self.reference[1].values, self.champion.values
        names = self.study.required_metrics
        return tuple(metric_delta(name, before.get(name), after.get(name), directions.get(name)) for name in names)

    @cached_property
    def counts(self) -> Mapping[Status, int]:
        counted = Counter(run.status for run in self.runs)
        return {status: counted[status] for status in Status if counted[status]}

    @cached_property
    def failures(self) -> tuple[FailureGroup, ...]:
        """By kind, the most frequent first."""
        groups: dict[FailureKind, list[RunRecord]] = {}
        for run in self.runs:
            if run.failure is not None:
                groups.setdefault(run.failure.kind, []).append(run)
        found = (FailureGroup(kind=kind, count=len(runs), example=runs[0]) for kind, runs in groups.items())
        return tuple(sorted(found, key=lambda group: (-group.count, group.kind)))

    @cached_property
    def rejections(self) -> tuple[Rejection, ...]:
        """Rejected proposals by the rule they broke, the most frequent first."""
        groups: dict[str, list[Decision]] = {}
        for decision in self.decisions:
            if decision.outcome is Outcome.REJECTED:
                groups.setdefault(_rule(decision.verdict), []).append(decision)
        found = (Rejection(rule=rule, count=len(group), example=group[0]) for rule, group in groups.items())
        return tuple(sorted(found, key=lambda rejection: (-rejection.count, rejection.rule)))

    @cached_property
    def broken_guards(self) -> Mapping[str, int]:
        """Guard metric -> completed runs that break it."""
        completed = (run for run in self.runs if run.status is Status.COMPLETED)
        return Counter(guard.metric for run in completed for guard in self.study.broken_guards(run.values))

    @cached_property
    def histories(self) -> tuple[OptimisationHistory, ...]:
        return tuple(optimisation_history(self.study, o.metric, self.runs) for o in self.study.objectives)

    @cached_property
    def effects(self) -> tuple[ParameterEffect, ...]:
        return parameter_effects(self.study, self.runs)

    @cached_property
    def coordinates(self) -> ParallelCoordinates:
        return parallel_coordinates(self.study, self.runs)

    @cached_property
    def timeline(self) -> Timeline:
        return timeline(self.study, self.runs)

    @cached_property
    def tradeoffs(self) -> tuple[Tradeoff, ...]:
        return tradeoffs(self.study, self.runs)

    @cached_property
    def front(self) -> tuple[RunRecord, ...]:
        """Runs that no other beats in all objectives; empty with one objective."""
        return tuple(pareto_front(self.study, self.runs)) if len(self.study.objectives) > 1 else ()

    @cached_property
    def course(self) -> Course | None:
        return course(self.decisions)

    @cached_property
    def forecasts(self) -> tuple[Forecasts, ...]:
        """Of objectives and guards, those that were forecast and came."""
        names = self.study.required_metrics
        found = (metric_forecasts(self.study, name, self.decisions, self.runs) for name in names)
        return tuple(one for one in found if one is not None)

    @cached_property
    def failure_forecasts(self) -> FailureForecasts | None:
        return failure_forecasts(self.study, self.decisions, self.runs)

    @cached_property
    def proposers(self) -> tuple[ProposerPart, ...]:
        credit = self.lessons.proposers if self.lessons else {}
        return proposer_parts(self.decisions, self.runs, self.approvals, credit)

    @cached_property
    def critics(self) -> tuple[CriticPart, ...]:
        return critic_parts(self.decisions, self.lessons.critics if self.lessons else {})

    @cached_property
    def overridden(self) -> tuple[Overridden, ...]:
        return overridden(self.decisions)

    @cached_property
    def regions(self) -> tuple[RegionOverRuns, ...]:
        """The learned constraints that can be drawn over the runs."""
        found = (region_over_runs(self.study, c, self.runs) for c in (self.lessons.constraints if self.lessons else ()))
        return tuple(one for one in found if one is not None)

    @cached_property
    def stopped(self) -> tuple[RunRecord, ...]:
        """Runs that were stopped early."""
        return tuple(run for run in self.runs if run.stopped_early is not None)

    @cached_property
    def curves(self) -> tuple[LearningCurves, ...]:
        """Of the best runs and the first failed ones: objectives with a history first, then metrics akin to them."""
        return _curves(self.study, self.runs, self.ranked, self.runs_root)

    def markdown(self) -> str:
        """The text of REPORT.md."""
        from windlass.report.markdown import render
        from windlass.report.story import story

        return render(f"Study {self.study.name}", story(self))

    def html(self) -> str:
        """One page that needs no network and no other file. Raises MissingExtra where plotly is not installed."""
        from windlass.report.page import study_page

        return study_page(self)

    def summary(self) -> str:
        """For a terminal: a headline, counts, and what to do next; plain text."""
        from windlass.report.terminal import study_summary

        return study_summary(self)

    def to_dict(self) -> dict[str, Any]:
        """The headline as JSON values."""
        return {
            "study": self.study.name,
            "status": self.record.status,
            "stopped_because": self.record.stopped_because,
            "active_s": self.record.active_s,
            "runs": {status: count for status, count in self.counts.items()},
            "failures": {group.kind: group.count for group in self.failures},
            "rejected": {rejection.rule: rejection.count for rejection in self.rejections},
            "best": run_dict(self.champion) if self.champion else None,
            "reference": {"is": self.reference[0], **run_dict(self.reference[1])} if self.reference else None,
            "gains": [delta.to_dict() for delta in self.gains],
            "effects": {effect.name: effect.effect for effect in self.effects},
            "front": [run.id for run in self.front],
            "hypervolume": self.hypervolumes[-1] if self.hypervolumes else None,
            "stopped_early": [run.id for run in self.stopped],
            "gate": self.gate.to_dict() if self.gate else None,
            **self._deciding(),
        }

    def _deciding(self) -> dict[str, Any]:
        lessons, calibration = self.lessons, self.calibration
        constraints = lessons.constraints if lessons else ()
        return {
            "calibration": {
                "runs": calibration.runs,
                "brier": calibration.brier,
                "brier_base": calibration.brier_base,
                "coverage": {
                    name: {"count": one.count, "share50": one.share50, "share90": one.share90}
                    for name, one in calibration.metrics.items()
                },
            }
            if calibration
            else None,
            "constraints": [
                {
                    "constraint": one.constraint.model_dump(mode="json", exclude_none=True),
                    "failed": list(one.failed),
                    "survived": list(one.survived),
                    "purity": one.purity,
                    "base_rate": one.base_rate,
                }
                for one in constraints
            ],
            "credit": {
                one.agent: {"value": one.value, "sd": one.sd, "cases": one.cases}
                for one in (*lessons.proposers.values(), *lessons.critics.values())
            }
            if lessons
            else {},
        }


def study_report(
    study: Study,
    runs: Sequence[RunRecord],
    decisions: Sequence[Decision],
    record: StudyRecord,
    runs_root: Path,
    *,
    lessons: Lessons | None = None,
    calibration: Calibration | None = None,
    approvals: Sequence[Approval] = (),
    hypervolumes: Sequence[float] = (),
    gate: GateHistory | None = None,
) -> StudyReport:
    """``runs_root`` holds the run folders; learning curves are read from there. ``hypervolumes``: after each run."""
    return StudyReport(
        study=study,
        record=record,
        runs=tuple(sorted(runs, key=lambda run: (run.number is None, run.number or 0, run.created, run.id))),
        decisions=tuple(sorted(decisions, key=lambda decision: decision.number)),
        runs_root=runs_root,
        lessons=lessons,
        calibration=calibration,
        approvals=tuple(sorted(approvals, key=lambda answer: answer.number)),
        hypervolumes=tuple(hypervolumes),
        gate=gate,
    )


def _rule(verdict: str) -> str:
    """The rule that a verdict names: ``rejected by 'splits sum to 1': …``."""
    match = re.match(r"rejected by (['\"])(.+?)\1", verdict)
    return match[2] if match else verdict.partition(":")[0]


def _curves(
    study: Study, runs: Sequence[RunRecord], best: Sequence[RunRecord], runs_root: Path
) -> tuple[LearningCurves, ...]:
    from windlass.runs.reader import read_metric

    failed = [run for run in runs if run.status is Status.FAILED]
    stopped = [run for run in runs if run.stopped_early is not None]
    chosen = (*best[:CURVES_OF_BEST], *failed[:CURVES_OF_FAILED], *stopped[:CURVES_OF_STOPPED])
    shown = {run.id: run for run in chosen}
    frequency = Counter(
        name
        for run in shown.values()
        for name, summary in run.metrics.items()
        if summary.count > 1 and not name.startswith("system/")
    )
    objectives = {objective.metric for objective in study.objectives}

    judged = study.early_stopping.metric if study.early_stopping else None

    def order(name: str) -> tuple[bool, bool, bool, int, str]:
        akin = any(name.endswith(objective) for objective in objectives)
        return name != judged, name not in objectives, not akin, -frequency[name], name

    names = sorted(frequency, key=order)[:CURVE_METRICS]
    if not names:
        return ()
    champion = best[0].id if best else None
    curves: dict[str, list[LearningCurve]] = {name: [] for name in names}
    for run, point in zip(runs, run_points(study, runs), strict=True):
        for name in names if run.id in shown else ():
            if name in run.metrics:
                steps, _, values = read_metric(RunFolder(runs_root / run.id), name)
                if len(steps) > (0 if run.failure or run.stopped_early or run.id == champion else 1):
                    curves[name].append(learning_curve(point, steps, values))
    return tuple(LearningCurves(metric=name, curves=tuple(found)) for name, found in curves.items() if found)
