"""Small real trainers, written to a folder by the tests that run them as jobs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

#: a deterministic objective with a short, config-dependent duration; standard library alone, no site-packages
QUADRATIC = """
import json, os, sys, time
spec = json.load(open(sys.argv[sys.argv.index("--spec") + 1]))
x, y = spec["config"]["x"], spec["config"]["y"]
with open("journal.jsonl", "a") as journal:
    for step in range(3):
        metrics = {"loss": x * x + y * y + 1 / (step + 1)}
        journal.write(json.dumps({"time": time.time(), "step": step, "metrics": metrics}) + "\\n")
time.sleep(float(spec["config"].get("seconds", 0)))
print(json.dumps({"metrics": {"loss": x * x + y * y}}))
"""


def quadratic_study(folder: Path, **changes: Any) -> dict[str, Any]:
    """A study file's data over QUADRATIC, which is written into ``folder``."""
    script = folder / "quadratic.py"
    script.write_text(QUADRATIC)
    study: dict[str, Any] = {
        "name": "quadratic",
        "trainer": {"command": [sys.executable, "-I", "-S", str(script)]},
        "space": {
            "x": {"type": "float", "low": -2.0, "high": 2.0},
            "y": {"type": "float", "low": -2.0, "high": 2.0},
        },
        "baseline": {"x": 1.0, "y": 1.0},
        "objectives": [{"metric": "loss", "direction": "minimize", "scale": 0.1}],
        "budget": {"runs": 12},
        "seed": 3,
    }
    return {**study, **changes}


#: counts to six, saving each step; ``ends``: steps at which it says that it was preempted; ``hold``: the step at which
#: it waits to be asked to end. Each start leaves an x in ``count``
COUNTING = """
import json, os, signal, sys, time
config = json.load(open(sys.argv[sys.argv.index("--spec") + 1]))["config"]
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
with open("count", "a") as file:
    file.write("x")
step = int(open("state/step").read()) if os.path.exists("state/step") else 0
while step < 6:
    step += 1
    with open("journal.jsonl", "a") as journal:
        metrics = {"loss": 1 / step, "tokens": 100 * step}
        journal.write(json.dumps({"time": time.time(), "step": step, "metrics": metrics}) + "\\n")
    os.makedirs("state", exist_ok=True)
    with open("state/part", "w") as file:
        file.write(str(step))
    os.rename("state/part", "state/step")
    while step == config.get("hold") and not asked:
        time.sleep(0.005)
    if asked or step in config.get("ends", ()):
        print("saved at step", step, file=sys.stderr)
        sys.exit(143)
print(json.dumps({"metrics": {"loss": 1 / step}}))
"""
