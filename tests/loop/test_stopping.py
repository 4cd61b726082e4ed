"""Early stopping over real jobs: the hopeless end early with the evidence on record, the others complete."""

from __future__ import annotations

import json
import math
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobspecs import script
from processes import processes_of, until, windlass
from studyruns import make_run
from windlass.history.curves import Course
from windlass.jobs.collect import collect
from windlass.jobs.local import LocalExecutor
from windlass.jobs.protocol import JobEventKind
from windlass.lab.reindex import reindex
from windlass.loop.stopping import EarlyStopper, finished, judge, partial_values
from windlass.records.deciding import EarlyStopping
from windlass.records.run import EarlyStop, Limits, MetricSummary, RunRecord, RunSpec, Status
from windlass.records.study import Study
from windlass.runs.folder import RunFolder
from windlass.settings import lay_out
from windlass.store.sql import SqlStore

#: logs ``config.curve`` and ``config.more`` from step 1 on, and after each of them waits at the gate to be looked at; a
#: ``config.hold`` never gets past it. Ends with its last value as the result.
TRAINER = """
import json, os, signal, sys, time
config = json.load(open(sys.argv[sys.argv.index("--spec") + 1]))["config"]
if config.get("deaf"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
parts = (config["curve"], config.get("more", []))
for number in range(2):
    os.mkfifo(f"gate{number}")
step = 0
for number, part in enumerate(parts):
    with open("journal.jsonl", "a") as journal:
        for loss in part:
            step += 1
            journal.write(json.dumps({"time": time.time(), "step": step, "metrics": {"loss": loss}}) + "\\n")
    if part:
        open(f"gate{number}").read()
print(json.dumps({"metrics": {"loss": sum(parts, [])[-1]}}))
"""
GOOD, BAD = [1.0, 0.6, 0.4, 0.3, 0.25], [9.0, 8.0, 7.5, 7.2]
RULE = {"metric": "loss", "direction": "minimize", "from_step": 3, "runs": 3}


def make_study(**rule: Any) -> Study:
    return Study.model_validate(
        {
            "name": "curves",
            "trainer": {"command": "train"},
            "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "early_stopping": {**RULE, **rule},
        }
    )


class Driver:
    """As much of a lab as early stopping needs: submits, looks, collects."""

    def __init__(self, root: Path, study: Study) -> None:
        self.root, self.study = root, study
        self.runs: dict[str, RunRecord] = {}
        self.stopped: dict[str, EarlyStop] = {}
        self.passed: Counter[str] = Counter()  #: gates, by run id
        self.start()

    def start(self) -> None:
        """A new process's view of the same folders."""
        self.executor = LocalExecutor(self.root, 4)
        self.stopper = EarlyStopper(self.study, self.root, self.executor)

    def spec(self, curve: Sequence[float | str], **config: Any) -> RunSpec:
        number = len(self.runs) + 1
        chosen = {"x": number / 100, "curve": list(curve), **config}
        spec = replace(
            script(TRAINER, limits=Limits(grace_s=0.3)), study="curves", number=number, config=chosen, seed=number
        )
        self.runs[spec.id] = RunRecord(
            id=spec.id, name="curves", status=Status.QUEUED, created=spec.created, number=number, config=chosen
        )
        return spec

    def drive(self, *specs: RunSpec) -> list[RunRecord]:
        """To the end of all jobs."""
        shut = list[int]()  # gates of jobs that were stopped
        self.executor.submit(specs)
        while self.executor.active():
            for event in self.executor.wait(0.02):
                run = replace(self.runs[event.run_id], status=Status.RUNNING)
                self.runs[run.id] = run if event.kind is JobEventKind.STARTED else collect(self.root / run.id)
            waiting = {run_id: gate for run_id in self.executor.active() for gate in self.gates(run_id)}
            self.stopped |= self.stopper.look(self.runs.values())
            for run_id, gate in waiting.items():
                if run_id in self.stopped:
                    shut.append(gate)
                else:
                    os.close(gate)  # looked at: on it goes
        for gate in shut:
            os.close(gate)
        return [self.runs[spec.id] for spec in specs]

    def gates(self, run_id: str) -> Iterator[int]:
        """The gate at which a job waits, opened; nothing while it is on its way, or is to stay there."""
        if self.runs[run_id].config.get("hold"):
            return
        with suppress(OSError):  # nobody waits
            gate = self.root / run_id / f"gate{self.passed[run_id]}"
            yield os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
            self.passed[run_id] += 1

    def finish_some(self, count: int = 3) -> list[RunRecord]:
        """Completed runs to compare with."""
        return self.drive(*[self.spec([value + i / 100 for value in GOOD]) for i in range(count)])


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    made = Driver(tmp_path / "runs", make_study())
    yield made
    made.executor.close()
    until(lambda: not processes_of(tmp_path / "runs"))


