"""Tables from files: what is understood, what is refused, how it is split."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import DataError
from windlass.workloads.tabular.data import MISSING_CATEGORY, Table, file_task, load, split
from windlass.workloads.tabular.spec import Options

ROWS = 60


def columns(**changes: Any) -> dict[str, Any]:
    numbers = range(ROWS)
    table: dict[str, Any] = {
        "size": [i / 7 for i in numbers],
        "color": [("red", "green", "blue")[i % 3] for i in numbers],
        "kind": [("no", "yes")[i % 2] for i in numbers],
    }
    return {name: column for name, column in {**table, **changes}.items() if column is not None}


def read(folder: Path, *, target: str = "kind", options: dict[str, Any] | None = None, **changes: Any) -> Table:
    path = folder / "table.parquet"
    pl.DataFrame(columns(**changes), strict=False).write_parquet(path)
    return load(Options(data=str(path), target=target, **(options or {})))


def test_columns_become_numbers_and_categories(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        flag=[None if i == 0 else i % 2 == 0 for i in range(ROWS)],
        day=[date(1970, 1, 1 + i % 28) for i in range(ROWS)],
        size=[None if i == 3 else float("inf") if i == 4 else float(i) for i in range(ROWS)],
        color=[None if i == 5 else "red" for i in range(ROWS)],
    )
    assert isinstance(table.features, pl.DataFrame)
    assert sorted(map(str, table.numeric)) == ["day", "flag", "size"]
    assert table.categorical == ["color"]
    assert table.features["day"][2] == 2.0
    assert table.features["flag"][1:3].to_list() == [0.0, 1.0]
    assert np.isnan(table.features["flag"][0])
    assert np.isnan(table.features["size"].to_numpy()[3:5]).all()
    assert table.features["color"][5] == MISSING_CATEGORY
    assert any("'size': 1 infinite" in note for note in table.notes)
    assert table.classes.tolist() == ["no", "yes"]
    assert table.positive == 1


def test_csv_and_parquet_give_the_same_table(tmp_path: Path) -> None:
    frame = pl.DataFrame(columns(size=[None if i % 9 == 0 else i / 4 for i in range(ROWS)]))
    frame.write_csv(tmp_path / "table.csv", null_value="NA")
    frame.write_csv(tmp_path / "table.tsv", separator="\t")
    frame.write_parquet(tmp_path / "table.parquet")
    tables = [load(Options(data=str(tmp_path / f"table.{kind}"), target="kind")) for kind in ("csv", "tsv", "parquet")]
    for table in tables[1:]:
        assert isinstance(table.features, pl.DataFrame) and isinstance(tables[0].features, pl.DataFrame)
        assert table.features.equals(tables[0].features)
        assert (table.target == tables[0].target).all()


def test_rows_without_a_target_are_left_out_and_said(tmp_path: Path) -> None:
    table = read(tmp_path, kind=[None if i in (0, 7) else ("no", "yes")[i % 2] for i in range(ROWS)])
    assert len(table.target) == ROWS - 2
    assert table.rows.tolist() == [i for i in range(ROWS) if i not in (0, 7)]
    assert any("2 of 60 rows left out" in note for note in table.notes)


@pytest.mark.parametrize(
    ("target", "asked", "task"),
    [
        ([i % 3 for i in range(ROWS)], "auto", "classification"),
        ([float(i % 3) for i in range(ROWS)], "auto", "classification"),
        ([i % 2 == 0 for i in range(ROWS)], "auto", "classification"),
        ([i for i in range(ROWS)], "auto", "regression"),
        ([i / 2 for i in range(ROWS)], "auto", "regression"),
        ([i % 3 for i in range(ROWS)], "regression", "regression"),
        ([i % 30 for i in range(ROWS)], "classification", "classification"),
    ],
)
def test_the_task_follows_from_the_target(tmp_path: Path, target: list[Any], asked: Any, task: str) -> None:
    table = read(tmp_path, kind=target, options={"task": asked})
    assert table.task == task
    assert any(note.startswith(f"task: {task}") for note in table.notes)
    assert file_task(Options(data=str(tmp_path / "table.parquet"), target="kind", task=asked)) == task


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"target": "knd"}, "no column 'knd'.*Did you mean 'kind'"),
        ({}, {"drop": ("colour",)}, "no column 'colour'.*Did you mean 'color'"),
        ({"size": [None] * ROWS}, {}, "column 'size' has no value"),
        ({"size": [float("nan")] * ROWS}, {}, "column 'size' has no finite value"),
        ({"size": [[1, 2]] * ROWS}, {}, "'size' is of type List"),
        ({"kind": [None] * ROWS}, {}, "all 60 rows lack the target"),
        ({"kind": ["yes"] * ROWS}, {}, "is 'yes' in every row"),
        ({"kind": [float("inf"), *range(ROWS - 1)]}, {}, "infinite"),
        ({}, {"task": "regression"}, "regression needs a numeric target"),
        ({"kind": [i / 7 for i in range(ROWS)]}, {"task": "classification"}, "has fractions"),
        ({"kind": [date(2020, 1, 1 + i % 28) for i in range(ROWS)]}, {}, "has to be numbers, booleans or text"),
        ({"kind": [f"name {i}" for i in range(300)], "size": range(300), "color": None}, {}, "300 classes, more than"),
        ({}, {"positive": "maybe"}, "'maybe' is no class"),
        ({"kind": [i % 3 for i in range(ROWS)]}, {"positive": 1}, "two classes, this one has 3"),
        ({"size": None, "color": None}, {}, "no column beside the target"),
    ],
)
def test_unusable_tables_are_refused(
    tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    target = options.get("target", "kind")
    with pytest.raises(DataError, match=message):
        read(tmp_path, target=target, options={k: v for k, v in options.items() if k != "target"}, **changes)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.csv", None, "there is no file .*missing.csv"),
        ("empty.csv", b"", "is empty"),
        ("header.csv", b"size,kind\n", "a header and no rows"),
        ("table.xlsx", b"PK", "neither .csv"),
        ("torn.parquet", b"PAR1 and no more", "cannot be read as a table"),
        ("ragged.csv", b"size,kind\n1,2,3,4\n", "cannot be read as a table"),
        ("latin.csv", "size,kind\n1,é\n".encode("latin-1"), "cannot be read as a table"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(Options(data=str(tmp_path / name), target="kind"))


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        load(Options(data=str(tmp_path / "folder.csv"), target="kind"))


def labelled(counts: list[int]) -> Table:
    target = np.repeat(np.arange(len(counts)), counts)
    return Table(
        features=np.zeros((len(target), 1)),
        numeric=[0],
        categorical=[],
        target=target,
        classes=np.arange(len(counts)),
        positive=None,
        rows=np.arange(len(target)),
        task="classification",
    )


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    validation=st.floats(0.05, 0.45),
    test=st.floats(0.05, 0.45),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_split_is_stratified_or_refused(counts: list[int], validation: float, test: float, seed: int) -> None:
    table = labelled(counts)
    options = Options(dataset="digits", validation_fraction=validation, test_fraction=test, split_seed=seed)
    try:
        parts = split(table, options)
    except DataError as error:
        assert "needs" in error.message or "are needed" in error.message
        return
    together = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(together.tolist()) == list(range(len(table.target)))
    for part, share in ((parts.train, 1 - validation - test), (parts.validation, validation), (parts.test, test)):
        found = np.bincount(table.target[part], minlength=len(counts))
        assert found.min() >= 1
        assert np.abs(found - np.array(counts) * share).max() <= 2
    again = split(table, options)
    assert all((a == b).all() for a, b in zip(vars(parts).values(), vars(again).values(), strict=True))


def test_another_seed_is_another_split() -> None:
    table = labelled([40, 40])
    first, second = (split(table, Options(dataset="digits", split_seed=seed)) for seed in (0, 1))
    assert first.test.tolist() != second.test.tolist()


def test_a_class_too_small_for_three_parts_is_named() -> None:
    with pytest.raises(DataError, match=r"class '1' has 4 of 44 rows.*needs 5"):
        split(labelled([40, 4]), Options(dataset="digits"))
