"""The store in a SQL database: SQLite on one machine, PostgreSQL for a team.

SQLite runs in WAL mode and every write begins with BEGIN IMMEDIATE, so that writers queue and never deadlock. A commit
survives the death of every process. After a power cut the newest commits may be gone (``synchronous=NORMAL``); what is
there is sound, and run folders bring the rest back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from windlass.errors import StoreError
from windlass.records.decision import Approval, Decision, StudyRecord
from windlass.records.run import RunRecord
from windlass.store import codec, schema
from windlass.store.database import Database
from windlass.store.expression import And, Field, Kind, Node, Not, Or, comparable_text, typed
from windlass.store.lifecycle import RECENT, advance, check_answer, check_decision, check_identity, only_match
from windlass.store.query import find
from windlass.store.search import ASPECTS, parse, parse_order

T = TypeVar("T")

_CHUNK = 500  #: values in one IN list
_ANALYZE_FROM = 1000  #: a put of so many runs lets SQLite look at its statistics again


class SqlStore:
    """Implements ``Store``; safe to share between threads, and any number of processes may open one database.

    Raises StoreError where the database is damaged, locked, full, newer than this code or cannot be written.
    """

    def __init__(self, place: Path | str) -> None:
        """``place`` is the path of a SQLite file, which is created where it is missing, or an SQLAlchemy URL."""
        self.database = Database(place)
        self._names: dict[str, int] = {}  # interned names known to be committed; they never change

    def save_study(self, study: StudyRecord) -> None:
        row = {"name": study.name, "created": study.created, "body": codec.study_to_text(study)}
        with self.database.write() as connection:
            changed = connection.execute(update(schema.studies).where(schema.studies.c.name == study.name), row)
            if not changed.rowcount:
                connection.execute(insert(schema.studies), row)

    def studies(self) -> list[StudyRecord]:
        table = schema.studies
        with self.database.read() as connection:
            bodies = connection.execute(select(table.c.body).order_by(table.c.created, table.c.name)).scalars().all()
        return [codec.study_from_text(body) for body in bodies]

    def record(self, decisions: Sequence[Decision], runs: Sequence[RunRecord] = ()) -> None:
        with self.database.write() as connection:
            self._append(connection, decisions)
            known = dict(_load(connection, [run.id for run in runs]))
            new: dict[str, RunRecord] = {}
            for run in runs:
                if run.id in known:
                    check_identity(known[run.id][1], run)
                elif run.id in new:
                    check_identity(new[run.id], run)
                else:
                    new[run.id] = run
            names = self._insert(connection, list(new.values()), {})
        self._names.update(names)

    def decisions(self, study: str, after: int = 0) -> list[Decision]:
        table = schema.decisions
        asked = select(table.c.body).where(table.c.study == study, table.c.number > after).order_by(table.c.number)
        with self.database.read() as connection:
            bodies = connection.execute(asked).scalars().all()
        return [codec.decision_from_text(body) for body in bodies]

    def answer(self, approval: Approval) -> None:
        decisions, table = schema.decisions, schema.approvals
        with self.database.write() as connection:
            bodies = [
                connection.execute(
                    select(t.c.body).where(t.c.study == approval.study, t.c.number == approval.number)
                ).scalar()
                for t in (decisions, table)
            ]
            decision = codec.decision_from_text(bodies[0]) if bodies[0] is not None else None
            stored = codec.approval_from_text(bodies[1]) if bodies[1] is not None else None
            if check_answer(decision, stored, approval):
                row = {"study": approval.study, "number": approval.number, "body": codec.approval_to_text(approval)}
                connection.execute(insert(table), row)

    def approvals(self, study: str) -> list[Approval]:
        table = schema.approvals
        asked = select(table.c.body).where(table.c.study == study).order_by(table.c.number)
        with self.database.read() as connection:
            bodies = connection.execute(asked).scalars().all()
        return [codec.approval_from_text(body) for body in bodies]

    def put(self, runs: Iterable[RunRecord]) -> None:
        given = list(runs)
        if not given:
            return
        with self.database.write() as connection:
            stored = dict(_load(connection, list({run.id for run in given})))
            known = {run_id: run for run_id, (_, run) in stored.items()}
            changed: dict[str, RunRecord] = {}
            for run in given:
                old = changed.get(run.id) or known.get(run.id)
                new = run if old is None else advance(old, run)
                if new is not old:
                    changed[run.id] = new
            replaced = {run_id: stored[run_id][0] for run_id in changed if run_id in stored}
            names = self._insert(connection, list(changed.values()), replaced)
            if len(changed) >= _ANALYZE_FROM and connection.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA analysis_limit=400")
                connection.exec_driver_sql("PRAGMA optimize")
        self._names.update(names)

    def run(self, run_id: str) -> RunRecord:
        table = schema.runs
        with self.database.read() as connection:
            pk = connection.execute(select(table.c.pk).where(table.c.id == run_id)).scalar()
            if pk is None:
                position = func.instr if connection.dialect.name == "sqlite" else func.strpos
                inside = select(table.c.id).where(position(table.c.id, run_id) > 0).order_by(table.c.id).limit(6)
                matches = connection.execute(inside).scalars().all() if run_id else []
                newest = select(table.c.id).order_by(table.c.created.desc()).limit(0 if matches else RECENT)
                found = only_match(run_id, matches, connection.execute(newest).scalars().all())
                pk = connection.execute(select(table.c.pk).where(table.c.id == found)).scalar_one()
            return next(_bodies(connection, [pk]))

    def history(self, study: str) -> list[RunRecord]:
        runs = schema.runs
        asked = (
            select(schema.bodies.c.body)
            .join(runs, runs.c.pk == schema.bodies.c.run)
            .where(runs.c.study == comparable_text(study))
            .order_by(runs.c.number.asc().nulls_last(), runs.c.created, runs.c.id)
        )
        with self.database.read() as connection:
            bodies = connection.execute(asked).scalars().all()
        return [codec.run_from_text(body) for body in bodies]

    def search(
        self, expression: str = "", *, order_by: str = "created desc", limit: int | None = None, offset: int = 0
    ) -> list[RunRecord]:
        node, keys = parse(expression), parse_order(order_by)
        with self.database.read() as connection:
            used = {*_names_in(node), *(name for key in keys for name in _name(key.field))}
            names = self._known_names(connection, used)
            self._names.update(names)
            return list(_bodies(connection, find(connection, names, node, keys, limit, offset)))

    def close(self) -> None:
        self.database.close()

    def check(self) -> list[str]:
        """What SQLite's own check finds wrong, in its words; empty when sound. Reads the whole database."""
        with self.database.read() as connection:
            if connection.dialect.name != "sqlite":
                return []
            found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
            return [] if found == ["ok"] else found

    def _append(self, connection: Connection, decisions: Sequence[Decision]) -> None:
        table = schema.decisions
        for decision in decisions:
            at = (table.c.study == decision.study, table.c.number == decision.number)
            body = connection.execute(select(table.c.body).where(*at)).scalar()
            if body is None:
                row = {"study": decision.study, "number": decision.number, "body": codec.decision_to_text(decision)}
                connection.execute(insert(table), row)
            else:
                check_decision(codec.decision_from_text(body), decision)

    def _insert(
        self, connection: Connection, given: Sequence[RunRecord], replaced: Mapping[str, int]
    ) -> dict[str, int]:
        """Write runs whole; ``replaced`` has the primary keys of those that exist. Returns the names in use."""
        names = self._intern(connection, given)
        last = connection.execute(select(func.max(schema.runs.c.pk))).scalar() or 0
        rows = _Rows(names)
        for run in given:
            if run.id in replaced:
                rows.replace(replaced[run.id], run)
            else:
                last += 1
                rows.add(last, run)
        rows.write(connection)
        return names

    def _intern(self, connection: Connection, given: Sequence[RunRecord]) -> dict[str, int]:
        table = schema.names
        used = {name for run in given for mapping in (run.metrics, run.params, run.tags) for name in mapping}
        names = self._known_names(connection, used)
        missing = sorted({comparable_text(name) for name in used} - names.keys())
        if missing:
            last = connection.execute(select(func.max(table.c.pk))).scalar() or 0
            added = {name: pk for pk, name in enumerate(missing, start=last + 1)}
            connection.execute(insert(table), [{"pk": pk, "name": name} for name, pk in added.items()])
            names |= added
        return names

    def _known_names(self, connection: Connection, used: Iterable[str]) -> dict[str, int]:
        """Primary keys of those names that are interned."""
        table = schema.names
        wanted = {comparable_text(name) for name in used}
        known = {name: self._names[name] for name in wanted & self._names.keys()}
        for chunk in _chunks(sorted(wanted - known.keys())):
            rows = connection.execute(select(table.c.name, table.c.pk).where(table.c.name.in_(chunk)))
            known |= {name: pk for name, pk in rows}
        return known


