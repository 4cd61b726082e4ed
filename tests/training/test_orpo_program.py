"""ORPO as a job: what comes out is what TRL gives, to the bit, through kills; and what is refused instead of trained.

Each silent failure of the bare library is shown first: it returns normally.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from jobspecs import drain
from orpojobs import CONTEXT, build_base, job, pairs, plan, texts, write
from windlass.errors import Diverged, Preempted, PreflightError
from windlass.jobs.collect import collect
from windlass.jobs.inprocess import InProcessExecutor
from windlass.jobs.local import LocalExecutor
from windlass.records.run import FailureKind, Limits, RunRecord, RunSpec, Status
from windlass.runs.folder import RunFolder, read_json
from windlass.training import environment, models, tensors
from windlass.training.orpo import adapter
from windlass.training.orpo.loss import encode, score
from windlass.training.orpo.plan import ADAPTER, ADAPTER_CONFIG, BudgetSpent, Plan, Trained
from windlass.training.orpo.workload import WORKLOAD

NOBODY = SimpleNamespace(now=False)  #: asks to end


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "pairs.jsonl", pairs(40))


@pytest.fixture(scope="module")
def trl() -> Any:
    environment.pin(1)
    from windlass.training.orpo import trl

    return trl


def run(spec: RunSpec, root: Path) -> RunRecord:
    executor = InProcessExecutor(root / "runs")
    executor.submit([spec])
    drain(executor)
    return collect(root / "runs" / spec.id)


def adapter_of(made: Plan) -> bytes:
    return (made.adapter / ADAPTER).read_bytes()


def train(trl: Any, made: Plan, asked: Any = NOBODY, told: list[Any] | None = None) -> Trained:
    found: Trained = trl.train(made, lambda *step: told.append(step) if told is not None else None, asked)
    return found


def bare(trl: Any, made: Plan, **changed: Any) -> Any:
    """TRL's trainer as a script would use it."""
    from trl.experimental.orpo import ORPOTrainer

    arguments = trl.arguments(made, save_strategy="no", **changed)
    tokenizer = models.load_tokenizer(made.model)
    model = models.load_model(made.model)
    return ORPOTrainer(model, arguments, None, trl.rows(made.train), None, tokenizer, peft_config=trl.lora(made))


@pytest.fixture(scope="module")
def uninterrupted(trl: Any, base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, list[Any]]:
    whole, told = plan(tmp_path_factory.mktemp("whole"), base), []
    train(trl, whole, told=told)
    return whole, told


# What TRL gives, and what it keeps silent about -----------------------------------------------------------------------


def test_the_weights_are_those_of_trl_run_bare_to_the_bit(trl: Any, uninterrupted: tuple[Plan, list[Any]]) -> None:
    """With dropout, and with held-out pairs scored before: neither scoring nor saving draws a random number."""
    made, _ = uninterrupted
    trainer = bare(trl, made)
    trainer.train()
    from peft import get_peft_model_state_dict

    ours, theirs = tensors.load(made.adapter / ADAPTER), get_peft_model_state_dict(trainer.model)
    assert tensors.digest(ours) == tensors.digest(theirs)


def test_dropout_is_lost_in_trl_and_not_here(trl: Any, base: Path, tmp_path: Path) -> None:
    def dropouts(model: torch.nn.Module) -> set[float]:
        return {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout) and m.p}

    made = plan(tmp_path, base, dropout=0.25)
    trainer = bare(trl, made, disable_dropout=True)  # TRL's default
    assert dropouts(trainer.model) == set()
    assert trainer.model.peft_config["default"].lora_dropout == 0.25  # what it would save
    assert dropouts(bare(trl, made).model) == {0.25}
    with pytest.raises(PreflightError, match=r"a dropout of 0.25 was asked for, the LoRA layers have"):
        trl._require_dropout(trainer.model, 0.25)


