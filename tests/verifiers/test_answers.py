"""Exact, numeric, choice, set, sequence: the rules of docs/verifiers.md, each by its name."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from verifying import task
from windlass.errors import DataError
from windlass.verifiers import build
from windlass.verifiers.answers import LONGEST_NUMBER, last_block, normal, numbers, value_of


def score(spec: dict[str, Any], completion: str, expected: Any) -> float | None:
    return build(spec).verify(completion, task(expected)).score


# Where the answer is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "completion", "right"),
    [
        ({"after": "####"}, "2 + 2 is\n#### 4", 1),
        ({"after": "####"}, "#### 5\nno:\n#### 4", 1),
        ({"after": "####"}, "#### 4 #### 5", 0),
        ({"after": "####"}, "4", 0),
        ({"after": "####"}, "4 ####", 0),
        ({"tag": "answer"}, "<answer>5</answer> or rather <answer>\n4 </answer>.", 1),
        ({"tag": "answer"}, "<answer><answer>4</answer>", 1),
        ({"tag": "answer"}, "<answer>4", 0),
        ({"tag": "answer"}, "</answer>4<answer>", 0),
        ({"tag": "answer"}, "4", 0),
    ],
)
def test_the_answer_is_after_a_mark_or_in_a_tag(spec: dict[str, Any], completion: str, right: float) -> None:
    assert score({"kind": "exact", **spec}, completion, "4") == right


def test_only_one_place_can_be_given() -> None:
    with pytest.raises(DataError, match="one of 'after' and 'tag'"):
        build({"kind": "exact", "after": "=", "tag": "answer"})


# Texts -------------------------------------------------------------------------------------------------------------


@given(st.text(), st.booleans())
def test_a_normal_form_is_its_own_normal_form(text: str, case: bool) -> None:
    form = normal(text, case=case)
    assert normal(form, case=case) == form


@given(st.text(), st.lists(st.sampled_from(" \t\n\u00a0\u2003"), max_size=3), st.booleans())
def test_white_space_around_a_text_does_not_count(text: str, around: list[str], case: bool) -> None:
    space = "".join(around)
    assert normal(f"{space}{text}{space}", case=case) == normal(text, case=case)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1))
def test_a_text_is_equal_to_itself_and_not_to_a_longer_one(text: str) -> None:
    assume(normal(text))
    assert score({"kind": "exact"}, text, text) == 1
    assert score({"kind": "exact"}, text + " x", text) == 0


def test_case_counts_unless_it_is_said_not_to() -> None:
    assert score({"kind": "exact"}, "STRASSE", "Straße") == 0
    assert score({"kind": "exact", "case": False}, "STRASSE", "Straße") == 1


def test_composed_and_decomposed_letters_are_the_same() -> None:
    assert score({"kind": "exact"}, "Ko\u0308ln", "K\u00f6ln") == 1


def test_one_of_several_texts_is_enough_and_numbers_are_as_json_writes_them() -> None:
    assert score({"kind": "exact"}, "Cologne", ["Köln", "Cologne"]) == 1
    assert score({"kind": "exact"}, "42", 42) == 1
    assert score({"kind": "exact"}, "true", True) == 1


@pytest.mark.parametrize("expected", [None, "", "  ", [], {"a": 1}, ["x", None], ["x", ""]])
def test_a_task_without_an_expected_text_is_refused_not_scored(expected: Any) -> None:
    with pytest.raises(DataError, match="task 't': the verifier 'exact' needs"):
        score({"kind": "exact"}, "x", expected)


# Numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("I think 41 no 42", ["41", "42"]),
        ("-3, +4, \u22125", ["-3", "+4", "\u22125"]),
        ("10-3 and 2024-01-05", ["10", "3", "2024", "01", "05"]),
        ("f(x)-3, x=-3", ["3", "-3"]),
        ("1,234.5 but 1,2345", ["1,234.5", "1", "2345"]),
        (".5 -.5 5.", [".5", "-.5", "5"]),
        ("1e5 2E-3 3e", ["1e5", "2E-3", "3"]),
        ("42km $7 50%", ["42", "7", "50"]),
        ("x2 v1.2.3 a_3", []),
        ("1/2", ["1", "2"]),
        ("1e99999 " + "9" * (LONGEST_NUMBER + 1), []),
        ("\u0664\u0662", []),
    ],
)
def test_what_a_number_is(text: str, found: list[str]) -> None:
    assert numbers(text) == found


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6).map(str))
def test_a_number_is_found_as_it_was_written(text: str) -> None:
    assume(len(text) <= LONGEST_NUMBER)
    assert numbers(f"it is {text} metres") == [text]
    assert value_of(text) == Fraction(Decimal(text))


@given(st.integers(-(10**12), 10**12))
def test_thousands_may_have_commas(number: int) -> None:
    assert score({"kind": "numeric"}, f"{number:,}", number) == 1


@given(
    st.integers(-(10**9), 10**9),
    st.integers(0, 10**6),
    st.integers(-(10**7), 10**7),
    st.sampled_from(["absolute", "relative"]),
)
def test_within_the_tolerance_is_right_and_beyond_it_is_wrong(
    expected: int, tolerance: int, difference: int, which: str
) -> None:
    allowed = Fraction(tolerance, 1000) * (1 if which == "absolute" else abs(expected))
    given = Fraction(expected) + Fraction(difference, 1000)
    text = str(Decimal(given.numerator) / Decimal(given.denominator))
    spec = {"kind": "numeric", which: tolerance / 1000}
    assert score(spec, text, expected) == (abs(given - expected) <= allowed)


def test_the_larger_tolerance_counts() -> None:
    both = {"kind": "numeric", "absolute": 2, "relative": 0.1}
    assert score(both, "12", 10) == 1
    assert score(both, "110", 100) == 1
    assert score(both, "111", 100) == 0


def test_without_a_tolerance_numbers_are_equal_to_the_last_digit() -> None:
    assert score({"kind": "numeric"}, "9007199254740993", 9007199254740992) == 0
    assert score({"kind": "numeric"}, "42.000", 42) == 1
    assert score({"kind": "numeric"}, "0.1", 0.1) == 1
    assert score({"kind": "numeric"}, "0.30000000000000001", 0.3) == 0


def test_the_last_number_counts_unless_another_rule_is_given() -> None:
    text = "I think 41 no 42"
    assert score({"kind": "numeric"}, text, 42) == 1
    assert score({"kind": "numeric", "which": "first"}, text, 41) == 1
    only = build({"kind": "numeric", "which": "only"}).verify(text, task(42))
    assert only.score == 0 and "2 numbers in the answer: 41, 42" in only.reason


@pytest.mark.parametrize("expected", [None, True, "forty", "1 or 2", [4], {"a": 4}, "1/2"])
def test_a_task_without_an_expected_number_is_refused(expected: Any) -> None:
    with pytest.raises(DataError, match="needs a number as 'expected'"):
        score({"kind": "numeric"}, "4", expected)


# Choices -----------------------------------------------------------------------------------------------------------

LETTERS = {"kind": "choice", "choices": ["A", "B", "C"]}


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("B", 1),
        ("b", 1),
        ("**(B)**", 1),
        ("The answer is B.", 1),
        ("B, because a is too small and c too large", 1),
        ("A and B", 0),
        ("A good question. B", 0),
        ("not B", 1),
        ("Bison", 0),
        ("", 0),
    ],
)
def test_a_choice_is_named_alone(completion: str, right: float) -> None:
    assert score(LETTERS, completion, "B") == right


def test_a_choice_in_another_one_is_not_named_by_it() -> None:
    spec = {"kind": "choice", "choices": ["York", "New York", "not York"]}
    assert score(spec, "It is in new york!", "New York") == 1
    assert score(spec, "It is in New York", "York") == 0
    assert score(spec, "York, not York", "York") == 0


@pytest.mark.parametrize("expected", ["D", None, "", ["B"], 1])
def test_what_is_expected_has_to_be_a_choice(expected: Any) -> None:
    with pytest.raises(DataError, match="needs one of A, B, C"):
        score(LETTERS, "B", expected)


@pytest.mark.parametrize("choices", [["A"], ["A", "a."], ["A", " "], []])
def test_choices_can_be_told_apart(choices: list[str]) -> None:
    with pytest.raises(DataError):
        build({"kind": "choice", "choices": choices})


# Lists -------------------------------------------------------------------------------------------------------------

words = st.text(st.characters(categories=["Ll"]), min_size=1, max_size=5)


@given(st.lists(words, min_size=1, max_size=6, unique_by=lambda word: normal(word, case=False)), st.randoms())
def test_a_set_has_no_order_and_a_sequence_has(items: list[str], random: Any) -> None:
    mixed = random.sample(items, len(items))
    for text in (", ".join(mixed), json.dumps(mixed), "\n".join(f"{i}. {item}" for i, item in enumerate(mixed, 1))):
        assert score({"kind": "set"}, text, items) == 1
        assert score({"kind": "sequence"}, text, items) == (mixed == items)


@given(st.sets(words, min_size=1, max_size=6), st.sets(words, min_size=1, max_size=6))
def test_partial_sets_score_the_jaccard_index(wanted: set[str], given: set[str]) -> None:
    one, other = ({normal(word, case=False) for word in words_} for words_ in (wanted, given))
    found = score({"kind": "set", "partial": True}, json.dumps(sorted(given)), sorted(wanted))
    assert found == pytest.approx(len(one & other) / len(one | other))


def test_partial_sequences_score_the_places_that_agree() -> None:
    spec = {"kind": "sequence", "partial": True}
    assert score(spec, "1, 2, 4", [1, 2, 3]) == pytest.approx(2 / 3)
    assert score(spec, "1, 2, 3, 4", [1, 2, 3]) == pytest.approx(3 / 4)
    assert score(spec, "2, 3, 1", [1, 2, 3]) == 0


def test_numbers_in_lists_are_equal_by_value_and_separators_can_be_given() -> None:
    assert score({"kind": "set"}, "3.0; -3", [3, -3]) == 1
    assert (
        score({"kind": "set", "separator": "|"}, "Rome, Italy | Paris, France", ["Paris, France", "Rome, Italy"]) == 1
    )
    assert score({"kind": "set", "case": True}, "red", ["Red"]) == 0


@pytest.mark.parametrize("expected", [None, [], "a", [[1]], [None], {}])
def test_a_list_is_expected(expected: Any) -> None:
    with pytest.raises(DataError, match="needs a list"):
        score({"kind": "set"}, "a", expected)


# Blocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("a\n```python\nx = 1\n```\nb", "x = 1"),
        ("```\nx\n```\nthen\n```py\ny\n```", "y"),
        ("```json\nx\n```", None),
        ("```python\nx\n```\n```json\n{}\n```", "x"),
        ("```python\nx = 1", "x = 1"),
        ("no block", None),
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''"),
        ("```python\n```", ""),
    ],
)
def test_the_last_block_of_a_language_counts(text: str, block: str | None) -> None:
    assert last_block(text, ("python", "py", "")) == block
