"""``windlass alpha``: factor research, from an idea to a verdict that counts every trial."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from windlass.cli.given import known_names, named_values
from windlass.cli.runs import JsonOption, LabOption
from windlass.cli.show import Progress, json_out, out, out_table, say
from windlass.errors import WindlassError
from windlass.records.decision import StudyStatus

if TYPE_CHECKING:
    from windlass.lab import Event
    from windlass.records.deciding import LanguageModel
    from windlass.report.alpha import CampaignReport

app = typer.Typer(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})

#: options that are arguments of the command, and that --set therefore does not take
GIVEN = {"idea", "data", "sectors", "membership", "borrow", "mode", "candidates", "top_k"}

DataOption = Annotated[
    Path | None, typer.Option("--data", "-d", help="Daily panel, .csv or .parquet; default: a synthetic one.")
]
SectorsOption = Annotated[Path | None, typer.Option("--sectors", help="File: instrument, sector[, industry].")]
MembershipOption = Annotated[
    Path | None, typer.Option("--membership", help="File of dated index snapshots: instrument, asof.")
]
BorrowOption = Annotated[Path | None, typer.Option("--borrow", help="File: instrument, rate of a year[, date].")]


@app.callback()
def alpha(
    context: typer.Context,
    idea: Annotated[str, typer.Option("--idea", "-i", help='For example "Momentum + liquidity".')] = "",
    data: DataOption = None,
    sectors: SectorsOption = None,
    membership: MembershipOption = None,
    borrow: BorrowOption = None,
    eval_mode: Annotated[
        str | None, typer.Option("--eval-mode", metavar="p0|p1|p2", help="IC only; walk-forward; all costs and gate.")
    ] = None,
    candidates: Annotated[int | None, typer.Option("--candidates", min=1, help="Expressions to try; 200.")] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="To look at closely; 5.")] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Campaigns; later ones have proposed parameters.")] = 1,
    concurrent: Annotated[int, typer.Option("--concurrent", min=1, help="Campaigns at a time.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    given: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="NAME=VALUE", help="An option or a parameter.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="A language model that adds expressions: openai:NAME, anthropic:NAME.")
    ] = None,
    base_url: Annotated[str | None, typer.Option("--base-url", help="Of an OpenAI-compatible endpoint.")] = None,
    api_key: Annotated[str | None, typer.Option("--api-key", help="The environment variable with the key.")] = None,
    knows_until: Annotated[
        str, typer.Option("--knows-until", metavar="DATE", help="The model's knowledge cut-off, as 2025-06-30.")
    ] = "",
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Factor research: search expressions for an idea, evaluate them honestly, judge them by all trials.

    Modes: p0 looks at information coefficients only; p1 walks forward with linear costs; p2, the default, adds risk
    controls, all costs and the gate. The last 30 % of days stay sealed: `windlass alpha open RUN` opens them, and each
    opening is counted. That nothing is promoted is a normal end.

    The same command on the same content is the same campaign: it goes on where it was interrupted, and repeats nothing.

    [bold]Examples[/bold]

      windlass alpha --idea "Momentum + liquidity"
      windlass alpha --idea "Reversal" --data panel.parquet --sectors sectors.csv --membership index.csv
      windlass alpha --idea "Volume" --data panel.csv --eval-mode p1 -s portfolio.holding=10 -s holdout=0.25
      windlass alpha --idea "Gap" -s 'synthetic={"names": 300, "ic": 0.02, "seed": 1}' -s portfolio.weighting=rank
      windlass alpha --idea "Value of range" --model openai:qwen3 --base-url http://127.0.0.1:8000/v1
    """
    if context.invoked_subcommand is not None:
        return
    from windlass.cli.live import Live, pausing
    from windlass.lab import Lab, Pause, Stopped
    from windlass.lab.alpha import AlphaOrder, option_names, parameter_names, research, tried

    values = named_values(given or ())
    own = option_names() - GIVEN
    known_names(values, {*own, *parameter_names()}, "alpha")
    files = {"data": data, "sectors": sectors, "membership": membership, "borrow": borrow}
    asked = {"idea": idea, "mode": eval_mode, "candidates": candidates, "top_k": top_k}
    options: dict[str, Any] = {name: str(p.expanduser().resolve()) for name, p in files.items() if p is not None}
    options |= {name: value for name, value in asked.items() if value not in (None, "")}
    options |= {name: value for name, value in values.items() if name in own}
    order = AlphaOrder(
        options=options,
        parameters={name: value for name, value in values.items() if name not in own},
        runs=runs,
        concurrent=concurrent,
        seed=seed,
        model=_language_model(model, base_url, api_key),
        knows_until=knows_until,
    )
    if knows_until:
        try:
            date.fromisoformat(knows_until)
        except ValueError:
            raise WindlassError(
                f"--knows-until takes a date, not {knows_until!r}", "As in: --knows-until 2024-06-30"
            ) from None
    pause = Pause()
    with Lab(lab) as opened:
        show = Live(opened, as_json=False, detail=lambda run: tried(opened, run))
        idle = True

        def tell(event: Event) -> None:
            nonlocal idle
            idle = idle and isinstance(event, Stopped)
            show.event(event)

        with pausing(pause), show:
            outcome = research(opened, order, on_event=tell, pause=pause)
    for warning in outcome.warnings:
        say(f"[yellow]warning:[/] {escape(warning)}", markup=True)
    if idle:
        say(f"{outcome.job} was done before: nothing ran.")
    if as_json:
        print(json.dumps(outcome.line(), ensure_ascii=False), flush=True)
    elif outcome.report is not None and outcome.run is not None:
        _show(outcome.report, outcome.run.id)
    if outcome.record.status is StudyStatus.PAUSED and len(outcome.runs) < runs + (outcome.run is None):
        say("Paused; the same command goes on.")
        raise typer.Exit(130)
    if outcome.run is None:
        failures = [run.failure for run in outcome.runs if run.failure]
        messages = sorted({failure.message for failure in failures})
        say(f"[bold red]error:[/] {escape('; '.join(messages) or outcome.record.stopped_because)}", markup=True)
        say(f"  {next((one.next_step for one in failures if one.next_step), f'windlass why {outcome.job}#1')}")
        raise typer.Exit(1)
    say(f"[dim]report: {escape(str(outcome.folder / 'report.html'))}[/]", markup=True)


