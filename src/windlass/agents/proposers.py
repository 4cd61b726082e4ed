"""Proposers that need no results: the baseline and the explorer; and the table of all proposers.

A proposer turns a situation into proposals. Same situation, same proposals, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from windlass.agents.candidates import values_of
from windlass.agents.champion import Ablation, Repeat
from windlass.agents.informed import Bayesian, LocalExploiter, Pattern
from windlass.agents.situation import Proposer, Situation, Values
from windlass.records.decision import Proposal
from windlass.space.space import Space

Array = npt.NDArray[np.float64]

WINDOW = 64  #: next points of the Sobol sequence that the explorer looks at in one go
WINDOWS = 16  #: before it gives up on an acceptable point
APART = 0.5  #: how far a point has to be from what exists, as a share of the farthest in the window
AS_SAFE = 0.9  #: how likely it has to succeed, as a share of the safest in the window


class Baseline:
    """The study's baseline as it is: once, or ``Study.baseline_runs`` times with different seeds."""

    name: ClassVar[str] = "baseline"

    def propose(self, situation: Situation, numbers: Sequence[int]) -> list[Proposal]:
        if not numbers or not situation.baseline_is_complete:
            return []
        start = values_of(situation.space, situation.study.baseline) or {}
        made = [d.run_id for d in situation.decided if d.proposal.proposer == self.name]
        if situation.decided:
            return [self._again(start, made[0], len(made) + 1)] if made and made[0] is not None else []
        return [
            Proposal(
                values={},
                proposer=self.name,
                reason="the study's baseline, unchanged: every gain is measured against it",
                evidence={"values": start},
            )
        ]

    def _again(self, start: Values, first: str, count: int) -> Proposal:
        return Proposal(
            values=dict(start),
            proposer=self.name,
            repeats=first,
            reason=f"run {count} of the baseline, with a seed of its own: how far its runs differ is the noise",
            evidence={"values": start},
        )


class Explorer:
    """Fills the space with the study's scrambled Sobol sequence (Owen 1998), aware of what exists.

    A study without a complete baseline begins in the middle of its space: ranges are mostly set around what is
    expected. Then the next point of the sequence is passed over where it is near a config that was decided on, by
    anyone, and, once runs have failed, where it is likely to fail, too; both measured against the points that come
    after it. Where none is both far and safe, safe is what counts. Taking the farthest point instead of the first that
    is far enough was worse: such points crowd at the space's edges. When no point is acceptable it proposes the last
    one, so that the decision names the rule that rejects it.
    """

    name: ClassVar[str] = "explorer"

    def propose(self, situation: Situation, numbers: Sequence[int]) -> list[Proposal]:
        space, taken, proposals = situation.space, list[Values](), list[Proposal]()
        start = sum(decision.proposal.proposer == self.name for decision in situation.decided)
        known = [values_of(space, decision.config) for decision in situation.decided if decision.config]
        points = [space.encode(values, fill=math.nan) for values in known if values is not None]
        for index in range(start, start + len(numbers)):
            proposal = None if situation.decided or proposals else self._middle(situation)
            if proposal is None:
                proposal = self._next(situation, index, np.array(points).reshape(-1, space.dimensions), taken)
            proposals.append(proposal)
            taken.append(proposal.values)
            points.append(space.encode(proposal.values, fill=math.nan))
        return proposals

    def _middle(self, situation: Situation) -> Proposal | None:
        """The study's first config, unless there is another to begin with."""
        if situation.baseline_is_complete:
            return None
        space = situation.space
        values = space.repair(space.decode(np.full(space.dimensions, 0.5)))
        if not situation.acceptable(values):
            return None
        return Proposal(
            values=values,
            proposer=self.name,
            reason=f"the middle of all {space.dimensions} dimensions: there is no complete baseline to begin with",
            evidence={"point": 0, "configs": 0},
        )

    def _next(self, situation: Situation, index: int, known: Array, taken: Sequence[Values]) -> Proposal:
        space = situation.space
        values: dict[str, Any] = {}
        for window in range(WINDOWS):
            first = index + window * WINDOW
            points = sobol(space.dimensions, situation.study.seed, first)
            drawn = [space.repair(space.decode(point)) for point in points]
            apart = nearest_known(space, np.array([space.encode(one, fill=math.nan) for one in drawn]), known)
            runs = self._runs(situation, drawn)
            safe, far = runs >= AS_SAFE * runs.max(), apart >= APART * apart.max()
            for i in np.lexsort([~far, ~safe]):
                values = drawn[i]
                if values not in taken and situation.acceptable(values):
                    return self._explained(values, int(first + i + 1), float(apart[i]), float(runs[i]), len(known))
        drawn_in_all = WINDOWS * WINDOW
        return Proposal(
            values=values,
            proposer=self.name,
            reason=f"none of {drawn_in_all} points of a Sobol sequence gives a valid, new config; this is the last one",
            evidence={"points": drawn_in_all, "acceptable": 0},
        )

    def _runs(self, situation: Situation, drawn: Sequence[Values]) -> Array:
        """The chance that each succeeds; 1 while no run has failed."""
        if not situation.lessons.progress.failed:
            return np.ones(len(drawn))
        return np.array([1 - forecast.fails for forecast in situation.world.forecast(drawn)])

    def _explained(self, values: Values, point: int, apart: float, runs: float, known: int) -> Proposal:
        reason = f"point {point} of a scrambled Sobol sequence"
        evidence: dict[str, Any] = {"point": point, "configs": known}
        if known:
            reason += f", {apart:.3f} of the space's width from the nearest of {known} configs decided so far"
            evidence["distance"] = apart
        if runs < 1:
            reason += f"; {1 - runs:.0%} likely to fail"
            evidence["fails"] = 1 - runs
        return Proposal(values=values, proposer=self.name, reason=reason, evidence=evidence)


def sobol(dimensions: int, seed: int, start: int) -> Array:
    """Points ``start`` to ``start + WINDOW`` of the study's sequence; shape (WINDOW, dimensions), in [0, 1)."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng([seed, 0]))
    if start:
        sequence.fast_forward(start)
    return np.asarray(sequence.random(WINDOW))


def nearest_known(space: Space, points: Array, known: Array) -> Array:
    """The distance of each of ``points`` (k, d) to the nearest of ``known`` (n, d), shape (k,); 1 where n is 0.

    Root mean square over parameters of differences in the unit cube: 0 or 1 (Hamming) in unordered dimensions, 0 where
    the parameter is not active (NaN) in one of the two.
    """
    if not len(known):
        return np.ones(len(points))
    squares = np.zeros((len(points), len(known)))
    for where in space.slices.values():
        for j in range(where.start, where.stop):
            difference = np.abs(points[:, j, None] - known[None, :, j])
            if space.unordered[j]:
                difference = np.where(np.isnan(difference), 0.0, difference > 0)
            squares += np.nan_to_num(difference) ** 2 / (where.stop - where.start)
    return np.asarray(np.sqrt(squares.min(axis=1) / len(space.slices)))


PROPOSERS: Mapping[str, Proposer] = {
    proposer.name: proposer
    for proposer in (Baseline(), Explorer(), Bayesian(), LocalExploiter(), Pattern(), Ablation(), Repeat())
}
