"""A trainer in plain Python, without Windlass: logistic regression on wine.csv by gradient descent.

    windlass trainers check --config '{"epochs": 400}' --data wine.csv python train.py

It keeps every point of the trainer contract (docs/trainers.md): the spec is read, its data are checked, metrics go to
journal.jsonl, state/ holds what a new attempt goes on from, SIGTERM ends it with exit code 143, and the one JSON result
goes to stdout.
"""

import argparse
import csv
import hashlib
import json
import math
import os
import signal
import sys
from pathlib import Path

DEFAULTS = {"learning_rate": 0.5, "epochs": 400, "l2": 0.0001}
PREFLIGHT, PREEMPTED = 3, 143


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--output-dir", type=Path, required=True)
    args = parser.parse_args()
    spec = json.loads(args.spec.read_text())
    unknown = set(spec["config"]) - set(DEFAULTS)
    if unknown:
        return refuse(f"unknown parameters: {', '.join(sorted(unknown))}; known: {', '.join(DEFAULTS)}")
    data = Path(spec["data"][0]) if spec["data"] else Path(__file__).with_name("wine.csv")
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    if spec["fingerprints"].get("data", digest) != digest:
        return refuse(f"{data.name} is {digest[:12]}, not {spec['fingerprints']['data'][:12]} as the spec says")
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    config = {**DEFAULTS, **spec["config"]}
    train, test = read(data)
    state = args.output_dir / "state" / "weights.json"
    weights, first = [0.0] * len(train[0][0]), 0
    if state.exists():
        saved = json.loads(state.read_text())
        weights, first = saved["weights"], saved["epoch"]
        print(f"going on after epoch {first}", file=sys.stderr)
    with open(args.output_dir / "journal.jsonl", "a", buffering=1) as journal:
        for epoch in range(first + 1, config["epochs"] + 1):
            weights = step(weights, train, config)
            loss, accuracy = score(weights, test)
            journal.write(json.dumps({"step": epoch, "metrics": {"log_loss": loss, "accuracy": accuracy}}) + "\n")
            save(state, {"weights": weights, "epoch": epoch})
            if asked and epoch < config["epochs"]:
                print(f"asked to end: saved after epoch {epoch}", file=sys.stderr)
                return PREEMPTED
    checkpoint = args.output_dir / "checkpoint" / "weights.json"
    save(checkpoint, weights)
    loss, accuracy = score(weights, test)
    print(json.dumps({"metrics": {"log_loss": loss, "accuracy": accuracy}, "identity": spec["identity"]}))
    return 0


def read(path: Path) -> tuple[list, list]:
    """Rows of (features with a leading 1, whether it is the first cultivar); every fifth is held out."""
    with path.open() as file:
        rows = [[float(value) for value in row] for row in list(csv.reader(file))[1:]]
    columns = list(zip(*(row[:-1] for row in rows), strict=True))
    means = [sum(column) / len(rows) for column in columns]
    spreads = [math.sqrt(sum((v - m) ** 2 for v in c) / len(rows)) for c, m in zip(columns, means, strict=True)]
    scaled = [
        ([1.0, *((v - m) / s for v, m, s in zip(row, means, spreads, strict=False))], float(row[-1] == 0))
        for row in rows
    ]
    return [row for i, row in enumerate(scaled) if i % 5], scaled[::5]


def probability(weights: list, x: list) -> float:
    return 1 / (1 + math.exp(-sum(w * v for w, v in zip(weights, x, strict=True))))


def step(weights: list, rows: list, config: dict) -> list:
    gradient = [config["l2"] * w for w in weights]
    for x, y in rows:
        error = (probability(weights, x) - y) / len(rows)
        gradient = [g + error * v for g, v in zip(gradient, x, strict=True)]
    return [w - config["learning_rate"] * g for w, g in zip(weights, gradient, strict=True)]


def score(weights: list, rows: list) -> tuple[float, float]:
    predicted = [(probability(weights, x), y) for x, y in rows]
    loss = -sum(math.log(max(p if y else 1 - p, 1e-15)) for p, y in predicted) / len(rows)
    return loss, sum((p > 0.5) == (y == 1) for p, y in predicted) / len(rows)


def save(path: Path, content: object) -> None:
    """Aside, then renamed: a kill in between leaves the old file whole."""
    path.parent.mkdir(exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(content))
    os.replace(beside, path)


def refuse(why: str) -> int:
    print(why, file=sys.stderr)
    return PREFLIGHT


if __name__ == "__main__":
    sys.exit(main())
