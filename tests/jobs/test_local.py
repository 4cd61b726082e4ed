"""The local executor against real processes: limits, signals, kills, and what is left afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from jobspecs import PYTHON, drain, ended, job, script, wait_for_file, wait_for_start
from processes import open_files
from windlass.errors import JobError
from windlass.jobs import processes
from windlass.jobs.collect import collect
from windlass.jobs.local import LocalExecutor
from windlass.jobs.protocol import JobEvent, JobEventKind
from windlass.records.run import Exit, FailureKind, Limits, RunRecord, RunSpec, Status
from windlass.runs.folder import RunFolder
from windlass.runs.lease import Lease, claim, read_lease, start_ticks

HOLD = "import os, time; open('part', 'w').write(str(os.getpid())); os.rename('part', 'here'); time.sleep(60)"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def executor(runs: Path) -> Iterator[LocalExecutor]:
    """Checks afterwards that nothing is left: no process of a job, no zombie, no open file."""
    before, others = open_files(), set(processes.children(os.getpid()))  # of other tests in this process
    executor = LocalExecutor(runs, 2)
    yield executor
    executor.close()
    new = [target for number, target in open_files().items() if number not in before]
    if threading.active_count() > 1:  # a thread that another test left may have opened a socket meanwhile
        new = [target for target in new if "pidfd" in target or str(runs) in target]
    assert not new
    assert left_of(runs) == [] and set(processes.children(os.getpid())) <= others


def left_of(runs: Path) -> list[str]:
    """Command lines of the processes that belong to a run in ``runs``."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if f"WINDLASS_RUN_DIR={runs}/".encode() in Path(f"/proc/{name}/environ").read_bytes():
                found.append(Path(f"/proc/{name}/cmdline").read_text())
        except OSError:
            continue
    return found


def run_to_end(executor: LocalExecutor, spec: RunSpec) -> RunRecord:
    executor.submit([spec])
    assert ended(drain(executor)) == [spec.id]
    return collect(RunFolder(executor.runs_root / spec.id))


def exit_of(executor: LocalExecutor, spec: RunSpec) -> Exit:
    exit = RunFolder(executor.runs_root / spec.id).exit()
    assert exit is not None
    return exit


def gone(pid: int, timeout: float = 10.0) -> bool:
    """Whether a process ends, or is a zombie, within moments."""
    deadline = time.monotonic() + timeout
    while start_ticks(pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def failed(run: RunRecord) -> FailureKind | None:
    return None if run.failure is None else run.failure.kind


# what a job's process is like


def test_exit_codes_and_usage(executor: LocalExecutor) -> None:
    specs = [script(f"import sys; sum(range(10**6)); sys.exit({code})") for code in (0, 1, 77)]
    executor.submit(specs)
    drain(executor)
    exits = [exit_of(executor, spec) for spec in specs]
    assert [exit.code for exit in exits] == [0, 1, 77] and {exit.reason for exit in exits} == {"exit"}
    for exit in exits:
        assert 0 < exit.cpu_s < 5 and exit.wall_s > 0 and exit.started <= exit.ended
        assert 2**20 < exit.peak_memory_bytes < 2**30


def test_a_job_sees_only_its_own_files_and_default_signals(executor: LocalExecutor) -> None:
    code = (
        "import json, os, signal; "
        "ends = {n: os.path.realpath('/proc/self/fd/' + n) for n in os.listdir('/proc/self/fd')}; "
        "mask = [l for l in open('/proc/self/status') if l.startswith(('SigBlk', 'SigIgn'))]; "
        "json.dump({'metrics': {}, 'info': {'fds': ends, 'mask': mask, 'cwd': os.getcwd(), 'group': os.getpgrp() == "
        "os.getpid(), 'env': os.environ['WINDLASS_RUN_DIR']}, 'nonce': os.environ['WINDLASS_NONCE']}, "
        "open('result.json', 'w'))"
    )
    with open(__file__) as inheritable:
        os.set_inheritable(inheritable.fileno(), True)
        spec = script(code)
        run = run_to_end(executor, spec)
    assert run.status is Status.COMPLETED, run.failure
    folder = RunFolder(executor.runs_root / spec.id)
    info = json.loads(folder.result_file.read_text())["info"]
    targets = {n: t for n, t in info["fds"].items() if "/proc/" not in t}
    assert targets == {"0": "/dev/null", "1": str(folder.stdout_file), "2": str(folder.stderr_file)}
    blocked, ignored = (int(line.split()[1], 16) for line in info["mask"])
    assert blocked == 0
    own = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)  # Python itself ignores these two
    assert ignored & 0x7FFFFFFF & ~own == 0
    assert info["cwd"] == info["env"] == str(folder.path) and info["group"]


