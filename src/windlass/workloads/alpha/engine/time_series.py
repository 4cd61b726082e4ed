"""Operators along time, from the kernels of either backend. ``x`` is (rows, names); a window ends with its row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from windlass.workloads.alpha.engine.kernels import Floats, Kernels
from windlass.workloads.alpha.engine.rank import without_noise
from windlass.workloads.alpha.language.operators import SPAN_REACH

GRID = 2.0**40  #: a correlation is a multiple of its inverse: windows that are equal on paper then tie


def delay(kernels: Kernels, x: Floats, days: int) -> Floats:
    out = np.full_like(x, np.nan)
    out[days:] = x[:-days]
    return out


def delta(kernels: Kernels, x: Floats, days: int) -> Floats:
    out = np.full_like(x, np.nan)
    np.subtract(x[days:], x[:-days], out=out[days:])
    return out


def ts_sum(kernels: Kernels, x: Floats, days: int) -> Floats:
    return kernels.weighted_sum(x, np.ones(days))


def ts_mean(kernels: Kernels, x: Floats, days: int) -> Floats:
    total = kernels.weighted_sum(x, np.ones(days))
    total /= days
    return total


def decay_linear(kernels: Kernels, x: Floats, days: int) -> Floats:
    total = kernels.weighted_sum(x, np.arange(1.0, days + 1))
    total /= days * (days + 1) / 2
    return total


def ewm(kernels: Kernels, x: Floats, span: int) -> Floats:
    weights = (1 - 2 / (span + 1)) ** np.arange(SPAN_REACH * span, -1, -1.0)
    return kernels.weighted_sum(x, weights / weights.sum())


def ts_product(kernels: Kernels, x: Floats, days: int) -> Floats:
    return kernels.window_product(x, days)


def ts_std(kernels: Kernels, x: Floats, days: int) -> Floats:
    return kernels.deviation(x, days)[1]


def ts_zscore(kernels: Kernels, x: Floats, days: int) -> Floats:
    last, deviations = kernels.deviation(x, days)
    return np.divide(last, np.where(np.isinf(deviations) | (deviations == 0), np.nan, deviations), out=last)


def ts_max(kernels: Kernels, x: Floats, days: int) -> Floats:
    return kernels.window_max(x, days)


def ts_min(kernels: Kernels, x: Floats, days: int) -> Floats:
    return 0.0 - kernels.window_max(-x, days)


def ts_argmax(kernels: Kernels, x: Floats, days: int) -> Floats:
    return kernels.window_argmax(without_noise(x), days)


def ts_argmin(kernels: Kernels, x: Floats, days: int) -> Floats:
    return kernels.window_argmax(-without_noise(x), days)


def ts_rank(kernels: Kernels, x: Floats, days: int) -> Floats:
    return kernels.window_rank(without_noise(x), days)


def ts_corr(kernels: Kernels, x: Floats, y: Floats, days: int) -> Floats:
    products, norms = kernels.covariation(x, y, days)
    products /= norms
    products *= GRID
    np.rint(products, out=products)
    products /= GRID
    return np.clip(products, -1.0, 1.0, out=products)


def ts_cov(kernels: Kernels, x: Floats, y: Floats, days: int) -> Floats:
    products, _ = kernels.covariation(x, y, days)
    products /= days - 1
    return products


TIME_SERIES: dict[str, Callable[..., Floats]] = {
    one.__name__: one
    for one in (
        *(delay, delta, ts_sum, ts_mean, ts_std, ts_min, ts_max, ts_argmin, ts_argmax, ts_rank, ts_zscore),
        *(ts_corr, ts_cov, decay_linear, ewm, ts_product),
    )
}
