"""Function jobs that start from a preloaded parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from jobspecs import drain, ended, job, wait_for_file
from windlass.jobs import processes
from windlass.jobs.collect import collect
from windlass.jobs.local import PINNED, LocalExecutor
from windlass.records.run import FailureKind, Limits, RunSpec, Status
from windlass.runs.folder import RunFolder
from windlass.runs.lease import read_lease, start_ticks

LIBRARY = """
import os
loaded_by = os.getpid()
"""
FUNCTIONS = """
import atexit, json, os, random, sys, threading, time

def look(config, run):
    import {library} as library
    print("said on stdout")
    random.seed()
    info = {{
        "loaded_here": library.loaded_by == os.getpid(),
        "parent": library.loaded_by,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "extra": os.environ.get("EXTRA"),
        "run": os.environ["WINDLASS_RUN_DIR"],
        "argv": sys.argv[1:],
        "draw": random.random(),
    }}
    json.dump(info, open("info.json", "w"))
    return {{"loss": 0.5}}

def draw(config, run):
    return {{"loss": random.random()}}

def at_exit(config, run):
    atexit.register(lambda: open("atexit", "w").close())
    threading.Thread(target=lambda: (time.sleep(0.05), open("thread", "w").close())).start()
    return {{"loss": 0.5}}

def leave(config, run):
    sys.exit(3)

def crash(config, run):
    os.abort()

def hold(config, run):
    child = os.fork()
    if child == 0:
        time.sleep(60)
    open("part", "w").write(str(child))
    os.rename("part", "here")
    time.sleep(60)
"""


@pytest.fixture
def function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunSpec]:
    """A spec of a function that preloads a module of its own; both are on the lab's PYTHONPATH."""
    name = tmp_path.name.replace("-", "_")
    (tmp_path / f"library_{name}.py").write_text(LIBRARY)
    (tmp_path / f"functions_{name}.py").write_text(FUNCTIONS.format(library=f"library_{name}"))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def spec(function: str, **fields: Any) -> RunSpec:
        chosen = {"preload": (f"library_{name}",), "python_path": (str(tmp_path),), **fields}
        return job(function=f"functions_{name}:{function}", **chosen)

    return spec


@pytest.fixture
def executor(function: object, tmp_path: Path) -> Iterator[LocalExecutor]:
    """Made after PYTHONPATH is set."""
    with closing(LocalExecutor(tmp_path / "lab" / "runs", 2)) as executor:
        yield executor


@pytest.fixture
def run_all(executor: LocalExecutor) -> Callable[..., list[RunFolder]]:
    def run(*specs: RunSpec) -> list[RunFolder]:
        executor.submit(specs)
        assert sorted(ended(drain(executor))) == sorted(spec.id for spec in specs)
        return [RunFolder(executor.runs_root / spec.id) for spec in specs]

    return run


def test_a_preloaded_module_is_shared(function: Any, run_all: Any) -> None:
    folders = run_all(*(function("look", env={"EXTRA": str(i)}) for i in range(3)))
    infos = [json.loads((folder.path / "info.json").read_text()) for folder in folders]
    assert not any(info["loaded_here"] for info in infos)
    assert len({info["parent"] for info in infos}) == 1 and infos[0]["threads"] == "1"
    assert [info["extra"] for info in infos] == ["0", "1", "2"]
    assert len({info["draw"] for info in infos}) == 3, "forks do not draw the same numbers"
    for folder, info in zip(folders, infos, strict=True):
        assert info["run"] == str(folder.path)
        assert info["argv"] == ["--spec", str(folder.spec_file), "--output-dir", str(folder.path)]
        assert folder.stdout_file.read_text() == "said on stdout\n"
        assert collect(folder).status is Status.COMPLETED


