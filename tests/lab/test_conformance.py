"""The conformance suite, on the three example trainers and on trainers that do each thing wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from windlass.lab.conformance import Conformance, Finding, check_trainer
from windlass.records.run import RunSpec
from windlass.runs.folder import RunFolder

EXAMPLES = Path(__file__).parents[2] / "examples" / "trainers"
SHORT = {"epochs": 40}

HEAD = """
import json, os, signal, sys, time
spec = json.load(open(sys.argv[sys.argv.index("--spec") + 1]))
journal = open("journal.jsonl", "a", buffering=1)
def log(step, **metrics):
    journal.write(json.dumps({"step": step, "metrics": metrics}) + "\\n")
def result(**more):
    print(json.dumps({"metrics": {"loss": 0.5}, "identity": spec["identity"], **more}))
"""


def check(command: list[str], folder: Path, **options: object) -> Conformance:
    return check_trainer(command, folder=folder, **options)  # type: ignore[arg-type]


def bad(tmp_path: Path, body: str, **options: object) -> dict[str, tuple[Finding, str]]:
    (tmp_path / "train.py").write_text(HEAD + body)
    report = check([sys.executable, "train.py"], tmp_path, time_s=20.0, **options)
    return {point.name: (point.finding, point.words) for point in report.points} | {
        "ok": (Finding.PASSED if report.ok else Finding.FAILED, "")
    }


@pytest.mark.parametrize(
    ("command", "epochs"),
    [([sys.executable, "train.py"], 800), (["sh", "train.sh"], 400), (["node", "train.js"], 2000)],
)
def test_the_example_trainers_keep_every_point(command: list[str], epochs: int) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    report = check(command, EXAMPLES, config={"epochs": epochs}, data=[EXAMPLES / "wine.csv"])
    told = [f"{point.name}: {point.finding} {point.words}" for point in report.points]
    assert report.ok and report.resumable and len(report.points) == 17, told
    assert all(point.finding is Finding.PASSED for point in report.points), told


def test_the_three_languages_find_the_same_model(tmp_path: Path) -> None:
    values = []
    for command in ([sys.executable, "train.py"], ["sh", "train.sh"], ["node", "train.js"]):
        if shutil.which(command[0]) is not None:
            folder = RunFolder(tmp_path / command[0].rpartition("/")[2])
            spec = RunSpec(id=folder.id, name="wine", created=0.0, config=SHORT)
            folder.create(spec)
            argv = [*command[:1], str(EXAMPLES / command[1]), "--spec", str(folder.spec_file)]
            argv += ["--output-dir", str(folder.path)]
            done = subprocess.run(argv, cwd=folder.path, capture_output=True, text=True, check=True)
            values.append(json.loads(done.stdout)["metrics"])
    assert len(values) >= 2
    for metrics in values:
        assert metrics == pytest.approx(values[0], rel=1e-9)


def test_a_trainer_that_cannot_start_is_one_point(tmp_path: Path) -> None:
    report = check(["no-such-program-anywhere"], tmp_path)
    assert [(p.name, p.finding) for p in report.points] == [("starts", Finding.FAILED)]
    assert "no-such-program-anywhere" in report.points[0].words


def test_noise_on_stdout_is_no_result(tmp_path: Path) -> None:
    found = bad(tmp_path, 'print("epoch 1"); result()')
    assert found["one JSON result"][0] is Finding.FAILED and "epoch 1" in found["one JSON result"][1]
    assert found["ok"][0] is Finding.FAILED


def test_a_result_that_is_not_finite_fails(tmp_path: Path) -> None:
    found = bad(tmp_path, 'print(\'{"metrics": {"loss": "NaN"}}\')')
    assert found["finite metrics"] == (Finding.FAILED, "not finite: loss")


def test_a_result_of_another_experiment_is_told_field_by_field(tmp_path: Path) -> None:
    found = bad(tmp_path, 'result(identity={**spec["identity"], "profile": "mine", "config": "0"})')
    finding, words = found["repeats the spec's identity"]
    assert finding is Finding.ADVICE
    assert "profile: expected 'conformance', is 'mine'" in words and "config: expected" in words


def test_an_artifact_that_is_not_there_fails(tmp_path: Path) -> None:
    found = bad(tmp_path, 'result(artifacts=[{"name": "m", "path": "model.bin"}])')
    assert found["artifacts are where the result says"] == (Finding.FAILED, "named, and not there: model.bin")


def test_a_preempted_run_that_calls_itself_completed_fails(tmp_path: Path) -> None:
    """What transformers does when it is told to save and stop: it returns as if nothing had happened."""
    found = bad(
        tmp_path,
        """
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
for step in range(200):
    log(step, loss=1.0)
    time.sleep(0.005)
    if asked: break
result()
""",
    )
    assert found["an interrupted run is not completed"][0] is Finding.FAILED
    assert found["ok"][0] is Finding.FAILED


def test_a_trainer_that_starts_anew_instead_of_going_on_is_told_so(tmp_path: Path) -> None:
    found = bad(
        tmp_path,
        """
import random
os.makedirs("state", exist_ok=True)
open("state/any", "w").write("x")
for step in range(250):
    log(step, loss=1.0)
    time.sleep(0.005)
print(json.dumps({"metrics": {"loss": random.random()}, "identity": spec["identity"]}))
""",
    )
    assert found["the same seed gives the same result"][0] is Finding.ADVICE
    assert found["goes on after kill -9"][0] is Finding.ADVICE
    assert "differs: loss" in found["goes on after kill -9"][1]
    assert found["ok"][0] is Finding.PASSED  # none of that is required


def test_the_command_reports_point_by_point(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(HEAD + "print('no result')")
    command = [sys.executable, "-m", "windlass", "trainers", "check", "--time", "20", sys.executable, "train.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "passed    starts" in done.stderr and "failed    one JSON result" in done.stderr
    assert "does not keep the trainer contract" in done.stdout
