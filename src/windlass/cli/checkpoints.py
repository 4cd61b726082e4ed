"""``windlass checkpoints``: list, show, diff, lineage, verify, export, register, card, gc."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from windlass.cli.blocks import out_sections
from windlass.cli.keeping import (
    STAGE_STYLE,
    checkpoint_dict,
    counted,
    evaluation_dict,
    facts,
    hashing,
    known,
    moment,
    mono,
    out_rows,
    size,
    stages_words,
    values,
    verdict_dict,
    waiting,
)
from windlass.cli.runs import JsonOption, LabOption, LimitOption
from windlass.cli.show import json_out, out, out_markdown, say
from windlass.lab import Lab
from windlass.records.checkpoint import Checkpoint, FileEntry
from windlass.records.deployment import Stage
from windlass.records.verdict import Verdict
from windlass.report.blocks import Bullets, Code, Section, Table

if TYPE_CHECKING:
    from windlass.lab.keeping import Keeping

app = typer.Typer(no_args_is_help=True, help="What is kept: list, show, compare, verify, export and clear checkpoints.")

NEWEST = 5  #: evaluations and verdicts that are shown with a checkpoint
IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="A checkpoint's id, a unique part of it, or of its run's id.")
]


@app.command("list")
def list_checkpoints(
    study: Annotated[str | None, typer.Option("--study", help="Only of this study.")] = None,
    deployment: Annotated[
        str | None, typer.Option("--deployment", help="Only those on this deployment's line.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", help="candidate, evaluated, shadow, canary, champion, retired, ...")
    ] = None,
    lab: LabOption = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """The newest checkpoints: where each stands, what made it, how it was evaluated.

    [bold]Examples[/bold]

      windlass checkpoints list
      windlass checkpoints list --deployment reader --stage retired --json
    """
    with Lab(lab) as opened:
        keeping = opened.keeping
        state = keeping.state
        known("study", study, {c.study for c in state.checkpoints.values() if c.study}, "windlass studies list")
        known("deployment", deployment, state.deployments, "windlass promote NAME ID")
        known("stage", stage, map(str, Stage), "windlass checkpoints list")
        found = [
            one
            for one in reversed(state.checkpoints.values())
            if study in (None, one.study)
            and (deployment is None or deployment in state.stages_of(one.id))
            and (stage is None or Stage(stage) in _stages(keeping, one, deployment))
        ]
        rows = [_row(keeping, one) for one in found[:limit]]
        objectives = {o["metric"]: None for s in opened.studies() for o in s.definition["objectives"]}
    if as_json:
        json_out(rows)
        return
    if not found:
        some = "No checkpoint is like that. All of them:" if state.checkpoints else "No checkpoint is kept yet. One:"
        say(f"{some} windlass checkpoints {'list' if state.checkpoints else 'register RUN'}")
        return
    columns = ("id", "stage", "study", "run", "size", "metrics", "registered (UTC)", "newest evaluation")
    cells = [
        (
            row["id"],
            "removed" if row["removed"] else stages_words(row["stages"]),
            f"{one.study}#{one.number}" if one.study and one.number is not None else one.study or "–",
            one.run,
            size(one.bytes),
            values(one.metrics, objectives),
            moment(one.created),
            _newest(row["evaluations"]),
        )
        for row, one in zip(rows, found, strict=False)
    ]
    out_rows(columns, cells, [_style(row) for row in rows])
    if len(found) > limit:
        say(f"The first {limit} of {len(found)}; more with --limit")


def _stages(keeping: Keeping, checkpoint: Checkpoint, deployment: str | None) -> Iterable[Stage]:
    stages = keeping.state.stages_of(checkpoint.id)
    return [stages[deployment]] if deployment else stages.values() or [Stage.CANDIDATE]


def _row(keeping: Keeping, checkpoint: Checkpoint) -> dict[str, Any]:
    state = keeping.state
    return {
        **checkpoint_dict(checkpoint),
        "runs": state.runs[checkpoint.id],
        "stages": state.stages_of(checkpoint.id),
        "removed": state.removed.get(checkpoint.id),
        "evaluations": [evaluation_dict(one) for one in state.evaluations_of(checkpoint.id)],
    }


def _style(row: dict[str, Any]) -> str | None:
    if row["removed"]:
        return "dim"
    return next((STAGE_STYLE[stage] for stage in row["stages"].values() if stage in STAGE_STYLE), None)


def _newest(evaluations: list[dict[str, Any]]) -> str:
    if not evaluations:
        return "–"
    one = evaluations[-1]
    return f"{one['benchmark']}: {values(one['means'], most=1)}"


@app.command()
def show(checkpoint: IdArgument, lab: LabOption = None, as_json: JsonOption = False) -> None:
    """Everything about one checkpoint: files, origin, metrics, evaluations, verdicts, where it serves.

    [bold]Examples[/bold]

      windlass checkpoints show 3f2a9c
      windlass checkpoints show 3f2a9c --json
    """
    with Lab(lab) as opened:
        keeping = opened.keeping
        state = keeping.state
        one = state.checkpoint(checkpoint)
        row = _row(keeping, one)
        verdicts = [v for v in state.verdicts.values() if one.id in (v.challenger, v.champion)]
        files = keeping.blobs.files(one.digest)
        manifest = [] if one.id in state.removed else list(keeping.blobs.manifest(one.digest).files)
        held = state.held_by(one.id)
    own = [verdict for verdict in verdicts if verdict.challenger == one.id]
    if as_json:
        listed = [{"path": file.path, "bytes": file.bytes, "sha256": file.sha256} for file in manifest]
        json_out({**row, "path": str(files), "manifest": listed, "verdicts": [verdict_dict(v) for v in verdicts]})
        return
    made = f"{one.run} ({one.study}#{one.number})" if one.study else one.run
    about = facts(
        [
            ("stage", stages_words(row["stages"])),
            ("digest", mono(one.digest)),
            ("registered", f"{moment(one.created)} UTC"),
            ("run", made),
            ("same bytes", ", ".join(run for run in row["runs"] if run != one.run)),
            ("began from", one.parent or ""),
            ("seed", str(one.seed)),
            ("kept because", held),
            ("challenged", f"as champion in {counted(len(verdicts) - len(own), 'verdict')}" if verdicts != own else ""),
            ("bytes removed", f"{moment(row['removed'])} UTC" if row["removed"] else ""),
        ]
    )
    contents = [(mono(file.path), size(file.bytes), file.sha256[:12]) for file in manifest]
    table = Table(("file", "size", "SHA-256"), contents, (1,))
    sections = [
        Section("What it is", [about]),
        Section(f"{counted(one.files, 'file')}, {size(one.bytes)}", [table, Code(str(files))]),
        Section("Metrics of its run", [facts((name, f"{value:.6g}") for name, value in one.metrics.items())]),
        Section("Config", [facts((name, mono(_text(value))) for name, value in one.config.items())]),
        Section("Fingerprints", [facts((name, mono(print_)) for name, print_ in one.fingerprints.items())]),
        Section("Newest evaluations", [_evaluations(row["evaluations"])]),
        Section("Newest verdicts on it", [_verdicts(own)]),
        Section("Next", [Code("\n".join(_next(one)), "sh")]),
    ]
    out_sections(f"Checkpoint {one.id}", [section for section in sections if _told(section)])


def _told(section: Section) -> bool:
    return not (isinstance(section.blocks[0], Table) and not section.blocks[0].rows)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _evaluations(evaluations: list[dict[str, Any]]) -> Table:
    cells = [
        (one["id"], one["benchmark"], f"{one['n']:,}", values(one["means"], most=3), moment(one["at"]))
        for one in reversed(evaluations)
    ]
    return Table(("evaluation", "benchmark", "examples", "means", "made (UTC)"), cells[:NEWEST], (2,))


def _verdicts(verdicts: list[Verdict]) -> Table:
    cells = [
        (one.deployment, str(one.ruling), one.reasons[0] if one.reasons else "", moment(one.at))
        for one in reversed(verdicts)
    ]
    return Table(("deployment", "ruling", "because", "given (UTC)"), cells[:NEWEST])


def _next(checkpoint: Checkpoint) -> list[str]:
    return [
        f"windlass checkpoints lineage {checkpoint.id}",
        f"windlass checkpoints export {checkpoint.id} FOLDER",
        f"windlass audit show --checkpoint {checkpoint.id}",
    ]


@app.command()
def diff(a: IdArgument, b: IdArgument, lab: LabOption = None, as_json: JsonOption = False) -> None:
    """Two checkpoints: which files, config values, metrics and origins differ.

    [bold]Examples[/bold]

      windlass checkpoints diff 3f2a9c 81b04d
      windlass checkpoints diff 3f2a9c 81b04d --json
    """
    with Lab(lab) as opened:
        found = opened.keeping.differences(a, b)
    if as_json:
        json_out(found.to_dict())
        return
    if found.a.id == found.b.id:
        out(f"{found.a.id} is one checkpoint")
        return
    header = ("", found.a.id, found.b.id)
    metrics = [
        (pair.name, _number(pair.a), _number(pair.b), "" if pair.delta is None else f"{pair.delta:+.6g}")
        for pair in found.metrics
    ]
    files = [(mono(pair.path), _file(pair.a), _file(pair.b)) for pair in found.files]
    tables = {
        "Origin": Table(header, [(one.name, _side(one.a), _side(one.b)) for one in found.origin]),
        "Config": Table(header, [(one.name, _side(one.a), _side(one.b)) for one in found.config]),
        "Metrics of their runs": Table((*header, "difference"), metrics, (1, 2, 3)),
        "Fingerprints": Table(header, [(one.name, _side(one.a), _side(one.b)) for one in found.fingerprints]),
        "Files" + (f"; {found.same_files} more are the same" if found.same_files else ""): Table(header, files),
    }
    sections = [Section(title, [table]) for title, table in tables.items() if table.rows]
    sections += [Section("Not compared", [Bullets(found.notes)])] if found.notes else []
    out_sections(f"Checkpoints {found.a.id} and {found.b.id}", sections)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


def _side(value: Any) -> str:
    return "–" if value is None else mono(_text(value))


def _file(file: FileEntry | None) -> str:
    return "–" if file is None else f"{size(file.bytes)}, {file.sha256[:12]}"


@app.command()
def lineage(
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="A checkpoint, run, evaluation, verdict or deployment.")
    ],
    figure: Annotated[
        Path | None, typer.Option("--figure", metavar="FILE.svg", help="Also draw it into this file.")
    ] = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Where it comes from and what became of it: dataset, spec, run, checkpoint, evaluation, verdict, deployment.

    [bold]Examples[/bold]

      windlass checkpoints lineage 3f2a9c
      windlass checkpoints lineage reader --figure lineage.svg
    """
    from windlass.report.lineage import lineage_dict, lineage_tree

    with Lab(lab) as opened:
        found = opened.keeping.lineage(reference)
    if figure is not None:
        from windlass.report.lineage_figure import draw_lineage

        if figure.suffix.lower() != ".svg":
            raise typer.BadParameter(f"{figure} is no .svg file", param_hint="--figure")
        figure.expanduser().write_text(draw_lineage(found), encoding="utf-8")
        say(f"wrote {figure}")
    if as_json:
        json_out(lineage_dict(found))
    else:
        out(lineage_tree(found))


