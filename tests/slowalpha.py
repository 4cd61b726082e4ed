"""The expression language, slow and obvious: what both engines are compared with.

Written from the rules in ``language.operators``, not from the engine: one Python call a cell, or one sum over whole
windows in long double. Every operator rounds to float64, as the engines do.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from windlass.workloads.alpha.language.tree import Node
from windlass.workloads.alpha.panel import Floats, Panel

needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
BACKENDS = ["numpy", pytest.param("numba", marks=needs_numba)]

NAN = math.nan
Long = np.longdouble


def evaluate(node: Node, panel: Panel, memory: dict[Node, Floats] | None = None) -> Floats:
    """(T, N); ``memory`` is shared between the expressions of one panel."""
    memory = {} if memory is None else memory
    if node not in memory:
        with np.errstate(all="ignore"):
            value = np.asarray(_value(node, panel, memory), dtype=np.float64)
        memory[node] = np.where(np.isinf(value), NAN, value)
    return memory[node]


def _value(node: Node, panel: Panel, memory: dict[Node, Floats]) -> Floats:
    if node.op == "number":
        return np.full(panel.shape, node.params[0])
    if node.op == "field":
        return _field(str(node.params[0]), panel)
    if node.op == "adv":
        return _mean(_windows(panel.fields["close"] * panel.fields["volume"], node.params[0]))
    arguments = [evaluate(one, panel, memory) for one in node.args if one.op != "group"]
    if node.op in CELLS:
        return np.frompyfunc(lambda *cells: CELLS[node.op](*cells, *node.params), len(arguments), 1)(*arguments)
    if node.op in ("ts_rank", "ts_argmin", "ts_argmax"):
        arguments = [np.vectorize(eleven_digits)(x) for x in arguments]
    if node.op in WINDOWS:
        return WINDOWS[node.op](*(_windows(x, node.params[0]) for x in arguments))
    if node.op in DAYS:
        rows = range(len(panel.dates))
        codes = panel.groups[str(node.args[1].params[0])] if node.op.startswith("group_") else None
        return np.array([_day(node, panel.member[t], codes, [x[t] for x in arguments]) for t in rows])
    x, days = arguments[0], int(node.params[0])
    if node.op == "ewm":
        weights = [(1 - 2 / (days + 1)) ** k for k in range(4 * days, -1, -1)]
        return _weighted(_windows(x, 4 * days + 1), weights)
    before = _windows(x, days + 1)[:, :, 0]
    missing = np.isnan(_windows(x, days + 1)[:, :, -1])
    return before if node.op == "delay" else np.where(missing, NAN, x - before)


def _field(name: str, panel: Panel) -> Floats:
    close = panel.fields["close"]
    if name == "returns":
        return np.vstack([np.full((1, close.shape[1]), NAN), close[1:] / close[:-1] - 1])
    if name == "vwap" and name not in panel.fields:
        return (panel.fields["high"] + panel.fields["low"] + close) / 3
    return panel.fields[name]


def eleven_digits(x: float) -> float:
    """What ranks and positions see of a value: 37 of its 53 bits, rounded, half away from zero."""
    if math.isnan(x):
        return NAN
    mantissa, exponent = math.frexp(abs(x))
    return math.copysign(math.ldexp(math.floor(mantissa * 2**37 + 0.5), exponent - 37), x)


# --- cell by cell


def _plain(rule: Callable[..., float]) -> Callable[..., float]:
    """NaN in, NaN out; what Python refuses is NaN."""

    def cell(*values: float) -> float:
        if any(math.isnan(value) for value in values):
            return NAN
        try:
            return float(rule(*values))
        except (ZeroDivisionError, OverflowError, ValueError):
            return NAN

    return cell


def _where(condition: float, x: float, y: float) -> float:
    return NAN if math.isnan(condition) else x if condition != 0 else y


def _sign(x: float) -> float:
    return (x > 0) - (x < 0)


CELLS: dict[str, Callable[..., float]] = {
    "add": _plain(lambda x, y: x + y),
    "sub": _plain(lambda x, y: x - y),
    "mul": _plain(lambda x, y: x * y),
    "div": _plain(lambda x, y: x / y),
    "neg": _plain(lambda x: -x),
    "abs": _plain(abs),
    "log": _plain(math.log),
    "sign": _plain(_sign),
    "sqrt": _plain(math.sqrt),
    "power": _plain(math.pow),
    "signed_power": _plain(lambda x, y: _sign(x) * math.pow(abs(x), y)),
    "min": _plain(min),
    "max": _plain(max),
    "where": _where,
    "eq": _plain(lambda x, y: x == y),
    "lt": _plain(lambda x, y: x < y),
    "le": _plain(lambda x, y: x <= y),
    "gt": _plain(lambda x, y: x > y),
    "ge": _plain(lambda x, y: x >= y),
    "and": _plain(lambda x, y: x != 0 and y != 0),
    "or": _plain(lambda x, y: x != 0 or y != 0),
    "not": _plain(lambda x: x == 0),
    "clip": _plain(lambda x, least, most: min(max(x, least), most)),
}

# --- along time: (T, N, d) windows, oldest day first


def _windows(x: Floats, days: int) -> Floats:
    before = np.full((days - 1, x.shape[1]), NAN)
    return sliding_window_view(np.vstack([before, x]).astype(Long), days, axis=0)


def _complete(windows: Floats, value: Floats) -> Floats:
    return np.where(np.isnan(windows).any(axis=2), NAN, value)


def _sum(windows: Floats, weights: Sequence[float] = ()) -> Floats:
    """In float64 from the oldest day on, as the rule says: a difference of two sums may be nothing but rounding."""
    total = np.zeros(windows.shape[:2])
    for k in range(windows.shape[2]):
        total = total + (weights[k] if weights else 1.0) * windows[:, :, k].astype(np.float64)
    return total


def _mean(windows: Floats) -> Floats:
    return _sum(windows) / windows.shape[2]


def _decay(windows: Floats) -> Floats:
    days = windows.shape[2]
    return _sum(windows, range(1, days + 1)) / (days * (days + 1) / 2)


def _weighted(windows: Floats, weights: Sequence[float]) -> Floats:
    exact = np.array(weights, dtype=Long)
    return (windows * exact).sum(axis=2) / exact.sum()


def _constant(windows: Floats) -> Floats:
    return (windows == windows[:, :, :1]).all(axis=2)


def _apart(windows: Floats) -> Floats:
    return windows - windows.mean(axis=2, keepdims=True)


def _deviation(windows: Floats) -> Floats:
    return np.where(_constant(windows), Long(0), np.sqrt((_apart(windows) ** 2).sum(axis=2) / (windows.shape[2] - 1)))


def _covariance(x: Floats, y: Floats) -> Floats:
    together = (_apart(x) * _apart(y)).sum(axis=2) / (x.shape[2] - 1)
    together = np.where(_constant(x) | _constant(y), NAN, together)
    return _complete(x, _complete(y, together))


def _correlation(x: Floats, y: Floats) -> Floats:
    exact = _covariance(x, y) / _deviation(x) / _deviation(y)
    return np.round(exact * 2**40) / 2**40


def _first(windows: Floats, sign: int) -> Floats:
    best = (sign * windows).max(axis=2, keepdims=True)
    return _complete(windows, (sign * windows == best).argmax(axis=2) + 1.0)


def _last_rank(windows: Floats) -> Floats:
    today = windows[:, :, -1:]
    below, equal = (windows < today).sum(axis=2), (windows == today).sum(axis=2)
    return _complete(windows, (below + (equal + 1) / 2) / windows.shape[2])


def _score(windows: Floats) -> Floats:
    return np.where(_constant(windows), NAN, _apart(windows)[:, :, -1] / _deviation(windows))


WINDOWS: dict[str, Callable[..., Floats]] = {
    "ts_sum": _sum,
    "ts_mean": _mean,
    "ts_std": lambda w: _complete(w, _deviation(w)),
    "ts_min": lambda w: w.min(axis=2),
    "ts_max": lambda w: w.max(axis=2),
    "ts_argmin": lambda w: _first(w, -1),
    "ts_argmax": lambda w: _first(w, 1),
    "ts_rank": _last_rank,
    "ts_zscore": _score,
    "ts_corr": _correlation,
    "ts_cov": _covariance,
    "decay_linear": _decay,
    "ts_product": lambda w: w.prod(axis=2),
}

# --- across names, one day


def _day(node: Node, member: Sequence[bool], codes: Sequence[int] | None, arguments: list[Floats]) -> list[float]:
    """The operator on each set of names that it looks at together."""
    out = [NAN] * len(member)
    seen = [n for n in range(len(member)) if member[n] and not any(math.isnan(x[n]) for x in arguments)]
    sets = [seen] if codes is None else [[n for n in seen if codes[n] == code] for code in sorted({*codes} - {-1})]
    for names in sets:
        if names:
            values = DAYS[node.op](*([float(x[n]) for n in names] for x in arguments), *node.params)
            for n, value in zip(names, values, strict=True):
                out[n] = value
    return out


def _rank(x: list[float]) -> list[float]:
    x = [eleven_digits(value) for value in x]
    return [(sum(v < value for v in x) + (x.count(value) + 1) / 2) / len(x) for value in x]


def _demean(x: list[float]) -> list[float]:
    mean = math.fsum(x) / len(x)
    return [0.0 if len(set(x)) == 1 else value - mean for value in x]


def _zscore(x: list[float]) -> list[float]:
    if len(set(x)) == 1:
        return [NAN] * len(x)
    apart = _demean(x)
    deviation = math.sqrt(math.fsum(a * a for a in apart) / (len(x) - 1))
    return [a / deviation for a in apart]


def _winsorize(x: list[float], limit: float) -> list[float]:
    low, high = np.quantile(x, [limit, 1 - limit])
    return [min(max(value, low), high) for value in x]


def _scale(x: list[float], size: float) -> list[float]:
    total = math.fsum(abs(value) for value in x)
    return [value / total * size if total > 0 else NAN for value in x]


def _neutralize(x: list[float], *controls: list[float]) -> list[float]:
    columns = np.array([[1.0] * len(x), *controls]).T
    columns = columns / np.maximum(np.abs(columns).max(axis=0), 1e-300)
    solution = np.linalg.lstsq(columns, np.array(x), rcond=1e-10)[0]
    return list(np.array(x) - columns @ solution)


DAYS: dict[str, Callable[..., list[float]]] = {
    "rank": _rank,
    "demean": _demean,
    "zscore": _zscore,
    "winsorize": _winsorize,
    "scale": _scale,
    "neutralize": _neutralize,
    "group_neutralize": _demean,
    "group_rank": _rank,
}
