"""The database as a file: how it is made, opened, upgraded and shared, and what is said when something is wrong."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from processes import ENVIRONMENT
from windlass.errors import MissingExtra, StoreError
from windlass.records.run import MetricSummary, RunRecord, Status
from windlass.store import database, schema
from windlass.store.sql import SqlStore


def a_run(number: int, process: int = 0) -> RunRecord:
    return RunRecord(
        id=f"20261120T000000Z_p{process}_{number:010x}",
        name=f"p{process}",
        status=Status.RUNNING,
        created=float(number),
        config={"number": number, f"only{process}": True},
        metrics={"value": MetricSummary.of(float(number))},
        tags={"process": str(process)},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with 200 runs, closed."""
    place = tmp_path / "windlass.db"
    store = SqlStore(place)
    store.put(a_run(number) for number in range(200))
    store.close()
    return place


def python(code: str, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdin=-1, stdout=-1, stderr=-1, text=True)


# Making and opening


def test_a_database_appears_whole_and_closes_into_one_file(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "windlass.db")
    store.put([a_run(1)])
    store.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["windlass.db"]


def test_the_database_runs_as_it_should(path: Path) -> None:
    store = SqlStore(path)
    with store.database.write() as connection:

        def pragma(name: str) -> object:
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar()

        assert pragma("journal_mode") == "wal"
        assert pragma("synchronous") == 1  # NORMAL
        assert pragma("foreign_keys") == 1
        assert int(str(pragma("busy_timeout"))) >= 10_000
    assert store.check() == []
    store.close()


def test_a_lock_that_is_held_too_long_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    store = SqlStore(path)
    assert len(store.search()) == 200, "reading goes on"
    with pytest.raises(StoreError, match=r"was locked by another process for more than 0\.05 s"):
        store.put([a_run(1000)])
    holder.execute("ROLLBACK")
    holder.close()
    store.put([a_run(1000)])
    store.close()


def test_opening_an_up_to_date_database_does_not_import_alembic(path: Path) -> None:
    code = (
        "import sys; from windlass.store.sql import SqlStore\n"
        "store = SqlStore(sys.argv[1]); assert len(store.search()) == 200; store.close()\n"
        "print([name for name in sys.modules if name.startswith(('alembic', 'numpy', 'pydantic', 'polars'))])"
    )
    out, err = python(code, path).communicate()
    assert out == "[]\n", err


def test_many_processes_create_one_database(tmp_path: Path) -> None:
    code = (
        "import sys; from windlass.store.sql import SqlStore; from windlass.records.decision import StudyRecord\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "store = SqlStore(sys.argv[1])\n"
        "store.save_study(StudyRecord(name=sys.argv[2], definition={}, created=1.0)); store.close()"
    )
    makers = [python(code, tmp_path / "windlass.db", name) for name in range(6)]
    for maker in makers:
        assert maker.stdout is not None and maker.stdout.readline() == "ready\n"
    ends = [maker.communicate("go\n") for maker in makers]
    assert [maker.returncode for maker in makers] == [0] * 6, ends
    store = SqlStore(tmp_path / "windlass.db")
    assert {study.name for study in store.studies()} == {"0", "1", "2", "3", "4", "5"}
    store.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["windlass.db"]


# Migrations


