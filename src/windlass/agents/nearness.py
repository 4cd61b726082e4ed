"""How near a config is to the runs that exist, in the unit cube, where every parameter has the same size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from windlass.agents.situation import Situation
from windlass.records.content import flatten
from windlass.records.decision import Decision
from windlass.records.run import RunRecord, Status
from windlass.space.space import Space

NEAR = 0.01  #: difference of a parameter, as a share of its range, up to which it is practically the same

Array = npt.NDArray[np.float64]
_P = ParamSpec("_P")
_T = TypeVar("_T")


class SameObjects(Generic[_P, _T]):
    """Remembers the last answer of a pure function for as long as it is asked with the very same objects."""

    def __init__(self, function: Callable[_P, _T]) -> None:
        self._function = function
        self._latest: tuple[tuple[object, ...], _T] | None = None

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        key = (*args, *kwargs.values())
        latest = self._latest
        if latest is None or len(latest[0]) != len(key) or any(a is not b for a, b in zip(latest[0], key, strict=True)):
            self._latest = latest = (key, self._function(*args, **kwargs))
        return latest[1]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A run, and how far its config is: 0 equal, 1 the other end of the range. Another category is 1 away."""

    run_id: str
    largest: float  #: difference in any one dimension
    mean: float  #: over the dimensions


def neighbours(situation: Situation, values: Mapping[str, Any], count: int = 8) -> list[Neighbour]:
    """The ``count`` runs nearest to a flat config, nearest first, those decided on in this cycle among them.

    Runs whose config does not fit today's space are passed over. Nearest: by the largest difference, then the mean.
    """
    space = situation.space
    ids, points = _known(space, situation.runs)
    late = [(d.run_id, _point(space, flatten(d.config))) for d in _undocumented(situation) if d.run_id is not None]
    ids = [*ids, *(run_id for run_id, point in late if point is not None)]
    points = np.vstack([points, *(point for _, point in late if point is not None)])
    own = _point(space, values)
    if own is None or not len(ids):
        return []
    difference = np.abs(points - own)
    difference = np.where(space.unordered & (difference > 0), 1.0, difference)
    difference = np.where(np.isnan(points) & np.isnan(own), 0.0, difference)
    difference = np.where(np.isnan(difference), 1.0, difference)  # active in one of the two
    largest, mean = difference.max(axis=1), difference.mean(axis=1)
    order = np.lexsort((mean, largest))[:count]
    return [Neighbour(ids[i], float(largest[i]), float(mean[i])) for i in order]


def _undocumented(situation: Situation) -> list[Decision]:
    """Decisions of this cycle: their runs have no records yet. Decisions are by number, so they come last."""
    known = {run.id for run in situation.runs}
    found: list[Decision] = []
    for decision in reversed(situation.decided):
        if decision.run_id in known:
            break
        found.append(decision)
    return found[::-1]


def _points(space: Space, runs: tuple[RunRecord, ...]) -> tuple[list[str], Array]:
    """Ids of the runs that fit the space, and their points, shape (n, d); NaN where a parameter is not active."""
    tried = [run for run in runs if run.status is not Status.CANCELLED]
    placed = [(run.id, point) for run in tried if (point := _point(space, run.params)) is not None]
    return [run_id for run_id, _ in placed], np.array([point for _, point in placed]).reshape(-1, space.dimensions)


_known = SameObjects(_points)


def _point(space: Space, values: Mapping[str, Any]) -> Array | None:
    try:
        return space.encode(space.active({**space.fixed, **values}), fill=np.nan)
    except ValueError:
        return None
