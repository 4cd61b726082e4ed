"""Bytes that are kept: whole or not there, verified, never through a link. Files, processes, full disks are real."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keptbytes import CONTENT, SMALL, entries, every_step, make_tree, mounted, no_reflink, read_tree
from windlass.errors import DataError, LabBusy, NotFound, StateError, StoreError
from windlass.registry import files as taking
from windlass.registry.blobs import Blobs


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "lab" / "blobs" / "sha256")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "source")


def unwritten(blobs: Blobs) -> None:
    """Nothing is visible, and nothing hidden was left."""
    assert blobs.digests() == [] and blobs.leftovers() == []


# Adding ------------------------------------------------------------------------------------------------------------


def test_a_folder_is_kept_under_the_digest_of_its_content(blobs: Blobs, source: Path) -> None:
    (source / "empty").mkdir()
    manifest = blobs.add(source)
    assert manifest == entries(CONTENT)
    assert blobs.digests() == [manifest.digest] and blobs.leftovers() == []
    assert read_tree(blobs.files(manifest.digest)) == CONTENT
    assert blobs.manifest(manifest.digest) == manifest
    assert blobs.verify(manifest.digest) == ()


def test_a_single_file_is_kept_under_its_name(blobs: Blobs, source: Path) -> None:
    manifest = blobs.add(source / "model.bin")
    assert [file.path for file in manifest.files] == ["model.bin"]
    assert read_tree(blobs.files(manifest.digest)) == {"model.bin": CONTENT["model.bin"]}


def test_what_is_kept_is_read_only_and_takes_no_second_copy(blobs: Blobs, source: Path) -> None:
    kept = blobs.files(blobs.add(source).digest) / "model.bin"
    assert kept.stat().st_mode & 0o222 == 0
    if kept.stat().st_ino == (source / "model.bin").stat().st_ino:
        assert (source / "model.bin").stat().st_mode & 0o222 == 0, "a hard link is the same file"
    shutil.rmtree(source)
    assert kept.read_bytes() == CONTENT["model.bin"]


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_where_nothing_can_be_linked_bytes_are_copied(
    blobs: Blobs, source: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(taking.fcntl, "ioctl", refuse)
    monkeypatch.setattr(os, "link", refuse)
    manifest = blobs.add(source)
    assert manifest == entries(CONTENT) and blobs.verify(manifest.digest) == ()
    kept = blobs.files(manifest.digest) / "model.bin"
    assert kept.stat().st_ino != (source / "model.bin").stat().st_ino
    assert kept.stat().st_mode & 0o222 == 0 and (source / "model.bin").stat().st_mode & 0o200


def test_somebody_elses_file_is_copied_since_it_cannot_be_made_read_only(
    blobs: Blobs, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chmod, linked = os.chmod, []

    def refuse_shared(path: Path, mode: int) -> None:
        if os.stat(path).st_nlink > 1:
            linked.append(path)
            raise PermissionError(errno.EPERM, "Operation not permitted")
        chmod(path, mode)

    monkeypatch.setattr(os, "chmod", refuse_shared)
    monkeypatch.setattr(taking.fcntl, "ioctl", no_reflink)
    manifest = blobs.add(source)
    assert len(linked) == len(CONTENT) and blobs.verify(manifest.digest) == ()
    assert (blobs.files(manifest.digest) / "model.bin").stat().st_nlink == 1


def as_nobody(work: Callable[[], object]) -> str:
    """What a process without rights says to it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            os.write(writing, str(work()).encode())
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as told:
        words = told.read().decode()
    os.waitpid(pid, 0)
    return words


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_without_rights_bytes_are_copied_or_refused_and_never_half_taken() -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        source, blobs = make_tree(Path(name) / "source"), Blobs(Path(name) / "blobs")
        assert "StoreError" in as_nobody(lambda: blobs.add(source)), "the folder is somebody else's"
        blobs.root.mkdir()
        os.chown(blobs.root, 65534, 65534)
        assert as_nobody(lambda: blobs.add(source).digest) == entries(CONTENT).digest
        kept = blobs.files(entries(CONTENT).digest) / "model.bin"
        assert kept.stat().st_nlink == 1 and kept.stat().st_uid == 65534 and blobs.digests() == [kept.parents[1].name]
        (source / "model.bin").chmod(0o600)
        assert as_nobody(lambda: blobs.add(source)).startswith("DataError: model.bin cannot be read: Permission denied")
        (source / "tokenizer").chmod(0o700)
        assert as_nobody(lambda: blobs.add(source / "tokenizer")).startswith("DataError")
        assert len(blobs.digests()) == 1 and blobs.leftovers() == []


