"""From a search tree to the primary keys of the runs that match, in order.

Values are always bound parameters. Every leaf becomes a condition that is true or false, never NULL, so that NOT means
what it says. There are two ways through the data:

walk
    along the index of the first order key, testing each run, up to the limit. Cost: limit / share of matches.
gather
    first all runs that meet one selective condition, from its index, then test and sort those. Cost: their number.

On SQLite a walk that is not done after a while is broken off, and the most selective condition is gathered instead.
PostgreSQL's planner makes that choice itself.
"""

from __future__ import annotations

import itertools
import operator
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    FromClause,
    Select,
    UnaryExpression,
    and_,
    exists,
    false,
    func,
    not_,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.operators import custom_op

from windlass.store.expression import (
    SORTABLE,
    And,
    Compare,
    Contains,
    Field,
    In,
    IsNan,
    IsNull,
    Kind,
    Leaf,
    Like,
    Node,
    Not,
    Or,
    OrderKey,
    Value,
    comparable_text,
)
from windlass.store.schema import items, metrics, params, runs, tags

Condition = ColumnElement[bool]
Keys = Select[Any] | CompoundSelect[Any]
#: columns by name
Row = Mapping[str, ColumnElement[Any]] | ReadOnlyColumnCollection[str, Any]
Test = Callable[[ColumnElement[Any]], Condition]

_WALK_STEPS = 30_000  #: of SQLite's virtual machine, about 1 ms: after one to two times as many a walk is broken off
_GATHER_MOST = 20_000  #: a condition that more runs meet is not gathered
_SORTABLE = (int(SORTABLE[0]), int(SORTABLE[-1]))
_INDEXED = frozenset({"id", "status", "study", "name", "created", "ended", "duration"})
_TABLES = {"metrics": metrics, "params": params, "tags": tags}
_WALKED = {group: table.alias("walked") for group, table in _TABLES.items()}
_GATHERED = runs.alias("gathered")
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def find(
    connection: Connection,
    names: Mapping[str, int],
    node: Node,
    keys: Sequence[OrderKey],
    limit: int | None,
    offset: int,
) -> list[int]:
    """Primary keys of the matching runs; ``names`` has the interned names that exist."""
    search = _Search(connection, names)
    keys = [key for key in keys if key.field.group == "run" or search.name(key.field) is not None]
    if limit is None or not keys:
        return search.gather(node, keys, limit, offset, search.smallest(node))
    walk = search.walk(keys[0])
    if not search.sqlite or node == And(()):
        return search.along(walk, node, keys[1:], limit, offset)
    try:
        with _broken_off(connection):
            return search.along(walk, node, keys[1:], limit, offset)
    except _BrokenOff:
        selective = search.smallest(node)
        if selective is None:
            return search.along(walk, node, keys[1:], limit, offset)
        return search.gather(node, keys, limit, offset, selective)


class _BrokenOff(Exception):
    """A statement took too many steps."""


@contextmanager
def _broken_off(connection: Connection) -> Iterator[None]:
    """Raises _BrokenOff from any statement on SQLite that takes long."""
    handle: Any = connection.connection.dbapi_connection
    calls = itertools.count()  # the first may come at any step: a prepared statement goes on counting where it was
    handle.set_progress_handler(lambda: next(calls) > 0, _WALK_STEPS)
    try:
        yield
    except OperationalError as error:
        if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise _BrokenOff from error
        raise
    finally:
        handle.set_progress_handler(None, 0)


@dataclass(frozen=True)
class _Walk:
    """The index of one order key: the rows that have a sortable value there."""

    key: OrderKey
    source: FromClause
    row: FromClause  #: the table, or its alias, that holds the value
    columns: tuple[ColumnElement[Any], ...]  #: to sort by
    present: Condition

    @property
    def ordering(self) -> list[ColumnElement[Any]]:
        return [_directed(column, self.key) for column in self.columns]


