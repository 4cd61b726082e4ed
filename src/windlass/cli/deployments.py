"""``windlass deployments``: list, show, watch, route, observe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from io import BufferedReader
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.markup import escape

from windlass.cli.answers import answer, batches
from windlass.cli.blocks import out_sections
from windlass.cli.keeping import (
    facts,
    moment,
    mono,
    out_rows,
    percent,
    rollback_words,
    spoken,
)
from windlass.cli.runs import JsonOption, LabOption
from windlass.cli.show import json_out, out, say, stderr
from windlass.errors import LabBusy, StoreError, WindlassError
from windlass.lab import Lab
from windlass.records.deployment import Deployment, Stage, Tenure
from windlass.report.blocks import Bullets, Code, Paragraph, Section, Table

if TYPE_CHECKING:
    from windlass.lab.keeping import Keeping

app = typer.Typer(
    no_args_is_help=True, help="Names under which a checkpoint serves: list, show, watch, route, observe."
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A deployment's name.")]
WATCH_S = 2.0  #: between two looks


@app.command("list")
def list_deployments(lab: LabOption = None, as_json: JsonOption = False) -> None:
    """All names: what serves, since when, and who is on the way.

    [bold]Examples[/bold]

      windlass deployments list
      windlass deployments list --json
    """
    with Lab(lab) as opened:
        state = opened.keeping.state
        lines = list(state.deployments.values())
        rows = [_overview(opened.keeping, line) for line in lines]
    if as_json:
        json_out(rows)
        return
    if not lines:
        say("No deployment yet. The first checkpoint that passes the gate makes one: windlass promote NAME ID")
        return
    columns = ("name", "serves", "since (UTC)", "challenger", "served before", "")
    cells = [
        (
            line.name,
            line.champion or "–",
            moment(line.tenures[-1].since) if line.tenures else "",
            _challenger(line),
            str(max(0, len(line.tenures) - 1)),
            "frozen by a rollback" if line.frozen else "",
        )
        for line in lines
    ]
    out_rows(columns, cells, ["yellow" if line.frozen else None for line in lines])


def _challenger(line: Deployment) -> str:
    if line.challenger is None:
        return "–"
    share = f" {percent(line.share)}" if line.share else ""
    return f"{line.challenger} ({line.stages[line.challenger]}{share})"


def _overview(keeping: Keeping, line: Deployment) -> dict[str, Any]:
    return {
        "name": line.name,
        "champion": line.champion,
        "challenger": line.challenger,
        "share": line.share,
        "frozen": line.frozen,
        "stages": dict(line.stages),
        "tenures": [asdict(tenure) for tenure in line.tenures],
        "pointer": str(keeping.pointer_file(line.name)),
    }


@app.command()
def show(name: NameArgument, lab: LabOption = None, as_json: JsonOption = False) -> None:
    """One name: what serves, who challenges it, how their answers fared, and who served before.

    [bold]Examples[/bold]

      windlass deployments show reader
      windlass deployments show reader --json
    """
    with Lab(lab) as opened:
        keeping = opened.keeping
        try:
            keeping.vault.settle()  # a damaged pointer is written again
        except WindlassError as error:
            say(f"[yellow]not settled[/]: {escape(error.message)}; {escape(error.next_step)}", markup=True)
        state = keeping.state
        line = state.deployment(name)
        tallies = _tallies(keeping, name)
        advice = keeping.findings(name).advice
        verdicts = state.verdicts_of(name)
        rollbacks = [one for one in state.rollbacks.values() if one.deployment == name]
        overview = _overview(keeping, line)
    if as_json:
        found = [{"id": one.id, "state": rollback_words(one), **one.to_dict()} for one in rollbacks]
        json_out({**overview, "answers": tallies, "rollbacks": found})
        return
    about = facts(
        [
            ("serves", mono(line.champion) if line.champion else "nothing yet"),
            ("since", f"{moment(line.tenures[-1].since)} UTC" if line.tenures else ""),
            ("challenger", _challenger(line) if line.challenger else ""),
            ("its answers", f"{advice.answers:,} of {advice.needed:,} for a step; {advice.reason}" if advice else ""),
            ("frozen", f"by rollback {line.frozen}: windlass rollback {name} finishes it" if line.frozen else ""),
        ]
    )
    past = [
        (one.checkpoint, moment(one.since), moment(one.until) or "now", _because(one)) for one in reversed(line.tenures)
    ]
    others = [(one, spoken(stage)) for one, stage in line.stages.items() if stage is not Stage.CHAMPION]
    newest = verdicts[:-6:-1]
    header = ("challenger", "ruling", "because", "given (UTC)")
    judged = [(v.challenger, str(v.ruling), v.reasons[0] if v.reasons else "", moment(v.at)) for v in newest]
    ways = [f"{one.id} from {one.source} to {one.target}, {rollback_words(one)}: {one.reason}" for one in rollbacks]
    sections = [
        Section("Now", [about, *([Code(overview["pointer"])] if line.champion else [])]),
        Section("Answers", _answers(tallies)),
        Section("Served", [Table(("checkpoint", "since (UTC)", "until", "because"), past)] if past else []),
        Section("Others on this line", [Table(("checkpoint", "stage"), others)] if others else []),
        Section("Newest verdicts", [Table(header, judged)] if judged else []),
        Section("Rollbacks", [Bullets(ways)] if ways else []),
        Section("Next", [Code("\n".join(_next(line)), "sh")]),
    ]
    out_sections(f"Deployment {name}", [section for section in sections if section.blocks])


def _because(tenure: Tenure) -> str:
    """Why it came to serve; what a verdict says of it has its own row."""
    if tenure.verdict and tenure.because.startswith(tenure.checkpoint):
        return f"verdict {tenure.verdict}"
    return tenure.because


def _next(line: Deployment) -> list[str]:
    if line.frozen:
        return [f"windlass rollback {line.name}"]
    commands = [f"windlass deployments watch {line.name}"] if line.challenger else []
    commands += [f"windlass rollback {line.name} --plan"] if len(line.tenures) > 1 else []
    return [*commands, f"windlass audit show --deployment {line.name}"]


def _tallies(keeping: Keeping, name: str) -> list[dict[str, Any]]:
    """A row for each checkpoint and role that answered, with 95 % intervals of its shares."""
    rows = []
    for (checkpoint, role), tally in keeping.tallies(name).items():
        accepted, failed = keeping.interval(tally.accepted, tally.n), keeping.interval(tally.failed, tally.n)
        rows.append(
            {
                "checkpoint": checkpoint,
                "role": str(role),
                "n": tally.n,
                "accepted_interval": list(accepted),
                "failed_interval": list(failed),
                **tally.to_dict(),
            }
        )
    return rows


def _answers(tallies: list[dict[str, Any]]) -> list[Table | Paragraph]:
    if not tallies:
        return []
    cells = [
        (
            row["checkpoint"],
            row["role"],
            f"{row['n']:,}",
            _share(row["accepted"], row["n"], row["accepted_interval"]),
            _share(row["timed_out"] + row["threw"] + row["invalid"], row["n"], row["failed_interval"]),
            f"{row['rejected']:,}",
            f"{row['escalated']:,}",
        )
        for row in tallies
    ]
    header = ("checkpoint", "as", "answers", "accepted", "failed", "rejected", "escalated")
    return [Table(header, cells, (2, 3, 4, 5, 6)), Paragraph("Shares with their 95 % Wilson intervals.")]


def _share(count: int, n: int, interval: list[float]) -> str:
    return f"{100 * count / n:.1f} % ({100 * interval[0]:.1f}…{100 * interval[1]:.1f})" if n else "–"


@app.command()
def watch(
    name: NameArgument,
    once: Annotated[bool, typer.Option("--once", help="Look once, act, and end.")] = False,
    lab: LabOption = None,
) -> None:
    """Look at the answers and act: shadow and canary go on or back, the champion is monitored. Until Ctrl-C.

    [bold]Examples[/bold]

      windlass deployments watch reader
      windlass deployments watch reader --once
    """
    with Lab(lab) as opened:
        keeping = opened.keeping
        keeping.state.deployment(name)
        told: set[str] = set()
        status = stderr.status(_standing(keeping, name), spinner="dots")
        try:
            with status if stderr.is_terminal and not once else nullcontext():
                while True:
                    _look(keeping, name, told)
                    if once:
                        break
                    status.update(escape(f"{_standing(keeping, name)}; Ctrl-C ends"))
                    time.sleep(WATCH_S)
        except KeyboardInterrupt:
            pass
        say(_standing(keeping, name))


def _look(keeping: Keeping, name: str, told: set[str]) -> None:
    """Act, and say what was done; what another process holds for the moment is told and tried again."""
    try:
        _tell(keeping.tend(name), told)
    except (LabBusy, StoreError) as error:
        _tell([error.message], told)


def _tell(words: Iterable[str], told: set[str]) -> None:
    """Each once, with the time; a recommendation comes up at every look."""
    for one in words:
        if one not in told:
            out(f"{moment(time.time())}  {one}")
            told.add(one)


def _standing(keeping: Keeping, name: str) -> str:
    """``reader: 3f2a9c81b04d serves; challenger 81b04d… (canary 5 %); 1,204 answers``."""
    line = keeping.state.deployment(name)
    answers = sum(tally.n for tally in keeping.tallies(name).values())
    challenger = f"; challenger {_challenger(line)}" if line.challenger else ""
    frozen = "; frozen by a rollback" if line.frozen else ""
    return f"{name}: {line.champion or 'nothing'} serves{challenger}{frozen}; {answers:,} answers"


@app.command()
def route(
    name: NameArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="What a request is known by: the same key, the same way.")],
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Which checkpoint answers a request. A serving process asks lab.route(NAME, KEY) instead: it takes microseconds.

    [bold]Examples[/bold]

      windlass deployments route reader customer-17
      windlass deployments route reader customer-17 --json
    """
    with Lab(lab) as opened:
        opened.keeping.state.deployment(name)
        found = opened.route(name, key)
    if as_json:
        json_out(asdict(found))
        return
    for one in (found, found.shadow):
        if one is not None:
            out(f"{one.checkpoint} as {one.role}: {one.path}")


