"""``windlass trainers``: does a command keep the trainer contract?"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from windlass.cli.given import json_object
from windlass.cli.runs import JsonOption
from windlass.cli.show import json_out, out, say

app = typer.Typer(no_args_is_help=True, help="Programs that train, in any language.")

CONFIG_EXAMPLE = """For example: --config '{"epochs": 40}'"""
STYLE = {"passed": "green", "failed": "bold red", "advice": "yellow", "untested": "dim"}


@app.callback()
def trainers() -> None:
    """Programs that train, in any language."""


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def check(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="As in a study's trainer.command.")],
    config: Annotated[
        str | None, typer.Option("--config", metavar="JSON|FILE", help="What the study would give it.")
    ] = None,
    data: Annotated[list[Path] | None, typer.Option("--data", help="What it trains on; can be given twice.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 1,
    time_s: Annotated[float, typer.Option("--time", min=0.1, help="Seconds that one run may take.")] = 120.0,
    keep: Annotated[Path | None, typer.Option("--keep", help="Leave the runs in this folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run COMMAND several times and hold it to the trainer contract, point by point.

    Options go before COMMAND. It is run with --spec and --output-dir, asked to end, killed, given broken specs and
    changed data. Exit code 1 where a point that every study needs is not kept.

    [bold]Examples[/bold]

      windlass trainers check python train.py
      windlass trainers check --config '{"epochs": 40}' --data wine.csv sh train.sh
      windlass trainers check --json --time 600 node train.js
    """
    from windlass.lab.conformance import Point, check_trainer

    def show(point: Point) -> None:
        mark = f"[{STYLE[point.finding]}]{point.finding:<8}[/]"
        asked = "" if point.required else "[dim] (optional)[/]"
        say(f"{mark}  {escape(point.name)}{asked}: {escape(point.words)}", markup=True)

    report = check_trainer(
        command,
        folder=Path.cwd(),
        config={} if config is None else json_object("--config", config, CONFIG_EXAMPLE),
        data=data or (),
        seed=seed,
        time_s=time_s,
        keep=keep,
        on_point=None if as_json else show,
    )
    if as_json:
        json_out(report.to_dict())
    else:
        kept = sum(point.finding == "passed" for point in report.points)
        verdict = "keeps the trainer contract" if report.ok else "does not keep the trainer contract"
        can = "; its runs can be resumed" if report.resumable else ""
        out(f"{shlex.join(command)} {verdict}: {kept} of {len(report.points)} points{can}")
    if not report.ok:
        raise typer.Exit(1)
