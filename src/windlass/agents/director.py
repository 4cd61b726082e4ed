"""The director: what the next slots are for, with the reason in words and numbers."""

from __future__ import annotations

from windlass.agents.proposers import BaselineProposer, Explorer, LocalExploiter, Situation
from windlass.records.decision import Mode, Strategy

EXPLORE_RUNS_PER_DIMENSION = 2
EXPLORE_SHARE_OF_BUDGET = 0.4
EXPLORE_EVERY = 4  #: once exploiting, every so many-th decision still explores
RECOVER_ABOVE = 0.6  #: share of recent failures


def direct(situation: Situation, slots: int) -> Strategy:
    """Choose the mode for the next ``slots`` decisions, and who may propose for them."""
    study, progress, number = situation.study, situation.progress, situation.next_number
    if number == 1 and situation.baseline_is_complete:
        rest = {Explorer.name: slots - 1} if slots > 1 else {}
        return Strategy(
            mode=Mode.EXPLORE,
            reason="the baseline first, so that every gain is measured against it",
            slots={BaselineProposer.name: 1, **rest},
        )
    wanted = EXPLORE_RUNS_PER_DIMENSION * situation.space.dimensions
    if study.budget.runs is not None:
        wanted = min(wanted, round(EXPLORE_SHARE_OF_BUDGET * study.budget.runs))
    usable = len(progress.ranked)
    if progress.settled < wanted or usable < 2:
        return Strategy(
            mode=Mode.EXPLORE,
            reason=f"{progress.settled} of the first {wanted} results are in, {usable} of them usable",
            slots={Explorer.name: slots},
        )
    if progress.recent_failure_share >= RECOVER_ABOVE:
        return Strategy(
            mode=Mode.RECOVER,
            reason=f"{progress.recent_failure_share:.0%} of the recent runs failed; back to what is known to work",
            slots={LocalExploiter.name: slots},
        )
    explore = sum((number + i) % EXPLORE_EVERY == 0 for i in range(slots))
    shares = {LocalExploiter.name: slots - explore, Explorer.name: explore}
    return Strategy(
        mode=Mode.EXPLOIT,
        reason=(
            f"best score {progress.best_score:.6g} after {progress.settled} results,"
            f" {progress.since_improvement} since the last improvement;"
            f" every {EXPLORE_EVERY}th decision explores"
        ),
        slots={name: count for name, count in shares.items() if count},
    )
