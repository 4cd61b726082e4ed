from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.space.space import Space
from windlass.worldmodel.cube import INACTIVE, Cube
from worldmodel.problems import MIXED, draws, make_study

SPACE = Space.of(make_study(MIXED))
CUBE = Cube(SPACE)
POINTS = st.lists(st.floats(0, 1), min_size=SPACE.dimensions, max_size=SPACE.dimensions)


def by_hand(point: np.ndarray) -> np.ndarray:
    """Decoded and encoded by the space, one point at a time."""
    return SPACE.encode(SPACE.decode(point))


@given(POINTS)
@settings(max_examples=300)
def test_snapping_is_decoding_and_encoding(point: list[float]) -> None:
    assert CUBE.snap(np.array([point]))[0] == pytest.approx(by_hand(np.array(point)), abs=1e-9)


def test_snapping_many_points_is_the_same_as_one_by_one() -> None:
    points = np.random.default_rng(0).random((200, SPACE.dimensions))
    snapped = CUBE.snap(points)
    assert snapped == pytest.approx(np.array([by_hand(point) for point in points]), abs=1e-9)
    assert CUBE.snap(snapped) == pytest.approx(snapped, abs=1e-12)


def test_configs_that_differ_only_in_what_is_not_active_are_one_point() -> None:
    base = {"model": "net", "linear.rate": 0.1, "bias": True, "augment": ["flip"], "noise": 0.5}
    other = {**base, "tree.depth": 9, "blur.width": 1.5}
    points = CUBE.encode([base, other])
    assert (points[0] == points[1]).all()
    assert (points[0][SPACE.slices["tree.depth"]] == INACTIVE).all()
    assert CUBE.inactive(points)[0].sum() == 3  # tree.depth, tree.leaf, blur.width


def squared_distance(a: dict[str, Any], b: dict[str, Any]) -> float:
    F = CUBE.features(CUBE.encode([a, b]))
    return float(((F[0] - F[1]) ** 2).sum())


def test_two_categories_are_one_apart_whichever_they_are() -> None:
    base = {"bias": True, "augment": ["flip"], "noise": 0.5, "linear.rate": 0.01}
    assert squared_distance({**base, "model": "linear"}, {**base, "model": "net"}) == pytest.approx(1)


def test_mutants_are_snapped_and_mostly_near() -> None:
    base = CUBE.encode(draws(SPACE, 1))
    mutants = CUBE.mutate(base, 300, 0.02, np.random.default_rng(1))
    assert CUBE.snap(mutants) == pytest.approx(mutants, abs=1e-12)
    noise = SPACE.slices["noise"]
    assert np.abs(mutants[:, noise] - base[0, noise]).max() < 0.15
    assert (np.abs(mutants - base) > 1e-12).any(axis=1).mean() > 0.7


def test_neighbours_differ_in_one_discrete_choice_each() -> None:
    values = {"model": "tree", "tree.depth": 8, "tree.leaf": 4, "bias": False, "augment": [], "noise": 0.1}
    decoded = [SPACE.decode(point) for point in CUBE.neighbours(CUBE.encode([values])[0])]
    assert {one["model"] for one in decoded} == {"linear", "tree", "net"}
    assert {one["tree.depth"] for one in decoded if one["model"] == "tree"} == {7, 8, 9}
    assert {"flip", "crop", "blur"} <= {member for one in decoded for member in one["augment"]}
    assert all(one["noise"] == 0.1 for one in decoded)
