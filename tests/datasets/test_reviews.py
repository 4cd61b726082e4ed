"""Reviews: which may follow which, what is on record, and that nothing which was said to be done is ever lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processes import ENVIRONMENT
from windlass.datasets.folder import PreferenceFolder, Preferences
from windlass.datasets.preferences import read_pairs
from windlass.datasets.reviews import ALLOWED, Imported, Reviewed, ReviewState
from windlass.errors import DataError, NotFound, StateError, StoreError, WindlassError
from windlass.records.task import Pair

PENDING, APPROVED, REJECTED, SUPERSEDED = ReviewState
IDS = ("a", "b", "c", "d")
WHO: dict[str, Any] = {"by": "ada", "at": 1.5}


def pairs_of(ids: Sequence[str]) -> list[Pair]:
    return [Pair(id=one, prompt=f"prompt {one}", chosen="yes", rejected="no") for one in ids]


def write(path: Path, pairs: Sequence[Pair]) -> Path:
    path.write_text("".join(pair.model_dump_json() + "\n" for pair in pairs))
    return path


def make(path: Path, ids: Sequence[str] = IDS) -> PreferenceFolder:
    folder = PreferenceFolder(path / "folder")
    folder.import_file(write(path / "pairs.jsonl", pairs_of(ids)), by="eve", at=1.0)
    return folder


def states(there: Preferences) -> dict[str, ReviewState]:
    return {one: standing.state for one, standing in there.standings.items()}


@pytest.fixture
def folder(tmp_path: Path) -> PreferenceFolder:
    return make(tmp_path)


def bring(folder: PreferenceFolder, pair: str, state: ReviewState) -> None:
    if state is not PENDING:
        folder.review([pair], state, reason="so", instead="d" if state is SUPERSEDED else None, **WHO)


# What may follow what ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ReviewState)
@pytest.mark.parametrize("after", [APPROVED, REJECTED, SUPERSEDED])
def test_a_state_follows_or_is_refused(folder: PreferenceFolder, before: ReviewState, after: ReviewState) -> None:
    bring(folder, "a", before)
    there, log = states(folder.read()), folder.reviews_file.read_bytes()
    if before is after:
        assert folder.review(["a"], after, instead="d" if after is SUPERSEDED else None, **WHO) == ()
    elif after in ALLOWED[before]:
        bring(folder, "a", after)
        assert states(folder.read()) == {**there, "a": after}
        return
    else:
        with pytest.raises(StateError, match=f"a is {before}"):
            bring(folder, "a", after)
    assert folder.reviews_file.read_bytes() == log


def test_who_when_and_why_are_on_record(folder: PreferenceFolder) -> None:
    folder.review(["a", "b"], APPROVED, by=" ada ", at=2.0)
    folder.review(["a"], REJECTED, by="bob", at=3.0, reason="wrong\nunit")
    there = folder.read()
    assert there.standings["a"].review == Reviewed(at=3.0, by="bob", state=REJECTED, pairs=("a",), reason="wrong\nunit")
    assert [(one.by, one.at, one.state) for one in there.reviews("a")] == [
        ("ada", 2.0, APPROVED),
        ("bob", 3.0, REJECTED),
    ]
    assert there.standings["c"].review is None and there.reviews("c") == []
    assert there.counts == {PENDING: 2, APPROVED: 1, REJECTED: 1, SUPERSEDED: 0}
    origin = there.origins["a"]
    assert (origin.by, origin.at, origin.file, origin.source, origin.rows) == (
        "eve",
        1.0,
        "pairs.jsonl",
        "pairs.jsonl",
        4,
    )


def test_a_rejection_and_a_change_of_mind_need_a_reason(folder: PreferenceFolder) -> None:
    with pytest.raises(DataError, match="a rejection needs a reason"):
        folder.review(["a"], REJECTED, reason="  ", **WHO)
    folder.review(["a"], REJECTED, reason="no", **WHO)
    with pytest.raises(DataError, match="a was rejected; to take that back needs a reason"):
        folder.review(["b", "a"], APPROVED, **WHO)
    assert states(folder.read())["b"] is PENDING
    folder.review(["b", "a"], APPROVED, reason="looked again", **WHO)
    assert states(folder.read())["a"] is APPROVED


def test_a_review_is_of_all_pairs_or_of_none(folder: PreferenceFolder) -> None:
    bring(folder, "c", SUPERSEDED)
    for ids, error in ((["a", "b", "c"], StateError), (["a", "bb"], NotFound)):
        with pytest.raises(error):
            folder.review(ids, APPROVED, **WHO)
    assert states(folder.read()) == {"a": PENDING, "b": PENDING, "c": SUPERSEDED, "d": PENDING}
    assert folder.review(["b", "a", "b"], APPROVED, **WHO) == ("b", "a")
    assert folder.review(None, REJECTED, reason="the rest", **WHO) == ("d",)
    assert folder.review(None, APPROVED, **WHO) == ()


def test_unknown_pairs_and_missing_names_are_told(
    folder: PreferenceFolder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    long = make(tmp_path_factory.mktemp("long"), ["question-1"])
    with pytest.raises(NotFound, match=r"no pair 'qestion-1'. Did you mean 'question-1'\? Nor are 2 others"):
        long.review(["qestion-1", "x", "y"], APPROVED, **WHO)
    with pytest.raises(DataError, match="'by'"):
        folder.review(["a"], APPROVED, by=" ", at=1.0)
    with pytest.raises(DataError, match="'reason'"):
        folder.review(["a"], APPROVED, by="ada", at=1.0, reason="\udcff")
    with pytest.raises(NotFound, match="holds no preferences"):
        PreferenceFolder(folder.path / "none").review(["a"], APPROVED, **WHO)
    with pytest.raises(NotFound, match="windlass preferences import FILE --to"):
        PreferenceFolder(folder.path.parent / "none").read()


def test_what_supersedes_a_pair_is_another_one_that_may_be_used(folder: PreferenceFolder) -> None:
    for new, error in (("a", StateError), ("x", NotFound), (None, StateError)):
        with pytest.raises(error):
            folder.review(["a"], SUPERSEDED, instead=new, **WHO)
    with pytest.raises(StateError):
        folder.review(["a"], APPROVED, instead="b", **WHO)
    folder.review(["b"], REJECTED, reason="no", **WHO)
    with pytest.raises(StateError, match="b is rejected"):
        folder.review(["a"], SUPERSEDED, instead="b", **WHO)
    folder.review(["a"], SUPERSEDED, instead="c", **WHO)
    with pytest.raises(StateError, match="a is superseded"):
        folder.review(["c"], SUPERSEDED, instead="a", **WHO)
    with pytest.raises(StateError, match="a is superseded"):
        folder.review(["a"], SUPERSEDED, instead="d", **WHO)
    assert folder.read().standings["a"].review == Reviewed(state=SUPERSEDED, pairs=("a",), instead="c", **WHO)


# Imports -------------------------------------------------------------------------------------------------------------


def test_an_import_can_be_repeated_and_extended(folder: PreferenceFolder, tmp_path: Path) -> None:
    folder.review(["a"], APPROVED, **WHO)
    log = folder.reviews_file.read_bytes()
    assert folder.import_file(tmp_path / "pairs.jsonl", **WHO) == (0, 4)
    assert folder.reviews_file.read_bytes() == log
    more = write(tmp_path / "more.jsonl", pairs_of(["e", "b", "f"]))
    assert folder.import_file(more, source="a survey", **WHO) == (2, 1)
    there = folder.read()
    assert list(there.pairs) == [*IDS, "e", "f"] and states(there)["a"] is APPROVED
    assert (there.source(there.pairs["a"]), there.source(there.pairs["f"])) == ("pairs.jsonl", "a survey")
    assert read_pairs(folder.pairs_file) == list(there.pairs.values())


def test_a_pair_may_say_itself_where_it_is_from(tmp_path: Path) -> None:
    pairs = [
        pair.model_copy(update={"metadata": {"source": one}})
        for pair, one in zip(pairs_of("abc"), ("x", " ", 3), strict=True)
    ]
    folder = PreferenceFolder(tmp_path / "folder")
    folder.import_file(write(tmp_path / "pairs.jsonl", pairs), source="survey", **WHO)
    there = folder.read()
    assert [there.source(pair) for pair in there.pairs.values()] == ["x", "survey", "survey"]


def test_rows_that_clash_with_pairs_in_the_folder_are_told(folder: PreferenceFolder, tmp_path: Path) -> None:
    first, second, third, _ = pairs_of(IDS)
    clashing = [
        first.model_copy(update={"id": "other"}),
        second.model_copy(update={"chosen": "changed"}),
        third.model_copy(update={"metadata": {"x": 1}}),
        *pairs_of(["new"]),
    ]
    with pytest.raises(DataError) as error:
        folder.import_file(write(tmp_path / "more.jsonl", clashing), **WHO)
    told = str(error.value).splitlines()
    assert told[1:4] == [
        "  row 1: the same pair as 'a', which is there already",
        "  row 2: the id 'b' is that of another pair, which is there already",
        "  row 3: 'c' is there already, with other metadata",
    ]
    assert list(folder.read().pairs) == list(IDS)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    mine = write(tmp_path / "pairs.jsonl", pairs_of(IDS))
    before = mine.read_bytes()
    with pytest.raises(StateError, match="holds other things"):
        PreferenceFolder(tmp_path).import_file(mine, **WHO)
    with pytest.raises(StoreError, match="File exists"):
        PreferenceFolder(mine).import_file(mine, **WHO)
    with pytest.raises(DataError, match="there is no file"):
        PreferenceFolder(tmp_path / "new").import_file(tmp_path / "none.jsonl", **WHO)
    assert mine.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


# What is on disk -----------------------------------------------------------------------------------------------------


def test_a_line_without_its_end_was_never_said_to_be_done(folder: PreferenceFolder) -> None:
    folder.review(["a"], APPROVED, **WHO)
    whole = folder.reviews_file.read_bytes()
    folder.review(["b"], REJECTED, reason="größer", **WHO)
    both = folder.reviews_file.read_bytes()
    for cut in range(len(whole), len(both)):
        folder.reviews_file.write_bytes(both[:cut])
        assert states(folder.read()) == {"a": APPROVED, "b": PENDING, "c": PENDING, "d": PENDING}, cut
        assert folder.review(["c"], APPROVED, **WHO) == ("c",)
        assert states(folder.read())["c"] is APPROVED
        assert folder.reviews_file.read_bytes().startswith(whole)


def test_pairs_of_an_import_that_was_killed_are_not_there(folder: PreferenceFolder, tmp_path: Path) -> None:
    pairs, log = folder.pairs_file.read_bytes(), folder.reviews_file.read_bytes()
    more = write(tmp_path / "more.jsonl", pairs_of(["e", "f"]))
    folder.import_file(more, **WHO)
    whole, logged = folder.pairs_file.read_bytes(), folder.reviews_file.read_bytes()
    for cut in range(len(pairs), len(whole) + 1):
        folder.pairs_file.write_bytes(whole[:cut])
        folder.reviews_file.write_bytes(log)
        assert list(folder.read().pairs) == list(IDS)
    assert folder.import_file(more, **WHO) == (2, 0)
    assert (folder.pairs_file.read_bytes(), folder.reviews_file.read_bytes()) == (whole, logged)


def test_a_first_import_that_was_killed_leaves_an_empty_folder(tmp_path: Path) -> None:
    folder = PreferenceFolder(tmp_path / "folder")
    folder.path.mkdir()
    folder.reviews_file.touch()
    folder.pairs_file.write_bytes(b'{"id": "x"')
    assert folder.read().pairs == {}
    assert folder.import_file(write(tmp_path / "pairs.jsonl", pairs_of(IDS)), **WHO) == (4, 0)
    assert list(folder.read().pairs) == list(IDS)


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_damage_is_told_and_nothing_goes_on(folder: PreferenceFolder) -> None:
    folder.review(["a"], APPROVED, **WHO)
    pairs, log = folder.pairs_file.read_bytes(), folder.reviews_file.read_bytes()
    lines = log.splitlines(keepends=True)
    without_by = lines[1].replace(b'"by":"ada"', b'"by":""')
    assert without_by != lines[1]
    cases = [
        (pairs[:-1], log, "81 are there|are there"),
        (pairs.replace(b"yes", b"yep", 1), log, "some differ"),
        (None, log, "cannot read"),
        (pairs, lines[0] + b"{}\n", "line 2 of .* is no entry"),
        (pairs, lines[0] + without_by, "line 2 of .* is no entry: reviewed.by"),
        (pairs, lines[0] + b"\n" + lines[1], "line 2 of .* is no entry"),
        (pairs, b"".join([*lines, lines[1]]), "line 3 of .* cannot follow"),
        (pairs, lines[1] + lines[0], "line 1 of .* cannot follow: there is no pair"),
    ]
    for data, entries, told in cases:
        folder.pairs_file.unlink(missing_ok=True)
        if data is not None:
            folder.pairs_file.write_bytes(data)
        folder.reviews_file.write_bytes(entries)
        with pytest.raises(StoreError, match=told):
            folder.read()
        with pytest.raises(StoreError, match=told):
            folder.review(["b"], APPROVED, **WHO)
        assert folder.reviews_file.read_bytes() == entries


FULL_DISK = """
import resource, sys
from pathlib import Path
from windlass.datasets.folder import PreferenceFolder
from windlass.errors import StoreError
folder = PreferenceFolder(Path(sys.argv[1]))
size = folder.pairs_file.stat().st_size if sys.argv[2] == "import" else folder.reviews_file.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))
try:
    if sys.argv[2] == "import":
        folder.import_file(Path(sys.argv[3]), by="ada", at=2.0)
    else:
        folder.review(["a"], "approved", by="ada", at=2.0)
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("what", ["import", "review"])
def test_a_full_disk_changes_nothing(folder: PreferenceFolder, tmp_path: Path, what: str) -> None:
    more = write(tmp_path / "more.jsonl", pairs_of(["e", "f"]))
    before = (folder.pairs_file.read_bytes(), folder.reviews_file.read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder.path), what, str(more)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot write" in done.stdout and "File too large" in done.stdout, done.stderr
    assert (folder.pairs_file.read_bytes(), folder.reviews_file.read_bytes()) == before
    assert folder.review(["a"], APPROVED, **WHO) == ("a",)


