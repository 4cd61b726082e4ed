"""A panel that looks like a market and holds no signal, or one known signal of a known strength.

Daily returns have two parts, overnight (close to open) and intraday (open to close). Each is a sum of a market factor
times a name's beta, a factor of its sector, and a shock of its own; innovations are Student t, volatilities are
exponentials of first-order autoregressions (log-normal stochastic volatility, Taylor 1986), for the market and for each
name. Every part has mean zero given the past, in simple (not log) returns, and no price is quoted with a spread: the
panel is a martingale, so no function of past prices, volumes, caps or groups predicts a later return. Listings and
ends of names are drawn apart from returns; membership follows past caps.

The planted signal. A hidden, slow characteristic of each name decides whether its prices close near the day's high or
near its low. It shows as ``PLANTED``, the mean close location value of 20 days. With ``s[t]`` that signal, standardised
over names, and ``sd[t]`` the standard deviation over names of the return from open[t+1] to open[t+2], that return gets
``ic * sd[t] * s[t]``, one half of it intraday, the other overnight. As the return without it is independent of
``s[t]``, the daily correlation of ``s[t]`` with the return has the mean ``ic`` (to first order in it); what a sample
shows scatters around that. The signal is persistent, so its information decays slowly over later days, too.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import numpy.typing as npt

from windlass.workloads.alpha.panel import Bools, Floats, Int16s, Panel

PLANTED = "ts_mean((close - low) / (high - low), 20)"
WINDOW = 20  #: days of ``PLANTED``

SECTORS, INDUSTRIES, SUBINDUSTRIES = 11, 2, 2  #: industries a sector, subindustries an industry
MARKET, SECTOR, OWN = 0.008, 0.006, 0.012  #: volatility of a day
OVERNIGHT = 0.3  #: share of a day's variance
TAILS = 5.0  #: degrees of freedom of the innovations
LIMIT = 0.3  #: largest move of a half day
TILT = 0.4  #: how strongly the hidden characteristic moves the close within the day's range
MEMBERS = 0.9  #: share of the listed names that are members, by cap
RECONSTITUTION = 63  #: days between two choices of members


def synthetic_panel(
    names: int = 505, days: int = 1259, seed: int = 0, ic: float = 0.0, start: date = date(2013, 2, 8)
) -> Panel:
    """The panel of a seed, to the bit; with ``ic`` above 0 ``PLANTED`` has that mean daily information coefficient.

    One name in ten is listed late, one in twenty ends early. A few cells are bad, as in real data: nulls, a high below
    the low, zero volumes, missing days, a close that is half of what it was. Fields: open, high, low, close, volume,
    cap (shares outstanding times close); groups: sector, industry, subindustry.
    """
    rng = np.random.default_rng([seed, names, days])
    groups = _groups(names, rng)
    overnight, intraday, volatility = _returns(groups["sector"], days, rng)
    upper, lower = _shadows(volatility, rng)
    if ic > 0:
        s = _standardised_location(intraday, upper, lower)
        forward = (1 + intraday[1:-1]) * (1 + overnight[2:]) - 1
        planted = np.nan_to_num(ic * forward.std(axis=1, keepdims=True) * s[:-2])
        intraday[1:-1] += planted / 2
        overnight[2:] += planted / 2

    close = np.exp(rng.normal(4, 0.6, names)) * np.cumprod((1 + overnight) * (1 + intraday), axis=0)
    opened = close / (1 + intraday)
    shares = np.round(np.exp(rng.normal(22.5, 1.0, names)) / close[0])
    day_move = np.abs((1 + overnight) * (1 + intraday) - 1)
    fields = {
        "open": opened,
        "high": np.maximum(opened, close) * (1 + upper),
        "low": np.minimum(opened, close) * (1 - lower),
        "close": close,
        "volume": np.round(shares * _turnover(day_move, volatility, rng)),
        "cap": shares * close,
    }
    fields = {name: values if name == "volume" else np.round(values, 4) for name, values in fields.items()}
    listed = _listed(days, names, rng)
    member = _members(fields["cap"], listed)
    _spoil(fields, listed, rng)
    for values in fields.values():
        values[~listed] = np.nan
    return Panel(
        dates=np.busday_offset(np.datetime64(start, "D"), np.arange(days), roll="forward"),
        names=tuple(f"S{number:04d}" for number in range(1, names + 1)),
        fields=fields,
        groups=groups,
        group_names=_group_names(groups),
        member=member & listed,
    )


def _groups(names: int, rng: np.random.Generator) -> dict[str, Int16s]:
    subindustry = rng.integers(SECTORS * INDUSTRIES * SUBINDUSTRIES, size=names)
    _, subindustry = np.unique(subindustry, return_inverse=True)  # every group has a name in it
    industry = subindustry // SUBINDUSTRIES
    sector = industry // INDUSTRIES
    found = {"sector": sector, "industry": industry, "subindustry": subindustry}
    return {level: codes.astype(np.int16) for level, codes in found.items()}


def _group_names(groups: dict[str, Int16s]) -> dict[str, tuple[str, ...]]:
    return {
        level: tuple(f"{level} {number:02d}" for number in range(1, int(codes.max()) + 2))
        for level, codes in groups.items()
    }


def _returns(sector: Int16s, days: int, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Overnight and intraday returns and the day's volatility, (T, N) each."""
    names = len(sector)
    weather = np.exp(_autoregression(0.98, 0.35, (days, 1), rng))  # volatility of the whole market
    own = OWN * np.exp(rng.normal(0, 0.3, names)) * np.sqrt(weather)
    own = own * np.exp(_autoregression(0.95, 0.35, (days, names), rng))
    beta = rng.normal(1, 0.3, names)
    parts = []
    for share in (OVERNIGHT, 1 - OVERNIGHT):
        market = MARKET * weather * _innovations((days, 1), rng)
        of_sectors = SECTOR * weather * _innovations((days, SECTORS), rng)
        move = beta * market + of_sectors[:, sector] + own * _innovations((days, names), rng)
        parts.append(np.clip(np.sqrt(share) * move, -LIMIT, LIMIT))  # clipped evenly: the mean stays 0
    volatility = np.sqrt((beta * MARKET * weather) ** 2 + (SECTOR * weather) ** 2 + own**2)
    return parts[0], parts[1], volatility


