"""The registry's contract, on every implementation; then what a database has to stand: processes, faults, edits."""

from __future__ import annotations

import json
import math
import os
import secrets
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event

from keptlines import Line, generations
from processes import ENVIRONMENT
from windlass.errors import StateError, StoreError
from windlass.records.audit import GENESIS, Change, ChangeKind, Entry
from windlass.records.checkpoint import Checkpoint
from windlass.records.content import digest
from windlass.records.deployment import Stage
from windlass.registry import sql
from windlass.registry.log import fold
from windlass.registry.memory import MemoryRegistry
from windlass.registry.protocol import Registry
from windlass.registry.sql import SqlRegistry
from windlass.registry.state import State
from windlass.store.database import Database

#: postgresql+psycopg://user@host/database, where the contract is to be held there too
POSTGRESQL = os.environ.get("WINDLASS_TEST_POSTGRESQL", "")
SERVERS = ["postgresql"] if POSTGRESQL else []


@pytest.fixture(params=["sqlite", "memory", *SERVERS])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    if request.param == "memory":
        yield MemoryRegistry()
    else:
        with place_of(request.param, tmp_path) as place, closing(Database(place)) as database:
            yield SqlRegistry(database)


@pytest.fixture(params=["sqlite", *SERVERS])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a database without entries."""
    with place_of(request.param, tmp_path) as place:
        Database(place).close()
        yield place


class place_of:
    """A database file, or a schema of its own on the server."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder, self.name = kind, folder, f"test_{secrets.token_hex(8)}"

    def __enter__(self) -> str:
        if self.kind == "sqlite":
            return str(self.folder / "windlass.db")
        self._on_server(f"CREATE SCHEMA {self.name}")
        return f"{POSTGRESQL}{'&' if '?' in POSTGRESQL else '?'}options=-csearch_path%3D{self.name}"

    def __exit__(self, *_: Any) -> None:
        if self.kind != "sqlite":
            self._on_server(f"DROP SCHEMA {self.name} CASCADE")

    def _on_server(self, statement: str) -> None:
        engine = create_engine(POSTGRESQL)
        with engine.begin() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()


def seen(state: State) -> str:
    """Everything that a state says."""
    return repr(vars(state))


def history(registry: Registry) -> Line:
    """Two generations, a rollback, and what else there is."""
    line = Line()
    line.registry = registry  # type: ignore[assignment]
    one = line.generation(1)
    two = line.generation(2, one)
    line.enter(ChangeKind.REPRODUCED, two, run="another run")
    line.roll_back(one)
    line.remove(line.register(3))
    return line


def registered(number: int, **fields: Any) -> Change:
    values = {"digest": digest(number), "bytes": 1, "files": 1, "created": 0.0, "run": f"run {number}"}
    made = Checkpoint(**{**values, **fields})
    return Change(kind=ChangeKind.REGISTERED, subject=made.id, body={"checkpoint": made.to_dict()})


def promotion(line: Line, number: int) -> Change:
    """Of a new checkpoint that was judged against what serves now."""
    checkpoint = line.register(number)
    line.evaluate(checkpoint)
    verdict = line.judge(checkpoint)
    body = {"checkpoint": checkpoint, "previous": verdict.champion, "verdict": verdict.id, "rollback": None}
    return Change(kind=ChangeKind.PROMOTED, subject="reader", body={**body, "reason": "better"})


# The contract


def test_a_new_registry_knows_nothing(registry: Registry) -> None:
    assert (registry.entries(), list(registry.lines())) == ([], [])
    assert (registry.state().sequence, registry.state().hash) == (0, GENESIS)
    assert registry.append(actor="nobody") == []
    assert registry.state().sequence == 0


