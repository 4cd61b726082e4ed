"""What does a training cost more under Windlass than as a script of its own?

    python benchmarks/training/overhead.py [--rounds 5] [--steps 200] [--json FILE]

The same ORPO training, by TRL, with as many saved states and both evaluations: run bare (bare_orpo.py) and as a
Windlass job, in alternating order. CPU seconds tell on a machine that does other things as well, wall seconds on an
idle one. The last table says where a job's time goes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parents[1] / "examples" / "orpo"
HYPER = {
    "batch": 8,
    "accumulation": 1,
    "learning_rate": 2e-3,
    "warmup": 0.1,
    "max_length": 96,
    "beta": 0.1,
    "rank": 16,
    "alpha": 32,
    "dropout": 0.05,
}
SEED, SAVE_EVERY = 7, 50

Measured = dict[str, list[dict[str, Any]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--logging-steps", type=int, default=1, help="of the bare script; a job logs every step")
    parser.add_argument("--folder", type=Path, help="with base/ and pairs/ of examples/orpo/make_base.py")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch) / "example"
        if not (folder / "base").is_dir():
            subprocess.run([sys.executable, EXAMPLE / "make_base.py", folder], check=True, stdout=sys.stderr)
        found = measure(folder, Path(scratch), args.rounds, args.steps, args.logging_steps)
    show(found)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


def measure(folder: Path, scratch: Path, rounds: int, steps: int, logging_steps: int) -> Measured:
    """``{"bare": [...], "job": [...]}``, an entry a round: seconds of wall and CPU, of the loop and of the whole."""
    from windlass.jobs.local import LocalExecutor

    files = {"base": folder / "base", "train": folder / "pairs/train.jsonl", "held_out": folder / "pairs/heldout.jsonl"}
    told = {**HYPER, "steps": steps, "seed": SEED, "save_every": SAVE_EVERY, "logging_steps": logging_steps}
    found: Measured = {"bare": [], "job": []}
    with closing(LocalExecutor(scratch / "runs")) as executor:
        for number in range(rounds):
            out = scratch / f"bare-{number}"
            given = {**told, **{name: str(path) for name, path in files.items()}, "out": str(out)}
            for name in ("bare", "job") if number % 2 == 0 else ("job", "bare"):
                if name == "bare":
                    found[name].append(run_bare(given))
                else:
                    found[name].append(run_job(executor, scratch / "runs", files, steps, number))
                brief = {key: round(value, 2) for key, value in found[name][-1].items() if isinstance(value, float)}
                print(f"round {number + 1}, {name}: {brief}", file=sys.stderr)
    return found


def run_bare(given: Mapping[str, Any]) -> dict[str, Any]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, str(HERE / "bare_orpo.py"), json.dumps(given)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**json.loads(done.stdout.splitlines()[-1]), "whole_wall": wall, "whole_cpu": cpu}


def run_job(executor: Any, root: Path, files: Mapping[str, Path], steps: int, number: int) -> dict[str, Any]:
    from windlass.jobs.collect import collect
    from windlass.records.run import RunSpec, Status, make_run_id
    from windlass.training.orpo.workload import WORKLOAD

    options = WORKLOAD.options(
        {
            "data": str(files["train"]),
            "validation": str(files["held_out"]),
            "model": str(files["base"]),
            "tier": "cpu-experimental",
            "save_every": SAVE_EVERY,
        },
        root,
    )
    now = time.time()
    spec = RunSpec(
        id=make_run_id(now, "overhead", {"number": number}),
        name="overhead",
        created=now,
        config={"workload": options, **HYPER, "steps": steps},
        function="overhead:train",
        python_path=(str(HERE),),
        env={"OMP_NUM_THREADS": "1"},
        seed=SEED,
        fingerprints=WORKLOAD.fingerprints(options),
    )
    began = time.perf_counter()
    executor.submit([spec])
    while executor.active():
        executor.wait()
    wall = time.perf_counter() - began
    record = collect(root / spec.id)
    if record.status is not Status.COMPLETED:
        raise SystemExit(str(record.failure))
    timings = json.loads((root / spec.id / "artifacts" / "timings.json").read_text())
    accuracy = [record.values[name] for name in ("accuracy_before", "accuracy")]
    return {**timings, "accuracy": accuracy, "whole_wall": wall, "whole_cpu": record.cpu_s}


def train(config: dict[str, Any], run: Any) -> dict[str, float]:
    """The job: ORPO's own function with a watch on its parts."""
    watch = Watch()
    with watch.part("import"):
        from windlass.training import environment

        environment.pin()
        from windlass.runs.sdk import Run
        from windlass.training.orpo import preflight, program, trl
        from windlass.training.state import TrainingState
    for owner, name, part in (
        (preflight, "prepare", "preflight"),
        (environment, "write", "environment"),
        (trl, "load", "load the model"),
        (trl, "_scores", "score held-out pairs, twice"),
        (trl.Trainer, "__init__", "make TRL's trainer"),
        (trl.Trainer, "train", "loop"),
        (TrainingState, "save", "save states (in the loop)"),
        (Run, "log", "log metrics (in the loop)"),
        (program, "_judge", "health, scores, checkpoint"),
    ):
        setattr(owner, name, watch.watched(getattr(owner, name), part))
    trl.train.__defaults__ = (trl.load,)
    metrics = program.train(config, run)
    loop = watch.seconds["loop"]
    found = {"loop_wall": loop[0], "loop_cpu": loop[1], "parts": watch.seconds}
    (run.artifacts_dir / "timings.json").write_text(json.dumps(found))
    return metrics


class Watch:
    """Wall and CPU seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def watched(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.part(part):
                return function(*args, **kwargs)

        return call

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        so_far = self.seconds.setdefault(name, [0.0, 0.0])
        so_far[0] += time.perf_counter() - wall
        so_far[1] += time.process_time() - cpu


def show(found: Measured) -> None:
    """Overhead of the medians, and of the least of each (the round that other work disturbed least)."""
    print(f"{'':24}{'bare':>8}{'job':>8}{'overhead':>10}{'of least':>10}   by round")
    for key, words in (
        ("loop_cpu", "training loop, CPU s"),
        ("loop_wall", "training loop, wall s"),
        ("whole_cpu", "whole, CPU s"),
        ("whole_wall", "whole, wall s"),
    ):
        bare, job = ([round_[key] for round_ in found[name]] for name in ("bare", "job"))
        middle, least = statistics.median(job) / statistics.median(bare) - 1, min(job) / min(bare) - 1
        spread = " ".join(f"{y / x - 1:+.1%}" for x, y in zip(bare, job, strict=True))
        medians = f"{statistics.median(bare):8.2f}{statistics.median(job):8.2f}"
        print(f"{words:24}{medians}{middle:+10.1%}{least:+10.1%}   {spread}")
    print("\na job's parts, median CPU s (wall s)")
    for part in found["job"][0]["parts"]:
        wall, cpu = (statistics.median(round_["parts"][part][at] for round_ in found["job"]) for at in (0, 1))
        print(f"  {part:32}{cpu:8.3f} ({wall:.3f})")
    print(f"\naccuracy of held-out pairs: bare {found['bare'][0]['accuracy']}, job {found['job'][0]['accuracy']}")


if __name__ == "__main__":
    main()
