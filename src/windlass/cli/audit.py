"""``windlass audit``: verify and show the log of every change of what is kept."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from windlass.cli.keeping import concerns, entry_words, hashing, known, moment, out_rows
from windlass.cli.runs import JsonOption, LabOption
from windlass.cli.show import json_out, out, say
from windlass.errors import WindlassError
from windlass.lab import Lab

if TYPE_CHECKING:
    from windlass.lab.keeping import Keeping

app = typer.Typer(no_args_is_help=True, help="The log of every change of what is kept: verify and show it.")


@app.command()
def verify(
    expect: Annotated[
        str | None, typer.Option("--expect", metavar="SEQ:HASH", help="An anchor that was noted down before.")
    ] = None,
    no_bytes: Annotated[bool, typer.Option("--no-bytes", help="The log and the pointers, not the files.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find every entry that was edited, removed or reordered, and every file that changed. Exit code 1 on damage.

    The log cannot tell that its end was cut off in both copies: note the anchor elsewhere, and give it with --expect.

    [bold]Examples[/bold]

      windlass audit verify
      windlass audit verify --expect 41:9b1c44d0e2aa --no-bytes
    """
    with Lab(lab) as opened:
        keeping = opened.keeping
        with hashing("verifying", _bytes(keeping)) if not no_bytes else nullcontext() as on_bytes:
            damages = keeping.audit(expect, on_bytes, read_bytes=not no_bytes)
        state = None if damages else keeping.state
    anchor = f"{state.sequence}:{state.hash}" if state else None
    if as_json:
        found = [{"where": damage.where, "what": damage.what} for damage in damages]
        json_out({"sound": not damages, "anchor": anchor, "damages": found})
    for damage in damages if not as_json else ():
        out(f"[bold red]damaged[/] {escape(str(damage))}", markup=True)
    if state is None:
        raise typer.Exit(1)
    if not as_json and not state.sequence:
        say("Nothing is kept yet. windlass checkpoints register RUN")
    elif not as_json:
        files = "files were not read" if no_bytes else "every file that is kept is as it was"
        say(f"{state.sequence} entries follow one another, their copy is equal, pointers agree, {files}.")
        say("Keep this anchor elsewhere: with --expect it shows a log that was cut off or replaced as a whole.")
        out(anchor)


def _bytes(keeping: Keeping) -> int:
    """How much there is to read; 0 where a damaged log cannot say."""
    try:
        state = keeping.state
    except WindlassError:
        return 0
    return sum(one.bytes for one in state.checkpoints.values() if one.id not in state.removed)


@app.command()
def show(
    checkpoint: Annotated[str | None, typer.Option("--checkpoint", metavar="ID", help="Only about this one.")] = None,
    deployment: Annotated[str | None, typer.Option("--deployment", help="Only about this one.")] = None,
    last: Annotated[int | None, typer.Option("--last", "-n", min=1, help="Only the newest so many.")] = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Who changed what, and when: an entry a line, oldest first.

    [bold]Examples[/bold]

      windlass audit show --last 20
      windlass audit show --checkpoint 3f2a9c --json
    """
    with Lab(lab) as opened:
        keeping = opened.keeping
        state = keeping.state
        known("deployment", deployment, state.deployments, "windlass promote NAME ID")
        chosen = state.checkpoint(checkpoint).id if checkpoint is not None else None
        entries = [
            entry
            for entry in keeping.vault.registry.entries()
            if (chosen is None or concerns(entry, chosen, state.rollbacks)) and deployment in (None, entry.subject)
        ]
    entries = entries[-(last or len(entries)) :]
    if as_json:
        json_out([entry.to_dict() for entry in entries])
        return
    if not entries:
        say("Nothing is on record." if state.sequence else "Nothing is kept yet. windlass checkpoints register RUN")
        return
    cells = [(str(one.sequence), moment(one.at), one.actor, entry_words(one)) for one in entries]
    out_rows(("", "at (UTC)", "who", "what"), cells)
