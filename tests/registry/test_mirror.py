"""``registry.jsonl`` and the database: after a kill, a fault or a backup they come to one end, or are told apart."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from keptlines import generations
from processes import ENVIRONMENT, until
from windlass.errors import StateError, StoreError
from windlass.records.audit import Change, ChangeKind
from windlass.registry.memory import MemoryRegistry
from windlass.registry.mirror import Mirror
from windlass.registry.protocol import Registry
from windlass.registry.sql import SqlRegistry
from windlass.store.database import Database


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "registry.jsonl")


@pytest.fixture
def registry() -> MemoryRegistry:
    """About twenty entries."""
    return generations(3)[0].registry


def copied(registry: Registry) -> bytes:
    """What the file holds once it has caught up."""
    return b"".join(text.encode() + b"\n" for _, text in registry.lines() if isinstance(text, str))


def short(registry: Registry, count: int) -> MemoryRegistry:
    """The log as it was after ``count`` entries."""
    made = MemoryRegistry()
    made.restore(registry.entries()[:count])
    return made


def more(registry: Registry, run: str = "another run") -> None:
    checkpoint = registry.entries()[0].subject
    registry.append(Change(kind=ChangeKind.REPRODUCED, subject=checkpoint, body={"run": run}), actor="me", at=0.0)


# Following


def test_nothing_is_written_where_nothing_is_known(mirror: Mirror) -> None:
    mirror.catch_up(MemoryRegistry())
    assert not mirror.path.exists()
    assert (list(mirror.lines()), mirror.entries()) == ([], [])


def test_the_file_follows_the_log(mirror: Mirror, registry: MemoryRegistry) -> None:
    mirror.catch_up(registry)
    assert mirror.path.read_bytes() == copied(registry)
    more(registry)
    mirror.catch_up(registry)
    assert mirror.path.read_bytes() == copied(registry)
    assert mirror.entries() == registry.entries()


def test_only_what_is_missing_is_appended(mirror: Mirror, registry: MemoryRegistry) -> None:
    mirror.catch_up(short(registry, 5))
    inode = mirror.path.stat().st_ino
    asked: list[int] = []
    entries = registry.entries
    registry.entries = lambda after=0: asked.append(after) or entries(after)  # type: ignore[method-assign,func-returns-value]
    mirror.catch_up(registry)
    assert asked == [4], "the last known one and what follows"
    assert (mirror.path.read_bytes(), mirror.path.stat().st_ino) == (copied(registry), inode)


def test_a_file_that_is_whole_is_not_opened_for_writing(
    mirror: Mirror, registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.catch_up(registry)
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened for writing"))
    mirror.catch_up(registry)


@pytest.mark.parametrize("size", [1, 65_000, 66_000, 1_500_000])
def test_entries_of_any_size(mirror: Mirror, registry: MemoryRegistry, size: int) -> None:
    for _ in range(2):
        more(registry, "x" * size)
        mirror.catch_up(registry)
        assert mirror.path.read_bytes() == copied(registry)


# Killed


def test_killed_between_the_database_and_the_file(tmp_path: Path, mirror: Mirror) -> None:
    with database_of(tmp_path, generations(2)[0].registry) as registry:
        mirror.catch_up(registry)
        before = mirror.path.read_bytes()
        killed(tmp_path, "")
        assert mirror.path.read_bytes() == before
        assert registry.entries()[-1].body == {"run": "of the killed one"}
        mirror.catch_up(registry)
        assert mirror.path.read_bytes() == before + registry.entries()[-1].to_text().encode() + b"\n"


@pytest.mark.parametrize("written", [0, 250])
def test_killed_while_it_writes_the_file(tmp_path: Path, mirror: Mirror, written: int) -> None:
    with database_of(tmp_path, generations(1)[0].registry) as registry:
        mirror.catch_up(registry)
        before = mirror.path.read_bytes()
        killed(tmp_path, f"write = os.write; os.write = lambda fd, data: (write(fd, data[:{written}]), die())\n")
        torn = mirror.path.read_bytes()
        assert torn.startswith(before) and len(torn) == len(before) + written
        mirror.catch_up(registry)
        assert mirror.path.read_bytes() == before + registry.entries()[-1].to_text().encode() + b"\n"


class database_of:
    """A registry in ``folder``'s database, with the entries of another one."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self.database = Database(folder / "windlass.db")
        self.registry = SqlRegistry(self.database)
        self.registry.restore(registry.entries())

    def __enter__(self) -> SqlRegistry:
        return self.registry

    def __exit__(self, *_: Any) -> None:
        self.database.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from windlass.records.audit import Change, ChangeKind
from windlass.registry.mirror import Mirror
from windlass.registry.sql import SqlRegistry
from windlass.store.database import Database
def die():
    os.kill(os.getpid(), signal.SIGKILL)
