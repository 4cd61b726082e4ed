"""Everything a study's history teaches, put together once a cycle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from windlass.history.constraints import constraints_of
from windlass.history.credit import credit
from windlass.history.openness import left_open
from windlass.history.patterns import patterns_of
from windlass.history.progress import review
from windlass.history.table import Table
from windlass.history.trend import stagnation, trend_of
from windlass.records.decision import Decision
from windlass.records.lessons import Lessons
from windlass.records.run import RunRecord
from windlass.records.study import Study
from windlass.space.space import Space


def learn(
    study: Study,
    space: Space,
    runs: Sequence[RunRecord],
    decided: Sequence[Decision],
    noise_sd: float | None = None,
) -> Lessons:
    """What ``runs`` and the decisions behind them teach; their order does not matter.

    ``noise_sd``: the spread of the score between runs of one config as the world model sees it, for where repeats do
    not tell it. Runs with parameters that today's space has no place for are set aside: they teach neither
    constraints nor patterns, and have no part in the trend.
    """
    progress = review(study, runs, noise_sd)
    table, aside = Table.of(study, space, runs)
    constraints, expired = constraints_of(table)
    held, notes = left_open(study, space, constraints, study.seed)
    known = {run.id for run in table.runs}
    placed = [one for one in progress.standings if one.run.id in known]
    stuck = stagnation(study, runs, noise_sd, progress)
    proposers, critics = credit(study, runs, decided, stuck.noise_sd)
    return Lessons(
        progress=progress,
        constraints=tuple(held),
        expired=tuple(expired),
        patterns=patterns_of(table, placed),
        trend=trend_of(table.score[~np.isnan(table.score)].tolist()),
        stagnation=stuck,
        proposers=proposers,
        critics=critics,
        set_aside=aside,
        notes=tuple(notes),
    )
