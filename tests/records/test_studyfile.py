"""Study files: every kind of mistake gets its line, its key and words; the schema agrees; the round trip holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import StudyError
from windlass.records.study import Study
from windlass.records.studyfile import StudyFile, dump_study, parse_study, study_schema

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))

#: line numbers below count from this text's first line
WHOLE = """\
name: whole
description: everything at once
trainer:
  function: train:main
  preload: [numpy]
  env: {THREADS: '1'}
space:
  model: {type: categorical, choices: [svm, mlp, 3, true]}
  svm.C: {type: float, low: 1e-3, high: 1e3, log: true, when: {model: svm}}
  layers: {type: int, low: 1, high: 4, when: {model: [mlp, 3]}}
  bias: {type: bool}
  augment: {type: set, choices: [flip, crop, blur], min_size: 1, max_size: 2}
  jitter: {type: float, low: 0, high: 1, when: {augment: {contains: [blur]}, layers: {max: 3}}}
rules: ["layers < 4 or bias"]
baseline: {model: svm, svm: {C: 1.0}, epochs: 3}
objectives:
  - {metric: auc, direction: maximize, scale: 0.01}
guards:
  - {metric: recall, min: 0.5}
constraints:
  - {name: slow, forbid: {layers: {min: 3}, bias: true}, reason: takes an hour}
  - {name: small, allow: {layers: [1, 2, 3]}}
