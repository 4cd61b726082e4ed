"""RLVR as a job: what comes out, what is refused instead of trained or kept, and kills in real processes."""

from __future__ import annotations

import contextlib
import random
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rlvrjobs import HYPER, build_base, job, run, run_through, sums, write
from windlass.datasets.tasks import read_tasks
from windlass.errors import StudyError
from windlass.jobs.local import LocalExecutor
from windlass.records.run import FailureKind, Limits, RunRecord, Status
from windlass.runs.folder import RunFolder, read_json
from windlass.training import llama, models, tensors
from windlass.training.rlvr import checkpoint, program
from windlass.training.rlvr.workload import WORKLOAD
from windlass.workloads import complete

GATES = {
    *("finite_weights", "weights_changed", "steps_done", "loss_finite", "reward_varied", "verdicts_valid"),
    *("logprobs_agree", "held_out", "independent"),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(tmp_path_factory.mktemp("base"), steps=300)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "tasks.jsonl", sums())


def by(name: str) -> dict[str, str]:
    """A verifier of ``rlvrverifiers``."""
    return {"kind": "function", "function": f"rlvrverifiers:{name}"}


def refused(record: RunRecord, kind: FailureKind, *words: str) -> str:
    """The message of a run that failed with all these words and left no checkpoint."""
    assert record.failure is not None, record.values
    assert record.failure.kind is kind, record.failure
    for word in words:
        assert word in record.failure.message
    return record.failure.message


# A job from end to end ------------------------------------------------------------------------------------------------


def test_a_run_leaves_metrics_scores_health_and_a_model_that_loads(base: Path, data: Path, tmp_path: Path) -> None:
    spec = job(data, base, {"save_every": 4}, learning_rate=1e-5)
    record = run(spec, tmp_path)
    assert record.status is Status.COMPLETED, record.failure
    folder = RunFolder(tmp_path / "runs" / record.id)
    assert folder.stdout_file.read_text() == ""
    assert "step 8 of 8: reward" in folder.stderr_file.read_text()
    values = record.values
    assert 0 <= values["score_low"] <= values["score"] <= values["score_high"] <= 1
    assert values["objective"] == pytest.approx(values["reward_final"] - 0.1 * values["kl_mean"])
    assert values["kl_mean"] > 0
    assert values["invalid_share"] == 0
    assert {"score_before", "reward", "check", "tokens", "tokens_per_second"} < set(values)
    assert record.metrics["reward"].count == HYPER["steps"]
    kinds = {artifact.name: artifact.kind for artifact in record.artifacts}
    assert kinds == {
        "environment": "manifest",
        "audit": "report",
        "scores": "scores",
        "health": "report",
        "model": "checkpoint",
    }
    report = read_json(folder.artifacts / "health.json")
    assert report["healthy"]
    assert {check["name"] for check in report["checks"]} == GATES
    assert read_json(folder.artifacts / "audit.json")["ok"]
    assert "torch" in read_json(folder.artifacts / "environment.json")
    said = read_json(folder.result_file)["identity"]
    assert {name: said[name] for name in spec.identity} == spec.identity
    assert set(spec.identity) == {"backend", "run", "data"}
    manifest = checkpoint.verify(folder.checkpoint)
    weights = dict(llama.load(folder.checkpoint).named_parameters())
    assert manifest.tensors == tensors.digest(weights)
    assert (manifest.base, manifest.steps, manifest.backend) == (models.base_digest(base), 8, "own")
    assert set(manifest.files) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert not (folder.path / "scratch").exists()
    lines = [line.split(",") for line in (folder.artifacts / "scores.csv").read_text().splitlines()[1:]]
    assert sum(float(line[1]) for line in lines) / len(lines) == values["score"]
    assert sum(float(line[2]) for line in lines) / len(lines) == values["score_before"]


def test_one_seed_gives_one_model_and_another_one_another(base: Path, data: Path, tmp_path: Path) -> None:
    def trained(seed: int) -> str:
        record = run(job(data, base, seed=seed, learning_rate=1e-5), tmp_path)
        assert record.status is Status.COMPLETED, record.failure
        return checkpoint.verify(tmp_path / "runs" / record.id / "checkpoint").tensors

    assert trained(1) == trained(1) != trained(2)


