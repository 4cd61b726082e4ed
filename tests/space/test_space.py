"""The unit cube: what is decoded is valid and comes back, every value gets its share, sizes are exact."""

from __future__ import annotations

import math
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from space.studies import spaces, study
from windlass.errors import StudyError
from windlass.records.parameters import CategoricalParameter, FloatParameter, IntParameter, SetParameter
from windlass.records.study import Study
from windlass.space.consistency import contradictions
from windlass.space.parameters import canonical_value
from windlass.space.space import Space

coordinates = st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0, math.nextafter(1, 0)])


def points(space: Space) -> st.SearchStrategy[list[float]]:
    return st.lists(coordinates, min_size=space.dimensions, max_size=space.dimensions)


@given(spaces())
def test_random_studies_are_usable(made: Study) -> None:
    assert contradictions(made) == []


@given(spaces(), st.data())
def test_every_point_decodes_to_valid_values_of_the_active_parameters(made: Study, data: st.DataObject) -> None:
    space = Space.of(made)
    values = space.decode(data.draw(points(space)))
    for name, parameter in made.space.items():
        active = parameter.when is None or parameter.when.contains(values)
        assert (name in values) is active
        if active:
            canonical = canonical_value(parameter, values[name])
            assert canonical == values[name] and type(canonical) is type(values[name])
    assert space.active(values) == values


@given(spaces(), st.data())
def test_decode_undoes_encode(made: Study, data: st.DataObject) -> None:
    space = Space.of(made)
    values = space.decode(data.draw(points(space)))
    point = space.encode(values)
    assert point.shape == (space.dimensions,) and point.min() >= 0 and point.max() <= 1
    again = {**space.decode(point)}
    for name, parameter in made.space.items():
        if isinstance(parameter, FloatParameter) and name in again:
            size = values[name] if parameter.log else parameter.high - parameter.low
            assert math.isclose(again[name], values[name], rel_tol=0, abs_tol=1e-9 * abs(size))
            again[name] = values[name]
    if not any(isinstance(one, FloatParameter) for one in made.space.values()):
        assert again == values  # (a float at the very end of an interval may switch what depends on it)
    assert all(again[name] == values[name] for name in again.keys() & values.keys())


@given(spaces(), st.data())
def test_absent_parameters_are_filled(made: Study, data: st.DataObject) -> None:
    space = Space.of(made)
    values = space.decode(data.draw(points(space)))
    point = space.encode(values, fill=math.nan)
    for name, place in space.slices.items():
        assert np.isnan(point[place]).all() == (name not in values) == np.isnan(point[place]).any()


@given(spaces(floats=False, small=True))
def test_size_is_the_number_of_configs(made: Study) -> None:
    space = Space.of(made)
    domains = [domain(space.parameters[name]) for name in space.names]
    configs = {repr(space.active(dict(zip(space.names, choice, strict=True)))) for choice in product(*domains)}
    assert space.size == len(configs)


def domain(parameter: Any) -> list[Any]:
    match parameter:
        case IntParameter():
            return list(range(parameter.low, parameter.high + 1))
        case CategoricalParameter():
            return list(parameter.choices)
        case SetParameter():
            sizes = range(parameter.min_size, parameter.max_size + 1)
            return [list(chosen) for size in sizes for chosen in combinations(parameter.choices, size)]
    raise AssertionError(parameter)


def test_size_of_large_spaces_takes_no_time() -> None:
    space = Space.of(
        study(
            "space:\n"
            "  a: {type: int, low: 1, high: 1000000000}\n"
            "  b: {type: int, low: 1, high: 10, when: {a: {min: 2.5, max: 4.5}}}\n"
            f"  c: {{type: set, choices: {[f'c{i}' for i in range(60)]}, when: {{a: [7]}}}}\n"
        )
    )
    assert space.size == (10**9 - 3) + 2 * 10 + 2**60
    assert Space.of(study("space: {x: {type: float, low: 0, high: 1}}")).size is None


