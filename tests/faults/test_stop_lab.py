"""A study with early stopping, through the command line: what it saves, and a ``kill -9`` in the middle of a stop."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

from processes import make_lab, processes_of, start_windlass, until, windlass

#: sixty steps towards x * x, or, of every second run from the fourth on, towards something hopeless
SLOW = """
import json, sys, time
spec = json.load(open(sys.argv[sys.argv.index("--spec") + 1]))
final = spec["config"]["x"] ** 2 + (9.0 if spec["number"] in (4, 6, 8, 10) else 0.0)
with open("journal.jsonl", "a", buffering=1) as journal:
    for step in range(1, 61):
        journal.write(json.dumps({"time": time.time(), "step": step, "metrics": {"loss": final + 1 / step}}) + "\\n")
        time.sleep(0.03)
print(json.dumps({"metrics": {"loss": final}}))
"""
RUNS = 10


def study(folder: Path) -> dict[str, Any]:
    (folder / "slow.py").write_text(SLOW)
    return {
        "name": "slow",
        "trainer": {"command": [sys.executable, "-I", "-S", str(folder / "slow.py")]},
        "space": {"x": {"type": "float", "low": -2.0, "high": 2.0}},
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "early_stopping": {"metric": "loss", "direction": "minimize", "from_step": 5, "runs": 2},
        "budget": {"runs": RUNS, "concurrent": 2, "run_time": "30s"},
        "seed": 3,
    }


def statuses(lab: Path) -> dict[str, str]:
    runs = json.loads(windlass("runs", "list", "--limit", "100", "--json", cwd=lab).stdout)
    return {run["id"]: run["status"] for run in runs}


def test_a_lab_killed_while_it_stops_runs(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", study(tmp_path))
    process = start_windlass("run", "study.yaml", cwd=lab)
    (first, *_) = until(lambda: list((lab / "runs").glob("*/stop.json")), 60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    why = first.read_text()

    windlass("run", "study.yaml", cwd=lab)
    ended = statuses(lab)
    assert len(ended) == RUNS, "stopped runs count against the budget"
    assert set(ended.values()) == {"completed", "stopped"}
    assert ended[first.parent.name] == "stopped" and first.read_text() == why
    assert {path.parent.name for path in (lab / "runs").glob("*/stop.json")} == {
        run for run, status in ended.items() if status == "stopped"
    }
    until(lambda: not processes_of(lab))
    windlass("reindex", cwd=lab)
    assert statuses(lab) == ended
