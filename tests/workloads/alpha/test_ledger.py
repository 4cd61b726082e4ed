"""The ledger: what was acknowledged is there, whoever is killed; what is damaged is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.errors import DataError, StoreError
from windlass.workloads.alpha import ledger as ledger_module
from windlass.workloads.alpha.ledger import LEDGER_FILE, LONGEST, Judged, Ledger, Opened, Trial, overlaps

SOURCE = Path(ledger_module.__file__).parents[3]
DEV, HOLDOUT = ("2013-02-08", "2016-08-01"), ("2016-09-01", "2018-02-07")

WRITER = """
import sys
from pathlib import Path
from windlass.workloads.alpha.ledger import Ledger, Trial

path, name, batches = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
ledger = Ledger(path)
print("ready", flush=True)
sys.stdin.readline()
for batch in range(batches):
    ledger.append(
        Trial(at=0.0, run=name, data="d", window=("2013-02-08", "2016-08-01"), hash=f"{name}-{batch}-{number}",
              expr="rank(close)" * 20, proposer="grammar", mode="p1", portfolio="q")
        for number in range(3)
    )
    print(batch, flush=True)
"""


def trial(number: int = 0, **changed: Any) -> Trial:
    fields: dict[str, Any] = dict(
        at=1.5, run="r1", data="panel", window=DEV, hash=f"{number:016x}", expr="rank(close)", proposer="grammar",
        parents=("a" * 16,), mode="p1", portfolio="costs",
    )  # fmt: skip
    return Trial(**{**fields, **changed})


def opened(**changed: Any) -> Opened:
    fields: dict[str, Any] = dict(at=2.0, run="o1", data="panel", of="r1", window=HOLDOUT, hashes=("b" * 16,))
    return Opened(**{**fields, **changed})


def judged(standing: Any = "promoted", hash: str = "b" * 16, run: str = "r1") -> Judged:
    return Judged(standing=standing, at=3.0, run=run, hash=hash, grade="A", reasons=("t 2.1 > 1.645",))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / LEDGER_FILE)


def test_events_come_back_as_they_were(ledger: Ledger) -> None:
    events = (trial(1), opened(), judged(), trial(2, parents=(), expr="rank(-close)"))
    assert ledger.append(events) == ledger.size == ledger.path.stat().st_size
    assert ledger.read() == events


def test_a_ledger_that_does_not_exist_is_empty_and_is_not_made_by_reading(ledger: Ledger) -> None:
    assert (ledger.read(), ledger.size, ledger.trials("panel"), ledger.read(0)) == ((), 0, (), ())
    assert not ledger.path.exists()


def test_a_trial_counts_once_for_each_portfolio_and_window(ledger: Ledger) -> None:
    first = trial(1)
    ledger.append([first, trial(1, run="r2", at=9.0), trial(1, portfolio="other"), trial(1, window=HOLDOUT)])
    ledger.append([trial(1, data="another"), trial(2)])
    counted = ledger.trials("panel")
    assert [one.key for one in counted] == [
        (first.hash, "costs", DEV), (first.hash, "other", DEV), (first.hash, "costs", HOLDOUT), trial(2).key
    ]  # fmt: skip
    assert counted[0] == first


def test_who_remembers_the_size_counts_the_same_later(ledger: Ledger) -> None:
    then = ledger.append([trial(1), opened()])
    ledger.append([trial(2), opened(run="o2"), judged()])
    assert [one.hash for one in ledger.trials("panel", then)] == [trial(1).hash]
    assert (len(ledger.openings("panel", then)), len(ledger.openings("panel"))) == (1, 2)
    assert (ledger.kept(then), ledger.kept()) == ((), (judged(),))


def test_the_last_word_on_an_expression_decides_whether_it_is_kept(ledger: Ledger) -> None:
    ledger.append(
        [judged("provisional", "x"), judged("promoted", "x"), judged("promoted", "y"), judged("refused", "y")]
    )
    ledger.append([judged("provisional", "z"), judged("refused", "x", run="r2")])
    assert [(one.run, one.hash) for one in ledger.kept()] == [("r1", "x")]


@pytest.mark.parametrize("change", ["shorter", "between"])
def test_a_file_that_is_not_what_was_counted_is_refused(ledger: Ledger, change: str) -> None:
    first = ledger.append([trial(1)])
    then = ledger.append([trial(2)])
    if change == "shorter":
        os.truncate(ledger.path, first)
    with pytest.raises(DataError, match="it is not the file that it was"):
        ledger.read(then if change == "shorter" else then - 1)


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 10_000))
def test_what_a_killed_writer_left_of_a_line_is_never_read_and_never_glued(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("torn") / LEDGER_FILE)
    ledger.append([trial(1)])
    ledger.append([trial(2), opened()])
    whole = ledger.path.read_bytes()
    cut %= len(whole) + 1
    os.truncate(ledger.path, cut)
    left = ledger.read()
    assert left == (trial(1), trial(2), opened())[: whole[:cut].count(b"\n")]
    assert ledger.size <= cut
    ledger.append([trial(3)])
    assert ledger.read() == (*left, trial(3))


def test_a_torn_end_longer_than_a_line_is_cut_off(ledger: Ledger) -> None:
    size = ledger.append([trial(1)])
    with ledger.path.open("ab") as file:
        file.write(b"x" * (3 * LONGEST))
    assert (ledger.size, ledger.read()) == (size, (trial(1),))
    ledger.append([trial(2)])
    assert ledger.read() == (trial(1), trial(2))


def test_unknown_events_and_fields_of_a_later_version_are_passed_over(ledger: Ledger) -> None:
    ledger.append([trial(1)])
    with ledger.path.open("a") as file:
        file.write('{"event": "retired", "hash": "x"}\n')
    ledger.append([trial(2)])
    text = ledger.path.read_text().replace('"run":"r1"', '"run":"r1","weather":"fine"')
    ledger.path.write_text(text)
    assert ledger.read() == (trial(1), trial(2))


@pytest.mark.parametrize(
    "damage",
    [
        b"{half",
        b"",
        b"\x00\x00\xff",
        b"[1]",
        b"7",
        b'{"no": "event"}',
        b'{"event": 3}',
        b'{"event": "trial", "at": 1}',
        b'{"event": "opened", "at": 1, "run": 7, "data": "d", "of": "x", "window": ["a", "b"], "hashes": []}',
        b'{"event": "opened", "at": 1, "run": "r", "data": "d", "of": "x", "window": ["a"], "hashes": []}',
        b"[" * 100_000,
        b'{"event": "later", "x": "' + b"x" * LONGEST + b'"}',
    ],
    ids=["half", "empty", "bytes", "list", "number", "kind", "kind-type", "fields", "type", "window", "deep", "long"],
)  # fmt: skip
def test_a_damaged_line_in_the_middle_is_named(ledger: Ledger, damage: bytes) -> None:
    then = ledger.append([trial(1)])
    with ledger.path.open("ab") as file:
        file.write(damage + b"\n")
    ledger.append([trial(2)])
    with pytest.raises(DataError, match=f"line 2 of .*{LEDGER_FILE} is damaged") as caught:
        ledger.read()
    assert "sed -n '2p'" in caught.value.next_step
    assert ledger.read(then) == (trial(1),)


def test_a_line_that_is_too_long_is_refused_and_nothing_of_its_batch_is_written(ledger: Ledger) -> None:
    size = ledger.append([trial(1)])
    with pytest.raises(DataError, match=r"a line of factor_registry\.jsonl has at most"):
        ledger.append([trial(2), trial(3, expr="x" * LONGEST)])
    assert ledger.size == size == ledger.path.stat().st_size
    ledger.append([trial(4, expr="x" * 10_000)])
    assert len(ledger.read()) == 2


def test_a_full_disk_leaves_the_file_as_it_was(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    size = ledger.append([trial(1)])
    write, calls = os.pwrite, []

    def full(fd: int, data: bytes, where: int) -> int:
        calls.append(where)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return write(fd, data[:10], where)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreError, match=r"cannot write .*: No space left"):
        ledger.append([trial(2)])
    monkeypatch.undo()
    assert ledger.path.stat().st_size == size


def test_a_folder_that_is_not_there_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write") as caught:
        Ledger(tmp_path / "nowhere" / LEDGER_FILE).append([trial()])
    assert caught.value.next_step


def test_trials_on_a_panel_with_days_in_common_are_found(ledger: Ledger) -> None:
    ledger.append(
        [
            trial(1, data="trimmed", window=("2013-02-08", "2016-07-29")),
            trial(1, data="trimmed", window=("2013-02-08", "2016-07-29"), run="r2"),
            trial(2, data="trimmed", window=("2013-02-11", "2016-08-03")),
            opened(data="trimmed"),
            trial(1, data="touches", window=("2000-01-03", "2013-02-08")),
            trial(1, data="before", window=("2000-01-03", "2013-02-07")),
            trial(1, data="after", window=("2016-08-02", "2018-02-07")),
            trial(9),
            judged(),
        ]
    )
    found = overlaps(ledger.read(), "panel", DEV)
    assert [(one.data, one.trials, one.openings, one.window) for one in found] == [
        ("trimmed", 2, 0, ("2013-02-08", "2016-08-03")),
        ("touches", 1, 0, ("2000-01-03", "2013-02-08")),
    ]
    whole = overlaps(ledger.read(), "panel", (DEV[0], HOLDOUT[1]))
    assert [(one.data, one.openings) for one in whole] == [("trimmed", 1), ("after", 0), ("touches", 0)]
    assert ": 2 trials and 1 openings of a holdout. They are not counted here;" in whole[0].words


def test_several_processes_append_at_once_and_one_is_killed(ledger: Ledger) -> None:
    batches = {"a": 40, "b": 40, "c": 40, "victim": 100_000}
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    writers = {
        name: subprocess.Popen(
            [sys.executable, "-c", WRITER, str(ledger.path), name, str(count)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )
        for name, count in batches.items()
    }  # fmt: skip
    acknowledged: dict[str, list[str]] = {}
    for writer in writers.values():
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers.values():
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    victim = writers["victim"]
    assert victim.stdout is not None
    seen = [victim.stdout.readline() for _ in range(20)]
    ledger.read()  # while the others write
    victim.send_signal(signal.SIGKILL)
    for name, writer in writers.items():
        out, _ = writer.communicate()
        acknowledged[name] = (seen if name == "victim" else []) + out.splitlines()
    assert victim.returncode == -signal.SIGKILL
    assert [len(acknowledged[name]) for name in "abc"] == [40, 40, 40]
    assert 20 <= len(acknowledged["victim"]) < 100_000

    found = [event.hash for event in ledger.read() if isinstance(event, Trial)]
    assert len(found) == len(set(found))
    promised = {
        f"{name}-{int(batch)}-{number}"
        for name, those in acknowledged.items()
        for batch in those
        for number in range(3)
    }
    assert promised <= set(found)
    assert {name.split("-")[0] for name in set(found) - promised} <= {"victim"}
    for name in batches:  # each writer's lines are in its own order
        own = [tuple(map(int, one.split("-")[1:])) for one in found if one.startswith(f"{name}-")]
        assert own == sorted(own)
    ledger.append([trial(1)])
    assert ledger.read()[-1] == trial(1)
