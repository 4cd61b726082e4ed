"""Real launchers under the executor: one process logs, and all of them end with the job."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobspecs import drain, ended, job, wait_for_file, wait_for_start
from processes import processes_of
from windlass.jobs.collect import collect
from windlass.jobs.local import LocalExecutor
from windlass.records.run import FailureKind, RunRecord, RunSpec, Status
from windlass.runs.folder import RunFolder

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "frameworks"
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT / "src"),
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--multi_gpu")
#: two processes that log what they are, and meet; then the second one waits or ends, and the first waits for it
RANKS = """
import os, sys, time
import torch.distributed as dist
import windlass as wl
from windlass.training.callbacks.recorder import Recorder

recorder = Recorder()
dist.init_process_group("gloo")
rank = dist.get_rank()
recorder.log({"rank": rank, "processes": dist.get_world_size()}, 1)
open(f"pid.{rank}.part", "w").write(str(os.getpid()))
os.rename(f"pid.{rank}.part", f"pid.{rank}")
dist.barrier()
if rank == 1 and WHAT == "crash":
    raise SystemExit("the second process crashed")
if rank == 1:
    time.sleep(600)
dist.barrier()
"""


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalExecutor]:
    with closing(LocalExecutor(tmp_path_factory.mktemp("lab") / "runs", 2)) as executor:
        yield executor


def launched(launcher: tuple[str, ...], script: Path) -> RunSpec:
    return job(*launcher, str(script), env=ENVIRONMENT)


def waiting(folder: Path, what: str) -> RunSpec:
    script = folder / f"{what}.py"
    script.write_text(RANKS.replace("WHAT", repr(what)))
    return launched(TORCHRUN, script)


def metrics(folder: RunFolder) -> list[dict[str, float]]:
    """What was logged, without what the monitor samples."""
    events = map(json.loads, folder.journal_file.read_text().splitlines())
    logged = [{"step": event.get("step"), **event["metrics"]} for event in events if "metrics" in event]
    return [metrics for metrics in logged if not any(name.startswith("system/") for name in metrics)]


def folder_of(executor: LocalExecutor, spec: RunSpec) -> RunFolder:
    return RunFolder(executor.runs_root / spec.id)


def finished(executor: LocalExecutor, spec: RunSpec) -> RunRecord:
    assert spec.id in ended(drain(executor, 120))
    folder = folder_of(executor, spec)
    assert processes_of(folder.path) == []
    return collect(folder)


@pytest.mark.slow
def test_two_processes_of_torchrun_and_accelerate_have_one_curve(executor: LocalExecutor) -> None:
    pytest.importorskip("accelerate")
    torchrun = launched(TORCHRUN, EXAMPLES / "distributed.py")
    accelerate = launched(ACCELERATE, EXAMPLES / "huggingface_trainer.py")
    executor.submit([torchrun, accelerate])
    seen = ended(drain(executor, 150))
    assert sorted(seen) == sorted([torchrun.id, accelerate.id])
    for spec in (torchrun, accelerate):
        record = collect(folder_of(executor, spec))
        assert record.status is Status.COMPLETED, record.failure
        assert processes_of(folder_of(executor, spec).path) == []
    assert [row["step"] for row in metrics(folder_of(executor, torchrun))] == list(range(20))
    losses = [row for row in metrics(folder_of(executor, accelerate)) if "loss" in row]
    assert [row["step"] for row in losses] == [5, 10, 15, 20]
    assert [row["tokens"] for row in losses] == [1280 * n for n in range(1, 5)]  # of both processes


def test_when_one_process_crashes_all_of_them_end(executor: LocalExecutor, tmp_path: Path) -> None:
    spec = waiting(tmp_path, "crash")
    executor.submit([spec])
    record = finished(executor, spec)
    assert record.status is Status.FAILED and record.failure is not None
    assert record.failure.kind is FailureKind.ERROR
    assert "the second process crashed" in folder_of(executor, spec).stderr_file.read_text()
    assert metrics(folder_of(executor, spec)) == [{"step": 1, "rank": 0, "processes": 2}]


def test_when_the_job_is_cancelled_all_processes_end(executor: LocalExecutor, tmp_path: Path) -> None:
    spec = waiting(tmp_path, "cancel")
    executor.submit([spec])
    folder = folder_of(executor, spec)
    wait_for_start(executor, spec.id, 60)
    ranks = {int(wait_for_file(folder.path / f"pid.{rank}", 60)) for rank in (0, 1)}
    assert ranks < set(processes_of(folder.path))
    executor.cancel(spec.id, "changed my mind")
    record = finished(executor, spec)
    assert record.status is Status.CANCELLED
    assert metrics(folder) == [{"step": 1, "rank": 0, "processes": 2}]