def test_changes_become_entries_each_bound_to_the_one_before(registry: Registry) -> None:
    made = registry.append(registered(1), registered(2), actor="somebody", at=5.5)
    made += registry.append(registered(3), actor="someone else", at=-1.25)
    assert [entry.sequence for entry in made] == [1, 2, 3]
    assert [entry.at for entry in made] == [5.5, 5.5, -1.25]
    assert [entry.actor for entry in made] == ["somebody", "somebody", "someone else"]
    assert [entry.previous for entry in made] == [GENESIS, made[0].hash, made[1].hash]
    assert all(entry.sound for entry in made)
    assert registry.entries() == made
    assert (registry.entries(1), registry.entries(3), registry.entries(-1)) == (made[1:], [], made)
    assert (registry.state().sequence, registry.state().hash) == (3, made[2].hash)


def test_lines_are_the_entries_as_text(registry: Registry) -> None:
    history(registry)
    lines = [(number, text if isinstance(text, str) else text.decode()) for number, text in registry.lines()]
    assert lines == [(entry.sequence, entry.to_text()) for entry in registry.entries()]
    assert [Entry.from_text(text) for _, text in lines] == registry.entries()
    assert [json.loads(text)["sequence"] for _, text in lines] == list(range(1, len(lines) + 1))


def test_the_state_is_the_fold_of_the_entries(registry: Registry) -> None:
    line = history(registry)
    assert seen(registry.state()) == seen(fold(registry.entries()))
    assert registry.state().sequence == len(registry.entries()) > 20
    assert line.state.deployments["reader"].champion is not None


def test_values_come_back_as_they_were_put(registry: Registry) -> None:
    """What JSON does not have (infinity, tuples) and what it makes hard (long numbers, odd texts)."""
    change = registered(
        1,
        metrics={"high": math.inf, "loss": math.nan, "minus": -0.0, "third": 1 / 3, "tiny": 5e-324},
        config={"": [1, 2.0], "big": 2**70, "empty": {}, "none": None, "Ünïcødé 🚀": 'line\u2028line\x00\x1f"\\'},
        seed=2**63 + 1,
    )
    registry.append(change, actor="naïve\n", at=1e-9)
    back = registry.state().checkpoints[change.subject]
    assert repr(back) == repr(Checkpoint.from_dict(change.body["checkpoint"]))
    assert registry.entries()[0].sound and registry.entries()[0].actor == "naïve\n"


def test_an_entry_does_not_change_with_the_callers_objects(registry: Registry) -> None:
    config: dict[str, Any] = {"inner": {"lr": 0.1}}
    change = registered(1, config=config)
    registry.append(change, actor="somebody", at=0.0)
    config["inner"]["lr"] = 0.2
    change.body["checkpoint"]["run"] = "another"
    assert registry.state().checkpoints[change.subject].config == {"inner": {"lr": 0.1}}
    assert registry.entries()[0].sound


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), "\ud800", {1: 1, "a": 1}, b"bytes"])
def test_what_cannot_be_stored_is_refused_whole(registry: Registry, value: Any) -> None:
    bad = Change(kind=ChangeKind.REPRODUCED, subject=registered(1).subject, body={"run": "one", "more": value})
    with pytest.raises(StoreError, match=r"reproduced of .* cannot be stored"):
        registry.append(registered(1), bad, actor="somebody")
    assert (registry.entries(), registry.state().checkpoints) == ([], {})


def test_of_several_changes_all_or_none_are_entered(registry: Registry) -> None:
    registry.append(registered(1), actor="somebody")
    before = seen(registry.state())
    for changes in ([registered(2), registered(1)], [registered(2), registered(3), registered(2)]):
        with pytest.raises(StateError, match="is registered"):
            registry.append(*changes, actor="somebody")
        assert (seen(registry.state()), len(registry.entries())) == (before, 1)
    assert [entry.sequence for entry in registry.append(registered(2), actor="somebody")] == [2]


