"""Proposers: each turns a situation into proposals. Same situation, same proposals, to the bit.

A proposer draws until ``Situation.acceptable`` agrees (rules, constraints, nothing that exists already), at most
``DRAWS`` times; its last draw goes to the decision anyway, which then names the rule that rejects it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from windlass.records.content import flatten
from windlass.records.decision import Proposal
from windlass.records.run import RunRecord
from windlass.records.study import Study
from windlass.space.space import Space

DRAWS = 300


class Results(Protocol):
    """What the deciders know about the results (``windlass.history.Progress``)."""

    @property
    def settled(self) -> int: ...
    @property
    def ranked(self) -> tuple[RunRecord, ...]: ...
    @property
    def best_score(self) -> float | None: ...
    @property
    def since_improvement(self) -> int: ...
    @property
    def recent_failure_share(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the deciders see."""

    study: Study
    space: Space
    progress: Results
    next_number: int  #: the number the next decision gets
    explored: int  #: explorer decisions so far
    baseline_is_complete: bool  #: the study's baseline alone is a valid config
    acceptable: Callable[[Mapping[str, Any]], bool]  #: values give a valid config that no run has


class Proposer(Protocol):
    name: ClassVar[str]

    def propose(self, situation: Situation, numbers: Sequence[int]) -> list[Proposal]:
        """One proposal for each decision number."""


def _draw(situation: Situation, candidates: Iterator[dict[str, Any]], taken: list[dict[str, Any]]) -> dict[str, Any]:
    """The first acceptable candidate that is not ``taken`` in this batch; else the last one drawn."""
    values: dict[str, Any] = {}
    for _, values in zip(range(DRAWS), candidates, strict=False):
        if values not in taken and situation.acceptable(values):
            break
    taken.append(values)
    return values


class BaselineProposer:
    """The study's baseline as it is."""

    name: ClassVar[str] = "baseline"

    def propose(self, situation: Situation, numbers: Sequence[int]) -> list[Proposal]:
        return [Proposal(values={}, proposer=self.name, reason="the study's baseline, unchanged") for _ in numbers]


class Explorer:
    """Covers the space with a scrambled Sobol sequence (Owen 1998, as in scipy.stats.qmc.Sobol)."""

    name: ClassVar[str] = "explorer"

    def propose(self, situation: Situation, numbers: Sequence[int]) -> list[Proposal]:
        space, taken, proposals = situation.space, list[dict[str, Any]](), list[Proposal]()
        points = _sobol(space.dimensions, situation.study.seed, situation.explored, len(numbers))
        for i, number in enumerate(numbers):
            rng = np.random.default_rng([situation.study.seed, number, 1])

            def candidates(point: np.ndarray = points[i], rng: np.random.Generator = rng) -> Iterator[dict[str, Any]]:
                yield space.repair(space.decode(point))
                while True:
                    yield space.repair(space.decode(rng.random(space.dimensions)))

            values = _draw(situation, candidates(), taken)
            reason = (
                f"point {situation.explored + i + 1} of a scrambled Sobol sequence over {space.dimensions} dimensions"
            )
            proposals.append(Proposal(values=values, proposer=self.name, reason=reason))
        return proposals


def _sobol(dimensions: int, seed: int, start: int, count: int) -> np.ndarray:
    """Points ``start`` to ``start + count`` of the study's sequence; shape (count, dimensions), in [0, 1)."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng([seed, 0]))
    if start:
        sequence.fast_forward(start)
    points: np.ndarray = np.vstack([sequence.random(1) for _ in range(count)])
    return points


class LocalExploiter:
    """Mutates one of the best runs: a Gaussian step in the unit cube that narrows as results come in.

    Each dimension moves with probability max(0.3, 2/d); a parent is drawn from the best fifth (at least 3) with
    weight 1/rank.
    """

    name: ClassVar[str] = "local"

    def propose(self, situation: Situation, numbers: Sequence[int]) -> list[Proposal]:
        space, progress = situation.space, situation.progress
        parents = progress.ranked[: max(3, len(progress.ranked) // 5)]
        weights = 1.0 / np.arange(1, len(parents) + 1)
        step = max(0.04, 0.3 / np.sqrt(1 + progress.settled / space.dimensions))
        taken, proposals = list[dict[str, Any]](), list[Proposal]()
        for number in numbers:
            rng = np.random.default_rng([situation.study.seed, number, 2])
            rank = int(rng.choice(len(parents), p=weights / weights.sum()))
            parent = parents[rank]
            known = {name: value for name, value in flatten(parent.config).items() if name in space.names}

            def candidates(known: dict[str, Any] = known, rng: np.random.Generator = rng) -> Iterator[dict[str, Any]]:
                width = step
                while True:
                    yield space.repair(_mutate(space, known, rng, width))
                    width = min(0.5, width * 1.02)

            values = _draw(situation, candidates(), taken)
            reason = f"a step of {step:.3f} around run {parent.id}, rank {rank + 1} of {len(progress.ranked)}"
            proposals.append(Proposal(values=values, proposer=self.name, reason=reason))
        return proposals


def _mutate(space: Space, known: Mapping[str, Any], rng: np.random.Generator, width: float) -> dict[str, Any]:
    """Flat values near ``known``; what it lacks is drawn afresh, what does not move stays as it is, to the bit."""
    fresh = rng.random(space.dimensions)
    point = space.encode(known, fill=np.nan)
    point = np.where(np.isnan(point), fresh, point)
    moves = rng.random(space.dimensions) < max(0.3, 2 / space.dimensions)
    moves[rng.integers(space.dimensions)] = True
    stepped = np.abs(point + rng.normal(0.0, width, space.dimensions))
    stepped = np.where(stepped > 1, 2 - stepped, stepped)
    jumps = space.unordered & (rng.random(space.dimensions) < 0.3)
    moved = np.where(space.unordered, np.where(jumps, fresh, point), stepped)
    values = space.decode(np.clip(np.where(moves, moved, point), 0, 1))
    still = [name for name in values if name in known and not moves[space.slices[name]].any()]
    return {**values, **{name: known[name] for name in still}}


PROPOSERS: Mapping[str, Proposer] = {
    proposer.name: proposer for proposer in (BaselineProposer(), Explorer(), LocalExploiter())
}
