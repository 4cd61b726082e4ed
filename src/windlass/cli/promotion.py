"""``windlass promote`` and ``windlass rollback``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape

from windlass.cli.blocks import out_sections
from windlass.cli.deployments import NameArgument
from windlass.cli.evaluations import PolicyOption
from windlass.cli.keeping import facts, interruptible, mono, rollback_words, spoken, verdict_dict, verdict_sections
from windlass.cli.runs import JsonOption, LabOption
from windlass.cli.show import json_out, out, say
from windlass.errors import GateRefused
from windlass.lab import Lab
from windlass.records.deployment import Rollback, Stage
from windlass.records.verdict import Ruling, Verdict
from windlass.report.blocks import Code, Section, Table

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
            with interruptible("what was under way was cancelled; the same command begins it anew"):
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
    abandon: Annotated[bool, typer.Option("--abandon", help="Undo one that was interrupted.")] = False,
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
    if abandon and (forward or plan or to is not None):
        raise typer.BadParameter("--abandon undoes the rollback that is under way; it takes no target and no plan")
    with Lab(lab) as opened:
        keeping = opened.keeping
        left = keeping.state.open_rollback(keeping.state.deployment(name).name)
        if abandon:
            ended = keeping.abandon(name, reason=reason or "abandoned by a person")
            out(f"rollback {ended.id} is undone; {ended.source} goes on serving as {name}")
            return
        if plan:
            _show_plan(left or keeping.plan_rollback(name, to, forward=forward, reason=reason), left, as_json)
            return
        if left is not None and (to is None or keeping.state.checkpoint(to).id == left.target):
            say(f"Rollback {left.id} of {name} to {left.target} was not finished; it goes on now.")
        try:
            ended = keeping.rollback(
                name, to, forward=forward, reason=reason, on_event=lambda event: say(keeping_line(event), markup=True)
            )
        except KeyboardInterrupt:
            begun = keeping.state.open_rollback(name) is not None
            frozen = f"{name} is frozen until it is finished (windlass rollback {name}) or undone (--abandon)"
            say(f"interrupted: {frozen if begun else 'nothing was begun'}")
            raise
        champion = keeping.state.deployment(name).champion
    if as_json:
        json_out({"id": ended.id, **ended.to_dict()})
    elif ended.failed and ended.switched:
        say(f"[bold red]{champion} serves as {name}, but[/] {escape(ended.notes[-1])}", markup=True)
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


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return "" if value is None else str(value)
