"""What the gate said over time: the section of a study's report, and its figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from windlass.records.checkpoint import Checkpoint
from windlass.records.deployment import Deployment
from windlass.records.gate import GatePolicy
from windlass.records.verdict import Comparison, Finding, Ruling, Verdict
from windlass.report.blocks import Block, Code, Drawing, Mono, Paragraph, RunId, Table
from windlass.report.canvas import BEST, COLOURS, INK, PALE, blank, note, short, text
from windlass.report.figures import State
from windlass.report.words import interval
from windlass.runs.text import number, one_line

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

RULINGS: Mapping[Ruling, str] = {
    Ruling.PROMOTE: BEST,
    Ruling.KEEP: COLOURS[State.FAILED],
    Ruling.INCONCLUSIVE: COLOURS[State.GUARD_BROKEN],
}
FIGURES = 3
NAMED = 16  #: more challengers than this are numbered, not named


@dataclass(frozen=True, slots=True, kw_only=True)
class GateHistory:
    """Everything that the gate said for the deployment that a study's policy names."""

    study: str
    policy: GatePolicy  #: of the study
    verdicts: Sequence[Verdict] = ()  #: oldest first, those on other studies' checkpoints included
    deployment: Deployment | None = None  #: None where nothing was judged yet
    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict)  #: the challengers, by id

    @property
    def served(self) -> set[str]:
        """Verdicts by which a challenger came to serve."""
        return {t.verdict for t in self.deployment.tenures if t.verdict} if self.deployment else set()

    def to_dict(self) -> dict[str, Any]:
        """The headline as JSON values."""
        return {
            "deployment": self.policy.deployment,
            "champion": self.deployment.champion if self.deployment else None,
            "verdicts": [
                {"id": one.id, "challenger": one.challenger, "ruling": str(one.ruling), "served": one.id in self.served}
                for one in self.verdicts
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """One metric over the verdicts, oldest first; all arrays have the shape (verdicts,)."""

    benchmark: str
    metric: str
    names: tuple[str, ...]  #: of the challengers, short
    labels: tuple[str, ...]  #: plain text of several lines
    rulings: tuple[Ruling, ...]
    served: np.ndarray  #: bool: the challenger came to serve
    champion: np.ndarray  #: mean; NaN where nothing served or nothing was compared
    challenger: np.ndarray
    delta: np.ndarray  #: improvement, turned so that more is better
    low: np.ndarray
    high: np.ndarray
    threshold: np.ndarray  #: what the improvement had to exceed
    held: np.ndarray  #: bool: it is shown to be better in this metric, and something else held it back


def looks(history: GateHistory) -> tuple[Looks, ...]:
    """Of every metric that was to be better, in the policy's order."""
    asked = [(one.name, one.metric) for one in history.policy.benchmarks if one.require == "better"]
    compared = {key: [_comparison(verdict, *key) for verdict in history.verdicts] for key in asked}
    return tuple(_looks(history, *key, found) for key, found in compared.items() if any(found))


def _comparison(verdict: Verdict, benchmark: str, metric: str) -> Comparison | None:
    wanted = ("better", benchmark, metric)
    return next((one for one in verdict.comparisons if (one.role, one.benchmark, one.metric) == wanted), None)


def _looks(history: GateHistory, benchmark: str, metric: str, found: Sequence[Comparison | None]) -> Looks:
    def column(name: str) -> np.ndarray:
        return np.array([np.nan if one is None else getattr(one, name) for one in found], dtype=float)

    champion, challenger = column("champion"), column("challenger")
    served = np.array([verdict.id in history.served for verdict in history.verdicts], dtype=bool)
    for i, (verdict, following) in enumerate(pairwise(history.verdicts)):
        if served[i] and np.isnan(challenger[i]) and following.champion == verdict.challenger:
            challenger[i] = champion[i + 1]  # the first to serve: what came after was compared with it
    return Looks(
        benchmark=benchmark,
        metric=metric,
        names=tuple(_name(history, verdict) for verdict in history.verdicts),
        labels=tuple(
            f"{_name(history, verdict)} {verdict.ruling}\n{verdict.challenger}\n"
            + (f"{one.delta:+.3g}, {interval(one.low, one.high)}, n {one.n}" if one else "nothing was compared")
            + "".join(f"\n{one_line(reason, 90)}" for reason in verdict.reasons[:4])
            for verdict, one in zip(history.verdicts, found, strict=True)
        ),
        rulings=tuple(verdict.ruling for verdict in history.verdicts),
        served=served,
        champion=champion,
        challenger=challenger,
        delta=column("delta"),
        low=column("low"),
        high=column("high"),
        threshold=column("threshold"),
        held=np.array(
            [
                one is not None and one.finding is Finding.PASSED and verdict.ruling is not Ruling.PROMOTE
                for one, verdict in zip(found, history.verdicts, strict=True)
            ],
            dtype=bool,
        ),
    )


def _name(history: GateHistory, verdict: Verdict) -> str:
    """``#12``; with the study's name where it is another's, and the checkpoint's id where no decision led to it."""
    checkpoint = history.checkpoints.get(verdict.challenger)
    if checkpoint is None or checkpoint.number is None:
        return verdict.challenger[:7]
    return f"{'' if checkpoint.study == history.study else f'{checkpoint.study} '}#{checkpoint.number}"


# The section -----------------------------------------------------------------------------------------------------


def gate(history: GateHistory | None) -> Iterator[Block]:
    """Nothing where the study has no gate."""
    if history is None:
        return
    policy, line = history.policy, history.deployment
    if not history.verdicts:
        yield Paragraph(f"No challenger was judged for deployment {policy.deployment} yet.")
        return
    counts = Counter(verdict.ruling for verdict in history.verdicts)
    rulings = ", ".join(f"{counts[ruling]} {ruling}" for ruling in Ruling if counts[ruling])
    serves = f"{line.champion} serves." if line and line.champion else "Nothing serves yet."
    yield Paragraph(
        f"Verdicts for deployment {policy.deployment}: {rulings}. {serves} At most"
        f" {policy.challengers} challengers share alpha {policy.alpha:g}."
    )
    for one in looks(history)[:FIGURES]:
        caption = f"{one.benchmark}: mean {one.metric}, and the improvement over what served, with its interval."
        yield Drawing(caption, partial(draw_looks, one))
    yield Table(
        ("challenger", "checkpoint", "run", "ruling", "improvement", "needed", "because"),
        [_row(history, verdict) for verdict in history.verdicts],
        right=(5,),
    )
    yield Code(f"windlass deployments show {policy.deployment}", "sh")


def _row(history: GateHistory, verdict: Verdict) -> tuple[str, ...]:
    checkpoint = history.checkpoints.get(verdict.challenger)
    one = next((comparison for comparison in verdict.comparisons if comparison.role == "better"), None)
    return (
        _name(history, verdict),
        Mono(verdict.challenger),
        RunId(checkpoint.run) if checkpoint else "–",
        f"{verdict.ruling}, served" if verdict.id in history.served else str(verdict.ruling),
        f"{one.delta:+.3g} ({interval(one.low, one.high)})" if one else "–",
        number(one.threshold) if one else "–",
        one_line(" ".join(verdict.reasons[:1] if verdict.comparisons else verdict.reasons), 300),
    )


# The figure ------------------------------------------------------------------------------------------------------


def draw_looks(data: Looks) -> Figure:
    """Above the means, with the champion's steps; below the improvements, with their intervals and the threshold."""
    figure = blank(height=480)
    x = np.arange(1, len(data.names) + 1, dtype=float)
    after = np.where(data.served, data.challenger, data.champion)
    ends = np.stack([x - 0.5, x, x, x + 0.5], axis=1).ravel()
    steps = np.stack([data.champion, data.champion, after, after], axis=1).ravel()
    figure.add_scatter(
        x=ends, y=steps, mode="lines", yaxis="y2", name="what served", line={"color": BEST, "width": 2.5},
        hoverinfo="skip",
    )  # fmt: skip
    figure.add_scatter(
        x=ends, y=np.repeat(data.threshold, 4), mode="lines", name="needed",
        line={"color": INK, "width": 1.2, "dash": "dot"}, hoverinfo="skip",
    )  # fmt: skip
    for ruling in Ruling:
        chosen = np.array([one is ruling for one in data.rulings], dtype=bool)
        if chosen.any():
            _marks(figure, data, x, chosen, ruling)
    axis = figure.layout.yaxis.to_plotly_json()
    figure.update_layout(
        yaxis={"domain": [0, 0.52], "title": {"text": "improvement"}, "zeroline": True, "zerolinecolor": PALE},
        yaxis2={**axis, "domain": [0.6, 1], "title": {"text": text(short(data.metric, 24))}},
        annotations=[
            note(place, 0, "nothing served", size=10, color="#66727f", textangle=-90)
            for place in x[np.isnan(data.delta) & np.isnan(data.champion)]
        ],
    )
    ticks = {"tickvals": x, "ticktext": [text(name) for name in data.names]} if len(x) <= NAMED else {}
    figure.update_xaxes(title="challenger", range=[0.4, len(x) + 0.6], anchor="y", **ticks)
    return figure


def _marks(figure: Figure, data: Looks, x: np.ndarray, chosen: np.ndarray, ruling: Ruling) -> None:
    colour = RULINGS[ruling]
    style = {
        "mode": "markers", "name": str(ruling), "legendgroup": str(ruling), "hovertemplate": "%{text}<extra></extra>",
        "text": [text(label) for label, here in zip(data.labels, chosen, strict=True) if here],
    }  # fmt: skip
    bar = {
        "type": "data", "symmetric": False, "array": (data.high - data.delta)[chosen],
        "arrayminus": (data.delta - data.low)[chosen], "width": 4, "thickness": 1.6, "color": colour,
    }  # fmt: skip
    marker = {"color": colour, "size": 9, "symbol": np.where(data.held[chosen], "circle-open", "circle")}
    figure.add_scatter(x=x[chosen], y=data.delta[chosen], error_y=bar, marker=marker, **style)
    sizes = np.where(data.served[chosen], 13, 8)
    marker = {"color": colour, "size": sizes, "opacity": 1, "line": {"color": "white", "width": 1.5}}
    figure.add_scatter(
        x=x[chosen], y=data.challenger[chosen], yaxis="y2", marker=marker, **{**style, "showlegend": False}
    )
