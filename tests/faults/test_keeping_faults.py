"""What goes wrong around checkpoints: it is told in words, nothing changes, and the next command goes on."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from keepinglab import (
    NAME,
    Snapshot,
    add_run,
    champion,
    gate_of,
    leftovers,
    make_lab,
    policy,
    story,
    study,
    told,
    write_benchmark,
)
from keptbytes import mounted
from processes import windlass
from windlass.errors import (
    DataError,
    GateRefused,
    JobError,
    LabBusy,
    NotFound,
    StateError,
    StoreError,
    StudyError,
    WindlassError,
)
from windlass.jobs.local import LocalExecutor
from windlass.lab import Lab
from windlass.lab.keeping import Keeping
from windlass.lab.lock import exclusive
from windlass.lab.tending import Tending
from windlass.loop import keeping as steps
from windlass.loop.keeping import Challengers, Keeper
from windlass.records.deployment import SMOKE, VERIFY, Role, Served, ServedOutcome, Stage, StepState
from windlass.records.gate import GatePolicy
from windlass.records.verdict import Ruling
from windlass.registry import blobs, rollback
from windlass.registry.state import State
from windlass.runs.folder import RunFolder

DAY = 86400.0


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A lab in which one checkpoint serves that has half of the examples right."""
    lab = make_lab(tmp_path_factory.mktemp("faults") / "work")
    champion(lab, 0.5)
    return Snapshot(lab.parent)


@pytest.fixture
def lab(base: Snapshot) -> Path:
    base.restore()
    return base.root / "lab"


@pytest.fixture
def keeping(lab: Path) -> Iterator[Keeping]:
    with Lab(lab) as opened:
        yield opened.keeping


@contextmanager
def refused(lab: Path, kind: type[WindlassError], *words: str) -> Iterator[None]:
    """An error of this kind, with these words in it; and the lab is as before."""

    def picture() -> tuple[Any, ...]:
        with Lab(lab) as opened:
            kept = opened.keeping.blobs
            return list(told(opened)), opened.keeping.audit(read_bytes=False), kept.digests(), leftovers(lab)

    before = picture()
    with pytest.raises(kind) as error:
        yield
    for word in words:
        assert word in str(error.value), str(error.value)
    assert error.value.next_step, "it does not say what to do"
    assert picture() == before


def kept(keeping: Keeping, right: float, **model: Any) -> str:
    """A registered checkpoint."""
    return keeping.register(add_run(keeping._lab.path, right, **model)).id


def promoted(keeping: Keeping, right: float, **model: Any) -> str:
    made = kept(keeping, right, **model)
    keeping.promote(NAME, made, gate_of(keeping._lab.path))
    return made


def serving(keeping: Keeping) -> str | None:
    return keeping.state.deployment(NAME).champion


def weights(keeping: Keeping, checkpoint: str) -> Path:
    return keeping.blobs.files(keeping.state.checkpoints[checkpoint].digest) / "model.json"


def overwrite(file: Path, data: bytes) -> None:
    """In place: whoever has another name for it sees it, too."""
    file.chmod(0o644)
    file.write_bytes(data)


# Artifacts ----------------------------------------------------------------------------------------------------------


def _link(file: Path) -> None:
    outside = file.parents[2] / "outside.json"
    file.rename(outside)
    file.symlink_to(outside)


def _linked_folder(file: Path) -> None:
    outside = file.parents[2] / "outside"
    file.parent.rename(outside)
    file.parent.symlink_to(outside)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.unlink(), "model.json is missing"),
        (lambda file: file.write_bytes(file.read_bytes()[:-3]), "model.json was truncated"),
        (lambda file: file.write_bytes(file.read_bytes().replace(b"0.7", b"0.9")), "model.json was altered"),
        (_link, "symbolic link"),
        (_linked_folder, "symbolic link"),
    ],
    ids=["missing", "truncated", "altered", "link", "linked folder"],
)
def test_an_artifact_that_is_not_what_the_run_left_is_not_kept(
    lab: Path, keeping: Keeping, damage: Callable[[Path], None], words: str
) -> None:
    run = add_run(lab, 0.7)
    folder = RunFolder(lab / "runs" / run)
    (folder.checkpoint / "other.bin").write_bytes(b"other")
    damage(folder.checkpoint / "model.json")
    with refused(lab, DataError, words, run if "link" not in words else "checkpoint"):
        keeping.register(run)


