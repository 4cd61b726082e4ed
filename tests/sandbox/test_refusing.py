"""Where a program cannot be kept in it is not run; what is asked wrongly is said."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from windlass.sandbox import (
    Level,
    SandboxLimits,
    SandboxUnavailable,
    available,
    bubblewrap,
    confine,
    landlock,
    not_covered,
    run,
    run_untrusted,
)

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What works is remembered for a process; not from one test to the next."""
    monkeypatch.setattr(run, "_proven", set())


@LINUX
def test_with_neither_level_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bubblewrap, "find", lambda: None)
    monkeypatch.setattr(landlock, "version", lambda: 0)
    with pytest.raises(SandboxUnavailable) as caught:
        run_untrusted(["touch", str(tmp_path / "ran")])
    words = str(caught.value)
    assert "bubblewrap: bwrap is not installed" in words and "landlock: the kernel has no Landlock" in words
    assert "Install bubblewrap" in words and not list(tmp_path.iterdir())


@LINUX
def test_landlock_steps_in_for_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    if not landlock.version():
        pytest.skip("the kernel has no Landlock")
    monkeypatch.setattr(bubblewrap, "find", lambda: shutil.which("false"))
    assert available() is Level.LANDLOCK
    with pytest.raises(SandboxUnavailable, match="level bubblewrap cannot be had here"):
        run_untrusted("", level=Level.BUBBLEWRAP)


@LINUX
def test_bubblewrap_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Level] = []
    monkeypatch.setattr(run, "_problem", lambda level, bwrap: asked.append(level) or "")
    assert available() is Level.BUBBLEWRAP and asked == [Level.BUBBLEWRAP]


@pytest.mark.parametrize("machine", ["riscv64", "i686", "armv7l"])
def test_a_machine_whose_calls_are_not_known_is_refused(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uname = os.uname_result(("Linux", "host", "6.1", "#1", machine))
    monkeypatch.setattr(os, "uname", lambda: uname)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(SandboxUnavailable, match=f"system calls of {machine} are not known"):
        available()


def test_another_system_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxUnavailable, match="needs Linux, this is darwin"):
        available()


@LINUX
def test_root_with_no_second_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(run, "_guest", lambda pid: None)
    with pytest.raises(SandboxUnavailable, match="no second user id"):
        available()


@LINUX
@pytest.mark.parametrize("call", ["/proc/self/oom_score_adj", "landlock", "seccomp"])
def test_a_protection_that_fails_keeps_the_program_from_starting(
    call: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The supervisor runs code with one protection broken: it says so, and the program has not run."""
    code = tmp_path / "sandbox"
    shutil.copytree(Path(confine.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__"))
    broken = {
        "/proc/self/oom_score_adj": ("/proc/self/oom_score_adj", "/proc/self/no_such_file"),
        "landlock": ("landlock.restrict(request.abi", "landlock.restrict(request.abi + 1000"),
        "seccomp": ("seccomp.install(request.machine", "seccomp.install('m68k'"),
    }
    source = (code / "confine.py").read_text()
    assert broken[call][0] in source
    (code / "confine.py").write_text(source.replace(*broken[call]))
    if call == "landlock":
        rules = (code / "landlock.py").read_text()
        (code / "landlock.py").write_text(rules.replace('struct.pack("=QQQ", handled', 'struct.pack("=QQQ", 1 << 63'))
    monkeypatch.setattr(run, "CODE", str(code))
    monkeypatch.setattr(run, "_problem", lambda level, bwrap: "")
    tmp_path.chmod(0o755)
    with pytest.raises(SandboxUnavailable, match="could not be put on"):
        run_untrusted("print('ran')", level=Level.LANDLOCK)


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", ""])
def test_files_stay_in_the_folder(path: str) -> None:
    with pytest.raises(ValueError, match="not a path inside"):
        run_untrusted("", files={path: ""})


def test_the_program_is_not_one_of_the_files() -> None:
    with pytest.raises(ValueError, match=r"'main\.py' is where the program itself goes"):
        run_untrusted("", files={"main.py": ""})


def test_an_empty_command_is_none() -> None:
    with pytest.raises(ValueError, match="no command"):
        run_untrusted([])


@pytest.mark.parametrize("limit", ["wall_s", "cpu_s", "memory_bytes", "processes", "output_bytes", "files"])
def test_a_limit_of_nothing_is_refused(limit: str) -> None:
    with pytest.raises(ValueError, match=f"sandbox limit {limit} is 0"):
        SandboxLimits(**{limit: 0})


def test_what_is_not_covered_is_said_for_each_level() -> None:
    for level in Level:
        words = not_covered(level)
        assert any("kernel" in each for each in words) and any("side channels" in each for each in words)
    assert set(not_covered(Level.LANDLOCK)) != set(not_covered(Level.BUBBLEWRAP))


@pytest.mark.parametrize(
    ("uid_map", "guest"),
    [
        ("0 0 4294967295", 0x70000000 + 77),
        ("0 100000 65536", 32768 + 77),
        ("0 1000 1", None),
        ("0 1000 1\n1 100000 65536", 1 + 32768 + 77),
    ],
)
@LINUX
def test_a_guest_is_a_user_that_nobody_else_is(
    uid_map: str, guest: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "uid_map").write_text(uid_map + "\n")
    monkeypatch.setattr(run, "UID_MAP", str(tmp_path / "uid_map"))
    assert run._guest(77) == guest
