"""Group relative policy optimisation (GRPO; Shao et al. 2024, arXiv:2402.03300) on torch alone.

A step draws ``batch`` prompts and ``generations`` completions of each, a group. With r the scores of a group, its
completions have the advantage A = (r - mean(r)) / (std(r) + 1e-4). The loss, over all tokens t of the step's
completions (token-level, as in DAPO, arXiv:2503.14476),

    - sum_t min(rho_t A, clip(rho_t, 1 - clip, 1 + clip) A) / T + kl sum_t k3_t / T

has rho = exp(log p - log p of the first update), T the number of tokens, and k3 = exp(d) - 1 - d with
d = log p(base) - log p, Schulman's estimator of the divergence from the base model.

Two things are left out because they change nothing: completions without an advantage, where ``kl`` is 0, and
completions of a group that repeat another one, which then counts as many times.

A step's random numbers depend on the seed and the step alone: model, optimizer and step are all that a resume needs to
end with the bits of an uninterrupted training.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from windlass.errors import Diverged, Preempted
from windlass.training import tensors
from windlass.training.rlvr import policy
from windlass.training.rlvr.examine import Examiner, seed_of
from windlass.training.rlvr.plan import Asked, Course, Examined, Plan, Tell, Trained
from windlass.training.rlvr.sampling import Decoder, Sampled, log_probabilities, sample
from windlass.training.rlvr.scoring import Judge
from windlass.training.rlvr.spec import Hyper
from windlass.training.state import TrainingState, flatten, unflatten
from windlass.training.text import Tokens

EPSILON = 1e-4  #: added to a group's standard deviation, as in TRL
CHUNK = 16_384  #: tokens in one forward and backward pass, padding counted


def train(plan: Plan, judge: Judge, checker: Judge, tell: Tell, asked: Asked) -> Trained:
    """Examine, train from the last saved state (if there is one), examine again.

    The same plan gives the same weights, to the bit, however often it was interrupted.

    Raises Preempted where ``asked`` to end, with the state saved; Diverged where a loss or gradient is not finite;
    PreflightError ``resume.changed`` for a state of another training; and what a verifier raises.
    """
    trainer = Trainer(plan, judge, checker, tell)
    while trainer.course.step < plan.hyper.steps:
        if asked.now:
            trainer.save()
            raise Preempted(f"asked to end after step {trainer.course.step} of {plan.hyper.steps}; the state is saved")
        trainer.step()
        if plan.saves_at(trainer.course.step):
            trainer.save()
    trained = trainer.finish()
    if asked.now:
        raise Preempted(f"asked to end after all {plan.hyper.steps} steps, before the outcome was recorded")
    return trained


class Trainer:
    """A plan under way."""

    def __init__(self, plan: Plan, judge: Judge, checker: Judge, tell: Tell) -> None:
        self._plan, self._judge, self._tell = plan, judge, tell
        self._tokens = Tokens(plan.model)
        self._examiner = Examiner(plan, self._tokens, judge, checker)
        self._prompts = [self._tokens.encode(plan.prompt(task)) for task in plan.tasks]
        self._state = TrainingState(plan.state, plan.identity)
        saved = self._state.load()
        self._base = policy.load(plan.model, plan.device, plan.precision)
        self._model: Decoder = copy.deepcopy(self._base)
        policy.module(self._base).requires_grad_(False)
        self._digest_before = tensors.digest(policy.weights(self._base))
        hyper = plan.hyper
        self._optimizer = torch.optim.AdamW(
            policy.module(self._model).parameters(), hyper.learning_rate, weight_decay=0.0, fused=True
        )
        if saved is None:
            self.course = Course()
            self._before = self._examiner.all(self._model)
            self._tell(0, self._examiner.check(self._model, self._base, self.course, self._before.checked))
        else:
            self.course = Course.from_json(saved.numbers["course"])
            self._before = Examined(**saved.numbers["before"])
            found = unflatten(saved.tensors, saved.numbers["rest"])
            policy.module(self._model).load_state_dict(found["model"])
            self._optimizer.load_state_dict(found["optimizer"])

    def step(self) -> None:
        """One batch: sample, judge, update."""
        plan, hyper, course, began = self._plan, self._plan.hyper, self.course, time.monotonic()
        chosen = plan.drawn(course.step)
        sampled = sample(
            self._model,
            self._tokens,
            [self._prompts[number] for number in chosen],
            most=plan.max_new_tokens,
            copies=hyper.generations,
            temperature=hyper.temperature,
            generator=torch.Generator(self._model.device).manual_seed(seed_of(plan.seed, course.step)),
        )
        scores = self._judge(sampled.texts, [plan.tasks[number] for number in chosen for _ in range(hyper.generations)])
        advantages = advantages_of(scores, hyper.generations)
        updated = self._update(lesson_of(sampled, advantages.to(sampled.ids.device), hyper))
        counted = course.count(scores, hyper.generations)
        course.losses.append(updated["loss"])
        course.tokens += sampled.tokens
        course.drift = max(course.drift, updated["drift"])
        metrics = {
            **counted,
            **updated,
            "entropy": float(-sampled.log_probabilities.sum() / sampled.kept.sum()),
            "clipped_length": sampled.unfinished(self._tokens.end),
            "tokens": course.tokens,
        }
        if plan.checks_at(course.step):
            metrics |= self._examiner.check(self._model, self._base, course)
        self._tell(course.step, {**metrics, "tokens_per_second": sampled.tokens / (time.monotonic() - began)})

    def _update(self, lesson: Lesson) -> dict[str, float]:
        """The weights, ``updates`` times. Nothing to learn is nothing to change."""
        hyper, found = self._plan.hyper, {"loss": 0.0, "grad_norm": 0.0, "drift": 0.0}
        if hyper.kl:
            found["kl"] = 0.0
        if not len(lesson.sampled.ids):
            return found
        parts = lesson.parts()
        before: list[Tensor] = []
        with torch.no_grad():
            base = (
                [log_probabilities(self._base, part.sampled, hyper.temperature) for part in parts] if hyper.kl else []
            )
        for update in range(hyper.updates):
            self._optimizer.zero_grad(set_to_none=True)
            loss = divergence = 0.0
            for number, part in enumerate(parts):
                now = log_probabilities(self._model, part.sampled, hyper.temperature)
                if update == 0:
                    before.append(now.detach())
                    off = (before[number] - part.sampled.log_probabilities).abs() * part.sampled.kept
                    found["drift"] = max(found["drift"], float(off.max()))
                value, kl = part.loss(now, before[number], base[number] if base else None, hyper)
                value.backward()  # type: ignore[no-untyped-call]
                loss += float(value.detach())
                divergence += kl
            parameters = policy.module(self._model).parameters()
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, hyper.max_grad_norm))
            if not (abs(loss) < float("inf") and norm < float("inf")):
                raise Diverged(f"at step {self.course.step + 1} the loss is {loss}, the gradient's norm {norm}")
            self._optimizer.step()
            if update == 0:
                found |= {"loss": loss, "grad_norm": norm} | ({"kl": divergence} if hyper.kl else {})
        return found

    def save(self) -> None:
        held, rest = flatten(
            {"model": policy.module(self._model).state_dict(), "optimizer": self._optimizer.state_dict()}
        )
        numbers: dict[str, Any] = {
            "rest": rest,
            "course": self.course.to_json(),
            "before": self._before.to_json(),
        }
        self._state.save(self.course.step, held, numbers)

    def finish(self) -> Trained:
        """Examine what came out, and write it into the scratch folder."""
        now = policy.weights(self._model)
        folder = self._plan.scratch / "model"
        policy.save(self._model, self._plan.model, folder)
        return Trained(
            course=self.course,
            before=self._before,
            after=self._examiner.all(self._model),
            weights=now,
            digest_before=self._digest_before,
            digest_after=tensors.digest(now),
            folder=folder,
        )


def advantages_of(scores: Sequence[float | None], generations: int) -> Tensor:
    """(N,) of completions in groups. What could not be judged is left out of its group, and has the advantage 0.

    Exactly 0, too, in a group of one score, which rounding might hide.
    """
    rewards = torch.tensor([math.nan if score is None else score for score in scores]).view(-1, generations)
    valid = ~rewards.isnan()
    count = valid.sum(1, keepdim=True)
    off = (rewards - rewards.nanmean(1, keepdim=True)).masked_fill(~valid, 0.0)
    deviation = (off.square().sum(1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    known = rewards.nan_to_num(0.0)
    low = known.masked_fill(~valid, math.inf).amin(1, keepdim=True)
    high = known.masked_fill(~valid, -math.inf).amax(1, keepdim=True)
    return (off / (deviation + EPSILON)).masked_fill(low >= high, 0.0).view(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """M different completions from which there is something to learn."""

    sampled: Sampled
    advantages: Tensor  #: (M, 1)
    counts: Tensor  #: (M, 1) float: how often each was drawn
    total: Tensor  #: tokens of all completions of the step, those that are left out too

    def loss(self, now: Tensor, before: Tensor, base: Tensor | None, hyper: Hyper) -> tuple[Tensor, float]:
        """The loss's part of these completions, and their part of the mean divergence.

        ``now``, ``before`` and ``base`` are (M, C) log-probabilities.
        """
        ratio, weight = (now - before).exp(), self.counts * self.sampled.kept / self.total
        clipped = ratio.clamp(1 - hyper.clip, 1 + hyper.clip)
        loss = -(torch.min(ratio * self.advantages, clipped * self.advantages) * weight).sum()
        if base is None:
            return loss, 0.0
        away = base - now
        divergence = ((away.exp() - 1 - away) * weight).sum()
        return loss + hyper.kl * divergence, float(divergence.detach())

    def parts(self) -> list[Lesson]:
        """Of at most CHUNK tokens each, so that memory does not grow with the batch."""
        rows = max(1, CHUNK // self.sampled.ids.shape[1])
        if len(self.advantages) <= rows:
            return [self]
        every = torch.arange(len(self.advantages), device=self.advantages.device)
        return [self.of(part) for part in torch.split(every, rows)]

    def of(self, rows: Tensor) -> Lesson:
        return Lesson(
            sampled=self.sampled.of(rows),
            advantages=self.advantages[rows],
            counts=self.counts[rows],
            total=self.total,
        )


def lesson_of(sampled: Sampled, advantages: Tensor, hyper: Hyper) -> Lesson:
    """Each different completion of a group once; those without an advantage only where ``kl`` is to be learned from."""
    first: dict[tuple[int, ...], int] = {}
    drawn: list[int] = []
    for row, completion in enumerate(sampled.ids[:, -sampled.length :].tolist()):
        place = first.setdefault((row // hyper.generations, *completion), row)
        drawn.append(place)
    counts = torch.bincount(torch.tensor(drawn), minlength=len(drawn))
    taught = counts > 0
    if not hyper.kl:
        taught &= advantages.cpu() != 0
    rows = taught.nonzero()[:, 0].to(sampled.ids.device)
    return Lesson(
        sampled=sampled.of(rows),
        advantages=advantages[rows, None],
        counts=counts.to(rows.device)[rows, None].float(),
        total=sampled.kept.sum(),
    )
