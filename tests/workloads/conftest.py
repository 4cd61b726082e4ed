"""Real runs of the tabular trainer, each in a run folder of its own."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from windlass.errors import WindlassError
from windlass.records.content import nest
from windlass.records.run import RunSpec, make_run_id
from windlass.runs.failure import describe_failure
from windlass.runs.folder import RunFolder
from windlass.runs.sdk import attach


@dataclass(frozen=True)
class Trained:
    """What a run returned and what it left on disk."""

    metrics: dict[str, float]
    folder: Path

    @property
    def journal(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "journal.jsonl").read_text().splitlines()]

    @property
    def curve(self) -> list[tuple[float, dict[str, float]]]:
        return [(line["step"], line["metrics"]) for line in self.journal if line.get("step") is not None]

    @property
    def notes(self) -> str:
        return "\n".join(line["note"] for line in self.journal if "note" in line)

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.folder / "artifacts" / f"{name}.csv").open(newline="") as file:
            return list(csv.DictReader(file))


Train = Callable[..., Trained]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """``train(options, {"svm.C": 10.0}, seed=0)``: one run, its parameters with flat names."""
    from windlass.workloads.tabular import run as trainer

    def go(
        options: dict[str, Any],
        parameters: dict[str, Any] | None = None,
        seed: int = 0,
        fingerprints: dict[str, str] | None = None,
    ) -> Trained:
        folder = create(tmp_path, {"workload": options, **nest(parameters or {})}, seed, fingerprints or {})
        run = attach(folder)
        try:
            metrics = trainer.train(run.config, run)
        except WindlassError as error:
            run.finish(failure=describe_failure(error))
            raise
        run.finish(metrics)
        return Trained(metrics, folder.path)

    return go


def create(lab: Path, config: dict[str, Any], seed: int, fingerprints: dict[str, str]) -> RunFolder:
    """A run folder as the lab makes it, one number further at each call."""
    number = len(list(lab.glob("runs/*"))) + 1
    run_id = make_run_id(0.0, "tabular", {"number": number})
    folder = RunFolder(lab / "runs" / run_id)
    folder.create(
        RunSpec(
            id=run_id,
            name="tabular",
            created=0.0,
            config=config,
            function="windlass.workloads.tabular.run:train",
            seed=seed,
            fingerprints=fingerprints,
        )
    )
    return folder


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[[dict[str, Any]], RunFolder]:
    """``make_folder(config)``: the folder of a run that has not started."""
    return lambda config: create(tmp_path, config, 0, {})
