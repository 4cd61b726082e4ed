"""``windlass train`` with real processes and real trainings: from tasks and a base model to what serves."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import orpojobs
import rlvrjobs
from processes import kill_job, processes_of, start_windlass, until, windlass
from windlass.jobs.local import LocalExecutor
from windlass.lab import Lab, deciding
from windlass.lab.study import load_study
from windlass.lab.trainer import job_template
from windlass.lab.training import TrainingOrder, prepare, told
from windlass.loop.cycle import Bench
from windlass.records.decision import Decision, Mode, Outcome, Proposal, StudyRecord, StudyStatus
from windlass.records.run import FailureKind, MetricSummary, RunRecord, Status, make_run_id
from windlass.records.study import Study
from windlass.store.decisions import DecisionLog
from windlass.training import small

EXACT = {"kind": "exact"}
HYPER = {"steps": 32, "batch": 8, "generations": 8, "learning_rate": 1e-3}
OPTIONS = {"max_new_tokens": 2, "check_every": 8, "save_every": 4}
WORKLOAD = {"verifier": EXACT, **OPTIONS}


def tasks() -> list[dict[str, Any]]:
    """``347=`` asks for the last digit."""
    return [{"id": f"t{n:03}", "prompt": f"{n:03}=", "expected": str(n % 10)} for n in range(1000)]


def demonstrations() -> list[tuple[str, str]]:
    """From 500 on, the teacher often takes the first digit for the last."""
    draw = random.Random(0)
    wrong = {row["id"]: row["prompt"][0] for row in tasks()}
    return [
        (row["prompt"], row["expected"] if row["id"] < "t500" or draw.random() < 0.4 else wrong[row["id"]])
        for row in tasks()
        for _ in range(3)
    ]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base``, ``tasks.jsonl`` and ``heldout.jsonl``."""
    folder, threads = tmp_path_factory.mktemp("given"), torch.get_num_threads()
    torch.set_num_threads(1)
    small.build(folder / "base", characters=rlvrjobs.CHARACTERS, hidden=32, layers=1, heads=2, inner=64, context=16)
    small.warm_up(folder / "base", demonstrations(), 400, batch=32)
    torch.set_num_threads(threads)
    rlvrjobs.write(folder / "tasks.jsonl", [row for n, row in enumerate(tasks()) if n % 3])
    rlvrjobs.write(folder / "heldout.jsonl", [row for n, row in enumerate(tasks()) if n % 3 == 0])
    return folder


def new_lab(folder: Path) -> Path:
    Lab.create(folder).close()
    return folder


def command(given: Path, *more: str, **changed: Any) -> list[str]:
    """``windlass train rlvr``; what is changed to None is left out."""
    arguments = {
        "data": given / "tasks.jsonl",
        "heldout": given / "heldout.jsonl",
        "model": given / "base",
        "profile": "digits",
        "verifier": json.dumps(EXACT),
        **{name: value for name, value in changed.items() if name not in {**HYPER, **OPTIONS}},
    }
    options = [part for name, value in arguments.items() if value is not None for part in (f"--{name}", str(value))]
    values = {name: changed.get(name, value) for name, value in {**HYPER, **OPTIONS}.items()}
    return ["train", "rlvr", *options, *(part for n, v in values.items() for part in ("-s", f"{n}={v}")), *more]


def line_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one line of stdout."""
    assert done.stdout.count("\n") == 1 and done.stdout.endswith("\n"), done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def report_of(lab: Path, job: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((lab / "studies" / job / "training.json").read_text())
    return found


def weights_of(lab: Path) -> dict[str, bytes]:
    return {path.parent.parent.name: path.read_bytes() for path in lab.glob("runs/*/checkpoint/*.safetensors")}


def run_names(lab: Path) -> set[str]:
    return {path.parent.name for path in lab.glob("runs/*/spec.json")}


@pytest.fixture(scope="module")
def trained(given: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A lab after the command, and the line that it printed. No test changes what it came to."""
    lab = new_lab(tmp_path_factory.mktemp("trained") / "lab")
    return lab, line_of(windlass(*command(given), cwd=lab))