def test_later_changes_build_on_earlier_ones_of_the_same_append(registry: Registry) -> None:
    one = registered(1)
    registry.append(
        one, Change(kind=ChangeKind.REPRODUCED, subject=one.subject, body={"run": "run 2"}), actor="somebody"
    )
    assert registry.state().runs[one.subject] == ["run 1", "run 2"]


def test_order_is_by_sequence_though_the_clock_jumps(registry: Registry) -> None:
    line = Line()
    line.registry = registry  # type: ignore[assignment]
    one = line.generation(1)
    line.now = -5000.0
    two = line.generation(2)
    tenures = registry.state().deployments["reader"].tenures
    assert [tenure.checkpoint for tenure in tenures] == [one, two]
    assert tenures[1].since < tenures[0].since
    assert registry.state().evaluations_of(two)[-1].at < registry.state().evaluations_of(one)[0].at
    assert seen(fold(registry.entries())) == seen(registry.state())


def test_a_state_that_was_given_stays_as_it_is(registry: Registry) -> None:
    registry.append(registered(1), actor="somebody")
    state = registry.state()
    before = seen(state)
    registry.append(registered(2), actor="somebody")
    assert seen(state) == before
    assert len(registry.state().checkpoints) == 2


def test_without_a_time_it_is_now(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1234.5)
    assert registry.append(registered(1), actor="somebody")[0].at == 1234.5


# Restoring


def test_entries_are_restored_as_they_are(registry: Registry) -> None:
    source = history(MemoryRegistry()).registry
    registry.restore(source.entries())
    assert (registry.entries(), seen(registry.state())) == (source.entries(), seen(source.state()))


def test_the_rest_is_restored_where_some_are_there(registry: Registry) -> None:
    source = history(MemoryRegistry()).registry
    registry.restore(source.entries()[:7])
    registry.restore(source.entries()[7:])
    registry.restore([])
    assert registry.entries() == source.entries()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda entries: entries[1:], "entry 2 does not follow entry 0"),
        (lambda entries: [*entries[:3], *entries[4:]], "entry 5 does not follow entry 3"),
        (lambda entries: [entries[0], entries[2], entries[1]], "entry 3 does not follow entry 1"),
        (lambda entries: [entries[0], entries[0]], "entry 1 does not follow entry 1"),
        (lambda entries: [edited(entries[0], actor="another"), *entries[1:]], "entry 1 is not what its hash was made"),
        (lambda entries: [*entries[:2], rehashed(entries[2], subject="x"), *entries[3:]], "is about .*, not x"),
        (lambda entries: [rehashed(entries[0], actor="another"), *entries[1:]], "entry 2 does not follow entry 1"),
    ],
)  # fmt: skip
def test_what_does_not_continue_the_log_is_not_restored(
    registry: Registry, spoil: Callable[[list[Entry]], list[Entry]], message: str
) -> None:
    entries = history(MemoryRegistry()).registry.entries()
    with pytest.raises(StateError, match=message) as refused:
        registry.restore(spoil(entries))
    assert refused.value.next_step == "windlass audit verify"
    assert (registry.entries(), registry.state().sequence) == ([], 0)


def edited(entry: Entry, **fields: Any) -> Entry:
    return Entry.from_dict({**entry.to_dict(), **fields})


def rehashed(entry: Entry, **fields: Any) -> Entry:
    data = {key: value for key, value in {**entry.to_dict(), **fields}.items() if key != "hash"}
    return Entry.from_dict({**data, "hash": digest(data)})


# Two at once


def test_of_two_promotions_one_wins_and_the_other_is_told(registry: Registry) -> None:
    line = Line()
    line.registry = registry  # type: ignore[assignment]
    line.generation(1)
    first, second = promotion(line, 2), promotion(line, 3)
    registry.append(first, actor="first")
    with pytest.raises(StateError, match=r"serves as reader, not .*: another promotion came first") as told:
        registry.append(second, actor="second")
    assert told.value.next_step == "windlass deployments show reader"
    assert registry.state().deployments["reader"].champion == first.body["checkpoint"]


