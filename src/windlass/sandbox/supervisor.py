"""The parent of one program: starts it confined, watches what it uses, and ends all of it. A process of its own.

A training process has threads, so it can neither fork safely nor adopt orphans; this one has a single thread, becomes
the parent of every process that loses its own, and outlives a caller that is killed for as long as it takes to end the
program and to remove its folder. The program cannot leave its process group (the call filter refuses that), so one
signal to the group reaches all of it at one instant, however fast it forks.
"""

from __future__ import annotations

import os
import resource
import select
import time

from windlass.sandbox import usage
from windlass.sandbox.confine import KILL, NotStarted, become
from windlass.sandbox.linux import PR_SET_CHILD_SUBREAPER, prctl, raise_capabilities
from windlass.sandbox.request import Report, Request, unpack_request

LOOK_S = 0.02  #: between two looks at what the program uses
CHUNK = 65536  #: what a pipe gives or takes at once
RESERVE_BYTES = 256 * 2**20  #: free disk that is left to others; half of what there is, where that is less
SIGXCPU = 24
MIB = 2**20

TYPE_CHECKING = False  # `typing` is not loaded: it would cost every program milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable


def main(lifeline: int) -> None:
    """Run the request on standard input, write the report to standard output.

    ``lifeline``: the reading end of a pipe that the caller holds; when it is cut, the program is ended.
    """
    os.set_inheritable(lifeline, False)
    with open(0, "rb", closefd=False) as stream:
        request = unpack_request(stream.read())
    try:
        report = _run(request, lifeline)
    except OSError as error:
        report = Report(failure=str(error))
    with open(1, "wb", closefd=False) as stream:
        stream.write(report.pack())


def _run(request: Request, lifeline: int) -> Report:
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    if not request.owns_disk:
        os.mkdir(request.folder, 0o700)
    try:
        if request.guest is not None:
            os.chown(request.folder, request.guest, request.guest)
        return _start(request, lifeline)
    finally:
        if not request.owns_disk:
            usage.remove(request.folder)