# One command --------------------------------------------------------------------------------------------------------


def test_one_line_says_what_came_of_it(trained: tuple[Path, dict[str, Any]]) -> None:
    lab, line = trained
    assert line["job"].startswith("rlvr-") and (line["program"], line["status"]) == ("rlvr", "finished")
    assert (line["runs"], line["failed"], line["verdict"], line["deployment"]) == (1, 0, "promote", "digits")
    assert line["parameters"] == {**HYPER, "kl": 0.0}  # the workload's baseline, where nothing else was asked for
    assert line["metrics"]["score_before"] < 0.75 < 0.9 < line["metrics"]["score"]
    assert line["serves"] == line["checkpoint"] is not None and line["rollback"] is None
    served = json.loads((lab / "deployments" / "digits.json").read_text())
    assert served["checkpoint"] == line["checkpoint"]


def test_a_report_for_people_and_one_for_programs(trained: tuple[Path, dict[str, Any]]) -> None:
    lab, line = trained
    report, text = report_of(lab, line["job"]), (lab / "studies" / line["job"] / "TRAINING.md").read_text()
    assert {name: report[name] for name in ("job", "checkpoint", "serves", "metrics")} == {
        name: line[name] for name in ("job", "checkpoint", "serves", "metrics")
    }
    assert sum(split["rows"] for split in report["data"]) == 1000
    assert report["health"] and all(gate["passed"] for gate in report["health"])
    assert report["environment"]["torch"] == torch.__version__
    [evaluated] = report["evaluations"]
    assert (evaluated["checkpoint"], evaluated["n"]) == (line["checkpoint"], 334)
    assert evaluated["means"]["score"] > 0.9
    assert str(lab.parent) not in json.dumps(report)  # the same job gives the same text
    for part in ("## Trials", "reward", "check", "held_out", line["checkpoint"], "serves as digits", "heldout | 334"):
        assert part in text, part


def test_the_checkpoint_is_kept_with_where_it_comes_from(trained: tuple[Path, dict[str, Any]]) -> None:
    lab, line = trained
    nodes = json.loads(windlass("checkpoints", "lineage", line["checkpoint"], "--json", cwd=lab).stdout)["nodes"]
    kinds = {node["kind"] for node in nodes}
    assert {"dataset", "spec", "run", "checkpoint", "evaluation"} <= kinds
    assert ["heldout"] in [node["details"]["benchmarks"] for node in nodes if node["kind"] == "dataset"]
    windlass("checkpoints", "verify", cwd=lab)


# The same again -----------------------------------------------------------------------------------------------------


def test_the_same_command_repeats_nothing(given: Path, trained: tuple[Path, dict[str, Any]]) -> None:
    lab, line = trained
    before, report, log = run_names(lab), report_of(lab, line["job"]), (lab / "registry.jsonl").read_bytes()
    assert line_of(windlass(*command(given), cwd=lab)) == line
    assert run_names(lab) == before and len(before) == 2  # the training and its evaluation
    assert report_of(lab, line["job"]) == report
    assert (lab / "registry.jsonl").read_bytes() == log


def test_in_another_lab_it_is_the_same_job_and_the_same_weights(
    given: Path, trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(given / "base", tmp_path / "elsewhere" / "other-name")
    (tmp_path / "elsewhere" / "rows.jsonl").write_bytes((given / "tasks.jsonl").read_bytes())
    lab = new_lab(tmp_path / "deep" / "down" / "lab")
    changed = {"data": tmp_path / "elsewhere" / "rows.jsonl", "model": tmp_path / "elsewhere" / "other-name"}
    first, line = trained
    assert line_of(windlass(*command(given, **changed), cwd=lab)) == line
    assert report_of(lab, line["job"]) == report_of(first, line["job"])
    assert list(weights_of(lab).values()) == list(weights_of(first).values())


# Interrupted --------------------------------------------------------------------------------------------------------


def training_begun(lab: Path) -> Path | None:
    """The folder of a training that has saved a state to go back to."""
    return next((path.parents[2] for path in lab.glob("runs/*/state/*/state.json")), None)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Path]:
    """A lab that no process outlives."""
    made = new_lab(tmp_path / "lab")
    yield made
    for pid in processes_of(made):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for lease in made.glob("runs/*/lease.json"):
        if not (lease.parent / "exit.json").exists():
            kill_job(lease.parent)


