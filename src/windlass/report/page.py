"""report.html: one file with its figures and plotly inside; nothing is loaded from anywhere."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from windlass.report.plots import SMALL, require_plotly

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from windlass.report.study import StudyReport

#: nothing may be fetched; scripts and styles are the file's own
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"

STYLE = """
:root { --ink: #1f2933; --soft: #52606d; --line: #e1e6ec; --accent: #0f766e; --pale: #f6f8fa; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: white;
  font: 15px/1.55 Inter, system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 28px 80px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 19px; margin: 44px 0 10px; padding-top: 14px; border-top: 1px solid var(--line); }
p.about { color: var(--soft); margin: 0 0 22px; }
ul.headline { list-style: none; margin: 0; padding: 16px 20px; background: var(--pale); border-radius: 8px;
  border-left: 4px solid var(--accent); }
ul.headline li { margin: 3px 0; overflow-wrap: anywhere; }
ul.headline li:first-child { font-weight: 600; font-size: 16px; }
nav { margin: 18px 0 0; font-size: 13px; }
nav a { color: var(--accent); text-decoration: none; margin-right: 16px; white-space: nowrap; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; margin: 8px 0 14px; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--line); }
th, td { padding: 5px 14px 5px 0; vertical-align: top; }
td { border-bottom: 1px solid #f0f3f6; }
tr:hover td { background: #fafbfc; }
code { font: 12.5px/1.45 ui-monospace, "SF Mono", "DejaVu Sans Mono", monospace; background: var(--pale);
  padding: 1px 4px; border-radius: 4px; overflow-wrap: anywhere; }
pre { background: var(--pale); padding: 12px 16px; border-radius: 8px; overflow-x: auto; }
pre code { background: none; padding: 0; }
.figures { display: grid; grid-template-columns: 1fr 1fr; gap: 10px 24px; }
.figure { min-width: 0; grid-column: 1 / -1; }
.figure.half { grid-column: auto; }
@media (max-width: 800px) { .figure.half { grid-column: 1 / -1; } }
footer { margin-top: 50px; color: var(--soft); font-size: 12px; }
"""


def page(report: StudyReport) -> str:
    """Raises MissingExtra where plotly is not installed."""
    require_plotly()
    from plotly.offline import get_plotlyjs

    parts, links = [], []
    for i, section in enumerate(report.sections):
        drawn = section.draw() if section.draw is not None else []
        if not (section.text or drawn):
            continue
        links.append(f'<a href="#s{i}">{html.escape(section.title)}</a>')
        shown = "".join(_figure(figure, f"f{i}-{j}", half=_is_small(figure)) for j, figure in enumerate(drawn))
        parts.append(f'<section id="s{i}"><h2>{html.escape(section.title)}</h2>{_render(section.text)}')
        parts.append(f'<div class="figures">{shown}</div></section>' if shown else "</section>")
    name = html.escape(report.study.name)
    headline = "".join(f"<li>{html.escape(line)}</li>" for line in report.headline)
    commands = html.escape("\n".join(report.next_steps))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{name} · Windlass</title><style>{STYLE}</style><script>{get_plotlyjs()}</script></head>
<body><main>
<h1>{name}</h1><p class="about">{html.escape(report.study.description)}</p>
<ul class="headline">{headline}</ul><nav>{"".join(links)}</nav>
{"".join(parts)}
<section><h2>Next</h2><pre><code>{commands}</code></pre></section>
<footer>Made by Windlass from run folders; every number can be traced to one.</footer>
</main></body></html>
"""


def _render(text: str) -> str:
    """Markdown to HTML; markup in the text is shown as text."""
    from markdown_it import MarkdownIt

    rendered: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    return rendered.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")


def _figure(figure: Figure, name: str, *, half: bool) -> str:
    drawn: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        default_width="100%",
        config={"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["select2d", "lasso2d"]},
    )
    return f'<div class="figure{" half" if half else ""}">{drawn}</div>'


def _is_small(figure: Figure) -> bool:
    return bool(figure.layout.height == SMALL)