def test_a_prompt_that_leaves_no_room_ruins_trl_silently_and_is_refused_here(
    trl: Any, base: Path, tmp_path: Path
) -> None:
    rows = pairs(40)
    rows[4]["prompt"] = "User: " + "what color is it? " * 8
    made = plan(tmp_path, base, train=texts(rows), max_length=40, steps=6)
    trainer = bare(trl, made, logging_nan_inf_filter=True)  # TRL's default
    outcome = trainer.train()  # returns normally
    assert math.isfinite(outcome.training_loss)
    assert any(parameter.isnan().any() for parameter in trainer.model.parameters())
    record = run(job(write(tmp_path / "pairs.jsonl", rows), base, max_length=40), tmp_path)
    assert record.failure is not None
    assert record.failure.kind is FailureKind.PREFLIGHT
    assert "row 5" in record.failure.message
    assert "[data.too_long]" in record.failure.message
    assert not RunFolder(tmp_path / "runs" / record.id).state.exists()


def test_a_loss_that_is_not_finite_ends_the_training_at_its_step(trl: Any, base: Path, tmp_path: Path) -> None:
    """Behind the preflight: the same pair, given to the trainer all the same."""
    rows = pairs(40)
    rows[4]["prompt"] = "User: " + "what color is it? " * 8
    with pytest.raises(Diverged, match=r"at step \d+ .*train_loss is nan"):
        train(trl, plan(tmp_path, base, train=texts(rows), max_length=40))


# A job from end to end ------------------------------------------------------------------------------------------------


def test_a_run_leaves_metrics_scores_health_and_an_adapter_that_peft_loads(
    base: Path, data: Path, tmp_path: Path
) -> None:
    spec = job(data, base, {"profile": "reader", "family": "llama"}, steps=30)
    record = run(spec, tmp_path)
    assert record.status is Status.COMPLETED, record.failure
    folder = RunFolder(tmp_path / "runs" / record.id)
    assert folder.stdout_file.read_text() == ""
    assert "step 30 of 30: loss" in folder.stderr_file.read_text()
    values = record.values
    assert values["accuracy"] > values["accuracy_before"]
    assert values["margin"] > values["margin_before"]
    assert record.metrics["train_loss"].count == 30
    assert {a.kind for a in record.artifacts} == {"manifest", "scores", "report", "checkpoint"}
    assert read_json(folder.artifacts / "health.json")["healthy"]
    names = {check["name"] for check in read_json(folder.artifacts / "health.json")["checks"]}
    assert names == {"finite_weights", "weights_changed", "steps_done", "loss_finite", "held_out", "independent"}
    assert "trl" in read_json(folder.artifacts / "environment.json")
    said = read_json(folder.result_file)["identity"]
    assert {name: said[name] for name in spec.identity} == spec.identity
    assert set(spec.identity) == {"backend", "profile", "family", "run", "data"}
    assert sorted(p.name for p in folder.checkpoint.iterdir()) == [ADAPTER_CONFIG, ADAPTER, adapter.MANIFEST]
    assert not (folder.path / "scratch").exists()
    manifest = adapter.verify(folder.checkpoint)
    assert manifest.tensors == tensors.digest(tensors.load(folder.checkpoint / ADAPTER))
    assert (manifest.data, manifest.steps, manifest.profile) == (dict(record.fingerprints), 30, "reader")
    assert manifest.base == models.base_digest(base)

    model, tokenizer = adapter.load(folder.checkpoint, base, manifest), models.load_tokenizer(base)
    lines = [line.split(",") for line in (folder.artifacts / "scores.csv").read_text().splitlines()[1:]]
    rows = {row["id"]: row for row in pairs(40)}
    encoded = encode(tokenizer, texts(rows[line[0]] for line in lines), 64)
    found = score(model, encoded, tokenizer.pad_token_id, 4)
    assert [s.margin(0.1) for s in found] == pytest.approx([float(line[2]) for line in lines], abs=1e-9)
    assert sum(s.preferred for s in found) / len(found) == values["accuracy"]