class _Rows:
    """The rows that runs become, collected table by table."""

    def __init__(self, names: Mapping[str, int]) -> None:
        self.names = names
        self.new: dict[Table, list[dict[str, Any]]] = {
            table: []
            for table in (schema.runs, schema.bodies, schema.metrics, schema.params, schema.items, schema.tags)
        }
        self.changed: list[tuple[int, RunRecord]] = []

    def add(self, pk: int, run: RunRecord) -> None:
        self.new[schema.runs].append({"pk": pk, **_columns(run)})
        self.new[schema.bodies].append({"run": pk, "body": codec.run_to_text(run)})
        self.describe(pk, run)
        for name, value in self.interned(run.params):
            kind, number, text = _value(value)
            self.new[schema.params].append({"run": pk, "name": name, "kind": kind, "number": number, "text": text})
            if kind == Kind.LIST:
                for position, item in enumerate(value):
                    kind, number, text = _value(item)
                    self.new[schema.items].append(
                        {"run": pk, "name": name, "position": position, "kind": kind, "number": number, "text": text}
                    )

    def replace(self, pk: int, run: RunRecord) -> None:
        """A run that exists; its config is still what it was."""
        self.changed.append((pk, run))
        self.describe(pk, run)

    def describe(self, pk: int, run: RunRecord) -> None:
        for name, summary in self.interned(run.metrics):
            numbers = {aspect: _or_null(getattr(summary, aspect)) for aspect in ASPECTS}
            self.new[schema.metrics].append({"run": pk, "name": name, **numbers})
        for name, text in self.interned(run.tags):
            self.new[schema.tags].append({"run": pk, "name": name, "text": comparable_text(text)})

    def interned(self, mapping: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
        """By primary key of the name; of names that search cannot tell apart, the last."""
        yield from {self.names[comparable_text(name)]: value for name, value in mapping.items()}.items()

    def write(self, connection: Connection) -> None:
        for pk, run in self.changed:
            connection.execute(update(schema.runs).where(schema.runs.c.pk == pk), _columns(run))
            connection.execute(update(schema.bodies).where(schema.bodies.c.run == pk), {"body": codec.run_to_text(run)})
            for table in (schema.metrics, schema.tags):
                connection.execute(delete(table).where(table.c.run == pk))
        for table, rows in self.new.items():
            if rows:
                connection.execute(insert(table), rows)


def _columns(run: RunRecord) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": comparable_text(run.name),
        "status": str(run.status),
        "study": None if run.study is None else comparable_text(run.study),
        "number": run.number,
        "seed": typed(run.seed).data,
        "attempt": run.attempt,
        "failure": run.failure and str(run.failure.kind),
        "created": run.created,
        "started": run.started,
        "ended": run.ended,
        "duration": run.duration_s,
    }


