"""The convex problem: built once, solved again at each rebalance with other values of its parameters.

Needs cvxpy and CLARABEL, the extra ``optimizer``; nothing is imported before a problem is built.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from windlass.errors import MissingExtra
from windlass.workloads.alpha.optimizer.day import Day, Floats, Ints, Limits

BASIS_POINTS = 1e4  #: the objective is solved in basis points, which keeps it near 1
TOLERANCE = 1e-6  #: within which every constraint holds
NOISE = 1e-7  #: a shadow price below this, in return per unit of weight, is none
SOLVER = {"direct_solve_method": "qdldl", "max_threads": 1}  #: the same bits on the same machine


@dataclass(frozen=True, slots=True)
class Binding:
    """A constraint that costs something. ``price``: what the objective gains for a unit that the limit is loosened by.

    Per-name constraints are one entry: ``names`` are their positions, dearest first, and ``price`` is the sum.
    """

    constraint: str
    price: float
    names: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    weights: Floats  #: (N,)
    binding: tuple[Binding, ...]


def available() -> bool:
    """Whether the convex problem can be solved here."""
    return all(importlib.util.find_spec(library) is not None for library in ("cvxpy", "clarabel"))


def sector_matrix(groups: Ints) -> tuple[Ints, Floats]:
    """The sectors' numbers (S,), ascending, and their names as 0/1 rows (S, N). Unknown sectors (-1) are one more."""
    sectors = np.unique(groups)
    return sectors, (groups == sectors[:, None]).astype(np.float64)


def excess(today: Day, weights: Floats, limits: Limits, sectors: Floats) -> dict[str, float]:
    """By how much each kind of constraint is exceeded, in units of weight; 0 or below where it holds."""
    return {
        "dollar": abs(float(weights.sum())),
        "gross": float(np.abs(weights).sum()) - limits.gross,
        "bounds": float(np.maximum(today.lower - weights, weights - today.upper).max()),
        "turnover": today.trades(weights) - today.turnover,
        "sector": float(np.abs(sectors @ weights).max()) - limits.sector,
        "beta": abs(float(today.beta @ weights)) - limits.beta,
    }


