"""The engine against a slow reference, and its two backends against each other to the bit."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import slowalpha
from alphapanels import small_panel
from windlass.errors import DataError, MissingExtra
from windlass.workloads.alpha.engine import kernels
from windlass.workloads.alpha.engine.engine import Engine, differing_cells
from windlass.workloads.alpha.engine.rank import rank
from windlass.workloads.alpha.language.operators import OPERATORS
from windlass.workloads.alpha.language.tree import Node, field, group, number
from windlass.workloads.alpha.panel import Floats, Panel

OPEN, CLOSE, LOW, VOLUME = (field(name) for name in ("open", "close", "low", "volume"))
DIFFERENCE = Node("sub", (CLOSE, OPEN))
RETURNS = field("returns")


@pytest.fixture(scope="module")
def rough() -> Panel:
    """Holes, ties, late listings, constant stretches and days, zeros, a day without members, a name without group."""
    panel = small_panel(90, 14, seed=3)
    fields = {name: values.copy() for name, values in panel.fields.items()}
    for name in ("open", "high", "low", "close"):
        fields[name][40:60, 0] = 17.3
        fields[name][:, 6] = fields[name][:, 7]
        fields[name][70] = 0.1
    fields["volume"][50:58, 8] = 0.0
    fields["volume"][30:40, 9] = 1e120
    member = panel.member.copy()
    member[45] = False
    member[46, 1:] = False
    groups = {name: codes.copy() for name, codes in panel.groups.items()}
    groups["sector"][2] = -1
    return small_panel(90, 14, seed=3, fields=fields, member=member, groups=groups)


def examples() -> dict[str, list[Node]]:
    """For each operator at least one tree whose root it is."""
    found: dict[str, list[Node]] = {}
    for name, operator in OPERATORS.items():
        if operator.kind == "field":
            found[name] = [Node(name, (), (days,)) for days in (1, 20)]
        elif operator.kind == "group":
            found[name] = [Node(name, (x, group(g))) for x in (CLOSE, VOLUME) for g in ("sector", "subindustry")]
        elif operator.kind == "time_series":
            # a covariance of what is huge has no digits to compare: the other cases are differences and ranks
            arguments = [(VOLUME, CLOSE), (RETURNS, DIFFERENCE), (Node("rank", (LOW,)), Node("rank", (VOLUME,)))]
            least = int(operator.params[0].least)
            spans = (least, 3, 15) if name == "ewm" else (least, 3, 20)
            found[name] = [Node(name, pair[: len(operator.args)], (d,)) for pair in arguments for d in spans]
    found |= {
        name: [Node(name, (x,)) for x in (CLOSE, DIFFERENCE, VOLUME, Node("rank", (LOW,)), number(0.5))]
        for name in ("rank", "zscore", "demean", "neg", "abs", "log", "sign", "sqrt", "not")
    }
    found["winsorize"] = [Node("winsorize", (x,), (limit,)) for x in (CLOSE, DIFFERENCE) for limit in (0.0, 0.1, 0.25)]
    found["scale"] = [Node("scale", (x,), (size,)) for x in (DIFFERENCE, VOLUME) for size in (1.0, 100.0)]
    found["neutralize"] = [
        Node("neutralize", (RETURNS, CLOSE)),
        Node("neutralize", (RETURNS, CLOSE, OPEN, Node("add", (CLOSE, OPEN)))),
        Node("neutralize", (RETURNS, number(2.0))),
    ]
    found["clip"] = [Node("clip", (DIFFERENCE,), (-0.1, 0.2))]
    found["where"] = [
        Node("where", (Node("lt", (DIFFERENCE, number(0.0))), CLOSE, VOLUME)),
        Node("where", (DIFFERENCE, number(1.0), RETURNS)),
    ]
    pairs = [(DIFFERENCE, CLOSE), (CLOSE, DIFFERENCE), (VOLUME, number(0.0)), (number(-2.0), DIFFERENCE)]
    pairs += [(LOW, CLOSE), (VOLUME, VOLUME)]
    for name, operator in OPERATORS.items():
        if operator.kind == "elementwise" and name not in found:
            found[name] = [Node(name, pair) for pair in pairs]
    return found


EXAMPLES = examples()


def test_every_operator_has_an_example() -> None:
    assert EXAMPLES.keys() == OPERATORS.keys()
    assert all(one.op == name for name, trees in EXAMPLES.items() for one in trees)


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_is_that_of_the_reference_in_both_backends(rough: Panel, name: str) -> None:
    engines = [Engine(rough, "numpy"), Engine(rough, "auto")]
    for tree in EXAMPLES[name]:
        slow = slowalpha.evaluate(tree, rough)
        values = [engine.evaluate(tree) for engine in engines]
        assert differing_cells(*values) == 0, tree
        assert not np.isinf(values[0]).any()
        size = np.maximum(np.abs(np.nan_to_num(slow)), scale_of(tree, rough))
        np.testing.assert_array_equal(np.isnan(values[0]), np.isnan(slow), str(tree))
        np.testing.assert_array_less(np.abs(np.nan_to_num(values[0] - slow)), 1e-10 * size, str(tree))


def scale_of(tree: Node, panel: Panel) -> Floats:
    """What a difference of nearly equal values is measured by: the largest value that went into the row."""
    inputs = [slowalpha.evaluate(one, panel) for one in tree.args if one.op != "group"] or [panel.fields["volume"]]
    if tree.op in ("demean", "group_neutralize", "neutralize", "delta", "ts_std"):
        largest = np.nanmax([np.where(np.isnan(x), 0, np.abs(x)) for x in inputs], axis=0)
        return np.maximum.accumulate(np.repeat(largest.max(axis=1, keepdims=True), len(panel.names), axis=1)) + 1
    return np.ones(panel.shape)


def column(*values: float) -> Panel:
    """A panel in which the second name's close is ``values``, and all else is 1."""
    days = len(values)
    ones = np.ones((days, 3))
    close = ones.copy()
    close[:, 1] = values
    fields = {"open": ones, "high": ones, "low": ones, "volume": ones, "close": close}
    return Panel(
        np.datetime64("2020-01-01", "D") + np.arange(days),
        ("A", "B", "C"),
        fields,
        {},
        {},
        np.ones((days, 3), np.bool_),
    )