@pytest.mark.parametrize("rule", ["median", "halving"])
def test_the_hopeless_is_stopped_with_its_evidence_and_the_good_complete(tmp_path: Path, rule: str) -> None:
    driver = Driver(tmp_path / "runs", make_study(rule=rule))
    with closing(driver.executor):
        good = driver.finish_some()
        bad, fine = driver.drive(driver.spec(BAD, hold=True), driver.spec([0.9, 0.5, 0.35, 0.2, 0.1]))
    assert [run.status for run in [*good, fine]] == [Status.COMPLETED] * 4
    assert bad.status is Status.STOPPED and bad.failure is None and bad.values == {"loss": 7.2}
    stop = bad.stopped_early
    assert stop is not None and driver.stopped == {bad.id: stop}
    assert (stop.metric, stop.step, stop.value, stop.rule) == ("loss", 4, 7.2, rule)
    at_the_judged_step = 0.3 if rule == "median" else 0.4  # the rung is step 3
    others = stop.evidence["others"]
    assert set(others) - {fine.id} == {run.id for run in good} and others[good[0].id] == at_the_judged_step
    assert stop.reason and any(isinstance(value, float) for value in stop.evidence.values())
    until(lambda: not processes_of(tmp_path / "runs"))


def test_nobody_is_stopped_before_from_step(driver: Driver) -> None:
    driver.finish_some()
    (run,) = driver.drive(driver.spec(BAD[:2]))
    assert run.status is Status.COMPLETED and not driver.stopped
    (run,) = driver.drive(driver.spec(BAD[:2], more=BAD[2:3]))
    assert run.stopped_early is not None and run.stopped_early.step == 3


def test_nobody_is_stopped_while_few_have_come_as_far(driver: Driver) -> None:
    driver.finish_some(2)
    driver.drive(driver.spec(GOOD[:2]))  # not as far
    (run,) = driver.drive(driver.spec(BAD))
    assert run.status is Status.COMPLETED and not driver.stopped
    driver.drive(driver.spec(GOOD))
    assert driver.drive(driver.spec(BAD))[0].status is Status.STOPPED


def test_one_that_does_not_hear_is_killed_after_the_grace(driver: Driver) -> None:
    driver.finish_some()
    (run,) = driver.drive(driver.spec(BAD, hold=True, deaf=True))
    exit = RunFolder(driver.root / run.id).exit()
    assert exit is not None and (exit.signal, exit.reason) == (signal.SIGKILL, "stop")
    assert run.status is Status.STOPPED and list(driver.stopped) == [run.id]


def test_a_curve_of_nan(driver: Driver) -> None:
    """Divergence is another rule's business; and nobody is measured by it."""
    driver.finish_some(2)
    (run,) = driver.drive(driver.spec(["NaN"] * 4))
    assert run.status is Status.COMPLETED and math.isnan(run.values["loss"])
    (run,) = driver.drive(driver.spec(BAD))
    assert run.status is Status.COMPLETED and not driver.stopped, "two curves are few"
    (run,) = driver.drive(driver.spec([*BAD, "NaN"], hold=True))
    assert run.stopped_early is not None and (run.stopped_early.step, run.stopped_early.value) == (4, 7.2)


