"""What a study's report says, in blocks; ``StudyReport`` has the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from windlass.records.document import dump_yaml
from windlass.records.parameters import Parameter
from windlass.records.region import Condition, Contains, Interval, Region
from windlass.records.run import RunRecord, Status
from windlass.report import plots
from windlass.report.blocks import Block, Bullets, Code, Drawing, Mono, Paragraph, RunId, Section, Table
from windlass.report.figures import is_wide, sparkline, target_values
from windlass.report.parameters import ParameterEffect
from windlass.report.study import StudyReport
from windlass.runs.text import duration, number, one_line, percent, show, signed, size, when

TOP_RUNS = 20
DECISIONS = 500
EFFECT_FIGURES = 12
MATTERS = 0.05  #: share explained from which a parameter is worth a word
ENOUGH = 6  #: runs with a parameter that are worth a figure


def story(report: StudyReport) -> list[Section]:
    """Sections with something to say, in reading order."""
    told = [
        Section("In short", list(_in_short(report))),
        Section("Champion", list(_champion(report))),
        Section("How it went", list(_course(report))),
        Section("What the parameters did", list(_parameters(report))),
        Section("Learning curves", list(_curves(report))),
        Section("Best runs", list(_best_runs(report))),
        Section("Failures", list(_failures(report))),
        Section("Rejected proposals", list(_rejections(report))),
        Section("What was asked", list(_asked(report))),
        Section("Decisions", list(_decisions(report))),
        Section("To reproduce", list(_reproduce(report))),
        Section("Next", [Code("\n".join(next_commands(report)), "sh")]),
    ]
    return [section for section in told if section.blocks]


def counts_words(report: StudyReport) -> str:
    """``21 completed, 3 failed (2 diverged, 1 timeout)``."""
    kinds = ", ".join(f"{group.count} {group.kind}" for group in report.failures)
    words = [
        f"{count} {status}" + (f" ({kinds})" if status is Status.FAILED and kinds else "")
        for status, count in report.counts.items()
    ]
    return ", ".join(words) or "none yet"


def budget_words(report: StudyReport) -> str:
    """``24 of 24 runs, 1 min 12 s of 30 min 00 s``."""
    budget = report.study.budget
    runs = f"{len(report.runs)} of {budget.runs} runs" if budget.runs else f"{len(report.runs)} runs"
    driven = duration(report.record.active_s)
    return f"{runs}, {driven} of {duration(budget.wall_time)}" if budget.wall_time else f"{runs}, {driven}"


def verdict_words(report: StudyReport) -> str:
    """The study's answer in one sentence."""
    champion, reference = report.champion, report.reference
    if champion is None:
        if not report.runs:
            return "No run yet."
        if report.counts.get(Status.COMPLETED):
            return "No completed run keeps every guard with finite objectives: there is no champion."
        return "No run has completed: there is no champion."
    assert reference is not None
    name, run = reference
    if run.id == champion.id:
        return f"Nothing beat the {name}, run #{run.number}."
    objectives = {o.metric for o in report.study.objectives}
    gains = [d for d in report.gains if d.metric in objectives]
    words = ", ".join(
        f"{d.metric} {number(d.a)} → {number(d.b)}" + (f" ({percent(d.relative)})" if d.relative else "") for d in gains
    )
    return f"Run #{champion.number} is best; against the {name} (#{run.number}): {words}."


def next_commands(report: StudyReport) -> list[str]:
    name, champion, reference = report.study.name, report.champion, report.reference
    commands = []
    if champion is not None and reference is not None:
        commands += [f"windlass runs show {champion.id}", f"windlass runs replay {champion.id}"]
        if reference[1].id != champion.id:
            commands.append(f"windlass runs compare {reference[1].id} {champion.id}")
    elif report.failures:
        commands.append(f"windlass runs show {report.failures[0].example.id}")
    if report.failures:
        commands.append(f"windlass runs search \"study = '{name}' and status = 'failed'\"")
    return [*commands, f"windlass run {name} --cycles 10"]


def _in_short(report: StudyReport) -> Iterator[Block]:
    if report.study.description:
        yield Paragraph(report.study.description)
    yield Paragraph(verdict_words(report))
    record = report.record
    stopped = f" ({record.stopped_because})" if record.stopped_because else ""
    yield Bullets(
        [
            f"Study: {record.status}{stopped}",
            f"Runs: {counts_words(report)}",
            f"Used: {budget_words(report)}, {duration(sum(run.cpu_s for run in report.runs))} of processor time",
            *([f"Rejected proposals: {sum(r.count for r in report.rejections)}"] if report.rejections else []),
            *(f"Guard {metric}: broken by {count} completed runs" for metric, count in report.broken_guards.items()),
        ]
    )