def test_the_tokens_are_counted_before_the_start(base: Path, data: Path, tmp_path: Path) -> None:
    """30 pairs in batches of 4, twice a step: epochs end with a batch that is not full, and a step of fewer batches."""
    planned = run(job(data, base, {"backend": "dry-run"}, steps=11), tmp_path)
    assert planned.status is Status.COMPLETED, planned.failure
    trained = run(job(data, base, steps=11), tmp_path)
    assert trained.values["tokens"] == planned.values["planned_tokens"]
    exact = int(trained.values["tokens"])
    assert run(job(data, base, {"tokens": exact, "backend": "dry-run"}, steps=11), tmp_path).status is Status.COMPLETED
    refused = run(job(data, base, {"tokens": exact - 1}, steps=11), tmp_path)
    assert refused.failure is not None
    assert refused.failure.kind is FailureKind.PREFLIGHT
    assert f"11 steps read {exact:,} tokens, the budget is {exact - 1:,}: 10 steps fit" in refused.failure.message


def test_a_dry_run_checks_everything_and_leaves_no_checkpoint(base: Path, data: Path, tmp_path: Path) -> None:
    record = run(job(data, base, {"backend": "dry-run"}), tmp_path)
    assert record.status is Status.COMPLETED, record.failure
    assert record.values["dry_run"] == 1
    assert record.values["training_pairs"] + record.values["held_out_pairs"] == 40
    assert "accuracy" not in record.values
    assert any("nothing was trained" in note for note in record.notes)
    folder = RunFolder(tmp_path / "runs" / record.id)
    assert not folder.checkpoint.exists()
    assert not folder.state.exists()
    rows = pairs(3)
    rows[1]["rejected"] = rows[1]["chosen"]
    refused = run(job(data, base, {"backend": "dry-run"}), tmp_path)
    assert refused.status is Status.COMPLETED
    write(data, rows)
    spec = replace(job(write(tmp_path / "good.jsonl", pairs(9)), base, {"backend": "dry-run"}), fingerprints={})
    broken = replace(spec, config={**spec.config, "workload": {**spec.config["workload"], "data": str(data)}})
    assert "row 2" in (run(broken, tmp_path).failure or pytest.fail("not refused")).message


@pytest.mark.parametrize(
    ("changed", "hyper", "code"),
    [
        ({"tier": "consumer-gpu"}, {}, "tier.device"),
        ({"model": "missing/folder/here"}, {}, "model.missing"),
        ({}, {"batch": 10**9}, "tier.memory"),
    ],
)
def test_what_cannot_be_trained_here_is_refused_with_a_code(
    base: Path, data: Path, tmp_path: Path, changed: dict[str, Any], hyper: dict[str, Any], code: str
) -> None:
    record = run(job(data, base, changed, **hyper), tmp_path)
    assert record.failure is not None
    assert record.failure.kind is FailureKind.PREFLIGHT
    assert f"[{code}]" in record.failure.message


def test_prompts_that_end_within_a_token_of_their_completion_are_refused_with_their_rows(
    base: Path, data: Path, tmp_path: Path
) -> None:
    """TRL raises for such a pair, without saying which it is."""
    rows, tokenizer = pairs(40), models.load_tokenizer(base)
    whole = rows[2]["prompt"] + rows[2]["chosen"]
    cuts = [(whole[:cut], whole[cut : cut + 1], " no") for cut in range(2, len(whole) - 2)]
    torn = next(text for text in cuts if encode(tokenizer, [text], 64)[0].torn)
    rows[2] |= dict(zip(("prompt", "chosen", "rejected"), torn, strict=True))
    record = run(job(write(data, rows), base), tmp_path)
    assert "in row 3 of the" in (record.failure or pytest.fail("not refused")).message
    assert "[data.boundary]" in record.failure.message


