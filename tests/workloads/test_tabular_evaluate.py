"""The tabular evaluator: checkpoints of real trainings on real tables, in the job and as one."""

from __future__ import annotations

import json
import math
import runpy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import jobspecs
from windlass.errors import DataError
from windlass.jobs.collect import collect
from windlass.jobs.local import LocalExecutor
from windlass.lab.policy import check_gate
from windlass.lab.study import load_study
from windlass.lab.trainer import job_template
from windlass.records.audit import Change, ChangeKind
from windlass.records.checkpoint import Checkpoint
from windlass.records.content import nest
from windlass.records.run import RunRecord, RunSpec, Status, make_run_id
from windlass.registry.blobs import Blobs
from windlass.registry.evaluating import derive, evaluation_of, evaluation_spec, training_of
from windlass.registry.memory import MemoryRegistry
from windlass.registry.scores import Scores, read
from windlass.runs.folder import RunFolder
from windlass.runs.sdk import attach
from windlass.workloads.tabular import models
from windlass.workloads.tabular.evaluate import evaluate

EXAMPLE = Path(__file__).parents[2] / "examples" / "keeping"
Train = Callable[..., Any]
Make = Callable[[dict[str, Any]], RunFolder]
TREES = {"model": "forest", "forest.trees": 5}


def people(n: int = 240) -> pl.DataFrame:
    """Numbers, booleans, dates, texts with leading zeros, gaps; the target follows from them."""
    rng = np.random.default_rng(3)
    age, smoker, code = rng.integers(20, 80, n), rng.random(n) < 0.4, rng.choice(["01", "1", "x"], n)
    return pl.DataFrame(
        {
            "id": [f"P{i:03}" for i in range(n)],
            "age": pl.Series(age).cast(pl.Float64).scatter(np.arange(0, n, 17), None),
            "smoker": smoker,
            "since": pl.Series(np.datetime64("2020-01-01") + rng.integers(0, 900, n)),
            "code": pl.Series(code).scatter(np.arange(5, n, 23), None),
            "risk": np.where(age / 80 + smoker + (code == "01") > 1.2, "high", "low"),
            "cost": age * 10.0 + smoker * 100,
        }
    )


def trained(train: Train, table: Path, target: str, drop: tuple[str, ...]) -> Path:
    options = {"data": str(table), "target": target, "drop": list(drop)}
    return train(options, TREES).folder / "checkpoint"


def scored(make_folder: Make, checkpoint: Path, data: Path, **config: Any) -> Scores:
    folder = make_folder({"checkpoint": str(checkpoint), "data": str(data), **config})
    run = attach(folder)
    metrics = evaluate(run.config, run)
    run.finish(metrics)
    record = json.loads(folder.result_file.read_text())
    assert [(artifact["path"], artifact["kind"]) for artifact in record["artifacts"]] == [
        ("artifacts/scores.parquet", "scores")
    ]
    scores = read(folder.artifacts / "scores.parquet")
    assert scores.means() == pytest.approx(metrics)
    return scores


@pytest.fixture
def table(tmp_path: Path) -> Path:
    people().write_csv(tmp_path / "people.csv")
    return tmp_path / "people.csv"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_every_row_is_scored_as_the_model_predicts(
    train: Train, make_folder: Make, table: Path, tmp_path: Path, suffix: str
) -> None:
    checkpoint = trained(train, table, "risk", ("id", "cost"))
    held = tmp_path / f"held{suffix}"
    {".csv": people().write_csv, ".tsv": lambda p: people().write_csv(p, separator="\t")}.get(
        suffix, people().write_parquet
    )(held)
    scores = scored(make_folder, checkpoint, held, options={"target": "risk"}, slices=["code", "smoker"])
    assert scores.ids.tolist() == people()["id"].to_list()
    model = models.load(checkpoint / "model.skops")
    frame = people().with_columns(
        pl.col("smoker").cast(pl.Float64),
        pl.col("since").cast(pl.Int32).cast(pl.Float64),
        pl.col("code").fill_null("(missing)"),
        pl.col("age").fill_null(math.nan),
    )
    true = model.predict_proba(frame)[np.arange(len(frame)), (frame["risk"] == "low").cast(pl.Int8).to_numpy()]
    np.testing.assert_allclose(scores.column("log_loss"), -np.log(np.clip(true, np.finfo(float).eps, 1)), atol=1e-12)
    assert scores.column("accuracy").tolist() == (model.predict(frame) == frame["risk"].to_numpy()).tolist()
    assert scores.column("accuracy").mean() > 0.8
    assert set(scores.group("code")) == {"01", "1", "x", "(missing)"}
    assert set(scores.group("smoker")) == {"true", "false"}


