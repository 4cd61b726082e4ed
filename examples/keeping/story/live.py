"""Live traffic: every scan is answered by the reader that ``lab.route`` names, and what became of it is recorded.

python live.py LAB COUNT [BRIGHTNESS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from reading import answer, load, read

import windlass
from windlass.records.deployment import Served, ServedOutcome

HERE = Path(__file__).resolve().parent
BATCH = 100

lab, count, brightness = windlass.Lab(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 1.0
table = read(HERE / "heldout.csv")
rng = np.random.default_rng(count)
readers: dict[str, dict[str, np.ndarray]] = {}
for batch in range(count // BATCH):
    served = []
    for i in rng.integers(len(table.digits), size=BATCH):
        route = lab.route("reader", key := f"scan {count} {batch} {len(served)}")
        reader = readers.setdefault(route.checkpoint, load(Path(route.path) / "reader.npz"))
        good = answer(reader, table.pixels[i : i + 1] * brightness)[0] == table.digits[i]
        outcome = ServedOutcome.ACCEPTED if good else ServedOutcome.REJECTED
        served.append(Served(checkpoint=route.checkpoint, role=route.role, outcome=outcome, key=key))
    for words in lab.keeping.observe("reader", served):
        print(f"after {(batch + 1) * BATCH} scans: {words}")