def test_the_same_bytes_again_change_nothing(blobs: Blobs, source: Path, tmp_path: Path) -> None:
    first = blobs.add(source)
    kept = blobs.folder(first.digest).stat()
    assert blobs.add(make_tree(tmp_path / "other")) == first
    assert blobs.folder(first.digest).stat().st_ino == kept.st_ino
    assert blobs.digests() == [first.digest] and blobs.leftovers() == []


def test_the_same_bytes_again_repair_what_was_damaged(blobs: Blobs, source: Path, tmp_path: Path) -> None:
    digest = blobs.add(source).digest
    (blobs.files(digest) / "model.bin").unlink()
    assert blobs.verify(digest)
    assert blobs.add(make_tree(tmp_path / "other")).digest == digest
    assert blobs.verify(digest) == () and blobs.leftovers() == []


@pytest.mark.parametrize("instead", ["file", "link", "empty"])
def test_something_else_in_the_place_makes_way(blobs: Blobs, source: Path, instead: str) -> None:
    place = blobs.folder(entries(CONTENT).digest)
    place.parent.mkdir(parents=True)
    if instead == "file":
        place.write_text("x")
    elif instead == "link":
        place.symlink_to(source)
    else:
        place.mkdir()
    assert blobs.verify(place.name)
    blobs.add(source)
    assert blobs.verify(place.name) == () and not place.is_symlink()
    assert read_tree(source) == CONTENT


def test_progress_counts_every_byte_once(blobs: Blobs, source: Path) -> None:
    seen: list[int] = []
    manifest = blobs.add(source, seen.append)
    assert sum(seen) == manifest.bytes
    seen.clear()
    assert blobs.verify(manifest.digest, seen.append) == () and sum(seen) == manifest.bytes


LETTERS = st.characters(blacklist_categories=("Cs",), blacklist_characters="/\0")
NAMES = st.text(LETTERS, min_size=1, max_size=20).filter(lambda name: name not in (".", ".."))


@settings(max_examples=40)
@given(content=st.dictionaries(NAMES, st.binary(max_size=200), min_size=1, max_size=5))
def test_any_names_and_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, content: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("any")
    blobs = Blobs(folder / "blobs")
    manifest = blobs.add(make_tree(folder / "source", content))
    assert manifest == entries(content) and blobs.verify(manifest.digest) == ()
    blobs.export(manifest.digest, folder / "out")
    assert read_tree(folder / "out") == content


# What is refused ---------------------------------------------------------------------------------------------------


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's address is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


