"""``report.html``: one file that opens offline, with plotly inside.

Under a content security policy that names the hashes of the two scripts: nothing else runs, nothing is loaded, whatever
a run's name, parameters or messages contain.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import groupby
from typing import Any
from urllib.parse import quote

from windlass.records.run import Status
from windlass.report.blocks import Block, Bullets, Code, Drawing, Mono, Paragraph, RunId, Section, Table
from windlass.report.canvas import COLOURS, require_plotly
from windlass.report.figures import State
from windlass.report.markdown import RUNS_FROM_STUDY
from windlass.report.story import budget_words, counts_words, story, verdict_words
from windlass.report.study import StudyReport
from windlass.runs.text import number, percent

STATUS_COLOURS = {
    Status.COMPLETED: COLOURS[State.COMPLETED],
    Status.FAILED: COLOURS[State.FAILED],
    Status.CANCELLED: COLOURS[State.CANCELLED],
    Status.STOPPED: COLOURS[State.STOPPED],
}


@dataclass(frozen=True, slots=True)
class Card:
    """A figure of the headline, in the page's head."""

    title: str
    value: str
    note: str
    shares: Sequence[tuple[float, str]] = ()  #: a bar under the value: parts of 1 with their colours


def study_page(report: StudyReport) -> str:
    """Raises MissingExtra where plotly is not installed."""
    return page(report.study.name, "Study report", verdict_words(report), _study_cards(report), story(report))


def page(
    title: str,
    kicker: str,
    verdict: str,
    cards: Sequence[Card],
    sections: Sequence[Section],
    runs_path: str = RUNS_FROM_STUDY,
) -> str:
    """A whole page: ``kicker`` says what it is of, ``runs_path`` leads from the file to the run folders.

    Raises MissingExtra where plotly is not installed.
    """
    require_plotly()
    from plotly.offline import get_plotlyjs

    writer = _Writer(runs_path)
    body = "\n".join(writer.section(section) for section in sections)
    plotly, boot = get_plotlyjs(), _asset("page.js")
    links = "".join(f'<a href="#{_anchor(section.title)}">{escape(section.title)}</a>' for section in sections)
    policy = (
        "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        f"script-src {_hash(plotly)} {_hash(boot)}"
    )
    name = escape(title)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name} · {escape(kicker.lower())}</title>
<style>{_asset("page.css")}</style>
</head>
<body>
<header><div class="wide"><p class="kicker">{escape(kicker)}</p><h1>{name}</h1>
<p class="verdict">{escape(verdict)}</p>
<div class="cards">{"".join(_card(card) for card in cards)}</div></div></header>
<nav><div class="wide">{links}</div></nav>
<main class="wide">
{body}
</main>
<script type="application/json" id="figures">{writer.figures_json()}</script>
<script>{plotly}</script>
<script>{boot}</script>
</body>
</html>
"""


class _Writer:
    """Writes blocks and collects their figures; texts that repeat in figures are kept once."""

    def __init__(self, runs_path: str) -> None:
        self._runs_path = runs_path
        self._figures: list[dict[str, Any]] = []
        self._texts: dict[str, int] = {}

    def section(self, section: Section) -> str:
        parts = []
        for small, blocks in groupby(section.blocks, key=lambda b: isinstance(b, Drawing) and b.small):
            html = "\n".join(self._block(block) for block in blocks)
            parts.append(f'<div class="pair">{html}</div>' if small else html)
        content = "\n".join(parts)
        return f'<section id="{_anchor(section.title)}"><h2>{escape(section.title)}</h2>\n{content}\n</section>'

    def figures_json(self) -> str:
        """JSON that cannot end its script element."""
        data = json.dumps({"texts": list(self._texts), "figures": self._figures}, separators=(",", ":"))
        return data.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

    def _block(self, block: Block) -> str:
        match block:
            case Paragraph(text):
                return f"<p>{escape(text)}</p>"
            case Bullets(items):
                return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"
            case Code():
                return f"<pre><code>{escape(block.text.rstrip())}</code></pre>"
            case Table():
                return self._table(block)
            case Drawing():
                return self._drawing(block)

    def _drawing(self, drawing: Drawing) -> str:
        data = json.loads(drawing.draw().to_json())
        for trace in data["data"]:
            if isinstance(trace.get("text"), list):
                trace["text"] = [self._texts.setdefault(text, len(self._texts)) for text in trace["text"]]
        data["brush"] = drawing.brush
        self._figures.append(data)
        caption = f"<figcaption>{escape(drawing.caption)}</figcaption>" if drawing.caption else ""
        height = data["layout"]["height"]
        return f'<figure>{caption}<div class="plot" style="height:{height}px"></div></figure>'

    def _table(self, table: Table) -> str:
        def cells(row: Sequence[str], tag: str) -> str:
            side = [' class="right"' if i in table.right else "" for i in range(len(row))]
            return "".join(f"<{tag}{side[i]}>{self._cell(cell)}</{tag}>" for i, cell in enumerate(row))

        head = f"<thead><tr>{cells(table.header, 'th')}</tr></thead>" if any(table.header) else ""
        body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in table.rows)
        html = f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'
        return f"<details><summary>{escape(table.folded)}</summary>{html}</details>" if table.folded else html

    def _cell(self, cell: str) -> str:
        if isinstance(cell, RunId):
            return f'<a class="run" href="{self._runs_path}{quote(cell, safe="")}/REPORT.md">{escape(cell)}</a>'
        return f"<code>{escape(cell)}</code>" if isinstance(cell, Mono) else escape(cell)


def _study_cards(report: StudyReport) -> list[Card]:
    cards = []
    values = report.champion.values if report.champion else {}
    gains = {delta.metric: delta for delta in report.gains}
    for objective in report.study.objectives[:3]:
        note: str = objective.direction
        if (delta := gains.get(objective.metric)) is not None and report.reference is not None:
            sign = f" ({percent(delta.relative)})" if delta.relative else ""
            note = f"{objective.direction} · {report.reference[0]} {number(delta.a)}{sign}"
        whose = "best" if len(report.study.objectives) == 1 else "champion's"
        cards.append(Card(f"{whose} {objective.metric}", number(values.get(objective.metric)), note))
    total = len(report.runs)
    shares = [
        (count / total, STATUS_COLOURS.get(status, COLOURS[State.ACTIVE])) for status, count in report.counts.items()
    ]
    cards.append(Card("runs", str(total), counts_words(report), shares))
    cards.append(Card("status", str(report.record.status), report.record.stopped_because or budget_words(report)))
    return cards


def _card(card: Card) -> str:
    lines = (f'<p class="{name}">{escape(text)}</p>' for name, text in (("title", card.title), ("value", card.value)))
    parts = "".join(f'<i style="width:{100 * share:.2f}%;background:{colour}"></i>' for share, colour in card.shares)
    bar = f'<div class="bar">{parts}</div>' if parts else ""
    return f'<div class="card">{"".join(lines)}{bar}<p class="note">{escape(card.note)}</p></div>'


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _asset(name: str) -> str:
    return (files("windlass.report") / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