def test_runs_that_failed_are_no_measure(driver: Driver) -> None:
    for _ in range(3):
        (failed,) = driver.drive(driver.spec([*GOOD, "x"]))
        assert failed.status is Status.FAILED
    (run,) = driver.drive(driver.spec(BAD))
    assert run.status is Status.COMPLETED and not driver.stopped


def test_a_repeat_is_a_measurement_and_goes_on(driver: Driver) -> None:
    driver.finish_some()
    same = {"config": "one and the same"}
    driver.drive(replace(driver.spec(GOOD), fingerprints=same))
    unlucky = driver.spec(BAD)
    driver.runs[unlucky.id] = replace(driver.runs[unlucky.id], fingerprints=same)
    (run,) = driver.drive(unlucky)
    assert run.status is Status.COMPLETED and not driver.stopped
    (run,) = driver.drive(driver.spec(BAD))
    assert run.status is Status.STOPPED, "the same curve, of a config of its own"


def test_a_restarted_lab_ends_what_the_killed_one_had_decided(driver: Driver, tmp_path: Path) -> None:
    good = driver.finish_some()
    spec = driver.spec(BAD, hold=True)
    driver.executor._signal = lambda run_id: None  # type: ignore[method-assign]  # as killed in between
    driver.executor.submit([spec])
    while not driver.stopped:
        for event in driver.executor.wait(0.05):
            driver.runs[event.run_id] = replace(driver.runs[event.run_id], status=Status.RUNNING)
        driver.stopped |= driver.stopper.look(driver.runs.values())
    driver.executor.close()
    why, driver.stopped = driver.stopped[spec.id], {}
    assert collect(driver.root / spec.id).status is Status.RUNNING

    driver.start()
    (run,) = driver.drive(spec)
    assert (run.status, run.stopped_early) == (Status.STOPPED, why)
    assert driver.stopped == {}, "told once"
    assert good[0].id in why.evidence["others"]


def test_a_restarted_lab_knows_the_curves_of_ended_runs(driver: Driver) -> None:
    driver.finish_some()
    driver.executor.close()
    driver.start()
    (run,) = driver.drive(driver.spec(BAD, hold=True))
    assert run.status is Status.STOPPED


