"""``windlass``: the entry point, and the commands that are not about runs or studies alone."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from windlass import __version__
from windlass.cli import (
    alpha,
    approvals,
    audit,
    checkpoints,
    deployments,
    evaluations,
    preferences,
    promotion,
    runs,
    studies,
    tasks,
    train,
    trainers,
    verifiers,
)
from windlass.cli.show import json_out, out, say
from windlass.errors import WindlassError

app = typer.Typer(
    name="windlass",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""An autonomous lab for model training: a study goes in; experiments are proposed, run as real jobs,
collected and compared; the best is kept.

[bold]Examples[/bold]

  windlass init lab && cd lab
  windlass run study.yaml --cycles 10""",
)
app.add_typer(runs.app, name="runs")
app.add_typer(studies.app, name="studies")
app.add_typer(approvals.app, name="approvals")
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(evaluations.app, name="evaluations")
app.add_typer(deployments.app, name="deployments")
app.add_typer(audit.app, name="audit")
app.add_typer(train.app, name="train")
app.add_typer(alpha.app, name="alpha")
app.add_typer(trainers.app, name="trainers")
app.add_typer(preferences.app, name="preferences")
app.add_typer(verifiers.app, name="verifiers")
app.add_typer(tasks.app, name="tasks")


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        out(f"windlass {__version__}")
        raise typer.Exit()


@app.command()
def init(path: Annotated[Path, typer.Argument(help="A new or existing folder.")] = Path("lab")) -> None:
    """Make a lab: a folder with windlass.toml, runs/ and studies/.

    [bold]Examples[/bold]

      windlass init lab
      windlass init ~/experiments
    """
    from windlass.lab import Lab

    lab = Lab.create(path)
    say(f"Lab in {lab.path}")
    there = "" if path.resolve() == Path.cwd() else f"cd {shlex.quote(str(path))} && "
    say(f"Next: {there}windlass run study.yaml")
    say("A study to start from: windlass studies example > study.yaml")


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="A study file, or the name of a study this lab knows.")],
    cycles: Annotated[
        int | None,
        typer.Option("--cycles", min=1, help="Stop after so many more cycles; without it, by the study's limits."),
    ] = None,
    lab: runs.LabOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line an event.")] = False,
) -> None:
    """Drive a study: propose, run, collect, keep the best. Ctrl-C pauses; the same command resumes.

    [bold]Examples[/bold]

      windlass run study.yaml
      windlass run study.yaml --cycles 10
    """
    from windlass.cli.live import Live, pausing
    from windlass.lab import Lab, Pause

    pause = Pause()
    with Lab(lab) as opened:
        show = Live(opened, as_json=as_json)
        with pausing(pause), show:
            record = opened.run(study, cycles=cycles, on_event=show.event, pause=pause)
        show.ending(record)


@app.command()
def why(
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="A run's id, a part of it, 'latest', or STUDY#NUMBER.")
    ],
    lab: runs.LabOption = None,
    as_json: runs.JsonOption = False,
) -> None:
    """Why a run was made, or a proposal was not: strategy, proposer, forecast, votes, decision, and what came of it.

    [bold]Examples[/bold]

      windlass why latest
      windlass why digits#14 --json
    """
    from windlass.cli.blocks import out_sections
    from windlass.lab import Lab

    with Lab(lab) as opened:
        explained = opened.explain(reference)
    if as_json:
        json_out(explained.to_dict())
    else:
        out_sections(explained.title, explained.sections())


app.command()(evaluations.evaluate)
app.command()(promotion.promote)
app.command()(promotion.rollback)


@app.command()
def reindex(lab: runs.LabOption = None) -> None:
    """Build the database anew from run folders and study folders. The old one is kept aside.

    [bold]Examples[/bold]

      windlass reindex
      windlass reindex --lab ~/experiments
    """
    from windlass.cli.show import Progress
    from windlass.lab import Lab

    opened = Lab(lab)
    with Progress("reindexing") as progress:
        result = opened.reindex(progress)
    out(f"{result.runs} runs and {result.studies} studies are in {opened.settings.database}")
    for name in result.skipped[:10]:
        say(f"left out: {name} has no readable spec.json or study.yaml")
    if len(result.skipped) > 10:
        say(f"... and {len(result.skipped) - 10} more")
    if result.kept_aside:
        say(f"The old database is kept as {result.kept_aside.name}")


@app.command()
def doctor(
    lab: runs.LabOption = None, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """Check the machine, the lab, its database and its runs. Exit code 1 where there is a problem.

    [bold]Examples[/bold]

      windlass doctor
      windlass doctor --json
    """
    from windlass.lab import Lab

    with Lab(lab) as opened:
        checks = opened.doctor()
    if as_json:
        out(json.dumps([{"level": c.level, "what": c.what, "next_step": c.next_step} for c in checks], indent=1))
    else:
        marks = {"ok": "[green]ok     [/]", "note": "[cyan]note   [/]", "warning": "[yellow]warning[/]"}
        for check in checks:
            out(f"{marks.get(check.level, '[red]problem[/]')}  {escape(check.what)}", markup=True)
            if check.next_step:
                out(f"         {check.next_step}")
    if any(check.level == "problem" for check in checks):
        raise typer.Exit(1)


def run_command_line() -> None:
    """The console script: errors are told in words, ``--debug`` adds the traceback."""
    debug = "--debug" in sys.argv
    try:
        app(args=[arg for arg in sys.argv[1:] if arg != "--debug"], standalone_mode=True)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        sys.exit(_tell(error))


def _tell(error: Exception) -> int:
    """Say what happened and the next step; returns the exit code."""
    match error:
        case WindlassError(message=message, next_step=next_step, exit_code=code):
            what = "error:"
        case OSError():
            what, message, next_step, code = "error:", f"{error.strerror}: {error.filename}", "windlass doctor", 1
        case _:
            what, message, code = "internal error:", repr(error), 70
            next_step = "This is a bug in Windlass. Run the command again with --debug and report what it prints."
    say(f"[bold red]{what}[/] {escape(message)}", markup=True)
    if next_step:
        say(f"  {next_step}")
    return code
