"""Values of an expression on a panel: a walk over its tree, and a cache of sub-expressions.

Row t of every value is made from rows up to t alone, and from them in the same way however many rows follow: an
expression on the first k days equals the first k rows of the expression, bit for bit (``truncation_differences``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from windlass.errors import DataError, nearest
from windlass.workloads.alpha.engine import cross_section
from windlass.workloads.alpha.engine.elementwise import COSTLY, ELEMENTWISE, Value
from windlass.workloads.alpha.engine.kernels import Backend, Floats, Int16s, chosen, load
from windlass.workloads.alpha.engine.rank import rank
from windlass.workloads.alpha.engine.time_series import TIME_SERIES
from windlass.workloads.alpha.language.canonical import canonical
from windlass.workloads.alpha.language.operators import OPERATORS
from windlass.workloads.alpha.language.tree import Node, field
from windlass.workloads.alpha.panel import Panel


class Engine:
    """Evaluates expressions on one panel. Both backends give the same bits.

    Args:
        panel: T days x N names.
        backend: ``auto`` is numba where it is installed, else numpy.
        cache_bytes: Most that the kept sub-expressions take; the least recently used ones go first.

    Raises MissingExtra where numba is asked for and not installed.
    """

    def __init__(self, panel: Panel, backend: Backend = "auto", cache_bytes: int = 512 << 20) -> None:
        self.panel = panel
        self.backend = chosen(backend)
        self.hits = 0  #: sub-expressions that the cache had
        self.misses = 0  #: and those that were computed, elementwise ones apart
        self._kernels = load(self.backend)
        self._cache: OrderedDict[Node, Floats] = OrderedDict()
        self._cache_bytes, self._used = cache_bytes, 0
        self._all_members = bool(panel.member.all())

    def evaluate(self, node: Node) -> Floats:
        """(T, N), read-only; NaN where the value is not known, never infinite.

        Raises DataError where the panel lacks a field or a group of the expression.
        """
        with np.errstate(all="ignore"):
            value = self._dense(self._value(canonical(node)))
        value.flags.writeable = False
        return value

    def signal(self, node: Node) -> Floats:
        """``evaluate``, NaN outside of the universe."""
        value = self._members(self.evaluate(node))
        value.flags.writeable = False
        return value

    def _value(self, node: Node) -> Value:
        if node.op == "number":
            return float(node.params[0])
        if node.op == "field":
            return self._field(str(node.params[0]))
        if node.op in ELEMENTWISE and node.op not in COSTLY:
            return self._computed(node)
        kept = self._cache.get(node)
        if kept is not None:
            self.hits += 1
            self._cache.move_to_end(node)
            return kept
        self.misses += 1
        value = self._computed(node)
        if isinstance(value, np.ndarray) and value.ndim == 2:
            self._keep(node, value)
        return value

    def _computed(self, node: Node) -> Value:
        """An operator's value, with NaN for what is infinite."""
        if node.op == "adv":
            traded = self._field("close") * self._field("volume")
            value: Value = TIME_SERIES["ts_mean"](self._kernels, traded, *node.params)
        elif node.op in ELEMENTWISE:
            value = ELEMENTWISE[node.op](*map(self._value, node.args), *node.params)
        elif node.op in TIME_SERIES:
            value = TIME_SERIES[node.op](self._kernels, *self._arrays(node.args), *node.params)
        elif OPERATORS[node.op].kind == "group":
            value = self._grouped(node)
        else:
            value = self._across(node)
        infinite = np.isinf(value)
        return np.where(infinite, np.nan, value) if infinite.any() else value

    def _across(self, node: Node) -> Floats:
        x, *controls = self._arrays(node.args)
        if node.op == "rank":
            return rank(x, self.panel.member, self._kernels)
        x = self._members(x)
        match node.op:
            case "zscore":
                return cross_section.zscore(x)
            case "demean":
                return cross_section.demean(x)
            case "winsorize":
                return cross_section.winsorize(x, float(node.params[0]))
            case "scale":
                return cross_section.scale(x, float(node.params[0]))
            case "neutralize":
                return cross_section.neutralize(x, *controls)
        raise ValueError(f"the engine has no operator '{node.op}'")

    def _grouped(self, node: Node) -> Floats:
        x = self._members(self._dense(self._value(node.args[0])))
        codes = self._codes(str(node.args[1].params[0]))
        if node.op == "group_rank":
            return cross_section.group_rank(x, codes, self._kernels)
        return cross_section.group_neutralize(x, codes, self._kernels)

    def _field(self, name: str) -> Floats:
        fields = self.panel.fields
        if name == "returns":
            return self._dense(self._value(_RETURNS))
        if name == "vwap" and name not in fields:
            return self._dense(self._value(_TYPICAL))
        if name not in fields:
            raise DataError(
                f"the panel has no field '{name}'; it has {', '.join(fields)}.{nearest(name, fields)}",
                "name one of these, or add the column to the panel's file",
            )
        return fields[name]

    def _codes(self, name: str) -> Int16s:
        groups = self.panel.groups
        if name not in groups:
            raise DataError(
                f"the panel has no group '{name}'; it has {', '.join(groups) or 'none'}.{nearest(name, groups)}",
                f"give a file with the columns instrument and {name} as option 'sectors'",
            )
        return groups[name]

    def _arrays(self, nodes: Sequence[Node]) -> list[Floats]:
        return [self._dense(self._value(node)) for node in nodes]

    def _dense(self, value: Value) -> Floats:
        """The value as an array of the panel's shape, also where it is one number."""
        if isinstance(value, np.ndarray) and value.ndim == 2:
            return value
        return np.full(self.panel.shape, value, dtype=np.float64)

    def _members(self, x: Floats) -> Floats:
        return x if self._all_members else np.where(self.panel.member, x, np.nan)

    def _keep(self, node: Node, value: Floats) -> None:
        if value.nbytes > self._cache_bytes:
            return
        value.flags.writeable = False
        self._cache[node] = value
        self._used += value.nbytes
        while self._used > self._cache_bytes:
            self._used -= self._cache.popitem(last=False)[1].nbytes


_CLOSE = field("close")
_RETURNS = Node(
    "sub", (Node("div", (_CLOSE, Node("delay", (_CLOSE,), (1,)))), Node("number", params=(1.0,)))
)  #: close[t] / close[t-1] - 1
_TYPICAL = Node(
    "div",
    (Node("add", (Node("add", (field("high"), field("low"))), _CLOSE)), Node("number", params=(3.0,))),
)  #: stands for vwap where the panel has none


def truncation_differences(node: Node, panel: Panel, cuts: Sequence[int], backend: Backend = "auto") -> int:
    """Cells in which the expression on a panel cut after ``k`` days differs from its first ``k`` rows, over all cuts.

    Compared bit for bit, a missing value being equal to a missing value. 0 proves that nothing known later, within
    the panel, went into a value.
    """
    whole = Engine(panel, backend).evaluate(node)
    return sum(differing_cells(Engine(panel.head(k), backend).evaluate(node), whole[:k]) for k in cuts)


def differing_cells(one: Floats, other: Floats) -> int:
    """Cells with other bits, NaN apart."""
    same = (one.view(np.int64) == other.view(np.int64)) | (np.isnan(one) & np.isnan(other))
    return int(np.count_nonzero(~same))