def test_a_job_that_is_killed_and_terminated_goes_on_to_the_same_bits(base: Path, data: Path, tmp_path: Path) -> None:
    """Real processes, and instants by chance."""
    chance = random.Random(5)
    ends = [
        (0, signal.SIGKILL),
        (chance.randrange(1, 12), signal.SIGKILL),
        (chance.randrange(12, 20), signal.SIGTERM),
        (chance.randrange(20, 38), signal.SIGKILL),
    ]
    options = {"check_every": 9, "check_tasks": 4}
    first, second = (job(data, base, options, steps=40, preload=WORKLOAD.preload, learning_rate=1e-5) for _ in range(2))
    with contextlib.closing(LocalExecutor(tmp_path / "runs")) as executor:
        (whole,) = run_through(executor, first)
        *ended, last = run_through(executor, second, ends)
    assert whole.status is Status.COMPLETED, whole.failure
    kinds = [record.failure.kind if record.failure else None for record in ended]
    assert kinds == [FailureKind.KILLED, FailureKind.KILLED, FailureKind.PREEMPTED, FailureKind.KILLED]
    assert (last.status, last.attempt) == (Status.COMPLETED, 5), last.failure
    folders = [tmp_path / "runs" / record.id for record in (whole, last)]
    for name in ("model.safetensors", checkpoint.MANIFEST):
        assert len({(folder / "checkpoint" / name).read_bytes() for folder in folders}) == 1, name
    told = [
        {name: value for name, value in record.values.items() if not name.startswith(("system/", "tokens_per_second"))}
        for record in (whole, last)
    ]
    assert told[0] == told[1]


# What is refused before anything is trained ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verifier", "words"),
    [
        ("always_zero", "a right completion '1' on task '0+1' gets 0, not 1"),
        ("never_sure", "a right completion '1' on task '0+1' gets no score, not 1"),
        ("not_a_number", "gave nan as a score"),
        ("infinite", "gave inf as a score"),
        ("raising", "it raises on a right completion '1' on task '0+1': KeyError"),
    ],
)
def test_a_verifier_that_its_audit_refuses_is_not_trained_on(
    base: Path, data: Path, tmp_path: Path, verifier: str, words: str
) -> None:
    record = run(job(data, base, {"verifier": by(verifier)}), tmp_path)
    refused(record, FailureKind.PREFLIGHT, "the verifier cannot be trained on", words, "[verifier.audit]")
    folder = RunFolder(tmp_path / "runs" / record.id)
    assert not (folder.state / "00000001").exists()
    assert not read_json(folder.artifacts / "audit_refused.json")["ok"]


def test_prompts_that_leave_no_room_are_refused_with_their_rows(base: Path, data: Path, tmp_path: Path) -> None:
    rows = sums()
    rows[4]["prompt"] = "1+" * 7 + "1="
    record = run(job(write(data, rows), base, {"verifier": by("right")}), tmp_path)
    refused(record, FailureKind.PREFLIGHT, "row 5 (16)", "[data.too_long]")


@pytest.mark.parametrize(
    ("changed", "hyper", "code"),
    [
        ({"model": "missing/folder/here"}, {}, "model.missing"),
        ({}, {"batch": 90}, "data.too_few"),
        ({"max_new_tokens": 14}, {}, "data.too_long"),
    ],
)
def test_what_cannot_be_trained_here_is_refused_with_a_code(
    base: Path, data: Path, tmp_path: Path, changed: dict[str, Any], hyper: dict[str, Any], code: str
) -> None:
    refused(run(job(data, base, changed, **hyper), tmp_path), FailureKind.PREFLIGHT, f"[{code}]")


def test_the_memory_limit_of_the_run_is_known_before_the_start(base: Path, data: Path, tmp_path: Path) -> None:
    record = run(job(data, base, limits=Limits(memory_bytes=2**20)), tmp_path)
    refused(record, FailureKind.PREFLIGHT, "[memory.short]")


