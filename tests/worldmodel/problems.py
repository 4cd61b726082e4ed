"""Small studies with known functions, for the tests of the world model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from windlass.records.study import Study
from windlass.space.space import Space
from windlass.worldmodel import Trial

Values = Mapping[str, Any]

MIXED: dict[str, Any] = {
    "model": {"type": "categorical", "choices": ["linear", "tree", "net"]},
    "linear.rate": {"type": "float", "low": 1e-4, "high": 1, "log": True, "when": {"model": ["linear", "net"]}},
    "tree.depth": {"type": "int", "low": 2, "high": 12, "when": {"model": "tree"}},
    "tree.leaf": {"type": "int", "low": 1, "high": 64, "log": True, "when": {"tree.depth": {"min": 5}}},
    "bias": {"type": "bool"},
    "augment": {"type": "set", "choices": ["flip", "crop", "blur"], "max_size": 2},
    "blur.width": {"type": "float", "low": 0, "high": 2, "when": {"augment": {"contains": ["blur"]}}},
    "noise": {"type": "float", "low": 0, "high": 1},
}
PLANE: dict[str, Any] = {
    "x": {"type": "float", "low": 0, "high": 1},
    "y": {"type": "float", "low": 0, "high": 1},
}


def make_study(space: Mapping[str, Any] = PLANE, **changes: Any) -> Study:
    data: dict[str, Any] = {
        "name": "bowl",
        "trainer": {"command": ["train"]},
        "space": dict(space),
        "objectives": [{"metric": "loss", "direction": "minimize"}],
    }
    return Study.model_validate({**data, **changes})


def trial(number: int, values: Values, failure: str | None = None, **metrics: float) -> Trial:
    return Trial(
        run_id=f"run-{number:03d}",
        values=dict(values),
        metrics={} if failure else metrics,
        failure=failure,
        cost_s=1.0 + number % 3,
    )


def draws(space: Space, count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [space.repair(space.decode(rng.random(space.dimensions))) for _ in range(count)]


def trials(space: Space, count: int, of: Callable[[Values], float] | None = None, seed: int = 0) -> list[Trial]:
    """Results of ``of`` (default: a bowl) at uniform draws."""
    function = of or bowl
    return [trial(i, values, loss=function(values)) for i, values in enumerate(draws(space, count, seed))]


def bowl(values: Values) -> float:
    """Of the plane; 0 at (0.3, 0.7)."""
    return float((values["x"] - 0.3) ** 2 + (values["y"] - 0.7) ** 2)


def wavy(values: Values) -> float:
    x, y = values["x"], values["y"]
    return math.sin(6 * x) + 0.5 * math.cos(9 * y) + x * y


def mixed_loss(values: Values) -> float:
    if values["model"] == "tree":
        loss = 0.3 + abs(values["tree.depth"] - 7) / 10
    else:
        loss = (0.0 if values["model"] == "net" else 0.2) + (math.log10(values["linear.rate"]) + 2) ** 2 / 4
    return loss + 0.1 * len(values["augment"]) + 0.05 * values["bias"]