def test_the_migrations_make_exactly_the_tables_of_the_schema(tmp_path: Path) -> None:
    from alembic.script import ScriptDirectory

    assert ScriptDirectory(str(database.MIGRATIONS)).get_heads() == [schema.HEAD]
    made = SqlStore(tmp_path / "made.db")
    made.close()
    migrated = tmp_path / "migrated.db"
    with sqlite3.connect(migrated) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES ('')")
    connection.close()
    engine = create_engine(f"sqlite:///{migrated}")
    with engine.begin() as upgrading:
        upgrading.exec_driver_sql("DELETE FROM alembic_version")
        database.upgrade(upgrading)
    engine.dispose()

    def tables(place: Path) -> dict[str, str]:
        with sqlite3.connect(place) as asked:
            rows = asked.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        asked.close()
        return {name: "".join(text.split()).replace('"', "") for name, text in rows if name != "alembic_version"}

    def sorted_columns(tables: dict[str, str]) -> dict[str, list[str]]:
        return {name: sorted(text.replace("(", ",").replace(")", ",").split(",")) for name, text in tables.items()}

    assert sorted_columns(tables(migrated)) == sorted_columns(tables(tmp_path / "made.db"))


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of a Windlass whose schema is one revision further."""
    migrations = tmp_path / "migrations"
    shutil.copytree(database.MIGRATIONS, migrations)
    (migrations / "versions" / "9999_next.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n\n"
        f"revision = '9999'\ndown_revision = '{schema.HEAD}'\n\n\n"
        "def upgrade() -> None:\n"
        "    op.add_column('studies', sa.Column('owner', sa.Text(), server_default='nobody'))\n"
    )
    monkeypatch.setattr(database, "MIGRATIONS", migrations)
    monkeypatch.setattr(schema, "HEAD", "9999")


def test_an_old_database_is_upgraded_when_it_is_opened(path: Path, next_version: None) -> None:
    store = SqlStore(path)
    assert len(store.search("metrics.value >= 0")) == 200
    store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
        assert "owner" in {row[1] for row in connection.execute("PRAGMA table_info(studies)")}
    connection.close()


def test_an_upgrade_that_fails_changes_nothing(path: Path, tmp_path: Path, next_version: None) -> None:
    revision = tmp_path / "migrations" / "versions" / "9999_next.py"
    revision.write_text(revision.read_text() + "    op.execute('INSERT INTO nowhere VALUES (1)')\n")
    before = list(sqlite3.connect(path).iterdump())
    with pytest.raises(StoreError, match="nowhere"):
        SqlStore(path)
    assert list(sqlite3.connect(path).iterdump()) == before


def test_processes_that_open_an_old_database_upgrade_it_once(path: Path, tmp_path: Path, next_version: None) -> None:
    code = (
        "import pathlib, sys; from windlass.store import database, schema; from windlass.store.sql import SqlStore\n"
        "database.MIGRATIONS = pathlib.Path(sys.argv[2]); schema.HEAD = '9999'\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "store = SqlStore(sys.argv[1]); print(len(store.search())); store.close()"
    )
    openers = [python(code, path, database.MIGRATIONS) for _ in range(4)]
    for opener in openers:
        assert opener.stdout is not None and opener.stdout.readline() == "ready\n"
    assert [opener.communicate("go\n") for opener in openers] == [("200\n", "")] * 4


def test_a_database_of_a_newer_windlass_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0042'")
    connection.close()
    with pytest.raises(StoreError, match=r"newer Windlass \(schema 0042; this one knows") as caught:
        SqlStore(path)
    assert caught.value.next_step == "pip install --upgrade windlass"


# What can be wrong with the file


@pytest.mark.parametrize("garbage", [b"", b"this is no database " * 500, b"SQLite format 3\0" + b"\xff" * 9000])
def test_garbage_is_told_with_the_way_out(path: Path, garbage: bytes) -> None:
    path.write_bytes(garbage)
    with pytest.raises(StoreError, match="damaged") as caught:
        SqlStore(path)
    assert caught.value.next_step == "windlass reindex" and str(path) in caught.value.message


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_file_is_told_with_the_way_out(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(StoreError, match="damaged") as caught:
        store = SqlStore(path)
        store.put(a_run(number) for number in range(1000, 1300))
        store.search(order_by="metrics.value desc")
    assert caught.value.next_step == "windlass reindex"


def test_damage_in_the_middle_is_told(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for offset in range(3 * 4096, len(data), 4096):
        data[offset : offset + 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        SqlStore(path).search()


def test_a_damaged_record_is_told(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE bodies SET body = substr(body, 1, 40) WHERE run = 7")
    connection.close()
    store = SqlStore(path)
    with pytest.raises(StoreError, match="cannot be read") as caught:
        store.search()
    assert caught.value.next_step == "windlass reindex"
    store.close()


def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE things (x)")
    connection.close()
    with pytest.raises(StoreError, match="no Windlass database"):
        SqlStore(tmp_path / "other.db")


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere does not exist"):
        SqlStore(tmp_path / "nowhere" / "windlass.db")


def test_a_full_database_is_told_and_keeps_what_it_had(path: Path) -> None:
    store = SqlStore(path)
    with store.database.write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1")  # SQLite then refuses to grow, as on a full disk
    with pytest.raises(StoreError, match="full"):
        store.put(a_run(number) for number in range(1000, 3000))
    assert len(store.search()) == 200
    store.close()


def test_a_database_that_was_replaced_while_open_is_noticed(path: Path) -> None:
    store = SqlStore(path)
    fresh = path.with_name("fresh.db")
    SqlStore(fresh).close()
    os.replace(fresh, path)
    with pytest.raises(StoreError, match="replaced while it was open"):
        store.put([a_run(1)])
    path.unlink()
    with pytest.raises(StoreError, match="is gone"):
        store.search()
    store.close()


@pytest.fixture
def unwritable() -> Iterator[Path]:
    """A folder with a database in it, that an unprivileged process may read but not write."""
    folder = Path(tempfile.mkdtemp(prefix="windlass-test-"))
    store = SqlStore(folder / "windlass.db")
    store.put(a_run(number) for number in range(20))
    store.close()
    folder.chmod(0o555)
    (folder / "windlass.db").chmod(0o444)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_lab_is_read_and_never_written(unwritable: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys; from windlass.errors import StoreError; from windlass.store.sql import SqlStore\n"
        "from windlass.records.decision import StudyRecord\n"
        "SqlStore(sys.argv[2]).close()\n"  # what is imported late is imported now
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "store = SqlStore(sys.argv[1] + '/windlass.db'); print(len(store.search('metrics.value > 9', limit=5)))\n"
        "for act in (lambda: store.save_study(StudyRecord(name='a', definition={}, created=1.0)),\n"
        "            lambda: SqlStore(sys.argv[1] + '/other.db')):\n"
        "    try: act()\n"
        "    except StoreError as error: print(error.message.split(':')[0])\n"
        "store.close()"
    )
    out, err = python(code, unwritable, tmp_path / "first.db").communicate()
    expected = ["5", f"cannot write {unwritable}/windlass.db", f"cannot write {unwritable}/other.db"]
    assert out.splitlines() == expected, err
    assert sorted(entry.name for entry in unwritable.iterdir()) == ["windlass.db"]


def test_a_url_that_cannot_be_used_is_told() -> None:
    with pytest.raises(StoreError, match="no database URL"):
        SqlStore("nonsense://")
    with pytest.raises((MissingExtra, StoreError)):
        SqlStore("postgresql+psycopg://127.0.0.1:1/nothing")


# Many processes


WRITER = """
import sys
from pathlib import Path
here = Path(sys.argv[4]).parent
sys.path[:0] = [str(here), str(here.parent)]
from dataclasses import replace
from test_database import a_run
from windlass.records.run import Status
from windlass.store.sql import SqlStore
store = SqlStore(sys.argv[1])
process, count = int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True); sys.stdin.readline()
number = 0
while count == 0 or number < count:
    run = a_run(number, process)
    store.put([run])
    store.put([replace(run, status=Status.COMPLETED)])
    number += 1
    if count == 0:
        print(number, flush=True)
