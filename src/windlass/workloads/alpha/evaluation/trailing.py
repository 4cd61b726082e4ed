"""Trailing statistics per name that skip missing days, in an order of additions that later rows cannot change."""

from __future__ import annotations

import numpy as np

from windlass.workloads.alpha.panel import Bools, Floats


def trailing_mean(x: Floats, window: int, least: int) -> Floats:
    """Of the known values among the last ``window`` rows; NaN where fewer than ``least`` are known."""
    known = np.isfinite(x)
    count = _trailing_sum(known.astype(np.float64), window)
    total = _trailing_sum(np.where(known, x, 0.0), window)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count >= least)


def trailing_risk(returns: Floats, market: Floats, window: int, least: int) -> tuple[Floats, Floats]:
    """Standard deviation (ddof 1) of the known ones among the last ``window`` returns, and their slope on ``market``.

    ``returns`` (T, N), ``market`` (T,) -> two (T, N). Two passes: means first. NaN where fewer than ``least`` days are
    known, the slope also where the market did not move.
    """
    known = np.isfinite(returns) & np.isfinite(market)[:, None]
    x = np.where(known, returns, 0.0)
    m = np.where(known, market[:, None], 0.0)
    count = _trailing_sum(known.astype(np.float64), window)
    enough = count >= max(least, 2)
    n = np.where(enough, count, 1.0)
    x_mean, m_mean = _trailing_sum(x, window) / n, _trailing_sum(m, window) / n
    xx, mm, xm = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for lag in range(min(window, len(x))):
        now, then = slice(lag, None), slice(None, len(x) - lag)
        dx, dm = x[then] - x_mean[now], m[then] - m_mean[now]
        dm *= known[then]
        xm[now] += dx * dm
        dx *= known[then]
        dx *= dx
        xx[now] += dx
        dm *= dm
        mm[now] += dm
    nothing = np.full_like(x, np.nan)
    deviation = np.sqrt(np.divide(xx, n - 1, out=nothing.copy(), where=enough))
    slope = np.divide(xm, mm, out=nothing, where=enough & (mm > 0))
    return deviation, slope


def shifted(x: Floats) -> Floats:
    """What was known one row before; NaN on the first row."""
    later = np.empty_like(x)
    later[0] = np.nan
    later[1:] = x[:-1]
    return later


def carried(x: Floats, known: Bools) -> Floats:
    """``x`` where it is ``known``, else the last known one above it, else NaN."""
    rows = np.maximum.accumulate(np.where(known, np.arange(len(x))[:, None], -1), axis=0)
    values = np.take_along_axis(x, np.maximum(rows, 0), axis=0)
    return np.where(rows >= 0, values, np.nan)


def _trailing_sum(x: Floats, window: int) -> Floats:
    total = x.copy()
    for lag in range(1, min(window, len(x))):
        total[lag:] += x[: len(x) - lag]
    return total
