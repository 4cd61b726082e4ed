"""LEARN: what the results so far say, as data for the director, the stop rules and the report."""

from windlass.history.progress import Progress, review, stop_reason

__all__ = ["Progress", "review", "stop_reason"]
