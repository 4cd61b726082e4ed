"""Shadow and canary: what a challenger's outcomes say about its next step. Pure functions of the outcome log.

Looking again and again until a bound happens to break inflates the error. So a look is taken only when the challenger's
answers reach counts that double, and all looks share one error (a union bound, so whatever they have in common, it
holds; spending an error over geometric times goes back to Darling and Robbins, Iterated logarithm inequalities, PNAS 57
(1967), 1188-1192):

    n_j = needed * 2**j     j = ..., -2, -1, 0, 1, 2, ...     the counts of answers at which a look is taken
    needed                  what the policy's power asks for; no step towards serving before it
    alpha                   1 - confidence of the policy; look j spends

        alpha * EARLY * 2**j                        for j < 0: enough to stop one that plainly fails, soon
        alpha * (1 - EARLY) / ((j + 1) (j + 2))     for j >= 0

Both series together sum to alpha. The looks are fixed points of the log, so that the same log gives the same advice,
however often and however late anyone asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from windlass.errors import StudyError
from windlass.records.deployment import Role, Served, ServedOutcome
from windlass.records.gate import Canary, Shadow
from windlass.registry.outcomes import Tally
from windlass.registry.wilson import (
    MOST,
    above,
    below,
    chance_above,
    chance_below,
    chance_lower,
    chance_no_worse,
    least,
    least_of_all,
    lower,
    newcombe,
    no_worse,
    wilson,
)

EARLY = 0.1  #: of the error, for looks before the needed count
FIRST = 8  #: answers at the first look


class Move(StrEnum):
    """What is to be done with a challenger."""

    WAIT = "wait"
    ADVANCE = "advance"  #: the shadow is passed
    REJECT = "reject"  #: the shadow is failed
    GROW = "grow"  #: the canary gets its next share of keys
    PROMOTE = "promote"  #: the canary is through
    ROLL_BACK = "roll_back"  #: the canary serves no more


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What the outcomes say, with the numbers behind it."""

    move: Move
    reason: str
    answers: int  #: of the challenger, so far
    needed: int  #: before it can take a step towards serving
    share: float | None = None  #: of keys that it gets by ``grow``
    evidence: Mapping[str, Any] = field(default_factory=dict)  #: of the look that decided; JSON values


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The outcomes at one of the counts."""

    order: int  #: j
    challenger: Tally
    champion: Tally


class Trial:
    """Folds the answers since a shadow, or a step of a canary, began; each answer once, in the log's order.

    A canary's steps are trials of their own: within a step both sides get their answers from the same hours in the same
    proportion, so that a change of the traffic over time cannot pass for a difference between them.
    """

    def __init__(self, role: Role, challenger: str, champion: str | None, needed: int) -> None:
        self.role = role
        self.needed = needed
        self.looks: list[Look] = []
        self._sides = {
            (challenger, role): Counter[ServedOutcome](),
            (champion, Role.CHAMPION): Counter[ServedOutcome](),
        }
        self._ours, self._theirs = self._sides.values()
        self._answers = 0
        self._order = first_look(needed)
        self._next = answers_at(self._order, needed)

    def add(self, served: Served) -> None:
        """Answers of others are passed over."""
        counts = self._sides.get((served.checkpoint, served.role))
        if counts is None:
            return
        counts[served.outcome] += 1
        if counts is self._ours:
            self._answers += 1
            if self._answers == self._next:
                self.looks.append(Look(order=self._order, challenger=self.challenger, champion=self.champion))
                self._order += 1
                self._next = answers_at(self._order, self.needed)

    @property
    def challenger(self) -> Tally:
        return Tally.of(self._ours)

    @property
    def champion(self) -> Tally:
        return Tally.of(self._theirs)

    @property
    def next_look(self) -> int:
        """The count of the challenger's answers at which it is."""
        return self._next


def answers_at(order: int, needed: int) -> int:
    """n_j."""
    return needed << order if order >= 0 else -(-needed >> -order)


def first_look(needed: int) -> int:
    """The lowest j whose count is at least ``FIRST``; 0 where even the needed count is less."""
    order = 0
    while answers_at(order - 1, needed) >= FIRST:
        order -= 1
    return order


