"""Three small readers of handwritten digits on numpy alone, kept as one ``.npz`` file each.

linear       softmax regression; 64 * 10 multiplications a digit
neighbours   the nearest training example; 64 multiplications for each of them
prototypes   the nearest of 20 means a digit (Lloyd's algorithm)
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

PIXELS = 64
PROTOTYPES = 20  #: a digit


class Table(NamedTuple):
    ids: list[str]
    pixels: np.ndarray  #: (n, 64), 0 to 1
    digits: np.ndarray  #: (n,)
    ink: list[str]


def read(path: Path) -> Table:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    pixels = np.array([[float(row[f"p{i // 8}{i % 8}"]) for i in range(PIXELS)] for row in rows]) / 16
    return Table(
        [row["id"] for row in rows], pixels, np.array([int(row["digit"]) for row in rows]), [r["ink"] for r in rows]
    )


def fit(kind: str, pixels: np.ndarray, digits: np.ndarray, steps: int, seed: int) -> dict[str, np.ndarray]:
    """The arrays of a reader; the same for the same seed."""
    if kind == "linear":
        return _softmax(pixels, digits, steps)
    if kind == "neighbours":
        return {"examples": pixels, "labels": digits}
    rng = np.random.default_rng(seed)
    means = [_means(pixels[digits == digit], rng) for digit in range(10)]
    return {"examples": np.concatenate(means), "labels": np.repeat(np.arange(10), [len(one) for one in means])}


def answer(reader: dict[str, np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """(n,) digits."""
    if "weights" in reader:
        return np.argmax(pixels @ reader["weights"] + reader["bias"], axis=1)
    examples = reader["examples"]
    distances = (examples**2).sum(axis=1) - 2 * pixels @ examples.T
    return reader["labels"][np.argmin(distances, axis=1)]


def operations(reader: dict[str, np.ndarray]) -> int:
    """Multiplications for one answer."""
    return reader["weights"].size if "weights" in reader else reader["examples"].size


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _softmax(pixels: np.ndarray, digits: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    weights, bias, wanted = np.zeros((PIXELS, 10)), np.zeros(10), np.eye(10)[digits]
    for _ in range(steps):
        raw = pixels @ weights + bias
        chances = np.exp(raw - raw.max(axis=1, keepdims=True))
        error = chances / chances.sum(axis=1, keepdims=True) - wanted
        weights -= 0.5 * pixels.T @ error / len(digits)
        bias -= 0.5 * error.mean(axis=0)
    return {"weights": weights, "bias": bias}


def _means(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    means = pixels[rng.choice(len(pixels), size=min(PROTOTYPES, len(pixels)), replace=False)]
    for _ in range(10):
        nearest = np.argmin(((pixels[:, None] - means) ** 2).sum(axis=2), axis=1)
        means = np.array(
            [pixels[nearest == k].mean(axis=0) if (nearest == k).any() else means[k] for k in range(len(means))]
        )
    return means
