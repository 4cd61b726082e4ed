"""The registry in a lab's database: the audit log is one table, the state is folded from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, LargeBinary, cast, insert, select

from windlass.errors import StoreError
from windlass.records.audit import Change, Entry
from windlass.registry.log import chain, fold
from windlass.registry.state import State
from windlass.store import schema
from windlass.store.database import Database


class SqlRegistry:
    """Implements ``Registry``; safe to share between threads, and any number of processes may open one database.

    Raises StoreError where the database is damaged, locked, full or cannot be written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._state = State()  # of committed entries; never changed, only replaced

    def state(self) -> State:
        with self._database.read() as connection:
            state = self._caught_up(connection)
        self._state = state
        return state

    def append(self, *changes: Change, actor: str, at: float | None = None) -> list[Entry]:
        return self._enter(lambda state: chain(state, changes, actor, time.time() if at is None else at))

    def entries(self, after: int = 0) -> list[Entry]:
        with self._database.read() as connection:
            return _entries(connection, after)

    def lines(self) -> Iterable[tuple[int, str | bytes]]:
        with self._database.read() as connection:
            return _texts(connection, 0)

    def restore(self, entries: Sequence[Entry]) -> None:
        self._enter(lambda _: entries)

    def _enter(self, make: Callable[[State], Sequence[Entry]]) -> list[Entry]:
        """Insert what is made of the newest state, where the life cycle allows it."""
        with self._database.write() as connection:
            known = self._caught_up(connection)
            new = list(make(known))
            state = fold(new, known)
            if new:
                rows = [{"sequence": entry.sequence, "body": entry.to_text()} for entry in new]
                connection.execute(insert(schema.audit), rows)
        self._state = state
        return new

    def _caught_up(self, connection: Connection) -> State:
        state = self._state
        found = _entries(connection, state.sequence - 1)
        if not state.sequence:
            return fold(found)
        if not found or (found[0].sequence, found[0].hash) != (state.sequence, state.hash):  # another log
            return fold(_entries(connection, 0))
        return fold(found[1:], state) if found[1:] else state


def _entries(connection: Connection, after: int) -> list[Entry]:
    found = []
    for sequence, text in _texts(connection, after):
        try:
            found.append(Entry.from_text(text))
        except ValueError as error:
            raise StoreError(
                f"entry {sequence} of the audit log cannot be read: {error}", "windlass audit verify"
            ) from error
    return found


def _texts(connection: Connection, after: int) -> list[tuple[int, str | bytes]]:
    """In order. SQLite gives bytes: what is there may be no text any more."""
    table = schema.audit
    body: ColumnElement[str] | ColumnElement[bytes] = table.c.body
    if connection.dialect.name == "sqlite":
        body = cast(body, LargeBinary)
    asked = select(table.c.sequence, body).where(table.c.sequence > after).order_by(table.c.sequence)
    return [(sequence, text) for sequence, text in connection.execute(asked)]
