"""The run folder: whole or absent, private where it should be, and a config.yaml that everybody reads the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import DuplicateId, NotFound
from windlass.records.run import Limits, RunSpec, make_run_id
from windlass.records.studyfile import Document
from windlass.runs.folder import RunFolder, _yaml_lines, write_atomic

SPEC = RunSpec(
    id=make_run_id(1.7e9, "name", {"n": 1}),
    name="name",
    created=1.7e9,
    config={"optimizer": {"lr": 1e-5}, "on": True},
    command=("train", "--x"),
    limits=Limits(time_s=3.0),
    required_metrics=("loss",),
)


def test_a_spec_reads_back_equal_and_is_private(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / SPEC.id)
    folder.create(SPEC)
    folder.create(SPEC)
    assert folder.spec() == SPEC
    assert {p.name for p in folder.path.iterdir()} == {"spec.json", "config.yaml"}
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in folder.path.iterdir())
    assert yaml.safe_load(folder.config_file.read_text()) == SPEC.config
    with pytest.raises(DuplicateId):
        folder.create(RunSpec(id=SPEC.id, name="name", created=1.7e9, config={"other": 1}))


def test_of_two_that_create_a_run_at_once_the_second_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rename = RunFolder(tmp_path / SPEC.id), os.rename

    def too_late(source: Path, target: Path) -> None:
        monkeypatch.undo()
        assert RunFolder(folder.path).create(SPEC)
        rename(source, target)

    monkeypatch.setattr(os, "rename", too_late)
    assert not folder.create(SPEC)
    assert [path.name for path in tmp_path.iterdir()] == [SPEC.id]


def test_an_unreadable_spec_is_not_found(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / SPEC.id)
    folder.path.mkdir()
    for text in ("", "{", '{"id": 3, "bogus": true}', "[1]"):
        folder.spec_file.write_text(text)
        with pytest.raises(NotFound):
            folder.spec()


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomic(file, b"old")
    with pytest.raises(TypeError):
        write_atomic(file, "no bytes")  # type: ignore[arg-type]
    assert file.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["file"]


leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=8)
configs = st.recursive(
    st.dictionaries(st.text(min_size=1, max_size=6), leaves | st.lists(leaves, max_size=3), max_size=4),
    lambda inner: st.dictionaries(st.text(min_size=1, max_size=6), inner, max_size=3),
    max_leaves=12,
)


@given(configs)
def test_every_config_reads_back_equal_in_yaml_1_1(config: dict[str, Any]) -> None:
    assert yaml.safe_load("\n".join(_yaml_lines(config, 0))) == config


@given(configs)
def test_every_config_reads_back_equal_in_yaml_1_2(config: dict[str, Any]) -> None:
    assert Document("\n".join(_yaml_lines(config, 0))).data == config
