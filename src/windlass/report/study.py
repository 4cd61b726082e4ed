"""The report of a study: what it found, how it went, what failed, and how to get there again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from windlass.records.decision import Decision, StudyRecord
from windlass.records.ranking import ranked
from windlass.records.run import FailureKind, RunRecord, Status
from windlass.records.study import Study
from windlass.report.figures import (
    LearningCurve,
    LearningCurves,
    OptimisationHistory,
    Timeline,
    Tradeoff,
    learning_curve,
    optimisation_history,
    run_points,
    timeline,
    tradeoff,
)
from windlass.report.parameters import ParallelCoordinates, ParameterEffect, parallel_coordinates, parameter_effects
from windlass.report.tables import run_dict
from windlass.runs.compare import MetricDelta, metric_delta
from windlass.runs.folder import RunFolder
from windlass.runs.text import number

CURVES_OF_BEST, CURVES_OF_FAILED = 20, 8  #: runs whose learning curves are read and shown
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

    @cached_property
    def ranked(self) -> tuple[RunRecord, ...]:
        """Completed runs with a score that keep all guards, best first."""
        return tuple(ranked(self.study, self.runs))

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
            if not decision.approved:
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
    def tradeoff(self) -> Tradeoff | None:
        return tradeoff(self.study, self.runs)

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
        }


def study_report(
    study: Study,
    runs: Sequence[RunRecord],
    decisions: Sequence[Decision],
    record: StudyRecord,
    runs_root: Path,
) -> StudyReport:
    """``runs_root`` holds the run folders; learning curves are read from there."""
    return StudyReport(
        study=study,
        record=record,
        runs=tuple(sorted(runs, key=lambda run: (run.number is None, run.number or 0, run.created, run.id))),
        decisions=tuple(sorted(decisions, key=lambda decision: decision.number)),
        runs_root=runs_root,
    )


def objective_words(study: Study, run: RunRecord) -> str:
    """``auc 0.9934, log_loss 0.041``."""
    values = run.values
    return ", ".join(f"{o.metric} {number(values.get(o.metric))}" for o in study.objectives)


def _rule(verdict: str) -> str:
    """The rule that a verdict names: ``rejected by 'splits sum to 1': …``."""
    match = re.match(r"rejected by (['\"])(.+?)\1", verdict)
    return match[2] if match else verdict.partition(":")[0]


def _curves(
    study: Study, runs: Sequence[RunRecord], best: Sequence[RunRecord], runs_root: Path
) -> tuple[LearningCurves, ...]:
    from windlass.runs.reader import read_metric

    failed = [run for run in runs if run.status is Status.FAILED]
    shown = {run.id: run for run in (*best[:CURVES_OF_BEST], *failed[:CURVES_OF_FAILED])}
    frequency = Counter(
        name
        for run in shown.values()
        for name, summary in run.metrics.items()
        if summary.count > 1 and not name.startswith("system/")
    )
    objectives = {objective.metric for objective in study.objectives}

    def order(name: str) -> tuple[bool, bool, int, str]:
        akin = any(name.endswith(objective) for objective in objectives)
        return name not in objectives, not akin, -frequency[name], name

    names = sorted(frequency, key=order)[:CURVE_METRICS]
    if not names:
        return ()
    champion = best[0].id if best else None
    curves: dict[str, list[LearningCurve]] = {name: [] for name in names}
    for run, point in zip(runs, run_points(study, runs), strict=True):
        for name in names if run.id in shown else ():
            if name in run.metrics:
                steps, _, values = read_metric(RunFolder(runs_root / run.id), name)
                if len(steps) > (0 if run.failure or run.id == champion else 1):
                    curves[name].append(learning_curve(point, steps, values))
    return tuple(LearningCurves(metric=name, curves=tuple(found)) for name, found in curves.items() if found)
