"""Python tests of code that a model wrote. Runs in the sandbox, as two processes; imports nothing of Windlass.

    python -I -S harness.py         the tests: {"key", "tests": [[text, names], ...], "limit", "all"} on
                                    stdin; on stdout the result as JSON, after its digest under the key
    python -I -S harness.py serve   the code: solution.py, which is asked through two pipes

The code is never in the process of its tests: it sees neither tests nor expected values nor the key, and what it
changes, ends or prints is its own. Where it gets hold of the tests' standard output, it can lose the result and not
make one. Only plain values cross (None, bool, int, float, complex, str, bytes, list, tuple, set, dict, range, Decimal,
Fraction), each built anew from data, so that nothing that comes back can answer '==' as it likes. Anything else stays
where it is and is asked from afar: attributes, calls, items, length, iteration, truth, text. Lists, sets and dicts that
the code changes in place are changed for the tests, too. Functions of the tests can be handed over.
"""

from __future__ import annotations

import builtins
import json
import os
import select
import sys
import time

TYPE_CHECKING = False  # `typing` is not loaded: it would cost every program milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    Serves = Callable[["Peer", str, list[Any], dict[str, Any]], Any]

LONGEST = 64 << 20  #: bytes of a message
PR_SET_DUMPABLE = 4
KILL = 9
PLAIN: tuple[type, ...] = (bool, int, float, str)
GROUPS: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
NUMBERS = {"complex": ("builtins", "complex"), "decimal": ("decimal", "Decimal"), "fraction": ("fractions", "Fraction")}
CHANGEABLE = (list, dict, set, bytearray)
TARGET = "the function that is called"


class Lost(BaseException):
    """The code's process ended, or did not answer in time. No ``except Exception`` of a test takes it for another."""


class Raised(Exception):
    """The code raised something that is no built-in exception."""


class Peer:
    """One end of the two pipes. Both ends may ask; who waits for an answer answers questions meanwhile."""

    def __init__(self, reading: int, writing: int, serves: Serves) -> None:
        self.reading, self.writing, self.serves = reading, writing, serves
        self.given: dict[int, Any] = {}  #: what the other end knows by number
        self.buffer = bytearray()
        self.end: float | None = None  #: when it is lost, by the monotonic clock
        self.lost = ""  #: how it was

    def ask(self, what: str, *arguments: Any, **keywords: Any) -> Any:
        """Raises what the other end raised, and Lost."""
        self.send({"ask": what, "arguments": [self.out(one) for one in arguments], "keywords": self.out(keywords)})
        while True:
            message = self.receive()
            if "ask" in message:
                self.answer(message)
                continue
            for place, changed in message.get("changed", ()):
                refill(arguments[place], self.back(changed))
            if "error" in message:
                raise error(*message["error"])
            return self.back(message["value"])

    def answer(self, message: dict[str, Any]) -> None:
        try:
            arguments = [self.back(one) for one in message["arguments"]]
            before = {i: self.out(one) for i, one in enumerate(arguments) if isinstance(one, CHANGEABLE)}
            value = self.serves(self, message["ask"], arguments, self.back(message["keywords"]))
            told = {"value": self.out(value)}
            changed = [(i, now) for i, was in before.items() if (now := self.out(arguments[i])) != was]
            if changed:
                told["changed"] = changed
        except BaseException as raised:
            told = {"error": described(raised)}
        self.send(told)

    def send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self.writing, data) :]
        except OSError:
            self.lose("it ended")

    def receive(self) -> dict[str, Any]:
        while b"\n" not in self.buffer:
            left = None if self.end is None else max(0.0, self.end - time.monotonic())
            if left == 0 or not select.select([self.reading], [], [], left)[0]:
                self.lose("it took too long")
            some = os.read(self.reading, 1 << 16)
            if not some:
                self.lose("it ended")
            self.buffer += some
            if len(self.buffer) > LONGEST:
                self.lose("it sent too much")
        line, _, rest = bytes(self.buffer).partition(b"\n")
        self.buffer = bytearray(rest)
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            self.lose("it sent what is no message")
        return message

    def lose(self, how: str) -> NoReturn:
        self.lost = self.lost or how
        raise Lost

    def out(self, value: Any) -> Any:
        """A value as JSON."""
        if value is None or type(value) in PLAIN:
            return value
        for plain in PLAIN:
            if isinstance(value, plain):
                return plain(value)
        if isinstance(value, Afar):
            return {"yours": value._number}
        if isinstance(value, (bytes, bytearray)):
            return {"bytearray" if isinstance(value, bytearray) else "bytes": bytes(value).hex()}
        for name, group in GROUPS.items():
            if isinstance(value, group):
                return {name: [self.out(one) for one in value]}
        if isinstance(value, dict):
            return {"dict": [[self.out(key), self.out(one)] for key, one in value.items()]}
        if type(value) is range:
            return {"range": [value.start, value.stop, value.step]}
        for name, (module, number) in NUMBERS.items():
            if type(value) is getattr(sys.modules.get(module), number, None):
                return {name: str(value)}
        self.given[id(value)] = value
        return {"mine": id(value)}

    def back(self, told: Any) -> Any:
        """The value that JSON tells of, built from plain data."""
        if told is None or type(told) in PLAIN:
            return told
        ((name, inside),) = told.items()
        if name in GROUPS:
            return GROUPS[name](self.back(one) for one in inside)
        if name == "dict":
            return {self.back(key): self.back(one) for key, one in inside}
        if name in ("bytes", "bytearray"):
            return getattr(builtins, name).fromhex(inside)
        if name == "range":
            return range(*inside)
        if name in NUMBERS:
            module, number = NUMBERS[name]
            return getattr(__import__(module), number)(inside)
        return self.given[inside] if name == "yours" else Afar(self, inside)


