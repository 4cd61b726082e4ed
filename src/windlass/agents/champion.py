"""Proposers that look into the leaders: what the champion's gain comes from, and whether it is more than luck."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from windlass.agents.candidates import Candidate, Leader, leaders
from windlass.agents.race import race
from windlass.agents.situation import Situation
from windlass.records.decision import Proposal
from windlass.space.parameters import canonical_value, from_unit, width
from windlass.space.space import Space


class Ablation:
    """Takes one change of the champion back, to learn whether it matters: the one whose effect is least known.

    Changes are counted from the study's baseline; where the baseline does not set a parameter, from the middle of its
    range (a category: the middle choice).
    """

    name: ClassVar[str] = "ablation"

    def propose(self, situation: Situation, numbers: Sequence[int]) -> list[Proposal]:
        champions = leaders(situation, 1)
        if not champions:
            return []
        (champion,) = champions
        candidates = self._reversals(situation.space, champion)
        candidates = [one for one in candidates if situation.acceptable(one.values)]
        expected = {name: (math.nan, math.nan) for name in (one.origin for one in candidates)}
        if candidates and situation.world.usable:
            mean, sd = situation.world.expected_score([one.values for one in candidates])
            expected = {c.origin: (float(m), float(s)) for c, m, s in zip(candidates, mean, sd, strict=True)}
            candidates.sort(key=lambda one: -expected[one.origin][1])
        return [self._explained(situation, champion, one, expected[one.origin]) for one in candidates[: len(numbers)]]

    def _reversals(self, space: Space, champion: Leader) -> list[Candidate]:
        reference = {name: from_unit(one, [0.5] * width(one)) for name, one in space.parameters.items()}
        reference |= {name: value for name, value in space.fixed.items() if name in space.parameters}
        reversals = []
        for name, value in champion.values.items():
            back = canonical_value(space.parameters[name], reference[name])
            if back != value:
                values = space.active({**reference, **champion.values, name: back})
                reversals.append(Candidate(values=space.repair(values), origin=name))
        return reversals

    def _explained(
        self, situation: Situation, champion: Leader, one: Candidate, expected: tuple[float, float]
    ) -> Proposal:
        name, run = one.origin, champion.standing.run.id
        now, back = champion.values[name], one.values[name]
        evidence: dict[str, Any] = {"champion": run, "parameter": name, "from": now, "to": back}
        hypothesis = f"{name}={now!r} instead of {back!r} is what the champion {run} gains from"
        known = ""
        if math.isfinite(expected[0]):
            lost = champion.standing.score - expected[0]
            effect = "lowers" if lost >= 0 else "raises"
            hypothesis = f"taking {name} back from {now!r} to {back!r} {effect} the score by about {abs(lost):.3g}"
            known = (
                f"; no change of the champion is less understood: the score without it is known to ± {expected[1]:.3g}"
            )
            evidence |= {"expected_score": expected[0], "sd": expected[1], "champion_score": champion.standing.score}
        return Proposal(
            values=one.values,
            proposer=self.name,
            reason=f"run {run}, the champion, with {name} back at {back!r} (from {now!r}){known}",
            evidence={"hypothesis": hypothesis, **evidence},
        )


class Repeat:
    """Runs a leader again with another seed, where the race is close for the noise. See ``windlass.agents.race``."""

    name: ClassVar[str] = "repeat"

    def propose(self, situation: Situation, numbers: Sequence[int]) -> list[Proposal]:
        proposals, taken = list[Proposal](), list[str]()
        for _ in numbers:
            now = race(situation, taken)
            if now is None or not now.worthwhile:
                break
            run = now.candidate.standing.run
            taken.append(run.id)
            origin = "measured" if now.measured else "estimated by the world model, to be measured by this repeat"
            rival, leader = now.rival.standing.run.id, now.leader.standing.run.id
            proposals.append(
                Proposal(
                    values=now.candidate.values,
                    proposer=self.name,
                    repeats=run.id,
                    reason=(
                        f"run {now.runs + 1} of at most {situation.study.repeats} of this config: {rival} is"
                        f" {now.chance:.0%} likely to be better than the leader {leader}, at a noise of"
                        f" {now.noise_sd:.3g} ({origin}); one more run is worth {now.worth:.3g}"
                    ),
                    evidence={
                        "leader": leader,
                        "rival": rival,
                        "chance": now.chance,
                        "noise_sd": now.noise_sd,
                        "measured": now.measured,
                        "worth": now.worth,
                        "runs": now.runs,
                    },
                )
            )
        return proposals