@pytest.mark.parametrize("path", ["/etc/hostname", "../../outside.json", "checkpoint/../../x"])
def test_a_path_out_of_the_run_is_no_checkpoint(lab: Path, keeping: Keeping, path: str) -> None:
    run = add_run(lab, 0.7)
    result = lab / "runs" / run / "result.json"
    artifact = {"name": "model", "path": path, "kind": "checkpoint"}
    result.write_text(json.dumps({"artifacts": [artifact]}))
    with refused(lab, StateError, "only a completed run", run):
        keeping.register(run)


def test_a_disk_that_is_full_keeps_nothing_and_the_same_command_goes_on(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=4m", "tmpfs") as disk:
        lab = make_lab(disk / "work")
        run = add_run(lab, 0.7, weights="x" * 100_000)
        with Lab(lab) as opened:
            opened.get(run)
            with open(disk / "stuffing", "wb", buffering=0) as file, pytest.raises(OSError):
                while True:
                    file.write(b"x" * 512)
            with pytest.raises(StoreError) as error:
                opened.keeping.register(run)
            assert os.strerror(errno.ENOSPC) in str(error.value) or "full" in str(error.value), str(error.value)
            assert opened.keeping.state.sequence == 0 and opened.keeping.blobs.digests() == []
            (disk / "stuffing").unlink()
            assert opened.keeping.register(run).run == run
        assert story(lab)["damages"] == [] and leftovers(lab) == []


def test_a_disk_that_fills_at_the_last_moment_leaves_nothing(
    lab: Path, keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = add_run(lab, 0.7)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched, refused(lab, StoreError, "No space left", "bytes are free"):
        patched.setattr(blobs, "write_atomic", full)
        keeping.register(run)
    assert keeping.register(run).run == run


def test_damaged_bytes_are_not_evaluated_and_not_promoted(lab: Path, keeping: Keeping) -> None:
    made = kept(keeping, 0.7)
    intact = weights(keeping, made).read_bytes()
    overwrite(weights(keeping, made), intact.replace(b"0.7", b"0.9"))
    with refused(lab, DataError, made, "model.json was altered"):
        keeping.promote(NAME, made, gate_of(lab))
    overwrite(weights(keeping, made), intact)
    keeping.evaluate(made, gate_of(lab))
    overwrite(weights(keeping, made), intact[:-1])
    with pytest.raises(DataError, match=r"model\.json was truncated"):
        keeping.promote(NAME, made, gate_of(lab))
    assert serving(keeping) != made
    overwrite(weights(keeping, made), intact)
    verdict, stage = keeping.promote(NAME, made, gate_of(lab))
    assert (verdict.ruling, stage, serving(keeping)) == (Ruling.PROMOTE, Stage.CHAMPION, made)


def test_a_rollback_passes_over_what_is_damaged(lab: Path, keeping: Keeping) -> None:
    first = serving(keeping)
    second, third = promoted(keeping, 0.7), promoted(keeping, 0.9)
    overwrite(weights(keeping, second), b"{}")
    with refused(lab, StateError, second, "is damaged", "truncated"):
        keeping.rollback(NAME, second)
    ended = keeping.rollback(NAME)
    assert (ended.source, ended.target, serving(keeping)) == (third, first, first)
    (noted,) = ended.evidence["damaged"]
    assert noted.startswith(second) and "model.json was truncated" in noted
    damaged = [str(damage) for damage in keeping.audit()]
    assert len(damaged) == 1 and second in damaged[0]


def test_with_everything_damaged_there_is_no_way_back(lab: Path, keeping: Keeping) -> None:
    first = str(serving(keeping))
    promoted(keeping, 0.7)
    shutil.rmtree(keeping.blobs.folder(keeping.state.checkpoints[first].digest))
    with refused(lab, NotFound, "nothing to go back to", "Damaged", first):
        keeping.rollback(NAME)


def test_a_target_damaged_after_the_plan_is_not_switched_to(lab: Path, keeping: Keeping) -> None:
    first, second = str(serving(keeping)), promoted(keeping, 0.7)
    rollback.begin(keeping.vault.registry, keeping.plan_rollback(NAME), actor="test")
    overwrite(weights(keeping, first), b"{}")
    ended = keeping.rollback(NAME)
    assert ended.failed and ended.steps[VERIFY] is StepState.FAILED and "model.json" in ended.notes[-1]
    assert serving(keeping) == second and keeping.state.open_rollback(NAME) is None
    assert promoted(keeping, 0.9) == serving(keeping), "promotions go on"


def test_a_target_that_fails_its_smoke_evaluation_is_not_switched_to(lab: Path, keeping: Keeping) -> None:
    second = promoted(keeping, 0.7)
    (lab.parent / "evaluate.py").write_text("raise SystemExit('no such library')")
    ended = keeping.rollback(NAME)
    assert ended.failed and ended.steps[SMOKE] is StepState.FAILED and "no such library" in ended.notes[-1]
    assert serving(keeping) == second and story(lab)["damages"] == []


# Evaluations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("nan", ["'correct' has NaN at example"]),
        ("repeat", ["examples repeat", "2 times"]),
        ("fail", ["the model cannot be loaded"]),
        ("hang", ["time limit of 0.3 s"]),
        ("nothing", ["one artifact of kind 'scores'", "has 0"]),
        ("meddle", ["the data of benchmark 'heldout' changed after"]),
    ],
)
def test_an_evaluation_that_goes_wrong_is_none(lab: Path, keeping: Keeping, does: str, words: list[str]) -> None:
    if does == "hang":
        gate_of(lab).write_text(yaml.safe_dump(policy(benchmark={"run_time": 0.3})))
    made = kept(keeping, 0.7, does=does)
    with refused(lab, JobError, made, "heldout", *words):
        keeping.promote(NAME, made, gate_of(lab))
    runs = set(os.listdir(lab / "runs"))
    if does == "fail":
        with refused(lab, JobError, *words):
            keeping.evaluate(made, gate_of(lab))
        again = {name for name in set(os.listdir(lab / "runs")) - runs if not name.startswith(".")}
        assert len(again) == 1, "what failed is tried again, in a run of its own"


