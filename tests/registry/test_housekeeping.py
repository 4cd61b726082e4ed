"""What two checkpoints differ in, and which bytes go: never what is in use, never before the log says so."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keptbytes import every_step, make_tree, no_reflink, read_tree
from keptlines import Line
from windlass.errors import LabBusy, NotFound, StateError
from windlass.records.audit import Change, ChangeKind, Entry
from windlass.records.deployment import FREEZE, Rollback
from windlass.records.verdict import Ruling, Verdict
from windlass.registry import files as taking
from windlass.registry.blobs import Blobs
from windlass.registry.housekeeping import GcPlan, ItemKind, differences, gc, gc_plan
from windlass.registry.memory import MemoryRegistry
from windlass.registry.mirror import Mirror


class Shelf(Line):
    """A deployment's line whose checkpoints and scores are real bytes."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.blobs = Blobs(root / "blobs")

    def keep(self, number: int, tree: dict[str, bytes] | None = None, **fields: Any) -> str:
        """A checkpoint; its run's files are gone, so its bytes are nobody else's."""
        source = make_tree(self.root / f"run{number}", tree or {"model.bin": bytes([number]) * 1000})
        manifest = self.blobs.add(source)
        shutil.rmtree(source)
        values = {"digest": manifest.digest, "bytes": manifest.bytes, "files": len(manifest.files), **fields}
        return self.register(number, **values)

    def score(self, checkpoint: str, text: str | None = None) -> str:
        """An evaluation; the digest of its scores."""
        scores = make_tree(self.root / "scores", {"scores.csv": (text or checkpoint).encode()})
        digest = self.blobs.add(scores).digest
        shutil.rmtree(scores)
        return self.evaluate(checkpoint, scores=digest).scores

    def judge(self, challenger: str, ruling: Ruling = Ruling.PROMOTE, delta: float = 0.021, **fields: Any) -> Verdict:
        if not self.state.evaluations_of(challenger):
            self.score(challenger)
        return super().judge(challenger, ruling, delta, **fields)

    def promoted(self, number: int, **fields: Any) -> str:
        one = self.keep(number, **fields)
        self.serve(self.judge(one))
        return one

    def plan(self, keep: dict[str, str] | None = None) -> GcPlan:
        return gc_plan(self.state, self.blobs, keep)

    def gc(self, plan: GcPlan | None = None) -> list[tuple[str, str]]:
        done = gc(self.registry, self.blobs, plan or self.plan(), actor="ada")
        return [(str(item.kind), item.name) for item in done]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


# Two checkpoints ---------------------------------------------------------------------------------------------------


def test_differences_name_every_side(shelf: Shelf) -> None:
    a = shelf.keep(
        1, {"same": b"s", "changed": b"one", "only a": b"a"}, metrics={"loss": 0.5, "old": 1.0, "nan": math.nan}
    )
    b = shelf.keep(
        2, {"same": b"s", "changed": b"two!", "only b": b"b"}, metrics={"loss": 0.25, "new": 2.0, "nan": 1.0}, parent=a
    )
    found = differences(shelf.state, shelf.blobs, a, b[:8])
    assert (found.a.id, found.b.id) == (a, b)
    assert [(one.name, one.kind) for one in found.config] == [("lr", "changed")]
    assert {one.name for one in found.fingerprints} == {"config"}
    assert [one.name for one in found.origin] == ["number", "parent", "run", "seed"]
    assert [(m.name, m.a, m.b, m.delta) for m in found.metrics if m.name != "nan"] == [
        ("loss", 0.5, 0.25, -0.25),
        ("new", None, 2.0, None),
        ("old", 1.0, None, None),
    ]
    assert [(one.path, one.a and one.a.bytes, one.b and one.b.bytes) for one in found.files] == [
        ("changed", 3, 4),
        ("only a", 1, None),
        ("only b", None, 1),
    ]
    assert found.same_files == 1 and found.notes == ()
    data = found.to_dict()
    assert data["metrics"][1] == {"name": "nan", "a": "NaN", "b": 1.0, "delta": "NaN"}
    assert data["files"][0]["b"]["bytes"] == 4 and data["config"][0]["a"] == 0.1


