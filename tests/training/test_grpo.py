"""The own loop of GRPO: what it samples, what it learns from, and that it ends with the same bits however often it was
interrupted."""

from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rlvrverifiers
from rlvrjobs import AskedAfter, build_base, plan, sums
from windlass.errors import Diverged, Preempted, PreflightError
from windlass.records.task import Task
from windlass.training import llama, tensors
from windlass.training.rlvr import grpo, policy
from windlass.training.rlvr.plan import Course, Plan, Trained
from windlass.training.rlvr.sampling import Sampled, log_probabilities, sample
from windlass.training.rlvr.scoring import Judge
from windlass.training.rlvr.spec import Hyper
from windlass.training.text import Tokens
from windlass.verifiers import VerifierFailed, build

NOBODY = SimpleNamespace(now=False)  #: asks to end
SCORES = st.lists(st.lists(st.none() | st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=4, max_size=4), min_size=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(tmp_path_factory.mktemp("base"))


def judge(**spec: Any) -> Judge:
    return Judge(build(spec or {"kind": "exact"}))


def train(made: Plan, asked: Any = NOBODY, told: list[Any] | None = None, by: Judge | None = None) -> Trained:
    verifier = by or judge()
    return grpo.train(made, verifier, verifier, lambda *step: told.append(step) if told is not None else None, asked)


def deterministic(told: list[Any]) -> list[tuple[int, dict[str, float]]]:
    """What was told but for what depends on the clock."""
    return [(step, {name: v for name, v in found.items() if name != "tokens_per_second"}) for step, found in told]


# Sampling -------------------------------------------------------------------------------------------------------------


def drawn(base: Path, *, copies: int = 4, seed: int = 1, temperature: float = 1.0) -> tuple[llama.Llama, Sampled]:
    model, tokens = llama.load(base), Tokens(base)
    prompts = [tokens.encode(text) for text in ("1+1=", "7+", "3+4=")]
    generator = torch.Generator().manual_seed(seed)
    return model, sample(model, tokens, prompts, most=5, copies=copies, temperature=temperature, generator=generator)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_the_trainer_sees_the_log_probabilities_of_the_sampler(base: Path, temperature: float) -> None:
    model, found = drawn(base, temperature=temperature)
    now = log_probabilities(model, found, temperature)
    torch.testing.assert_close(now * found.kept, found.log_probabilities, rtol=0, atol=1e-5)


def test_what_is_drawn_depends_on_the_seed_alone(base: Path) -> None:
    texts = [drawn(base, seed=seed)[1].texts for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_nothing_counts_after_the_end_of_a_completion(base: Path) -> None:
    tokens, (_, found) = Tokens(base), drawn(base, copies=40)
    completions = found.ids[:, -found.length :].tolist()
    for ids, kept, text in zip(completions, found.kept.tolist(), found.texts, strict=True):
        length = ids.index(tokens.end) + 1 if tokens.end in ids else len(ids)
        assert kept == [1.0] * length + [0.0] * (len(ids) - length)
        assert set(ids[length:]) <= {tokens.pad}
        assert text == tokens.decode(ids)
    prompts = 40 * sum(len(tokens.encode(text)) for text in ("1+1=", "7+", "3+4="))
    assert found.tokens == prompts + int(found.kept.sum())
    assert found.unfinished(tokens.end) == pytest.approx(sum(tokens.end not in ids for ids in completions) / 120)


def test_temperature_0_takes_the_most_probable_token(base: Path) -> None:
    model, tokens = llama.load(base), Tokens(base)
    ids, text = tokens.encode("3+4="), sample(model, tokens, [tokens.encode("3+4=")], most=4, temperature=0).texts[0]
    while len(ids) < 8 and ids[-1] != tokens.end:
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids]), last=1).argmax()))
    assert text == tokens.decode(ids[4:])


# What there is to learn -----------------------------------------------------------------------------------------------


@given(SCORES)
def test_advantages_are_those_of_the_valid_scores_of_a_group(groups: list[list[float | None]]) -> None:
    found = grpo.advantages_of([score for group in groups for score in group], 4).view(-1, 4).tolist()
    for scores, advantages in zip(groups, found, strict=True):
        valid = [score for score in scores if score is not None]
        for score, advantage in zip(scores, advantages, strict=True):
            if score is None or len(set(valid)) < 2:
                assert advantage == 0
            else:
                wanted = (score - statistics.fmean(valid)) / (statistics.stdev(valid) + grpo.EPSILON)
                assert advantage == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("kl", [0.0, 0.5])
