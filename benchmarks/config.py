"""What a config costs: from a proposal to a valid config, without and with its two files, beside bare writes."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from windlass.errors import ConfigRejected
from windlass.records.run import RunSpec, make_run_id
from windlass.records.studyfile import StudyFile
from windlass.runs.folder import RunFolder
from windlass.space.check import check_study
from windlass.space.generate import ConfigGenerator
from windlass.space.space import Space

PROPOSALS = 2_000
STUDY = """\
name: config
trainer: {command: python train.py}
space:
  model: {type: categorical, choices: [svm, forest, mlp]}
  svm.C: {type: float, low: 0.01, high: 1000, log: true, when: {model: svm}}
  svm.gamma: {type: float, low: 1e-5, high: 1, log: true, when: {model: svm}}
  forest.trees: {type: int, low: 20, high: 500, log: true, when: {model: forest}}
  mlp.layers: {type: int, low: 1, high: 6, when: {model: mlp}}
  mlp.width: {type: int, low: 8, high: 512, log: true, when: {model: mlp}}
  optimizer.lr: {type: float, low: 1e-5, high: 0.1, log: true}
  train: {type: float, low: 0.5, high: 0.9}
  validation: {type: float, low: 0.05, high: 0.3}
  test: {type: float, low: 0.05, high: 0.3}
  augment: {type: set, choices: [flip, crop, blur, jitter], max_size: 3}
  bias: {type: bool}
rules:
  - train + validation + test == 1
  - model != 'mlp' or mlp.layers * mlp.width <= 2048
constraints:
  - {name: slow-forest, forbid: {forest.trees: {min: 400}, augment: {contains: [blur]}}}
  - {name: hot, forbid: {optimizer.lr: {min: 0.05}, model: mlp}}
  - {name: flat, forbid: {svm.gamma: {max: 2e-5}, svm.C: {max: 0.02}}}
  - {name: deep, allow: {mlp.layers: {max: 5}}}
  - {name: share, allow: {test: {max: 0.29}}}
baseline:
  optimizer: {name: adam, betas: [0.9, 0.999], weight_decay: 0.01}
  data: {path: data/train.parquet, workers: 2, shuffle: true}
  epochs: 20
objectives: [{metric: loss, direction: minimize}]
"""


def milliseconds(work: Callable[[Any], object], items: Iterable[Any]) -> float:
    """Median over the items."""
    times = []
    for item in items:
        began = time.perf_counter()
        work(item)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    study = StudyFile(STUDY).study()
    assert not check_study(study)
    space, generator = Space.of(study), ConfigGenerator(study)
    points = np.random.default_rng(0).random((PROPOSALS, space.dimensions))
    proposals = [space.repair(space.decode(point)) for point in points]
    valid = []
    for values in proposals:
        try:
            valid.append((values, generator.generate(values)))
        except ConfigRejected:
            continue

    def generate(values: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return generator.generate(values)
        except ConfigRejected:
            return None

    decode = milliseconds(lambda point: space.repair(space.decode(point)), points)
    plain = milliseconds(generate, proposals)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)

        def spec(number: int, config: dict[str, Any]) -> RunSpec:
            run_id = make_run_id(0.0, "config", {"config": config, "number": number})
            return RunSpec(id=run_id, name="config", created=0.0, config=config, number=number)

        def generate_and_write(numbered: tuple[int, dict[str, Any]]) -> None:
            made = spec(numbered[0], generator.generate(numbered[1]))
            RunFolder(root / made.id).create(made)

        with_files = milliseconds(generate_and_write, enumerate(values for values, _ in valid))
        written = [[file.read_bytes() for file in sorted(folder.iterdir())] for folder in root.iterdir()]
        bare = root / "bare"
        bare.mkdir()

        def write(numbered: tuple[int, list[bytes]]) -> None:
            for part, data in enumerate(numbered[1]):
                fd = os.open(bare / f"{numbered[0]}.{part}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                os.write(fd, data)
                os.close(fd)

        bare_write = milliseconds(write, enumerate(written))
    read = milliseconds(lambda _: check_study(StudyFile(STUDY).study()), range(20))

    rows = [
        row("decode and repair a point of 15 dimensions", decode),
        row(f"generate a config ({len(valid)} of {PROPOSALS} proposals valid)", plain),
        row("generate and write config.yaml and spec.json", with_files, f"bare write {bare_write:.3f} ms", bare_write),
        row(f"read and check a study file of {len(STUDY.splitlines())} lines", read),
    ]
    if args.json:
        print(json.dumps(rows))
        return
    for item in rows:
        print(f"{item['name']:60} {item['value']:8.3f} {item['unit']}   {item['reference']}")


def row(name: str, value: float, reference: str = "", limit: float | None = None) -> dict[str, object]:
    ratio = value / limit if limit else None
    return {"name": name, "value": value, "unit": "ms", "reference": reference, "ratio": ratio}


if __name__ == "__main__":
    main()
