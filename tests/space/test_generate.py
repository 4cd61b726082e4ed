"""From a proposal to a config: complete, canonical, its own copy; every violation rejects and is named."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from space.studies import spaces, study
from windlass.errors import ConfigRejected, StudyError
from windlass.records.content import digest, flatten
from windlass.records.region import Constraint
from windlass.records.run import MetricSummary, RunRecord, Status
from windlass.records.study import Study
from windlass.space.generate import ConfigGenerator, best_baseline
from windlass.space.space import Space

MODELS = study(
    """\
space:
  model: {type: categorical, choices: [svm, mlp]}
  svm.C: {type: float, low: 0.01, high: 1000, log: true, when: {model: svm}}
  mlp.layers: {type: int, low: 1, high: 8, when: {model: mlp}}
  mlp.width: {type: int, low: 8, high: 512, when: {model: mlp}}
  warmup: {type: int, low: 0, high: 1000}
  steps: {type: int, low: 10, high: 10000}
  augment: {type: set, choices: [flip, crop, blur], max_size: 2}
  bias: {type: bool}
rules:
  - warmup <= 0.1 * steps
  - model != 'mlp' or mlp.layers * mlp.width <= 1024
constraints:
  - {name: soft-svm, forbid: {svm.C: {max: 0.1}, bias: false}, reason: never converged}
  - {name: few-steps, allow: {steps: {max: 5000}}}
baseline:
  model: svm
  svm: {C: 1}
  mlp: {layers: 2}
  steps: 1000
  warmup: 10
  augment: [blur, flip]
  bias: true
  optimizer: {name: adam, betas: [0.9, 0.999]}
  svm_cache: {}
