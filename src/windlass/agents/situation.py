"""What the agents get to see, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from windlass.records.decision import Decision, Proposal, Vote
from windlass.records.forecast import Forecast
from windlass.records.lessons import Lessons
from windlass.records.run import RunRecord
from windlass.records.study import Study
from windlass.space.space import Space

Values = Mapping[str, Any]  #: flat values of active parameters


class Suggested(Protocol):
    """What the world model would try next."""

    @property
    def values(self) -> Mapping[str, Any]: ...
    @property
    def merit(self) -> float: ...
    @property
    def reason(self) -> str: ...
    @property
    def evidence(self) -> Mapping[str, Any]: ...


class World(Protocol):
    """The world model (``windlass.worldmodel.WorldModel``), fitted once a cycle."""

    @property
    def usable(self) -> bool:
        """Enough results for its opinion of scores to mean something."""

    @property
    def noise_sd(self) -> float | None:
        """Estimated spread of the score between repeats of one config."""

    def forecast(self, configs: Sequence[Values]) -> list[Forecast]: ...

    def merit(self, configs: Sequence[Values]) -> npt.NDArray[np.float64]:
        """Log of the acquisition value of each config: how much trying it promises."""

    def suggest(
        self, count: int, *, seed: Sequence[int], acceptable: Callable[[Values], bool], per_second: bool = False
    ) -> Sequence[Suggested]: ...

    def expected_score(self, configs: Sequence[Values]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """One cycle's view of a study; the same for every agent."""

    study: Study
    space: Space
    lessons: Lessons
    world: World
    runs: tuple[RunRecord, ...]  #: all runs of the study, by number
    decided: tuple[Decision, ...]  #: all decisions so far, by number
    next_number: int  #: the number the next decision gets
    initial: int  #: results wanted before the world model is followed
    baseline_is_complete: bool  #: the study's baseline alone is a valid config
    configs: Mapping[str, str]  #: digest of a config that was decided on -> its run
    config: Callable[[Values], dict[str, Any]]  #: values -> whole nested config; raises ConfigRejected
    #: values give a valid config that was not decided on and lies in no region learned to fail
    acceptable: Callable[[Values], bool]

    @property
    def runs_left(self) -> int | None:
        """Runs that the budget still allows; None without such a budget."""
        limit = self.study.budget.runs
        return None if limit is None else max(0, limit - len(self.runs))


class Proposer(Protocol):
    name: ClassVar[str]

    def propose(self, situation: Situation, numbers: Sequence[int]) -> list[Proposal]:
        """At most one proposal for each decision number; fewer where there is nothing to propose."""


class Critic(Protocol):
    name: ClassVar[str]
    weight: ClassVar[float]  #: in the panel, unless the study says otherwise

    def review(self, situation: Situation, proposal: Proposal, config: Mapping[str, Any], forecast: Forecast) -> Vote:
        """Judge one proposal. ``config`` is the nested config it gives, valid already."""