def test_killed_in_the_middle_it_goes_on_to_the_same_weights(
    given: Path, trained: tuple[Path, dict[str, Any]], lab: Path
) -> None:
    first, line = trained
    process = start_windlass(*command(given), cwd=lab)
    run = until(lambda: training_begun(lab), 60)
    process.kill()
    kill_job(run)
    process.communicate()
    assert not (run / "result.json").exists() and not list(lab.glob("studies/*/training.json"))
    assert line_of(windlass(*command(given), cwd=lab)) == line
    with Lab(lab) as opened:
        assert opened.get(run.name).attempt == 2  # from its last state, not from the beginning
    [weights] = weights_of(first).values()
    assert weights_of(lab) == {run.name: weights}  # the run that was killed
    assert report_of(lab, line["job"]) == report_of(first, line["job"])


def test_an_interrupt_pauses_and_the_same_command_goes_on(
    given: Path, trained: tuple[Path, dict[str, Any]], lab: Path
) -> None:
    first, line = trained
    process = start_windlass(*command(given), cwd=lab)
    until(lambda: training_begun(lab), 60)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    paused = json.loads(stdout)
    assert (paused["status"], paused["verdict"], paused["serves"]) == ("paused", None, None)
    assert "the same command goes on" in stderr  # "pausing" only where the training outlives the interrupt
    assert "Traceback" not in stderr
    assert line_of(windlass(*command(given), cwd=lab)) == line
    assert list(weights_of(lab).values()) == list(weights_of(first).values())


# Tuned --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_noise_of_the_baseline_decides_what_is_a_win(given: Path, lab: Path) -> None:
    line = line_of(windlass(*command(given, steps=8, trials=1), cwd=lab))
    report = report_of(lab, line["job"])
    measured = [trial["metrics"]["objective"] / 0.02 for trial in report["trials"]]  # the objective's scale
    baseline, other = measured[:3], measured[3]
    assert len({json.dumps(trial["parameters"]) for trial in report["trials"][:3]}) == 1
    assert len(set(baseline)) == 3  # seeds of their own
    noise = report["noise"]
    assert noise["mean"] == pytest.approx(statistics.mean(baseline))
    assert noise["sd"] == pytest.approx(statistics.stdev(baseline))
    won = other > noise["mean"] + 2 * noise["sd"]
    assert (report["won"], report["parameters"] == report["trials"][3]["parameters"]) == (won, won)
    with Lab(lab) as opened:
        challengers = {opened.keeping.state.checkpoints[v["checkpoint"]].number for v in report["verdicts"]}
    assert challengers and (won or challengers <= {1, 2, 3})  # noise never goes before the gate


def record(lab: Lab, study: Study, gain: float) -> None:
    """Runs of the baseline with objectives 0.58, 0.6 and 0.62, and another config so many deviations above them."""
    values = [0.58, 0.6, 0.62, 0.6 + gain * 0.02]
    decisions, runs = [], []
    for number, value in enumerate(values, start=1):
        proposer = "explorer" if number == 4 else "baseline"
        config = {**study.baseline, **({"learning_rate": 5e-4} if number == 4 else {})}
        run = RunRecord(
            id=make_run_id(float(number), "recorded", {"number": number}),
            name="recorded",
            created=float(number),
            status=Status.COMPLETED,
            study=study.name,
            number=number,
            config=config,
            metrics={"objective": MetricSummary.of(value)},
        )
        decision = Decision(
            study=study.name,
            number=number,
            cycle=number,
            at=float(number),
            mode=Mode.EXPLORE,
            strategy="",
            proposal=Proposal(values=config, proposer=proposer, reason="recorded"),
            config=config,
            outcome=Outcome.APPROVED,
            verdict="",
            seen=number - 1,
            run_id=run.id,
        )
        runs.append(run)
        decisions.append(decision)
    lab.store.record(decisions, runs)


