"""Sections about deciding: modes and slots, forecasts against outcomes, credit, votes and overrides."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from windlass.records.decision import Outcome, Stance
from windlass.records.lessons import Credit
from windlass.report import plots_deciding as plots
from windlass.report.blocks import Block, Bullets, Drawing, Paragraph, Table
from windlass.report.deciding import Span
from windlass.report.figures import sparkline
from windlass.report.study import StudyReport
from windlass.report.words import interval
from windlass.runs.text import number, one_line

SPANS = 40
Z90 = 1.6448536269514722


def course(report: StudyReport) -> Iterator[Block]:
    data, lessons = report.course, report.lessons
    if data is None or len(report.decisions) < 2:
        return
    facts = []
    if lessons is not None:
        facts.append(f"Stagnation: {lessons.stagnation.reason}")
        if (trend := lessons.trend) is not None:
            facts.append(
                f"Trend of the last {trend.runs} scores: {trend.slope:+.3g} a run, "
                f"90 % interval {interval(trend.low, trend.high)}"
            )
    if facts:
        yield Bullets(facts)
    seen = np.isfinite(data.since)
    yield Drawing(
        "What the decisions were for, how long ago the best had improved when they were made, and who proposed.",
        partial(plots.draw_course, data),
        sketch=f"settled runs since an improvement   {sparkline(data.since)}" if seen.sum() > 1 else "",
    )
    spans = data.spans[-SPANS:]
    changes = len(data.spans) - 1
    rows = [(_numbers(span), str(span.mode), one_line(span.reason, 240)) for span in spans]
    title = f"{changes} change{'s' if changes > 1 else ''} of mode" if changes else "One mode throughout"
    yield Table(("decisions", "mode", "because, at first"), rows, folded=title)
    if len(data.spans) > SPANS:
        yield Paragraph(f"The last {SPANS} of {len(data.spans)} spells of one mode.")


def _numbers(span: Span) -> str:
    return f"#{span.first}" if span.first == span.last else f"#{span.first} to #{span.last}"


def forecasts(report: StudyReport) -> Iterator[Block]:
    calibration = report.calibration
    if calibration is not None and calibration.runs:
        rows = [
            (name, str(one.count), _share(one.share50), _share(one.share90))
            for name, one in (*calibration.metrics.items(), ("score", calibration.score))
            if one.count and (name != "score" or len(report.study.objectives) > 1)
        ]
        if rows:
            yield Paragraph(
                "How often what came lay inside its forecast interval. Good intervals hold just their share: "
                "narrower ones promise too much, wider ones say too little."
            )
            yield Table(("forecast of", "runs", "inside 50 %", "inside 90 %"), rows, right=(1, 2, 3))
        yield Paragraph(_failures(calibration.runs, calibration.failures, calibration.brier, calibration.brier_base))
    for data in report.forecasts:
        yield Drawing("", partial(plots.draw_forecasts, data), small=True)
    if report.failure_forecasts is not None:
        yield Drawing("", partial(plots.draw_failure_forecasts, report.failure_forecasts), small=True)


def _share(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _failures(runs: int, failures: int, brier: float | None, base: float | None) -> str:
    """Whether forecasts of failure know more than the share of failures."""
    counted = f"{failures} of {runs} forecast runs failed."
    if brier is None or base is None or not failures:
        return counted
    scores = f"The Brier score of the failure forecasts is {brier:.3f} (0 is perfect); always saying the share of"
    scores += f" failures so far scores {base:.3f}."
    verdict = "They know more than that share." if brier < base else "They know no more than that share."
    return f"{counted} {scores} {verdict}"


def credit(report: StudyReport) -> Iterator[Block]:
    told = report.lessons is not None and (report.lessons.proposers or report.lessons.critics)
    if report.proposers and (told or len(report.proposers) > 1):
        yield Paragraph(
            "Proposers. Improved: the run beat all earlier ones by more than the noise. Credit goes from 0 to 1, with "
            "a 90 % interval; it starts at an even opinion, so few cases say little. Repeats and ablations are run for "
            "what they teach, and are not judged by their results."
        )
        yield Table(
            ("proposer", "proposals", "approved", "ran", "failed", "stopped early", "improved", "credit", "interval"),
            [
                (
                    p.name,
                    *map(str, (p.proposals, p.approved, p.ran, p.failed, p.stopped)),
                    f"{p.credit.facts.get('improved', 0):g}" if p.credit else "–",
                    *_credit(p.credit),
                )
                for p in report.proposers
            ],
            right=(1, 2, 3, 4, 5, 6, 7),
        )
    if report.critics:
        yield Paragraph("Critics. Right: the vote agreed with what became of the run.")
        yield Table(
            ("critic", "votes", "judged by now", "right", "credit", "interval"),
            [
                (
                    c.name,
                    str(c.active),
                    str(c.credit.cases) if c.credit else "–",
                    f"{c.credit.good:.3g}" if c.credit else "–",
                    *_credit(c.credit),
                )
                for c in report.critics
            ],
            right=(1, 2, 3, 4),
        )


def _credit(credit: Credit | None) -> tuple[str, str]:
    if credit is None:
        return "–", "–"
    low, high = (min(1.0, max(0.0, credit.value + side * Z90 * credit.sd)) for side in (-1, 1))
    return f"{credit.value:.2f}", f"{low:.2f} … {high:.2f}"


def votes(report: StudyReport) -> Iterator[Block]:
    judged = [d for d in report.decisions if d.tally is not None and d.votes]
    if judged:
        outcomes = {o: sum(d.outcome is o for d in judged) for o in Outcome}
        split = sum(d.tally.agreement < 1 for d in judged if d.tally)
        entropy = float(np.mean([d.tally.entropy for d in judged if d.tally]))
        yield Paragraph(
            f"The critics judged {len(judged)} proposals: "
            + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items() if count)
            + f". They were of one mind about {'all' if not split else len(judged) - split} of them; "
            f"the mean entropy of their votes is {entropy:.2f} bits, of at most 1.58."
        )
        yield Table(
            ("critic", *map(str, Stance), "against the panel"),
            [(c.name, *(str(c.stances.get(s, 0)) for s in Stance), str(c.against)) for c in report.critics],
            right=(1, 2, 3, 4, 5),
        )
    if report.overridden:
        yield Paragraph("What the supervisor changed:")
        yield Table(
            ("rule", "before", "after", "times", "for example", "which says"),
            [
                (o.rule, str(o.before), str(o.after), str(o.count), f"#{o.example.number}", one_line(o.reason, 200))
                for o in report.overridden
            ],
            right=(3,),
        )
    if report.approvals:
        yield Paragraph("What people answered:")
        rows = [
            (f"#{a.number}", "approved" if a.approved else "rejected", a.by, one_line(a.reason, 200))
            for a in report.approvals
        ]
        yield Table(("decision", "answer", "by", "reason"), rows)
    incidents = [(d.number, incident) for d in report.decisions for incident in d.incidents]
    if incidents:
        counted: dict[tuple[str, str], list[int]] = {}
        for at, one in incidents:
            counted.setdefault((one.agent, one_line(one.message, 200)), []).append(at)
        yield Paragraph("Agents that could not do their part; the study went on without them:")
        rows = [(agent, str(len(at)), f"#{at[0]}", message) for (agent, message), at in counted.items()]
        yield Table(("agent", "times", "first at", "because"), rows, right=(1,))
    exchanges = [e for d in report.decisions for e in d.exchanges]
    if exchanges:
        failed = sum(bool(e.error) for e in exchanges)
        tokens = sum(e.input_tokens + e.output_tokens for e in exchanges)
        money = sum(e.money for e in exchanges)
        yield Paragraph(
            f"Language model: {len(exchanges)} requests, {failed} without a usable reply, {tokens} tokens"
            + (f", {number(money)} in money." if money else ".")
        )