def test_several_processes_are_refused(base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    record = run(job(data, base), tmp_path)
    assert "[world_size]" in (record.failure or pytest.fail("not refused")).message


def test_the_memory_limit_of_the_run_is_known_before_the_start(base: Path, data: Path, tmp_path: Path) -> None:
    record = run(job(data, base, limits=Limits(memory_bytes=2**20)), tmp_path)
    assert "tier.memory" in (record.failure or pytest.fail("not refused")).message


def test_data_that_changed_since_the_run_was_made_are_refused(base: Path, data: Path, tmp_path: Path) -> None:
    spec = job(data, base)
    write(data, pairs(40)[::-1])  # the same pairs in another order are another training
    record = run(spec, tmp_path)
    assert "fingerprint 'data'" in (record.failure or pytest.fail("not refused")).message
    assert "[data.changed]" in record.failure.message


def test_pairs_that_are_judged_by_must_not_be_trained_on(base: Path, data: Path, tmp_path: Path) -> None:
    validation = write(tmp_path / "validation.jsonl", [*pairs(5, seed=9), pairs(40)[6]])
    record = run(job(data, base, {"validation": str(validation)}), tmp_path)
    assert "row 6 (row 7 of the training pairs)" in (record.failure or pytest.fail("not refused")).message


def test_a_training_that_makes_the_held_out_pairs_worse_leaves_no_checkpoint(
    base: Path, data: Path, tmp_path: Path
) -> None:
    """It learns the opposite of what it is judged by."""
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in pairs(40)]
    validation = write(tmp_path / "validation.jsonl", pairs(40, seed=9))
    record = run(job(write(data, swapped), base, {"validation": str(validation)}, steps=30), tmp_path)
    assert record.failure is not None
    assert record.failure.kind is FailureKind.UNHEALTHY
    assert "held_out: held-out score" in record.failure.message
    folder = RunFolder(tmp_path / "runs" / record.id)
    assert not folder.checkpoint.exists()
    assert not read_json(folder.artifacts / "health.json")["healthy"]


def test_what_a_reader_has_to_know_of_the_rows_is_noted(base: Path, data: Path, tmp_path: Path) -> None:
    record = run(job(data, base, {"backend": "dry-run"}, max_length=25), tmp_path)
    assert any("have a completion that is cut at 25 tokens: rows " in note for note in record.notes)
    long = run(job(data, base, {"backend": "dry-run"}, max_length=5000), tmp_path)
    assert any(f"the model attends to {CONTEXT} tokens" in note for note in long.notes)


# Interrupted ----------------------------------------------------------------------------------------------------------


class AskedAfter:
    """Asks to end once ``steps`` steps were told."""

    def __init__(self, steps: int, told: list[Any]) -> None:
        self.steps, self.told = steps, told

    @property
    def now(self) -> bool:
        return len(self.told) + 1 >= self.steps


@pytest.mark.parametrize("at", [[1], [4], [5, 8], [11]], ids=str)
def test_an_interrupted_training_gives_the_bits_of_an_uninterrupted_one(
    trl: Any, base: Path, uninterrupted: tuple[Plan, list[Any]], tmp_path: Path, at: list[int]
) -> None:
    """Four steps are an epoch: within one, at its end, twice, and after the last step of all."""
    whole, told = uninterrupted
    parts, seen = plan(tmp_path, base), []
    for step in at:
        with pytest.raises(Preempted, match=f"after (all )?{'11 steps' if step == 11 else f'step {step} of 11'}"):
            train(trl, parts, AskedAfter(step, seen), seen)
        assert len(seen) == step
    trained = train(trl, parts, told=seen)
    assert adapter_of(parts) == adapter_of(whole)
    assert seen == told
    assert trained.steps == 11
    assert trained.notes == []


