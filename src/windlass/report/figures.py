"""The data of every figure, made once from records; ``plots`` draws it with plotly, ``terminal`` as text.

Pure functions. Runs come in the order of their numbers; a run without a number gets the next free one. A value that is
absent or not finite is NaN here, and drawn as a failure, never as a number.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from windlass.records.ranking import counted_score
from windlass.records.run import RunRecord, Status
from windlass.records.study import Objective, Study
from windlass.runs.text import number, show


class State(StrEnum):
    """What a run counts as in a figure."""

    COMPLETED = "completed"
    GUARD_BROKEN = "guard broken"  #: completed, but a guard metric is out of its bounds
    FAILED = "failed"
    STOPPED = "stopped early"  #: by the lab: its learning curve showed no hope
    CANCELLED = "cancelled"
    ACTIVE = "active"  #: pending, queued or running


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPoint:
    """A run as figures show it."""

    id: str
    number: int
    state: State
    label: str  #: plain text of several lines: id, ending, objectives, parameters

    @property
    def counts(self) -> bool:
        """Whether its results may be best."""
        return self.state is State.COMPLETED


def run_points(study: Study, runs: Sequence[RunRecord]) -> tuple[RunPoint, ...]:
    free = max((run.number or 0 for run in runs), default=0)
    points = []
    for run in runs:
        place = run.number
        if place is None:
            free += 1
            place = free
        points.append(RunPoint(id=run.id, number=place, state=_state(study, run), label=_label(study, run, place)))
    return tuple(points)


def _state(study: Study, run: RunRecord) -> State:
    if run.status is Status.COMPLETED:
        return State.GUARD_BROKEN if study.broken_guards(run.values) else State.COMPLETED
    ended = {Status.FAILED: State.FAILED, Status.STOPPED: State.STOPPED, Status.CANCELLED: State.CANCELLED}
    return ended.get(run.status, State.ACTIVE)


def _label(study: Study, run: RunRecord, place: int) -> str:
    ending = f"failed: {run.failure.kind}" if run.failure else str(run.status)
    lines = [f"#{place} {ending}", run.id]
    lines += [f"{name} {number(run.metrics[name].last)}" for name in study.required_metrics if name in run.metrics]
    params = run.params
    lines += [f"{name} = {show(params[name])}" for name in study.space if name in params]
    return "\n".join(lines[:24])


def objective_values(metric: str, runs: Sequence[RunRecord]) -> np.ndarray:
    """Shape (len(runs),); NaN where a run did not complete or the metric is absent or not finite."""
    nan = math.nan
    values = [r.metrics[metric].last if r.status is Status.COMPLETED and metric in r.metrics else nan for r in runs]
    array = np.array(values, dtype=float)
    return np.where(np.isfinite(array), array, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimisationHistory:
    """One objective over the runs. All arrays have the shape (runs,)."""

    metric: str
    direction: str
    points: tuple[RunPoint, ...]
    values: np.ndarray
    best: np.ndarray  #: best so far among runs that count; NaN before the first
    log: bool  #: whether the values span so much that a log scale reads better


def optimisation_history(study: Study, metric: str, runs: Sequence[RunRecord]) -> OptimisationHistory:
    points, values = run_points(study, runs), objective_values(metric, runs)
    direction = next(o.direction for o in study.objectives if o.metric == metric)
    eligible = np.where([point.counts for point in points], values, np.nan) if points else values
    better = np.fmax if direction == "maximize" else np.fmin
    best = better.accumulate(eligible) if len(eligible) else eligible
    return OptimisationHistory(
        metric=metric, direction=direction, points=points, values=values, best=best, log=is_wide(values)
    )


def is_wide(values: np.ndarray) -> bool:
    """Whether positive values span more than a factor of 10."""
    finite = values[np.isfinite(values)]
    return len(finite) > 2 and bool((finite > 0).all() and finite.max() > 10 * finite.min())


def jitter(count: int) -> np.ndarray:
    """A fixed spread in -0.5 to 0.5, shape (count,): the same figure every time."""
    return np.asarray((np.arange(count) * 0.6180339887498949 % 1) - 0.5)


def target_values(study: Study, runs: Sequence[RunRecord]) -> tuple[str, np.ndarray]:
    """What parameters act on: the one objective, or the score where there are several; name and shape (runs,)."""
    if len(study.objectives) == 1:
        return study.objectives[0].metric, objective_values(study.objectives[0].metric, runs)
    scores = [study.score(run.values) if run.status is Status.COMPLETED else None for run in runs]
    return "score", np.array(scores, dtype=float)


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningCurve:
    point: RunPoint
    steps: np.ndarray  #: (points,)
    values: np.ndarray  #: (points,), finite
    diverged_at: float | None  #: first step with NaN or infinity


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningCurves:
    metric: str
    curves: tuple[LearningCurve, ...]


def learning_curve(point: RunPoint, steps: np.ndarray, values: np.ndarray, buckets: int = 100) -> LearningCurve:
    """``steps`` and ``values`` of shape (points,), by step; at most ``2 * buckets + 2`` points are kept."""
    finite = np.isfinite(values)
    kept_steps, kept = downsample(steps[finite], values[finite], buckets)
    diverged = float(steps[~finite][0]) if not finite.all() else None
    return LearningCurve(point=point, steps=kept_steps, values=kept, diverged_at=diverged)


def downsample(steps: np.ndarray, values: np.ndarray, buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest value of every bucket, and both ends: spikes survive. Shapes (n,) -> (m,) twice."""
    n = len(values)
    if n <= 2 * buckets + 2:
        return steps, values
    edges = np.linspace(0, n, buckets + 1).astype(int)
    keep = {0, n - 1}
    for start, end in itertools.pairwise(edges):
        part = values[start:end]
        keep |= {start + int(part.argmin()), start + int(part.argmax())}
    index = np.array(sorted(keep))
    return steps[index], values[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One run in its slot; times in seconds since the epoch."""

    point: RunPoint
    slot: int  #: from 0
    start: float
    end: float
    open: bool  #: still running: ``end`` is the last moment the study knows of


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    bars: tuple[Bar, ...]
    slots: int

    @property
    def busy_share(self) -> float | None:
        """Of the slots' time between the first start and the last end, how much ran; 0 to 1."""
        if not self.bars:
            return None
        span = (max(bar.end for bar in self.bars) - min(bar.start for bar in self.bars)) * self.slots
        return min(1.0, sum(bar.end - bar.start for bar in self.bars) / span) if span > 0 else None


def timeline(study: Study, runs: Sequence[RunRecord]) -> Timeline:
    """Runs that started, each in the first slot that is free at its start."""
    last = max((t for run in runs for t in (run.started, run.ended) if t is not None), default=0.0)
    started = [
        (run.started, point, run) for run, point in zip(runs, run_points(study, runs), strict=True) if run.started
    ]
    busy_until: list[float] = []
    bars = []
    for start, point, run in sorted(started, key=lambda item: (item[0], item[1].number)):
        end = max(start, run.ended if run.ended is not None else last)
        slot = next((i for i, until in enumerate(busy_until) if until <= start), len(busy_until))
        busy_until[slot : slot + 1] = [end if run.ended is not None else math.inf]
        bars.append(Bar(point=point, slot=slot, start=start, end=end, open=run.ended is None))
    return Timeline(bars=tuple(bars), slots=len(busy_until))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tradeoff:
    """Two objectives against each other. Arrays have the shape (runs,)."""

    metrics: tuple[str, str]
    directions: tuple[str, str]
    points: tuple[RunPoint, ...]
    x: np.ndarray
    y: np.ndarray
    front: tuple[int, ...]  #: indices of runs that no other counting run beats in both, by x


def tradeoffs(study: Study, runs: Sequence[RunRecord]) -> tuple[Tradeoff, ...]:
    """Each pair of the first three objectives; empty where the study has one."""
    return tuple(_tradeoff(study, pair, runs) for pair in itertools.combinations(study.objectives[:3], 2))


def _tradeoff(study: Study, pair: tuple[Objective, ...], runs: Sequence[RunRecord]) -> Tradeoff:
    first, second = pair
    points = run_points(study, runs)
    x, y = objective_values(first.metric, runs), objective_values(second.metric, runs)
    candidates = [
        (-first.gain(x[i]), -second.gain(y[i]), i)
        for i, point in enumerate(points)
        if point.counts and math.isfinite(x[i]) and math.isfinite(y[i])
    ]
    front, lowest = [], math.inf
    for _, loss, i in sorted(candidates):
        if loss < lowest:
            front.append(i)
            lowest = loss
    return Tradeoff(
        metrics=(first.metric, second.metric),
        directions=(first.direction, second.direction),
        points=points,
        x=x,
        y=y,
        front=tuple(sorted(front, key=lambda i: x[i])),
    )


def pareto_front(study: Study, runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Runs that count and that no other beats in one objective without losing in another; equal ones are all kept."""
    counted = [run for run in runs if counted_score(study, run) is not None]
    gains = np.array([[o.gain(run.values[o.metric]) for o in study.objectives] for run in counted])
    return [
        run
        for run, own in zip(counted, gains, strict=True)
        if not ((gains >= own).all(axis=1) & (gains > own).any(axis=1)).any()
    ]


def sparkline(values: Iterable[float], width: int = 48) -> str:
    """``▁▂▅▇``; NaN is a gap. The last value of each of ``width`` equal parts; a constant is a flat middle."""
    array = np.array(list(values), dtype=float)
    if len(array) > width:
        array = array[np.linspace(0, len(array) - 1, width).round().astype(int)]
    finite = array[np.isfinite(array)]
    if not len(finite):
        return ""
    low, span = finite.min(), np.ptp(finite)
    blocks = "▁▂▃▄▅▆▇█"
    return "".join(
        " " if not math.isfinite(v) else blocks[min(7, int(8 * (v - low) / span))] if span else "▄" for v in array
    )