def test_several_processes_are_refused(base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(run(job(data, base), tmp_path), FailureKind.PREFLIGHT, "[world_size]")


def test_data_that_changed_since_the_run_was_made_are_refused(base: Path, data: Path, tmp_path: Path) -> None:
    spec = job(data, base)
    write(data, sums()[::-1])  # the same tasks in another order are another training
    refused(run(spec, tmp_path), FailureKind.PREFLIGHT, "fingerprint 'data'", "[data.changed]")


def test_tasks_that_are_judged_by_must_not_be_trained_on(base: Path, data: Path, tmp_path: Path) -> None:
    validation = write(tmp_path / "validation.jsonl", [{"id": "a", "prompt": "9+9+1=", "expected": "19"}, sums()[6]])
    record = run(job(data, base, {"validation": str(validation)}), tmp_path)
    refused(record, FailureKind.ERROR, "row 2 (row 7 of the training tasks)")


def test_tasks_without_a_verifier_are_refused(base: Path, data: Path, tmp_path: Path) -> None:
    record = run(job(data, base, {"verifier": None}), tmp_path)
    refused(record, FailureKind.ERROR, "has no verifier, and there is none for all tasks")


# What is refused after it was trained ---------------------------------------------------------------------------------


@pytest.fixture
def unaudited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the audit: a verifier that turns bad later is no other."""
    monkeypatch.setattr(program, "_audit", lambda plan, verifier, run: None)


@pytest.mark.parametrize(
    ("verifier", "words"),
    [
        ("always_zero", ("reward_varied: in 100.0% of", "weights_changed: no weight has changed")),
        ("never_sure", ("verdicts_valid: ", "weights_changed: no weight has changed", "held_out: ")),
        ("sometimes_unsure", ("verdicts_valid: ", "verdicts had no score; at most 2.0% may")),
    ],
)
@pytest.mark.usefixtures("unaudited")
def test_a_reward_that_is_broken_in_training_leaves_no_checkpoint(
    base: Path, data: Path, tmp_path: Path, verifier: str, words: tuple[str, ...]
) -> None:
    record = run(job(data, base, {"verifier": by(verifier)}), tmp_path)
    refused(record, FailureKind.UNHEALTHY, *words)
    folder = RunFolder(tmp_path / "runs" / record.id)
    assert not folder.checkpoint.exists()
    assert not read_json(folder.artifacts / "health.json")["healthy"]


@pytest.mark.parametrize(
    ("verifier", "words"),
    [
        ("not_a_number", "gave nan as a score"),
        ("infinite", "gave inf as a score"),
        ("raising", "the verifier raised KeyError on task"),
    ],
)
@pytest.mark.usefixtures("unaudited")
def test_a_verifier_that_fails_in_training_fails_the_run(
    base: Path, data: Path, tmp_path: Path, verifier: str, words: str
) -> None:
    refused(run(job(data, base, {"verifier": by(verifier)}), tmp_path), FailureKind.ERROR, words)


def test_a_training_without_effect_leaves_no_checkpoint(base: Path, data: Path, tmp_path: Path) -> None:
    record = run(job(data, base, learning_rate=1e-30), tmp_path)
    refused(record, FailureKind.UNHEALTHY, "weights_changed: no weight has changed")


def test_a_training_that_collapses_leaves_no_checkpoint(base: Path, data: Path, tmp_path: Path) -> None:
    record = run(job(data, base, learning_rate=0.3, steps=12), tmp_path)
    refused(record, FailureKind.UNHEALTHY, "held_out: held-out score")


def test_a_loss_that_is_not_finite_is_divergence(base: Path, data: Path, tmp_path: Path) -> None:
    refused(run(job(data, base, learning_rate=1e38), tmp_path), FailureKind.DIVERGED)


def test_a_reward_that_is_hacked_is_refused_by_the_independent_check(base: Path, data: Path, tmp_path: Path) -> None:
    """The verifier takes any long number for right, and its audit does not see it: training reward saturates."""
    options = {"verifier": by("any_long_number"), "max_new_tokens": 5, "check_every": 10, "check_tasks": 50}
    hyper = {"steps": 60, "batch": 16, "generations": 8, "learning_rate": 3e-3}
    more = {**options, "validation_share": 0.5}
    believed = run(job(data, base, more, **hyper), tmp_path)
    assert believed.status is Status.COMPLETED, believed.failure
    assert believed.values["reward_final"] > 0.9
    assert believed.values["score"] > believed.values["score_before"]
    checked = run(job(data, base, {**more, "check": {"kind": "exact"}}, **hyper), tmp_path)
    message = refused(checked, FailureKind.UNHEALTHY, "independent: held-out check", "held_out: ")
    assert "training reward" in message
    folder = RunFolder(tmp_path / "runs" / checked.id)
    assert not folder.checkpoint.exists()
    health = {check["name"]: check for check in read_json(folder.artifacts / "health.json")["checks"]}
    assert not health["independent"]["passed"]


# The example ----------------------------------------------------------------------------------------------------------


def test_the_example_knows_what_is_right_and_what_a_careless_pupil_says(tmp_path: Path) -> None:
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "rlvr" / "make_base.py"))
    example["make"](tmp_path, steps=1)
    train, heldout = (read_tasks(tmp_path / name) for name in ("tasks.jsonl", "heldout.jsonl"))
    assert len(train) + len(heldout) == 10_000
    assert len({task.prompt for task in (*train, *heldout)}) == 10_000
    known = {task.prompt: task for task in (*train, *heldout)}
    assert (known["07+35="].expected, known["07+35="].metadata["carry"]) == ("042", "yes")
    assert known["64+23="].metadata["carry"] == "no"
    assert [example["careless"](*pair) for pair in ((7, 35), (64, 23), (99, 99))] == ["032", "087", "088"]
    assert llama.load(tmp_path / "base").shape.hidden == 64


# Its door -------------------------------------------------------------------------------------------------------------


def test_a_study_names_data_and_model_alone(base: Path, data: Path) -> None:
    study = {"trainer": {"workload": "rlvr", "options": {"data": data.name, "model": str(base)}}}
    made = complete(study, data.parent)
    assert set(made["space"]) == {"learning_rate", "batch", "kl"}
    assert made["objectives"] == [{"metric": "objective", "direction": "maximize", "scale": 0.02}]
    options = WORKLOAD.options(study["trainer"]["options"], data.parent)  # type: ignore[arg-type]
    assert options["data"] == str(data)
    assert WORKLOAD.data(options) == (str(data),)
    assert set(WORKLOAD.fingerprints(options)) == {"data", "tasks"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"verifer": {}}, "Did you mean 'verifier'?"),
        ({"backend": "tlr"}, "'tlr' is not one of 'own' or 'trl'"),
        ({"template": "no place"}, "'template' has {prompt} once"),
        ({"max_new_tokens": 0}, "trainer.options.max_new_tokens: input should be greater than or equal to 1, not 0"),
    ],
)
def test_a_wrong_option_is_refused_with_the_right_one(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError) as error:
        WORKLOAD.options({"data": "d", "model": "m", **options}, tmp_path)
    assert words in str(error.value)


def test_a_parameter_that_training_does_not_read_is_refused() -> None:
    with pytest.raises(StudyError, match=r"no parameter 'learning_rat'. Did you mean 'learning_rate'"):
        WORKLOAD.check(["learning_rat"])
    with pytest.raises(StudyError, match="option of the training"):
        WORKLOAD.check(["workload.model"])


def test_the_door_loads_no_training_library() -> None:
    code = "import windlass.training.rlvr.workload, sys; sys.exit(bool({'torch', 'trl'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_level_at_which_code_is_kept_is_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    from windlass import sandbox
    from windlass.errors import PreflightError
    from windlass.training.rlvr import program

    class Tagged:
        tags: ClassVar[dict[str, str]] = {}

        def tag(self, **tags: str) -> None:
            self.tags.update(tags)

    nested = {"kind": "weighted", "parts": [{"verifier": {"kind": "code"}, "weight": 1}]}
    program._note_sandbox([None, {"kind": "exact"}], Tagged())  # type: ignore[arg-type]
    assert Tagged.tags == {}
    monkeypatch.setattr(sandbox, "available", lambda: sandbox.Level.LANDLOCK)
    program._note_sandbox([None, nested], Tagged())  # type: ignore[arg-type]
    assert Tagged.tags == {"sandbox": "landlock"}

    def nowhere() -> sandbox.Level:
        raise sandbox.SandboxUnavailable("no level works here")

    monkeypatch.setattr(sandbox, "available", nowhere)
    with pytest.raises(PreflightError, match=r"no level works here \[sandbox\.missing\]"):
        program._note_sandbox([nested], Tagged())  # type: ignore[arg-type]
