"""Tasks: every shape of file is read alike, what is wrong is told with its row, a fingerprint is of content alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.datasets.splits import leaks
from windlass.datasets.tasks import fingerprint, items, numbered_tasks, read_tasks, together, write_tasks
from windlass.errors import DataError
from windlass.records.task import Task

ROWS: list[dict[str, Any]] = [
    {"id": "a", "prompt": "1+1=", "expected": "2", "verifier": {"kind": "exact"}},
    {"id": "b", "prompt": "2+2=", "expected": "4", "metadata": {"level": 1}},
    {"id": "c", "prompt": "Write a haiku."},
]
HEADER = {"id": "sums", "label": "Sums", "createdAt": "2026-11-20T10:00:00Z", "metadata": {}}


def lines(rows: Sequence[Any]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path: Path, content: str | bytes) -> str:
    with pytest.raises(DataError) as caught:
        read_tasks(written(path, content))
    return caught.value.message


SHAPES: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "lines": lines,
    "lines with blank ones and CRLF": lambda rows: "\r\n\r\n".join(map(json.dumps, rows)),
    "lines without an end": lambda rows: "\n".join(map(json.dumps, rows)),
    "byte order mark": lambda rows: "\ufeff" + lines(rows),
    "list": json.dumps,
    "list over many lines": lambda rows: json.dumps(rows, indent=2),
    "list, an item a line": lambda rows: "[" + ",\n".join(map(json.dumps, rows)) + "]",
    "dataset": lambda rows: json.dumps({**HEADER, "examples": rows}),
    "dataset over many lines": lambda rows: json.dumps({**HEADER, "examples": rows}, indent=1),
    "wrapped": lambda rows: json.dumps({"dataset": {**HEADER, "examples": rows}}),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_shape_of_file_holds_the_same_tasks(tmp_path: Path, shape: Callable[[list[dict[str, Any]]], str]) -> None:
    tasks = read_tasks(written(tmp_path / "tasks", shape(ROWS)))
    assert tasks == [Task.model_validate(row) for row in ROWS]


def test_one_line_is_one_task(tmp_path: Path) -> None:
    assert [task.id for task in read_tasks(written(tmp_path / "t", json.dumps(ROWS[0])))] == ["a"]
    assert [task.id for task in read_tasks(written(tmp_path / "t", json.dumps(ROWS[0], indent=1)))] == ["a"]


def test_examples_become_tasks(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "prompt": "1+1=", "verifier": "exact", "expectedAnswer": "2", "source": "book", "scenarioId": "s1"},
        {"id": "b", "toolName": "search", "reward": 0.25, "metadata": {"n": 1}},
        {"id": "c", "prompt": "find cats", "tool_name": "search", "verifier": {"kind": "set"}, "expected": ["a", "b"]},
    ]
    a, b, c = read_tasks(written(tmp_path / "t", lines(rows)))
    assert (a.expected, a.verifier, a.metadata) == ("2", {"kind": "exact"}, {"source": "book", "scenario_id": "s1"})
    assert (b.prompt, b.expected) == ("search", None)
    assert (b.verifier, b.metadata) == ({"kind": "recorded", "reward": 0.25}, {"n": 1, "tool_name": "search"})
    assert (c.prompt, c.expected, c.metadata) == ("find cats", ["a", "b"], {"tool_name": "search"})


def test_keys_within_metadata_and_answers_stay_as_they_are(tmp_path: Path) -> None:
    row = {"id": "a", "prompt": "p", "expected": {"toolName": 1}, "metadata": {"scenarioId": 2}}
    (task,) = read_tasks(written(tmp_path / "t", lines([row])))
    assert task.expected == {"toolName": 1} and task.metadata == {"scenarioId": 2}


WRONG = [
    ({"id": "x", "promt": "p"}, "unknown key 'promt'. Did you mean 'prompt'?"),
    ({"id": "x", "prompt": "p", "scenerioId": "s"}, "unknown key 'scenerioId'. Did you mean 'scenario_id'?"),
    ({"prompt": "p"}, "no 'id'"),
    ({"id": "", "prompt": "p"}, "'id' is empty"),
    ({"id": "x", "prompt": ""}, "'prompt' is empty"),
    ({"id": "x", "prompt": None}, "neither 'prompt' nor 'tool_name'"),
    ({"id": "x", "prompt": 3}, "'prompt' must be text, not 3"),
    ({"id": 7, "prompt": "p"}, "'id' must be text, not 7"),
    ({"id": "x", "prompt": "p", "verifier": {"mode": "exact"}}, "'verifier' has no 'kind'"),
    ({"id": "x", "prompt": "p", "verifier": {"kind": 3}}, "'verifier' has no 'kind'"),
    ({"id": "x", "toolName": "t", "reward": 1.5}, "'reward': input should be less than or equal to 1, not 1.5"),
    ({"id": "x", "toolName": "t", "reward": "high"}, "'reward' must be a number, not 'high'"),
    ({"id": "x", "toolName": "t", "reward": True}, "'reward' must be a number, not True"),
    ({"id": "x", "prompt": "p", "reward": 1, "expected": "2"}, "one of them decides"),
    ({"id": "x", "prompt": "p", "expected": 1, "expectedAnswer": 2}, "both 'expected' and 'expected_answer'"),
    ({"id": "x", "toolName": "t", "tool_name": "u"}, "'tool_name' is there in two spellings"),
    ({"id": "x", "prompt": "p", "source": "a", "metadata": {"source": "b"}}, "'source' is 'a', and 'b' in 'metadata'"),
    ({"id": "x", "prompt": "p", "metadata": [1]}, "'metadata'"),
    (["x"], 'a row is a JSON object, not ["x"]'),
    (3, "a row is a JSON object, not 3"),
]


@pytest.mark.parametrize(("row", "words"), WRONG, ids=[words[:40] for _, words in WRONG])
def test_what_is_wrong_with_a_row_is_told_with_its_number(tmp_path: Path, row: Any, words: str) -> None:
    told = refused(tmp_path / "t", lines([ROWS[0], row, ROWS[1]]))
    assert "1 problem\n" in told and "  row 2: " in told and words in told
    assert words in refused(tmp_path / "t", json.dumps([ROWS[0], row]))


def test_everything_that_is_wrong_with_a_row_is_told_at_once(tmp_path: Path) -> None:
    told = refused(tmp_path / "t", lines([{"prompt": 3, "colour": "red"}, ROWS[0]]))
    assert "row 1: unknown key 'colour'.; no 'id'; 'prompt' must be text, not 3" in told


BROKEN = [
    (b'{"id": "x", "prompt": ', "no JSON"),
    (b'{"id": "x", "prompt": "p", "expected": NaN}', "NaN is no finite number"),
    (b'{"id": "x", "prompt": "p", "expected": 1e999}', "1e999 is no finite number"),
    (b'{"id": "x", "prompt": "p", "prompt": "q"}', "the key 'prompt' is there twice"),
    (b'{"id": "x", "prompt": "\\ud83d"}', "a text has half of a surrogate pair"),
    (b'{"id": "x", "prompt": "\xff"}', "no UTF-8 text: byte 24 is 0xff"),
    (b"[" * 100_000, "JSON that is nested more than 100 levels deep"),
    (
        b'{"id": "x", "prompt": "p", "expected": ' + b"[" * 100 + b"]" * 100 + b"}",
        "JSON that is nested more than 100 levels deep",
    ),
    (b"hello", "no JSON"),
]


@pytest.mark.parametrize(("line", "words"), BROKEN)
def test_a_line_that_is_no_json_is_told_with_its_number(tmp_path: Path, line: bytes, words: str) -> None:
    told = refused(tmp_path / "t", lines(ROWS[:2]).encode() + line + b"\n" + lines(ROWS[2:]).encode())
    assert f"row 3: {words}" in told


def test_a_first_line_that_is_no_json_is_a_row_like_the_others(tmp_path: Path) -> None:
    assert "row 1: no JSON" in refused(tmp_path / "t", "hello\n" + lines(ROWS))


def test_a_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    (task,) = read_tasks(written(tmp_path / "t", '{"id": "x", "prompt": "\\ud83d\\ude00"}'))
    assert task.prompt == "\U0001f600"


DOCUMENTS = [
    ("", "is empty"),
    ("\n  \n", "is empty"),
    ("[]", "holds no tasks"),
    ('{"id": "d", "examples": []}', "holds no tasks"),
    ('{"dataset": {"id": "d"}}', "'dataset' has no list 'examples'"),
    ('{"dataset": {"id": "d", "exmaples": []}}', "Did you mean 'exmaples'?"),
    ('{"dataset": {"id": "d", "examples": []}, "version": 2}', "unknown key 'version' beside 'dataset'"),
    ('{"id": "d", "lable": "x", "examples": []}', "unknown key 'lable'. Did you mean 'label'?"),
    ('{"examples": [{"id": "x", "prompt": "p"}]}', "beside 'examples': no 'id'"),
    ('{"id": "d", "createdAt": "yesterday", "examples": []}', "'created_at'"),
    ('{"id": "d", "examples": {"a": 1}}', "'examples' is a list, not"),
    ('[\n {"id": "x"\n "prompt": "p"}]', "line 3, character 2"),
    ("3", "a row is a JSON object, not 3"),
]


@pytest.mark.parametrize(("text", "words"), DOCUMENTS, ids=[words for _, words in DOCUMENTS])
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path / "t.json", text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_tasks(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        read_tasks(tmp_path)


def test_duplicates_and_contradictions_name_both_rows(tmp_path: Path) -> None:
    rows = [
        *ROWS,
        {"id": "d", "prompt": "1+1=", "expected": "2", "verifier": {"kind": "exact"}},
        {"id": "a", "prompt": "5+5=", "expected": "10"},
        {"id": "e", "prompt": "2+2=", "expected": "5"},
    ]
    told = refused(tmp_path / "t", lines(rows))
    assert "row 4: the same task as row 1" in told
    assert "row 5: the id 'a' is that of row 1, too" in told
    assert "row 6: expects '5', and row 2 '4' for the same prompt" in told
    assert "3 problems" in told


def test_recorded_rewards_contradict_each_other_only_for_one_completion(tmp_path: Path) -> None:
    def seen(name: str, completion: str, reward: float) -> dict[str, Any]:
        return {"id": name, "prompt": "p", "expected": completion, "verifier": {"kind": "recorded", "reward": reward}}

    assert len(read_tasks(written(tmp_path / "t", lines([seen("a", "x", 0.1), seen("b", "y", 0.9)])))) == 2
    assert "row 2: expects 0.9, and row 1 0.1" in refused(
        tmp_path / "t", lines([seen("a", "x", 0.1), seen("b", "x", 0.9)])
    )


def test_rewards_without_a_completion_are_observations(tmp_path: Path) -> None:
    rows = [
        {"id": f"{i}", "toolName": "search", "reward": r, "scenarioId": f"s{i}"} for i, r in enumerate((0.5, 0.5, 1))
    ]
    assert len(read_tasks(written(tmp_path / "t", lines(rows)))) == 3
    assert "row 4: the same task as row 1" in refused(tmp_path / "t", lines([*rows, {**rows[0], "id": "9"}]))


def test_twenty_problems_are_told_and_all_are_counted(tmp_path: Path) -> None:
    told = refused(tmp_path / "t", lines([{"id": f"{i}"} for i in range(1234)]))
    assert told.count("  row ") == 20 and "1,234 problems" in told and told.endswith("and 1,214 more")
    assert [int(line.split()[1][:-1]) for line in told.splitlines()[1:-1]] == list(range(1, 21))


def test_rows_keep_their_numbers_over_blank_lines(tmp_path: Path) -> None:
    content = "\n" + lines(ROWS[:1]) + "\n\n" + lines(ROWS[1:])
    assert [row for row, _ in numbered_tasks(written(tmp_path / "t", content))] == [2, 5, 6]


def test_all_bytes_are_told_of(tmp_path: Path) -> None:
    for shape in (lines, json.dumps):
        path, read = written(tmp_path / "t", shape(ROWS)), []
        read_tasks(path, read.append)
        assert sum(read) == path.stat().st_size


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
TASKS = st.lists(
    st.builds(
        Task,
        id=st.text(min_size=1),
        prompt=st.text(min_size=1),
        expected=JSON,
        verifier=st.none() | st.fixed_dictionaries({"kind": st.sampled_from(["exact", "set"])}),
        metadata=st.dictionaries(st.text(), JSON, max_size=2),
    ),
    min_size=1,
    max_size=6,
    unique_by=(lambda task: task.id, lambda task: task.prompt),
)


@given(TASKS)
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, tasks: list[Task]) -> None:
    path = tmp_path_factory.mktemp("tasks") / "tasks.jsonl"
    assert write_tasks(path, tasks) == len(tasks)
    assert read_tasks(path) == tasks
    assert [entry.name for entry in path.parent.iterdir()] == ["tasks.jsonl"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    def broken() -> Any:
        yield Task(id="b", prompt="q")
        raise RuntimeError("stop")

    path = tmp_path / "tasks.jsonl"
    write_tasks(path, [Task(id="a", prompt="p")])
    with pytest.raises(RuntimeError):
        write_tasks(path, broken())
    assert [task.id for task in read_tasks(path)] == ["a"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["tasks.jsonl"]


@given(TASKS, st.randoms())
def test_a_fingerprint_is_of_content_not_of_order_or_ids(tasks: list[Task], random: Any) -> None:
    shuffled = list(tasks)
    random.shuffle(shuffled)
    renamed = [task.model_copy(update={"id": f"new {i}"}) for i, task in enumerate(shuffled)]
    assert fingerprint(renamed) == fingerprint(tasks)
    first, *rest = tasks
    for change in (
        {"prompt": first.prompt + "?"},
        {"expected": [first.expected]},
        {"metadata": {"changed": len(tasks)}},
    ):
        assert fingerprint([first.model_copy(update=change), *rest]) != fingerprint(tasks)
    assert fingerprint(rest) != fingerprint(tasks)


def test_leaks_between_files_are_found_whatever_the_white_space(tmp_path: Path) -> None:
    train = numbered_tasks(written(tmp_path / "a", lines(ROWS)))
    other = [{"id": "z", "prompt": " 2+2= ", "expected": "4"}, {"id": "y", "prompt": "1+1=\n", "expected": "3"}]
    heldout = numbered_tasks(written(tmp_path / "b", lines([*other, {"id": "x", "prompt": "3+3="}])))
    found = leaks({"train": items(train), "heldout": items(heldout)})
    assert [(leak.row, leak.other_row, leak.contradicts) for leak in found] == [(1, 2, False), (2, 1, True)]
    assert together(heldout[0][1]) == together(train[1][1])