def test_other_examples_than_the_champions_settle_nothing(lab: Path, keeping: Keeping) -> None:
    before, made = serving(keeping), kept(keeping, 0.9, does="others")
    with pytest.raises(GateRefused, match=r"other examples for .*somebody else's"):
        keeping.promote(NAME, made, gate_of(lab))
    (verdict,) = keeping.state.verdicts_of(NAME, made)
    assert verdict.ruling is Ruling.INCONCLUSIVE and not verdict.comparisons and serving(keeping) == before


def test_after_the_benchmark_changed_the_champion_is_evaluated_anew(lab: Path, keeping: Keeping) -> None:
    before, made = serving(keeping), kept(keeping, 0.7)
    write_benchmark(lab.parent, prefix="new")
    verdict, _ = keeping.promote(NAME, made, gate_of(lab))
    used = [keeping.state.evaluations[one] for one in verdict.evaluations]
    assert {one.checkpoint for one in used} == {before, made} and len({one.data for one in used}) == 1
    assert len(keeping.state.evaluations_of(str(before))) == 2


def test_what_was_trained_on_the_benchmark_is_refused_with_the_count(lab: Path, keeping: Keeping) -> None:
    run = add_run(lab, 0.9)
    folder = RunFolder(lab / "runs" / run)
    rows = (lab.parent / "heldout.csv").read_text().splitlines(keepends=True)
    (folder.artifacts).mkdir(exist_ok=True)
    (folder.artifacts / "train.csv").write_text("".join(rows[:31]))
    artifact = {"name": "train", "path": "artifacts/train.csv", "kind": "dataset"}
    result = json.loads(folder.result_file.read_text())
    folder.result_file.write_text(json.dumps({**result, "artifacts": [*result["artifacts"], artifact]}))
    made = keeping.register(run).id
    with pytest.raises(GateRefused, match="30 of 200 examples were trained on, which the policy refuses"):
        keeping.promote(NAME, made, gate_of(lab))
    assert keeping.state.deployment(NAME).stages[made] is Stage.EVALUATED and serving(keeping) != made


