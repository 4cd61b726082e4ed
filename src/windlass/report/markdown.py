"""Blocks as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from windlass.report.blocks import Block, Bullets, Code, Drawing, Mono, Paragraph, RunId, Section, Table
from windlass.runs import text

#: from ``studies/<name>/`` to the run folders
RUNS_FROM_STUDY = "../../runs/"


def render(title: str, sections: Sequence[Section], runs_path: str = RUNS_FROM_STUDY) -> str:
    """The whole document; ``runs_path`` leads from the file to the run folders."""
    parts = [f"# {text.escape(title)}"]
    for section in sections:
        parts += [f"## {section.title}", *(_block(block, runs_path) for block in section.blocks)]
    return text.document(*parts)


def _block(block: Block, runs_path: str) -> str:
    match block:
        case Paragraph(words):
            return text.escape(words)
        case Bullets(items):
            return "\n".join(f"- {text.escape(item)}" for item in items)
        case Table():
            cells = [[_cell(cell, runs_path) for cell in row] for row in block.rows]
            return text.table([text.escape(name) for name in block.header], cells, block.right)
        case Code():
            return text.fence(block.text, block.language)
        case Drawing():
            sketch = text.fence(block.sketch) if block.sketch else ""
            return "\n\n".join(part for part in (text.escape(block.caption), sketch) if part)


def _cell(cell: str, runs_path: str) -> str:
    if isinstance(cell, RunId):
        return f"[{text.code(cell)}]({runs_path}{quote(cell)}/REPORT.md)"
    return text.code(cell) if isinstance(cell, Mono) else text.escape(cell)
