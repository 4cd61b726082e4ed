"""How what is kept is shown: words and tables that the commands about checkpoints, verdicts and deployments share."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import zip_longest
from typing import Any

from rich.cells import cell_len
from rich.markup import escape
from rich.text import Text

from windlass.cli.show import Progress, say, stderr, stdout
from windlass.errors import NotFound, nearest
from windlass.records.audit import ChangeKind, Entry
from windlass.records.checkpoint import Checkpoint
from windlass.records.deployment import Rollback, Stage, StepState
from windlass.records.evaluation import Evaluation
from windlass.records.result import encode_number
from windlass.records.verdict import Comparison, Finding, Ruling, Verdict
from windlass.report.blocks import Bullets, Code, Mono, Paragraph, Section
from windlass.report.blocks import Table as Rows
from windlass.report.words import size as size

MIB = 1 << 20
RULING_STYLE = {Ruling.PROMOTE: "green", Ruling.KEEP: "red", Ruling.INCONCLUSIVE: "yellow"}
STAGE_STYLE = {
    Stage.CHAMPION: "bold green",
    Stage.CANARY: "cyan",
    Stage.SHADOW: "cyan",
    Stage.REJECTED: "red",
    Stage.ROLLED_BACK: "red",
}
STEP_STYLE = {StepState.STARTED: "dim", StepState.DONE: "green", StepState.FAILED: "red", StepState.WAITING: "dim"}


def moment(seconds: float | None) -> str:
    """Seconds since the epoch -> ``2026-11-20 20:44:49``, UTC."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def values(metrics: Mapping[str, float], names: Iterable[str] = (), most: int = 2) -> str:
    """``auc 0.9934, log_loss 0.041``: those named, without names the first ones."""
    chosen = [name for name in names if name in metrics] or list(metrics)[:most]
    return ", ".join(f"{name} {metrics[name]:.5g}" for name in chosen)


def percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def stages_words(stages: Mapping[str, Stage]) -> str:
    """``champion of reader, evaluated for writer``; a checkpoint on no line is a candidate."""
    from windlass.report.lineage import STANDS

    return ", ".join(f"{STANDS[stage]} {name}" for name, stage in stages.items()) or str(Stage.CANDIDATE)


def spoken(word: str) -> str:
    return word.replace("_", " ")


def encoded(numbers: Mapping[str, float]) -> dict[str, Any]:
    """Numbers as JSON values: NaN and infinity as strings."""
    return {name: encode_number(value) for name, value in numbers.items()}


def checkpoint_dict(checkpoint: Checkpoint) -> dict[str, Any]:
    return {"id": checkpoint.id, **checkpoint.to_dict()}


def evaluation_dict(evaluation: Evaluation) -> dict[str, Any]:
    return {"id": evaluation.id, **evaluation.to_dict(), "means": encoded(evaluation.means)}


def verdict_dict(verdict: Verdict) -> dict[str, Any]:
    data = verdict.to_dict()
    data["comparisons"] = [
        {key: encode_number(value) if isinstance(value, float) else value for key, value in one.items()}
        for one in data["comparisons"]
    ]
    return {"id": verdict.id, **data}


def known(what: str, name: str | None, there: Iterable[str], hint: str) -> str | None:
    """A name that is there. Raises NotFound with the nearest one."""
    there = sorted(there)
    if name is None or name in there:
        return name
    raise NotFound(f"no {what} {name!r}.{nearest(name, there)}", f"Known: {', '.join(there)}" if there else hint)


def out_rows(columns: Sequence[str], rows: Iterable[Sequence[str]], styles: Iterable[str | None] = ()) -> None:
    """A list on stdout: a line a row, never cut; on a narrow terminal lines wrap."""
    lines = [columns, *rows]
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    for line, style in zip_longest(lines, ("bold", *styles)):
        padded = (f"{cell}{' ' * (wide - cell_len(cell))}" for cell, wide in zip(line, widths, strict=True))
        stdout.print(Text("  ".join(padded).rstrip(), style=style or ""))


