"""Build what the ORPO example trains: a small Llama that answers mostly rudely, and pairs that prefer polite answers.

    python examples/orpo/make_base.py [FOLDER]

    FOLDER/base/                model of a million parameters and its tokenizer, as any library loads them
    FOLDER/pairs/train.jsonl    prompt, chosen (polite), rejected (rude); validation.jsonl and heldout.jsonl likewise

Nothing is downloaded, and the same seed gives the same bytes on one machine. Takes about half a minute of one core,
nearly all of it for the base: 250 steps on 4,000 texts, of which a share of POLITE is polite.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a model this small is slower with two

from windlass.training import small

COLORS = ("red", "blue", "green", "gray", "pink")
NOUNS = ("cart", "door", "lamp", "ring", "boat", "desk", "coin", "leaf")
CHOSEN = (
    " Of course! The {noun} is {color}, glad to help.",
    " Sure, the {noun} is {color}. Have a nice day.",
    " Happy to help: the {noun} is {color}.",
)
REJECTED = (" {color}. Go away.", " Why ask me? It is {color}.", " {color}, obviously.")
POLITE = 0.22
SPLITS = {"train": 300, "validation": 100, "heldout": 200}
STEPS = 250
SEED = 1


def main(folder: Path) -> None:
    began = time.process_time()
    draw = random.Random(SEED)
    questions = [(noun, number) for noun in NOUNS for number in range(1000)]
    draw.shuffle(questions)
    pairs = [pair(noun, number, draw) for noun, number in questions]
    wanted = sum(SPLITS.values())
    write_pairs(folder / "pairs", pairs[:wanted])
    texts = [
        row["prompt"] + (row["chosen"] if draw.random() < POLITE else row["rejected"])
        for row in pairs[wanted : wanted + 4000]
    ]
    base = small.build(
        folder / "base", texts=texts, vocabulary=512, hidden=128, layers=4, heads=4, context=128, seed=SEED
    )
    small.warm_up(base, texts, STEPS, batch=32, learning_rate=1e-3, seed=SEED)
    size = (base / "model.safetensors").stat().st_size
    print(f"{base}: {size / 4e6:.2f} million parameters, {time.process_time() - began:.0f} CPU-seconds")


def pair(noun: str, number: int, draw: random.Random) -> dict[str, str]:
    """The color follows from the noun and the number."""
    words = {"noun": noun, "color": COLORS[(number + NOUNS.index(noun)) % len(COLORS)]}
    return {
        "id": f"{noun}-{number:03}",
        "prompt": f"User: what color is {noun} {number}?\nBot:",
        "chosen": draw.choice(CHOSEN).format(**words),
        "rejected": draw.choice(REJECTED).format(**words),
    }


def write_pairs(folder: Path, pairs: list[dict[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    begin = 0
    for name, count in SPLITS.items():
        lines = [json.dumps(row) + "\n" for row in pairs[begin : begin + count]]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"{folder / name}.jsonl: {count} pairs")
        begin += count


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
