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
from windlass.records.run import EarlyStop, RunRecord, Status
from windlass.records.study import Study

NAMED = 20  #: runs that the evidence names, the best ones at that step


class EarlyStopper:
    """Ends the hopeless among one study's running runs; does nothing where the study does not ask for it."""

    def __init__(self, study: Study, runs_root: Path, executor: Executor) -> None:
        self._study = study
        self._rule = study.early_stopping
        self._runs_root = runs_root
        self._executor = executor
        self._growing: dict[str, Curve] = {}  #: of running runs
        self._whole: dict[str, Points] = {}  #: of completed and stopped runs; never change again
        self._left_alone: set[str] = set()  #: asked to end already, or repeats
        self._partial: tuple[frozenset[str], dict[str, tuple[float, float]]] = (frozenset(), {})

    def look(self, runs: Iterable[RunRecord]) -> dict[str, EarlyStop]:
        """Read what the curves of the running among ``runs`` (a study's history) have gained, and end the hopeless.

        Returns what was stopped, by run id; the runs' ENDED events follow. A run is judged whenever it has a new point
        from ``from_step`` on, against the runs that completed or were stopped and the others that still run. Repeats
        of a config are left alone: without its unlucky runs, a config would look better than it is.

        A stop that cannot be written down, on a full disk say, does not happen; the next point asks again.
        """
        if self._rule is None:
            return {}
        runs = list(runs)
        fresh = [run for run in runs if run.status is Status.RUNNING and self._curve(run).grow()]
        due = [run for run in fresh if run.id not in self._left_alone and self._came_far(run)]
        if not due:
            return {}
        curves = self._curves(runs)
        stopped: dict[str, EarlyStop] = {}
        for run in due:
            if _repeats(run, runs):
                self._left_alone.add(run.id)
            elif (why := self._judge(run, curves)) is not None:
                try:
                    first = self._executor.stop(run.id, why)
                except OSError:
                    continue
                self._left_alone.add(run.id)
                if first:
                    stopped[run.id] = why
        return stopped

    def partial_values(self, runs: Iterable[RunRecord]) -> dict[str, dict[str, tuple[float, float]]]:
        """For each stopped run, what its metric would have come to: run id -> metric -> (value, sd).

        Empty where the metric is no objective or guard, or too few runs have completed to tell.
        """
        if self._rule is None or self._rule.metric not in self._study.required_metrics:
            return {}
        runs = list(runs)
        completed = {run.id: run for run in runs if run.status is Status.COMPLETED}
        if self._partial[0] != completed.keys():
            self._partial = (frozenset(completed), {})
        known = self._partial[1]
        curves = self._curves(runs)
        ...

    def _curve(self, run: RunRecord) -> Curve:
        assert self._rule is not None
        if run.id not in self._growing:
            self._growing[run.id] = Curve(self._runs_root / run.id, self._rule.metric)
        return self._growing[run.id]
