"""What a study's report says, in blocks; ``StudyReport`` has the data."""

from __future__ import annotations

from collections.abc import Iterator

from windlass.records.decision import Approval, Decision, Outcome
from windlass.records.document import dump_yaml
from windlass.records.run import RunRecord, Status
from windlass.records.study import Study
from windlass.report import keeping
from windlass.report import sections_deciding as deciding
from windlass.report import sections_learned as learned
from windlass.report import sections_results as results
from windlass.report.blocks import Block, Bullets, Code, Mono, Paragraph, RunId, Section, Table
from windlass.report.study import StudyReport
from windlass.report.words import between, outcome_words, range_words, region_words
from windlass.runs.folder import RunFolder
from windlass.runs.text import duration, number, one_line, percent, show, signed, size, when

DECISIONS = 500


def story(report: StudyReport) -> list[Section]:
    """Sections with something to say, in reading order."""
    told = [
        Section("In short", list(_in_short(report))),
        Section("Verdict of the best campaign", list(_campaign(report))),
        Section("Champion", list(_champion(report))),
        Section("Gate", list(keeping.gate(report.gate))),
        Section("How it went", list(results.course(report))),
        Section("Trade-off", list(results.tradeoff(report))),
        Section("What the parameters did", list(results.parameters(report))),
        Section("What was learned", list(learned.lessons(report))),
        Section("Learning curves", list(results.curves(report))),
        Section("Best runs", list(results.best_runs(report))),
        Section("How it was decided", list(deciding.course(report))),
        Section("Forecasts against outcomes", list(deciding.forecasts(report))),
        Section("Credit of the agents", list(deciding.credit(report))),
        Section("Votes and overrides", list(deciding.votes(report))),
        Section("Failures", list(results.failures(report))),
        Section("Rejected proposals", list(results.rejections(report))),
        Section("What was asked", list(_asked(report))),
        Section("Decisions", list(_decisions(report))),
        Section("To reproduce", list(_reproduce(report))),
        Section("Next", [Code("\n".join(next_commands(report)), "sh")]),
    ]
    return [section for section in told if section.blocks]


def _campaign(report: StudyReport) -> Iterator[Block]:
    """Of factor research: what may be believed of the best run; nothing of other workloads."""
    if report.study.trainer.workload != "alpha" or not report.ranked:
        return
    from windlass.report.alpha import CampaignReport, alpha_headlines

    if (found := CampaignReport.read(RunFolder(report.runs_root / report.ranked[0].id))) is not None:
        yield Bullets(alpha_headlines(found))


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
        commands += [f"windlass runs show {champion.id}", f"windlass why {champion.id}"]
        commands.append(f"windlass runs replay {champion.id}")
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


def _evidence(report: StudyReport) -> str:
    """How sure it is that the champion is no lucky run."""
    champion, *others = report.standings
    runs, noise = len(champion.runs), report.noise
    if noise is None:
        return "It ran once, and so did every other config: how much of its lead is luck is not known."
    error = f", standard error {champion.error:.3g}"
    words = f"Its config ran {runs} times: mean score {champion.mean:.6g}{error}." if runs > 1 else "It ran once."
    words += f" Between runs of one config the score differs by {noise:.3g} (standard deviation)."
    if others:
        rival = others[0]
        gap = champion.mean - rival.mean
        spread = (champion.error**2 + rival.error**2) ** 0.5
        words += f" The next config, #{rival.run.number}, is {gap:.3g} behind"
        words += f", {gap / spread:.1f} standard errors of the difference." if spread else "."
    return words


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
    yield Paragraph(_evidence(report))
    yield Code(dump_yaml({key: value for key, value in champion.config.items() if key != "workload"}), "yaml")


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
        yield Table(("guard", "bounds"), [(Mono(g.metric), between(g.metric, g.min, g.max)) for g in study.guards])
    yield Table(
        ("parameter", "values", "active"),
        [(Mono(n), range_words(p), region_words(p.when) if p.when else "always") for n, p in study.space.items()],
    )
    limits = [f"rule: {rule}" for rule in study.rules]
    limits += [
        f"constraint {c.name}: {'forbid' if c.forbid else 'allow only'} {region_words(c.region)}"
        + (f" ({c.reason})" if c.reason else "")
        for c in study.constraints
    ]
    if limits:
        yield Bullets(limits)
    yield Code(dump_yaml(study.model_dump(mode="json", exclude_defaults=True)), "yaml")


def _decisions(report: StudyReport) -> Iterator[Block]:
    if not report.decisions:
        return
    runs = {run.id: run for run in report.runs}
    answers = {answer.number: answer for answer in report.approvals}
    rows = []
    for decision in report.decisions[-DECISIONS:]:
        run = runs.get(decision.run_id or "")
        rows.append(
            (
                str(decision.number),
                decision.proposal.proposer,
                str(decision.mode),
                one_line(decision.proposal.reason, 120),
                _fate(report.study, decision, answers.get(decision.number), run),
            )
        )
    shown, total = len(rows), len(report.decisions)
    title = f"All {total} decisions" if shown == total else f"The last {shown} of {total} decisions"
    if shown < total:
        yield Paragraph(f"The last {shown} of {total}; decisions.jsonl beside this file has all of them.")
    yield Table(("number", "proposer", "mode", "reason", "outcome"), rows, right=(0,), folded=title)


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


def _fate(study: Study, decision: Decision, answer: Approval | None, run: RunRecord | None) -> str:
    """What became of a decision, in a cell."""
    if decision.outcome is Outcome.REJECTED:
        return one_line(decision.verdict, 160)
    if decision.waiting and answer is None:
        return one_line(f"waits for a person: {decision.verdict}", 160)
    if answer is not None and not answer.approved:
        return one_line(f"rejected by {answer.by}: {answer.reason}", 160)
    return outcome_words(study, run)
