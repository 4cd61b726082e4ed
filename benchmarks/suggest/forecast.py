"""How Windlass's forecasts of its own runs turned out: coverage of intervals, Brier score of failure forecasts.

Each run's forecast was made before it, from the results up to then. A first look of the model at fewer than
``--from`` results is left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from problems import METRIC, PROBLEMS, in_half
from run import HERE, load

from windlass.records.forecast import Forecast
from windlass.worldmodel import Calibration, Outcome, calibration


def pairs(record: dict[str, Any], first: int) -> Iterator[tuple[Forecast, Outcome]]:
    study = PROBLEMS[record["problem"]].study()
    for trial in record["trials"]:
        if "forecast" in trial.get("notes", {}):
            forecast = Forecast.from_dict(trial["notes"]["forecast"])
            metrics = {} if trial["observed"] is None else {METRIC: trial["observed"]}
            if forecast.known >= first:
                yield forecast, Outcome(failed=not metrics, metrics=metrics, score=study.score(metrics))


def summed(records: Sequence[dict[str, Any]], first: int) -> dict[str, Any]:
    """Calibration over runs of studies; each study's base rate is its own."""
    each: list[Calibration] = [calibration(pairs(record, first)) for record in records]
    runs, known = sum(one.runs for one in each), sum(one.score.count for one in each)
    return {
        "runs": runs,
        "failures": sum(one.failures for one in each),
        "within50": sum(one.score.within50 for one in each) / known if known else None,
        "within90": sum(one.score.within90 for one in each) / known if known else None,
        "brier": sum((one.brier or 0) * one.runs for one in each) / runs if runs else None,
        "brier_base": sum((one.brier_base or 0) * one.runs for one in each) / runs if runs else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "results", help="the folder of the results")
    parser.add_argument("--method", default="windlass_world")
    parser.add_argument("--from", type=int, default=10, dest="first", help="results the forecast knew at least")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    records = [one for path in sorted(args.out.glob(f"{args.method}__*.json")) if (one := load(path))]
    groups = {name: [name] for name in PROBLEMS}
    groups |= {half: in_half(half) for half in ("development", "held_out", "all")}
    groups["crashing"] = [name for name, one in PROBLEMS.items() if one.crashes]
    groups["noisy"] = [name for name, one in PROBLEMS.items() if one.noisy]
    found = {
        title: summed([one for one in records if one["problem"] in names], args.first)
        for title, names in groups.items()
    }
    found = {title: one for title, one in found.items() if one["runs"]}
    if args.json:
        print(json.dumps(found, indent=1))
        return
    print("| problems | forecasts | failed | in the 50 % interval | in the 90 % interval | Brier | of the base rate |")
    print("|---|---|---|---|---|---|---|")
    for title, one in found.items():
        inside = [f"{one[name]:.1%}" if one[name] is not None else "-" for name in ("within50", "within90")]
        brier = [f"{one[name]:.4f}" for name in ("brier", "brier_base")]
        print(f"| {title} | {one['runs']} | {one['failures']} | " + " | ".join([*inside, *brier]) + " |")


if __name__ == "__main__":
    main()
