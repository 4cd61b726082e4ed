"""GRPO by TRL: it is the own loop with another engine; it keeps silent about broken rewards, and Windlass does not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlvrjobs import AskedAfter, build_base, job, plan, run, sums, write
from windlass.errors import Diverged, Preempted, PreflightError
from windlass.records.run import FailureKind, Status
from windlass.runs.folder import RunFolder, read_json
from windlass.training import environment, models, tensors
from windlass.training.rlvr import checkpoint, grpo, policy, program
from windlass.training.rlvr.plan import Plan, Trained
from windlass.training.rlvr.sampling import log_probabilities, sample
from windlass.training.rlvr.scoring import Judge
from windlass.training.text import Tokens
from windlass.verifiers import build

NOBODY = SimpleNamespace(now=False)  #: asks to end
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(tmp_path_factory.mktemp("base"), steps=200)


@pytest.fixture(scope="module")
def trl() -> Any:
    environment.pin(1)
    from windlass.training.rlvr import trl

    return trl


def train(backend: Any, made: Plan, asked: Any = NOBODY, told: list[Any] | None = None) -> Trained:
    judge = Judge(build({"kind": "exact"}))
    found: Trained = backend.train(
        made, judge, judge, lambda *step: told.append(step) if told is not None else None, asked
    )
    return found


def apart(one: Trained, other: Trained, base: Path) -> float:
    """The largest difference of a log-probability between two models that came out.

    Their weights may differ more: where the gradient of one is nothing but rounding, as that of a token that is never
    said, Adam makes a full step of it.
    """
    tokens = Tokens(base)
    prompts = [tokens.encode(row["prompt"]) for row in sums()]
    said = sample(policy.load(base, "cpu"), tokens, prompts, most=3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = (log_probabilities(policy.load(trained.folder, "cpu"), said) for trained in (one, other))
    return float(((ours - theirs) * said.kept).abs().max())


# The same training by both --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hyper", [{}, {"updates": 3, "clip": 0.05, "temperature": 0.8}], ids=str)
def test_the_own_loop_takes_the_steps_of_trl(trl: Any, base: Path, tmp_path: Path, hyper: dict[str, Any]) -> None:
    """The same prompts, completions and scores; probabilities that differ by rounding. TRL is the oracle."""
    ours, theirs = (
        train(backend, plan(tmp_path / name, base, steps=4, **hyper)) for name, backend in (("own", grpo), ("trl", trl))
    )
    assert apart(ours, theirs, base) < 1e-5
    assert ours.digest_before == theirs.digest_before != theirs.digest_after
    same = ("rewards", "checks", "tokens", "verdicts", "dead_groups", "solved_groups")
    assert [getattr(ours.course, name) for name in same] == [getattr(theirs.course, name) for name in same]
    assert (ours.before, ours.after) == (theirs.before, theirs.after)
    assert theirs.course.drift < 1e-4


def test_the_divergence_from_the_base_is_held_down_by_both_alike(trl: Any, base: Path, tmp_path: Path) -> None:
    told: dict[str, list[Any]] = {"own": [], "trl": []}
    found = [
        train(backend, plan(tmp_path / name, base, steps=3, kl=0.3), told=told[name])
        for name, backend in (("own", grpo), ("trl", trl))
    ]
    for step in range(1, 4):
        ours, theirs = told["own"][step][1], told["trl"][step][1]
        assert set(ours) == set(theirs)
        for name in ("reward", "kl", "loss", "grad_norm", "clipped_length", "tokens", "dead_groups", "invalid"):
            assert ours[name] == pytest.approx(theirs[name], rel=0.02, abs=1e-4), name
    assert apart(*found, base) < 1e-5


def test_a_model_of_another_kind_is_trained_by_the_own_loop_as_well(trl: Any, base: Path, tmp_path: Path) -> None:
    """Through transformers: the sampler, the cache and the log-probabilities are those of TRL's steps."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path / "qwen"
    config = Qwen2Config(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=16,
        **{f"{role}_token_id": number for number, role in enumerate(("pad", "bos", "eos"))},
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((base / name).read_bytes())
    assert not policy.own(folder)
    ours, theirs = (
        train(backend, plan(tmp_path / name, folder, steps=3, max_new_tokens=6))
        for name, backend in (("own", grpo), ("trl", trl))
    )
    assert apart(ours, theirs, folder) < 1e-5
    assert ours.course.rewards == theirs.course.rewards
    assert tensors.digest(policy.weights(policy.load(ours.folder, "cpu"))) == ours.digest_after


# Interrupted ----------------------------------------------------------------------------------------------------------


def test_an_interrupted_training_gives_the_bits_of_an_uninterrupted_one(trl: Any, base: Path, tmp_path: Path) -> None:
    """Three updates a step: a state that is saved between two of them would not do."""
    told, seen = list[Any](), list[Any]()
    whole = train(trl, plan(tmp_path / "whole", base, steps=6, updates=3), told=told)
    parts = plan(tmp_path / "parts", base, steps=6, updates=3)
    for step in (2, 5, 6):
        with pytest.raises(Preempted, match=f"after (all 6 steps|step {step} of 6)"):
            train(trl, parts, AskedAfter(step, seen), seen)
    torch.manual_seed(1)
    again = train(trl, parts, told=seen)
    assert again.digest_after == whole.digest_after
    assert (again.course, again.before, again.after) == (whole.course, whole.before, whole.after)
    assert [step for step, _ in seen] == [step for step, _ in told] == list(range(7))
    with pytest.raises(PreflightError, match=r"resume.changed"):
        train(trl, plan(tmp_path / "parts", base, steps=6, updates=3, identity={"data": "other"}))


def test_a_loss_that_is_not_finite_ends_the_training(trl: Any, base: Path, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"at step 1 the loss is|probabilities are NaN"):
        made = plan(tmp_path, base, learning_rate=1e38)
        trainer = trl.Trainer(made, *[Judge(build({"kind": "exact"}))] * 2, lambda *_: None, NOBODY)
        trainer._compute_loss = lambda model, inputs: next(model.parameters()).sum() * math.nan
        trainer.train()


# What TRL keeps silent about ------------------------------------------------------------------------------------------


def bare(trl: Any, made: Plan, reward: Callable[[int], float | None], **changed: Any) -> tuple[Any, str, str]:
    """TRL's trainer as a script would use it, for two steps; what it returned, and digests of the weights."""
    from trl import GRPOTrainer

    model, tokenizer = models.load_model(made.model), models.load_tokenizer(made.model)
    before = tensors.digest(dict(model.named_parameters()))
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=[lambda completions, **_: [reward(number) for number in range(len(completions))]],
        args=trl.arguments(made, 2, **changed),
        train_dataset=trl.datasets.Dataset.from_list(trl.rows(made)),
        processing_class=tokenizer,
    )
    return trainer.train(), before, tensors.digest(dict(model.named_parameters()))


