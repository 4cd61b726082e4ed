"""The 101 formulaic alphas as data: all there, all readable, and what each reads."""

import hashlib

import pytest

from windlass.workloads.alpha.language.canonical import canonical, digest, text
from windlass.workloads.alpha.language.formulaic import FORMULAIC_ALPHAS
from windlass.workloads.alpha.language.parse import FORMULAIC, parse
from windlass.workloads.alpha.language.tree import fields, groups, lookback, walk

TREES = {number: parse(written, FORMULAIC) for number, written in FORMULAIC_ALPHAS.items()}


def test_there_are_101_and_no_two_are_the_same() -> None:
    assert list(TREES) == list(range(1, 102))
    assert len(set(map(digest, TREES.values()))) == 101


@pytest.mark.parametrize("alpha", TREES)
def test_the_canonical_text_reads_back_the_same(alpha: int) -> None:
    again = parse(text(canonical(TREES[alpha])), FORMULAIC)
    assert canonical(again) == canonical(TREES[alpha])


def test_no_formula_changed_unnoticed() -> None:
    """The digest was taken when all 101 were compared, tree by tree, with two transcripts of the paper's appendix."""
    written = "\n".join(text(TREES[number]) for number in TREES)
    assert hashlib.sha256(written.encode()).hexdigest()[:16] == "686bff689ba61dc8"


@pytest.mark.parametrize(
    ("alpha", "published"),
    [
        (1, "(rank(Ts_ArgMax(SignedPower(((returns < 0) ? stddev(returns, 20) : close), 2.), 5)) - 0.5)"),
        (21, "((((sum(close, 8) / 8) + stddev(close, 8)) < (sum(close, 2) / 2)) ? (-1 * 1) : (((sum(close, 2) / 2) < "
             "((sum(close, 8) / 8) - stddev(close, 8))) ? 1 : (((1 < (volume / adv20)) || ((volume / adv20) == 1)) "
             "? 1 : (-1 * 1))))"),
        (33, "rank((-1 * ((1 - (open / close))^1)))"),
        (58, "(-1 * Ts_Rank(decay_linear(correlation(IndNeutralize(vwap, IndClass.sector), volume, 3.92795), 7.89291), "
             "5.50322))"),
        (84, "SignedPower(Ts_Rank((vwap - ts_max(vwap, 15.3217)), 20.7127), delta(close, 4.96796))"),
        (101, "((close - open) / ((high - low) + .001))"),
    ],
)  # fmt: skip
def test_the_published_spelling_is_read_as_it_stands(alpha: int, published: str) -> None:
    assert parse(published, FORMULAIC) == TREES[alpha]


@pytest.mark.parametrize(
    ("alpha", "rows"), [(101, 0), (3, 9), (19, 250), (48, 251), (61, 195), (32, 234), (24, 199), (1, 24)]
)
def test_lookbacks_counted_by_hand(alpha: int, rows: int) -> None:
    assert lookback(TREES[alpha]) == rows


def test_what_the_formulas_read() -> None:
    assert {name for tree in TREES.values() for name in fields(tree)} == {
        "open", "high", "low", "close", "volume", "vwap", "returns", "cap",
    }  # fmt: skip
    assert [number for number, tree in TREES.items() if "cap" in fields(tree)] == [56]
    grouped = [number for number, tree in TREES.items() if groups(tree)]
    assert grouped == [48, 58, 59, 63, 67, 69, 70, 76, 79, 80, 82, 87, 89, 90, 91, 93, 97, 100]
    assert [number for number, tree in TREES.items() if tree.op in ("lt", "gt")] == [61, 75, 79, 95]
    chosen = [number for number, tree in TREES.items() if any(one.op in ("min", "max") for one in walk(tree))]
    assert chosen == [71, 73, 76, 77, 82, 87, 88, 92, 96]
