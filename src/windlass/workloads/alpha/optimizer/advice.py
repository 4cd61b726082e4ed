"""What makes an infeasible rebalance feasible: elastic linear programs, one limit loosened at a time, then all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from windlass.workloads.alpha.optimizer.day import Day, Floats, Limits

SCALE = {"turnover": 0.1, "participation": 0.05, "box": 0.01, "gross": 0.5, "sector": 0.01, "beta": 0.01}
LEAST = 1e-7  #: a loosening below this is none


@dataclass(frozen=True, slots=True)
class Advice:
    """``alone``: for each limit that suffices by itself, its least feasible value.

    ``together``: where none does, values that suffice jointly, with the least sum of loosenings in units of ``SCALE``.
    """

    alone: dict[str, float]
    together: dict[str, float]

    @property
    def feasible(self) -> bool:
        """Whether nothing has to be loosened."""
        return not (self.alone or self.together)

    def words(self, limits: Limits) -> str:
        def change(name: str, value: float) -> str:
            return f"{name} {getattr(limits, name):g} -> {value:.4g}"

        if self.alone:
            others = ", ".join(name for name in SCALE if name not in self.alone)
            one = "; or ".join(change(name, value) for name, value in self.alone.items())
            return f"feasible with {one}" + (f" (loosening only one of {others} does not help)" if others else "")
        if self.together:
            return "no single limit helps; feasible with " + ", ".join(change(n, v) for n, v in self.together.items())
        return "feasible, but the solver found nothing within its tolerance"


def advise(today: Day, limits: Limits, sectors: Floats) -> Advice:
    """Dollar neutrality and what names without a view or a market may do are never loosened."""
    program = _Program(today, limits, sectors)
    alone = {}
    for name in SCALE:
        if (loosened := program.least({name})) is not None and loosened[name] > LEAST:
            alone[name] = getattr(limits, name) + loosened[name]
    if alone:
        return Advice(alone, {})
    joint = program.least(set(SCALE)) or {}
    return Advice({}, {name: getattr(limits, name) + by for name, by in joint.items() if by > LEAST})


class _Program:
    """Columns: weights, absolute trades, absolute weights, one loosening a limit."""

    def __init__(self, today: Day, limits: Limits, sectors: Floats) -> None:
        at = np.flatnonzero(today.usable)
        count = at.size
        held, cap, beta = today.held[at], today.cap[at], today.beta[at][None, :]
        nothing, one, all_ = sp.csr_array((count, count)), sp.eye_array(count), np.ones((1, count))
        within = sectors[:, at]

        def rows(weights: Any, trades: Any, sizes: Any, loosening: str | None, by: Any) -> Any:
            height = weights.shape[0]
            extra = sp.lil_array((height, len(SCALE)))
            if loosening is not None:
                extra[:, [list(SCALE).index(loosening)]] = -np.broadcast_to(np.reshape(by, (-1, 1)), (height, 1))
            return sp.hstack([weights, trades, sizes, extra], format="csr")

        none = sp.csr_array((1, count))
        empty = sp.csr_array(within.shape)
        turnover = min(today.turnover, limits.gross + float(np.abs(held).sum()) + 1.0)
        blocks = [
            (rows(one, -one, nothing, None, 0), held),
            (rows(-one, -one, nothing, None, 0), -held),
            (rows(one, nothing, -one, None, 0), np.zeros(count)),
            (rows(-one, nothing, -one, None, 0), np.zeros(count)),
            (rows(nothing, one, nothing, "participation", cap / limits.participation), cap),
            (rows(nothing, nothing, one, "box", 1.0), np.full(count, limits.box)),
            (rows(none, all_, none, "turnover", 1.0), [turnover]),
            (rows(none, none, all_, "gross", 1.0), [limits.gross]),
            (rows(within, empty, empty, "sector", 1.0), np.full(len(within), limits.sector)),
            (rows(-within, empty, empty, "sector", 1.0), np.full(len(within), limits.sector)),
            (rows(beta, none, none, "beta", 1.0), [limits.beta]),
            (rows(-beta, none, none, "beta", 1.0), [limits.beta]),
        ]
        self._left = sp.vstack([block for block, _ in blocks], format="csr")
        self._right = np.concatenate([np.asarray(right, dtype=np.float64) for _, right in blocks])
        self._dollar = rows(all_, none, none, None, 0)
        reduce_only = ~today.viewed[at]
        self._low = np.where(reduce_only, np.minimum(held, 0.0), -np.inf)
        self._high = np.where(reduce_only, np.maximum(held, 0.0), np.inf)
        self._count = count

    def least(self, names: set[str]) -> dict[str, float] | None:
        """The least loosening of these limits, the others held; None where that is not enough."""
        free = [(0.0, np.inf if name in names else 0.0) for name in SCALE]
        found = linprog(
            np.concatenate([np.zeros(3 * self._count), 1.0 / np.array(list(SCALE.values()))]),
            A_ub=self._left,
            b_ub=self._right,
            A_eq=self._dollar,
            b_eq=[0.0],
            bounds=[*zip(self._low, self._high, strict=True), *[(0.0, np.inf)] * (2 * self._count), *free],
            method="highs",
        )
        return dict(zip(SCALE, found.x[-len(SCALE) :].tolist(), strict=True)) if found.status == 0 else None
