"""The engine's two sets of loops: what both offer, and which one is loaded."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from windlass.errors import MissingExtra

Floats = NDArray[np.float64]
Int16s = NDArray[np.int16]
Bools = NDArray[np.bool_]
Backend = Literal["auto", "numpy", "numba"]


class Kernels(Protocol):
    """Functions on (rows, names) arrays that both backends compute to the same bits; see ``kernels_numpy``."""

    def weighted_sum(self, x: Floats, weights: Floats, /) -> Floats: ...
    def window_product(self, x: Floats, days: int, /) -> Floats: ...
    def window_max(self, x: Floats, days: int, /) -> Floats: ...
    def window_argmax(self, x: Floats, days: int, /) -> Floats: ...
    def window_rank(self, x: Floats, days: int, /) -> Floats: ...
    def deviation(self, x: Floats, days: int, /) -> tuple[Floats, Floats]: ...
    def covariation(self, x: Floats, y: Floats, days: int, /) -> tuple[Floats, Floats]: ...
    def pack(self, x: Floats, member: Bools, keys: NDArray[np.int64], /) -> None: ...
    def unpack(self, keys: NDArray[np.int64], out: Floats, /) -> None: ...
    def group_demean(self, x: Floats, codes: Int16s, groups: int, /) -> Floats: ...


def chosen(backend: Backend) -> Literal["numpy", "numba"]:
    """The backend in use: ``auto`` is numba where it is installed.

    Raises MissingExtra where numba is asked for and not installed.
    """
    if backend == "numpy":
        return "numpy"
    if find_spec("numba") is not None:
        return "numba"
    if backend == "auto":
        return "numpy"
    raise MissingExtra("the engine 'numba' needs numba, which is not installed", "pip install 'windlass[fast]'")


def load(backend: Backend) -> Kernels:
    """Imports numba, and compiles where its cache is empty, only for the backend ``numba``."""
    return cast(Kernels, importlib.import_module(f"{__package__}.kernels_{chosen(backend)}"))
