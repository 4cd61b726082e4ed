"""Exports: approved pairs alone, each with who approved it, in parts that share no prompt; any change is found."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.datasets.export import Exported, Manifest, PartName, export, read_manifest
from windlass.datasets.folder import PreferenceFolder
from windlass.datasets.preferences import fingerprint, read_pairs, together, write_pairs
from windlass.datasets.reviews import ReviewState
from windlass.datasets.verify import Finding, FindingKind, verify
from windlass.errors import DataError, StateError, StoreError
from windlass.records.task import Pair

WHO: dict[str, Any] = {"by": "ada", "at": 1.5}
SHARES = {"train": 0.6, "validation": 0.2, "heldout": 0.2}


def pair(identity: str, prompt: str, chosen: str = "yes", rejected: str = "no") -> Pair:
    return Pair(id=identity, prompt=prompt, chosen=chosen, rejected=rejected)


def reviewed(path: Path, pairs: Sequence[Pair], **options: Any) -> PreferenceFolder:
    """A folder in which all pairs are approved."""
    write_pairs(path / "pairs.jsonl", pairs)
    folder = PreferenceFolder(path / "folder")
    folder.import_file(path / "pairs.jsonl", by="eve", at=1.0, **options)
    folder.review(None, ReviewState.APPROVED, **WHO)
    return folder


def many(count: int = 40) -> list[Pair]:
    return [pair(f"q{i}", f"prompt {i}") for i in range(count)]


def exported(path: Path, pairs: Sequence[Pair] | None = None) -> Exported:
    return export(reviewed(path, pairs or many()).read(), path / "out", SHARES)


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_only_approved_pairs_are_in_it(tmp_path: Path) -> None:
    folder = reviewed(tmp_path, many())
    folder.review(["q1"], ReviewState.REJECTED, reason="wrong", **WHO)
    folder.review(["q2"], ReviewState.SUPERSEDED, instead="q3", **WHO)
    write_pairs(tmp_path / "late.jsonl", [pair("late", "a late prompt")])
    folder.import_file(tmp_path / "late.jsonl", by="eve", at=2.0)
    made = export(folder.read(), tmp_path / "out", SHARES)
    assert made.left_out == {ReviewState.PENDING: 1, ReviewState.REJECTED: 1, ReviewState.SUPERSEDED: 1}
    found = {one.id: one for name in SHARES for one in read_pairs(tmp_path / "out" / f"{name}.jsonl")}
    assert found == {one.id: one for one in many() if one.id not in ("q1", "q2")}
    assert made.manifest.rows == 38 and made.manifest.fingerprint == fingerprint(found.values())
    assert verify(tmp_path / "out") == (made.manifest, 38, [])


def test_each_pair_has_a_complete_lineage(tmp_path: Path) -> None:
    folder = reviewed(tmp_path, many(), source="survey of May")
    folder.review(["q2"], ReviewState.SUPERSEDED, instead="q3", **WHO)
    folder.review(["q4"], ReviewState.REJECTED, reason="hm", **WHO)
    folder.review(["q4"], ReviewState.APPROVED, by="bob", at=9.0, reason="looked again")
    export(folder.read(), tmp_path / "out", SHARES)
    lineage = {one["id"]: one for one in rows(tmp_path / "out" / "lineage.jsonl")}
    parts = {one.id: name for name in SHARES for one in read_pairs(tmp_path / "out" / f"{name}.jsonl")}
    assert {one: row["part"] for one, row in lineage.items()} == parts
    row = lineage["q4"]
    assert row.pop("content") == pair("q4", "prompt 4").content
    assert row.pop("file_sha256") == hashlib.sha256((tmp_path / "pairs.jsonl").read_bytes()).hexdigest()
    assert row == {
        "id": "q4",
        "part": parts["q4"],
        "source": "survey of May",
        "file": "pairs.jsonl",
        "imported_by": "eve",
        "imported_at": 1.0,
        "approved_by": "bob",
        "approved_at": 9.0,
        "reason": "looked again",
        "supersedes": [],
    }
    assert lineage["q3"]["supersedes"] == ["q2"] and lineage["q3"]["approved_by"] == "ada"


def test_the_manifest_says_what_the_files_are(tmp_path: Path) -> None:
    manifest = exported(tmp_path).manifest
    assert read_manifest(tmp_path / "out") == manifest and len(manifest.id) == 12
    for name, part in manifest.parts.items():
        data = (tmp_path / "out" / f"{name}.jsonl").read_bytes()
        found = read_pairs(tmp_path / "out" / f"{name}.jsonl")
        assert (part.rows, part.bytes, part.share) == (len(found), len(data), SHARES[name])
        assert part.sha256 == hashlib.sha256(data).hexdigest() and part.fingerprint == fingerprint(found)
    text = (tmp_path / "out" / "manifest.json").read_text()
    assert json.loads(text)["id"] == manifest.id and str(tmp_path) not in text


def test_the_same_reviews_give_the_same_bytes(tmp_path: Path) -> None:
    there = reviewed(tmp_path, many()).read()
    first = export(there, tmp_path / "first", SHARES).manifest
    second = export(there, tmp_path / "second", dict(reversed(SHARES.items()))).manifest
    assert first.id == second.id and contents(tmp_path / "first") == contents(tmp_path / "second")
    (tmp_path / "other").mkdir()
    third = export(reviewed(tmp_path / "other", many()[::-1]).read(), tmp_path / "third", SHARES).manifest
    assert third.parts == first.parts and third.fingerprint == first.fingerprint
    assert third.id != first.id  # its pairs came from another file


PROMPTS = st.text(st.sampled_from("aAbB \n\u00df"), min_size=1, max_size=4).filter(str.strip)


@settings(max_examples=40)
@given(asked=st.lists(PROMPTS, min_size=1, max_size=12, unique=True), answers=st.integers(1, 3))
def test_a_prompt_never_crosses_a_split(
    tmp_path_factory: pytest.TempPathFactory, asked: list[str], answers: int
) -> None:
    path = tmp_path_factory.mktemp("split")
    pairs = [pair(f"{i}.{j}", one, f"yes {j}") for i, one in enumerate(asked) for j in range(answers)]
    there = reviewed(path, pairs).read()
    shares = dict(SHARES)
    try:
        made = export(there, path / "out", shares)
    except DataError as error:
        assert "would be empty" in error.message
        assert not (path / "out").exists()
        return
    places: dict[str, set[str]] = {}
    for name in shares:
        for one in read_pairs(path / "out" / f"{name}.jsonl"):
            places.setdefault(together(one), set()).add(name)
    assert all(len(names) == 1 for names in places.values())
    found = verify(path / "out")
    assert found.sound and found.rows == made.manifest.rows == len(pairs)
    assert len(found.findings) == made.alike


def test_a_pair_that_is_added_moves_no_other(tmp_path: Path) -> None:
    before = {row["id"]: row["part"] for row in _lineage_of(tmp_path, "a", many(40))}
    after = {row["id"]: row["part"] for row in _lineage_of(tmp_path, "b", many(60))}
    assert before.items() <= after.items() and set(before.values()) == set(SHARES)


def _lineage_of(path: Path, name: str, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    (path / name).mkdir()
    exported(path / name, pairs)
    return rows(path / name / "out" / "lineage.jsonl")


# What is refused -----------------------------------------------------------------------------------------------------


def test_nothing_approved_is_an_error(tmp_path: Path) -> None:
    folder = reviewed(tmp_path, many(3))
    folder.review([f"q{i}" for i in range(3)], ReviewState.REJECTED, reason="no", **WHO)
    with pytest.raises(DataError, match=r"no pair is approved \(3 rejected\)"):
        export(folder.read(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "contradicting", [pair("b", "prompt", "no", "yes"), pair("b", " PROMPT ", "No", "yes\n")], ids=["exact", "alike"]
)
def test_approved_pairs_that_contradict_each_other_are_refused(tmp_path: Path, contradicting: Pair) -> None:
    folder = reviewed(tmp_path, [pair("a", "prompt"), pair("c", "x")])
    write_pairs(tmp_path / "more.jsonl", [contradicting])
    folder.import_file(tmp_path / "more.jsonl", **WHO)
    folder.review(["b"], ReviewState.APPROVED, **WHO)
    with pytest.raises(DataError, match="1 approved pair does not go with") as error:
        export(folder.read(), tmp_path / "out", {"train": 1})
    assert ": contradicts " in str(error.value) and "prompt\n" not in str(error.value)
    folder.review(["a"], ReviewState.SUPERSEDED, instead="b", **WHO)
    assert export(folder.read(), tmp_path / "out", {"train": 1}).manifest.rows == 2


def test_a_preference_about_case_is_no_contradiction(tmp_path: Path) -> None:
    folder = reviewed(tmp_path, [pair("a", "capital?", "Paris", "paris"), pair("b", "capital?", "PARIS", "paris")])
    made = export(folder.read(), tmp_path / "out", {"train": 1})
    assert made.alike == 1 and verify(tmp_path / "out").sound


def test_a_part_that_would_be_empty_is_refused(tmp_path: Path) -> None:
    there = reviewed(tmp_path, [pair(f"q{i}", "one prompt", f"yes {i}") for i in range(9)]).read()
    with pytest.raises(DataError, match="the 9 approved pairs have 1 different prompts"):
        export(there, tmp_path / "out")
    assert set(export(there, tmp_path / "out", {"train": 1, "heldout": 0}).manifest.parts) == {PartName.TRAIN}


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ({"train": 0.5}, "add up to 0.5"),
        ({"train": 1.2, "heldout": -0.2}, "in 0..1"),
        ({"train": 0.9, "hedlout": 0.1}, "no part 'hedlout'. Did you mean 'heldout'?"),
        ({}, "at least one part"),
    ],
)
def test_shares_that_cannot_be_are_refused(tmp_path: Path, shares: dict[str, float], told: str) -> None:
    there = reviewed(tmp_path, many()).read()
    with pytest.raises(DataError) as error:
        export(there, tmp_path / "out", shares)
    assert told in str(error.value) and not (tmp_path / "out").exists()


def test_an_export_is_never_written_over(tmp_path: Path) -> None:
    there = reviewed(tmp_path, many()).read()
    export(there, tmp_path / "out", SHARES)
    before = contents(tmp_path / "out")
    with pytest.raises(StateError, match="exists"):
        export(there, tmp_path / "out", {"train": 1})
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("full", [True, False])
def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool) -> None:
    """The disk is full; another process is first."""
    there = reviewed(tmp_path, many()).read()

    def rename(source: Path, target: Path) -> None:
        if not full:
            Path(target).mkdir()
            (Path(target) / "file").touch()
        raise OSError(28 if full else 39, "No space left on device" if full else "Directory not empty")

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(StoreError if full else StateError):
        export(there, tmp_path / "out", SHARES)
    left = {path.name for path in tmp_path.iterdir()} - {"pairs.jsonl", "folder", "out"}
    assert left == set() and full != (tmp_path / "out").exists()


# What is found -------------------------------------------------------------------------------------------------------


def edit(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the rows of a file."""
    found = rows(path)
    change(found)
    path.write_text("".join(json.dumps(row) + "\n" for row in found))


