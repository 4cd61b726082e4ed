"""A search expression as a frozen tree, and the values that it compares. ``search`` reads text into it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

_TEXT_LIMIT = 500


class Kind(IntEnum):
    """The type of a value; the order of the sortable ones is their sort order."""

    NULL = 0
    BOOL = 1
    NUMBER = 2
    TEXT = 3
    LIST = 4
    OBJECT = 5
    NAN = 6


SORTABLE = (Kind.BOOL, Kind.NUMBER, Kind.TEXT)


@dataclass(frozen=True, slots=True)
class Value:
    """A value as search sees it: a float for BOOL and NUMBER, a str for TEXT, None for every other kind."""

    kind: Kind
    data: float | str | None = None


def typed(value: Any) -> Value:
    """The searchable form of any JSON value."""
    if isinstance(value, str):
        return Value(Kind.TEXT, comparable_text(value))
    if isinstance(value, bool):
        return Value(Kind.BOOL, float(value))
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf if value > 0 else -math.inf
        return Value(Kind.NAN) if math.isnan(number) else Value(Kind.NUMBER, number)
    if value is None:
        return Value(Kind.NULL)
    return Value(Kind.OBJECT if isinstance(value, Mapping) else Kind.LIST)


def comparable_text(text: str) -> str:
    """The part of a text that search compares, in characters that every database can hold."""
    text = text[:_TEXT_LIMIT]
    return (
        text if text.isascii() and "\0" not in text else text.replace("\0", "\ufffd").encode(errors="replace").decode()
    )


Group = Literal["metrics", "params", "tags", "run"]


@dataclass(frozen=True, slots=True)
class Field:
    group: Group
    name: str
    aspect: str = "last"  #: of a metric


Operator = Literal["=", "<", "<=", ">", ">="]
Pattern = Literal["LIKE", "ILIKE"]


@dataclass(frozen=True, slots=True)
class Compare:
    field: Field
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class In:
    field: Field
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Like:
    field: Field
    operator: Pattern
    pattern: str


@dataclass(frozen=True, slots=True)
class Contains:
    field: Field
    value: Value


@dataclass(frozen=True, slots=True)
class IsNull:
    field: Field


@dataclass(frozen=True, slots=True)
class IsNan:
    field: Field


@dataclass(frozen=True, slots=True)
class Not:
    node: Node


@dataclass(frozen=True, slots=True)
class And:
    nodes: tuple[Node, ...]  #: none: true for every run


@dataclass(frozen=True, slots=True)
class Or:
    nodes: tuple[Node, ...]


Leaf = Compare | In | Like | Contains | IsNull | IsNan
Node = Leaf | Not | And | Or


@dataclass(frozen=True, slots=True)
class OrderKey:
    field: Field
    descending: bool = False