def test_environment_of_executor_and_spec(runs: Path) -> None:
    with closing(LocalExecutor(runs, 1, env={"FROM_LAB": "1", "BOTH": "lab"})) as executor:
        spec = script(
            "import os, json; print(json.dumps({'metrics': {}, 'info': dict(os.environ)}))", env={"BOTH": "spec"}
        )
        run_to_end(executor, spec)
    info = json.loads(RunFolder(runs / spec.id).stdout_file.read_text())["info"]
    assert len(info.pop("WINDLASS_NONCE")) == 32
    assert {k: v for k, v in info.items() if k != "LC_CTYPE"} == {
        "FROM_LAB": "1",
        "BOTH": "spec",
        "WINDLASS_RUN_DIR": str(runs / spec.id),
    }


def test_a_program_in_another_language(executor: LocalExecutor) -> None:
    run = run_to_end(executor, job("sh", "-c", 'echo \'{"metrics": {"auc": 0.75}}\'', required_metrics=("auc",)))
    assert run.status is Status.COMPLETED and run.values == {"auc": 0.75}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("no-such-trainer",), "No such file or directory: 'no-such-trainer'"),
        ((), "neither a command nor a function"),
        (("echo", "nul\0byte"), "null byte"),
    ],
)
def test_commands_that_cannot_start(executor: LocalExecutor, command: tuple[str, ...], message: str) -> None:
    run = run_to_end(executor, job(*command))
    assert failed(run) is FailureKind.ERROR and run.failure is not None
    assert message in run.failure.message


def test_a_script_that_is_not_executable(executor: LocalExecutor, tmp_path: Path) -> None:
    trainer = tmp_path / "train.sh"
    trainer.write_text("echo no")
    for mode, message in ((0o644, "Permission denied"), (0o755, "Exec format error")):
        trainer.chmod(mode)
        run = run_to_end(executor, job(str(trainer)))
        assert run.failure is not None and f"{message}: '{trainer}'" in run.failure.message


# limits


def test_time_limit(executor: LocalExecutor) -> None:
    run = run_to_end(executor, script("import time; time.sleep(60)", limits=Limits(time_s=0.3, grace_s=5)))
    assert failed(run) is FailureKind.TIMEOUT
    assert run.duration_s is not None and 0.3 <= run.duration_s < 3
    assert run.failure is not None and "0.3 s" in run.failure.message


def test_a_job_that_ignores_sigterm_is_killed_after_the_grace(executor: LocalExecutor) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    spec = script(code, limits=Limits(time_s=0.3, grace_s=0.3))
    run = run_to_end(executor, spec)
    assert failed(run) is FailureKind.TIMEOUT
    assert exit_of(executor, spec).signal == signal.SIGKILL
    assert 0.6 <= exit_of(executor, spec).wall_s < 3


def test_a_job_may_finish_its_result_in_the_grace(executor: LocalExecutor) -> None:
    code = """
import json, signal, sys, time
def stop(*_):
    print(json.dumps({"metrics": {"auc": 0.8}}))
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
time.sleep(60)
"""
    run = run_to_end(executor, script(code, limits=Limits(time_s=0.5)))
    assert failed(run) is FailureKind.TIMEOUT and run.values == {"auc": 0.8}


def test_memory_limit(executor: LocalExecutor) -> None:
    spec = script(
        "import time; data = bytearray(300 << 20); time.sleep(60)", limits=Limits(memory_bytes=100 << 20, grace_s=0.5)
    )
    run = run_to_end(executor, spec)
    assert failed(run) is FailureKind.OUT_OF_MEMORY and run.failure is not None
    assert "100 MiB" in run.failure.message and run.peak_memory_bytes > 100 << 20


