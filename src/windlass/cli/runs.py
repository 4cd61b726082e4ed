"""``windlass runs``: list, show, search, compare, replay, resume, cancel."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from windlass.cli.show import STATUS_STYLE, json_out, out, out_markdown, out_table, say, stderr
from windlass.errors import DriftError
from windlass.lab import Lab
from windlass.records.run import Status

if TYPE_CHECKING:
    from windlass.lab import Course

INTERRUPTED = 130  #: exit code after Ctrl-C

app = typer.Typer(no_args_is_help=True, help="What happened: list, show, search, compare, replay and resume runs.")

LabOption = Annotated[Path | None, typer.Option("--lab", help="The lab's folder; default: the nearest one upwards.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]
RunArgument = Annotated[str, typer.Argument(help="A run's id, a unique part of it, or 'latest'.")]
OrderOption = Annotated[
    str | None, typer.Option("--order-by", help="For example 'metrics.auc desc, created'; default: newest first.")
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")]


@app.command("list")
def list_runs(
    lab: LabOption = None, limit: LimitOption = 50, order_by: OrderOption = None, as_json: JsonOption = False
) -> None:
    """The newest runs.

    [bold]Examples[/bold]

      windlass runs list
      windlass runs list --order-by "metrics.auc desc" -n 5 --json
    """
    _show_list("", lab, limit, order_by, as_json)


@app.command()
def search(
    expression: Annotated[
        str, typer.Argument(help="Over metrics.NAME, params.NAME, tags.NAME, status, study, created, ...")
    ],
    lab: LabOption = None,
    limit: LimitOption = 50,
    order_by: OrderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Runs that match an expression with AND, OR, NOT, IN, IS NULL and parentheses.

    [bold]Examples[/bold]

      windlass runs search "metrics.auc > 0.98 and params.model = 'svm'"
      windlass runs search "status = 'failed' and failure IN ('diverged', 'timeout')" --order-by created
    """
    _show_list(expression, lab, limit, order_by, as_json)


def _show_list(expression: str, lab: Path | None, limit: int, order_by: str | None, as_json: bool) -> None:
    from windlass.report.tables import run_dict, runs_table

    with Lab(lab) as opened:
        runs = opened.runs(expression, order_by=order_by or "created desc", limit=limit)
        objectives = opened.objectives(runs)
    if as_json:
        json_out([run_dict(run) for run in runs])
        return
    if not runs:
        if expression:
            say(f"No run matches: {expression}")
            say("All runs: windlass runs list")
        else:
            say("No runs yet. Start some: windlass run study.yaml      or log from any script: windlass.start_run()")
        return
    listed = runs_table(runs, objectives or None)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in listed.columns:
        table.add_column(column, no_wrap=True)
    for run, row in zip(runs, listed.rows, strict=True):
        table.add_row(*map(escape, row), style=STATUS_STYLE[run.status] if not run.status.terminal else None)
    out_table(table)
    if len(runs) == limit:
        say(f"The first {limit}; more with --limit")


@app.command()
def show(run_id: RunArgument = "latest", lab: LabOption = None, as_json: JsonOption = False) -> None:
    """Everything about one run: how it ended, config, metrics, artifacts, where its files are.

    [bold]Examples[/bold]

      windlass runs show latest
      windlass runs show 3f2a9c --json
    """
    from windlass.report.run import run_summary
    from windlass.report.tables import run_dict

    with Lab(lab) as opened:
        run = opened.get(run_id)
        folder = opened.folder(run.id)
        decision = opened.decision(run)
    if as_json:
        json_out(
            {
                **run_dict(run),
                "config": run.config,
                "folder": str(folder.path),
                "decision": decision.to_dict() if decision else None,
            }
        )
        return
    out_markdown(run_summary(run, folder))
    if decision:
        out(f"\nDecided as #{decision.number} by {decision.proposal.proposer}: {decision.proposal.reason}")
        out(f"The whole story: windlass why {run.id}")
    out(f"Folder: {folder.path}")


@app.command()
def compare(run_a: RunArgument, run_b: RunArgument, lab: LabOption = None, as_json: JsonOption = False) -> None:
    """Two runs: what differs in config, environment and metrics, and whether the scores differ beyond chance.

    [bold]Examples[/bold]

      windlass runs compare 3f2a9c 81b04d
      windlass runs compare 3f2a9c latest --json
    """
    with Lab(lab) as opened:
        comparison = opened.compare(run_a, run_b)
    if as_json:
        json_out(comparison.to_dict())
    else:
        out_markdown(comparison.markdown())


@app.command()
def replay(
    run_id: RunArgument,
    lab: LabOption = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="Difference that is no drift, relative or absolute.")
    ] = 1e-9,
    as_json: JsonOption = False,
) -> None:
    """Run it again from its saved config and say, metric by metric, whether it reproduces. Exit code 3 on drift.

    [bold]Examples[/bold]

      windlass runs replay 3f2a9c
      windlass runs replay latest --tolerance 1e-6 --json
    """
    with Lab(lab) as opened:
        say(f"Replaying {opened.get(run_id).id} ...")
        run, verdict = opened.replay(run_id, tolerance=tolerance)
    if as_json:
        json_out({"run": run.id, **verdict.to_dict()})
    else:
        out_markdown(verdict.markdown())
        out(f"Replayed as {run.id}")
    if not verdict.reproduced:
        raise typer.Exit(DriftError.exit_code)


@app.command()
def resume(run_id: RunArgument, lab: LabOption = None, as_json: JsonOption = False) -> None:
    """Go on with a run that was preempted, killed, lost or cancelled, from what it left in state/. Ctrl-C leaves it
    running. Exit code 1 where it does not complete.

    [bold]Examples[/bold]

      windlass runs resume latest
      windlass runs resume 3f2a9c --json
    """
    from windlass.report.tables import run_dict, status_words

    shown = stderr.status("resuming ...") if stderr.is_terminal and not as_json else nullcontext()
    with Lab(lab) as opened, shown as status:
        asked = opened.get(run_id).id
        try:
            run = opened.resume(asked, lambda course: status.update(_course(course)) if status else None)
        except KeyboardInterrupt:
            say(f"{asked} goes on by itself. See how: windlass runs show {asked}")
            say(f"End it: windlass runs cancel {asked}")
            raise typer.Exit(INTERRUPTED) from None
    if as_json:
        json_out(run_dict(run))
    else:
        out(f"{run.id} is {status_words(run)}")
    if run.failure is not None:
        say(f"{run.failure.message}\n{run.failure.next_step or f'windlass runs show {run.id}'}")
    if run.status is not Status.COMPLETED:
        raise typer.Exit(1)


def _course(course: Course) -> str:
    """How far a run is, in one line of markup."""
    from windlass.cli.live import duration

    step = "" if course.step is None else f"step {course.step:g}"
    values = " ".join(f"{name} {value:.5g}" for name, value in list(course.metrics.items())[:3])
    parts = [f"attempt {course.attempt} of {course.run}", duration(course.seconds), step, values]
    return escape("  ·  ".join([*filter(None, parts), "Ctrl-C leaves it running"]))


@app.command()
def cancel(run_id: RunArgument, lab: LabOption = None) -> None:
    """End a run with its whole process tree.

    [bold]Examples[/bold]

      windlass runs cancel latest
      windlass runs cancel 3f2a9c
    """
    with Lab(lab) as opened:
        run = opened.cancel(run_id)
    out(f"{run.id} is {run.status}")