@pytest.mark.parametrize(("days", "words"), [(-30, "a clock is wrong"), (+400, "d old; at most 30 d is allowed")])
def test_a_verdict_by_a_wrong_clock_does_not_stand(
    lab: Path, keeping: Keeping, monkeypatch: pytest.MonkeyPatch, days: int, words: str
) -> None:
    gate_of(lab).write_text(yaml.safe_dump(policy(benchmark={"max_age": "30d"})))
    made, now = kept(keeping, 0.7), time.time
    keeping.evaluate(made, gate_of(lab))
    with monkeypatch.context() as jumped:
        jumped.setattr(time, "time", lambda: now() + days * DAY)
        with pytest.raises(GateRefused, match=words):
            keeping.promote(NAME, made, gate_of(lab))
    assert keeping.state.verdicts_of(NAME, made) == [] and serving(keeping) != made
    assert keeping.promote(NAME, made, gate_of(lab))[1] is Stage.CHAMPION


def test_order_is_the_logs_however_the_clock_jumps(
    lab: Path, keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, now, ahead = serving(keeping), time.time, iter([40.0, -3.0, 0.03, 0.0, 90.0, 0.01])

    def jump() -> None:
        days = next(ahead)
        monkeypatch.setattr(time, "time", lambda: now() + days * DAY)

    made = []
    for right in (0.7, 0.9):
        jump()
        checkpoint = kept(keeping, right)
        jump()
        keeping.evaluate(checkpoint, gate_of(lab))
        monkeypatch.setattr(time, "time", now)
        keeping.promote(NAME, checkpoint, gate_of(lab))
        made.append(checkpoint)
    jump()
    keeping.rollback(NAME, made[0])
    jump()
    ended = keeping.rollback(NAME, forward=True)
    assert ended.target == made[1]
    assert [tenure.checkpoint for tenure in keeping.state.deployment(NAME).tenures] == [first, *made, *made]
    found = story(lab)
    assert found["damages"] == [] and found["pointers"] == {NAME: made[1]}


# Names --------------------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_told_with_the_nearest(lab: Path, keeping: Keeping) -> None:
    there = str(serving(keeping))
    with refused(lab, NotFound, "no checkpoint 'ffffffffffff'"):
        keeping.rollback(NAME, "ffffffffffff")
    with refused(lab, NotFound, f"Did you mean '{there}'?"):
        keeping.promote(NAME, there[:-1] + ("0" if there[-1] != "0" else "1"), gate_of(lab))
    with refused(lab, NotFound, "no deployment 'raeder'", f"Did you mean '{NAME}'?"):
        keeping.rollback("raeder")
    with refused(lab, NotFound, "no deployment 'raeder'"):
        keeping.tend("raeder")
    with refused(lab, StudyError, f"deployment '{NAME}', not 'writer'", f"windlass promote {NAME}"):
        keeping.promote("writer", there, gate_of(lab))
    with refused(lab, NotFound, "no benchmark 'heldup'", "Did you mean 'heldout'?"):
        keeping.evaluate(there, gate_of(lab), ["heldup"])
    with refused(lab, NotFound, "never rolled back"):
        keeping.rollback(NAME, forward=True)


def test_a_rollback_with_nothing_to_go_back_to(lab: Path, keeping: Keeping) -> None:
    with refused(lab, NotFound, "nothing to go back to"):
        keeping.rollback(NAME)
    with refused(lab, StateError, f"serves as {NAME} already"):
        keeping.rollback(NAME, serving(keeping))
    never = kept(keeping, 0.7)
    with refused(lab, StateError, "never served", "windlass promote"):
        keeping.rollback(NAME, never)


# The log and its copies ---------------------------------------------------------------------------------------------


def test_an_edited_copy_is_found_and_what_only_reads_works(lab: Path) -> None:
    file = lab / "registry.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], lines[1].replace('"n":200', '"n":900'), *lines[2:]]))
    verified = windlass("audit", "verify", "--no-bytes", cwd=lab, code=1)
    assert "entry 2 is not the database's entry 2" in verified.stdout
    with Lab(lab) as opened:
        (found,) = [check for check in opened.doctor() if check.level == "problem"]
        assert "entry 2" in found.what and f"mv {file} {file}.damaged" in found.next_step
        file.rename(f"{file}.damaged")
        assert not [check for check in opened.doctor() if check.level == "problem"]
        assert file.read_text() == "".join(lines)
    with Lab(lab) as opened:
        assert opened.keeping.state.deployment(NAME).champion and opened.keeping.gc_plan().items == ()
    file.write_text("".join(lines[:-1]) + "not an entry\n")
    assert NAME in windlass("deployments", "list", cwd=lab).stdout
    with Lab(lab) as opened, refused(lab, StateError, "the last line", "registry.jsonl", "is no entry"):
        opened.keeping.rollback(NAME)


@pytest.mark.parametrize("how", ["deleted", "cut in a line", "cut between lines", "emptied"])
def test_a_copy_that_lost_entries_gets_them_back(lab: Path, keeping: Keeping, how: str) -> None:
    file, whole = lab / "registry.jsonl", (lab / "registry.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    match how:
        case "deleted":
            file.unlink()
        case "cut in a line":
            file.write_bytes(whole[: len(lines[0]) + len(lines[1]) // 2])
        case "cut between lines":
            file.write_bytes(lines[0])
        case "emptied":
            file.write_bytes(b"")
    (damage,) = keeping.audit(read_bytes=False)
    assert damage.where == "registry.jsonl" and "lacks" in damage.what
    keeping.resume()
    assert file.read_bytes() == whole and keeping.audit() == []


def test_reindex_brings_back_all_that_was_kept(lab: Path) -> None:
    with Lab(lab) as opened:
        before = opened.keeping.state
        promoted(opened.keeping, 0.7)
        opened.keeping.rollback(NAME)
        before = opened.keeping.state
    whole = story(lab)
    for file in lab.glob("windlass.db*"):
        file.unlink()
    gone = windlass("checkpoints", "list", cwd=lab, code=1)
    assert "windlass reindex" in gone.stderr and "Traceback" not in gone.stderr
    with Lab(lab) as opened:
        opened.reindex()
    assert story(lab) == whole
    with Lab(lab) as opened:
        after = opened.keeping.state
        assert (after.sequence, after.hash) == (before.sequence, before.hash)
        assert (after.checkpoints, after.verdicts, after.rollbacks) == (
            before.checkpoints,
            before.verdicts,
            before.rollbacks,
        )
        assert promoted(opened.keeping, 0.9) == serving(opened.keeping)


def test_reindex_without_a_sound_copy_of_the_log_refuses_and_changes_nothing(lab: Path) -> None:
    with Lab(lab) as opened:
        promoted(opened.keeping, 0.7)
    copy = lab / "registry.jsonl"
    lines = copy.read_bytes().splitlines(keepends=True)
    copy.write_bytes(b"".join([lines[0], b"garbage\n", *lines[2:]]))
    for file in lab.glob("windlass.db*"):
        file.unlink()
    told = windlass("reindex", cwd=lab, code=1)
    assert "no copy of the audit log is sound" in told.stderr and "registry.jsonl" in told.stderr
    assert not (lab / "windlass.db").exists()
    copy.write_bytes(b"".join(lines))
    windlass("reindex", cwd=lab)
    assert windlass("audit", "verify", cwd=lab).stdout.startswith(f"{len(lines)}:")


def test_a_log_whose_end_both_copies_lost_shows_beside_the_pointer(lab: Path) -> None:
    with Lab(lab) as opened:
        second = promoted(opened.keeping, 0.7)
    for file in lab.glob("windlass.db*"):
        file.unlink()
    log = lab / "registry.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]) + lines[-1][:50])
    with Lab(lab) as opened:
        opened.reindex()
        keeping = opened.keeping
        assert serving(keeping) != second
        (damage,) = [damage for damage in keeping.audit() if damage.where == f"deployment {NAME}"]
        assert "its pointer follows entry" in damage.what and "is lost" in damage.what
        assert json.loads(keeping.pointer_file(NAME).read_text())["checkpoint"] == second, "it is what knows best"
        with refused(lab, StateError, "follows entry", "rm "):
            keeping.rollback(NAME)
        problems = [check for check in opened.doctor() if check.level == "problem"]
        assert any("is lost" in check.what for check in problems)
        keeping.pointer_file(NAME).unlink()
        keeping.promote(NAME, second, gate_of(lab))
    assert story(lab)["damages"] == []


@pytest.mark.parametrize("how", ["deleted", "garbled", "empty", "another checkpoint"])
def test_a_pointer_that_is_damaged_is_told_and_written_again(lab: Path, keeping: Keeping, how: str) -> None:
    file = keeping.pointer_file(NAME)
    whole = file.read_bytes()
    match how:
        case "deleted":
            file.unlink()
        case "garbled":
            file.write_bytes(whole[: len(whole) // 2])
        case "empty":
            file.write_bytes(b"")
        case _:
            other = {"checkpoint": "0" * 12, "digest": "0" * 64}
            file.write_text(json.dumps({**json.loads(whole), **other}))
    (damage,) = keeping.audit()
    assert damage.where == f"deployment {NAME}"
    if how != "another checkpoint":
        with refused(lab, (NotFound if how == "deleted" else StoreError), NAME):
            keeping.route(NAME, "somebody")
    checks = keeping._lab.doctor()
    assert [check.what for check in checks if check.what.startswith("put in order again")] == [
        f"put in order again: {damage}"
    ]
    assert file.read_bytes() == whole and keeping.audit() == []
    assert keeping.route(NAME, "somebody").checkpoint == serving(keeping)


# Several at once ----------------------------------------------------------------------------------------------------


def test_a_pointer_that_another_process_moved_on_meanwhile_is_no_error(
    lab: Path, keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, runs, derive = kept(keeping, 0.7), [add_run(lab, right) for right in (0.8, 0.9)], steps.pointer

    def interrupted(*args: Any) -> Any:
        monkeypatch.setattr(steps, "pointer", derive)
        with Lab(lab) as other:
            other.keeping.promote(NAME, made, gate_of(lab))
        return derive(*args)

    monkeypatch.setattr(steps, "pointer", interrupted)
    keeping.register(runs[0])
    assert steps.pointer is derive, "nobody came in between"
    assert serving(keeping) == made and keeping.route(NAME, "somebody").checkpoint == made
    assert keeping.audit() == []


def test_a_rollback_in_hand_of_another_process_is_left_to_it(lab: Path, keeping: Keeping) -> None:
    first, second = serving(keeping), promoted(keeping, 0.7)
    rollback.begin(keeping.vault.registry, keeping.plan_rollback(NAME), actor="test")
    with pytest.raises(StateError, match="is frozen"):
        promoted(keeping, 0.9)
    with exclusive(lab / "deployments", f".{NAME}.lock"):
        with refused(lab, LabBusy, str(os.getpid())):
            keeping.rollback(NAME)
        keeping.resume()
        assert keeping.tend(NAME) == []
        assert [check.level for check in keeping._lab.doctor() if "is rolling reader back" in check.what] == ["note"]
    assert serving(keeping) == second
    assert keeping.tend(NAME) == [f"a rollback of {NAME} was interrupted. Recommended: windlass rollback {NAME}"]
    (found,) = [check for check in keeping._lab.doctor() if "interrupted at its step" in check.what]
    assert (found.level, found.next_step) == ("warning", f"windlass rollback {NAME}")
    keeping.resume()
    assert serving(keeping) == first and keeping.state.open_rollback(NAME) is None


def test_two_serving_processes_that_come_to_the_same_step_take_it_once(
    lab: Path, keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, quick = serving(keeping), {"worse": 0.45, "failed": 0.3, "power": 0.5, "confidence": 0.8}
    gate_of(lab).write_text(yaml.safe_dump(policy(canary={"shares": [0.2, 0.5], **quick})))
    challenger = kept(keeping, 0.7)
    keeping.promote(NAME, challenger, gate_of(lab))
    look, told_other = Tending._find, []

    def late(tending: Tending, deployment: str, state: State) -> Any:
        found = look(tending, deployment, state)
        if not told_other:
            monkeypatch.setattr(Tending, "_find", look)
            with Lab(lab) as other:
                told_other.extend(other.keeping.tend(deployment))
        return found

    monkeypatch.setattr(Tending, "_find", late)
    answers = [(before, Role.CHAMPION)] * 40 + [(challenger, Role.CANARY)] * 40
    served = [Served(checkpoint=str(one), role=role, outcome=ServedOutcome.ACCEPTED) for one, role in answers]
    assert keeping.observe(NAME, served) == []
    assert len(told_other) == 1 and "50 % of keys" in told_other[0]
    assert [entry[2:4] for entry in told(keeping._lab) if entry[0] == "staged"] == [
        ["canary", "0.2"],
        ["canary", "0.5"],
    ]


def test_a_challenger_goes_on_by_its_own_policy_while_others_are_judged_by_another(lab: Path, keeping: Keeping) -> None:
    gate_of(lab).write_text(yaml.safe_dump(policy(canary={"shares": [0.3]})))
    challenger = kept(keeping, 0.7)
    keeping.promote(NAME, challenger, gate_of(lab))
    gate_of(lab).write_text(yaml.safe_dump(policy()))
    with pytest.raises(GateRefused):
        keeping.promote(NAME, kept(keeping, 0.4), gate_of(lab))
    advice = keeping.findings(NAME).advice
    assert advice is not None and advice.answers == 0
    served = Served(checkpoint=challenger, role=Role.CANARY, outcome=ServedOutcome.ACCEPTED)
    assert keeping.observe(NAME, [served]) == []


# A study with a gate ------------------------------------------------------------------------------------------------


def test_what_a_killed_study_registered_is_judged_though_another_run_is_the_best_by_now(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "work")
    with Lab(lab) as opened:
        runs = [opened.get(add_run(lab, right)) for right in (0.5, 0.6, 0.7)]
        gate = GatePolicy.model_validate(study()["gate"])
        keeper = Keeper(vault=opened.keeping.vault, policy=gate, folder=tmp_path / "work", actor="study readers")
        early = keeper.register(runs[0]).id
        by_hand = opened.keeping.register(runs[1].id).id
        with closing(LocalExecutor(opened.runs_root, 1)) as executor:
            challengers = Challengers(keeper, executor, promotes=True)
            events = list(challengers.consider(runs[2]))
            while executor.active():
                for event in executor.wait():
                    if event.kind == "ended" and challengers.expects(event.run_id):
                        events += challengers.ended(event.run_id)
            best = opened.keeping.state.made_by(runs[2].id)
            assert best is not None
            judged = [verdict.challenger for verdict in opened.keeping.state.verdicts.values()]
            assert judged == [early, best.id] and by_hand not in judged, events
            assert serving(opened.keeping) == best.id
            again = Challengers(keeper, executor, promotes=True)
            assert list(again.consider(runs[2])) == [], "all of it is done"


# The doctor ---------------------------------------------------------------------------------------------------------


def test_the_doctor_clears_what_kills_left_and_changes_nothing_else(lab: Path, keeping: Keeping) -> None:
    gone = 2**22 + 1  # no process has this id
    half = keeping.blobs.root / f".staging-{gone}-0123abcd" / "files"
    half.mkdir(parents=True)
    (half / "model.json").write_bytes(b"half")
    (lab / "deployments" / f".{NAME}.json.{gone}.0123abcd").write_bytes(b"{")
    old = [lab / "runs" / f".LATEST.{gone}.0123abcd", lab / f".windlass.db.{gone}.0123abcd"]
    young = lab / "runs" / f".LATEST.{gone}.4567abcd"
    for file in (*old, young):
        file.write_bytes(b"")
    for file in old:
        os.utime(file, (1, 1))
    before = list(told(keeping._lab))
    said = [check.what for check in keeping._lab.doctor()]
    assert any(what.startswith("removed 2 halves") for what in said)
    assert any(what.startswith("removed 2 half-written files") for what in said)
    assert leftovers(lab) == [young.name], "it may be in the making"
    assert list(told(keeping._lab)) == before
    assert any("entries of the audit log follow one another" in what for what in said)


def test_the_doctor_finds_an_edited_log_and_bytes_that_are_gone(lab: Path) -> None:
    with Lab(lab) as opened:
        extra, orphan = kept(opened.keeping, 0.7), kept(opened.keeping, 0.8)
        digest = opened.keeping.state.checkpoints[extra].digest
        shutil.rmtree(opened.keeping.blobs.folder(digest))
        (opened.keeping.blobs.root / ("ab" * 32) / "files").mkdir(parents=True)
        checks = opened.doctor()
        (found,) = [check for check in checks if extra in check.what]
        assert (
            found.level == "problem" and "is gone" in found.what and "windlass checkpoints register" in found.next_step
        )
        assert [check.level for check in checks if "in no entry of the log" in check.what] == ["note"]
        assert not any(orphan in check.what for check in checks)
    database = sqlite3.connect(lab / "windlass.db")
    database.execute("UPDATE audit SET body = replace(body, '\"n\":200', '\"n\":900') WHERE sequence = 2")
    database.commit()
    database.close()
    done = windlass("doctor", cwd=lab, code=1)
    assert "entry 2: was edited" in done.stdout and "windlass audit verify" in done.stdout
    assert "Traceback" not in done.stderr