def test_memory_limit_counts_the_whole_tree(executor: LocalExecutor) -> None:
    code = f"""
import subprocess
child = "import time; data = bytearray(70 << 20); time.sleep(60)"
for process in [subprocess.Popen([*{PYTHON!r}, child]) for _ in range(2)]:
    process.wait()
"""
    run = run_to_end(executor, script(code, limits=Limits(memory_bytes=120 << 20, grace_s=0.5)))
    assert failed(run) is FailureKind.OUT_OF_MEMORY


def test_memory_that_processes_share_counts_once(executor: LocalExecutor) -> None:
    spec = script(
        "import os, time\ndata = bytearray(80 << 20)\nfirst = os.fork()\nif first == 0: time.sleep(0.4); os._exit(0)\n"
        "os.waitpid(first, 0)\nprint('{\"metrics\": {}}')",
        limits=Limits(memory_bytes=130 << 20),
    )
    assert run_to_end(executor, spec).status is Status.COMPLETED, "two processes, one memory"


def test_a_short_peak_between_two_looks_is_found_at_the_end(executor: LocalExecutor) -> None:
    code = "data = bytearray(150 << 20); del data; print('{\"metrics\": {}}')"
    assert failed(run_to_end(executor, script(code, limits=Limits(memory_bytes=100 << 20)))) is (
        FailureKind.OUT_OF_MEMORY
    )


# ending a whole tree

DAEMON = f"""
import os, subprocess, sys, time
# a grandchild in a session of its own whose parent is gone: a daemon, which ignores SIGTERM
hold = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + {HOLD!r}
middle = "import os, subprocess; os.setsid(); subprocess.Popen([*{PYTHON!r}, %r], start_new_session=True)" % hold
subprocess.run([*{PYTHON!r}, middle])
while not os.path.exists("here"): time.sleep(0.005)
"""


def test_what_a_job_leaves_behind_ends_with_it(executor: LocalExecutor) -> None:
    spec = script(DAEMON + "print('{\"metrics\": {}}')", limits=Limits(grace_s=0.2))
    run = run_to_end(executor, spec)
    assert run.status is Status.COMPLETED
    assert gone(int((executor.runs_root / spec.id / "here").read_text()), 0)


def test_cancelling_ends_daemons_too(executor: LocalExecutor) -> None:
    spec = script(DAEMON + "time.sleep(60)", limits=Limits(grace_s=0.2))
    executor.submit([spec])
    daemon = int(wait_for_file(executor.runs_root / spec.id / "here"))
    executor.cancel(spec.id, "made a typo")
    executor.cancel(spec.id)
    assert ended(drain(executor)) == [spec.id]
    run = collect(RunFolder(executor.runs_root / spec.id))
    assert run.status is Status.CANCELLED and run.notes == ("cancelled: made a typo",)
    assert gone(daemon, 0)


def test_cancelling_right_after_submission(executor: LocalExecutor) -> None:
    specs = [script("import time; time.sleep(60)") for _ in range(6)]
    executor.submit(specs)
    for spec in specs:
        executor.cancel(spec.id, "at once")
    assert sorted(ended(drain(executor))) == sorted(spec.id for spec in specs)
    for spec in specs:
        assert collect(RunFolder(executor.runs_root / spec.id)).status is Status.CANCELLED


def test_kill_of_the_job(executor: LocalExecutor) -> None:
    spec = script(HOLD)
    executor.submit([spec])
    os.kill(int(wait_for_file(executor.runs_root / spec.id / "here")), signal.SIGKILL)
    drain(executor)
    run = collect(RunFolder(executor.runs_root / spec.id))
    assert failed(run) is FailureKind.KILLED and run.failure is not None and run.failure.message == "ended by SIGKILL"


