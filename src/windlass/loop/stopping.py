"""Early stopping: the curves of running runs are looked at as they grow, and hopeless runs are ended.

``history.curves`` judges, the executor ends; here is what lies between. All that is known follows from run folders, so
a lab that was killed goes on where it was: a stop is on record in the folder before the job hears of it, and whoever
takes the run over sends the signal again.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

from windlass.history.curves import extrapolate, verdict
from windlass.jobs.curves import Curve, Points, read_curve
from windlass.jobs.protocol import Executor
from windlass.records.content import digest
from windlass.records.deciding import EarlyStopping
from windlass.records.run import EarlyStop, RunRecord, Status
from windlass.records.study import Study

NAMED = 20  #: runs that the evidence names

Partial = dict[str, tuple[float, float]]  #: metric -> expected final value, and its standard deviation


class EarlyStopper:
    """Ends the hopeless among one study's running runs; does nothing where the study does not ask for it."""

    def __init__(self, study: Study, runs_root: Path, executor: Executor | None = None) -> None:
        """Without an executor it stops nothing and tells what stopped runs would have come to."""
        self._study = study
        self._rule = study.early_stopping
        self._metric = study.early_stopping.metric if study.early_stopping is not None else ""
        self._runs_root = runs_root
        self._executor = executor
        self._growing: dict[str, Curve] = {}  #: of running runs
        self._whole: dict[str, Points] = {}  #: of completed and stopped runs; never change again
        self._left_alone: set[str] = set()  #: asked to end already, or repeats
        self._partial: dict[str, Partial] = {}  #: of stopped runs, as far as ``_completed`` tell
        self._completed: frozenset[str] = frozenset()

    def look(self, runs: Iterable[RunRecord]) -> dict[str, EarlyStop]:
        """Read what the curves of the running among ``runs`` (a study's history) have gained, and end the hopeless.

        Returns what was stopped, by run id; the runs' ENDED events follow. A run is judged whenever it has a new point
        from ``from_step`` on, against the runs that completed or were stopped and the others that still run. Repeats
        of a config are left alone: without its unlucky runs, a config would look better than it is.

        A stop that cannot be written down, on a full disk say, does not happen; the next point asks again.
        """
        rule, runs = self._rule, list(runs)
        if rule is None or self._executor is None:
            return {}
        fresh = [run for run in runs if run.status is Status.RUNNING and self._curve(run).grow()]
        due = [
            run for run in fresh if run.id not in self._left_alone and _reached(self._curve(run).points, rule.from_step)
        ]
        if not due:
            return {}
        curves, first_runs = self._curves(runs), _first_runs(runs)
        stopped: dict[str, EarlyStop] = {}
        for run in due:
            if run.id not in first_runs:
                self._left_alone.add(run.id)
            elif (why := judge(rule, run.id, curves)) is not None:
                try:
                    first = self._executor.stop(run.id, why)
                except OSError:
                    continue
                self._left_alone.add(run.id)
                if first:
                    stopped[run.id] = why
        return stopped

    def partial_values(self, runs: Iterable[RunRecord]) -> dict[str, Partial]:
        """What the stopped among ``runs`` would have come to, by run id; see ``partial_values`` below.

        Learned from the curves of the completed ones. Runs of which nothing can be said are left out.
        """
        runs = list(runs)
        completed = frozenset(run.id for run in runs if run.status is Status.COMPLETED)
        stopped = [run.id for run in runs if run.status is Status.STOPPED]
        if not stopped or self._metric not in self._study.required_metrics:
            return {}
        if completed != self._completed:
            self._completed, self._partial = completed, {}
        if new := [run_id for run_id in stopped if run_id not in self._partial]:
            curves = self._curves(runs)
            whole = [finished(run, self._metric, curves[run.id]) for run in runs if run.id in completed]
            self._partial.update({run_id: partial_values(self._study, curves[run_id], whole) for run_id in new})
        return {run_id: self._partial[run_id] for run_id in stopped if self._partial[run_id]}

    def _curve(self, run: RunRecord) -> Curve:
        """Of a running run."""
        if run.id not in self._growing:
            self._growing[run.id] = Curve(self._runs_root / run.id, self._metric)
        return self._growing[run.id]

    def _curves(self, runs: Iterable[RunRecord]) -> dict[str, Points]:
        """By run id, in the order of ``runs``: of those that run, completed or were stopped."""
        curves: dict[str, Points] = {}
        for run in runs:
            if run.status is Status.RUNNING:
                curves[run.id] = self._curve(run).points
            elif run.status in (Status.COMPLETED, Status.STOPPED):
                if run.id not in self._whole:
                    self._whole[run.id] = read_curve(self._runs_root / run.id, self._metric)
                curves[run.id] = self._whole[run.id]
            if run.status.terminal:
                self._growing.pop(run.id, None)
        return curves


def judge(rule: EarlyStopping, run_id: str, curves: Mapping[str, Points]) -> EarlyStop | None:
    """The rule's verdict on one run among ``curves`` (by run id); None to let it go on.

    ``others`` in the evidence are the runs that were best at the judged step, with their values there.
    """
    own = curves[run_id]
    others = {other: points for other, points in curves.items() if other != run_id and points}
    said = verdict(rule, own, list(others.values()))
    if not said.stop:
        return None
    step, value = own[-1]
    judged = said.evidence.get("step", step)  # a rung may lie before the last step
    reached = {other: value_at(points, judged) for other, points in others.items() if _reached(points, judged)}
    ascending = sorted((item for item in reached.items() if math.isfinite(item[1])), key=itemgetter(1))
    best = ascending[:NAMED] if rule.direction == "minimize" else ascending[: -NAMED - 1 : -1]
    return EarlyStop(
        metric=rule.metric,
        step=step,
        value=value,
        rule=rule.rule,
        reason=said.reason,
        evidence={**said.evidence, "others": dict(best)},
    )


def partial_values(study: Study, curve: Points, complete: Sequence[Points]) -> Partial:
    """What a stopped run would have come to: metric -> (value, sd), from its curve and those of completed runs.

    Empty where the metric of early stopping is no objective or guard, or the curves do not tell.
    """
    rule = study.early_stopping
    if rule is None or rule.metric not in study.required_metrics or not curve:
        return {}
    final = extrapolate(curve, complete)
    return {} if final is None else {rule.metric: final}


def finished(run: RunRecord, metric: str, curve: Points) -> Points:
    """A completed run's curve that ends in the run's final value, which its result may have said anew."""
    final = run.values.get(metric, math.nan)
    return [*curve[:-1], (curve[-1][0], final)] if curve and math.isfinite(final) else curve


def value_at(points: Points, step: float) -> float:
    """The last value up to ``step``; NaN before the first."""
    place = bisect_right(points, step, key=itemgetter(0))
    return points[place - 1][1] if place else math.nan


def _reached(points: Points, step: float) -> bool:
    return bool(points) and points[-1][0] >= step


def _first_runs(runs: Iterable[RunRecord]) -> set[str]:
    """Ids of the runs that are no repeats: the first one of each config."""
    first: dict[str, str] = {}
    for run in sorted(runs, key=lambda run: (run.number or 0, run.id)):
        first.setdefault(run.fingerprints.get("config") or digest(run.config), run.id)
    return set(first.values())
