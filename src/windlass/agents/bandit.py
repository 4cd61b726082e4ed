"""Which proposer gets the next slot: shares from credit, with a floor and a ceiling, and an even draw from them.

The lead arm keeps what the others do not get. Another arm's share lies between ``FLOOR`` and its ceiling: ceiling
times twice the probability that its proposals are worth more than the lead's (at most the ceiling). Worth is a Beta
posterior of the arm's credit with the prior's mean and weight, less the credit's penalty for proposals that were
rejected; probabilities take the two posteriors as normal.
Arms turn up by the golden-ratio sequence instead of random numbers, so that each gets its share as evenly as may be.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate

from windlass.records.lessons import Credit

FLOOR = 0.02  #: of the slots, for each arm
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is thought of an arm before it has any credit, and how much it may get."""

    worth: float  #: expected reward of one proposal, 0 to 1
    weight: float  #: how many cases that is worth
    ceiling: float  #: of the slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """An arm's share of the slots and where it comes from."""

    share: float
    worth: float  #: posterior mean of the reward of one proposal
    sd: float
    cases: int
    chance: float  #: that it is worth more than the lead

    @property
    def facts(self) -> dict[str, float]:
        return asdict(self)


def shares(arms: Mapping[str, Prior], lead: str, credit: Mapping[str, Credit]) -> dict[str, Share]:
    """The shares of all ``arms``, in their order; they sum to 1. ``lead`` is one of them."""
    posteriors = {name: _posterior(prior, credit.get(name)) for name, prior in arms.items()}
    best, best_variance = posteriors[lead]
    found: dict[str, Share] = {}
    for name, prior in arms.items():
        mean, variance = posteriors[name]
        chance = 0.5 * math.erfc((best - mean) / math.sqrt(2 * (variance + best_variance)))
        share = max(FLOOR, prior.ceiling * min(1.0, 2 * chance))
        cases = credit[name].cases if name in credit else 0
        found[name] = Share(share=share, worth=mean, sd=math.sqrt(variance), cases=cases, chance=chance)
    others = math.fsum(one.share for name, one in found.items() if name != lead)
    scale = min(1.0, 0.5 / others) if others else 1.0  # the lead keeps half at least
    return {
        name: Share(
            share=1.0 - others * scale if name == lead else one.share * scale,
            worth=one.worth,
            sd=one.sd,
            cases=one.cases,
            chance=one.chance,
        )
        for name, one in found.items()
    }


def turn(number: int, seed: int, of: Mapping[str, Share]) -> str:
    """Whose turn decision ``number`` is."""
    point = ((number + seed % 1_000_003) * GOLDEN) % 1.0
    names = list(of)
    ends = list(accumulate(one.share for one in of.values()))
    return names[min(bisect_right(ends, point), len(names) - 1)]


def _posterior(prior: Prior, credit: Credit | None) -> tuple[float, float]:
    """Mean and variance of an arm's worth."""
    cases, reward, penalty = (credit.cases, credit.good, credit.facts.get("penalty", 0.0)) if credit else (0, 0.0, 0.0)
    total = prior.weight + cases
    mean = (prior.worth * prior.weight + reward) / total
    return mean - penalty, mean * (1 - mean) / (total + 1)
