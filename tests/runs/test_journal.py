"""The journal and its readers: complete lines whatever happens, one meaning for every odd value."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processes import ENVIRONMENT
from windlass.errors import WindlassError
from windlass.runs.compact import compact
from windlass.runs.folder import RunFolder
from windlass.runs.journal import Journal
from windlass.runs.reader import metric_names, read_journal, read_metric, read_metrics, summaries


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def lines(folder: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in folder.journal_file.read_text().splitlines()]


def test_every_call_is_one_whole_line_at_once(folder: RunFolder) -> None:
    journal = Journal(folder.journal_file)
    journal.metrics({"loss": 0.5, "auc": 1}, 3)
    assert lines(folder)[0]["step"] == 3 and lines(folder)[0]["metrics"] == {"loss": 0.5, "auc": 1}
    journal.event(note="half\nway")
    assert lines(folder)[1]["note"] == "half\nway"


def test_kill_9_loses_no_call_that_returned(folder: RunFolder) -> None:
    script = (
        "import os, sys; from pathlib import Path; from windlass.runs.journal import Journal\n"
        f"journal = Journal(Path({str(folder.journal_file)!r}))\n"
        "for i in range(5000): journal.metrics({'loss': i / 7}, i)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, check=False)
    assert done.returncode == -signal.SIGKILL
    steps, _, values = read_metric(folder, "loss")
    assert steps.tolist() == list(range(5000)) and values[-1] == 4999 / 7


@given(st.dictionaries(st.text(min_size=1, max_size=12), st.floats() | st.integers(-(2**60), 2**60), min_size=1))
def test_any_name_and_any_float_read_back_to_the_bit(values: dict[str, float]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as path:
        folder = RunFolder(path)
        journal = Journal(folder.journal_file)
        journal.metrics(values, 1)
        journal.close()
        for _ in range(2):
            for name, value in values.items():
                read = read_metric(folder, name)[2]
                assert len(read) == 1 and (read[0] == float(value) or (math.isnan(value) and math.isnan(read[0])))
            compact(folder)


def test_nan_and_infinity_are_kept_and_do_not_spoil_the_summary(folder: RunFolder) -> None:
    journal = Journal(folder.journal_file)
    for step, value in enumerate([2.0, math.nan, math.inf, 1.0, math.nan]):
        journal.metrics({"loss": value}, step)
    summary = summaries(folder)["loss"]
    assert math.isnan(summary.last) and (summary.min, summary.max, summary.count) == (1.0, math.inf, 5)
    assert math.isnan(read_metric(folder, "loss")[2][1])


def test_numbers_of_numpy_are_taken_and_other_values_are_told(folder: RunFolder) -> None:
    journal = Journal(folder.journal_file)
    journal.metrics({"a": np.float32(0.5), "b": np.array(2), "c": True}, np.int64(4))
    assert lines(folder)[0]["metrics"] == {"a": 0.5, "b": 2.0, "c": 1.0} and lines(folder)[0]["step"] == 4
    for wrong in ("0.3", None, [1, 2], object()):
        with pytest.raises(WindlassError, match="'loss' is"):
            journal.metrics({"loss": wrong}, 1)
    with pytest.raises(WindlassError, match="step"):
        journal.metrics({"loss": 1.0}, "one")  # type: ignore[arg-type]
    assert len(lines(folder)) == 1


def test_steps_out_of_order_are_sorted_and_the_highest_is_last(folder: RunFolder) -> None:
    journal = Journal(folder.journal_file)
    for step, value in [(5, 0.5), (1, 0.1), (3, 0.3), (5, 0.55), (2, 0.2)]:
        journal.metrics({"loss": value}, step)
    steps, _, values = read_metric(folder, "loss")
    assert steps.tolist() == [1, 2, 3, 5, 5] and values.tolist() == [0.1, 0.2, 0.3, 0.5, 0.55]
    assert summaries(folder)["loss"].last == 0.55


def test_a_missing_step_counts_by_metric(folder: RunFolder) -> None:
    journal = Journal(folder.journal_file)
    for i in range(3):
        journal.metrics({"a": i})
        journal.metrics({"b": i})
    assert read_metric(folder, "b")[0].tolist() == [0, 1, 2]


def test_a_clock_that_jumps_moves_no_event(folder: RunFolder) -> None:
    wall, ticks = iter([1000.0, 50.0]), iter(range(10, 100))
    journal = Journal(folder.journal_file, clock=lambda: next(wall), monotonic=lambda: float(next(ticks)))
    for step in range(5):
        journal.metrics({"loss": 0.0}, step)
    times = [line["time"] for line in lines(folder)]
    assert times == sorted(times) and times[0] > 990


def test_a_torn_last_line_waits_and_the_next_writer_starts_afresh(folder: RunFolder) -> None:
    journal = Journal(folder.journal_file)
    journal.metrics({"loss": 1.0}, 0)
    with open(folder.journal_file, "a") as file:
        file.write('{"time":3,"step":1,"metr')
    assert read_journal(folder).bad_lines == 0 and len(read_metric(folder, "loss")[0]) == 1
    again = Journal(folder.journal_file)
    again.metrics({"loss": 0.5}, 2)
    found = read_journal(folder)
    assert found.series["loss"].steps.tolist() == [0, 2] and found.bad_lines == 1


def test_garbage_is_counted_and_passed_over(folder: RunFolder) -> None:
    folder.journal_file.write_bytes(
        b'{"time":1,"step":0,"metrics":{"loss":1}}\n\xff\xfe\x00garbage\n[1,2]\n"text"\n7\nnull\n\n'
        b'{"time":1,"step":1,"metrics":{"loss":"high"}}\n{"time":1,"step":1,"metrics":3}\n{"time":1,"unknown":1}\n'
        b'{"time":1,"step":2,"metrics":{"loss":2}}\n'
    )
    found = read_journal(folder)
    assert found.series["loss"].values.tolist() == [1, 2] and found.bad_lines >= 5
    assert summaries(folder)["loss"].count == 2


def test_threads_and_processes_share_a_journal(folder: RunFolder) -> None:
    journal = Journal(folder.journal_file)

    def write(name: str) -> None:
        for step in range(2000):
            journal.metrics({name: step}, step)

    threads = [threading.Thread(target=write, args=(f"t{i}",)) for i in range(3)]
    for thread in threads:
        thread.start()
    child = os.fork()
    if child == 0:
        write("child")
        os._exit(0)
    write("main")
    for thread in threads:
        thread.join()
    assert os.waitpid(child, 0)[1] == 0
    found = read_journal(folder)
    assert found.bad_lines == 0
    assert {name: s.values.tolist() for name, s in found.series.items()} == {
        name: list(range(2000)) for name in ("t0", "t1", "t2", "child", "main")
    }


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a tmpfs here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_never_stops_training_and_everything_arrives_later(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    folder = RunFolder(small_disk)
    journal = Journal(folder.journal_file, monotonic=lambda: now[0])
    (small_disk / "stuffing").write_bytes(b"x" * 480_000)
    for step in range(2000):
        journal.metrics({"loss": step / 3}, step)
    assert capsys.readouterr().err.count("cannot write") == 1
    (small_disk / "stuffing").unlink()
    stored = len(read_metric(folder, "loss")[0])
    assert 0 < stored < 2000
    now[0] += 10
    journal.metrics({"loss": -1.0}, 2000)
    found = read_journal(folder)
    assert found.series["loss"].steps.tolist() == list(range(2001)) and found.bad_lines <= 1


def test_a_journal_that_cannot_be_opened_is_no_error_and_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windlass.runs.journal.LARGEST_BACKLOG", 10_000)
    now, path = [0.0], tmp_path / "later" / "journal.jsonl"
    journal = Journal(path, monotonic=lambda: now[0])
    for step in range(1000):
        journal.metrics({"loss": 0.25}, step)
    path.parent.mkdir()
    now[0] += 5
    journal.metrics({"loss": 0.5}, 1000)
    found = read_journal(RunFolder(path.parent))
    kept = found.series["loss"].steps.tolist()
    assert kept == list(range(int(kept[0]), 1001)) and 50 < len(kept) < 1000
    assert found.notes == [f"{1001 - len(kept)} events were dropped while the journal could not be written"]


@pytest.mark.slow
def test_a_million_steps(folder: RunFolder) -> None:
    journal = Journal(folder.journal_file)
    for step in range(1_000_000):
        journal.metrics({"loss": step}, step)
    assert len(read_metric(folder, "loss")[0]) == 1_000_000
    assert compact(folder) == 1_000_000
    assert folder.metrics_file.stat().st_size < folder.journal_file.stat().st_size / 4
    steps, _, values = read_metric(folder, "loss")
    assert (steps == values).all() and len(steps) == 1_000_000
    assert summaries(folder)["loss"].last == 999_999


def test_ten_thousand_names(folder: RunFolder) -> None:
    journal = Journal(folder.journal_file)
    for step in range(3):
        journal.metrics({f"layer.{i}/norm": i + step for i in range(10_000)}, step)
    compact(folder)
    assert len(metric_names(folder)) == 10_000 == len(summaries(folder))
    assert read_metric(folder, "layer.1234/norm")[2].tolist() == [1234, 1235, 1236]


def test_compaction_and_a_growing_journal_read_as_one(folder: RunFolder) -> None:
    journal = Journal(folder.journal_file)
    for step in range(10):
        journal.metrics({"loss": step, "other": -step}, step)
    before = read_metrics(folder)
    assert compact(folder) == 20 and compact(folder) == 0
    assert read_metrics(folder).equals(before)
    for step in range(10, 15):
        journal.metrics({"loss": step}, step)
    assert read_metric(folder, "loss")[0].tolist() == list(range(15))
    folder.metrics_file.write_bytes(b"garbage")
    assert read_metric(folder, "loss")[0].tolist() == list(range(15)), "the journal is the truth"


@pytest.mark.parametrize("compacted", [False, True])
def test_a_resumed_run_has_one_curve(folder: RunFolder, compacted: bool) -> None:
    journal = Journal(folder.journal_file)
    for step in range(10):
        journal.metrics({"loss": 100 + step}, step)
    if compacted:
        compact(folder)
    journal.event(attempt=2, resumed_at_step=9)
    for step in range(6, 12):
        journal.metrics({"loss": 200 + step}, step)
    steps, _, values = read_metric(folder, "loss")
    assert steps.tolist() == list(range(12))
    assert values.tolist() == [*range(100, 106), *range(206, 212)]
    summary = summaries(folder)["loss"]
    assert (summary.min, summary.max, summary.last, summary.count) == (100, 211, 211, 12)


def test_counted_steps_go_on_after_compaction(folder: RunFolder) -> None:
    journal = Journal(folder.journal_file)
    for value in range(5):
        journal.metrics({"loss": value})
    compact(folder)
    for value in range(5, 8):
        journal.metrics({"loss": value})
    assert read_metric(folder, "loss")[0].tolist() == list(range(8))
    assert read_metrics(folder)["step"].to_list() == list(range(8))


def test_odd_lines_have_one_meaning(folder: RunFolder) -> None:
    folder.journal_file.write_text(
        '{"time":1,"step":0,"metrics":{"loss":NaN}}\n{"time":1,"metrics":null}\n{"x":[1\n2],"metrics":{"loss":9}}\n'
        '{"time":1,"step":1,"metrics":{"loss":1.5}}'
    )
    found = read_journal(folder)
    assert math.isnan(found.series["loss"].values[0]) and found.series["loss"].values.tolist()[1:] == [1.5]
    assert read_metric(folder, "loss")[0].tolist() == [0, 1]
    compact(folder)
    assert read_metric(folder, "loss")[0].tolist() == [0, 1], "the last line, whole but for its end, counts once"


def test_a_columnar_file_that_does_not_fit_is_passed_over(folder: RunFolder) -> None:
    journal = Journal(folder.journal_file)
    for step in range(50):
        journal.metrics({"loss": step}, step)
    compact(folder)
    sound = folder.metrics_file.read_bytes()
    folder.metrics_file.write_bytes(sound[:4] + b"\xff" * 200 + sound[204:])
    assert len(read_metric(folder, "loss")[0]) == 50
    folder.metrics_file.write_bytes(sound)
    folder.journal_file.write_text('{"time":1,"step":0,"metrics":{"loss":7}}\n')
    assert read_metric(folder, "loss")[2].tolist() == [7]


def test_a_signal_that_logs_during_an_outage_does_not_hang(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from windlass.runs.journal import Journal\n"
        f"journal = Journal(Path({str(tmp_path / 'absent' / 'journal.jsonl')!r}))\n"
        "signal.signal(signal.SIGALRM, lambda *_: journal.event(note='signal'))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)\n"
        "for step in range(30000): journal.metrics({'loss': 0.5}, step)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "sys.stderr.close(); journal.close()\n"
    )
    subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, check=True, timeout=60, stderr=subprocess.DEVNULL)


def test_a_closed_journal_refuses_and_integers_beyond_floats_are_told(folder: RunFolder) -> None:
    journal = Journal(folder.journal_file)
    with pytest.raises(WindlassError, match="no number"):
        journal.metrics({"loss": 10**400}, 0)
    journal.close()
    with pytest.raises(WindlassError, match="finished"):
        journal.metrics({"loss": 1.0}, 0)
    assert folder.journal_file.read_text() == ""
