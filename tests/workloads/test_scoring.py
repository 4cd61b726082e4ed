"""Metrics against their definitions, written out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.workloads.tabular.data import Table
from windlass.workloads.tabular.scoring import confusion, curve_point, evaluate, example_scores


def table(classes: int = 0, positive: int | None = None) -> Table:
    """A table that knows its task; the scores look at nothing else of it."""
    return Table(
        features=np.empty((0, 0)),
        numeric=[],
        categorical=[],
        target=np.empty(0),
        classes=np.arange(classes),
        positive=positive,
        rows=np.empty(0, dtype=np.int64),
        task="classification" if classes else "regression",
    )


@st.composite
def classified(draw: st.DrawFn, classes: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Actual classes, each at least once, and probabilities with ties and zeros among them."""
    y = [*range(classes), *draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=20))]
    weights = draw(
        st.lists(
            st.lists(st.integers(0, 4), min_size=classes, max_size=classes).filter(any),
            min_size=len(y),
            max_size=len(y),
        )
    )
    p = np.array(weights, dtype=float)
    return np.array(y), p / p.sum(axis=1, keepdims=True)


def pair_auc(actual: list[bool], score: list[float]) -> float:
    """The share of (positive, negative) pairs in the right order; a tie is half."""
    pairs = [
        (a, b) for a, x in zip(score, actual, strict=True) if x for b, y in zip(score, actual, strict=True) if not y
    ]
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


def rates(y: list[int], predicted: list[int], positive: int) -> tuple[float, float]:
    """Sensitivity and specificity."""
    pairs = list(zip(y, predicted, strict=True))
    hits = sum(a == positive and b == positive for a, b in pairs)
    rejections = sum(a != positive and b != positive for a, b in pairs)
    return hits / y.count(positive), rejections / (len(y) - y.count(positive))


def first_largest(row: list[float]) -> int:
    return row.index(max(row))


@given(classified(2), st.sampled_from([0, 1]))
def test_two_classes(case: tuple[Any, Any], positive: int) -> None:
    y, p = case
    found = evaluate(table(2, positive), y, p)
    predicted = [first_largest(row) for row in p.tolist()]
    sensitivity, specificity = rates(y.tolist(), predicted, positive)
    assert found["auc"] == pytest.approx(pair_auc([v == positive for v in y], p[:, positive].tolist()))
    assert found["sensitivity"] == pytest.approx(sensitivity)
    assert found["specificity"] == pytest.approx(specificity)
    assert found["balanced_accuracy"] == pytest.approx((sensitivity + specificity) / 2)
    assert found["accuracy"] == pytest.approx(np.mean(np.array(predicted) == y))


@given(classified(4))
def test_several_classes_are_means_of_one_against_the_rest(case: tuple[Any, Any]) -> None:
    y, p = case
    found = evaluate(table(4), y, p)
    predicted = [first_largest(row) for row in p.tolist()]
    each = [rates(y.tolist(), predicted, k) for k in range(4)]
    assert found["sensitivity"] == pytest.approx(np.mean([a for a, _ in each]))
    assert found["specificity"] == pytest.approx(np.mean([b for _, b in each]))
    assert found["balanced_accuracy"] == pytest.approx(found["sensitivity"])
    assert found["auc"] == pytest.approx(np.mean([pair_auc([v == k for v in y], p[:, k].tolist()) for k in range(4)]))
    eps = np.finfo(float).eps
    expected = np.mean([-math.log(min(max(row[k], eps), 1.0)) for row, k in zip(p.tolist(), y, strict=True)])
    assert found["log_loss"] == pytest.approx(expected)


@given(classified(3))
def test_example_scores_average_to_the_metric_they_are_named_after(case: tuple[Any, Any]) -> None:
    y, p = case
    metrics, scores = evaluate(table(3), y, p), example_scores(table(3), y, p)
    for name, column in scores.items():
        assert column.shape == y.shape
        assert column.mean() == pytest.approx(metrics[name])
    point = curve_point(table(3), y, p)
    assert point["validation_log_loss"] == pytest.approx(metrics["log_loss"])
    assert point["validation_accuracy"] == pytest.approx(metrics["accuracy"])
    assert confusion(y, p).sum() == len(y)


finite = st.floats(-1e6, 1e6)


@given(
    st.lists(st.tuples(finite, finite), min_size=2, max_size=20).filter(lambda rows: np.ptp([a for a, _ in rows]) > 1)
)
def test_regression(rows: list[tuple[float, float]]) -> None:
    y, predicted = (np.array(column) for column in zip(*rows, strict=True))
    found = evaluate(table(), y, predicted)
    errors = [b - a for a, b in rows]
    mean = sum(y) / len(y)
    assert found["rmse"] == pytest.approx(math.sqrt(sum(e * e for e in errors) / len(errors)))
    assert found["mae"] == pytest.approx(sum(map(abs, errors)) / len(errors))
    assert found["r2"] == pytest.approx(1 - sum(e * e for e in errors) / sum((v - mean) ** 2 for v in y))
    scores = example_scores(table(), y, predicted)
    assert scores["mae"].mean() == pytest.approx(found["mae"])
    assert math.sqrt(scores["squared_error"].mean()) == pytest.approx(found["rmse"])
