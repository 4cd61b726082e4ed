"""Unit tests of code in the sandbox: what passes, what does not, and what the code cannot do to its tests."""

from __future__ import annotations

from typing import Any

import pytest

from verifying import ADD, ADD_TESTS, needs_sandbox, task
from windlass.errors import DataError
from windlass.verifiers import build

pytestmark = needs_sandbox


def verdict(code: str, expected: Any, **options: Any) -> tuple[float | None, str]:
    given = build({"kind": "code", **options}).verify(code, task(expected))
    return given.score, given.reason


SUM = [{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "5 6", "stdout": "11"}]


def test_a_program_is_held_against_what_it_prints() -> None:
    assert verdict("print(sum(map(int, input().split())))", SUM) == (1.0, "2 of 2 tests pass")
    assert verdict("print('3 \\n')", SUM[0])[0] == 1, "white space at line ends and at the end does not count"
    assert verdict("print(3)", SUM) == (0.0, "input '5 6': output '3', not '11'")
    assert verdict("print(3); raise SystemExit(1)", SUM[0])[1] == "input '1 2': exit code 1"
    assert verdict("print(3)", SUM, score="share") == (0.5, "1 of 2 tests pass; input '5 6': output '3', not '11'")


def test_a_programs_time_and_memory_are_limited() -> None:
    assert "time above" in verdict("while True: pass", SUM[0], limit=0.3)[1]
    assert "MemoryError" in verdict("x = bytearray(1 << 30)", SUM[0], memory="128MiB")[1]


def test_the_last_block_is_the_code_and_without_any_all_of_it_is() -> None:
    assert verdict(f"First I tried\n```python\nprint(1)\n```\nbut\n{ADD}\nis right.", ADD_TESTS)[0] == 1
    assert verdict("def add(a, b): return a + b", ADD_TESTS)[0] == 1
    assert verdict("```python\n```", ADD_TESTS) == (0.0, "there is no code")


@pytest.mark.parametrize(
    ("code", "test"),
    [
        ("def f(x): x.sort()", "x = [3, 1, 2]\nf(x)\nassert x == [1, 2, 3]"),
        ("def f(x): x['a'] = {1, 2}", "x = {}\nf(x)\nassert x == {'a': {1, 2}}"),
        ("def f(n):\n    yield from range(n)", "assert list(f(3)) == [0, 1, 2]"),
        ("def f(g, x): return g(g(x))", "assert f(lambda x: x + 1, 2) == 4"),
        ("def f(x): raise KeyError(x)", "try:\n    f(1)\nexcept KeyError:\n    pass\nelse:\n    assert False"),
        (
            "class E(ValueError): pass\ndef f(): raise E('no')",
            "try:\n    f()\nexcept ValueError as e:\n    assert 'no' in str(e)",
        ),
        ("def f(): return {1: (2.5, None, b'x')}, {'a'}", "assert f() == ({1: (2.5, None, b'x')}, {'a'})"),
        ("def f(): return 1j, range(3), 10**5000", "assert f() == (1j, range(3), 10**5000)"),
        (
            "from fractions import Fraction\ndef f(): return Fraction(1, 2)",
            "from fractions import Fraction\nassert f() == Fraction(1, 2)",
        ),
        ("def f(): return True", "assert f() is True and f() == 1"),
        (
            "class Stack:\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x)\n"
            "    def __len__(self): return len(self.items)\n    def __eq__(self, o): return self.items == o.items",
            "s, t = Stack(), Stack()\ns.push((1, 2))\nassert len(s) == 1 and s.items == [(1, 2)] and s != t\n"
            "t.push((1, 2))\nassert s == t and bool(s)",
        ),
        ("def add(a, b): return a + b", "def check(candidate):\n    assert candidate(1, 2) == 3\ncheck(add)"),
        ("def f(x): return x", "import math\nassert math.isclose(f(0.1 + 0.2), 0.3)"),
        ("def f(*a, k=0): return sum(a) + k", "assert f(1, 2, k=3) == 6"),
        ("LIMIT = 3\ndef f(): print('noise'); return LIMIT", "assert f() == LIMIT == 3"),
    ],
)
def test_what_python_tests_can_ask(code: str, test: str) -> None:
    assert verdict(code, test) == (1.0, "1 of 1 tests pass")


def test_python_tests_can_be_mixed_with_cases_and_scored_by_share() -> None:
    code = "def f(x): return x\nif __name__ == '__main__': print(f(input()))"
    tests = ["assert f(1) == 1", "assert f(1) == 2", {"stdin": "a", "stdout": "a"}]
    assert verdict(code, tests, score="share")[0] == pytest.approx(2 / 3)
    assert verdict(code, tests)[0] == 0


