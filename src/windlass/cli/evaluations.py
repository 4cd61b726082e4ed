"""``windlass evaluate`` and ``windlass evaluations``: list, show, import."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from windlass.cli.blocks import out_sections
from windlass.cli.keeping import (
    evaluation_dict,
    evaluation_words,
    facts,
    interruptible,
    moment,
    mono,
    out_rows,
    values,
)
from windlass.cli.runs import JsonOption, LabOption, LimitOption
from windlass.cli.show import json_out, out, say
from windlass.errors import NotFound, nearest
from windlass.lab import Lab
from windlass.records.evaluation import Evaluation
from windlass.report.blocks import Bullets, Code, Section, Table

app = typer.Typer(no_args_is_help=True, help="Per-example scores of checkpoints: list, show and import evaluations.")

FIRST = 5  #: examples that are shown

PolicyOption = Annotated[
    Path | None,
    typer.Option(
        "--policy", metavar="FILE", help="The gate's policy; default: the deployment's, else the study's 'gate'."
    ),
]


def evaluate(
    checkpoint: Annotated[str, typer.Argument(metavar="ID", help="A checkpoint's id, or a unique part of it.")],
    policy: PolicyOption = None,
    benchmark: Annotated[
        list[str] | None, typer.Option("--benchmark", metavar="NAME", help="Only this one; may be given several times.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also where there is an evaluation.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score a checkpoint, and what serves, on the benchmarks that the gate asks for: real jobs, one score an example.

    [bold]Examples[/bold]

      windlass evaluate 3f2a9c
      windlass evaluate 3f2a9c --policy gate.yaml --benchmark held-out --again
    """
    from windlass.cli.live import keeping_line
    from windlass.lab import KeepingEvent

    with Lab(lab) as opened:
        keeping = opened.keeping
        one = keeping.state.checkpoint(checkpoint)

        def tell(event: KeepingEvent) -> None:
            if line := keeping_line(event):
                say(line, markup=True)

        with interruptible("what was under way was cancelled; the same command begins it anew"):
            made = keeping.evaluate(one.id, policy, benchmark or (), again=again, on_event=tell)
    if as_json:
        json_out([evaluation_dict(evaluation) for evaluation in made])
        return
    for evaluation in made:
        out(f"{evaluation.id}  {evaluation_words(evaluation)}")
    if not made:
        say(f"Nothing was missing: windlass evaluations list --checkpoint {one.id}; once more with --again")


@app.command("list")
def list_evaluations(
    checkpoint: Annotated[str | None, typer.Option("--checkpoint", metavar="ID", help="Only of this one.")] = None,
    lab: LabOption = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """The newest evaluations.

    [bold]Examples[/bold]

      windlass evaluations list
      windlass evaluations list --checkpoint 3f2a9c --json
    """
    with Lab(lab) as opened:
        state = opened.keeping.state
        chosen = state.checkpoint(checkpoint).id if checkpoint is not None else None
        found = [one for one in reversed(state.evaluations.values()) if chosen in (None, one.checkpoint)]
    if as_json:
        json_out([evaluation_dict(one) for one in found[:limit]])
        return
    if not found:
        say(f"No evaluation yet. Make some: windlass evaluate {chosen or 'ID'}")
        return
    columns = ("id", "checkpoint", "benchmark", "examples", "means", "trained on", "from", "made (UTC)")
    cells = [
        (
            one.id,
            one.checkpoint,
            one.benchmark,
            f"{one.n:,}",
            values(one.means, most=3),
            "unknown" if one.leakage.overlap is None else f"{one.leakage.overlap:,}",
            f"imported: {one.imported}" if one.imported else one.run or "–",
            moment(one.at),
        )
        for one in found[:limit]
    ]
    out_rows(columns, cells, ["yellow" if one.leakage.overlap or one.imported else None for one in found[:limit]])
    if len(found) > limit:
        say(f"The first {limit} of {len(found)}; more with --limit")


@app.command()
def show(
    evaluation: Annotated[str, typer.Argument(metavar="ID", help="An evaluation's id, or a unique part of it.")],
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """One evaluation: means, the data behind it, what was trained on, where its scores are and how they begin.

    [bold]Examples[/bold]

      windlass evaluations show 9b1c44
      windlass evaluations show 9b1c44 --json
    """
    with Lab(lab) as opened:
        keeping = opened.keeping
        one = _find(evaluation, keeping.state.evaluations)
        files = keeping.blobs.files(one.scores)
        scores = [files / file.path for file in keeping.blobs.manifest(one.scores).files]
        beside = [
            other.benchmark
            for other in keeping.state.evaluations_of(one.checkpoint)
            if other.benchmark == one.benchmark and other.id != one.id
        ]
    if as_json:
        json_out({**evaluation_dict(one), "files": [str(file) for file in scores]})
        return
    again = f"windlass evaluate {one.checkpoint} --benchmark {one.benchmark} --again"
    about = facts(
        [
            ("checkpoint", mono(one.checkpoint)),
            ("examples", f"{one.n:,}"),
            ("leakage", one.leakage.words or "unknown"),
            ("imported", one.imported),
            ("made", f"{moment(one.at)} UTC"),
            ("by run", one.run or ""),
            ("others", f"{len(beside)} of this checkpoint on this benchmark" if beside else ""),
            ("data", mono(one.data)),
            ("evaluator", mono(one.evaluator)),
        ]
    )
    sections = [
        Section("What it is", [about, *([Bullets(one.notes)] if one.notes else [])]),
        Section("Means", [Table(("column", "mean"), [(name, f"{x:.6g}") for name, x in one.means.items()], (1,))]),
        *(Section("Scores", [Code(str(file)), Code("\n".join(_first_lines(file)))]) for file in scores),
        Section("Next", [Code(f"windlass checkpoints show {one.checkpoint}\n{again}", "sh")]),
    ]
    out_sections(f"Evaluation {one.id} of {one.checkpoint} on {one.benchmark}", sections)


def _find(reference: str, known: Mapping[str, Evaluation]) -> Evaluation:
    """By id or a part that only one has. Raises NotFound with the nearest."""
    matches = [known[reference]] if reference in known else [one for id, one in known.items() if reference in id]
    if len(matches) == 1:
        return matches[0]
    if matches:
        some = ", ".join(one.id for one in matches[:6])
        raise NotFound(f"{reference!r} is {len(matches)} evaluations: {some}", "Write more of the one you mean.")
    raise NotFound(f"no evaluation {reference!r}.{nearest(reference, known)}", "windlass evaluations list")


def _first_lines(file: Path) -> Iterator[str]:
    """The header and the first examples of a scores file."""
    if file.suffix.lower() == ".csv":
        with file.open(encoding="utf-8", errors="replace") as lines:
            yield from (line.rstrip() for _, line in zip(range(FIRST + 1), lines, strict=False))
        return
    import polars as pl

    table = pl.read_parquet(file, n_rows=FIRST)
    yield ",".join(table.columns)
    for row in table.iter_rows():
        yield ",".join(str(value) for value in row)


@app.command("import")
def import_evaluation(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON: what was scored, where the scores are.")],
    policy: PolicyOption = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in scores that were made elsewhere. They stay marked; the gate's policy says whether they count.

    [bold]Examples[/bold]

      windlass evaluations import results/held-out.json
      windlass evaluations import results/held-out.json --json
    """
    with Lab(lab) as opened:
        made = opened.keeping.import_evaluation(file, policy)
    if as_json:
        json_out(evaluation_dict(made))
    else:
        out(f"{made.id}  {evaluation_words(made)}")