def test_a_checkpoint_does_not_differ_from_itself(shelf: Shelf) -> None:
    a = shelf.keep(1)
    found = differences(shelf.state, shelf.blobs, a, a)
    assert not (found.config or found.origin or found.fingerprints or found.files) and found.same_files == 1
    assert [metric.delta for metric in found.metrics] == [0.0]


def test_differences_of_bytes_that_are_gone(shelf: Shelf) -> None:
    a, b = shelf.keep(1), shelf.keep(2)
    shelf.blobs.remove(shelf.state.checkpoints[a].digest)
    assert "is missing" in differences(shelf.state, shelf.blobs, a, b).notes[0]
    shelf.remove(a)
    found = differences(shelf.state, shelf.blobs, a, b)
    assert found.notes == (f"{a}: its bytes were removed",) and found.files == ()
    assert [one.name for one in found.config] == ["lr"]
    with pytest.raises(NotFound, match="no checkpoint 'xyz'"):
        differences(shelf.state, shelf.blobs, a, "xyz")


# The plan ----------------------------------------------------------------------------------------------------------


def test_what_serves_and_what_has_served_stays(shelf: Shelf) -> None:
    first, second = shelf.promoted(1), shelf.promoted(2)
    plan = shelf.plan()
    assert plan.items == () and (plan.bytes, plan.freed) == (0, 0)
    assert plan.kept == {first: "it has served as reader, and may again", second: "it is champion of reader"}


def test_a_challenger_stays_while_it_may_come_to_serve(shelf: Shelf) -> None:
    shelf.promoted(1)
    passed, inconclusive, broken = shelf.keep(2), shelf.keep(3), shelf.keep(4)
    shelf.judge(passed)
    shelf.judge(inconclusive, Ruling.INCONCLUSIVE)
    shelf.judge(broken, Ruling.KEEP)
    plan = shelf.plan()
    assert plan.kept[passed] == "it has passed the gate of reader"
    assert {item.name: item.reason for item in plan.items if item.kind == "checkpoint"} == {
        inconclusive: "nothing refers to it; it is evaluated for reader",
        broken: "nothing refers to it; it is rejected for reader",
    }
    shelf.promoted(5)
    assert passed not in shelf.plan().kept, "its verdict was against a champion that has gone"


@pytest.mark.parametrize("stage", ["shadow", "canary"])
def test_what_is_on_its_way_stays(shelf: Shelf, stage: str) -> None:
    one = shelf.keep(1)
    verdict = shelf.judge(one, stages=(stage,))
    body = {"stage": stage, "share": 0.01 if stage == "canary" else 0.0, "reason": "", "verdict": verdict.id}
    shelf.enter(ChangeKind.STAGED, "reader", checkpoint=one, **body)
    assert shelf.plan().kept == {one: f"it is {stage} of reader"}


def test_both_sides_of_a_rollback_stay(shelf: Shelf) -> None:
    first, second = shelf.promoted(1), shelf.promoted(2)
    rollback = Rollback(deployment="reader", source=second, target=first, reason="", at=shelf.later())
    shelf.enter(ChangeKind.PLANNED, "reader", rollback=rollback.to_dict())
    shelf.enter(ChangeKind.STEPPED, "reader", rollback=rollback.id, step=FREEZE, state="started", note="")
    assert set(shelf.plan().kept) == {first, second}
    assert shelf.plan().kept[first] == "a rollback of reader is under way"


def test_ancestors_of_what_stays_stay(shelf: Shelf) -> None:
    grandparent = shelf.keep(1)
    parent = shelf.keep(2, parent=grandparent)
    other = shelf.keep(3, parent=parent)
    child = shelf.promoted(4, parent=parent)
    plan = shelf.plan()
    assert plan.kept[parent] == plan.kept[grandparent] == f"{child} began from it"
    assert [item.name for item in plan.items] == [other]


def test_what_the_caller_wants_kept_stays(shelf: Shelf) -> None:
    parent = shelf.keep(1)
    child = shelf.keep(2, parent=parent)
    plan = shelf.plan({child[:9]: "run 17 trains from it"})
    assert plan.items == () and plan.kept == {child: "run 17 trains from it", parent: f"{child} began from it"}
    with pytest.raises(NotFound, match="no checkpoint 'xyz'"):
        shelf.plan({"xyz": "because"})


