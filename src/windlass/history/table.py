"""A study's settled runs as columns, by number: what the other modules of this folder compute on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from windlass.records.fields import Scalar
from windlass.records.parameters import (
    BoolParameter,
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    SetParameter,
)
from windlass.records.ranking import counted_score
from windlass.records.run import FailureKind, RunRecord, Status
from windlass.records.study import Study
from windlass.space.parameters import choice_index
from windlass.space.space import Space

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: failures that say nothing about the config
BLAMELESS = frozenset(kind for kind in FailureKind if kind.blameless)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Axis:
    """One question that can be asked about a config: a parameter's value, or whether a set has a member."""

    name: str  #: the parameter's
    parameter: Parameter
    member: Scalar | None  #: the choice asked for; None: not a set
    column: Floats  #: (n,): a number; a choice's index; of a member 0 in, 1 out. NaN where not active

    @property
    def ordered(self) -> bool:
        return isinstance(self.parameter, (FloatParameter, IntParameter))

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values that ``column`` counts; of a set's member the one that a condition can ask for. () of numbers."""
        match self.parameter:
            case CategoricalParameter(choices=choices):
                return choices
            case BoolParameter():
                return (False, True)
            case SetParameter():
                return (self.member,)
        return ()

    @property
    def active(self) -> Mask:
        return ~np.isnan(self.column)

    def unit(self, values: Any) -> Any:
        """Numbers as shares of the parameter's range, on its scale."""
        assert isinstance(self.parameter, (FloatParameter, IntParameter))
        low, high = float(self.parameter.low), float(self.parameter.high)
        if self.parameter.log:
            return (np.log(values) - math.log(low)) / (math.log(high) - math.log(low))
        return (values - low) / (high - low)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Completed, failed and stopped runs whose parameters are in today's space. All columns have shape (n,)."""

    runs: tuple[RunRecord, ...]
    axes: tuple[Axis, ...]  #: in the space's order, a set's members one by one
    failed: Mask  #: of a kind that may be the config's doing
    survived: Mask  #: completed with a score, or stopped early
    score: Floats  #: ``counted_score``; NaN where there is none

    @classmethod
    def of(cls, study: Study, space: Space, runs: Sequence[RunRecord]) -> tuple[Self, dict[str, str]]:
        """The table, and why runs were set aside, by id."""
        kept: list[RunRecord] = []
        values: list[Mapping[str, Any]] = []
        aside: dict[str, str] = {}
        for run in sorted(runs, key=lambda run: (run.number or 0, run.id)):
            if run.status in (Status.COMPLETED, Status.FAILED, Status.STOPPED):
                try:
                    values.append(space.place(run.params))
                except ValueError as error:
                    aside[run.id] = str(error)
                else:
                    kept.append(run)
        scores = [counted_score(study, run) for run in kept]
        finite = [run.status is Status.COMPLETED and study.score(run.values) is not None for run in kept]
        return cls(
            runs=tuple(kept),
            axes=axes_of(space, values),
            failed=np.array(
                [
                    _is_failure(r) or (r.status is Status.COMPLETED and not ok)
                    for r, ok in zip(kept, finite, strict=True)
                ],
                dtype=bool,
            ),
            survived=np.array(
                [ok or r.status is Status.STOPPED for r, ok in zip(kept, finite, strict=True)], dtype=bool
            ),
            score=np.array([math.nan if one is None else one for one in scores]),
        ), aside

    def __len__(self) -> int:
        return len(self.runs)

    def ids(self, where: Mask) -> tuple[str, ...]:
        return tuple(self.runs[i].id for i in np.flatnonzero(where))


def axes_of(space: Space, values: Sequence[Mapping[str, Any]]) -> tuple[Axis, ...]:
    """The columns of ``values``, canonical and active only."""
    axes = []
    for name, parameter in space.parameters.items():
        present = [one.get(name) for one in values]  # no parameter has None among its values
        if isinstance(parameter, SetParameter):
            for member in parameter.choices:
                column = [math.nan if one is None else float(member not in one) for one in present]
                axes.append(Axis(name=name, parameter=parameter, member=member, column=np.array(column)))
            continue
        if isinstance(parameter, CategoricalParameter):
            place = {value: float(choice_index(parameter.choices, value)) for value in parameter.choices}
            column = [math.nan if one is None else place[one] for one in present]
        else:
            column = [math.nan if one is None else float(one) for one in present]
        axes.append(Axis(name=name, parameter=parameter, member=None, column=np.array(column)))
    return tuple(axes)


def _is_failure(run: RunRecord) -> bool:
    return run.status is Status.FAILED and not (run.failure is not None and run.failure.kind in BLAMELESS)