class Afar:
    """Something of the other process. It equals no plain value, and another such thing only as that process says."""

    _peer: Peer
    _number: int

    def __init__(self, peer: Peer, number: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._peer.ask("call", *arguments, **keywords, **{TARGET: self})

    def __getattr__(self, name: str) -> Any:
        return self._peer.ask("attribute", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._peer.ask("set", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._peer.ask("item", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._peer.ask("set_item", self, key, value)

    def __len__(self) -> Any:
        return self._peer.ask("length", self)

    def __bool__(self) -> bool:
        return self._peer.ask("truth", self) is True

    def __iter__(self) -> Any:
        return self._peer.ask("iterate", self)

    def __next__(self) -> Any:
        return self._peer.ask("next", self)

    def __str__(self) -> str:
        return str(self._peer.ask("text", self))

    def __repr__(self) -> str:
        return str(self._peer.ask("shown", self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Afar):
            return False
        return self._number == other._number or self._peer.ask("equal", self, other) is True

    __hash__ = object.__hash__


ABILITIES: dict[str, Callable[..., Any]] = {
    "attribute": getattr,
    "set": setattr,
    "item": lambda target, key: target[key],
    "set_item": lambda target, key, value: target.__setitem__(key, value),
    "length": len,
    "truth": bool,
    "iterate": iter,
    "next": next,
    "text": str,
    "shown": repr,
    "equal": lambda one, other: one == other,
}


def code_side(namespace: dict[str, Any]) -> Serves:
    """What the code's process answers: everything about its own objects."""

    def serves(peer: Peer, what: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        if what == "names":
            return {name: namespace[name] for name in arguments[0] if name in namespace}
        if what == "call":
            return keywords.pop(TARGET)(*arguments, **keywords)
        return ABILITIES[what](*arguments)

    return serves


def test_side(peer: Peer, what: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
    """What the tests' process answers: calls of the functions that it has handed over, and nothing else."""
    if what != "call":
        raise TypeError("this belongs to the tests")
    return keywords.pop(TARGET)(*arguments, **keywords)


def refill(kept: Any, changed: Any) -> None:
    """Change what the tests hold as the code changed its copy."""
    if isinstance(kept, (list, bytearray)):
        kept[:] = changed
    elif isinstance(kept, (dict, set)):
        kept.clear()
        kept.update(changed)


def described(raised: BaseException) -> list[Any]:
    """The names of an exception's classes, nearest first, and its message."""
    return [[one.__name__ for one in type(raised).__mro__], str(raised)[:1000]]


def error(names: list[str], message: str) -> Exception:
    """The nearest built-in exception of what the code raised."""
    for name in names:
        found = getattr(builtins, name, None)
        if isinstance(found, type) and issubclass(found, Exception) and found is not Exception:
            try:
                return found(message)
            except TypeError:  # it takes more than a message
                continue
    return Raised(f"{names[0]}: {message}")


class Code:
    """The process with the code, started when it is needed, and anew after it was lost."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.peer: Peer | None = None
        self.process = 0

    def names(self, wanted: list[str]) -> dict[str, Any]:
        """What the code defines of them. Raises what the code raised as it started, and Lost."""
        peer = self.peer or self.start()
        peer.end = time.monotonic() + self.limit
        found = peer.ask("names", wanted)
        return {name: found[name] for name in wanted if name in found}

    def start(self) -> Peer:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        for inherited in (theirs_in, theirs_out):
            os.set_inheritable(inherited, True)
        argv = [sys.executable, "-I", "-S", __file__, "serve", str(theirs_in), str(theirs_out)]
        nothing = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
        self.process = os.posix_spawn(sys.executable, argv, os.environ, file_actions=nothing)
        os.close(theirs_in)
        os.close(theirs_out)
        peer = self.peer = Peer(ours_in, ours_out, test_side)
        peer.end = time.monotonic() + self.limit
        if failed := peer.receive().get("error"):
            raise error(*failed)
        return peer

    def stop(self) -> None:
        if self.peer is None:
            return
        try:
            os.kill(self.process, KILL)
        except OSError:  # not allowed here: it ends with the sandbox
            self.process = 0
        os.close(self.peer.reading)
        os.close(self.peer.writing)
        self.peer = None


def run_tests(asked: dict[str, Any]) -> dict[str, Any]:
    """{"passed": how many, "failed": [number, what] of the first that failed, or None}."""
    code, passed, first = Code(asked["limit"]), 0, None
    for number, (test, names) in enumerate(asked["tests"]):
        what = ""
        try:
            exec(compile(test, "<test>", "exec"), {"__name__": "tests", **code.names(names)})
        except BaseException as raised:
            what = f"{type(raised).__name__}{f': {raised}' if str(raised) else ''}"[:300]
        if code.peer is not None and code.peer.lost:  # even where the test went on
            what = f"the code was lost: {code.peer.lost}"
            code.stop()
        passed += not what
        if what and first is None:
            first = [number, what]
            if asked["all"]:
                break
    code.stop()
    return {"passed": passed, "failed": first}


def serve(reading: int, writing: int) -> None:
    namespace: dict[str, Any] = {"__name__": "solution", "__file__": "solution.py"}
    peer = Peer(reading, writing, code_side(namespace))
    try:
        with open("solution.py", encoding="utf-8") as file:
            exec(compile(file.read(), "solution.py", "exec"), namespace)
    except BaseException as raised:
        peer.send({"error": described(raised)})
        return
    peer.send({})
    while True:
        peer.answer(peer.receive())


def signed(told: str, key: str) -> str:
    import hashlib  # here and below: the code's process does without

    return hashlib.blake2b(told.encode(), key=bytes.fromhex(key), digest_size=32).hexdigest()


def is_hidden() -> bool:
    """Make this process one that no other of this user may look into, where that is not impossible anyway."""
    import ctypes

    if ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0:
        return True
    try:
        os.close(os.open("/proc/self/mem", os.O_RDONLY))
    except OSError:
        return True
    return False


def main() -> None:
    sys.set_int_max_str_digits(0)
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]), int(sys.argv[3]))
        return
    asked = json.loads(sys.stdin.read())
    result = run_tests(asked) if is_hidden() else {"refused": "the code could look into the process of its tests"}
    told = json.dumps(result)
    sys.stdout.write(f"{signed(told, asked['key'])} {told}\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