def test_the_target_is_the_one_that_was_trained_for(train: Train, make_folder: Make, table: Path) -> None:
    checkpoint = trained(train, table, "cost", ("id", "risk"))
    scores = scored(make_folder, checkpoint, table, trained_with={"workload": {"target": "cost"}})
    assert set(scores.columns) == {"mae", "squared_error"}
    assert scores.means()["mae"] < 60


def test_a_class_that_was_never_seen_is_wrong_and_not_the_last_one(
    train: Train, make_folder: Make, table: Path, tmp_path: Path
) -> None:
    checkpoint = trained(train, table, "risk", ("id", "cost"))
    held = tmp_path / "held.csv"
    people(10).with_columns(risk=pl.lit("unheard of")).write_csv(held)
    scores = scored(make_folder, checkpoint, held, options={"target": "risk"})
    assert scores.column("accuracy").tolist() == [0] * 10
    assert scores.column("log_loss").min() == pytest.approx(-math.log(np.finfo(float).eps))


@pytest.mark.parametrize("labels", [[0, 1], [False, True], ["00", "1"]])
def test_labels_of_every_kind_find_their_class(
    train: Train, make_folder: Make, tmp_path: Path, labels: list[Any]
) -> None:
    frame = people().with_columns(risk=pl.Series([labels[risk == "high"] for risk in people()["risk"]]))
    frame.write_csv(tmp_path / "people.csv")
    checkpoint = trained(train, tmp_path / "people.csv", "risk", ("id", "cost"))
    scores = scored(make_folder, checkpoint, tmp_path / "people.csv", options={"target": "risk"})
    assert scores.column("accuracy").mean() > 0.8


def test_rows_are_named_by_the_option_else_by_an_id_that_is_no_feature_else_by_number(
    train: Train, make_folder: Make, tmp_path: Path
) -> None:
    frame = people(60).with_columns(number=pl.int_range(60) + 500)
    frame.write_csv(tmp_path / "people.csv")
    checkpoint = trained(train, tmp_path / "people.csv", "risk", ("id", "cost", "number"))
    common = {"make_folder": make_folder, "checkpoint": checkpoint}
    named = scored(**common, data=tmp_path / "people.csv", options={"target": "risk", "id": "number"})
    assert named.ids.tolist() == [str(500 + i) for i in range(60)]
    frame.drop("id").write_csv(tmp_path / "anonymous.csv")
    numbered = scored(**common, data=tmp_path / "anonymous.csv", options={"target": "risk"})
    assert set(numbered.ids) == {str(i) for i in range(60)}