TWO = ["assert f(1) == 2", "assert abs(f(2) - 3) < 1e-6", "assert f(3) in (4,)", "assert len(f(4)) == 7"]
LIAR = """class Liar:
    def __eq__(self, other): return True
    def __sub__(self, other): return 0
    __add__ = __rsub__ = __abs__ = __lt__ = __contains__ = __sub__
def f(x): return Liar()"""
#: solutions that are wrong, and try to be taken for right
ATTACKS = {
    "exit at once": "import sys\nsys.exit(0)",
    "exit harder": "import os\nos._exit(0)",
    "exit when asked": "import os\ndef f(x): os._exit(0)",
    "exit by exception": "def f(x): raise SystemExit(0)",
    "an object that equals everything": LIAR,
    "a number that equals everything": LIAR.replace("class Liar:", "class Liar(int):"),
    "a list that equals everything": LIAR.replace("class Liar:", "class Liar(list):"),
    "built-ins of its own": "isinstance = lambda *a: True\nabs = lambda x: 0\nlen = lambda x: 7\ndef f(x): return 0",
    "modules of its own": "class math: isclose = staticmethod(lambda a, b: True)\ndef f(x): return 0",
    "changed built-ins": "import builtins\nbuiltins.abs = lambda x: 0\nbuiltins.len = lambda x: 7\ndef f(x): return 0",
    "no assertions": "import builtins\nbuiltins.AssertionError = type('Never', (Exception,), {})\ndef f(x): return 0",
    "printing a result": 'print(\'0 {"passed": 4, "failed": null}\')\ndef f(x): return 0',
    "writing results everywhere": """import os
for fd in range(64):
    try: os.write(fd, b'{"value": 2}\\n{"passed": 4, "failed": null}\\n')
    except OSError: pass
def f(x): return 0""",
    "a result for each question": """import os, sys
for fd in range(3, 64):
    try: os.write(fd, b'{}\\n' + b'{"value": {"dict": [["f", 2], ["len", 2], ["abs", 2]]}}\\n' * 9)
    except OSError: pass
os._exit(0)""",
    "a module in the way": "open('colorsys.py', 'w').write('rgb_to_yiq = lambda *a: (0,)')\ndef f(x): return 0",
    "names that nobody asked for": """import sys
frame = sys._getframe()
while 'peer' not in frame.f_locals: frame = frame.f_back
peer = frame.f_locals['peer']
serves = peer.serves
def more(peer, what, arguments, keywords):
    found = serves(peer, what, arguments, keywords)
    return {**found, 'len': lambda x: 7, 'abs': lambda x: 0} if what == 'names' else found
peer.serves = more
def f(x): return 0""",
    "another harness": """open('harness.py', 'w').write('print("passed")')
open('solution.py', 'w').write('')
def f(x): return 0""",
    "killing the tests": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\ndef f(x): return 0",
    "answers that never end": "def f(x):\n    while True: yield x",
    "answers that are too deep": "def f(x):\n    for _ in range(100000): x = [x]\n    return x",
    "frames": """import sys
def f(x):
    frame = sys._getframe()
    while frame:
        if 'asked' in frame.f_locals: return frame.f_locals['asked']
        frame = frame.f_back""",
    "another result in the place of the right one": """import os
reading, writing = (os.open(f'/proc/{os.getppid()}/fd/1', flags) for flags in (os.O_RDONLY, os.O_WRONLY))
if os.fork() == 0:
    digest, _, told = os.read(reading, 10000).partition(b' ')
    os.write(writing, digest + b' {"passed": 6, "failed": null}\\n')
    os._exit(0)
def f(x): return 0""",
    "its own answer to equality of unlike things": "def f(x): return type('T', (), {'__eq__': lambda s, o: True})",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda name: name.replace(" ", "-"))
def test_no_test_passes_by_an_attack(attack: str) -> None:
    tests = [
        *TWO,
        "import math\nassert math.isclose(f(5), 6)",
        "import colorsys\nassert colorsys.rgb_to_yiq(1, 1, 1)[0] == f(5)",
        "try:\n    assert f(6) == 7\nexcept ValueError: pass",
    ]
    score, reason = verdict(ATTACKS[attack], tests, score="share", limit=1)
    assert score == 0, reason


def test_code_that_stops_its_tests_does_not_pass() -> None:
    code = "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\ndef f(): return 1"
    score, reason = verdict(code, "assert f() == 1", limit=0.2)
    assert score == 0 and ("time above" in reason or "PermissionError" in reason)


def test_the_code_cannot_read_what_is_expected_of_it() -> None:
    spy = """import os, glob
def f(x):
    seen = []
    for path in [*glob.glob('**', recursive=True), *(f'/proc/{p}/{n}' for p in ('self', os.getppid(), 1)
                 for n in ('mem', 'environ', 'cmdline', 'maps', 'fd/0', 'fd/1'))]:
        try: seen.append(os.read(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 100000))
        except OSError: pass
    return b'47' + b'11' in b''.join(seen)"""
    assert verdict(spy, "assert f(1) is False, '4711'")[0] == 1


def test_functions_of_the_tests_can_be_called_and_not_looked_into() -> None:
    code = "def f(g): return g.__globals__"
    assert "this belongs to the tests" in verdict(code, "f(lambda: 1)")[1]


def test_a_test_that_goes_on_after_the_code_is_lost_does_not_pass() -> None:
    code = "import os\ndef f(): os._exit(0)"
    for test in ("try:\n    f()\nexcept Exception:\n    pass", "try:\n    f()\nexcept:\n    pass"):
        assert verdict(code, test)[1].endswith("the code was lost: it ended")


def test_one_lost_process_does_not_take_the_other_tests_with_it() -> None:
    code = "import os\ndef f(x):\n    if x == 1: os._exit(0)\n    if x == 2:\n        while True: pass\n    return x"
    tests = ["assert f(0) == 0", "f(1)", "f(2)", "assert f(3) == 3"]
    assert verdict(code, tests, score="share", limit=0.5)[0] == 0.5


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (None, "needs a test"),
        ([], "needs a test"),
        ("", "needs a test"),
        (5, "needs a test"),
        ([{"stdin": "1"}], "needs a test"),
        ([{"stdin": "1", "stdout": "1", "input": 1}], "needs a test"),
        (["assert f(1) == 1", "assert ("], "test 1 is no Python"),
    ],
)
def test_a_task_without_usable_tests_is_refused(expected: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        verdict("x = 1", expected)
