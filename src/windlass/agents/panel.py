"""The panel: votes in, a tally out. Pure, and exact: sums are of rational numbers, rounded once at the end, so that
the order of the votes cannot change a bit and more support can never lower the score.

    score = sum(w c s) / sum(w c),   s = +1 approve, 0 revise, -1 reject

over active votes: w the critic's weight, c the vote's confidence. A vote with w c = 0 says nothing and is not active,
like an abstention. Fewer than ``QUORUM`` active votes reject.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction

from windlass.errors import StudyError, nearest
from windlass.records.deciding import Panel
from windlass.records.decision import Stance, Tally, Vote

QUORUM = 2  #: active votes without which nothing is approved

_SIGN = {Stance.APPROVE: 1, Stance.REVISE: 0, Stance.REJECT: -1}


def check_weights(panel: Panel, known: Collection[str]) -> None:
    """Raises StudyError where ``panel.weights`` names a critic that is not among ``known``."""
    for name in panel.weights:
        if name not in known:
            raise StudyError(
                f"panel.weights: no critic {name!r}.{nearest(name, known)} Critics: {', '.join(known)}",
                "Edit the study's panel.weights.",
            )


def needs_person(tally: Tally, rules: Panel) -> bool:
    """Whether the votes are in conflict and the study asks a person then.

    With ``conflict: ask`` a tally is REVISE for this one reason: too few votes and a low score reject.
    """
    return rules.conflict == "ask" and tally.stance is Stance.REVISE


def tally(votes: Sequence[Vote], weights: Mapping[str, float], rules: Panel) -> Tally:
    """Count ``votes`` with the ``weights`` of their critics.

    Raises ValueError on a critic without a weight, two votes of one critic, a weight that is negative or not finite,
    and a confidence outside 0 to 1: these are bugs, not opinions.
    """
    behind = dict.fromkeys(_SIGN, Fraction(0))  # weight times confidence
    active = 0
    for vote, weight in _weighed(votes, weights):
        if vote.stance is not Stance.ABSTAIN and weight:
            behind[vote.stance] += weight
            active += 1
    total = sum(behind.values(), Fraction(0))
    shares = {stance: float(weight / total) if total else 0.0 for stance, weight in behind.items()}
    score = float(sum(_SIGN[stance] * weight for stance, weight in behind.items()) / total) if total else 0.0
    stance, rule = _decide(score, active, rules)
    return Tally(
        stance=stance,
        score=score,
        active=active,
        agreement=max(shares.values()),
        entropy=_entropy(shares.values()),
        reason=f"{rule}; {_who(votes)}",
    )


def _weighed(votes: Sequence[Vote], weights: Mapping[str, float]) -> list[tuple[Vote, Fraction]]:
    """Each vote with its weight times its confidence."""
    weighed: dict[str, tuple[Vote, Fraction]] = {}
    for vote in votes:
        if vote.critic not in weights:
            raise ValueError(f"critic {vote.critic!r} has no weight; weights are of {', '.join(weights) or 'nobody'}")
        if vote.critic in weighed:
            raise ValueError(f"critic {vote.critic!r} votes twice")
        weight = weights[vote.critic]
        if not 0 <= weight < math.inf:
            raise ValueError(f"the weight of {vote.critic!r} must be finite and not negative, not {weight!r}")
        if not 0 <= vote.confidence <= 1:
            raise ValueError(f"the confidence of {vote.critic!r} must be from 0 to 1, not {vote.confidence!r}")
        weighed[vote.critic] = vote, Fraction(weight) * Fraction(vote.confidence)
    return list(weighed.values())


def _decide(score: float, active: int, rules: Panel) -> tuple[Stance, str]:
    if active < QUORUM:
        return Stance.REJECT, f"too few votes: {active} active, {QUORUM} needed"
    if score >= rules.approve_at:
        return Stance.APPROVE, f"score {score:+.3f}, {rules.approve_at:+g} or more approves"
    if score <= rules.reject_at:
        return Stance.REJECT, f"score {score:+.3f}, {rules.reject_at:+g} or less rejects"
    between = f"score {score:+.3f}, between {rules.reject_at:+g} and {rules.approve_at:+g}"
    match rules.conflict:
        case "cautious":
            return Stance.REJECT, f"{between}; 'cautious' rejects then"
        case "majority":
            stance = Stance.APPROVE if score > 0 else Stance.REJECT
            return stance, f"{between}; 'majority' goes by the sign"
        case "ask":
            return Stance.REVISE, f"{between}; 'ask' lets a person decide"
        case _:
            return Stance.REVISE, f"{between}; 'revise' wants another proposal"


def _entropy(shares: Collection[float]) -> float:
    """Shannon entropy in bits, from 0 (of one mind) to log2(3)."""
    bits = -math.fsum(share * math.log2(share) for share in shares if share > 0)
    return min(max(0.0, bits), math.log2(len(_SIGN)))


def _who(votes: Sequence[Vote]) -> str:
    """Who voted how, with confidence; by stance, then by name."""
    words = []
    for stance in Stance:
        voters = sorted((vote.critic, vote.confidence) for vote in votes if vote.stance is stance)
        if voters:
            named = ", ".join(
                critic if stance is Stance.ABSTAIN else f"{critic} {confidence:.2f}" for critic, confidence in voters
            )
            words.append(f"{stance}: {named}")
    return "; ".join(words) or "nobody voted"