def _language_model(model: str | None, base_url: str | None, api_key: str | None) -> LanguageModel | None:
    """Raises WindlassError for a name that says no provider."""
    from pydantic import ValidationError

    from windlass.records.deciding import LanguageModel

    if model is None:
        return None
    try:
        return LanguageModel(model=model, base_url=base_url, api_key=api_key)
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise WindlassError(
            f"--model: {what}, not {model!r}", "For example: --model openai:qwen3 --base-url URL"
        ) from None


@app.command("open")
def open_(
    campaign: Annotated[str, typer.Argument(metavar="RUN", help="A campaign's run, its study's name, or 'latest'.")],
    top: Annotated[int | None, typer.Option("--top", min=1, help="At most so many of the provisional ones; 5.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Even where this campaign was opened before; it counts.")
    ] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open the holdout: judge what a campaign found on the days it never saw.

    Every opening is entered in the registry of factors before anything is computed, and counted in every later report
    on the same prices: a holdout that is looked at again and again says less each time. What is provisional is judged
    in turn, up to the first that fails; where nothing is, the best in sample is shown and cannot be promoted.

    [bold]Examples[/bold]

      windlass alpha open latest
      windlass alpha open alpha-1f0c9b2a44 --json
    """
    from windlass.lab import Lab
    from windlass.lab.alpha import open_holdout

    with Lab(lab) as opened:
        ended, told, new = open_holdout(opened, campaign, top=top, again=again)
        folder = opened.runs_root / ended.id
    if as_json:
        print(json.dumps({"run": ended.id, "gate": told.gate}, ensure_ascii=False))
    else:
        _show(told, ended.id)
    if not new:
        say("It was opened before: nothing was looked at. --again looks once more, and counts.")
    say(f"[dim]report: {escape(str(folder / 'report.html'))}[/]", markup=True)


@app.command()
def selftest(
    data: DataOption = None,
    sectors: SectorsOption = None,
    membership: MembershipOption = None,
    nulls: Annotated[
        int, typer.Option("--nulls", min=1, help="Campaigns on each of two kinds of panels without any signal.")
    ] = 50,
    planted: Annotated[int, typer.Option("--planted", min=0, help="Campaigns at each of two planted levels.")] = 20,
    candidates: Annotated[int, typer.Option("--candidates", min=10, help="Of each campaign.")] = 100,
    processes: Annotated[int, typer.Option("--processes", min=1, help="At a time.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the gate's error rates: whole campaigns on null panels and on panels with a planted signal.

    A null panel has its future returns exchanged in blocks of 20 days, which cuts every signal from what it should
    predict; in a planted one a slow factor really works, at an information coefficient of 0.010 or 0.015 a day. A
    campaign of 100 candidates takes about four seconds. Ctrl-C cancels; `windlass runs resume RUN` goes on.

    [bold]Examples[/bold]

      windlass alpha selftest
      windlass alpha selftest --data panel.parquet --nulls 200 --planted 50 --candidates 100 --processes 2
    """
    from windlass.lab import Lab
    from windlass.lab.alpha import ended
    from windlass.lab.alpha import selftest as measure

    files = {"data": data, "sectors": sectors, "membership": membership}
    options: dict[str, Any] = {name: str(path.resolve()) for name, path in files.items() if path is not None}
    options["candidates"] = candidates
    settings = {"nulls": nulls, "planted": planted, "processes": processes}
    with Lab(lab) as opened, Progress("campaigns") as progress:
        whole = 2 * (nulls + planted)
        run = measure(opened, options, settings, seed, lambda done: progress(done, whole))
        found = opened.folder(run.id).artifacts / "selftest.json"
        if not found.is_file():
            raise ended("the selftest", run)
        table = json.loads(found.read_text())
    if as_json:
        json_out({"run": run.id, **table})
        return
    shown = Table(title=None)
    for column in ("panels", "campaigns", "promoted", "share", "95 % interval"):
        shown.add_column(column, justify="left" if column == "panels" else "right")
    for row in table["rows"]:
        low, high = row["interval"]
        shown.add_row(
            row["panels"],
            str(row["campaigns"]),
            str(row["promoted"]),
            f"{row['share']:.1%}",
            f"{low:.1%} to {high:.1%}",
        )
    out_table(shown)


@app.command()
def factors(
    every: Annotated[bool, typer.Option("--all", help="Every trial, too.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """The registry of factors: what was provisional, promoted or refused, and when a holdout was opened.

    [bold]Examples[/bold]

      windlass alpha factors
      windlass alpha factors --all --json
    """
    from windlass.lab import Lab
    from windlass.lab.alpha import factors as entries

    with Lab(lab) as opened:
        found = entries(opened, every=every)
    if as_json:
        json_out(found)
        return
    if not found:
        say('No factor is on record. Try: windlass alpha --idea "Momentum + liquidity"')
        return
    shown = Table()
    for column in ("event", "run", "factor", "grade", "words"):
        shown.add_column(column)
    for one in found:
        words = one.get("reasons") or one.get("proposer") or ""
        shown.add_row(
            str(one.get("event")),
            str(one.get("run", "")),
            escape("; ".join(one["expressions"])),
            str(one.get("grade", "")),
            escape(words if isinstance(words, str) else "; ".join(words)),
        )
    out_table(shown)


@app.command(context_settings={"ignore_unknown_options": True})
def check(
    expression: Annotated[str | None, typer.Argument(help="In quotes.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="All operators, with their rules.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read an expression: its canonical form, hash, look-back and unit, and what looks wrong about it.

    [bold]Examples[/bold]

      windlass alpha check "rank(ts_mean(returns, 20)) * -1"
      windlass alpha check --list
    """
    from windlass.lab.alpha import explain_expression, operators

    if listing or expression is None:
        rows = operators()
        if as_json:
            json_out([dict(zip(("name", "signature", "rule"), row, strict=True)) for row in rows])
            return
        shown = Table()
        for column in ("operator", "rule"):
            shown.add_column(column)
        for _, signature, rule in rows:
            shown.add_row(escape(signature), escape(rule))
        out_table(shown)
        return
    told = explain_expression(expression)
    if as_json:
        json_out(told)
        return
    for name, value in told.items():
        if name != "warnings":
            out(f"{name:10} {value}")
    for warning in told["warnings"]:
        say(f"[yellow]warning:[/] {escape(warning)}", markup=True)


@app.command("data")
def data_(
    panel: Annotated[Path, typer.Argument(help=".csv, .tsv or .parquet")],
    sectors: SectorsOption = None,
    membership: MembershipOption = None,
    borrow: BorrowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a panel and say what is wrong with it, with counts.

    [bold]Examples[/bold]

      windlass alpha data panel.parquet --sectors sectors.csv --membership index.csv
      windlass alpha data panel.csv --json
    """
    from windlass.lab.alpha import panel_manifest

    manifest = panel_manifest(panel, sectors, membership, borrow)
    if as_json:
        json_out(manifest)
        return
    for name, value in manifest.items():
        lines = value if isinstance(value, (list, tuple)) else [value]
        for number, line in enumerate(lines):
            out(f"{'' if number else name.replace('_', ' '):24} {_words(line)}")


def _words(value: Any) -> str:
    """A value of the manifest in a line: ``date 2015-07-01, name BAX, move -0.451``."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(one)}" for name, one in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _show(report: CampaignReport, run: str) -> None:
    """The verdict and the best few, as text on stdout."""
    gate = report.gate
    out(gate["words"])
    shown = Table()
    where = "holdout " if report.is_opening else ""
    for column in (
        "alpha",
        "expression",
        f"{where}net IR",
        f"{where}gross IR",
        f"{where}rank IC",
        "max-t p",
        "verdict",
    ):
        shown.add_column(column, justify="left" if column in ("alpha", "expression", "verdict") else "right")
    for row in report.holdout or report.top:
        shown.add_row(
            row["alpha_id"],
            escape(row["expression"]),
            *(
                _number(row.get(name), how)
                for name, how in (("net_ir", ".2f"), ("gross_ir", ".2f"), ("rank_ic", ".4f"))
            ),
            _number(row.get("maxt_p"), ".3f"),
            row.get("verdict") or "",
        )
    out_table(shown)
    if gate["mode"] == "p2" and not report.is_opening:
        count = gate["holdout"]["opened"]
        state = f"was opened {'once' if count == 1 else f'{count} times'} on these prices" if count else "is sealed"
        say(f"[dim]The holdout {state}. To open it, which is counted: windlass alpha open {run}[/]", markup=True)


def _number(cell: str | None, how: str) -> str:
    return format(float(cell), how) if cell else ""
