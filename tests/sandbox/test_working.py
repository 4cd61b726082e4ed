"""One suite for every level and caller: harmless programs work, and come back as they ended."""

from __future__ import annotations

import sys

import pytest

from sandbox.keeping import BY_LEVEL, Kept

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

PROGRAMS = {
    "arithmetic": ("print(sum(map(int, input().split())))", "3 4", "7\n"),
    "libraries": (
        "import collections, heapq, itertools, json, math, re, statistics\n"
        "print(json.dumps({'pi': round(math.pi, 3), 'words': re.findall(r'\\w+', 'a b')}), statistics.mean([1, 2]))",
        "",
        '{"pi": 3.142, "words": ["a", "b"]} 1.5\n',
    ),
    "dataclasses": (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport pickle, typing\n\n"
        "@dataclass\nclass P:\n    x: int = 1\n\n"
        "print(pickle.loads(pickle.dumps(P(2))), typing.get_type_hints(P), __name__)",
        "",
        "P(x=2) {'x': <class 'int'>} __main__\n",
    ),
    "asyncio": (
        "import asyncio\nasync def f():\n    await asyncio.sleep(0.001)\n    return 5\nprint(asyncio.run(f()))",
        "",
        "5\n",
    ),
    "threads": (
        "from concurrent.futures import ThreadPoolExecutor\nprint(sum(ThreadPoolExecutor(4).map(abs, range(-4, 1))))",
        "",
        "10\n",
    ),
    "children": (
        "import subprocess, sys\nprint(subprocess.run(['echo', 'hi'], capture_output=True, text=True).stdout, end='')",
        "",
        "hi\n",
    ),
    "a child that is ended": (
        "import os, signal, time\npid = os.fork()\nif pid == 0:\n    time.sleep(60)\n"
        "try:\n    os.kill(pid, signal.SIGKILL)\nexcept PermissionError:\n    print(9, flush=True)\n    os._exit(0)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) * -1)",
        "",
        "9\n",
    ),
    "temporary files": (
        "import os, tempfile\nwith tempfile.TemporaryFile() as f, tempfile.NamedTemporaryFile('w+') as g:\n"
        "    f.write(b'x')\n    g.write('y')\n"
        "with tempfile.TemporaryDirectory() as d:\n    open(d + '/z', 'w').close()\n    print(os.listdir(d))",
        "",
        "['z']\n",
    ),
    "files": (
        "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').write('x')\nos.rename('a/b/c', 'a/b/d')\n"
        "print(open('a/b/d').read())",
        "",
        "x\n",
    ),
    "other alphabets": ("print(input()[::-1], 'ß')", "ä漢\U0001f600", "\U0001f600漢ä ß\n"),
    "deep recursion": (
        "import sys\nsys.setrecursionlimit(20000)\ndef f(n): return n and 1 + f(n - 1)\nprint(f(15000))",
        "",
        "15000\n",
    ),
    "the hash of a text": ("print({'a', 'b', 'c', 'd', 'e'} and hash('x') == hash('x'), hash('seed'))", "", None),
}


@BY_LEVEL
@pytest.mark.parametrize("name", PROGRAMS)
def test_harmless_programs_work(name: str, kept: Kept) -> None:
    code, stdin, expected = PROGRAMS[name]
    finished = kept.run(code, stdin=stdin)
    assert (finished.code, finished.reason, finished.stderr) == (0, "", ""), finished
    if expected is None:
        assert finished.stdout == kept.run(code, stdin=stdin).stdout
    else:
        assert finished.stdout == expected
    assert finished.level is kept.level and finished.wall_s > 0


@pytest.mark.parametrize("name", ["temporary files", "a child that is ended"])
def test_harmless_programs_work_for_every_caller(name: str, kept: Kept) -> None:
    finished = kept.run(PROGRAMS[name][0])
    assert (finished.code, finished.reason, finished.stdout) == (0, "", PROGRAMS[name][2]), finished


def test_aborting_is_told_for_every_caller(kept: Kept) -> None:
    assert kept.run("import os; os.abort()").signal == 6


@BY_LEVEL
@pytest.mark.parametrize(
    ("code", "status", "signal", "stderr"),
    [
        ("exit(3)", 3, None, ""),
        ("import sys; sys.exit('no')", 1, None, "no\n"),
        ("1/0", 1, None, "ZeroDivisionError: division by zero\n"),
        ("def f(:", 1, None, "SyntaxError: invalid syntax\n"),
        ("import ctypes; ctypes.string_at(0)", None, 11, ""),
    ],
)
def test_how_a_program_ended_is_told(
    code: str, status: int | None, signal: int | None, stderr: str, kept: Kept
) -> None:
    finished = kept.run(code)
    assert (finished.code, finished.signal, finished.reason) == (status, signal, "")
    assert finished.stderr.endswith(stderr) and "Traceback" not in finished.stdout


@BY_LEVEL
def test_files_lie_beside_the_program(kept: Kept) -> None:
    files = {"solution.py": "def double(x): return 2 * x", "data/in.txt": "21"}
    finished = kept.run("from solution import double\nprint(double(int(open('data/in.txt').read())))", beside=files)
    assert finished.stdout == "42\n", finished


@BY_LEVEL
def test_a_command_runs(kept: Kept) -> None:
    assert kept.run(["/bin/cat", "-"], stdin="x").stdout == "x"
    assert kept.run(["sh", "-c", "echo $0 $1", "a", "b c"]).stdout == "a b c\n"


@BY_LEVEL
def test_a_command_that_is_not_there_is_told(kept: Kept) -> None:
    finished = kept.run(["no-such-program"])
    assert finished.code == 127 and finished.reason.startswith("could not be started: no-such-program")


@BY_LEVEL
def test_a_large_input_is_read_whole_or_not_at_all(kept: Kept) -> None:
    large = "x" * 20_000_000
    assert kept.run("import sys; print(len(sys.stdin.read()))", stdin=large).stdout == "20000000\n"
    assert kept.run("print('no thanks')", stdin=large).stdout == "no thanks\n"
    assert kept.run("import os; os.close(0); print('closed')", stdin=large).stdout == "closed\n"


@BY_LEVEL
def test_output_after_the_streams_are_closed_is_no_matter(kept: Kept) -> None:
    code = "import os, time\nprint('x', flush=True)\nos.close(1); os.close(2)\ntime.sleep(0.1)\nos._exit(5)"
    finished = kept.run(code)
    assert (finished.stdout, finished.code) == ("x\n", 5)


@BY_LEVEL
@pytest.mark.parametrize(
    ("program", "files", "words"),
    [
        ("print('\ud800')", {}, "SyntaxError"),
        ("print('\0')", {}, "null bytes"),
        ("pass", {"a": "", "a/b": ""}, "could not be started: a/b: "),
        ("pass", {"a\0": ""}, "could not be started: "),
        (["echo", "\0"], {}, "could not be started: echo: embedded null byte"),
    ],
)
def test_nonsense_is_the_programs_failure(
    program: str | list[str], files: dict[str, str], words: str, kept: Kept
) -> None:
    finished = kept.run(program, beside=files)
    assert finished.code in (1, 127) and words in finished.stderr + finished.reason, finished
