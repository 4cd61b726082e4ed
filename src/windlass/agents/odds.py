"""What a forecast means for this study: the chances of a run, and the time that is left for it."""

from __future__ import annotations

import math
from bisect import bisect_right

from windlass.agents.situation import Situation
from windlass.records.forecast import Forecast, Prediction


def chance_above(prediction: Prediction, level: float) -> float:
    """P(observation > ``level``): a normal distribution, stretched piecewise to meet the five percentiles."""
    points = (prediction.p5, prediction.p25, prediction.p50, prediction.p75, prediction.p95)
    z = (-1.6448536269514722, -0.6744897501960817, 0.0, 0.6744897501960817, 1.6448536269514722)
    i = min(max(bisect_right(points, level) - 1, 0), len(points) - 2)
    if not points[i] < points[i + 1]:
        return 1.0 if level < points[i] else 0.0
    at = z[i] + (level - points[i]) / (points[i + 1] - points[i]) * (z[i + 1] - z[i])
    return 0.5 * math.erfc(at / math.sqrt(2))


def chance_to_lead(situation: Situation, forecast: Forecast) -> float | None:
    """P(a completed run keeps the guards and scores above the best); None where there is no best or no forecast.

    None with several objectives, too: a run that adds to the front need not have the best sum.
    """
    best = situation.lessons.progress.best_score
    if best is None or forecast.score is None or len(situation.study.objectives) > 1:
        return None
    return forecast.keeps_guards * chance_above(forecast.score, best)


def seconds_left(situation: Situation) -> float | None:
    """Wall time that the settled runs leave of the budget, all slots having been busy; None without such a budget."""
    budget = situation.study.budget
    if budget.wall_time is None:
        return None
    used = math.fsum(run.duration_s or 0.0 for run in situation.runs if run.status.terminal)
    return max(0.0, budget.wall_time - used / budget.concurrent)
