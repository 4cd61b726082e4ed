"""The closed form: no solver, and less held than by the convex problem."""

from __future__ import annotations

import numpy as np

from windlass.workloads.alpha.optimizer.day import Day, Floats, Limits


def ridge(today: Day, limits: Limits, sectors: Floats) -> Floats:
    """Weights (N,). Held exactly: gross, box, turnover, participation. Held only before clipping: dollar, sector, beta.

    The maximum of ``expected'w - risk_aversion/2 w'(F F' + diag(specific^2)) w`` with zero dollar, sector and beta
    exposure (slack is not used, cost is not charged), over the names with a view:

        w = (V^-1 a - V^-1 C' (C V^-1 C')^+ C V^-1 a) / risk_aversion,  V^-1 by the Woodbury identity,

    scaled down to the gross limit and clipped to the box. The trade towards it is scaled down to the turnover limit and
    clipped to participation. Clipping leaves exposures, which the log has.
    """
    goal = np.zeros(today.held.size)
    among = np.flatnonzero(today.viewed)
    within = sectors[:, among]
    constraints = np.vstack([within[within.any(axis=1)], today.beta[None, among]])  # the sectors' sum is the dollar sum
    factors, variance = today.loadings[among], today.specific[among] ** 2
    inner = np.eye(factors.shape[1]) + factors.T @ (factors / variance[:, None])

    def inverse_times(right: Floats) -> Floats:
        scaled = right / variance[:, None]
        return scaled - (factors / variance[:, None]) @ np.linalg.solve(inner, factors.T @ scaled)

    free = inverse_times(today.expected[among, None])
    towards = inverse_times(constraints.T.copy())
    multipliers = np.linalg.lstsq(constraints @ towards, constraints @ free, rcond=1e-10)[0]
    goal[among] = ((free - towards @ multipliers) / limits.risk_aversion)[:, 0]
    goal *= min(1.0, limits.gross / max(float(np.abs(goal).sum()), 1e-300))
    goal = np.clip(goal, -limits.box, limits.box)

    trade = goal - today.held
    trade *= min(1.0, today.turnover / max(float(np.abs(trade).sum()), 1e-300))
    trade = np.clip(trade, today.lower - today.held, today.upper - today.held)
    # a trade towards 0 is made; what it goes beyond, or adds, has what is left of the gross limit
    away = np.sign(trade) != np.sign(today.held)
    reducing = np.where(away, np.sign(trade) * np.minimum(np.abs(trade), np.abs(today.held)), 0.0)
    adding = trade - reducing
    room = limits.gross - float(np.abs(today.held + reducing).sum())
    adding *= min(1.0, max(0.0, room) / max(float(np.abs(adding).sum()), 1e-300))
    return today.settled(today.held + reducing + adding)