def seal(folder: Path) -> None:
    """Make the manifest fit the files, as one who meddles would."""
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    everything = []
    for name, part in data["parts"].items():
        own = [Pair(**row) for row in rows(folder / f"{name}.jsonl")]
        everything += own
        part |= {"rows": len(own), "fingerprint": fingerprint(own), **_measured(folder / f"{name}.jsonl")}
    data["lineage"] |= {"rows": len(rows(folder / "lineage.jsonl")), **_measured(folder / "lineage.jsonl")}
    del data["id"]
    data |= {"rows": len(everything), "fingerprint": fingerprint(everything)}
    path.write_text(json.dumps({**data, "id": Manifest(**data).id}))


def _measured(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def found_in(folder: Path) -> set[tuple[str, str, int | None]]:
    found = verify(folder)
    assert not found.sound
    return {(str(one.kind), one.file, one.row) for one in found.findings}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    exported(tmp_path)
    return tmp_path / "out"


def test_every_byte_counts(out: Path) -> None:
    for path in sorted(out.iterdir()):
        whole = path.read_bytes()
        for at in range(0, len(whole), 97):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert not verify(out).sound, (path.name, at)
        path.write_bytes(whole[:-1])
        assert not verify(out).sound or path.name == "manifest.json"
        path.write_bytes(whole)
    assert verify(out).sound


def test_files_that_are_missing_or_do_not_belong(out: Path) -> None:
    (out / "notes.txt").touch()
    (out / "heldout.jsonl").rename(out / "held.jsonl")
    found = found_in(out)
    assert {("file", "notes.txt", None), ("file", "held.jsonl", None), ("file", "heldout.jsonl", None)} <= found
    assert {row for kind, file, row in found if (kind, file) == ("lineage", "lineage.jsonl")} == {
        i for i, row in enumerate(rows(out / "lineage.jsonl"), 1) if row["part"] == "heldout"
    }


def test_a_pair_that_was_changed_is_told_by_its_row(out: Path) -> None:
    edit(out / "train.jsonl", lambda found: found[2].update(chosen="maybe"))
    assert {("file", "train.jsonl", None), ("lineage", "train.jsonl", 3)} <= found_in(out)
    seal(out)
    assert found_in(out) == {("lineage", "train.jsonl", 3)}
    assert str(verify(out).findings[0]).endswith("is not as ada approved it")


def test_a_pair_that_nobody_approved(out: Path) -> None:
    new = pair("new", "a new prompt").model_dump()
    edit(out / "train.jsonl", lambda found: found.insert(1, new))
    seal(out)
    assert ("lineage", "train.jsonl", 2) in found_in(out)
    assert "nobody approved the pair 'new'" in str(verify(out).findings)


def test_a_pair_that_was_taken_out(out: Path) -> None:
    (gone,) = [row["id"] for row in rows(out / "train.jsonl")][4:5]
    edit(out / "train.jsonl", lambda found: found.pop(4))
    seal(out)
    place = [row["id"] for row in rows(out / "lineage.jsonl")].index(gone) + 1
    assert found_in(out) == {("lineage", "lineage.jsonl", place)}


def test_a_lineage_row_without_a_name_or_there_twice(out: Path) -> None:
    edit(out / "lineage.jsonl", lambda found: found[0].update(approved_by=""))
    edit(out / "lineage.jsonl", lambda found: found.append(found[1]))
    count = len(rows(out / "lineage.jsonl"))
    seal(out)
    part, first = rows(out / "lineage.jsonl")[0]["part"], rows(out / "lineage.jsonl")[0]["id"]
    row = [one["id"] for one in rows(out / f"{part}.jsonl")].index(first) + 1
    assert found_in(out) == {
        ("row", "lineage.jsonl", 1),
        ("lineage", "lineage.jsonl", count),
        ("lineage", f"{part}.jsonl", row),
    }


def test_a_row_that_is_no_pair(out: Path) -> None:
    with (out / "train.jsonl").open("a") as file:
        file.write('{"id": "x", "prompt": "sk-secret", "chosen": 7}\nnot json\n')
    count = len((out / "train.jsonl").read_text().splitlines())
    found = verify(out).findings
    assert {(one.row, one.words) for one in found if one.kind is FindingKind.ROW} == {
        (count - 1, "is no pair: chosen: value error; rejected: missing"),
        (count, "is no pair: no JSON: Expecting value (character 1)"),
    }
    assert "sk-secret" not in str(found)


def test_leakage_duplicates_and_contradictions_are_told_by_row(out: Path) -> None:
    first = rows(out / "train.jsonl")[0]
    count = len(rows(out / "heldout.jsonl"))
    put_in = [
        {**first, "id": "copy"},
        {**first, "id": "alike", "prompt": f" {first['prompt'].upper()}  "},
        {**first, "id": "against", "chosen": "no", "rejected": "yes"},
        {**first, "chosen": "something else"},
    ]
    edit(out / "heldout.jsonl", lambda found: found.extend(put_in))
    found = found_in(out)
    train, heldout = ("train.jsonl", 1), "heldout.jsonl"
    assert not {one for one in found if one[1:] == train}
    for kind, at in (("duplicate", 1), ("near_duplicate", 2), ("contradiction", 3), ("same_id", 4)):
        assert (kind, heldout, count + at) in found
    for at in range(1, 5):
        assert {("leakage", heldout, count + at), ("part", heldout, count + at)} <= found
    leak = next(one for one in verify(out).findings if one.kind is FindingKind.LEAKAGE)
    assert str(leak) == f"heldout.jsonl row {count + 1}: has the prompt of train.jsonl row 1"


def test_near_duplicates_of_one_part_are_only_noted(tmp_path: Path) -> None:
    made = exported(tmp_path, [*many(), pair("again", "Prompt  7\n", "YES")])
    found = verify(tmp_path / "out")
    assert made.alike == 1 and found.sound
    (note,) = found.findings
    assert isinstance(note, Finding) and note.note and note.kind is FindingKind.NEAR_DUPLICATE


def test_a_manifest_that_was_changed_or_is_none(out: Path, tmp_path: Path) -> None:
    path = out / "manifest.json"
    whole = path.read_text()
    for text, told in (
        (whole.replace('"share": 0.6', '"share": 0.5'), "was changed"),
        (whole.replace('"train"', '"../train"'), "no manifest"),
        ("[]", "no manifest"),
        ("{", "no manifest"),
        ("[" * 100_000, "no manifest"),
    ):
        path.write_text(text)
        (finding,) = verify(out).findings
        assert finding.kind is FindingKind.MANIFEST and told in finding.words
    path.unlink()
    assert "it is no export" in verify(out).findings[0].words
    with pytest.raises(DataError, match="there is no folder"):
        verify(tmp_path / "none")
