"""What the same portfolios would have earned from the same returns at another time.

Every trial's weights meet the returns of every other start, circularly, at least ``least`` days away. That breaks the
link between signal and return and leaves the rest in place: static tilts, cross-correlation, fat tails, volatility.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

Floats = npt.NDArray[np.float64]
AnyFloats = npt.NDArray[np.float32] | Floats

LEAST = 60  #: days between a signal and the returns that it meets
TIE = 1e-5  #: of a value, within which two are equal: the rounding of float32 decides nothing


@dataclass(frozen=True, slots=True)
class Placebo:
    p: Floats  #: (M,) search-wide; NaN for a trial without a value
    observed_max: float  #: of |mean| over the trials, in the unit of ``null``
    null: Floats  #: (S,) the same at each shift


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The Fourier transform of forward returns along time, for many trials."""

    rows: int
    values: npt.NDArray[np.complex64]


def spectrum(forward: AnyFloats) -> Spectrum:
    """``forward`` (D, N); a missing return (NaN) is none."""
    known = np.nan_to_num(forward, nan=0.0).astype(np.float32)
    return Spectrum(len(known), fft.rfft(known, axis=0))


def shifts(rows: int, least: int = LEAST) -> npt.NDArray[np.int64]:
    """Days by which the returns are later than the signal, circularly: least, ..., rows - least; maybe none."""
    return np.arange(least, max(rows - least + 1, least))


def curve(weights: AnyFloats, forward: AnyFloats | Spectrum, least: int = LEAST) -> Floats:
    """Mean daily return at each of ``shifts``: (D, N) weights of a day and the returns that follow -> (S,).

    Computed by the cross-correlation theorem in float32: exact to about 1e-6 of a day's return.
    """
    later = forward if isinstance(forward, Spectrum) else spectrum(forward)
    known = np.nan_to_num(weights, nan=0.0).astype(np.float32, copy=False)
    product = np.einsum("kn,kn->k", fft.rfft(known, axis=0).conj(), later.values, dtype=np.complex128)
    by_shift = fft.irfft(product, n=later.rows) / later.rows
    chosen: Floats = by_shift[shifts(later.rows, least)].astype(np.float64)
    return chosen


def search_wide(observed: Floats, curves: AnyFloats) -> Placebo:
    """Compare the search with itself at every shift; both sides of every trial count.

    ``observed`` (M,) mean daily returns, ``curves`` (M, S). Each trial is measured in units of its own root mean square
    over all starts, the true one too, so that no start is special. p: share of the starts, the true one too, whose best
    trial is at least as good.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.sqrt((np.square(curves, dtype=np.float64).sum(axis=1) + observed**2) / (curves.shape[1] + 1))
        usable = np.isfinite(scale) & (scale > 0)
    if not usable.any() or curves.shape[1] == 0:
        return Placebo(np.full(len(observed), np.nan), math.nan, np.full(curves.shape[1], np.nan))
    null: Floats = (np.abs(curves[usable]) / scale[usable, None]).max(axis=0).astype(np.float64)
    found = np.abs(observed[usable]) / scale[usable]
    p = np.full(len(observed), np.nan)
    ordered = np.sort(null)
    p[usable] = (1 + len(null) - np.searchsorted(ordered, found * (1 - TIE), side="left")) / (1 + len(null))
    return Placebo(p, float(found.max()), null)