def spent(order: int) -> float:
    """The part of alpha that look j spends."""
    return EARLY * 2.0**order if order < 0 else (1 - EARLY) / ((order + 1) * (order + 2))


# Shadow --------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def shadow_needed(policy: Shadow) -> int:
    """Answers that a challenger which is better than both limits by ``detect`` needs, to pass with ``power``; exact.

    Raises StudyError where that is out of reach.
    """
    level = (1 - policy.confidence) * spent(0)
    good, bad = min(1.0, policy.accepted + policy.detect), max(0.0, policy.failed - policy.detect)
    try:
        return least_of_all(
            lambda n: (
                chance_above(n, policy.accepted, good, level) + chance_below(n, policy.failed, bad, level) - 1
                >= policy.power
            )
        )
    except ValueError:
        raise _out_of_reach("shadow", "detect", policy.detect, policy.power) from None


def shadow_advice(policy: Shadow, trial: Trial) -> Advice:
    """``advance`` once both limits are shown to be kept, ``reject`` once one is shown to be broken, or ``wait``.

    A challenger at a limit advances with a probability of at most alpha, over all looks; one within both limits is
    rejected with at most alpha. Whoever asks late gets what was said first, save that a rejection outweighs an earlier
    advance.
    """
    alpha = 1 - policy.confidence
    advance: Advice | None = None
    for look in trial.looks:
        ours, level = look.challenger, alpha * spent(look.order)
        accepted = _share(ours.accepted, ours.n, level) | {"limit": policy.accepted}
        failed = _share(ours.failed, ours.n, level) | {"limit": policy.failed}
        evidence = {
            "level": level,
            "challenger": ours.to_dict(),
            "accepted": accepted,
            "failed": failed,
        }
        if below(ours.accepted, ours.n, policy.accepted, level / 2):
            reason = f"{_accepted(ours)}: shown to be less than {_percent(policy.accepted)}"
            return _advice(trial, Move.REJECT, reason, evidence)
        if above(ours.failed, ours.n, policy.failed, level / 2):
            reason = f"{_failed(ours)}: shown to be more than {_percent(policy.failed)}"
            return _advice(trial, Move.REJECT, reason, evidence)
        passed = above(ours.accepted, ours.n, policy.accepted, level) and below(
            ours.failed, ours.n, policy.failed, level
        )
        if advance is None and look.order >= 0 and passed:
            reason = (
                f"{_accepted(ours)}, at least {_percent(accepted['low'])} (limit {_percent(policy.accepted)});"
                f" {_failed(ours)}, at most {_percent(failed['high'])} (limit {_percent(policy.failed)})"
            )
            advance = _advice(trial, Move.ADVANCE, reason, evidence)
    return advance or _wait(
        trial, f"at least {_percent(policy.accepted)} accepted, at most {_percent(policy.failed)} failed"
    )


# Canary --------------------------------------------------------------------------------------------------------------


def usual_share(before: Tally) -> float:
    """The share of accepted answers to plan with: the middle of Wilson's interval; 0.5 where nothing is known."""
    return (before.accepted + 2) / (before.n + 4)


def canary_needed(policy: Canary, step: int, before: Tally) -> int:
    """Answers of the challenger that a step needs, exact: where it is as good as the champion, the step grows with
    ``power``; where it is worse by ``worse``, it rolls back with ``power``.

    ``before``: the champion's outcomes before the step; not those since, as the looks must not depend on what they see.
    Raises StudyError where that is out of reach.
    """
    return _canary_needed(policy, step, round(usual_share(before), 3))


@lru_cache(maxsize=64)
def _canary_needed(policy: Canary, step: int, usual: float) -> int:
    share, alpha = policy.shares[step], 1 - policy.confidence
    worse = usual - policy.worse

    def theirs(n: int) -> int:
        return max(1, round(n * (1 - share) / share))

    def enough(n: int) -> bool:
        grows = chance_no_worse(n, theirs(n), usual, usual, policy.worse, alpha * spent(0))
        if grows < policy.power or worse < 0:  # a champion that is rarely accepted cannot be fallen behind so far
            return grows >= policy.power
        return chance_lower(n, theirs(n), worse, usual, alpha * spent(0) / _guards(policy)) >= policy.power

    try:
        return least(enough)
    except ValueError:
        raise _out_of_reach("canary", "worse", policy.worse, policy.power) from None


