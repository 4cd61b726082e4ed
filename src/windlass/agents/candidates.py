"""What proposers share: configs as flat values that fit the space, steps from them, and the choice among many."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from windlass.agents.situation import Situation, Values
from windlass.records.content import flatten
from windlass.records.ranking import Standing
from windlass.space.space import Space

CANDIDATES = 200  #: drawn for one proposal; the world model's favourite is proposed
AT_LEAST = 0.8  #: of what the world model's own suggestion promises; proposers with less leave it the slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """A config that did well, as it fits today's space."""

    values: dict[str, Any]  #: flat, active parameters only
    standing: Standing
    rank: int  #: from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A config that may be proposed, and where it comes from."""

    values: dict[str, Any]
    origin: Any = None


def values_of(space: Space, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The flat active values of a nested config; None where one does not fit the space (any more)."""
    values = space.active(flatten(config))
    try:
        space.encode(values)
    except ValueError:
        return None
    return values


def leaders(situation: Situation, at_most: int) -> list[Leader]:
    """The best configs that fit the space, best first."""
    found: list[Leader] = []
    for rank, standing in enumerate(situation.lessons.progress.standings, start=1):
        if len(found) == at_most:
            break
        values = values_of(situation.space, standing.run.config)
        if values:
            found.append(Leader(values=values, standing=standing, rank=rank))
    return found


def by_rank(rng: np.random.Generator, of: Sequence[Leader]) -> Leader:
    """One of them, drawn with weight 1/rank."""
    weights = 1.0 / np.arange(1, len(of) + 1)
    return of[int(rng.choice(len(of), p=weights / weights.sum()))]


def completed(space: Space, known: Values, rng: np.random.Generator) -> dict[str, Any]:
    """``known`` with a uniform draw for each active parameter it lacks, and without those that are not active."""
    point = space.encode(known, fill=math.nan)
    values = space.decode(np.where(np.isnan(point), rng.random(space.dimensions), point))
    return {name: known.get(name, value) for name, value in values.items()}


def most_promising(
    situation: Situation, candidates: Iterable[Candidate], taken: Sequence[Values], seed: Sequence[int]
) -> tuple[Candidate, dict[str, Any]] | None:
    """The acceptable candidate of the highest merit that is not ``taken``, with the numbers behind it.

    None where none is acceptable, and where the world model itself has something to suggest that promises more than
    1 / ``AT_LEAST`` times as much. While the world model is not usable: the first candidate, without numbers.
    ``seed``: of the world model's suggestion.
    """
    new = _without_doubles(candidates, taken)
    if not situation.world.usable:
        return next(((one, {}) for one in new if situation.acceptable(one.values)), None)
    distinct = list(new)
    merits = situation.world.merit([candidate.values for candidate in distinct])
    order = np.argsort(-merits, kind="stable")
    best = next((i for i in order if situation.acceptable(distinct[i].values)), None)
    if best is None:
        return None
    numbers = {"merit": float(merits[best]), "candidates": len(distinct)}
    rival = situation.world.suggest(1, seed=seed, acceptable=situation.acceptable)
    if rival:
        numbers["suggested_merit"] = rival[0].merit
        if merits[best] < rival[0].merit + math.log(AT_LEAST):
            return None
    return distinct[best], numbers


def _without_doubles(candidates: Iterable[Candidate], taken: Sequence[Values]) -> Iterator[Candidate]:
    seen = {repr(sorted(values.items())) for values in taken}
    for candidate in candidates:
        if (key := repr(sorted(candidate.values.items()))) not in seen:
            seen.add(key)
            yield candidate


def expectation(situation: Situation, values: Values) -> tuple[float, float] | None:
    """Mean and spread of the score that the world model expects; None where it has no opinion."""
    if not situation.world.usable:
        return None
    mean, sd = situation.world.expected_score([values])
    return (float(mean[0]), float(sd[0])) if np.isfinite([mean[0], sd[0]]).all() else None
