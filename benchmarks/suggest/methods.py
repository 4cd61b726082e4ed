"""The methods under test, as ask and tell: random search, the peers, and Windlass.

A method is made for one problem and one seed and is told of every trial in turn, in its own run or (``tell`` without
``ask``) of trials that an earlier process made, so that a run can be taken up where it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
from problems import Outcome, Problem

from windlass.agents.council import ALWAYS_VOTE
from windlass.agents.critics import CRITICS
from windlass.agents.proposers import PROPOSERS

Values = Mapping[str, Any]


class Method(Protocol):
    def ask(self) -> Values:
        """The flat values of the next trial."""

    def tell(self, values: Values, outcome: Outcome) -> None:
        """How a trial ended: the one asked for last, or one from before."""

    def recommend(self) -> Values | None:
        """What the method's users would take now; None where it has nothing beyond the best observation."""

    def notes(self) -> Mapping[str, Any]:
        """What is kept with the trial asked for last, as JSON; for Windlass its forecast."""


class Random:
    """Uniform in the unit cube of the space."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.space, self.seed, self.told = problem.space, seed, 0

    def ask(self) -> Values:
        return self.space.decode(np.random.default_rng([self.seed, self.told]).random(self.space.dimensions))

    def tell(self, values: Values, outcome: Outcome) -> None:
        self.told += 1

    def recommend(self) -> Values | None:
        return None

    def notes(self) -> Mapping[str, Any]:
        return {}


def _tpe(problem: Problem, seed: int) -> Method:
    from peers import OptunaStudy

    return OptunaStudy(problem, seed, "tpe")


def _optuna_gp(problem: Problem, seed: int) -> Method:
    from peers import OptunaStudy

    return OptunaStudy(problem, seed, "gp")


def _ax(problem: Problem, seed: int) -> Method:
    from peers import AxClient

    return AxClient(problem, seed)


def _botorch(problem: Problem, seed: int) -> Method:
    from peers import BoTorchLoop

    return BoTorchLoop(problem, seed)


def _windlass_world(problem: Problem, seed: int) -> Method:
    from world import WorldModelAlone

    return WorldModelAlone(problem, seed)


def _windlass(without: tuple[str, ...], problem: Problem, seed: int) -> Method:
    from deciding import DecidingSide

    return DecidingSide(problem, seed, without)


#: those that can be left out
AGENTS = [name for name in (*PROPOSERS, *CRITICS) if name not in ("explorer", *ALWAYS_VOTE)]
METHODS: dict[str, Callable[[Problem, int], Method]] = {
    "random": Random,
    "tpe": _tpe,
    "optuna_gp": _optuna_gp,
    "ax": _ax,
    "botorch": _botorch,
    "windlass_world": _windlass_world,
    "windlass": partial(_windlass, ()),
    **{f"windlass-without-{name}": partial(_windlass, (name,)) for name in AGENTS},
}
PEERS = ("random", "tpe", "optuna_gp", "ax", "botorch")


def make(name: str, problem: Problem, seed: int) -> Method:
    """Raises KeyError with the known names."""
    if name not in METHODS:
        raise KeyError(f"no method {name!r}; methods: {', '.join(METHODS)}")
    return METHODS[name](problem, seed)
