"""Outcomes of answers: appended by many at once, read as they grow, and never two lines made one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processes import ENVIRONMENT, until
from windlass.errors import DataError, StoreError
from windlass.records.deployment import Role, Served, ServedOutcome
from windlass.registry import outcomes
from windlass.registry.outcomes import Follower, OutcomeLog, Tally, outcome


def served(key: str = "", word: str = "accepted", checkpoint: str = "a" * 12, role: Role = Role.CHAMPION) -> Served:
    return Served(checkpoint=checkpoint, role=role, outcome=ServedOutcome(word), key=key, at=1.8e9)


@pytest.fixture
def log(tmp_path: Path) -> OutcomeLog:
    return OutcomeLog(tmp_path / "deployments" / "reader.outcomes.jsonl")


def keys(log: OutcomeLog) -> list[str]:
    return [one.key for one in log.read()[0]]


def torn(log: OutcomeLog, text: bytes) -> None:
    with log.path.open("ab") as file:
        file.write(text)


def test_answers_are_tallied_by_checkpoint_and_role(log: OutcomeLog) -> None:
    log.append([served(word=word) for word in ServedOutcome])
    log.append([served(), served(role=Role.CANARY, checkpoint="b" * 12, word="threw")])
    assert log.tallies() == {
        ("a" * 12, Role.CHAMPION): Tally(accepted=2, rejected=1, escalated=1, timed_out=1, threw=1, invalid=1),
        ("b" * 12, Role.CANARY): Tally(threw=1),
    }
    tally = log.tallies()["a" * 12, Role.CHAMPION]
    assert (tally.n, tally.failed) == (7, 3)
    assert tally.accepted_share == pytest.approx(2 / 7) and tally.failed_share == pytest.approx(3 / 7)
    assert tally - Tally(accepted=2, threw=1) + Tally(accepted=2, threw=1) == tally
    assert Tally(**tally.to_dict()) == tally


def test_what_was_written_is_what_is_read(log: OutcomeLog) -> None:
    written = [served("ключ", "rejected"), served('"\\\n\t', "timed_out"), served("")]
    log.append(written)
    assert log.read()[0] == written
    log.append([served("\ud800")])
    assert keys(log)[-1] == "?"
    assert [json.loads(line)["outcome"] for line in log.path.read_text().splitlines()] == [
        "rejected",
        "timed_out",
        "accepted",
        "accepted",
    ]


def test_reading_goes_on_where_it_stopped(log: OutcomeLog) -> None:
    assert log.read() == ([], 0)
    log.append([served("1"), served("2")])
    first, offset = log.read()
    log.append([served("3")])
    second, end = log.read(offset)
    assert [one.key for one in first + second] == ["1", "2", "3"]
    assert end == log.path.stat().st_size
    before = log.tallies()
    assert log.tallies() == before
    log.append([served("4")])
    assert log.tallies()["a" * 12, Role.CHAMPION].n == 4


def test_a_tally_between_two_places_of_the_log(log: OutcomeLog) -> None:
    assert log.end() == 0 and log.tally("a" * 12, Role.CHAMPION).n == 0
    places = []
    for word in ("accepted", "rejected", "threw"):
        log.append([served(word=word), served(word=word, role=Role.CANARY)])
        places.append(log.end())
    assert places[-1] == log.path.stat().st_size
    assert log.tally("a" * 12, Role.CHAMPION, places[0], places[1]) == Tally(rejected=1)
    assert log.tally("a" * 12, Role.CHAMPION, end=places[1]) == Tally(accepted=1, rejected=1)
    assert log.tally("a" * 12, Role.CANARY, places[1]) == Tally(threw=1)


def test_a_line_without_its_end_waits(log: OutcomeLog) -> None:
    log.append([served("1")])
    whole = log.path.read_bytes()
    torn(log, whole[:-1])
    follower = Follower(log.path)
    assert [one.key for one in follower.new()] == ["1"]
    assert follower.offset == log.end() == len(whole)
    torn(log, b"\n")
    assert list(follower.new()) == [] and follower.repeated == 1


@pytest.mark.parametrize("cut", [1, 20, 60, -1])
def test_half_a_line_is_never_glued_to_the_next(log: OutcomeLog, cut: int) -> None:
    log.append([served("1")])
    torn(log, log.path.read_bytes()[:cut])
    log.append([served("2"), served("3")])
    follower = Follower(log.path)
    assert [one.key for one in follower.new()] == ["1", "2", "3"]
    assert follower.garbled + follower.repeated == 1


def test_a_half_line_of_another_in_the_last_moment_costs_nothing(
    log: OutcomeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([served("1")])
    write = os.write

    def late(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        torn(log, b'{"checkpoint":"x","role":"cha')
        return write(fd, data)

    monkeypatch.setattr(os, "write", late)
    log.append([served("2"), served("3")])
    assert sorted(keys(log)) == ["1", "2", "3"]


@settings(max_examples=60, deadline=None)
@given(garbage=st.lists(st.binary(max_size=40), min_size=1, max_size=4))
def test_garbage_is_passed_over_and_counted(tmp_path_factory: pytest.TempPathFactory, garbage: list[bytes]) -> None:
    log = OutcomeLog(tmp_path_factory.mktemp("log") / "x.outcomes.jsonl")
    for number, piece in enumerate(garbage):
        log.append([served(str(number))])
        torn(log, piece)
    log.append([served("last")])
    follower = Follower(log.path)
    assert [one.key for one in follower.new()] == [*map(str, range(len(garbage))), "last"]
    lines = sum(bool(line) for piece in garbage for line in piece.split(b"\n"))
    assert follower.garbled == lines


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"{}",
        b"7",
        b'{"checkpoint":"a","role":"champion","outcome":"acepted","key":"","at":1}',
        b'{"checkpoint":"a","role":"king","outcome":"accepted","key":"","at":1}',
        b'{"checkpoint":1,"role":"champion","outcome":"accepted","key":"","at":1}',
        b'{"checkpoint":"a","role":[],"outcome":"accepted","key":"","at":1}',
        b'{"checkpoint":"a","role":"champion","outcome":"accepted","key":"","at":null}',
    ],
)
def test_a_line_of_another_shape_is_no_answer(log: OutcomeLog, line: bytes) -> None:
    log.append([served("1")])
    torn(log, line + b"\n")
    follower = Follower(log.path)
    assert [one.key for one in follower.new()] == ["1"] and follower.garbled == 1


def test_an_unknown_outcome_is_refused_with_the_nearest(log: OutcomeLog) -> None:
    with pytest.raises(DataError, match=r"no outcome 'acepted'\. Did you mean 'accepted'"):
        outcome("acepted")
    assert outcome("timed_out") is ServedOutcome.TIMED_OUT
    wrong = Served(checkpoint="a", role="shadwo", outcome="accepted")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"no role 'shadwo'\. Did you mean 'shadow'"):
        log.append([served("1"), wrong])
    assert not log.path.exists(), "all or nothing"
    with pytest.raises(DataError, match="time"):
        log.append([Served(checkpoint="a", role=Role.SHADOW, outcome=ServedOutcome.THREW, at=float("nan"))])


def test_a_retry_counts_once_and_the_first_outcome_stands(log: OutcomeLog) -> None:
    log.append([served("1", "timed_out"), served("2"), served("1"), served("2"), served(""), served("")])
    log.append([served("1", checkpoint="b" * 12, role=Role.SHADOW)])
    assert log.tallies() == {
        ("a" * 12, Role.CHAMPION): Tally(timed_out=1, accepted=3),
        ("b" * 12, Role.SHADOW): Tally(accepted=1),
    }


def test_the_memory_of_keys_is_bounded(log: OutcomeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "RETRIES", 10)
    log.append([served(str(number)) for number in range(100)])
    log.append([served("95"), served("3")])
    follower = Follower(log.path)
    assert len(list(follower.new())) == 101, "95 is known, 3 was long ago"
    assert follower.repeated == 1
    assert len(follower._keys) == len(follower._order) == 10


def test_the_order_is_the_files_whatever_the_clock_says(log: OutcomeLog) -> None:
    times = [1.8e9, 1.7e9, 5.0, 1.9e9]
    log.append(
        [
            Served(checkpoint="a", role=Role.CHAMPION, outcome=ServedOutcome.ACCEPTED, key=str(i), at=at)
            for i, at in enumerate(times)
        ]
    )
    read = log.read()[0]
    assert [one.key for one in read] == ["0", "1", "2", "3"] and [one.at for one in read] == times


def test_a_log_that_was_cut_is_an_error(log: OutcomeLog) -> None:
    log.append([served("1"), served("2")])
    log.tallies()
    os.truncate(log.path, 10)
    with pytest.raises(DataError, match="cut or replaced"):
        log.tallies()
    log.path.unlink()
    with pytest.raises(DataError, match="cut or replaced"):
        log.tallies()


def test_lines_longer_than_a_chunk_are_whole(log: OutcomeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "CHUNK", 100)
    long = "k" * 1000
    log.append([served("1"), served(long), served("2")])
    assert keys(log) == ["1", long, "2"]
    torn(log, b"x" * 350)
    assert keys(log) == ["1", long, "2"]
    assert log.end() == log.path.stat().st_size - 350


APPEND = """
import sys
from pathlib import Path
from windlass.records.deployment import Role, Served, ServedOutcome
from windlass.registry.outcomes import OutcomeLog
log, name = OutcomeLog(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
number = 0
while number < int(sys.argv[3]):
    batch = [Served(checkpoint=name, role=Role.CHAMPION, outcome=ServedOutcome.ACCEPTED, key=f"{name}-{number + i}")
             for i in range(1 + number % 7)]
    log.append(batch)
    number += len(batch)
print(number, flush=True)
"""


def appending(log: OutcomeLog, name: str, count: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", APPEND, str(log.path), name, str(count)]
    return subprocess.Popen(argv, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


def test_processes_and_threads_append_at_once(log: OutcomeLog) -> None:
    processes = [appending(log, name, 600) for name in ("p", "q", "r")]
    threads = [
        threading.Thread(
            target=lambda name=name: [log.append([served(f"{name}-{i}", checkpoint=name)]) for i in range(600)]
        )
        for name in ("s", "t")
    ]
    for thread in threads:
        thread.start()
    written = {}
    for name, process in zip("pqr", processes, strict=True):
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        written[name] = int(out.split()[-1])
    for thread in threads:
        thread.join()
    follower = Follower(log.path)
    found: dict[str, list[int]] = {}
    for one in follower.new():
        name, _, number = one.key.partition("-")
        found.setdefault(name, []).append(int(number))
    assert follower.garbled == follower.repeated == 0
    assert found == {name: list(range(written.get(name, 600))) for name in "pqrst"}, "each writer's lines, in order"


def test_a_kill_leaves_lines_that_count(log: OutcomeLog) -> None:
    process = appending(log, "p", 10**9)
    assert process.stdout is not None
    process.stdout.readline()
    with process:
        until(lambda: log.path.exists() and log.path.stat().st_size > 20_000)
        process.send_signal(signal.SIGKILL)
    log.append([served("after")])
    read = keys(log)
    assert read == [f"p-{i}" for i in range(len(read) - 1)] + ["after"]


FULL = """
import resource, signal, sys
from pathlib import Path
from windlass.errors import StoreError
from windlass.records.deployment import Role, Served, ServedOutcome
from windlass.registry.outcomes import OutcomeLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    OutcomeLog(Path(sys.argv[1])).append(
        [Served(checkpoint="p", role=Role.CHAMPION, outcome=ServedOutcome.ACCEPTED, key=str(i), at=1.8e9)
         for i in range(10)])
except StoreError as error:
    print(error)
"""


def test_a_file_that_can_grow_no_more_says_what_is_on_record(log: OutcomeLog) -> None:
    log.append([served("first", checkpoint="p")])
    line = len(log.path.read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(log.path), str(4 * line)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "3 of 10 are on record" in done.stdout
    assert keys(log) == ["first", "0", "1", "2"]
    log.append([served("last")])
    assert keys(log)[-1] == "last"


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "deployments").write_text("a file")
    with pytest.raises(StoreError, match="0 of 1 are on record"):
        OutcomeLog(tmp_path / "deployments" / "x.outcomes.jsonl").append([served()])
