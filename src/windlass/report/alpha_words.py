"""How the numbers of alpha research are written: Sharpe ratios and t with two decimals, p with three, returns in basis
points of the capital.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from windlass.report.alpha_campaign import Row, real
from windlass.report.blocks import Mono, Table
from windlass.runs.text import show

NONE = "–"
Column = tuple[str, str, Callable[[float], str]]  #: heading, column of the file, how it is written

GRADES: Mapping[str, str] = {
    "none": "not promoted",
    "provisional": "provisional",
    "B": "promoted, grade B",
    "A": "promoted, grade A",
}


def two(value: float) -> str:
    """Sharpe ratios, t statistics."""
    return f"{value:.2f}" if math.isfinite(value) else NONE


def three(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else NONE


def four(value: float) -> str:
    """Information coefficients."""
    return f"{value:.4f}" if math.isfinite(value) else NONE


def probability(value: float) -> str:
    if not math.isfinite(value):
        return NONE
    return "< 0.001" if value < 0.0005 else f"{value:.3f}"


def basis_points(share: float) -> str:
    """A share of the capital: ``0.0012`` -> ``12.0``."""
    return f"{1e4 * share:.1f}" if math.isfinite(share) else NONE


def in_bp(value: float) -> str:
    """What is in basis points already."""
    return f"{value:.1f}" if math.isfinite(value) else NONE


def part(share: float) -> str:
    """``0.125`` -> ``12.5 %``."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else NONE


def days(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else NONE


def whole(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else NONE


def money(value: float) -> str:
    """``12500000`` -> ``12.5 M``, in the panel's currency."""
    if not math.isfinite(value):
        return NONE
    for unit, letter in ((1e9, " bn"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.0f}"


def plain(value: Any) -> str:
    """A value of a JSON file, whatever it is."""
    if isinstance(value, float):
        return f"{value:.3f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.3g}"
    return NONE if value is None else show(value)


def grade_words(grade: str) -> str:
    return GRADES.get(grade, grade)


def counted(count: int, one: str, many: str = "") -> str:
    """``1 trial``, ``2,000 trials``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def table(
    rows: Sequence[Row], columns: Sequence[Column], *, first: str = "alpha", named: str = "alpha_id", folded: str = ""
) -> Table:
    """A row a row, headed by its name; columns without a single number are left out."""
    kept = [column for column in columns if any(math.isfinite(real(row, column[1])) for row in rows)]
    cells = [(Mono(row.get(named, "")), *(write(real(row, name)) for _, name, write in kept)) for row in rows]
    return Table((first, *(head for head, _, _ in kept)), cells, range(1, len(kept) + 1), folded)