@pytest.mark.parametrize("backend", slowalpha.BACKENDS)
@pytest.mark.parametrize(
    ("name", "values", "days", "last"),
    [
        ("ts_rank", (2, 1, 3, 2), 4, 2.5 / 4),  # 1 below, 2 equal: places 2 and 3
        ("ts_argmax", (1, 5, 5, 2), 4, 2),  # of equal ones the oldest
        ("ts_argmin", (4, 1, 3, 1), 4, 2),
        ("ts_argmax", (7, 7, 7, 7), 4, 1),
        ("ts_std", (0.1, 0.1, 0.1), 3, 0),
        ("ts_zscore", (0.1, 0.1, 0.1), 3, np.nan),
        ("ts_zscore", (1, 2, 3), 3, 1),
        ("decay_linear", (1, 2, 4), 3, (1 + 4 + 12) / 6),
        ("ts_product", (2, 3, 4), 3, 24),
        ("ts_product", (1e200, 1e200, 1), 3, np.nan),
        ("ts_sum", (1e308, 1e308, 1), 3, np.nan),
        ("ts_std", (1e308, -1e308, 1), 3, np.nan),
        ("ts_mean", (1, np.nan, 3), 3, np.nan),
        ("ts_max", (np.nan, 1, 3), 3, np.nan),
        ("ts_max", (np.nan, 1, 3), 2, 3),
        ("delay", (1, 2, 3), 2, 1),
        ("delta", (1, 2, 4), 1, 2),
        ("ts_mean", (1, 2, 4), 5, np.nan),
        ("delay", (1, 2, 4), 5, np.nan),
    ],
)
def test_rules_of_windows(
    backend: Literal["numpy", "numba"], name: str, values: tuple[float, ...], days: int, last: float
) -> None:
    value = Engine(column(*values), backend).evaluate(Node(name, (CLOSE,), (days,)))
    np.testing.assert_allclose(value[-1, 1], last, rtol=1e-15)


