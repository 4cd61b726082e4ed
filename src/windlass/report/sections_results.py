"""Sections about results: how it went, trade-offs, parameters, curves, best runs, failures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np

from windlass.records.ranking import Standing
from windlass.records.run import Status
from windlass.report import plots, plots_deciding
from windlass.report.blocks import Block, Drawing, Mono, Paragraph, RunId, Table
from windlass.report.figures import is_wide, run_points, sparkline, target_values
from windlass.report.parameters import ParameterEffect
from windlass.report.study import StudyReport
from windlass.report.words import config_words
from windlass.runs.text import duration, number, one_line

TOP_RUNS = 20
EFFECT_FIGURES = 12
MATTERS = 0.05  #: share explained from which a parameter is worth a word
STOPPED = 20  #: most rows about runs that were stopped early
FRONT = 20  #: most runs of a front in one table
ENOUGH = 6  #: runs with a parameter that are worth a figure


def course(report: StudyReport) -> Iterator[Block]:
    for history in report.histories:
        if np.isfinite(history.values).any():
            yield Drawing(
                f"{history.metric} of every run ({history.direction}), and the best so far. "
                "Crosses along the bottom are runs without a value.",
                partial(plots.draw_history, history),
                sketch=f"{history.metric}, best so far   {sparkline(history.best)}" if len(report.ranked) > 1 else "",
            )
    if report.timeline.bars:
        share = report.timeline.busy_share
        busy = f" Slots were busy {share:.0%} of the time between the first start and the last end." if share else ""
        slots = f"{report.timeline.slots} slot{'s' if report.timeline.slots > 1 else ''}"
        yield Drawing(f"When each run had its slot ({slots}).{busy}", partial(plots.draw_timeline, report.timeline))


def tradeoff(report: StudyReport) -> Iterator[Block]:
    """With several objectives: what no run beats, and how much of the space of results that covers."""
    if not report.tradeoffs or not report.front:
        return
    study, front = report.study, report.front
    names = [objective.metric for objective in study.objectives]
    yield Paragraph(
        f"{len(front)} of {len(report.runs)} runs are on the front: no other run is better in one objective without "
        "being worse in another. The champion is the one with the best sum, in units of what matters."
    )
    best = report.champion.id if report.champion else ""
    order = sorted(front, key=lambda run: -study.objectives[0].gain(run.values[names[0]]))
    rows = [
        (RunId(run.id), *(number(run.values[name]) for name in names), "champion" if run.id == best else "")
        for run in order[:FRONT]
    ]
    yield Table(("run", *names, ""), rows, right=tuple(range(1, 1 + len(names))))
    if len(front) > FRONT:
        yield Paragraph(f"The first {FRONT} of {len(front)}, by {names[0]}.")
    for data in report.tradeoffs:
        yield Drawing(
            f"{data.metrics[0]} against {data.metrics[1]}: {len(data.front)} runs that no other run beats in both.",
            partial(plots.draw_tradeoff, data),
        )
    volumes = np.array(report.hypervolumes)
    if len(volumes) == len(report.runs) and np.isfinite(volumes).any():
        yield Drawing(
            "Hypervolume: how much of the space of results, down to the worst result in every objective and in units "
            "of what matters, the runs so far cover.",
            partial(plots_deciding.draw_hypervolume, run_points(study, report.runs), volumes),
            sketch=f"hypervolume   {sparkline(volumes)}",
        )


def parameters(report: StudyReport) -> Iterator[Block]:
    effects = report.effects
    if not effects or not report.counts.get(Status.COMPLETED):
        return
    yield Paragraph(
        f"Share of the variance of {effects[0].target} (in ranks, corrected for chance) that a parameter explains "
        "alone, over the runs in which it is active. It shows association in the runs that were made, not cause."
    )
    rows = [(Mono(e.name), f"{e.effect:.0%}", *_tendency(e)) for e in effects if e.effect is not None]
    if rows:
        yield Table(("parameter", "explains", "runs", "better where"), rows, right=(1, 2))
    few = [f"{e.name} ({int(np.isfinite(e.outcomes).sum())})" for e in effects if e.effect is None]
    if few:
        yield Paragraph(f"Too few finished runs to tell: {', '.join(few)}.")
    log = is_wide(target_values(report.study, report.runs)[1])
    drawn = [effect for effect in effects if len(effect.points) >= ENOUGH] or effects
    for effect in drawn[:EFFECT_FIGURES]:
        yield Drawing("", partial(plots.draw_effect, effect, log), small=True)
    if len(report.coordinates.axes) > 1:
        left_out = report.coordinates.left_out
        yield Drawing(
            "Every run as a line over its parameters. Drag across axes to pick runs; double-click to see all again."
            + (
                f" {left_out} runs are left out: the best are shown, and the others evenly thinned." if left_out else ""
            ),
            partial(plots.draw_parallel_coordinates, report.coordinates),
            brush=True,
        )


def _tendency(effect: ParameterEffect) -> tuple[str, str]:
    """Finished runs, and where the best fifth of them lies, at least three."""
    finished = [(v, o) for v, o in zip(effect.values, effect.outcomes, strict=True) if o == o]
    if (effect.effect or 0) < MATTERS:
        return str(len(finished)), "–"
    ordered = sorted(finished, key=lambda pair: pair[1], reverse=effect.maximize)
    best = [value for value, _ in ordered[: max(3, len(ordered) // 5)]]
    if effect.kind == "category":
        top = max(effect.levels, key=lambda level: (best.count(level), -effect.levels.index(level)))
        return str(len(finished)), f"{top} ({best.count(top)} of the best {len(best)})"
    low, high = f"{min(best):.4g}", f"{max(best):.4g}"
    return str(len(finished)), f"{low if low == high else f'{low} … {high}'} (the best {len(best)})"


def curves(report: StudyReport) -> Iterator[Block]:
    best = report.champion.id if report.champion else None
    for curves in report.curves:
        champion = next((c for c in curves.curves if c.point.id == best), None)
        yield Drawing(
            f"{curves.metric} by step: the best runs, and runs that failed"
            + (" or were stopped early (a square marks where)." if report.stopped else "."),
            partial(plots.draw_curves, curves, best),
            sketch=f"{curves.metric}, champion   {sparkline(champion.values)}"
            if champion and len(champion.steps) > 1
            else "",
        )
    if report.stopped:
        rule = report.study.early_stopping
        yield Paragraph(
            f"Stopped early, as their curves showed no hope: {len(report.stopped)} of {len(report.runs)} runs"
            + (f" (rule {rule.rule!r} on {rule.metric}, {rule.direction})." if rule else ".")
        )
        rows = [
            (RunId(run.id), f"{stop.step:g}", f"{stop.value:.5g}", duration(run.duration_s), one_line(stop.reason, 200))
            for run in report.stopped[:STOPPED]
            if (stop := run.stopped_early) is not None
        ]
        yield Table(("stopped run", "at step", "value", "after", "because"), rows, right=(1, 2, 3))
        if len(report.stopped) > STOPPED:
            yield Paragraph(f"The first {STOPPED} of {len(report.stopped)}.")


def best_runs(report: StudyReport) -> Iterator[Block]:
    if not report.standings:
        return
    study = report.study
    names = study.required_metrics
    params = [effect.name for effect in report.effects] or list(study.space)
    repeated = any(len(standing.runs) > 1 for standing in report.standings)
    if repeated and report.noise is not None:
        yield Paragraph(
            f"Configs that ran more than once stand with the mean of their runs. The score differs by "
            f"{report.noise:.3g} (standard deviation) between runs of one config; a config is ranked by its mean score "
            "less one standard error, so that one lucky run does not win."
        )
    score = ("score",) if repeated else ()
    rows = [
        (
            str(place),
            RunId(standing.run.id),
            *([str(len(standing.runs))] if repeated else []),
            *(_mean(standing, name) for name in names),
            *([f"{standing.mean:.6g} ± {standing.error:.2g}"] if repeated else []),
            duration(standing.run.duration_s),
            config_words(standing.run.params, params),
        )
        for place, standing in enumerate(report.standings[:TOP_RUNS], 1)
    ]
    header = ("", "run", *(("runs",) if repeated else ()), *names, *score, "duration", "parameters")
    yield Table(header, rows, right=(0, *range(2, len(header) - 1)))
    if len(report.standings) > TOP_RUNS:
        yield Paragraph(f"The first {TOP_RUNS} of {len(report.standings)}.")


def _mean(standing: Standing, name: str) -> str:
    values = [run.values[name] for run in standing.runs if name in run.metrics]
    return number(math.fsum(values) / len(values)) if values else "–"


def failures(report: StudyReport) -> Iterator[Block]:
    if report.failures:
        rows = [
            (
                group.kind,
                str(group.count),
                RunId(group.example.id),
                one_line(group.example.failure.message if group.example.failure else "", 300),
            )
            for group in report.failures
        ]
        yield Table(("kind", "runs", "for example", "which says"), rows, right=(1,))


def rejections(report: StudyReport) -> Iterator[Block]:
    if report.rejections:
        rows = [
            (r.rule, str(r.count), f"#{r.example.number}", one_line(r.example.verdict, 240)) for r in report.rejections
        ]
        yield Table(("rule", "proposals", "for example", "which says"), rows, right=(1,))