def test_parents_come_first_whatever_the_order() -> None:
    space = Space.of(
        study(
            "space:\n"
            "  z: {type: bool, when: {y: true}}\n"
            "  a: {type: bool}\n"
            "  y: {type: bool, when: {x: true}}\n"
            "  x: {type: bool}\n"
        )
    )
    assert space.names == ("x", "y", "z", "a")
    assert space.decode([1, 0, 1, 1]) == {"x": True, "y": False, "a": True}
    assert space.decode([0, 1, 1, 1]) == {"x": False, "a": True}, "inactive parents hold nothing"


def test_cells_are_equal() -> None:
    space = Space.of(
        study(
            "space: {i: {type: int, low: -1, high: 1}, c: {type: categorical, choices: [a, b, c, d]}, f: {type: bool}}"
        )
    )
    rng = np.random.default_rng(0)
    drawn = [space.decode(point) for point in rng.random((12_000, 3))]
    for name, cells in (("i", 3), ("c", 4), ("f", 2)):
        counts = [sum(values[name] == value for values in drawn) for value in {v[name] for v in drawn}]
        assert len(counts) == cells and max(abs(count * cells / 12_000 - 1) for count in counts) < 0.06


def test_log_parameters_are_even_in_the_logarithm() -> None:
    space = Space.of(
        study("space: {f: {type: float, low: 1e-4, high: 1, log: true}, i: {type: int, low: 1, high: 999, log: true}}")
    )
    assert space.decode([0.0, 0.0]) == {"f": 1e-4, "i": 1} and space.decode([1.0, 1.0]) == {"f": 1.0, "i": 999}
    assert space.decode([0.5, 0.5])["f"] == pytest.approx(1e-2)
    assert space.decode([0.5, 0.5])["i"] == 22, "the geometric middle of 0.5 and 999.5"


def test_every_value_of_a_log_int_is_reached_and_kept() -> None:
    space = Space.of(study("space: {i: {type: int, low: 1, high: 3000, log: true}}"))
    assert all(space.decode(space.encode({"i": value})) == {"i": value} for value in range(1, 3001))


def test_sets_respect_their_sizes() -> None:
    space = Space.of(study("space: {s: {type: set, choices: [a, b, c], min_size: 1, max_size: 2}}"))
    assert space.labels == ("s[a]", "s[b]", "s[c]") and space.unordered.all()
    assert space.decode([0.1, 0.3, 0.2]) == {"s": ["b"]}, "the nearest to being in"
    assert space.decode([0.7, 0.6, 0.9]) == {"s": ["a", "c"]}, "the most in"
    seen = {tuple(space.decode(point)["s"]) for point in np.random.default_rng(0).random((500, 3))}
    assert len(seen) == space.size == 6


def test_a_space_does_not_follow_its_points() -> None:
    space = Space.of(study("space: {x: {type: float, low: 0, high: 1}, y: {type: bool}}"))
    assert space.decode([2.0, -1.0]) == {"x": 1.0, "y": False}, "taken to the edge"
    for wrong in ([0.5], [0.5, 0.5, 0.5], [math.nan, 0.5]):
        with pytest.raises(ValueError, match="2 finite coordinates"):
            space.decode(wrong)
    with pytest.raises(ValueError, match="from 0"):
        space.encode({"x": 3.0})
    assert space.encode({"x": 1, "elsewhere": 3}).tolist() == [1.0, 0.5]
    with pytest.raises(ValueError):
        space.unordered[0] = True


def test_a_contradiction_makes_no_space() -> None:
    text = "space: {a: {type: bool, when: {b: true}}, b: {type: bool, when: {a: true}}}"
    with pytest.raises(StudyError, match="circle: a -> b -> a"):
        study(text)
    raw = Study.model_validate(
        {
            "name": "s",
            "trainer": {"command": "x"},
            "objectives": [{"metric": "m", "direction": "minimize"}],
            "space": {"a": {"type": "bool", "when": {"b": True}}, "b": {"type": "bool", "when": {"a": True}}},
            "rules": ["a + 1"],
        }
    )
    with pytest.raises(StudyError) as caught:
        Space.of(raw)
    assert "study s: 2 problems" in str(caught.value), "all of them"
