"""Examples that were trained on are found by content, whatever file they are in; what cannot be compared is unknown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.errors import DataError
from windlass.records.evaluation import Leakage
from windlass.registry.leakage import Training, overlap, row_hashes

ROWS = [(1, 0.5, "north"), (2, 0.25, "south"), (3, 0.125, "north"), (4, 0.1, "west")]
NAMES = ("a", "b", "c")


def table(rows: list[tuple[Any, ...]] = ROWS, **more: Any) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=NAMES, orient="row").with_columns(**more)


def write(path: Path, frame: pl.DataFrame) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    match path.suffix:
        case ".csv":
            frame.write_csv(path)
        case ".tsv":
            frame.write_csv(path, separator="\t")
        case ".parquet":
            frame.write_parquet(path)
        case ".jsonl":
            frame.write_ndjson(path)
        case ".json":
            path.write_text(json.dumps({"label": "x", "examples": frame.to_dicts()}))
    return path


def found(training: Path, benchmark: Path) -> Leakage:
    return overlap(Training((training,)), benchmark)


@pytest.mark.parametrize("theirs", [".csv", ".tsv", ".parquet", ".jsonl", ".json"])
@pytest.mark.parametrize("ours", [".csv", ".parquet", ".jsonl"])
def test_the_same_rows_are_found_in_every_format(tmp_path: Path, ours: str, theirs: str) -> None:
    benchmark = write(tmp_path / f"held{ours}", table())
    training = write(tmp_path / f"train{theirs}", table([ROWS[3], (9, 0.5, "east"), ROWS[1]]))
    assert found(training, benchmark) == Leakage(
        overlap=2,
        examples=4,
        declared=True,
        words="2 of 4 examples are in the training data, the first is row 2; compared by 3 columns",
    )


def test_numbers_are_equal_by_value(tmp_path: Path) -> None:
    benchmark = write(tmp_path / "held.csv", table())
    as_text = table().with_columns(pl.col("a").cast(pl.Float64).cast(pl.String))  # "1.0"
    single = table().with_columns(pl.col("b").cast(pl.Float32), pl.col("a").cast(pl.Int8))
    assert found(write(tmp_path / "text.parquet", as_text), benchmark).overlap == 4
    assert found(write(tmp_path / "single.parquet", single), benchmark).overlap == 4
    other = table().with_columns(pl.col("b") + 1e-3)
    assert found(write(tmp_path / "other.parquet", other), benchmark).overlap == 0


def test_empty_cells_booleans_and_spaces(tmp_path: Path) -> None:
    (tmp_path / "held.csv").write_text("x,y,z\n,true,one\n2,false, two \nNA,true,\n")
    given = pl.DataFrame({"x": [None, 2.0, float("nan")], "y": [1, 0, 1], "z": ["one", "two", None]})
    assert found(write(tmp_path / "train.parquet", given), tmp_path / "held.csv").overlap == 3


def test_names_of_rows_are_no_content(tmp_path: Path) -> None:
    benchmark = write(tmp_path / "held.csv", table(id=pl.Series(["q1", "q2", "q3", "q4"])))
    training = write(tmp_path / "train.csv", table(list(reversed(ROWS))).with_row_index("row"))
    leakage = found(training, benchmark)
    assert leakage.overlap == 4
    assert "the first is 'q1'" in leakage.words


def test_nested_values_are_content(tmp_path: Path) -> None:
    chats = [{"messages": [{"role": "user", "text": "hi"}], "n": 1}, {"messages": [], "n": 2}]
    (tmp_path / "held.jsonl").write_text("\n".join(json.dumps(chat) for chat in chats))
    (tmp_path / "train.json").write_text(json.dumps([chats[0], {**chats[0], "n": 3}]))
    assert found(tmp_path / "train.json", tmp_path / "held.jsonl").overlap == 1
    pl.DataFrame([chats[0]]).write_parquet(tmp_path / "train.parquet")
    assert found(tmp_path / "train.parquet", tmp_path / "held.jsonl").overlap == 1


def test_one_column_may_be_enough(tmp_path: Path) -> None:
    """A benchmark of questions and answers, and preference pairs that were trained on."""
    held = pl.DataFrame({"prompt": [f"question {i}" for i in range(20)], "answer": ["yes"] * 20})
    pairs = pl.DataFrame({"prompt": [f"question {i}" for i in range(15, 40)], "chosen": "a", "rejected": "b"})
    leakage = found(write(tmp_path / "train.jsonl", pairs), write(tmp_path / "held.jsonl", held))
    assert leakage.overlap == 5
    assert leakage.words.endswith("compared by 1 column, without answer")


def test_a_label_alone_is_not(tmp_path: Path) -> None:
    held = pl.DataFrame({"text": [f"question {i}" for i in range(20)], "label": ["yes", "no"] * 10})
    tokens = pl.DataFrame({"tokens": [f"{i} 1 2" for i in range(20)], "label": ["yes", "no"] * 10})
    leakage = found(write(tmp_path / "train.csv", tokens), write(tmp_path / "held.csv", held))
    assert leakage.overlap is None
    assert "label is all that train.csv has in common with held.csv, with 2 different values in 20" in leakage.words


def test_tables_of_other_things_are_not_compared(tmp_path: Path) -> None:
    held = write(tmp_path / "held.csv", table())
    other = write(tmp_path / "other.csv", pl.DataFrame({"a": [1, 2], "z": [1, 2], "y": [1, 2]}))
    leakage = found(other, held)
    assert leakage == Leakage(
        overlap=None, examples=4, declared=True, words="unknown: other.csv has 1 of the 3 columns of held.csv"
    )


def test_lines_of_text(tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text("one\n\ntwo \nthree\n")
    (tmp_path / "train.txt").write_text("two\nTHREE\nfour\n")
    assert found(tmp_path / "train.txt", tmp_path / "held.txt") == Leakage(
        overlap=1,
        examples=3,
        declared=True,
        words="1 of 3 examples is in the training data, the first is row 2; compared by whole lines",
    )


def test_files_of_a_folder_are_examples_by_their_bytes(tmp_path: Path) -> None:
    for folder, numbers in (("train", range(6)), ("held", range(4, 9))):
        for i in numbers:
            path = tmp_path / folder / f"class{i % 2}" / f"{folder}{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes([i]) * 100)
        (tmp_path / folder / "labels.csv").write_text("file,label\nx,1\n")
        (tmp_path / folder / ".DS_Store").write_bytes(b"the same" * 1000)
    leakage = found(tmp_path / "train", tmp_path / "held")
    assert (leakage.overlap, leakage.examples) == (2, 5)
    assert "'class0/held4.png'" in leakage.words and "whole files" in leakage.words


def test_a_folder_of_tables_is_their_rows(tmp_path: Path) -> None:
    write(tmp_path / "train" / "part-0.parquet", table(ROWS[:1]))
    write(tmp_path / "train" / "more" / "part-1.csv", table(ROWS[1:2]))
    (tmp_path / "train" / "README.md").write_text("about")
    (tmp_path / "train" / "info.json").write_text('{"version": 1}')
    write(tmp_path / "held" / "b.csv", table(ROWS[1:]))
    leakage = found(tmp_path / "train", tmp_path / "held")
    assert (leakage.overlap, leakage.examples) == (1, 3)


def test_a_part_of_the_training_data_that_cannot_be_read_is_no_clean_one(tmp_path: Path) -> None:
    held = write(tmp_path / "held.csv", table(ROWS[:2]))
    write(tmp_path / "train" / "a.csv", table(ROWS[2:]))
    assert found(tmp_path / "train", held).overlap == 0
    (tmp_path / "train" / "b.parquet").write_bytes(b"cut off")
    leakage = found(tmp_path / "train", held)
    assert (leakage.overlap, leakage.declared) == (None, True)
    assert "b.parquet cannot be read" in leakage.words
    (tmp_path / "train" / "b.parquet").unlink()
    (tmp_path / "train" / "more").symlink_to(tmp_path)
    assert "more is a link to a folder" in found(tmp_path / "train", held).words


def test_every_part_of_a_benchmark_has_to_be_compared(tmp_path: Path) -> None:
    write(tmp_path / "held" / "a.csv", table(ROWS[:2]))
    write(tmp_path / "held" / "b.csv", pl.DataFrame({"u": [1, 2], "v": [3, 4]}))
    training = write(tmp_path / "train.csv", table(ROWS[2:]))
    leakage = found(training, tmp_path / "held")
    assert (leakage.overlap, leakage.examples, leakage.declared) == (None, 4, True)
    assert leakage.words == "unknown: train.csv has 0 of the 2 columns of b.csv"


def test_duplicates_in_the_benchmark_count_each(tmp_path: Path) -> None:
    held = write(tmp_path / "held.csv", table([ROWS[0], ROWS[0], ROWS[1]]))
    assert found(write(tmp_path / "train.csv", table(ROWS[:1])), held).overlap == 2


def test_several_sources_add_up(tmp_path: Path) -> None:
    held = write(tmp_path / "held.csv", table())
    one, two = write(tmp_path / "1.csv", table(ROWS[:2])), write(tmp_path / "2.parquet", table(ROWS[1:3]))
    assert overlap(Training((one, two)), held).overlap == 3


def test_what_is_gone_makes_no_overlap_unknown_and_some_the_least(tmp_path: Path) -> None:
    held = write(tmp_path / "held.csv", table())
    clean, leaky = write(tmp_path / "1.csv", table([(7, 0.5, "x")])), write(tmp_path / "2.csv", table(ROWS[:2]))
    assert overlap(Training(), held) == Leakage(
        overlap=None, examples=4, words="unknown: nobody says what was trained on"
    )
    assert overlap(Training((clean,)), held) == Leakage(
        overlap=0, examples=4, declared=True, words="none of 4 examples is in the training data; compared by 3 columns"
    )
    gone = overlap(Training((clean, tmp_path / "gone.csv")), held)
    words = f"unknown: there is no {tmp_path / 'gone.csv'}"
    assert gone == Leakage(overlap=None, examples=4, declared=True, words=words)
    partly = overlap(Training((clean,), silent=("it began from somewhere",)), held)
    assert (partly.overlap, partly.declared) == (None, False)
    changed = overlap(Training((clean,), ("more.csv changed",), ("it began from somewhere",)), held)
    assert (changed.overlap, changed.declared) == (None, True)
    least = overlap(Training((leaky,), silent=("it began from somewhere",)), held)
    assert least.overlap == 2
    assert least.words.endswith("not compared: it began from somewhere")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train.npz", b"x", "examples of such a file are not read"),
        ("train.parquet", b"no parquet", "train.parquet cannot be read"),
        ("train.csv", b"a,b,c\n1,2,3\n1,2,3,4\n", "train.csv cannot be read"),
        ("train.csv", b"a,b,c\n", "train.csv has no examples"),
        ("train.csv", b"id\n1\n", "no column beside id"),
        ("train.jsonl", b'{"a": 1\n', "train.jsonl cannot be read"),
        ("train.json", b'{"a": 1}', "neither a list"),
    ],
)
def test_files_that_say_nothing(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    held = write(tmp_path / "held.csv", table())
    (tmp_path / name).write_bytes(content)
    leakage = found(tmp_path / name, held)
    assert leakage.overlap is None
    assert words in leakage.words
    (tmp_path / "folder").mkdir()
    (tmp_path / name).rename(tmp_path / "folder" / name)
    assert found(tmp_path / "folder", held).overlap is None


def test_a_benchmark_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    training = write(tmp_path / "train.csv", table())
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path / "none.csv", "there is no"), (tmp_path / "empty", "holds no file")):
        with pytest.raises(DataError, match=words):
            found(training, path)


CELLS = st.none() | st.integers(-(2**40), 2**40) | st.floats(width=32, allow_nan=False) | st.text("ab1. ", max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=20), st.data())
def test_rows_are_equal_as_their_values_are(rows: list[tuple[Any, Any]], data: st.DataObject) -> None:
    def meaning(value: Any) -> Any:
        if isinstance(value, str):
            value = value.strip()
            try:
                value = float(value)
            except ValueError:
                return value or None
        return None if value is None else float(np.float32(value)) if value % 1 else float(value)

    texts = [
        [None if value is None else repr(value) if isinstance(value, float) else str(value) for value in row]
        for row in rows
    ]
    frame = pl.DataFrame(texts, schema=["x", "y"], orient="row", schema_overrides={"x": pl.String, "y": pl.String})
    hashes = row_hashes(frame, ["x", "y"])
    i, j = (data.draw(st.integers(0, len(rows) - 1)) for _ in range(2))
    same = [meaning(value) for value in rows[i]] == [meaning(value) for value in rows[j]]
    assert (hashes[i] == hashes[j]) == same
