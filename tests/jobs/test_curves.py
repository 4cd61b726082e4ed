"""Curves are read as they grow: the same points as in one go, only whole lines, and each byte once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from windlass.jobs import curves
from windlass.jobs.curves import Curve, read_curve
from windlass.runs.compact import compact
from windlass.runs.folder import RunFolder


def line(**fields: Any) -> bytes:
    return json.dumps({"time": 1.0, **fields}).encode() + b"\n"


def at(step: float, loss: Any) -> bytes:
    return line(step=step, metrics={"loss": loss})


def write(folder: Path, data: bytes) -> None:
    with open(folder / "journal.jsonl", "ab") as file:
        file.write(data)


def test_only_what_is_new_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offsets: list[int] = []
    read = curves.read_journal

    def watched(folder: RunFolder, offset: int, *more: Any) -> Any:
        offsets.append(offset)
        return read(folder, offset, *more)

    monkeypatch.setattr(curves, "read_journal", watched)
    curve = Curve(tmp_path, "loss")
    assert not curve.grow() and curve.points == [], "there is no journal yet"
    write(tmp_path, at(0, 1.0) + line(note="hello") + at(1, 0.5))
    assert curve.grow() and curve.points == [(0.0, 1.0), (1.0, 0.5)]
    assert not curve.grow()
    behind = (tmp_path / "journal.jsonl").stat().st_size
    write(tmp_path, line(step=2, metrics={"accuracy": 0.9}))
    assert not curve.grow(), "nothing of this metric"
    write(tmp_path, at(2, 0.25))
    assert curve.grow() and curve.points[2:] == [(2.0, 0.25)]
    assert offsets[:2] == [0, behind] and offsets[2] > behind and len(offsets) == 3


def test_a_torn_line_waits_for_its_rest(tmp_path: Path) -> None:
    curve, whole = Curve(tmp_path, "loss"), at(1, 0.5)
    write(tmp_path, at(0, 1.0) + whole[:20])
    assert curve.grow() and curve.points == [(0.0, 1.0)]
    write(tmp_path, whole[20:-1])
    assert curve.grow() and curve.points == [(0.0, 1.0), (1.0, 0.5)], "whole, but for its end"
    write(tmp_path, b"\n" + at(2, 0.25))
    assert curve.grow() and len(curve.points) == 3


def test_the_last_word_counts_and_a_later_attempt_replaces(tmp_path: Path) -> None:
    curve = Curve(tmp_path, "loss")
    write(tmp_path, at(0, 1.0) + at(2, 0.8) + at(1, 0.9) + at(2, 0.7) + at(3, 0.6))
    curve.grow()
    assert curve.points == [(0.0, 1.0), (1.0, 0.9), (2.0, 0.7), (3.0, 0.6)]
    write(tmp_path, line(attempt=2) + at(2, 0.75))
    curve.grow()
    assert curve.points == read_curve(tmp_path, "loss") == [(0.0, 1.0), (1.0, 0.9), (2.0, 0.75)]


def test_what_is_no_point_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, b"garbage\n" + at(0, "high") + line(step="NaN", metrics={"loss": 1.0}) + at(1, "NaN"))
    curve = Curve(tmp_path, "loss")
    assert curve.grow()
    assert [step for step, _ in curve.points] == [1.0] and math.isnan(curve.points[0][1])


def test_steps_that_nobody_gave_are_counted_on(tmp_path: Path) -> None:
    curve = Curve(tmp_path, "loss")
    for value in (1.0, 0.5):
        write(tmp_path, line(metrics={"loss": value}) * 2)
        curve.grow()
    assert curve.points == [(0.0, 1.0), (1.0, 1.0), (2.0, 0.5), (3.0, 0.5)]


def test_a_long_curve_that_was_compacted(tmp_path: Path) -> None:
    points = [(float(step), 1 / (step + 1)) for step in range(9_000)]
    write(tmp_path, b"".join(at(*point) for point in points))
    assert (tmp_path / "journal.jsonl").stat().st_size > curves.LONG
    assert read_curve(tmp_path, "loss") == points
    compact(RunFolder(tmp_path))
    assert read_curve(tmp_path, "loss") == points
    assert read_curve(tmp_path, "other") == read_curve(tmp_path / "nowhere", "loss") == []


lines = st.lists(
    st.builds(at, st.integers(0, 6), st.floats(allow_nan=False, width=16))
    | st.builds(lambda value: line(metrics={"loss": value}), st.integers(0, 9))
    | st.just(line(note="x"))
    | st.just(b"garbage\n"),
    max_size=12,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=lines, cuts=st.lists(st.integers(0, 600), max_size=4))
def test_however_it_comes_it_is_one_curve(tmp_path: Path, lines: list[bytes], cuts: list[int]) -> None:
    data, file = b"".join(lines), tmp_path / "journal.jsonl"
    file.write_bytes(b"")
    curve = Curve(tmp_path, "loss")
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
        write(tmp_path, data[start:end])
        curve.grow()
    assert curve.points == read_curve(tmp_path, "loss")
    assert [step for step, _ in curve.points] == sorted({step for step, _ in curve.points})