@pytest.mark.parametrize("field", ["data", "config", "base", "world_size"])
def test_what_changed_before_a_resume_is_refused(trl: Any, base: Path, tmp_path: Path, field: str) -> None:
    seen: list[Any] = []
    made = plan(tmp_path, base, steps=3)
    with pytest.raises(Preempted):
        train(trl, made, AskedAfter(1, seen), seen)
    with pytest.raises(PreflightError, match=rf"{field} was .*, is other.*resume.changed"):
        train(trl, replace(made, identity={**made.identity, field: "other"}))


def test_another_environment_after_a_resume_is_noted(
    trl: Any, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    made = plan(tmp_path, base, steps=4)
    for step, threads in ((1, "1"), (2, "8")):
        monkeypatch.setattr(trl.environment, "fingerprint", lambda threads=threads: {"threads": threads})
        with pytest.raises(Preempted):
            train(trl, made, AskedAfter(step, seen), seen)
    words = "went on after step 1 in another environment, so not to the bit: threads was 1, is 8"
    assert train(trl, made).notes == [words]  # the third attempt says what the second did


def test_minutes_end_a_training_after_a_step_with_its_state_saved(trl: Any, base: Path, tmp_path: Path) -> None:
    made, told = plan(tmp_path, base, seconds=1e-9), []
    with pytest.raises(BudgetSpent, match="ended after step 1 of 11"):
        train(trl, made, told=told)
    assert len(told) == 1
    more = replace(made, seconds=3600.0)  # more minutes are no other training
    train(trl, more, told=told)
    assert [step for step, _ in told] == list(range(1, 12))


def test_a_run_out_of_minutes_is_no_preempted_one(base: Path, data: Path, tmp_path: Path) -> None:
    record = run(job(data, base, {"minutes": 1e-9}), tmp_path)
    assert record.failure is not None
    assert record.failure.kind is FailureKind.BUDGET
    assert not record.failure.kind.resumable
    assert RunFolder(tmp_path / "runs" / record.id).state.is_dir()


def kill(executor: LocalExecutor, folder: RunFolder, after: int, number: int) -> None:
    """Send a signal to the job's own process once ``after`` steps are in the journal."""
    process = None
    while executor.active():
        executor.wait(0.02)
        journal = folder.journal_file.read_text() if folder.journal_file.exists() else ""
        if journal.count("train_loss") < after:
            continue
        if process is None:
            (process,) = psutil.Process(json.loads(folder.lease_file.read_text())["pid"]).children()
            os.kill(process.pid, number)


def test_a_job_that_is_killed_and_terminated_goes_on_to_the_same_bits(base: Path, data: Path, tmp_path: Path) -> None:
    """Real processes, SIGKILL and SIGTERM; forked with TRL loaded, as a study's ``preload`` has it."""
    whole = job(data, base, preload=WORKLOAD.preload, steps=30)
    parts = job(data, base, preload=WORKLOAD.preload, steps=30)
    root = tmp_path / "runs"
    with contextlib.closing(LocalExecutor(root)) as executor:
        executor.submit([whole])
        drain(executor, 120)
        executor.submit([parts])
        folder = RunFolder(root / parts.id)
        for after, number, kind in (
            (7, signal.SIGKILL, FailureKind.KILLED),
            (20, signal.SIGTERM, FailureKind.PREEMPTED),
        ):
            kill(executor, folder, after, number)
            record = collect(folder)
            assert record.failure is not None
            assert record.failure.kind is kind, record.failure
            assert not folder.checkpoint.exists()
            executor.resume(parts.id)
        drain(executor, 120)
    assert collect(root / whole.id).status is Status.COMPLETED, collect(root / whole.id).failure
    record = collect(folder)
    assert (record.status, record.attempt) == (Status.COMPLETED, 3)
    for name in (ADAPTER, ADAPTER_CONFIG, adapter.MANIFEST):
        assert (folder.checkpoint / name).read_bytes() == (root / whole.id / "checkpoint" / name).read_bytes()
    assert record.values["tokens"] == collect(root / whole.id).values["tokens"]
