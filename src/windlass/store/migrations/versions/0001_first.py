"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "decisions",
        sa.Column("study", TEXT, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("study", "number"),
    )
    op.create_table(
        "names",
        sa.Column("pk", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("pk"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "runs",
        sa.Column("pk", KEY, autoincrement=False, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("study", TEXT, nullable=True),
        sa.Column("number", sa.Double(), nullable=True),
        sa.Column("seed", sa.Double(), nullable=False),
        sa.Column("attempt", sa.Double(), nullable=False),
        sa.Column("failure", TEXT, nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("started", sa.Double(), nullable=True),
        sa.Column("ended", sa.Double(), nullable=True),
        sa.Column("duration", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("pk"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("runs_created", "runs", [sa.literal_column("created DESC"), "id"])
    op.create_index("runs_duration", "runs", ["duration"])
    op.create_index("runs_ended", "runs", ["ended"])
    op.create_index("runs_name", "runs", ["name", sa.literal_column("created DESC"), "id"])
    op.create_index("runs_status", "runs", ["status", sa.literal_column("created DESC"), "id"])
    op.create_index("runs_study", "runs", ["study", sa.literal_column("created DESC"), "id"])
    op.create_table(
        "studies",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "bodies",
        sa.Column("run", KEY, autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.pk"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run"),
    )
    op.create_table(
        "items",
        sa.Column("run", KEY, autoincrement=False, nullable=False),
        sa.Column("name", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.Column("text", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["name"], ["names.pk"]),
        sa.ForeignKeyConstraint(["run"], ["runs.pk"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "name", "position"),
        sqlite_with_rowid=False,
    )
    op.create_index("items_value", "items", ["name", "kind", "number", "text", "run"])
    op.create_table(
        "metrics",
        sa.Column("run", KEY, autoincrement=False, nullable=False),
        sa.Column("name", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("last", sa.Double(), nullable=True),
        sa.Column("min", sa.Double(), nullable=True),
        sa.Column("max", sa.Double(), nullable=True),
        sa.Column("step", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["name"], ["names.pk"]),
        sa.ForeignKeyConstraint(["run"], ["runs.pk"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("metrics_last", "metrics", ["name", "last", "run"])
    op.create_index("metrics_max", "metrics", ["name", "max", "run"])
    op.create_index("metrics_min", "metrics", ["name", "min", "run"])
    op.create_table(
        "params",
        sa.Column("run", KEY, autoincrement=False, nullable=False),
        sa.Column("name", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.Column("text", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["name"], ["names.pk"]),
        sa.ForeignKeyConstraint(["run"], ["runs.pk"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("params_value", "params", ["name", "kind", "number", "text", "run"])
    op.create_table(
        "tags",
        sa.Column("run", KEY, autoincrement=False, nullable=False),
        sa.Column("name", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["name"], ["names.pk"]),
        sa.ForeignKeyConstraint(["run"], ["runs.pk"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("tags_value", "tags", ["name", "text", "run"])
