"""YAML 1.2 text in, data with lines out, and back without a change of type."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import StudyError
from windlass.records.document import DEEPEST, LARGEST_TEXT, Document, dump_yaml

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
tricky = st.sampled_from(
    ["1e-3", "on", "NO", "yes", "~", "null", "1_000", "0o17", "0x1f", "1:30", "2024-01-01", "", "<<"]
)
trees = st.recursive(
    scalars | tricky,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | tricky, inner, max_size=4),
    max_leaves=20,
)


def exactly(value: Any) -> Any:
    """For comparison with types: 1, 1.0 and true differ, -0.0 and 0.0 too."""
    if isinstance(value, dict):
        return {key: exactly(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [exactly(inner) for inner in value]
    return type(value).__name__, repr(value)


@given(st.dictionaries(st.text(max_size=8) | tricky, trees, max_size=5))
def test_what_is_dumped_is_read_back_with_its_types(data: dict[str, Any]) -> None:
    assert exactly(Document(dump_yaml(data)).data) == exactly(data)


@given(st.dictionaries(st.text(max_size=8) | tricky, trees, max_size=5))
def test_readers_of_yaml_1_1_read_the_same(data: dict[str, Any]) -> None:
    assert exactly(yaml.safe_load(dump_yaml(data))) == exactly(data)


@given(st.dictionaries(st.text(max_size=8), trees, max_size=5))
def test_json_is_read_as_json(data: dict[str, Any]) -> None:
    assert exactly(Document(json.dumps(data)).data) == exactly(data)
    assert exactly(Document(json.dumps(data, indent=2)).data) == exactly(data)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-2.", -2.0),
        ("12", 12),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("off", "off"),
        ("y", "y"),
        ("2024-01-01", "2024-01-01"),
        ("~", None),
        ("", None),
        ("'12'", "12"),
        ("-.inf", float("-inf")),
        ("!!str 5", "5"),
    ],
)
def test_scalars_of_yaml_1_2(text: str, value: object) -> None:
    assert exactly(Document(f"key: {text}").data["key"]) == exactly(value)


def test_every_key_and_item_has_its_line() -> None:
    document = Document("a: 1\nb:\n  c:\n    - 1\n    - d: 2\n\ne: {f: 3}\n")
    lines = {("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "c", 0): 4, ("b", "c", 1, "d"): 5, ("e", "f"): 7}
    assert {path: document.line(path) for path in lines} == lines
    assert document.line(("b", "c", 1, "missing", "deeper")) == 5, "the nearest thing around it"
    assert document.line(("nowhere",)) == 1


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3", 3, "the key 'a' is there twice, first in line 1"),
        ("a:\n  b: 1\n  b: 2", 3, "'b' is there twice"),
        ("a: 1\n\tb: 2", 2, "spaces, not tabs"),
        ("a: [1, 2", 1, "no YAML"),
        ("a: 'x", 1, "no YAML"),
        ("a: b: c", 1, "no YAML"),
        ("a: 1\n---\nb: 2", 2, "no YAML"),
        ("a: \x00", 1, "no YAML"),
        ("x: 1\n1: 2", 2, "keys are text, not '1'; quote it"),
        ("? [a]\n: 2", 1, "keys are text, not a list or mapping"),
        ("a: &x {b: 1}\nc:\n  <<: *x", 3, "merge keys"),
        ("a: !!python/object/apply:os.system [ls]", 1, "tag"),
        ("a: !mine 3", 1, "tag"),
        ("a: !!int seven", 1, "seven"),
        ("a: &x [*x]", 1, "alias of itself"),
        ("a: *unknown", 1, "alias"),
        ("a: " + "9" * 401, 1, "too long"),
        ("a: " + "[" * (DEEPEST + 5) + "]" * (DEEPEST + 5), 1, "nested deeper"),
        ("a: " + "[" * 5000, 1, "nested deeper"),
        ("#" * (LARGEST_TEXT + 1), 1, "characters"),
        ("\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 1}]" for i in range(9)), 1, "aliases"),
    ],
)
def test_refused_with_the_line(text: str, line: int, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        Document(text, "my.yaml")
    assert str(caught.value).startswith(f"my.yaml:{line}: ") and words in str(caught.value)
    assert caught.value.next_step == "Edit my.yaml"


def test_aliases_are_written_out() -> None:
    data = Document("a: &x {b: [1]}\nc: *x").data
    assert data == {"a": {"b": [1]}, "c": {"b": [1]}} and data["a"] is not data["c"]


def test_dumped_keys_keep_their_order() -> None:
    assert dump_yaml({"b": 1, "a": {"d": [1, 2], "c": [{"x": 1}]}}) == ("b: 1\na:\n  d: [1, 2]\n  c:\n    - x: 1\n")