# Processes -----------------------------------------------------------------------------------------------------------

REVIEWER = """
import sys
from pathlib import Path
from windlass.datasets.folder import PreferenceFolder
from windlass.datasets.reviews import ReviewState
folder = PreferenceFolder(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for one in sys.argv[2].split(","):
    changed = folder.review([one], ReviewState.APPROVED, by=sys.argv[3], at=2.0)
    print(one, len(changed), flush=True)
"""


def start_reviewer(folder: PreferenceFolder, ids: Sequence[str], by: str) -> subprocess.Popen[str]:
    """It waits for a line on its stdin."""
    process = subprocess.Popen(
        [sys.executable, "-c", REVIEWER, str(folder.path), ",".join(ids), by],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_two_processes_review_at_once(tmp_path: Path) -> None:
    ids = [f"q{i}" for i in range(60)]
    folder = make(tmp_path, ids)
    both = [start_reviewer(folder, ids, "ada"), start_reviewer(folder, ids[::-1], "bob")]
    for process in both:
        go(process)
    said = [dict(line.split() for line in process.communicate()[0].splitlines()) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    there = folder.read()
    for one in ids:
        reviews = there.reviews(one)
        assert len(reviews) == 1
        assert [said[0][one], said[1][one]] == (["1", "0"] if reviews[0].by == "ada" else ["0", "1"])


def test_a_kill_loses_nothing_that_was_said_to_be_done(tmp_path: Path) -> None:
    ids = [f"q{i}" for i in range(500)]
    folder = make(tmp_path, ids)
    done: set[str] = set()
    for kill_after in (1, 7, 20, 50):
        left = [pair.id for pair in folder.read().within(PENDING)]
        process = start_reviewer(folder, left, "ada")
        go(process)
        assert process.stdout is not None
        for _ in range(kill_after):
            done.add(process.stdout.readline().split()[0])
        os.kill(process.pid, signal.SIGKILL)
        done |= {line.split()[0] for line in process.communicate()[0].splitlines()}
        approved = {pair.id for pair in folder.read().within(APPROVED)}
        assert done <= approved and len(approved - done) <= 1
        done = approved
    assert len(done) < len(ids)


# Invariants ----------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from([*IDS, "x"]), min_size=1, max_size=3),
        st.sampled_from([APPROVED, REJECTED, SUPERSEDED]),
        st.sampled_from(["", "because"]),
        st.sampled_from([None, *IDS]),
    ),
    max_size=12,
)