def _innovations(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Student t, scaled to variance 1."""
    drawn: Floats = rng.standard_t(TAILS, shape) * np.sqrt((TAILS - 2) / TAILS)
    return drawn


def _autoregression(memory: float, deviation: float, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """A stationary Gaussian AR(1) down the rows with that standard deviation, from its stationary law on."""
    found = deviation * rng.standard_normal(shape)
    for row in range(1, len(found)):
        found[row] = memory * found[row - 1] + np.sqrt(1 - memory**2) * found[row]
    return found


def _shadows(volatility: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """How far the high lies above open and close, and the low below, as shares; moved by the hidden characteristic."""
    hidden = _autoregression(0.97, 1.0, volatility.shape, rng)
    up, down = (0.5 * volatility * np.abs(rng.standard_normal(volatility.shape)) for _ in range(2))
    return np.minimum(up * np.exp(-TILT * hidden), LIMIT), np.minimum(down * np.exp(TILT * hidden), LIMIT)


def _standardised_location(intraday: Floats, upper: Floats, lower: Floats) -> Floats:
    """``PLANTED`` as it is before anything is planted, standardised over names; NaN in its first rows."""
    close = 1 + intraday
    high, low = np.maximum(1, close) * (1 + upper), np.minimum(1, close) * (1 - lower)
    total = np.cumsum((close - low) / (high - low), axis=0)
    found = np.full(intraday.shape, np.nan)
    found[WINDOW - 1] = total[WINDOW - 1]
    found[WINDOW:] = total[WINDOW:] - total[:-WINDOW]
    standardised: Floats = (found - found.mean(axis=1, keepdims=True)) / found.std(axis=1, keepdims=True)
    return standardised


def _turnover(day_move: Floats, volatility: Floats, rng: np.random.Generator) -> Floats:
    """Shares traded of shares outstanding, (T, N): more on days of large moves, and persistent."""
    surprise = np.minimum(day_move / volatility, 6)
    mood = _autoregression(0.9, 0.25, day_move.shape, rng) + 0.15 * rng.standard_normal(day_move.shape)
    level = np.log(0.006) + rng.normal(0, 0.4, day_move.shape[1])
    turnover: Floats = np.exp(level + mood + 0.25 * surprise)
    return turnover


def _listed(days: int, names: int, rng: np.random.Generator) -> Bools:
    """(T, N): one name in ten comes late, another one in twenty ends early; a few days are missing."""
    order = rng.permutation(names)
    late, early = order[: names // 10], order[names // 10 : names // 10 + -(-names // 20)]
    day = np.arange(days)[:, None]
    first, last = np.zeros(names, dtype=int), np.full(names, days - 1)
    first[late] = rng.integers(days // 20, days * 4 // 5, len(late))
    last[early] = rng.integers(days // 5, days - 1, len(early))
    listed = (day >= first) & (day <= last)
    listed[_cells(listed, 1e-4, rng)] = False
    return listed


def _members(cap: Floats, listed: Bools) -> Bools:
    """(T, N): the largest names by cap on the last day of choice, for as long as they are listed."""
    member = np.zeros(listed.shape, dtype=bool)
    for row in range(0, len(listed), RECONSTITUTION):
        caps = np.where(listed[row], cap[row], -np.inf)
        largest = np.argsort(-caps, kind="stable")[: int(MEMBERS * listed[row].sum())]
        member[row : row + RECONSTITUTION, largest] = True
    return member


def _spoil(fields: dict[str, Floats], listed: Bools, rng: np.random.Generator) -> None:
    """Bad cells, in place; opens stay right where they are known, so that no return at the open is an artefact."""
    for name in ("open", "high", "low"):
        fields[name][_cells(listed, 2e-5, rng)] = np.nan
    crossed = _cells(listed, 2e-5, rng)
    fields["high"][crossed] = np.round(0.99 * fields["low"][crossed], 4)
    fields["volume"][_cells(listed, 1e-5, rng)] = 0.0
    halved = _cells(listed, 2e-6, rng)
    fields["close"][halved] = np.round(fields["close"][halved] / 2, 4)


def _cells(listed: Bools, share: float, rng: np.random.Generator) -> tuple[npt.NDArray[np.intp], ...]:
    """Random listed cells, at least one."""
    known = np.flatnonzero(listed)
    return np.unravel_index(rng.choice(known, max(1, round(share * len(known))), replace=False), listed.shape)
