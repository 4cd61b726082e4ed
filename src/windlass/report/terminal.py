"""A study's report in a terminal: plain text of at most 100 columns where names allow it."""

from __future__ import annotations

import textwrap

from windlass.records.run import RunRecord
from windlass.report.figures import sparkline
from windlass.report.sections_results import MATTERS
from windlass.report.story import budget_words, counts_words, next_commands, verdict_words
from windlass.report.study import StudyReport
from windlass.report.words import objective_words
from windlass.runs.text import one_line, show

WIDTH = 100


def study_summary(report: StudyReport) -> str:
    record = report.record
    because = f": {record.stopped_because}" if record.stopped_because else ""
    lines = [f"Study {report.study.name} is {record.status}{because}", "", *_wrap(verdict_words(report)), ""]
    rows: list[tuple[str, str]] = []
    if report.champion is not None:
        rows += _run("best", report.champion, report)
    if report.reference is not None and report.reference[1] is not report.champion:
        rows += _run(*report.reference, report)
    rows.append(("runs", counts_words(report)))
    rows.append(("used", budget_words(report)))
    for history in report.histories if len(report.ranked) > 1 else ():
        rows.append((f"{history.metric}, best so far", sparkline(history.best)))
    for metric, count in report.broken_guards.items():
        rows.append(("guard", f"{metric} is broken by {count} completed runs"))
    for group in report.failures[:3]:
        message = group.example.failure.message if group.example.failure else ""
        rows.append((f"{group.count} {group.kind}", one_line(message, 90)))
    for rejection in report.rejections[:3]:
        rows.append((f"{rejection.count} rejected", f"by {rejection.rule}"))
    known = [effect for effect in report.effects if (effect.effect or 0) >= MATTERS]
    if known:
        rows.append(("what mattered", ", ".join(f"{e.name} {e.effect:.0%}" for e in known[:4])))
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        lines += _wrap(value, f"  {name:<{width}}", " " * (width + 2))
    return "\n".join([*(line.rstrip() for line in lines), "", "Next", *(f"  {c}" for c in next_commands(report))])


def _run(name: str, run: RunRecord, report: StudyReport) -> list[tuple[str, str]]:
    params = run.params
    chosen = ", ".join(f"{key} = {show(params[key])}" for key in report.study.space if key in params)
    words = "" if name == "best" else f"{name} "
    label = "best" if name == "best" else "against"
    return [
        (label, f"{words}#{run.number}  {objective_words(report.study, run)}  {run.id}"),
        ("", one_line(chosen, 300)),
    ]


def _wrap(text: str, first: str = "", following: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=following,
        break_long_words=False,
        break_on_hyphens=False,
    )