@settings(max_examples=50)
@given(steps=STEPS)
def test_the_log_gives_every_state_again(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    """After each step what is read is what the steps before made; each beginning of the log gives what was then."""
    folder = make(tmp_path_factory.mktemp("replay"))
    seen = [states(folder.read())]
    for ids, state, reason, instead in steps:
        before = seen[-1]
        try:
            changed = folder.review(ids, state, reason=reason, instead=instead, **WHO)
        except WindlassError:
            assert states(folder.read()) == before
            continue
        assert states(folder.read()) == {**before, **dict.fromkeys(changed, state)}
        assert all(state in ALLOWED[before[one]] for one in changed)
        if changed:
            seen.append(states(folder.read()))
    log = folder.reviews_file.read_bytes()
    lines = log.splitlines(keepends=True)
    assert len(lines) == len(seen)
    for count, then in enumerate(seen, 1):
        folder.reviews_file.write_bytes(b"".join(lines[:count]))
        assert states(folder.read()) == then
    folder.reviews_file.write_bytes(log)
    assert folder.read() == folder.read()


def test_the_log_is_json_a_line(folder: PreferenceFolder) -> None:
    folder.review(["a", "b"], APPROVED, **WHO)
    imported, reviewed = map(json.loads, folder.reviews_file.read_text().splitlines())
    assert imported["kind"] == "imported" and Imported(**imported).rows == 4
    assert reviewed == {
        **{"kind": "reviewed", "at": 1.5, "by": "ada", "state": "approved", "pairs": ["a", "b"], "reason": ""},
    }
    assert "prompt" not in folder.reviews_file.read_text().replace("pairs.jsonl", "")