budget: {runs: 10, wall_time: 1h30m, concurrent: 2, run_time: 90, run_memory: 2GiB}
stop: {target: {auc: 0.99}, stagnation: {runs: 5}}
seed: 3
tags: {team: blue}
"""


def edited(old: str, new: str) -> str:
    assert WHOLE.count(old) == 1, old
    return WHOLE.replace(old, new)


MISTAKES: list[tuple[str, str, str]] = [
    (edited("name: whole", "name: my study"), "1: name:", "'my study' does not fit; write up to 48 letters"),
    (edited("name: whole", "nmae: whole"), "1: nmae:", "unknown key 'nmae'. Did you mean 'name'?"),
    (edited("name: whole\n", ""), "1: name:", "is missing; required here: name, trainer, space, objectives"),
    (edited("name: whole", "name: 7"), "1: name:", "must be text, not 7; quote it: '7'"),
    (edited("trainer:", "trainer: fast\nspare:"), "3: trainer:", "must be a mapping of key: value, not 'fast'"),
    (edited("function: train:main", "function: train.main"), "4: trainer.function:", "write module:function"),
    (edited("function: train:main", "funktion: a:b"), "4: trainer.funktion:", "Did you mean 'function'?"),
    (edited("preload: [numpy]", "command: x"), "3: trainer:", "exactly one of command, function, workload"),
    (edited("preload: [numpy]", "preload: numpy"), "5: trainer.preload:", "must be a list"),
    (edited("preload: [numpy]", "options: {a: 1}"), "3: trainer:", "'options' are a workload's"),
    (edited("THREADS: '1'", "THREADS: 1"), "6: trainer.env.THREADS:", "must be text, not 1; quote it: '1'"),
    (edited("{type: bool}", "bool"), "11: space.bias:", "must be a mapping with a type"),
    (edited("{type: bool}", "{type: boole}"), "11: space.bias.type:", "unknown type 'boole'. Did you mean 'bool'?"),
    (edited("{type: bool}", "{low: 1, high: 2}"), "11: space.bias:", "has no type; add type: int or float"),
    (edited("{type: bool}", "{low: 0.5, high: 2}"), "11: space.bias:", "has no type; add type: float"),
    (edited("{type: bool}", "{choices: [1]}"), "11: space.bias:", "has no type; add type: categorical"),
    (edited("{type: bool}", "{choices: [1], max_size: 1}"), "11: space.bias:", "add type: set"),
    (
        edited("{type: bool}", "{type: float, low: 0}"),
        "11: space.bias.high:",
        "is missing; required here: type, low, h",
    ),
    (edited("{type: bool}", "{type: float, low: abc, high: 1}"), "11: space.bias.low:", "must be a number, not 'abc'"),
    (edited("{type: bool}", "{type: float, low: 0, high: .inf}"), "11: space.bias.high:", "finite number, not inf"),
    (edited("{type: bool}", "{type: float, low: yes, high: 1}"), "11: space.bias.low:", "must be a number, not 'yes'"),
    (edited("{type: bool}", "{type: float, low: 2, high: 1}"), "11: space.bias:", "low 2 must be below high 1"),
    (
        edited("{type: bool}", "{type: int, low: 0.5, high: 1}"),
        "11: space.bias.low:",
        "must be a whole number, not 0.5",
    ),
    (edited("{type: bool}", "{type: int, low: 0, high: 9, log: true}"), "11: space.bias:", "needs low above 0, not 0"),
    (edited("{type: bool}", "{type: int, low: 0, high: 9e15}"), "11: space.bias:", "take a float for wider ranges"),
    (edited("{type: bool}", "{type: bool, log: yes}"), "11: space.bias.log:", "unknown key 'log'"),
    (edited("log: true", "log: on"), "9: space.svm.C.log:", "must be true or false, not 'on'"),
    (edited("log: true", "lgo: true"), "9: space.svm.C.lgo:", "Did you mean 'log'?"),
    (edited("[flip, crop, blur]", "[flip, crop, flip]"), "12: space.augment:", "choices repeat a value"),
    (edited("[flip, crop, blur]", "[]"), "12: space.augment.choices:", "must not be empty"),
    (
        edited("[flip, crop, blur]", "[flip, [x], blur]"),
        "12: space.augment.choices[1]:",
        "must be text, a number, true",
    ),
    (edited("max_size: 2", "max_size: 4"), "12: space.augment:", "sizes 1 to 4 do not fit 3 choices"),
    (edited("max_size: 2", "max_size: -1"), "12: space.augment.max_size:", "must be at least 0, not -1"),
    (edited("{contains: [blur]}", "{contain: [blur]}"), "13: space.jitter.when.augment.contain:", "'contains'?"),
    (edited("{contains: [blur]}", "{contains: blur}"), "13: space.jitter.when.augment.contains:", "must be a list"),
    (edited("layers: {max: 3}", "layers: {max: three}"), "13: space.jitter.when.layers.max:", "must be a number"),
    (edited("layers: {max: 3}", "layers: {}"), "13: space.jitter.when.layers:", "an interval needs min or max"),
    (edited("layers: {max: 3}", "layers: {min: 4, max: 3}"), "13: space.jitter.when.layers:", "min 4 is above max 3"),
    (edited("layers: {max: 3}", "layers: ~"), "13: space.jitter.when.layers:", "must be a value, a list of values"),
    (edited("when: {model: svm}", "when: {}"), "9: space.svm.C.when:", "must not be empty"),
    (edited("when: {model: svm}", "wehn: {model: svm}"), "9: space.svm.C.wehn:", "Did you mean 'when'?"),
    (edited('["layers < 4 or bias"]', "layers < 4"), "14: rules:", "must be a list"),
    (edited("epochs: 3", "epochs: .nan"), "15: baseline.epochs:", "must be a finite number, not nan"),
    (edited("epochs: 3", "a.b: 3"), "15: baseline.a.b:", "write it nested, a: {b: ...}"),
    (
        edited("direction: maximize", "direction: max"),
        "17: objectives[0].direction:",
        "must be 'maximize' or 'minimize'",
    ),
    (edited("direction: maximize, ", ""), "17: objectives[0].direction:", "is missing; write maximize or minimize"),
    (edited("scale: 0.01", "scale: 0"), "17: objectives[0].scale:", "must be above 0, not 0.0"),
    (
        edited("  - {metric: recall, min: 0.5}", "  - {metric: recall}"),
        "19: guards[0]:",
        "an interval needs min or max",
    ),
    (edited("allow: {layers: [1, 2, 3]}", ""), "22: constraints[1]:", "exactly one of them"),
    (edited("name: small", "name: slow"), "22: constraints[1].name:", "a constraint above is named 'slow', too"),
    (edited("runs: 10", "runs: 0"), "23: budget.runs:", "must be at least 1, not 0"),
    (edited("runs: 10", "rans: 10"), "23: budget.rans:", "Did you mean 'runs'?"),
    (edited("1h30m", "soon"), "23: budget.wall_time:", "'soon' is no duration"),
    (edited("2GiB", "2 elephants"), "23: budget.run_memory:", "'2 elephants' is no size"),
    (edited("{auc: 0.99}", "{acu: 0.99}"), "24: stop.target.acu:", "no objective has this metric. Did you mean 'auc'?"),
    (edited("stagnation: {runs: 5}", "stagnation: 5"), "24: stop.stagnation:", "must be a mapping"),
    (edited("seed: 3", "seed: -3"), "25: seed:", "must be at least 0, not -3"),
    (edited("seed: 3", "seed: x"), "25: seed:", "must be a whole number, not 'x'"),
]


@pytest.mark.parametrize(("text", "place", "words"), MISTAKES, ids=[f"{p} {w[:24]}" for _, p, w in MISTAKES])
def test_each_mistake_has_its_line_key_and_words(text: str, place: str, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        parse_study(text, "my.yaml")
    lines = [line for line in str(caught.value).splitlines() if line.startswith(f"my.yaml:{place}")]
    assert lines and words in lines[0], str(caught.value)
    assert "Input should" not in str(caught.value), "pydantic's own words"


def test_all_mistakes_are_listed_in_the_order_of_the_file() -> None:
    text = WHOLE.replace("seed: 3", "seed: x").replace("name: whole", "name: ''").replace("type: bool", "type: bol")
    with pytest.raises(StudyError) as caught:
        parse_study(text, "my.yaml")
    head, *lines, last = str(caught.value).splitlines()
    assert head == "my.yaml: 3 problems" and last == "Edit my.yaml"
    assert [line.split(": ")[0] for line in lines] == ["my.yaml:1", "my.yaml:11", "my.yaml:25"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "my.yaml:1: must be a mapping of key: value, not empty"),
        ("- a", "my.yaml:1: must be a mapping of key: value, not ['a']"),
        ("just text", "my.yaml:1: must be a mapping of key: value, not 'just text'"),
    ],
)
def test_no_study_at_all(text: str, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        parse_study(text, "my.yaml")
    assert str(caught.value) == f"{message}\nEdit my.yaml"


def test_the_round_trip_through_yaml_and_json() -> None:
    study = parse_study(WHOLE)
    assert parse_study(dump_study(study)) == study
    assert parse_study(study.model_dump_json()) == study
    assert Study.model_validate(study.model_dump(mode="json", exclude_defaults=True)) == study
    assert parse_study(dump_study(study)).fingerprint == study.fingerprint
    assert dump_study(study).startswith("name: whole\n")


texts = st.text(max_size=12) | st.sampled_from(["yes", "1e-3", "null", "0x1f"])
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
keys = st.text("abcdef-_ é7", min_size=1, max_size=6)


@given(
    st.dictionaries(keys, st.recursive(values, lambda v: st.lists(v) | st.dictionaries(keys, v), max_leaves=6)),
    st.lists(st.booleans() | st.integers(-9, 9) | texts, min_size=1, max_size=4, unique_by=lambda v: (v, "")),
    st.floats(1e-12, 1e12),
)
def test_the_round_trip_of_any_content(baseline: dict[str, Any], choices: list[Any], scale: float) -> None:
    study = Study.model_validate(
        {
            "name": "s",
            "description": "two\nlines: 'and' \"quotes\"",
            "trainer": {"command": ["x", "yes", "1e3", ""]},
            "space": {"c": {"type": "categorical", "choices": choices}},
            "baseline": baseline,
            "objectives": [{"metric": "1e-3", "direction": "minimize", "scale": scale}],
        }
    )
    again = parse_study(dump_study(study))
    assert again == study and again.fingerprint == study.fingerprint


SCHEMA = jsonschema.Draft202012Validator(study_schema())


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(study_schema())
    json.dumps(study_schema())
    assert study_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_schema_accepts_the_examples(path: Path) -> None:
    SCHEMA.validate(StudyFile(path.read_text()).data)


def test_the_schema_accepts_what_the_parser_accepts() -> None:
    SCHEMA.validate(StudyFile(WHOLE).data)
    SCHEMA.validate(yaml.safe_load(dump_study(parse_study(WHOLE))))


#: what JSON Schema cannot say, or what editors need not
ONLY_THE_PARSER = (
    *("must be below high", "needs low above", "wider ranges", "repeat a value", "do not fit 3", "above max"),
    *("needs min or max", "exactly one of", "a workload's", "slow', too", "no objective", "finite", "write it nested"),
)


REFUSED_BY_BOTH = [text for text, _, words in MISTAKES if not any(only in words for only in ONLY_THE_PARSER)]


@pytest.mark.parametrize("text", REFUSED_BY_BOTH, ids=range(len(REFUSED_BY_BOTH)))
def test_the_schema_refuses_what_the_parser_refuses(text: str) -> None:
    assert not SCHEMA.is_valid(StudyFile(text).data)


def test_a_study_without_space_needs_a_workload() -> None:
    text = "name: a\ntrainer: {%s}\n"
    assert SCHEMA.is_valid(StudyFile(text % "workload: tabular").data)
    assert not SCHEMA.is_valid(StudyFile(text % "command: x").data)
