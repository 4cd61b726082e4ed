"""Nothing of a program outlives its run, however the run is cut short; and runs do not get into each other's way."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from processes import until
from sandbox.calling import SOURCE
from sandbox.keeping import BY_LEVEL, Kept, marked
from windlass.sandbox import SandboxUnavailable
from windlass.sandbox.usage import descendants

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux"), BY_LEVEL]

FAMILY = """
import os, signal, time
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
for _ in range(3):
    if os.fork() == 0 and os.fork():
        os._exit(0)
open("left", "w").write("x")
while True: time.sleep(1)
"""
CALL = "import sys; from windlass.sandbox import *; run_untrusted(sys.argv[2:], level=Level(sys.argv[1]), " + (
    "limits=SandboxLimits(wall_s=60))"
)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_caller_that_is_killed_leaves_nothing(number: signal.Signals, kept: Kept, temporary: Path) -> None:
    marker = f"orphan-{os.getpid()}-{number}"
    caller = subprocess.Popen(
        [sys.executable, "-c", CALL, kept.level, "python", "-S", "-c", FAMILY, marker],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(temporary)},
        stderr=subprocess.DEVNULL,
    )
    until(lambda: marked(marker) > 5)  # the caller itself, and all of the family
    caller.send_signal(number)
    caller.wait()
    until(lambda: marked(marker) == 0 and not list(temporary.iterdir()))


def test_a_supervisor_that_is_killed_leaves_nothing(kept: Kept, temporary: Path) -> None:
    marker = f"unwatched-{os.getpid()}"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(kept.run, ["python", "-S", "-c", FAMILY, marker], wall_s=15)
        until(lambda: marked(marker) >= 4)
        above = [pid for pid in descendants(os.getpid()) if _is_supervisor(pid)]
        os.kill(above[-1], signal.SIGKILL)  # the innermost: in bubblewrap its parent is bwrap
        with pytest.raises(SandboxUnavailable, match="did not work"):
            running.result()
    until(lambda: marked(marker) == 0)
    assert not list(temporary.iterdir())


def _is_supervisor(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"bwrap" not in words[0] and any(b"windlass.sandbox.supervisor" in word for word in words)


def test_threads_run_programs_beside_each_other(kept: Kept) -> None:
    def run(number: int) -> str:
        files = {"number.txt": str(number)}
        return kept.run("print(open('number.txt').read(), input())", stdin=str(number), beside=files).stdout

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert list(pool.map(run, range(18))) == [f"{number} {number}\n" for number in range(18)]


def test_a_bomb_does_not_harm_its_neighbour(kept: Kept) -> None:
    bomb = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(kept.run, bomb, wall_s=1.0, processes=8)
        neighbour = kept.run("import os\nif os.fork() == 0: os._exit(3)\nprint(os.wait()[1] >> 8)", processes=2)
        assert (neighbour.stdout, neighbour.reason) == ("3\n", "")
        running.result()


COUNTED = """
import os, sys
from windlass.sandbox import Level, SandboxLimits, run_untrusted
from windlass.sandbox.usage import descendants

def run(program, **limits):
    run_untrusted(program, level=Level(sys.argv[1]), limits=SandboxLimits(**limits))
    return os.listdir("/proc/self/fd"), descendants(os.getpid())

before = run("")
for _ in range(3):
    after = run("import time; time.sleep(9)", wall_s=0.05)
print(before == after or (before, after))
"""


def test_descriptors_and_children_of_the_caller_are_as_before(kept: Kept) -> None:
    counted = subprocess.run(  # a process of its own: threads of other tests open and close files in this one
        [sys.executable, "-c", COUNTED, kept.level],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert counted.stdout == "True\n"


def test_a_caller_with_blocked_and_ignored_signals_does_not_hand_them_on(kept: Kept) -> None:
    old = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        code = "import signal; print(signal.pthread_sigmask(0, []), int(signal.getsignal(10)), flush=True)\n"
        finished = kept.run(code + "signal.raise_signal(signal.SIGTERM)")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        signal.signal(signal.SIGUSR1, old)
    assert finished.stdout == "set() 0\n" and finished.signal == signal.SIGTERM


def test_the_thread_that_starts_it_may_be_any(kept: Kept) -> None:
    found: list[str] = []

    def run() -> None:
        found.append(kept.run("import time; time.sleep(0.05); print('x')").stdout)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == ["x\n"]


def test_a_program_waits_for_nobody(kept: Kept) -> None:
    """The run is over when its first process is, though a child holds the output open."""
    began = time.monotonic()
    finished = kept.run("import os, time\nif os.fork() == 0: time.sleep(60)\nelse: print('over')", wall_s=30)
    assert finished.stdout == "over\n" and finished.wall_s < 20 and time.monotonic() - began < 25


def test_a_slow_writer_is_read_to_its_end(kept: Kept) -> None:
    code = "import time\nfor n in range(20): print(n, flush=True); time.sleep(0.005)"
    assert kept.run(code).stdout.split() == [str(n) for n in range(20)]


def test_clearing_up_follows_no_link_and_minds_no_name(kept: Kept, outside: dict[str, str]) -> None:
    code = f"""
import os
os.symlink({outside["OUTSIDE"]!r}, "link")
os.mkdir("sub")
os.symlink({outside["OUTSIDE"]!r}, "sub/link")
os.symlink("../sub", "sub/loop")
os.mkfifo("fifo")
os.mkdir(b"\\xff\\n")
open(b"\\xff\\n/\\xfe", "w").close()
os.mkdir("closed", 0)
print(len(os.listdir(".")))
"""
    finished = kept.run(["python", "-S", "-c", code])
    assert (finished.stdout, finished.reason) == ("5\n", ""), finished
    assert Path(outside["SECRET"]).read_text() == "shibboleth"
