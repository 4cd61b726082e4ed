"""The language of rules: what it means, what it refuses and where it points, and repair of linear equalities."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from space.studies import study
from windlass.errors import StudyError
from windlass.records.study import Study
from windlass.space.check import check_study
from windlass.space.repair import project
from windlass.space.rules import parse_rule
from windlass.space.space import Space

numbers = st.integers(-100, 100) | st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        ("train + validation + test == 1", {"train": 0.7, "validation": 0.2, "test": 0.1}, True),
        ("train + validation + test == 1", {"train": 0.7, "validation": 0.2, "test": 0.1001}, False),
        ("warmup <= 0.1 * steps", {"warmup": 100, "steps": 1000}, True),
        ("warmup <= 0.1 * steps", {"warmup": 101, "steps": 1000}, False),
        ("model != 'svm' or svm.C < 10", {"model": "mlp", "svm.C": 50}, True),
        ("model != 'svm' or svm.C < 10", {"model": "svm", "svm.C": 50}, False),
        ("model != 'svm' or svm.C < 10", {"model": "svm"}, True),
        ("1 < a < b <= 3", {"a": 2, "b": 3}, True),
        ("1 < a < b <= 3", {"a": 2, "b": 2}, False),
        ("1 - 2 - 3 == a", {"a": -4}, True),
        ("a / 2 / 2 == 1", {"a": 4}, True),
        ("a + 2 * 3 == 7 and -a == 0 - a", {"a": 1}, True),
        ("+a == a", {"a": 1.5}, True),
        ("not a and b", {"a": False, "b": True}, True),
        ("not (a and b)", {"a": False, "b": True}, True),
        ("a == true or b == False", {"a": False, "b": False}, True),
        ("a == null", {"a": None}, True),
        ("a in [1, 2.0, 'x']", {"a": 2}, True),
        ("a not in [1, 'x']", {"a": "x"}, False),
        ("'flip' in augment", {"augment": ["crop", "flip"]}, True),
        ("len(augment) <= 1", {"augment": ["crop", "flip"]}, False),
        ("max(a, b, 3) - min(a, b) == abs(b - a)", {"a": 4, "b": -2}, True),
        ("a == 1", {"a": True}, False),
        ("a.b.c > 0", {"a.b.c": 1}, True),
        ("größe > 1", {"größe": 2}, True),
        ("a >\n  1", {"a": 2}, True),
    ],
)
def test_meaning(text: str, values: dict[str, Any], holds: bool) -> None:
    assert parse_rule(text).holds(values) is holds


@given(numbers, numbers)
def test_one_of_less_equal_greater(a: float, b: float) -> None:
    values = {"a": a, "b": b}
    less, equal, more = (parse_rule(f"a {sign} b").holds(values) for sign in ("<", "==", ">"))
    assert less + equal + more == 1
    assert parse_rule("a <= b").holds(values) is (less or equal) and parse_rule("a >= b").holds(values) is (
        more or equal
    )
    assert parse_rule("a != b").holds(values) is not equal and parse_rule("not a == b").holds(values) is not equal


@given(numbers)
def test_rounding_does_not_break_equality(a: float) -> None:
    assert parse_rule("a == b").holds({"a": a, "b": a * (1 + 1e-10)})
    assert not parse_rule("a == b").holds({"a": a, "b": a + max(abs(a), 1.0) * 1e-8})


@given(st.dictionaries(st.sampled_from("abc"), st.booleans(), min_size=3))
def test_logic_is_pythons(values: dict[str, bool]) -> None:
    for text in ("a and b or c", "a or b and c", "not a or not b and c", "not (a or b) and not c"):
        assert parse_rule(text).holds(values) is eval(text, {}, values)


@given(st.text(max_size=30) | st.text("ab.()[]<>=+-*/'\" 1,:", max_size=30))
def test_any_text_is_a_rule_or_a_study_error(text: str) -> None:
    try:
        rule = parse_rule(text)
    except StudyError as error:
        assert "\n" in error.message or "too long" in error.message
    else:
        try:
            assert rule.holds(dict.fromkeys(rule.names, 1)) in (True, False)
        except ValueError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("text", "token", "words"),
    [
        ("a + == 1", "== 1", "cannot be read here"),
        ("a + b = 1", "= 1", "equality is written =="),
        ("(a > 1", "(a", "cannot be read here"),
        ("a > 1)", ")", "cannot be read here"),
        ("lambda > 1", "> 1", "cannot be read here"),
        ("a ** 2 > 1", "a ** 2", "'a ** 2' is not part of the rule language"),
        ("1 < a % 2", "a % 2", "not part"),
        ("a > 1 and b[0] > 1", "b[0]", "'b[0]' is not part"),
        ("a is 1", "a is 1", "not part"),
        ("[x for x in a] == 1", "[x", "not part"),
        ("a > 1 if b else c", "a > 1", "not part"),
        ("ä > 1 and __import__('os').system('x')", "__import__", "a dot belongs into a name|not part"),
        ("a > 1 and exec('x')", "exec", "no function 'exec'; there are min, max, abs, len"),
        ("abs(a, b) > 1", "abs", "abs takes one value"),
        ("min(a) > 1", "min", "min takes two values or more"),
        ("max(*a) > 1", "max|\\*a", "two values|not part"),
        ("(a + 1).b > 1", "\\(?a", "a dot belongs into a name"),
        ("a > 1j", "1j", "not part"),
        ("a > b'x'", "b'x'", "not part"),
        ("1 < 2", "1", "names no parameter"),
        ("", "", "cannot be read here"),
    ],
)
def test_what_cannot_be_read_is_pointed_at(text: str, token: str, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        parse_rule(text)
    message, shown, caret = caught.value.message.split("\n")
    assert re.search(words if "|" in words else re.escape(words), message) and shown == f"  {text}"
    here = text[caret.index("^") - 2 :]
    assert re.match(token if "|" in token or "\\" in token else re.escape(token), here), here


@pytest.mark.parametrize(
    "text", ["a > 1 " * 200, "-" * 499 + "a", "(" * 240 + "a" + ")" * 240, "not " * 120 + "a", "a\0"]
)
def test_absurd_rules_are_refused_or_read(text: str) -> None:
    try:
        parse_rule(text)
    except StudyError as error:
        assert error.message


@pytest.mark.parametrize(
    ("text", "values", "words"),
    [
        ("a / b > 1", {"a": 1, "b": 0}, "division by zero"),
        ("a > 1", {"a": "x"}, "'x' is no number"),
        ("a + 1 > 1", {"a": True}, "True is no number"),
        ("a and b", {"a": 1, "b": True}, "1 is not true or false"),
        ("a in b", {"a": 1, "b": 2}, "2 is no list"),
        ("len(a) > 1", {"a": "text"}, "'text' is no list"),
        ("a", {"a": 1}, "1 is not true or false"),
    ],
)
def test_what_cannot_be_evaluated_is_an_error_not_a_verdict(text: str, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_rule(text).holds(values)


SPACE = """\
space:
  model: {type: categorical, choices: [svm, mlp]}
  mixed: {type: categorical, choices: [svm, 3]}
  batch: {type: categorical, choices: [16, 32]}
  lr: {type: float, low: 0, high: 1}
  weight-decay: {type: float, low: 0, high: 1}
  bias: {type: bool}
  augment: {type: set, choices: [flip, crop]}