@pytest.mark.parametrize("chunk", [7, 10**6])
def test_what_is_left_out_of_a_lesson_changes_no_gradient(
    base: Path, monkeypatch: pytest.MonkeyPatch, kl: float, chunk: int
) -> None:
    """Against the loss as it is written, over every completion."""
    monkeypatch.setattr(grpo, "CHUNK", chunk)
    hyper = Hyper(generations=40, clip=0.1, kl=kl)
    model, found = drawn(base, copies=40)
    other = copied_with_noise(model, 1)
    scores = [float(text.startswith("1")) if row < 80 else 0.0 for row, text in enumerate(found.texts)]
    advantages = grpo.advantages_of(scores, 40)
    with torch.no_grad():
        before, reference = log_probabilities(copied_with_noise(model, 2), found), log_probabilities(other, found)

    now = log_probabilities(model, found)
    ratio, away = (now - before).exp(), reference - now
    written = -torch.min(ratio * advantages[:, None], ratio.clamp(0.9, 1.1) * advantages[:, None])
    written = written + kl * (away.exp() - 1 - away)
    wanted = torch.autograd.grad((written * found.kept).sum() / found.kept.sum(), list(model.parameters()))

    lesson = grpo.lesson_of(found, advantages, hyper)
    assert len(lesson.advantages) < (120 if kl else 80)
    parts = lesson.parts()
    assert (len(parts) > 1) == (chunk == 7)
    model.zero_grad()
    for part in parts:
        with torch.no_grad():
            then = log_probabilities(copied_with_noise(model, 2), part.sampled)
            far = log_probabilities(other, part.sampled) if kl else None
        loss, _ = part.loss(log_probabilities(model, part.sampled), then, far, hyper)
        loss.backward()  # type: ignore[no-untyped-call]
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


def copied_with_noise(model: llama.Llama, seed: int) -> llama.Llama:
    other, generator = llama.Llama(model.shape), torch.Generator().manual_seed(seed)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=generator))
    return other


def test_a_course_tells_dead_groups_from_solved_ones() -> None:
    course = Course()
    told = course.count([1, 1, 0, 0, 1, 0, None, None, 0.5, None], 2)
    assert told == {"reward": pytest.approx(3.5 / 7), "dead_groups": 0.8, "invalid": pytest.approx(0.3)}
    assert (course.groups, course.dead_groups, course.solved_groups) == (5, 4, 1)
    assert course.without_variance == 3 / 4
    assert (course.verdicts, course.invalid, course.step) == (10, 3, 1)
    solved = Course()
    solved.count([1, 1], 2)
    assert solved.without_variance == 1  # nothing but solved groups is no lesson either
    assert Course.from_json(course.to_json()) == course


def test_a_judge_judges_equal_completions_once_and_keeps_their_order() -> None:
    calls: list[tuple[str, str]] = []

    def verify(completion: str, task: Task) -> Any:
        calls.append((task.id, completion))
        return build({"kind": "exact"}).verify(completion, task)

    tasks = [Task(**row) for row in sums(2)]
    chosen = [tasks[0], tasks[0], tasks[3], tasks[3]]
    assert Judge(SimpleNamespace(verify=verify))(["0", "0", "0", "2"], chosen) == [1, 1, 0, 1]  # type: ignore[arg-type]
    assert calls == [("0+0", "0"), ("1+1", "0"), ("1+1", "2")]


def test_a_slow_verifier_judges_from_threads_and_says_the_same() -> None:
    tasks = [Task(**row) for row in sums(4)]
    by = judge(kind="function", function="rlvrverifiers:slow")
    answers = ["2"] * len(tasks)
    assert by(answers, tasks) == by(answers, tasks) == [rlvrverifiers.right("2", task) for task in tasks]


def test_what_a_verifier_raises_has_the_task_that_it_was_raised_at() -> None:
    with pytest.raises(VerifierFailed, match=r"raised KeyError on task '0\+1': 'answer'"):
        judge(kind="function", function="rlvrverifiers:raising")(["1"], [Task(**sums(2)[1])])


# Training -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, list[Any]]:
    told: list[Any] = []
    return train(plan(tmp_path_factory.mktemp("whole"), base, kl=0.01, updates=2), told=told), told


def test_training_raises_the_reward(base: Path, tmp_path: Path) -> None:
    made = plan(tmp_path, base, steps=100, batch=16, generations=8, learning_rate=1e-3, check_every=100)
    trained = train(made)
    first, last = (
        statistics.fmean(v for _, v in part) for part in (trained.course.rewards[:20], trained.course.rewards[-20:])
    )
    assert last > first + 0.05
    assert trained.course.drift < 1e-4
    assert trained.digest_before != trained.digest_after == tensors.digest(trained.weights)
    assert tensors.digest(policy.weights(policy.load(trained.folder, "cpu"))) == trained.digest_after


