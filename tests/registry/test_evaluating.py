"""Evaluations are real jobs; every number on record comes from the scores that they left."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import jobspecs
from windlass.errors import DataError, NotFound, StudyError
from windlass.jobs.collect import collect
from windlass.jobs.local import LocalExecutor
from windlass.records.audit import Change, ChangeKind
from windlass.records.checkpoint import Checkpoint
from windlass.records.evaluation import Evaluation
from windlass.records.gate import Benchmark
from windlass.records.run import Artifact, RunRecord, RunSpec, Status, make_run_id
from windlass.registry.blobs import Blobs
from windlass.registry.evaluating import (
    data_fingerprint,
    derive,
    evaluation_of,
    evaluation_spec,
    evaluator_fingerprint,
    import_evaluation,
    training_fingerprint,
    training_of,
)
from windlass.registry.leakage import Training
from windlass.registry.memory import MemoryRegistry
from windlass.registry.state import State
from windlass.runs.folder import RunFolder

#: a checkpoint is a file with a threshold; an example is right where its x lies above it
EVALUATOR = """
import json, pathlib, sys
spec = json.loads(pathlib.Path(sys.argv[sys.argv.index("--spec") + 1]).read_text())
config = spec["config"]
threshold = float((pathlib.Path(config["checkpoint"]) / "threshold.txt").read_text())
rows = [line.split(",") for line in pathlib.Path(config["data"]).read_text().splitlines()[1:]]
with open("scores.csv", "w") as file:
    print("id,right,loss,site", file=file)
    for name, x, site in rows:
        print(name, int(float(x) > threshold), abs(float(x) - threshold), site, sep=",", file=file)
print(json.dumps({"metrics": {"right": config["options"].get("claim", 0.75), "wall": 3.0},
                  "artifacts": [{"name": "scores", "path": "scores.csv", "kind": "scores"}]}))
