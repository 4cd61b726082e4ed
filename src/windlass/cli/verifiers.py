"""``windlass verifiers``: list, audit, try."""

from __future__ import annotations

import inspect
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from windlass.cli.blocks import out_sections
from windlass.cli.given import VERIFIER_EXAMPLE, json_object
from windlass.cli.keeping import known
from windlass.cli.runs import JsonOption
from windlass.cli.show import Progress, json_out, out, say
from windlass.datasets.tasks import read_tasks
from windlass.report.blocks import Code, Mono, Paragraph, Section, Table
from windlass.verifiers import KINDS, audit, for_task
from windlass.verifiers.protocol import Kind, kind_class

app = typer.Typer(no_args_is_help=True, help="What judges completions: the kinds, an audit before training, a try.")

TasksArgument = Annotated[Path, typer.Argument(metavar="TASKS.jsonl", help="Tasks: id, prompt, expected, verifier.")]
VerifierOption = Annotated[
    str | None,
    typer.Option(
        "--verifier", metavar="JSON|FILE", help='For tasks that have none of their own, as in \'{"kind": "exact"}\'.'
    ),
]


@app.command("list")
def list_kinds(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="Only this one, with what its options do.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The kinds of verifiers, and their options.

    [bold]Examples[/bold]

      windlass verifiers list
      windlass verifiers list numeric
    """
    known("verifier", kind, KINDS, "windlass verifiers list")
    kinds = {name: kind_class(name) for name in KINDS if kind in (None, name)}
    if as_json:
        json_out([{"kind": name, "what": _what(made), "options": _options(made)} for name, made in kinds.items()])
    elif kind is None:
        rows = [(Mono(name), _what(made), ", ".join(o["name"] for o in _options(made))) for name, made in kinds.items()]
        next_ = (
            'windlass verifiers list numeric\nwindlass verifiers audit TASKS.jsonl --verifier \'{"kind": "numeric"}\''
        )
        table = Table(("kind", "score 1 where", "options"), rows)
        out_sections("Verifiers", [Section("Kinds", [table]), Section("Next", [Code(next_)])])
    else:
        rows = [
            (Mono(option["name"]), "required" if option["required"] else json.dumps(option["default"]), option["what"])
            for option in _options(kinds[kind])
        ]
        about: list[Any] = [Paragraph(part) for part in _doc(kinds[kind])]
        options = Section("Options", [Table(("option", "default", "what it does"), rows)])
        out_sections(f"Verifier {kind}", [Section("What it does", about), *([options] if rows else [])])


def _doc(made: type[Kind]) -> list[str]:
    """The paragraphs of what a kind says of itself."""
    return (inspect.getdoc(made) or "").replace("``", "").split("\n\n")


def _what(made: type[Kind]) -> str:
    return " ".join(_doc(made)[0].split())


def _options(made: type[Kind]) -> list[dict[str, Any]]:
    return [
        {
            "name": field.alias or name,
            "required": field.is_required(),
            "default": None if field.is_required() else field.get_default(call_default_factory=True),
            "what": field.description or "",
        }
        for name, field in made.model_fields.items()
    ]


@app.command("audit")
def audit_verifier(
    tasks: TasksArgument,
    verifier: VerifierOption = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Tasks to try it on, spread evenly.")] = 50,
    floor: Annotated[
        float, typer.Option("--floor", min=0, max=1, help="The highest mean score of worthless completions.")
    ] = 0.1,
    as_json: JsonOption = False,
) -> None:
    """Try to fool a verifier before a model does. Exit code 1 where that works.

    Right answers have to score 1; nothing, junk, the prompt itself and a list of all answers have to stay at the floor.
    The same checks again, in the reverse order and from several threads, have to give the same verdicts.

    [bold]Examples[/bold]

      windlass verifiers audit tasks.jsonl
      windlass verifiers audit tasks.jsonl --verifier '{"kind": "numeric", "relative": 0.01}' --json
    """
    read = read_tasks(tasks)
    with Progress("auditing") as progress, for_task(_spec(verifier), read) as chosen:
        report = audit(read, chosen, floor=floor, most=most, on_check=progress)
    if as_json:
        json_out(report.to_dict())
    else:
        out(report.words())
    if not report.ok:
        raise typer.Exit(1)


@app.command("try")
def try_verifier(
    tasks: TasksArgument,
    task: Annotated[str, typer.Argument(metavar="ID", help="The task's id.")],
    completion: Annotated[str, typer.Argument(metavar="COMPLETION", help="What a model might say; '-' reads stdin.")],
    verifier: VerifierOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a verifier says of one completion.

    [bold]Examples[/bold]

      windlass verifiers try tasks.jsonl sum-7 "12 + 30 = 42"
      windlass verifiers try tasks.jsonl sum-7 - < completion.txt
    """
    read = {one.id: one for one in read_tasks(tasks)}
    known("task", task, read, f"windlass tasks check {tasks}")
    with for_task(_spec(verifier)) as chosen:
        verdict = chosen.verify(sys.stdin.read() if completion == "-" else completion, read[task])
    if as_json:
        json_out({"task": task, "score": verdict.score, "reason": verdict.reason})
    else:
        out("no score" if verdict.score is None else f"{verdict.score:g}")
        say(verdict.reason)


def _spec(given: str | None) -> dict[str, Any] | None:
    """The verifier for tasks without one. Functions of modules in the working directory are found from here on."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    if given is None:
        return None
    return json_object("--verifier", given, VERIFIER_EXAMPLE)