def test_of_many_threads_one_promotes_and_the_others_are_told(registry: Registry) -> None:
    line = Line()
    line.registry = registry  # type: ignore[assignment]
    line.generation(1)
    changes = [promotion(line, number) for number in range(2, 8)]
    before, barrier, told = registry.state().sequence, threading.Barrier(len(changes)), []

    def promote(change: Change) -> None:
        barrier.wait()
        try:
            registry.append(change, actor=change.body["checkpoint"])
        except StateError as error:
            told.append(error.message)

    run_all([lambda change=change: promote(change) for change in changes])
    assert len(told) == len(changes) - 1 and all("another promotion came first" in words for words in told)
    (winner,) = registry.entries(before)
    assert registry.state().deployments["reader"].champion == winner.body["checkpoint"] == winner.actor
    assert seen(fold(registry.entries())) == seen(registry.state())


def test_threads_append_and_read_at_once(registry: Registry) -> None:
    done = threading.Event()

    def write(first: int) -> None:
        for number in range(first, first + 25):
            registry.append(registered(number), actor=f"writer {first}")

    def read() -> None:
        known = 0
        while not done.is_set():
            state = registry.state()
            assert len(state.checkpoints) == state.sequence >= known
            known = state.sequence

    reader = threading.Thread(target=read)
    reader.start()
    try:
        run_all([lambda first=first: write(first) for first in (0, 100, 200, 300)])
    finally:
        done.set()
        reader.join()
    entries = registry.entries()
    assert [entry.sequence for entry in entries] == list(range(1, 101))
    assert seen(fold(entries)) == seen(registry.state())


def run_all(tasks: list[Callable[[], None]]) -> None:
    """Each in a thread of its own; what fails in one fails the test."""
    errors: list[BaseException] = []

    def guarded(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=[task]) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


# In a database


def test_what_was_appended_is_there_after_opening_again(place: str) -> None:
    with closing(Database(place)) as database:
        line = history(SqlRegistry(database))
        before, entries = seen(line.state), line.registry.entries()
    with closing(Database(place)) as database:
        again = SqlRegistry(database)
        assert (seen(again.state()), again.entries()) == (before, entries)


def test_what_another_one_writes_is_taken_in_and_nothing_twice(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Database(place)) as database, closing(Database(place)) as elsewhere:
        mine, theirs = SqlRegistry(database), SqlRegistry(elsewhere)
        mine.append(registered(1), registered(2), actor="me")
        assert theirs.state().sequence == 2
        theirs.append(registered(3), registered(4), actor="they")
        folded: list[int] = []
        monkeypatch.setattr(sql, "fold", lambda entries, onto=None: folded.append(len(entries)) or fold(entries, onto))
        assert seen(mine.state()) == seen(theirs.state())
        assert folded == [2], "only what is new"
        assert mine.append(registered(5), actor="me")[0].sequence == 5
        with pytest.raises(StateError, match="is registered"):
            theirs.append(registered(5), actor="they")


def test_real_processes_promote_at_once(place: str) -> None:
    with closing(Database(place)) as database:
        line = Line()
        line.registry = SqlRegistry(database)  # type: ignore[assignment]
        line.generation(1)
        changes = [promotion(line, number) for number in range(2, 4)]
        before = line.state.sequence
        processes = [python(PROMOTE, place, json.dumps(dict(change.body))) for change in changes]
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        ends = [process.communicate() for process in processes]
        out = [end[0] for end in ends]
        assert [process.returncode for process in processes] == [0] * len(processes), ends
        assert sorted(words.startswith("serves") for words in out) == [False] * (len(out) - 1) + [True], ends
        assert sum("another promotion came first" in words for words in out) == len(out) - 1, ends
        (winner,) = line.registry.entries(before)
        assert line.state.deployments["reader"].champion == winner.body["checkpoint"]
        stages = line.state.deployments["reader"].stages
        assert list(stages.values()).count(Stage.CHAMPION) == 1


