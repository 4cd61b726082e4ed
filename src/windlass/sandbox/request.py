"""What a caller hands to the supervisor of one program, and what it gets back: plain values through a pipe.

Both ends are the same interpreter, so `marshal` carries them: it is built in, while `json` or `dataclasses` would cost
every program milliseconds. The program never holds either end.
"""

from __future__ import annotations

import marshal


class Request:
    """One program to run, with its limits (as in ``SandboxLimits``)."""

    def __init__(
        self,
        argv: list[str],
        environment: dict[str, str],
        stdin: bytes,
        contents: dict[str, bytes],
        folder: str,
        owns_disk: bool,
        readable: list[str],
        interpreter: list[str],
        machine: str,
        abi: int,
        guest: int | None,
        room_for_others: int,
        wall_s: float,
        cpu_s: float,
        memory_bytes: int,
        processes: int,
        file_bytes: int,
        files: int,
        output_bytes: int,
        open_files: int,
    ) -> None:
        self.argv = argv
        self.environment = environment
        self.stdin = stdin
        self.contents = contents  #: path in the folder -> bytes
        self.folder = folder  #: the only place it may write to
        self.owns_disk = owns_disk  #: the folder is a file system of its own, as large as the files may be
        self.readable = readable
        self.interpreter = interpreter  #: paths without which Python cannot start
        self.machine = machine
        self.abi = abi  #: the Landlock version to use; 0 for none
        self.guest = guest  #: the user and group id to become; None to stay who one is
        self.room_for_others = room_for_others  #: processes of the same user that may start beside it meanwhile
        self.wall_s = wall_s
        self.cpu_s = cpu_s
        self.memory_bytes = memory_bytes
        self.processes = processes
        self.file_bytes = file_bytes
        self.files = files
        self.output_bytes = output_bytes
        self.open_files = open_files

    def pack(self) -> bytes:
        return marshal.dumps(vars(self))


class Report:
    """How it ended."""

    def __init__(
        self,
        status: int | None = None,
        reason: str = "",
        failure: str = "",
        timed_out: bool = False,
        truncated: bool = False,
        stdout: bytes = b"",
        stderr: bytes = b"",
        wall_s: float = 0.0,
    ) -> None:
        self.status = status  #: as ``os.waitpid`` gives it; None where the program could not be started
        self.reason = reason
        self.failure = failure  #: why it could not be kept in, and was not started
        self.timed_out = timed_out
        self.truncated = truncated
        self.stdout = stdout
        self.stderr = stderr
        self.wall_s = wall_s

    def pack(self) -> bytes:
        return marshal.dumps(vars(self))


def unpack_request(data: bytes) -> Request:
    return Request(**marshal.loads(data))


def unpack_report(data: bytes) -> Report:
    """:raises ValueError, EOFError, TypeError: it is not whole: the supervisor ended before it had written it"""
    return Report(**marshal.loads(data))
