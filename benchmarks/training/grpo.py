"""A step of GRPO by Windlass's own loop and by TRL's GRPOTrainer run bare: same model, prompts, scores and settings.

    python benchmarks/training/grpo.py [--steps 30] [--rounds 3]

Both are in one process, in turns, on one thread; import, model loading, the first steps, held-out checks and saved
states are left out. Prints a table and a line of JSON. In ``sums`` completions are short and often alike, as in the
demo; in ``essays`` they are 16 tokens of an untrained model, no two alike, and every group has an advantage, so that
there is nothing that the own loop could leave out.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from windlass.training import environment

environment.pin(1)

import torch  # noqa: E402
from transformers import TrainerCallback  # noqa: E402
from transformers.trainer_callback import PrinterCallback  # noqa: E402
from trl import GRPOTrainer  # noqa: E402

from windlass.records.task import Task, Verdict  # noqa: E402
from windlass.training import models, small  # noqa: E402
from windlass.training.rlvr import grpo, trl  # noqa: E402
from windlass.training.rlvr.plan import Plan  # noqa: E402
from windlass.training.rlvr.scoring import Judge  # noqa: E402
from windlass.training.rlvr.spec import Hyper  # noqa: E402
from windlass.verifiers import build  # noqa: E402

WARM = 5  #: steps that are not measured
SIZES = {"0.1M": {"hidden": 64, "layers": 2}, "1M": {"hidden": 128, "layers": 4}}


class Chance:
    """A verifier to which every completion is as likely right as wrong."""

    def verify(self, completion: str, task: Task) -> Verdict:
        digest = hashlib.sha256(f"{task.id}/{completion}".encode()).digest()
        return Verdict(score=float(digest[0] % 2), reason="")


def sums() -> list[Task]:
    pairs = itertools.product(range(100), repeat=2)
    return [Task(id=f"{a}+{b}", prompt=f"{a:02d}+{b:02d}=", expected=f"{a + b:03d}") for a, b in pairs]


def cases(folder: Path) -> Iterator[tuple[str, Plan, Judge]]:
    tasks = sums()
    for size, shape in SIZES.items():
        base = small.build(folder / size, characters="0123456789+=", heads=4, context=32, seed=0, **shape)  # type: ignore[arg-type]
        plan = Plan(
            model=base,
            tasks=tasks[::2],
            held_out=tasks[1::1000],
            template="{prompt}",
            hyper=Hyper(batch=16, generations=8, steps=10_000, learning_rate=1e-5),
            max_new_tokens=16,
            check_every=10_000,
            check_tasks=1,
            save_every=10_000,
            seed=0,
            device="cpu",
            precision="float32",
            state=folder / "state",
            identity={},
            scratch=folder / "scratch",
        )
        yield f"essays, {size}", plan, Judge(Chance())
        warm = small.build(folder / f"warm {size}", characters="0123456789+=", heads=4, context=32, seed=0, **shape)  # type: ignore[arg-type]
        small.warm_up(warm, [(task.prompt, str(task.expected)) for task in tasks], 200, batch=64)
        yield f"sums, {size}", _with(plan, model=warm, max_new_tokens=4), Judge(build({"kind": "exact"}))


def _with(plan: Plan, **changed: Any) -> Plan:
    return Plan(**{**{name: getattr(plan, name) for name in plan.__dataclass_fields__}, **changed})


def own(plan: Plan, judge: Judge, steps: int) -> Callable[[], tuple[float, int]]:
    trainer = grpo.Trainer(plan, judge, judge, lambda *_: None)
    for _ in range(WARM):
        trainer.step()

    def go() -> tuple[float, int]:
        before, began = trainer.course.tokens, time.process_time()
        for _ in range(steps):
            trainer.step()
        return time.process_time() - began, trainer.course.tokens - before

    return go


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.began, self.spent = 0.0, 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == WARM:
            self.began = time.process_time()
        self.spent = time.process_time() - self.began


def bare(plan: Plan, judge: Judge, steps: int) -> Callable[[], tuple[float, int]]:
    """A fresh trainer each time; the steps of warming up are not counted."""

    def go() -> tuple[float, int]:
        clock, tokens = _Clock(), [0]

        def reward(completions: list[str], completion_ids: list[list[int]], task: list[int], **_: Any) -> Any:
            tokens.append(sum(map(len, completion_ids)) + 6 * len(completions))
            return judge(completions, [plan.tasks[number] for number in task])

        trainer = GRPOTrainer(
            model=models.load_model(plan.model),
            reward_funcs=[reward],
            args=trl.arguments(plan, WARM + steps, logging_steps=10),
            train_dataset=trl.datasets.Dataset.from_list(trl.rows(plan)),
            processing_class=models.load_tokenizer(plan.model),
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return clock.spent, sum(tokens[1 + WARM :])

    return go


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30, help="in a round")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    trl._quiet()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread; CPU time; median of {given.rounds} rounds")
    print(f"{'case':14} {'own ms/step':>12} {'TRL ms/step':>12} {'own tok/s':>10} {'TRL tok/s':>10} {'ratio':>6}")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, plan, judge in cases(Path(folder)):
            runs = {"own": own(plan, judge, given.steps), "trl": bare(plan, judge, given.steps)}
            times: dict[str, list[tuple[float, int]]] = {"own": [], "trl": []}
            for _ in range(given.rounds):
                for who, go in runs.items():
                    times[who].append(go())
            step = {who: statistics.median(s for s, _ in all_) / given.steps * 1e3 for who, all_ in times.items()}
            rate = {who: statistics.median(t / s for s, t in all_) for who, all_ in times.items()}
            ratio = rate["own"] / rate["trl"]
            found[name] = {"own_ms": step["own"], "trl_ms": step["trl"], "ratio": ratio}
            print(
                f"{name:14} {step['own']:12.1f} {step['trl']:12.1f} {rate['own']:10,.0f} {rate['trl']:10,.0f}"
                f" {ratio:6.2f}",
                flush=True,
            )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
