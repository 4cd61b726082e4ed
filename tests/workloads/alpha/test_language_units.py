"""Units of expressions, and the warnings about those that mix them."""

import pytest

from windlass.workloads.alpha.language.parse import parse
from windlass.workloads.alpha.language.units import (
    ANY,
    FLAG,
    MONEY,
    NUMBER,
    PRICE,
    RANK,
    RATIO,
    VOLUME,
    Unit,
    lint,
    unit,
)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("close", PRICE),
        ("volume", VOLUME),
        ("returns", RATIO),
        ("cap", MONEY),
        ("adv(20)", MONEY),
        ("close * volume", MONEY),
        ("close * volume / adv(20)", RATIO),
        ("adv(20) / close", VOLUME),
        ("close / open - 1", RATIO),
        ("ts_mean(close, 5) - 2 * close", PRICE),
        ("ts_std(close, 5)", PRICE),
        ("ts_cov(close, volume, 5)", MONEY),
        ("ts_corr(close, volume, 5)", RATIO),
        ("sqrt(high * low)", PRICE),
        ("(high * low) ** 0.5", PRICE),
        ("close ** 2", Unit("dimension", 2.0, -2.0)),
        ("close ** open", ANY),
        ("close ** 0", RATIO),
        ("rank(close)", RANK),
        ("-1 * rank(close)", RANK),
        ("rank(close) * rank(open)", RATIO),
        ("ts_rank(volume, 5) - 0.5", RANK),
        ("close > open", FLAG),
        ("where(close > open, close, 0)", PRICE),
        ("where(close > open, 1, -1)", NUMBER),
        ("neutralize(close, volume)", PRICE),
        ("zscore(volume)", RATIO),
        ("ts_product(close, 2)", ANY),
        ("max(0, close)", PRICE),
    ],
)
def test_unit(written: str, expected: Unit) -> None:
    assert unit(parse(written)) == expected


def test_units_have_names() -> None:
    assert [one.name for one in (PRICE, VOLUME, MONEY, RANK)] == ["price", "volume", "money", "rank"]
    assert unit(parse("close ** 2")).name == "currency^2 shares^-2"
    assert PRICE.plain is ANY.plain is False and RANK.plain


@pytest.mark.parametrize(
    ("written", "warning"),
    [
        ("rank(close + volume)", "close + volume: a price beside a volume"),
        ("rank(close) > close", "rank(close) > close: a rank beside a price"),
        ("rank(close > 5)", "close > 5: a price beside a number"),
        ("rank(where(returns > 0, close, volume))", "a price beside a volume"),
        ("rank(log(close))", "log of a price depends on its unit"),
        ("rank(close) ** delta(close, 5)", "the exponent is a price"),
        ("close", "the signal is a price"),
        ("close > open", "only two values"),
        ("rank(close / 0)", "division by zero"),
        ("rank(min(returns, 5))", "a window of 5 days is ts_min"),
    ],
)
def test_a_mixture_is_warned_about(written: str, warning: str) -> None:
    assert [one for one in lint(parse(written)) if warning in one]


@pytest.mark.parametrize(
    "written",
    [
        "-rank(delta(close, 5)) * rank(volume / adv(20))",
        "ts_corr(close, volume, 10)",
        "rank(delta(log(volume), 2))",
        "zscore((close - open) / (high - low + 0.001 * close))",
        "rank(max(delta(close, 1), 0))",
        "returns - ts_mean(returns, 20)",
        "where(close > open, rank(close), 0.5)",
    ],
)
def test_sound_expressions_give_no_warning(written: str) -> None:
    assert lint(parse(written)) == []
