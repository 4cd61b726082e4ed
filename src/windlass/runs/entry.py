"""A ``module:function`` as a job, by the trainer contract: in an interpreter of its own, or in a preloaded fork."""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from windlass.errors import WindlassError
from windlass.records.run import RunSpec
from windlass.runs.failure import describe_failure, exit_code
from windlass.runs.folder import RunFolder
from windlass.runs.sdk import Run, attach


def main() -> None:
    """``--spec FILE --output-dir DIR``; exits as ``call`` says."""
    parser = argparse.ArgumentParser(prog="windlass.runs.entry")
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--output-dir", type=Path, required=True)
    args = parser.parse_args()
    folder = RunFolder(args.output_dir.resolve())
    sys.exit(call(folder.spec(), folder))


def call(spec: RunSpec, folder: RunFolder) -> int:
    """Call ``function(config, run)`` and write its result; returns the exit code.

    What the function returns are the final metrics (a mapping of name to number); None means what it logged last. The
    exit code is 3 after a PreflightError, 143 after Preempted, that of a SystemExit, and 1 after any other exception.
    """
    run: Run | None = None
    try:
        sys.path[:0] = [path for path in spec.python_path if path not in sys.path]
        run = attach(folder)
        function = load(spec.function or "")
        _seed(spec.seed)
        metrics = function(dict(spec.config), run)
        if metrics is not None and not isinstance(metrics, Mapping):
            raise WindlassError(
                f"{spec.function} returned {type(metrics).__name__}; wanted a mapping of metric names to numbers"
            )
        run.finish(metrics)
        return 0
    except BaseException as error:
        traceback.print_exc()
        failure = describe_failure(error)
        if run is not None:
            run.finish(failure=failure)
        if isinstance(error, SystemExit):
            return error.code if isinstance(error.code, int) else 1
        return exit_code(failure)


def load(name: str) -> Callable[[dict[str, Any], Run], Any]:
    """Raises WindlassError where the module or the function is not there."""
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise WindlassError(f"there is no module {module!r}", f"sys.path: {sys.path}") from error
        raise
    except AttributeError as error:
        raise WindlassError(f"module {module!r} has no {attribute!r}") from error
    if not callable(found):
        raise WindlassError(f"{name} is no function but {found!r}")
    return found  # type: ignore[no-any-return]


def _seed(seed: int) -> None:
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
