"""A report's blocks on a terminal; into a pipe or a file they go as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from windlass.cli.show import stdout
from windlass.report.blocks import Block, Bullets, Code, Drawing, Mono, Paragraph, RunId, Section, Table
from windlass.report.markdown import render

WIDTH = 100  #: columns, at most


def out_sections(title: str, sections: Sequence[Section]) -> None:
    """To stdout."""
    if not stdout.is_terminal:
        print(render(title, sections), end="")
        return
    console = Console(width=min(stdout.width, WIDTH), highlight=False)
    console.print(Text(title, style="bold"))
    for section in sections:
        console.print()
        console.print(Text(section.title, style="bold cyan"))
        for block in section.blocks:
            if isinstance(block, Code):  # a command is never broken
                console.print(Text(textwrap.indent(block.text.rstrip(), "  "), style="green"), soft_wrap=True)
                continue
            for part in _parts(block):
                console.print(Padding(part, (0, 0, 0, 2), expand=False))


def _parts(block: Block) -> Iterator[RenderableType]:
    match block:
        case Paragraph(words):
            yield Text(words)
        case Bullets(items):
            for item in items:
                grid = RichTable.grid(padding=(0, 1))
                grid.add_row("•", Text(item))
                yield grid
        case Table():
            yield _table(block)
        case Drawing():
            yield Text("\n".join(part for part in (block.caption, block.sketch) if part))


def _table(table: Table) -> RichTable:
    shown = RichTable(box=None, pad_edge=False, show_header=any(table.header), header_style="dim", padding=(0, 2, 0, 0))
    for i, name in enumerate(table.header):
        narrow = all(len(row[i]) <= 24 or isinstance(row[i], RunId) for row in table.rows)
        shown.add_column(Text(name), justify="right" if i in table.right else "left", no_wrap=narrow, overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell, style="cyan" if isinstance(cell, (Mono, RunId)) else "") for cell in row))
    return shown
