"""``windlass promote``, ``windlass rollback`` and ``windlass deployments``: list, show, watch, route, observe."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.markup import escape

from windlass.cli.blocks import out_sections
from windlass.cli.evaluations import PolicyOption
from windlass.cli.keeping import (
    facts,
    interruptible,
    moment,
    mono,
    out_rows,
    percent,
    rollback_words,
    spoken,
    verdict_dict,
    verdict_sections,
)
from windlass.cli.runs import JsonOption, LabOption
from windlass.cli.show import json_out, out, say, stderr
from windlass.errors import DataError, GateRefused, LabBusy, StoreError, WindlassError, nearest
from windlass.lab import Lab
from windlass.records.checkpoint import Checkpoint
from windlass.records.deployment import Deployment, Role, Rollback, Served, ServedOutcome, Stage
from windlass.records.verdict import Ruling, Verdict
from windlass.report.blocks import Bullets, Code, Paragraph, Section, Table

if TYPE_CHECKING:
    from windlass.lab.keeping import Keeping

app = typer.Typer(
    no_args_is_help=True, help="Names under which a checkpoint serves: list, show, watch, route, observe."
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A deployment's name.")]
WATCH_S = 2.0  #: between two looks
FIELDS = ("checkpoint", "outcome", "role", "key", "at")
EXAMPLE = '{"checkpoint": "ID", "outcome": "accepted", "role": "canary", "key": "request-17"}'
_Word = TypeVar("_Word", bound=StrEnum)


def promote(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The deployment's name; a new one begins with this.")],
    checkpoint: Annotated[str, typer.Argument(metavar="ID", help="A checkpoint's id, or a unique part of it.")],
    policy: PolicyOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a challenger, judge it against what serves, and move it on where the gate lets it. Exit code 3 if not.

    [bold]Examples[/bold]

      windlass promote reader 3f2a9c
      windlass promote reader 3f2a9c --policy gate.yaml --json
    """
    from windlass.cli.live import keeping_line
    from windlass.lab import Judged, KeepingEvent

    given: list[Verdict] = []
    refused: GateRefused | None = None

    def tell(event: KeepingEvent) -> None:
        if isinstance(event, Judged):
            given.append(event.verdict)
        elif line := keeping_line(event):
            say(line, markup=True)

    with Lab(lab) as opened:
        before = opened.keeping.state.deployments.get(name)
        try:
            with interruptible("evaluations under way were cancelled; the same command begins them anew"):
                verdict, stage = opened.keeping.promote(name, checkpoint, policy, on_event=tell)
        except GateRefused as error:
            if not given:
                raise
            refused, verdict = error, given[-1]
            stage = opened.keeping.state.deployment(name).stages[verdict.challenger]
    if as_json:
        json_out({"stage": stage, "verdict": verdict_dict(verdict)})
    else:
        commands = [refused.next_step] if refused and refused.next_step else _onward(verdict, stage)
        already = not refused and before is not None and before.stages.get(verdict.challenger) is stage
        title = f"{name}: {_ruled(verdict, stage)}{'; nothing has changed' if already else ''}"
        out_sections(title, verdict_sections(verdict, commands))
    if refused:
        raise typer.Exit(GateRefused.exit_code)


def _ruled(verdict: Verdict, stage: Stage) -> str:
    match verdict.ruling:
        case Ruling.PROMOTE:
            return f"{verdict.challenger} {'serves' if stage is Stage.CHAMPION else f'is in {stage}'}"
        case Ruling.KEEP:
            return f"{verdict.champion or 'nothing'} stays; {verdict.challenger} is {stage}"
    return f"{verdict.champion or 'nothing'} stays; no conclusion about {verdict.challenger}"


def _onward(verdict: Verdict, stage: Stage) -> list[str]:
    show = f"windlass deployments show {verdict.deployment}"
    return [show] if stage is Stage.CHAMPION else [f"windlass deployments watch {verdict.deployment}", show]