def _start(request: Request, lifeline: int) -> Report:
    pipes = [os.pipe() for _ in range(4)]  # none is inherited by an exec
    (stdin_r, stdin_w), (stdout_r, stdout_w), (stderr_r, stderr_w), (word_r, word_w) = pipes
    supervisor = os.getpid()
    leader = os.fork()
    if leader == 0:
        try:
            os.setpgid(0, 0)
            for target, fd in enumerate((stdin_r, stdout_w, stderr_w)):
                os.dup2(fd, target)
            become(request, supervisor)
        except NotStarted as error:
            os.write(word_w, b"program " + str(error).encode())
        except BaseException as error:
            os.write(word_w, b"sandbox " + f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(127)
    for fd in (stdin_r, stdout_w, stderr_w, word_w):
        os.close(fd)
    with open(word_r, "rb") as stream:
        word, _, text = stream.read().partition(b" ")  # nothing where the program has started
    if word:
        os.waitpid(leader, 0)
        message = text.decode(errors="replace")
        return Report(failure=message) if word == b"sandbox" else Report(reason=f"could not be started: {message}")
    return _Watch(request, leader, stdin_w, stdout_r, stderr_r).to_the_end(lifeline)


class _Watch:
    """One running program."""

    def __init__(self, request: Request, leader: int, stdin: int, stdout: int, stderr: int) -> None:
        self.request = request
        self.leader = leader
        self.stdin = stdin
        self.unsent = memoryview(request.stdin)
        self.output = {stdout: bytearray(), stderr: bytearray()}
        self.stdout, self.stderr = stdout, stderr
        self.truncated = False
        self.least_free = min(RESERVE_BYTES, _free_bytes(request.folder) // 2)

    def to_the_end(self, lifeline: int) -> Report:
        began = time.monotonic()
        try:
            reason = self._until_over(lifeline, began)
        finally:
            wall = time.monotonic() - began
            os.killpg(self.leader, KILL)  # its number is not given anew before it is waited for
            status = self._wait_for_all()
        self._drain()
        timed_out = reason in (self._wall(), self._cpu())
        if not reason and os.WIFSIGNALED(status) and self._used_its_cpu(os.WTERMSIG(status)):
            reason, timed_out = self._cpu(), True
        if not reason and self.truncated:  # it ended before all of it was read
            reason = self._output()
        output = (bytes(self.output[self.stdout]), bytes(self.output[self.stderr]))
        return Report(status, reason, "", timed_out, self.truncated, *output, wall)

    def _until_over(self, lifeline: int, began: float) -> str:
        """Feed it and read from it until it ends (an empty answer) or has to be ended (why)."""
        ended = os.pidfd_open(self.leader)
        poll = select.poll()
        for fd in (ended, lifeline, self.stdout, self.stderr):
            poll.register(fd, select.POLLIN)
        poll.register(self.stdin, select.POLLOUT)
        os.set_blocking(self.stdin, False)
        deadline, look = began + self.request.wall_s, began
        while True:
            now = time.monotonic()
            if now >= deadline:
                return self._wall()
            if now >= look:
                if reason := self._beyond():
                    return reason
                look = time.monotonic() + LOOK_S
            for fd, _ in poll.poll(max(0.0, min(deadline, look) - now) * 1000):
                if fd == ended:
                    return ""
                if fd == lifeline:
                    return "the caller has gone"
                if fd == self.stdin:
                    if not self._feed():
                        poll.unregister(fd)
                        os.close(fd)
                elif not self._read(fd):
                    poll.unregister(fd)
                if self.truncated:
                    return self._output()

    def _feed(self) -> bool:
        """Give it more of its input; False where that is over."""
        try:
            self.unsent = self.unsent[os.write(self.stdin, self.unsent[:CHUNK]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return bool(self.unsent)

    def _read(self, fd: int) -> bool:
        """Take what it has written; False where nothing more can come."""
        data = os.read(fd, CHUNK)
        self.output[fd] += data
        if len(self.output[fd]) > self.request.output_bytes:
            del self.output[fd][self.request.output_bytes :]
            self.truncated = True
        return bool(data)

    def _drain(self) -> None:
        """What is left in the pipes of an ended program."""
        for fd in self.output:
            while self._read(fd):
                pass

    def _beyond(self) -> str:
        """The limit that all its processes together have passed, in words; or nothing."""
        self._bury_orphans()
        request, pids = self.request, usage.descendants(os.getpid())
        threads, cpu_s, resident = usage.processes(pids)
        if threads > request.processes:
            return f"more than {request.processes} processes"
        if cpu_s + _waited_for_cpu_s() > request.cpu_s:
            return self._cpu()
        if resident > request.memory_bytes and self._as_guest(usage.proportional_bytes, pids) > request.memory_bytes:
            return f"memory above {_size(request.memory_bytes)}"
        try:
            return self._beyond_on_disk(pids)
        except usage.Hidden as hidden:
            return f"hid {hidden}"
        except OSError as error:
            return f"could not be watched: {error}"

    def _bury_orphans(self) -> None:
        """Wait for what lost its parent and has ended; the first process is left until all is over."""
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != self.leader:
            os.waitpid(ended.si_pid, 0)

    def _beyond_on_disk(self, pids: list[int]) -> str:
        request = self.request
        if request.owns_disk:  # its size is the limit; what is left to count are names
            disk = os.statvfs(request.folder)
            count, size = disk.f_files - disk.f_ffree, 0
        else:
            count, size = usage.folder(request.folder, request.files)
            size += self._as_guest(usage.deleted_but_open, pids)
            if _free_bytes(request.folder) < self.least_free:
                return f"less than {_size(self.least_free)} free on the disk"
        if count > request.files:
            return f"more than {request.files} files"
        return f"files above {_size(request.file_bytes)}" if size > request.file_bytes else ""

    def _as_guest(self, measure: Callable[[list[int]], int], pids: list[int]) -> int:
        """Some of /proc is for the same user only; a root in a container may lack the right to look all the same."""
        guest = self.request.guest
        if guest is None:
            return measure(pids)
        os.setegid(guest)
        os.seteuid(guest)
        try:
            raise_capabilities()
            return measure(pids)
        finally:
            os.seteuid(0)
            os.setegid(0)

    def _wait_for_all(self) -> int:
        """Wait until nothing is left of it; the status of its first process."""
        first = 0
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                return first
            if pid == self.leader:
                first = status

    def _used_its_cpu(self, signal: int) -> bool:
        return signal == SIGXCPU or (signal == KILL and _waited_for_cpu_s() > self.request.cpu_s)

    def _output(self) -> str:
        return f"output above {_size(self.request.output_bytes)}"

    def _wall(self) -> str:
        return f"wall time above {self.request.wall_s:g} s"

    def _cpu(self) -> str:
        return f"CPU time above {self.request.cpu_s:g} s"


def _waited_for_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _free_bytes(path: str) -> int:
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def _size(count: int) -> str:
    return f"{count // MIB} MiB" if count >= MIB and count % MIB == 0 else f"{count} bytes"