baseline: {epochs: 3, optimizer: adam, sizes: [1, 2]}
"""


@pytest.mark.parametrize(
    "rule",
    [
        "lr < 0.5 or model == 'mlp'",
        "bias or lr > 0",
        "mixed == 3 or mixed == 'svm'",
        "batch <= 32 and batch in [16, 32]",
        "'flip' in augment and len(augment) < 2",
        "model in ['svm']",
        "epochs * lr < 3",
        "optimizer == 'sgd'",
        "len(sizes) == 2",
        "optimizer != null",
    ],
)
def test_rules_that_can_be_meant(rule: str) -> None:
    made = study(SPACE.replace("baseline: {epochs: 3, optimizer: adam", "baseline: {epochs: 3, optimizer: sgd"))
    assert check_study(Study.model_validate({**made.model_dump(), "rules": [rule]})) == []


@pytest.mark.parametrize(
    ("rule", "token", "words"),
    [
        ("lrr < 1", "lrr", "there is no parameter 'lrr'. Did you mean 'lr'?"),
        ("lr < 1 and weight-decay < 1", "weight", "'weight-decay' reads as a difference here; write '_'"),
        ("model == 'smv'", "'smv'", "'smv' is none of 'svm', 'mlp'. Did you mean 'svm'?"),
        ("'smv' != model", "'smv'", "Did you mean 'svm'?"),
        ("model in ['mlp', 'smv']", "'smv'", "Did you mean 'svm'?"),
        ("'flp' in augment", "'flp'", "Did you mean 'flip'?"),
        ("batch == 33", "33", "33 is none of 16, 32"),
        ("lr < 'a'", "'a'", "this is a text, and a number is needed"),
        ("model < 3", "model", "this is a text, and a number is needed"),
        ("lr == 'a'", "'a'", "a number never equals a text"),
        ("bias == 1", "1", "a truth never equals a number"),
        ("lr + bias > 1", "bias", "this is a truth, and a number is needed"),
        ("lr and bias", "lr", "this is a number, and a truth is needed"),
        ("not lr", "lr", "this is a number, and a truth is needed"),
        ("lr + 1", "lr", "this is a number, and a truth is needed"),
        ("augment == ['flip']", "augment", "a list is not compared as a whole; use in or len"),
        ("lr in model", "model", "this is a text, and a list is needed"),
        ("len(model) > 1", "model", "this is a text, and a list is needed"),
        ("abs(optimizer) > 1", "optimizer", "this is a text"),
    ],
)
def test_rules_that_cannot_be_meant(rule: str, token: str, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        study(SPACE + f"rules:\n  - {rule!r}\n" if "'" not in rule else SPACE + f'rules:\n  - "{rule}"\n')
    first, shown, caret, _ = str(caught.value).split("\n")
    assert first.startswith("s.yaml:11: rules[0]: ") and words in first
    assert shown[caret.index("^") :].startswith(token)


boxes = st.lists(
    st.tuples(st.floats(-100, 100), st.floats(0.01, 100), st.floats(0, 1), st.floats(0, 1), st.floats(-5, 5)),
    min_size=1,
    max_size=5,
)


@given(boxes)
def test_projection_is_feasible_and_nearest(rows: list[tuple[float, ...]]) -> None:
    assume(all(abs(row[4]) > 1e-3 for row in rows))
    box = [(low, low + width) for low, width, *_ in rows]
    point = [low + u * (high - low) for (low, high), (_, _, u, _, _) in zip(box, rows, strict=True)]
    inside = [low + v * (high - low) for (low, high), (_, _, _, v, _) in zip(box, rows, strict=True)]
    normal = [row[4] for row in rows]
    target = sum(a * x for a, x in zip(normal, inside, strict=True))

    found = project(point, normal, box, target)

    assert all(low <= x <= high for x, (low, high) in zip(found, box, strict=True))
    size = 1 + sum(abs(a) * max(map(abs, ends)) for a, ends in zip(normal, box, strict=True))
    assert abs(sum(a * x for a, x in zip(normal, found, strict=True)) - target) <= 1e-12 * size

    def distance(x: list[float]) -> float:
        return math.sqrt(sum(((a - b) / (h - w)) ** 2 for a, b, (w, h) in zip(x, point, box, strict=True)))

    assert distance(found) <= distance(inside) * (1 + 1e-6) + 1e-9, "no other point of the plane is nearer"
    assert project(point, normal, box, target) == found


def test_projection_out_of_reach_goes_as_far_as_the_box() -> None:
    assert project([0.2, 0.3], [1, 1], [(0, 0.4), (0, 0.5)], 5) == [0.4, 0.5]
    assert project([0.2, 0.3], [1, -1], [(0, 0.4), (0, 0.5)], 5) == [0.4, 0.0]


SPLITS = """\
space:
  train: {type: float, low: 0.5, high: 0.9}
  validation: {type: float, low: 0.05, high: 0.4}
  test: {type: float, low: 0.05, high: 0.4}