folder = Path(sys.argv[1])
registry = SqlRegistry(Database(folder / "windlass.db"))
checkpoint = registry.entries()[0].subject
body = {"run": "of the killed one"}
registry.append(Change(kind=ChangeKind.REPRODUCED, subject=checkpoint, body=body), actor="it", at=0.0)
"""


def killed(folder: Path, before: str) -> None:
    """A process that appends to the database and is killed before, or while, the file follows."""
    follow = "Mirror(folder / 'registry.jsonl').catch_up(registry)" if before else ""
    code = f"{KILLED}{before}{follow}\ndie()\n"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr


def test_a_torn_last_line_is_written_anew_wherever_it_was_cut(mirror: Mirror) -> None:
    registry = generations(1)[0].registry
    whole = copied(registry)
    begin = whole.rindex(b"\n", 0, -1) + 1
    for cut in (*range(begin, len(whole) - 3, 11), *range(len(whole) - 3, len(whole))):
        mirror.path.write_bytes(whole[:cut])
        assert len(list(mirror.lines())) == len(registry.entries()) - 1
        mirror.catch_up(registry)
        assert mirror.path.read_bytes() == whole, cut


@pytest.mark.parametrize("torn", [b"", b"{", b'{"actor"', b"\x00\xff"])
def test_a_file_without_a_whole_line_is_written_anew(mirror: Mirror, registry: MemoryRegistry, torn: bytes) -> None:
    mirror.path.write_bytes(torn)
    mirror.catch_up(registry)
    assert mirror.path.read_bytes() == copied(registry)
    mirror.path.write_bytes(torn)
    mirror.catch_up(MemoryRegistry())
    assert mirror.path.read_bytes() == b""


# The database lost something


@pytest.mark.parametrize("known", [0, 1, 7])
@pytest.mark.parametrize("torn", [b"", b'{"actor":'])
def test_what_the_database_lost_comes_back(mirror: Mirror, registry: MemoryRegistry, known: int, torn: bytes) -> None:
    mirror.path.write_bytes(copied(registry) + torn)
    behind = short(registry, known)
    mirror.catch_up(behind)
    assert behind.entries() == registry.entries()
    assert repr(vars(behind.state())) == repr(vars(registry.state()))
    assert mirror.path.read_bytes() == copied(registry)


def test_a_database_from_a_backup_goes_on_where_the_file_ends(tmp_path: Path, mirror: Mirror) -> None:
    with database_of(tmp_path, generations(1)[0].registry) as registry:
        mirror.catch_up(registry)
    shutil.copy(tmp_path / "windlass.db", tmp_path / "backup.db")
    with closing(Database(tmp_path / "windlass.db")) as database:
        registry = SqlRegistry(database)
        for run in ("one", "two"):
            more(registry, run)
        mirror.catch_up(registry)
        entries = registry.entries()
    (tmp_path / "backup.db").replace(tmp_path / "windlass.db")
    with closing(Database(tmp_path / "windlass.db")) as database:
        registry = SqlRegistry(database)
        assert len(registry.entries()) == len(entries) - 2
        mirror.catch_up(registry)
        assert registry.entries() == entries
        more(registry, "three")
        mirror.catch_up(registry)
        assert mirror.entries() == registry.entries() and len(registry.entries()) == len(entries) + 1


# Two truths


@pytest.mark.parametrize("ours", [1, 2, 5])
@pytest.mark.parametrize("theirs", [1, 2, 5])
def test_two_copies_that_differ_stay_two(mirror: Mirror, registry: MemoryRegistry, ours: int, theirs: int) -> None:
    """A database from a backup went on by itself: neither copy is made the other's."""
    ahead, behind = short(registry, 10), short(registry, 10)
    for number in range(ours):
        more(ahead, f"ours {number}")
    for number in range(theirs):
        more(behind, f"theirs {number}")
    mirror.catch_up(ahead)
    file, entries = mirror.path.read_bytes(), behind.entries()
    with pytest.raises(StateError, match=r"entry 1\d of the audit log is not the one in .*registry.jsonl") as told:
        mirror.catch_up(behind)
    assert told.value.next_step == "windlass audit verify"
    assert (mirror.path.read_bytes(), behind.entries()) == (file, entries)


def test_a_file_of_another_lab_is_not_taken_over(mirror: Mirror, registry: MemoryRegistry) -> None:
    other = MemoryRegistry()
    generations(2)[0].registry.entries()
    other.restore(registry.entries()[:1])
    more(other)
    mirror.catch_up(other)
    file = mirror.path.read_bytes()
    with pytest.raises(StateError, match="entry 2 of the audit log is not the one"):
        mirror.catch_up(registry)
    assert mirror.path.read_bytes() == file


@pytest.mark.parametrize("last", [b"\n", b"{}\n", b"[]\n", b"no json\n", b'{"sequence": 1}\n', b"\xff\n"])
def test_a_last_line_that_is_no_entry_is_told_and_kept(mirror: Mirror, registry: MemoryRegistry, last: bytes) -> None:
    mirror.path.write_bytes(copied(registry) + last)
    with pytest.raises(StateError, match=r"the last line of .*registry.jsonl is no entry") as told:
        mirror.catch_up(registry)
    assert told.value.next_step == "windlass audit verify"
    assert mirror.path.read_bytes() == copied(registry) + last