store.close()
"""


def writer(path: Path, process: int, count: int) -> subprocess.Popen[str]:
    started = python(WRITER, path, process, count, __file__)
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n", started.stderr and started.stderr.read()
    return started


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_eight_processes_write_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "windlass.db"
    SqlStore(path).close()
    writers = [writer(path, number, 40) for number in range(8)]
    for one in writers:
        go(one)
    assert [one.communicate()[1] for one in writers] == [""] * 8
    store = SqlStore(path)
    for number in range(8):
        runs = store.search(f"tags.process = '{number}' and status = 'completed'", order_by="params.number")
        assert [run.config["number"] for run in runs] == list(range(40))
    assert len(store.search()) == 8 * 40 and store.check() == []
    store.close()


def test_killed_writers_leave_a_sound_store_with_all_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "windlass.db"
    SqlStore(path).close()
    survivor = writer(path, 9, 150)
    go(survivor)
    for process in range(4):
        victim = writer(path, process, 0)
        go(victim)
        assert victim.stdout is not None
        for _ in range(3 + 5 * process):
            acknowledged = int(victim.stdout.readline())
        victim.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(line) for line in victim.stdout if line.strip())])
        victim.wait()
        store = SqlStore(path)
        assert len(store.search(f"tags.process = '{process}' and status = 'completed'")) >= acknowledged
        assert store.check() == []
        store.close()
    assert survivor.communicate()[1] == ""
    store = SqlStore(path)
    assert len(store.search("tags.process = '9' and status = 'completed'")) == 150
    store.close()