@pytest.mark.parametrize(
    ("reward", "verifier", "changes", "kind", "words"),
    [
        (lambda n: 0.0, "always_zero", False, FailureKind.UNHEALTHY, "weights_changed: no weight has changed"),
        (lambda n: None, "never_sure", False, FailureKind.UNHEALTHY, "verdicts_valid: "),
        (
            lambda n: math.nan if n == 0 else float(n % 2),
            "not_a_number",
            True,
            FailureKind.ERROR,
            "gave nan as a score",
        ),
        (lambda n: math.inf if n == 0 else float(n % 2), "infinite", True, FailureKind.ERROR, "gave inf as a score"),
    ],
    ids=["always 0", "None", "NaN", "infinite"],
)
def test_a_broken_reward_returns_normally_in_trl_and_is_refused_here(
    trl: Any,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reward: Callable[[int], float | None],
    verifier: str,
    changes: bool,
    kind: FailureKind,
    words: str,
) -> None:
    outcome, before, after = bare(trl, plan(tmp_path, base), reward)
    assert outcome.global_step == 2  # normally
    assert (before != after) == changes
    monkeypatch.setattr(program, "_audit", lambda plan, verifier, run: None)  # it would not come so far
    options = {"backend": "trl", "verifier": {"kind": "function", "function": f"rlvrverifiers:{verifier}"}}
    record = run(job(write(tmp_path / "tasks.jsonl", sums()), base, options, steps=2), tmp_path)
    assert record.failure is not None
    assert record.failure.kind is kind
    assert words in record.failure.message
    assert not RunFolder(tmp_path / "runs" / record.id).checkpoint.exists()


def test_unchanged_weights_return_normally_in_trl_and_are_refused_here(trl: Any, base: Path, tmp_path: Path) -> None:
    _, before, after = bare(trl, plan(tmp_path, base), lambda n: float(n % 2), learning_rate=1e-30)
    assert before == after
    data = write(tmp_path / "tasks.jsonl", sums())
    record = run(job(data, base, {"backend": "trl"}, steps=2, learning_rate=1e-30), tmp_path)
    assert record.failure is not None
    assert record.failure.kind is FailureKind.UNHEALTHY
    assert "weights_changed: no weight has changed" in record.failure.message


# A job ----------------------------------------------------------------------------------------------------------------


def test_a_job_leaves_what_one_of_the_own_loop_leaves(trl: Any, base: Path, tmp_path: Path) -> None:
    data, records = write(tmp_path / "tasks.jsonl", sums()), {}
    for backend in ("own", "trl"):
        records[backend] = run(job(data, base, {"backend": backend}, steps=3, learning_rate=1e-5), tmp_path)
        assert records[backend].status is Status.COMPLETED, records[backend].failure
    ours, theirs = records["own"], records["trl"]
    assert set(ours.values) == set(theirs.values)
    for name in ("score", "score_before", "reward_final", "tokens", "objective"):
        assert ours.values[name] == pytest.approx(theirs.values[name], abs=1e-4)
    folder = RunFolder(tmp_path / "runs" / theirs.id)
    assert folder.stdout_file.read_text() == ""
    assert read_json(folder.artifacts / "health.json")["healthy"]
    manifest = checkpoint.verify(folder.checkpoint)
    assert (manifest.backend, manifest.steps) == ("trl", 3)
    loaded = policy.load(folder.checkpoint, "cpu")  # by the own Llama
    assert manifest.tensors == tensors.digest(policy.weights(loaded))
