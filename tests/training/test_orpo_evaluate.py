"""The evaluator: per-pair scores of an adapter on pairs that it was not trained on, or a refusal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobspecs import drain
from orpojobs import build_base, job, pairs, write
from windlass.errors import DataError, PreflightError
from windlass.jobs.collect import collect
from windlass.jobs.inprocess import InProcessExecutor
from windlass.records.run import Status
from windlass.registry.scores import read
from windlass.runs.folder import RunFolder
from windlass.training.orpo import adapter
from windlass.training.orpo.evaluate import evaluate
from windlass.training.orpo.plan import ADAPTER


class Trained:
    def __init__(self, folder: Path) -> None:
        self.base = build_base(folder / "base")
        executor = InProcessExecutor(folder / "runs")
        spec = job(write(folder / "pairs.jsonl", pairs(40)), self.base, steps=30)
        executor.submit([spec])
        drain(executor)
        record = collect(folder / "runs" / spec.id)
        assert record.status is Status.COMPLETED, record.failure
        self.config, self.checkpoint = spec.config, RunFolder(folder / "runs" / spec.id).checkpoint

    def asked(self, data: Path, **changed: Any) -> dict[str, Any]:
        """What an evaluator gets."""
        given = {"checkpoint": str(self.checkpoint), "data": str(data), "benchmark": "b", "metric": "preferred"}
        return {**given, "slices": [], "options": {}, "trained_with": self.config, **changed}


class Run:
    """The part of a run that an evaluator uses."""

    def __init__(self, folder: Path) -> None:
        self.artifacts_dir = folder / "artifacts"
        self.artifacts_dir.mkdir()
        self.published: list[tuple[str, str]] = []

    def artifact(self, path: Path, *, name: str, kind: str) -> None:
        self.published.append((path.name, kind))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def heldout(tmp_path: Path) -> Path:
    rows = [{**row, "metadata": {"room": "hall" if i % 2 else "attic"}} for i, row in enumerate(pairs(20, seed=5))]
    del rows[3]["metadata"]
    return write(tmp_path / "heldout.jsonl", rows)


def test_scores_have_a_row_a_pair_with_what_the_slices_name(trained: Trained, heldout: Path, tmp_path: Path) -> None:
    run = Run(tmp_path)
    metrics = evaluate(trained.asked(heldout, slices=["room"]), run)  # type: ignore[arg-type]
    assert run.published == [("scores.csv", "scores")]
    scores = read(run.artifacts_dir / "scores.csv")
    assert list(scores.ids) == sorted(row["id"] for row in pairs(20, seed=5))
    assert set(scores.columns) == {"preferred", "margin"}
    assert set(scores.columns["preferred"]) <= {0.0, 1.0}
    assert sorted(set(scores.group("room"))) == ["(missing)", "attic", "hall"]
    assert scores.means() == pytest.approx(metrics)
    assert metrics["preferred"] > 0.9
    assert metrics["margin"] > 0


def test_equal_checkpoints_give_equal_bytes_of_scores(trained: Trained, heldout: Path, tmp_path: Path) -> None:
    found = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        run = Run(tmp_path / name)
        evaluate(trained.asked(heldout), run)  # type: ignore[arg-type]
        found.append((run.artifacts_dir / "scores.csv").read_bytes())
    assert found[0] == found[1]


def test_a_base_that_is_elsewhere_by_now_is_named_in_the_options(
    trained: Trained, heldout: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(trained.base, tmp_path / "moved")
    gone = {"workload": {**trained.config["workload"], "model": str(tmp_path / "gone")}}
    with pytest.raises(PreflightError, match="there is no model"):
        evaluate(trained.asked(heldout, trained_with=gone), Run(tmp_path))  # type: ignore[arg-type]
    (tmp_path / "again").mkdir()
    asked = trained.asked(heldout, trained_with=gone, options={"model": str(moved)})
    assert evaluate(asked, Run(tmp_path / "again"))["preferred"] > 0.9  # type: ignore[arg-type]


def test_another_base_is_refused(trained: Trained, heldout: Path, tmp_path: Path) -> None:
    from windlass.training import small

    other = small.build(
        tmp_path / "base", texts=["".join(map(str, range(9)))], vocabulary=320, hidden=32, layers=2, heads=2, context=96
    )
    with pytest.raises(PreflightError, match=r"was trained on a base model with digest .*\[base.changed\]"):
        evaluate(trained.asked(heldout, options={"model": str(other)}), Run(tmp_path))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [ADAPTER, "adapter_config.json", adapter.MANIFEST])
def test_a_checkpoint_that_was_altered_is_refused(trained: Trained, heldout: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(trained.checkpoint, tmp_path / "checkpoint")
    data = bytearray((copy / name).read_bytes())
    data[-5] ^= 1
    (copy / name).write_bytes(bytes(data))
    if name == adapter.MANIFEST:
        (copy / name).write_text("{}")
    with pytest.raises(DataError, match=r"not what its manifest says|no checkpoint of ORPO"):
        evaluate(trained.asked(heldout, checkpoint=str(copy)), Run(tmp_path))  # type: ignore[arg-type]


def test_a_manifest_that_says_something_else_is_refused(trained: Trained, tmp_path: Path) -> None:
    copy = shutil.copytree(trained.checkpoint, tmp_path / "checkpoint")
    manifest = json.loads((copy / adapter.MANIFEST).read_text())
    manifest["files"][ADAPTER] = "0" * 64
    (copy / adapter.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"adapter_model.safetensors is not what its manifest says"):
        adapter.verify(copy)


def test_wrong_questions_are_refused_by_name(trained: Trained, heldout: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no option 'modle'\. Did you mean 'model'\?"):
        evaluate(trained.asked(heldout, options={"modle": "x"}), Run(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"has 'rooms' in its metadata \(slice\)\. Did you mean 'room'\?"):
        (tmp_path / "again").mkdir()
        evaluate(trained.asked(heldout, slices=["rooms"]), Run(tmp_path / "again"))  # type: ignore[arg-type]


def test_a_prompt_that_leaves_no_room_is_refused_with_its_row(trained: Trained, tmp_path: Path) -> None:
    rows = pairs(3, seed=5)
    rows[1]["prompt"] *= 9
    with pytest.raises(DataError, match=r"row 2 \("):
        evaluate(trained.asked(write(tmp_path / "long.jsonl", rows)), Run(tmp_path))  # type: ignore[arg-type]
