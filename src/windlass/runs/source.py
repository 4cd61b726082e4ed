"""The code that a job runs: commands as jobs can start them, and digests of the files that hold the code."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from windlass.errors import StudyError
from windlass.records.content import digest


def absolute_command(command: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Parts that name a file in ``folder`` become absolute: jobs run in folders of their own."""
    return tuple(str(file) if (file := _file(part, folder)) else part for part in command)


def command_digest(command: Sequence[str], folder: Path) -> str:
    """Of the content of every file that a command names; what its other parts say is not in it."""
    return digest([file_digest(file) for part in command if (file := _file(part, folder))])


def command_content(command: Sequence[str], folder: Path) -> list[str]:
    """The parts of a command, with the digest of the content where a part names a file."""
    return [file_digest(file) if (file := _file(part, folder)) else part for part in command]


def function_digest(function: str, folder: Path, key: str) -> str:
    """Of the source of ``module:function``, in ``folder`` or wherever it is installed.

    A module of its own counts alone, one of a package with all Python files beside it. Raises StudyError that names
    ``key`` where there is no such module.
    """
    module = function.partition(":")[0]
    beside = folder / (module.replace(".", "/") + ".py")
    if beside.is_file():
        return file_digest(beside)
    try:
        return installed_digest(function)
    except (ImportError, AttributeError, ValueError) as error:
        raise StudyError(
            f"{key}: no module {module!r} in {folder} or installed ({error})",
            f"Create {beside}, or install the package that has it.",
        ) from error


def installed_digest(function: str) -> str:
    """Of all Python files in the folder of an installed function's module. Raises ImportError."""
    module = function.partition(":")[0]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(f"no module named {module!r}")
    origin = Path(spec.origin)
    files = sorted(origin.parent.glob("*.py")) if "." in module else [origin]
    return digest([[file.name, file_digest(file)] for file in files])


def file_digest(path: Path) -> str:
    """SHA-256, 64 hex digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def joint_digest(digests: Sequence[str]) -> str:
    """Of several contents by the digest of each, in their order; of one it is that one."""
    return digests[0] if len(digests) == 1 else hashlib.sha256(bytes.fromhex("".join(digests))).hexdigest()


def _file(part: str, folder: Path) -> Path | None:
    path = folder / part
    try:
        return path.resolve() if path.is_file() else None
    except (OSError, ValueError):  # code after -c: too long for a name, or with a null byte
        return None