PROMOTE = """
import json, sys
from windlass.errors import StateError
from windlass.records.audit import Change, ChangeKind
from windlass.registry.sql import SqlRegistry
from windlass.store.database import Database
registry = SqlRegistry(Database(sys.argv[1]))
registry.state()
print("ready", flush=True)
sys.stdin.readline()
try:
    registry.append(Change(kind=ChangeKind.PROMOTED, subject="reader", body=json.loads(sys.argv[2])), actor="process")
    print("serves", registry.state().deployments["reader"].champion)
except StateError as error:
    print(error.message)
"""


def python(code: str, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdin=-1, stdout=-1, stderr=-1, text=True)


def test_processes_append_side_by_side_without_a_gap(place: str) -> None:
    code = (
        "import sys; from windlass.records.audit import Change, ChangeKind\n"
        "from windlass.registry.sql import SqlRegistry; from windlass.store.database import Database\n"
        "registry = SqlRegistry(Database(sys.argv[1]))\n"
        "for run in range(20):\n"
        "    body = {'run': f'{sys.argv[3]} {run}'}\n"
        "    registry.append(Change(kind=ChangeKind.REPRODUCED, subject=sys.argv[2], body=body), actor=sys.argv[3])\n"
        "assert registry.state().sequence == registry.entries()[-1].sequence\n"
    )
    with closing(Database(place)) as database:
        registry = SqlRegistry(database)
        one = registered(1)
        registry.append(one, actor="me")
        processes = [python(code, place, one.subject, name) for name in ("a", "b")]
        ends = [process.communicate() for process in processes]
        assert [process.returncode for process in processes] == [0, 0], ends
        entries = registry.entries()
        assert [entry.sequence for entry in entries] == list(range(1, 42))
        assert seen(registry.state()) == seen(fold(entries))
        assert len(registry.state().runs[one.subject]) == 41


def test_a_commit_that_fails_leaves_no_trace(place: str) -> None:
    with closing(Database(place)) as database:
        registry = SqlRegistry(database)
        registry.append(registered(1), actor="me")
        before = seen(registry.state())

        def fail(_: Any) -> None:
            raise OSError(28, "No space left on device")

        event.listen(database.engine, "commit", fail)
        with pytest.raises(StoreError, match="No space left on device"):
            registry.append(registered(2), actor="me")
        event.remove(database.engine, "commit", fail)
        assert (seen(registry.state()), len(registry.entries())) == (before, 1)
        with closing(Database(place)) as elsewhere:
            SqlRegistry(elsewhere).append(registered(3), actor="they")
        assert [entry.sequence for entry in registry.append(registered(2), actor="me")] == [3]


@pytest.mark.parametrize("length", [0, 1, 2, 4])
def test_another_log_in_its_place_is_folded_anew(place: str, length: int) -> None:
    """A restored backup: shorter, as long or longer than what was known."""
    with closing(Database(place)) as database:
        registry = SqlRegistry(database)
        registry.append(registered(1), registered(2), actor="me")
        assert registry.state().sequence == 2
        other = MemoryRegistry()
        other.append(*(registered(number) for number in range(10, 10 + length)), actor="they")
        with database.write() as connection:
            connection.exec_driver_sql("DELETE FROM audit")
        with closing(Database(place)) as elsewhere:
            SqlRegistry(elsewhere).restore(other.entries())
        assert seen(registry.state()) == seen(other.state())
        assert registry.append(registered(20), actor="me")[0].sequence == length + 1


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("no json", StoreError, "entry 2 of the audit log cannot be read"),
        ("[]", StoreError, "entry 2 of the audit log cannot be read"),
        ("[" * 100_000, StoreError, "entry 2 of the audit log cannot be read"),
        ('{"sequence": true}', StoreError, "entry 2 of the audit log cannot be read"),
        (None, StateError, "entry 2 is not what its hash was made of"),
    ],
)
def test_an_entry_that_was_changed_stops_everything(
    place: str, body: str | None, error: type[Exception], message: str
) -> None:
    """Nothing is decided on a log that is not what it was."""
    with closing(Database(place)) as database:
        registry = SqlRegistry(database)
        entries = registry.append(registered(1), registered(2), registered(3), actor="me")
        rewrite(database, 2, body or edited(entries[1], actor="another").to_text())
        again = SqlRegistry(database)
        for attempt in (again.state, lambda: again.append(registered(4), actor="me")):
            with pytest.raises(error, match=message) as told:
                attempt()
            assert told.value.next_step == "windlass audit verify"  # type: ignore[attr-defined]
        assert len(list(again.lines())) == 3, "for verification, every line can be had"