def test_nothing_is_restored_from_a_file_with_a_damaged_line(mirror: Mirror, registry: MemoryRegistry) -> None:
    lines = copied(registry).splitlines(keepends=True)
    mirror.path.write_bytes(b"".join([*lines[:5], b"garbage\n", *lines[6:]]))
    behind = short(registry, 2)
    with pytest.raises(StoreError, match=r"line 6 of .*registry.jsonl is no entry"):
        mirror.catch_up(behind)
    mirror.path.write_bytes(b"".join([*lines[:5], *lines[6:]]))
    with pytest.raises(StateError, match="entry 7 does not follow entry 5"):
        mirror.catch_up(behind)
    edited = lines[5].replace(b'"actor":"study digits"', b'"actor":"nobody"')
    assert edited != lines[5]
    mirror.path.write_bytes(b"".join([*lines[:5], edited, *lines[6:]]))
    with pytest.raises(StateError, match="entry 6 is not what its hash was made of"):
        mirror.catch_up(behind)
    assert len(behind.entries()) == 2


# Many processes


def test_processes_catch_up_at_once(tmp_path: Path, mirror: Mirror) -> None:
    """Each appends to the database and lets the file follow, twenty times: no line is lost, doubled or torn."""
    code = (
        "import sys; from pathlib import Path; from windlass.records.audit import Change, ChangeKind\n"
        "from windlass.registry.mirror import Mirror; from windlass.registry.sql import SqlRegistry\n"
        "from windlass.store.database import Database\n"
        "folder = Path(sys.argv[1]); registry = SqlRegistry(Database(folder / 'windlass.db'))\n"
        "mirror, one = Mirror(folder / 'registry.jsonl'), registry.entries()[0].subject\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for number in range(20):\n"
        "    body = {'run': f'{sys.argv[2]} {number}'}\n"
        "    registry.append(Change(kind=ChangeKind.REPRODUCED, subject=one, body=body), actor=sys.argv[2])\n"
        "    mirror.catch_up(registry)\n"
    )
    with database_of(tmp_path, short(generations(1)[0].registry, 1)) as registry:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(tmp_path), name],
                env=ENVIRONMENT, stdin=-1, stdout=-1, stderr=-1, text=True,
            )
            for name in ("a", "b")
        ]  # fmt: skip
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        ends = [process.communicate() for process in processes]
        assert [process.returncode for process in processes] == [0, 0], ends
        assert mirror.entries() == registry.entries() and len(registry.entries()) == 41


def test_one_waits_while_another_writes(
    mirror: Mirror, registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one, which knows more, comes when the first has read where the file ends."""
    mirror.catch_up(short(registry, 5))
    lock, truncate, waits = fcntl.flock, os.ftruncate, threading.Event()
    second = threading.Thread(target=lambda: mirror.catch_up(registry))

    def comes_to_the_lock(fd: int, how: int) -> None:
        if threading.current_thread() is second:
            waits.set()
        lock(fd, how)

    def meanwhile(fd: int, end: int) -> None:
        monkeypatch.setattr(os, "ftruncate", truncate)
        second.start()
        until(lambda: waits.is_set() or not second.is_alive())
        truncate(fd, end)

    monkeypatch.setattr(fcntl, "flock", comes_to_the_lock)
    monkeypatch.setattr(os, "ftruncate", meanwhile)
    mirror.catch_up(short(registry, 7))
    second.join()
    assert mirror.path.read_bytes() == copied(registry)


# Faults


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path, registry: MemoryRegistry) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "nowhere" / "registry.jsonl", tmp_path / "folder", Path("/dev/full")):
        with pytest.raises(StoreError, match=f"cannot write {path}") as told:
            Mirror(path).catch_up(registry)
        assert told.value.next_step == f"ls -ld {path.parent}"


def test_a_disk_that_fills_while_it_writes(tmp_path: Path, mirror: Mirror, registry: MemoryRegistry) -> None:
    """A process whose files may not grow beyond 3,000 bytes."""
    source = tmp_path / "source.jsonl"
    source.write_bytes(copied(registry))
    code = (
        "import resource, sys; from pathlib import Path; from windlass.errors import StoreError\n"
        "from windlass.registry.memory import MemoryRegistry; from windlass.registry.mirror import Mirror\n"
        "registry = MemoryRegistry(); registry.restore(Mirror(Path(sys.argv[1])).entries())\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "try: Mirror(Path(sys.argv[2])).catch_up(registry)\n"
        "except StoreError as error: print(error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(source), str(mirror.path)], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.stdout == f"cannot write {mirror.path}: File too large\n", done.stderr
    assert mirror.path.read_bytes() == copied(registry)[:3000], "as much as there was room for"
    mirror.catch_up(registry)
    assert mirror.path.read_bytes() == copied(registry)
