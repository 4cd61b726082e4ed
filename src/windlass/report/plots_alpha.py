"""Figures of alpha research drawn with plotly: returns, costs, decay, the null distributions of the gate, overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from windlass.report.alpha_campaign import COSTS, Daily, Floats, growth
from windlass.report.alpha_words import money
from windlass.report.canvas import BEST, COLOURS, INK, PALE, SMALL, blank, note, scale, short, text
from windlass.report.figures import State

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

#: of alphas, in the gate's order; a dash tells those beyond the fifth
HUES = (BEST, "#d9902f", "#4c78a8", "#8a63b5", "#8d99a6")
DASHES = ("solid", "dash", "dot")
COST_COLOURS = dict(zip(COSTS, ("#4c78a8", "#9dc3e0", "#d9902f", "#8a63b5"), strict=True))
FALL = "rgba(200, 68, 63, 0.10)"
BINS = 40
RED = COLOURS[State.FAILED]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One alpha's course."""

    name: str
    x: Floats
    y: Floats
    firm: Floats | None = None  #: marks that are filled, where not all are: 1 or 0


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """The values of one alpha under several names."""

    name: str
    labels: Sequence[str]
    values: Floats
    bar: float  #: what they are seen against


def draw_returns(daily: Sequence[Daily]) -> Figure:
    """Compounded growth, net as a line and gross dotted; below it the drawdown of net."""
    figure = blank(height=520)
    for place, one in enumerate(daily):
        style = _style(place)
        name = text(one.alpha_id)
        shared = {"x": list(one.dates), "legendgroup": name, "mode": "lines"}
        figure.add_scatter(
            y=100 * growth(one.gross), showlegend=False, line={**style, "width": 1.2, "dash": "dot"}, opacity=0.75,
            hovertemplate=f"{name} gross %{{y:.2f}} %<br>%{{x}}<extra></extra>", **shared,
        )  # fmt: skip
        figure.add_scatter(
            y=100 * growth(one.net), name=f"{name}, net", line={**style, "width": 2},
            hovertemplate=f"{name} net %{{y:.2f}} %<br>%{{x}}<extra></extra>", **shared,
        )  # fmt: skip
        figure.add_scatter(
            y=100 * one.drawdown(), showlegend=False, yaxis="y2", line={**style, "width": 1.2},
            fill="tozeroy" if len(daily) == 1 else None, fillcolor=FALL,
            hovertemplate=f"{name} drawdown %{{y:.2f}} %<br>%{{x}}<extra></extra>", **shared,
        )  # fmt: skip
    axis = figure.layout.yaxis.to_plotly_json()
    figure.update_layout(
        yaxis={"domain": [0.36, 1], **_across("growth, %")},
        yaxis2={**axis, "domain": [0, 0.28], **_across("drawdown, %"), "rangemode": "tozero"},
    )
    figure.update_xaxes(type="date", anchor="y2")
    return figure


def draw_attribution(parts: Sequence[tuple[str, Mapping[str, float]]]) -> Figure:
    """A column an alpha: from gross, each cost takes its part, down to net. In basis points of a year."""
    figure = blank(height=360)
    names = [text(name) for name, _ in parts]
    level = np.array([attribution["gross"] for _, attribution in parts]) * 1e4
    marker = {"symbol": "line-ew", "size": 46, "line": {"width": 3, "color": INK}}
    hover = "%{x}: %{customdata:.1f} bp<extra>%{fullData.name}</extra>"
    figure.add_scatter(
        x=names, y=level, mode="markers", name="gross", marker=marker, customdata=level, hovertemplate=hover
    )
    for cost in COSTS:
        taken = np.array([attribution[cost] for _, attribution in parts]) * 1e4
        level = level - taken
        figure.add_bar(
            x=names, y=taken, base=level, name=cost, width=0.42, customdata=taken, hovertemplate=hover,
            marker={"color": COST_COLOURS[cost], "line": {"width": 0}},
        )  # fmt: skip
    net = np.array([attribution["net"] for _, attribution in parts]) * 1e4
    marker = {"symbol": "diamond", "size": 11, "color": BEST, "line": {"width": 1.5, "color": "white"}}
    figure.add_scatter(x=names, y=net, mode="markers", name="net", marker=marker, customdata=net, hovertemplate=hover)
    figure.update_layout(barmode="overlay", yaxis={**_across("basis points a year"), "rangemode": "tozero"})
    figure.update_xaxes(type="category", range=[-0.7, max(len(names), 3) - 0.3])
    return figure