def test_kill_of_the_shim_is_a_lost_run_without_orphans(executor: LocalExecutor) -> None:
    spec = script(DAEMON + HOLD.replace("here", "leader"))
    executor.submit([spec])
    folder = RunFolder(executor.runs_root / spec.id)
    leader = int(wait_for_file(folder.path / "leader"))
    daemon = int((folder.path / "here").read_text())
    lease = read_lease(folder)
    assert lease is not None
    os.kill(lease.pid, signal.SIGKILL)
    assert ended(drain(executor)) == [spec.id]
    assert gone(leader) and gone(daemon)
    assert failed(collect(folder)) is FailureKind.LOST
    executor.submit([spec])
    assert drain(executor) == [JobEvent(spec.id, JobEventKind.ENDED)], "a lost run does not start again"


def test_kill_of_the_launcher_harms_nobody(executor: LocalExecutor) -> None:
    others = processes.children(os.getpid())
    first, second = script(HOLD), script("print('{\"metrics\": {}}')")
    executor.submit([first])
    wait_for_start(executor, first.id)
    (launcher,) = set(processes.children(os.getpid())) - set(others)
    os.kill(launcher, signal.SIGKILL)
    executor.submit([second])
    while JobEvent(second.id, JobEventKind.ENDED) not in executor.wait(10):
        pass
    assert collect(RunFolder(executor.runs_root / second.id)).status is Status.COMPLETED
    assert executor.active() == (first.id,), "the first goes on"
    executor.cancel(first.id)
    assert ended(drain(executor)) == [first.id]


def test_kills_of_the_launcher_while_it_starts_jobs(executor: LocalExecutor) -> None:
    others = set(processes.children(os.getpid()))
    specs = [script("open('count', 'a').write('x'); print('{\"metrics\": {}}')") for _ in range(12)]
    executor.submit(specs)
    events: list[JobEvent] = []
    kills = 0
    while executor.active():
        events += executor.wait(10)
        if kills < 2:
            kills += 1
            processes.send(set(processes.children(os.getpid())) - others, signal.SIGKILL)
    events += executor.wait(0)
    assert sorted(ended(events)) == sorted(spec.id for spec in specs) and kills == 2
    for spec in specs:
        assert (executor.runs_root / spec.id / "count").read_text() == "x"
        assert collect(RunFolder(executor.runs_root / spec.id)).status is Status.COMPLETED


# the executor's own death

LAB = """
import json, sys, time
from pathlib import Path
from windlass.jobs.local import LocalExecutor
from windlass.records.run import RunSpec
specs = [RunSpec.from_dict(data) for data in json.load(open(sys.argv[2]))]
executor = LocalExecutor(sys.argv[1], 3)
executor.submit(specs)
seen = 0
while seen < 3:
    seen += len(executor.wait(10))
print("started", flush=True)
executor.wait(60)
"""


