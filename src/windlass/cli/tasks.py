"""``windlass tasks``: check, split, extract, clean, from-traces."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from windlass.cli.blocks import out_sections
from windlass.cli.keeping import counted, hashing
from windlass.cli.runs import JsonOption
from windlass.cli.show import Progress, json_out
from windlass.datasets.quality import LONGEST, Dropped, Limits, Reason, sift, to_tasks
from windlass.datasets.rows import write_lines
from windlass.datasets.splits import leaks
from windlass.datasets.splits import split as split_contents
from windlass.datasets.tasks import fingerprint, items, numbered_tasks, together, write_tasks
from windlass.datasets.traces import RewardHacking, Trace, read_traces, write_traces
from windlass.errors import DataError, nearest
from windlass.records.task import Task
from windlass.report.blocks import Block, Bullets, Code, Mono, Paragraph, Section, Table

if TYPE_CHECKING:
    from windlass.datasets.extraction import Extraction
    from windlass.datasets.hacking import Finding
    from windlass.datasets.privacy import Count

app = typer.Typer(
    no_args_is_help=True, help="Tasks to train and evaluate on: check, split, and make them from traces of tools."
)

MOST_SHOWN = 20  #: leaks, or traces that are suspected
OWN = "the verifier of the training"
SHARES = "train=0.8,validation=0.1,heldout=0.1"

TracesArgument = Annotated[Path, typer.Argument(metavar="TRACES", help="Learning traces: JSON Lines or JSON.")]


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Tasks: JSON Lines or JSON.")],
    as_json: JsonOption = False,
) -> None:
    """Read tasks strictly and say what is wrong, row by row; of several files also which tasks they share.

    Exit code 1 where a file cannot be used, or where two files ask the same.

    [bold]Examples[/bold]

      windlass tasks check tasks.jsonl
      windlass tasks check train.jsonl heldout.jsonl --json
    """
    parts = {str(file): _read_tasks(file) for file in files}
    if len(parts) < len(files):
        raise DataError("a file is named twice", "Name each file once.")
    found = leaks({name: items(rows) for name, rows in parts.items()})
    about = [_about(name, [task for _, task in rows]) for name, rows in parts.items()]
    if as_json:
        json_out({"files": about, "leaks": [{**_fields(leak), "words": str(leak)} for leak in found]})
    else:
        sections = [_task_section(one) for one in about]
        if found:
            told = [str(leak) for leak in found[:MOST_SHOWN]]
            told += [f"and {len(found) - MOST_SHOWN:,} more"] if len(found) > MOST_SHOWN else []
            sections.append(Section(f"{counted(len(found), 'leak')} between the files", [Bullets(told)]))
        out_sections("Tasks", sections)
    if found:
        raise typer.Exit(1)


def _read_tasks(file: Path) -> list[tuple[int, Task]]:
    """Raises DataError, also for a verifier of a kind that there is not."""
    from windlass.verifiers.protocol import KINDS

    with hashing(f"reading {file.name}", _size(file)) as on_bytes:
        rows = numbered_tasks(file, on_bytes)
    for row, task in rows:
        if task.verifier and (kind := str(task.verifier["kind"])) not in KINDS:
            message = f"{file}: row {row}: there is no verifier {kind!r}.{nearest(kind, KINDS)}"
            raise DataError(message, f"Kinds: {', '.join(KINDS)}")
    return rows


def _about(name: str, tasks: Sequence[Task]) -> dict[str, Any]:
    lengths = [len(task.prompt) for task in tasks]
    verifiers = Counter(str(task.verifier["kind"]) if task.verifier else OWN for task in tasks)
    return {
        "file": name,
        "tasks": len(tasks),
        "fingerprint": fingerprint(tasks),
        "verifiers": dict(verifiers.most_common()),
        "prompt_characters": {"min": min(lengths), "median": median(lengths), "max": max(lengths)},
    }


def _task_section(about: Mapping[str, Any]) -> Section:
    lengths = about["prompt_characters"]
    rows = [
        ("tasks", f"{about['tasks']:,}"),
        ("verified by", ", ".join(f"{kind} {count:,}" for kind, count in about["verifiers"].items())),
        ("characters of a prompt", f"{lengths['min']:,} to {lengths['max']:,}, median {lengths['median']:,g}"),
        ("fingerprint", Mono(about["fingerprint"])),
    ]
    return Section(about["file"], [Table(("", ""), rows)])


@app.command()
def split(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Tasks: JSON Lines or JSON.")],
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    shares: Annotated[str, typer.Option("--shares", help="The parts and their shares, which add up to 1.")] = SHARES,
    as_json: JsonOption = False,
) -> None:
    """Split tasks by their prompts: into OUT/train.jsonl and so on, with split.json, which says what is what.

    Where a task goes depends on its prompt and the shares alone: tasks added later move none of the others, and one
    prompt is never on two sides.

    [bold]Examples[/bold]

      windlass tasks split tasks.jsonl parts
      windlass tasks split tasks.jsonl parts --shares train=0.9,heldout=0.1
    """
    wanted = _shares(shares)
    if folder.exists():
        raise DataError(f"{folder} is there already", "Name a new folder, so that parts of two splits never meet.")
    tasks = [task for _, task in _read_tasks(file)]
    parts: dict[str, list[Task]] = {name: [] for name in wanted}
    for task, part in zip(tasks, split_contents([together(task) for task in tasks], wanted), strict=True):
        parts[part].append(task)
    if empty := [name for name, share in wanted.items() if share and not parts[name]]:
        counts = ", ".join(f"{name} {len(part):,}" for name, part in parts.items())
        raise DataError(f"no task of {len(tasks):,} is in {empty[0]!r}: {counts}", "Use more tasks, or a larger share.")
    manifest = {
        "source": fingerprint(tasks),
        "shares": wanted,
        "parts": {
            name: {"file": f"{name}.jsonl", "tasks": len(part), "fingerprint": fingerprint(part)}
            for name, part in parts.items()
            if part
        },
    }
    _write_folder(folder, parts, manifest)
    if as_json:
        json_out({"folder": str(folder), **manifest})
        return
    rows = [(name, f"{len(part):,}", f"{len(part) / len(tasks):.1%}") for name, part in parts.items() if part]
    out_sections(
        f"{counted(len(tasks), 'task')} in {folder}",
        [Section("Parts", [Table(("part", "tasks", "share"), rows, (1, 2))])],
    )


def _shares(text: str) -> dict[str, float]:
    made: dict[str, float] = {}
    for part in text.split(","):
        name, sign, share = (piece.strip() for piece in part.partition("="))
        try:
            if not (sign and re.fullmatch(r"[A-Za-z0-9_-]+", name)) or name in made:
                raise ValueError
            made[name] = float(share)
        except ValueError:
            raise DataError(f"{part.strip()!r} is no part with its share", f"For example: --shares {SHARES}") from None
    return made


def _write_folder(folder: Path, parts: Mapping[str, Sequence[Task]], manifest: Mapping[str, Any]) -> None:
    """All of it or nothing."""
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.{os.urandom(4).hex()}")
    beside.mkdir(parents=True)
    try:
        for name, part in parts.items():
            if part:
                write_tasks(beside / f"{name}.jsonl", part)
        (beside / "split.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        os.rename(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@app.command("extract")
def extract_traces(
    log: Annotated[
        Path,
        typer.Argument(metavar="LOG", help="Events: JSON Lines, a JSON list, {events: [...]}, OpenTelemetry JSON."),
    ],
    to: Annotated[Path, typer.Argument(metavar="OUT", help="Learning traces, JSON Lines.")],
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--field", metavar="NAME=PATH", help="Where events have something; repeatable. See docs/tasks.md."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Pair the requests and responses of tools in an event log, and say which events were left out and why.

    [bold]Examples[/bold]

      windlass tasks extract events.jsonl traces.jsonl
      windlass tasks extract mcp.jsonl traces.jsonl --field kind=method --field request_id=id
    """
    from windlass.datasets.extraction import extract

    _apart(log, to)
    instead = {}
    for field in fields or ():
        name, sign, path = field.partition("=")
        if not sign:
            raise DataError(f"{field!r} names no field", "For example: --field request_id=meta.call")
        instead[name.strip()] = path.strip()
    with hashing(f"reading {log.name}", _size(log)) as on_bytes:
        found = extract(log, instead, on_bytes)
    if not found.traces:
        reasons = "".join(f"\n  {count:,} x {reason}" for reason, count in found.counts.items())
        raise DataError(
            f"{log}: no trace in {counted(found.events, 'event')}{reasons}",
            "If the log has other names for what is looked for: --field NAME=PATH, see windlass tasks extract --help",
        )
    write_traces(to, found.traces)
    if as_json:
        json_out(
            {
                "traces": len(found.traces),
                "events": found.events,
                "pairs": found.pairs,
                "spans": found.spans,
                "dropped": found.counts,
                "dropped_events": [_fields(one) for one in found.dropped],
            }
        )
        return
    title = f"{counted(len(found.traces), 'trace')} of {counted(found.events, 'event')} in {to}"
    out_sections(title, [*_extraction_sections(found), _next("clean", to, "clean.jsonl")])


