"""Canonical form: equal expressions get one tree, no value changes, nothing gets larger."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from windlass.workloads.alpha.language.canonical import canonical, digest, text
from windlass.workloads.alpha.language.operators import OPERATORS, commutes
from windlass.workloads.alpha.language.parse import Limits, parse
from windlass.workloads.alpha.language.tree import Node, depth, field, group, lookback, number, size

WIDE = Limits(depth=100, nodes=1000, lookback=10_000)
_NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.1, 5.0, 1e-9, 3e14])


def _calls(below: st.SearchStrategy[Node], names: list[str]) -> st.SearchStrategy[Node]:
    def call(name: str) -> st.SearchStrategy[Node]:
        operator = OPERATORS[name]
        args = [below] * len(operator.args)
        if operator.kind == "group":
            args[-1] = st.sampled_from([group("sector"), group("industry")])
        most = {True: 5.0, False: 0.4}
        params = [
            st.integers(int(one.least), 5) if one.whole else st.floats(max(one.least, -1.0), most[one.name == "most"])
            for one in operator.params
        ]
        if name == "clip":
            params = [st.floats(-2, 0), st.floats(0, 2)]
        return st.builds(lambda a, p: Node(name, a, p), st.tuples(*args), st.tuples(*params))

    return st.sampled_from(names).flatmap(call)


LEAVES = st.sampled_from([field("close"), field("open"), field("volume"), Node("adv", params=(5,))])
ANY_TREE = st.recursive(
    LEAVES | _NUMBERS.map(number), lambda below: _calls(below, [n for n in OPERATORS if n != "adv"]), max_leaves=12
)


def _readable(node: Node) -> bool:
    """Whether ``parse`` can give it: it reads a field."""
    return any(name in text(node) for name in ("close", "open", "volume", "adv"))


@given(ANY_TREE)
def test_the_text_of_a_tree_reads_back_as_equal(node: Node) -> None:
    assume(_readable(node))
    assert canonical(parse(text(node), WIDE)) == canonical(node)


@given(ANY_TREE)
@example(parse("close - open - high"))
@example(parse("-(close - close)"))
@example(parse("close * (0 * -1)"))
@example(parse("-delay(close - open, 2) * (open - close)"))
def test_canonical_is_a_form_that_stays_and_never_grows(node: Node) -> None:
    form = canonical(node)
    assert canonical(form) == form
    assert digest(form) == digest(node)
    assert (size(form) <= size(node)) and (depth(form) <= depth(node)) and (lookback(form) <= lookback(node))
    if _readable(form):
        assert canonical(parse(text(form), WIDE)) == form


ROWS = 12
_TRIED = ["add", "sub", "mul", "div", "neg", "abs", "sign", "sqrt", "power", "signed_power", "min", "max", "where"]
_TRIED += ["eq", "lt", "le", "gt", "ge", "and", "or", "not", "clip", "delay", "delta", "ts_sum", "ts_mean", "ts_min"]
_TRIED += ["ts_max", "ts_product", "rank"]
VALUE_TREE = st.recursive(LEAVES | _NUMBERS.map(number), lambda below: _calls(below, _TRIED), max_leaves=10)


def _value(node: Node, panel: dict[str, np.ndarray]) -> np.ndarray:
    """The written rules on a panel of ROWS days, one operator at a time."""
    if node.op == "field":
        return panel[str(node.params[0])]
    if node.op == "number":
        return np.full_like(panel["close"], node.params[0])
    if node.op == "adv":
        return panel["volume"] * 3
    args = [_value(one, panel) for one in node.args]
    missing = np.any([np.isnan(one) for one in args], axis=0)
    x, y = args[0], args[-1]
    with np.errstate(all="ignore"):
        if node.op == "where":
            out = np.where(x != 0, args[1], args[2])
            return np.where(np.isnan(x), np.nan, out)
        if OPERATORS[node.op].kind == "time_series":
            return _along_time(node, x)
        if node.op == "rank":
            less = (x[:, None, :] < x[:, :, None]).sum(-1)
            equal = (x[:, None, :] == x[:, :, None]).sum(-1)
            out = (less + (equal + 1) / 2) / np.maximum((~missing).sum(1, keepdims=True), 1)
        elif node.op == "clip":
            out = np.clip(x, *node.params)
        else:
            out = _CELLS[node.op](x, y)
    out = np.where(missing | ~np.isfinite(out), np.nan, out)
    return out + 0.0


def _along_time(node: Node, x: np.ndarray) -> np.ndarray:
    days = int(node.params[0])
    out = np.full_like(x, np.nan)
    for t in range(len(x)):
        if node.op in ("delay", "delta"):
            if t >= days:
                out[t] = x[t - days] if node.op == "delay" else x[t] - x[t - days]
        elif t >= days - 1:
            window = x[t - days + 1 : t + 1]
            total = window[0]
            for one in window[1:]:
                step = {"ts_product": np.multiply, "ts_min": np.minimum, "ts_max": np.maximum}
                total = step.get(node.op, np.add)(total, one)
            out[t] = total / days if node.op == "ts_mean" else total
    return np.where(np.isfinite(out), out, np.nan) + 0.0


_CELLS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "neg": lambda x, _: -x, "abs": lambda x, _: abs(x),
    "sign": lambda x, _: np.sign(x), "sqrt": lambda x, _: np.sqrt(x),
    "power": np.power, "signed_power": lambda x, y: np.sign(x) * np.abs(x) ** y,
    "min": np.minimum, "max": np.maximum,
    "eq": np.equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "and": np.logical_and, "or": np.logical_or, "not": lambda x, _: x == 0,
}  # fmt: skip


@given(VALUE_TREE, st.integers(0, 2**32 - 1))
@example(parse("where(not (close > open), -close, -(open - close) / -3)"), 1)
@example(parse("ts_sum(-2 * close, 1) - (close + -0.1) * -(1 - open)"), 2)
@example(parse("delta(delay(delay(-close, 2), 3) ** 1, 1)"), 3)
def test_no_bit_of_a_value_changes(node: Node, seed: int) -> None:
    rng = np.random.default_rng(seed)
    panel = {name: rng.choice([0.0, -1.5, 2.0, np.nan, *rng.normal(size=6)], (ROWS, 4)) for name in PANEL_FIELDS}
    before, after = _value(node, panel), _value(canonical(node), panel)
    np.testing.assert_array_equal(after, before)


PANEL_FIELDS = ("close", "open", "volume", "high")


@pytest.mark.parametrize(
    "same",
    [
        ["close + open", "open + close", "close - -open", "-(-open - close)", "close + open + 0", "(open + close) / 1"],
        ["close - open", "-(open - close)", "-1 * (open - close)", "close + -1 * open", "0 - open + close"],
        ["-rank(close)", "-1 * rank(close)", "rank(close) * -1", "0 - 1 * rank(close)", "--(-rank(close))"],
        ["close * -open", "-close * open", "-(open * close)", "open * close * -1"],
        ["-2 * close", "close * -2", "-(2 * close)", "(-4 / 2) * close"],
        ["close > open", "open < close", "not open >= close", "not not (close > open)"],
        ["close >= open", "open <= close", "not close < open"],
        ["rank(close)", "rank(rank(close))", "rank(rank(rank(close)))", "ts_mean(rank(close), 1)", "abs(rank(close))"],
        ["abs(close - open)", "abs(open - close)", "abs(-abs(close - open))"],
        ["delay(close, 5)", "delay(delay(close, 2), 3)", "-delay(-close, 5)"],
        ["ts_corr(close, volume, 10)", "ts_corr(volume, close, 10)", "correlation(volume, close, 10)"],
        ["where(close > open, 1, -1)", "close > open ? 1 : -1"],
        ["where(close, 1, 2)", "where(not close, 2, 1)"],
        ["signed_power(close, 1)", "close ** 1", "close * (3 - 2)"],
        ["min(close, open)", "min(open, close)", "minimum(close, open)"],
        ["group_rank(group_rank(close, sector), sector)", "group_rank(close, sector)"],
    ],
)  # fmt: skip
def test_equal_expressions_have_one_digest(same: list[str]) -> None:
    assert len({digest(parse(written)) for written in same}) == 1


@pytest.mark.parametrize(
    "different",
    [
        ["close - open", "open - close"],
        ["close / open", "open / close"],
        ["close + (open + high)", "(close + open) + high"],
        ["close ** 2", "close * close"],
        ["rank(-close)", "-rank(close)"],
        ["group_rank(group_rank(close, sector), industry)", "group_rank(close, industry)"],
        ["demean(demean(close))", "demean(close)"],
        ["ts_mean(close, 5)", "ts_mean(close, 6)", "ts_sum(close, 5)"],
        ["winsorize(close)", "winsorize(close, 0.02)"],
        ["neutralize(close, open)", "neutralize(open, close)"],
        ["where(close, 1, 2)", "where(close, 2, 1)"],
        ["clip(clip(close, 0, 1), 0, 2)", "clip(close, 0, 1)"],
        ["close * 0", "open * 0"],
        ["ewm(close, 1)", "close"],
    ],
)
def test_different_expressions_keep_their_own_digest(different: list[str]) -> None:
    assert len({digest(parse(written)) for written in different}) == len(different)


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("-1 * rank(delta(close, 5))", "-rank(delta(close, 5))"),
        ("0.5 + 0.25 + close", "0.75 + close"),
        ("close / 0", "close / 0"),
        ("(1 / 0) * close", "1 / 0 * close"),
        ("sqrt(-1) * close", "close * sqrt(-1)"),
        ("close - 3", "close - 3"),
        ("-3 + (close - open)", "close - open - 3"),
        ("(-2) ** close", "(-2) ** close"),
        ("(close < open) < high", "(close < open) < high"),
        ("not (close and open)", "not (close and open)"),
        ("scale(close, 1)", "scale(close)"),
        ("close * 1e14 * (10 * 10)", "100 * (100000000000000 * close)"),
    ],
)
def test_the_canonical_text_is_short_and_plain(written: str, form: str) -> None:
    assert text(canonical(parse(written))) == form


def test_folding_stays_within_numbers_that_a_text_may_have() -> None:
    form = canonical(parse("close + 9e14 * 9e14"))
    assert parse(text(form)) == form


def test_a_digest_is_16_hex_and_pinned() -> None:
    """Digests name trials in registries that outlive a version."""
    assert digest(parse("-rank(delta(close, 5)) * rank(volume / adv(20))")) == "cd2cf6705c997065"


def test_arguments_change_places_only_where_the_table_says_so() -> None:
    assert {name for name in OPERATORS if commutes(name)} == {
        "add", "mul", "min", "max", "eq", "and", "or", "ts_corr", "ts_cov",
    }  # fmt: skip
    assert not commutes("field")
