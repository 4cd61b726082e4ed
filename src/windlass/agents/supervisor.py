"""The supervisor: has the last word on a proposal, and puts every change of the panel's decision on record.

In this order: the panel's decision; the two cases in which a rejection is lifted (the first run of a baseline, as
nothing is known yet that it could be held against, and what a person asked for); hard rules, which nothing
lifts; the study's autonomy, which lets runs wait for a person.

Risk is the worst of four:

    |              | medium | high   | critical |                                                             |
    | P(fails)     | 0.2    | 0.5    | 0.8      | of the forecast                                             |
    | cost         | 0.1    | 0.25   | 0.5      | share of the wall time left, or chance to pass the run_time |
    | distance     | 0.25   |        |          | mean difference to the nearest run, in ranges; nothing ran  |
    | disagreement | 0.25   | 0.4    |          | share of the votes' weight that is not of the majority      |

Being far from everything known is no danger in itself, so distance alone is never more than medium.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from windlass.agents.nearness import neighbours
from windlass.agents.odds import chance_above, seconds_left
from windlass.agents.panel import needs_person
from windlass.agents.situation import Situation
from windlass.records.content import flatten
from windlass.records.decision import Outcome, Override, Proposal, Risk, Stance, Tally
from windlass.records.forecast import Forecast

PERSON = "person"  #: the proposer of what a person asked for
OVERWHELMING = 0.8  #: of the Wilson bound of a learned constraint without a survivor: 16 failures of 16

#: lower ends of medium, high, critical
FAILS = (0.2, 0.5, 0.8)
COST = (0.1, 0.25, 0.5)
DISTANCE = (0.25,)
DISAGREEMENT = (0.25, 0.4)

_LEVELS = tuple(Risk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The supervisor's word on one proposal."""

    outcome: Outcome
    risk: Risk
    overrides: tuple[Override, ...]  #: in order; each begins where the one before ended
    verdict: str  #: why, with the rule's name


def check(
    situation: Situation, proposal: Proposal, config: Mapping[str, Any], forecast: Forecast, tally: Tally
) -> Ruling:
    """Rule on a proposal whose ``config`` is valid, from the panel's ``tally``."""
    risk, why = _risk(situation, config, forecast, tally)
    outcome, verdict = _panel(situation, tally)
    overrides: list[Override] = []
    for rule, after, reason in _changes(situation, proposal, config, forecast, risk, why):
        if (outcome, after) in _ALLOWED:
            overrides.append(Override(rule=rule, before=outcome, after=after, reason=reason))
            outcome, verdict = after, _words(after, rule, reason)
        elif after is Outcome.REJECTED:
            verdict += f"; {rule!r} forbids it, too: {reason}"
    return Ruling(outcome=outcome, risk=risk, overrides=tuple(overrides), verdict=verdict)


#: changes that a rule can make; all others leave things as they are
_ALLOWED = {
    (Outcome.REJECTED, Outcome.APPROVED),
    (Outcome.APPROVED, Outcome.REJECTED),
    (Outcome.WAITING, Outcome.REJECTED),
    (Outcome.APPROVED, Outcome.WAITING),
}


def _panel(situation: Situation, tally: Tally) -> tuple[Outcome, str]:
    if tally.stance is Stance.APPROVE:
        return Outcome.APPROVED, f"approved: {tally.reason}"
    if needs_person(tally, situation.study.panel):
        return Outcome.WAITING, _words(Outcome.WAITING, "conflict", tally.reason)
    return Outcome.REJECTED, _words(Outcome.REJECTED, "panel", tally.reason)


def _words(outcome: Outcome, rule: str, reason: str) -> str:
    did = {
        Outcome.APPROVED: "approved by",
        Outcome.REJECTED: "rejected by",
        Outcome.WAITING: "waits for a person by",
    }[outcome]
    return f"{did} {rule!r}: {reason}"


def _changes(
    situation: Situation, proposal: Proposal, config: Mapping[str, Any], forecast: Forecast, risk: Risk, why: str
) -> Iterator[tuple[str, Outcome, str]]:
    """The rules that speak, in order: name, wanted outcome, reason."""
    if proposal.proposer == "baseline" and not situation.runs:
        yield "baseline", Outcome.APPROVED, "the first run measures the baseline; nothing is known yet"
    if proposal.proposer == PERSON:
        yield "person", Outcome.APPROVED, f"a person asked for it: {proposal.reason}"
    for rule, reason in _broken(situation, config, forecast):
        yield rule, Outcome.REJECTED, reason
    match situation.study.autonomy:
        case "manual":
            yield "autonomy.manual", Outcome.WAITING, f"a person approves every run; risk {risk}: {why}"
        case "semi" if risk in (Risk.HIGH, Risk.CRITICAL):
            yield "autonomy.semi", Outcome.WAITING, f"a person approves risky runs; risk {risk}: {why}"


def _broken(situation: Situation, config: Mapping[str, Any], forecast: Forecast) -> Iterator[tuple[str, str]]:
    """The hard rules that a config breaks. A forecast from no results breaks none: it is a prior, not evidence."""
    safety, values = situation.study.safety, flatten(config)
    if safety.failure_risk is not None and forecast.known and forecast.fails > safety.failure_risk:
        yield "safety.failure_risk", f"fails with probability {forecast.fails:.3g}, above {safety.failure_risk:g}"
    cost = forecast.cost_s
    if safety.run_cost is not None and cost is not None and cost.p50 > safety.run_cost:
        yield "safety.run_cost", f"takes {cost.p50:.4g} s, above {safety.run_cost:g} s"
    for one in situation.lessons.constraints:
        if not one.survived and one.bound >= OVERWHELMING and one.constraint.rejects(values):
            yield one.constraint.name, f"all of {len(one.failed)} runs there failed, at least {one.bound:.0%} do"


def _risk(situation: Situation, config: Mapping[str, Any], forecast: Forecast, tally: Tally) -> tuple[Risk, str]:
    """The worst of the four, and what it comes from."""
    graded = []
    if forecast.known:
        graded.append((_grade(forecast.fails, FAILS), f"fails with probability {forecast.fails:.0%}"))
    graded.append(_cost_risk(situation, forecast))
    near = neighbours(situation, flatten(config), 1)
    far = min((one.mean for one in near), default=1.0)
    told = f"{far:.0%} of the ranges from the nearest run" if near else "nothing has run yet"
    graded.append((_grade(far, DISTANCE), told))
    split = 1 - tally.agreement if tally.active else 0.0
    graded.append((_grade(split, DISAGREEMENT), f"{split:.0%} of the votes' weight disagrees"))
    level = max(level for level, _ in graded)
    return _LEVELS[level], "; ".join(words for graded_level, words in graded if words and graded_level == level)


def _cost_risk(situation: Situation, forecast: Forecast) -> tuple[int, str]:
    cost, left, limit = forecast.cost_s, seconds_left(situation), situation.study.budget.run_time
    if cost is None:
        return 0, ""
    over = chance_above(cost, limit) if limit is not None else 0.0
    share = min(1.0, cost.p50 / left) if left else (0.0 if left is None else 1.0)
    if over > share:
        return _grade(over, COST), f"passes the time limit with probability {over:.0%}"
    return _grade(share, COST), f"takes {share:.0%} of the time left" if left is not None else ""


def _grade(value: float, ends: tuple[float, ...]) -> int:
    """0 low to 3 critical: how many of ``ends`` are reached."""
    return sum(value >= end for end in ends)