def _extraction_sections(found: Extraction) -> list[Section]:
    tools = Counter(trace.tool_name for trace in found.traces).most_common(MOST_SHOWN)
    outcomes = Counter((trace.tool_name, str(trace.labels.task_outcome)) for trace in found.traces)
    timed = {name: [t.duration_ms for t in found.traces if t.tool_name == name and t.duration_ms] for name, _ in tools}
    rows = [
        (
            name,
            f"{count:,}",
            *(f"{outcomes[name, outcome]:,}" for outcome in ("success", "partial", "fail")),
            _milliseconds(median(timed[name])) if timed[name] else "–",
        )
        for name, count in tools
    ]
    header = ("tool", "traces", "success", "partial", "fail", "median duration")
    return [Section("Tools", [Table(header, rows, (1, 2, 3, 4, 5))]), *_dropped("Events left out", found.dropped)]


def _milliseconds(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


@app.command()
def clean(
    traces: TracesArgument,
    to: Annotated[Path, typer.Argument(metavar="OUT", help="Clean traces, JSON Lines.")],
    shortest: Annotated[int, typer.Option("--shortest", min=1, help="Characters of an output, at least.")] = 1,
    longest: Annotated[
        int, typer.Option("--longest", min=1, help="Characters of a prompt and of an output, at most.")
    ] = LONGEST,
    as_json: JsonOption = False,
) -> None:
    """De-identify traces, look for reward hacking, drop what is not worth training on, and report all of it.

    Every trace that is dropped is in OUT with the ending .dropped.jsonl, with its row and the reason. Traces that are
    suspected of reward hacking stay and are labelled; where it is confirmed, they are dropped.

    Exit code 1 where none is left.

    [bold]Examples[/bold]

      windlass tasks clean traces.jsonl clean.jsonl
      windlass tasks clean traces.jsonl clean.jsonl --shortest 20 --json
    """
    from windlass.datasets.hacking import inspect_traces
    from windlass.datasets.privacy import clean_traces

    _apart(traces, to)
    rows = _read_traces(traces)
    with Progress("de-identifying") as progress:
        cleaned, replaced = clean_traces([trace for _, trace in rows], progress)
    findings = inspect_traces(cleaned)
    numbered = [(row, _labelled(trace, found)) for (row, _), trace, found in zip(rows, cleaned, findings, strict=True)]
    result = sift(numbered, Limits(output_min=shortest, output_max=longest, prompt_max=longest))
    flagged = [
        (row, trace.id, found)
        for (row, trace), found in zip(numbered, findings, strict=True)
        if found.signal is not RewardHacking.NONE
    ]
    because = {row: "; ".join(map(str, found.signs)) for row, _, found in flagged}
    dropped = [
        one._replace(words=because[one.row] or one.words) if one.reason is Reason.HACKING else one
        for one in result.dropped
    ]
    write_traces(to, (trace for _, trace in result.kept))
    aside = _write_dropped(to, dropped)
    if as_json:
        json_out(
            {
                "traces": len(rows),
                "kept": len(result.kept),
                "dropped": result.counts,
                "dropped_file": str(aside),
                "replaced": {kind: count._asdict() for kind, count in replaced.items()},
                "hacking": [_hacking_dict(row, id, found) for row, id, found in flagged],
            }
        )
    else:
        sections = [_replaced_section(replaced), *_hacking_sections(flagged), *_dropped("Dropped", result.dropped)]
        sections += [_next("from-traces", to, "tasks.jsonl")] if result.kept else []
        out_sections(f"{counted(len(result.kept), 'trace')} of {len(rows):,} in {to}", sections)
    if not result.kept:
        raise typer.Exit(1)


def _labelled(trace: Trace, found: Finding) -> Trace:
    labels = trace.labels.model_copy(update={"reward_hacking_signal": found.signal})
    return trace.model_copy(update={"labels": labels})


def _hacking_dict(row: int, id: str, found: Finding) -> dict[str, Any]:
    return {"row": row, "id": id, "signal": found.signal, "score": found.score, "signs": [str(s) for s in found.signs]}


def _replaced_section(replaced: Mapping[str, Count]) -> Section:
    rows = [(kind.lower(), f"{count.found:,}", f"{count.distinct:,}") for kind, count in replaced.items()]
    block: Block = Table(("kind", "replaced", "different"), rows, (1, 2)) if rows else Paragraph("Nothing was found.")
    return Section("De-identified", [block])


def _hacking_sections(flagged: Sequence[tuple[int, str, Finding]]) -> list[Section]:
    if not flagged:
        return []
    worst = sorted(flagged, key=lambda one: (-one[2].score, one[0]))[:MOST_SHOWN]
    rows = [
        (f"{row}", id, str(found.signal), f"{found.score:.2f}", "; ".join(map(str, found.signs)))
        for row, id, found in worst
    ]
    counts = Counter(str(found.signal) for _, _, found in flagged)
    told = ", ".join(f"{count:,} {signal}" for signal, count in counts.most_common())
    blocks: list[Block] = [Table(("row", "trace", "signal", "score", "because"), rows, (0, 3))]
    if len(flagged) > MOST_SHOWN:
        blocks.append(Paragraph(f"The first {MOST_SHOWN} of {len(flagged):,}; all of them with --json."))
    return [Section(f"Reward hacking: {told}", blocks)]


@app.command("from-traces")
def from_traces(
    traces: TracesArgument,
    to: Annotated[Path, typer.Argument(metavar="OUT", help="Tasks, JSON Lines.")],
    as_json: JsonOption = False,
) -> None:
    """Turn traces into tasks with recorded rewards: of the trace, or by its labels where none was recorded.

    Every trace that makes no task is in OUT with the ending .dropped.jsonl, with its row and the reason.

    [bold]Examples[/bold]

      windlass tasks from-traces clean.jsonl tasks.jsonl
      windlass tasks from-traces clean.jsonl tasks.jsonl --json
    """
    _apart(traces, to)
    rows = _read_traces(traces)
    tasks, dropped = to_tasks(rows)
    aside = _write_dropped(to, dropped)
    if not tasks:
        raise DataError(f"{traces}: none of {counted(len(rows), 'trace')} makes a task", f"Reasons: {aside}")
    write_tasks(to, tasks)
    if as_json:
        counts = Counter(str(one.reason) for one in dropped)
        made = {"tasks": len(tasks), "traces": len(rows), "dropped": dict(counts), "dropped_file": str(aside)}
        json_out({**made, "fingerprint": fingerprint(tasks)})
        return
    rewards = [float(task.verifier["reward"]) for task in tasks if task.verifier]
    told = f"Rewards from {min(rewards):.3g} to {max(rewards):.3g}, median {median(rewards):.3g}."
    sections = [Section("Rewards", [Paragraph(told)]), *_dropped("No task came of", dropped)]
    title = f"{counted(len(tasks), 'task')} of {counted(len(rows), 'trace')} in {to}"
    out_sections(title, [*sections, _next("split", to, "parts")])


def _read_traces(file: Path) -> list[tuple[int, Trace]]:
    with hashing(f"reading {file.name}", _size(file)) as on_bytes:
        return read_traces(file, on_bytes)


def _write_dropped(to: Path, dropped: Iterable[Dropped]) -> Path:
    """Always, so that it never tells of an earlier call."""
    aside = _aside(to)
    write_lines(aside, map(_fields, dropped))
    return aside


def _aside(to: Path) -> Path:
    return to.with_suffix(".dropped.jsonl")


def _dropped(title: str, dropped: Sequence[Any]) -> list[Section]:
    """Reasons with their counts, the most frequent first, and the first rows of each."""
    if not dropped:
        return []
    counts = Counter(str(one.reason) for one in dropped)
    rows = []
    for reason, count in counts.most_common():
        first = [str(one.row) for one in dropped if str(one.reason) == reason][:5]
        rows.append((reason, f"{count:,}", ", ".join(first) + (" …" if count > len(first) else "")))
    return [Section(f"{title}: {len(dropped):,}", [Table(("reason", "count", "rows"), rows, (1,))])]


def _fields(one: Any) -> dict[str, Any]:
    """Of a named tuple or a data class with slots."""
    names = one._fields if hasattr(one, "_fields") else one.__slots__
    return {name: getattr(one, name) for name in names}


def _next(command: str, file: Path, to: str) -> Section:
    return Section("Next", [Code(f"windlass tasks {command} {shlex.quote(str(file))} {to}", "sh")])


def _apart(file: Path, to: Path) -> None:
    """Raises DataError, before any work, where the results cannot be written or would replace what is read."""
    for one in (to, _aside(to)):
        if one.exists() and file.exists() and one.samefile(file):
            raise DataError(f"{one} is what is read", "Name another file to write to.")
    if to.is_dir() or not to.parent.is_dir():
        raise DataError(f"{to} is a folder" if to.is_dir() else f"there is no folder {to.parent}", "Name a file.")


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0
