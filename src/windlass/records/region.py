"""Conditions on a config's values, the boxes they make, and the constraints that forbid or allow a box."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, RootModel, Tag, model_validator

from windlass.records.fields import Name, Number, Scalar, Strict, Text


class Interval(Strict):
    """A closed interval; one end may be left open."""

    min: Number | None = None
    max: Number | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("an interval needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self

    def holds(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class Contains(Strict):
    """For a set-valued parameter: all of these are in the set."""

    contains: tuple[Scalar, ...] = Field(min_length=1)

    def holds(self, value: Any) -> bool:
        return isinstance(value, (list, tuple, set, frozenset)) and all(
            any(same(member, one) for one in value) for member in self.contains
        )


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, (bool, int, float, str)) else value


class OneOf(
    RootModel[
        Annotated[
            tuple[Scalar, ...],
            Field(min_length=1),
            BeforeValidator(_several, json_schema_input_type=Scalar | tuple[Scalar, ...]),
        ]
    ]
):
    """One of the listed values: ``svm`` or ``[svm, mlp]``."""

    model_config = ConfigDict(frozen=True)

    def holds(self, value: Any) -> bool:
        return any(same(value, one) for one in self.root)


def same(a: Any, b: Any) -> bool:
    """Equal, where true is not 1 (and 1.0 is)."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _condition_kind(value: Any) -> str:
    if isinstance(value, Contains) or (isinstance(value, Mapping) and "contains" in value):
        return "contains"
    return "interval" if isinstance(value, (Interval, Mapping)) else "one_of"


Condition = Annotated[
    Annotated[Interval, Tag("interval")] | Annotated[Contains, Tag("contains")] | Annotated[OneOf, Tag("one_of")],
    Discriminator(_condition_kind),
]


class Region(RootModel[Annotated[Mapping[Name, Condition], Field(min_length=1)]]):
    """A box in the space: every listed parameter meets its condition.

    One type serves ``when`` (activates a parameter), ``forbid`` and ``allow``, so there is one reading of it.
    """

    model_config = ConfigDict(frozen=True)

    def contains(self, values: Mapping[str, Any]) -> bool:
        """All conditions hold. A condition on an absent (inactive) parameter does not hold."""
        return all(name in values and condition.holds(values[name]) for name, condition in self.root.items())

    def violated_by(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """The listed parameters that are present and outside; an absent parameter violates nothing."""
        return tuple(n for n, condition in self.root.items() if n in values and not condition.holds(values[n]))


class Constraint(Strict):
    """A forbidden or an allowed region; exactly one of the two, so that it cannot be read in two ways.

    ``forbid`` rejects a config that lies inside the region (every condition holds; both ends of an interval belong
    to it). ``allow`` rejects a config in which a listed, active parameter lies outside.
    """

    name: Text = Field(min_length=1)
    forbid: Region | None = None
    allow: Region | None = None
    reason: Text = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.forbid is None) == (self.allow is None):
            raise ValueError("a constraint has either 'forbid' or 'allow', exactly one of them")
        return self

    @property
    def region(self) -> Region:
        region = self.forbid or self.allow
        assert region is not None
        return region

    def rejects(self, values: Mapping[str, Any]) -> bool:
        if self.forbid is not None:
            return self.forbid.contains(values)
        return bool(self.region.violated_by(values))
