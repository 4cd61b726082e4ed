"""A scores file is read whole or refused with the example and the column that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from windlass.errors import DataError
from windlass.registry.scores import MISSING, Scores, read


def csv(folder: Path, text: str) -> Path:
    path = folder / "scores.csv"
    path.write_text(text)
    return path


def parquet(folder: Path, columns: dict[str, Any]) -> Path:
    path = folder / "scores.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in caught.value.message
    return caught.value.message


def test_examples_are_sorted_and_columns_told_apart(tmp_path: Path) -> None:
    scores = read(csv(tmp_path, "site,id,accuracy,correct,loss\nnorth,b,1,true,0.5\nsouth,a,0,false,2e-1\n"))
    assert scores.ids.tolist() == ["a", "b"]
    assert {name: values.tolist() for name, values in scores.columns.items()} == {
        "accuracy": [0.0, 1.0],
        "correct": [0.0, 1.0],
        "loss": [0.2, 0.5],
    }
    assert all(values.dtype == np.float64 for values in scores.columns.values())
    assert scores.groups["site"].tolist() == ["south", "north"]
    assert scores.means() == {"accuracy": 0.5, "correct": 0.5, "loss": 0.35}
    assert len(scores) == 2


def test_names_are_text_whatever_the_format(tmp_path: Path) -> None:
    from_csv = read(csv(tmp_path, "row,x\n10,1\n9,2\n7,3\n"))
    for ids in ([10, 9, 7], ["10", "9", "7"], [10.0, 9.0, 7.0]):
        again = read(parquet(tmp_path, {"row": ids, "x": [1, 2, 3]}))
        assert again.ids.tolist() == from_csv.ids.tolist() == ["10", "7", "9"]
        assert again.columns["x"].tolist() == from_csv.columns["x"].tolist() == [1, 3, 2]


def test_leading_zeros_are_part_of_a_name(tmp_path: Path) -> None:
    assert read(csv(tmp_path, "id,x\n007,1\n7,2\n")).ids.tolist() == ["007", "7"]


def test_a_type_may_show_itself_late(tmp_path: Path) -> None:
    rows = [f"{i},1" for i in range(500)] + ["500,0.5"]
    assert read(csv(tmp_path, "\n".join(["id,x", *rows, ""]))).columns["x"].sum() == 500.5


def test_what_repeats_is_named(tmp_path: Path) -> None:
    message = refusal(csv(tmp_path, "id,x\n" + "".join(f"{name},1\n" for name in "abcdefabcdea")))
    assert "column 'id': 'a' 3 times, 'b' 2 times, 'c' 2 times and 2 more" in message
    assert "'7' 2 times" in refusal(parquet(tmp_path, {"id": ["7", "8", "7"], "x": [1, 2, 3]}))


@pytest.mark.parametrize(
    ("value", "words"), [("NaN", "NaN"), ("nan", "NaN"), ("inf", "inf"), ("-inf", "-inf"), ("", "no"), ("NA", "no")]
)
def test_a_number_that_is_none_names_example_and_column(tmp_path: Path, value: str, words: str) -> None:
    message = refusal(csv(tmp_path, f"id,x,y\nb,1,{value}\na,0,0.5\nc,1,{value}\n"))
    assert f"column 'y' has {words}" in message and "at example 'b' (2 of 3 examples" in message


def test_parquet_is_held_to_the_same(tmp_path: Path) -> None:
    assert "'y' has NaN at example '2'" in refusal(parquet(tmp_path, {"id": [1, 2], "y": [0.5, float("nan")]}))
    assert "'y' has no value at example '1'" in refusal(parquet(tmp_path, {"id": [1, 2], "y": [None, True]}))


def test_groups_keep_what_is_missing(tmp_path: Path) -> None:
    scores = read(csv(tmp_path, "id,x,site\n1,1,north\n2,1,\n"))
    assert scores.group("site").tolist() == ["north", MISSING]


def test_whole_numbers_divide_and_fractions_do_not(tmp_path: Path) -> None:
    scores = read(csv(tmp_path, "id,digit,old,x\n1,7,true,0.5\n2,0,false,1.0\n"))
    assert scores.group("digit").tolist() == ["7", "0"]
    assert scores.group("old").tolist() == ["1", "0"]
    with pytest.raises(DataError, match=r"'x' has fractions.*0.5 at example '1'"):
        scores.group("x")


def test_unknown_columns_get_the_nearest_name(tmp_path: Path) -> None:
    scores = read(csv(tmp_path, "id,accuracy,site\n1,1,north\n"))
    with pytest.raises(DataError, match=r"no column 'acuracy'. Did you mean 'accuracy'"):
        scores.column("acuracy")
    with pytest.raises(DataError, match=r"no column 'sites'. Did you mean 'site'"):
        scores.group("sites")


def test_one_word_among_numbers_is_found_where_the_numbers_are_asked_for(tmp_path: Path) -> None:
    scores = read(csv(tmp_path, "id,x,y\n1,1,0.5\n2,1,failed\n"))
    with pytest.raises(DataError, match="'y' holds text, no numbers: 'failed' at example '2'"):
        scores.column("y")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read"),
        ("id,x\n", "no example"),
        ("id,site\n1,north\n", "no column of numbers beside 'id'"),
        ("id,x\n1,2\n,3\n", "1 of 2 examples have no name in column 'id', the first in row 2"),
        ("id,x\n1,2\n1,2,3\n", "cannot be read"),
    ],
)
def test_what_is_no_table_of_scores_is_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(csv(tmp_path, text))


def test_files_that_are_not_there_or_something_else_are_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "none.parquet")
    (tmp_path / "scores.parquet").write_bytes(b"no parquet")
    assert "cannot be read" in refusal(tmp_path / "scores.parquet")
    assert "List(Int64)" in refusal(parquet(tmp_path, {"id": [1], "x": [1], "p": [[1, 2]]}))
    assert "names no examples" in refusal(parquet(tmp_path, {"id": [[1]], "x": [1]}))


def test_means_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=1000)
    order = np.random.default_rng(1).permutation(1000)
    one = read(parquet(tmp_path, {"id": np.arange(1000), "x": values}))
    two = read(parquet(tmp_path, {"id": np.arange(1000)[order], "x": values[order]}))
    assert one.means() == two.means()
    assert isinstance(one, Scores)
