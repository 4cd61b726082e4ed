"""Which process logs, and what of other frameworks' metrics is in the journal."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from windlass.records.run import RunSpec
from windlass.runs.folder import RunFolder
from windlass.runs.sdk import Run, attach
from windlass.settings import lay_out
from windlass.training.callbacks import main_process, ranks
from windlass.training.callbacks.recorder import Recorder

EXAMPLES = Path(__file__).parents[2] / "examples" / "frameworks"
RANK_VARIABLES = (*ranks.GLOBAL_RANKS, "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A run as a job has it."""
    lay_out(tmp_path / "lab")
    folder = RunFolder(tmp_path / "lab" / "runs" / "20260101T000000Z_test_0123456789")
    folder.create(RunSpec(id=folder.id, name="test", created=0.0))
    with attach(folder) as run:
        yield run


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def journal(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.folder.journal_file.read_text().splitlines()]


def points(run: Run, metric: str) -> list[tuple[float, float]]:
    events = [event for event in journal(run) if metric in event.get("metrics", {})]
    return [(event["step"], event["metrics"][metric]) for event in events]


def notes(run: Run) -> list[str]:
    return [event["note"] for event in journal(run) if "note" in event]


# Which process -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "1", "LOCAL_RANK": "1"}, False),
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),  # the first process of the second machine
        ({"RANK": "0", "SLURM_PROCID": "3"}, True),
        ({"OMPI_COMM_WORLD_RANK": "2"}, False),
        ({"PMI_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0", "SLURM_PROCID": "0"}, True),
        ({"SLURM_PROCID": "5"}, False),
    ],
)
def test_the_first_of_all_processes_logs(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main_process() is expected


@pytest.mark.parametrize(("initialized", "rank", "expected"), [(True, 1, False), (True, 0, True), (False, 1, True)])
def test_torch_knows_better_than_the_environment(
    monkeypatch: pytest.MonkeyPatch, initialized: bool, rank: int, expected: bool
) -> None:
    monkeypatch.setenv("RANK", str(1 - rank) if initialized else "0")
    distributed: Any = SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: initialized, get_rank=lambda: rank
    )
    monkeypatch.setitem(sys.modules, "torch.distributed", distributed)
    assert main_process() is expected


# What is logged ------------------------------------------------------------------------------------------------------


def test_numbers_are_logged_and_the_rest_is_passed_over(run: Run) -> None:
    class Scalar:
        def __float__(self) -> float:
            return 0.25

    given = {"loss": 1, "lr": np.float32(0.5), "scalar": Scalar(), "name": "adam", "none": None, "many": np.ones(2)}
    Recorder(run).log({**given, "list": [1]}, 7)
    (event,) = journal(run)
    assert event["step"] == 7 and event["metrics"] == {"loss": 1, "lr": 0.5, "scalar": 0.25}


def test_what_is_not_finite_is_noted_once(run: Run) -> None:
    recorder = Recorder(run)
    for step in range(3):
        recorder.log({"loss": float("nan"), "grad_norm": float("inf") if step else 1.0}, step)
    recorder.log({"loss": float("nan")}, None)
    assert notes(run) == ["loss is nan at step 0", "grad_norm is inf at step 1"]
    assert points(run, "grad_norm") == [(0, 1.0)] and points(run, "loss") == []


@pytest.mark.parametrize("name", ["num_input_tokens_seen", "num_tokens"])
def test_tokens_have_one_name(run: Run, name: str) -> None:
    Recorder(run).log({name: 640}, 5)
    assert points(run, "tokens") == points(run, name) == [(5, 640)]


def test_other_processes_touch_no_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    recorder = Recorder(run)
    recorder.log({"loss": 1.0, "bad": float("nan")}, 1)
    assert recorder.run is None and Recorder().run is None
    assert journal(run) == []


def test_without_a_run_it_is_that_of_the_job(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_RUN_DIR", str(run.path))
    recorder = Recorder()
    recorder.log({"loss": 0.5}, 2)
    assert recorder.run is not None and recorder.run.id == run.id
    recorder.run.finish()
    assert points(run, "loss") == [(2, 0.5)]


# Real trainers: the examples -----------------------------------------------------------------------------------------


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_transformers_trainer(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    example("huggingface_trainer").train(run)
    assert [step for step, _ in points(run, "loss")] == [5, 10, 15, 20]
    assert points(run, "tokens")[:4] == [(5, 640), (10, 1280), (15, 1920), (20, 2560)]
    assert points(run, "loss")[-1][1] < points(run, "loss")[0][1]
    assert [step for step, _ in points(run, "train_loss")] == [20]


def test_lightning(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning")
    monkeypatch.chdir(tmp_path)
    example("lightning_module").train(run)
    assert [step for step, _ in points(run, "loss")] == list(range(3, 40, 4))
    assert [step for step, _ in points(run, "val_loss")] == [7, 15, 23, 31, 39]
    assert points(run, "val_loss")[-1][1] < points(run, "val_loss")[0][1]
    assert list(tmp_path.iterdir()) == [tmp_path / "lab"]


def test_a_plain_loop_that_is_ended_goes_on_to_the_bit(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from windlass.errors import Preempted
    from windlass.training import tensors

    plain = example("plain_loop")
    plain.train(run)
    whole = tensors.digest(tensors.load(run.checkpoint_dir / "model.safetensors"))
    assert [step for step, _ in points(run, "loss")] == list(range(plain.STEPS))

    folder = RunFolder(tmp_path / "lab" / "runs" / "20260101T000001Z_test_0123456789")
    folder.create(RunSpec(id=folder.id, name="test", created=0.0))
    with pytest.raises(Preempted, match="step 33 "), attach(folder) as first:
        log = first.log

        def log_and_end(*, step: int, **metrics: float) -> None:
            log(step=step, **metrics)
            if step == 33:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(first, "log", log_and_end)
        plain.train(first)
    with attach(folder) as second:
        plain.train(second)
    assert tensors.digest(tensors.load(folder.checkpoint / "model.safetensors")) == whole
    assert [step for step, _ in points(second, "loss")] == list(range(plain.STEPS))
    assert json.loads(folder.result_file.read_text())["metrics"]["loss"] == points(run, "loss")[-1][1]


def test_what_the_page_imports_is_there() -> None:
    page = (EXAMPLES.parents[1] / "docs" / "frameworks.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    for block in blocks:
        compile(block, "frameworks.md", "exec")
        exec("\n".join(line for line in block.splitlines() if line.startswith(("from windlass", "import"))), {})
    named = re.findall(r"`(\w+\.py)`", page)
    assert sorted(set(named)) == sorted(path.name for path in EXAMPLES.glob("*.py"))
