"""A study with every kind of parameter, and histories of it: random or searching configs, failures by a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from windlass.records.content import nest
from windlass.records.decision import Decision, Mode, Outcome, Proposal, Vote
from windlass.records.run import Failure, FailureKind, MetricSummary, RunRecord, Status
from windlass.records.study import Study
from windlass.space.space import Space

Values = Mapping[str, Any]

PARAMETERS: dict[str, Any] = {
    "lr": {"type": "float", "low": 1e-5, "high": 1, "log": True},
    "batch": {"type": "int", "low": 8, "high": 128},
    "width": {"type": "int", "low": 16, "high": 256, "log": True},
    "drop": {"type": "float", "low": 0, "high": 0.8},
    "opt": {"type": "categorical", "choices": ["sgd", "adam", "rms", "lion"]},
    "bias": {"type": "bool"},
    "augment": {"type": "set", "choices": ["flip", "crop", "mix"]},
    "model": {"type": "categorical", "choices": ["mlp", "tree"]},
    "tree.depth": {"type": "int", "low": 2, "high": 12, "when": {"model": "tree"}},
    "mlp.layers": {"type": "int", "low": 1, "high": 6, "when": {"model": "mlp"}},
}


def make_study(**changes: Any) -> Study:
    data: dict[str, Any] = {
        "name": "s",
        "trainer": {"command": ["train"]},
        "space": PARAMETERS,
        "objectives": [{"metric": "loss", "direction": "minimize"}],
    }
    return Study.model_validate({**data, **changes})


STUDY = make_study()
SPACE = Space.of(STUDY)


def make_run(
    number: int, values: Values, loss: float | None = 0.0, failure: FailureKind | None = None, **fields: Any
) -> RunRecord:
    """Run ``number``: completed with ``loss``, or failed."""
    failed = failure is not None
    return RunRecord(
        **{
            "id": f"r{number:04d}",
            "name": "s",
            "number": number,
            "created": float(number),
            "status": Status.FAILED if failed else Status.COMPLETED,
            "failure": Failure(kind=failure, message="boom") if failure else None,
            "config": nest(dict(values)),
            "metrics": {} if failed or loss is None else {"loss": MetricSummary.of(loss)},
            **fields,
        }
    )


def history(
    count: int,
    *,
    seed: int,
    fails: Callable[[Values, np.random.Generator], bool | FailureKind] = lambda values, rng: False,
    loss: Callable[[Values], float] | None = None,
    noise: float = 1.0,
    searching: float | None = None,
    space: Space = SPACE,
) -> list[RunRecord]:
    """Runs of random configs. ``searching``: after 20 of them, steps of that spread around the best so far."""
    rng = np.random.default_rng([seed, count])
    target = rng.random(space.dimensions)
    runs: list[RunRecord] = []
    best: tuple[float, Any] | None = None
    for number in range(1, count + 1):
        point = rng.random(space.dimensions)
        if searching is not None and number > 20 and best is not None:
            point = np.clip(best[1] + rng.normal(0, searching, space.dimensions), 0, 1)
        values = space.decode(point)
        failure = fails(values, rng)
        value = float(((point - target) ** 2).sum()) if loss is None else loss(values)
        value += float(rng.normal(0, noise))
        if failure:
            kind = failure if isinstance(failure, FailureKind) else FailureKind.ERROR
            runs.append(make_run(number, values, failure=kind))
        else:
            runs.append(make_run(number, values, value))
            best = min(best or (np.inf, point), (value, point), key=lambda one: one[0])
    return runs


def random_values(count: int, seed: int = 99, space: Space = SPACE) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [space.decode(point) for point in rng.random((count, space.dimensions))]


def decision(run: RunRecord, proposer: str = "bayesian", votes: tuple[Vote, ...] = (), **fields: Any) -> Decision:
    """The decision that led to ``run``."""
    repeats = fields.pop("repeats", None)
    return Decision(
        **{
            "study": "s",
            "number": run.number,
            "cycle": run.number,
            "at": run.created,
            "mode": Mode.EXPLORE,
            "strategy": "",
            "proposal": Proposal(values={}, proposer=proposer, reason="", repeats=repeats),
            "config": run.config,
            "outcome": Outcome.APPROVED,
            "verdict": "",
            "seen": (run.number or 1) - 1,
            "run_id": run.id,
            "votes": votes,
            **fields,
        }
    )