REFUSED: dict[str, Callable[[Path], object]] = {
    "link to a file": lambda path: path.symlink_to(path.parent / "model.bin"),
    "link to a folder": lambda path: path.symlink_to(path.parent / "tokenizer"),
    "link out": lambda path: path.symlink_to("/etc"),
    "broken link": lambda path: path.symlink_to("nowhere"),
    "named pipe": os.mkfifo,
    "socket": make_socket,
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("where", ["odd", "tokenizer/deep/odd"])
def test_only_files_and_folders_are_kept(blobs: Blobs, source: Path, what: str, where: str) -> None:
    path = source / where
    (path.parent / "model.bin").touch()
    (path.parent / "tokenizer").mkdir(exist_ok=True)
    REFUSED[what](path)
    with pytest.raises(DataError, match=where):
        blobs.add(source)
    unwritten(blobs)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_devices_are_refused(blobs: Blobs, source: Path) -> None:
    try:
        os.mknod(source / "null", 0o20666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no device can be made here")
    with pytest.raises(DataError, match=r"null.*a device"):
        blobs.add(source)
    unwritten(blobs)


def test_a_source_that_is_a_link_is_refused(blobs: Blobs, source: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(DataError, match="'link' is a symbolic link"):
        blobs.add(tmp_path / "link")
    unwritten(blobs)


def test_names_that_are_no_text_are_refused(blobs: Blobs, source: Path) -> None:
    (Path(os.fsdecode(os.fsencode(source) + b"/caf\xe9"))).write_text("x")
    with pytest.raises(DataError, match=r"caf\\xe9.* is not UTF-8"):
        blobs.add(source)
    unwritten(blobs)


def test_a_folder_without_a_file_is_refused(blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    with pytest.raises(DataError, match="empty has no file"):
        blobs.add(tmp_path / "empty")
    unwritten(blobs)


def test_a_source_that_is_not_there(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing does not exist"):
        blobs.add(tmp_path / "nothing")
    unwritten(blobs)


def nest(folder: Path, depth: int) -> Path:
    """A file in ``depth`` folders within each other."""
    inner = folder.joinpath(*["d"] * depth)
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    return folder


def test_folders_nested_without_end_are_refused(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nested deeper than 100"):
        blobs.add(nest(tmp_path / "deep", 101))
    unwritten(blobs)
    digest = blobs.add(nest(tmp_path / "enough", 100)).digest
    assert blobs.verify(digest) == ()
    blobs.export(digest, tmp_path / "out")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("run/../outside", "lies outside"),
        ("outside", "lies outside"),
        ("run", "lies outside"),
        ("run/link/model.bin", "'link' is a symbolic link"),
        ("run/checkpoint/../../outside", "lies outside"),
    ],
)
def test_within_a_folder_nothing_leads_out(blobs: Blobs, tmp_path: Path, path: str, words: str) -> None:
    make_tree(tmp_path / "run" / "checkpoint")
    make_tree(tmp_path / "outside")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match=words):
        blobs.add(tmp_path / path, within=tmp_path / "run")
    unwritten(blobs)
    kept = blobs.add(tmp_path / "run" / "checkpoint" / "tokenizer", within=tmp_path / "run")
    assert {file.path for file in kept.files} == {"vocab.json", "deep/merges"}


def test_a_file_that_turns_into_a_link_meanwhile_is_not_followed(
    blobs: Blobs, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    take_over = taking.take_over

    def swap_first(found: taking.Found, target: Path, **options: Any) -> None:
        (source / "model.bin").unlink()
        (source / "model.bin").symlink_to(secret)
        monkeypatch.undo()
        take_over(found, target, **options)

    monkeypatch.setattr("windlass.registry.blobs.take_over", swap_first)
    with pytest.raises(DataError, match=r"model\.bin"):
        blobs.add(source)
    unwritten(blobs)


def test_a_folder_that_turns_into_a_link_meanwhile_is_not_followed(
    blobs: Blobs, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(tmp_path / "outside", {"secret": b"secret"})
    stat = os.stat

    def swap(name: Any, **options: Any) -> os.stat_result:
        info = stat(name, **options)
        if name == "tokenizer":
            shutil.move(source / "tokenizer", tmp_path / "away")
            (source / "tokenizer").symlink_to(tmp_path / "outside")
        return info

    monkeypatch.setattr(os, "stat", swap)
    with pytest.raises(DataError, match="'tokenizer' is a symbolic link"):
        blobs.add(source)
    monkeypatch.undo()
    unwritten(blobs)


def test_a_file_swapped_between_opening_and_linking_is_not_taken(
    blobs: Blobs, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def swap(name: str, target: Path, **options: Any) -> None:
        (source / "other").write_text("other")
        os.replace(source / "other", source / "model.bin")
        link(name, target, **options)

    monkeypatch.setattr(taking.fcntl, "ioctl", no_reflink)
    monkeypatch.setattr(os, "link", swap)
    with pytest.raises(DataError, match="was replaced"):
        blobs.add(source)
    unwritten(blobs)


def test_a_file_that_is_still_written_is_refused(blobs: Blobs, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (source / "model.bin").open("ab") as writer:

        def more(_: int) -> None:
            writer.write(b"more")
            writer.flush()

        monkeypatch.setattr(taking, "BUFFER", 1000)
        with pytest.raises(DataError, match="changed while it was read"):
            blobs.add(source, more)
    unwritten(blobs)


@pytest.mark.parametrize("digest", ["", "..", "../../etc", "a" * 63, "A" * 64, "a" * 64 + "\n", "a" * 63 + "/"])
def test_only_digests_name_what_is_kept(blobs: Blobs, digest: str) -> None:
    for method in (blobs.folder, blobs.files, blobs.manifest, blobs.verify, blobs.remove):
        with pytest.raises(NotFound, match="is no SHA-256 digest"):
            method(digest)


# Full disks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["link", "mkdir", "fsync", "rename"])
def test_a_disk_that_fails_leaves_nothing(
    blobs: Blobs, source: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    blobs.add(source / "model.bin")
    before = blobs.digests()
    with monkeypatch.context() as patch:
        patch.setattr(taking.fcntl, "ioctl", no_reflink)
        patch.setattr(os, call, fail)
        with pytest.raises(StoreError) as raised:
            blobs.add(source)
    assert os.strerror(code) in raised.value.message
    if code != errno.EIO:
        free = os.statvfs(blobs.root)
        assert "bytes are free" in raised.value.message and free.f_bavail
        assert "windlass checkpoints gc" in raised.value.next_step
    assert blobs.digests() == before and blobs.leftovers() == []
    blobs.add(source)


def test_a_disk_that_fills_with_the_manifest_leaves_nothing(
    blobs: Blobs, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("windlass.registry.blobs.write_atomic", full)
    with pytest.raises(StoreError, match="No space left on device"):
        blobs.add(source)
    unwritten(blobs)


def test_a_disk_that_fills_while_a_file_is_copied_leaves_nothing(
    blobs: Blobs, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(_: Any, target: Any, __: int) -> None:
        target.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def far(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    with monkeypatch.context() as patch:
        patch.setattr(taking.fcntl, "ioctl", far)
        patch.setattr(os, "link", far)
        patch.setattr(shutil, "copyfileobj", fill)
        with pytest.raises(StoreError, match="No space left on device"):
            blobs.add(source)
    unwritten(blobs)
    assert read_tree(source) == CONTENT


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    small = make_tree(tmp_path / "small", {"model.bin": b"x" * 10_000})
    large = make_tree(tmp_path / "large", {"a.bin": b"x" * 500_000, "b.bin": b"y" * 5_000_000})
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "none") as disk:
        blobs = Blobs(disk / "blobs")
        kept = blobs.add(small)
        with pytest.raises(StoreError, match=r"No space left on device, [\d,]+ bytes are free") as raised:
            blobs.add(large)
        assert "windlass checkpoints gc" in raised.value.next_step
        assert blobs.digests() == [kept.digest] and blobs.verify(kept.digest) == () and blobs.leftovers() == []
        assert int(raised.value.message.split(", ")[1].split()[0].replace(",", "")) > 900_000
        blobs.add(make_tree(tmp_path / "fits", {"model.bin": b"z" * 500_000}))


@pytest.mark.parametrize("kind", ["btrfs", "xfs"])
def test_a_reflink_leaves_the_runs_file_writable(tmp_path: Path, kind: str) -> None:
    make = shutil.which(f"mkfs.{kind}")
    if make is None:
        pytest.skip(f"no mkfs.{kind}")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(400 << 20)
    subprocess.run([make, "-q", str(image)], check=True, capture_output=True)
    with mounted(tmp_path / "disk", "-o", "loop", str(image)) as disk:
        source, blobs = make_tree(disk / "source"), Blobs(disk / "blobs")
        digest = blobs.add(source).digest
        kept = blobs.files(digest) / "model.bin"
        assert kept.stat().st_nlink == 1 and kept.stat().st_mode & 0o222 == 0
        (source / "model.bin").write_bytes(b"changed")
        assert blobs.verify(digest) == () and kept.read_bytes() == CONTENT["model.bin"]


# Kills -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill loses nothing that was written, flushed or not; a power cut is not tested."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.usefixtures("no_flush")
def test_a_kill_at_any_step_of_adding_leaves_nothing_half_done(tmp_path: Path) -> None:
    digest = entries(SMALL).digest

    def work(step: int) -> Callable[[], object]:
        source, blobs = make_tree(tmp_path / str(step) / "source", SMALL), Blobs(tmp_path / str(step) / "blobs")
        return lambda: blobs.add(source)

    def check(step: int) -> None:
        source, blobs = tmp_path / str(step) / "source", Blobs(tmp_path / str(step) / "blobs")
        assert all(blobs.verify(one) == () for one in blobs.digests())
        assert read_tree(source) == SMALL
        left = len(blobs.leftovers())
        assert blobs.clear_leftovers() == left and blobs.leftovers() == []
        assert blobs.add(source).digest == digest and blobs.verify(digest) == ()

    assert every_step(work, check) >= 20


@pytest.mark.usefixtures("no_flush")
def test_a_kill_at_any_step_of_a_repair_leaves_bytes_that_are_right_or_known_to_be_wrong(tmp_path: Path) -> None:
    digest = entries(SMALL).digest
    seen = set()

    def work(step: int) -> Callable[[], object]:
        blobs = Blobs(tmp_path / str(step) / "blobs")
        blobs.add(make_tree(tmp_path / str(step) / "first", SMALL))
        (blobs.files(digest) / "inner/vocab.json").unlink()
        source = make_tree(tmp_path / str(step) / "second", SMALL)
        return lambda: blobs.add(source)

    def check(step: int) -> None:
        blobs = Blobs(tmp_path / str(step) / "blobs")
        seen.add(" ".join(word.partition(" is ")[2].partition(":")[0] for word in blobs.verify(digest)))
        left = len(blobs.leftovers())
        assert blobs.clear_leftovers() == left and blobs.leftovers() == []
        assert blobs.add(tmp_path / str(step) / "second").digest == digest and blobs.verify(digest) == ()

    assert every_step(work, check) >= 30
    assert seen == {"missing", ""}


@pytest.mark.usefixtures("no_flush")
def test_a_kill_at_any_step_of_removing_leaves_all_or_nothing(tmp_path: Path) -> None:
    digest = entries(SMALL).digest

    def work(step: int) -> Callable[[], object]:
        blobs = Blobs(tmp_path / str(step) / "blobs")
        blobs.add(make_tree(tmp_path / str(step) / "source", SMALL))
        return lambda: blobs.remove(digest)

    def check(step: int) -> None:
        blobs = Blobs(tmp_path / str(step) / "blobs")
        assert blobs.digests() == [] or blobs.verify(digest) == ()
        left = len(blobs.leftovers())
        assert blobs.clear_leftovers() == left and blobs.leftovers() == []
        blobs.remove(digest)
        assert blobs.digests() == [] and blobs.leftovers() == []
        assert read_tree(tmp_path / str(step) / "source") == SMALL

    assert every_step(work, check) >= 6


def test_leftovers_are_only_cleared_while_nobody_adds(blobs: Blobs, source: Path) -> None:
    (blobs.root / ".staging-999999-00000000").mkdir(parents=True)
    inside: list[tuple[int, int]] = []
    blobs.add(source, lambda _: inside.append((blobs.clear_leftovers(), len(blobs.leftovers()))))
    assert inside and set(inside) == {(0, 2)}
    assert blobs.clear_leftovers() == 1 and blobs.leftovers() == []


def test_nothing_is_collected_while_another_process_adds(blobs: Blobs) -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with blobs.adding():
            os.write(writing, b"x")
            signal.pause()
    os.read(reading, 1)
    try:
        with pytest.raises(LabBusy, match="being added"), blobs.collecting():
            pass
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    with blobs.collecting():
        pass


def test_two_processes_that_add_the_same_bytes_both_succeed(blobs: Blobs, tmp_path: Path) -> None:
    children = []
    for number in range(4):
        source = make_tree(tmp_path / str(number))
        pid = os.fork()
        if pid == 0:
            try:
                blobs.add(source)
                os._exit(0)
            except BaseException:
                os._exit(1)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 4
    assert blobs.digests() == [entries(CONTENT).digest] and blobs.leftovers() == []
    assert blobs.verify(blobs.digests()[0]) == ()


# Verifying ---------------------------------------------------------------------------------------------------------


def damage(blobs: Blobs, digest: str, change: Callable[[Path], object]) -> tuple[str, ...]:
    change(blobs.folder(digest))
    return blobs.verify(digest)


def rewrite(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def link_away(path: Path) -> None:
    away = path.parents[2] / ".away"
    path.rename(away)
    path.symlink_to(away)


def flip(path: Path) -> None:
    """One bit, in place, through whatever the file shares."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(4321)
        byte = file.read(1)[0]
        file.seek(4321)
        file.write(bytes([byte ^ 1]))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda f: (f / "files/model.bin").unlink(), r"files/model\.bin is missing: 8,000 bytes with SHA-256"),
    "truncated": (
        lambda f: rewrite(f / "files/model.bin", b"short"),
        r"files/model\.bin was truncated: 5 bytes with SHA-256 f9b0078b5df5, not 8,000 bytes with SHA-256 [0-9a-f]{12}",
    ),
    "extended": (
        lambda f: rewrite(f / "files/tokenizer/deep/merges", b"x"),
        "deep/merges was extended: 1 bytes.*not 0",
    ),
    "altered": (
        lambda f: flip(f / "files/model.bin"),
        r"files/model\.bin was altered: 8,000 bytes with SHA-256 \w+, not 8,000 bytes with SHA-256 \w+",
    ),
    "unexpected": (lambda f: (f / "files/more").write_text("x"), "files/more was not there when it was kept"),
    "unexpected beside": (lambda f: (f / "more").write_text("x"), "more was not there when it was kept"),
    "link": (lambda f: link_away(f / "files/model.bin"), r"files/model\.bin is a symbolic link, no file"),
    "link to a folder": (lambda f: link_away(f / "files"), "files was not there"),
    "manifest missing": (lambda f: (f / "manifest.json").unlink(), r"manifest\.json cannot be read: No such file"),
    "manifest no JSON": (lambda f: rewrite(f / "manifest.json", b"{"), r"manifest\.json cannot be read: it is no"),
    "manifest of others": (
        lambda f: rewrite(f / "manifest.json", (f / "manifest.json").read_bytes().replace(b"8000", b"8001")),
        r"manifest\.json was altered: its digest is \w{12}, not \w{12}",
    ),
    "manifest leads out": (
        lambda f: rewrite(f / "manifest.json", (f / "manifest.json").read_bytes().replace(b"model.bin", b"../m.bin")),
        "leads out of the checkpoint",
    ),
    "gone": (shutil.rmtree, "is missing"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_verify_names_what_is_wrong(blobs: Blobs, source: Path, how: str) -> None:
    change, words = DAMAGE[how]
    wrong = damage(blobs, blobs.add(source).digest, change)
    assert wrong
    assert any(re.search(words, word) for word in wrong), wrong
    assert how.startswith("link to") or len(wrong) == 1


def test_verify_tells_everything_at_once(blobs: Blobs, source: Path) -> None:
    digest = blobs.add(source).digest
    flip(blobs.files(digest) / "model.bin")
    (blobs.files(digest) / "tokenizer/vocab.json").unlink()
    (blobs.files(digest) / "a").touch()
    assert [word.split()[0] for word in blobs.verify(digest)] == [
        "files/a",
        "files/model.bin",
        "files/tokenizer/vocab.json",
    ]


def test_names_that_would_play_tricks_on_a_terminal_are_quoted(blobs: Blobs, tmp_path: Path) -> None:
    digest = blobs.add(make_tree(tmp_path / "source", {"a\x1b[2Kb\nc": b"x"})).digest
    (blobs.files(digest) / "a\x1b[2Kb\nc").unlink()
    assert blobs.verify(digest)[0].startswith(r"'files/a\x1b[2Kb\nc' is missing")


def test_verify_finds_a_change_through_the_runs_own_name(
    blobs: Blobs, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking.fcntl, "ioctl", no_reflink)
    digest = blobs.add(source).digest
    flip(source / "model.bin")
    assert "files/model.bin was altered" in blobs.verify(digest)[0]


# Export and removal ------------------------------------------------------------------------------------------------


def test_an_export_is_a_copy_that_may_be_changed(blobs: Blobs, source: Path, tmp_path: Path) -> None:
    digest = blobs.add(source).digest
    blobs.export(digest, tmp_path / "out")
    assert read_tree(tmp_path / "out") == CONTENT
    (tmp_path / "out" / "model.bin").write_bytes(b"changed")
    assert (tmp_path / "out" / "model.bin").stat().st_mode & 0o200
    assert blobs.verify(digest) == ()


def test_an_export_never_replaces_anything(blobs: Blobs, source: Path, tmp_path: Path) -> None:
    digest = blobs.add(source).digest
    with pytest.raises(StateError, match="source exists"):
        blobs.export(digest, source)
    with pytest.raises(NotFound, match="is missing"):
        blobs.export("0" * 64, tmp_path / "out")


def test_damaged_bytes_are_not_exported(blobs: Blobs, source: Path, tmp_path: Path) -> None:
    digest = blobs.add(source).digest
    flip(blobs.files(digest) / "model.bin")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(DataError, match=r"is damaged: files/model\.bin was altered"):
        blobs.export(digest, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == before


def test_what_was_removed_is_gone_and_may_be_added_again(blobs: Blobs, source: Path) -> None:
    digest = blobs.add(source).digest
    blobs.remove(digest)
    blobs.remove(digest)
    assert blobs.digests() == [] and blobs.leftovers() == [] and read_tree(source) == CONTENT
    assert blobs.add(source).digest == digest
