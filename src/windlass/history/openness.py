"""Whether rules and constraints leave anything to try, found out by sampling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from windlass.errors import ConfigRejected
from windlass.records.lessons import LearnedConstraint
from windlass.records.study import Study
from windlass.space.generate import ConfigGenerator
from windlass.space.space import Space

DRAWS = 1500  #: random configs that are tried, at most
WANTED = 400  #: of them that the study's own rules allow, after which no more are drawn
LEAST = 0.01  #: share of what the study's own rules allow that learned constraints have to leave


def left_open(
    study: Study, space: Space, constraints: Sequence[LearnedConstraint], seed: int = 0
) -> tuple[list[LearnedConstraint], list[str]]:
    """The learned constraints (strongest first) that can be held, and what had to be said, in words.

    Of random configs that the study's own rules allow, at least ``LEAST`` have to be left: the weakest learned
    constraints, by the bound of their purity and then their support, are dropped until that holds.
    """
    sample = _sample(_Key(study, space), seed)
    if not sample.allowed:
        return list(constraints), [_nothing_left(sample)]
    kept, notes = sorted(constraints, key=_strength), list[str]()
    count = len(sample.allowed)
    inside = [np.array([one.constraint.rejects(values) for values in sample.allowed]) for one in kept]
    while kept:
        left = count - int(np.logical_or.reduce(inside).sum())
        if left >= LEAST * count:
            break
        dropped = kept.pop()
        inside.pop()
        notes.append(
            f"{dropped.constraint.name!r} is not held: with the other learned constraints it leaves {left} of {count}"
            f" random configs that the study's own rules allow ({dropped.constraint.reason})"
        )
    return kept, notes


def _strength(one: LearnedConstraint) -> tuple[float, int, str]:
    return (-one.bound, -len(one.failed), one.constraint.name)


@dataclass(frozen=True, slots=True)
class _Sample:
    drawn: int
    allowed: tuple[Mapping[str, Any], ...]  #: flat values of those that the study's own rules allow
    broken: Mapping[str, int]  #: rule or constraint -> configs that it was the first to reject


class _Key:
    """A study and its space; equal where the studies ask the same."""

    def __init__(self, study: Study, space: Space) -> None:
        self.study, self.space = study, space
        self._content = study.fingerprint

    def __hash__(self) -> int:
        return hash(self._content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._content == other._content


@lru_cache(maxsize=32)
def _sample(key: _Key, seed: int) -> _Sample:
    space = key.space
    generator = ConfigGenerator(key.study, space=space)
    rng = np.random.default_rng([seed, 0, 71])
    allowed: list[Mapping[str, Any]] = []
    broken: Counter[str] = Counter()
    drawn = 0
    while drawn < DRAWS and len(allowed) < WANTED:
        drawn += 1
        values = space.repair(space.decode(rng.random(space.dimensions)))
        try:
            generator.generate(values)
        except ConfigRejected as rejection:
            broken[rejection.rule] += 1
        else:
            allowed.append(values)
    return _Sample(drawn=drawn, allowed=tuple(allowed), broken=dict(broken.most_common()))


def _nothing_left(sample: _Sample) -> str:
    blame = ", ".join(f"{name!r} rejects {count}" for name, count in sample.broken.items())
    return f"the study's own rules and constraints leave none of {sample.drawn} random configs: {blame}"