@pytest.mark.parametrize("backend", slowalpha.BACKENDS)
def test_a_correlation_with_a_constant_is_missing_and_a_perfect_one_is_one(backend: Literal["numpy", "numba"]) -> None:
    engine = Engine(column(0.1, 0.2, 0.4, 0.7), backend)
    tenfold = Node("mul", (CLOSE, number(10.0)))
    assert engine.evaluate(Node("ts_corr", (CLOSE, tenfold), (4,)))[-1].tolist()[1] == 1.0
    assert np.isnan(engine.evaluate(Node("ts_corr", (CLOSE, VOLUME), (4,)))).all()
    assert np.isnan(engine.evaluate(Node("ts_cov", (CLOSE, VOLUME), (4,)))).all()


@pytest.mark.parametrize("backend", slowalpha.BACKENDS)
def test_ranks_share_ties_and_see_members_alone(backend: Literal["numpy", "numba"]) -> None:
    x = np.array([[3.0, 1.0, 1.0, np.nan, -0.0, 0.0, 1e308, -1e308]])
    member = np.array([[True, True, True, True, True, True, True, False]])
    expected = np.array([[5, 3.5, 3.5, np.nan, 1.5, 1.5, 6, np.nan]]) / 6
    np.testing.assert_array_equal(rank(x, member, kernels.load(backend)), expected)


@pytest.mark.parametrize("backend", slowalpha.BACKENDS)
def test_a_rank_ties_what_rounding_tells_apart_and_orders_what_eleven_digits_tell_apart(
    backend: Literal["numpy", "numba"],
) -> None:
    x = np.array([[0.1 + 0.2, 0.3, 0.3 * (1 + 1e-10), -0.3, -(0.1 + 0.2)]])
    value = rank(x, np.ones(x.shape, np.bool_), kernels.load(backend))
    np.testing.assert_array_equal(value, [[0.7, 0.7, 1.0, 0.3, 0.3]])


CELLS = st.one_of(
    st.sampled_from([np.nan, 0.0, -0.0, 1.0, -1.0, 1e300, -1e300, 0.1, 5e-324]), st.floats(-100, 100, width=64)
)


@slowalpha.needs_numba
@settings(max_examples=30, deadline=None)
@given(arrays(np.float64, (9, 5), elements=CELLS), arrays(np.float64, (9, 5), elements=CELLS), st.integers(2, 10))
def test_the_backends_give_the_same_bits(x: Floats, y: Floats, days: int) -> None:
    numpy, numba = kernels.load("numpy"), kernels.load("numba")
    member = y != 1.0
    with np.errstate(all="ignore"):
        pairs = [
            (rank(x, member, numpy), rank(x, member, numba)),
            (numpy.weighted_sum(x, np.arange(days) + 0.3), numba.weighted_sum(x, np.arange(days) + 0.3)),
            *zip(numpy.deviation(x, days), numba.deviation(x, days), strict=True),
            *zip(numpy.covariation(x, y, days), numba.covariation(x, y, days), strict=True),
        ]
        for name in ("window_product", "window_max", "window_argmax", "window_rank"):
            pairs.append((getattr(numpy, name)(x, days), getattr(numba, name)(x, days)))
    assert [differing_cells(*pair) for pair in pairs] == [0] * len(pairs)


def test_windows_of_numpy_do_not_depend_on_its_block_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from windlass.workloads.alpha.engine import kernels_numpy

    x = small_panel(70, 6).fields["close"]
    before = kernels_numpy.covariation(x, x * x, 5)[0]
    monkeypatch.setattr(kernels_numpy, "BLOCK", 7)
    assert differing_cells(before, kernels_numpy.covariation(x, x * x, 5)[0]) == 0