def _value(value: Any) -> tuple[int, float | None, str | None]:
    """Kind, number and text of a JSON value."""
    seen = typed(value)
    data = seen.data
    return int(seen.kind), data if isinstance(data, float) else None, data if isinstance(data, str) else None


def _or_null(number: float) -> float | None:
    """NaN is NULL; infinity stays (SQLite and PostgreSQL both have it)."""
    return number if number == number else None


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def _load(connection: Connection, ids: Sequence[str]) -> Iterator[tuple[str, tuple[int, RunRecord]]]:
    """Those of the runs that exist: id, (primary key, record)."""
    runs, bodies = schema.runs, schema.bodies
    for chunk in _chunks(ids):
        asked = select(runs.c.id, runs.c.pk, bodies.c.body).join(bodies, bodies.c.run == runs.c.pk)
        for run_id, pk, body in connection.execute(asked.where(runs.c.id.in_(chunk))):
            yield run_id, (pk, codec.run_from_text(body))


def _bodies(connection: Connection, pks: Sequence[int]) -> Iterator[RunRecord]:
    """The records of these runs, in this order."""
    table = schema.bodies
    for chunk in _chunks(pks):
        rows = connection.execute(select(table.c.run, table.c.body).where(table.c.run.in_(chunk)))
        found = {pk: body for pk, body in rows}
        for pk in chunk:
            if pk not in found:
                raise StoreError(f"run number {pk} of the database has lost its record", "windlass reindex")
            yield codec.run_from_text(found[pk])


def _names_in(node: Node) -> Iterator[str]:
    if isinstance(node, And | Or):
        for one in node.nodes:
            yield from _names_in(one)
    elif isinstance(node, Not):
        yield from _names_in(node.node)
    else:
        yield from _name(node.field)


def _name(field: Field) -> list[str]:
    return [] if field.group == "run" else [field.name]
