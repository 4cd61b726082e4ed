"""The space as arrays: snapping, features and mutations of many points of the unit cube at once.

Notation: U (n, d) points of the cube, snapped: every coordinate at its value's place (``Space.encode``), parameters
that are not active at 0.5 in all their dimensions. F (n, p) features: squared distances between rows of F are what a
kernel sees; ``groups`` (p,) names the dimension, and so the length scale, that a feature belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windlass.records.parameters import (
    BoolParameter,
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    SetParameter,
)
from windlass.records.region import Condition, Contains, Interval, same
from windlass.space.parameters import sizes
from windlass.space.space import Space

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Groups = NDArray[np.int64]

INACTIVE = 0.5
#: ints with more values than this are moved like floats while a suggestion is polished
COARSE = 6


class Cube:
    """Vectorised twin of ``Space``: no rules and constraints, only domains and conditions."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.dimensions = space.dimensions
        self.ordered: Mask = ~space.unordered
        self.levels = np.zeros(space.dimensions, dtype=np.int64)  #: values a dimension can take; 0: a float
        for name, parameter in space.parameters.items():
            self.levels[space.slices[name]] = _levels(parameter)
        parents = {name for one in space.parameters.values() if one.when is not None for name in one.when.root}
        #: dimensions in which a small step is a small change: floats and fine ints that no condition looks at
        self.smooth: Mask = self.ordered & ((self.levels == 0) | (self.levels > COARSE))
        for name in parents:
            self.smooth[space.slices[name]] = False
        self.conditional = any(one.when is not None for one in space.parameters.values())
        counts = np.where(self.ordered, 1, self.levels)
        self.groups: Groups = np.repeat(np.arange(self.dimensions, dtype=np.int64), counts)

    def encode(self, configs: Sequence[Mapping[str, Any]]) -> Array:
        """Snapped points of flat configs, shape (n, d). Raises ValueError on a value outside its domain."""
        if not configs:
            return np.empty((0, self.dimensions))
        return self.snap(np.array([self.space.encode(self.space.active(values)) for values in configs]))

    def snap(self, points: Array) -> Array:
        """``points`` (n, d) on the grid of the space, out-of-range coordinates at the edge."""
        U = np.clip(points, 0.0, 1.0)
        active: dict[str, Mask] = {}
        for name, parameter in self.space.parameters.items():
            at = self.space.slices[name]
            U[:, at] = _snap(parameter, U[:, at])
            if parameter.when is None:
                continue
            on = np.ones(len(U), dtype=np.bool_)
            for parent, condition in parameter.when.root.items():
                known = self.space.parameters[parent]
                on &= _holds(condition, known, U[:, self.space.slices[parent]])
                if parent in active:
                    on &= active[parent]
            active[name] = on
            U[~on, at] = INACTIVE
        return U

    def inactive(self, U: Array) -> Mask:
        """Which coordinates of snapped points belong to a parameter that is not active; shape (n, d)."""
        off = np.zeros(U.shape, dtype=np.bool_)
        if not self.conditional:
            return off
        active: dict[str, Mask] = {}
        for name, parameter in self.space.parameters.items():
            if parameter.when is None:
                continue
            on = np.ones(len(U), dtype=np.bool_)
            for parent, condition in parameter.when.root.items():
                on &= _holds(condition, self.space.parameters[parent], U[:, self.space.slices[parent]])
                if parent in active:
                    on &= active[parent]
            active[name] = on
            off[~on, self.space.slices[name]] = True
        return off

    def features(self, U: Array) -> Array:
        """F (n, p) of snapped points: an ordered dimension as it is; an unordered one as one-hot columns, over the
        square root of 2, so that two different values are 1 apart. Not active: the middle of all values."""
        if self.ordered.all():
            return U
        off = self.inactive(U)
        columns: list[Array] = []
        for j in range(self.dimensions):
            if self.ordered[j]:
                columns.append(U[:, j : j + 1])
                continue
            count = int(self.levels[j])
            index = np.minimum((U[:, j] * count).astype(np.int64), count - 1)
            hot = np.zeros((len(U), count))
            hot[np.arange(len(U)), index] = np.sqrt(0.5)
            hot[off[:, j]] = np.sqrt(0.5) / count
            columns.append(hot)
        return np.hstack(columns)

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """``count`` snapped points, uniform in the cube."""
        return self.snap(rng.random((count, self.dimensions)))

    def mutate(self, base: Array, count: int, width: float, rng: np.random.Generator) -> Array:
        """``count`` snapped mutants of the rows of ``base``: about a third of the dimensions move, ordered ones by
        a normal step of ``width`` (ints by at least one cell), unordered ones to any value."""
        d = self.dimensions
        U = base[rng.integers(len(base), size=count)]
        moves = rng.random((count, d)) < max(0.35, 1.5 / d)
        moves[np.arange(count), rng.integers(d, size=count)] = True
        step = rng.normal(0.0, width, (count, d))
        cells = np.where(self.levels > 0, 0.6 / np.maximum(self.levels, 1), 0.0)
        stepped = U + step + np.sign(step) * cells
        stepped = np.abs(1 - np.abs(1 - np.abs(stepped)))
        fresh = rng.random((count, d))
        jumps = rng.random((count, d)) < 0.5
        moved = np.where(self.ordered, stepped, np.where(jumps, fresh, U))
        return self.snap(np.where(moves, moved, U))

    def neighbours(self, point: Array) -> Array:
        """Every change of one discrete dimension of a snapped ``point`` (d,): other choices, ints one cell away."""
        found: list[Array] = []
        for j in np.flatnonzero(self.levels > 1):
            count = int(self.levels[j])
            if self.ordered[j]:
                cells = [cell for cell in (point[j] - 1.05 / count, point[j] + 1.05 / count) if 0 <= cell <= 1]
            else:
                cells = [(index + 0.5) / count for index in range(count)]
            for cell in cells:
                one = point.copy()
                one[j] = cell
                found.append(one)
        if not found:
            return np.empty((0, self.dimensions))
        U = self.snap(np.array(found))
        return U[(np.abs(U - point) > 1e-12).any(axis=1)]


