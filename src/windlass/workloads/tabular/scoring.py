"""Metrics and per-example scores.

n rows, K classes; y (n,) class positions or numbers; p (n, K) probabilities, rows sum to 1; the predicted class is
the most probable one. Sensitivity and specificity are about the positive class where K = 2; for K > 2 they are
means over one class against the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from windlass.workloads.tabular.data import Floats, Table


def evaluate(table: Table, y: npt.NDArray[Any], predicted: Floats) -> dict[str, float]:
    """All metrics of a task; ``predicted`` is finite."""
    if table.task == "regression":
        return {
            "rmse": float(metrics.root_mean_squared_error(y, predicted)),
            "mae": float(metrics.mean_absolute_error(y, predicted)),
            "r2": float(metrics.r2_score(y, predicted)),
        }
    matrix = confusion(y, predicted)
    hits, actual, claimed = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    sensitivities = hits / actual
    specificities = 1 - (claimed - hits) / (len(y) - actual)
    if table.positive is None:
        sensitivity, specificity = sensitivities.mean(), specificities.mean()
    else:
        sensitivity, specificity = sensitivities[table.positive], specificities[table.positive]
    return {
        "auc": _auc(table, y, predicted),
        "sensitivity": float(sensitivity),
        "specificity": float(specificity),
        "accuracy": float(hits.sum() / len(y)),
        "balanced_accuracy": float(sensitivities.mean()),
        "log_loss": float(metrics.log_loss(y, predicted, labels=np.arange(predicted.shape[1]))),
    }


def curve_point(table: Table, y: npt.NDArray[Any], predicted: Floats) -> dict[str, float]:
    """The two metrics of a learning curve: they are cheap, and one of them is a loss."""
    if table.task == "regression":
        return {
            "validation_rmse": float(metrics.root_mean_squared_error(y, predicted)),
            "validation_r2": float(metrics.r2_score(y, predicted)),
        }
    scores = example_scores(table, y, predicted)
    return {
        "validation_log_loss": float(scores["log_loss"].mean()),
        "validation_accuracy": float(scores["accuracy"].mean()),
    }


def example_scores(table: Table, y: npt.NDArray[Any], predicted: Floats) -> dict[str, npt.NDArray[Any]]:
    """Column name -> (n,) scores; the mean of a column named as a metric is that metric."""
    if table.task == "regression":
        return {"mae": np.abs(y - predicted), "squared_error": (y - predicted) ** 2}
    true = predicted[np.arange(len(y)), y]
    return {
        "accuracy": (predicted.argmax(axis=1) == y).astype(np.int64),
        "log_loss": -np.log(np.clip(true, np.finfo(np.float64).eps, 1.0)),
    }


def confusion(y: npt.NDArray[Any], predicted: Floats) -> npt.NDArray[np.int64]:
    """(K, K) counts: rows are the actual class, columns the predicted one."""
    classes = np.arange(predicted.shape[1])
    return np.asarray(metrics.confusion_matrix(y, predicted.argmax(axis=1), labels=classes), dtype=np.int64)


def _auc(table: Table, y: npt.NDArray[Any], predicted: Floats) -> float:
    if table.positive is not None:
        return float(metrics.roc_auc_score(y == table.positive, predicted[:, table.positive]))
    return float(np.mean([metrics.roc_auc_score(y == k, predicted[:, k]) for k in range(predicted.shape[1])]))
