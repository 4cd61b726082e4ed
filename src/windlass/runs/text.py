"""How values are written for people: numbers, durations, sizes, times, and the pieces of Markdown.

Everything a user can choose (names, values, notes) goes through :func:`escape`, :func:`code` or :func:`fence`, so that
no text of theirs becomes markup.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def number(value: float | None) -> str:
    """Six significant digits; ``–`` for None."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    return f"{value:.6g}"


def signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.6g}"


def percent(share: float | None) -> str:
    """``0.0213`` -> ``+2.13 %``."""
    if share is None:
        return "–"
    return f"{100 * share:+.3g} %" if abs(share) < 10 else f"{100 * share:+.0f} %"


def show(value: Any) -> str:
    """A config value as a person would write it."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return number(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(show(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {show(item)}" for key, item in value.items()) + "}"
    return str(value)


def duration(seconds: float | None) -> str:
    """``0.8 s``, ``42 s``, ``3 min 07 s``, ``2 h 05 min``, ``3 d 04 h``."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def size(count: float) -> str:
    """Bytes: ``512 B``, ``3.4 KiB``, ``1.2 GiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def when(seconds: float | None) -> str:
    """Seconds since the epoch -> ``2026-11-20 20:44:49 UTC``."""
    return "–" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def one_line(text: str, limit: int = 200) -> str:
    """White space collapsed, cut to ``limit`` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def escape(text: str) -> str:
    """Text that stays text in Markdown, on one line; also no HTML and no link survives."""
    flat = re.sub(r"([\\`*\[\]])", r"\\\1", " ".join(text.split()))
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(text: str) -> str:
    """Inline code, whatever backticks are in it."""
    flat = " ".join(text.split())
    fence_ = "`" * (_longest_run(flat) + 1)
    pad = " " if not flat or flat[0] == "`" or flat[-1] == "`" else ""
    return f"{fence_}{pad}{flat}{pad}{fence_}"


def fence(text: str, language: str = "") -> str:
    """A fenced block, whatever backticks are in it."""
    marks = "`" * max(3, _longest_run(text) + 1)
    return f"{marks}{language}\n{text.rstrip()}\n{marks}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A Markdown table of cells that are Markdown already; the columns in ``right`` are aligned to the right."""
    lines = [header, ["---:" if i in right else "---" for i in range(len(header))], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def document(*parts: str) -> str:
    """Parts that are not empty, a blank line between two, one newline at the end."""
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"
