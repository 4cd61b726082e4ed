"""Proposers that look for better configs where results point: the world model, steps, recombinations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from windlass.agents.candidates import (
    CANDIDATES,
    Candidate,
    Leader,
    by_rank,
    completed,
    expectation,
    leaders,
    most_promising,
)
from windlass.agents.situation import Situation, Values
from windlass.records.decision import Proposal
from windlass.records.lessons import Pattern as Found
from windlass.records.parameters import CategoricalParameter, FloatParameter, IntParameter, SetParameter
from windlass.records.region import Contains, Interval, OneOf
from windlass.space.parameters import from_unit, sizes, to_unit
from windlass.space.space import Space

IMPOSED = 0.5  #: chance that a recombination takes up each pattern found to help


class Bayesian:
    """What the world model promises most of."""

    name: ClassVar[str] = "bayesian"

    def propose(self, situation: Situation, numbers: Sequence[int]) -> list[Proposal]:
        if not numbers or not situation.world.usable:
            return []
        budget = situation.study.budget
        per_second = budget.wall_time is not None and budget.runs is None  # time, not runs, is what is short
        seed = [situation.study.seed, numbers[0], 3]
        suggested = situation.world.suggest(
            len(numbers), seed=seed, acceptable=situation.acceptable, per_second=per_second
        )
        results = situation.lessons.progress.settled
        return [
            Proposal(
                values=dict(one.values),
                proposer=self.name,
                reason=one.reason or f"the highest promise found by the world model, from {results} results",
                evidence={"merit": one.merit, "results": results, **one.evidence},
            )
            for one in suggested[: len(numbers)]
        ]


class LocalExploiter:
    """Steps from the best runs, by a width that narrows as results come in; of many the one that promises most.

    Each dimension moves with probability max(0.3, 2/d); a parent is drawn from the best fifth (at least 3) with
    weight 1/rank. What does not move stays as it is, to the bit.
    """

    name: ClassVar[str] = "local"

    def propose(self, situation: Situation, numbers: Sequence[int]) -> list[Proposal]:
        progress, seed = situation.lessons.progress, situation.study.seed
        parents = leaders(situation, max(3, len(progress.standings) // 5))
        if not parents:
            return []
        widest = max(0.04, 0.3 / math.sqrt(1 + progress.settled / situation.space.dimensions))
        taken, proposals = list[Values](), list[Proposal]()
        for number in numbers:
            rng = np.random.default_rng([seed, number, 2])
            chosen = most_promising(
                situation, self._steps(situation.space, parents, widest, rng), taken, [seed, number, 2]
            )
            if chosen is None:
                continue
            candidate, promise = chosen
            parent: Leader = candidate.origin
            moved = _differences(parent.values, candidate.values)
            taken.append(candidate.values)
            proposals.append(
                Proposal(
                    values=candidate.values,
                    proposer=self.name,
                    reason=(
                        f"a step of up to {widest:.3f} from run {parent.standing.run.id}, rank {parent.rank} of"
                        f" {len(progress.standings)}: moves {_listed(moved)}"
                        f"{_outlook(situation, candidate, promise)}"
                    ),
                    evidence={
                        "parents": [parent.standing.run.id],
                        "parent_score": parent.standing.score,
                        "width": widest,
                        "moved": moved,
                        **promise,
                    },
                )
            )
        return proposals

    def _steps(
        self, space: Space, parents: Sequence[Leader], widest: float, rng: np.random.Generator
    ) -> Iterator[Candidate]:
        for _ in range(CANDIDATES):
            parent = by_rank(rng, parents)
            reach = widest * 10 ** -rng.random()
            yield Candidate(values=space.repair(_step(space, parent.values, rng, reach)), origin=parent)


class Pattern:
    """Recombines what worked: each parameter from one of two good configs, and values that go with better scores."""

    name: ClassVar[str] = "pattern"

    def propose(self, situation: Situation, numbers: Sequence[int]) -> list[Proposal]:
        progress, seed = situation.lessons.progress, situation.study.seed
        parents = leaders(situation, max(4, len(progress.standings) // 5))
        if len(parents) < 2:
            return []
        helpful = [pattern for pattern in situation.lessons.patterns if pattern.low > 0]
        taken, proposals = list[Values](), list[Proposal]()
        for number in numbers:
            rng = np.random.default_rng([seed, number, 4])
            chosen = most_promising(
                situation, self._crossings(situation.space, parents, helpful, rng), taken, [seed, number, 4]
            )
            if chosen is None:
                continue
            candidate, promise = chosen
            pair, imposed = candidate.origin
            taken.append(candidate.values)
            ids = [one.standing.run.id for one in pair]
            words = "".join(
                f"; {', '.join(p.region.root)} as in the {len(p.runs)} runs that score {p.effect:+.3g}"
                f" ({p.low:+.3g} to {p.high:+.3g}) on the rest"
                for p in imposed
            )
            proposals.append(
                Proposal(
                    values=candidate.values,
                    proposer=self.name,
                    reason=(
                        f"crosses runs {ids[0]} and {ids[1]}, ranks {pair[0].rank} and {pair[1].rank} of"
                        f" {len(progress.standings)}{words}{_outlook(situation, candidate, promise)}"
                    ),
                    evidence={
                        "parents": ids,
                        "parent_scores": [one.standing.score for one in pair],
                        "patterns": [
                            {"parameters": list(p.region.root), "effect": p.effect, "runs": list(p.runs[:5])}
                            for p in imposed
                        ],
                        **promise,
                    },
                )
            )
        return proposals

    def _crossings(
        self, space: Space, parents: Sequence[Leader], helpful: Sequence[Found], rng: np.random.Generator
    ) -> Iterator[Candidate]:
        for _ in range(CANDIDATES):
            first = by_rank(rng, parents)
            second = by_rank(rng, [one for one in parents if one is not first])
            own = {name: values for name in space.names for values in [_either(name, first, second, rng)] if values}
            known = {name: values[0] for name, values in own.items()}
            imposed = [pattern for pattern in helpful if rng.random() < IMPOSED]
            for pattern in imposed:
                known |= inside(space, pattern, known, rng)
            yield Candidate(values=space.repair(completed(space, known, rng)), origin=((first, second), tuple(imposed)))


def inside(space: Space, pattern: Found, known: Values, rng: np.random.Generator) -> dict[str, Any]:
    """Values that lie in the pattern's region, drawn anew only where ``known`` is outside."""
    values: dict[str, Any] = {}
    for name, condition in pattern.region.root.items():
        parameter = space.parameters.get(name)
        if parameter is None or (name in known and condition.holds(known[name])):
            continue
        match condition, parameter:
            case OneOf(root=options), CategoricalParameter(choices=choices):
                fitting = [choice for choice in choices if condition.holds(choice)]
                values[name] = fitting[int(rng.integers(len(fitting)))] if fitting else options[0]
            case Contains(contains=members), SetParameter(choices=choices):
                chosen = [c for c in choices if c in members or c in known.get(name, ())]
                low, high = sizes(parameter)
                if low <= len(chosen) <= high:
                    values[name] = chosen
            case Interval(min=low, max=high), FloatParameter() | IntParameter():
                ends = (parameter.low if low is None else low, parameter.high if high is None else high)
                left, right = (to_unit(parameter, min(max(e, parameter.low), parameter.high))[0] for e in ends)
                drawn = from_unit(parameter, [float(rng.uniform(left, right))])
                if condition.holds(drawn):
                    values[name] = drawn
            case OneOf(root=options), _:
                values[name] = options[int(rng.integers(len(options)))]
    return values


def _either(name: str, first: Leader, second: Leader, rng: np.random.Generator) -> list[Any]:
    """The parameter's value in one of the two, as a list; empty where neither has one."""
    pair = [one.values[name] for one in (first, second) if name in one.values]
    pick = int(rng.integers(2))
    return [pair[pick % len(pair)]] if pair else []


def _step(space: Space, known: Values, rng: np.random.Generator, width: float) -> dict[str, Any]:
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


def _differences(old: Values, new: Values) -> list[str]:
    return [name for name in new if name not in old or old[name] != new[name]]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def _outlook(situation: Situation, chosen: Candidate, numbers: Mapping[str, Any]) -> str:
    """What the world model thinks of it, in words; nothing while it is not usable."""
    expected = expectation(situation, chosen.values)
    if expected is None or not numbers:
        return ""
    words = f"; the best of {numbers['candidates']} such, score {expected[0]:.4g} ± {expected[1]:.2g} expected"
    if "suggested_merit" in numbers:
        share = math.exp(numbers["merit"] - numbers["suggested_merit"])
        words += f", promises {share:.0%} of what the world model would try"
    return words
