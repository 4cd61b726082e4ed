"""LEARN: what the results so far say, as data for the director, the stop rules and the report."""

from windlass.history.curves import CurveVerdict, extrapolate, verdict
from windlass.history.lessons import learn
from windlass.history.progress import review, stop_reason
from windlass.records.lessons import Progress

__all__ = ["CurveVerdict", "Progress", "extrapolate", "learn", "review", "stop_reason", "verdict"]