def _levels(parameter: Parameter) -> int:
    match parameter:
        case FloatParameter():
            return 0
        case IntParameter(low=low, high=high):
            return high - low + 1
        case CategoricalParameter(choices=choices):
            return len(choices)
        case _:
            return 2


def _snap(parameter: Parameter, U: Array) -> Array:
    """Coordinates (n, width) of the values at ``U``: the vectorised ``to_unit(from_unit(u))``."""
    match parameter:
        case FloatParameter():
            return U
        case IntParameter(low=low, high=high, log=log):
            a, b = low - 0.5, high + 0.5
            values = _values(parameter, U)
            share = np.log(values / a) / np.log(b / a) if log else (values - a) / (b - a)
            return np.clip(share, 0.0, 1.0)
        case CategoricalParameter(choices=choices):
            k = len(choices)
            return (np.minimum(np.floor(U * k), k - 1) + 0.5) / k
        case BoolParameter():
            return np.where(U >= 0.5, 0.75, 0.25)
        case SetParameter():
            least, most = sizes(parameter)
            wanted = np.clip((U >= 0.5).sum(axis=1), least, most)
            order = np.argsort(-U, axis=1, kind="stable")
            rank = np.argsort(order, axis=1, kind="stable")
            return np.where(rank < wanted[:, None], 0.75, 0.25)


def _values(parameter: FloatParameter | IntParameter, U: Array) -> Array:
    """The numbers at coordinates ``U``."""
    low, high = float(parameter.low), float(parameter.high)
    whole = isinstance(parameter, IntParameter)
    if whole:
        low, high = low - 0.5, high + 0.5
    if parameter.log:
        at = np.exp(np.log(low) * (1 - U) + np.log(high) * U)
    else:
        at = low * (1 - U) + high * U
    return np.asarray(np.clip(np.floor(at + 0.5) if whole else at, parameter.low, parameter.high))


def _holds(condition: Condition, parent: Parameter, U: Array) -> Mask:
    """Whether ``condition`` holds for the parent's coordinates (n, width)."""
    match parent:
        case FloatParameter() | IntParameter():
            values = _values(parent, U)[:, 0]
            if isinstance(condition, Interval):
                low = -np.inf if condition.min is None else condition.min
                high = np.inf if condition.max is None else condition.max
                return (values >= low) & (values <= high)
            return np.array([condition.holds(value) for value in values.tolist()], dtype=np.bool_)
        case SetParameter(choices=choices):
            if not isinstance(condition, Contains):
                return np.zeros(len(U), dtype=np.bool_)
            members = [any(same(choice, one) for one in condition.contains) for choice in choices]
            return np.asarray((U[:, np.flatnonzero(members)] >= 0.5).all(axis=1))
        case _:
            choices = getattr(parent, "choices", (False, True))
            table = np.array([condition.holds(choice) for choice in choices])
            index = np.minimum((U[:, 0] * len(choices)).astype(np.int64), len(choices) - 1)
            return np.asarray(table[index])
