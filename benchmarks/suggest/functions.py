"""Functions in closed form that stand in for trainings: one flat config in, one number to minimise out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from windlass.records.run import FailureKind

Values = Mapping[str, Any]


class Crash(Exception):
    """The run fails and leaves no value; ``kind`` is how."""

    def __init__(self, kind: FailureKind) -> None:
        super().__init__(kind.value)
        self.kind = kind


def branin(v: Values) -> float:
    """Branin-Hoo; minimum 0.397887."""
    x, y = v["x"], v["y"]
    bowl = y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6
    return float(bowl**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)


_HARTMANN_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_HARTMANN_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
_HARTMANN_C = np.array([1, 1.2, 3, 3.2])


def hartmann6(v: Values) -> float:
    """Hartmann in six dimensions; minimum -3.32237."""
    x = np.array([v[f"x{i}"] for i in range(6)])
    return float(-(_HARTMANN_C * np.exp(-(_HARTMANN_A * (x - _HARTMANN_P) ** 2).sum(1))).sum())


_ACKLEY_SHIFT = np.array([4.1, -7.3, 11.2, 0.7, 16.9, -2.4, 8.8, 13.6, -5.9, 2.2])


def ackley10(v: Values) -> float:
    """Ackley in ten dimensions, its minimum 0 moved away from the centre of the box."""
    z = np.array([v[f"x{i}"] for i in range(10)]) - _ACKLEY_SHIFT
    ripples = math.exp(np.cos(2 * math.pi * z).mean())
    return float(20 + math.e - 20 * math.exp(-0.2 * math.sqrt((z * z).mean())) - ripples)


def levy_mixed(v: Values) -> float:
    """Levy over three floats and two ints, moved by one category and raised by another; minimum 0."""
    shift = {"a": 0.0, "b": 2.0, "c": -3.0, "d": 4.0}[v["mode"]]
    raised = {"a": 0.8, "b": 0.0, "c": 0.5, "d": 1.2}[v["mode"]] + {"r": 0.0, "s": 1.5, "t": 3.0}[v["opt"]]
    x = np.array([v["x0"] - shift, v["x1"], v["x2"] + shift / 2, v["i0"], v["i1"]], dtype=float)
    w = 1 + (x - 1) / 4
    inner = ((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2)).sum()
    last = (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2)
    return float(np.sin(np.pi * w[0]) ** 2 + inner + last + raised)


def crash_levy_mixed(v: Values) -> float:
    """``levy_mixed`` that fails by four rules on categories and pairs of numbers."""
    if v["mode"] == "a" and v["x0"] > -1:
        raise Crash(FailureKind.ERROR)
    if v["mode"] in ("c", "d") and v["x1"] + v["x2"] > 2:
        raise Crash(FailureKind.TIMEOUT)
    if v["opt"] == "t" and v["i0"] > 0:
        raise Crash(FailureKind.ERROR)
    if v["mode"] == "b" and v["x2"] * v["i1"] > 8:
        raise Crash(FailureKind.DIVERGED)
    return levy_mixed(v)


def algorithm(v: Values) -> float:
    """A choice among three algorithms, each with parameters of its own, and what they share.

    ``anneal`` is good almost everywhere, ``newton`` is best but in a narrow valley, ``swarm`` is a decoy whose best
    is reached quickly and lies in between. Minimum 0.
    """
    polish = (math.log10(v["tolerance"]) + 3.7) ** 2 / 8 + (0.0 if v["scaling"] == "rank" else 0.25)
    match v["algorithm"]:
        case "newton":
            damping = math.log10(v["damping"])
            ridge = (v["trust"] - 0.62 - 0.12 * damping) ** 2 * 30
            own = ridge + 0.15 * (damping + 2.2) ** 2 + 0.2 * abs(v["memory"] - 7)
            own = 2.2 * own / (0.6 + own)
        case "anneal":
            heat = math.log10(v["heat"])
            own = 0.9 + 0.12 * (heat - 0.4) ** 2 + 0.8 * (v["cooling"] - 0.93) ** 2 / 0.1
        case _:
            spread = v["inertia"] - 0.55
            own = (
                0.45 + 3.5 * spread**2 + 1.5 * (v["social"] - 1.4 + spread) ** 2 + 0.3 * abs(math.log(v["swarm"] / 24))
            )
    return float(own + polish)


def crash_vessel(v: Values) -> float:
    """Log cost of a pressure vessel (Kannan and Kramer 1994) whose violated limits are failures; minimum log(6059.714).

    Three of its limits hold with equality at the minimum: what fails lies next to what is best.
    """
    shell, head, radius, length = v["shell"] / 16, v["head"] / 16, v["radius"], v["length"]
    if shell < 0.0193 * radius or head < 0.00954 * radius:
        raise Crash(FailureKind.ERROR)
    if math.pi * radius**2 * length + 4 / 3 * math.pi * radius**3 < 1_296_000:
        raise Crash(FailureKind.INVALID_RESULT)
    cost = 0.6224 * shell * radius * length + 1.7781 * head * radius**2
    return math.log(cost + 3.1661 * shell**2 * length + 19.84 * shell**2 * radius)