"""
)
GENERATOR = ConfigGenerator(MODELS)


def test_a_proposal_goes_over_the_baseline() -> None:
    assert GENERATOR.generate({"svm.C": 2.0, "steps": 500}) == {
        "optimizer": {"name": "adam", "betas": [0.9, 0.999]},
        "svm_cache": {},
        "model": "svm",
        "svm": {"C": 2.0},
        "warmup": 10,
        "steps": 500,
        "augment": ["flip", "blur"],
        "bias": True,
    }


def test_inactive_parameters_are_dropped_wherever_they_come_from() -> None:
    config = GENERATOR.generate({"model": "mlp", "mlp.width": 64, "svm.C": 3.0})
    assert "svm" not in config and config["mlp"] == {"layers": 2, "width": 64}


def test_a_given_baseline_takes_the_place_of_the_studys() -> None:
    baseline = {"model": "svm", "svm": {"C": 5}, "warmup": 0, "steps": 10, "augment": [], "bias": False, "epochs": 3}
    assert GENERATOR.generate({}, baseline) == baseline
    with pytest.raises(ConfigRejected, match="steps has no value"):
        GENERATOR.generate({}, {"model": "svm", "svm": {"C": 5}, "warmup": 0})


@pytest.mark.parametrize(
    ("values", "rule", "words"),
    [
        ({"modle": "svm"}, "space", "unknown parameter 'modle'. Did you mean 'model'?"),
        ({"optimizer.name": "sgd"}, "space", "unknown parameter 'optimizer.name'"),
        ({"svm": {"C": 1}}, "space", "unknown parameter 'svm'. Did you mean 'svm.C'?"),
        ({"svm.C": 0.001}, "space.svm.C", "svm.C: must be a number from 0.01 to 1000.0, not 0.001"),
        ({"svm.C": "1"}, "space.svm.C", "must be a number, not '1'"),
        ({"svm.C": math.nan}, "space.svm.C", "not nan"),
        ({"svm.C": True}, "space.svm.C", "must be a number, not True"),
        ({"steps": 10.5}, "space.steps", "must be a whole number, not 10.5"),
        ({"steps": None}, "space.steps", "must be a whole number, not None"),
        ({"steps": 10**400}, "space.steps", "must be a whole number"),
        ({"bias": 1}, "space.bias", "must be true or false, not 1"),
        ({"model": "smv"}, "space.model", "'smv' is none of 'svm', 'mlp'. Did you mean 'svm'?"),
        ({"augment": "flip"}, "space.augment", "must be a list, not 'flip'"),
        ({"augment": ["flip", "flip"]}, "space.augment", "repeats a member"),
        ({"augment": ["flip", "crop", "blur"]}, "space.augment", "must have 0 to 2 members, not 3"),
        ({"augment": ["flop"]}, "space.augment", "Did you mean 'flip'?"),
        ({"model": "mlp"}, "space.mlp.width", "mlp.width has no value, in the proposal or in the baseline"),
        ({"warmup": 101}, "warmup <= 0.1 * steps", "does not hold: warmup=101, steps=1000"),
        (
            {"model": "mlp", "mlp.width": 512, "mlp.layers": 3},
            "model != 'mlp' or mlp.layers * mlp.width <= 1024",
            "model='mlp', mlp.layers=3, mlp.width=512",
        ),
        (
            {"svm.C": 0.05, "bias": False},
            "soft-svm",
            "the constraint 'soft-svm' forbids svm.C <= 0.1, bias in [False]: svm.C=0.05, bias=False; never converged",
        ),
        ({"steps": 6000}, "few-steps", "the constraint 'few-steps' allows only steps <= 5000: steps=6000"),
    ],
)
def test_a_violation_rejects_and_is_named(values: dict[str, Any], rule: str, words: str) -> None:
    with pytest.raises(ConfigRejected) as caught:
        GENERATOR.generate(values)
    assert caught.value.rule == rule and words in str(caught.value)


def test_a_wrong_value_of_the_baseline_says_where_it_is_from() -> None:
    with pytest.raises(ConfigRejected, match=r"steps \(from the baseline\): must be a whole number from"):
        GENERATOR.generate({}, {"model": "svm", "svm": {"C": 5}, "warmup": 0, "steps": 10**6})


def test_a_baseline_of_another_shape_is_rejected() -> None:
    with pytest.raises(ConfigRejected, match="both a value and a group"):
        GENERATOR.generate({"model": "svm", "bias": True}, {**MODELS.baseline, "bias": {"of": 3}})


def test_equal_choices_give_equal_digests() -> None:
    one = GENERATOR.generate({"svm.C": 1, "steps": 1000, "augment": ["flip", "blur"]})
    two = GENERATOR.generate(
        {"svm.C": np.float64(1.0), "steps": np.int64(1000), "augment": ("blur", "flip"), "mlp.width": 9}
    )
    assert digest(one) == digest(two)
    assert [type(value) for value in (two["svm"]["C"], two["steps"], two["augment"])] == [float, int, list]
    assert json.dumps(one) == json.dumps(two), "the order of keys, too"
    zero = ConfigGenerator(study("space: {x: {type: float, low: -1, high: 1}}"))
    assert digest(zero.generate({"x": -0.0})) == digest(zero.generate({"x": 0}))


def test_a_config_shares_nothing_with_study_and_proposal() -> None:
    before, values = copy.deepcopy(MODELS.model_dump()), {"augment": ["flip"]}
    config = GENERATOR.generate(values)
    config["optimizer"]["betas"].append(1)
    config["svm_cache"]["x"] = config["augment"].append("crop")
    assert MODELS.model_dump() == before and values == {"augment": ["flip"]}
    assert GENERATOR.generate(values)["optimizer"]["betas"] == [0.9, 0.999]


def test_an_empty_group_of_the_baseline_is_filled_and_not_shared() -> None:
    made = study("space: {a.x: {type: bool}, b.y: {type: bool, when: {a.x: true}}}\nbaseline: {a: {}, b: {}}")
    generator = ConfigGenerator(made)
    assert generator.generate({"a.x": True, "b.y": False}) == {"a": {"x": True}, "b": {"y": False}}
    assert generator.generate({"a.x": False}) == {"a": {"x": False}}
    assert made.baseline == {"a": {}, "b": {}}


def test_learned_constraints_are_held_beside_the_studys() -> None:
    learned = Constraint.model_validate(
        {"name": "learned-1", "forbid": {"steps": {"min": 900}}, "reason": "3 of 3 died"}
    )
    generator = ConfigGenerator(MODELS, (learned,))
    with pytest.raises(ConfigRejected, match="3 of 3 died") as caught:
        generator.generate({})
    assert caught.value.rule == "learned-1"
    with pytest.raises(ConfigRejected) as caught:
        generator.generate({"steps": 6000})
    assert caught.value.rule == "few-steps", "the study's own come first"
    wrong = Constraint.model_validate({"name": "x", "forbid": {"stps": {"min": 1}}})
    with pytest.raises(StudyError, match="Did you mean 'steps'"):
        ConfigGenerator(MODELS, (wrong,))


def test_a_rule_that_cannot_be_evaluated_rejects() -> None:
    made = study("space: {a: {type: int, low: 0, high: 1}, b: {type: int, low: 0, high: 1}}\nrules: [a / b < 2]\n")
    with pytest.raises(ConfigRejected, match=r"division by zero.*: a=1, b=0") as caught:
        ConfigGenerator(made).generate({"a": 1, "b": 0})
    assert caught.value.rule == "a / b < 2"


def test_whether_the_baseline_is_complete() -> None:
    assert GENERATOR.baseline_complete
    assert not ConfigGenerator(study("space: {a: {type: bool}}")).baseline_complete
    assert ConfigGenerator(study("space: {a: {type: bool}}\nbaseline: {a: true}")).baseline_complete


@given(spaces(), st.data())
def test_every_decoded_point_is_a_config(made: Study, data: st.DataObject) -> None:
    generator = ConfigGenerator(made)
    space = Space.of(made)
    point = data.draw(st.lists(st.floats(0, 1), min_size=space.dimensions, max_size=space.dimensions))
    values = space.decode(point)
    config = generator.generate(values)
    assert flatten(config) == values
    assert generator.generate({}, config) == config, "a config is a complete baseline"


def run(
    number: int, config: dict[str, Any], loss: float, status: Status = Status.COMPLETED, **more: float
) -> RunRecord:
    metrics = {name: MetricSummary.of(value) for name, value in {"loss": loss, **more}.items()}
    return RunRecord(
        id=f"r{number}", name="s", status=status, created=0.0, number=number, config=config, metrics=metrics
    )


def test_the_best_baseline_is_of_the_best_valid_run() -> None:
    base: dict[str, Any] = GENERATOR.generate({})
    made = MODELS.model_copy(update={"guards": study("space: {a: {type: bool}}\nguards: [{metric: m, min: 1}]").guards})
    history = [
        run(1, {**base, "steps": 100}, 0.5, m=1),
        run(2, {**base, "steps": 200}, 0.3, m=1),
        run(3, {**base, "steps": 300}, 0.3, m=1),
        run(4, {**base, "steps": 400}, 0.1, m=0),
        run(5, {**base, "steps": 500}, 0.1, Status.FAILED, m=1),
        run(6, {**base, "steps": 600}, math.nan, m=1),
        run(7, {**base, "steps": 700}, 0.1),
        run(8, {**base, "steps": 10**6}, 0.1, m=1),
        run(9, {**base, "steps": 900}, 0.1, Status.RUNNING, m=1),
    ]
    best = best_baseline(made, list(reversed(history)))
    assert best["steps"] == 200, "lowest loss; the earlier of equals; guards kept; in the space; completed"
    assert best["mlp"] == {"layers": 2}, "what the run did not use stays as a fall-back"
    assert ConfigGenerator(made).generate({"model": "mlp", "mlp.width": 16}, best)["steps"] == 200


def test_without_a_good_run_the_baseline_stays() -> None:
    base = best_baseline(MODELS, [run(1, {}, 0.1, Status.FAILED)])
    assert base == MODELS.baseline and base is not MODELS.baseline
    base["optimizer"]["betas"].append(3)
    assert MODELS.baseline["optimizer"]["betas"] == [0.9, 0.999]


def test_what_is_not_of_the_space_does_not_move_into_the_baseline() -> None:
    config = {**GENERATOR.generate({"svm.C": 7.0}), "workload": {"dataset": "digits"}}
    best = best_baseline(MODELS, [run(1, config, 0.1)])
    assert best["svm"]["C"] == 7.0 and "workload" not in best and best["optimizer"] == MODELS.baseline["optimizer"]
