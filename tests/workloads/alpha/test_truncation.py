"""No look-ahead: what is computed on the first days equals the first rows of what is computed on all, to the bit."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

import slowalpha
from alphapanels import small_panel
from windlass.workloads.alpha.engine.engine import differing_cells, truncation_differences
from windlass.workloads.alpha.engine.kernels import Floats
from windlass.workloads.alpha.engine.time_series import TIME_SERIES
from windlass.workloads.alpha.language.operators import OPERATORS
from windlass.workloads.alpha.language.tree import Node, field, group, number

CUTS = (1, 2, 31, 32, 33, 64, 77, 103)
X = Node("div", (Node("sub", (field("close"), field("open"))), field("high")))
Y = Node("log", (field("volume"),))


def tree(name: str) -> Node:
    operator = OPERATORS[name]
    arguments = (X, Y, field("returns"))[: len(operator.args)]
    if operator.kind == "group":
        arguments = (X, group("sector"))
    if name in ("log", "sqrt", "power"):
        arguments = (field("close"), number(0.7))[: len(operator.args)]
    params = {"clip": (-0.01, 0.02), "winsorize": (0.05,), "scale": (1.0,)}
    days = (7,) if operator.params else ()
    return Node(name, arguments, params.get(name, days))


@pytest.mark.parametrize("backend", slowalpha.BACKENDS)
@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_sees_no_later_day(name: str, backend: Literal["numpy", "numba"]) -> None:
    panel = small_panel(104, 13, seed=1)
    assert truncation_differences(tree(name), panel, CUTS, backend) == 0


@pytest.mark.parametrize("backend", slowalpha.BACKENDS)
def test_nor_do_they_in_a_chain(backend: Literal["numpy", "numba"]) -> None:
    inner = Node("ts_corr", (Node("rank", (X,)), Node("zscore", (Y,))), (6,))
    chain = Node("neutralize", (Node("decay_linear", (Node("group_neutralize", (inner, group("sector"))),), (4,)), X))
    assert truncation_differences(chain, small_panel(104, 13, seed=2), CUTS, backend) == 0


@pytest.mark.parametrize("days", [2, 3])
def test_the_proof_finds_a_look_ahead(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    def ahead(kernels: object, x: Floats, window: int) -> Floats:
        return np.vstack([x[window:], np.full((min(window, len(x)), x.shape[1]), np.nan)])

    monkeypatch.setitem(TIME_SERIES, "ts_sum", ahead)
    assert (
        truncation_differences(Node("ts_sum", (field("close"),), (days,)), small_panel(80, 12), (40, 60), "numpy") > 0
    )


def test_a_difference_in_one_bit_counts_and_missing_values_are_equal() -> None:
    one = np.array([[1.0, np.nan, 0.0]])
    assert differing_cells(one, one.copy()) == 0
    assert differing_cells(one, np.array([[np.nextafter(1, 2), np.nan, -0.0]])) == 2
    assert differing_cells(one, np.array([[1.0, 3.0, 0.0]])) == 1
