"""A report's blocks on a terminal; into a pipe or a file they go as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from functools import cache

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from windlass.cli.show import stdout
from windlass.report.blocks import Block, Bullets, Code, Drawing, Mono, Paragraph, RunId, Section, Table
from windlass.report.markdown import render

WIDTH = 100  #: columns, at most
_GAP = 2  #: between two columns of a table


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
            for part in _parts(block, console.width - 2):
                console.print(Padding(part, (0, 0, 0, 2), expand=False))


def _parts(block: Block, width: int) -> Iterator[RenderableType]:
    match block:
        case Paragraph(words):
            yield Text(words)
        case Bullets(items):
            for item in items:
                grid = RichTable.grid(padding=(0, 1))
                grid.add_row("•", Text(item))
                yield grid
        case Table() if len(block.header) > 2 and not _fits(block, width):
            for row in block.rows:
                yield from _card(block, row)
        case Table():
            yield _table(block, width)
        case Drawing():
            yield Text("\n".join(part for part in (block.caption, block.sketch) if part))


def _table(table: Table, width: int) -> RichTable:
    shown = RichTable(box=None, pad_edge=False, show_header=any(table.header), header_style="dim", padding=(0, 2, 0, 0))
    widths = _widths(table, width) if len(table.header) > 2 else [None] * len(table.header)
    for i, (name, wide) in enumerate(zip(table.header, widths, strict=True)):
        shown.add_column(Text(name), justify="right" if i in table.right else "left", overflow="fold", width=wide)
    for row in table.rows:
        shown.add_row(*(Text(cell, style="cyan" if isinstance(cell, (Mono, RunId)) else "") for cell in row))
    return shown


def _widths(table: Table, width: int) -> list[int | None]:
    """Of the columns: narrowed where that makes the fewest lines; words are never broken."""
    columns = [_column(table, i) for i in range(len(table.header))]
    widths = [max(1, *map(len, cells)) for cells in columns]
    least = [max(1, _longest_word(cells)) for cells in columns]

    @cache
    def lines(i: int, wide: int) -> int:
        return sum(len(textwrap.wrap(cell, wide)) for cell in columns[i])

    while sum(widths) > width - _GAP * len(widths) and widths != least:
        narrower = [i for i, wide in enumerate(widths) if wide > least[i]]
        cheapest = min(narrower, key=lambda i: (lines(i, widths[i] - 1) - lines(i, widths[i]), -widths[i]))
        widths[cheapest] -= 1
    return list(widths)


def _fits(table: Table, width: int) -> bool:
    """Whether no word has to be broken."""
    return sum(_GAP + _longest_word(_column(table, i)) for i in range(len(table.header))) <= width


def _column(table: Table, i: int) -> list[str]:
    return [table.header[i], *(row[i] for row in table.rows)]


def _longest_word(cells: Sequence[str]) -> int:
    return max((len(word) for cell in cells for word in cell.split()), default=0)


def _card(table: Table, row: Sequence[str]) -> Iterator[RenderableType]:
    """A row of a table that is too wide for the terminal: its first cell, and the others by name."""
    yield Text(row[0], style="bold")
    rest = (f"{name} {cell}".strip() for name, cell in zip(table.header[1:], row[1:], strict=True) if cell)
    yield Padding(Text(", ".join(rest)), (0, 0, 0, 2), expand=False)