def test_scores_go_with_their_checkpoint(shelf: Shelf) -> None:
    kept, gone = shelf.keep(1), shelf.keep(2)
    shelf.score(kept)
    lost = shelf.score(gone)
    shared = shelf.score(gone, "equal"), shelf.score(kept, "equal")
    assert shared[0] == shared[1]
    shelf.serve(shelf.judge(kept))
    plan = shelf.plan()
    assert [(item.kind, item.name) for item in plan.items] == [(ItemKind.CHECKPOINT, gone), (ItemKind.SCORES, lost)]
    assert plan.items[1].reason == f"scores of {gone}, which is not kept"


def test_nobodys_bytes_and_leftovers_are_found(shelf: Shelf) -> None:
    orphan = shelf.blobs.add(make_tree(shelf.root / "killed")).digest
    (shelf.blobs.root / ".staging-99999999-0badcafe" / "files").mkdir(parents=True)
    (shelf.blobs.root / ".staging-99999999-0badcafe" / "files" / "half").write_bytes(b"x" * 10)
    plan = shelf.plan()
    assert [(item.kind, item.name) for item in plan.items] == [
        (ItemKind.ORPHAN, orphan),
        (ItemKind.LEFTOVER, ".staging-99999999-0badcafe"),
    ]
    assert plan.items[0].reason == "no entry of the log names it"
    assert shelf.gc(plan) == [("orphan", orphan), ("leftover", ".staging-99999999-0badcafe")]
    assert shelf.blobs.digests() == shelf.blobs.leftovers() == [] and shelf.registry.entries() == []
    assert len(read_tree(shelf.root / "killed")) == 3


def test_only_bytes_without_another_name_are_freed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking.fcntl, "ioctl", no_reflink)
    run = make_tree(shelf.root / "run", {"model.bin": b"m" * 6000, "vocab": b"v" * 5000})
    both = shelf.blobs.add(run)
    manifest = (shelf.blobs.root / both.digest / "manifest.json").stat().st_size
    item = shelf.plan().items[0]
    assert (item.bytes, item.freed) == (11_000 + manifest, manifest), "the run folder holds the rest"
    (run / "vocab").unlink()
    assert shelf.plan().items[0].freed == 5000 + manifest
    vocab = make_tree(shelf.root / "child", {"other": b"o"})
    os.link(shelf.blobs.files(both.digest) / "vocab", vocab / "vocab")
    child = shelf.blobs.add(vocab)
    shutil.rmtree(vocab)
    plan = shelf.plan()
    manifests = sum((shelf.blobs.root / one.digest / "manifest.json").stat().st_size for one in (both, child))
    assert plan.freed == 5000 + 1 + manifests, "a file that two go with is freed by the second"
    assert plan.bytes == 11_000 + 5001 + manifests
    assert plan.to_dict()["freed"] == plan.freed and len(plan.to_dict()["items"]) == 2
    before = _taken(shelf.root)
    shelf.gc(plan)
    assert before - _taken(shelf.root) == plan.freed


def _taken(root: Path) -> int:
    """Bytes of all files, each counted once."""
    found = {
        (info.st_dev, info.st_ino): info.st_size for path in root.rglob("*") if (info := path.stat()) and path.is_file()
    }
    return sum(found.values())


# Collecting --------------------------------------------------------------------------------------------------------


