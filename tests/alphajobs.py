"""Campaigns of factor research on small panels, in this process: what a job does, without the job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from windlass.records.run import RunSpec
from windlass.runs.folder import RunFolder
from windlass.runs.sdk import attach
from windlass.workloads.alpha.opening import open_holdout
from windlass.workloads.alpha.run import search
from windlass.workloads.alpha.workload import WORKLOAD

SYNTHETIC = {"names": 30, "days": 420, "seed": 3}
WALK = {"train": 60, "valid": 10, "test": 20, "embargo": 5, "warmup": 60}
#: of a campaign that takes a second
OPTIONS = {"idea": "Momentum + liquidity", "synthetic": SYNTHETIC, "walk": WALK, "candidates": 16, "top_k": 2}
SETTINGS = {"search": {"generation": 8}, "portfolio": {"adv_floor": 0.0}}


def spec_of(number: int, config: Mapping[str, Any], seed: int = 0, **more: Any) -> RunSpec:
    """The ``number``-th run of a lab."""
    identity = f"20260101T{number // 3600:02d}{number // 60 % 60:02d}{number % 60:02d}Z_campaign_{number:010x}"
    return RunSpec(id=identity, name="campaign", created=float(number), config=dict(config), seed=seed, **more)


def config_of(options: Mapping[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """A run's config, as the lab would write it."""
    whole = WORKLOAD.options({**OPTIONS, **(options or {})}, Path.cwd())
    return {**SETTINGS, **settings, "workload": whole}


def ran(root: Path, spec: RunSpec) -> RunFolder:
    """Run a campaign, or go on with it where its folder is there; the exception is the caller's."""
    folder = RunFolder(root / spec.id)
    if not folder.path.exists():
        folder.create(spec)
    run = attach(folder)
    run.finish(search(spec.config, run))
    return folder


def opened(root: Path, number: int, campaign: RunFolder, **more: Any) -> RunFolder:
    """Open the holdout of a campaign."""
    before = campaign.spec()
    spec = spec_of(number, {**before.config, "campaign": campaign.id}, before.seed, **more)
    folder = RunFolder(root / spec.id)
    if not folder.path.exists():
        folder.create(spec)
    run = attach(folder)
    run.finish(open_holdout(spec.config, run))
    return folder


def gate_of(folder: RunFolder) -> dict[str, Any]:
    return json.loads((folder.artifacts / "gate.json").read_text())


def contents(folder: RunFolder) -> dict[str, bytes]:
    """Every file that a campaign left in ``artifacts/``, by name."""
    files = (path for path in sorted(folder.artifacts.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder.artifacts)): path.read_bytes() for path in files}
