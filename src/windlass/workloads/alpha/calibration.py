"""The job behind ``windlass alpha selftest``: the gate's error rates on one panel, campaign by campaign.

Each campaign that ended is in ``state/``: a run that is killed goes on with the next one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.errors import DataError
from windlass.records.options import read
from windlass.workloads.alpha.artifacts import csv_file, json_file
from windlass.workloads.alpha.run import load_panel, refuse_changed_data
from windlass.workloads.alpha.selftest import Outcome, Rate, Row, measure
from windlass.workloads.alpha.spec import Selftest

if TYPE_CHECKING:
    from windlass.runs.sdk import Run

OUTCOMES_FILE = "campaigns.jsonl"  #: in ``state/``; as an artifact ``campaigns.json``


def measure_gate(config: Mapping[str, Any], run: Run) -> dict[str, float]:
    """Null and planted campaigns; ``selftest.json`` and ``selftest.csv`` have a row a kind of panel.

    Raises StudyError for a wrong config, DataError for a panel that cannot be used.
    """
    asked = read(Selftest, config, "config")
    refuse_changed_data(config["workload"], run)
    panel, _ = load_panel(asked.workload)
    run.folder.state.mkdir(exist_ok=True)
    file = run.folder.state / OUTCOMES_FILE
    finished = _finished(file)
    with file.open("a", encoding="utf-8") as kept:

        def note(outcome: Outcome) -> None:
            finished.append(outcome)
            kept.write(json.dumps(outcome.to_dict()) + "\n")
            kept.flush()
            run.log({"campaigns": len(finished), "promoted": outcome.promoted}, step=len(finished))

        rows = measure(
            panel,
            asked.settings,
            nulls=asked.nulls,
            planted={level: asked.planted for level in asked.levels if asked.planted},
            seed=run.seed,
            processes=asked.processes,
            finished=tuple(finished),
            on_campaign=note,
        )
    told = [_told(row) for row in rows]
    json_file(run, "selftest.json", {"data": panel.digest, "candidates": asked.workload.candidates, "rows": told})
    csv_file(run, "selftest.csv", [{key: value for key, value in row.items() if key != "clauses"} for row in told])
    json_file(run, "campaigns.json", [one.to_dict() for one in sorted(finished, key=lambda one: one.case)])
    return {f"promoted/{row['panels']}": row["share"] for row in told}


def _finished(file: Path) -> list[Outcome]:
    """What is on record, without a line that a kill cut short; the file is cut there, too."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return []
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        file.write_bytes(whole)
    try:
        return [Outcome.from_dict(json.loads(line)) for line in whole.splitlines()]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged: {error}", "Start the selftest anew.") from None


def _told(row: Row) -> dict[str, Any]:
    panels = f"planted, IC {row.level:.3f}" if row.kind == "planted" else row.kind
    return {
        "panels": panels,
        "campaigns": row.campaigns,
        "promoted": row.promoted.count,
        "share": row.promoted.value,
        "interval": list(row.promoted.interval),
        "provisional": row.provisional.count,
        "grade_a": row.grade_a.count,
        "found": row.found.count,
        "clauses": {name: _share(rate) for name, rate in row.clauses.items()},
    }


def _share(rate: Rate) -> dict[str, Any]:
    return {"passed": rate.count, "share": rate.value, "interval": list(rate.interval)}
