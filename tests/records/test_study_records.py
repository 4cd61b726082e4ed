"""The study's records: one meaning of a region, units, scores."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from windlass.records.fields import parse_bytes, parse_duration
from windlass.records.region import Constraint, Region
from windlass.records.study import Study

MINIMAL: dict[str, Any] = {
    "name": "s",
    "trainer": {"command": "python train.py --fast 'two words'"},
    "space": {"lr": {"type": "float", "low": 0.1, "high": 1}},
    "objectives": [{"metric": "loss", "direction": "minimize"}],
}


def study(**changes: Any) -> Study:
    return Study.model_validate({**copy.deepcopy(MINIMAL), **changes})


numbers = st.integers(-5, 5) | st.floats(-5, 5)
choices = st.sampled_from(["svm", "mlp", True, False, 0, 1, 2.5])
members = st.lists(st.sampled_from(["flip", "crop", "blur"]), max_size=3, unique=True)


@st.composite
def intervals(draw: st.DrawFn) -> dict[str, float]:
    low, high = sorted([draw(numbers), draw(numbers)])
    return draw(st.sampled_from([{"min": low, "max": high}, {"min": low}, {"max": high}]))


conditions = {
    "number": intervals() | st.lists(numbers, min_size=1, max_size=3),
    "choice": choices | st.lists(choices, min_size=1, max_size=3),
    "several": st.fixed_dictionaries({"contains": members.filter(bool)}),
}
values = {"number": numbers, "choice": choices, "several": members}
regions = st.fixed_dictionaries({}, optional=conditions).filter(bool)
configs = st.fixed_dictionaries({}, optional=values)
whole_configs = st.fixed_dictionaries(values)


@given(regions, whole_configs)
def test_forbidding_a_region_is_the_opposite_of_allowing_it(region: dict[str, Any], config: dict[str, Any]) -> None:
    forbids = Constraint.model_validate({"name": "f", "forbid": region})
    allows = Constraint.model_validate({"name": "a", "allow": region})
    assert forbids.rejects(config) is not allows.rejects(config)
    assert forbids.rejects(config) is forbids.region.contains(config)


@given(regions, configs)
def test_an_absent_parameter_breaks_neither(region: dict[str, Any], config: dict[str, Any]) -> None:
    forbids = Constraint.model_validate({"name": "f", "forbid": region})
    allows = Constraint.model_validate({"name": "a", "allow": region})
    absent = region.keys() - config.keys()
    if absent:
        assert not forbids.rejects(config), "the config is not known to be inside"
        listed = {name: value for name, value in config.items() if name in region}
        assert allows.rejects(config) is bool(allows.region.violated_by(listed))
    assert not (forbids.rejects(config) and allows.rejects(config))


@given(regions, whole_configs, st.sampled_from(["number", "choice", "several"]))
def test_a_smaller_region_forbids_less_and_allows_less(
    region: dict[str, Any], config: dict[str, Any], name: str
) -> None:
    smaller = {**region, name: region.get(name, [config[name]] if name != "several" else {"contains": ["flip"]})}
    big, small = Region.model_validate(region), Region.model_validate(smaller)
    assert not small.contains(config) or big.contains(config)


@given(regions, whole_configs)
def test_a_region_survives_its_json(region: dict[str, Any], config: dict[str, Any]) -> None:
    first = Region.model_validate(region)
    again = Region.model_validate_json(first.model_dump_json())
    assert again == first and again.contains(config) == first.contains(config)


def test_both_ends_of_an_interval_belong_to_it() -> None:
    constraint = Constraint.model_validate({"name": "c", "forbid": {"x": {"min": 1, "max": 2}}})
    assert [constraint.rejects({"x": x}) for x in (0.999, 1, 1.5, 2, 2.001, math.nan)] == [0, 1, 1, 1, 0, 0]
    assert not constraint.rejects({"x": True}), "true is no number"


def test_true_is_not_one() -> None:
    region = Region.model_validate({"x": [1]})
    assert region.contains({"x": 1}) and region.contains({"x": 1.0}) and not region.contains({"x": True})
    mixed = Region.model_validate({"x": {"contains": [1]}})
    assert mixed.contains({"x": [1, 2]}) and not mixed.contains({"x": [True]}) and not mixed.contains({"x": 1})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("1 d", 86400), (90, 90), (0.5, 0.5), ("2H", 7200)],
)
def test_durations(text: Any, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "10 parsecs", "1h-3m", True, None, [1], math.inf])
def test_no_durations(text: Any) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MiB", 2**29), ("2 GB", 2 * 10**9), ("1.5kb", 1500), ("7B", 7), (1000, 1000), (1e6, 10**6)],
)
def test_sizes(text: Any, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "2", "2 TBB", "iB", "-1MB", 1.5, True, math.nan, "9" * 400 + "B"])
def test_no_sizes(text: Any) -> None:
    with pytest.raises(ValueError):
        parse_bytes(text)


def test_a_command_is_split_as_a_shell_would() -> None:
    assert study().trainer.command == ("python", "train.py", "--fast", "two words")


def test_score_is_the_sum_of_gains_in_units_of_scale() -> None:
    two = study(
        objectives=[
            {"metric": "auc", "direction": "maximize", "scale": 0.1},
            {"metric": "loss", "direction": "minimize", "scale": 2},
        ]
    )
    assert two.score({"auc": 0.5, "loss": 4.0}) == pytest.approx(3.0)
    assert two.score({"auc": 0.6, "loss": 4.0}) == pytest.approx(4.0), "higher is better"
    assert two.score({"auc": 0.5, "loss": 2.0}) == pytest.approx(4.0), "lower is better"
    assert two.score({"auc": 0.5}) is None and two.score({"auc": math.nan, "loss": 1.0}) is None
    assert two.score({"auc": 0.5, "loss": math.inf}) is None


def test_guards_and_target() -> None:
    one = study(guards=[{"metric": "m", "min": 1, "max": 2}], stop={"target": {"loss": 0.5}})
    assert not one.broken_guards({"m": 1.0}) and one.broken_guards({"m": 2.1})
    assert one.broken_guards({}) == one.guards == one.broken_guards({"m": math.nan})
    assert one.reached_target({"loss": 0.5}) and not one.reached_target({"loss": 0.51})
    assert not one.reached_target({}) and not study().reached_target({"loss": 0.0}), "no target is never reached"


def test_limits_may_change_without_another_fingerprint() -> None:
    base = study()
    assert base.fingerprint == study(budget={"runs": 3}, stop={"target": {"loss": 1}}, tags={"a": "b"}).fingerprint
    assert base.fingerprint == Study.model_validate_json(base.model_dump_json()).fingerprint
    for change in ({"seed": 1}, {"rules": ["lr > 0.2"]}, {"baseline": {"lr": 0.5}}):
        assert study(**change).fingerprint != base.fingerprint


def test_nothing_can_be_set() -> None:
    with pytest.raises(ValidationError):
        study().seed = 3  # type: ignore[misc]


def test_whole_numbers_may_be_written_as_floats_and_stay_ints() -> None:
    changed = study(space={"n": {"type": "int", "low": 1, "high": 1e4}}, seed=3.0, budget={"runs": 1e2})
    parameter = changed.space["n"]
    assert (type(parameter.high), type(changed.seed), changed.budget.runs) == (int, int, 100)  # type: ignore[union-attr]
