"""The process behind ``worker.py``: run by path, one request a line on stdin, one answer a line on stdout.

    {"answer": ..., "expected": ..., "options": {...}, "limit": CPU seconds}  ->  {"score": ..., "reason": ...}
                                              {"fault": "data" | "bug", "message": ...}

Each check has two steps: what the task says is prepared (pattern, schema, expected value), then the answer, which a
model wrote, is checked. The kernel ends the process by SIGVTALRM where the first step takes too much CPU time, and by
SIGPROF where the second takes more than ``limit`` seconds of it. During the second a hook that cannot be taken away
(PEP 578) stops code that was made from text: SymPy's ``parse_expr`` and several scorers of reasoning-gym evaluate
answers. Only arithmetic on numbers, symbols and named functions gets through.

Imports nothing of Windlass.
"""

from __future__ import annotations

import copy
import functools
import importlib
import json
import os
import re
import resource
import signal
import sys
import types
from collections.abc import Callable
from typing import Any

LONGEST = 20_000  #: characters of an answer
SCORES = tuple[float, str]
Check = Callable[[], SCORES]

#: what evaluated text may name: what SymPy's parser makes of numbers and unknown words, and functions of numbers
_NAMES = set("Integer Float Rational Symbol Function Number Add Mul Pow Abs Max Min Mod sqrt cbrt root exp log".split())  # noqa: SIM905
_NAMES |= set("ln sin cos tan cot sec csc asin acos atan acot sinh cosh tanh asinh acosh atanh factorial".split())  # noqa: SIM905
_NAMES |= set("binomial floor ceiling sign gamma erf pi E I oo x y z t n C".split())  # noqa: SIM905
#: where text of an answer is evaluated; other libraries run only code of their own making
_EVALUATORS = ("/sympy/parsing/", "/sympy/core/sympify.py", "/sympy/utilities/lambdify.py", "/reasoning_gym/")
_FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.remove", "os.rename", "os.kill")
_FORBIDDEN_GROUPS = ("subprocess.", "socket.", "shutil.", "urllib.")


