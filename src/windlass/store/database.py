"""Opening a database: created whole, upgraded under a lock, refused when newer; errors in words.

An up-to-date database is opened without Alembic: one row tells its revision.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from windlass.errors import MissingExtra, StoreError
from windlass.store import schema

MIGRATIONS = Path(__file__).parent / "migrations"
#: seconds that a write waits for the writes of others
BUSY_S = 30.0
_LOCK_ID = 0x57494E44  # PostgreSQL's advisory lock of all writers
_VERSION_TABLE = "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"


class Database:
    """An engine on an up-to-date Windlass database."""

    def __init__(self, place: Path | str) -> None:
        """``place`` is the path of a SQLite file, which is created where it is missing, or an SQLAlchemy URL."""
        text = str(place)
        self.path: Path | None = Path(text.removeprefix("sqlite:///")) if _is_file(text) else None
        self.label = str(self.path or text)
        if self.path is None:
            self.label, self.engine = _server(text)
            # the lock comes first, then the view: one taken before would miss what was written meanwhile
            self._writing = self.engine.execution_options(windlass_write=True, isolation_level="READ COMMITTED")
        else:
            with self._explained():
                if not self.path.exists():
                    _create_file(self.path)
                elif not self.path.stat().st_size:
                    raise StoreError(f"database {self.label} is damaged: the file is empty", "windlass reindex")
            self.engine = _file_engine(self.path)
            self._writing = self.engine.execution_options(windlass_write=True)
        with self._explained():
            self._bring_up_to_date()
            self._file = self._identity()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view of the database."""
        self._check_identity()
        with self._explained(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, alone in writing from its first statement on."""
        self._check_identity()
        with self._explained(), self._writing.connect() as connection, connection.begin():
            yield connection

    def close(self) -> None:
        self.engine.dispose()

    def _identity(self) -> tuple[int, int] | None:
        if self.path is None:
            return None
        status = os.stat(self.path)
        return status.st_dev, status.st_ino

    def _check_identity(self) -> None:
        """Open connections go on in a file that was moved away; nothing must be written there."""
        with self._explained():
            if self._identity() != self._file:
                raise StoreError(f"database {self.label} was replaced while it was open", "Start this command again.")

    def _bring_up_to_date(self) -> None:
        with self.engine.connect() as connection, connection.begin():
            found = _revision(connection)
        if found == schema.HEAD:
            return
        if found is None and self.path is not None:
            raise StoreError(f"{self.label} is no Windlass database", "windlass reindex")
        with self._writing.connect() as connection, connection.begin():
            found = _revision(connection)
            if found is None:
                _create_tables(connection)
            elif found != schema.HEAD:
                try:
                    upgrade(connection)
                except LookupError:
                    raise StoreError(
                        f"{self.label} was written by a newer Windlass (schema {found}; this one knows {schema.HEAD})",
                        "pip install --upgrade windlass",
                    ) from None

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns the database's errors into a StoreError; mistakes of this package stay what they are."""
        try:
            yield
        except (DBAPIError, sqlite3.Error, OSError) as error:
            told = self._error((error.orig or error) if isinstance(error, DBAPIError) else error)
            if told is None:
                raise
            raise told from error

    def _error(self, error: BaseException) -> StoreError | None:
        if isinstance(error, FileNotFoundError):
            return StoreError(f"database {self.label} is gone", "windlass reindex")
        if isinstance(error, OSError):
            return StoreError(f"cannot write {self.label}: {error.strerror or error}", f"ls -ld {self._folder}")
        if self.path is None:
            kind = type(error).__name__
            if kind not in ("OperationalError", "InterfaceError", "InternalError") and "Read" not in kind:
                return None
            return StoreError(f"database {self.label}: {str(error).strip()}", "windlass doctor")
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")) or "no such" in str(error):
            return StoreError(
                f"database {self.label} is damaged: {error}\nWhat run folders know can be restored.", "windlass reindex"
            )
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return StoreError(
                f"database {self.label} was locked by another process for more than {BUSY_S:g} s",
                f"fuser -v {self.label}",
            )
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
            doing = "cannot open" if name.startswith("SQLITE_CANTOPEN") else "cannot write"
            return StoreError(f"{doing} {self.label}: {error}", f"ls -ld {self._folder}")
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            return StoreError(f"cannot write {self.label}: {error}", f"df -h {self._folder}")
        return None

    @property
    def _folder(self) -> str:
        return str(self.path.parent) if self.path else ""


def upgrade(connection: Connection) -> None:
    """Bring a database to ``schema.HEAD``, in the transaction of ``connection``.

    Raises LookupError where its revision is unknown to this code.
    """
    from alembic.command import upgrade as run_migrations
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    found = _revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise LookupError(found)
    run_migrations(config, "head")


def _is_file(place: str) -> bool:
    return "://" not in place or place.startswith("sqlite:///")


def _revision(connection: Connection) -> str | None:
    """The schema's revision, or None where there is no Windlass schema."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    return None if row is None else str(row[0])


def _create_tables(connection: Connection) -> None:
    """What all migrations together make, in one go."""
    schema.metadata.create_all(connection, checkfirst=False)
    connection.exec_driver_sql(_VERSION_TABLE)
    connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{schema.HEAD}')")


def _create_file(path: Path) -> None:
    """Build the database under a hidden name and link it into place: nobody ever sees half of it.

    Where two processes do this at once, the first one's file stays.
    """
    if not path.parent.is_dir():
        raise StoreError(f"folder {path.parent} does not exist", f"windlass init {path.parent}")
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    try:
        engine = _file_engine(beside)
        try:
            with engine.execution_options(windlass_write=True).connect() as connection, connection.begin():
                _create_tables(connection)
        finally:
            engine.dispose()
        with contextlib.suppress(FileExistsError):
            os.link(beside, path)
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{beside}{suffix}").unlink(missing_ok=True)


def _file_engine(path: Path) -> Engine:
    mode = "rw"
    if not os.access(path.parent, os.W_OK):
        # SQLite cannot put its log beside the file; without one the file alone is the whole truth
        log = Path(f"{path}-wal")
        mode = "ro" if log.exists() and log.stat().st_size else "ro&immutable=1"
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=BUSY_S, check_same_thread=False, isolation_level=None)

    def prepare(connection: Any, _record: Any) -> None:
        for pragma in ("foreign_keys=ON", "synchronous=NORMAL", "cache_size=-65536", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        journal = connection.execute("PRAGMA journal_mode=WAL" if mode == "rw" else "PRAGMA journal_mode").fetchone()[0]
        if mode == "rw" and journal != "wal":
            raise StoreError(
                f"{path} cannot use SQLite's write-ahead log (the file system answered {journal!r})",
                "Put the lab on a local disk, or name a PostgreSQL database in windlass.toml.",
            )

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_reset_on_return="rollback")
    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("windlass_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _server(url: str) -> tuple[str, Engine]:
    """The engine of a database server, and its URL without the password."""
    try:
        parsed = make_url(url)
        engine = create_engine(parsed, isolation_level="REPEATABLE READ", pool_pre_ping=True)
    except ArgumentError as error:
        raise StoreError(f"{url!r} is no database URL: {error}", "Edit windlass.toml") from error
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"{parsed.drivername} needs the package {error.name}", f"pip install {error.name}"
        ) from error
    event.listen(engine, "begin", _queue_up)
    return parsed.render_as_string(hide_password=True), engine


def _queue_up(connection: Connection) -> None:
    if connection.get_execution_options().get("windlass_write"):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_ID})")
