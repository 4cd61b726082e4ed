"""``start_run`` in real scripts: ends, crashes, leases, resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import windlass as wl
from processes import ENVIRONMENT, until
from windlass.errors import NotFound, StateError, WindlassError
from windlass.records.run import RunSpec
from windlass.runs import index
from windlass.runs.folder import RunFolder
from windlass.runs.lease import Holder, holder
from windlass.runs.reader import read_metric
from windlass.runs.sdk import attach
from windlass.settings import lay_out


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    lay_out(tmp_path / "lab")
    return tmp_path / "lab"


def script(lab: Path, code: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**ENVIRONMENT, "WINDLASS_LAB": str(lab), **more}
    argv = [sys.executable, "-c", "import os, sys, time\nimport windlass as wl\n" + code]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, cwd=lab.parent, check=False)


def only_run(lab: Path) -> RunFolder:
    (path,) = (lab / "runs").glob("*Z_*")
    return RunFolder(path)


def test_a_script_leaves_a_whole_run_folder(lab: Path) -> None:
    done = script(
        lab,
        "open('weights.bin', 'wb').write(b'123')\n"
        "with wl.start_run('my run', config={'lr': 0.1, 'opt': {'name': 'adam'}}, tags={'who': 'me'}, seed=4) as run:\n"
        "    for step in range(3): run.log(step=step, loss=1 / (step + 1))\n"
        "    run.log({'val/loss': 0.7}, step=2)\n"
        "    run.note('fine'); run.tag(phase='one'); run.artifact('weights.bin', kind='model')\n",
    )
    assert done.returncode == 0, done.stderr
    folder = only_run(lab)
    spec, ended, result = folder.spec(), folder.exit(), json.loads(folder.result_file.read_text())
    assert (spec.name, spec.seed, spec.config["opt"], spec.tags) == ("my run", 4, {"name": "adam"}, {"who": "me"})
    assert ended is not None and (ended.code, ended.reason) == (0, "exit") and ended.ended >= ended.started
    assert result["metrics"] == {"loss": 1 / 3, "val/loss": 0.7}
    (artifact,) = result["artifacts"]
    assert (folder.path / artifact["path"]).read_bytes() == b"123" and len(artifact["sha256"]) == 64
    assert index.latest(lab / "runs") == folder.id
    assert [e.event for e in index.read_from(lab / "runs", 0)[0]] == ["started", "ended"]


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("with wl.start_run() as run: raise ValueError('bad batch')", "error", "ValueError: bad batch"),
        ("run = wl.start_run(); raise ValueError('no with')", "error", "ValueError: no with"),
        ("with wl.start_run() as run: run.diverged('loss is 1e9')", "diverged", "loss is 1e9"),
        ("with wl.start_run() as run: raise MemoryError()", "out_of_memory", "MemoryError"),
        ("with wl.start_run() as run: sys.exit(3)", "error", "SystemExit: 3"),
    ],
)
def test_how_a_script_fails_is_on_record(lab: Path, code: str, kind: str, words: str) -> None:
    assert script(lab, code).returncode != 0
    folder = only_run(lab)
    failure, ended = json.loads(folder.result_file.read_text())["failure"], folder.exit()
    assert failure["kind"] == kind and words in failure["message"] and "Traceback" in failure["traceback"]
    assert ended is not None and ended.code == 1


def test_what_an_error_says_to_do_is_on_record(lab: Path) -> None:
    script(lab, "with wl.start_run() as run: raise wl.WindlassError('3 rows are too few', 'Give 10.')")
    failure = json.loads(only_run(lab).result_file.read_text())["failure"]
    assert (failure["message"], failure["next_step"]) == ("3 rows are too few", "Give 10.")


def test_a_script_that_just_ends_is_completed(lab: Path) -> None:
    assert script(lab, "wl.start_run().log(loss=0.5)").returncode == 0
    assert json.loads(only_run(lab).result_file.read_text())["metrics"] == {"loss": 0.5}


def test_equal_scripts_in_one_second_get_runs_of_their_own(lab: Path) -> None:
    code = "for _ in range(5): wl.start_run('same', config={'a': 1}).finish({'x': 1})"
    assert script(lab, code).returncode == 0
    assert len(list((lab / "runs").glob("*Z_same_*"))) == 5


def test_without_a_lab_one_is_made_here_and_told(tmp_path: Path) -> None:
    environment = {key: value for key, value in ENVIRONMENT.items() if key != "WINDLASS_LAB"}
    code = "import windlass as wl\nwl.start_run().finish({'x': 1})"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "no lab here" in done.stderr and (tmp_path / "lab" / "windlass.toml").is_file()
    assert only_run(tmp_path / "lab").exit() is not None


def test_a_forked_child_that_exits_does_not_end_the_run(lab: Path) -> None:
    code = (
        "run = wl.start_run()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n    with run: run.log(step=0, child=1.0); sys.exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "assert not run.folder.exit_file.exists(), 'the child ended it'\n"
        "run.log(step=1, loss=0.5); run.finish()\n"
    )
    done = script(lab, code)
    assert done.returncode == 0, done.stderr
    assert read_metric(only_run(lab), "child")[2].tolist() == [1.0]


def test_a_living_script_holds_its_lease_and_a_killed_one_loses_it_at_once(lab: Path) -> None:
    argv = [sys.executable, "-c", "import windlass as wl, time\nwl.start_run()\ntime.sleep(60)"]
    process = subprocess.Popen(argv, env={**ENVIRONMENT, "WINDLASS_LAB": str(lab)}, cwd=lab.parent)
    until(lambda: list((lab / "runs").glob("*/lease.json")))
    assert holder(only_run(lab)) is Holder.ALIVE
    process.kill()
    process.wait()
    assert holder(only_run(lab)) is Holder.DEAD


def test_of_a_far_machine_the_last_sign_of_life_counts(lab: Path) -> None:
    (lab / "windlass.toml").write_text("heartbeat_s = 40.0\nlease_s = 45.0\n")
    run = wl.start_run(lab=lab)
    folder, now = run.folder, time.time()
    assert holder(folder, now + 3600) is Holder.ALIVE, "a laptop that slept: its process is there"
    data = json.loads(folder.lease_file.read_text())
    for far in ({"host": "elsewhere", "boot_id": "other"}, {"pid_namespace": "pid:[1]"}):
        folder.lease_file.write_text(json.dumps({**data, **far, "pid": 1}))
        assert holder(folder, time.time() + 40) is Holder.ALIVE
        assert holder(folder, time.time() + 50) is Holder.DEAD
        assert holder(folder, time.time() - 3600) is Holder.DEAD, "a far machine's clock an hour ahead says nothing"
    folder.lease_file.write_text("garbage")
    assert holder(folder) is Holder.DEAD
    run.finish()


def test_the_heartbeat_touches_the_lease(lab: Path) -> None:
    (lab / "windlass.toml").write_text("heartbeat_s = 0.02\n")
    run = wl.start_run(lab=lab)
    os.utime(run.folder.lease_file, (0, 0))
    until(lambda: run.folder.lease_file.stat().st_mtime > 1)
    run.finish()


def test_a_killed_script_is_resumed_with_its_curves(lab: Path) -> None:
    first = "run = wl.start_run('long')\nfor step in range(10): run.log(step=step, loss=step)\nos.kill(os.getpid(), 9)"
    assert script(lab, first).returncode == -signal.SIGKILL
    run_id = only_run(lab).id
    second = (
        f"run = wl.start_run(resume={run_id!r})\n"
        "assert (run.attempt, run.resumed_step) == (2, 9), (run.attempt, run.resumed_step)\n"
        "for step in range(8, 12): run.log(step=step, loss=100 + step)\n"
        "run.finish()\n"
    )
    done = script(lab, second)
    assert done.returncode == 0, done.stderr
    steps, _, values = read_metric(only_run(lab), "loss")
    assert steps.tolist() == list(range(12)) and values.tolist() == [*range(8), 108, 109, 110, 111]
    again = script(lab, second)
    assert again.returncode != 0 and "is completed" in again.stderr


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        ("Preempted('saved at step 3')", "preempted", 143),
        ("PreflightError('model.missing', 'no such model')", "preflight", 3),
        ("Unhealthy('no step was done')", "unhealthy", 1),
        ('RuntimeError("DefaultCPUAllocator: can\'t allocate memory")', "out_of_memory", 1),
    ],
)
def test_kinds_of_a_scripts_own_failure(lab: Path, error: str, kind: str, code: int) -> None:
    script(lab, f"from windlass.errors import *\nwith wl.start_run() as run: raise {error}")
    folder = only_run(lab)
    result, ended = json.loads(folder.result_file.read_text()), folder.exit()
    assert result["failure"]["kind"] == kind and ended is not None and ended.code == code
    assert result["status"] == ("preempted" if kind == "preempted" else "completed")
    resumed = script(lab, f"with wl.start_run(resume={folder.id!r}) as run: run.log(loss=run.attempt)")
    assert resumed.returncode == (0 if kind == "preempted" else 1), resumed.stderr
    if kind == "preempted":
        assert json.loads(folder.result_file.read_text())["metrics"] == {"loss": 2.0}
        before = RunFolder(folder.attempt_folder(1))
        assert before.exit() == ended and json.loads(before.result_file.read_text()) == result
    else:
        assert "failed by itself" in resumed.stderr


def test_a_run_knows_its_spec_and_says_what_it_used(tmp_path: Path) -> None:
    identity = {"backend": "own", "data": "d" * 64}
    spec = RunSpec(id="20260101T000000Z_x_0000000000", name="x", created=0.0, seed=5, identity=identity)
    folder = RunFolder(tmp_path / spec.id)
    folder.create(spec)
    run = attach(folder)
    assert run.spec == spec and (run.attempt, run.resumed_step) == (1, None)
    run.identify(backend="other", world_size=2)
    run.finish({"loss": 1.0})
    said = json.loads(folder.result_file.read_text())["identity"]
    assert said == {**identity, "backend": "other", "world_size": "2"}


def test_of_many_that_resume_one_run_one_does(lab: Path) -> None:
    assert script(lab, "wl.start_run('x').log(step=1, loss=1)\nos.kill(os.getpid(), 9)").returncode == -signal.SIGKILL
    resume = f"run = wl.start_run(resume={only_run(lab).id!r})"
    code = f"import time, windlass as wl\n{resume}\ntime.sleep(3)\nprint(run.attempt)"
    environment = {**ENVIRONMENT, "WINDLASS_LAB": str(lab)}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    said = [process.communicate() for process in started]
    assert sorted(out for out, _ in said) == [b"", b"", b"", b"2\n"]
    assert sum(b"still running" in err for _, err in said) == 3


def test_sigterm_of_a_script_is_on_record_as_killed(lab: Path) -> None:
    argv = [sys.executable, "-c", "import windlass as wl, time\nwl.start_run().log(x=1)\ntime.sleep(60)"]
    process = subprocess.Popen(argv, env={**ENVIRONMENT, "WINDLASS_LAB": str(lab)}, cwd=lab.parent)
    until(lambda: [p for p in (lab / "runs").glob("*/journal.jsonl") if p.stat().st_size])
    process.terminate()
    assert process.wait() == -signal.SIGTERM
    ended = only_run(lab).exit()
    assert ended is not None and (ended.code, ended.signal, ended.reason) == (None, signal.SIGTERM, "exit")


def test_final_values_are_those_of_the_highest_step(lab: Path) -> None:
    with wl.start_run(lab=lab, config={"n": np.int64(3), "where": lab}) as run:
        for step, value in [(3, 0.3), (1, 0.1), (2, 0.2)]:
            run.log(step=step, loss=value)
        run.log(step=2, late=1.0)
    assert json.loads(run.folder.result_file.read_text())["metrics"] == {"loss": 0.3, "late": 1.0}
    assert run.folder.spec().config == {"n": 3, "where": str(lab)}
    with pytest.raises(StateError, match="finished"):
        run.log(step=4, loss=0.0)


def test_resume_takes_latest_and_a_part_of_an_id(lab: Path) -> None:
    for seed in range(2):  # ids of equal runs differ by their second alone
        started = f"wl.start_run('x', config={{'seed': {seed}}})\nos.kill(os.getpid(), 9)"
        assert script(lab, started).returncode == -signal.SIGKILL
    latest = index.latest(lab / "runs")
    assert latest is not None
    assert wl.start_run(lab=lab, resume="latest").id == latest
    other = next(p.name for p in (lab / "runs").glob("*Z_*") if p.name != latest)
    assert wl.start_run(lab=lab, resume=other[-10:]).id == other
    with pytest.raises(NotFound, match="2 runs"):
        wl.start_run(lab=lab, resume="_x_")


def test_a_living_or_absent_run_cannot_be_resumed(lab: Path) -> None:
    run = wl.start_run(lab=lab)
    with pytest.raises(StateError, match="still running"):
        wl.start_run(lab=lab, resume=run.id)
    run.finish()
    with pytest.raises(NotFound):
        wl.start_run(lab=lab, resume="20260101T000000Z_none_0123456789")


def test_bad_calls_are_told(lab: Path) -> None:
    with pytest.raises(WindlassError, match="no JSON"):
        wl.start_run(lab=lab, config={"x": object()})
    with wl.start_run(lab=lab) as run:
        with pytest.raises(WindlassError, match="no number"):
            run.log(loss="high")
        with pytest.raises(NotFound, match="artifact"):
            run.artifact("does-not-exist.bin")
    with pytest.raises(NotFound, match="is no lab"):
        wl.start_run(lab=lab.parent)


def test_environment_and_dirty_diff_are_captured(lab: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@y", "-C", str(work)]
    (work / "train.py").write_text("import windlass as wl\nwith wl.start_run() as run:\n    run.log(loss=1)\n")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    (work / "train.py").write_text((work / "train.py").read_text() + "# changed\n")
    environment = {**ENVIRONMENT, "WINDLASS_LAB": str(lab), "SECRET_TOKEN": "hunter2"}
    subprocess.run([sys.executable, "train.py"], cwd=work, env=environment, check=True)
    folder = only_run(lab)
    captured = json.loads(folder.environment_file.read_text())
    assert captured["git"]["dirty"] and len(captured["git"]["commit"]) == 40
    assert "+# changed" in folder.git_diff_file.read_text()
    assert "numpy" in captured["packages"] and captured["host"]
    assert not any("hunter2" in path.read_text(errors="replace") for path in folder.path.iterdir() if path.is_file())


def test_system_metrics_are_sampled(lab: Path) -> None:
    (lab / "windlass.toml").write_text("system_metrics_s = 0.05\n")
    code = (
        "from windlass.runs.reader import metric_names\n"
        "with wl.start_run() as run:\n"
        "    while 'system/memory_bytes' not in metric_names(run.folder): sum(range(10000))\n"
    )
    done = script(lab, code)
    assert done.returncode == 0, done.stderr
    assert read_metric(only_run(lab), "system/memory_bytes")[2][0] > 1e6
    assert "system/memory_bytes" not in json.loads(only_run(lab).result_file.read_text())["metrics"]
