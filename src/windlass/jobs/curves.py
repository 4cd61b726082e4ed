"""A run's learning curve, while its job writes it and afterwards."""

from __future__ import annotations

import math
from bisect import bisect_left
from operator import itemgetter
from pathlib import Path

from windlass.runs.folder import RunFolder
from windlass.runs.reader import LONG, read_journal, read_metric

Points = list[tuple[float, float]]  #: (step, value); steps strictly ascending, values may be NaN

_step = itemgetter(0)


class Curve:
    """One metric of a run that goes on. Of several values at one step, the last that came counts.

    ``grow`` reads only what the journal has gained, and costs one ``stat`` where that is nothing. A line that is not
    whole yet waits for its rest; a later attempt takes an earlier one's place from its first step on.
    """

    def __init__(self, run: RunFolder | Path, metric: str) -> None:
        self.points: Points = []
        self._folder = run if isinstance(run, RunFolder) else RunFolder(run)
        self._metric = metric
        self._size = 0  #: bytes of the journal at the last look
        self._offset = 0  #: behind the last line read
        self._attempt = 1
        self._arrived = 0  #: points so far, where steps without a number go on

    def grow(self) -> bool:
        """Whether there are new points. A journal that cannot be read is tried again the next time."""
        try:
            size = self._folder.journal_file.stat().st_size
            if size == self._size:
                return False
            found = read_journal(self._folder, self._offset, self._attempt, self._metric, {self._metric: self._arrived})
        except OSError:
            return False
        self._size, self._offset = size, found.offset
        series = found.series.get(self._metric)
        if series is not None:
            for step, value, attempt in zip(series.steps, series.values, series.attempts, strict=True):
                self._take(step, value, attempt)
            self._arrived += len(series.steps)
        self._attempt = found.attempt
        return series is not None

    def _take(self, step: float, value: float, attempt: int) -> None:
        if not math.isfinite(step):
            return
        place = bisect_left(self.points, step, key=_step)
        if attempt > self._attempt:
            self._attempt = attempt
            del self.points[place:]
        known = place < len(self.points) and self.points[place][0] == step
        self.points[place : place + known] = [(step, value)]


def read_curve(run: RunFolder | Path, metric: str) -> Points:
    """The whole curve of a run that has ended; empty where it has none, or cannot be read."""
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    try:
        if folder.journal_file.stat().st_size < LONG:
            curve = Curve(folder, metric)
            curve.grow()
            return curve.points
        steps, _, values = read_metric(folder, metric)
    except OSError:
        return []
    by_step = dict(zip(steps.tolist(), values.tolist(), strict=True))
    return [(step, value) for step, value in by_step.items() if math.isfinite(step)]