rules: [train + validation + test == 1]
"""


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_splits_are_made_to_sum_to_one(point: list[float]) -> None:
    space = Space.of(study(SPLITS))
    raw = space.decode(point)
    values = space.repair(raw)
    assert math.isclose(sum(values.values()), 1, rel_tol=1e-12)
    assert space.repair(values) == values and space.repair(raw) == values, "once, and always the same"
    assert space.decode(space.encode(values)) == pytest.approx(values, rel=1e-9)


def test_what_holds_is_not_touched() -> None:
    values = {"train": 0.7, "validation": 0.2, "test": 0.1}
    assert Space.of(study(SPLITS)).repair(values) == values


def test_fixed_values_and_ints_stay_and_floats_move() -> None:
    space = Space.of(
        study(
            "space:\n"
            "  a: {type: float, low: 0, high: 10}\n"
            "  n: {type: int, low: 1, high: 3}\n"
            "  b: {type: float, low: 0, high: 1}\n"
            "baseline: {total: 6, b: 0.5}\n"
            "rules: [a * n == total - b]\n"
        )
    )
    assert space.repair({"a": 1.0, "n": 2}) == {"a": pytest.approx(2.75), "n": 2}, "b counts with the baseline's value"
    repaired = space.repair({"a": 1.0, "n": 3, "b": 1.0})
    assert repaired["n"] == 3 and repaired["a"] * 3 == pytest.approx(6 - repaired["b"])


def test_rules_that_share_parameters_are_all_met() -> None:
    space = Space.of(
        study(
            "space:\n"
            "  a: {type: float, low: 0, high: 1}\n"
            "  b: {type: float, low: 0, high: 1}\n"
            "  c: {type: float, low: 0, high: 1}\n"
            "rules: [a + b == 1, b + c == 0.8, a + b + c <= 1.5]\n"
        )
    )
    values = space.repair({"a": 0.9, "b": 0.9, "c": 0.9})
    assert all(rule.holds(values) for rule in space.rules[:2])


def test_what_cannot_be_met_is_left_for_rejection() -> None:
    text = SPLITS.replace("== 1", "== 3")
    values = {"train": 0.7, "validation": 0.2, "test": 0.2}
    assert Space.of(study(text)).repair(values) == values
    product = SPLITS.replace("train + validation + test", "train * validation + test")
    assert Space.of(study(product)).repair(values) == values, "not linear in what may move"


def test_inactive_parameters_are_out_of_it() -> None:
    space = Space.of(
        study(
            "space:\n"
            "  on: {type: bool}\n"
            "  a: {type: float, low: 0, high: 1}\n"
            "  b: {type: float, low: 0, high: 1, when: {on: true}}\n"
            "rules: [a + b == 1]\n"
        )
    )
    assert space.repair({"on": False, "a": 0.2, "b": 0.2}) == {"on": False, "a": 0.2, "b": 0.2}
    assert space.repair({"on": True, "a": 0.2, "b": 0.2}) == {"on": True, "a": 0.5, "b": 0.5}
