"""The one table of operators and fields: shape of a call, bounds of its parameters, reach into the past, unit, rules.

The parser, the unit lint, the search's grammar, both engines and the reference in the docs read this table. ``x[t]``
is the value of one name at the close of day t; a window of d days at t is ``x[t-d+1] .. x[t]``. Rules that hold for
every operator are in ``GENERAL``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["elementwise", "cross_section", "group", "time_series", "field"]
Reach = Literal["none", "lag", "window", "span"]
UnitName = Literal["price", "volume", "money", "ratio", "any"]
#: unit of what comes out: that of the arguments, a fixed one, or a product, a quotient or a power of them
Gives = Literal["same", "product", "quotient", "power", "root", "ratio", "rank", "flag", "money", "any"]

LONGEST = 252  #: rows that one window may span
LARGEST = 1e15  #: of a number in a text
SPAN_REACH = 4  #: an ewm reads ``SPAN_REACH * span`` rows before today
WORDS = ("and", "or", "not")  #: operators that are words of the grammar, not calls
GROUPS = ("sector", "industry", "subindustry")

GENERAL = (
    "A missing value in gives a missing value out; a window with a missing value in it is missing.",
    "An operator never gives infinity: what would be infinite or undefined is missing.",
    "Operators across names (rank, zscore, group_neutralize, ...) see the members of the universe on that day only; "
    "operators along time see a name's whole history, before it was a member too.",
    "Comparisons and logic give 1 for true and 0 for false; any number but 0 counts as true.",
    "To rank, group_rank, ts_rank, ts_argmin and ts_argmax, values that agree in their first 37 bits (eleven digits) "
    "are equal: what tells them apart is rounding. Comparisons are exact.",
)


@dataclass(frozen=True, slots=True)
class Param:
    """A literal of a call: a number that is no part of the tree, with its bounds (both included)."""

    name: str
    whole: bool  #: a count of days, not a real number
    least: float
    most: float
    default: int | float | None = None  #: None: it must be given


@dataclass(frozen=True, slots=True)
class Operator:
    name: str
    kind: Kind
    args: tuple[str, ...]  #: names of the tree arguments; a group's name is the last one of kind ``group``
    gives: Gives
    rule: str  #: what it computes, with ties, missing values and zero variance
    params: tuple[Param, ...] = ()  #: after the arguments, in the order of ``Node.params``
    reach: Reach = "none"
    most_args: int = 0  #: the last argument may be repeated up to so many arguments in all; 0: it may not
    commutative: bool = False  #: the two arguments may change places, and no bit of the result changes

    @property
    def signature(self) -> str:
        """As written in a text: ``winsorize(x, limit=0.01)``, ``x and y``."""
        if self.name in WORDS:
            return f"{self.name} x" if len(self.args) == 1 else f"x {self.name} y"
        given = [*self.args[:-1], f"{self.args[-1]}, ..."] if self.most_args else list(self.args)
        given += [one.name if one.default is None else f"{one.name}={one.default:g}" for one in self.params]
        return f"{self.name}({', '.join(given)})"

    def rows_before(self, params: tuple[int | float | str, ...]) -> int:
        """Rows before today that one call reads of its arguments."""
        if self.reach == "none":
            return 0
        days = int(params[0])
        return {"lag": days, "window": days - 1, "span": SPAN_REACH * days}[self.reach]


@dataclass(frozen=True, slots=True)
class FieldRule:
    name: str
    unit: UnitName
    rule: str
    rows_before: int = 0


def _days(name: str = "d", least: int = 1, most: int = LONGEST) -> tuple[Param, ...]:
    return (Param(name, whole=True, least=least, most=most),)


def _real(name: str, least: float, most: float, default: float | None = None) -> Param:
    return Param(name, whole=False, least=least, most=most, default=default)


def _element(name: str, args: str, gives: Gives, rule: str, commutative: bool = False) -> Operator:
    return Operator(name, "elementwise", tuple(args.split()), gives, rule, commutative=commutative)


def _series(name: str, gives: Gives, rule: str, *, args: str = "x", least: int = 1) -> Operator:
    named = tuple(args.split())
    return Operator(name, "time_series", named, gives, rule, _days(least=least), "window", commutative=len(named) == 2)


_LARGE = 1e12

_TABLE = (
    _element("add", "x y", "same", "x + y.", commutative=True),
    _element("sub", "x y", "same", "x - y."),
    _element("mul", "x y", "product", "x * y.", commutative=True),
    _element("div", "x y", "quotient", "x / y; missing where y is 0."),
    _element("neg", "x", "same", "-x."),
    _element("abs", "x", "same", "|x|."),
    _element("log", "x", "ratio", "Natural logarithm; missing where x <= 0."),
    _element("sign", "x", "ratio", "-1, 0 or 1."),
    _element("sqrt", "x", "root", "Square root; missing where x < 0."),
    _element(
        "power", "x y", "power",
        "x to the power of y; missing where x < 0 and y is not whole, and where x is 0 and y < 0.",
    ),
    _element("signed_power", "x y", "power", "sign(x) * |x| to the power of y; missing where x is 0 and y < 0."),
    _element("min", "x y", "same", "The smaller one, name by name.", commutative=True),
    _element("max", "x y", "same", "The larger one, name by name.", commutative=True),
    _element(
        "where", "condition x y", "same",
        "x where the condition is true, else y; missing where the condition is missing. The value not taken may be "
        "missing.",
    ),
    _element("eq", "x y", "flag", "1 where x equals y exactly, else 0.", commutative=True),
    _element("lt", "x y", "flag", "1 where x < y, else 0."),
    _element("le", "x y", "flag", "1 where x <= y, else 0."),
    _element("gt", "x y", "flag", "1 where x > y, else 0."),
    _element("ge", "x y", "flag", "1 where x >= y, else 0."),
    _element("and", "x y", "flag", "1 where both are true, else 0; missing where either is missing.", True),
    _element("or", "x y", "flag", "1 where one is true, else 0; missing where either is missing.", True),
    _element("not", "x", "flag", "1 where x is 0, else 0."),
    Operator(
        "clip", "elementwise", ("x",), "same", "x, but not below least and not above most.",
        (_real("least", -_LARGE, _LARGE), _real("most", -_LARGE, _LARGE)),
    ),
    Operator(
        "rank", "cross_section", ("x",), "rank",
        "Rank across names divided by their number, in (0, 1]; equal values share the mean of their ranks.",
    ),
    Operator(
        "zscore", "cross_section", ("x",), "ratio",
        "(x - mean) / sample standard deviation across names; the day is missing where all values are equal or there "
        "is one name.",
    ),
    Operator("demean", "cross_section", ("x",), "same", "x minus its mean across names."),
    Operator(
        "winsorize", "cross_section", ("x",), "same",
        "x clipped to its quantiles limit and 1 - limit across names (linear interpolation between order statistics).",
        (_real("limit", 0.0, 0.49, 0.01),),
    ),
    Operator(
        "scale", "cross_section", ("x",), "ratio",
        "x times a constant of the day, so that the sum of |x| across names is size; the day is missing where that "
        "sum is 0.",
        (_real("size", 1e-6, _LARGE, 1.0),),
    ),
    Operator(
        "neutralize", "cross_section", ("x", "control"), "same",
        "Residual of a least squares regression of x on a constant and the controls, across names that have all of "
        "them; the others are missing. A control that the ones before it explain adds nothing.",
        most_args=5,
    ),
    Operator(
        "group_neutralize", "group", ("x", "group"), "same",
        "x minus its mean over the name's group; missing for a name without a group.",
    ),
    Operator(
        "group_rank", "group", ("x", "group"), "rank",
        "rank within the name's group; missing for a name without a group.",
    ),
    Operator("delay", "time_series", ("x",), "same", "x[t-d].", _days(), "lag"),
    Operator("delta", "time_series", ("x",), "same", "x[t] - x[t-d].", _days(), "lag"),
    _series("ts_sum", "same", "Sum over the window."),
    _series("ts_mean", "same", "Mean over the window."),
    _series("ts_std", "same", "Sample standard deviation over the window (divisor d - 1).", least=2),
    _series("ts_min", "same", "Smallest value of the window."),
    _series("ts_max", "same", "Largest value of the window."),
    _series(
        "ts_argmin", "ratio",
        "Position of the smallest value in the window, 1 = oldest day, d = today; of equal values the oldest.",
    ),
    _series(
        "ts_argmax", "ratio",
        "Position of the largest value in the window, 1 = oldest day, d = today; of equal values the oldest.",
    ),
    _series("ts_rank", "rank", "Rank of today's value in the window divided by d; equal values share the mean rank."),
    _series(
        "ts_zscore", "ratio",
        "(x[t] - mean) / sample standard deviation over the window; missing where the window is constant.", least=2,
    ),
    _series(
        "ts_corr", "ratio",
        "Pearson correlation of x and y over the window, rounded to a multiple of 2**-40; missing where either is "
        "constant in it.",
        args="x y", least=2,
    ),
    _series(
        "ts_cov", "product",
        "Sample covariance of x and y over the window (divisor d - 1); missing where either is constant in it.",
        args="x y", least=2,
    ),
    _series("decay_linear", "same", "Weighted mean over the window; weights d for today down to 1 for the oldest day."),
    Operator(
        "ewm", "time_series", ("x",), "same",
        "Weighted mean of today and the 4 * span days before; the weight falls by the factor 1 - 2 / (span + 1) a day "
        "and the weights add up to 1.",
        _days("span", most=LONGEST // SPAN_REACH), "span",
    ),
    _series("ts_product", "any", "Product over the window."),
    Operator("adv", "field", (), "money", "Mean of close * volume over the window: traded value.", _days(), "window"),
)  # fmt: skip

OPERATORS: Mapping[str, Operator] = MappingProxyType({one.name: one for one in _TABLE})

FIELDS: Mapping[str, FieldRule] = MappingProxyType(
    {
        one.name: one
        for one in (
            FieldRule("open", "price", "First price of the day."),
            FieldRule("high", "price", "Highest price of the day."),
            FieldRule("low", "price", "Lowest price of the day."),
            FieldRule("close", "price", "Last price of the day."),
            FieldRule("volume", "volume", "Shares traded on the day."),
            FieldRule("vwap", "price", "Volume-weighted price of the day; (high + low + close) / 3 without a column."),
            FieldRule("returns", "ratio", "close[t] / close[t-1] - 1.", rows_before=1),
            FieldRule("cap", "money", "Market capitalisation; the panel must have the column."),
        )
    }
)  #: fields that every text may name; other numeric columns of a panel are fields of unit ``any``


def commutes(op: str) -> bool:
    return op in OPERATORS and OPERATORS[op].commutative


def reference() -> list[tuple[str, str, str]]:
    """Rows (name, signature, rule) of the fields and then of the operators, for ``alpha check --list`` and the docs."""
    rows = [(one.name, one.name, one.rule) for one in FIELDS.values()]
    return rows + [(one.name, one.signature, one.rule) for one in OPERATORS.values()]
