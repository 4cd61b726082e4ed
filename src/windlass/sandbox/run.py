"""Runs a program that nobody has read, and refuses where it cannot be kept in."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from windlass.sandbox import bubblewrap, landlock, seccomp, usage
from windlass.sandbox.records import Finished, Level, SandboxLimits, SandboxUnavailable
from windlass.sandbox.request import Report, Request, unpack_report

CODE = str(Path(__file__).parent)
MAIN = "main.py"
NOT_STARTED = 127  #: the exit code of what could not be executed, as shells have it
NEXT_STEP = "Install bubblewrap (bwrap), or use Linux 5.13 or later with Landlock: cat /sys/kernel/security/lsm"
STARTING_S = 60.0  #: what starting and clearing up may take on a machine under load before all is taken down
SWEEP_S = 5.0  #: how long taking down insists on processes that do not go

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives")
#: A fixed hash seed: the same program gives the same output each time. Few memory arenas: address space is limited.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
ENVIRONMENT |= {"PYTHONDONTWRITEBYTECODE": "1", "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"}

#: The supervisor's modules without the packages above them, whose imports would cost every program milliseconds.
SUPERVISE = """import sys
for name, path in ("windlass", []), ("windlass.sandbox", [sys.argv[1]]):
    sys.modules[name] = type(sys)(name)
    sys.modules[name].__path__ = path
from windlass.sandbox.supervisor import main
main(int(sys.argv[2]))"""
#: ``exit`` and ``quit`` come from `site`, which is left out with all that is installed; programs use them.
RUN_MAIN = f"""__import__('builtins').__dict__.update(exit=__import__('sys').exit, quit=__import__('sys').exit)
__import__('sys').argv[:] = [__file__ := {MAIN!r}]
exec(compile(open({MAIN!r}, 'rb').read(), {MAIN!r}, 'exec'))"""

#: The kernel counts a user's threads together, whoever started them: what starts elsewhere meanwhile needs this room,
#: and a fork bomb may fill it before the supervisor looks. A user namespace is counted apart (Linux 5.14; Landlock 2).
ROOM_FOR_OTHERS = 256
COUNTED_APART_SINCE = 2

#: user ids that no login and no service has (systemd's UIDS-GIDS.md), as many as there are process ids
GUESTS, GUEST_COUNT = 0x70000000, 2**22
UID_MAP = "/proc/self/uid_map"
LEAST_MAPPED = 65536  #: user ids that a container has to have for a part of them to be nobody's


def run_untrusted(
    argv_or_code: str | Sequence[str],
    *,
    stdin: str = "",
    files: Mapping[str, str] | None = None,
    limits: SandboxLimits | None = None,
    level: Level | None = None,
) -> Finished:
    """Run a program in a fresh folder with no network, no view of the host's files and processes, and within limits.

    A text is Python code: it runs as ``main.py`` on this interpreter's standard library alone, and may import the
    Python ``files`` beside it. Otherwise the words of a command; ``python`` is this interpreter. ``files``: contents by
    relative path; the program can read and change them, so an answer that it must not know does not belong there.
    Its folder is gone afterwards, and so is every process that it started. Blocks; safe to call from several threads.

    :raises SandboxUnavailable: neither level (or not ``level``) can be had here; nothing was run
    :raises ValueError: a path of ``files`` leaves the folder, or there is no command
    """
    argv, contents = _program(argv_or_code, files or {})
    level = available() if level is None else level
    if problem := _problem(level, bubblewrap.find()):
        raise SandboxUnavailable(f"The sandbox level {level} cannot be had here: {problem}", NEXT_STEP)
    return _run(level, argv, stdin, contents, limits or SandboxLimits())


def available() -> Level:
    """The best level that works here; found out by running an empty program, once in a process.

    :raises SandboxUnavailable: none does; the message says why for each
    """
    problems = []
    for level in Level:
        problem = _problem(level, bubblewrap.find())
        if not problem:
            return level
        problems.append(f"{level}: {problem}")
    raise SandboxUnavailable(f"Untrusted code cannot be run here. {'; '.join(problems)}", NEXT_STEP)


#: levels that have worked, with where bwrap was; a level that did not work may do so when there is more room
_proven: set[tuple[Level, str | None]] = set()


def _problem(level: Level, bwrap: str | None) -> str:
    """Why a level does not work here; empty where it does. ``bwrap`` is where it is now: another one is tried anew."""
    if (level, bwrap) in _proven:
        return ""
    machine = os.uname().machine
    if sys.platform != "linux":
        return f"it needs Linux, this is {sys.platform}"
    if not seccomp.supported(machine):
        return f"system calls of {machine} are not known, only those of {', '.join(seccomp.MACHINES)}"
    if os.geteuid() == 0 and _guest(0) is None:
        return "this is root with no second user id to run the program as"
    if level is Level.BUBBLEWRAP and bwrap is None:
        return "bwrap is not installed"
    if level is Level.LANDLOCK and not landlock.version():
        return "the kernel has no Landlock, or it is switched off"
    try:
        argv, contents = _program("", {})
        finished = _run(level, argv, "", contents, SandboxLimits(wall_s=STARTING_S))
    except SandboxUnavailable as error:
        return error.message
    if finished.code != 0:
        return f"Python did not run in it: {finished.reason or finished.stderr}"
    _proven.add((level, bwrap))
    return ""


def _program(argv_or_code: str | Sequence[str], files: Mapping[str, str]) -> tuple[list[str], dict[str, bytes]]:
    contents = {path: _bytes(text) for path, text in files.items()}
    for path in contents:
        if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError(f"files: {path!r} is not a path inside the sandbox's folder")
    if isinstance(argv_or_code, str):
        if MAIN in contents:
            raise ValueError(f"files: {MAIN!r} is where the program itself goes")
        return [base_python(), "-s", "-S", "-c", RUN_MAIN], {**contents, MAIN: _bytes(argv_or_code)}
    if not argv_or_code:
        raise ValueError("there is no command to run")
    first = base_python() if argv_or_code[0] in ("python", "python3", sys.executable) else argv_or_code[0]
    return [first, *argv_or_code[1:]], contents


def _bytes(text: str) -> bytes:
    """A model may write half a character; it is the program's matter to fail on it."""
    return text.encode(errors="surrogatepass")


