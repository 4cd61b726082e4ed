"""A run's checkpoint made known: only of a completed run, only what the run says it left, in full or not at all."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keptbytes import SMALL, entries, every_step, make_tree, read_tree
from windlass import start_run
from windlass.errors import DataError, LabBusy, NotFound, StateError, StoreError
from windlass.jobs.collect import collect
from windlass.records.audit import Change, ChangeKind, Entry
from windlass.records.checkpoint import Checkpoint
from windlass.records.run import Artifact, Failure, FailureKind, MetricSummary, RunRecord, Status, make_run_id
from windlass.registry.blobs import Blobs
from windlass.registry.housekeeping import gc, gc_plan
from windlass.registry.memory import MemoryRegistry
from windlass.registry.register import register
from windlass.registry.sql import SqlRegistry
from windlass.runs.folder import RunFolder
from windlass.store.database import Database


class Bench:
    """A registry, bytes, and runs on disk."""

    def __init__(self, root: Path, registry: Any = None) -> None:
        self.root = root
        self.registry = registry or MemoryRegistry()
        self.blobs = Blobs(root / "blobs" / "sha256")

    def run(self, number: int = 1, tree: dict[str, bytes] | None = None, **fields: Any) -> RunRecord:
        """A completed run whose ``checkpoint/`` holds ``tree``; other paths begin with ``/``."""
        run = RunRecord(
            **{
                "id": make_run_id(1.79e9 + number, "bowl", {"number": number}),
                "name": "bowl",
                "study": "bowl",
                "number": number,
                "status": Status.COMPLETED,
                "created": 1.79e9 + number,
                "config": {"lr": 0.1, "model": {"depth": number}},
                "seed": number,
                "metrics": {"loss": MetricSummary.of(0.5 / number)},
                "fingerprints": {"code": "c0de" * 16, "data": "da7a" * 16},
                **fields,
            }
        )
        for path, data in (SMALL if tree is None else tree).items():
            place = self.folder(run).path / (path[1:] if path.startswith("/") else f"checkpoint/{path}")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        self.folder(run).path.mkdir(parents=True, exist_ok=True)
        return run

    def folder(self, run: RunRecord) -> RunFolder:
        return RunFolder(self.root / "runs" / run.id)

    def register(self, run: RunRecord) -> Checkpoint:
        return register(self.registry, self.blobs, run, self.folder(run), actor="study bowl")

    def kinds(self) -> list[str]:
        return [str(entry.kind) for entry in self.registry.entries()]

    def nothing(self) -> None:
        """Nothing was entered, and no byte kept."""
        assert self.kinds() == [] and self.blobs.digests() == [] and self.blobs.leftovers() == []


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def artifact(path: str, data: bytes | None = None, kind: str = "other", **fields: Any) -> Artifact:
    recorded = {} if data is None else {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return Artifact(**{"name": path, "path": path, "kind": kind, **recorded, **fields})


# What is registered ------------------------------------------------------------------------------------------------


def test_a_checkpoint_carries_where_it_comes_from(bench: Bench) -> None:
    run = bench.run(3, metrics={"loss": MetricSummary.of(math.nan), "accuracy": MetricSummary.of(0.9)})
    made = bench.register(run)
    assert made.digest == entries(SMALL).digest and (made.bytes, made.files) == (9, 2)
    assert (made.run, made.study, made.number, made.seed) == (run.id, "bowl", 3, 3)
    assert made.config == run.config and made.fingerprints == run.fingerprints and made.parent is None
    assert math.isnan(made.metrics["loss"]) and made.metrics["accuracy"] == 0.9
    (entry,) = bench.registry.entries()
    assert (entry.kind, entry.subject, entry.actor, entry.at) == ("registered", made.id, "study bowl", made.created)
    assert Checkpoint.from_dict(entry.body["checkpoint"]).digest == made.digest
    assert bench.blobs.verify(made.digest) == ()
    assert bench.registry.state().runs == {made.id: [run.id]}


def test_a_real_run_from_start_to_registration(tmp_path: Path) -> None:
    (tmp_path / "windlass.toml").touch()
    (tmp_path / "runs").mkdir()
    with start_run("bowl", config={"lr": 0.1}, lab=tmp_path) as run:
        run.log(step=1, loss=0.5)
        (run.checkpoint_dir / "weights.bin").write_bytes(b"weights")
        run.artifact(run.checkpoint_dir / "weights.bin", name="weights", kind="model")
        run.artifact(run.checkpoint_dir, kind="checkpoint")
    bench = Bench(tmp_path)
    made = bench.register(collect(run.folder))
    assert made.metrics == {"loss": 0.5} and made.run == run.id
    assert read_tree(bench.blobs.files(made.digest)) == {"weights.bin": b"weights"}


def test_the_artifact_of_kind_checkpoint_goes_before_the_folder(bench: Bench) -> None:
    tree = {"/out/best.pt": b"best", "other.pt": b"other"}
    file = bench.register(bench.run(1, tree, artifacts=(artifact("out/best.pt", b"best", "checkpoint"),)))
    assert read_tree(bench.blobs.files(file.digest)) == {"best.pt": b"best"}
    folder = bench.register(bench.run(2, {**tree, "/out/x": b"x"}, artifacts=(artifact("./out/", kind="checkpoint"),)))
    assert read_tree(bench.blobs.files(folder.digest)) == {"best.pt": b"best", "x": b"x"}


def test_a_parent_is_named_by_its_whole_id(bench: Bench) -> None:
    parent = bench.register(bench.run(1))
    child = bench.register(bench.run(2, {"model.bin": b"child"}, lineage={"parent": parent.id[:7]}))
    assert child.parent == parent.id


def test_doing_it_again_changes_nothing(bench: Bench) -> None:
    run = bench.run()
    made = bench.register(run)
    assert bench.register(run) == made and bench.kinds() == ["registered"]
    shutil.rmtree(bench.folder(run).path)
    assert bench.register(run) == made, "what is kept needs the run folder no more"


def test_the_same_bytes_from_another_run_are_the_same_checkpoint(bench: Bench) -> None:
    first, second = bench.run(1), bench.run(2)
    made = bench.register(first)
    assert bench.register(second) == made == bench.register(second)
    assert bench.kinds() == ["registered", "reproduced"]
    assert bench.registry.state().runs == {made.id: [first.id, second.id]}
    assert bench.register(first) == made and bench.kinds() == ["registered", "reproduced"]


def remove(bench: Bench, checkpoint: Checkpoint) -> None:
    change = Change(kind=ChangeKind.REMOVED, subject=checkpoint.id, body={"bytes": 9, "reason": "test"})
    bench.registry.append(change, actor="test")
    bench.blobs.remove(checkpoint.digest)


def test_what_was_removed_comes_back_as_what_it_was(bench: Bench) -> None:
    run = bench.run(1)
    made = bench.register(run)
    remove(bench, made)
    assert bench.register(run) == made and bench.kinds() == ["registered", "removed", "registered"]
    assert bench.registry.state().removed == {} and bench.blobs.verify(made.digest) == ()


def test_what_was_removed_comes_back_from_another_run_too(bench: Bench) -> None:
    first, second = bench.run(1), bench.run(2)
    made = bench.register(first)
    remove(bench, made)
    assert bench.register(second) == made
    assert bench.kinds() == ["registered", "removed", "registered", "reproduced"]
    assert bench.registry.state().runs == {made.id: [first.id, second.id]}


def test_registering_again_repairs_what_was_damaged(bench: Bench) -> None:
    run = bench.run()
    made = bench.register(run)
    (bench.blobs.files(made.digest) / "model.bin").unlink()
    assert bench.blobs.verify(made.digest)
    assert bench.register(run) == made and bench.blobs.verify(made.digest) == ()
    assert bench.kinds() == ["registered"]


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.COMPLETED])
def test_only_a_completed_run_leaves_a_checkpoint(bench: Bench, status: Status) -> None:
    failure = Failure(kind=FailureKind.TIMEOUT, message="") if status is Status.FAILED else None
    with pytest.raises(StateError, match=rf"is {status}( \(timeout\))?; only a completed run"):
        bench.register(bench.run(status=status, failure=failure))
    bench.nothing()


def test_a_run_without_a_checkpoint(bench: Bench) -> None:
    run = bench.run(tree={})
    with pytest.raises(NotFound, match="left no checkpoint") as raised:
        bench.register(run)
    assert "run.checkpoint_dir" in raised.value.next_step
    bench.folder(run).checkpoint.mkdir()
    with pytest.raises(NotFound, match="left no checkpoint"):
        bench.register(run)
    (bench.folder(run).checkpoint / "empty").mkdir()
    with pytest.raises(DataError, match="has no file in it"):
        bench.register(run)
    bench.nothing()


def test_several_checkpoints_are_none(bench: Bench) -> None:
    two = (artifact("checkpoint/model.bin", kind="checkpoint"), artifact("checkpoint/inner", kind="checkpoint"))
    with pytest.raises(DataError, match=r"names 2 checkpoints: checkpoint/model\.bin, checkpoint/inner"):
        bench.register(bench.run(artifacts=two))
    bench.nothing()


def test_an_unknown_parent_is_told_with_the_nearest(bench: Bench) -> None:
    parent = bench.register(bench.run(1)).id
    misspelt = parent[:5] + parent[6] + parent[5] + parent[7:]
    if misspelt == parent:
        pytest.skip("two equal digits")
    with pytest.raises(NotFound, match=f"began from.*{misspelt}.*Did you mean '{parent}'"):
        bench.register(bench.run(2, {"model.bin": b"child"}, lineage={"parent": misspelt}))
    assert bench.kinds() == ["registered"] and len(bench.blobs.digests()) == 1


@pytest.mark.parametrize("path", ["../outside", "/etc/hostname", "checkpoint/../../outside", ".", ""])
def test_a_path_out_of_the_run_folder_is_refused(bench: Bench, path: str) -> None:
    make_tree(bench.root / "runs" / "outside")
    with pytest.raises(DataError, match="leads out of the run folder"):
        bench.register(bench.run(artifacts=(artifact(path, kind="checkpoint"),)))
    bench.nothing()


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


LINKS: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "checkpoint itself": (lambda run, out: link(run / "checkpoint", out), "checkpoint"),
    "a file in it": (lambda run, out: link(run / "checkpoint/model.bin", out / "model.bin"), "checkpoint"),
    "a folder in it": (lambda run, out: link(run / "checkpoint/inner", out), "checkpoint"),
    "on the way to it": (lambda run, out: link(run / "way", out), "way/inner"),
    "the artifact": (lambda run, out: link(run / "named", out / "model.bin"), "named"),
}


@pytest.mark.parametrize("where", LINKS)
def test_no_link_is_followed(bench: Bench, where: str) -> None:
    make, path = LINKS[where]
    outside = make_tree(bench.root / "outside", SMALL)
    run = bench.run(tree={}, artifacts=(artifact(path, kind="checkpoint"),) if path != "checkpoint" else ())
    if where.endswith("in it"):
        make_tree(bench.folder(run).checkpoint, {"some": b"thing"})
    make(bench.folder(run).path, outside)
    with pytest.raises(DataError, match="a symbolic link"):
        bench.register(run)
    bench.nothing()
    assert read_tree(outside) == SMALL and (outside / "model.bin").stat().st_nlink == 1


def test_another_runs_folder_is_refused(bench: Bench) -> None:
    run, other = bench.run(1), bench.run(2)
    with pytest.raises(DataError, match="is not the folder of run"):
        register(bench.registry, bench.blobs, run, bench.folder(other), actor="test")
    bench.nothing()


WRONG: dict[str, tuple[Artifact, str]] = {
    "missing": (
        artifact("checkpoint/gone.bin", b"gone"),
        r"checkpoint/gone\.bin is missing: 4 bytes with SHA-256 [0-9a-f]{12}",
    ),
    "truncated": (
        artifact("checkpoint/model.bin", b"weights and more"),
        r"model\.bin was truncated: 7 bytes with SHA-256 9a129038d9a0, not 16 bytes with SHA-256 [0-9a-f]{12}",
    ),
    "extended": (
        artifact("checkpoint/model.bin", b"w"),
        r"model\.bin was extended: 7 bytes.*, not 1 bytes with SHA-256",
    ),
    "altered": (
        artifact("checkpoint/model.bin", b"WEIGHTS"),
        r"model\.bin was altered: 7 bytes with SHA-256 9a129038d9a0, not 7 bytes with SHA-256 [0-9a-f]{12}",
    ),
    "only the size is known": (artifact("checkpoint/model.bin", bytes=8), r"was truncated: 7 bytes.*, not 8 bytes"),
    "only the digest is known": (artifact("checkpoint/model.bin", sha256="0" * 64), r"was .*SHA-256 000000000000"),
    "a folder": (artifact("checkpoint/inner", bytes=5), r"checkpoint/inner was truncated: 2 bytes, not 5 bytes"),
    "a folder that is gone": (artifact("checkpoint/none", bytes=5), r"checkpoint/none is missing: 5 bytes"),
    "the whole": (artifact("checkpoint", kind="checkpoint", bytes=10), "checkpoint was truncated: 9 bytes, not 10"),
    "the checkpoint is gone": (artifact("out.pt", b"gone", "checkpoint"), r"out\.pt of run .* is missing: 4 bytes"),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_a_run_left_is_what_it_says(bench: Bench, how: str) -> None:
    said, words = WRONG[how]
    with pytest.raises(DataError, match=words):
        bench.register(bench.run(artifacts=(said,)))
    bench.nothing()


def test_a_single_file_is_held_against_what_the_run_says(bench: Bench) -> None:
    run = bench.run(tree={"/out.pt": b"altered"}, artifacts=(artifact("out.pt", b"ALTERED", "checkpoint"),))
    with pytest.raises(DataError, match=r"out\.pt was altered"):
        bench.register(run)
    bench.nothing()


def test_what_lies_outside_and_what_is_not_on_record_is_not_compared(bench: Bench) -> None:
    said = (
        artifact("artifacts/scores.csv", b"gone"),
        artifact("checkpoint-2/model.bin", b"gone"),
        artifact("checkpoint/model.bin"),
        artifact("checkpoint/inner/vocab.json", SMALL["inner/vocab.json"]),
        artifact("checkpoint", kind="checkpoint", bytes=9),
    )
    assert bench.register(bench.run(artifacts=said)).digest == entries(SMALL).digest


def test_a_run_that_is_on_record_gives_no_second_checkpoint(bench: Bench) -> None:
    run = bench.run()
    made = bench.register(run)
    shutil.rmtree(bench.blobs.folder(made.digest))
    (bench.folder(run).checkpoint / "model.bin").unlink()
    (bench.folder(run).checkpoint / "model.bin").write_bytes(b"other")
    with pytest.raises(DataError, match=f"checkpoint was checkpoint {made.id} when it was registered"):
        bench.register(run)
    assert bench.kinds() == ["registered"] and bench.blobs.digests() == []


def test_a_disk_that_is_full_enters_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run = bench.run()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", full)
        with pytest.raises(StoreError, match=r"No space left on device"):
            bench.register(run)
    bench.nothing()
    bench.register(run)


# At the same time, and killed --------------------------------------------------------------------------------------


class Overtaken(MemoryRegistry):
    """Before the first entry, somebody else enters something."""

    def __init__(self, other: Callable[[], object]) -> None:
        super().__init__()
        self.other: Callable[[], object] | None = other

    def append(self, *changes: Change, actor: str, at: float | None = None) -> list[Entry]:
        other, self.other = self.other, None
        if other is not None:
            other()
        return super().append(*changes, actor=actor, at=at)


def test_of_two_runs_with_the_same_bytes_the_second_reproduced_the_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Overtaken(lambda: bench.register(second)))
    first, second = bench.run(1), bench.run(2)
    made = bench.register(first)
    assert made.run == second.id and bench.kinds() == ["registered", "reproduced"]
    assert bench.registry.state().runs == {made.id: [second.id, first.id]}


def test_two_that_register_the_same_run_enter_it_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Overtaken(lambda: bench.register(run)))
    run = bench.run(1)
    assert bench.register(run).run == run.id and bench.kinds() == ["registered"]


def test_bytes_that_are_not_entered_yet_are_not_collected(tmp_path: Path) -> None:
    def collect_now() -> None:
        assert bench.blobs.digests() and not bench.registry.state().checkpoints
        with pytest.raises(LabBusy):
            gc(bench.registry, bench.blobs, gc_plan(bench.registry.state(), bench.blobs), actor="ada")

    bench = Bench(tmp_path, Overtaken(collect_now))
    made = bench.register(bench.run())
    assert bench.blobs.verify(made.digest) == ()


def test_what_the_registry_does_not_allow_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)

    def refuse(*_: Any, **__: Any) -> None:
        raise StateError("no")

    monkeypatch.setattr(bench.registry, "append", refuse)
    with pytest.raises(StateError, match="no"):
        bench.register(bench.run())


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    """An empty database, to be copied."""
    path = tmp_path / "empty.db"
    Database(path).close()
    yield path


def test_a_kill_at_any_step_of_registering_is_finished_by_the_next_call(
    tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    entered: list[int] = []

    def opened(step: int) -> Bench:
        place = tmp_path / str(step)
        return Bench(place, SqlRegistry(Database(place / "windlass.db")))

    def work(step: int) -> Callable[[], object]:
        (tmp_path / str(step)).mkdir()
        shutil.copy(empty, tmp_path / str(step) / "windlass.db")

        def registering() -> None:
            bench = opened(step)
            bench.register(run)

        run = Bench(tmp_path / str(step)).run()
        return registering

    def check(step: int) -> None:
        bench = opened(step)
        run = bench.run(tree={})
        entered.append(len(bench.kinds()))
        assert all(bench.blobs.verify(digest) == () for digest in bench.blobs.digests())
        for checkpoint in bench.registry.state().checkpoints.values():
            assert bench.blobs.verify(checkpoint.digest) == (), "an entry without its bytes"
        bench.blobs.clear_leftovers()
        made = bench.register(run)
        assert bench.kinds() == ["registered"] and bench.blobs.leftovers() == []
        assert bench.blobs.digests() == [made.digest] and bench.blobs.verify(made.digest) == ()
        bench.registry._database.close()

    steps = every_step(work, check)
    assert steps >= 30 and entered[0] == 0 and entered[-1] == 1
