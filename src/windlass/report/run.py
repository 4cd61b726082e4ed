"""One run in words: SUMMARY.md for a glance, REPORT.md with everything."""

from __future__ import annotations

from windlass.records.run import RunRecord, Status
from windlass.report.figures import sparkline
from windlass.report.tables import status_words
from windlass.runs.folder import RunFolder, read_json
from windlass.runs.reader import read_metrics
from windlass.runs.text import code, document, duration, escape, fence, number, one_line, show, size, table, when

CURVES = 12  #: metrics drawn as text curves
TRACEBACK_TAIL = 3000  #: characters


def run_summary(run: RunRecord, folder: RunFolder) -> str:
    """How it ended, final metrics, config, next commands; Markdown."""
    return document(
        f"# Run {escape(run.id)}",
        _headline(run),
        _failure(run, folder, whole=False),
        "## Metrics" if run.metrics else "",
        _metrics(run),
        "## Config" if run.config else "",
        _config(run),
        *(f"> {escape(note)}" for note in run.notes[:5]),
        "## Next",
        _next(run),
    )


def run_report(run: RunRecord, folder: RunFolder) -> str:
    """Everything that is known about a run; Markdown."""
    return document(
        f"# Run {escape(run.id)}",
        _headline(run),
        _failure(run, folder, whole=True),
        "## Metrics" if run.metrics else "",
        _metrics(run),
        "## Curves" if folder.journal_file.exists() and run.metrics else "",
        _curves(folder),
        "## Config" if run.config else "",
        _config(run),
        "## Artifacts" if run.artifacts else "",
        _artifacts(run),
        "## Notes" if run.notes else "",
        "\n".join(f"- {escape(note)}" for note in run.notes),
        "## Where it ran",
        _environment(folder),
        "## Where it comes from",
        _lineage(run),
        "## Next",
        _next(run),
    )


def _headline(run: RunRecord) -> str:
    parts = [f"**{status_words(run)}**"]
    if run.study:
        parts.append(f"run {run.number} of study {code(run.study)}" if run.number else f"study {code(run.study)}")
    if run.duration_s is not None:
        parts.append(f"took {duration(run.duration_s)}")
    if run.started is not None:
        parts.append(f"started {when(run.started)}")
    if run.peak_memory_bytes:
        parts.append(f"peak memory {size(run.peak_memory_bytes)}, CPU {duration(run.cpu_s)}")
    return ", ".join(parts) + "."


def _failure(run: RunRecord, folder: RunFolder, *, whole: bool) -> str:
    if run.failure is None:
        return ""
    logs = [file.name for file in (folder.stderr_file, folder.stdout_file) if file.exists() and file.stat().st_size]
    lines = [f"It failed ({run.failure.kind}): {escape(one_line(run.failure.message, 500))}"]
    if logs:
        lines.append(f"Logs: {', '.join(code(name) for name in logs)} in {code(str(folder.path))}")
    trace = run.failure.traceback.strip()
    if trace:
        lines.append(fence(trace[-TRACEBACK_TAIL:] if whole else trace[-600:]))
    return "\n\n".join(lines)


def _metrics(run: RunRecord) -> str:
    names = [name for name in run.metrics if not name.startswith("system/")]
    if not names:
        return ""
    rows = [
        (code(name), number(m.last), number(m.min), number(m.max), number(m.step), f"{m.count:,}")
        for name in names
        for m in (run.metrics[name],)
    ]
    return table(("metric", "last", "min", "max", "at step", "points"), rows, right=(1, 2, 3, 4, 5))


def _curves(folder: RunFolder) -> str:
    frame = read_metrics(folder)
    rows: list[tuple[str, str, str]] = []
    for (name,), points in frame.group_by("metric", maintain_order=True):
        if points.height > 1 and len(rows) < CURVES:
            values = points["value"]
            rows.append((code(str(name)), sparkline(values), f"{number(values[0])} → {number(values[-1])}"))
    return table(("metric", "curve", "from → to"), rows) if rows else ""


def _config(run: RunRecord) -> str:
    rows = [(code(name), escape(show(value))) for name, value in sorted(run.params.items())]
    return table(("parameter", "value"), rows) if rows else ""


def _artifacts(run: RunRecord) -> str:
    rows = [
        (code(a.name), escape(a.kind), code(a.path), size(a.bytes), code(a.sha256[:12]) if a.sha256 else "")
        for a in run.artifacts
    ]
    return table(("artifact", "kind", "path", "size", "sha256"), rows, right=(3,)) if rows else ""


def _environment(folder: RunFolder) -> str:
    found = read_json(folder.environment_file)
    if not isinstance(found, dict):
        return "Not recorded."
    git = found.get("git") or {}
    lines = [
        f"- host {escape(str(found.get('host')))}, {escape(str(found.get('platform')))}, {found.get('cpu_count')} cores",
        f"- Python {escape(str(found.get('python')))}, {len(found.get('packages') or {})} packages"
        f" (all in {code(folder.environment_file.name)})",
    ]
    if git:
        dirty = f", with uncommitted changes ({code(folder.git_diff_file.name)})" if git.get("dirty") else ", clean"
        lines.append(f"- git {code(str(git.get('commit'))[:12])} on {escape(str(git.get('branch')))}{dirty}")
    return "\n".join(lines)


def _lineage(run: RunRecord) -> str:
    facts = {"seed": str(run.seed), "attempt": str(run.attempt), **run.lineage, **run.tags}
    facts |= {f"fingerprint of {name}": value[:16] for name, value in run.fingerprints.items()}
    return "\n".join(f"- {escape(name)}: {code(value)}" for name, value in facts.items())


def _next(run: RunRecord) -> str:
    commands = []
    if not run.status.terminal:
        commands.append(f"windlass runs cancel {run.id}")
    if run.status is Status.COMPLETED:
        commands.append(f"windlass runs replay {run.id}")
    if run.failure is not None and run.failure.kind.resumable and run.study is None:
        commands.append(f'wl.start_run(resume="{run.id}")')
    if run.study:
        commands.append(f"windlass studies report {run.study}")
    return fence("\n".join(commands or ["windlass runs list"]))
