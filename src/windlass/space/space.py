"""The space of a study as one unit cube: every point decodes to the values of the active parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from windlass.errors import StudyError
from windlass.records.content import flatten
from windlass.records.study import Region, Study
from windlass.space.parameters import Codec, FloatCodec, codec
from windlass.space.rules import Rule, parse_rule, repair

COUNTABLE = 20_000  #: a space with more configs is not counted
REPAIR_ROUNDS = 8  #: rules that share parameters are repaired in turns


class Space:
    """Parameters in an order in which each comes after those its ``when`` names.

    ``dimensions`` coordinates in [0, 1]: one a parameter, one a choice for sets, in that order.
    """

    def __init__(
        self,
        codecs: Mapping[str, Codec],
        conditions: Mapping[str, Region | None],
        rules: Sequence[Rule],
        fixed: Mapping[str, Any],
    ) -> None:
        self.codecs = dict(codecs)
        self.conditions = dict(conditions)
        self.rules = tuple(rules)
        self.fixed = dict(fixed)  #: the baseline's flat values that are no parameters; rules may name them
        self.names = tuple(codecs)
        self._slices: dict[str, slice] = {}
        start = 0
        for name, one in self.codecs.items():
            self._slices[name] = slice(start, start + one.width)
            start += one.width
        self.dimensions = start
        #: shape (dimensions,): where near coordinates do not mean near values
        self.unordered = np.array([not one.ordered for one in self.codecs.values() for _ in range(one.width)])

    @classmethod
    def of(cls, study: Study) -> Self:
        """Raises StudyError where parameters activate each other in a circle, or a rule cannot be read."""
        order = activation_order({name: p.when for name, p in study.space.items()})
        try:
            rules = [parse_rule(text) for text in study.rules]
        except ValueError as error:
            raise StudyError(f"study {study.name!r}: a rule {error}", "windlass studies check FILE") from error
        fixed = {n: v for n, v in flatten(study.baseline).items() if n not in study.space}
        return cls(
            {name: codec(study.space[name]) for name in order},
            {name: study.space[name].when for name in order},
            rules,
            fixed,
        )

    def active(self, name: str, values: Mapping[str, Any]) -> bool:
        """Whether a parameter is active, given the values of those before it."""
        condition = self.conditions[name]
        return condition is None or condition.contains(values)

    def decode(self, point: Sequence[float] | NDArray[np.float64]) -> dict[str, Any]:
        """Flat values of the active parameters at a point of shape (dimensions,)."""
        coordinates = point.tolist() if isinstance(point, np.ndarray) else list(point)
        values: dict[str, Any] = {}
        for name, one in self.codecs.items():
            if self.active(name, values):
                values[name] = one.decode(coordinates[self._slices[name]])
        return values

    def encode(self, values: Mapping[str, Any], fill: float = 0.5) -> NDArray[np.float64]:
        """The point of flat values, shape (dimensions,); ``fill`` where a parameter is absent."""
        point = np.full(self.dimensions, fill)
        for name, one in self.codecs.items():
            if name in values:
                point[self._slices[name]] = one.encode(values[name])
        return point

    def repair(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Move float parameters onto the linear equalities among the rules (splits that sum to 1)."""
        repaired = dict(values)
        equalities = [rule.linear for rule in self.rules if rule.linear is not None]
        for _ in range(REPAIR_ROUNDS if len(equalities) > 1 else 1):
            before = dict(repaired)
            for linear in equalities:
                moved = repair({**self.fixed, **repaired}, linear, self._bounds)
                repaired.update({name: moved[name] for name in repaired})
            if repaired == before:
                break
        return repaired

    @cached_property
    def _bounds(self) -> dict[str, tuple[float, float]]:
        return {name: (c.low, c.high) for name, c in self.codecs.items() if isinstance(c, FloatCodec)}

    @cached_property
    def size(self) -> int | None:
        """How many distinct configs there are, before rules and constraints; None where they cannot be counted."""
        if any(one.values() is None for one in self.codecs.values()):
            return None
        partial: list[dict[str, Any]] = [{}]
        for name, one in self.codecs.items():
            grown: list[dict[str, Any]] = []
            for values in partial:
                choices = one.values() if self.active(name, values) else None
                if choices is None:
                    grown.append(values)
                    continue
                for value in choices:
                    grown.append({**values, name: value})
                    if len(grown) > COUNTABLE:
                        return None
            partial = grown
        return len(partial)


def activation_order(conditions: Mapping[str, Region | None]) -> tuple[str, ...]:
    """Parameters after those that their conditions name, otherwise in the given order.

    Raises StudyError on a circle, with the names in it.
    """
    placed: dict[str, None] = {}
    waiting = list(conditions)
    while waiting:
        ready = [n for n in waiting if all(p in placed or p not in conditions for p in _parents(conditions[n]))]
        if not ready:
            raise StudyError(
                f"these parameters activate each other in a circle: {', '.join(waiting)}", "Edit their 'when'."
            )
        placed[ready[0]] = None
        waiting.remove(ready[0])
    return tuple(placed)


def _parents(condition: Region | None) -> tuple[str, ...]:
    return tuple(condition.root) if condition is not None else ()
