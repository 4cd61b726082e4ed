"""How often two health checks refuse a training in which nothing is wrong, and how often they see what is wrong.

``PYTHONPATH=src python benchmarks/training/health_checks.py [--runs 20000]``: some minutes on one core. Simulated
scores, the real checks; seeds are fixed. Scores of different checks are drawn independently: the same examples, which
are used in practice, vary less. The training reward rises throughout, so that it excuses nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from windlass.training.health import held_out, independent

Floats = npt.NDArray[np.float64]
SIZES, LOOKS = (64, 128, 256), (5, 10, 20)
FLAT = (0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98)
STEPS = 200


def refused(course: Floats, examples: int, runs: int, wobble: float = 0.0) -> float:
    """Share of runs that ``independent`` refuses, where the true score at each check is ``course`` (one a check)."""
    rng = np.random.default_rng([examples, len(course), int(1e6 * float(course.sum())), int(1e6 * wobble)])
    at = np.linspace(0, STEPS, len(course))
    rewards = [(step, 0.3 + 0.6 * step / STEPS + 0.05 * float(rng.standard_normal())) for step in range(0, STEPS, 10)]
    truth = np.clip(course + wobble * rng.standard_normal((runs, len(course))), 0, 1)
    scores = rng.binomial(examples, truth) / examples
    bad = sum(not independent(rewards, list(zip(at, row, strict=True)), examples).passed for row in scores)
    return bad / runs


def independent_table(runs: int) -> None:
    for words, course, wobble in (
        ("flat; the worst of nine true scores", None, 0.0),
        ("flat at 0.5, the true score of every check varies by 0.02", lambda k: np.full(k, 0.5), 0.02),
        ("rising from 0.4 to 0.8", lambda k: np.linspace(0.4, 0.8, k), 0.0),
        ("rising from 0.4 to 0.6, then falling to 0.5", fall(0.6, 0.5), 0.0),
        ("rising from 0.4 to 0.6, then falling to 0.4", fall(0.6, 0.4), 0.0),
        ("rising from 0.4 to 0.6, then falling to 0.3", fall(0.6, 0.3), 0.0),
        ("rising from 0.4 to 0.9, then falling to 0.7", fall(0.9, 0.7), 0.0),
    ):
        print(f"independent, {words}: share refused")
        for n in SIZES:
            shares = []
            for k in LOOKS:
                courses = [np.full(k, score) for score in FLAT] if course is None else [course(k)]
                shares.append(max(refused(each, n, runs, wobble) for each in courses))
            print(
                f"  {n:4d} examples  " + "  ".join(f"{k:2d} checks {s:.4f}" for k, s in zip(LOOKS, shares, strict=True))
            )


def fall(top: float, end: float) -> Callable[[int], Floats]:
    return lambda k: np.concatenate([np.linspace(0.4, top, k // 2), np.linspace(top, end, k - k // 2)])


def held_out_table(runs: int) -> None:
    for words, lost, won in (
        ("nothing changed: each example turns in either direction with 0.02", 0.02, 0.02),
        ("nothing changed, with 0.05", 0.05, 0.05),
        ("nothing changed, with 0.15", 0.15, 0.15),
        ("0.05 are lost, none won", 0.05, 0.0),
        ("0.15 are lost, 0.05 won", 0.15, 0.05),
        ("0.30 are lost, 0.10 won", 0.30, 0.10),
    ):
        shares = []
        for n in SIZES:
            rng = np.random.default_rng([n, int(1000 * lost), int(1000 * won)])
            draw = rng.random((runs, n))
            before = np.where(draw < lost, 1.0, np.where(draw < lost + won, 0.0, rng.random((runs, n)) > 0.5))
            after = np.where(draw < lost, 0.0, np.where(draw < lost + won, 1.0, before))
            shares.append(sum(not held_out(x, y).passed for x, y in zip(before.tolist(), after.tolist(), strict=True)))
        line = "  ".join(f"{n} examples {share / runs:.4f}" for n, share in zip(SIZES, shares, strict=True))
        print(f"held_out, {words}: share refused  {line}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20_000)
    given = parser.parse_args()
    held_out_table(given.runs)
    independent_table(given.runs)
