"""A figure is data first (JSON, for pages and reports), then a picture of the same data (SVG, without pyplot)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from windlass.runs.folder import write_atomic
from windlass.workloads.tabular.data import Floats, Table
from windlass.workloads.tabular.scoring import confusion

FIGURE_TITLES = {"confusion": "Confusion matrix", "roc": "ROC", "residuals": "Residuals"}
MAX_POINTS = 2_000  #: of a residual figure; more rows are thinned evenly
MAX_CURVE_POINTS = 200  #: of one ROC curve
MAX_MARKED_CLASSES = 12  #: a confusion matrix with more has no numbers in its cells, a ROC figure no legend
STYLE: Any = {
    "svg.hashsalt": "windlass",  # equal data gives an equal file
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
}
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")


def figures(table: Table, y: npt.NDArray[Any], predicted: Floats) -> dict[str, dict[str, Any]]:
    """Name -> data as JSON values: ``confusion`` and ``roc``, or ``residuals``."""
    if table.task == "regression":
        keep = np.unique(np.linspace(0, len(y) - 1, min(len(y), MAX_POINTS)).astype(np.int64))
        return {"residuals": {"target": y[keep].tolist(), "prediction": predicted[keep].tolist()}}
    names = [str(label) for label in table.classes]
    shown = range(len(names)) if table.positive is None else [table.positive]
    curves = [{"class": names[k], **_roc(y == k, predicted[:, k])} for k in shown]
    return {
        "confusion": {"classes": names, "counts": confusion(y, predicted).tolist()},
        "roc": {"curves": curves},
    }


def write_figure(folder: Path, name: str, figure: str, data: dict[str, Any], title: str) -> list[Path]:
    """``<name>.json`` and ``<name>.svg``; ``figure`` is a key of :func:`figures`."""
    as_json, as_svg = folder / f"{name}.json", folder / f"{name}.svg"
    write_atomic(as_json, json.dumps({"figure": figure, "title": title, **data}, ensure_ascii=False).encode())
    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(5.2, 4.4), layout="constrained")
        FigureCanvasSVG(picture)
        axes = picture.subplots()
        axes.set_title(title, fontsize=10)
        _DRAW[figure](axes, data)
        beside = folder / f".{name}.svg.part"
        picture.savefig(beside, format="svg", metadata={"Date": None})
    beside.rename(as_svg)
    return [as_json, as_svg]


def _roc(actual: npt.NDArray[np.bool_], score: Floats) -> dict[str, list[float]]:
    false, true, _ = roc_curve(actual, score)
    keep = np.unique(np.linspace(0, len(false) - 1, min(len(false), MAX_CURVE_POINTS)).astype(np.int64))
    return {"false_positive_rate": false[keep].tolist(), "true_positive_rate": true[keep].tolist()}


def _draw_confusion(axes: Any, data: dict[str, Any]) -> None:
    counts, classes = np.asarray(data["counts"]), data["classes"]
    shares = counts / counts.sum(axis=1, keepdims=True)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("actual")
    if len(classes) > MAX_MARKED_CLASSES:
        return
    long = sum(map(len, classes)) > 40
    axes.set_xticks(range(len(classes)), classes, rotation=30 if long else 0, ha="right" if long else "center")
    axes.set_yticks(range(len(classes)), classes)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.5 else "#999999" if count == 0 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=color)


def _draw_roc(axes: Any, data: dict[str, Any]) -> None:
    curves = data["curves"]
    for index, curve in enumerate(curves):
        axes.plot(
            curve["false_positive_rate"],
            curve["true_positive_rate"],
            color=COLORS[index % len(COLORS)],
            linestyle="-" if index < len(COLORS) else "--",
            linewidth=1.4,
            label=curve["class"],
            clip_on=False,
        )
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    if len(curves) <= MAX_MARKED_CLASSES:
        heading = "positive class" if len(curves) == 1 else "class against the rest"
        axes.legend(title=heading, loc="lower right", frameon=False, fontsize=8, ncols=1 + (len(curves) > 6))


def _draw_residuals(axes: Any, data: dict[str, Any]) -> None:
    target, prediction = np.asarray(data["target"]), np.asarray(data["prediction"])
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.plot(prediction, target - prediction, "o", color=COLORS[0], alpha=0.6, markersize=3.5, markeredgewidth=0)
    axes.set(xlabel="prediction", ylabel="target minus prediction")


_DRAW: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "confusion": _draw_confusion,
    "roc": _draw_roc,
    "residuals": _draw_residuals,
}