def _guards(policy: Canary) -> int:
    """What the error of a false rollback is shared by: two guards in every step."""
    return 2 * len(policy.shares)


def canary_advice(policy: Canary, step: int, trial: Trial) -> Advice:
    """``grow`` (or ``promote``, from the last step), ``roll_back`` or ``wait``; ``trial`` has this step's answers.

    It rolls back where the failed share is shown to be above its limit, or the accepted share to be lower than the
    champion's while a fall by ``worse`` is not ruled out. It grows where such a fall is ruled out, and no more than the
    limit failed. A challenger no worse than the champion rolls back with a probability of at most alpha, over all looks
    of all steps; one that is worse by ``worse`` passes a step with at most alpha. Whoever asks late gets what was said
    first, save that going back outweighs an earlier growth.
    """
    alpha = 1 - policy.confidence
    grow: Advice | None = None
    last = step + 1 == len(policy.shares)
    for look in trial.looks:
        ours, theirs = look.challenger, look.champion
        level = alpha * spent(look.order)
        guard = level / _guards(policy)
        counts = (ours.accepted, ours.n, theirs.accepted, theirs.n)
        low, high = newcombe(*counts, level)
        evidence = {
            "step": step,
            "level": level,
            "guard_level": guard,
            "challenger": ours.to_dict(),
            "champion": theirs.to_dict(),
            "failed": _share(ours.failed, ours.n, guard) | {"limit": policy.failed},
            "difference": {"low": low, "high": high, "limit": -policy.worse},
        }
        compared = f"{_accepted(ours)}, of the champion's {theirs.n} {_percent(theirs.accepted_share)}"
        ruled_out = no_worse(*counts, policy.worse, level)
        if above(ours.failed, ours.n, policy.failed, guard):
            reason = f"{_failed(ours)}: shown to be more than {_percent(policy.failed)}"
            return _advice(trial, Move.ROLL_BACK, reason, evidence)
        if lower(*counts, guard) and not ruled_out:
            reason = f"{compared}: shown to be worse, by up to {_points(-low)}"
            return _advice(trial, Move.ROLL_BACK, reason, evidence)
        if grow is None and look.order >= 0 and ruled_out and ours.failed <= policy.failed * ours.n:
            least = f"worse by {_points(-low)} at most" if low < 0 else f"better by {_points(low)} at least"
            reason = f"{compared}: {least} (limit {_points(policy.worse)} worse); {_failed(ours)}"
            share = None if last else policy.shares[step + 1]
            grow = _advice(trial, Move.PROMOTE if last else Move.GROW, reason, evidence, share)
    return grow or _wait(
        trial, f"a fall by {_points(policy.worse)} ruled out, at most {_percent(policy.failed)} failed"
    )


# Words ---------------------------------------------------------------------------------------------------------------


def _advice(trial: Trial, move: Move, reason: str, evidence: Mapping[str, Any], share: float | None = None) -> Advice:
    return Advice(
        move=move,
        reason=reason,
        answers=trial.challenger.n,
        needed=trial.needed,
        share=share,
        evidence={"role": str(trial.role), "needed": trial.needed, **evidence},
    )


def _wait(trial: Trial, wanted: str) -> Advice:
    ours = trial.challenger
    so_far = f"{_accepted(ours)}; {_failed(ours)}" if ours.n else "no answers yet"
    return _advice(trial, Move.WAIT, f"{so_far}; next look at {trial.next_look} answers; wanted: {wanted}", {})


def _share(x: int, n: int, level: float) -> dict[str, float]:
    low, high = wilson(x, n, level)
    return {"share": x / n, "low": low, "high": high}


def _accepted(tally: Tally) -> str:
    return f"{tally.accepted} of {tally.n} answers accepted ({_percent(tally.accepted_share)})"


def _failed(tally: Tally) -> str:
    return f"{tally.failed} of {tally.n} failed ({_percent(tally.failed_share)})"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _points(difference: float) -> str:
    return f"{100 * difference:.2g} points"


def _out_of_reach(section: str, option: str, difference: float, power: float) -> StudyError:
    return StudyError(
        f"{section}: to see a difference of {difference:g} with power {power:g} takes more than {MOST:,} answers",
        f"Raise {section}.{option}, or lower {section}.power.",
    )