"""
HELD = "id,x,site\na,0.1,north\nb,0.5,south\nc,0.7,north\nd,0.9,south\n"


class Bench:
    """A policy's folder with an evaluator and data, a lab's folders, and one checkpoint."""

    def __init__(self, root: Path) -> None:
        self.folder, self.runs = root / "study", root / "lab" / "runs"
        self.folder.mkdir()
        self.data = self.folder / "held.csv"
        self.data.write_text(HELD)
        (self.folder / "train.csv").write_text("id,x,site\nz,0.5,south\ny,0.2,west\n")
        (self.folder / "score.py").write_text(EVALUATOR)
        self.blobs = Blobs(root / "lab" / "blobs" / "sha256")
        self.registry = MemoryRegistry()
        self.benchmark = Benchmark.model_validate(
            {
                "name": "held_out",
                "data": "held.csv",
                "command": [jobspecs.PYTHON[0], "-I", "-S", "score.py"],
                "metric": "right",
                "direction": "maximize",
                "guards": [{"metric": "loss", "direction": "minimize", "margin": 0.1}],
                "slices": ["site"],
                "run_time": 30,
            }
        )
        self.checkpoint = self.make_checkpoint("0.3", self.train())

    def train(self, **fields: Any) -> RunRecord:
        """A completed run, as far as the registry looks at it."""
        paths = (str(self.folder / "train.csv"),)
        fingerprints = {"data": training_fingerprint(map(Path, paths))}
        spec = jobspecs.job("train", **{"data": paths, "fingerprints": fingerprints, **fields})
        RunFolder(self.runs / spec.id).create(spec)
        return RunRecord(id=spec.id, name="train", status=Status.COMPLETED, created=spec.created)

    def make_checkpoint(self, threshold: str, run: RunRecord, parent: str | None = None) -> Checkpoint:
        source = self.folder / "checkpoint" / threshold
        source.mkdir(parents=True)
        (source / "threshold.txt").write_text(threshold)
        manifest = self.blobs.add(source)
        made = Checkpoint(
            digest=manifest.digest,
            bytes=manifest.bytes,
            files=1,
            created=1_760_000_000.0,
            run=run.id,
            config={"lr": 0.1},
            parent=parent,
        )
        body = {"checkpoint": made.to_dict()}
        self.registry.append(Change(kind=ChangeKind.REGISTERED, subject=made.id, body=body), actor="test")
        return made

    def spec(self, checkpoint: Checkpoint | None = None, **options: Any) -> RunSpec:
        chosen = checkpoint or self.checkpoint
        files = self.blobs.files(chosen.digest)
        return evaluation_spec(self.benchmark, chosen, files, self.data, folder=self.folder, **options)

    def run(self, spec: RunSpec) -> RunRecord:
        executor = LocalExecutor(self.runs)
        try:
            executor.submit([spec])
            jobspecs.drain(executor)
        finally:
            executor.close()
        return collect(self.runs / spec.id)

    def record(self, run: RunRecord, training: Training | None = None, **changes: Any) -> Evaluation:
        given: dict[str, Any] = {"benchmark": self.benchmark, "checkpoint": self.checkpoint, **changes}
        return evaluation_of(
            run,
            RunFolder(self.runs / run.id),
            blobs=self.blobs,
            data=self.data,
            policy_folder=self.folder,
            training=training or Training(),
            **given,
        )

    def find(self, run_id: str) -> RunRecord:
        return collect(self.runs / run_id)

    def training(self, checkpoint: Checkpoint | None = None) -> Training:
        return training_of(checkpoint or self.checkpoint, self.registry.state(), self.find, self.runs)

    def change(self, **changes: Any) -> None:
        self.benchmark = self.benchmark.model_copy(update=changes)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def ended(bench: Bench) -> Iterator[RunRecord]:
    yield bench.run(bench.spec())


def test_a_job_gives_an_evaluation_whose_numbers_come_from_its_scores(bench: Bench) -> None:
    spec = bench.spec(env={"OMP_NUM_THREADS": "1"}, tags={"team": "blue"})
    assert (spec.study, spec.required_metrics, spec.limits.time_s) == (None, (), 30.0)
    assert spec.lineage == {"evaluates": bench.checkpoint.id, "benchmark": "held_out"}
    run = bench.run(spec)
    assert run.status is Status.COMPLETED, run.failure
    made = bench.record(run, bench.training())
    assert made.means == {"right": 0.75, "loss": pytest.approx(0.35)}
    assert (made.n, made.run, made.at, made.imported) == (4, run.id, run.ended, "")
    assert (made.data, made.evaluator) == (
        data_fingerprint(bench.data),
        evaluator_fingerprint(bench.benchmark, bench.folder),
    )
    assert (made.leakage.overlap, made.leakage.examples, made.notes) == (1, 4, ())
    assert "the first is 'b'" in made.leakage.words
    scores = derive(made, bench.blobs)
    assert scores.column("right").tolist() == [0, 1, 1, 1]
    assert scores.group("site").tolist() == ["north", "south", "north", "south"]
    assert Evaluation.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_what_the_evaluator_claims_is_a_note(bench: Bench) -> None:
    bench.change(options={"claim": 0.99})
    made = bench.record(bench.run(bench.spec()))
    assert made.means["right"] == 0.75
    assert made.notes == ("right: the evaluator says 0.99, the mean of its scores is 0.75",)
    assert Evaluation.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_asked_for_twice_it_is_one_run_and_a_salt_makes_another(bench: Bench) -> None:
    first = bench.spec()
    assert bench.spec() == first
    assert bench.spec(salt="again").id != first.id
    run = bench.run(first)
    again = bench.run(bench.spec())  # attaches to what has ended
    assert (again.id, again.started, again.ended) == (run.id, run.started, run.ended)
    assert bench.record(run) == bench.record(again)
    assert bench.record(bench.run(bench.spec(salt="again"))).id != bench.record(run).id


def test_another_checkpoint_evaluator_option_or_data_is_another_run(bench: Bench) -> None:
    ids = {bench.spec().id}
    ids.add(bench.spec(bench.make_checkpoint("0.6", bench.train())).id)
    bench.change(options={"claim": 1})
    ids.add(bench.spec().id)
    (bench.folder / "score.py").write_text(EVALUATOR + "\n")
    ids.add(bench.spec().id)
    bench.data.write_text(HELD + "e,1.0,west\n")
    ids.add(bench.spec().id)
    assert len(ids) == 5


def test_an_evaluator_is_its_code_and_what_it_is_told_and_not_what_the_gate_asks_of_its_scores(bench: Bench) -> None:
    before = evaluator_fingerprint(bench.benchmark, bench.folder)
    bench.change(min_delta=0.5, min_examples=7)
    assert evaluator_fingerprint(bench.benchmark, bench.folder) == before
    told = bench.benchmark.model_copy(update={"slices": ("site", "x")})
    assert evaluator_fingerprint(told, bench.folder) != before
    moved = bench.folder.rename(bench.folder.with_name("moved"))
    assert evaluator_fingerprint(bench.benchmark, moved) == before


def test_a_function_is_an_evaluator_too(bench: Bench) -> None:
    (bench.folder / "scoring.py").write_text(
        "def score(config, run):\n"
        "    path = run.artifacts_dir / 'scores.csv'\n"
        "    path.write_text('id,right,loss,site\\n1,1,0.5,north\\n')\n"
        "    run.artifact(path, kind='scores')\n"
        "    return {'right': 1.0}\n"
    )
    bench.change(command=None, function="scoring:score")
    run = bench.run(bench.spec())
    assert run.status is Status.COMPLETED, run.failure
    assert bench.record(run).means == {"right": 1.0, "loss": 0.5}
    bench.change(function="scorign:score")
    with pytest.raises(StudyError, match=r"benchmark 'held_out': no module 'scorign'"):
        bench.spec()


def refused(bench: Bench, run: RunRecord, **changes: Any) -> str:
    kept = bench.blobs.digests()
    with pytest.raises(DataError) as caught:
        bench.record(run, **changes)
    assert bench.blobs.digests() == kept
    return caught.value.message


def test_a_failed_job_is_no_evaluation(bench: Bench) -> None:
    (bench.folder / "score.py").write_text("raise SystemExit('no such model')")
    run = bench.run(bench.spec())
    assert f"{bench.checkpoint.id} was not evaluated on held_out: run {run.id} is failed: " in refused(bench, run)


def test_a_run_about_something_else_is_refused(bench: Bench, ended: RunRecord) -> None:
    other = bench.make_checkpoint("0.6", bench.train())
    assert f"no evaluation of {other.id} on held_out" in refused(bench, ended, checkpoint=other)
    benchmark = bench.benchmark.model_copy(update={"name": "other"})
    assert f"no evaluation of {bench.checkpoint.id} on other" in refused(bench, ended, benchmark=benchmark)


def test_data_and_evaluator_have_to_be_what_was_asked_for(bench: Bench, ended: RunRecord) -> None:
    bench.data.write_text(HELD.replace("0.1", "0.2"))
    assert "the data of benchmark 'held_out' changed after run" in refused(bench, ended)
    (bench.folder / "score.py").write_text("")
    assert "the data and the evaluator of benchmark" in refused(bench, ended)
    bench.data.unlink()
    assert "held.csv cannot be read" in refused(bench, ended)


def test_exactly_one_file_of_scores(bench: Bench, ended: RunRecord) -> None:
    scores, log = ended.artifacts[0], Artifact(name="log", path="stdout.log")
    message = refused(bench, replace(ended, artifacts=(log,)))
    assert "has 0; its artifacts: stdout.log (other)" in message
    assert "has 2; its artifacts: scores.csv (scores)" in refused(bench, replace(ended, artifacts=(scores, scores)))
    changed = replace(ended, artifacts=(replace(scores, sha256="0" * 64),))
    assert "changed after it published them" in refused(bench, changed)
    (bench.runs / ended.id / "scores.csv").unlink()
    assert "cannot be read" in refused(bench, ended)


def test_scores_do_not_come_through_links_out_of_the_run(bench: Bench, ended: RunRecord, tmp_path: Path) -> None:
    path = bench.runs / ended.id / "scores.csv"
    outside = path.rename(tmp_path / "scores.csv")
    path.symlink_to(outside)
    assert "symbolic link" in refused(bench, ended)
    path.unlink()
    (bench.runs / ended.id / "deep").symlink_to(tmp_path)
    away = replace(ended, artifacts=(replace(ended.artifacts[0], path="deep/scores.csv"),))
    refused(bench, away)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ("id,right,loss,site\na,1,NaN,x\n", "column 'loss' has NaN at example 'a'"),
        ("id,right,loss,site\na,1,0,x\na,1,0,x\n", "'a' 2 times"),
        ("id,rihgt,loss,site\na,1,0,x\n", "benchmark 'held_out': the scores have no column 'right'"),
        ("id,right,site\na,1,x\n", "no column 'loss'"),
        ("id,right,loss\na,1,0\n", "no column 'site'"),
    ],
)
def test_scores_that_the_gate_could_not_use(bench: Bench, ended: RunRecord, scores: str, words: str) -> None:
    (bench.runs / ended.id / "scores.csv").write_text(scores)
    assert words in refused(bench, ended)


def test_altered_scores_and_records_are_found(bench: Bench, ended: RunRecord) -> None:
    made = bench.record(ended)
    file = bench.blobs.files(made.scores) / "scores.csv"
    for changed in (replace(made, n=5), replace(made, means={**made.means, "right": 0.76})):
        with pytest.raises(DataError, match=rf"the record of evaluation {changed.id} .* on held_out says"):
            derive(changed, bench.blobs)
    os.chmod(file, 0o644)
    file.write_text(file.read_text().replace("a,0", "a,1"))
    with pytest.raises(DataError, match=rf"the scores of evaluation {made.id} .* were altered: .*scores.csv"):
        derive(made, bench.blobs)
    bench.blobs.remove(made.scores)
    with pytest.raises(DataError, match="is missing"):
        derive(made, bench.blobs)


# What was trained on


def test_training_data_are_the_runs_and_those_of_its_parents(bench: Bench) -> None:
    (bench.folder / "more").mkdir()
    (bench.folder / "more" / "x.csv").write_text("id,x,site\n1,0.9,south\n")
    child = bench.train(data=(str(bench.folder / "more"),), fingerprints={})
    tuned = bench.make_checkpoint("0.4", child, parent=bench.checkpoint.id)
    assert bench.training(tuned) == Training((bench.folder / "more", bench.folder / "train.csv"))
    orphan = replace(tuned, parent="0123456789ab")
    assert bench.training(orphan).silent == ("training began from 0123456789ab, which is not registered",)
    assert bench.training(orphan).paths == (bench.folder / "more",)


def test_a_runs_data_set_is_trained_on(bench: Bench) -> None:
    run = bench.train(data=(), fingerprints={})
    made = bench.runs / run.id / "artifacts" / "made.csv"
    made.parent.mkdir()
    made.write_text("id,x,site\n1,0.9,south\n")
    record = replace(run, artifacts=(Artifact(name="made", path="artifacts/made.csv", kind="dataset"),))
    checkpoint = bench.make_checkpoint("0.5", run)
    state = bench.registry.state()
    assert training_of(checkpoint, state, lambda _: record, bench.runs) == Training((made,))
    made.unlink()
    assert "made.csv is gone" in training_of(checkpoint, state, lambda _: record, bench.runs).unreadable[0]


def test_what_is_not_known_is_said(bench: Bench, ended: RunRecord) -> None:
    silent = bench.make_checkpoint("0.5", bench.train(data=(), fingerprints={}))
    assert "does not say what it was trained on" in bench.training(silent).silent[0]
    (bench.folder / "train.csv").write_text("id,x,site\n")
    assert "train.csv changed after run" in bench.training().unreadable[0]
    (bench.folder / "train.csv").unlink()
    assert "train.csv cannot be read" in bench.training().unreadable[0]
    leakage = bench.record(ended, bench.training()).leakage
    assert (leakage.overlap, leakage.declared) == (None, True)


@pytest.mark.parametrize(("fingerprints", "field"), [({"data": "d" * 64}, "unreadable"), ({}, "silent")])
def test_a_run_that_is_gone_had_data_where_it_said_so(bench: Bench, fingerprints: dict[str, str], field: str) -> None:
    gone = replace(bench.checkpoint, run=make_run_id(0.0, "gone", {}), fingerprints=fingerprints)
    assert "has no readable spec.json" in getattr(bench.training(gone), field)[0]


# Fingerprints


def test_the_fingerprint_of_data_is_of_content_alone(tmp_path: Path) -> None:
    import hashlib

    file = tmp_path / "a.csv"
    file.write_text("x\n")
    assert data_fingerprint(file) == hashlib.sha256(b"x\n").hexdigest()
    for name in ("one", "two"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "b.bin").write_bytes(b"b")
        (tmp_path / name / "a.bin").write_bytes(b"a")
    os.utime(tmp_path / "one" / "a.bin", (0, 0))
    one = data_fingerprint(tmp_path / "one")
    assert one == data_fingerprint(tmp_path / "two")
    (tmp_path / "two" / "a.bin").rename(tmp_path / "two" / "c.bin")
    assert data_fingerprint(tmp_path / "two") != one
    (tmp_path / "two" / "linked").symlink_to(tmp_path / "one")
    with pytest.raises(DataError, match="linked is no file, or a link to a folder"):
        data_fingerprint(tmp_path / "two")
    with pytest.raises(DataError, match="none cannot be read"):
        data_fingerprint(tmp_path / "none")


# Imported


def foreign(checkpoint: str, **changes: Any) -> dict[str, Any]:
    examples = [
        {"id": name, "scores": {"right": right, "loss": 0.5}, "groups": {"site": "north", "year": 2026}}
        for name, right in (("b", True), ("a", 0), ("c", 1.0))
    ]
    given = {
        "checkpoint": checkpoint,
        "benchmark": "held_out",
        "data_sha256": data_sha256(),
        "evaluator": "their harness 2.1",
        "source": "the other team",
        "made_at": "2026-03-01T12:00:00Z",
        "examples": examples,
    }
    return {key: value for key, value in {**given, **changes}.items() if value is not ...}


def data_sha256() -> str:
    import hashlib

    return hashlib.sha256(HELD.encode()).hexdigest()


NOW = 1_780_000_000.0


def imported(bench: Bench, given: Any, **more: Any) -> Evaluation:
    return import_evaluation(given, bench.registry.state(), bench.blobs, at=NOW, **more)


def test_an_import_is_marked_and_derived_like_any_other(bench: Bench, tmp_path: Path) -> None:
    given = foreign(bench.checkpoint.id[:6])
    made = imported(bench, given)
    assert (made.imported, made.run, made.n) == ("the other team", None, 3)
    assert (made.checkpoint, made.at) == (bench.checkpoint.id, 1_772_366_400.0)
    assert made.means == {"right": pytest.approx(2 / 3), "loss": 0.5}
    scores = derive(made, bench.blobs)
    assert scores.ids.tolist() == ["a", "b", "c"]
    assert scores.group("year").tolist() == ["2026"] * 3
    assert made.leakage.overlap is None
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps({**given, "examples": given["examples"][::-1]}))
    assert imported(bench, file) == made


def test_with_the_data_at_hand_leakage_is_counted(bench: Bench) -> None:
    given = foreign(bench.checkpoint.id)
    made = imported(bench, given, data=bench.data, training=bench.training())
    assert made.leakage.overlap == 1
    other = imported(bench, {**given, "data_sha256": "0" * 64}, data=bench.data, training=bench.training())
    assert other.leakage.overlap is None
    assert "is not what was scored there" in other.leakage.words


def examples(*changes: Any) -> list[Any]:
    return [{"id": f"q{i}", "scores": {"right": 1}, **(change or {})} for i, change in enumerate(changes)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"examples": ...}, "examples is missing; a mean without its examples proves nothing"),
        ({"examples": []}, "examples: must be a list with an object an example"),
        ({"mean": 0.9}, "unknown key 'mean'"),
        ({"sourse": "x"}, "unknown key 'sourse'. Did you mean 'source'"),
        ({"source": " "}, "source: must be text"),
        ({"evaluator": 3}, "evaluator: must be text, not 3"),
        ({"data_sha256": "abc"}, "data_sha256: 'abc' is no SHA-256"),
        ({"made_at": "yesterday"}, "made_at: 'yesterday' is no time"),
        ({"made_at": True}, "made_at: True is no time"),
        ({"made_at": 1e300}, "made_at: 1e+300 is no time"),
        ({"made_at": NOW + 3600}, "lies in the future"),
        ({"examples": ["x"]}, "examples[0]: is an object with keys, not 'x'"),
        ({"examples": examples({"score": 1})}, "examples[0]: unknown key 'score'. Did you mean 'scores'"),
        ({"examples": examples(None, {"id": True})}, "examples[1].id: must be text or a whole number"),
        ({"examples": examples(None, {"scores": {}})}, "examples[1].scores: right is missing"),
        ({"examples": examples(None, {"scores": {"right": 1, "x": 1}})}, "examples[1].scores: unknown key 'x'"),
        ({"examples": examples({"scores": {"right": "1"}})}, "examples[0].scores.right: must be a number, not '1'"),
        ({"examples": examples({"scores": {"right": float("nan")}})}, "column 'right' has NaN at example 'q0'"),
        ({"examples": examples({"scores": {"right": 10**400}})}, "too large"),
        ({"examples": examples({"scores": 1})}, "examples[0].scores: must be an object"),
        ({"examples": examples({"scores": {"row": 1}})}, "'row' names the example, a score or a group"),
        ({"examples": examples({"groups": {"right": "x"}})}, "'right' names the example, a score or a group"),
        ({"examples": examples({"groups": "x"})}, "groups: must be an object"),
        ({"examples": examples(None, {"id": "q0"})}, "examples repeat in column 'row': 'q0' 2 times"),
        ({"examples": examples({"id": "\ud800"})}, "half a character"),
    ],
)
def test_what_is_wrong_with_an_import_is_named(bench: Bench, changes: dict[str, Any], words: str) -> None:
    kept = bench.blobs.digests()
    with pytest.raises(DataError) as caught:
        imported(bench, foreign(bench.checkpoint.id, **changes))
    assert words in caught.value.message
    assert caught.value.message.startswith("the evaluation: ")
    assert bench.blobs.digests() == kept


def test_imports_from_files_name_the_file(bench: Bench, tmp_path: Path) -> None:
    for content, words in (("{", "is no JSON"), ("[1]", "is an object with keys"), (None, "cannot be read")):
        file = tmp_path / f"{len(words)}.json"
        if content is not None:
            file.write_text(content)
        with pytest.raises(DataError, match=words) as caught:
            imported(bench, file)
        assert caught.value.message.startswith(str(file))
    with pytest.raises(NotFound, match="no checkpoint 'ffffffffffff'"):
        imported(bench, foreign("ffffffffffff"))
    assert isinstance(bench.registry.state(), State)
