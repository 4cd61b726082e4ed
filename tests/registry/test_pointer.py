"""The pointer: whole or not there, never older than it was, readable by anybody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from processes import ENVIRONMENT
from windlass.errors import NotFound, StateError, StoreError
from windlass.records.checkpoint import Checkpoint
from windlass.records.deployment import Deployment, Stage, Tenure
from windlass.registry.pointer import Pointer, pointer, read_pointer, write_pointer

CHECKPOINTS = {
    one.id: one
    for one in (Checkpoint(digest=letter * 64, bytes=1, files=1, created=1.0, run=f"run-{letter}") for letter in "0123")
}
OLD, BEFORE, NOW, NEXT = CHECKPOINTS


def line(stage: Stage | None = None, share: float = 0.0, frozen: str | None = None) -> Deployment:
    tenures = (
        Tenure(checkpoint=OLD, since=1.0, until=2.0),
        Tenure(checkpoint=BEFORE, since=2.0, until=3.0),
        Tenure(checkpoint=NOW, since=3.0),
    )
    stages = {OLD: Stage.RETIRED, BEFORE: Stage.RETIRED, NOW: Stage.CHAMPION} | ({NEXT: stage} if stage else {})
    return Deployment(name="reader", tenures=tenures, stages=stages, share=share, frozen=frozen)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deployments" / "reader.json"


def data(sequence: int = 7) -> Pointer:
    return pointer(line(), CHECKPOINTS, Path("/lab/blobs/sha256"), sequence)


def test_it_says_what_serves_and_what_served(tmp_path: Path) -> None:
    made = pointer(line(), CHECKPOINTS, tmp_path, 7)
    assert made == {
        "deployment": "reader",
        "checkpoint": NOW,
        "digest": "2" * 64,
        "path": str(tmp_path / ("2" * 64) / "files"),
        "since": 3.0,
        "sequence": 7,
        "challenger": None,
        "previous": [
            {
                "checkpoint": checkpoint,
                "digest": CHECKPOINTS[checkpoint].digest,
                "path": str(tmp_path / CHECKPOINTS[checkpoint].digest / "files"),
                "since": since,
                "until": since + 1,
            }
            for checkpoint, since in ((BEFORE, 2.0), (OLD, 1.0))
        ],
    }


@pytest.mark.parametrize("stage, share", [(Stage.SHADOW, 0.0), (Stage.CANARY, 0.05)])
def test_it_says_who_is_on_the_way(stage: Stage, share: float) -> None:
    challenger = pointer(line(stage, share), CHECKPOINTS, Path("/b"), 7)["challenger"]
    assert challenger == {
        "checkpoint": NEXT,
        "digest": "3" * 64,
        "path": f"/b/{'3' * 64}/files",
        "role": str(stage),
        "share": share,
    }


def test_a_frozen_deployment_has_no_challenger() -> None:
    assert pointer(line(Stage.CANARY, 0.05, frozen="f" * 12), CHECKPOINTS, Path("/b"), 7)["challenger"] is None


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert pointer(line(), CHECKPOINTS, Path("blobs"), 7)["path"] == str(tmp_path / "blobs" / ("2" * 64) / "files")


def test_nothing_serving_is_nothing_to_point_at() -> None:
    with pytest.raises(StateError, match="nothing serves as reader yet"):
        pointer(Deployment(name="reader"), CHECKPOINTS, Path("/b"), 1)


def test_it_is_written_only_where_something_changed(path: Path) -> None:
    assert write_pointer(path, data())
    before = os.stat(path)
    assert not write_pointer(path, data())
    assert os.stat(path) == before
    assert read_pointer(path) == data() == json.loads(path.read_text())
    assert write_pointer(path, data(8)) and read_pointer(path)["sequence"] == 8
    moved = pointer(line(), CHECKPOINTS, Path("/elsewhere"), 8)
    assert write_pointer(path, moved), "a lab that moved has other paths at the same entry"
    assert read_pointer(path) == moved


def test_an_older_one_never_replaces_a_newer_one(path: Path) -> None:
    write_pointer(path, data(8))
    with pytest.raises(StateError, match=r"follows entry 8 .* follows entry 7 is older"):
        write_pointer(path, data(7))
    assert read_pointer(path)["sequence"] == 8


def test_a_missing_one_says_what_to_do(path: Path) -> None:
    with pytest.raises(NotFound, match=r"nothing serves as 'reader'.*\nwindlass deployments list"):
        read_pointer(path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        json.dumps({"checkpoint": NOW}),
        json.dumps({**data(), "path": 3}),
        json.dumps({**data(), "digest": ""}),
        json.dumps({**data(), "sequence": "7"}),
        json.dumps({**data(), "challenger": "x"}),
        json.dumps({**data(), "challenger": {"checkpoint": NEXT}}),
        json.dumps({**data(), "challenger": {**data()["previous"][0], "role": "king", "share": 0.1}}),
        json.dumps({**data(), "challenger": {**data()["previous"][0], "role": "canary", "share": 7}}),
        json.dumps({**data(), "challenger": {**data()["previous"][0], "role": "canary", "share": None}}),
        "\x00" * 500,
    ],
)
def test_a_damaged_one_is_told_and_replaced(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(StoreError, match=r"reader.json is damaged: .*\nwindlass doctor"):
        read_pointer(path)
    assert write_pointer(path, data())
    assert read_pointer(path) == data()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "deployments").write_text("a file")
    with pytest.raises(StoreError, match="cannot write"):
        write_pointer(tmp_path / "deployments" / "reader.json", data())


RACE = """
import json, sys
from pathlib import Path
from windlass.errors import StateError
from windlass.registry.pointer import write_pointer
path, data = Path(sys.argv[1]), json.loads(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
refused = 0
for sequence in range(int(sys.argv[3]), 120, int(sys.argv[4])):
    try:
        write_pointer(path, {**data, "sequence": sequence})
    except StateError:
        refused += 1
print(refused)
"""


def test_processes_at_once_leave_the_newest(path: Path) -> None:
    """Each has every third entry; a reader sees whole pointers alone, and none older than one before."""
    argv = [sys.executable, "-c", RACE, str(path), json.dumps(data())]
    racing = [
        subprocess.Popen(
            [*argv, str(first), "3"], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for first in (1, 2, 3)
    ]
    for process in racing:
        assert process.stdout is not None
        process.stdout.readline()
    write_pointer(path, data(0))
    for process in racing:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    seen = [0]
    while any(process.poll() is None for process in racing):
        seen.append(read_pointer(path)["sequence"])
    assert all(process.wait() == 0 for process in racing)
    assert seen == sorted(seen)
    assert read_pointer(path)["sequence"] == 119
    assert [one.name for one in path.parent.iterdir() if not one.name.startswith(".")] == ["reader.json"]
    for process in racing:
        process.communicate()
