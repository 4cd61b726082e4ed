"""Text to tree: what is accepted, what it means, and that everything else is refused with a place and a reason."""

import ast
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from windlass.errors import WindlassError
from windlass.workloads.alpha import language
from windlass.workloads.alpha.language.canonical import canonical, digest, text
from windlass.workloads.alpha.language.operators import FIELDS, OPERATORS, WORDS, reference
from windlass.workloads.alpha.language.parse import FORMULAIC, ExpressionError, Limits, parse
from windlass.workloads.alpha.language.tree import (
    Node,
    depth,
    field,
    fields,
    group,
    groups,
    lookback,
    number,
    size,
    walk,
)

CLOSE, OPEN = field("close"), field("open")


@pytest.mark.parametrize(
    ("written", "tree"),
    [
        ("close", CLOSE),
        ("adv(20)", Node("adv", params=(20,))),
        ("ts_mean(close, 20)", Node("ts_mean", (CLOSE,), (20,))),
        ("ts_mean(close, 20.0)", Node("ts_mean", (CLOSE,), (20,))),
        ("close - -0.5", Node("sub", (CLOSE, number(-0.5)))),
        ("-close ** 2", Node("neg", (Node("power", (CLOSE, number(2))),))),
        ("close ** -open", Node("power", (CLOSE, Node("neg", (OPEN,))))),
        ("close - open - 1", Node("sub", (Node("sub", (CLOSE, OPEN)), number(1)))),
        ("close > open and close or open", Node("or", (Node("and", (Node("gt", (CLOSE, OPEN)), CLOSE)), OPEN))),
        ("1 if close else 0", Node("where", (CLOSE, number(1), number(0)))),
        ("group_rank(close, sector)", Node("group_rank", (CLOSE, group("sector")))),
        ("neutralize(close, open, 1)", Node("neutralize", (CLOSE, OPEN, number(1)))),
        ("winsorize(close)", Node("winsorize", (CLOSE,), (0.01,))),
        ("clip(close, -1, 2)", Node("clip", (CLOSE,), (-1.0, 2.0))),
        ("  close\n + \topen ", Node("add", (CLOSE, OPEN))),
    ],
)
def test_a_text_gives_its_tree(written: str, tree: Node) -> None:
    assert parse(written) == tree


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Ts_Rank(rank(low), 9)", "ts_rank(rank(low), 9)"),
        ("SignedPower(close, 2.)", "signed_power(close, 2)"),
        ("(high * low)^0.5", "(high * low) ** 0.5"),
        ("correlation(rank(open), rank(volume), 10)", "ts_corr(rank(open), rank(volume), 10)"),
        ("covariance(close, volume, 5) + stddev(close, 5)", "ts_cov(close, volume, 5) + ts_std(close, 5)"),
        ("product(close, 5) - sum(close, 5)", "ts_product(close, 5) - ts_sum(close, 5)"),
        ("Ts_ArgMax(close, 5) * Sign(Log(close))", "ts_argmax(close, 5) * sign(log(close))"),
        ("IndNeutralize(vwap, IndClass.sector)", "group_neutralize(vwap, sector)"),
        ("indneutralize(vwap, IndClass.subindustry)", "group_neutralize(vwap, subindustry)"),
        ("group_neutralize(close, 'industry')", "group_neutralize(close, industry)"),
        ("adv20 / ADV180", "adv(20) / adv(180)"),
        ("VWAP - Close", "vwap - close"),
        ("(returns < 0) ? stddev(returns, 20) : close", "where(returns < 0, ts_std(returns, 20), close)"),
        ("close < 1 ? 1 : close < 2 ? 2 : 3", "where(close < 1, 1, where(close < 2, 2, 3))"),
        ("close < 1 ? close < 2 ? 1 : 2 : 3", "where(close < 1, where(close < 2, 1, 2), 3)"),
        ("max(close < 1 ? 1 : 2, open)", "max(where(close < 1, 1, 2), open)"),
        ("if(close > open, 1, -1)", "where(close > open, 1, -1)"),
        ("(close < 1) || (close == 1) && open", "close < 1 or close == 1 and open"),
        ("close != open", "not close == open"),
        ("cs_rank(ts_decay_linear(close, 5))", "rank(decay_linear(close, 5))"),
        ("ewm_mean(close, span=10) + sma(close, window=3)", "ewm(close, 10) + ts_mean(close, 3)"),
        ("returns(close, 5) - returns", "close / delay(close, 5) - 1 - returns"),
        ("returns(close)", "close / delay(close, 1) - 1"),
        ("rel_volume(volume, 20)", "volume / ts_mean(volume, 20)"),
        ("log1p(volume)", "log(1 + volume)"),
        ("safe_div(close, open)", "close / open"),
        ("maximum(close, 0) - minimum(close, 0)", "max(close, 0) - min(close, 0)"),
        ("clip(close, lo=-1, hi=1)", "clip(close, -1, 1)"),
        ("cs_neutralize(close, volume)", "neutralize(close, volume)"),
        ("cs_neutralize_group(close, sector)", "group_neutralize(close, sector)"),
        (
            "cs_neutralize_group(close, sector, open)",
            "neutralize(group_neutralize(close, sector), group_neutralize(open, sector))",
        ),
    ],
)
def test_other_spellings_mean_the_same_tree(theirs: str, ours: str) -> None:
    assert parse(theirs) == parse(ours)


