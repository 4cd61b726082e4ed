"""Pairs from files as people have them: read strictly, everything wrong told by row, fingerprinted by content."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.datasets.preferences import as_row, fingerprint, read_pairs, together, write_pairs
from windlass.errors import DataError
from windlass.records.task import Pair

ROWS: list[dict[str, Any]] = [
    {"id": "a", "prompt": "What is 2 + 2?", "chosen": "4", "rejected": "5"},
    {"id": "b", "prompt": "Capital, of\nFrance?", "chosen": 'It is "Paris"', "rejected": "Lyon"},
    {
        "id": "c",
        "prompt": "Größe?",
        "chosen": "groß",
        "rejected": "klein",
        "metadata": {"source": "survey", "score": 3},
    },
]


def row(**changes: Any) -> dict[str, Any]:
    made = {"id": "a", "prompt": "p", "chosen": "yes", "rejected": "no", **changes}
    return {key: value for key, value in made.items() if value is not ...}


def lines(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text(
        "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in rows), encoding="utf-8"
    )
    return path


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        read_pairs(path, **options)
    return str(error.value)


def _table() -> pl.DataFrame:
    return pl.DataFrame(
        [{**one, "metadata": json.dumps(one["metadata"]) if "metadata" in one else None} for one in ROWS]
    )


FORMATS: dict[str, Callable[[Path], object]] = {
    "pairs.jsonl": lambda path: lines(path, ROWS),
    "spaced.jsonl": lambda path: path.write_text("\ufeff" + "\r\n\n".join(map(json.dumps, ROWS)), encoding="utf-8"),
    "array.json": lambda path: path.write_text(json.dumps(ROWS, indent=2)),
    "array.jsonl": lambda path: path.write_text(json.dumps(ROWS)),
    "object.json": lambda path: path.write_text(json.dumps({"id": "set", "createdAt": "2026-01-01", "pairs": ROWS})),
    "no-suffix": lambda path: lines(path, ROWS),
    "table.csv": lambda path: _table().write_csv(path),
    "table.TSV": lambda path: _table().write_csv(path, separator="\t"),
    "table.parquet": lambda path: _table().write_parquet(path),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_gives_the_same_pairs(tmp_path: Path, name: str) -> None:
    FORMATS[name](tmp_path / name)
    assert read_pairs(tmp_path / name) == [Pair(**one) for one in ROWS]


def test_keys_may_be_camel_case_and_a_row_need_not_have_an_id(tmp_path: Path) -> None:
    rows = [
        {"pairId": 17, "Prompt": "p", "chosenResponse": "yes", "rejectedResponse": "no"},
        row(id=..., prompt="q"),
    ]
    first, second = read_pairs(lines(tmp_path / "pairs.jsonl", rows))
    assert (first.id, first.chosen, first.rejected) == ("17", "yes", "no")
    assert second.id == second.content[:16]


WRONG = [
    ([1], "row 2: a row is a JSON object, not a number"),
    (["{"], "row 2: no JSON"),
    (["NaN"], "row 2: NaN is no finite number"),
    ([row(chosen=...)], "row 2: no 'chosen'"),
    ([row(chosen=..., chosne="x")], "row 2: unknown key 'chosne'. Did you mean 'chosen'?; no 'chosen'"),
    ([row(Chosen="x")], "row 2: 'chosen' is there in two spellings"),
    ([row(prompt=" \n")], "row 2: 'prompt' is empty"),
    ([row(prompt=None)], "row 2: 'prompt' is text, not null"),
    ([row(rejected=4)], "row 2: 'rejected' is text, not a number"),
    ([row(rejected="yes")], "row 2: 'chosen' and 'rejected' are the same"),
    ([row(id="")], "row 2: 'id' is text or a whole number, not an empty text"),
    ([row(id=True)], "row 2: 'id' is text or a whole number, not true or false"),
    ([row(metadata=[])], "row 2: 'metadata' is an object, not a list"),
    ([row(), "", row(id="b")], "row 4: the same pair as row 2"),
    ([row(), row(prompt="q")], "row 3: has the id of row 2, too"),
    ([row(), row(id="b", chosen="no", rejected="yes")], "row 3: contradicts row 2"),
    (['{"prompt": "p", "prompt": "q"}'], "row 2: the key 'prompt' is there twice"),
    (['{"prompt": "\\ud800", "chosen": "a", "rejected": "b"}'], "row 2: a text has half of a surrogate pair"),
]


@pytest.mark.parametrize(("rows", "told"), WRONG, ids=[told for _, told in WRONG])
def test_what_is_wrong_is_told_with_its_row(tmp_path: Path, rows: list[Any], told: str) -> None:
    good = row(id="good", prompt="another one")
    message = refused(lines(tmp_path / "pairs.jsonl", [good, *rows]))
    assert told in message and "row 1" not in message
    assert f"1 problem\n  {told}" in message


def test_at_most_twenty_problems_are_listed(tmp_path: Path) -> None:
    message = refused(lines(tmp_path / "pairs.jsonl", [row(chosen="")] * 25))
    assert "25 problems" in message and "row 20:" in message and "row 21:" not in message and "and 5 more" in message


def test_no_text_of_a_pair_is_in_a_message(tmp_path: Path) -> None:
    secret = "sk-0123456789"
    rows = [
        row(prompt=secret, chosen=[secret]),
        row(prompt={"key": secret}),
        row(chosen=secret, rejected=secret),
        row(prompt=[{"role": "user", "content": secret, "text": secret}], chosen=[], rejected=[]),
        f'{{"prompt": "{secret}" "chosen"',
        row(prompt=secret),
        row(prompt=secret, id="b"),
        row(prompt=secret, id="c", chosen="no", rejected="yes"),
    ]
    message = refused(lines(tmp_path / "pairs.jsonl", rows))
    assert message.count("\n  row ") == 7 and secret not in message


UNREADABLE = [
    (b"", "is empty"),
    (b"  \n", "is empty"),
    (b"[]", "holds no pairs"),
    (b'{"pairs": []}', "holds no pairs"),
    (b'{"pairs": 1}', "'pairs' is a list"),
    (b'{"pairs": [], "examples": []}', "unknown key 'examples' beside 'pairs'"),
    (b'[{"prompt": "p",', "neither JSON nor JSON Lines"),
    (b'{"prompt": "\xff"}\n{}\n', "row 1: no UTF-8 text"),
]


@pytest.mark.parametrize(("content", "told"), UNREADABLE, ids=[told for _, told in UNREADABLE])
def test_a_file_without_pairs(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "pairs.json").write_bytes(content)
    assert told in refused(tmp_path / "pairs.json")


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    assert "there is no file" in refused(tmp_path / "none.jsonl")
    assert "there is no file" in refused(tmp_path / "none.parquet")
    lines(tmp_path / "train.jsonl", ROWS)
    assert "is a folder" in refused(tmp_path) and "train.jsonl" in refused(tmp_path)


# Tables --------------------------------------------------------------------------------------------------------------


def test_a_column_is_known_or_kept_by_name(tmp_path: Path) -> None:
    table = pl.DataFrame({"prompt": ["p", "q"], "chosen": ["a", "b"], "rejected": ["b", "c"], "score": [0.5, None]})
    table.write_parquet(tmp_path / "pairs.parquet")
    message = refused(tmp_path / "pairs.parquet")
    assert "unknown column 'score'" in message and "--metadata KEY" in message
    found = read_pairs(tmp_path / "pairs.parquet", keep=["score"])
    assert [pair.metadata for pair in found] == [{"score": 0.5}, {}]
    assert "a part of every pair" in refused(tmp_path / "pairs.parquet", keep=["prompt"])
    table.rename({"chosen": "choosen"}).write_csv(tmp_path / "pairs.csv")
    assert "unknown column 'choosen'. Did you mean 'chosen'?" in refused(tmp_path / "pairs.csv", keep=["score"])


def test_rows_of_a_table_count_without_the_header(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text('prompt,chosen,rejected\n"two\nlines",a,b\nq,,b\n')
    assert "row 2: no 'chosen'" in refused(tmp_path / "pairs.csv")
    (tmp_path / "pairs.csv").write_text("prompt,chosen,rejected,metadata\nq,a,b,[1]\nr,a,b,{\n")
    message = refused(tmp_path / "pairs.csv")
    assert "row 1: 'metadata' is an object, not a list" in message
    assert "row 2: 'metadata' is an object, not text" in message


def test_values_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    table = pl.DataFrame({"prompt": ["p"], "chosen": ["a"], "rejected": ["b"], "score": [float("nan")]})
    table.write_parquet(tmp_path / "pairs.parquet")
    assert "row 1: 'metadata' has a value that JSON cannot hold" in refused(tmp_path / "pairs.parquet", keep=["score"])


def test_broken_tables(tmp_path: Path) -> None:
    (tmp_path / "pairs.parquet").write_bytes(b"PAR1 no table PAR1")
    assert "cannot be read" in refused(tmp_path / "pairs.parquet")
    (tmp_path / "pairs.csv").write_text("prompt,chosen\na,b,c,d\n")
    assert "cannot be read" in refused(tmp_path / "pairs.csv")
    (tmp_path / "empty.csv").write_text("")
    assert "is empty" in refused(tmp_path / "empty.csv")
    (tmp_path / "header.csv").write_text("prompt,chosen,rejected\n")
    assert "holds no pairs" in refused(tmp_path / "header.csv")


# Conversations -------------------------------------------------------------------------------------------------------


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


ASKED = [said("system", "Be brief."), said("user", "2 + 2?")]
PROMPT = "system:\nBe brief.\n\nuser:\n2 + 2?\n\nassistant:\n"
YES, NO = said("assistant", "4"), said("assistant", "5")
CONVERSATIONS = {
    "prompt beside answers": ({"prompt": ASKED, "chosen": [YES], "rejected": [NO]}, PROMPT),
    "prompt within answers": ({"chosen": [*ASKED, YES], "rejected": [*ASKED, NO]}, PROMPT),
    "both": ({"prompt": ASKED, "chosen": [*ASKED, YES], "rejected": [*ASKED, NO]}, PROMPT),
    "a text beside whole conversations": (
        {"prompt": "2 + 2?", "chosen": [*ASKED, YES], "rejected": [*ASKED, NO]},
        PROMPT,
    ),
    "a text beside answers": (
        {"prompt": "2 + 2?", "chosen": [YES], "rejected": [{**NO, "name": None}]},
        "user:\n2 + 2?\n\nassistant:\n",
    ),
    "more than one turn": (
        {"prompt": [ASKED[1], YES, said("user", "Sure?")], "chosen": [said("assistant", "4")], "rejected": [NO]},
        "user:\n2 + 2?\n\nassistant:\n4\n\nuser:\nSure?\n\nassistant:\n",
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_messages_become_plain_text(tmp_path: Path, name: str, suffix: str) -> None:
    given_row, prompt = CONVERSATIONS[name]
    path = tmp_path / f"pairs.{suffix}"
    if suffix == "jsonl":
        lines(path, [given_row])
    else:
        pl.DataFrame([given_row]).write_parquet(path)
    (pair,) = read_pairs(path)
    assert (pair.prompt, pair.chosen, pair.rejected) == (prompt, "4", "5")


BROKEN_CONVERSATIONS = [
    (row(prompt=ASKED, chosen=[YES], rejected=[YES]), "'chosen' and 'rejected' are the same"),
    (row(prompt=ASKED, chosen=[YES, YES], rejected=[NO]), "differ in more than their last message"),
    (row(prompt=ASKED, chosen=[YES], rejected=[said("user", "5")]), "end with a message of the role 'assistant'"),
    (row(prompt=ASKED, chosen="4", rejected=[NO]), "'chosen' is a list of messages where the others are"),
    (row(prompt=..., chosen=[YES], rejected=[NO]), "no 'prompt'"),
    (row(prompt="3 + 3?", chosen=[*ASKED, YES], rejected=[*ASKED, NO]), "'prompt' is not what"),
    (row(prompt=[YES], chosen=[YES], rejected=[NO]), "before the answer stands a message of the role 'assistant'"),
    (row(prompt=[said("usr", "x")], chosen=[YES], rejected=[NO]), "the role 'usr'. Did you mean 'user'?"),
    (row(prompt=["x"], chosen=[YES], rejected=[NO]), "message 1 of 'prompt' is no object"),
    (row(prompt=ASKED, chosen=[said("assistant", "")], rejected=[NO]), "message 1 of 'chosen' has no text"),
    (row(prompt=ASKED, chosen=[{**YES, "tool_calls": [1]}], rejected=[NO]), "has an unknown key 'tool_calls'"),
]


@pytest.mark.parametrize(("given_row", "told"), BROKEN_CONVERSATIONS, ids=[told for _, told in BROKEN_CONVERSATIONS])
def test_conversations_that_are_no_pair(tmp_path: Path, given_row: dict[str, Any], told: str) -> None:
    message = refused(lines(tmp_path / "pairs.jsonl", [given_row]))
    assert "row 1: " in message and told in message


# Invariants ----------------------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.strip)
PAIRS = st.lists(
    st.tuples(TEXTS, TEXTS, TEXTS).filter(lambda one: one[1] != one[2]),
    min_size=1,
    max_size=8,
    unique_by=lambda one: (one[0], frozenset(one[1:])),
).map(lambda found: [Pair(id=f"p{i}", prompt=p, chosen=c, rejected=r) for i, (p, c, r) in enumerate(found)])


@given(pairs=PAIRS, seed=st.randoms(use_true_random=False))
def test_a_fingerprint_is_of_content_alone(pairs: list[Pair], seed: random.Random) -> None:
    again = [pair.model_copy(update={"id": f"q{pair.id}", "metadata": {"x": 1}}) for pair in pairs]
    seed.shuffle(again)
    assert fingerprint(again) == fingerprint(pairs)
    changed = [pairs[0].model_copy(update={"chosen": pairs[0].chosen + "!"}), *pairs[1:]]
    assert fingerprint(changed) != fingerprint(pairs)
    assert fingerprint([*pairs, pairs[0]]) != fingerprint(pairs)


@given(pairs=PAIRS)
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, pairs: list[Pair]) -> None:
    path = tmp_path_factory.getbasetemp() / "written.jsonl"
    assert write_pairs(path, pairs) == len(pairs)
    assert read_pairs(path) == pairs
    path.write_text(json.dumps([as_row(pair) for pair in pairs]))
    assert read_pairs(path) == pairs


@given(text=TEXTS, space=st.sampled_from([" ", "\n", "\t ", "\u00a0"]))
def test_prompts_that_differ_by_white_space_and_case_stay_together(text: str, space: str) -> None:
    def asks(prompt: str) -> str:
        return together(Pair(id="a", prompt=prompt, chosen="a", rejected="b"))

    assert asks(f"{space}{text}{space}{space}x") == asks(f"{text} X")
