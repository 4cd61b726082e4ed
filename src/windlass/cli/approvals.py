"""``windlass approvals``: what waits for a person, and the answers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from windlass.cli.blocks import out_sections
from windlass.cli.runs import JsonOption, LabOption
from windlass.cli.show import json_out, out, say
from windlass.lab import Lab

app = typer.Typer(
    help="""What waits for a person: list proposals, approve or reject them.

    [bold]Examples[/bold]

      windlass approvals
      windlass approvals approve digits#12 --reason "cheap enough"
    """,
)

References = Annotated[
    list[str], typer.Argument(metavar="REF...", help="STUDY#NUMBER, or the run's id or a part of it.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it goes on record.")]


@app.callback(invoke_without_command=True)
def waiting(context: typer.Context, lab: LabOption = None, as_json: JsonOption = False) -> None:
    if context.invoked_subcommand is not None:
        return
    with Lab(lab) as opened:
        found = [opened.explain(f"{record.name}#{decision.number}") for record, decision in opened.waiting()]
    if as_json:
        json_out([one.to_dict() for one in found])
        return
    if not found:
        say("Nothing waits for a person. Studies ask with 'autonomy: manual' or 'semi' in their file.")
        return
    out_sections(
        f"{len(found)} {'proposal waits' if len(found) == 1 else 'proposals wait'}", [one.request() for one in found]
    )
    say("Answer with: windlass approvals approve REF --reason '...'      or reject")


@app.command()
def approve(references: References, reason: ReasonOption, lab: LabOption = None, as_json: JsonOption = False) -> None:
    """Let proposals run. A study that is being driven takes them up at once, another one when it goes on.

    [bold]Examples[/bold]

      windlass approvals approve digits#12 --reason "cheap enough"
      windlass approvals approve digits#12 digits#14 --reason "worth a try"
    """
    _answer(references, True, reason, lab, as_json)


@app.command()
def reject(references: References, reason: ReasonOption, lab: LabOption = None, as_json: JsonOption = False) -> None:
    """Keep proposals from running; something else is proposed instead.

    [bold]Examples[/bold]

      windlass approvals reject digits#12 --reason "too long for tonight"
      windlass approvals reject 3f2a9c --reason "that learning rate always diverges"
    """
    _answer(references, False, reason, lab, as_json)


def _answer(references: list[str], approved: bool, reason: str, lab: Any, as_json: bool) -> None:
    if not reason.strip():
        raise typer.BadParameter("a reason has words", param_hint="--reason")
    answers = []
    with Lab(lab) as opened:
        for reference in references:
            answer = opened.answer(reference, approved=approved, reason=reason.strip())
            answers.append(answer.to_dict())
            if not as_json:
                out(f"{'approved' if approved else 'rejected'} {answer.study}#{answer.number}")
    if as_json:
        json_out(answers)
    else:
        for study in dict.fromkeys(answer["study"] for answer in answers):
            say(f"Unless study {study} is being driven: windlass run {study}")
