"""The parameters of a search space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, StrictBool, Tag, model_validator

from windlass.records.fields import Number, Scalar, Strict, Whole, whole
from windlass.records.region import Region

#: whole numbers stay below this, so that an int parameter's cells are exact in double precision
LARGEST_INT = 2**40


class _Parameter(Strict):
    when: Region | None = Field(None, description="active only where these conditions on other parameters hold")


class _Numeric(_Parameter):
    log: StrictBool = Field(False, description="sample on a log scale; low must be above 0")

    def _check_range(self, low: float, high: float) -> Self:
        if not low < high:
            raise ValueError(f"low {low:g} must be below high {high:g}")
        if self.log and low <= 0:
            raise ValueError(f"a log scale needs low above 0, not {low:g}")
        return self


class FloatParameter(_Numeric):
    type: Literal["float"]
    low: Number
    high: Number

    @model_validator(mode="after")
    def _range(self) -> Self:
        return self._check_range(self.low, self.high)


class IntParameter(_Numeric):
    type: Literal["int"]
    low: Whole
    high: Whole

    @model_validator(mode="after")
    def _range(self) -> Self:
        if max(-self.low, self.high) > LARGEST_INT:
            raise ValueError(f"an int stays within +-{LARGEST_INT}; take a float for wider ranges")
        return self._check_range(self.low, self.high)


class CategoricalParameter(_Parameter):
    type: Literal["categorical"]
    choices: tuple[Scalar, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        _refuse_duplicates(self.choices)
        return self


class BoolParameter(_Parameter):
    type: Literal["bool"]


class SetParameter(_Parameter):
    """A subset of ``choices``; its value is a list in the order of ``choices``."""

    type: Literal["set"]
    choices: tuple[Scalar, ...] = Field(min_length=1)
    min_size: Whole = Field(0, ge=0)
    max_size: Annotated[int, Field(ge=0), BeforeValidator(whole)] | None = None

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        _refuse_duplicates(self.choices)
        top = len(self.choices) if self.max_size is None else self.max_size
        if not self.min_size <= top <= len(self.choices):
            raise ValueError(f"sizes {self.min_size} to {top} do not fit {len(self.choices)} choices")
        return self


def _refuse_duplicates(choices: tuple[Scalar, ...]) -> None:
    if len(set(choices)) != len(choices):  # 1, 1.0 and true are one value here: data frames and SQL agree
        raise ValueError(f"choices repeat a value: {list(choices)}")


PARAMETER_TYPES = ("float", "int", "categorical", "bool", "set")


def _parameter_type(value: Any) -> Any:
    return value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)


Parameter = Annotated[
    Annotated[FloatParameter, Tag("float")]
    | Annotated[IntParameter, Tag("int")]
    | Annotated[CategoricalParameter, Tag("categorical")]
    | Annotated[BoolParameter, Tag("bool")]
    | Annotated[SetParameter, Tag("set")],
    Discriminator(_parameter_type),
]
