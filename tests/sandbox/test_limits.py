"""One suite for every level and caller: each limit holds, and what comes back says which one it was."""

from __future__ import annotations

import concurrent.futures
import os
import sys
import threading

import pytest

from sandbox.keeping import BY_LEVEL, Kept, marked
from windlass.sandbox import Level, landlock
from windlass.sandbox.run import COUNTED_APART_SINCE, ROOM_FOR_OTHERS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
MIB = 2**20
FEW = {"wall_s": 2.0, "processes": 12, "memory_bytes": 128 * MIB}


BOMBS = {
    "one by one": "import os, time\nwhile True:\n  try:\n    if os.fork() == 0: time.sleep(60)\n  except OSError: pass",
    "exponential": "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass",
    "of threads": "import _thread, time\nwhile True:\n  try: _thread.start_new_thread(time.sleep, (60,))\n"
    "  except RuntimeError: pass",
    "of orphans": "import os, time\nwhile True:\n  try:\n    if os.fork() == 0:\n"
    "      if os.fork() == 0: time.sleep(60)\n      os._exit(0)\n    os.wait()\n  except OSError: pass",
    "that runs away": "import os\nwhile True:\n  try:\n    if os.fork(): os._exit(0)\n  except OSError: pass",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_fork_bomb_stays_small_and_leaves_nothing(bomb: str, kept: Kept) -> None:
    marker = f"bomb-{os.getpid()}-{threading.get_ident()}"
    most, over = 0, threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(kept.run, ["python", "-S", "-c", BOMBS[bomb], marker], **{**FEW, "wall_s": 0.3})
        while not running.done():
            most = max(most, marked(marker))
            over.wait(0.01)
        finished = running.result()
    assert finished.reason in ("wall time above 0.3 s", "more than 12 processes", ""), finished
    assert marked(marker) == 0
    by_root = os.geteuid() == 0 and kept.kind != "user"
    exact = by_root or (kept.level is Level.BUBBLEWRAP and landlock.version() >= COUNTED_APART_SINCE)
    assert most <= 12 + (0 if exact else ROOM_FOR_OTHERS + 16)  # 16: what of others ended meanwhile
    if bomb != "that runs away":  # its first process ends at once, and so may all the others before anybody looks
        assert most or finished.reason == "more than 12 processes"


def test_a_daemon_does_not_survive(kept: Kept) -> None:
    marker = f"daemon-{os.getpid()}"
    code = """
import os, signal, sys, time
r, w = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        os.write(w, b"x")
        while True: time.sleep(1)
    os._exit(0)
os.read(r, 1)
print("started")
"""
    finished = kept.run(["python", "-S", "-c", code, marker])
    assert (finished.code, finished.stdout) == (0, "started\n")
    assert marked(marker) == 0


@BY_LEVEL
def test_wall_time_ends_what_ignores_every_signal(kept: Kept) -> None:
    code = """
import signal, time
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
print("begun", flush=True)
while True: time.sleep(1)
"""
    finished = kept.run(code, wall_s=1.0)
    assert (finished.code, finished.signal, finished.timed_out) == (None, 9, True)
    assert (finished.reason, finished.stdout) == ("wall time above 1 s", "begun\n")


@BY_LEVEL
def test_cpu_time_is_that_of_all_processes(kept: Kept) -> None:
    code = "import os\nos.fork(); os.fork()\nwhile True: pass"
    finished = kept.run(code, wall_s=30, cpu_s=0.5)
    assert (finished.timed_out, finished.reason) == (True, "CPU time above 0.5 s")


@BY_LEVEL
def test_the_kernel_holds_cpu_time_too(kept: Kept) -> None:
    finished = kept.run("import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", cpu_s=1)
    assert (finished.timed_out, finished.reason) == (True, "CPU time above 1 s")


@BY_LEVEL
def test_memory_of_one_process(kept: Kept) -> None:
    finished = kept.run("try: bytearray(4 << 30)\nexcept MemoryError: print('refused')", memory_bytes=256 * MIB)
    assert finished.stdout == "refused\n"


def test_memory_of_all_processes(kept: Kept) -> None:
    code = """
import os, time
for _ in range(7):
    if os.fork() == 0: break
x = bytearray(b"x") * (60 << 20)
time.sleep(60)
"""
    finished = kept.run(code, memory_bytes=128 * MIB)
    assert finished.reason == "memory above 128 MiB", finished


def test_memory_that_is_shared_counts_once(kept: Kept) -> None:
    code = """
import os, time
x = bytearray(b"x") * (60 << 20)
for _ in range(5):
    if os.fork() == 0:
        time.sleep(0.2)
        os._exit(0)
for _ in range(5): os.wait()
print("fine")
"""
    finished = kept.run(code, memory_bytes=128 * MIB)
    assert (finished.stdout, finished.reason) == ("fine\n", "")


@BY_LEVEL
@pytest.mark.parametrize("how", ["f.write(bytes(1 << 20))", "os.ftruncate(f.fileno(), 10 << 30); raise SystemExit(1)"])
def test_a_file_of_10_gb_stops_at_the_limit(how: str, kept: Kept) -> None:
    code = f"import os\nf = open('big', 'wb', buffering=0)\nfor _ in range(10 << 10):\n  {how}"
    finished = kept.run(code, file_bytes=2 * MIB)
    assert "OSError: [Errno 2" in finished.stderr or finished.reason == "files above 2 MiB", finished
    assert finished.code == 1 or finished.signal == 9


@pytest.mark.parametrize("then", ["", "os.unlink(str(n))"], ids=["kept", "deleted but open"])
def test_many_files_count_together(then: str, kept: Kept) -> None:
    code = f"""
import os, time
held = []
for n in range(40):
    held.append(open(str(n), "wb", buffering=0))
    held[-1].write(bytes(1 << 20))
    {then}
time.sleep(60)
"""
    finished = kept.run(code, file_bytes=4 * MIB)
    full = "No space left on device" in finished.stderr  # where the folder is a file system of that size
    assert full or finished.reason == "files above 4 MiB", finished


def test_a_million_files_are_stopped(kept: Kept) -> None:
    code = "for n in range(10**6): open(str(n), 'w').close()"
    assert kept.run(code, files=200).reason == "more than 200 files"


def test_files_in_folders_that_forbid_looking_count(kept: Kept) -> None:
    code = "import os, time\nos.mkdir('d', 0o300)\nfor n in range(300): open(f'd/{n}', 'w').close()\ntime.sleep(60)"
    assert kept.run(code, files=200).reason == "more than 200 files"


def test_folders_of_any_depth_are_removed(kept: Kept) -> None:
    code = "import os\nfor n in range(1200):\n  os.mkdir('d' * 20)\n  os.chdir('d' * 20)"
    assert kept.run(code, files=10**6).reason in ("", "hid folders inside folders, 64 deep")


def test_deleting_makes_room(kept: Kept) -> None:
    code = "import os\nfor _ in range(50):\n  open('f', 'wb').write(bytes(1 << 20))\n  os.unlink('f')\nprint('fine')"
    finished = kept.run(code, file_bytes=4 * MIB)
    assert (finished.stdout, finished.reason) == ("fine\n", "")


@BY_LEVEL
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_flood_of_output_is_cut(stream: str, kept: Kept) -> None:
    code = f"import sys\nwhile True: sys.{stream}.write('A' * 10000)"
    finished = kept.run(code, output_bytes=100_000)
    assert getattr(finished, stream) == "A" * 100_000
    assert (finished.truncated, finished.reason) == (True, "output above 100000 bytes")


@BY_LEVEL
def test_output_up_to_the_limit_is_whole(kept: Kept) -> None:
    finished = kept.run("print('A' * 99_999)", output_bytes=100_000)
    assert (len(finished.stdout), finished.truncated, finished.reason) == (100_000, False, "")


@BY_LEVEL
def test_one_byte_too_many_is_told_however_soon_the_program_ends(kept: Kept) -> None:
    finished = kept.run("import os; os.write(1, b'A' * 1001); os._exit(0)", output_bytes=1000)
    assert (finished.stdout, finished.truncated, finished.reason) == ("A" * 1000, True, "output above 1000 bytes")


@BY_LEVEL
def test_open_files_are_few(kept: Kept) -> None:
    code = "held = []\ntry:\n  while True: held.append(open('/dev/null'))\nexcept OSError: print(len(held) < 20)"
    assert kept.run(code, open_files=20).stdout == "True\n"


def test_limits_cannot_be_raised(kept: Kept) -> None:
    code = """
import resource
for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
    try:
        resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print("RAISED", kind)
    except (OSError, ValueError):
        pass
print("done")
"""
    assert kept.run(code).stdout == "done\n"