class Convex:
    """max  expected'w - cost |w - held|_1 - risk_aversion/2 w'(F F' + diag(specific^2)) w, subject to

    sum w = 0, |sector'w| <= sector, |beta'w| <= beta, |w|_1 <= gross, |w - held|_1 <= turnover, lower <= w <= upper.

    Disciplined in its parameters (Agrawal et al., "Differentiable convex optimization layers", 2019), so that cvxpy
    compiles it once. Raises MissingExtra without cvxpy or CLARABEL.
    """

    def __init__(self, groups: Ints, limits: Limits, sector_names: Sequence[str] = ()) -> None:
        if not available():
            raise MissingExtra(
                "the convex optimizer needs cvxpy and clarabel, which are not installed",
                "pip install 'windlass[optimizer]', or set portfolio.optimizer to ridge",
            )
        cp: Any = importlib.import_module("cvxpy")
        self._limits = limits
        self._error: type[Exception] = cp.error.SolverError
        numbers, self._sectors = sector_matrix(groups)
        count = groups.size
        self._parameters: dict[str, Any] = {
            "expected": cp.Parameter(count),
            "held": cp.Parameter(count),
            "usable": cp.Parameter(count),
            "lower": cp.Parameter(count),
            "upper": cp.Parameter(count),
            "beta": cp.Parameter(count),
            "turnover": cp.Parameter(nonneg=True),
            "loadings": cp.Parameter((count, limits.factors)),
            "specific": cp.Parameter(count, nonneg=True),
        }
        given = self._parameters
        weights, trade, size = cp.Variable(count), cp.Variable(count), cp.Variable(count)
        common = cp.Variable(limits.factors)
        net = self._sectors @ cp.multiply(given["usable"], weights)
        exposure = given["beta"] @ weights
        self._named = {"gross": [cp.sum(size) <= limits.gross], "turnover": [cp.sum(trade) <= given["turnover"]]}
        if limits.sector:  # else it is the sum of the sectors' constraints
            self._named["dollar"] = [given["usable"] @ weights == 0]
        self._named["beta"] = _within(exposure, limits.beta)
        self._by_sector = _within(net, limits.sector)
        self._labels = [_label(int(number), sector_names) for number in numbers]
        self._lower, self._upper = weights >= given["lower"], weights <= given["upper"]
        risk = cp.sum_squares(common) + cp.sum_squares(cp.multiply(given["specific"], weights))
        self.problem: Any = cp.Problem(
            cp.Maximize(given["expected"] @ weights - BASIS_POINTS * limits.cost * cp.sum(trade) - 0.5 * risk),
            [
                *(constraint for constraints in self._named.values() for constraint in constraints),
                *self._by_sector,
                self._lower,
                self._upper,
                common == given["loadings"].T @ weights,
                weights - given["held"] <= trade,
                given["held"] - weights <= trade,
                weights <= size,
                -weights <= size,
            ],
        )
        self._weights = weights

    def solve(self, today: Day) -> Solution | None:
        """The best weights; None where the solver finds none within TOLERANCE. Nothing is carried to the next call."""
        limits, given = self._limits, self._parameters
        spread = math.sqrt(BASIS_POINTS * limits.risk_aversion)
        given["expected"].value = BASIS_POINTS * today.expected
        given["held"].value = today.held
        given["usable"].value = today.usable.astype(np.float64)
        # a name that cannot be held is left out of every sum and free in its box: nothing draws it away from 0
        given["lower"].value = np.where(today.usable, today.lower, -limits.box)
        given["upper"].value = np.where(today.usable, today.upper, limits.box)
        given["beta"].value = today.beta
        given["turnover"].value = min(today.turnover, limits.gross + float(np.abs(today.held).sum()) + 1.0)
        given["loadings"].value = spread * today.loadings
        given["specific"].value = spread * np.where(today.usable, today.specific, 1.0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it may be inaccurate: what it gives is checked below
                self.problem.solve(solver="CLARABEL", enforce_dpp=True, warm_start=False, **SOLVER)
        except self._error:
            return None
        if self._weights.value is None:
            return None
        weights = today.settled(np.where(today.usable, np.clip(self._weights.value, today.lower, today.upper), 0.0))
        if max(excess(today, weights, limits, self._sectors).values()) > TOLERANCE:
            return None
        return Solution(weights, self._binding(today))

    def _binding(self, today: Day) -> tuple[Binding, ...]:
        found = [Binding(name, float(_price(constraints))) for name, constraints in self._named.items()]
        found += [Binding(*pair) for pair in zip(self._labels, _price(self._by_sector).tolist(), strict=True)]
        low, high = _price([self._lower]), _price([self._upper])
        bound = np.where(low > high, today.lower, today.upper)
        price = np.where(today.usable, np.maximum(low, high), 0.0)
        no_view = ~today.viewed & ((bound == 0) | (bound == today.held))
        box = ~no_view & (np.abs(bound) == self._limits.box)
        for name, among in (("box", box), ("participation", ~box & ~no_view), ("no view", no_view)):
            at = np.flatnonzero(among & (price > NOISE))
            dearest = at[np.argsort(-price[at], kind="stable")]
            found.append(Binding(name, float(price[at].sum()), tuple(dearest.tolist())))
        return tuple(binding for binding in found if binding.price > NOISE)


def _label(sector: int, names: Sequence[str]) -> str:
    if sector < 0:
        return "sector unknown"
    return f"sector {names[sector] if sector < len(names) else sector}"


def _within(value: Any, slack: float) -> list[Any]:
    """An equality where there is no slack: a pair of equal bounds has no interior, which the solver needs."""
    return [value <= slack, value >= -slack] if slack else [value == 0]


def _price(constraints: Sequence[Any]) -> Any:
    """Of a limit on one value from one or both sides, of which one binds."""
    return sum(np.abs(np.asarray(constraint.dual_value)) for constraint in constraints) / BASIS_POINTS