def test_what_does_not_fit_is_named(train: Train, make_folder: Make, table: Path, tmp_path: Path) -> None:
    checkpoint = trained(train, table, "risk", ("id", "cost"))
    held = tmp_path / "held.csv"

    def refusal(frame: pl.DataFrame | None = None, checkpoint: Path = checkpoint, **config: Any) -> str:
        (people(9) if frame is None else frame).write_csv(held)
        with pytest.raises(DataError) as caught:
            scored(make_folder, checkpoint, held, **{"options": {"target": "risk"}, **config})
        return str(caught.value)

    assert "no column 'smoker' (feature). Did you mean 'smokes'" in refusal(people(9).rename({"smoker": "smokes"}))
    assert "no column 'risks' (target). Did you mean 'risk'" in refusal(options={"target": "risks"})
    assert "no column 'name' (id)" in refusal(options={"target": "risk", "id": "name"})
    assert "no column 'site' (slice)" in refusal(slices=["site"])
    assert "a slice cannot be named 'row'" in refusal(people(9).with_columns(row=pl.lit("x")), slices=["row"])
    assert "no option 'targte'. Did you mean 'target'" in refusal(options={"targte": "risk"})
    assert "not known which column is the target" in refusal(options={})
    assert "1 of 9 rows have no target 'risk'" in refusal(
        people(9).with_columns(risk=pl.when(pl.int_range(9) > 0).then(pl.col("risk")))
    )
    assert "column 'age' is String; it was numbers" in refusal(people(9).with_columns(age=pl.lit("old")))
    assert "has no rows" in refusal(people(0))
    assert "no checkpoint of the workload 'tabular'" in refusal(checkpoint=tmp_path)
    bundled = train({"dataset": "wine"}, TREES).folder / "checkpoint"
    assert "bundled data set, whose columns have no names" in refusal(checkpoint=bundled)


# The example, as the lab goes about it


class Kept:
    """The example's data, policy and jobs in a folder of their own."""

    def __init__(self, root: Path) -> None:
        self.folder, self.runs = root / "keeping", root / "runs"
        self.folder.mkdir()
        runpy.run_path(str(EXAMPLE / "make_data.py"))["main"](self.folder)
        (self.folder / "study.yaml").write_text((EXAMPLE / "study.yaml").read_text())
        self.study = load_study(self.folder / "study.yaml")
        assert self.study.gate is not None
        self.gate = self.study.gate
        self.data = check_gate(self.gate, self.folder)
        self.blobs, self.registry = Blobs(root / "blobs"), MemoryRegistry()
        self.executor = LocalExecutor(self.runs)

    def execute(self, spec: RunSpec) -> RunRecord:
        self.executor.submit([replace(spec, preload=self.study.trainer.preload)])
        jobspecs.drain(self.executor, 60)
        run = collect(self.runs / spec.id)
        assert run.status is Status.COMPLETED, run.failure
        return run

    def train(self, **parameters: Any) -> Checkpoint:
        template = job_template(self.study, self.folder)
        config = {**template.config, **nest(parameters)}
        run = self.execute(replace(template, id=make_run_id(0.0, "keeping", {"config": config}), config=config))
        manifest = self.blobs.add(self.runs / run.id / "checkpoint")
        made = Checkpoint(
            digest=manifest.digest,
            bytes=manifest.bytes,
            files=len(manifest.files),
            created=0.0,
            run=run.id,
            config=run.config,
            fingerprints=run.fingerprints,
        )
        body = {"checkpoint": made.to_dict()}
        self.registry.append(Change(kind=ChangeKind.REGISTERED, subject=made.id, body=body), actor="test")
        return made


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.executor.close()


def test_the_example_evaluates_for_real(kept: Kept) -> None:
    (benchmark,) = kept.gate.benchmarks
    data = kept.data[benchmark.name]
    losses = []
    for parameters in ({"model": "forest", "forest.trees": 10, "forest.depth": 4}, {"model": "svm", "svm.C": 5.0}):
        checkpoint = kept.train(**parameters)
        files = kept.blobs.files(checkpoint.digest)
        run = kept.execute(evaluation_spec(benchmark, checkpoint, files, data, folder=kept.folder))
        training = training_of(checkpoint, kept.registry.state(), lambda name: collect(kept.runs / name), kept.runs)
        assert training.paths == (kept.folder / "train.csv",)
        made = evaluation_of(
            run,
            RunFolder(kept.runs / run.id),
            benchmark,
            checkpoint,
            kept.blobs,
            data=data,
            policy_folder=kept.folder,
            training=training,
        )
        assert (made.n, made.leakage.overlap, made.notes) == (700, 0, ())
        scores = derive(made, kept.blobs)
        assert set(scores.group("ink")) == {"light", "heavy"}
        assert scores.ids[0].startswith("d")
        losses.append(made.means["log_loss"])
    assert losses[1] < losses[0] - benchmark.min_delta