class DataFault(Exception):
    """A task that cannot be checked. ``word`` is not one of ``known``, where that is what is wrong."""

    def __init__(self, message: str, word: str = "", known: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.told = {"fault": "data", "message": message, "word": word, "known": known}


class Guard:
    """Stops code made from text, processes and sockets while an answer is checked."""

    def __init__(self) -> None:
        self.on = False
        self.stopped = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "exec":
            caller = sys._getframe(1).f_code.co_filename
            library = caller.startswith(("/", "<frozen "))
            if (library and not any(part in caller for part in _EVALUATORS)) or _is_arithmetic(arguments[0]):
                return
        elif event == "open":
            if not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event not in _FORBIDDEN and not event.startswith(_FORBIDDEN_GROUPS):
            return
        self.stopped = True
        raise PermissionError(f"{event} while an answer is checked")


def _is_arithmetic(code: types.CodeType) -> bool:
    if code.co_names == ("sympy",):
        return True  # 'from sympy import *', with which SymPy's parser begins
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return not inner and _NAMES.issuperset(code.co_names)


def regex(request: dict[str, Any]) -> Check:
    """Options: ``anywhere``."""
    try:
        pattern = _compiled(request["expected"])
    except (re.error, OverflowError, RecursionError) as error:
        raise DataFault(f"{request['expected']!r} is no regular expression: {error}") from None

    def check() -> SCORES:
        found = (pattern.search if request["options"]["anywhere"] else pattern.fullmatch)(request["answer"])
        return (1.0, "it matches") if found else (0.0, "it does not match")

    return check


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def schema(request: dict[str, Any]) -> Check:
    validator = _validator(json.dumps(request["expected"], sort_keys=True))

    def check() -> SCORES:
        try:
            value = json.loads(request["answer"], parse_constant=_no_constant)
        except RecursionError:
            return 0.0, "JSON that is nested too deep"
        except ValueError as error:
            return 0.0, f"no JSON: {error}"
        try:
            first = next(iter(sorted(validator.iter_errors(value), key=lambda error: len(error.absolute_path))), None)
        except RecursionError:
            return 0.0, "JSON that is nested too deep"
        if first is None:
            return 1.0, "it fits the schema"
        return 0.0, f"{first.json_path}: {first.message[:200]}"

    return check


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not in JSON")


@functools.lru_cache(maxsize=256)
def _validator(text: str) -> Any:
    """Of a schema that refers to nothing outside of itself."""
    jsonschema: Any = importlib.import_module("jsonschema")
    referencing: Any = importlib.import_module("referencing")
    dialects: Any = importlib.import_module("referencing.jsonschema")

    described = json.loads(text)
    made = jsonschema.validators.validator_for(described, default=jsonschema.Draft202012Validator)
    try:
        made.check_schema(described)
    except jsonschema.SchemaError as error:
        raise DataFault(f"this is no JSON schema: {error.json_path}: {error.message[:200]}") from None
    registry = referencing.Registry()
    resource_ = dialects.DRAFT202012.create_resource(described)
    for reference in _references(described):
        try:
            registry.with_resource("", resource_).resolver("").lookup(reference)
        except referencing.exceptions.Unresolvable:
            raise DataFault(f"the schema refers to {reference!r}, which is not in it") from None
    return made(described, registry=registry)


def _references(described: Any) -> list[str]:
    if isinstance(described, dict):
        own = [described["$ref"]] if isinstance(described.get("$ref"), str) else []
        return own + [found for value in described.values() for found in _references(value)]
    return [found for value in described for found in _references(value)] if isinstance(described, list) else []


def math(request: dict[str, Any]) -> Check:
    """Options: ``boxed``. See ``maths.py`` for the rules."""
    from math_verify import parse, verify

    expected = _expected_maths(request["expected"])

    def check() -> SCORES:
        answer, boxes = request["answer"], _boxes(request["answer"])
        if request["options"]["boxed"]:
            if not boxes:
                return 0.0, "there is no \\boxed{...}"
            answer = boxes[-1]
        found = parse(answer, fallback_mode="no_fallback", parsing_timeout=None)
        if not found:
            return 0.0, "there is no mathematics in the answer"
        told = str(answer if len(answer) <= 80 else f"…{answer[-80:]}")
        if verify(expected, found, timeout_seconds=None):
            return 1.0, f"{told!r} is equal to what is expected"
        several = f"; {len(boxes)} boxes are one set" if len(boxes) > 1 and not request["options"]["boxed"] else ""
        return 0.0, f"{told!r} is not equal to {request['expected']!r}{several}"

    return check


@functools.lru_cache(maxsize=4096)
def _expected_maths(text: str) -> Any:
    from math_verify import parse

    marked = any(mark in text for mark in ("$", "\\boxed", "\\(", "\\["))
    for form in (text,) if marked else (f"${text}$", text):
        if found := parse(form, fallback_mode="no_fallback", parsing_timeout=None):
            return found
    raise DataFault(f"{text!r} cannot be read as mathematics")


def _boxes(text: str) -> list[str]:
    """Every ``\\boxed{...}`` that is closed, with balanced braces."""
    found = []
    for match in re.finditer(r"\\boxed\s*\{", text):
        depth = 1
        for end in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if not depth:
                found.append(text[match.start() : end + 1])
                break
    return found


def gym(request: dict[str, Any]) -> Check:
    """Options: ``dataset``, ``seed``, ``size``, ``options`` of the generator, ``index``, ``prompt``."""
    options = request["options"]
    entry = gym_entry(options)
    if options.get("prompt") is not None and entry["question"] not in options["prompt"]:
        raise DataFault(
            f"the prompt does not hold the question of entry {options['index']} of reasoning-gym's"
            f" {options['dataset']!r}; another version made it, or another seed, size or option"
        )
    made = _gym(options["dataset"], options["seed"], options["size"], json.dumps(options["options"], sort_keys=True))

    def check() -> SCORES:
        score = made.score_answer(answer=request["answer"], entry=copy.deepcopy(entry))
        return float(score), f"reasoning-gym scores it {float(score):g}"

    return check


def gym_entry(options: dict[str, Any]) -> dict[str, Any]:
    made = _gym(options["dataset"], options["seed"], options["size"], json.dumps(options["options"], sort_keys=True))
    if not 0 <= options["index"] < len(made):
        raise DataFault(
            f"reasoning-gym's {options['dataset']!r} has entries 0 to {len(made) - 1}, not {options['index']}"
        )
    return _entry(made, options["index"])


@functools.lru_cache(maxsize=4096)
def _entry(made: Any, index: int) -> dict[str, Any]:
    entry: dict[str, Any] = made[index]
    return entry


@functools.lru_cache(maxsize=16)
def _gym(name: str, seed: int, size: int, options: str) -> Any:
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if name not in DATASETS:
        raise DataFault(f"reasoning-gym has no dataset {name!r}.", name, tuple(DATASETS))
    try:
        return reasoning_gym.create_dataset(name, seed=seed, size=size, **json.loads(options))
    except (TypeError, ValueError, AssertionError) as error:
        raise DataFault(f"reasoning-gym's {name!r} cannot be made so: {error}") from None


LIBRARIES = {"schema": ("jsonschema", "referencing"), "math": ("math_verify",), "gym": ("reasoning_gym",)}
CHECKS: dict[str, Callable[[dict[str, Any]], Check]] = {"regex": regex, "schema": schema, "math": math, "gym": gym}


def answered(check: Callable[[dict[str, Any]], Check], request: dict[str, Any], guard: Guard) -> dict[str, Any]:
    try:
        if "entry" in request:
            entry = gym_entry(request["entry"])
            return {"value": {"question": entry["question"], "answer": entry["answer"]}}
        ready = check(request)
        if len(request["answer"]) > LONGEST:
            return {"score": 0.0, "reason": f"the answer is longer than {LONGEST:,} characters"}
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_PROF, request["limit"])
        guard.on, guard.stopped = True, False
        try:
            score, reason = ready()
        except (MemoryError, PermissionError) as error:
            if not guard.stopped and not isinstance(error, MemoryError):
                raise
            score, reason = 0.0, "checking it takes more memory than there is for a check"
        finally:
            guard.on = False
        if guard.stopped:
            return {"score": 0.0, "reason": "the library would run the answer as a program: it is more than arithmetic"}
        return {"score": score, "reason": reason}
    except DataFault as fault:
        return fault.told
    except Exception as error:
        return {"fault": "bug", "message": f"{type(error).__name__}: {error}"}


def main() -> None:
    name, memory, preparing = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # what a library prints is no answer
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    sys.set_int_max_str_digits(20_000)
    signal.setitimer(signal.ITIMER_VIRTUAL, preparing)
    for module in LIBRARIES.get(name, ()):
        importlib.import_module(module)
    sys.dont_write_bytecode = True  # what is imported while an answer is checked writes nothing
    guard = Guard()
    for line in requests:
        told = answered(CHECKS[name], json.loads(line), guard)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, preparing)
        answers.write(json.dumps(told).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