def test_a_step_tells_what_happened_in_it(uninterrupted: tuple[Trained, list[Any]]) -> None:
    trained, told = uninterrupted
    assert [step for step, _ in told] == list(range(9))
    assert set(told[0][1]) == {"check", "divergence"}
    always = {"reward", "loss", "grad_norm", "drift", "kl", "entropy", "dead_groups", "invalid", "clipped_length"}
    assert set(told[1][1]) == always | {"tokens", "tokens_per_second"}
    assert set(told[4][1]) == set(told[1][1]) | {"check", "divergence"}
    assert [found["tokens"] for _, found in told[1:]] == sorted({found["tokens"] for _, found in told[1:]})
    assert trained.course.checks == [(step, told[step][1]["check"]) for step in (0, 4, 8)]
    assert told[0][1]["divergence"] == 0 < told[8][1]["divergence"]


@pytest.mark.parametrize("at", [[0], [1], [2, 3], [7], [8]], ids=str)
def test_an_interrupted_training_gives_the_bits_of_an_uninterrupted_one(
    base: Path, uninterrupted: tuple[Trained, list[Any]], tmp_path: Path, at: list[int]
) -> None:
    whole, told = uninterrupted
    made, seen = plan(tmp_path, base, kl=0.01, updates=2), list[Any]()
    for step in at:
        with pytest.raises(Preempted, match=f"after (all 8 steps|step {step} of 8)"):
            train(made, AskedAfter(step, seen), seen)
    torch.manual_seed(len(at))  # random numbers of others play no part
    again = train(made, told=seen)
    assert again.digest_after == whole.digest_after
    assert deterministic(seen) == deterministic(told)
    assert (again.course, again.before, again.after) == (whole.course, whole.before, whole.after)


def test_a_training_that_dies_between_two_states_goes_on_from_the_last(
    base: Path, uninterrupted: tuple[Trained, list[Any]], tmp_path: Path
) -> None:
    made = plan(tmp_path, base, kl=0.01, updates=2)

    def die(step: int, found: Any) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grpo.train(made, judge(), judge(), die, NOBODY)
    seen: list[Any] = []
    assert train(made, told=seen).digest_after == uninterrupted[0].digest_after
    assert [step for step, _ in seen] == [4, 5, 6, 7, 8]  # the state of step 3 was the last


def test_another_seed_gives_other_weights(base: Path, uninterrupted: tuple[Trained, list[Any]], tmp_path: Path) -> None:
    other = train(plan(tmp_path, base, kl=0.01, updates=2, seed=8))
    assert other.digest_after != uninterrupted[0].digest_after


def test_products_in_16_bits_leave_the_weights_in_32(base: Path, tmp_path: Path) -> None:
    exact, rounded = (train(plan(tmp_path / p, base, precision=p, steps=6)) for p in ("float32", "bfloat16"))
    assert rounded.digest_after not in (rounded.digest_before, exact.digest_after)
    assert {weight.dtype for weight in rounded.weights.values()} == {torch.float32}
    seen: list[Any] = []
    made = plan(tmp_path / "parts", base, precision="bfloat16", steps=6)
    with pytest.raises(Preempted):
        train(made, AskedAfter(4, seen), seen)
    assert train(made).digest_after == rounded.digest_after


@pytest.mark.parametrize("field", ["data", "config", "base", "world_size"])
def test_what_changed_before_a_resume_is_refused(base: Path, tmp_path: Path, field: str) -> None:
    made, seen = plan(tmp_path, base), list[Any]()
    with pytest.raises(Preempted):
        train(made, AskedAfter(1, seen), seen)
    with pytest.raises(PreflightError, match=rf"{field} was .*, is other.*resume.changed"):
        train(dataclasses.replace(made, identity={**made.identity, field: "other"}))


def test_a_loss_that_is_not_finite_ends_the_training_at_its_step(base: Path, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"probabilities are NaN|the loss is nan"):
        train(plan(tmp_path, base, learning_rate=1e38))


def test_a_reward_that_is_always_0_changes_no_weight(base: Path, tmp_path: Path) -> None:
    """Neither does momentum, or decay: there is nothing to learn."""
    trained = train(plan(tmp_path, base), by=judge(kind="function", function="rlvrverifiers:always_zero"))
    assert trained.digest_after == trained.digest_before
    assert trained.course.without_variance == 1
    assert math.fsum(trained.course.losses) == 0
