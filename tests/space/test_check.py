"""A study is checked as a whole, and every problem has its line."""

from __future__ import annotations

import pytest

from space.studies import HEAD, study
from windlass.errors import StudyError
from windlass.records.studyfile import StudyFile
from windlass.space.check import check_study

SPACE = """\
space:
  model: {type: categorical, choices: [svm, mlp]}
  batch: {type: categorical, choices: [16, 32]}
  C: {type: float, low: 0.1, high: 10, when: {model: svm}}
  layers: {type: int, low: 1, high: 4, when: {model: mlp}}
  bias: {type: bool}
  augment: {type: set, choices: [flip, crop, blur], max_size: 2}
  last: {type: bool, when: {%s}}
"""


@pytest.mark.parametrize(
    "condition",
    [
        "model: svm",
        "model: [svm, mlp]",
        "batch: {max: 16}",
        "batch: 16.0",
        "C: {min: 10}",
        "layers: [1, 4]",
        "layers: {min: 3.5, max: 4.5}",
        "bias: false",
        "augment: {contains: [flip, blur]}",
    ],
)
def test_conditions_that_can_be_met(condition: str) -> None:
    study(SPACE % condition)


@pytest.mark.parametrize(
    ("condition", "key", "words"),
    [
        ("modle: svm", "modle", "there is no parameter 'modle'. Did you mean 'model'?"),
        ("model: smv", "model", "'smv' is none of 'svm', 'mlp'. Did you mean 'svm'?"),
        ("model: [svm, 3]", "model", "3 is none of 'svm', 'mlp'"),
        ("model: {min: 3}", "model", "an interval needs numbers, and this is one of 'svm', 'mlp'"),
        ("model: {contains: [svm]}", "model", "'contains' is for sets, and this is one of 'svm', 'mlp'"),
        ("batch: {min: 17, max: 31}", "batch", "no value meets this: it is one of 16, 32"),
        ("C: {min: 11}", "C", "no value meets this: it is a number from 0.1 to 10.0"),
        ("C: 1.0", "C", "a condition on a float is an interval"),
        ("layers: 5", "layers", "must be a whole number from 1 to 4, not 5"),
        ("layers: [1, 2.5]", "layers", "must be a whole number, not 2.5"),
        ("layers: {min: 1.2, max: 1.8}", "layers", "no value meets this: it is a whole number from 1 to 4"),
        ("bias: 1", "bias", "must be true or false, not 1"),
        ("bias: yes", "bias", "must be true or false, not 'yes'"),
        ("bias: {min: 0}", "bias", "an interval needs numbers, and this is true or false"),
        ("augment: flip", "augment", "a condition on a set is written {contains: [...]}"),
        ("augment: {contains: [flop]}", "augment", "'flop' is none of 'flip', 'crop', 'blur'. Did you mean 'flip'?"),
        ("augment: {contains: [flip, crop, blur]}", "augment", "a set of at most 2 never contains 3"),
        ("last: true", "", "the conditions go in a circle: last -> last"),
    ],
)
def test_conditions_that_cannot_be_met(condition: str, key: str, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        study(SPACE % condition)
    place = f"s.yaml:8: space.last.when.{key}: " if key else "s.yaml:1: space: "
    assert str(caught.value).startswith(place) and words in str(caught.value)
    if not key:
        return
    with pytest.raises(StudyError) as caught:
        study(SPACE % "bias: true" + f"constraints:\n  - name: c\n    forbid: {{{condition}}}")
    assert str(caught.value).startswith(f"s.yaml:11: constraints[0].forbid.{key}: ") and words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "space:\n" + "".join(f"  {a}: {{type: bool, when: {{{b}: true}}}}\n" for a, b in ("ab", "bc", "ca")),
            "s.yaml:1: space: the conditions go in a circle: a -> b -> c -> a",
        ),
        (
            "space:\n  a: {type: bool}\n  a.b: {type: bool}",
            "s.yaml:2: space.a: is a parameter here, and the group of 'a.b'; rename one of them",
        ),
        (
            "space:\n  a: {type: bool}\nbaseline:\n  a: {b: 3}",
            "s.yaml:2: space.a: is a parameter here, and the group of 'a.b'; rename one of them",
        ),
        (
            "space:\n  a.b.c: {type: bool}\nbaseline:\n  x: 1\n  a:\n    b: 3",
            "s.yaml:6: baseline.a.b: is a value here, and a group in 'a.b.c'",
        ),
        (
            "space:\n  lr: {type: float, low: 0, high: 1}\nbaseline:\n  lr: 2",
            "s.yaml:4: baseline.lr: must be a number from 0.0 to 1.0, not 2",
        ),
        (
            "space:\n  opt.lr: {type: float, low: 0, high: 1}\nbaseline:\n  opt:\n    lr: fast",
            "s.yaml:5: baseline.opt.lr: must be a number, not 'fast'",
        ),
        (
            "space:\n  learning_rate: {type: float, low: 0, high: 1}\nbaseline:\n  learning-rate: 0.5",
            "s.yaml:4: baseline.learning-rate: 'learning-rate' is no parameter of the space. "
            "Did you mean 'learning_rate'?",
        ),
        (
            "space:\n  a: {type: float, low: 0, high: 1}\nbaseline: {a: 0.5, b: 0.6}\nrules: [a + b == 1]",
            "s.yaml:3: baseline: the rule `a + b == 1` does not hold: a=0.5, b=0.6",
        ),
        (
            "space:\n  a: {type: float, low: 0, high: 1}\nbaseline: {a: 0.5}\n"
            "constraints: [{name: low, allow: {a: {max: 0.4}}}]",
            "s.yaml:3: baseline: the constraint 'low' allows only a <= 0.4: a=0.5",
        ),
    ],
)
def test_contradictions(text: str, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        study(text)
    assert str(caught.value) == f"{message}\nEdit s.yaml"


def test_all_problems_are_listed_in_the_order_of_the_file() -> None:
    text = (SPACE % "modle: svm") + 'rules: ["bais or lr > 1"]\nbaseline: {batch: 17}\n'
    with pytest.raises(StudyError) as caught:
        study(text)
    lines = [line for line in str(caught.value).splitlines() if line.startswith("s.yaml")]
    assert lines[0] == "s.yaml: 3 problems" and [line.split(":")[1] for line in lines[1:]] == ["8", "9", "10"]


def test_an_incomplete_baseline_is_fine() -> None:
    study((SPACE % "bias: true") + 'rules: ["layers < 3 or bias"]\nbaseline: {layers: 4}')
    study(
        (SPACE % "bias: true")
        + "constraints: [{name: c, forbid: {C: {min: 5}, bias: true}}]\nbaseline: {C: 6, model: svm}"
    )


def test_fixed_values_may_be_named_in_rules_and_constraints() -> None:
    text = (
        "space: {a: {type: float, low: 0, high: 1}}\nbaseline: {opt: {name: adam, eps: 0.1}}\n"
        "rules: [a > opt.eps]\nconstraints: [{name: c, forbid: {opt.name: sgd, a: {min: 0.5}}}]"
    )
    assert check_study(StudyFile(f"{text}\n{HEAD}").study()) == []
