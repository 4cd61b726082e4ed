"""A study with every kind of parameter, and histories of it: values follow from the parameters by a fixed formula."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from windlass.records.content import nest
from windlass.records.decision import Decision, Mode, Outcome, Proposal, StudyRecord, StudyStatus
from windlass.records.run import Failure, FailureKind, MetricSummary, RunRecord, Status, make_run_id
from windlass.records.study import Study
from windlass.report.study import StudyReport, study_report

BEGAN = 1_760_000_000.0


def make_study(**changes: Any) -> Study:
    data: dict[str, Any] = {
        "name": "bowl",
        "trainer": {"command": ["train"]},
        "space": {
            "model": {"type": "categorical", "choices": ["linear", "tree"]},
            "linear.rate": {"type": "float", "low": 1e-4, "high": 1, "log": True, "when": {"model": "linear"}},
            "tree.depth": {"type": "int", "low": 2, "high": 9, "when": {"model": "tree"}},
            "bias": {"type": "bool"},
            "augment": {"type": "set", "choices": ["flip", "crop"]},
            "noise": {"type": "float", "low": 0, "high": 1},
        },
        "objectives": [{"metric": "loss", "direction": "minimize", "scale": 0.1}],
        "budget": {"runs": 100, "wall_time": "10m", "concurrent": 2},
    }
    return Study.model_validate({**data, **changes})


def draw(number: int) -> dict[str, Any]:
    """Flat parameters of run ``number``."""
    rng = np.random.default_rng(number)
    own: dict[str, Any]
    if rng.random() < 0.6:
        own = {"model": "linear", "linear.rate": float(10 ** rng.uniform(-4, 0))}
    else:
        own = {"model": "tree", "tree.depth": int(rng.integers(2, 10))}
    augment = [name for name in ("flip", "crop") if rng.random() < 0.5]
    return {**own, "bias": bool(rng.random() < 0.5), "augment": augment, "noise": float(rng.random())}


def loss_of(params: dict[str, Any]) -> float:
    """Lowest at a rate of 0.01 or a depth of 5; ``noise`` says nothing about it."""
    if params["model"] == "linear":
        return 0.1 + (math.log10(params["linear.rate"]) + 2) ** 2 / 4
    return 0.15 + abs(params["tree.depth"] - 5) / 8


def make_run(number: int, params: dict[str, Any] | None = None, **fields: Any) -> RunRecord:
    """Run ``number`` of two slots, a second each: completed, unless a failure or a status is given."""
    params = draw(number) if params is None else params
    began = BEGAN + (number - 1) // 2
    failure = fields.get("failure")
    loss = loss_of(params) if "model" in params else 1.0
    values: dict[str, Any] = {
        "id": make_run_id(began, "bowl", {"number": number}),
        "name": "bowl",
        "study": "bowl",
        "number": number,
        "status": Status.FAILED if failure else Status.COMPLETED,
        "created": began,
        "started": began,
        "ended": began + 1,
        "config": nest(params),
        "metrics": {} if failure else {"loss": MetricSummary.of(loss), "size": MetricSummary.of(float(number))},
        "fingerprints": {"code": "c0de" * 16, "config": f"{number:064x}"},
    }
    return RunRecord(**{**values, **fields})


def diverged(message: str = "the loss is NaN at step 3") -> Failure:
    return Failure(kind=FailureKind.DIVERGED, message=message, traceback="Traceback\n  line\nDiverged: NaN")


def decided(run: RunRecord, proposer: str = "explorer") -> Decision:
    assert run.number is not None
    return Decision(
        study="bowl",
        number=run.number,
        cycle=run.number,
        at=run.created,
        mode=Mode.EXPLORE,
        strategy="cover the space",
        proposal=Proposal(values=run.params, proposer=proposer, reason="a point of the sequence"),
        config=run.config,
        outcome=Outcome.APPROVED,
        verdict="valid and new",
        seen=run.number - 1,
        run_id=run.id,
    )


def rejected(number: int, verdict: str) -> Decision:
    proposal = Proposal(values={"noise": 0.5}, proposer="local", reason="a step")
    return Decision(
        study="bowl",
        number=number,
        cycle=number,
        at=BEGAN,
        mode=Mode.EXPLOIT,
        strategy="",
        proposal=proposal,
        config={},
        outcome=Outcome.REJECTED,
        verdict=verdict,
        seen=0,
    )


def make_record(study: Study, **fields: Any) -> StudyRecord:
    values: dict[str, Any] = {"name": study.name, "definition": study.model_dump(mode="json"), "created": BEGAN}
    ended = {"status": StudyStatus.FINISHED, "stopped_because": "budget: 100 runs", "active_s": 61.0, "cycles": 9}
    return StudyRecord(**{**values, **ended, **fields})


def make_report(runs: list[RunRecord], runs_root: Path, study: Study | None = None, **parts: Any) -> StudyReport:
    """The report of these runs; the first one is the baseline's."""
    study = study or make_study()
    decisions = parts.get("decisions") or [decided(run, "explorer" if i else "baseline") for i, run in enumerate(runs)]
    return study_report(study, runs, decisions, parts.get("record") or make_record(study), runs_root)
