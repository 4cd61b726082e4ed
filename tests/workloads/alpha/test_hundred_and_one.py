"""All of the 101 formulaic alphas: both backends against the slow reference, and cut short."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

import slowalpha
from alphapanels import small_panel
from windlass.workloads.alpha.engine.engine import Engine, differing_cells
from windlass.workloads.alpha.language.formulaic import FORMULAIC_ALPHAS
from windlass.workloads.alpha.language.parse import parse
from windlass.workloads.alpha.language.tree import FORMULAIC, Node, lookback
from windlass.workloads.alpha.panel import Floats, Panel

DAYS, NAMES = 300, 12
NEVER_KNOWN = {96}  #: a correlation of ranks over three days is undefined once in its chain of windows of 12, 14 and 13
CUTS = (120, 251, 288)
TREES = {number: parse(text, FORMULAIC) for number, text in FORMULAIC_ALPHAS.items()}


@pytest.fixture(scope="module")
def panel() -> Panel:
    codes = np.arange(NAMES, dtype=np.int16)
    return small_panel(
        DAYS, NAMES, seed=4, groups={"sector": codes % 2, "industry": codes % 3, "subindustry": codes % 4}
    )


@pytest.fixture(scope="module", params=slowalpha.BACKENDS)
def engine(panel: Panel, request: pytest.FixtureRequest) -> Engine:
    return Engine(panel, request.param)


@pytest.fixture(scope="module")
def slow_values() -> dict[Node, Floats]:
    return {}


def test_there_are_101() -> None:
    assert sorted(TREES) == list(range(1, 102))


@pytest.mark.parametrize("number", TREES)
def test_an_alpha_is_that_of_the_reference(
    panel: Panel, engine: Engine, slow_values: dict[Node, Floats], number: int
) -> None:
    value, slow = engine.evaluate(TREES[number]), slowalpha.evaluate(TREES[number], panel, slow_values)
    np.testing.assert_array_equal(np.isnan(value), np.isnan(slow))
    np.testing.assert_allclose(value, slow, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("number", TREES)
def test_an_alpha_is_known_after_its_look_back(engine: Engine, number: int) -> None:
    value = engine.evaluate(TREES[number])
    before = lookback(TREES[number])
    assert np.isnan(value[:before]).all() or has_where(TREES[number])
    assert np.isfinite(value[before:]).any() or number in NEVER_KNOWN


def has_where(node: Node) -> bool:
    return node.op == "where" or any(has_where(one) for one in node.args)


@pytest.mark.parametrize("backend", slowalpha.BACKENDS)
def test_no_alpha_sees_a_later_day(panel: Panel, backend: Literal["numpy", "numba"]) -> None:
    whole = Engine(panel, backend)
    for cut in CUTS:
        short = Engine(panel.head(cut), backend)
        different = {n: differing_cells(short.evaluate(t), whole.evaluate(t)[:cut]) for n, t in TREES.items()}
        assert not any(different.values()), {n: cells for n, cells in different.items() if cells}
