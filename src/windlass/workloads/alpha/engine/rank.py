"""Ranks across names with one sort of integers.

A float64 becomes an integer of the same order, rounded to its 48 highest bits, and the column takes the low 16: one
row-wise sort of int64, which the processor does in vectors, then gives order, ties and places. So values that agree
in about eleven digits (a relative distance of 2**-37) tie: what differs by the rounding of a sum alone has one rank.
"""

from __future__ import annotations

import numpy as np

from windlass.workloads.alpha.engine.kernels import Bools, Floats, Kernels

MOST_NAMES = 1 << 16
BLOCK = 64  #: rows at a time, to stay in the processor's cache


def without_noise(x: Floats) -> Floats:
    """``x`` as ranks see it: rounded to 37 of its 53 bits, half away from zero."""
    bits = x.view(np.int64) + 0x8000
    bits &= ~0xFFFF
    rounded = bits.view(np.float64)
    rounded[np.isnan(x)] = np.nan
    return rounded


def rank(x: Floats, member: Bools, kernels: Kernels) -> Floats:
    """Average rank / count of each row over the members that have a value, in (0, 1]; NaN elsewhere.

    Args:
        x: (rows, names), C-contiguous.
        member: of the same shape.

    Raises ValueError where there are more than 65,536 names.
    """
    if x.shape[1] > MOST_NAMES:
        raise ValueError(f"{x.shape[1]:,} names; a rank is over at most {MOST_NAMES:,}")
    out = np.empty(x.shape)
    keys = np.empty((min(BLOCK, len(x)), x.shape[1]), np.int64)
    for start in range(0, len(x), BLOCK):
        rows = slice(start, min(start + BLOCK, len(x)))
        mine = keys[: rows.stop - start]
        kernels.pack(x[rows], member[rows], mine)
        mine.sort(axis=1)
        kernels.unpack(mine, out[rows])
    return out
