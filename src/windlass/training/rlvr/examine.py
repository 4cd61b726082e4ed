"""Held-out tasks: greedy completions and their verdicts, and how far the model has gone from its base."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from windlass.records.task import Task
from windlass.training.rlvr.plan import Course, Examined, Plan, Scores
from windlass.training.rlvr.sampling import Decoder, log_probabilities, sample
from windlass.training.rlvr.scoring import Judge, mean_of
from windlass.training.text import Tokens

ROWS = 256  #: completions at a time


class Examiner:
    """Examines a model on held-out tasks. It draws no random number that training draws.

    ``checker`` is the independent verifier, or ``judge`` itself.
    """

    def __init__(self, plan: Plan, tokens: Tokens, judge: Judge, checker: Judge) -> None:
        self._plan, self._tokens, self._judge, self._checker = plan, tokens, judge, checker
        count = min(plan.check_tasks, len(plan.held_out))
        self._of_check = [number * len(plan.held_out) // count for number in range(count)]  # spread evenly

    def all(self, model: Decoder) -> Examined:
        """Every held-out task."""
        completions = complete(model, self._tokens, self._plan, self._plan.held_out)
        verified = self._judge(completions, self._plan.held_out)
        if self._checker is self._judge:
            return Examined(verified=verified, checked=verified)
        return Examined(verified=verified, checked=self._checker(completions, self._plan.held_out))

    def check(self, model: Decoder, base: Decoder, course: Course, known: Scores | None = None) -> dict[str, float]:
        """Some of the tasks, with the independent verifier; and the divergence. Adds both to ``course``.

        ``known`` are scores of the held-out tasks, where the model has just been examined.
        """
        tasks = [self._plan.held_out[number] for number in self._of_check]
        if known is None:
            scores = self._checker(complete(model, self._tokens, self._plan, tasks), tasks)
        else:
            scores = [known[number] for number in self._of_check]
        score, distance = mean_of(scores), self.divergence(model, base, tasks, course.step)
        course.checks.append((course.step, score))
        course.divergences.append(distance)
        return {"check": score, "divergence": distance}

    @torch.no_grad()
    def divergence(self, model: Decoder, base: Decoder, tasks: Sequence[Task], step: int) -> float:
        """KL(model || base) in nats a token, over one completion of each task that the model draws.

        By Schulman's estimator k3, (q/p - 1) - log(q/p) with p of the model and q of the base: unbiased, never negative
        (http://joschu.net/blog/kl-approx.html).
        """
        if step == 0:
            return 0.0
        hyper, total, count = self._plan.hyper, 0.0, 0.0
        generator = torch.Generator(model.device).manual_seed(seed_of(self._plan.seed, step, "divergence"))
        for start in range(0, len(tasks), ROWS):
            drawn = sample(
                model,
                self._tokens,
                [self._tokens.encode(self._plan.prompt(task)) for task in tasks[start : start + ROWS]],
                most=self._plan.max_new_tokens,
                temperature=hyper.temperature,
                generator=generator,
            )
            ratio = log_probabilities(base, drawn, hyper.temperature) - log_probabilities(
                model, drawn, hyper.temperature
            )
            total += float(((ratio.exp() - 1 - ratio) * drawn.kept).sum())
            count += float(drawn.kept.sum())
        return total / count


def complete(model: Decoder, tokens: Tokens, plan: Plan, tasks: Sequence[Task]) -> list[str]:
    """The most probable completion of each task, token by token."""
    prompts = [tokens.encode(plan.prompt(task)) for task in tasks]
    return greedy(model, tokens, prompts, plan.max_new_tokens)


def greedy(model: Decoder, tokens: Tokens, prompts: Sequence[Sequence[int]], most: int) -> list[str]:
    """(n,) completions of at most ``most`` tokens."""
    found: list[str] = []
    for start in range(0, len(prompts), ROWS):
        found += sample(model, tokens, prompts[start : start + ROWS], most=most, temperature=0).texts
    return found


def seed_of(seed: int, step: int, what: str = "") -> int:
    """For torch: of 63 bits, different for each seed, step and purpose."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}/{what}".encode()).digest()[:8], "big") >> 1