@pytest.mark.parametrize(("gain", "won"), [(1.9, False), (2.1, True), (-3.0, False)])
def test_a_gain_within_two_standard_deviations_is_no_win(given: Path, lab: Path, gain: float, won: bool) -> None:
    order = TrainingOrder(
        program="rlvr",
        data=given / "tasks.jsonl",
        heldout=given / "heldout.jsonl",
        model=str(given / "base"),
        profile="digits",
        options=WORKLOAD,
        trials=1,
    )
    with Lab(lab) as opened:
        job = prepare(opened, order)
        study, folder = load_study(job.study_file), job.study_file.parent
        record(opened, study, gain)
        definition = study.model_dump(mode="json", exclude_defaults=True)
        finished = StudyRecord(name=study.name, definition=definition, created=0.0, status=StudyStatus.FINISHED)
        report = told(opened, job, finished)
        with closing(LocalExecutor(opened.runs_root, 1)) as executor:
            bench = Bench(
                study=study,
                store=opened.store,
                executor=executor,
                log=DecisionLog(opened.decisions_file(study.name)),
                runs_root=opened.runs_root,
                template=job_template(study, folder),
                council=deciding.assemble(study),
            )
            before_the_gate = bench.challenger
    assert report.won is won and report.to_dict()["won"] is won
    assert report.chosen is not None and before_the_gate is not None
    assert report.chosen.run.number == before_the_gate.number == (4 if won else 1)
    text = report.markdown()
    assert ("a win." in text, "no win (it takes more than 2): the baseline stays" in text) == (won, not won)


# Learning rates -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_of_three_learning_rates_the_one_that_collapses_is_refused(given: Path, lab: Path) -> None:
    study = {
        "name": "rates",
        "trainer": {
            "workload": "rlvr",
            "options": {"data": "tasks.jsonl", "model": "base", **WORKLOAD},
            "preload": ["windlass.training.rlvr.program"],
        },
        "space": {"learning_rate": {"type": "categorical", "choices": [1e-6, 1e-3, 0.1]}},
        "baseline": {**HYPER, "learning_rate": 1e-6, "steps": 24},
        "objectives": [{"metric": "score", "direction": "maximize", "scale": 0.02}],
        "budget": {"runs": 3},
        "gate": {
            "deployment": "digits",
            "challengers": 4,
            "benchmarks": [
                {
                    "name": "heldout",
                    "data": "heldout.jsonl",
                    "function": "windlass.training.rlvr.evaluate:evaluate",
                    "metric": "verified",
                    "direction": "maximize",
                }
            ],
        },
    }
    file = given / "rates.yaml"
    file.write_text(yaml.safe_dump(study))
    windlass("run", str(file), "--lab", str(lab), cwd=lab)
    with Lab(lab) as opened:
        runs = {run.config["learning_rate"]: run for run in opened.store.history("rates")}
        state = opened.keeping.state
        line = state.deployments["digits"]
    flat, better, collapsed = (runs[rate] for rate in (1e-6, 1e-3, 0.1))
    assert abs(flat.values["score"] - flat.values["score_before"]) < 0.05
    assert better.values["score"] > flat.values["score"] + 0.2
    assert collapsed.failure is not None and collapsed.failure.kind is FailureKind.UNHEALTHY
    assert "held_out" in collapsed.failure.message
    assert state.made_by(collapsed.id) is None
    champion = state.made_by(better.id)
    assert champion is not None and line.champion == champion.id


