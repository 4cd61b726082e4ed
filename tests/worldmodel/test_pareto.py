from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from windlass.worldmodel import expected_hypervolume_improvement, hypervolume, pareto_front


def tables(objectives: int) -> st.SearchStrategy[np.ndarray]:
    whole = st.integers(0, 6).map(float)  # whole numbers: ties and duplicates happen
    return st.integers(0, 7).flatmap(lambda n: arrays(np.float64, (n, objectives), elements=whole))


def counted(losses: np.ndarray, reference: np.ndarray) -> float:
    """How many unit cells of the grid some row dominates."""
    axes = [np.arange(int(end)) for end in reference]
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    return float((cells[:, None] >= losses[None]).all(axis=2).any(axis=1).sum()) if len(losses) else 0.0


@given(tables(2))
def test_hypervolume_of_two_objectives_equals_counting(losses: np.ndarray) -> None:
    reference = np.array([5.0, 4.0])
    assert hypervolume(losses, reference) == pytest.approx(counted(losses, reference))


@given(tables(3))
def test_hypervolume_of_three_objectives_equals_counting(losses: np.ndarray) -> None:
    reference = np.array([5.0, 4.0, 6.0])
    assert hypervolume(losses, reference) == pytest.approx(counted(losses, reference))


@given(tables(3), st.integers(0, 6))
def test_only_the_front_counts_and_more_points_never_lose(losses: np.ndarray, extra: int) -> None:
    reference = np.full(3, 6.0)
    whole = hypervolume(losses, reference)
    assert hypervolume(losses[pareto_front(losses)], reference) == pytest.approx(whole)
    assert hypervolume(np.vstack([losses, np.full((1, 3), float(extra))]), reference) >= whole - 1e-12


@given(tables(3))
def test_the_front_is_what_nothing_dominates(losses: np.ndarray) -> None:
    front = pareto_front(losses)
    for i, row in enumerate(losses):
        beaten = any((other <= row).all() and (other < row).any() for other in losses)
        assert front[i] == (not beaten)


def test_a_row_that_is_not_finite_is_never_on_the_front() -> None:
    assert pareto_front(np.array([[0.0, np.nan], [1.0, 1.0]])).tolist() == [False, True]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        hypervolume(np.zeros((2, 2)), np.ones(3))


@pytest.mark.parametrize("front", [[], [[0.5, 0.5]], [[0.1, 0.8], [0.4, 0.3], [0.9, 0.1]]])
def test_expected_gain_of_hypervolume_against_monte_carlo(front: list[list[float]]) -> None:
    known, reference = np.array(front).reshape(-1, 2), np.array([1.0, 1.1])
    mean, sd = np.array([[0.3, 0.4], [0.8, 0.9]]), np.array([[0.2, 0.3], [0.4, 0.2]])
    exact = expected_hypervolume_improvement(mean, sd, known, reference)
    rng = np.random.default_rng(0)
    before = hypervolume(known, reference)
    for i in range(2):
        samples = mean[i] + sd[i] * rng.standard_normal((4000, 2))
        gains = [hypervolume(np.vstack([known, one]), reference) - before for one in samples]
        assert exact[i] == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / np.sqrt(4000))