def test_a_stop_that_cannot_be_written_is_asked_again(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def full_disk(run_id: str, why: EarlyStop) -> bool:
        asked.append(why.step)
        raise OSError(28, "No space left on device")

    driver.drive(*[driver.spec([*GOOD, 0.2 + i / 100]) for i in range(3)])
    monkeypatch.setattr(driver.executor, "stop", full_disk)
    (run,) = driver.drive(driver.spec(BAD, more=BAD[-1:]))
    assert run.status is Status.COMPLETED and asked == [4, 5] and not driver.stopped


@pytest.mark.parametrize(("usual", "status"), [(5, Status.COMPLETED), (6, Status.STOPPED)])
def test_a_run_that_came_as_far_as_runs_go_is_left_to_end(tmp_path: Path, usual: int, status: Status) -> None:
    driver = Driver(tmp_path / "runs", make_study(from_step=5))
    with closing(driver.executor):
        driver.drive(*[driver.spec([*GOOD, 0.2][:usual]) for _ in range(3)])
        (run,) = driver.drive(driver.spec([*BAD, 7.1]))
    assert run.status is status


def test_without_the_section_nothing_is_read(tmp_path: Path) -> None:
    study = make_study().model_copy(update={"early_stopping": None})
    with closing(LocalExecutor(tmp_path / "runs")) as executor:
        stopper = EarlyStopper(study, tmp_path, executor)
        assert stopper.look([make_run(1, status=Status.RUNNING)]) == {}
        assert stopper.partial_values([make_run(1, status=Status.STOPPED)]) == {}


def test_the_whole_lab_knows_a_stopped_run(tmp_path: Path) -> None:
    lay_out(tmp_path)
    driver = Driver(tmp_path / "runs", make_study())
    with closing(driver.executor):
        driver.finish_some()
        (run,) = driver.drive(driver.spec(BAD, hold=True))
    reindex(tmp_path, tmp_path / "windlass.db")
    with closing(SqlStore(tmp_path / "windlass.db")) as store:
        assert store.run(run.id) == run
    (found,) = json.loads(windlass("runs", "search", "status = 'stopped'", "--json", cwd=tmp_path).stdout)
    assert (found["id"], found["status"], found["metrics"]["loss"]["last"]) == (run.id, "stopped", 7.2)
    listed = windlass("runs", "list", cwd=tmp_path).stdout
    assert next(line for line in listed.splitlines() if run.id in line).count("stopped") == 1
    assert "stopped early" in windlass("runs", "show", run.id, cwd=tmp_path).stdout


# what the world model is told


COMPLETE = [Course([(step, value + i / 10) for step, value in enumerate(GOOD, start=1)]) for i in range(6)]
PARTIAL = Course([(1, 9.0), (2, 8.0), (3, 7.5)])


def test_a_partial_curve_is_worth_a_value_with_an_honest_spread_for_each_metric() -> None:
    doubled = [
        Course([*zip(c.steps[:-1], c.values[:-1], strict=True), (c.steps[-1], 2 * c.values[-1])]) for c in COMPLETE
    ]
    told = partial_values(PARTIAL, {"loss": COMPLETE, "error": doubled})
    (value, sd), (twice, _) = told["loss"], told["error"]
    assert math.isfinite(value) and sd >= 0
    assert twice == pytest.approx(2 * value)


def test_curves_that_do_not_tell_give_no_partial_value() -> None:
    assert partial_values(Course([]), {"loss": COMPLETE}) == {}
    assert partial_values(PARTIAL, {"loss": COMPLETE[:2]}) == {}


def test_partial_values_follow_from_the_runs_and_their_folders(driver: Driver) -> None:
    driver.finish_some(6)
    (run,) = driver.drive(driver.spec(BAD, hold=True))
    runs = list(driver.runs.values())
    told = driver.stopper.partial_values(runs)
    assert list(told) == [run.id] and list(told[run.id]) == ["loss"]
    fresh = EarlyStopper(driver.study, driver.root, driver.executor)
    assert fresh.partial_values(runs) == told
    assert fresh.partial_values([r for r in runs if r.status is not Status.STOPPED]) == {}


def test_a_finished_curve_ends_in_the_result() -> None:
    curve = Course([(1.0, 0.5), (2.0, 0.4)])
    best_epoch = make_run(1, metrics={"loss": MetricSummary.of(0.35)})
    assert list(finished(best_epoch, "loss", curve).values) == [0.5, 0.35]
    assert finished(make_run(1, metrics={"loss": MetricSummary.of(math.nan)}), "loss", curve) is curve
    assert list(finished(best_epoch, "loss", Course([])).values) == []


def test_the_evidence_names_the_best_and_not_everybody() -> None:
    rule = EarlyStopping.model_validate({**RULE, "runs": 5})
    curves = {f"run-{i:03}": Course([(1.0, 1.0), (3.0, i / 100)]) for i in range(100)}
    bad, late = Course([(1.0, 9.0), (3.0, 9.0)]), Course([(1.0, 0.0)])
    stop = judge(rule, "bad", {**curves, "bad": bad, "late": late, "empty": Course([])})
    assert stop is not None
    assert list(stop.evidence["others"]) == [f"run-{i:03}" for i in range(20)]
    rising = EarlyStopping.model_validate({**RULE, "direction": "maximize", "runs": 5})
    stop = judge(rising, "bad", {**curves, "bad": Course([(1.0, -9.0), (3.0, -9.0)])})
    assert stop is not None
    assert list(stop.evidence["others"].values())[:2] == [0.99, 0.98]
