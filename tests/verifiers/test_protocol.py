"""From a description to a verifier: errors in words, each task's own verifier, what is imported for it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest

from verifying import task
from windlass.errors import DataError, MissingExtra
from windlass.verifiers import build, for_task
from windlass.verifiers.protocol import shown


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "exct"}, "no verifier of kind 'exct'. Did you mean 'exact'?"),
        ({"knd": "exact"}, "described as {kind: ..., ...}"),
        ({"kind": ["exact"]}, "described as"),
        ("exact", "described as"),
        ({"kind": "numeric", "absolut": 1}, "unknown option 'absolut'. Did you mean 'absolute'?"),
        (
            {"kind": "numeric", "which": "lst"},
            "'which' must be 'last', 'first' or 'only', not 'lst'. Did you mean 'last'?",
        ),
        ({"kind": "numeric", "absolute": float("nan")}, "must be a finite number, not nan"),
        ({"kind": "gym"}, "'dataset' is missing"),
        ({"kind": "json_schema", "schma": {}}, "unknown option 'schma'. Did you mean 'schema'?"),
        ({"kind": "weighted", "parts": [{"verifier": {"kind": "exact"}, "weight": 0}]}, "'parts[0].weight'"),
        ({"kind": "weighted", "parts": [{"verifier": {"kind": "xact"}}]}, "parts[0]: there is no verifier of kind"),
        ({"kind": "exact", "case": 3, "tagg": "x"}, "'case'"),
        ({"kind": "exact", "case": 3, "tagg": "x"}, "'tagg'"),
    ],
)
def test_mistakes_are_named_with_the_nearest_right_word(spec: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        build(spec)
    assert message in error.value.message
    assert error.value.next_step == "windlass verifiers list"


def test_each_task_is_judged_by_its_own_verifier_else_by_the_default() -> None:
    verifier = for_task({"kind": "numeric"})
    assert verifier.verify("4.0", task(4)).score == 1
    assert verifier.verify("4.0", task(4, verifier={"kind": "exact"})).score == 0
    with pytest.raises(DataError, match="task 't' has no verifier, and there is none for all tasks"):
        for_task().verify("4", task(4))


def test_equal_descriptions_share_a_verifier() -> None:
    verifier = for_task()
    one, other = task(1, verifier={"kind": "exact", "case": False}), task(2, verifier={"case": False, "kind": "exact"})
    assert verifier.of(one) is verifier.of(other)


def test_the_tasks_that_are_given_are_looked_at_before_any_is_judged() -> None:
    tasks = [task(1, id="fine", verifier={"kind": "exact"}), task(2, id="wrong", verifier={"kind": "exat"})]
    with pytest.raises(DataError, match="task 'wrong': there is no verifier of kind 'exat'"):
        for_task({"kind": "exact"}, tasks)
    with pytest.raises(DataError, match=r"^there is no verifier of kind"):
        for_task({"kind": "exat"}, [task(1)])


@pytest.mark.parametrize(
    ("spec", "library", "extra"),
    [
        ({"kind": "math"}, "math_verify", "maths"),
        ({"kind": "gym", "dataset": "chain_sum"}, "reasoning_gym", "gym"),
        ({"kind": "json_schema", "schema": {}}, "jsonschema", "schema"),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    spec: dict[str, Any], library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == library else found(name))
    with pytest.raises(MissingExtra, match=library) as error:
        build(spec)
    assert error.value.next_step == f"pip install 'windlass[{extra}]'"


def test_a_value_in_a_message_is_one_short_line() -> None:
    assert shown("a\n b" * 1000) == repr(("a b" * 1000)[:80] + "…")
    assert shown({"a": [1]}) == '{"a": [1]}'
    assert shown("\ud800") == "'?'"


def test_verifiers_cost_nothing_that_they_do_not_use() -> None:
    code = "import windlass.verifiers as v; v.build({'kind': 'math'}); v.build({'kind': 'gym', 'dataset': 'x'})"
    code += "; import sys; print(' '.join(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "windlass.verifiers.maths" in loaded
    assert not loaded & {"torch", "transformers", "numpy", "sympy", "math_verify", "reasoning_gym", "jsonschema"}