@app.command()
def verify(
    checkpoints: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Checkpoints; without any, all of them.")
    ] = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read kept bytes again and hold them against their digests. Exit code 1 where one file is not as it was.

    [bold]Examples[/bold]

      windlass checkpoints verify
      windlass checkpoints verify 3f2a9c 81b04d --json
    """
    with Lab(lab) as opened:
        keeping = opened.keeping
        state = keeping.state
        named = {one.id: one for one in map(state.checkpoint, checkpoints or ())}
        kept = [one for one in state.checkpoints.values() if one.id not in state.removed]
        chosen = list(named.values()) or kept
        with hashing("verifying", sum(one.bytes for one in chosen)) as on_bytes:
            damages = [damage for one in chosen for damage in keeping.verify(one.id, on_bytes)]
    if as_json:
        json_out([{"where": damage.where, "what": damage.what} for damage in damages])
    for damage in damages if not as_json else ():
        out(f"[bold red]damaged[/] {escape(str(damage))}", markup=True)
    if damages:
        raise typer.Exit(1)
    if not as_json and not chosen:
        say("Nothing is kept yet. windlass checkpoints register RUN")
    elif not as_json:
        read = f"{counted(len(chosen), 'checkpoint')} of {size(sum(one.bytes for one in chosen))}"
        out(f"{read}, with their evaluations' scores: every byte is as it was kept")


@app.command()
def export(
    checkpoint: IdArgument,
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    lab: LabOption = None,
) -> None:
    """Copy a checkpoint's files into a new folder, each held against its digest. The copy is yours to change.

    [bold]Examples[/bold]

      windlass checkpoints export 3f2a9c model
      windlass checkpoints export 3f2a9c ~/serving/reader
    """
    with Lab(lab) as opened:
        keeping = opened.keeping
        one = keeping.state.checkpoint(checkpoint)
        with hashing("exporting", one.bytes) as on_bytes:
            there = keeping.export(one.id, target.expanduser(), on_bytes)
    out(str(there))
    say(f"{counted(one.files, 'file')}, {size(one.bytes)}, of checkpoint {one.id}; each as it was kept")


@app.command()
def register(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, a unique part of it, or 'latest'.")],
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep what a completed run left in its checkpoint folder. Doing it again changes nothing.

    [bold]Examples[/bold]

      windlass checkpoints register latest
      windlass checkpoints register 20261121T1203 --json
    """
    with Lab(lab) as opened, waiting("reading the run's checkpoint"):
        made = opened.keeping.register(run)
        runs = opened.keeping.state.runs[made.id]
    if as_json:
        json_out({**checkpoint_dict(made), "runs": runs})
        return
    out(made.id)
    also = f"; {len(runs)} runs gave the same bytes" if len(runs) > 1 else ""
    say(f"{counted(made.files, 'file')}, {size(made.bytes)}, of run {made.run}{also}")
    say(f"Next: windlass promote NAME {made.id}")


