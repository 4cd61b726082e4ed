"""The tables. A run is one narrow row in ``runs``, its whole record as JSON in ``bodies``, and rows to search by.

Names of metrics, params and tags are interned in ``names``. NaN is NULL here (the body has it truly). Text columns hold
``comparable_text``. A change needs a new revision in ``migrations/versions`` and a new ``HEAD``.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Index, Integer, MetaData, SmallInteger, Table, Text

#: the revision that these tables are; the newest of ``migrations/versions``
HEAD = "0003"

metadata = MetaData()

_Key = BigInteger().with_variant(Integer, "sqlite")
_Text = Text().with_variant(Text(collation="C"), "postgresql")  # by code points everywhere


def _run() -> Column[int]:
    return Column("run", _Key, ForeignKey("runs.pk", ondelete="CASCADE"), primary_key=True, autoincrement=False)


def _name() -> Column[int]:
    return Column("name", Integer, ForeignKey("names.pk"), primary_key=True, autoincrement=False)


studies = Table(
    "studies",
    metadata,
    Column("name", _Text, primary_key=True),
    Column("created", Double, nullable=False),
    Column("body", Text, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("study", _Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
)

approvals = Table(
    "approvals",
    metadata,
    Column("study", _Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
)

audit = Table(
    "audit",  # the registry's log; ``body`` is the whole entry as canonical JSON
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("pk", _Key, primary_key=True, autoincrement=False),
    Column("id", _Text, nullable=False, unique=True),
    Column("name", _Text, nullable=False),
    Column("status", _Text, nullable=False),
    Column("study", _Text),
    Column("number", Double),
    Column("seed", Double, nullable=False),
    Column("attempt", Double, nullable=False),
    Column("failure", _Text),
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("ended", Double),
    Column("duration", Double),
)
Index("runs_created", runs.c.created.desc(), runs.c.id)
Index("runs_status", runs.c.status, runs.c.created.desc(), runs.c.id)
Index("runs_study", runs.c.study, runs.c.created.desc(), runs.c.id)
Index("runs_name", runs.c.name, runs.c.created.desc(), runs.c.id)
Index("runs_ended", runs.c.ended)
Index("runs_duration", runs.c.duration)

bodies = Table("bodies", metadata, _run(), Column("body", Text, nullable=False))

names = Table(
    "names",
    metadata,
    Column("pk", Integer, primary_key=True, autoincrement=False),
    Column("name", _Text, nullable=False, unique=True),
)

metrics = Table(
    "metrics",
    metadata,
    _run(),
    _name(),
    Column("last", Double),
    Column("min", Double),
    Column("max", Double),
    Column("step", Double),
    sqlite_with_rowid=False,
)
Index("metrics_last", metrics.c.name, metrics.c.last, metrics.c.run)
Index("metrics_min", metrics.c.name, metrics.c.min, metrics.c.run)
Index("metrics_max", metrics.c.name, metrics.c.max, metrics.c.run)

params = Table(
    "params",
    metadata,
    _run(),
    _name(),
    Column("kind", SmallInteger, nullable=False),  # expression.Kind
    Column("number", Double),  # of BOOL (0, 1) and NUMBER
    Column("text", _Text),  # of TEXT
    sqlite_with_rowid=False,
)
Index("params_value", params.c.name, params.c.kind, params.c.number, params.c.text, params.c.run)

items = Table(
    "items",  # of list-valued params
    metadata,
    _run(),
    _name(),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("kind", SmallInteger, nullable=False),
    Column("number", Double),
    Column("text", _Text),
    sqlite_with_rowid=False,
)
Index("items_value", items.c.name, items.c.kind, items.c.number, items.c.text, items.c.run)

tags = Table("tags", metadata, _run(), _name(), Column("text", _Text, nullable=False), sqlite_with_rowid=False)
Index("tags_value", tags.c.name, tags.c.text, tags.c.run)
