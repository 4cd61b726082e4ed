"""A report as blocks: its content is made once, ``markdown`` and ``page`` write the same blocks their own way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class Mono(str):
    """A cell set as code: names, values, commands."""


class RunId(str):
    """A cell that leads to a run's report."""


Cells = tuple[str, ...]  #: one row of a table


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]  #: plain text, Mono or RunId cells
    right: Sequence[int] = ()  #: columns aligned to the right
    folded: str = ""  #: a page shows this title and the table on demand


@dataclass(frozen=True, slots=True)
class Code:
    text: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure with what it says in words; Markdown has the words and the ``sketch`` alone."""

    caption: str
    draw: Callable[[], Figure]
    sketch: str = ""  #: the figure as text
    brush: bool = False  #: parallel coordinates: a selection on the axes picks runs
    small: bool = False  #: two beside each other


Block = Paragraph | Bullets | Table | Code | Drawing


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    blocks: Sequence[Block]
