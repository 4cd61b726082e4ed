"""Early stopping: the curves of running runs are looked at as they grow, and hopeless runs are ended.

``history.curves`` judges, the executor ends; here is what lies between. All that is known follows from run folders, so
a lab that was killed goes on where it was: a stop is on record in the folder before the job hears of it, and whoever
takes the run over sends the signal again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from statistics import median_low

from windlass.history.curves import Course, extrapolate, verdict
from windlass.jobs.curves import Curve, read_curve
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
        self._courses: dict[str, Course] = {}  #: of running runs, as far as they have grown
        self._whole: dict[str, Course] = {}  #: of completed and stopped runs; never change again
        self._finished: dict[str, dict[str, Course]] = {}  #: of completed runs: metric -> curve to its end
        self._left_alone: set[str] = set()  #: asked to end already, or repeats
        self._partial: dict[str, Partial] = {}  #: of stopped runs, as far as ``_completed`` tell
        self._completed: frozenset[str] = frozenset()

    def look(self, runs: Iterable[RunRecord]) -> dict[str, EarlyStop]:
        """Read what the curves of the running among ``runs`` (a study's history) have gained, and end the hopeless.

        Returns what was stopped, by run id; the runs' ENDED events follow. A run is judged whenever it has a new point
        from ``from_step`` on, against the runs that completed or were stopped and the others that still run. Two are
        left alone: repeats of a config, which without its unlucky runs would look better than it is; and a run that
        came as far as completed ones usually go, since there is nothing left to save.

        A stop that cannot be written down, on a full disk say, does not happen; the next point asks again.
        """
        rule, runs = self._rule, list(runs)
        if rule is None or self._executor is None:
            return {}
        fresh = [run for run in runs if run.status is Status.RUNNING and self._grows(run.id)]
        due = [run for run in fresh if run.id not in self._left_alone and self._courses[run.id].reaches(rule.from_step)]
        if not due:
            return {}
        curves, first_runs = self._curves(runs), _first_runs(runs)
        end = _usual_end(runs, curves)
        stopped: dict[str, EarlyStop] = {}
        for run in due:
            if run.id not in first_runs or curves[run.id].reaches(end):
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
        if not stopped or self._rule is None:
            return {}
        if completed != self._completed:
            self._completed, self._partial = completed, {}
        if new := [run_id for run_id in stopped if run_id not in self._partial]:
            curves = self._curves(runs)
            metrics = self._study.required_metrics
            for run in runs:
                if run.id in completed and run.id not in self._finished:
                    self._finished[run.id] = {name: finished(run, name, curves[run.id]) for name in metrics}
            whole = {name: [self._finished[run.id][name] for run in runs if run.id in completed] for name in metrics}
            self._partial.update({run_id: partial_values(curves[run_id], whole) for run_id in new})
        return {run_id: self._partial[run_id] for run_id in stopped if self._partial[run_id]}

    def _grows(self, run_id: str) -> bool:
        """Whether a running run has new points; its course then has them."""
        if run_id not in self._growing:
            self._growing[run_id] = Curve(self._runs_root / run_id, self._metric)
        if not self._growing[run_id].grow():
            return False
        self._courses[run_id] = Course(self._growing[run_id].points)
        return True

    def _curves(self, runs: Iterable[RunRecord]) -> dict[str, Course]:
        """By run id, in the order of ``runs``: of those that run and have points, completed or were stopped."""
        curves: dict[str, Course] = {}
        for run in runs:
            if run.status.terminal:
                self._growing.pop(run.id, None)
                self._courses.pop(run.id, None)
            if run.id in self._courses:
                curves[run.id] = self._courses[run.id]
            elif run.status in (Status.COMPLETED, Status.STOPPED):
                if run.id not in self._whole:
                    self._whole[run.id] = Course(read_curve(self._runs_root / run.id, self._metric))
                curves[run.id] = self._whole[run.id]
        return curves


def judge(rule: EarlyStopping, run_id: str, curves: Mapping[str, Course]) -> EarlyStop | None:
    """The rule's verdict on one run among ``curves`` (by run id); None to let it go on.

    ``others`` in the evidence are the runs that were best at the judged step, with their values there.
    """
    own = curves[run_id]
    said = verdict(rule, own, [course for other, course in curves.items() if other != run_id])
    if not said.stop:
        return None
    judged = said.evidence["step"]  # a rung may lie before the last step
    reached = {
        other: course.values[course.place(judged)]
        for other, course in curves.items()
        if other != run_id and course.reaches(judged)
    }
    ascending = sorted(reached.items(), key=itemgetter(1))
    best = ascending[:NAMED] if rule.direction == "minimize" else ascending[: -NAMED - 1 : -1]
    return EarlyStop(
        metric=rule.metric,
        step=own.steps[-1],
        value=own.values[-1],
        rule=rule.rule,
        reason=said.reason,
        evidence={**said.evidence, "others": dict(best)},
    )


def partial_values(curve: Course, complete: Mapping[str, Sequence[Course]]) -> Partial:
    """What a stopped run would have come to: metric -> (value, sd), as far as the curves tell.

    ``complete``: metric -> the curves of completed runs, each with the run's final value of that metric at its end.
    """
    finals = {name: extrapolate(curve, courses) for name, courses in complete.items()}
    return {name: final for name, final in finals.items() if final is not None}


def finished(run: RunRecord, metric: str, curve: Course) -> Course:
    """A completed run's curve that ends in the run's final value of ``metric``, as its result says it."""
    final = run.values.get(metric, math.nan)
    if not curve.steps or not math.isfinite(final) or final == curve.values[-1]:
        return curve
    return Course([*zip(curve.steps[:-1], curve.values[:-1], strict=True), (curve.steps[-1], final)])


def _usual_end(runs: Iterable[RunRecord], curves: Mapping[str, Course]) -> float:
    """The median of the last steps of completed runs; infinite without one."""
    ends = [curves[run.id].steps[-1] for run in runs if run.status is Status.COMPLETED and curves[run.id].steps]
    return median_low(ends) if ends else math.inf


def _first_runs(runs: Iterable[RunRecord]) -> set[str]:
    """Ids of the runs that are no repeats: the first one of each config."""
    first: dict[str, str] = {}
    for run in sorted(runs, key=lambda run: (run.number or 0, run.id)):
        first.setdefault(run.fingerprints.get("config") or digest(run.config), run.id)
    return set(first.values())