@app.command()
def observe(
    name: NameArgument,
    lines: Annotated[
        str | None, typer.Argument(metavar="[-]", help="'-': JSON lines on stdin, with the names of the options.")
    ] = None,
    checkpoint: Annotated[str | None, typer.Option("--checkpoint", metavar="ID", help="The one that answered.")] = None,
    outcome: Annotated[
        str | None, typer.Option("--outcome", help="accepted, rejected, escalated, timed_out, threw or invalid.")
    ] = None,
    role: Annotated[
        str | None, typer.Option("--role", help="champion, shadow or canary; default: where the checkpoint stands now.")
    ] = None,
    key: Annotated[str, typer.Option("--key", help="Of the request; a second outcome under one key is a retry.")] = "",
    lab: LabOption = None,
) -> None:
    """Record what became of answers, and act on it at once: the challenger goes on or back.

    [bold]Examples[/bold]

      windlass deployments observe reader --checkpoint 3f2a9c --outcome accepted --key request-17
      tail -f answers.jsonl | windlass deployments observe reader -
    """
    if (lines is None) == (checkpoint is None and outcome is None) or lines not in (None, "-"):
        raise typer.BadParameter("either '-' for JSON lines on stdin, or --checkpoint and --outcome")
    with Lab(lab) as opened:
        keeping = opened.keeping
        keeping.state.deployment(name)
        if not lines:
            given = {"checkpoint": checkpoint, "outcome": outcome, "role": role, "key": key}
            _observe(keeping, name, [(0, given)], set())
            say("the answer is on record")
            return
        count, told = 0, set[str]()
        try:
            for batch in batches(cast(BufferedReader, sys.stdin.buffer)):
                _observe(keeping, name, batch, told)
                count += len(batch)
        finally:
            say(f"{count:,} answers are on record")


def _observe(keeping: Keeping, name: str, answers: Sequence[tuple[int, Any]], told: set[str]) -> None:
    state = keeping.state
    line = state.deployment(name)
    read = [answer(state.checkpoint, line, number, given) for number, given in answers]
    _tell(keeping.observe(name, read), told)
