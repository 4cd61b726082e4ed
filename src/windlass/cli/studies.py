"""``windlass studies``: list, check, report, retrace, schema, example."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from windlass.cli.runs import JsonOption, LabOption
from windlass.cli.show import Progress, json_out, out, out_table, say
from windlass.errors import DriftError, MissingExtra
from windlass.lab import Lab

app = typer.Typer(no_args_is_help=True, help="The questions: list, check, report and retrace studies.")


@app.command("list")
def list_studies(lab: LabOption = None, as_json: JsonOption = False) -> None:
    """All studies of this lab.

    [bold]Examples[/bold]

      windlass studies list
      windlass studies list --json
    """
    with Lab(lab) as opened:
        rows = opened.study_overview()
    if as_json:
        json_out(rows)
        return
    if not rows:
        say("No studies yet. A study to start from: windlass studies example > study.yaml")
        return
    from windlass.cli.live import duration

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("study", "status", "runs", "failed", "best", "driven", "stopped because"):
        table.add_column(title)
    for row in rows:
        best = f"{row['objective']} {row['best']:.5g}" if row["best"] is not None else ""
        cells = (row["name"], row["status"], row["runs"], row["failed"], best, duration(row["active_s"]))
        table.add_row(*map(str, cells), row["stopped_because"])
    out_table(table)


@app.command()
def check(file: Annotated[Path, typer.Argument(help="A study file.")]) -> None:
    """Read a study file and say everything that is wrong with it, without running anything.

    [bold]Examples[/bold]

      windlass studies check study.yaml
      windlass studies check experiments/digits.yaml
    """
    from windlass.lab import load_study

    study = load_study(file)
    out(f"{file} is a valid study {study.name!r}: {len(study.space)} parameters, {len(study.constraints)} constraints")


@app.command()
def report(
    name: Annotated[str, typer.Argument(help="A study's name.")], lab: LabOption = None, as_json: JsonOption = False
) -> None:
    """Tell a study's story: a summary here, REPORT.md and report.html with figures in its folder.

    [bold]Examples[/bold]

      windlass studies report digits
      windlass studies report digits --json
    """
    with Lab(lab) as opened:
        folder = opened.study_folder(name)
        try:
            told = opened.report(name)
            written = ["REPORT.md", "report.html"]
        except MissingExtra as missing:
            told = opened.report(name, html=False)
            written = ["REPORT.md"]
            say(f"No report.html: {missing.message}")
            say(f"  {missing.next_step}")
    if as_json:
        json_out(told.to_dict())
    else:
        out(told.summary())
    for file in written:
        say(f"wrote {folder / file}")


@app.command()
def retrace(
    name: Annotated[str, typer.Argument(help="A study's name.")],
    cycle: Annotated[int | None, typer.Option("--cycle", min=1, help="Only this cycle.")] = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide every cycle again from its log and compare. Exit code 3 where one comes out differently.

    [bold]Examples[/bold]

      windlass studies retrace digits
      windlass studies retrace digits --cycle 7 --json
    """
    cycles = []
    with Lab(lab) as opened:
        total = 1 if cycle is not None else opened.study(name).cycles
        with Progress(f"retracing {name}") as progress:
            for done, one in enumerate(opened.retrace(name, cycle), 1):
                progress(done, max(done, total))
                cycles.append(one)
                if not one.same and not as_json:
                    for difference in one.differences:
                        out(f"cycle {one.cycle}: {difference}")
    differing = sum(not one.same for one in cycles)
    if as_json:
        json_out([asdict(one) for one in cycles])
    elif not cycles:
        say(f"Study {name} has no cycle yet. Start it: windlass run {name}")
    elif differing:
        out(f"{differing} of {len(cycles)} cycles come out differently")
    else:
        decisions = sum(one.decisions for one in cycles)
        out(f"{len(cycles)} cycles with {decisions} decisions come out the same, to the bit")
    if differing:
        raise typer.Exit(DriftError.exit_code)


@app.command()
def schema() -> None:
    """The study file's JSON Schema, for editors.

    [bold]Examples[/bold]

      windlass studies schema > study.schema.json      then, as study.yaml's first line:
                                                       # yaml-language-server: $schema=study.schema.json
      windlass studies schema | less
    """
    from windlass.records.studyfile import study_schema

    print(json.dumps(study_schema(), indent=2))


@app.command()
def example() -> None:
    """Print a small study on real data, to start from.

    [bold]Examples[/bold]

      windlass studies example > study.yaml
      windlass studies example | head -20
    """
    from importlib.resources import files

    print((files("windlass.workloads.tabular") / "example.yaml").read_text(encoding="utf-8"), end="")
