"""A target's values on a scale that a Gaussian process likes, and the way back.

Losses of trainings have long tails on the bad side that say little about where the best is. ``Warp`` takes values y
(less is better) to z in three steps, each smooth, increasing and exactly invertible:

1. u = (y - centre) / width, with the median and the spread between median and lower values;
2. the bad side above ``knee`` is drawn in logarithmically: u' = knee + log(1 + u - knee);
3. Yeo & Johnson (2000) with one of ``POWERS``; then zero mean and unit variance.

The power is chosen by the evidence of the model that is fitted afterwards (Snelson, Rasmussen & Ghahramani 2004), not
by how normal the values look: noise that is the same everywhere speaks for a power of 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from windlass.worldmodel.cube import Array

LARGEST = 1e290  #: sums of a few of these are still finite
KNEE = 3.0  #: of u; beyond it the bad side is logarithmic
POWERS = (1.0, 0.5, 0.0)  #: of Yeo and Johnson; 1 leaves values as they are


@dataclass(frozen=True, slots=True)
class Warp:
    """``z = warp(y)``, ``y = warp.back(z)``; monotonically increasing. ``tamed`` or plainly standardised."""

    centre: float
    width: float
    power: float
    mean: float
    sd: float
    tamed: bool

    @classmethod
    def of(cls, y: Array, power: float | None = None) -> Self:
        """Fitted to finite values y (n,), n >= 1; without a power only centre and spread are taken out."""
        centre = float(np.median(y))
        low, high = np.quantile(y, [0.25, 0.75])
        width = float(high - low) or float(np.ptp(y))
        if not width > 1e-12 * max(1e-300, abs(centre)):
            return cls(centre, max(1e-9, 1e-6 * abs(centre)), 1.0, 0.0, 1.0, False)
        u = (y - centre) / width
        if power is not None:
            u = _yeo_johnson(_draw_in(u), power)
        return cls(
            centre, width, 1.0 if power is None else power, float(u.mean()), float(u.std()) or 1.0, power is not None
        )

    def __call__(self, y: Array) -> Array:
        u = (np.asarray(y, dtype=np.float64) - self.centre) / self.width
        if self.tamed:
            u = _yeo_johnson(_draw_in(u), self.power)
        return np.asarray((u - self.mean) / self.sd)

    def back(self, z: Array) -> Array:
        v = np.asarray(z, dtype=np.float64) * self.sd + self.mean
        if self.tamed:
            v = _let_out(_inverse_yeo_johnson(v, self.power))
        largest = LARGEST / max(1.0, self.width)
        return np.asarray(np.clip(v, -largest, largest) * self.width + self.centre)

    def slope(self, y: Array) -> Array:
        """dz/dy at y (n,), by central differences: takes a small spread of y to one of z."""
        step = 1e-4 * self.width * np.maximum(1.0, np.abs(np.asarray(y) - self.centre) / self.width)
        return np.asarray((self(y + step) - self(y - step)) / (2 * step))

    def log_slope(self, y: Array) -> float:
        """Sum of log dz/dy at y (n,), in units of ``width``: the Jacobian of the evidence."""
        return float(np.log(np.maximum(self.slope(y) * self.width, 1e-300)).sum())

    def variance(self, y: Array, sd: Array) -> Array:
        """Of z where y (n,) has a known spread ``sd`` (n,)."""
        if not sd.any():
            return np.zeros(len(y))
        return np.minimum((sd * self.slope(y)) ** 2, 1e4)


def _draw_in(u: Array) -> Array:
    return np.where(u > KNEE, KNEE + np.log1p(np.maximum(u - KNEE, 0.0)), u)


def _let_out(u: Array) -> Array:
    return np.where(u > KNEE, KNEE + np.expm1(np.clip(u - KNEE, 0.0, 600.0)), u)


def _yeo_johnson(u: Array, power: float) -> Array:
    if power == 1.0:
        return u
    up, down = np.maximum(u, 0.0), np.maximum(-u, 0.0)
    above = np.log1p(up) if abs(power) < 1e-9 else np.expm1(power * np.log1p(up)) / power
    other = 2.0 - power  # at least 1
    below = -np.expm1(other * np.log1p(down)) / other
    return np.where(u >= 0, above, below)


def _inverse_yeo_johnson(v: Array, power: float) -> Array:
    if power == 1.0:
        return v
    up, down = np.maximum(v, 0.0), np.maximum(-v, 0.0)
    if abs(power) < 1e-9:
        above = np.expm1(np.minimum(up, 600.0))
    elif power > 0:
        above = np.expm1(np.log1p(power * up) / power)
    else:  # the image ends at -1 / power
        above = np.expm1(np.minimum(np.log1p(np.maximum(power * up, -1 + 1e-12)) / power, 600.0))
    other = 2.0 - power
    below = -np.expm1(np.log1p(other * down) / other)
    return np.where(v >= 0, above, below)