def _champion(report: StudyReport) -> Iterator[Block]:
    champion, reference = report.champion, report.reference
    if champion is None or reference is None:
        return
    name, run = reference
    same = run.id == champion.id
    yield Table(
        ("run", "number", "duration", "memory, peak", "seed"),
        [
            (
                RunId(r.id),
                f"#{r.number} {words}",
                duration(r.duration_s),
                size(r.peak_memory_bytes) if r.peak_memory_bytes else "–",
                str(r.seed),
            )
            for r, words in ([(champion, "champion")] + ([] if same else [(run, name)]))
        ],
    )
    directions = {o.metric: o.direction for o in report.study.objectives}
    if not same:
        yield Table(
            ("metric", "wanted", name, "champion", "difference", "relative", "champion is"),
            [
                (
                    Mono(d.metric),
                    directions.get(d.metric, "guard"),
                    number(d.a),
                    number(d.b),
                    signed(d.difference),
                    percent(d.relative),
                    d.verdict,
                )
                for d in report.gains
            ],
            right=(2, 3, 4, 5),
        )
        before, after = run.params, champion.params
        changed = [key for key in report.study.space if before.get(key) != after.get(key)]
        if changed:
            cells = [tuple(Mono(show(p[key])) if key in p else "inactive" for p in (before, after)) for key in changed]
            rows = [(Mono(key), *pair) for key, pair in zip(changed, cells, strict=True)]
            yield Table(("changed parameter", name, "champion"), rows)
    yield Code(dump_yaml({key: value for key, value in champion.config.items() if key != "workload"}), "yaml")


def _course(report: StudyReport) -> Iterator[Block]:
    for history in report.histories:
        if np.isfinite(history.values).any():
            yield Drawing(
                f"{history.metric} of every run ({history.direction}), and the best so far. "
                "Crosses along the bottom are runs without a value.",
                partial(plots.draw_history, history),
                sketch=f"{history.metric}, best so far   {sparkline(history.best)}" if len(report.ranked) > 1 else "",
            )
    if report.tradeoff is not None and report.ranked:
        yield Drawing(
            f"The first two objectives against each other: {len(report.tradeoff.front)} runs that no other run beats "
            "in both.",
            partial(plots.draw_tradeoff, report.tradeoff),
        )
    if report.timeline.bars:
        share = report.timeline.busy_share
        busy = f" Slots were busy {share:.0%} of the time between the first start and the last end." if share else ""
        slots = f"{report.timeline.slots} slot{'s' if report.timeline.slots > 1 else ''}"
        yield Drawing(f"When each run had its slot ({slots}).{busy}", partial(plots.draw_timeline, report.timeline))


def _parameters(report: StudyReport) -> Iterator[Block]:
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


def _curves(report: StudyReport) -> Iterator[Block]:
    best = report.champion.id if report.champion else None
    for curves in report.curves:
        champion = next((c for c in curves.curves if c.point.id == best), None)
        yield Drawing(
            f"{curves.metric} by step: the best runs, and runs that failed.",
            partial(plots.draw_curves, curves, best),
            sketch=f"{curves.metric}, champion   {sparkline(champion.values)}"
            if champion and len(champion.steps) > 1
            else "",
        )


def _best_runs(report: StudyReport) -> Iterator[Block]:
    if not report.ranked:
        return
    names = report.study.required_metrics
    params = [effect.name for effect in report.effects] or list(report.study.space)
    rows = [
        (
            str(place),
            RunId(run.id),
            *(number(run.metrics[name].last) if name in run.metrics else "–" for name in names),
            duration(run.duration_s),
            _config_words(run, params),
        )
        for place, run in enumerate(report.ranked[:TOP_RUNS], 1)
    ]
    yield Table(("", "run", *names, "duration", "parameters"), rows, right=(0, *range(2, 3 + len(names))))
    if len(report.ranked) > TOP_RUNS:
        yield Paragraph(f"The first {TOP_RUNS} of {len(report.ranked)}.")


def _config_words(run: RunRecord, names: Sequence[str]) -> str:
    params = run.params
    return one_line(", ".join(f"{name} = {show(params[name])}" for name in names if name in params), 240)


def _failures(report: StudyReport) -> Iterator[Block]:
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


def _rejections(report: StudyReport) -> Iterator[Block]:
    if report.rejections:
        rows = [
            (r.rule, str(r.count), f"#{r.example.number}", one_line(r.example.verdict, 240)) for r in report.rejections
        ]
        yield Table(("rule", "proposals", "for example", "which says"), rows, right=(1,))


