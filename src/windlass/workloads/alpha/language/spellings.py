"""Names that mean an operator of the table: those of the 101 Formulaic Alphas and of common factor languages.

Names are read without regard to case, as the paper asks. ``ALIASES`` are other words for one operator; ``EXPANSIONS``
write a call out as a small tree. ``safe_div`` is the plain quotient, because ``div`` by zero is missing here and never
infinite. ``log1p(x)`` is ``log(1 + x)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from windlass.workloads.alpha.language.operators import LONGEST, Param
from windlass.workloads.alpha.language.tree import Node, number

_ALIASES = {
    "add": "plus",
    "sub": "minus subtract",
    "mul": "times multiply",
    "div": "divide safe_div",
    "abs": "abs_",
    "log": "ln",
    "neg": "reverse",
    "power": "pow",
    "signed_power": "signedpower",
    "min": "minimum",
    "max": "maximum",
    "where": "iff if_else ifelse",
    "eq": "equal",
    "lt": "less",
    "gt": "greater",
    "rank": "cs_rank",
    "zscore": "cs_zscore normalize",
    "demean": "cs_demean",
    "winsorize": "cs_winsorize",
    "scale": "cs_scale",
    "neutralize": "cs_neutralize",
    "group_neutralize": "indneutralize ind_neutralize cs_demean_group",
    "delay": "ts_delay ref lag shift",
    "delta": "ts_delta",
    "ts_sum": "sum",
    "ts_mean": "mean sma",
    "ts_std": "std stddev ts_stddev ts_std_dev",
    "ts_argmin": "argmin ts_arg_min",
    "ts_argmax": "argmax ts_arg_max",
    "ts_corr": "corr correlation ts_correlation",
    "ts_cov": "cov covariance ts_covariance",
    "decay_linear": "ts_decay_linear wma",
    "ewm": "ema ewm_mean ts_ewm",
    "ts_product": "product prod ts_prod",
}

ALIASES: Mapping[str, str] = MappingProxyType(
    {word: operator for operator, words in _ALIASES.items() for word in words.split()}
)

#: other names of a parameter in a call by keyword
KEYWORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "d": frozenset({"window", "lag", "n", "days", "periods"}),
        "span": frozenset({"d", "window"}),
        "least": frozenset({"lo", "lower"}),
        "most": frozenset({"hi", "upper"}),
        "size": frozenset({"a"}),
    }
)


@dataclass(frozen=True, slots=True)
class Expansion:
    """A call that stands for a tree."""

    args: tuple[str, ...]
    build: Callable[..., Node]  #: of the argument nodes, then of the parameters
    params: tuple[Param, ...] = ()
    group: bool = False  #: the second argument is a group
    most_args: int = 0  #: as in ``Operator``


def _return(x: Node, days: int) -> Node:
    return Node("sub", (Node("div", (x, Node("delay", (x,), (days,)))), number(1)))


def _relative(x: Node, days: int) -> Node:
    return Node("div", (x, Node("ts_mean", (x,), (days,))))


def _within_groups(x: Node, group: Node, *controls: Node) -> Node:
    """Residual on the controls within groups: all sides demeaned in their group, then regressed (Frisch and Waugh)."""
    inside = [Node("group_neutralize", (one, group)) for one in (x, *controls)]
    return Node("neutralize", tuple(inside)) if controls else inside[0]


_DAYS = Param("d", whole=True, least=1, most=LONGEST)
_LAG = Param("d", whole=True, least=1, most=LONGEST, default=1)

EXPANSIONS: Mapping[str, Expansion] = MappingProxyType(
    {
        "returns": Expansion(("x",), _return, (_LAG,)),
        "ts_returns": Expansion(("x",), _return, (_LAG,)),
        "rel_volume": Expansion(("x",), _relative, (_DAYS,)),
        "log1p": Expansion(("x",), lambda x: Node("log", (Node("add", (number(1), x)),))),
        "ne": Expansion(("x", "y"), lambda x, y: Node("not", (Node("eq", (x, y)),))),
        "cs_neutralize_group": Expansion(("x", "group", "control"), _within_groups, group=True, most_args=5),
    }
)