def test_operators_across_names_see_members_and_those_along_time_see_all(rough: Panel) -> None:
    engine = Engine(rough, "numpy")
    assert np.isnan(engine.evaluate(Node("rank", (CLOSE,)))[~rough.member]).all()
    assert np.isfinite(engine.evaluate(Node("ts_mean", (CLOSE,), (3,)))[~rough.member]).any()
    assert np.isnan(engine.signal(Node("ts_mean", (CLOSE,), (3,)))[~rough.member]).all()


def test_what_is_given_out_is_read_only(rough: Panel) -> None:
    engine = Engine(rough, "numpy")
    for tree in (CLOSE, DIFFERENCE, Node("rank", (CLOSE,)), number(1.0)):
        for value in (engine.evaluate(tree), engine.signal(tree)):
            assert not value.flags.writeable and value.shape == rough.shape


def test_a_shared_piece_is_computed_once_and_the_oldest_goes_first(rough: Panel) -> None:
    one = Node("ts_mean", (CLOSE,), (5,))
    engine = Engine(rough, "numpy")
    engine.evaluate(Node("rank", (one,)))
    assert (engine.hits, engine.misses) == (0, 2)
    engine.evaluate(Node("sub", (Node("rank", (one,)), one)))
    assert (engine.hits, engine.misses) == (2, 2)
    room_for_one = Engine(rough, "numpy", cache_bytes=int(rough.fields["close"].nbytes))
    for tree in (one, Node("rank", (CLOSE,)), one):
        room_for_one.evaluate(tree)
    assert (room_for_one.hits, room_for_one.misses) == (0, 3)


def test_a_cached_value_is_the_computed_one(rough: Panel) -> None:
    with_cache, without = Engine(rough, "numpy"), Engine(rough, "numpy", cache_bytes=0)
    tree = Node("ts_corr", (Node("rank", (CLOSE,)), Node("rank", (VOLUME,))), (5,))
    with_cache.evaluate(tree)
    assert differing_cells(with_cache.evaluate(tree), without.evaluate(tree)) == 0
    assert with_cache.hits and not without.hits


def test_a_missing_field_or_group_is_named(rough: Panel) -> None:
    engine = Engine(rough, "numpy")
    with pytest.raises(DataError, match=r"no field 'volumes'.*'volume'"):
        engine.evaluate(field("volumes"))
    bare = Engine(column(1, 2, 3), "numpy")
    with pytest.raises(DataError, match="no group 'sector'"):
        bare.evaluate(Node("group_rank", (CLOSE, group("sector"))))


def test_vwap_is_the_typical_price_unless_the_panel_has_it(rough: Panel) -> None:
    f = rough.fields
    typical = (f["high"] + f["low"] + f["close"]) / 3
    np.testing.assert_array_equal(Engine(rough, "numpy").evaluate(field("vwap")), typical)
    given = small_panel(30, 12, fields={"vwap": np.full((30, 12), 2.0)})
    assert (Engine(given, "numpy").evaluate(field("vwap")) == 2.0).all()


def test_without_numba_auto_means_numpy(monkeypatch: pytest.MonkeyPatch, rough: Panel) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    assert Engine(rough).backend == "numpy"
    with pytest.raises(MissingExtra, match="numba"):
        Engine(rough, "numba")


@slowalpha.needs_numba
def test_numba_is_loaded_by_the_engine_that_uses_it_alone() -> None:
    code = (
        "import sys; from windlass.workloads.alpha.engine.engine import Engine; assert 'numba' not in sys.modules;"
        "from alphapanels import small_panel; p = small_panel(70, 12);"
        "Engine(p, 'numpy'); assert 'numba' not in sys.modules;"
        "Engine(p, 'numba'); assert 'numba' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"], check=True)