def test_a_removal_is_entered_and_then_carried_out(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    champion, gone = shelf.promoted(1), shelf.keep(2)
    scores = shelf.score(gone)
    plan = shelf.plan()
    order: list[str] = []
    remove = shelf.blobs.remove
    monkeypatch.setattr(
        shelf.blobs, "remove", lambda n: (order.append(str(shelf.registry.entries()[-1].kind)), remove(n))
    )
    assert shelf.gc(plan) == [("checkpoint", gone), ("scores", scores)]
    assert order[0] == "removed"
    entry = shelf.registry.entries()[-1]
    assert (entry.kind, entry.subject, entry.actor) == ("removed", gone, "ada")
    assert entry.body == {"bytes": plan.items[0].bytes, "reason": plan.items[0].reason}
    (kept,) = shelf.state.evaluations_of(champion)
    assert shelf.blobs.digests() == sorted([shelf.state.checkpoints[champion].digest, kept.scores])
    assert gone in shelf.state.removed and gone in shelf.state.checkpoints
    assert shelf.plan().items == () and shelf.gc() == []


def test_what_came_into_use_meanwhile_stays(shelf: Shelf) -> None:
    one, other = shelf.keep(1), shelf.keep(2)
    shelf.score(one)
    plan = shelf.plan()
    shelf.serve(shelf.judge(one))
    new = shelf.keep(3)
    assert shelf.gc(plan) == [("checkpoint", other)]
    assert one not in shelf.state.removed and new not in shelf.state.removed, "nobody agreed to that one"
    assert len(shelf.blobs.digests()) == 3, "two checkpoints, and the champion's scores"


def test_what_the_caller_wants_kept_is_not_collected(shelf: Shelf) -> None:
    one, other = shelf.keep(1), shelf.keep(2)
    assert shelf.gc(shelf.plan({one: "because"})) == [("checkpoint", other)]


def test_a_promotion_at_this_very_moment_wins(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    one = shelf.keep(1)
    shelf.score(one)
    plan, append = shelf.plan(), shelf.registry.append

    def overtaken(*changes: Change, actor: str, at: float | None = None) -> list[Entry]:
        monkeypatch.undo()
        shelf.serve(shelf.judge(one))
        return append(*changes, actor=actor, at=at)

    monkeypatch.setattr(shelf.registry, "append", overtaken)
    with pytest.raises(StateError, match="stays: it is champion of reader"):
        shelf.gc(plan)
    assert shelf.blobs.verify(shelf.state.checkpoints[one].digest) == ()


def test_nothing_is_collected_while_something_is_added(shelf: Shelf) -> None:
    one = shelf.keep(1)
    plan = shelf.plan()
    with shelf.blobs.adding(), pytest.raises(LabBusy, match="being added"):
        shelf.gc(plan)
    assert one not in shelf.state.removed


def test_collecting_in_a_lab_that_keeps_nothing_makes_nothing(shelf: Shelf) -> None:
    assert shelf.gc() == [] and not shelf.blobs.root.exists()


def test_a_kill_at_any_step_of_collecting_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    tree = {"model.bin": b"m", "inner/vocab": b"v"}

    def reopened(step: int) -> MemoryRegistry:
        registry = MemoryRegistry()
        Mirror(tmp_path / str(step) / "registry.jsonl").catch_up(registry)
        return registry

    class Written(MemoryRegistry):
        """Its log is on disk when an append returns."""

        def append(self, *changes: Change, actor: str, at: float | None = None) -> list[Entry]:
            made = super().append(*changes, actor=actor, at=at)
            mirror.catch_up(self)
            return made

    shelf = Shelf(tmp_path / "template")
    shelf.promoted(1)
    shelf.keep(2, tree)
    shelf.score(shelf.keep(3))
    Mirror(tmp_path / "template" / "registry.jsonl").catch_up(shelf.registry)

    def work(step: int) -> Callable[[], object]:
        nonlocal mirror
        place = shutil.copytree(tmp_path / "template", tmp_path / str(step))
        mirror, blobs, registry = Mirror(place / "registry.jsonl"), Blobs(place / "blobs"), Written()
        mirror.catch_up(registry)
        return lambda: gc(registry, blobs, gc_plan(registry.state(), blobs), actor="ada")

    def check(step: int) -> None:
        registry, blobs = reopened(step), Blobs(tmp_path / str(step) / "blobs")
        state = registry.state()
        for checkpoint in state.checkpoints.values():
            wrong = blobs.verify(checkpoint.digest)
            assert not wrong or (checkpoint.id in state.removed and "is missing" in wrong[0])
        assert all(blobs.verify(digest) == () for digest in blobs.digests())
        plan = gc_plan(state, blobs)
        assert all("not finished" in i.reason for i in plan.items if i.kind == "checkpoint" and i.name in state.removed)
        gc(registry, blobs, plan, actor="ada")
        assert gc_plan(registry.state(), blobs).items == () and blobs.leftovers() == []
        assert [entry.kind for entry in registry.entries()].count(ChangeKind.REMOVED) == 2
        assert len(blobs.digests()) == 2, "the champion and its scores"

    mirror = Mirror(tmp_path / "none")
    assert every_step(work, check) >= 20
