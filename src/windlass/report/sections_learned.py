"""The section on what was learned: forbidden regions over the results, patterns, trend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from windlass.records.lessons import LearnedConstraint, Lessons, Pattern
from windlass.report import plots_deciding as plots
from windlass.report.blocks import Block, Bullets, Drawing, Paragraph, RunId, Table
from windlass.report.study import StudyReport
from windlass.report.words import chance, interval, region_words
from windlass.runs.text import one_line

REGION_FIGURES = 8
PATTERNS = 15
NOTES = 20


def lessons(report: StudyReport) -> Iterator[Block]:
    known = report.lessons
    if known is None:
        return
    yield from _constraints(report, known.constraints)
    if known.expired:
        yield Paragraph("Learned once, and contradicted since:")
        rows = [(region_words(e.constraint.region), one_line(e.reason, 240)) for e in known.expired]
        yield Table(("forbidden no more", "because"), rows)
    yield from _patterns(known.patterns)
    yield from _asides(known)


def _constraints(report: StudyReport, constraints: Sequence[LearnedConstraint]) -> Iterator[Block]:
    if not constraints:
        return
    yield Paragraph(
        "Where runs fail. Purity is the share of the runs inside that failed, with the lower end of its 95 % interval; "
        "outside, the share is the base rate."
    )
    yield Table(
        ("forbidden where", "failed", "survived", "purity", "at least", "outside", "how they fail", "for example"),
        [
            (
                region_words(c.constraint.region),
                str(len(c.failed)),
                str(len(c.survived)),
                chance(c.purity),
                chance(c.bound),
                chance(c.base_rate),
                ", ".join(f"{count} {kind}" for kind, count in c.kinds.items()),
                RunId(c.failed[0]) if c.failed else "–",
            )
            for c in constraints
        ],
        right=(1, 2, 3, 4, 5),
    )
    for drawn in report.regions[:REGION_FIGURES]:
        yield Drawing("", partial(plots.draw_region, drawn), small=True)


def _patterns(patterns: Sequence[Pattern]) -> Iterator[Block]:
    if not patterns:
        return
    yield Paragraph(
        "What goes with better or worse scores: the mean score inside less that outside, the other patterns aside, "
        "with a 90 % interval. One unit is a difference that matters."
    )
    shown = patterns[:PATTERNS]
    rows = [
        (region_words(p.region), f"{p.effect:+.3g}", interval(p.low, p.high), str(len(p.runs)), *_best(p))
        for p in shown
    ]
    yield Table(("where", "effect", "90 % interval", "runs", "best inside"), rows, right=(1, 3))
    yield Drawing("", partial(plots.draw_patterns, shown))
    if len(patterns) > PATTERNS:
        yield Paragraph(f"The strongest {PATTERNS} of {len(patterns)}.")


def _best(pattern: Pattern) -> tuple[str]:
    return (RunId(pattern.runs[0]) if pattern.runs else "–",)


def _asides(known: Lessons) -> Iterator[Block]:
    notes = list(known.notes)
    notes += [f"Not learned from: run {run_id}, {why}" for run_id, why in known.set_aside.items()]
    if notes:
        left = [f"… and {len(notes) - NOTES} more"] if len(notes) > NOTES else []
        yield Bullets([*(one_line(note, 300) for note in notes[:NOTES]), *left])
