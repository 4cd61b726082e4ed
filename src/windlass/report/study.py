"""A study's story, put together once: as text for the terminal, as REPORT.md, and as report.html with figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.records.decision import Decision, StudyRecord
from windlass.records.document import dump_yaml
from windlass.records.result import encode_number
from windlass.records.run import RunRecord, Status
from windlass.records.study import Study
from windlass.report import figures, parameters
from windlass.report.tables import run_dict, status_words
from windlass.runs.folder import RunFolder
from windlass.runs.reader import read_metric
from windlass.runs.text import code, document, duration, escape, fence, number, one_line, percent, show, signed, table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TOP_RUNS = 10
DECISIONS = 200  #: rows of the table of decisions
EFFECTS = 8  #: parameters with a figure of their own
CURVES = 24  #: runs whose learning curves are drawn


@dataclass(frozen=True, slots=True)
class Section:
    """A title, Markdown below it, and figures that are drawn when they are asked for."""

    title: str
    text: str
    draw: Callable[[], list[Figure]] | None = None


@dataclass(frozen=True, slots=True)
class StudyReport:
    study: Study
    record: StudyRecord
    runs: tuple[RunRecord, ...]
    ranked: tuple[RunRecord, ...]  #: that count, best first
    headline: tuple[str, ...]  #: plain sentences
    next_steps: tuple[str, ...]  #: commands
    sections: tuple[Section, ...]

    @property
    def best(self) -> RunRecord | None:
        return self.ranked[0] if self.ranked else None

    def summary(self) -> str:
        """For the terminal: plain text."""
        lines = [f"Study {self.study.name}: {self.study.description}".rstrip(": "), *self.headline]
        if self.best is not None:
            values = figures.optimisation_history(self.study, self.study.objectives[0].metric, self.runs)
            lines.append(f"best so far   {figures.sparkline(values.best)}")
        effects = [e for e in parameters.parameter_effects(self.study, self.runs) if e.effect is not None][:4]
        if effects:
            named = ", ".join(f"{e.name} {100 * (e.effect or 0):.0f} %" for e in effects)
            lines.append(f"what mattered (share of the ranks explained alone): {named}")
        return "\n".join([*lines, "Next:", *(f"  {command}" for command in self.next_steps)])

    def markdown(self) -> str:
        parts = [f"# Study {escape(self.study.name)}", escape(self.study.description)]
        parts += ["\n".join(f"- {escape(line)}" for line in self.headline)]
        for section in self.sections:
            if section.text:
                parts += [f"## {section.title}", section.text]
        return document(*parts, "## Next", fence("\n".join(self.next_steps)))

    def html(self) -> str:
        """One file that opens offline. Raises MissingExtra where plotly is not installed."""
        from windlass.report.page import page

        return page(self)

    def to_dict(self) -> dict[str, Any]:
        return {
            "study": self.study.name,
            "status": self.record.status,
            "stopped_because": self.record.stopped_because,
            "headline": list(self.headline),
            "best": run_dict(self.best) if self.best else None,
            "runs": [
                {"id": r.id, "number": r.number, "status": r.status, "score": _score(self.study, r)} for r in self.runs
            ],
            "effects": [
                {"parameter": e.name, "effect": e.effect} for e in parameters.parameter_effects(self.study, self.runs)
            ],
            "next": list(self.next_steps),
        }


def study_report(
    study: Study, runs: Sequence[RunRecord], decisions: Sequence[Decision], record: StudyRecord, runs_root: Path
) -> StudyReport:
    """``runs`` by number, replays left out; curves are read from the folders in ``runs_root``."""
    ranked = tuple(figures.ranked(study, runs))
    baseline = _baseline_run(runs, decisions)
    sections = (
        Section("The best run", _best(study, ranked, baseline)),
        Section("How it went", _ending(study, runs, record), lambda: _progress_figures(study, runs)),
        Section("Top runs", _top(study, ranked)),
        Section("What the parameters did", _effects(study, runs), lambda: _parameter_figures(study, runs)),
        Section("Learning curves", "", lambda: _curve_figures(study, runs, ranked, runs_root)),
        Section("Failures", _failures(runs)),
        Section("Rejected proposals", _rejections(decisions)),
        Section("Decisions", _decisions(study, decisions, runs)),
        Section("The question", _question(study)),
    )
    return StudyReport(
        study,
        record,
        tuple(runs),
        ranked,
        _headline(study, runs, ranked, baseline, record),
        _next(study, ranked),
        sections,
    )


def _score(study: Study, run: RunRecord) -> float | str | None:
    score = study.score(run.values) if run.status is Status.COMPLETED else None
    return None if score is None else encode_number(score)


def _baseline_run(runs: Sequence[RunRecord], decisions: Sequence[Decision]) -> RunRecord | None:
    ids = {d.run_id for d in decisions if d.proposal.proposer == "baseline"}
    return next((run for run in runs if run.id in ids and run.status is Status.COMPLETED), None)


def _headline(
    study: Study,
    runs: Sequence[RunRecord],
    ranked: Sequence[RunRecord],
    baseline: RunRecord | None,
    record: StudyRecord,
) -> tuple[str, ...]:
    lines = []
    if ranked:
        values = ", ".join(f"{o.metric} {number(ranked[0].values[o.metric])}" for o in study.objectives)
        lines.append(f"best: {values} (run {ranked[0].number}, {ranked[0].id})")
        first = study.objectives[0]
        if baseline is not None and baseline.id != ranked[0].id and first.metric in baseline.values:
            before, after = baseline.values[first.metric], ranked[0].values[first.metric]
            change = f", {percent((after - before) / abs(before))}" if before else ""
            gain = first.gain(after) - first.gain(before)
            lines.append(
                f"baseline: {first.metric} {number(before)}; the best gains {signed(gain)} scale units{change}"
            )
    elif runs:
        lines.append("best: none; no run completed within the guards")
    counts = Counter(status_words(run).partition(" (")[0] for run in runs)
    lines.append(
        f"{len(runs)} runs: " + ", ".join(f"{n} {words}" for words, n in counts.most_common())
        if runs
        else "no runs yet"
    )
    ended = f", because: {record.stopped_because}" if record.stopped_because else ""
    lines.append(f"{record.status} after {duration(record.active_s)} of driving and {record.cycles} cycles{ended}")
    return tuple(lines)


def _next(study: Study, ranked: Sequence[RunRecord]) -> tuple[str, ...]:
    commands = [f"windlass run {study.name}"]
    if ranked:
        commands = [f"windlass runs show {ranked[0].id}", f"windlass runs replay {ranked[0].id}"]
    if len(ranked) > 1:
        commands.append(f"windlass runs compare {ranked[0].id} {ranked[1].id}")
    return tuple(commands)


def _best(study: Study, ranked: Sequence[RunRecord], baseline: RunRecord | None) -> str:
    if not ranked:
        return "No run completed within the guards."
    best = ranked[0]
    rows = []
    for metric in dict.fromkeys([*study.required_metrics, *(n for n in best.values if "/" not in n)]):
        if metric in best.values:
            before = baseline.values.get(metric) if baseline is not None else None
            change = None if before is None else best.values[metric] - before
            rows.append((code(metric), number(best.values[metric]), number(before), signed(change)))
    return document(
        f"Run {code(best.id)}, number {best.number}, took {duration(best.duration_s)}.",
        table(("metric", "best run", "baseline", "difference"), rows, right=(1, 2, 3)),
        fence(dump_yaml({k: v for k, v in best.config.items() if k != "workload"}), "yaml"),
        f"It can be run again, as a proof, with {code(f'windlass runs replay {best.id}')}.",
    )


def _ending(study: Study, runs: Sequence[RunRecord], record: StudyRecord) -> str:
    facts = [f"{len(runs)} runs" + (f" of a budget of {study.budget.runs}" if study.budget.runs else "")]
    if study.budget.wall_time:
        facts.append(f"{duration(record.active_s)} of a budget of {duration(study.budget.wall_time)}")
    time = figures.timeline(study, runs)
    if time.busy_share is not None:
        facts.append(f"{time.slots} slots, busy {100 * time.busy_share:.0f} % of the time")
    facts.append(f"{duration(sum(run.cpu_s for run in runs))} of CPU in all jobs")
    return "; ".join(facts) + "."


def _top(study: Study, ranked: Sequence[RunRecord]) -> str:
    metrics = study.required_metrics
    names = [n for n in study.space if any(n in run.params for run in ranked[:TOP_RUNS])]
    rows = [
        (
            str(run.number),
            *(number(run.values.get(m)) for m in metrics),
            duration(run.duration_s),
            escape(", ".join(f"{n} {show(run.params[n])}" for n in names if n in run.params)),
        )
        for run in ranked[:TOP_RUNS]
    ]
    header = ("run", *map(code, metrics), "took", "parameters")
    return table(header, rows, right=(0, *range(1, len(metrics) + 1))) if rows else ""


def _effects(study: Study, runs: Sequence[RunRecord]) -> str:
    rows = [
        (code(e.name), "–" if e.effect is None else f"{100 * e.effect:.0f} %", str(len(e.values)))
        for e in parameters.parameter_effects(study, runs)
    ]
    if not rows:
        return ""
    return document(
        "How much of the runs' ranks each parameter explains alone, over the runs in which it is active"
        " (epsilon squared of Kruskal and Wallis). Few runs, and parameters that were not varied evenly, mislead.",
        table(("parameter", "explains", "runs"), rows, right=(1, 2)),
    )


def _failures(runs: Sequence[RunRecord]) -> str:
    failed = [run for run in runs if run.failure is not None]
    kinds = Counter(run.failure.kind for run in failed if run.failure)
    rows = []
    for kind, count in kinds.most_common():
        example = next(run for run in failed if run.failure and run.failure.kind is kind)
        assert example.failure is not None
        rows.append((str(kind), str(count), str(example.number), escape(one_line(example.failure.message, 160))))
    return table(("kind", "runs", "for example", "message"), rows, right=(1, 2)) if rows else ""


def _rejections(decisions: Sequence[Decision]) -> str:
    rejected = [d for d in decisions if not d.approved]
    rows = [(str(d.number), escape(d.proposal.proposer), escape(one_line(d.verdict, 200))) for d in rejected[:50]]
    more = f"\n\n… and {len(rejected) - 50} more in decisions.jsonl" if len(rejected) > 50 else ""
    return table(("decision", "proposer", "why"), rows, right=(0,)) + more if rows else ""


def _decisions(study: Study, decisions: Sequence[Decision], runs: Sequence[RunRecord]) -> str:
    by_id = {run.id: run for run in runs}
    rows = []
    for d in decisions[-DECISIONS:]:
        run = by_id.get(d.run_id or "")
        outcome = "rejected" if run is None else status_words(run)
        metric = study.objectives[0].metric
        value = number(run.values.get(metric)) if run is not None and run.values.get(metric) is not None else ""
        rows.append(
            (str(d.number), str(d.mode), escape(d.proposal.proposer), escape(d.proposal.reason), outcome, value)
        )
    if not rows:
        return ""
    header = ("number", "mode", "proposer", "reason", "outcome", code(study.objectives[0].metric))
    left = f"The last {DECISIONS} of {len(decisions)}.\n\n" if len(decisions) > DECISIONS else ""
    return left + table(header, rows, right=(0, 5))


def _question(study: Study) -> str:
    return document(
        f"Seed {study.seed}, fingerprint {code(study.fingerprint[:16])}. The file as it was run:",
        fence(dump_yaml(study.model_dump(mode="json", exclude_defaults=True)), "yaml"),
    )


def _progress_figures(study: Study, runs: Sequence[RunRecord]) -> list[Figure]:
    from windlass.report import plots

    if not runs:
        return []
    drawn = [plots.draw_history(figures.optimisation_history(study, o.metric, runs)) for o in study.objectives[:4]]
    if (both := figures.tradeoff(study, runs)) is not None:
        drawn.append(plots.draw_tradeoff(both))
    bars = figures.timeline(study, runs)
    return [*drawn, plots.draw_timeline(bars)] if bars.bars else drawn


def _parameter_figures(study: Study, runs: Sequence[RunRecord]) -> list[Figure]:
    from windlass.report import plots

    coordinates = parameters.parallel_coordinates(study, runs)
    drawn = [plots.draw_parallel_coordinates(coordinates)] if len(coordinates.axes) > 1 else []
    _, outcomes = figures.target_values(study, runs)
    wide = figures.is_wide(outcomes)
    return drawn + [plots.draw_effect(e, wide) for e in parameters.parameter_effects(study, runs)[:EFFECTS]]


def _curve_figures(
    study: Study, runs: Sequence[RunRecord], ranked: Sequence[RunRecord], runs_root: Path
) -> list[Figure]:
    """Of the metric that most runs have a curve of, an objective's own where it has one."""
    from windlass.report import plots

    with_curves = Counter(
        name
        for run in runs
        for name, summary in run.metrics.items()
        if summary.count > 1 and not name.startswith("system/")
    )
    if not with_curves:
        return []
    objective = study.objectives[0].metric
    metric = max(with_curves, key=lambda name: (name == objective, name.endswith(objective), with_curves[name], name))
    chosen = [*ranked, *(run for run in runs if run not in ranked)]
    chosen = [run for run in chosen if metric in run.metrics and run.metrics[metric].count > 1][:CURVES]
    points = figures.run_points(study, chosen)
    curves = []
    for run, point in zip(chosen, points, strict=True):
        steps, _, values = read_metric(RunFolder(runs_root / run.id), metric)
        if len(values):
            curves.append(figures.learning_curve(point, steps, values))
    if not curves:
        return []
    best = ranked[0].id if ranked else None
    return [plots.draw_curves(figures.LearningCurves(metric=metric, curves=tuple(curves)), best)]
