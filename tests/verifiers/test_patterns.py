"""Regular expressions and JSON schemas."""

from __future__ import annotations

from typing import Any

import pytest

from verifying import task
from windlass.errors import DataError
from windlass.verifiers import build


def verdict(spec: dict[str, Any], completion: str, expected: Any = None) -> tuple[float | None, str]:
    given = build(spec).verify(completion, task(expected))
    return given.score, given.reason


def test_all_of_the_answer_matches_unless_a_part_is_enough() -> None:
    assert verdict({"kind": "regex", "pattern": "[0-9]+"}, "it is 42")[0] == 0
    assert verdict({"kind": "regex", "pattern": "[0-9]+", "anywhere": True}, "it is 42")[0] == 1


def test_without_a_pattern_the_task_has_it() -> None:
    assert verdict({"kind": "regex"}, "aab", "a+b")[0] == 1
    with pytest.raises(DataError, match="task 't': the verifier 'regex' needs"):
        verdict({"kind": "regex"}, "a")
    with pytest.raises(DataError, match="is no regular expression"):
        verdict({"kind": "regex"}, "a", "(")


def test_a_pattern_that_runs_away_scores_0_within_its_limit() -> None:
    spec = {"kind": "regex", "pattern": "(a|a)*b", "limit": 0.2}
    assert verdict(spec, "a" * 100) == (0.0, "checking it takes more than 0.2 s of CPU time")
    assert verdict(spec, "aab")[0] == 1


def test_an_answer_that_is_too_long_is_not_looked_at() -> None:
    assert verdict({"kind": "regex", "pattern": "a+"}, "a" * 20_001) == (
        0.0,
        "the answer is longer than 20,000 characters",
    )
    assert verdict({"kind": "regex", "pattern": "a+"}, "a" * 20_000)[0] == 1


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("completion", "score", "told"),
    [
        ('{"n": 1}', 1, "fits"),
        ('```json\n{"n": 2}\n```', 1, "fits"),
        ('{"n": 1} {"n": 2}', 0, "no JSON"),
        ('{"n": 1.5}', 0, "$.n"),
        ('{"n": 1, "m": 2}', 0, "Additional properties"),
        ('{"n": NaN}', 0, "NaN is not in JSON"),
        ("[" * 9_000, 0, "nested too deep"),
        ('{"n": ' + "9" * 10_000 + "}", 1, "fits"),
    ],
)
def test_json_is_read_strictly_and_held_against_the_schema(completion: str, score: float, told: str) -> None:
    found = verdict({"kind": "json_schema", "schema": SCHEMA}, completion)
    assert found[0] == score and told in found[1], found


def test_without_a_schema_the_task_has_it() -> None:
    assert verdict({"kind": "json_schema"}, "3", {"type": "integer"})[0] == 1
    with pytest.raises(DataError, match="needs a JSON schema"):
        verdict({"kind": "json_schema"}, "3", "integer")


def test_what_is_no_schema_is_refused() -> None:
    with pytest.raises(DataError, match="no JSON schema"):
        verdict({"kind": "json_schema", "schema": {"type": "intger"}}, "3")


@pytest.mark.parametrize("reference", ["http://127.0.0.1:9/schema.json", "#/$defs/n", "other.json"])
def test_a_schema_refers_to_nothing_outside_of_itself(reference: str) -> None:
    with pytest.raises(DataError, match="which is not in it"):
        verdict({"kind": "json_schema", "schema": {"$ref": reference}}, "3")


def test_a_schema_may_refer_to_itself() -> None:
    tree = {"$ref": "#/$defs/t", "$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}}}
    assert verdict({"kind": "json_schema", "schema": tree}, "[[], [[]]]")[0] == 1
    assert verdict({"kind": "json_schema", "schema": tree}, "[[], [1]]")[0] == 0


def test_a_pattern_in_a_schema_that_runs_away_scores_0() -> None:
    schema = {"type": "string", "pattern": "^(a|a)*b$"}
    spec = {"kind": "json_schema", "schema": schema, "limit": 0.2}
    assert verdict(spec, '"' + "a" * 100 + '"') == (0.0, "checking it takes more than 0.2 s of CPU time")
