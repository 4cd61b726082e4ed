"""A verifier of every kind with tasks that it judges, for the tests of what all kinds have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from windlass.records.task import Task
from windlass.sandbox import SandboxUnavailable, available

ADD = "```python\ndef add(a, b):\n    return a + b\n```"
ADD_TESTS = ["assert add(2, 3) == 5", "assert add('a', 'b') == 'ab'"]


def task(expected: Any = None, prompt: str = "What is it?", id: str = "t", **rest: Any) -> Task:
    return Task(id=id, prompt=prompt, expected=expected, **rest)


def has_sandbox() -> bool:
    try:
        return bool(available())
    except SandboxUnavailable:
        return False


needs_sandbox = pytest.mark.skipif(not has_sandbox(), reason="no sandbox level works on this machine")


def graded(completion: str, task: Task) -> tuple[float, str]:
    """A user's verifier: the words of the expected text in any order."""
    return float(sorted(completion.split()) == sorted(str(task.expected).split())), "words in both"


@dataclass(frozen=True)
class KindCase:
    """One kind. ``right`` and ``wrong`` are completions of the first task; without ``right`` the oracle is enough."""

    spec: Mapping[str, Any]
    tasks: Sequence[Task]
    right: Sequence[str] = ()
    wrong: Sequence[str] = ()
    bad: Mapping[str, Any] = field(default_factory=dict)  #: an option with a value that is refused

    @property
    def kind(self) -> str:
        return str(self.spec["kind"])


def cases() -> list[KindCase]:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}, "examples": [{"n": 1}]}
    return [
        KindCase(
            {"kind": "exact"},
            [task("Paris", id="a"), task("Rome", id="b"), task(["Köln", "Cologne"], id="c")],
            ["Paris", "  Paris\n"],
            ["paris", "Rome", "Paris Rome"],
            {"case": "perhaps"},
        ),
        KindCase(
            {"kind": "numeric", "relative": 0.01},
            [task(n, f"{n - 1} + 1 =", id=str(n)) for n in (42, 1000, -5, 7)],
            ["42", "so 12 + 30 = 42.", "41.9"],
            ["43", "42 or 43", "forty-two"],
            {"absolute": -1},
        ),
        KindCase(
            {"kind": "choice", "choices": ["A", "B", "C"]},
            [task("B", id="1"), task("A", id="2"), task("C", id="3")],
            ["B", "(b).", "I choose B because a cat can."],
            ["A or B", "none", "C"],
            {"choices": ["A"]},
        ),
        KindCase(
            {"kind": "set"},
            [task([3, -3], id="1"), task(["red", "green"], id="2"), task([1, 2, 5], id="3")],
            ["3, -3", "{-3, 3}", "- -3\n- 3.0"],
            ["3", "3, -3, 4"],
            {"separator": ""},
        ),
        KindCase(
            {"kind": "sequence"},
            [task([3, 1, 2], id="1"), task([1, 2, 3], id="2"), task([5, 5], id="3")],
            ["3, 1, 2", "[3, 1, 2]"],
            ["1, 2, 3", "3, 1", "3, 1, 2, 2"],
            {"partial": 3},
        ),
        KindCase(
            {"kind": "regex", "pattern": r"[a-z]+@[a-z]+\.org"},
            [task(id=str(i), metadata={"solution": f"{name}@home.org"}) for i, name in enumerate(("ada", "bob", "cy"))],
            ["ada@home.org"],
            ["ada@home.org or bob@home.org", "ada at home"],
            {"pattern": "("},
        ),
        KindCase(
            {"kind": "json_schema", "schema": schema},
            [task(id=str(i)) for i in range(3)],
            ['{"n": 3}', 'Here it is:\n```json\n{"n": 3}\n```\nDone.'],
            ['{"n": "3"}', "{n: 3}", "[]", '{"n": NaN}'],
            {"schema": [1]},
        ),
        KindCase(
            {"kind": "math"},
            [task("1/2", id="1"), task("\\sqrt{8}", id="2"), task("x^2+2x+1", id="3")],
            ["0.5", "$\\frac{2}{4}$", "The answer is \\boxed{1/2}"],
            ["1/3", "half"],
            {"limit": 0},
        ),
        KindCase(
            {"kind": "gym", "dataset": "leg_counting", "seed": 7, "size": 4},
            gym_tasks(),
            [],
            ["-1", "none"],
            {"size": 0},
        ),
        KindCase(
            {"kind": "function", "function": "verifying:graded"},
            [task("one two", id="1"), task("three four", id="2"), task("five", id="3")],
            ["two one"],
            ["three"],
            {"function": "verifying"},
        ),
        KindCase(
            {"kind": "recorded", "reward": 0.75},
            [task("the log says so", id="1"), task("another log", id="2")],
            [],
            [],
            {"reward": 1.5},
        ),
        KindCase(
            {
                "kind": "weighted",
                "parts": [
                    {"verifier": {"kind": "numeric"}, "weight": 3},
                    {"verifier": {"kind": "regex", "pattern": r"-?\d+"}},
                ],
            },
            [task(n, id=str(n)) for n in (42, 7, -5)],
            ["42"],
            ["forty-two"],
            {"parts": [{"verifier": {"kind": "exct"}}]},
        ),
        KindCase(
            {"kind": "code"},
            [task(ADD_TESTS, "Write add.", metadata={"solution": ADD})],
            [],
            ["```python\ndef add(a, b):\n    return a - b\n```"],
            {"score": "half"},
        ),
    ]


def gym_tasks() -> list[Task]:
    """Four entries of leg_counting."""
    from windlass.verifiers.gym import make_tasks

    return make_tasks("leg_counting", size=4, seed=7)


KIND_CASES = [
    pytest.param(case, id=case.kind, marks=[needs_sandbox] if case.kind == "code" else []) for case in cases()
]
