"""A constrained portfolio over time: one decision at each rebalance, held in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from windlass.workloads.alpha.optimizer.advice import advise
from windlass.workloads.alpha.optimizer.day import RISK_ROWS, Bools, Day, Floats, Ints, Limits, day
from windlass.workloads.alpha.optimizer.problem import Binding, Convex, sector_matrix
from windlass.workloads.alpha.optimizer.ridge import ridge

SHOWN = 5  #: names of a per-name constraint that the log gives


@dataclass(frozen=True, slots=True, eq=False)
class Optimized:
    weights: Floats  #: (T, N): held from the fill that follows row t on
    log: list[dict[str, Any]]  #: a row for each rebalance; see :func:`optimized`


def optimized(
    signal: Floats,
    *,
    beta: Floats,
    volatility: Floats,
    adv: Floats,
    returns: Floats,
    groups: Ints,
    tradable: Bools,
    settings: Limits,
    names: Sequence[str] = (),
    group_names: Sequence[str] = (),
) -> Optimized:
    """The portfolio that follows ``signal``; row t uses rows up to t alone: a shorter input gives the same rows.

    All are (T, N) but ``groups`` (N,), a sector's number or -1 (unknown ones are a sector of their own): ``signal``,
    NaN for no view; ``volatility``, of a day; ``adv``, traded value of a day; ``returns`` from close to close, for the
    risk model; ``tradable``, what may be held. ``names`` and ``group_names`` are for the log.

    Rebalances are at the rows 0, every, 2 every, ... A name that is not tradable then, or has no beta, volatility or
    traded value, is closed, outside of the turnover and participation limits (``forced``); one without a signal may
    only be reduced. From flat (``from_flat``) the turnover limit does not hold: a book is opened at once, within
    participation. Where the status is not ``solved`` nothing is traded, closings included.

    The log's columns: ``row``; ``status``: solved, ``no signal`` (fewer than two different values), ``no names`` (fewer
    than two), ``infeasible``, ``unsolved`` (feasible, but no solution within 1e-6); ``method``; ``from_flat``;
    ``usable``, ``viewed`` and ``held`` names; ``objective`` (closings left out), ``expected``, ``cost`` and ``risk``
    (standard deviation), all returns until the next rebalance; ``gross``; ``turnover`` (absolute trades) and
    ``forced``; exposures after the trade: ``dollar``, ``sector`` (the largest absolute one), ``beta``; ``binding``:
    text; ``prices``: {constraint: what the objective gains for a unit that the limit is loosened by}; ``advice``: text.
    The ridge method has no prices.

    Raises ValueError where shapes differ; MissingExtra where the method is convex and cvxpy or clarabel is missing.
    """
    if signal.ndim != 2:
        raise ValueError(f"signal has shape {signal.shape}; it is (rows, names)")
    given = {"beta": beta, "volatility": volatility, "adv": adv, "returns": returns, "tradable": tradable}
    for name, array in given.items():
        if array.shape != signal.shape:
            raise ValueError(f"{name} has shape {array.shape}; that of signal is {signal.shape}")
    if groups.shape != signal.shape[1:]:
        raise ValueError(f"groups has shape {groups.shape}; signal has {signal.shape[1]} names")
    sectors = sector_matrix(groups)[1]
    problem = Convex(groups, settings, group_names) if settings.method == "convex" and signal.shape[1] else None
    weights = np.zeros(signal.shape)
    held = np.zeros(signal.shape[1])
    log: list[dict[str, Any]] = []
    with threadpool_limits(
        1
    ):  # the same bits whatever the machine's cores, and no threads that wait for small matrices
        for row in range(signal.shape[0]):
            if row % settings.every == 0:
                today = day(
                    signal[row],
                    held,
                    beta=beta[row],
                    volatility=volatility[row],
                    adv=adv[row],
                    returns=returns[max(0, row + 1 - RISK_ROWS) : row + 1],
                    tradable=tradable[row],
                    limits=settings,
                )
                before, (status, held, binding, advice) = held, _decision(today, held, settings, sectors, problem)
                entry = {"row": row, "status": status, "method": settings.method, "from_flat": not np.any(before)}
                entry |= _account(today, held, settings, sectors, traded=status == "solved")
                entry["binding"] = "; ".join(_words(b, names) for b in binding)
                entry["prices"] = {b.constraint: b.price for b in binding}
                log.append(entry | {"advice": advice})
            weights[row] = held
    return Optimized(weights, log)


def _decision(
    today: Day, held: Floats, limits: Limits, sectors: Floats, problem: Convex | None
) -> tuple[str, Floats, tuple[Binding, ...], str]:
    """Status, weights, binding constraints, advice."""
    if today.usable.sum() < 2:
        return "no names", held, (), "fewer than two names are tradable with a known beta, volatility and traded value"
    if np.unique(today.expected[today.viewed]).size < 2:
        return "no signal", held, (), ""
    advice = _reach(today, limits)
    if problem is None:
        return "solved", ridge(today, limits, sectors), (), advice
    if (solution := problem.solve(today)) is not None:
        return "solved", solution.weights, solution.binding, advice
    found = advise(today, limits, sectors)
    return "unsolved" if found.feasible else "infeasible", held, (), found.words(limits)


def _reach(today: Day, limits: Limits) -> str:
    count = int(today.viewed.sum())
    if count * limits.box >= limits.gross:
        return ""
    return (
        f"{count} names in boxes of {limits.box:g} reach a gross of {count * limits.box:.4g} at most, "
        f"not {limits.gross:g}; box {limits.gross / count:.4g} would"
    )


def _account(today: Day, weights: Floats, limits: Limits, sectors: Floats, *, traded: bool) -> dict[str, Any]:
    trades = today.trades(weights) if traded else 0.0
    forced = today.forced if traded else 0.0
    return {
        "usable": int(today.usable.sum()),
        "viewed": int(today.viewed.sum()),
        "held": int(np.count_nonzero(weights)),
        "objective": today.objective(weights, limits) if traded else None,
        "expected": float(today.expected @ weights),
        "cost": limits.cost * (trades + forced),
        "risk": float(np.sqrt(today.risk(weights))),
        "gross": float(np.abs(weights).sum()),
        "turnover": trades,
        "forced": forced,
        "dollar": float(weights.sum()),
        "sector": float(np.abs(sectors @ weights).max()) if weights.size else 0.0,
        "beta": float(today.beta @ weights),
    }


def _words(binding: Binding, names: Sequence[str]) -> str:
    text = f"{binding.constraint} {binding.price:.3g}"
    if not binding.names:
        return text
    shown = ", ".join(names[n] if names else str(n) for n in binding.names[:SHOWN])
    more = len(binding.names) - SHOWN
    return f"{text} ({len(binding.names)} names: {shown}{f' and {more} more' if more > 0 else ''})"
