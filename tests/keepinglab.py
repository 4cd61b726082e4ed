"""Labs for tests of keeping: runs that leave a tiny checkpoint, and an evaluator that does what the checkpoint says."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from windlass import start_run
from windlass.lab import Lab
from windlass.lab.doctor import HALF_WRITTEN
from windlass.records.audit import ChangeKind, Entry
from windlass.records.deployment import StepState
from windlass.registry.blobs import Blobs
from windlass.registry.pointer import read_pointer
from windlass.registry.sql import SqlRegistry

#: standard library alone, no site-packages. A checkpoint is {"right": share of examples, "does": what goes wrong}.
EVALUATOR = """
import csv, json, os, sys, time
spec = json.load(open(sys.argv[sys.argv.index("--spec") + 1]))
config = spec["config"]
model = json.load(open(os.path.join(config["checkpoint"], "model.json")))
does = model.get("does", "")
if does == "fail":
    sys.exit("the model cannot be loaded")
if does == "hang":
    time.sleep(60)
names = [row["id"] for row in csv.DictReader(open(config["data"]))]
rows = [[name, int(number % 100 < 100 * model["right"])] for number, name in enumerate(names)]
if does == "nan":
    rows[7][1] = "nan"
if does == "repeat":
    rows[8][0] = rows[7][0]
if does == "others":
    rows[0][0] = "somebody else's"
if does == "meddle":
    open(config["data"], "a").write("one,more\\n")
artifacts = []
if does != "nothing":
    with open("scores.csv", "w", newline="") as file:
        csv.writer(file).writerows([["id", "correct"], *rows])
    artifacts = [{"name": "scores", "path": "scores.csv", "kind": "scores"}]
print(json.dumps({"artifacts": artifacts}))
"""

#: a study's trainer: the checkpoint has as many examples right as its config says
TRAINER = """
import json, os, sys
spec = json.load(open(sys.argv[sys.argv.index("--spec") + 1]))
os.makedirs("checkpoint")
with open("checkpoint/model.json", "w") as file:
    json.dump({"right": spec["config"]["right"]}, file)
print(json.dumps({"metrics": {"right": spec["config"]["right"]}}))
"""

NAME = "reader"


def policy(**changes: Any) -> dict[str, Any]:
    """``benchmark`` among the changes goes into the one benchmark."""
    benchmark = {
        "name": "heldout",
        "data": "heldout.csv",
        "command": [sys.executable, "-I", "-S", "evaluate.py"],
        "metric": "correct",
        "direction": "maximize",
        **changes.pop("benchmark", {}),
    }
    return {"deployment": NAME, "benchmarks": [benchmark], **changes}


def study(**changes: Any) -> dict[str, Any]:
    """Tries each of its shares once; every new best one goes before the gate."""
    return {
        "name": "readers",
        "trainer": {"command": [sys.executable, "-I", "-S", "train.py"]},
        "space": {"right": {"type": "categorical", "choices": [0.5, 0.6, 0.7, 0.8]}},
        "baseline": {"right": 0.5},
        "objectives": [{"metric": "right", "direction": "maximize", "scale": 0.1}],
        "budget": {"runs": 4},
        "repeats": 1,
        "seed": 3,
        "gate": policy(),
        **changes,
    }


def write_benchmark(folder: Path, examples: int = 200, prefix: str = "e") -> Path:
    rows = "".join(f"{prefix}{i},text number {i} of {prefix}\n" for i in range(examples))
    (folder / "heldout.csv").write_text(f"id,text\n{rows}")
    return folder / "heldout.csv"


def make_lab(root: Path, **changes: Any) -> Path:
    """``root/lab``, and beside it ``gate.yaml``, ``study.yaml``, the evaluator, the trainer and the benchmark."""
    root.mkdir(parents=True, exist_ok=True)
    write_benchmark(root)
    (root / "evaluate.py").write_text(EVALUATOR)
    (root / "train.py").write_text(TRAINER)
    (root / "gate.yaml").write_text(yaml.safe_dump(policy(**changes)))
    (root / "study.yaml").write_text(yaml.safe_dump(study()))
    Lab.create(root / "lab")
    return root / "lab"


def add_run(lab: Path, right: float, **model: Any) -> str:
    """A completed run; its id."""
    with start_run("reader", config={"right": right, **model}, lab=lab) as run:
        run.log(right=right)
        (run.checkpoint_dir / "model.json").write_text(json.dumps({"right": right, **model}))
        run.artifact(run.checkpoint_dir / "model.json", name="model", kind="model")
    return run.id


def gate_of(lab: Path) -> Path:
    return lab.parent / "gate.yaml"


def champion(lab: Path, right: float, **model: Any) -> str:
    """Train, register, evaluate, promote; the checkpoint's id."""
    with Lab(lab) as opened:
        made = opened.keeping.register(add_run(lab, right, **model))
        opened.keeping.promote(NAME, made.id, gate_of(lab))
    return made.id


# What came of it ----------------------------------------------------------------------------------------------------


def story(lab: Path) -> dict[str, Any]:
    """What a lab keeps, without what differs from one time to the next; and all that is wrong with it."""
    with Lab(lab) as opened:
        keeping = opened.keeping
        state = keeping.state
        pointers = {name: read_pointer(keeping.pointer_file(name))["checkpoint"] for name in state.deployments}
        return {
            "entries": list(told(opened)),
            "stages": {name: dict(line.stages) for name, line in state.deployments.items()},
            "champions": {name: line.champion for name, line in state.deployments.items()},
            "pointers": pointers,
            "open": [name for name in state.deployments if state.open_rollback(name)],
            "damages": [str(damage) for damage in keeping.audit()],
        }


def told(lab: Lab) -> Iterator[list[str]]:
    """Kind and content of each entry. A step that began again after a kill counts once."""
    begun: set[tuple[str, str]] = set()
    for entry in SqlRegistry(lab.store.database).entries():
        words = [str(entry.kind), *content(entry)]
        if entry.kind is ChangeKind.STEPPED and entry.body["state"] == StepState.STARTED:
            step = (entry.body["rollback"], entry.body["step"])
            if step in begun:
                continue
            begun.add(step)
        yield words


def content(entry: Entry) -> list[str]:
    """Without what differs from one time to the next."""
    body = entry.body
    match entry.kind:
        case ChangeKind.EVALUATED:
            one = body["evaluation"]
            return [one["checkpoint"], one["benchmark"], str(one["means"])]
        case ChangeKind.JUDGED:
            one = body["verdict"]
            return [one["challenger"], str(one["champion"]), one["ruling"], str(one["look"])]
        case ChangeKind.STAGED | ChangeKind.PROMOTED:
            return [body["checkpoint"], str(body.get("stage")), str(body.get("share")), str(body.get("previous"))]
        case ChangeKind.PLANNED:
            return [body["rollback"]["source"], body["rollback"]["target"]]
        case ChangeKind.STEPPED:
            return [body["step"], body["state"]]
    return [entry.subject]


def leftovers(lab: Path) -> list[str]:
    """Hidden files and folders that only an unfinished write leaves."""
    kept = Blobs(lab / "blobs" / "sha256").leftovers()
    return kept + [path.name for path in lab.rglob(".*") if HALF_WRITTEN.fullmatch(path.name)]


class Snapshot:
    """A folder as it was; a lab names itself by absolute paths, so it comes back to the same place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._copy = root.with_name(f"{root.name}.snapshot")
        shutil.copytree(root, self._copy, symlinks=True)

    def restore(self) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(self._copy, self.root, symlinks=True)
