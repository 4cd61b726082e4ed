"""How the scores move, and whether the search still gets anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from windlass.history.progress import improvement_margin, noise_of, review
from windlass.records.lessons import Progress, Stagnation, Trend
from windlass.records.ranking import counted_score
from windlass.records.run import RunRecord, Status
from windlass.records.study import Study

WINDOW = 20  #: results that the trend is taken from
FEWEST = 5  #: results without which there is none
PATIENCE = 10  #: settled runs without an improvement that are stagnation where the study does not say how many
Z90 = 1.644854


def trend(study: Study, runs: Sequence[RunRecord]) -> Trend | None:
    """Theil-Sen slope of the last ``WINDOW`` scores over their order, with Sen's (1968) 90 % interval.

    None with fewer than ``FEWEST`` scores.
    """
    ordered = sorted(runs, key=lambda run: (run.number or 0, run.id))
    scores = [score for run in ordered if (score := counted_score(study, run)) is not None]
    return trend_of(scores)


def trend_of(scores: Sequence[float]) -> Trend | None:
    """The same of scores in order."""
    y = np.array(scores[-WINDOW:])
    n = len(y)
    if n < FEWEST:
        return None
    first, second = np.triu_indices(n, 1)
    slopes = np.sort((y[second] - y[first]) / (second - first))
    ties = np.unique(y, return_counts=True)[1]
    variance = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    reach = Z90 * math.sqrt(max(variance, 0.0))
    pairs = len(slopes)
    low = max(0, math.floor((pairs - reach) / 2))
    high = min(pairs - 1, math.ceil((pairs + reach) / 2))
    return Trend(slope=float(np.median(slopes)), low=float(slopes[low]), high=float(slopes[high]), runs=n)


def stagnation(
    study: Study, runs: Sequence[RunRecord], noise_sd: float | None = None, progress: Progress | None = None
) -> Stagnation:
    """Whether too many runs passed since the last improvement that is more than noise.

    Too many are the study's ``stop.stagnation.runs``, or ``PATIENCE`` and a fifth of all runs where that is more: the
    best of n draws gets harder to beat as n grows. ``noise_sd`` serves where repeats do not tell the noise.
    ``progress``: the review of ``runs``, where it is at hand.
    """
    progress = progress or review(study, runs, noise_sd)
    measured = noise_of(progress.standings)
    noise = noise_sd if measured is None else measured
    rule = study.stop.stagnation
    patience = rule.runs if rule else max(PATIENCE, math.ceil(progress.settled / 5))
    since = progress.since_improvement
    stagnant = progress.settled > patience and since >= patience
    margin = improvement_margin(study, noise)
    told = "unknown" if noise is None else f"{noise:.3g} {'between repeats' if measured is not None else 'as modelled'}"
    if progress.best is None:
        what = f"none of {progress.settled} settled runs has a result that counts"
    else:
        what = f"{since} settled runs since the best score last rose by more than {margin:.3g}"
    reason = f"{what}; the noise is {told}; {patience} such runs are stagnation"
    if since and (gap := _shortfall(runs, progress, since)) is not None:
        reason += f"; the best of them is {gap:.3g} below the best config" + (
            f", {gap / noise:.1f} times the noise" if noise else ""
        )
    return Stagnation(stagnant=stagnant, since_improvement=since, noise_sd=noise, reason=reason)


def _shortfall(runs: Sequence[RunRecord], progress: Progress, since: int) -> float | None:
    """How far the best new config among the last ``since`` settled runs is below the best of the others, by means."""
    settled = [run for run in runs if run.status.terminal and run.status is not Status.CANCELLED]
    settled.sort(key=lambda run: (run.number or 0, run.id))
    recent = {run.id for run in settled[-since:]}
    new = [one.mean for one in progress.standings if one.run.id in recent]
    old = [one.mean for one in progress.standings if one.run.id not in recent]
    return max(old) - max(new) if new and old else None
