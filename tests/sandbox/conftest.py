"""Every way to be kept in that this machine has: who calls, and at which level."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from string import Template

import pytest

from sandbox.calling import USER, Caller, Elsewhere, Here, levels, python_for_others
from sandbox.keeping import Kept
from windlass.sandbox import Level, landlock

KINDS = ("here", "user", "container", "old")
OLD = {Level.BUBBLEWRAP: 0, Level.LANDLOCK: 1}  #: Landlock's version on an old kernel: none, and the first


@pytest.fixture(scope="session")
def temporary() -> Iterator[Path]:
    """The folder of temporary folders: empty again after every test."""
    path = Path(tempfile.mkdtemp(prefix="sandbox-tests-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def callers(temporary: Path) -> Iterator[dict[str, Caller]]:
    found: dict[str, Caller] = {"here": Here()}
    if os.geteuid() == 0:
        if python := python_for_others():
            found["user"] = Elsewhere("user", python, str(temporary))
        found["container"] = Elsewhere("container", os.path.realpath("/proc/self/exe"), str(temporary))
    yield found
    for caller in found.values():
        if isinstance(caller, Elsewhere):
            caller.close()


@pytest.fixture(params=[f"{kind}-{level}" for kind in KINDS for level in Level])
def kept(
    request: pytest.FixtureRequest, callers: dict[str, Caller], temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Kept]:
    kind, _, level = request.param.partition("-")
    if kind == "old":
        monkeypatch.setattr(landlock, "version", lambda: OLD[Level(level)])
        kind = "here"
    if kind not in callers:
        pytest.skip(f"no caller of the kind {kind}: it takes root, and a Python that others may start")
    caller = callers[kind]
    if level not in (levels() if isinstance(caller, Here) else caller.levels):
        pytest.skip(f"{level} does not work for {kind}")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("A_SECRET", "shibboleth")
    yield Kept(caller, Level(level), kind)
    assert not list(temporary.iterdir()), "a temporary folder is left"


@pytest.fixture(scope="session")
def outside() -> Iterator[dict[str, str]]:
    """What attacks reach for: a file and a folder that anybody may use, and servers of every kind."""
    folder = Path(tempfile.mkdtemp(prefix="outside-"))
    folder.chmod(0o777)
    secret, path, tag = folder / "secret", folder / "socket", f"windlass-{os.getpid()}"
    secret.write_text("shibboleth")
    secret.chmod(0o666)
    if os.geteuid() == 0:
        os.chown(secret, USER, USER)
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{tag}")
        abstract.listen()
        with socket.socket(socket.AF_UNIX) as named:
            named.bind(str(path))
            path.chmod(0o777)
            named.listen()
            yield {
                "SECRET": str(secret),
                "OUTSIDE": str(folder),
                "TESTS": __file__,
                "PORT": str(tcp.getsockname()[1]),
                "TAG": tag,
                "SOCKET": str(path),
            }
    shutil.rmtree(folder)


@pytest.fixture
def attack(outside: dict[str, str]) -> Callable[[str, int], str]:
    """An attack's code with its names filled in for a caller's pid."""
    return lambda code, pid: Template(code).substitute(outside, PID=pid)
