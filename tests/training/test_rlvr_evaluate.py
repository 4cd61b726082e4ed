"""The evaluator on a checkpoint of RLVR: what the registry reads of it, and what it refuses to score."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from rlvrjobs import build_base, job, run, sums, write
from windlass.records.run import FailureKind, RunRecord, RunSpec, Status, make_run_id
from windlass.registry import scores as registry
from windlass.training import llama
from windlass.training.rlvr.examine import greedy
from windlass.training.text import Tokens


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    base = build_base(root / "base", steps=300)
    record = run(job(write(root / "tasks.jsonl", sums()), base, learning_rate=1e-5), root)
    assert record.status is Status.COMPLETED, record.failure
    return root / "runs" / record.id / "checkpoint"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{**row, "metadata": {"carry": "yes" if len(row["expected"]) > 1 else "no"}} for row in sums()]
    return write(tmp_path / "heldout.jsonl", rows)


def evaluate(checkpoint: Path, data: Path, **config: Any) -> tuple[RunRecord, Path]:
    now = time.time()
    spec = RunSpec(
        id=make_run_id(now, "evaluate", {"at": now}),
        name="evaluate",
        created=now,
        config={"checkpoint": str(checkpoint), "data": str(data), "metric": "score", "options": {}, **config},
        function="windlass.training.rlvr.evaluate:evaluate",
    )
    return run(spec, data.parent), data.parent / "runs" / spec.id


def test_every_task_is_scored_by_the_greedy_completion(checkpoint: Path, data: Path) -> None:
    record, folder = evaluate(checkpoint, data, slices=["carry"])
    assert record.status is Status.COMPLETED, record.failure
    (artifact,) = (one for one in record.artifacts if one.kind == "scores")
    found = registry.read(folder / artifact.path)
    assert len(found) == 100
    model, tokens = llama.load(checkpoint), Tokens(checkpoint)
    said = greedy(model, tokens, [tokens.encode(row["prompt"]) for row in sums()], 3)
    right = {row["id"]: float(text == row["expected"]) for row, text in zip(sums(), said, strict=True)}
    assert dict(zip(found.ids.tolist(), found.column("verified").tolist(), strict=True)) == right
    assert found.means() == {"score": record.values["score"], "verified": record.values["verified"]}
    assert 0 < record.values["score"] < 1
    assert set(found.group("carry").tolist()) == {"yes", "no"}


def test_the_benchmark_may_have_another_verifier(checkpoint: Path, data: Path) -> None:
    strict, _ = evaluate(checkpoint, data)
    close, _ = evaluate(checkpoint, data, options={"verifier": {"kind": "numeric", "absolute": 1}})
    assert close.values["score"] > strict.values["score"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"options": {"verifyer": {}}}, "Did you mean 'verifier'?"),
        ({"slices": ["cary"]}, "Did you mean 'carry'?"),
        ({"options": {"max_new_tokens": 15}}, "100 prompts leave less than 15 of 16 tokens"),
        ({"options": {"verifier": {"kind": "function", "function": "rlvrverifiers:never_sure"}}}, "have no score"),
        ({"options": {"verifier": {"kind": "function", "function": "rlvrverifiers:raising"}}}, "raised KeyError"),
    ],
)
def test_what_cannot_be_scored_fails(checkpoint: Path, data: Path, changed: dict[str, Any], words: str) -> None:
    record, _ = evaluate(checkpoint, data, **changed)
    assert record.failure is not None
    assert record.failure.kind is FailureKind.ERROR
    assert words in record.failure.message


def test_a_checkpoint_that_was_altered_is_not_scored(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in checkpoint.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    record, _ = evaluate(other, data)
    assert "model.safetensors is not what its manifest says" in (record.failure or pytest.fail("not refused")).message
    (other / "manifest.json").unlink()
    record, _ = evaluate(other, data)
    assert "it is no checkpoint of RLVR" in (record.failure or pytest.fail("not refused")).message
