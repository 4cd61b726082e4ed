"""How a study is getting on: best, improvement, failures. Pure functions over run records."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from windlass.records.lessons import Progress
from windlass.records.ranking import Standing, standings
from windlass.records.run import RunRecord, Status
from windlass.records.study import Study

RECENT = 6  #: settled runs that "recent" looks at


def review(study: Study, history: Sequence[RunRecord], noise_sd: float | None = None) -> Progress:
    """Sum up ``history``; the order of its runs does not matter.

    ``noise_sd``: spread of the score between runs of one config, for where repeats do not tell it.
    """
    ordered = sorted(history, key=lambda run: (run.number or 0, run.id))
    settled = [run for run in ordered if run.status.terminal and run.status is not Status.CANCELLED]
    placed = standings(study, settled)
    noise = noise_of(placed)
    recent = settled[-RECENT:]
    return Progress(
        settled=len(settled),
        active=sum(not run.status.terminal for run in ordered),
        completed=sum(run.status is Status.COMPLETED for run in settled),
        failures=dict(Counter(run.failure.kind for run in settled if run.failure is not None)),
        standings=tuple(placed),
        best_score=placed[0].score if placed else None,
        since_improvement=_since_improvement(study, settled, placed, noise_sd if noise is None else noise),
        recent_failure_share=sum(run.status is Status.FAILED for run in recent) / len(recent) if recent else 0.0,
    )


def noise_of(placed: Sequence[Standing]) -> float | None:
    """``records.ranking.repeat_noise``, read off the standings; None while no config has two results."""
    return next((one.error * math.sqrt(len(one.runs)) for one in placed if len(one.runs) > 1), None)


def improvement_margin(study: Study, noise_sd: float | None) -> float:
    """What a config's mean score has to gain on the best before it, to count as an improvement."""
    wanted = study.stop.stagnation.min_improvement if study.stop.stagnation else 0.0
    return max(wanted, noise_sd or 0.0)


def _since_improvement(
    study: Study, settled: Sequence[RunRecord], placed: Sequence[Standing], noise_sd: float | None
) -> int:
    """Settled runs after the first run of the last config whose mean beat the reference by the margin.

    The reference is the mean of the last such config, so many small gains add up to an improvement, and all runs of a
    config count: a lucky first run does not stay in the way of what comes after it.
    """
    margin = improvement_margin(study, noise_sd)
    means = {one.run.id: one.mean for one in placed}
    reference, since = -math.inf, 0
    for run in settled:
        since += 1
        if means.get(run.id, -math.inf) > reference + margin:
            reference, since = means[run.id], 0
    return since


def stop_reason(study: Study, progress: Progress) -> str | None:
    """Why the results say to stop: target reached or stagnation; None to go on."""
    for run in progress.ranked:
        if study.reached_target(run.values):
            wanted = ", ".join(f"{metric} {value:g}" for metric, value in study.stop.target.items())
            return f"target reached: run {run.id} has {wanted}"
    rule = study.stop.stagnation
    if rule and progress.settled > rule.runs and progress.since_improvement >= rule.runs:
        noise = noise_of(progress.standings)
        above = f"{improvement_margin(study, noise):g}" + (f" (noise {noise:g})" if noise else "")
        return f"stagnation: {progress.since_improvement} settled runs without an improvement above {above}"
    return None