@app.command()
def card(checkpoint: IdArgument, lab: LabOption = None) -> None:
    """The model card: what it is, how it was made, what it was measured at, where it serves, what is not known.

    [bold]Examples[/bold]

      windlass checkpoints card 3f2a9c
      windlass checkpoints card 3f2a9c > MODEL_CARD.md
    """
    with Lab(lab) as opened:
        out_markdown(opened.keeping.card(checkpoint))


@app.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete it; without this nothing is touched.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """What nothing refers to: what would be freed, and why; what stays, and why. Deletes with --yes alone.

    [bold]Examples[/bold]

      windlass checkpoints gc
      windlass checkpoints gc --yes
    """
    with Lab(lab) as opened:
        keeping = opened.keeping
        with waiting("looking for what nothing refers to"):
            plan = keeping.gc_plan()
        if yes:
            with waiting(f"deleting {len(plan.items)} folders"):
                keeping.gc(plan)
    if as_json:
        json_out({**plan.to_dict(), "deleted": yes})
        return
    items = [(one.name[:12], str(one.kind), size(one.bytes), size(one.freed), one.reason) for one in plan.items]
    if items:
        out_rows(("goes" if not yes else "deleted", "", "size", "frees", "because"), items)
    if plan.kept:
        out_rows(("stays", "because"), list(plan.kept.items()), ["dim"] * len(plan.kept))
    if not items:
        say("Everything that is kept is referred to; there is nothing to delete.")
    elif yes:
        say(f"{counted(len(items), 'folder')} deleted; the disk has {size(plan.freed)} more")
    else:
        say(f"Nothing was deleted. It would free {size(plan.freed)}: windlass checkpoints gc --yes")