def base_python() -> str:
    """This interpreter outside of its virtual environment, which a program does not see."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _interpreter() -> list[str]:
    """What Python needs to start where it is not below /usr. Not its whole prefix: that may be somebody's ~/.local."""
    paths = [base_python(), os.path.join(sys.base_prefix, sys.platlibdir), os.path.join(sys.base_prefix, "lib")]
    return [path for path in dict.fromkeys(paths) if os.path.exists(path) and not path.startswith("/usr/")]


def _guest(pid: int) -> int | None:
    """The user id for a program that root runs, its own at that time; None where there is no id to give.

    Of its own, because the kernel counts processes by user, and because nobody else then owns anything as that user.
    """
    with open(UID_MAP) as lines:
        start, length = max(((int(first), int(count)) for first, _, count in map(str.split, lines)), key=lambda r: r[1])
    if start + length > GUESTS + GUEST_COUNT:
        return GUESTS + pid % GUEST_COUNT
    if length < LEAST_MAPPED:
        return None
    return start + length // 2 + pid % (length // 4)


@dataclass(frozen=True, slots=True)
class _World:
    """Where a program runs: the command that starts its supervisor there, and its folder."""

    command: list[str]
    folder: str
    owns_disk: bool


def _world(level: Level, file_bytes: int, lifeline: int) -> _World:
    start = [base_python(), "-I", "-S", "-c", SUPERVISE]
    if level is Level.LANDLOCK:
        folder = os.path.join(tempfile.gettempdir(), f"windlass-sandbox-{secrets.token_hex(8)}")
        return _World([*start, CODE, str(lifeline)], os.path.abspath(folder), owns_disk=False)
    start = [*start, bubblewrap.CODE, str(lifeline)]
    bwrap = bubblewrap.find() or "bwrap"
    command = bubblewrap.command(bwrap, CODE, (*SYSTEM, *_interpreter()), file_bytes, start)
    return _World(command, bubblewrap.FOLDER, owns_disk=True)


def _run(level: Level, argv: list[str], stdin: str, contents: dict[str, bytes], limits: SandboxLimits) -> Finished:
    lifeline, hold = os.pipe()
    try:
        world = _world(level, limits.file_bytes, lifeline)
        process = _start(world, lifeline)
        with process:
            report = _converse(process, world, _request(world, argv, _bytes(stdin), contents, limits, process.pid))
    finally:
        os.close(lifeline)
        os.close(hold)
    if report.failure:
        raise SandboxUnavailable(f"The sandbox could not be put on: {report.failure}", NEXT_STEP)
    code = NOT_STARTED if report.status is None else os.waitstatus_to_exitcode(report.status)
    return Finished(
        level=level,
        code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        timed_out=report.timed_out,
        stdout=report.stdout.decode(errors="replace"),
        stderr=report.stderr.decode(errors="replace"),
        truncated=report.truncated,
        wall_s=report.wall_s,
        reason=report.reason,
    )


def _start(world: _World, lifeline: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        world.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env={},
        start_new_session=True,
        pass_fds=(lifeline,),
    )


def _request(
    world: _World, argv: list[str], stdin: bytes, contents: dict[str, bytes], limits: SandboxLimits, pid: int
) -> Request:
    abi = landlock.version()
    return Request(
        argv=argv,
        environment={**ENVIRONMENT, "HOME": world.folder, "TMPDIR": world.folder},
        stdin=stdin,
        contents=contents,
        folder=world.folder,
        owns_disk=world.owns_disk,
        readable=[*SYSTEM, *_interpreter()],
        interpreter=_interpreter(),
        machine=os.uname().machine,
        abi=abi,
        guest=_guest(pid) if os.geteuid() == 0 else None,
        room_for_others=0 if world.owns_disk and abi >= COUNTED_APART_SINCE else ROOM_FOR_OTHERS,
        **asdict(limits),
    )


def _converse(process: subprocess.Popen[bytes], world: _World, request: Request) -> Report:
    """Hand over the request and wait for the report. Whatever happens, nothing of the program is left."""
    errors = b""
    try:
        output, errors = process.communicate(request.pack(), request.wall_s + STARTING_S)
        return unpack_report(output)
    except (subprocess.TimeoutExpired, ValueError, EOFError, TypeError) as error:
        _take_down(process)
        words = errors.decode(errors="replace").strip() or f"no answer from its supervisor ({type(error).__name__})"
        raise SandboxUnavailable(f"The sandbox did not work: {words}", NEXT_STEP) from error
    except BaseException:
        _take_down(process)
        raise
    finally:
        if not world.owns_disk and os.path.exists(world.folder):
            usage.remove(world.folder)


def _take_down(process: subprocess.Popen[bytes]) -> None:
    """End a supervisor that did not come to its end, and what it leaves: a program cannot leave its session."""
    process.kill()
    process.wait()
    deadline = time.monotonic() + SWEEP_S
    while (groups := usage.groups_of_session(process.pid)) and time.monotonic() < deadline:
        for group in groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        time.sleep(0.001)