def rollback(
    name: NameArgument,
    to: Annotated[
        str | None, typer.Option("--to", metavar="ID", help="To this checkpoint; default: the best intact one.")
    ] = None,
    forward: Annotated[bool, typer.Option("--forward", help="Back to what the last rollback left.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Show target, evidence and steps; do nothing.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; it goes on record.")] = "",
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go back to a checkpoint that is intact and fit to serve: freeze, verify, smoke evaluation, switch, monitor.

    One that was interrupted is finished first. Exit code 1 where it was undone: what serves stays.

    [bold]Examples[/bold]

      windlass rollback reader --plan
      windlass rollback reader --to 3f2a9c --reason "wrong answers since noon"
    """
    from windlass.cli.live import keeping_line

    if forward and to is not None:
        raise typer.BadParameter("--to names a target, --forward takes the one that was left; give one of them")
    with Lab(lab) as opened:
        keeping = opened.keeping
        left = keeping.state.open_rollback(keeping.state.deployment(name).name)
        if plan:
            _show_plan(left or keeping.plan_rollback(name, to, forward=forward, reason=reason), left, as_json)
            return
        if left is not None and (to is None or keeping.state.checkpoint(to).id == left.target):
            say(f"Rollback {left.id} of {name} to {left.target} was interrupted; it goes on now.")
        with interruptible(f"{name} is frozen until the rollback is finished: windlass rollback {name}"):
            ended = keeping.rollback(
                name, to, forward=forward, reason=reason, on_event=lambda event: say(keeping_line(event), markup=True)
            )
        champion = keeping.state.deployment(name).champion
    if as_json:
        json_out({"id": ended.id, **ended.to_dict()})
    elif ended.failed:
        say(f"[bold red]undone[/]: {escape(ended.notes[-1] if ended.notes else rollback_words(ended))}", markup=True)
        say(f"{champion} goes on serving as {name}. Another target: windlass rollback {name} --to ID")
    else:
        out(f"{champion} serves as {name}")
        say(f"What was left, again: windlass rollback {name} --forward")
    if ended.failed:
        raise typer.Exit(1)


def _show_plan(plan: Rollback, left: Rollback | None, as_json: bool) -> None:
    if as_json:
        json_out({"id": plan.id, **plan.to_dict()})
        return
    evidence = [(EVIDENCE.get(key, spoken(key)), _plain(value)) for key, value in plan.evidence.items()]
    about = facts([("from", mono(plan.source)), ("to", mono(plan.target)), ("why", plan.reason), *evidence])
    steps = Table(("step", "what it does", "state"), [(s, STEPS[s], str(state)) for s, state in plan.steps.items()])
    title = f"Rollback of {plan.deployment}: {'interrupted' if left else 'a plan, nothing was done'}"
    command = f"windlass rollback {plan.deployment}" + ("" if left else f" --to {plan.target}")
    sections = [Section("Plan", [about]), Section("Steps", [steps]), Section("Next", [Code(command, "sh")])]
    out_sections(title, sections)


EVIDENCE = {
    "target": "chosen",
    "improvement": "better by, in standard deviations",
    "metrics": "measured by",
    "damaged": "damaged, passed over",
}
STEPS = {
    "freeze": "no promotion, and no challenger answers, until it has ended",
    "verify": "every byte of the target is read and held against its digest",
    "smoke": "a real job evaluates the target on held-out data",
    "switch": "the target serves, then the pointer moves",
    "monitor": "the pointer is read again; its answers are watched",
}


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return "" if value is None else str(value)


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
        keeping.vault.settle()
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
        (one.checkpoint, moment(one.since), moment(one.until) or "now", one.because) for one in reversed(line.tenures)
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
        status = stderr.status(_standing(keeping, name), spinner="dots")
        try:
            with status if stderr.is_terminal and not once else nullcontext():
                while True:
                    _look(keeping, name)
                    if once:
                        break
                    status.update(escape(f"{_standing(keeping, name)}; Ctrl-C ends"))
                    time.sleep(WATCH_S)
        except KeyboardInterrupt:
            pass
        say(_standing(keeping, name))


def _look(keeping: Keeping, name: str) -> None:
    """Act, and say what was done; what another process holds for the moment is told and tried again."""
    try:
        told = keeping.tend(name)
    except (LabBusy, StoreError) as error:
        say(f"{moment(time.time())}  [yellow]waits[/]: {escape(error.message)}", markup=True)
        return
    for words in told:
        out(f"{moment(time.time())}  {words}")


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
            answer = {"checkpoint": checkpoint, "outcome": outcome, "role": role, "key": key}
            _observe(keeping, name, [(0, answer)])
            say("the answer is on record")
            return
        count = 0
        try:
            for batch in _stdin():
                _observe(keeping, name, batch)
                count += len(batch)
        finally:
            say(f"{count:,} answers are on record")


def _observe(keeping: Keeping, name: str, answers: Sequence[tuple[int, Any]]) -> None:
    state = keeping.state
    served = [_served(state.checkpoint, state.deployment(name), number, given) for number, given in answers]
    for words in keeping.observe(name, served):
        out(f"{moment(time.time())}  {words}")


def _stdin() -> Iterator[list[tuple[int, Any]]]:
    """What stdin has by now, as numbered lines, again and again until it ends."""
    number, rest = 0, b""
    while True:
        chunk = os.read(sys.stdin.fileno(), 1 << 20)
        *whole, rest = (rest + chunk).split(b"\n") if chunk else (rest, b"")
        batch = []
        for line in whole:
            number += 1
            if line.strip():
                batch.append((number, _parsed(number, line)))
        if batch:
            yield batch
        if not chunk:
            return


def _parsed(number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise DataError(f"line {number} is no JSON: {error}", f"An answer: {EXAMPLE}") from error


def _served(find: Callable[[str], Checkpoint], line: Deployment, number: int, given: Any) -> Served:
    """Raises DataError that names the line and what is wrong with it."""
    where = f"line {number}: " if number else ""
    example = f"An answer: {EXAMPLE}"
    if not isinstance(given, dict):
        raise DataError(f"{where}an answer is a JSON object, not {given!r}", example)
    if unknown := sorted(given.keys() - set(FIELDS)):
        raise DataError(f"{where}an answer has no {unknown[0]!r}.{nearest(unknown[0], FIELDS)}", example)
    if missing := [field for field in ("checkpoint", "outcome") if not given.get(field)]:
        raise DataError(f"{where}an answer has {' and '.join(missing)}", example)
    try:
        checkpoint = find(str(given["checkpoint"])).id
        return Served(
            checkpoint=checkpoint,
            role=_word(given.get("role") or _standing_role(line, checkpoint), Role, "role"),
            outcome=_word(given["outcome"], ServedOutcome, "outcome"),
            key=str(given.get("key") or ""),
            at=float(given.get("at") or time.time()),
        )
    except WindlassError as error:
        raise DataError(f"{where}{error.message}", error.next_step) from error
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}{error}", example) from error


def _standing_role(line: Deployment, checkpoint: str) -> str:
    """In what part a checkpoint answers now. Raises DataError where it does not."""
    stage = line.stages.get(checkpoint)
    if stage not in (Stage.CHAMPION, Stage.SHADOW, Stage.CANARY):
        raise DataError(
            f"{checkpoint} does not answer for {line.name}: it is {stage or 'not on its line'}",
            "Name the role that it had: --role champion, shadow or canary",
        )
    return str(stage)


def _word(given: Any, known: type[_Word], what: str) -> _Word:
    if given not in list(known):
        names = ", ".join(known)
        raise DataError(
            f"there is no {what} {given!r}.{nearest(str(given), map(str, known))}", f"{what.capitalize()}s: {names}"
        )
    return known(given)
