"""The director: what the next slots are for and who proposes for them, with the reason in words and numbers.

The world model leads, alone as long as that gets anywhere: mixing proposers costs. When the search stagnates, others
get slots, by credit (``windlass.agents.bandit``) or by a rule with a reason of its own: what the champion gains from,
where nobody has looked. Close races are run again late, recoveries step from what works.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from windlass.agents.bandit import Prior, Share, shares, turn
from windlass.agents.race import race
from windlass.agents.situation import Situation
from windlass.records.decision import Mode, Strategy

RECOVER_ABOVE = 0.6  #: share of recent failures
LATE = 0.2  #: share of the budget left from which leaders are run again: earlier ones change anyway
REPEATS = 0.08  #: of all decisions, at most
ABLATE_EVERY = 30  #: decisions between two ablations
EXPLORE_EVERY = 8  #: of a stagnant search's slots one explores
TURN = 4  #: times the initial results before which nothing counts as stagnation; with 2 agents cost regret
LAST = 0.1  #: share of the budget left below which nothing is tried for knowledge alone

LEAD = Prior(worth=0.5, weight=20, ceiling=1.0)
CHALLENGER = Prior(worth=0.4, weight=20, ceiling=0.1)
#: mode -> who may lead, the first that takes part; and who else gets slots by credit, in EXPLOIT of a stagnant search
LEADS: Mapping[Mode, Sequence[str]] = {
    Mode.EXPLORE: ("explorer", "bayesian", "local"),
    Mode.EXPLOIT: ("bayesian", "local", "pattern", "explorer"),
    Mode.RECOVER: ("bayesian", "local", "explorer"),
}
CHALLENGERS: Mapping[Mode, Mapping[str, Prior]] = {
    Mode.EXPLORE: {},
    Mode.EXPLOIT: {"local": CHALLENGER, "pattern": CHALLENGER},
    Mode.RECOVER: {"local": Prior(worth=0.5, weight=20, ceiling=0.3)},
}


def direct(situation: Situation, slots: int, available: Sequence[str]) -> Strategy:
    """Choose the mode for the next ``slots`` decisions, and who of the ``available`` proposers makes how many."""
    present = [name for name in available if name not in situation.study.agents.without]
    mode, why = _mode(situation)
    shared = _shares(situation, mode, present)
    given, notes = Counter[str](), dict[str, None]()
    for number in range(situation.next_number, situation.next_number + slots):
        ruled = _by_rule(situation, mode, number, present, given)
        name, note = ruled or (turn(number, situation.study.seed, shared), "")
        given[name] += 1
        notes.update({note: None} if note else {})
    by_credit = {name: one for name, one in shared.items() if name in given}
    if len(shared) > 1 and by_credit:
        notes["slots by credit: " + ", ".join(f"{name} {one.share:.0%}" for name, one in shared.items())] = None
    return Strategy(
        mode=mode, reason="; ".join([why, *notes]), slots=dict(given), evidence=_evidence(situation, shared)
    )


def _mode(situation: Situation) -> tuple[Mode, str]:
    progress = situation.lessons.progress
    counted = len(progress.standings)
    if progress.settled < situation.initial or not counted:
        text = f"{progress.settled} of the first {situation.initial} results are in, {counted} of them count"
        return Mode.EXPLORE, text
    best = f"best score {progress.best_score:.6g} after {progress.settled} results"
    if progress.recent_failure_share >= RECOVER_ABOVE:
        failed = f"{progress.recent_failure_share:.0%} of the recent runs failed"
        return Mode.RECOVER, f"{failed}; back to what is known to work: {best}"
    if not situation.world.usable:
        return Mode.EXPLORE, f"{counted} results that count are too few for the world model; {best}"
    return Mode.EXPLOIT, f"{best}, {progress.since_improvement} since the last improvement"


def _shares(situation: Situation, mode: Mode, present: Sequence[str]) -> dict[str, Share]:
    leads = [name for name in LEADS[mode] if name in present]
    if mode is Mode.RECOVER and not situation.world.usable:
        leads = [name for name in leads if name != "bayesian"]
    lead = leads[0] if leads else present[0]
    challengers = CHALLENGERS[mode] if mode is not Mode.EXPLOIT or _saturated(situation) else {}
    arms = {lead: LEAD, **{name: one for name, one in challengers.items() if name in present and name != lead}}
    language = situation.study.agents.language_model
    if language is not None and "language_model" in present:
        arms["language_model"] = Prior(worth=LEAD.worth, weight=LEAD.weight, ceiling=1 / language.every)
    return shares(arms, lead, situation.lessons.proposers)


def _by_rule(
    situation: Situation, mode: Mode, number: int, present: Sequence[str], given: Mapping[str, int]
) -> tuple[str, str] | None:
    """A proposer with a reason of its own to have this decision, and that reason."""
    if "baseline" in present and situation.baseline_is_complete and not given.get("baseline"):
        made = sum(decision.proposal.proposer == "baseline" for decision in situation.decided)
        if number == 1:
            return "baseline", "the baseline first, so that every gain is measured against it"
        if 0 < made < situation.study.baseline_runs:
            text = f"the baseline again, {made + 1} of {situation.study.baseline_runs}"
            return "baseline", f"{text}: the spread of its runs is the noise that a gain has to exceed"
    if mode is not Mode.EXPLOIT:
        return None
    left, saturated = _left(situation), _saturated(situation)
    if "repeat" in present and not given.get("repeat") and (saturated if left is None else left <= LATE):
        made = sum(decision.proposal.repeats is not None for decision in situation.decided)
        now = race(situation) if made < max(1, REPEATS * number) else None
        if now is not None and now.worthwhile:
            text = f"the race is close: the runner-up is {now.chance:.0%} likely to be better, at a noise of"
            return "repeat", f"{text} {now.noise_sd:.3g}"
    if not saturated or (left is not None and left < LAST):
        return None
    because = situation.lessons.stagnation.reason
    last = max((d.number for d in situation.decided if d.proposal.proposer == "ablation"), default=0)
    if "ablation" in present and not given.get("ablation") and number - last >= ABLATE_EVERY:
        return "ablation", f"the search stagnates, so a slot goes to what the champion gains from ({because})"
    if "explorer" in present and number % EXPLORE_EVERY == 0:
        return "explorer", f"the search stagnates, so every {EXPLORE_EVERY}th decision explores ({because})"
    return None


def _left(situation: Situation) -> float | None:
    """The share of the budget of runs that is left; None without such a budget."""
    runs, left = situation.study.budget.runs, situation.runs_left
    return None if runs is None or left is None else left / runs


def _saturated(situation: Situation) -> bool:
    """Stagnant against the noise, not rising either, and the world model has had its turn."""
    trend = situation.lessons.trend
    rising = trend is not None and trend.low > 0
    had_its_turn = situation.lessons.progress.settled >= TURN * situation.initial
    return situation.lessons.stagnation.stagnant and had_its_turn and not rising


def _evidence(situation: Situation, shared: Mapping[str, Share]) -> dict[str, Any]:
    progress, trend, stagnation = situation.lessons.progress, situation.lessons.trend, situation.lessons.stagnation
    return {
        "settled": progress.settled,
        "active": progress.active,
        "best_run": progress.best.id if progress.best else None,
        "best_score": progress.best_score,
        "since_improvement": progress.since_improvement,
        "stagnant": stagnation.stagnant,
        "noise_sd": stagnation.noise_sd,
        "recent_failure_share": progress.recent_failure_share,
        "trend": None if trend is None else {"slope": trend.slope, "low": trend.low, "high": trend.high},
        "runs_left": situation.runs_left,
        "shares": {name: one.facts for name, one in shared.items()},
    }
