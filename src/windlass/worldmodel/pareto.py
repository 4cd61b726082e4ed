"""Several objectives: the front, the hypervolume, and the expected gain of hypervolume. Losses: less is better."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr

from windlass.worldmodel.cube import Array, Mask


def pareto_front(losses: Array) -> Mask:
    """Which rows of ``losses`` (n, m) no other row dominates; equal rows are all kept. Rows with NaN never are."""
    losses = np.asarray(losses, dtype=np.float64)
    if losses.ndim != 2:
        raise ValueError(f"losses are a table of shape (n, m), not {losses.shape}")
    front: Mask = np.asarray(np.isfinite(losses).all(axis=1))
    for i in np.flatnonzero(front):
        rest = losses[front]
        front[i] = not ((rest <= losses[i]).all(axis=1) & (rest < losses[i]).any(axis=1)).any()
    return front


def hypervolume(losses: Array, reference: Array) -> float:
    """The volume that rows of ``losses`` (n, m) dominate below ``reference`` (m,), exactly.

    Rows not below the reference in every objective add nothing. Two objectives by a sweep; more by slices along the
    last one (the dimension sweep of Fonseca, Paquete & Lopez-Ibanez 2006, without its data structures).
    """
    losses, reference = np.asarray(losses, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if losses.ndim != 2 or reference.shape != losses.shape[1:]:
        raise ValueError(f"losses of shape {losses.shape} and a reference of shape {reference.shape} do not fit")
    inside = losses[(losses < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    inside = inside[pareto_front(inside)]
    m = losses.shape[1]
    if m == 1:
        return float(reference[0] - inside.min())
    order = np.lexsort(inside.T)  # by the last objective first
    inside = inside[order]
    if m == 2:
        total, best = 0.0, float(reference[0])
        for x, y in inside:
            total += max(0.0, best - x) * (reference[1] - y)
            best = min(best, float(x))
        return total
    ends = np.append(inside[1:, -1], reference[-1])
    slabs = ends - inside[:, -1]
    return float(
        sum(slab * hypervolume(inside[: i + 1, :-1], reference[:-1]) for i, slab in enumerate(slabs) if slab > 0)
    )


def expected_hypervolume_improvement(mean: Array, sd: Array, front: Array, reference: Array) -> Array:
    """Of independent normal losses, mean and sd (k, 2), over ``front`` (n, 2) below ``reference`` (2,); shape (k,).

    The region not yet dominated falls into n + 1 strips along the first loss; in each the expectation is a product
    of two one-dimensional ones (Emmerich et al. 2011; Yang et al. 2019).
    """
    front = front[(front < reference).all(axis=1)]
    front = front[pareto_front(front)] if len(front) else front
    front = np.unique(front, axis=0)  # ascending in the first loss, so descending in the second
    left = np.concatenate([[-np.inf], front[:, 0]])
    right = np.concatenate([front[:, 0], [reference[0]]])
    top = np.concatenate([[reference[1]], front[:, 1]])
    width = _below(mean[:, :1], sd[:, :1], right) - _below(mean[:, :1], sd[:, :1], left)
    height = _below(mean[:, 1:], sd[:, 1:], top)
    return np.asarray((np.maximum(width, 0.0) * height).sum(axis=1))


def _below(mean: Array, sd: Array, limit: Array) -> Array:
    """E[max(limit - y, 0)] of normal y; mean and sd (k, 1), limit (n,); shape (k, n)."""
    z = (limit - mean) / sd
    with np.errstate(invalid="ignore"):
        value = sd * (np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) + z * ndtr(z))
    return np.where(np.isneginf(z), 0.0, value)
