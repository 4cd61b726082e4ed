"""What all figures share: colours, an empty figure, axes, and runs as marks.

All of them are SVG (no WebGL): they draw without a GPU and under a strict content security policy. Text of a user's is
escaped for plotly's own little HTML.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from windlass.errors import MissingExtra
from windlass.report.figures import RunPoint, State

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS: Mapping[State, str] = {
    State.COMPLETED: "#4c78a8",
    State.GUARD_BROKEN: "#d9902f",
    State.FAILED: "#c8443f",
    State.STOPPED: "#8a63b5",
    State.CANCELLED: "#8d99a6",
    State.ACTIVE: "#6aa84f",
}
SYMBOLS: Mapping[State, str] = {
    State.COMPLETED: "circle",
    State.GUARD_BROKEN: "circle-open",
    State.FAILED: "x",
    State.STOPPED: "square-open",
    State.CANCELLED: "line-ew",
    State.ACTIVE: "diamond-open",
}
BEST = "#0f766e"
CROWD = 300  #: runs from which marks are drawn smaller
SMALL = 300  #: height in pixels of a figure that shares its row with another
INK, GRID, PALE = "#1f2933", "#e8ecf1", "#c9d1db"


def require_plotly() -> None:
    """Raises MissingExtra where plotly is not installed."""
    try:
        import plotly  # noqa: F401
    except ImportError as error:
        raise MissingExtra("figures need plotly, which is not installed", "pip install 'windlass[report]'") from error


def text(label: str) -> str:
    """A user's text for plotly, which reads a little HTML and ``%{…}`` templates."""
    return html.escape(label, quote=True).replace("\n", "<br>")


def blank(*, height: int, legend: bool = True) -> Figure:
    require_plotly()
    from plotly.graph_objects import Figure

    figure = Figure()
    axis = {"gridcolor": GRID, "linecolor": PALE, "zeroline": False, "ticks": "outside", "tickcolor": PALE}
    figure.update_layout(
        template="none",
        height=height,
        font={"family": "Inter, system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif", "size": 12, "color": INK},
        margin={"l": 70, "r": 20, "t": 36, "b": 48},
        paper_bgcolor="white",
        plot_bgcolor="white",
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 11}},
        hovermode="closest",
        hoverlabel={"align": "left", "bgcolor": "white", "bordercolor": PALE, "font": {"size": 11, "color": INK}},
        xaxis={**axis, "showgrid": False, "automargin": True},
        yaxis={**axis, "automargin": True},
    )
    return figure


def scale(title: str, values: np.ndarray, *, log: bool) -> dict[str, Any]:
    """An axis with its title; a log axis has ticks between the powers of ten where there is room."""
    axis: dict[str, Any] = {"title": {"text": text(title)}, "type": "log" if log else "linear"}
    finite = values[np.isfinite(values)]
    if log and len(finite):
        low, high = math.floor(math.log10(finite.min())), math.ceil(math.log10(finite.max()))
        every = max(1, (high - low) // 8)
        spread = finite.max() / finite.min()
        within = (1, 1.5, 2, 3, 4, 6, 8) if spread <= 10 else (1, 2, 5) if spread <= 500 else (1,)
        marks = [m * 10.0**e for e in range(low, high + 1, every) for m in within]
        axis |= {"tickvals": marks, "ticktext": [f"{mark:g}" for mark in marks]}
    return axis


def mark_runs(
    figure: Figure, points: Sequence[RunPoint], chosen: np.ndarray, x: np.ndarray, y: np.ndarray, state: State
) -> None:
    marker = {
        "color": COLOURS[state],
        "size": 7 if len(points) < CROWD else 4,
        "symbol": SYMBOLS[state],
        "opacity": 0.75,
        "line": {"width": 1},
    }
    scatter(figure, points, chosen, x, y, name=str(state), mode="markers", marker=marker)


def scatter(
    figure: Figure, points: Sequence[RunPoint], chosen: np.ndarray, x: np.ndarray, y: np.ndarray, **style: Any
) -> None:
    index = [int(i) for i in np.flatnonzero(chosen)]
    labels = [text(points[i].label) for i in index]
    figure.add_scatter(x=x[index], y=y[index], text=labels, hovertemplate="%{text}<extra></extra>", **style)


def rug(figure: Figure, points: Sequence[RunPoint], x: np.ndarray, missing: np.ndarray) -> None:
    """Runs without a value as crosses along the bottom, so that a failure is seen where it happened."""
    figure.update_layout(yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True})
    ended = (State.FAILED, State.COMPLETED, State.GUARD_BROKEN, State.STOPPED, State.CANCELLED, State.ACTIVE)
    for state in ended:
        chosen = missing & np.array([point.state is state for point in points], dtype=bool)
        if not chosen.any():
            continue
        failed = state in (State.FAILED, State.COMPLETED, State.GUARD_BROKEN)
        colour = COLOURS[State.FAILED if failed else state]
        marker = {"symbol": "x" if failed else SYMBOLS[state], "size": 7, "color": colour}
        name = str(state) if state not in (State.COMPLETED, State.GUARD_BROKEN) else "no finite value"
        height = np.full(len(x), 0.02)
        scatter(figure, points, chosen, x, height, name=name, mode="markers", marker=marker, yaxis="y2")


def note(x: float, y: float, label: str, *, size: int, color: str = INK, **style: Any) -> dict[str, Any]:
    return {"x": x, "y": y, "text": label, "showarrow": False, "font": {"size": size, "color": color}, **style}


def short(label: str, limit: int = 16) -> str:
    return label if len(label) <= limit else label[: limit - 1] + "…"
