"""A small model that adds like a careless pupil, and tasks to teach it better: everything that the RLVR demo needs.

    python examples/rlvr/make_base.py FOLDER

writes FOLDER/tasks.jsonl (sums of two numbers below 100: "07+35=" is "042"), FOLDER/heldout.jsonl (a fifth of all
sums, which training never sees) and FOLDER/base/, a Llama with 0.1 million parameters. It was warmed up on
demonstrations of a teacher who forgets the carry in 65 of 100 sums: its most probable answer is right where there is
nothing to carry.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from windlass.datasets.splits import held_out
from windlass.datasets.tasks import write_tasks
from windlass.records.task import Task
from windlass.training import environment, small

FORGETS = 0.65  #: share of the demonstrations without a carry
DEMONSTRATIONS = 4  #: of each sum
HELD_OUT = 0.2


def tasks() -> list[Task]:
    return [
        Task(
            id=f"{a:02d}+{b:02d}",
            prompt=f"{a:02d}+{b:02d}=",
            expected=f"{a + b:03d}",
            metadata={"carry": "no" if careless(a, b) == f"{a + b:03d}" else "yes"},
        )
        for a in range(100)
        for b in range(100)
    ]


def careless(a: int, b: int) -> str:
    """The sum without a carry, digit by digit."""
    return f"{(a // 10 + b // 10) % 10 * 10 + (a % 10 + b % 10) % 10:03d}"


def demonstrations(learned_from: list[Task], seed: int) -> Iterator[tuple[str, str]]:
    draw = random.Random(seed)
    for task in learned_from:
        a, b = int(task.prompt[:2]), int(task.prompt[3:5])
        for _ in range(DEMONSTRATIONS):
            yield task.prompt, careless(a, b) if draw.random() < FORGETS else str(task.expected)


def make(folder: Path, steps: int = 1000, seed: int = 0) -> None:
    everything = tasks()
    aside = held_out([task.prompt for task in everything], HELD_OUT)
    train = [task for task, out in zip(everything, aside, strict=True) if not out]
    folder.mkdir(parents=True, exist_ok=True)
    write_tasks(folder / "tasks.jsonl", train)
    write_tasks(folder / "heldout.jsonl", [task for task, out in zip(everything, aside, strict=True) if out])
    small.build(folder / "base", characters="0123456789+=", hidden=64, layers=2, heads=4, context=16, seed=seed)
    small.warm_up(folder / "base", list(demonstrations(train, seed)), steps, batch=128, seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1000, help="of the warm-up")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    environment.pin(1)
    torch.set_num_threads(1)
    make(given.folder, given.steps, given.seed)
    print(f"written: {given.folder}/base, tasks.jsonl, heldout.jsonl", file=sys.stderr)


if __name__ == "__main__":
    main()
