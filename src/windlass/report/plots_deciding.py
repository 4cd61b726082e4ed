"""Figures of deciding drawn with plotly: course, forecasts against outcomes, learned regions, patterns, hypervolume."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from windlass.records.decision import Mode
from windlass.records.lessons import Pattern
from windlass.report.canvas import BEST, COLOURS, INK, PALE, SMALL, blank, mark_runs, rug, scale, scatter, short, text
from windlass.report.deciding import Course
from windlass.report.figures import RunPoint, State, is_wide
from windlass.report.forecasts import FailureForecasts, Forecasts
from windlass.report.learned import Lane, RegionOverRuns
from windlass.report.words import region_words

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MODES: Mapping[Mode, str] = {
    Mode.EXPLORE: "#7fb3d5",
    Mode.EXPLOIT: BEST,
    Mode.RECOVER: "#d9902f",
    Mode.REPLAY: "#8d99a6",
}
#: of proposers, in the order in which they come
HUES = ("#54728c", "#a3bfd9", "#8a63b5", "#d98cb3", "#b7a65a", "#6aa84f", "#c8443f", "#6b7785")
FORBIDDEN = "rgba(200, 68, 63, 0.13)"


def draw_course(data: Course) -> Figure:
    """Three rows over the decisions: mode, settled runs since an improvement, slots by proposer."""
    figure = blank(height=470)
    for mode in Mode:
        spans = [span for span in data.spans if span.mode is mode]
        if spans:
            figure.add_bar(
                y=["mode"] * len(spans), orientation="h", name=str(mode), yaxis="y3", width=0.9,
                base=[span.first - 0.5 for span in spans], x=[span.last - span.first + 1 for span in spans],
                marker={"color": MODES[mode], "line": {"width": 0}}, textposition="none",
                text=[text(f"#{s.first} to #{s.last}: {s.mode}\n{_wrapped(s.reason)}") for s in spans],
                hovertemplate="%{text}<extra></extra>",
            )  # fmt: skip
    if np.isfinite(data.since).any():
        figure.add_scatter(
            x=data.numbers, y=data.since, mode="lines", yaxis="y2", name="settled runs since an improvement",
            line={"color": INK, "width": 1.6, "shape": "hv"}, hovertemplate="#%{x}: %{y} runs<extra></extra>",
        )  # fmt: skip
        stuck = data.stagnant & np.isfinite(data.since)
        if stuck.any():
            figure.add_scatter(
                x=data.numbers[stuck], y=data.since[stuck], mode="markers", yaxis="y2", name="stagnant",
                marker={"color": COLOURS[State.FAILED], "size": 5}, hovertemplate="#%{x}: stagnant<extra></extra>",
            )  # fmt: skip
    middle = (data.edges[:-1] + data.edges[1:] - 1) / 2
    for i, name in enumerate(data.proposers):
        figure.add_bar(
            x=middle, y=data.slots[:, i], name=text(name), width=np.diff(data.edges) * 0.92,
            marker={"color": HUES[i % len(HUES)], "line": {"width": 0}},
            hovertemplate=f"{text(name)}: %{{y}} proposals<extra></extra>",
        )  # fmt: skip
    axis = figure.layout.yaxis.to_plotly_json()
    figure.update_layout(
        barmode="stack",
        yaxis={"domain": [0, 0.48], "title": {"text": "proposals"}, "rangemode": "tozero", "dtick": _whole(data.slots)},
        yaxis2={**axis, "domain": [0.56, 0.84], "title": {"text": "runs since"}, "rangemode": "tozero"},
        yaxis3={"domain": [0.91, 1], "visible": False, "fixedrange": True},
        legend={"traceorder": "normal"},
    )
    figure.update_xaxes(title="decision", range=[data.edges[0] - 0.7, data.edges[-1] - 0.3], anchor="y")
    return figure


def _whole(slots: np.ndarray) -> int | None:
    """Ticks at whole numbers, where there are few."""
    return 1 if slots.sum(axis=1).max() <= 5 else None


def _wrapped(words: str, width: int = 80) -> str:
    return "\n".join(textwrap.wrap(words, width))


def draw_forecasts(data: Forecasts) -> Figure:
    """Forecast on the vertical axis, outcome on the horizontal one: on the diagonal the two agree."""
    figure = blank(height=SMALL + 20, legend=False)
    log = is_wide(data.actual) and bool((data.middle > 0).all())
    floor = min(data.actual.min(), data.middle.min()) / 2 if log else -np.inf  # where a log axis ends
    low = np.maximum(data.low, floor)
    ends = np.array([min(data.actual.min(), data.middle.min()), max(data.actual.max(), data.middle.max())])
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": PALE, "width": 1.5}, hoverinfo="skip")
    inside = (data.low <= data.actual) & (data.actual <= data.high)
    for chosen, colour in ((inside, COLOURS[State.COMPLETED]), (~inside, COLOURS[State.FAILED])):
        if chosen.any():
            bar = {
                "type": "data", "symmetric": False, "array": (data.high - data.middle)[chosen].clip(0),
                "arrayminus": (data.middle - low)[chosen].clip(0), "width": 0, "thickness": 1, "color": colour,
            }  # fmt: skip
            marker = {"color": colour, "size": 6}
            scatter(
                figure, data.points, chosen, data.actual, data.middle,
                mode="markers", marker=marker, error_y=bar, opacity=0.8,
            )  # fmt: skip
    figure.update_layout(
        xaxis=scale(f"{data.metric}, came", data.actual, log=log),
        yaxis=scale("forecast", np.concatenate([low, data.high]), log=log),
        **_titled(short(data.metric, 24), "forecast, 90 % interval; what came"),
    )
    return figure


def _titled(name: str, words: str, *, legend: bool = False) -> dict[str, Any]:
    """A figure beside another has its title inside."""
    title = {"text": f"<b>{text(name)}</b> · {text(words)}", "font": {"size": 13}, "x": 0.02, "y": 0.97}
    return {"title": title, "margin": {"l": 60, "r": 14, "t": 62 if legend else 40, "b": 46}}


def draw_failure_forecasts(data: FailureForecasts) -> Figure:
    figure = blank(height=SMALL + 20)
    numbers = np.array([point.number for point in data.points])
    for state in State:
        chosen = np.array([point.state is state for point in data.points], dtype=bool)
        if chosen.any():
            mark_runs(figure, data.points, chosen, numbers, data.fails, state)
    figure.update_layout(**_titled("failure", "forecast, and how the runs ended", legend=True))
    figure.update_xaxes(title="run")
    figure.update_yaxes(title="P(fails), forecast", range=[-0.04, 1.04], tickformat=".0%")
    return figure


def draw_region(data: RegionOverRuns) -> Figure:
    """The runs over one parameter or two, the forbidden region shaded; with one, the target is the other axis."""
    figure = blank(height=SMALL + 30)
    x, y, learned = data.x, data.y, data.learned
    words = f"{len(learned.failed)} of {len(learned.failed) + len(learned.survived)} runs inside failed"
    bands = [(low, high, 0.0, 1.0) for low, high in x.bands]
    if y is not None:
        bands = [(*band, *other) for band in x.bands for other in y.bands]
    shapes = [
        {
            "type": "rect", "x0": x0, "x1": x1, "y0": y0, "y1": y1, "yref": "paper" if y is None else "y",
            "fillcolor": FORBIDDEN, "line": {"color": COLOURS[State.FAILED], "width": 1, "dash": "dot"},
            "layer": "below",
        }
        for x0, x1, y0, y1 in bands
    ]  # fmt: skip
    name = short(region_words(learned.constraint.region), 44)
    figure.update_layout(shapes=shapes, **_titled(name, words, legend=True))
    figure.update_xaxes(**_ticks(x))
    if y is None:
        finite = np.isfinite(data.outcomes)
        _marks(figure, data.points, finite, x.positions, data.outcomes)
        rug(figure, data.points, x.positions, ~finite)
        figure.update_layout(yaxis=scale(data.target, data.outcomes, log=is_wide(data.outcomes)))
    else:
        _marks(figure, data.points, np.ones(len(data.points), dtype=bool), x.positions, y.positions)
        figure.update_yaxes(**_ticks(y))
    return figure


def _marks(figure: Figure, points: Sequence[RunPoint], among: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    for state in State:
        chosen = among & np.array([point.state is state for point in points], dtype=bool)
        if chosen.any():
            mark_runs(figure, points, chosen, x, y, state)


def _ticks(lane: Lane) -> dict[str, Any]:
    return {
        "title": {"text": text(lane.axis.name)},
        "tickvals": [place for place, _ in lane.axis.ticks],
        "ticktext": [text(short(label)) for _, label in lane.axis.ticks],
        "range": [-0.05, 1.05],
    }


def draw_patterns(patterns: Sequence[Pattern]) -> Figure:
    """One row a pattern, the strongest on top: effect and interval, in units of the score."""
    figure = blank(height=90 + 26 * len(patterns), legend=False)
    rows = list(range(len(patterns)))[::-1]
    names = [text(short(region_words(pattern.region), 60)) for pattern in patterns]
    effects = np.array([pattern.effect for pattern in patterns])
    colours = [BEST if p.low > 0 else COLOURS[State.FAILED] if p.high < 0 else "#8d99a6" for p in patterns]
    for row, pattern, colour in zip(rows, patterns, colours, strict=True):
        figure.add_scatter(
            x=[pattern.low, pattern.high], y=[row, row], mode="lines", line={"color": colour, "width": 2},
            hoverinfo="skip",
        )  # fmt: skip
    figure.add_scatter(
        x=effects, y=rows, mode="markers", marker={"color": colours, "size": 9},
        text=[text(f"{region_words(p.region)}\n{p.effect:+.3g}, {p.low:.3g} to {p.high:.3g}, {len(p.runs)} runs")
              for p in patterns],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    figure.update_yaxes(tickvals=rows, ticktext=names, range=[-0.6, len(patterns) - 0.4], ticks="", showgrid=False)
    low, high = min(0.0, *(p.low for p in patterns)), max(0.0, *(p.high for p in patterns))
    room = 0.04 * (high - low)
    figure.update_xaxes(title="effect on the score", showgrid=True, range=[low - room, high + room])
    figure.update_layout(margin={"l": 20, "r": 20, "t": 14, "b": 46})
    return figure


def draw_hypervolume(points: Sequence[RunPoint], volumes: np.ndarray) -> Figure:
    """``volumes`` of shape (runs,), after each run."""
    figure = blank(height=SMALL, legend=False)
    numbers = np.array([point.number for point in points])
    figure.add_scatter(
        x=numbers, y=volumes, mode="lines", line={"color": BEST, "width": 2.5, "shape": "hv"},
        hovertemplate="after #%{x}: %{y:.6g}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title="run")
    figure.update_yaxes(title="hypervolume", rangemode="tozero")
    return figure
