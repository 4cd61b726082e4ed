"""What the judged alphas earned and what it cost: returns, attribution, sensitivity, capacity, decay, robustness."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from windlass.report import plots_alpha as plots
from windlass.report.alpha_campaign import COSTS, EXACT, YEAR, CampaignReport, Daily, Row, growth, real
from windlass.report.alpha_words import NONE, basis_points, in_bp, money, part, two
from windlass.report.blocks import Block, Drawing, Mono, Paragraph, Table
from windlass.report.figures import sparkline
from windlass.report.plots_alpha import Line, Spread

SHOWN = 5  #: alphas drawn in one figure
MATRIX = 50  #: alphas of a correlation matrix that is shown
FIRM = 2.0  #: absolute t from which a mark is filled


def returns(report: CampaignReport) -> Iterator[Block]:
    yield from paths(
        report.daily,
        "Test days of the walk-forward, the sign chosen on earlier days. The factors were chosen by their net ratio on "
        "these days, so these are the best of many. Growth of the capital, compounded: "
        "net of all costs as lines, gross dotted; below, how far net lies under its peak so far.",
    )


def paths(daily: Sequence[Daily], caption: str) -> Iterator[Block]:
    """Return paths as a figure and a table, of walk-forward or holdout days."""
    if not daily:
        return
    shown = daily[:SHOWN]
    if len(daily) > SHOWN:
        caption += f" The first {SHOWN} of {len(daily)}."
    sketch = "\n".join(
        f"{one.alpha_id:<12} net {sparkline(growth(one.net))}  drawdown {sparkline(one.drawdown())}" for one in shown
    )
    yield Drawing(caption, partial(plots.draw_returns, shown), sketch=sketch)
    header = (
        "alpha",
        "days",
        "from",
        "to",
        "gross a year",
        "net a year",
        "volatility",
        "deepest fall",
        "turnover a day",
    )
    rows = [
        (
            Mono(one.alpha_id),
            f"{len(one.dates):,}",
            one.dates[0],
            one.dates[-1],
            part(float(one.gross.mean()) * YEAR),
            part(float(one.net.mean()) * YEAR),
            part(float(one.net.std(ddof=1)) * math.sqrt(YEAR) if len(one.net) > 1 else math.nan),
            part(float(one.drawdown().min())),
            part(float(one.turnover.mean())),
        )
        for one in daily
    ]
    yield Table(header, rows, (1, 4, 5, 6, 7, 8))


def costs(report: CampaignReport) -> Iterator[Block]:
    daily = report.daily
    if daily:
        parts = [(one.alpha_id, one.attribution()) for one in daily]
        yield Drawing(
            "From gross (bar) to net (diamond), in basis points of the capital a year: what each cost takes.",
            partial(plots.draw_attribution, parts),
        )
        header = ("alpha", "gross", *(f"- {name}" for name in COSTS), "= net", "largest gap of a day")
        rows = [
            (
                Mono(one.alpha_id),
                *(basis_points(attribution[name]) for name in ("gross", *COSTS, "net")),
                f"{one.gap:.1e}",
            )
            for one, (_, attribution) in zip(daily, parts, strict=True)
        ]
        yield Table(header, rows, range(1, 8))
        yield Paragraph(_sum_words(daily))
    yield from _sensitivity(report)


def _sum_words(daily: Sequence[Daily]) -> str:
    wrong = [one.alpha_id for one in daily if not one.adds_up]
    total = sum(len(one.dates) for one in daily)
    if wrong:
        return (
            f"WARNING: gross minus the costs is not net within {EXACT:g} on every day of {', '.join(wrong)}. Do not "
            "trust these returns."
        )
    return f"Gross minus linear, spread, impact and borrow is net within {EXACT:g} on each of {total:,} days."


def _sensitivity(report: CampaignReport) -> Iterator[Block]:
    scaled = report.table("cost_sensitivity.csv")
    sized = report.table("capacity.csv")
    grid = [row for row in sized if row.get("kind") == "grid"]
    lines, grown = _lines(scaled, "multiple", "net_ir"), _lines(grid, "assets", "net_ir")
    if lines:
        yield Drawing(
            "Cost sensitivity: net Sharpe where every cost is multiplied. The gate asks for more than 0 at 2 x.",
            partial(plots.draw_lines, lines, "Cost sensitivity", "multiple of all costs", "net Sharpe"),
            small=True,
        )
    if grown:
        yield Drawing(
            "Capacity: net Sharpe by the capital that is run; impact grows with it.",
            partial(plots.draw_lines, grown, "Capacity", "assets under management", "net Sharpe", log=True),
            small=True,
        )
    if lines:
        even = report.table("cost_sensitivity_break_even.csv")
        ends = {row.get("alpha_id", ""): in_bp(real(row, "breakeven_cost_bps")) for row in even}
        yield _by_place(scaled, "multiple", "net Sharpe at costs of", lambda x: f"{x:g} x", ("break-even, bp", ends))
    if grown:
        ends = {row.get("alpha_id", ""): money(real(row, "assets")) for row in sized if row.get("kind") == "half"}
        yield _by_place(grid, "assets", "net Sharpe at a capital of", money, ("half of gross at", ends))


def decay(report: CampaignReport) -> Iterator[Block]:
    rows = report.table("decay_analysis.csv")
    lagged, held = ([row for row in rows if row.get("kind") == kind] for kind in ("ic", "holding"))
    if lines := _lines([report.directed(row) for row in lagged], "days", "rank_ic", firm="rank_ic_hac_t"):
        sketch = "\n".join(f"{line.name:<12} rank IC by lag {sparkline(line.y)}" for line in lines)
        yield Drawing(
            "Rank IC with the one-day return so many days on, in the direction held; filled where its HAC |t| is "
            f"{FIRM:g} or more.",
            partial(plots.draw_lines, lines, "Decay of information", "lag, days", "mean daily rank IC"),
            sketch=sketch,
            small=True,
        )
    if lines := _lines(held, "days", "net_ir"):
        yield Drawing(
            "Net Sharpe by the days that a position is held: longer holding trades less and knows less.",
            partial(plots.draw_lines, lines, "Holding period", "holding, days", "net Sharpe"),
            small=True,
        )
        yield _by_place(held, "days", "net Sharpe, days held", lambda x: f"{x:g}")


def robustness(report: CampaignReport) -> Iterator[Block]:
    yield from _overlap(report)
    paths_ = _spreads([row for row in report.table("cpcv.csv") if row.get("kind") == "path"], "number", "path ")
    if paths_:
        yield Drawing(
            "Combinatorial purged cross-validation: net Sharpe of each path of held-out days; the bar is their median. "
            "Only the sign is fitted: where every split chose the same one, all paths are one and the same.",
            partial(plots.draw_spread, paths_, "Cross-validated paths", "net Sharpe", "median"),
            small=True,
        )
    ablated = report.table("ablation_results.csv")
    removed = [row for row in ablated if row.get("without") != "nothing"]
    whole = {row.get("alpha_id", ""): real(row, "net_ir") for row in ablated if row.get("without") == "nothing"}
    controls = _spreads(removed, "without", "without ", whole)
    if controls:
        yield Drawing(
            "Ablation: net Sharpe with one control left out, a point a control; the bar is the net Sharpe with all of "
            "them. A point far to the right means that its control costs more than it saves.",
            partial(plots.draw_spread, controls, "Ablation", "net Sharpe", "with all controls"),
            small=True,
        )
    if paths_:
        rows = [
            (
                Mono(one.name),
                str(len(one.values)),
                *(two(float(pick(one.values))) for pick in (np.min, np.median, np.max)),
                f"{int((one.values > 0).sum())} of {len(one.values)}",
            )
            for one in paths_
        ]
        yield Table(("alpha", "paths", "lowest", "median", "highest", "above 0"), rows, range(1, 6))
    if controls:
        yield _ablation(removed, whole)


def _overlap(report: CampaignReport) -> Iterator[Block]:
    rows = report.table("alpha_correlation.csv")
    names = list(dict.fromkeys(name for row in rows for name in (row.get("a", ""), row.get("b", ""))))
    if not rows or len(names) > MATRIX:
        return
    places = {name: place for place, name in enumerate(names)}
    values = np.eye(len(names))
    for row in rows:
        one, other = places[row.get("a", "")], places[row.get("b", "")]
        values[one, other] = values[other, one] = real(row, "correlation")
    off = np.abs(np.where(np.eye(len(names), dtype=bool), np.nan, values))
    finite = off[np.isfinite(off)]
    told = f": at most {two(float(finite.max()))} between two of them" if len(finite) else ""
    yield Drawing(
        f"Correlation of daily net returns out of sample{told}. The gate bounds that of the gross portfolios at 0.70.",
        partial(plots.draw_matrix, names, values),
    )
    cells = [(Mono(name), *(two(float(v)) for v in row)) for name, row in zip(names, values, strict=True)]
    yield Table(("alpha", *names), cells, range(1, len(names) + 1), folded="Correlations as a table")


def _order(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.get("alpha_id", "") for row in rows))


def _lines(rows: Sequence[Row], x: str, y: str, firm: str = "") -> list[Line]:
    """One line an alpha, of the first ones; an alpha without a number has none."""
    lines = []
    for name in _order(rows):
        own = [row for row in rows if row.get("alpha_id") == name and math.isfinite(real(row, y))]
        if own:
            strength = np.array([abs(real(row, firm)) >= FIRM for row in own], dtype=float) if firm else None
            place, value = (np.array([real(row, column) for row in own]) for column in (x, y))
            lines.append(Line(name, place, value, strength))
    return lines[:SHOWN]


def _spreads(rows: Sequence[Row], label: str, word: str, bars: Mapping[str, float] | None = None) -> list[Spread]:
    """The net Sharpe ratios of each alpha, against their median where ``bars`` has nothing else."""
    spreads = []
    for name in _order(rows)[:SHOWN]:
        own = [row for row in rows if row.get("alpha_id") == name and math.isfinite(real(row, "net_ir"))]
        if own:
            values = np.array([real(row, "net_ir") for row in own])
            bar = float(np.median(values)) if bars is None else bars.get(name, math.nan)
            spreads.append(Spread(name, [f"{word}{row.get(label, '')}" for row in own], values, bar))
    return spreads


def _by_place(
    rows: Sequence[Row],
    x: str,
    heading: str,
    write: Callable[[float], str],
    last: tuple[str, Mapping[str, str]] | None = None,
) -> Table:
    """Net Sharpe ratios, a row an alpha and a column a place; ``last`` is one more column."""
    places = sorted({place for row in rows if math.isfinite(place := real(row, x))})
    values = {(row.get("alpha_id", ""), real(row, x)): real(row, "net_ir") for row in rows}
    cells = [
        (
            Mono(name),
            *(two(values.get((name, place), math.nan)) for place in places),
            *([last[1].get(name, NONE)] if last else []),
        )
        for name in _order(rows)
    ]
    header = (heading, *(write(place) for place in places), *([last[0]] if last else []))
    return Table(header, cells, range(1, len(header)))


def _ablation(rows: Sequence[Row], whole: Mapping[str, float]) -> Table:
    names = list(dict.fromkeys(row.get("without", "") for row in rows))
    values = {(row.get("alpha_id", ""), row.get("without", "")): real(row, "net_ir") for row in rows}
    cells = [
        (
            Mono(alpha),
            two(whole.get(alpha, math.nan)),
            *(two(values.get((alpha, name), math.nan)) for name in names),
        )
        for alpha in _order(rows)
    ]
    heads = (f"without {name.replace('_', ' ')}" for name in names)
    return Table(("net Sharpe", "all controls", *heads), cells, range(1, len(names) + 2))
