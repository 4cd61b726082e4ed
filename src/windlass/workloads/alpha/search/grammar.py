"""Expressions drawn at random, typed: a price is never added to a volume, and what comes out compares across names.

A production says how to write a sort (price, volume, money, ratio, rank, or signal: the whole). ``$ratio`` in it is a
place for something of that sort, drawn anew; ``$price1`` stands for the same draw wherever it is repeated.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from windlass.workloads.alpha.language.operators import FIELDS
from windlass.workloads.alpha.language.parse import ExpressionError, parse
from windlass.workloads.alpha.language.tree import Limits, Node, walk
from windlass.workloads.alpha.language.units import lint
from windlass.workloads.alpha.search.cookbook import TAGS, Tag, Weights, weight

LEVELS = 4  #: of productions inside each other; below them only those without a place
TRIES = 200  #: draws until one keeps the limits
DERIVED = ("returns", "vwap")  #: fields that every panel has, whatever its columns

#: windows in days; most are long, for what is smooth is cheap to hold
WINDOWS: Mapping[str, Sequence[int]] = {
    "$fast": (2, 3, 5, 10),
    "$days": (5, 10, 15, 20, 30, 40, 60, 90, 120),
    "$slow": (20, 30, 40, 60, 90, 120),
}

_AGAINST = frozenset(("sub", "div", "min", "max", "neutralize", "ts_corr"))
_PLACE = re.compile(r"\$([a-z]+)(\d*)")
_NAME = re.compile(r"[a-z_]\w*")


@dataclass(frozen=True, slots=True)
class Production:
    sort: str
    text: str
    tags: tuple[Tag, ...] = ()
    weight: float = 1.0


_GAP = "(open / delay(close, 1) - 1)"

PRODUCTIONS: tuple[Production, ...] = (
    Production("signal", "rank($ratio)", weight=3),
    Production("signal", "rank(decay_linear($ratio, $slow))", weight=4),
    Production("signal", "rank(ts_mean($ratio, $slow))", weight=4),
    Production("signal", "rank($ratio / ts_std(returns, $slow))", ("volatility",)),
    Production("signal", "rank($rank - $rank)", weight=2),
    Production("signal", "rank($rank * $rank)", weight=2),
    Production("signal", "rank(decay_linear($rank, $slow))", weight=2),
    Production("signal", "zscore(winsorize($ratio, 0.02))"),
    Production("signal", "zscore(ts_mean($ratio, $slow)) + zscore(ts_mean($ratio, $slow))", weight=2),
    Production("signal", "group_rank($ratio, $group)"),
    Production("signal", "rank(group_neutralize($ratio, $group))"),
    Production("signal", "rank(neutralize($rank, $rank))"),
    Production("rank", "rank($ratio)", weight=4),
    Production("rank", "rank($volume)", ("volume-price", "liquidity")),
    Production("rank", "rank($money)", ("liquidity",)),
    Production("rank", "ts_rank($ratio, $slow)"),
    Production("rank", "ts_rank($price, $slow)", ("momentum", "reversal")),
    Production("rank", "ts_rank($volume, $slow)", ("volume-price",)),
    Production("ratio", "$price1 / delay($price1, $slow) - 1", ("momentum",), 2),
    Production("ratio", "delay($price1, $fast) / delay($price1, $slow) - 1", ("momentum",), 2),
    Production("ratio", "ts_mean($price1, $days) / ts_mean($price1, $slow) - 1", ("momentum",)),
    Production("ratio", "ts_mean(returns, $slow) / ts_std(returns, $slow)", ("momentum", "volatility")),
    Production("ratio", "ts_mean(sign(returns), $slow)", ("momentum",)),
    Production("ratio", "ts_argmax($price, $slow)", ("momentum", "range")),
    Production("ratio", "close / ts_max(high, $slow)", ("momentum", "range")),
    Production("ratio", "-($price1 / delay($price1, $fast) - 1)", ("reversal",), 2),
    Production("ratio", "-ts_zscore($price, $days)", ("reversal",), 2),
    Production("ratio", "-ts_mean(returns, $days)", ("reversal",)),
    Production("ratio", "-ts_max(returns, $days)", ("reversal", "volatility")),
    Production("ratio", "ts_min(returns, $days)", ("reversal", "volatility")),
    Production("ratio", "vwap / close - 1", ("reversal", "volume-price")),
    Production("ratio", "rank(ts_mean(abs(returns) / (close * volume), $slow))", ("liquidity",), 2),
    Production("ratio", "$money1 / ts_mean($money1, $slow)", ("liquidity",)),
    Production("ratio", "delta($money1, $days) / ts_mean($money1, $slow)", ("liquidity",)),
    Production("ratio", "ts_std(volume, $slow) / ts_mean(volume, $slow)", ("liquidity", "volume-price")),
    Production("ratio", "ts_corr(returns, delay(returns, 1), $slow)", ("liquidity", "reversal")),
    Production("ratio", "ts_std(returns, $slow)", ("volatility",), 2),
    Production("ratio", "ts_std(demean(returns), $slow)", ("volatility",)),
    Production("ratio", "ts_std(returns, $days) / ts_std(returns, $slow)", ("volatility",)),
    Production("ratio", "ts_std($ratio, $slow)", ("volatility",)),
    Production("ratio", "log(high / low)", ("volatility", "range")),
    Production("ratio", "ts_corr($price, volume, $slow)", ("volume-price",)),
    Production("ratio", "ts_corr($ratio, volume / ts_mean(volume, $slow), $slow)", ("volume-price",)),
    Production("ratio", "ts_corr($rank, $rank, $slow)", ("volume-price",)),
    Production("ratio", "$volume1 / ts_mean($volume1, $slow)", ("volume-price", "liquidity")),
    Production("ratio", "ts_mean(sign(returns) * volume, $days) / ts_mean(volume, $slow)", ("volume-price",)),
    Production("ratio", "$ratio * volume / ts_mean(volume, $slow)", ("volume-price",)),
    Production("ratio", "(close - low) / (high - low)", ("range",)),
    Production("ratio", "(2 * close - high - low) / (high - low)", ("range",)),
    Production("ratio", "(close - open) / (high - low)", ("range",)),
    Production("ratio", "(high - max(open, close)) / close", ("range",)),
    Production("ratio", "(min(open, close) - low) / close", ("range",)),
    Production("ratio", "(close - ts_min(low, $slow)) / ts_std(close, $slow)", ("range",)),
    Production("ratio", "ts_mean(high - low, $days) / ts_mean(high - low, $slow)", ("range", "volatility")),
    Production("ratio", _GAP, ("gap",), 2),
    Production("ratio", "close / open - 1", ("gap",)),
    Production("ratio", f"ts_mean({_GAP}, $days) - ts_mean(close / open - 1, $days)", ("gap",)),
    Production("ratio", f"ts_corr({_GAP}, $ratio, $slow)", ("gap",)),
    Production("ratio", f"signed_power({_GAP}, 3)", ("gap",)),
    Production("ratio", "ts_mean($ratio, $days)", weight=2),
    Production("ratio", "decay_linear($ratio, $days)", weight=2),
    Production("ratio", "ts_zscore($ratio, $slow)"),
    Production("ratio", "delta($ratio, $days)"),
    Production("ratio", "$ratio - ts_mean($ratio, $slow)"),
    Production("ratio", "$ratio * $rank"),
    Production("ratio", "demean($ratio)"),
    *(Production("price", name, weight=3 if name == "close" else 1) for name in ("close", "open", "high", "low")),
    Production("price", "vwap"),
    Production("price", "ts_mean(close, $fast)"),
    Production("volume", "volume", weight=3),
    Production("volume", "ts_mean(volume, $fast)"),
    Production("money", "close * volume"),
    Production("money", "adv($days)", weight=2),
    Production("money", "cap"),
)


class Grammar:
    """Productions that the columns of a panel allow, weighted by the tags of an idea."""

    def __init__(self, shares: Weights, *, fields: Collection[str], groups: Collection[str]) -> None:
        self._groups = sorted(groups)
        known = {*fields, *DERIVED}
        self._columns = frozenset(known - FIELDS.keys())
        table: dict[str, list[Production]] = {}
        for one in (*PRODUCTIONS, *_of_columns(known)):
            named = set(_NAME.findall(_PLACE.sub("", one.text))) & FIELDS.keys()
            if named <= known and (self._groups or "$group" not in one.text) and _leaning(one, shares) > 0:
                table.setdefault(one.sort, []).append(one)
        ends = {sort: [one for one in those if not _branches(one)] for sort, those in table.items()}
        self._inner = {sort: _Wheel(those, shares) for sort, those in table.items()}
        self._ends = {sort: _Wheel(those or table[sort], shares) for sort, those in ends.items()}

    @property
    def sorts(self) -> frozenset[str]:
        """What ``sample`` can make."""
        return frozenset(self._inner)

    def sample(self, rng: np.random.Generator, sort: str = "signal") -> Node:
        """A tree of the sort; it parses within the limits, and a signal is ``usable``.

        Raises RuntimeError where no draw of many does, which a test of the productions rules out.
        """
        for _ in range(TRIES):
            try:
                node = parse(self._write(sort, rng, LEVELS), fields=self._columns)
            except ExpressionError:
                continue
            if not cancels(node) and (sort != "signal" or not lint(node)):
                return node
        raise RuntimeError(f"no {sort} in {TRIES} draws keeps the limits")

    def _write(self, sort: str, rng: np.random.Generator, levels: int) -> str:
        wheel = self._inner[sort] if levels > 0 else self._ends[sort]
        drawn: dict[str, str] = {}

        def fill(place: re.Match[str]) -> str:
            name, shared = place.group(0), place.group(2)
            if shared and name in drawn:
                return drawn[name]
            drawn[name] = self._fill(place.group(1), rng, levels - 1)
            return drawn[name]

        return _PLACE.sub(fill, wheel.draw(rng).text)

    def _fill(self, what: str, rng: np.random.Generator, levels: int) -> str:
        windows = WINDOWS.get(f"${what}")
        if windows is not None:
            return str(windows[int(rng.integers(len(windows)))])
        if what == "group":
            return self._groups[int(rng.integers(len(self._groups)))]
        return f"({self._write(what, rng, levels)})"


def usable(node: Node) -> bool:
    """Whether a tree keeps the limits, its units give no warning, and nothing in it cancels out."""
    return not Limits().broken(node) and not lint(node) and not cancels(node)


def cancels(node: Node) -> bool:
    """Whether something is set against itself, as in x - x or x / x: it says nothing of any name."""
    return any(one.op in _AGAINST and one.args[0] in one.args[1:] for one in walk(node))


class _Wheel:
    """Draws productions by their weights."""

    def __init__(self, productions: Sequence[Production], shares: Weights) -> None:
        self._productions = productions
        self._until = list(itertools.accumulate(_leaning(one, shares) for one in productions))

    def draw(self, rng: np.random.Generator) -> Production:
        where = bisect.bisect_right(self._until, rng.random() * self._until[-1])
        return self._productions[min(where, len(self._productions) - 1)]


def _leaning(one: Production, shares: Weights) -> float:
    """A production without tags keeps its weight; a tag with an equal share changes nothing, either."""
    return one.weight * (weight(one.tags, shares) * len(TAGS) if one.tags else 1.0)


def _branches(one: Production) -> bool:
    """Whether it has places that may grow further."""
    return any(what in ("ratio", "rank") for what, _ in _PLACE.findall(one.text))


def _of_columns(known: Collection[str]) -> list[Production]:
    """Productions for columns of the panel that have no unit."""
    extra = sorted(name for name in known if name not in FIELDS and name.isidentifier())
    return [
        production
        for name in extra
        for production in (
            Production("rank", f"rank({name})", weight=2),
            Production("ratio", f"ts_zscore({name}, $slow)", weight=2),
        )
    ]
