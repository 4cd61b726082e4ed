"""The space of a study as a unit cube: ``decode`` a point into values, ``encode`` values into a point."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from windlass.records.content import flatten
from windlass.records.parameters import FloatParameter, IntParameter, Parameter, SetParameter
from windlass.records.region import Condition, Contains, Interval, OneOf
from windlass.records.study import Study
from windlass.records.studyfile import study_error
from windlass.space import repair as linear_rules
from windlass.space.consistency import contradictions, parents_first
from windlass.space.parameters import canonical_value, from_unit, is_ordered, sizes, to_unit, width
from windlass.space.rules import Rule, parse_rule


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Space:
    """Parameters with the parents of conditions first, each with its dimensions of the unit cube."""

    parameters: Mapping[str, Parameter]  #: parents first, otherwise in the study's order
    rules: tuple[Rule, ...]
    fixed: Mapping[str, Any]  #: the study's baseline, flat
    slices: Mapping[str, slice]  #: a parameter's dimensions
    dimensions: int
    labels: tuple[str, ...]  #: one a dimension: ``lr``, or ``augment[flip]`` for a member of a set
    size: int | None  #: how many different configs, before rules and constraints; None where there is a float
    unordered: npt.NDArray[np.bool_]  #: dimensions in which near points are not near values; shape (dimensions,)
    _floats: Mapping[str, FloatParameter] = field(repr=False)

    @classmethod
    def of(cls, study: Study) -> Self:
        """Raises StudyError that lists every contradiction in the study."""
        if problems := contradictions(study):
            raise study_error(problems, f"study {study.name}")
        parameters = {name: study.space[name] for name in parents_first(study.space)}
        slices: dict[str, slice] = {}
        labels: list[str] = []
        unordered: list[bool] = []
        for name, parameter in parameters.items():
            slices[name] = slice(len(labels), len(labels) + width(parameter))
            members = parameter.choices if isinstance(parameter, SetParameter) else None
            labels += [name] if members is None else [f"{name}[{member}]" for member in members]
            unordered += [not is_ordered(parameter)] * width(parameter)
        mask = np.array(unordered)
        mask.flags.writeable = False
        return cls(
            parameters=parameters,
            rules=tuple(map(parse_rule, study.rules)),
            fixed=flatten(study.baseline),
            slices=slices,
            dimensions=len(labels),
            labels=tuple(labels),
            size=_size(parameters),
            unordered=mask,
            _floats={name: one for name, one in parameters.items() if isinstance(one, FloatParameter)},
        )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.parameters)

    def decode(self, point: Sequence[float] | npt.NDArray[np.float64]) -> dict[str, Any]:
        """Flat values of the active parameters at a point of [0, 1]^dimensions, before rules and constraints.

        Coordinates outside [0, 1] are taken to the edge. Raises ValueError on a wrong length and on NaN.
        """
        clipped = np.clip(np.asarray(point, dtype=np.float64), 0.0, 1.0)
        if clipped.shape != (self.dimensions,) or np.isnan(clipped).any():
            raise ValueError(f"a point has {self.dimensions} finite coordinates, not {point!r}")
        coordinates: list[float] = clipped.tolist()
        values: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            if parameter.when is None or parameter.when.contains(values):
                values[name] = from_unit(parameter, coordinates[self.slices[name]])
        return values

    def encode(self, values: Mapping[str, Any], fill: float = 0.5) -> npt.NDArray[np.float64]:
        """The point of flat ``values``, shape (dimensions,); ``fill`` where they lack a parameter.

        ``decode(encode(values)) == values`` for values that decode gives (floats: to rounding). Names outside the
        space are passed over. Raises ValueError on a value outside its parameter's domain.
        """
        point = np.full(self.dimensions, fill)
        for name, parameter in self.parameters.items():
            if name in values:
                point[self.slices[name]] = to_unit(parameter, values[name])
        return point

    def active(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of ``values`` whose parameters are active among them, parents first. Other names are left out."""
        kept: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            if name in values and (parameter.when is None or parameter.when.contains(kept)):
                kept[name] = values[name]
        return kept

    def place(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The flat params of a run in this space: canonical values of the active parameters, parents first.

        The run may be from before the space changed: a parameter that the space no longer has is dropped; one that is
        absent takes its value in the study's baseline. Raises ValueError, in words, where that leaves a parameter
        without a value of today's domain.
        """
        chosen: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            if parameter.when is not None and not parameter.when.contains(chosen):
                continue
            if name in params:
                value = params[name]
            elif name in self.fixed:
                value = self.fixed[name]
            else:
                raise ValueError(f"it has no value for {name}, and neither has the study's baseline")
            try:
                chosen[name] = canonical_value(parameter, value)
            except ValueError as error:
                raise ValueError(f"{name} {error}") from None
        return chosen

    def repair(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """``values`` with floats moved so that rules such as ``train + validation + test == 1`` hold.

        Only floats of ``values`` move; other names count with their value in the study's baseline. Where the ranges
        leave no solution, nothing moves, and the config will be rejected.
        """
        if not self.rules:
            return dict(values)
        others = {name: value for name, value in self.fixed.items() if name not in self.parameters}
        active = self.active({**self.fixed, **values})
        given = {name: value for name, value in active.items() if name in values}
        return {**values, **linear_rules.repair(given, {**others, **active}, self.rules, self._floats)}


def _size(parameters: Mapping[str, Parameter]) -> int | None:
    """How many different configs there are; None where there is a float. ``parameters``: parents first."""
    if any(isinstance(parameter, FloatParameter) for parameter in parameters.values()):
        return None
    asked = [
        (child, parent, condition)
        for child, one in parameters.items()
        if one.when is not None
        for parent, condition in one.when.root.items()
    ]
    # configs so far, by which of the conditions that are still to be asked they meet
    groups: Counter[frozenset[int]] = Counter({frozenset(): 1})
    for name, parameter in parameters.items():
        needed = frozenset(i for i, (child, _, _) in enumerate(asked) if child == name)
        own = _count_by_met(
            parameter, {i: condition for i, (_, parent, condition) in enumerate(asked) if parent == name}
        )
        grown: Counter[frozenset[int]] = Counter()
        for met, configs in groups.items():
            for newly, values in own.items() if needed <= met else [(frozenset[int](), 1)]:
                grown[(met - needed) | newly] += configs * values
        groups = grown
    return sum(groups.values())


def _count_by_met(parameter: Parameter, conditions: Mapping[int, Condition]) -> Counter[frozenset[int]]:
    """How many of the parameter's values meet which of the conditions. Conditions fit the parameter."""
    counted: Counter[frozenset[int]] = Counter()

    def add(value: Any, times: int) -> None:
        counted[frozenset(i for i, condition in conditions.items() if condition.holds(value))] += times

    match parameter:
        case IntParameter(low=low, high=high):  # conditions change only at their ends: count the stretches between
            ends = [end for condition in conditions.values() for end in _ends(condition)]
            cuts = {low, high + 1, *(cut for end in ends for cut in (math.floor(end), math.floor(end) + 1))}
            for first, after in pairwise(sorted(cut for cut in cuts if low <= cut <= high + 1)):
                add(first, after - first)
        case SetParameter(choices=choices):  # members that no condition names are interchangeable
            low, high = sizes(parameter)
            named = list(dict.fromkeys(m for c in conditions.values() if isinstance(c, Contains) for m in c.contains))
            for size in range(len(named) + 1):
                ways = sum(math.comb(len(choices) - len(named), n - size) for n in range(max(low, size), high + 1))
                for chosen in combinations(named, size):
                    add(chosen, ways)
        case _:
            for value in getattr(parameter, "choices", (False, True)):
                add(value, 1)
    return counted


def _ends(condition: Condition) -> list[Any]:
    """The numbers at which a condition on a number begins or ends to hold."""
    if isinstance(condition, Interval):
        return [end for end in (condition.min, condition.max) if end is not None]
    return list(condition.root) if isinstance(condition, OneOf) else []
