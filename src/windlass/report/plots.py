"""Figures of results drawn with plotly: for notebooks as they are, for ``report.html`` through ``page``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from windlass.report.canvas import (
    BEST,
    COLOURS,
    CROWD,
    INK,
    SMALL,
    blank,
    mark_runs,
    note,
    rug,
    scale,
    scatter,
    short,
    text,
)  # fmt: skip
from windlass.report.figures import LearningCurves, OptimisationHistory, State, Timeline, Tradeoff, is_wide, jitter
from windlass.report.parameters import ParallelCoordinates, ParameterEffect

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

UPRIGHT_AXES = 8  #: more axes than this have their names tilted
#: from the best run to the worst
RANKS = ("#0f766e", "#3aa08f", "#8fc4b7", "#c3cbd4", "#dfe3e8")


def draw_history(data: OptimisationHistory) -> Figure:
    figure = blank(height=380)
    numbers = np.array([point.number for point in data.points])
    seen = np.isfinite(data.values)
    figure.add_scatter(
        x=numbers, y=data.best, mode="lines", line={"color": BEST, "width": 2.5, "shape": "hv"}, name="best so far",
        hoverinfo="skip",
    )  # fmt: skip
    for state in State:
        chosen = np.array([point.state is state for point in data.points]) & seen
        if chosen.any():
            mark_runs(figure, data.points, chosen, numbers, data.values, state)
    rug(figure, data.points, numbers, ~seen)
    _improvements(figure, data, numbers)
    figure.update_xaxes(title="run", dtick=1 if len(numbers) <= 15 else None)
    figure.update_layout(yaxis=scale(f"{data.metric} ({data.direction})", data.values, log=data.log))
    return figure


def _improvements(figure: Figure, data: OptimisationHistory, numbers: np.ndarray) -> None:
    """The runs that became the best of their time."""
    best, previous = data.best, np.concatenate([[np.nan], data.best[:-1]])
    improved = np.isfinite(best) & ((best != previous) | ~np.isfinite(previous))
    if improved.any():
        marker = {"color": BEST, "size": 11, "line": {"color": "white", "width": 1.5}}
        scatter(figure, data.points, improved, numbers, data.values, name="became best", mode="markers", marker=marker)


def draw_parallel_coordinates(data: ParallelCoordinates) -> Figure:
    """Lines over axes 0, 1, 2, …; inactive parameters lie on a lane below. One trace a fifth of the ranking."""
    figure = blank(height=440)
    count = len(data.axes)
    lane = -0.13
    named = ("worst fifth", "fourth fifth", "third fifth", "second fifth", "best fifth")
    band = np.floor(np.where(np.isfinite(data.rank), data.rank, 0) * 4.9999).astype(int)
    unranked = [i for i in range(len(data.points)) if not math.isfinite(data.rank[i])]
    _lines(figure, data, unranked, lane, name="does not count", colour=COLOURS[State.FAILED], opacity=0.3, width=1)
    for level, name in zip(range(4, -1, -1), named, strict=True):
        chosen = [i for i in range(len(data.points)) if math.isfinite(data.rank[i]) and band[i] == level]
        opacity, width = (0.9, 1.8) if level == 0 else (0.55, 1)
        opacity *= max(0.2, min(1.0, 50 / max(1, len(chosen))))
        _lines(figure, data, chosen, lane, name=name, colour=RANKS[level], opacity=opacity, width=width)
    shapes = [
        {"type": "line", "x0": i, "x1": i, "y0": 0, "y1": 1, "line": {"color": INK, "width": 1}, "layer": "above"}
        for i in range(count)
    ]
    crowded = count > UPRIGHT_AXES
    tilt: dict[str, Any] = {"textangle": -24, "xanchor": "left", "yanchor": "bottom"} if crowded else {}
    place = 1.02 if crowded else 1.07
    notes = [note(i, place, f"<b>{text(axis.name)}</b>", size=12, **tilt) for i, axis in enumerate(data.axes)]
    for i, axis in enumerate(data.axes):
        notes += [
            note(i, place, text(short(label)), size=10, xanchor="left", xshift=5, bgcolor="rgba(255,255,255,0.75)")
            for place, label in axis.ticks
        ]
    if np.isnan(data.positions[:, : max(0, count - 1)]).any():
        notes.append(note(0, lane, "inactive", size=10, xanchor="right", xshift=-8, color="#66727f"))
    figure.update_layout(
        shapes=shapes,
        annotations=notes,
        margin={"l": 60, "r": 70, "t": 130 if crowded else 60, "b": 20},
        dragmode="select",
    )
    figure.update_xaxes(visible=False, range=[-0.15, max(count - 1, 1) + 0.3], fixedrange=True)
    figure.update_yaxes(visible=False, range=[lane - 0.06, 1.02 if crowded else 1.12], fixedrange=True)
    if crowded:
        figure.update_layout(height=500, legend={"y": -0.02, "yanchor": "top"})
    figure.update_layout(selectdirection="any", newselection={"line": {"color": BEST, "width": 1.5}})
    return figure


def _lines(
    figure: Figure, data: ParallelCoordinates, chosen: Sequence[int], lane: float, *, name: str, colour: str,
    opacity: float, width: float,
) -> None:  # fmt: skip
    if not chosen or not data.axes:
        return
    xs: list[float | None] = []
    ys: list[float | None] = []
    labels: list[str] = []
    last = len(data.axes) - 1
    for i in chosen:
        label = text(data.points[i].label)
        for axis, place in enumerate(data.positions[i]):
            missing_outcome = axis == last and not math.isfinite(place)
            xs.append(None if missing_outcome else axis)
            ys.append(None if missing_outcome else float(place) if math.isfinite(place) else lane)
            labels.append(label)
        xs.append(None)
        ys.append(None)
        labels.append("")
    figure.add_scatter(
        x=xs, y=ys, text=labels, mode="lines+markers", name=name, opacity=opacity,
        hovertemplate="%{text}<extra></extra>",
        line={"color": colour, "width": width}, marker={"color": colour, "size": 3 + width},
        unselected={"marker": {"opacity": 1}},
    )  # fmt: skip


def draw_effect(data: ParameterEffect, log_target: bool = False) -> Figure:
    """Numbers as a scatter over their scale, categories as jittered columns with their median."""
    figure = blank(height=SMALL, legend=False)
    finite = np.isfinite(data.outcomes)
    if data.kind == "category":
        places = {level: i for i, level in enumerate(data.levels)}
        base = np.array([places[value] for value in data.values], dtype=float)
        x = base + 0.44 * jitter(len(base))
        for level, place in places.items():
            outcomes = data.outcomes[finite & (base == place)]
            if len(outcomes):
                middle = float(np.median(outcomes))
                figure.add_scatter(
                    x=[place - 0.3, place + 0.3], y=[middle, middle], mode="lines", line={"color": INK, "width": 2},
                    hovertemplate=f"median of {text(level)}: {middle:.6g} ({len(outcomes)} runs)<extra></extra>",
                )  # fmt: skip
        figure.update_xaxes(
            tickvals=list(places.values()),
            ticktext=[text(short(level, 18)) for level in places],
            range=[-0.5, len(places) - 0.5],
        )
    else:
        x = np.array(data.values, dtype=float)
        figure.update_layout(xaxis=scale("", x, log=data.kind == "log"))
        if data.whole and np.ptp(x) <= 8:
            figure.update_xaxes(tickvals=np.arange(x.min(), x.max() + 1).tolist())
    for state in (State.COMPLETED, State.GUARD_BROKEN):
        chosen = np.array([point.state is state for point in data.points], dtype=bool) & finite
        if chosen.any():
            mark_runs(figure, data.points, chosen, x, data.outcomes, state)
    rug(figure, data.points, x, ~finite)
    share = "" if data.effect is None else f" · explains {data.effect:.0%}"
    figure.update_layout(
        title={"text": f"<b>{text(data.name)}</b>{share}", "font": {"size": 13}, "x": 0.02, "y": 0.96},
        margin={"l": 60, "r": 14, "t": 40, "b": 40},
    )
    figure.update_layout(yaxis=scale(data.target, data.outcomes, log=log_target))
    return figure


def draw_curves(data: LearningCurves, best: str | None) -> Figure:
    """The run ``best`` stands out; a run that diverged ends in a cross."""
    figure = blank(height=380)
    named: set[str] = set()
    for curve in sorted(data.curves, key=lambda c: c.point.id == best):
        point, is_best = curve.point, curve.point.id == best
        colour = BEST if is_best else COLOURS[point.state]
        name = f"#{point.number}, the best" if is_best else str(point.state)
        figure.add_scatter(
            x=curve.steps, y=curve.values, mode="lines" if len(curve.steps) > 1 else "markers",
            name=name, legendgroup=name, showlegend=name not in named, marker={"color": colour, "size": 8},
            opacity=1 if is_best else 0.55, line={"color": colour, "width": 3 if is_best else 1.3},
            text=[text(point.label)] * len(curve.steps),
            hovertemplate="step %{x} · %{y:.6g}<br>%{text}<extra></extra>",
        )  # fmt: skip
        named.add(name)
        if curve.diverged_at is not None:
            level = float(curve.values[-1]) if len(curve.values) else 0.0
            figure.add_scatter(
                x=[curve.diverged_at], y=[level], mode="markers", showlegend=False, text=[text(point.label)],
                marker={"symbol": "x", "size": 10, "color": COLOURS[State.FAILED]},
                hovertemplate="not finite from step %{x}<br>%{text}<extra></extra>",
            )  # fmt: skip
    _stops(figure, data)
    values = np.concatenate([curve.values for curve in data.curves]) if data.curves else np.empty(0)
    figure.update_xaxes(title="step")
    figure.update_layout(yaxis=scale(data.metric, values, log=is_wide(values)))
    return figure


def _stops(figure: Figure, data: LearningCurves) -> None:
    """Where runs were stopped early."""
    ends = [c for c in data.curves if c.point.state is State.STOPPED and len(c.steps)]
    if ends:
        figure.add_scatter(
            x=[c.steps[-1] for c in ends], y=[c.values[-1] for c in ends], mode="markers", showlegend=False,
            marker={"symbol": "square", "size": 8, "color": COLOURS[State.STOPPED]},
            text=[text(c.point.label) for c in ends], hovertemplate="stopped at step %{x}<br>%{text}<extra></extra>",
        )  # fmt: skip


def draw_timeline(data: Timeline) -> Figure:
    """One bar a run, one row a slot; times in UTC."""
    figure = blank(height=130 + 34 * min(data.slots, 24))
    gap = {"color": "white", "width": 1 if len(data.bars) < CROWD else 0}
    for state in State:
        bars = [bar for bar in data.bars if bar.point.state is state]
        if bars:
            figure.add_bar(
                y=[f"slot {bar.slot + 1}" for bar in bars], orientation="h", name=str(state), width=0.72,
                base=[bar.start * 1000 for bar in bars], x=[max(bar.end - bar.start, 0.0) * 1000 for bar in bars],
                marker={"color": COLOURS[state], "line": gap},
                text=[text(bar.point.label) for bar in bars], textposition="none",
                customdata=[f"{bar.end - bar.start:.2f} s{' so far' if bar.open else ''}" for bar in bars],
                hovertemplate="%{customdata}<br>%{text}<extra></extra>",
            )  # fmt: skip
    slots = [f"slot {i + 1}" for i in range(data.slots)]
    figure.update_xaxes(type="date", showgrid=True)
    figure.update_yaxes(categoryorder="array", categoryarray=slots[::-1], showgrid=False)
    figure.update_layout(barmode="overlay", bargap=0.2)
    return figure


def draw_tradeoff(data: Tradeoff) -> Figure:
    figure = blank(height=420)
    front = list(data.front)
    if front:
        figure.add_scatter(
            x=data.x[front], y=data.y[front], mode="lines+markers", name="no run is better in both",
            line={"color": BEST, "width": 2, "dash": "dot"},
            marker={"color": BEST, "size": 11, "line": {"color": "white", "width": 1.5}},
            text=[text(data.points[i].label) for i in front], hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    finite = np.isfinite(data.x) & np.isfinite(data.y)
    for state in State:
        chosen = np.array([point.state is state for point in data.points], dtype=bool) & finite
        chosen[front] = False
        if chosen.any():
            mark_runs(figure, data.points, chosen, data.x, data.y, state)
    figure.update_xaxes(title=f"{text(data.metrics[0])} ({data.directions[0]})", showgrid=True)
    figure.update_yaxes(title=f"{text(data.metrics[1])} ({data.directions[1]})")
    return figure