def test_preloaded_and_cold_give_the_same(function: Any, run_all: Any) -> None:
    first, second, cold = map(collect, run_all(function("draw"), function("draw"), function("draw", preload=())))
    assert first.values == second.values == cold.values, "the seed decides"
    (other,) = map(collect, run_all(function("draw", seed=1)))
    assert other.values != first.values


def test_threads_and_exit_handlers_finish(function: Any, run_all: Any) -> None:
    (folder,) = run_all(function("at_exit"))
    assert (folder.path / "thread").exists() and (folder.path / "atexit").exists()


def test_exits_of_forked_jobs(function: Any, run_all: Any) -> None:
    left, crashed = run_all(function("leave"), function("crash"))
    assert left.exit().code == 3 and collect(left).status is Status.FAILED
    assert crashed.exit().signal == signal.SIGABRT
    failure = collect(crashed).failure
    assert failure is not None and failure.kind is FailureKind.KILLED


def test_a_preload_that_is_not_there_fails_the_run_with_its_name(function: Any, run_all: Any) -> None:
    (folder,) = run_all(function("look", preload=("no_such_library",)))
    failure = collect(folder).failure
    assert failure is not None and "preload of 'no_such_library' failed: ModuleNotFoundError" in failure.message


def test_a_preload_that_starts_threads_is_refused(function: Any, run_all: Any, tmp_path: Path) -> None:
    (tmp_path / "threaded.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    (folder,) = run_all(function("look", preload=("threaded",)))
    failure = collect(folder).failure
    assert failure is not None and "started 1 threads" in failure.message


def test_a_preload_that_crashes_fails_the_run_and_tells_how(function: Any, run_all: Any, tmp_path: Path) -> None:
    (tmp_path / "crashing.py").write_text("import os, sys\nos.write(2, b'no such device')\nos._exit(41)\n")
    (folder,) = run_all(function("look", preload=("crashing",)))
    failure = collect(folder).failure
    assert failure is not None
    assert "preloads crashing ended with exit code 41: no such device" in failure.message


def test_time_limit_and_cancel_reach_forked_children(function: Any, executor: LocalExecutor) -> None:
    limited, cancelled = function("hold", limits=Limits(time_s=0.6)), function("hold")
    executor.submit([limited, cancelled])
    folders = [RunFolder(executor.runs_root / spec.id) for spec in (limited, cancelled)]
    children = [int(wait_for_file(folder.path / "here")) for folder in folders]
    executor.cancel(cancelled.id)
    drain(executor)
    assert [collect(folder).status for folder in folders] == [Status.FAILED, Status.CANCELLED]
    assert [start_ticks(child) for child in children] == [None, None]


def test_kill_of_the_shim_leaves_no_forked_process(function: Any, executor: LocalExecutor) -> None:
    """A fork shows its parent's environment: the sweep finds it by its session."""
    spec = function("hold")
    executor.submit([spec])
    folder = RunFolder(executor.runs_root / spec.id)
    child = int(wait_for_file(folder.path / "here"))
    lease = read_lease(folder)
    assert lease is not None
    os.kill(lease.pid, signal.SIGKILL)
    drain(executor)
    assert start_ticks(child) is None
    assert list(processes.members(folder.job_environment, lease.pid, lease.start_ticks)) == []
    failure = collect(folder).failure
    assert failure is not None and failure.kind is FailureKind.LOST


def test_the_launcher_stays_small() -> None:
    """Modules with hooks after a fork, and large ones, would be paid for by every job."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2] / 'src')!r}); import windlass.jobs.launcher"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{code}; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & {"threading", "random", "logging", "pydantic", "numpy", "tempfile"}


@pytest.mark.skipif(find_spec("sklearn") is None, reason="needs scikit-learn")
def test_the_tabular_workload_can_be_preloaded() -> None:
    source = str(Path(__file__).parents[2] / "src")
    code = "from windlass.jobs.launcher import preload; print(repr(preload(['windlass.workloads.tabular.run'])))"
    env = {**os.environ, "PYTHONPATH": source, **PINNED}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "''"