@contextmanager
def hashing(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar over bytes; what it gives is called with how many more were read."""
    done = 0
    with Progress(f"{title}, MiB") as progress:

        def on_bytes(count: int) -> None:
            nonlocal done
            done += count
            progress(done // MIB, max(done, total) // MIB)

        yield on_bytes


@contextmanager
def waiting(title: str) -> Iterator[None]:
    """Shows on a terminal that something goes on whose length is not known."""
    with stderr.status(title) if stderr.is_terminal else nullcontext():
        yield


@contextmanager
def interruptible(words: str) -> Iterator[None]:
    """Says on Ctrl-C what became of it."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"interrupted: {words}")
        raise


# Verdicts ----------------------------------------------------------------------------------------------------------


def verdict_sections(verdict: Verdict, commands: Sequence[str]) -> list[Section]:
    """The ruling in a sentence, a row a comparison, what else is to be known, and what to do next."""
    headline, *others = verdict.reasons or ("",)
    sections = [Section(str(verdict.ruling).capitalize(), [Paragraph(headline), Paragraph(against(verdict))])]
    if verdict.comparisons:
        header = ("metric", "role", "finding", "n", "champion", "challenger", "improvement", "p")
        rows = [comparison_cells(one) for one in verdict.comparisons]
        tests = ", ".join(dict.fromkeys(one.test for one in verdict.comparisons if one.test))
        legend = f"Beside an improvement its interval, beside p the level that it is held against. Tests: {tests}."
        sections.append(Section("Comparisons", [Rows(header, rows, right=(3, 4, 5, 6, 7)), Paragraph(legend)]))
    if told := [reason for reason in others if not _passed(verdict, reason)]:
        sections.append(Section("To be known", [Bullets(told)]))
    if commands:
        sections.append(Section("Next", [Code("\n".join(commands), "sh")]))
    return sections


def _passed(verdict: Verdict, reason: str) -> bool:
    """Whether a reason tells of a comparison that passed: its row says the same."""
    told = {
        one.finding
        for one in verdict.comparisons
        if repr(one.benchmark) in reason and f"{one.metric} is {one.challenger:.4g} against" in reason
    }
    return told == {Finding.PASSED}


def against(verdict: Verdict) -> str:
    """Who was judged against whom, and how strictly."""
    who = f"{verdict.challenger} against {verdict.champion}" if verdict.champion else f"{verdict.challenger}; nothing"
    told = f"{who}{'' if verdict.champion else ' serves yet'}."
    if verdict.tested:
        told += f" Challenger number {verdict.look} on these benchmarks, at level {verdict.level:.3g}."
    return told


def comparison_cells(one: Comparison) -> tuple[str, ...]:
    return (
        f"{one.benchmark} {one.metric}" + (f", {one.group}" if one.group else ""),
        spoken(one.role),
        str(one.finding),
        f"{one.n:,}",
        f"{'limit ' if one.role == 'least' else ''}{one.champion:.4g}",
        f"{one.challenger:.4g}",
        f"{one.delta:+.3g} ({one.low:.3g}…{one.high:.3g})",
        f"{one.p_value:.2g} ({one.level:.2g})",
    )


def evaluation_words(evaluation: Evaluation) -> str:
    """``3f2a9c81b04d on held-out: correct 0.853 over 2,000 examples``."""
    leak = evaluation.leakage.overlap
    marks = [f"imported from {evaluation.imported}"] if evaluation.imported else []
    marks += [f"{leak:,} examples were trained on"] if leak else []
    told = f"{values(evaluation.means)} over {evaluation.n:,} examples"
    return f"{evaluation.checkpoint} on {evaluation.benchmark}: {'; '.join([told, *marks])}"


def step_line(step: str, state: StepState, note: str) -> str:
    style = STEP_STYLE[state]
    return f"  {step:<8} [{style}]{state}[/]{f'  {escape(note)}' if note else ''}"


def rollback_words(rollback: Rollback) -> str:
    """How far a rollback has come."""
    if rollback.failed:
        step = next(name for name, state in rollback.steps.items() if state is StepState.FAILED)
        return f"undone: {step} failed"
    if not rollback.open:
        return "done"
    step = next(name for name, state in rollback.steps.items() if state is not StepState.DONE)
    return f"open: {step} is {rollback.steps[step]}"


def brief(words: str, width: int = 100) -> str:
    return textwrap.shorten(words, width, placeholder=" ...")


def counted(count: int, noun: str) -> str:
    """``1 file``, ``2,000 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


# The audit log -----------------------------------------------------------------------------------------------------


def entry_words(entry: Entry) -> str:
    """What an entry says, in a line."""
    body, subject = entry.body, entry.subject
    match entry.kind:
        case ChangeKind.REGISTERED:
            checkpoint = Checkpoint.from_dict(body["checkpoint"])
            return f"registered checkpoint {subject}, {size(checkpoint.bytes)}, from run {checkpoint.run}"
        case ChangeKind.REPRODUCED:
            return f"run {body['run']} gave the bytes of {subject} again"
        case ChangeKind.EVALUATED:
            evaluation = Evaluation.from_dict(body["evaluation"])
            return f"evaluated {evaluation_words(evaluation)}"
        case ChangeKind.JUDGED:
            one, champion = body["verdict"], body["verdict"]["champion"] or "nothing"
            return f"judged {one['challenger']} for {subject} against {champion}: {one['ruling']}"
        case ChangeKind.STAGED:
            share = f" with {percent(body['share'])} of keys" if body.get("share") else ""
            return _because(f"{body['checkpoint']} is {spoken(body['stage'])} of {subject}{share}", body)
        case ChangeKind.PROMOTED:
            instead = f" in place of {body['previous']}" if body.get("previous") else ""
            return _because(f"{body['checkpoint']} serves as {subject}{instead}", body)
        case ChangeKind.PLANNED:
            plan = Rollback.from_dict(body["rollback"])
            return _because(f"planned to take {subject} from {plan.source} to {plan.target}", {"reason": plan.reason})
        case ChangeKind.STEPPED:
            return _because(f"rollback of {subject}: {body['step']} {body['state']}", {"reason": body.get("note", "")})
        case ChangeKind.REMOVED:
            return _because(f"removed the bytes of {subject}", body)
    return f"{entry.kind} of {subject}"


def _because(what: str, body: Mapping[str, Any]) -> str:
    """With the reason, where that is more than the verdict's, which has an entry of its own."""
    reason = str(body.get("reason") or "")
    own = not reason or reason.startswith(str(body.get("checkpoint", " ")))
    return what if own else f"{what}: {reason}"


def concerns(entry: Entry, checkpoint: str, rollbacks: Mapping[str, Rollback]) -> bool:
    """Whether an entry is about a checkpoint."""
    body = entry.body
    if entry.subject == checkpoint:
        return True
    match entry.kind:
        case ChangeKind.JUDGED:
            return checkpoint in (body["verdict"]["challenger"], body["verdict"]["champion"])
        case ChangeKind.STAGED | ChangeKind.PROMOTED:
            return checkpoint in (body["checkpoint"], body.get("previous"))
        case ChangeKind.PLANNED:
            return checkpoint in (body["rollback"]["source"], body["rollback"]["target"])
        case ChangeKind.STEPPED:
            rollback = rollbacks[body["rollback"]]
            return checkpoint in (rollback.source, rollback.target)
    return False


def facts(rows: Iterable[tuple[str, str]]) -> Rows:
    """Names and values, those that have one."""
    return Rows(("", ""), [row for row in rows if row[1]])


def mono(text: object) -> Mono:
    return Mono(str(text))
