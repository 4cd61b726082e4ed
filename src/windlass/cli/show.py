"""How the command line speaks: results on stdout, talk on stderr."""

from __future__ import annotations

import json
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from windlass.records.run import Status

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)

STATUS_STYLE = {
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.CANCELLED: "yellow",
    Status.STOPPED: "magenta",
    Status.RUNNING: "cyan",
    Status.QUEUED: "dim",
    Status.PENDING: "dim",
}


def out(text: Any, *, markup: bool = False) -> None:
    """A result, to stdout."""
    stdout.print(text, markup=markup)


def out_table(table: Table) -> None:
    """A table to stdout, never cut: on a narrow terminal its lines wrap."""
    Console(width=10_000, highlight=False, soft_wrap=True).print(table)


def out_markdown(text: str) -> None:
    """Rendered on a terminal; as it is into a pipe or a file."""
    if stdout.is_terminal:
        from rich.markdown import Markdown

        stdout.print(Markdown(text))
    else:
        print(text, end="")


def say(text: str, *, markup: bool = False) -> None:
    """Talk, to stderr."""
    stderr.print(text, markup=markup)


def json_out(data: Any) -> None:
    print(json.dumps(data, ensure_ascii=False, indent=1, default=str))


class Progress:
    """A progress bar on stderr for a count that is known; called with (done, total)."""

    def __init__(self, title: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = RichProgress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)
        self._task = self._bar.add_task(title, total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)