class _Search:
    def __init__(self, connection: Connection, names: Mapping[str, int]) -> None:
        self.connection = connection
        self.names = names
        self.sqlite = connection.dialect.name == "sqlite"

    def name(self, field: Field) -> int | None:
        return self.names.get(comparable_text(field.name))

    # conditions

    def condition(self, node: Node, walk: _Walk | None = None, *, seek: bool = True) -> Condition:
        """True or false for a row of ``runs``; inside a walk, its own field is read from the walk's row.

        Without ``seek`` the conditions on ``runs`` are tests only, never a reason to take another index.
        """
        match node:
            case And(nodes):
                return and_(true(), *(self.condition(one, walk, seek=seek) for one in nodes))
            case Or(nodes):
                return or_(false(), *(self.condition(one, walk, seek=seek) for one in nodes))
            case Not(inner):
                return not_(self.condition(inner, walk, seek=seek))
            case leaf:
                return self.leaf(leaf, walk, seek)

    def leaf(self, leaf: Leaf, walk: _Walk | None, seek: bool) -> Condition:
        field = leaf.field
        if field.group == "run":
            column = runs.c[field.name]
            if isinstance(leaf, IsNull):
                return column.is_(None)
            test = self.test(leaf, {field.name: column if seek else self.unsought(column)})
            return and_(column.is_not(None), test) if column.nullable else test
        name = self.name(field)
        if name is None:
            return true() if isinstance(leaf, IsNull) else false()
        if walk is not None and field == walk.key.field:
            return false() if isinstance(leaf, IsNull | IsNan | Contains) else self.test(leaf, walk.row.c)
        row = self.table(leaf)
        if isinstance(leaf, IsNull):
            there = row.c.kind != int(Kind.NULL) if field.group == "params" else true()
            return not_(exists().where(row.c.run == runs.c.pk, row.c.name == name, there))
        return exists().where(row.c.run == runs.c.pk, row.c.name == name, self.test(leaf, row.c))

    def unsought(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """``+column``: the same value, of which SQLite does not know that an index has it."""
        return UnaryExpression(column, operator=custom_op("+"), type_=column.type) if self.sqlite else column

    def table(self, leaf: Leaf) -> FromClause:
        return items if isinstance(leaf, Contains) else _TABLES[leaf.field.group]

    def test(self, leaf: Leaf, row: Row) -> Condition:
        """The leaf on the value of one row of its table."""
        field = leaf.field
        match leaf:
            case Compare(_, sign, value):
                return self.among(field, row, value.kind, lambda column: _SIGNS[sign](column, value.data))
            case Contains(_, value):
                return self.among(field, row, value.kind, lambda column: column == value.data)
            case In(_, values):
                kinds = sorted({value.kind for value in values})
                return or_(*(self.among(field, row, kind, _one_of(values, kind)) for kind in kinds))
            case Like(_, sign, pattern):
                return self.among(field, row, Kind.TEXT, lambda column: self.like(column, sign, pattern))
            case IsNan():
                return row[field.aspect].is_(None) if field.group == "metrics" else row["kind"] == int(Kind.NAN)
            case IsNull():
                raise AssertionError("IS NULL is about the row, not about its value")

    def among(self, field: Field, row: Row, kind: Kind, test: Test) -> Condition:
        """``test`` on the column that holds values of ``kind``; false for values of other kinds."""
        if field.group != "params":
            return test(row[_column(field)])
        if kind is Kind.TEXT:
            return and_(row["kind"] == int(kind), row["number"].is_(None), test(row["text"]))
        return and_(row["kind"] == int(kind), test(row["number"]))

    def like(self, column: ColumnElement[Any], sign: str, pattern: str) -> Condition:
        if not self.sqlite:
            literal = pattern.replace("\\", "\\\\")
            return column.like(literal) if sign == "LIKE" else column.ilike(literal)
        if sign == "ILIKE":
            return column.op("LIKE", is_comparison=True)(pattern)
        glob = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
        return column.op("GLOB", is_comparison=True)("".join(glob.get(letter, letter) for letter in pattern))

    # the two ways

    def walk(self, key: OrderKey) -> _Walk:
        field = key.field
        if field.group == "run":
            column = runs.c[field.name]
            return _Walk(key, runs, runs, (column,), column.is_not(None) if column.nullable else true())
        row = _WALKED[field.group]
        columns = _sort_columns(field, row)
        there = row.c.kind.between(*_SORTABLE) if field.group == "params" else columns[0].is_not(None)
        source = row.join(runs, runs.c.pk == row.c.run)
        return _Walk(key, source, row, columns, and_(row.c.name == self.name(field), there))

    def along(self, walk: _Walk, node: Node, rest: Sequence[OrderKey], limit: int, offset: int) -> list[int]:
        source, ordering = self.sorted_by(rest, walk.source)
        having = (
            select(runs.c.pk)
            .select_from(source)
            .where(walk.present, self.condition(node, walk, seek=walk.row is runs))
            .order_by(*walk.ordering, *ordering)
        )
        found = self.keys(having.limit(limit).offset(offset or None))
        field = walk.key.field
        if len(found) == limit or _is_everywhere(field) or _requires(node, field):
            return found
        skip = 0
        if offset and not found:
            total = select(func.count()).select_from(having.order_by(None).subquery())
            skip = offset - int(self.connection.execute(total).scalar_one())
        if field.group == "run":
            lacking: Condition = runs.c[field.name].is_(None)
        else:
            lacking = not_(exists().where(walk.row.c.run == runs.c.pk, walk.present))
        return found + self.gather(node, rest, limit - len(found), skip, self.smallest(node), lacking)

    def gather(
        self,
        node: Node,
        keys: Sequence[OrderKey],
        limit: int | None,
        offset: int,
        selective: Keys | None,
        also: Condition | None = None,
    ) -> list[int]:
        source, ordering = self.sorted_by(keys, runs)
        statement = select(runs.c.pk).select_from(source).where(self.condition(node, seek=selective is None))
        if selective is not None:
            statement = statement.where(runs.c.pk.in_(selective))
        if also is not None:
            statement = statement.where(also)
        return self.keys(statement.order_by(*ordering).limit(limit).offset(offset or None))

    def sorted_by(self, keys: Sequence[OrderKey], source: FromClause) -> tuple[FromClause, list[ColumnElement[Any]]]:
        """``source`` joined with what the keys need, and the ordering: the missing last, ties by id."""
        ordering: list[ColumnElement[Any]] = []
        for key in keys:
            if key.field.group == "run":
                columns: tuple[ColumnElement[Any], ...] = (runs.c[key.field.name],)
            else:
                row = _TABLES[key.field.group].alias()
                on = [row.c.run == runs.c.pk, row.c.name == self.name(key.field)]
                if key.field.group == "params":
                    on.append(row.c.kind.between(*_SORTABLE))
                source = source.outerjoin(row, and_(*on))
                columns = _sort_columns(key.field, row)
            ordering += [_directed(column, key).nulls_last() for column in columns]
        return source, [*ordering, runs.c.id]

    def smallest(self, node: Node) -> Keys | None:
        """The condition, of those that every match meets, with the fewest runs; None where all are too common."""
        parts = self._fewest(node.nodes if isinstance(node, And) else (node,))
        return union_all(*parts) if parts else None

    def _fewest(self, nodes: Sequence[Node]) -> list[Select[Any]]:
        best: list[Select[Any]] = []
        fewest = _GATHER_MOST
        for node in nodes:
            if parts := self.selection(node):
                counted = select(func.count()).select_from(union_all(*parts).limit(fewest).subquery())
                count = int(self.connection.execute(counted).scalar_one())
                if count < fewest:
                    best, fewest = parts, count
        return best

    def selection(self, node: Node) -> list[Select[Any]]:
        """All runs that meet a condition, as statements that each read one index; none where no index has them."""
        match node:
            case And(nodes):
                return self._fewest(nodes)
            case Or(nodes):
                choices = [self.selection(one) for one in nodes]
                return [part for parts in choices for part in parts] if all(choices) else []
            case Compare(field) | In(field) | Contains(field):
                if field.group == "run":
                    test = self.test(node, _GATHERED.c)
                    return [select(_GATHERED.c.pk).where(test)] if field.name in _INDEXED else []
                row = self.table(node)
                return [select(row.c.run).where(row.c.name == (self.name(field) or 0), self.test(node, row.c))]
            case _:
                return []

    def keys(self, statement: Keys) -> list[int]:
        return list(self.connection.execute(statement).scalars())


def _directed(column: ColumnElement[Any], key: OrderKey) -> UnaryExpression[Any]:
    return column.desc() if key.descending else column.asc()


def _column(field: Field) -> str:
    return field.name if field.group == "run" else field.aspect if field.group == "metrics" else "text"


def _sort_columns(field: Field, row: FromClause) -> tuple[ColumnElement[Any], ...]:
    if field.group == "params":
        return row.c.kind, row.c.number, row.c.text
    return (row.c[_column(field)],)


def _one_of(values: Sequence[Value], kind: Kind) -> Test:
    data = [value.data for value in values if value.kind is kind]
    return lambda column: column.in_(data)


def _is_everywhere(field: Field) -> bool:
    return field.group == "run" and not runs.c[field.name].nullable


def _requires(node: Node, field: Field) -> bool:
    """Whether every run that matches has a sortable value in this field."""
    nodes = node.nodes if isinstance(node, And) else (node,)
    return any(isinstance(one, Compare | In | Like) and one.field == field for one in nodes)
