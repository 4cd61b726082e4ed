"""What a campaign stood on: the optimised portfolio and its constraints, the opened holdout, the data."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from windlass.report.alpha_campaign import CampaignReport, Row, read_daily, real
from windlass.report.alpha_returns import paths
from windlass.report.alpha_words import (
    NONE,
    Column,
    basis_points,
    counted,
    four,
    grade_words,
    in_bp,
    part,
    table,
    two,
)
from windlass.report.blocks import Block, Bullets, Mono, Paragraph, RunId, Table

LISTED = 12  #: jumps and pieces of advice that are listed
BINDING = re.compile(r"(?P<name>.+?) (?P<price>\d[\d.]*(e[+-]?\d+)?)( \(.*\))?")
EXPOSURES = ("dollar", "sector", "beta")
#: of the manifest's counts, in its order: what each one is
COUNTS: Mapping[str, str] = {
    "ohlc_violations": "rows whose open or close lies outside of high and low",
    "null_cells": "missing cells in existing rows",
    "non_positive": "prices of 0 or less, volumes below 0",
    "duplicates": "identical rows",
    "unsorted": "rows out of order",
    "jumps": "closes that moved by more than 40 % in a day",
    "zero_volume": "rows without volume",
    "holes": "missing days inside a name's life",
    "ends_early": "names that end before the panel does",
}
HOLDOUT: tuple[Column, ...] = (
    ("gross Sharpe", "gross_ir", two),
    ("net Sharpe", "net_ir", two),
    ("HAC t", "holdout_t", two),
    ("IC", "ic", four),
    ("rank IC", "rank_ic", four),
    ("turnover a day, one-way", "turnover_1way", part),
    ("break-even, bp", "breakeven_cost_bps", in_bp),
)


def holdout(report: CampaignReport) -> Iterator[Block]:
    """Of a run that opened it; nothing otherwise."""
    rows = report.holdout
    if not rows:
        return
    opened = int((report.gate.get("holdout") or {}).get("opened") or 1)
    times = "the first time" if opened == 1 else f"opening number {opened}"
    yield Paragraph(
        "Nothing was fitted again: expression, sign and portfolio are those of the development days. On this data "
        f"this was {times}."
    )
    if report.campaign is not None:
        yield Table(("", ""), [("campaign", RunId(report.campaign.run_id))])
    yield table(rows, HOLDOUT)
    judged = {one.alpha_id: one for one in report.verdicts}
    before = {row.get("alpha_id", ""): row for row in report.campaign.trials} if report.campaign else {}
    cells = []
    for row in rows:
        name = row.get("alpha_id", "")
        then, now = report.directed(before.get(name, {})), judged.get(name)
        cells.append(
            (
                Mono(name),
                f"{two(real(then, 'gross_ir'))} -> {two(real(row, 'gross_ir'))}",
                f"{two(real(then, 'net_ir'))} -> {two(real(row, 'net_ir'))}",
                f"{four(real(then, 'rank_ic'))} -> {four(real(row, 'rank_ic'))}",
                grade_words(now.grade) if now else NONE,
            )
        )
    if before:
        yield Paragraph("Development, then holdout:")
        yield Table(("alpha", "gross Sharpe", "net Sharpe", "rank IC", "verdict"), cells, (1, 2, 3))
    yield from paths(
        report.holdout_daily,
        "Holdout days, compounded: net as lines, gross dotted; below, how far net lies under its peak so far.",
    )


def optimizer(report: CampaignReport) -> Iterator[Block]:
    rows = report.table("optimizer.csv")
    if not rows:
        return
    statuses = Counter(row.get("status", "") or "unknown" for row in rows)
    told = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    yield Paragraph(
        f"{counted(len(rows), 'rebalance')} of the constrained portfolio: {told}. It follows factors that were"
        " chosen on these very days, so its curve is what was wanted of it, and no evidence."
    )
    yield from _binding(rows)
    widest = {name: np.nanmax(np.abs([real(row, name) for row in rows])) for name in EXPOSURES if rows[0].get(name)}
    if widest:
        told = ", ".join(f"{name} {value:.1e}" for name, value in widest.items())
        yield Paragraph(f"Largest exposures after a trade, as shares of the capital: {told}.")
    yield from _advice(rows)
    if (daily := read_daily("optimised", report.artifacts / "optimizer_daily.csv")) is not None:
        yield from paths([daily], "The optimised portfolio, compounded: net as a line, gross dotted.")


def _binding(rows: Sequence[Row]) -> Iterator[Block]:
    bound: dict[str, list[float]] = {}
    for row in rows:
        for name, price in prices(row).items():
            bound.setdefault(name, []).append(price)
    if not bound:
        return
    ranked = sorted(bound.items(), key=lambda one: (-len(one[1]), -float(np.mean(one[1])), one[0]))
    cells = [
        (name, str(len(found)), part(len(found) / len(rows)), basis_points(float(np.mean(found))))
        for name, found in ranked
    ]
    yield Table(("binding constraint", "rebalances", "share", "mean shadow price, bp"), cells, (1, 2, 3))
    yield Paragraph("Shadow price: what the return until the next rebalance would gain for a unit of a looser limit.")


def prices(row: Row) -> dict[str, float]:
    """The shadow price of each constraint that bound a rebalance: ``turnover 0.0011; box 0.0004 (2 names: A, B)``."""
    found = (BINDING.fullmatch(piece.strip()) for piece in row.get("binding", "").split(";"))
    return {one["name"]: float(one["price"]) for one in found if one}


def _advice(rows: Sequence[Row]) -> Iterator[Block]:
    given: dict[str, list[str]] = {}
    for row in rows:
        if advice := row.get("advice"):
            given.setdefault(advice, []).append(row.get("date") or f"row {row.get('row', '?')}")
    if not given:
        return
    stuck = sum(row.get("status") == "infeasible" for row in rows)
    kept = f" At {counted(stuck, 'rebalance')} no portfolio met every constraint: the weights stayed as they were."
    yield Paragraph(f"Feasibility advice, by the first day it was given.{kept if stuck else ''}")
    yield Bullets([f"{days[0]}{_more(days)}: {advice}" for advice, days in list(given.items())[:LISTED]])
    if len(given) > LISTED:
        yield Paragraph(f"{len(given) - LISTED} more in optimizer.csv.")


def _more(days: Sequence[str]) -> str:
    return f" and {counted(len(days) - 1, 'later rebalance')}" if len(days) > 1 else ""


def data(report: CampaignReport) -> Iterator[Block]:
    manifest = report.manifest
    if not manifest:
        return
    if manifest.get("survivorship") == "likely":
        yield Paragraph(
            "WARNING: survivorship is likely. Names that were removed are missing, so every return here looks better "
            "than it could have been had."
        )
    yield Table(("", ""), list(_vintage(manifest)))
    found = [(name, count, words) for name, words in COUNTS.items() if (count := _total(manifest.get(name)))]
    if found:
        yield Table(
            ("guard", "hits", "what it counts"), [(Mono(name), f"{n:,}", words) for name, n, words in found], (1,)
        )
    else:
        yield Paragraph("No guard was hit: no violation, gap, duplicate or jump.")
    if notes := [str(note) for note in manifest.get("notes") or ()]:
        yield Bullets(notes)
    jumps = [jump for jump in manifest.get("largest_jumps") or () if isinstance(jump, Mapping)]
    if jumps:
        largest = sorted(jumps, key=lambda jump: -abs(real(jump, "move")))[:LISTED]
        cells = [(str(j.get("date", "")), Mono(str(j.get("name", ""))), part(real(j, "move"))) for j in largest]
        yield Table(("day", "name", "move"), cells, (2,), folded=f"The {len(cells)} largest jumps")


def _vintage(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    days, names, rows = (int(manifest.get(name) or 0) for name in ("days", "names", "rows"))
    yield "days", f"{days:,}, {manifest.get('first', NONE)} to {manifest.get('last', NONE)}"
    yield "names", f"{names:,}; {rows:,} rows"
    member = manifest.get("membership")
    if isinstance(member, Mapping):
        snapshots = int(member.get("snapshots") or 0)
        source = f"{counted(snapshots, 'dated snapshot')}" if snapshots else "none given: every name with a price"
        mean = real(member, "mean_a_day")
        yield "members", source + (f"; {mean:.0f} a day on average" if math.isfinite(mean) else "")
    if fields := manifest.get("fields"):
        yield "columns", ", ".join(map(str, fields))
    if groups := manifest.get("groups"):
        yield "groups", ", ".join(f"{name} ({len(sizes)})" for name, sizes in groups.items())
    known = real(manifest, "borrow_known")
    yield "borrow rates", f"known for {part(known)} of days" if math.isfinite(known) else "assumed: the panel has none"
    for file in manifest.get("files") or ():
        if isinstance(file, Mapping):
            yield str(file.get("role", "file")), f"{file.get('name', '')}, SHA-256 {str(file.get('sha256', ''))[:12]}"
    if not manifest.get("files"):
        yield "source", "synthetic: made by the generator"
    yield "digest", Mono(str(manifest.get("digest", ""))[:16])


def _total(count: Any) -> int:
    if isinstance(count, Mapping):
        return sum(_total(one) for one in count.values())
    return int(count) if isinstance(count, (int, float)) and math.isfinite(count) else 0