def _asked(report: StudyReport) -> Iterator[Block]:
    study = report.study
    yield Table(
        ("objective", "direction", "a difference that matters", "target"),
        [
            (Mono(o.metric), o.direction, number(o.scale), number(study.stop.target.get(o.metric)))
            for o in study.objectives
        ],
        right=(2, 3),
    )
    if study.guards:
        yield Table(("guard", "bounds"), [(Mono(g.metric), _between(g.metric, g.min, g.max)) for g in study.guards])
    yield Table(
        ("parameter", "values", "active"),
        [(Mono(n), _range(p), _region(p.when) if p.when else "always") for n, p in study.space.items()],
    )
    limits = [f"rule: {rule}" for rule in study.rules]
    limits += [
        f"constraint {c.name}: {'forbid' if c.forbid else 'allow only'} {_region(c.region)}"
        + (f" ({c.reason})" if c.reason else "")
        for c in study.constraints
    ]
    if limits:
        yield Bullets(limits)
    yield Code(dump_yaml(study.model_dump(mode="json", exclude_defaults=True)), "yaml")


def _range(parameter: Parameter) -> str:
    if parameter.type == "float" or parameter.type == "int":
        return f"{parameter.type} {parameter.low:g} … {parameter.high:g}" + (", log scale" if parameter.log else "")
    if parameter.type == "bool":
        return "true or false"
    choices = ", ".join(show(choice) for choice in parameter.choices)
    return f"{'subset of' if parameter.type == 'set' else 'one of'} {choices}"


def _region(region: Region) -> str:
    return " and ".join(_condition(name, condition) for name, condition in region.root.items())


def _condition(name: str, condition: Condition) -> str:
    match condition:
        case Interval(min=low, max=high):
            return _between(name, low, high)
        case Contains(contains=items):
            return f"{name} contains {' and '.join(map(show, items))}"
        case _:
            return f"{name} is {' or '.join(map(show, condition.root))}"


def _between(name: str, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"{name} ≥ {number(low)}" if high is None else f"{name} ≤ {number(high)}"
    return f"{number(low)} ≤ {name} ≤ {number(high)}"


def _decisions(report: StudyReport) -> Iterator[Block]:
    if not report.decisions:
        return
    runs = {run.id: run for run in report.runs}
    rows = []
    for decision in report.decisions[-DECISIONS:]:
        run = runs.get(decision.run_id or "")
        rows.append(
            (
                str(decision.number),
                decision.proposal.proposer,
                str(decision.mode),
                one_line(decision.proposal.reason, 120),
                one_line(decision.verdict, 160) if not decision.approved else _outcome(report, run),
            )
        )
    shown, total = len(rows), len(report.decisions)
    title = f"All {total} decisions" if shown == total else f"The last {shown} of {total} decisions"
    if shown < total:
        yield Paragraph(f"The last {shown} of {total}; decisions.jsonl beside this file has all of them.")
    yield Table(("number", "proposer", "mode", "reason", "outcome"), rows, right=(0,), folded=title)


def _outcome(report: StudyReport, run: RunRecord | None) -> str:
    if run is None:
        return "its run is not on record"
    if run.failure is not None:
        return f"failed: {run.failure.kind}"
    if run.status is not Status.COMPLETED:
        return str(run.status)
    values = ", ".join(f"{o.metric} {number(run.values.get(o.metric))}" for o in report.study.objectives)
    broken = ", ".join(guard.metric for guard in report.study.broken_guards(run.values))
    return values + (f"; breaks {broken}" if broken else "")


def _reproduce(report: StudyReport) -> Iterator[Block]:
    rows = [("study", "", Mono(report.study.fingerprint[:16]))]
    for name in sorted({name for run in report.runs for name in run.fingerprints} - {"study", "config"}):
        values = {run.fingerprints.get(name, "not recorded") for run in report.runs}
        champion = (report.champion or report.runs[-1]).fingerprints.get(name, "")
        rows.append(
            (name, "the same in all runs" if len(values) == 1 else f"{len(values)} different", Mono(champion[:16]))
        )
    yield Table(("fingerprint", "over the runs", "value" if not report.champion else "champion's value"), rows)
    seeds = sorted({run.seed for run in report.runs})
    words = "none yet" if not seeds else ", ".join(map(str, seeds[:8])) + (" …" if len(seeds) > 8 else "")
    yield Paragraph(f"Study seed {report.study.seed}; seeds of the runs: {words}.")
    if report.champion:
        yield Paragraph(
            "A replay runs the champion's saved config as a new run and compares every metric; it ends with exit code "
            "3 where one drifts."
        )
        yield Code(f"windlass runs replay {report.champion.id}", "sh")
    ended = [run.ended for run in report.runs if run.ended is not None]
    if ended:
        yield Paragraph(f"Data up to {when(max(ended))}.")