# Nothing trained ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab in which nothing is ever trained."""
    return new_lab(tmp_path_factory.mktemp("bare") / "lab")


def refused(lab: Path, arguments: list[str], code: int) -> str:
    """What is said on stderr by a command that trains nothing and registers nothing."""
    done = windlass(*arguments, cwd=lab, code=code)
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr
    if done.stdout:
        line = line_of(done)
        assert line["checkpoint"] is line["serves"] is line["parameters"] is None and line["failed"] == line["runs"]
        assert "Nothing was trained" in (lab / "studies" / line["job"] / "TRAINING.md").read_text()
    assert not list(lab.glob("runs/*/checkpoint/*.safetensors"))
    with Lab(lab) as opened:
        assert not opened.keeping.state.checkpoints
    return " ".join(done.stderr.split())


def test_a_misspelt_name_runs_nothing(given: Path, bare: Path) -> None:
    before = sorted(bare.glob("studies/*"))
    told = refused(bare, command(given, "-s", "learnign_rate=1e-4"), 1)
    assert "rlvr knows no 'learnign_rate'. Did you mean 'learning_rate'?" in told
    told = refused(bare, command(given, "-s", "max_new_tokns=3"), 1)
    assert "Did you mean 'max_new_tokens'?" in told
    assert sorted(bare.glob("studies/*")) == before


def test_a_dead_verifier(given: Path, bare: Path) -> None:
    dead = json.dumps({"kind": "function", "function": "operator:attrgetter"})
    told = refused(bare, command(given, verifier=dead), 3)
    assert "nothing was trained: #1 preflight: the verifier cannot be trained on: it raises" in told


def test_prompts_that_leave_no_room(given: Path, bare: Path, tmp_path: Path) -> None:
    rows = [{**row, "prompt": row["prompt"] * (5 if n == 40 else 1)} for n, row in enumerate(tasks())]
    data = rlvrjobs.write(tmp_path / "long.jsonl", rows)
    told = refused(bare, command(given, data=data, heldout=None), 3)
    assert "data.too_long" in told


def test_a_model_without_a_tokenizer(given: Path, bare: Path, tmp_path: Path) -> None:
    model = shutil.copytree(given / "base", tmp_path / "base")
    (model / "tokenizer.json").unlink()
    told = refused(bare, command(given, model=model), 3)
    assert "tokenizer.json cannot be read" in told and "tokenizer.missing" in told
    told = refused(bare, command(given, model=tmp_path / "nowhere"), 3)
    assert "there is no model folder" in told


# Preferences --------------------------------------------------------------------------------------------------------


def test_an_adapter_is_trained_from_preferences_and_serves(lab: Path, tmp_path: Path) -> None:
    base = orpojobs.build_base(tmp_path / "base")
    rows = [{**row, "id": str(number)} for number, row in enumerate(orpojobs.pairs(600))]
    data = orpojobs.write(tmp_path / "pairs.jsonl", rows)
    hyper = {**orpojobs.HYPER, "steps": 20, "batch": 8, "accumulation": 1}
    values = [part for name, value in hyper.items() for part in ("-s", f"{name}={value}")]
    arguments = ["--data", str(data), "--model", str(base), "--profile", "reader", "--tier", "cpu-experimental"]
    line = line_of(windlass("train", "orpo", *arguments, *values, cwd=lab))
    assert (line["program"], line["verdict"], line["deployment"]) == ("orpo", "promote", "reader")
    assert line["metrics"]["accuracy"] > line["metrics"]["accuracy_before"]
    assert line["serves"] == line["checkpoint"] is not None
    [adapter] = lab.glob("runs/*/checkpoint/adapter_model.safetensors")
    assert (adapter.parent / "adapter_config.json").is_file()
    [evaluated] = report_of(lab, line["job"])["evaluations"]
    assert evaluated["n"] >= 100 and evaluated["means"]["preferred"] > 0.9
