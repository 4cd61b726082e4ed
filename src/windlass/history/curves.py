"""Learning curves: which runs are hopeless, and where a stopped one would have ended. Pure functions.

A curve is a run's (step, value) pairs; points that are not finite are passed over (divergence is another rule).
Who judges by the same curves again and again keeps them as ``Course``: a judgement then costs microseconds a curve.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import median
from typing import Any

from windlass.records.deciding import EarlyStopping

Curve = Sequence[tuple[float, float]]

CURVES = 4  #: complete curves without which nothing is extrapolated


class Course:
    """A curve prepared: its finite points by step (of equal steps the latest arrival), and what they come to so far.

    Five arrays of equal length.
    """

    __slots__ = ("averages", "highest", "lowest", "steps", "values")

    def __init__(self, curve: Curve) -> None:
        points = sorted({step: value for step, value in curve if math.isfinite(step) and math.isfinite(value)}.items())
        self.steps = array("d", [step for step, _ in points])
        self.values = array("d", [value for _, value in points])
        self.averages = array("d", [total / n for n, total in enumerate(accumulate(self.values), start=1)])
        self.highest = array("d", accumulate(self.values, max))
        self.lowest = array("d", accumulate(self.values, min))

    def reaches(self, step: float) -> bool:
        return bool(self.steps) and self.steps[-1] >= step

    def place(self, step: float) -> int:
        """Index of the last point at or before ``step``; of the first one where there is none."""
        return max(0, bisect_right(self.steps, step) - 1)

    def best(self, step: float, direction: str) -> float:
        """The best value up to ``step``."""
        return (self.highest if direction == "maximize" else self.lowest)[self.place(step)]


def course(curve: Curve | Course) -> Course:
    return curve if isinstance(curve, Course) else Course(curve)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveVerdict:
    """Whether to stop a run, and why."""

    stop: bool
    reason: str  #: in words and numbers
    evidence: Mapping[str, Any] = field(default_factory=dict)  #: numbers


def verdict(rule: EarlyStopping, curve: Curve | Course, others: Sequence[Curve | Course]) -> CurveVerdict:
    """Whether the run of ``curve`` is hopeless beside ``others``: complete curves, or such that are still growing.

    median: its best value so far is worse than the median, over the others that came as far, of their averages up to
    the same step (Golovin et al. 2017, section 3.2.2). halving: at the last rung it reached (``from_step * factor^k``)
    its best value is not in the best ``1 / factor`` of all that reached the rung (asynchronous successive halving,
    Li et al. 2020). Neither judges before ``from_step``, nor by fewer than ``rule.runs`` other curves.
    """
    own = course(curve)
    if not own.reaches(rule.from_step):
        reached = f"step {own.steps[-1]:g}" if own.steps else "no finite value"
        return CurveVerdict(stop=False, reason=f"{reached}; judged from step {rule.from_step:g} on")
    step = own.steps[-1] if rule.rule == "median" else _rung(rule, own.steps[-1])
    peers = [peer for one in others if (peer := course(one)).reaches(step)]
    if len(peers) < rule.runs:
        return CurveVerdict(
            stop=False,
            reason=f"{len(peers)} other curves reach step {step:g}; {rule.runs} are needed",
            evidence={"step": step, "curves": len(peers)},
        )
    turn = 1.0 if rule.direction == "maximize" else -1.0
    best = turn * own.best(step, rule.direction)
    if rule.rule == "median":
        return _by_median(rule, best, turn, step, peers)
    return _by_halving(rule, best, turn, step, peers)


def _by_median(rule: EarlyStopping, best: float, turn: float, step: float, peers: Sequence[Course]) -> CurveVerdict:
    averages = [peer.averages[peer.place(step)] for peer in peers]
    middle = turn * median(turn * average for average in averages)
    stop = best < turn * middle
    return CurveVerdict(
        stop=stop,
        reason=f"best {rule.metric} up to step {step:g} is {turn * best:.6g}, {'worse than' if stop else 'as good as'}"
        f" {middle:.6g}, the median of {len(averages)} runs' averages up to there",
        evidence={"step": step, "best": turn * best, "median": middle, "curves": len(averages)},
    )


def _by_halving(rule: EarlyStopping, best: float, turn: float, step: float, peers: Sequence[Course]) -> CurveVerdict:
    reached = sorted((turn * peer.best(step, rule.direction) for peer in peers), reverse=True)
    place = 1 + sum(other > best for other in reached)
    kept = math.ceil((len(reached) + 1) / rule.factor)
    stop = place > kept
    return CurveVerdict(
        stop=stop,
        reason=f"best {rule.metric} up to step {step:g} is {turn * best:.6g}, place {place} of {len(reached) + 1} runs"
        f" that reached it; the first {kept} go on",
        evidence={
            "step": step,
            "best": turn * best,
            "place": place,
            "kept": kept,
            "curves": len(reached),
            "needed": turn * reached[kept - 1],
        },
    )


def extrapolate(partial: Curve | Course, complete: Sequence[Curve | Course]) -> tuple[float, float] | None:
    """The last value that a stopped run would have had, and the standard error of that guess.

    Least squares of the complete curves' last values on their values at the last step of ``partial`` (the latest at or
    before it), with the error of a new observation. None with fewer than four complete curves that go beyond that step
    and have a value by then.
    """
    own = course(partial)
    if not own.steps:
        return None
    step, at = own.steps[-1], own.values[-1]
    pairs = [
        (peer.values[peer.place(step)], peer.values[-1])
        for one in complete
        if (peer := course(one)).steps and peer.steps[0] <= step < peer.steps[-1]
    ]
    n = len(pairs)
    if n < CURVES:
        return None
    x_mean, y_mean = (math.fsum(pair[i] for pair in pairs) / n for i in (0, 1))
    spread = math.fsum((x - x_mean) ** 2 for x, _ in pairs)
    level = spread <= 1e-24 * max(1.0, x_mean * x_mean) * n
    slope = 0.0 if level else math.fsum((x - x_mean) * (y - y_mean) for x, y in pairs) / spread
    left = math.fsum((y - y_mean - slope * (x - x_mean)) ** 2 for x, y in pairs)
    variance = left / (n - 2) * (1 + 1 / n + (0.0 if level else (at - x_mean) ** 2 / spread))
    return y_mean + slope * (at - x_mean), math.sqrt(variance)


def _rung(rule: EarlyStopping, step: float) -> float:
    """The last rung at or before ``step``, which is not before the first."""
    rung = rule.from_step or min(1.0, step)
    while 0 < rung * rule.factor <= step:
        rung *= rule.factor
    return rung
