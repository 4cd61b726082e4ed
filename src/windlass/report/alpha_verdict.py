"""What a campaign came to and why: the verdict, the trials behind it, and how far luck alone would have gone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from windlass.report import plots_alpha as plots
from windlass.report.alpha_campaign import AlphaVerdict, CampaignReport, Clause, Floats, Row, real
from windlass.report.alpha_words import (
    NONE,
    Column,
    counted,
    days,
    four,
    grade_words,
    in_bp,
    money,
    part,
    plain,
    probability,
    table,
    three,
    two,
)
from windlass.report.blocks import Block, Bullets, Drawing, Mono, Paragraph, Table
from windlass.report.figures import sparkline
from windlass.runs.text import one_line

EXPRESSION = 200  #: characters of one in running text

#: of the gate's clauses: what it is called, which side of the limit passes, how its value is written
CLAUSES: Mapping[str, tuple[str, str, Callable[[float], str]]] = {
    "max_t": ("max-t p over the search", "<", probability),
    "net": ("net Sharpe at twice the costs", ">", two),
    "timing": ("t beyond a fixed basket", ">", two),
    "unseen": ("trials that saw the holdout", "at most", plain),
    "correlation": ("likeness to what is kept", "<", two),
    "truncation": ("looks at no later day", "", two),
    "placebo": ("placebo p, for grade A", "<", probability),
    "holdout_t": ("holdout t", ">", two),
    "holdout_net": ("holdout net Sharpe at twice the costs", ">", two),
}

TOP: tuple[Column, ...] = (
    ("gross Sharpe", "gross_ir", two),
    ("net Sharpe", "net_ir", two),
    ("IC", "ic", four),
    ("rank IC", "rank_ic", four),
    ("t of IC, HAC", "ic_hac_t", two),
    ("max-t p", "maxt_p", probability),
    ("placebo p", "placebo_p", probability),
    ("likeness", "max_corr_sota", two),
)
PORTFOLIO: tuple[Column, ...] = (
    ("turnover a day, one-way", "turnover_1way", part),
    ("holding, days", "holding_days", days),
    ("break-even, bp", "breakeven_cost_bps", in_bp),
    ("capacity", "capacity_usd_half_ir", money),
    ("largest sector", "sector_max_exposure", part),
    ("static tilt", "static_tilt_share", part),
)


def verdict(report: CampaignReport) -> Iterator[Block]:
    yield Paragraph(report.words)
    yield Bullets(list(_facts(report)))
    if (best := report.best_verdict) is not None and best.clauses:
        yield Paragraph(f"The gate on {best.alpha_id}, clause by clause:")
        rows = [(_label(c), _passed(c), _value(c), _limit(c), c.words) for c in best.clauses]
        yield Table(("clause", "outcome", "value", "limit", "in words"), rows, right=(2, 3))


def _facts(report: CampaignReport) -> Iterator[str]:
    yield trials_words(report)
    if lost := int(report.gate["trials"].get("not_understood") or 0):
        yield f"{counted(lost, 'earlier expression')} could not be evaluated again: nothing is known of their returns."
    if (best := best_words(report)) is not None:
        yield best
    if (one := report.best_verdict) is not None:
        yield f"{one.alpha_id}: {_why(one)}"
    for other in (*report.promoted, *report.provisional):
        if other is not report.best_verdict:
            yield f"{other.alpha_id}: {_why(other)}"
    yield holdout_words(report)
    yield from (str(words) for words in report.gate.get("overlaps") or ())


def trials_words(report: CampaignReport) -> str:
    """How many trials counted, and which."""
    own, earlier, all_of_them = report.trial_counts
    past = f" and {earlier:,} of earlier runs on this data" if earlier else "; no earlier run on this data"
    return f"Mode {report.mode}: {counted(own, 'expression')} tried{past}: {all_of_them:,} trials counted, both signs."


def best_words(report: CampaignReport) -> str | None:
    best = report.best
    if not best:
        return None
    expression = one_line(str(best.get("expression", "")), EXPRESSION)
    numbers = [
        f"{name} {two(value)}"
        for name, key in (("gross Sharpe", "gross_sharpe"), ("net Sharpe", "net_sharpe"), ("t", "t"))
        if math.isfinite(value := real(best, key))
    ]
    return f"Best in-sample: {best.get('alpha_id', '')}, {expression}: {', '.join(numbers) or 'no number'}."


def holdout_words(report: CampaignReport) -> str:
    holdout = _mapping(report.gate.get("holdout"))
    span = f"{holdout['first']} to {holdout['last']}" if {"first", "last"} <= holdout.keys() else "the last days"
    opened = int(holdout.get("opened") or 0)
    if seen := int(holdout.get("searched") or 0):
        return f"The holdout, {span}, was searched: {seen:,} trials of campaigns that sealed fewer days saw days of it."
    if not opened and report.gate.get("overlaps"):
        return f"The holdout, {span}, was opened by no run on these prices; see the other panels below."
    if not opened:
        return f"The holdout, {span}, is sealed: no run has opened it."
    if opened == 1:
        return f"The holdout, {span}, has been opened once on this data."
    return (
        f"The holdout, {span}, has been opened {opened} times on this data; "
        "each opening after the first makes it say less."
    )


def _why(one: AlphaVerdict) -> str:
    if one.words:
        return one.words
    return f"{grade_words(one.grade)}: {'; '.join(clause.words for clause in one.broken) or 'every clause passed'}."


def _label(clause: Clause) -> str:
    return CLAUSES[clause.name][0] if clause.name in CLAUSES else clause.name.replace("_", " ")


def _value(clause: Clause) -> str:
    known = isinstance(clause.value, float) and clause.name in CLAUSES
    return CLAUSES[clause.name][2](clause.value) if known else plain(clause.value)


def _limit(clause: Clause) -> str:
    if clause.limit is None:
        return NONE
    asked = CLAUSES[clause.name][1] if clause.name in CLAUSES else ""
    return f"{asked} {clause.limit:g}".strip() if isinstance(clause.limit, (int, float)) else plain(clause.limit)


def _passed(clause: Clause) -> str:
    return {True: "passed", False: "failed", None: "not judged"}[clause.passed]


def top(report: CampaignReport) -> Iterator[Block]:
    rows = report.top
    if not rows:
        return
    grades = {one.alpha_id: one for one in report.verdicts}
    yield Table(
        ("alpha", "sign", "expression", "from", "grade"),
        [
            (
                Mono(row.get("alpha_id", "")),
                {1: "+", -1: "-"}.get(report.signs.get(row.get("alpha_id", ""), 0), NONE),
                Mono(row.get("expression", "")),
                row.get("proposer", "").replace("_", " "),
                grade_words(grades[row["alpha_id"]].grade) if row.get("alpha_id") in grades else NONE,
            )
            for row in rows
        ],
    )
    yield Paragraph(
        "IC and its t are in the direction of the sign. Likeness: the largest correlation with a better one or with "
        "one that is kept already."
    )
    for columns in (TOP, PORTFOLIO):
        numbers = table(rows, columns)
        if len(numbers.header) > 1:
            yield numbers
    judged = [one for one in report.verdicts if one.clauses]
    names = {clause.name: _label(clause) for one in judged for clause in one.clauses}
    if len(judged) > 1:
        yield Paragraph("Every clause on every one of them, with its value:")
        yield Table(("alpha", *names.values()), [(Mono(one.alpha_id), *_matrix(one, names)) for one in judged])


def _matrix(one: AlphaVerdict, names: Iterable[str]) -> Iterator[str]:
    clauses = {clause.name: clause for clause in one.clauses}
    for name in names:
        clause = clauses.get(name)
        if clause is None:
            yield NONE
        else:
            yield _passed(clause) + (f", {_value(clause)}" if clause.value is not None else "")


def trials(report: CampaignReport) -> Iterator[Block]:
    rows = report.trials
    if len(rows) < 2:
        return
    gross, net, rank = (_column(rows, name) for name in ("gross_ir", "net_ir", "rank_ic"))
    if np.isfinite(gross).sum() > 1:
        caption = (
            f"All {len(rows):,} expressions of this run on development data. Gross, "
            f"{_spread(gross, two)}; net of costs, {_spread(net, two)}."
        )
        parts = [("gross", gross), ("net", net)]
        yield _distribution(caption, parts, "Sharpe ratios of all expressions", "Sharpe ratio of a year")
    elif np.isfinite(rank).sum() > 1:
        caption = f"All {len(rows):,} expressions of this run on development data: rank IC, {_spread(rank, four)}."
        yield _distribution(caption, [("rank IC", rank)], "Rank IC of all expressions", "mean daily rank IC")
    score = net if np.isfinite(net).any() else rank
    count = Counter(row.get("proposer", "") for row in rows)
    best = {
        name: np.nanmax(np.append(score[[row.get("proposer", "") == name for row in rows]], -np.inf)) for name in count
    }
    written = [(name.replace("_", " ") or "unknown", str(n), two(float(best[name]))) for name, n in count.most_common()]
    measure = "net Sharpe" if score is net else "rank IC"
    yield Table(("written by", "expressions", f"best {measure}"), written, right=(1, 2))


def _distribution(caption: str, parts: Sequence[tuple[str, Floats]], title: str, x: str) -> Drawing:
    sketch = "\n".join(f"{name:<8}{_bars(values)}" for name, values in parts)
    return Drawing(caption, partial(plots.draw_distribution, parts, title, x), sketch=sketch)


def luck(report: CampaignReport) -> Iterator[Block]:
    """What the best of so many trials would come to without any skill."""
    max_t, placebo = _mapping(report.gate.get("max_t")), _mapping(report.gate.get("placebo"))
    null = _numbers(max_t.get("null"))
    observed, critical = real(max_t, "observed_max"), real(max_t, "critical")
    if len(null) > 1 and math.isfinite(observed):
        share = float((null > observed).mean())
        yield Drawing(
            f"Search-wide max-t. Were there no skill, the largest |t| over all trials would exceed {two(critical)} in "
            f"5 % of samples (block bootstrap of all trials together). Observed: {two(observed)}, which about "
            f"{100 * share:.0f} % of samples exceed.",
            partial(
                plots.draw_exceedance, null, "Search-wide max-t, no skill", "largest |t| over all trials",
                [("observed", observed), ("critical", critical)],
            ),
            sketch=_sketch(null, observed),
            small=True,
        )  # fmt: skip
    shifts = _numbers(placebo.get("null"))
    peak = real(placebo, "observed_max")
    if len(shifts) > 1 and math.isfinite(peak):
        beaten = int((shifts >= peak).sum())
        yield Drawing(
            f"Time-shift placebo. The same weights met returns of other days, at {len(shifts):,} circular shifts; the "
            "best trial of each is shown, its mean return in units of its own size over all shifts. "
            f"{beaten:,} reach the observed {plain(peak)}: p {probability(real(placebo, 'p'))}. Static tilts and fat "
            "tails are in both, timing is in the observed one alone.",
            partial(
                plots.draw_distribution, [("shifts", shifts)], "Time-shift placebo", "largest value over all trials",
                [("observed", peak)],
            ),
            sketch=_sketch(shifts, peak),
            small=True,
        )  # fmt: skip
    rows = list(_reported(report))
    if rows:
        yield Paragraph("Reported, not decisive:")
        yield Table(("statistic", "value", "what it says"), rows, right=(1,))


def _reported(report: CampaignReport) -> Iterator[tuple[str, str, str]]:
    gate = report.gate
    for key, name, words in (
        ("dsr", "deflated Sharpe", "probability that the best Sharpe is above what the best of so many trials has"),
        ("pbo", "PBO", "share of splits where the best of one half is below the median in the other"),
    ):
        if math.isfinite(value := real(gate, key)):
            yield name, three(value), words
    spa = _mapping(gate.get("spa"))
    for key in ("lower", "consistent", "upper"):
        if math.isfinite(value := real(spa, key)):
            yield f"SPA p, {key}", probability(value), "superior predictive ability over holding nothing"


def power(report: CampaignReport) -> Iterator[Block]:
    """How the verdict could be wrong."""
    said = str(report.gate.get("power") or "")
    if said:
        yield Paragraph(said)
    window: Sequence[Any] = report.gate.get("window") or ()
    notes = []
    if len(window) == 2:
        notes.append(f"Everything above rests on {window[0]} to {window[1]}; another period may behave otherwise.")
    notes.append("Not promoted does not mean no skill: a few years of days show a weak signal only now and then.")
    if report.promoted or report.provisional:
        notes.append("A promotion can be luck: the gate bounds how often that happens and does not rule it out.")
    if report.manifest.get("survivorship") == "likely":
        notes.append("Names that were removed are missing from the data: returns look better than they were.")
    opened = int(_mapping(report.gate.get("holdout")).get("opened") or 0)
    if opened > 1:
        notes.append(f"The holdout was opened {opened} times: a pass on it weighs less than the first one did.")
    notes.append(
        "Costs are a model: spread and impact are assumed, not taken from fills; trades are counted against the "
        "weights of the day before, not against drifted ones."
    )
    yield Bullets(notes)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _numbers(values: Any) -> Floats:
    listed = values if isinstance(values, list) else []
    finite = [float(v) for v in listed if isinstance(v, (int, float)) and math.isfinite(v)]
    return np.array(finite)


def _column(rows: Sequence[Row], name: str) -> Floats:
    return np.array([real(row, name) for row in rows])


def _spread(values: Floats, write: Any) -> str:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "none"
    return f"median {write(float(np.median(finite)))}, best {write(float(finite.max()))}"


def _bars(values: Floats, bins: int = 40) -> str:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return ""
    heights, edges = np.histogram(finite, bins)
    return f"{edges[0]:>9.3g} {sparkline(heights, bins)} {edges[-1]:.3g}"


def _sketch(null: Floats, observed: float) -> str:
    """The null as a row of bars, with a mark under it where the observed value lies."""
    everything = np.append(null, observed)
    edges = np.histogram_bin_edges(everything, 48)
    heights, _ = np.histogram(null, edges)
    place = min(47, int(np.searchsorted(edges, observed, side="right")) - 1)
    bars = sparkline(heights, 48)
    return f"{edges[0]:>9.3g} {bars} {edges[-1]:.3g}\n{'':>9} {' ' * place}^ observed {observed:.3g}"