def rewrite(database: Database, sequence: int, body: str) -> None:
    with database.write() as connection:
        connection.exec_driver_sql(f"DELETE FROM audit WHERE sequence = {sequence}")
        connection.execute(sql.insert(sql.schema.audit), {"sequence": sequence, "body": body})


def test_bytes_that_are_no_text_are_read_as_they_are(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "windlass.db")) as database:
        SqlRegistry(database).append(registered(1), actor="me")
    with sqlite3.connect(tmp_path / "windlass.db") as connection:
        connection.execute("UPDATE audit SET body = CAST(x'7b80ff' AS TEXT)")
    connection.close()
    with closing(Database(tmp_path / "windlass.db")) as database:
        registry = SqlRegistry(database)
        assert list(registry.lines()) == [(1, b"\x7b\x80\xff")]
        with pytest.raises(StoreError, match="entry 1 of the audit log cannot be read"):
            registry.state()


def test_a_database_that_is_gone_is_told(tmp_path: Path) -> None:
    database = Database(tmp_path / "windlass.db")
    registry = SqlRegistry(database)
    registry.append(registered(1), actor="me")
    (tmp_path / "windlass.db").rename(tmp_path / "elsewhere.db")
    for attempt in (registry.state, registry.entries, lambda: registry.append(registered(2), actor="me")):
        with pytest.raises(StoreError):
            attempt()
    database.close()


# Identity is content


def test_hashes_are_the_same_in_every_process_and_for_all_time() -> None:
    change = Change(
        kind=ChangeKind.REPRODUCED, subject="é", body={"b": [1, 2.5, None, True], "a": {"z": 1e-7, "y": 1e22}}
    )
    entry = Entry.after(7, GENESIS, 1760000000.125, "naïve", change)
    assert entry.to_text() == (
        '{"actor":"naïve","at":1760000000.125,"body":{"a":{"y":1e+22,"z":1e-07},"b":[1,2.5,null,true]},'
        '"hash":"' + entry.hash + '","kind":"reproduced","previous":"' + "0" * 64 + '","sequence":7,"subject":"é"}'
    )
    assert entry.hash == "5ab79ca0e34059303ca1943b966fbfcb33ecc5bec19ee962a22e04edfd75c768"
    code = (
        "import sys; from windlass.records.audit import Entry\n"
        "entry = Entry.from_text(sys.stdin.buffer.read()); print(entry.sound, entry.hash, entry.to_text())"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-X", "utf8", "-c", code], env={**ENVIRONMENT, "PYTHONHASHSEED": seed},
            input=entry.to_text().encode(), capture_output=True, check=True,
        )  # fmt: skip
        assert done.stdout.decode() == f"True {entry.hash} {entry.to_text()}\n"


def test_two_histories_alike_are_one_log(registry: Registry) -> None:
    first, second = generations(2)[0].registry, Line()
    second.registry = registry  # type: ignore[assignment]
    one = second.generation(1)
    second.generation(2, one)
    assert registry.entries() == first.entries()