def start_lab(runs: Path, specs: list[RunSpec]) -> subprocess.Popen[str]:
    """Another process that runs ``specs``, three at a time; returns once three have started."""
    listed = runs.parent / "specs.json"
    listed.write_text(json.dumps([spec.to_dict() for spec in specs]))
    source = str(Path(__file__).parents[2] / "src")
    lab = subprocess.Popen(
        [sys.executable, "-c", LAB, str(runs), str(listed)],
        env={**os.environ, "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert lab.stdout is not None and lab.stdout.readline() == "started\n"
    return lab


def kill(lab: subprocess.Popen[str]) -> None:
    with lab:
        lab.kill()


def test_jobs_outlive_the_executor_and_are_taken_up_again(executor: LocalExecutor, runs: Path) -> None:
    """One job ends before the next executor comes, one while it watches, one is cancelled; one was queued."""
    wait = "import os, time, sys\nopen('count', 'a').write('x')\nwhile not os.path.exists('go'): time.sleep(0.005)\n"
    specs = [script(wait + f"sys.exit({code})") for code in (5, 6, 7)]
    specs.append(script("open('count', 'a').write('x'); raise SystemExit(8)"))
    lab = start_lab(runs, specs)
    for spec in specs[:3]:
        wait_for_file(runs / spec.id / "count")
    (launcher,) = processes.children(lab.pid)
    kill(lab)
    assert gone(launcher), "the launcher ends with the executor"
    assert [collect(RunFolder(runs / spec.id)).status for spec in specs] == [Status.RUNNING] * 3 + [Status.QUEUED]
    (runs / specs[0].id / "go").touch()
    wait_for_file(runs / specs[0].id / "exit.json")
    executor.submit(specs)
    first = executor.wait(0)
    assert JobEvent(specs[0].id, JobEventKind.ENDED) in first
    assert {event.run_id for event in first if event.kind is JobEventKind.STARTED} == {specs[1].id, specs[2].id}
    (runs / specs[1].id / "go").touch()
    executor.cancel(specs[2].id, "not this one")
    assert sorted(ended(first + drain(executor))) == sorted(spec.id for spec in specs)
    assert [exit_of(executor, spec).code for spec in specs] == [5, 6, None, 8]
    assert collect(RunFolder(runs / specs[2].id)).status is Status.CANCELLED
    for spec in specs:
        assert (runs / spec.id / "count").read_text() == "x"


def test_a_job_whose_shim_died_while_nobody_watched_is_swept(executor: LocalExecutor, runs: Path) -> None:
    specs = [script(HOLD) for _ in range(3)]
    lab = start_lab(runs, specs)
    pids = [int(wait_for_file(runs / spec.id / "here")) for spec in specs]
    kill(lab)
    for spec in specs:
        lease = read_lease(RunFolder(runs / spec.id))
        assert lease is not None
        os.kill(lease.pid, signal.SIGKILL)
        assert gone(lease.pid)
    executor.submit(specs)
    assert sorted(ended(drain(executor))) == sorted(spec.id for spec in specs)
    assert all(map(gone, pids))
    assert {failed(collect(RunFolder(runs / spec.id))) for spec in specs} == {FailureKind.LOST}


def test_a_cancellation_that_was_not_carried_out_is(executor: LocalExecutor, runs: Path) -> None:
    specs = [script(HOLD) for _ in range(3)]
    lab = start_lab(runs, specs)
    for spec in specs:
        wait_for_file(runs / spec.id / "here")
    kill(lab)
    RunFolder(runs / specs[0].id).cancel_file.write_text("asked for, then the lab died")
    executor.submit(specs)
    for spec in specs[1:]:
        executor.cancel(spec.id)
    drain(executor)
    run = collect(RunFolder(runs / specs[0].id))
    assert run.status is Status.CANCELLED and run.notes == ("cancelled: asked for, then the lab died",)


def test_a_lease_of_another_boot_is_a_lost_run(executor: LocalExecutor, runs: Path) -> None:
    spec = script("print('{\"metrics\": {}}')")
    folder = RunFolder(runs / spec.id)
    folder.create(spec)
    claim(folder, replace(Lease.of(os.getpid()), boot_id="another"))
    assert failed(run_to_end(executor, spec)) is FailureKind.LOST


def test_two_executors_start_a_run_once(executor: LocalExecutor, runs: Path) -> None:
    specs = [script("open('count', 'a').write('x'); print('{\"metrics\": {}}')") for _ in range(30)]
    with closing(LocalExecutor(runs, 2)) as other:
        executor.submit(specs)
        other.submit(list(reversed(specs)))
        events: tuple[list[JobEvent], list[JobEvent]] = ([], [])
        while executor.active() or other.active():
            events[0].extend(executor.wait(0.05))
            events[1].extend(other.wait(0.05))
        for seen in events:
            assert sorted(ended(seen)) == sorted(spec.id for spec in specs)
    for spec in specs:
        assert (runs / spec.id / "count").read_text() == "x"
        assert collect(RunFolder(runs / spec.id)).status is Status.COMPLETED


# many jobs, much output


def test_two_hundred_short_jobs(executor: LocalExecutor) -> None:
    specs = [job("sh", "-c", "echo '{}'") for _ in range(200)]
    executor.submit(specs)
    running = most = 0
    events: list[JobEvent] = []
    while executor.active():
        for event in executor.wait(30):
            events.append(event)
            running += 1 if event.kind is JobEventKind.STARTED else -1
            most = max(most, running)
    assert sorted(ended(events)) == sorted(spec.id for spec in specs)
    assert most == 2, "the limit holds, and is used"
    assert {collect(RunFolder(executor.runs_root / spec.id)).status for spec in specs} == {Status.COMPLETED}


def test_a_flood_of_output_is_an_invalid_result_and_costs_no_memory(executor: LocalExecutor) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spec = job("sh", "-c", "head -c 104857600 /dev/zero")
    run = run_to_end(executor, spec)
    assert failed(run) is FailureKind.INVALID_RESULT and run.failure is not None
    assert "104,857,600 bytes" in run.failure.message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000, "kilobytes"
    (executor.runs_root / spec.id / "stdout.log").unlink()


def test_no_slot_is_left_empty_while_the_caller_is_busy(executor: LocalExecutor) -> None:
    """Four jobs for two slots: the second pair starts inside the wait that tells of the first one's end."""
    specs = [script("print('{\"metrics\": {}}')") for _ in range(4)]
    executor.submit(specs)
    while not ended(executor.wait(10)):
        pass
    launched = [spec for spec in specs if spec.id in executor.active()]
    deadline = time.monotonic() + 10
    while not (executor.runs_root / launched[-2].id / "lease.json").exists():
        assert time.monotonic() < deadline, "the free slot was not filled"
        time.sleep(0.005)
    drain(executor)


def test_waiting_wakes_for_what_another_thread_submits(executor: LocalExecutor) -> None:
    import threading

    first, second = script(HOLD), script("print('{\"metrics\": {}}')")
    executor.submit([first])
    wait_for_start(executor, first.id)
    threading.Timer(0.2, lambda: executor.submit([second])).start()
    assert executor.wait(10) == [JobEvent(second.id, JobEventKind.STARTED)]
    executor.cancel(first.id)
    drain(executor)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a file system needs privileges")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"0" * 4096)
    return ballast


def test_a_full_disk_before_the_start_is_told_and_the_run_waits(small_disk: Path) -> None:
    spec = script("print('{\"metrics\": {}}')")
    with closing(LocalExecutor(small_disk / "runs", 1)) as executor:
        RunFolder(executor.runs_root / spec.id).create(spec)
        ballast = fill(small_disk)
        executor.submit([spec])
        with pytest.raises(JobError, match=r"No space left on device"):
            drain(executor)
        assert executor.active() == (spec.id,)
        ballast.unlink()
        assert ended(drain(executor)) == [spec.id]
        assert collect(RunFolder(executor.runs_root / spec.id)).status is Status.COMPLETED


def test_a_full_disk_at_the_end_loses_no_exit(small_disk: Path) -> None:
    spec = script("import time, os\nwhile not os.path.exists('go'): time.sleep(0.005)\nraise SystemExit(9)")
    with closing(LocalExecutor(small_disk / "runs", 1)) as executor:
        folder = RunFolder(executor.runs_root / spec.id)
        executor.submit([spec])
        wait_for_start(executor, spec.id)
        wait_for_file(folder.lease_file)
        (folder.path / "go.part").touch()
        ballast = fill(small_disk)
        os.rename(folder.path / "go.part", folder.path / "go")
        assert executor.wait(1.0) == [] and executor.active(), "the shim insists"
        ballast.unlink()
        assert ended(drain(executor)) == [spec.id]
        assert exit_of(executor, spec).code == 9


def test_refusals(runs: Path) -> None:
    with pytest.raises(JobError, match="concurrency"):
        LocalExecutor(runs, 0)
    executor = LocalExecutor(runs, 1)
    executor.close()
    with pytest.raises(JobError, match="closed"):
        executor.wait(0)


@pytest.mark.parametrize("lease", [b"", b"{}", b"garbage", b"[1]"])
def test_an_unreadable_lease_is_a_lost_run(executor: LocalExecutor, runs: Path, lease: bytes) -> None:
    spec = script("print('{\"metrics\": {}}')")
    folder = RunFolder(runs / spec.id)
    folder.create(spec)
    folder.lease_file.write_bytes(lease)
    assert failed(run_to_end(executor, spec)) is FailureKind.LOST