def test_every_operator_of_the_table_can_be_called_and_is_in_the_reference() -> None:
    rows = {name: (signature, rule) for name, signature, rule in reference()}
    assert set(rows) == {*OPERATORS, *FIELDS}
    for name, operator in OPERATORS.items():
        assert rows[name][1].endswith(".")
        if name in WORDS:
            assert parse(rows[name][0].replace("x", "close").replace("y", "open")).op == name
            continue
        assert rows[name][0].startswith(f"{name}(")
        args = ["close", "open", "low"][: len(operator.args)]
        if operator.kind == "group":
            args[-1] = "sector"
        params = [param.least if param.default is None else param.default for param in operator.params]
        node = parse(f"close + {name}({', '.join([*args, *map(str, params)])})").args[1]
        assert (node.op, len(node.args), node.params) == (name, len(operator.args), tuple(params))


REFUSED = {
    "attribute": ("close.__class__", 5, "attributes"),
    "attribute of a group": ("group_rank(close, IndClass.mro)", 26, "attributes"),
    "dunder": ("__import__('os')", 0, "'__import__'"),
    "call of what is not known": ("getattr(close, 1)", 0, "no operator 'getattr'"),
    "call of a result": ("rank(close)(open)", 0, "only an operator's name"),
    "call of a field": ("close(5)", 0, "no operator 'close'"),
    "import": ("import os", 0, "'import'"),
    "lambda": ("(lambda: close)", 1, "'lambda'"),
    "comprehension": ("rank(close for close in open)", 11, "'for'"),
    "list": ("[close]", 0, "indexing"),
    "index": ("close[0]", 5, "indexing"),
    "set": ("{close}", 0, "braces"),
    "f-string": ("f'{close}'", 1, "group"),
    "string": ("'close'", 0, "no group"),
    "string in a string": ("rank('a b')", 5, "quoted"),
    "walrus": ("(x := close)", 3, "':' goes with '?'"),
    "assignment": ("x = close", 2, "does not read"),
    "two statements": ("close; open", 5, "not part"),
    "comment": ("close # open", 6, "not part"),
    "star": ("rank(*close)", 5, "does not read"),
    "two stars": ("rank(**close)", 0, "rank(x)"),
    "remainder": ("close % 2", 6, "remainder"),
    "matrix product": ("close @ open", 6, "not part"),
    "await": ("await close", 0, "'await'"),
    "True": ("close * True", 8, "'True'"),
    "ellipsis": ("close + ...", 8, "attributes"),
    "is": ("close is open", 6, "'is'"),
    "chained comparison": ("1 < close < 3", 12, "one comparison at a time"),
    "complex number": ("close * 1j", 8, "'1j' is no number"),
    "hexadecimal": ("close * 0x10", 8, "'0x10' is no number"),
    "huge number": ("close * 1e400", 8, "above 1e+15"),
    "long number": ("close * " + "9" * 5000, 8, "5000 characters"),
    "number of zeros": ("close * 007", 8, "does not read"),
    "look-alike letter": ("cl\u043ese", 2, "CYRILLIC SMALL LETTER O"),
    "full-width letter": ("\uff43lose", 0, "FULLWIDTH LATIN SMALL LETTER C"),
    "look-alike sign": ("close \u2212 open", 6, "MINUS SIGN"),
    "no-break space": ("close\u00a0+ open", 5, "NO-BREAK SPACE"),
    "zero byte": ("close\0", 5, "not part"),
    "half of a surrogate": ("close \ud800", 6, "U+D800"),
    "empty": ("", 0, "empty"),
    "blank": (" \n", 0, "empty"),
    "open bracket": ("rank(close", 4, "never closed"),
    "closed bracket": ("close)", 5, "closes nothing"),
    "empty brackets": ("()", 0, "does not read"),
    "half a condition": ("close ? open", 6, "condition ? a : b"),
    "unknown field": ("clsoe + 1", 0, "Did you mean 'close'"),
    "unknown operator": ("ts_maen(close, 5)", 0, "Did you mean 'ts_mean'"),
    "operator without arguments": ("close + rank", 8, "needs arguments"),
    "negative window": ("ts_mean(close, -5)", 15, "d is -5"),
    "no window": ("ts_mean(close, 0)", 15, "1 to 252"),
    "one-day deviation": ("ts_std(close, 1)", 14, "2 to 252"),
    "long window": ("ts_mean(close, 253)", 15, "1 to 252"),
    "long span": ("ewm(close, 64)", 11, "1 to 63"),
    "long adv": ("adv(0) * adv999", 4, "1 to 252"),
    "long adv by name": ("close * adv999", 8, "1 to 252"),
    "look-ahead": ("delay(close, -1)", 13, "d is -1"),
    "fractional window": ("ts_mean(close, 5.5)", 15, "whole"),
    "window that varies": ("ts_mean(close, open)", 15, "plain number"),
    "window that is computed": ("ts_mean(close, 2 + 3)", 15, "plain number"),
    "missing window": ("ts_mean(close)", 0, "ts_mean(x, d)"),
    "too many arguments": ("rank(close, open)", 0, "rank(x)"),
    "too many controls": ("neutralize(close, 1, 2, 3, 4, open)", 0, "neutralize(x, control, ...)"),
    "unknown keyword": ("ts_mean(close, min_periods=1)", 15, "min_periods is unknown"),
    "keyword twice": ("ts_mean(close, 5, window=6)", 18, "given twice"),
    "bounds the wrong way": ("clip(close, 2, 1)", 0, "2 is above 1"),
    "quantile": ("winsorize(close, 0.6)", 17, "0 to 0.49"),
    "group as a value": ("rank(sector)", 5, "is a group"),
    "group alone": ("sector", 0, "is a group"),
    "value as a group": ("group_rank(close, open)", 18, "sector, industry, subindustry"),
    "no group": ("group_rank(close, 'country')", 18, "no group"),
    "no field": ("rank(1 + 1)", 0, "reads no field"),
    "look-back": ("ts_mean(ts_mean(close, 200), 200)", 0, "398 days of look-back"),
    "depth": ("rank(" * 8 + "close" + ")" * 8, 0, "9 levels"),
    "sum of many": ("close" + " + close" * 16, 0, "17 levels"),
    "nodes": (" + ".join(f"({' + '.join(['(close + open)'] * 3)})" for _ in range(4)), 0, "47 nodes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_expression_is_refused_at_its_place(case: str) -> None:
    written, position, words = REFUSED[case]
    with pytest.raises(ExpressionError) as refusal:
        parse(written)
    assert isinstance(refusal.value, WindlassError)
    assert refusal.value.position == position
    assert words in refusal.value.message and f"column {position + 1}:" in refusal.value.message
    assert refusal.value.next_step.startswith("windlass alpha check")


def test_the_next_step_can_be_pasted_into_a_shell() -> None:
    with pytest.raises(ExpressionError) as refusal:
        parse("-rank(close, 'x y')")
    assert shlex.split(refusal.value.next_step) == ["windlass", "alpha", "check", "--", "-rank(close, 'x y')"]


@pytest.mark.parametrize(
    "written",
    [
        "(" * 1000 + "close" + ")" * 1000,
        "rank(" * 1000 + "close" + ")" * 1000,
        "(" * 1000,
        "((((((((((" * 6 + "close" + "))))))))))" * 6 + "(",
        "-" * 1900 + "close",
        "not " * 1900 + "close",
        "close" + "+close" * 900,
        "close" + "**close" * 900,
        "close" + "<close" * 900,
        "close ? 1 : " * 400 + "close",
        "close ? " * 150 + "1" + " : 2" * 150,
        "1 if close else " * 400 + "2",
        "if(" * 59 + "close" + ")" * 59,
        "a" * 100_000,
        "close + " * 50_000 + "close",
        "a" * 9_999,
        "," * 9_999,
        "'" * 9_999,
        "close " * 1_500,
        "10 ** 10 ** 10 ** 10",
        "9" * 30 + " ** close",
    ],
    ids=lambda written: f"{written[:12]}...{len(written)}",
)
def test_texts_that_would_cost_python_much_are_refused(written: str) -> None:
    with pytest.raises(ExpressionError) as refusal:
        parse(written, Limits(depth=10_000, nodes=100_000))
    assert len(str(refusal.value)) < 1_000


def test_powers_of_numbers_are_not_computed() -> None:
    node = parse("close * 10 ** 10 ** 10")
    assert text(canonical(node)) == "10 ** 10 ** 10 * close"


def test_the_package_calls_nothing_that_evaluates_text() -> None:
    for path in Path(language.__file__).parent.glob("*.py"):
        calls = [one.func for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.Call)]
        named = {one.id for one in calls if isinstance(one, ast.Name)}
        assert not named & {"eval", "exec", "compile", "__import__", "open", "setattr", "globals", "vars"}, path.name


_PIECES = ["close", "open", "rank(", "ts_mean(", "where(", ")", ",", "5", "-", "+", "*", "**", "?", ":", "<", " ", "^"]
_PIECES += ["not ", "and ", "if ", "else ", "sector", "'", "=", "||", "0.5", "adv20", ".", "\n", "lambda ", "[", "e5"]


@given(st.text(max_size=60) | st.lists(st.sampled_from(_PIECES), max_size=25).map("".join))
@example("close if")
@example("5.close")
@example("1e")
@example("a?:")
@example("?:")
@example("f(a=b?c:d)")
def test_any_text_is_an_expression_or_refused(written: str) -> None:
    try:
        node = parse(written)
    except ExpressionError as refusal:
        assert 0 <= refusal.position <= max(0, len(written) - 1)
    else:
        assert not Limits().broken(node)
        assert digest(parse(text(node))) == digest(node)


@pytest.mark.parametrize(
    ("written", "limits", "words"),
    [
        ("rank(rank(close))", Limits(depth=2), "3 levels of nesting, and at most 2"),
        ("close + open", Limits(nodes=2), "3 nodes, and at most 2"),
        ("delay(close, 10)", Limits(lookback=9), "10 days of look-back, and at most 9"),
    ],
)
def test_limits_are_arguments(written: str, limits: Limits, words: str) -> None:
    with pytest.raises(ExpressionError, match=words):
        parse(written, limits)
    assert parse(written)


def test_windows_are_rounded_down_only_where_the_limits_say_so() -> None:
    assert parse("delay(close, 3.99)", FORMULAIC) == parse("delay(close, 3)")
    with pytest.raises(ExpressionError, match="whole"):
        parse("delay(close, 3.99)")
    with pytest.raises(ExpressionError, match="d is 0"):
        parse("delay(close, 0.99)", FORMULAIC)


def test_further_columns_of_a_panel_are_fields() -> None:
    assert parse("rank(Short_Interest)", fields=["Short_Interest"]) == Node("rank", (field("Short_Interest"),))
    with pytest.raises(ExpressionError, match="Did you mean 'short_interest'"):
        parse("rank(short_intrest)", fields=["short_interest"])


def test_counts_of_a_tree() -> None:
    node = parse("group_neutralize(ts_corr(delay(close, 5), adv(20), 10), sector) * -returns")
    assert (size(node), depth(node)) == (9, 5)
    assert lookback(node) == 9 + 19
    assert fields(node) == {"close", "volume", "returns"}
    assert groups(node) == {"sector"}
    assert [one.op for one in walk(node)][:4] == ["mul", "group_neutralize", "ts_corr", "delay"]


@pytest.mark.parametrize(
    ("written", "rows"),
    [
        ("close", 0),
        ("returns", 1),
        ("adv(20)", 19),
        ("delay(close, 5)", 5),
        ("delta(close, 5)", 5),
        ("ts_mean(close, 20)", 19),
        ("ts_mean(delay(returns, 5), 20)", 25),
        ("ewm(close, 10)", 40),
        ("rank(ts_std(close, 5)) + delay(close, 9)", 9),
    ],
)
def test_lookback_is_what_row_t_needs_of_the_past(written: str, rows: int) -> None:
    assert lookback(parse(written)) == rows


@given(st.lists(st.tuples(st.sampled_from(["delay", "ts_mean", "ewm", "rank"]), st.integers(2, 60)), max_size=6))
def test_lookbacks_of_nested_operators_add_up(steps: list[tuple[str, int]]) -> None:
    nodes = [CLOSE]
    for op, days in steps:
        nodes.append(Node(op, (nodes[-1],), () if op == "rank" else (days,)))
    for (op, days), (inner, outer) in zip(steps, pairwise(nodes), strict=True):
        added = {"delay": days, "ts_mean": days - 1, "ewm": 4 * days, "rank": 0}[op]
        assert lookback(outer) == lookback(inner) + added
