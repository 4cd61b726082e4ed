"""Which runs count as results of a study, and their order: one rule for deciders, stop rules and reports."""

from __future__ import annotations

from collections.abc import Iterable

from windlass.records.run import RunRecord, Status
from windlass.records.study import Study


def counted_score(study: Study, run: RunRecord) -> float | None:
    """``Study.score`` of a completed run that keeps the guards; None for every other run."""
    if run.status is not Status.COMPLETED or study.broken_guards(run.values):
        return None
    return study.score(run.values)


def ranked(study: Study, runs: Iterable[RunRecord]) -> list[RunRecord]:
    """The runs that count, best first; ties by number, then by id."""
    scored = [(score, run) for run in runs if (score := counted_score(study, run)) is not None]
    return [run for _, run in sorted(scored, key=lambda pair: (-pair[0], pair[1].number or 0, pair[1].id))]