def draw_lines(lines: Sequence[Line], title: str, x: str, y: str, *, log: bool = False) -> Figure:
    """One line an alpha; a figure that stands beside another."""
    figure = blank(height=SMALL + 20)
    for place, line in enumerate(lines):
        style = _style(place)
        symbol = "circle" if line.firm is None else ["circle" if firm else "circle-open" for firm in line.firm]
        figure.add_scatter(
            x=line.x, y=line.y, mode="lines+markers", name=text(line.name), line={**style, "width": 1.6},
            marker={"color": style["color"], "size": 6, "symbol": symbol},
            hovertemplate=f"{text(line.name)}: %{{y:.4g}} at %{{x:.4g}}<extra></extra>",
        )  # fmt: skip
    places = np.concatenate([line.x for line in lines])
    figure.update_layout(xaxis=scale(x, places, log=log), yaxis=_across(y))
    if log:
        marks = np.unique(places)
        figure.update_xaxes(tickvals=marks, ticktext=[money(mark) for mark in marks])
    return _titled(figure, title)


def draw_distribution(
    parts: Sequence[tuple[str, Floats]], title: str, x: str, lines: Sequence[tuple[str, float]] = ()
) -> Figure:
    """Histograms over the same bins, and named values as upright lines."""
    figure = blank(height=SMALL + 20, legend=len(parts) > 1)
    everything = np.concatenate([values[np.isfinite(values)] for _, values in parts])
    edges = np.histogram_bin_edges(everything, BINS)
    for place, (name, values) in enumerate(parts):
        heights, _ = np.histogram(values[np.isfinite(values)], edges)
        figure.add_bar(
            x=(edges[1:] + edges[:-1]) / 2, y=heights, width=np.diff(edges), name=text(name),
            marker={"color": ("#8fb3d9", "#d9902f")[place % 2], "line": {"width": 0}}, opacity=1 - 0.35 * (place > 0),
            hovertemplate="%{y} at %{x:.3g}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(barmode="overlay", bargap=0)
    figure.update_xaxes(title={"text": text(x)})
    figure.update_layout(yaxis=_across("count"))
    return _titled(_upright(figure, lines), title)


def draw_exceedance(quantiles: Floats, title: str, x: str, lines: Sequence[tuple[str, float]]) -> Figure:
    """``quantiles`` from 0 to 1, equally far apart: the share of the null that lies above each value."""
    figure = blank(height=SMALL + 20, legend=False)
    above = 100 * (1 - np.linspace(0, 1, len(quantiles)))
    figure.add_scatter(
        x=quantiles, y=above, mode="lines", line={"color": "#4c78a8", "width": 2}, fill="tozeroy",
        fillcolor="rgba(76, 120, 168, 0.15)", hovertemplate="%{y:.0f} % of the null above %{x:.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title={"text": text(x)})
    figure.update_layout(yaxis={**_across("share of the null above, %"), "range": [0, 104]})
    return _titled(_upright(figure, lines), title)


def draw_matrix(names: Sequence[str], values: np.ndarray) -> Figure:
    """Correlations of shape (names, names), from -1 in orange over white to 1 in blue."""
    side = 42 * len(names)
    figure = blank(height=max(SMALL, 130 + side), legend=False)
    labels = [text(short(name, 20)) for name in names]
    figure.add_heatmap(
        x=labels, y=labels, z=values, zmin=-1, zmax=1, xgap=2, ygap=2,
        colorscale=[(0, "#d9902f"), (0.5, "#ffffff"), (1, "#2f6690")],
        showscale=False,
        hovertemplate="%{y} and %{x}: %{z:.2f}<extra></extra>",
    )  # fmt: skip
    strong = np.abs(values) > 0.6
    figure.update_layout(
        annotations=[
            note(j, i, f"{values[i, j]:.2f}", size=11, color="white" if strong[i, j] else INK)
            for i in range(len(names))
            for j in range(len(names))
            if np.isfinite(values[i, j])
        ]
    )
    figure.update_xaxes(type="category", constrain="domain", constraintoward="left", showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, scaleanchor="x", constrain="domain")
    return figure


def draw_spread(groups: Sequence[Spread], title: str, x: str, bar: str) -> Figure:
    """A row a group: its named values as points, and a bar, which ``bar`` says what it is."""
    figure = blank(height=max(SMALL - 60, 110 + 44 * len(groups)), legend=False)
    for place, group in enumerate(groups):
        name = text(group.name)
        figure.add_scatter(
            x=group.values, y=[name] * len(group.values), mode="markers", text=[text(label) for label in group.labels],
            marker={"color": _style(place)["color"], "size": 10, "line": {"color": "white", "width": 1}}, opacity=0.7,
            hovertemplate="%{text}: %{x:.2f}<extra></extra>",
        )  # fmt: skip
        if np.isfinite(group.bar):
            marker = {"symbol": "line-ns", "size": 22, "line": {"width": 2.5, "color": INK}}
            figure.add_scatter(
                x=[group.bar], y=[name], mode="markers", marker=marker,
                hovertemplate=f"{text(bar)}: %{{x:.2f}}<extra></extra>",
            )  # fmt: skip
    figure.update_xaxes(title={"text": text(x)}, showgrid=True, **_zero())
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    return _titled(figure, title)


def _style(place: int) -> dict[str, Any]:
    return {"color": HUES[place % len(HUES)], "dash": DASHES[place // len(HUES) % len(DASHES)]}


def _across(title: str) -> dict[str, Any]:
    """A vertical axis whose title keeps clear of its numbers, and whose zero is seen."""
    return {"title": {"text": text(title), "standoff": 12}, **_zero()}


def _zero() -> dict[str, Any]:
    return {"zeroline": True, "zerolinecolor": PALE, "zerolinewidth": 1.5}


def _upright(figure: Figure, lines: Sequence[tuple[str, float]]) -> Figure:
    """The first line is what was observed; its words stand above the others'."""
    shapes, notes = [], []
    for place, (name, value) in enumerate(lines):
        colour = (RED, INK)[place > 0]
        dash = ("solid", "dash")[place > 0]
        shapes.append(
            {
                **{"type": "line", "x0": value, "x1": value, "yref": "paper", "y0": 0, "y1": 1},
                "line": {"color": colour, "width": 2, "dash": dash},
            }
        )
        height = 0.98 - 0.1 * place
        place_ = {"yref": "paper", "xanchor": "left", "xshift": 4, "bgcolor": "rgba(255,255,255,0.8)"}
        notes.append(note(value, height, f"{text(name)} {value:.3g}", size=11, color=colour, **place_))
    return figure.update_layout(shapes=shapes, annotations=notes)


def _titled(figure: Figure, title: str) -> Figure:
    """A figure beside another has its title inside."""
    legend = bool(figure.layout.showlegend)
    return figure.update_layout(
        title={"text": f"<b>{text(title)}</b>", "font": {"size": 13}, "x": 0.02, "y": 0.97},
        margin={"l": 64, "r": 16, "t": 64 if legend else 42, "b": 48},
    )
