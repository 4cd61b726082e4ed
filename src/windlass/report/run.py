"""The reports of one run: SUMMARY.md for a glance, REPORT.md for everything its folder knows."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from windlass.errors import NotFound
from windlass.records.document import dump_yaml
from windlass.records.run import RunRecord, Status
from windlass.report.alpha_campaign import CampaignReport
from windlass.report.blocks import Block, Bullets, Code, Mono, Paragraph, RunId, Section, Table
from windlass.report.figures import sparkline
from windlass.report.markdown import render
from windlass.report.tables import status_words, told_failure
from windlass.runs.attempts import left_state
from windlass.runs.folder import RunFolder, read_json
from windlass.runs.text import code, document, duration, escape, number, one_line, show, size, when
from windlass.runs.text import table as markdown_table

TRACEBACK_LINES = 30
METRICS = 60
FROM_RUN = "../"  #: from a run folder to its siblings


def run_summary(run: RunRecord, folder: RunFolder) -> str:
    """The text of SUMMARY.md: ending, metrics, config; a screen or less for most runs."""
    facts = [("status", status_words(run)), ("started", when(run.started)), ("duration", duration(run.duration_s))]
    facts += [("seed", str(run.seed))] + ([("study", f"{run.study} #{run.number}")] if run.study else [])
    facts += sorted((name.replace("_", " "), value) for name, value in run.lineage.items())
    names = [name for name in run.metrics if not name.startswith("system/")]
    metrics = [(code(name), number(run.metrics[name].last)) for name in names[:20]]
    headlines = _headlines(folder)
    params = [f"- {code(f'{name} = {show(value)}')}" for name, value in run.params.items()][:40]
    return document(
        f"# Run {code(run.id)}",
        "\n".join(f"- {escape(name)}: {escape(value)}" for name, value in facts),
        f"**Failed: {run.failure.kind}.** {escape(one_line(run.failure.message, 400))}" if run.failure else "",
        f"To do: {escape(one_line(run.failure.next_step, 400))}" if run.failure and run.failure.next_step else "",
        f"**Stopped early.** {escape(one_line(run.stopped_early.reason, 400))}" if run.stopped_early else "",
        "Alpha research:\n\n" + "\n".join(f"- {escape(line)}" for line in headlines) if headlines else "",
        markdown_table(("metric", "last"), metrics, right=(1,)) if metrics else "No metric on record.",
        f"{len(names) - 20} more metrics in REPORT.md." if len(names) > 20 else "",
        "Config:\n\n" + "\n".join(params) if params else "",
        "\n".join(f"> {escape(note)}" for note in run.notes[:5]),
        f"Next: {code(_next(run, folder)[0])}",
    )


def run_report(run: RunRecord, folder: RunFolder) -> str:
    """The text of REPORT.md."""
    sections = [
        Section("Ending", list(_ending(run, folder))),
        *_campaign(folder),
        Section("Metrics", list(_metrics(run, folder))),
        Section("Config", list(_config(run))),
        Section("Artifacts", list(_artifacts(run))),
        Section("Notes", [Bullets(run.notes)] if run.notes else []),
        Section("Environment", list(_environment(folder))),
        Section("Lineage", list(_lineage(run))),
        Section("Next", [Code("\n".join(_next(run, folder)), "sh")]),
    ]
    return render(f"Run {run.id}", [section for section in sections if section.blocks], FROM_RUN)


def _campaign(folder: RunFolder) -> list[Section]:
    """Of alpha research; empty for other runs."""
    if (campaign := CampaignReport.read(folder)) is None:
        return []
    from windlass.report.alpha import alpha_sections

    return alpha_sections(campaign)


def _headlines(folder: RunFolder) -> list[str]:
    if (campaign := CampaignReport.read(folder)) is None:
        return []
    from windlass.report.alpha import alpha_headlines

    return alpha_headlines(campaign)


def _ending(run: RunRecord, folder: RunFolder) -> Iterator[Block]:
    rows = [
        ("status", status_words(run)),
        ("started", when(run.started)),
        ("ended", when(run.ended)),
        ("duration", duration(run.duration_s)),
        ("processor time", duration(run.cpu_s) if run.cpu_s else "–"),
        ("memory, peak", size(run.peak_memory_bytes) if run.peak_memory_bytes else "–"),
        ("seed", str(run.seed)),
    ]
    if run.study:
        rows.append(("study", f"{run.study}, decision {run.number}" if run.number is not None else run.study))
    rows += [(f"tag {name}", value) for name, value in run.tags.items()]
    yield Table(("", ""), rows)
    if run.failure is not None:
        yield from told_failure(run.failure)
        if run.failure.traceback.strip():
            lines = run.failure.traceback.rstrip().splitlines()
            left_out = len(lines) - TRACEBACK_LINES
            head = [f"… {left_out} lines above"] if left_out > 0 else []
            yield Code("\n".join([*head, *lines[-TRACEBACK_LINES:]]))
    if (stop := run.stopped_early) is not None:
        yield Paragraph(
            f"Stopped early by the rule {stop.rule!r} at step {stop.step:g}, with {stop.metric} {number(stop.value)}: "
            f"{stop.reason}."
        )
    logs = [f"{path.name}: {size(path.stat().st_size)}" for path in _logs(folder)]
    if logs:
        yield Paragraph(f"Logs in {folder.path}: {', '.join(logs)}.")


def _logs(folder: RunFolder) -> list[Any]:
    return [path for path in (folder.stdout_file, folder.stderr_file) if path.is_file() and path.stat().st_size]


def _metrics(run: RunRecord, folder: RunFolder) -> Iterator[Block]:
    if not run.metrics:
        yield Paragraph("No metric on record.")
        return
    names = sorted(run.metrics, key=lambda name: name.startswith("system/"))
    rows = []
    for name in names[:METRICS]:
        m = run.metrics[name]
        values = (number(m.last), number(m.min), number(m.max), f"{m.step:g}", str(m.count))
        rows.append((Mono(name), *values, _course(run, folder, name)))
    yield Table(("metric", "last", "min", "max", "last step", "points", "course"), rows, right=(1, 2, 3, 4, 5))
    if len(names) > METRICS:
        yield Paragraph(f"{len(names) - METRICS} more metrics; metrics.parquet in the run folder has all of them.")


def _course(run: RunRecord, folder: RunFolder, name: str) -> str:
    if run.metrics[name].count < 2:
        return ""
    from windlass.runs.reader import read_metric

    return sparkline(read_metric(folder, name)[2], 32)


def _config(run: RunRecord) -> Iterator[Block]:
    if run.config:
        yield Code(dump_yaml(run.config), "yaml")


def _artifacts(run: RunRecord) -> Iterator[Block]:
    if run.artifacts:
        rows = [(Mono(a.name), a.kind, Mono(a.path), size(a.bytes), Mono(a.sha256[:12])) for a in run.artifacts]
        yield Table(("name", "kind", "path in the run folder", "size", "SHA-256"), rows, right=(3,))


def _environment(folder: RunFolder) -> Iterator[Block]:
    recorded = read_json(folder.environment_file)
    if not isinstance(recorded, dict):
        yield Paragraph("Not recorded.")
        return
    cores, packages = recorded.get("cpu_count"), recorded.get("packages") or {}
    rows = [
        ("host", f"{recorded.get('host')}, {recorded.get('platform')}, {cores} cores"),
        ("Python", f"{recorded['python']}, {len(packages)} packages (named in {folder.environment_file.name})")
        if recorded.get("python")
        else ("program", Mono(str(recorded.get("executable")))),
    ]
    if argv := recorded.get("argv"):
        rows.append(("command", Mono(one_line(shlex.join(map(str, argv)), 300))))
    if git := recorded.get("git"):
        dirty = f"with uncommitted changes ({folder.git_diff_file.name})" if git.get("dirty") else "clean"
        rows.append(("git", f"{str(git.get('commit'))[:12]} on {git.get('branch')}, {dirty}"))
    yield Table(("", ""), rows)


def _lineage(run: RunRecord) -> Iterator[Block]:
    rows: list[tuple[str, str]] = [(name.replace("_", " "), RunId(value)) for name, value in run.lineage.items()]
    rows += [(f"{name} fingerprint", Mono(value[:16])) for name, value in run.fingerprints.items()]
    if rows:
        yield Table(("", ""), rows)


def _next(run: RunRecord, folder: RunFolder) -> list[str]:
    commands = [] if run.status.terminal else [f"windlass runs cancel {run.id}"]
    if (again := _goes_on(run, folder)) is not None:
        commands.append(again)
    if run.failure is not None and _logs(folder):
        commands.append(f"tail -n 50 {shlex.quote(str(_logs(folder)[-1]))}")
    if run.lineage.get("replay_of"):
        commands.append(f"windlass runs compare {run.lineage['replay_of']} {run.id}")
    elif run.status.terminal and run.study:
        commands.append(f"windlass runs replay {run.id}")
    if run.study:
        commands += [f"windlass why {run.id}", f"windlass studies report {run.study}"]
    return commands or ["windlass runs list"]


def _goes_on(run: RunRecord, folder: RunFolder) -> str | None:
    """What lets a run that was ended from outside go on."""
    if run.status is not Status.CANCELLED and not (run.failure is not None and run.failure.kind.resumable):
        return None
    try:
        spec = folder.spec()
    except NotFound:
        return None
    if not (spec.command or spec.function):
        return f'windlass.start_run(resume="{run.id}")' if run.failure is not None else None
    return f"windlass runs resume {run.id}" if left_state(folder) else None
