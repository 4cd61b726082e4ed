"""The loops of the engine, compiled. ``kernels_numpy`` holds the same functions and gives the same bits.

Equal bits need the same additions in the same order: a window is summed from its oldest row to its newest, and
nothing here may be reordered (no ``fastmath``) or use a logarithm or a power. Imported on demand: needs numba.
The inner loops run along the names, which lie side by side in memory.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types

_ARRAY = types.Array(types.float64, 2, "C", readonly=True)
_MASK = types.Array(types.boolean, 2, "C", readonly=True)
_WEIGHTS = types.Array(types.float64, 1, "C", readonly=True)
_CODES = types.Array(types.int16, 1, "C", readonly=True)
_OUT = types.float64[:, ::1]
_TWO = types.Tuple((_OUT, _OUT))  # type: ignore[no-untyped-call]
_KEYS = types.int64[:, ::1]
_INT = types.int64

_LARGEST = np.iinfo(np.int64).max
_HIGHEST = np.finfo(np.float64).max


def _compiled(signature: Any) -> Any:
    return numba.njit(signature, cache=True, nogil=True, error_model="numpy")


@_compiled(_OUT(_ARRAY, _WEIGHTS))
def weighted_sum(x, weights):  # type: ignore[no-untyped-def]
    rows, columns = x.shape
    days = len(weights)
    out = np.full((rows, columns), np.nan)
    for t in range(days - 1, rows):
        for n in range(columns):
            out[t, n] = 0.0
        for k in range(days):
            weight = weights[k]
            for n in range(columns):
                out[t, n] += weight * x[t - days + 1 + k, n]
    return out


@_compiled(_OUT(_ARRAY, _INT))
def window_product(x, days):  # type: ignore[no-untyped-def]
    rows, columns = x.shape
    out = np.full((rows, columns), np.nan)
    for t in range(days - 1, rows):
        for n in range(columns):
            out[t, n] = 1.0
        for k in range(days):
            for n in range(columns):
                out[t, n] *= x[t - days + 1 + k, n]
    return out


@_compiled(_OUT(_ARRAY, _INT))
def window_max(x, days):  # type: ignore[no-untyped-def]
    rows, columns = x.shape
    out = np.full((rows, columns), np.nan)
    for t in range(days - 1, rows):
        for n in range(columns):
            out[t, n] = x[t - days + 1, n]
        for k in range(1, days):
            for n in range(columns):
                value = x[t - days + 1 + k, n]
                best = out[t, n]
                out[t, n] = value if value > best or value != value else best
        for n in range(columns):
            out[t, n] += 0.0  # no negative zero
    return out


@_compiled(_OUT(_ARRAY, _INT))
def window_argmax(x, days):  # type: ignore[no-untyped-def]
    rows, columns = x.shape
    out = np.full((rows, columns), np.nan)
    best = np.empty(columns)
    for t in range(days - 1, rows):
        for n in range(columns):
            best[n] = x[t - days + 1, n]
            out[t, n] = 1.0
        for k in range(1, days):
            for n in range(columns):
                value = x[t - days + 1 + k, n]
                higher = value > best[n] or value != value
                best[n] = value if higher else best[n]
                out[t, n] = k + 1.0 if higher else out[t, n]
        for n in range(columns):
            out[t, n] = out[t, n] if best[n] == best[n] else np.nan
    return out


@_compiled(_OUT(_ARRAY, _INT))
def window_rank(x, days):  # type: ignore[no-untyped-def]
    rows, columns = x.shape
    out = np.full((rows, columns), np.nan)
    for t in range(days - 1, rows):
        for n in range(columns):
            out[t, n] = 0.5
        for k in range(days):
            for n in range(columns):
                value, today = x[t - days + 1 + k, n], x[t, n]
                below = 1.0 if value < today else 0.0
                equal = 0.5 if value == today else 0.0
                out[t, n] += (below + equal) if value == value else np.nan
        for n in range(columns):
            out[t, n] = out[t, n] / days if x[t, n] == x[t, n] else np.nan
    return out


@_compiled(_TWO(_ARRAY, _INT))
def deviation(x, days):  # type: ignore[no-untyped-def]
    rows, columns = x.shape
    last = np.full((rows, columns), np.nan)
    deviations = np.full((rows, columns), np.nan)
    mean = np.empty(columns)
    squares = np.empty(columns)
    for t in range(days - 1, rows):
        start = t - days + 1
        for n in range(columns):
            mean[n] = 0.0
            squares[n] = 0.0
        for k in range(days):
            for n in range(columns):
                mean[n] += x[start + k, n] - x[start, n]
        for n in range(columns):
            mean[n] = mean[n] / days
        for k in range(days):
            for n in range(columns):
                apart = (x[start + k, n] - x[start, n]) - mean[n]
                squares[n] += apart * apart
        for n in range(columns):
            last[t, n] = (x[t, n] - x[start, n]) - mean[n]
            deviations[t, n] = np.sqrt(squares[n] / (days - 1.0))
    return last, deviations


@_compiled(_TWO(_ARRAY, _ARRAY, _INT))
def covariation(x, y, days):  # type: ignore[no-untyped-def]
    rows, columns = x.shape
    products = np.full((rows, columns), np.nan)
    norms = np.full((rows, columns), np.nan)
    mean_x, mean_y = np.empty(columns), np.empty(columns)
    xx, yy, xy = np.empty(columns), np.empty(columns), np.empty(columns)
    for t in range(days - 1, rows):
        start = t - days + 1
        for n in range(columns):
            mean_x[n] = 0.0
            mean_y[n] = 0.0
            xx[n] = 0.0
            yy[n] = 0.0
            xy[n] = 0.0
        for k in range(days):
            for n in range(columns):
                mean_x[n] += x[start + k, n] - x[start, n]
                mean_y[n] += y[start + k, n] - y[start, n]
        for n in range(columns):
            mean_x[n] = mean_x[n] / days
            mean_y[n] = mean_y[n] / days
        for k in range(days):
            for n in range(columns):
                a = (x[start + k, n] - x[start, n]) - mean_x[n]
                b = (y[start + k, n] - y[start, n]) - mean_y[n]
                xx[n] += a * a
                yy[n] += b * b
                xy[n] += a * b
        for n in range(columns):
            norm = np.sqrt(xx[n]) * np.sqrt(yy[n])
            known = norm > 0.0 and norm <= _HIGHEST
            norms[t, n] = norm if known else np.nan
            products[t, n] = xy[n] if known else np.nan
    return products, norms


@_compiled(types.void(_ARRAY, _MASK, _KEYS))
def pack(x, member, keys):  # type: ignore[no-untyped-def]
    rows, columns = x.shape
    bits = x.view(np.int64)
    for t in range(rows):
        for n in range(columns):
            value = x[t, n]
            bit = 0 if value == 0.0 else bits[t, n]
            key = bit ^ ((bit >> 63) & _LARGEST)
            key = key + 0x8000 if member[t, n] and value == value else _LARGEST
            keys[t, n] = (key & ~0xFFFF) | n


@_compiled(types.void(_KEYS, _OUT))
def unpack(keys, out):  # type: ignore[no-untyped-def]
    rows, columns = keys.shape
    for t in range(rows):
        count = columns
        while count > 0 and keys[t, count - 1] >> 16 == _LARGEST >> 16:
            count -= 1
            out[t, keys[t, count] & 0xFFFF] = np.nan
        start = 0
        while start < count:
            end = start + 1
            while end < count and keys[t, end] >> 16 == keys[t, start] >> 16:
                end += 1
            value = (start + 1 + end) * 0.5 / count
            for n in range(start, end):
                out[t, keys[t, n] & 0xFFFF] = value
            start = end


@_compiled(_OUT(_ARRAY, _CODES, _INT))
def group_demean(x, codes, groups):  # type: ignore[no-untyped-def]
    rows, columns = x.shape
    out = np.full((rows, columns), np.nan)
    total, count = np.empty(groups), np.empty(groups)
    low, high = np.empty(groups), np.empty(groups)
    for t in range(rows):
        total[:] = 0.0
        count[:] = 0.0
        low[:] = np.inf
        high[:] = -np.inf
        for n in range(columns):
            value, code = x[t, n], codes[n]
            if code >= 0 and value == value:
                total[code] += value
                count[code] += 1.0
                low[code] = min(low[code], value)
                high[code] = max(high[code], value)
        for code in range(groups):
            mean = total[code] / count[code]
            mean = mean if np.isfinite(mean) else np.nan
            total[code] = high[code] if mean > high[code] else low[code] if mean < low[code] else mean
        for n in range(columns):
            if codes[n] >= 0:
                out[t, n] = x[t, n] - total[codes[n]]
    return out
