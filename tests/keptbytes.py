"""Trees of files, file systems that are full, and processes that are killed before any of their steps."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from windlass.records.checkpoint import FileEntry, Manifest

CONTENT = {"model.bin": b"\x00weights" * 1000, "tokenizer/vocab.json": b'{"a": 1}', "tokenizer/deep/merges": b""}
SMALL = {"model.bin": b"weights", "inner/vocab.json": b"{}"}


def make_tree(folder: Path, content: dict[str, bytes] = CONTENT) -> Path:
    for path, data in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def read_tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def entries(content: dict[str, bytes]) -> Manifest:
    return Manifest.of(
        FileEntry(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest()) for path, data in content.items()
    )


def no_reflink(*_: Any) -> None:
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[Path]:
    """A file system of its own; the test is skipped where none can be mounted."""
    place.mkdir()
    try:
        done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


#: the interpreter's audit events of what changes the disk; a kill before a mere look is one before the next of these
STEPS = ("os.mkdir", "os.link", "os.chmod", "os.rename", "os.remove", "os.rmdir", "os.truncate", "fcntl.", "sqlite3.")


def _changes(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event.startswith(STEPS)


def die_at(step: int, work: Callable[[], object]) -> bool:
    """Do it in a process that is killed before its ``step``-th change on disk; False where it got through."""
    pid = os.fork()
    if pid == 0:
        left = step

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if _changes(event, arguments):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(count)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, "it failed by itself"
    return False


def every_step(work: Callable[[int], Callable[[], object]], check: Callable[[int], None]) -> int:
    """Kill ``work`` before its first change, its second, ... until it gets through; ``check`` after each."""
    step = 1
    while die_at(step, work(step)):
        check(step)
        step += 1
    check(step)
    return step - 1
