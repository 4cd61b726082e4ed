"""What a new attempt of a training goes on from: tensors and numbers at a step, verified, for equal data and config.

    state/00000007/tensors.safetensors
    state/00000007/state.json            step, numbers, identity, the tensors' digest; and a digest of all that

A save is a folder that is filled under a hidden name, synced and renamed: it is there whole, or not at all. The one
with the highest number counts. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.errors import PreflightError, StateError, WindlassError
from windlass.runs.folder import flush
from windlass.runs.journal import tell
from windlass.training import tensors as files

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 2  #: saves
TENSORS = "tensors.safetensors"
MANIFEST = "state.json"


@dataclass(frozen=True, kw_only=True)
class Saved:
    step: int
    tensors: dict[str, Tensor] = field(repr=False)  #: on the CPU
    numbers: dict[str, Any]  #: JSON values


class TrainingState:
    """The states in ``folder`` (a run's ``state/``) of one training.

    ``identity`` says what has to be the same for a training to go on: ``{"data": sha, "config": sha, "base": sha,
    "code": version, "world_size": "1"}``. The folder is made by the first save.
    """

    def __init__(self, folder: Path | str, identity: Mapping[str, str]) -> None:
        self.folder = Path(folder)
        self.identity = dict(identity)
        self._damaged: set[Path] = set()

    def save(self, step: int, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Returns when the state would survive power loss; then all but the last two are removed.

        ``tensors`` may be on any device. Raises StateError where it cannot be written (a full disk): what was saved
        before is untouched. Raises TypeError for numbers that are no JSON.
        """
        there = self._saves()
        final = self.folder / f"{_number(there[-1]) + 1 if there else 1:08d}"
        partial = self.folder / f".{final.name}.{os.getpid()}.{os.urandom(4).hex()}"
        on_cpu = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
        saved = {"step": step, "numbers": numbers, "identity": self.identity, "tensors": files.digest(on_cpu)}
        content = json.loads(json.dumps(saved))  # as it will be read: the digest is of that
        manifest = json.dumps({"content": content, "sha256": _sha256(content)}, indent=1)
        try:
            partial.mkdir(parents=True)
            files.save(partial / TENSORS, on_cpu)
            with (partial / MANIFEST).open("w", encoding="utf-8") as file:
                file.write(manifest)
                file.flush()
                os.fsync(file.fileno())
            flush(partial)
            os.rename(partial, final)
            flush(self.folder)
        except (OSError, WindlassError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            kept = f"{there[-1]} stays" if there else "there is none before it"
            raise StateError(
                f"the state of step {step} could not be saved: {error.__cause__ or error}; {kept}",
                f"df -h {self.folder}",
            ) from error
        good = [path for path in there if path not in self._damaged]
        self._remove(self._damaged.intersection(there).union(good[: 1 - KEPT]))

    def load(self) -> Saved | None:
        """The last state, or None where nothing was saved. A damaged one is passed over, with a word on stderr.

        Raises PreflightError ``resume.changed`` where it belongs to another identity, with every difference; and
        ``resume.damaged`` where nothing of what was saved can be read.
        """
        there = self._saves()
        for path in reversed(there):
            try:
                content, tensors = _read(path)
            except WindlassError as error:
                self._damaged.add(path)
                tell(f"a saved state is passed over: {error.message}")
                continue
            self._check(content["identity"])
            return Saved(step=content["step"], tensors=tensors, numbers=content["numbers"])
        if there:
            raise PreflightError(
                "resume.damaged",
                f"none of the {len(there)} saved states in {self.folder} can be read",
                f"To train from the beginning: rm -r {self.folder}",
            )
        return None

    def _check(self, was: Mapping[str, str]) -> None:
        differences = [
            f"{name} was {was.get(name, 'not given')}, is {self.identity.get(name, 'not given')}"
            for name in sorted({*was, *self.identity})
            if was.get(name) != self.identity.get(name)
        ]
        if differences:
            raise PreflightError(
                "resume.changed",
                f"the state in {self.folder} belongs to another training: {'; '.join(differences)}",
                "Resume with what the run was started with, or start a new run.",
            )

    def _saves(self) -> list[Path]:
        """Complete saves, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted((path for path in self.folder.iterdir() if path.name.isdigit()), key=_number)

    def _remove(self, saves: set[Path]) -> None:
        """Hidden first: half a removal is no save. What an attempt that was killed left goes too."""
        with contextlib.suppress(OSError):
            for path in saves:
                os.rename(path, self.folder / f".{path.name}.old")
        for left in self.folder.glob(".*"):
            shutil.rmtree(left, ignore_errors=True)


def flatten(tree: Any, prefix: str = "") -> tuple[dict[str, Tensor], Any]:
    """Tensors by name, and the rest as JSON, of nested dicts, lists and tuples; :func:`unflatten` is the inverse.

    For a model's, an optimizer's or a scheduler's ``state_dict()``, whose keys may be numbers and which hold tensors
    beside numbers. Raises TypeError for anything else in it.
    """
    import torch

    tensors: dict[str, Tensor] = {}

    def walk(value: Any, name: str) -> Any:
        if isinstance(value, torch.Tensor):
            tensors[name] = value.detach()
            return {"tensor": name}
        if isinstance(value, Mapping):
            return {"dict": [[_plain(key, name), walk(entry, f"{name}.{key}")] for key, entry in value.items()]}
        if isinstance(value, (list, tuple)):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [walk(entry, f"{name}.{index}") for index, entry in enumerate(value)]}
        return _plain(value, name)

    return tensors, walk(tree, prefix or "state")


def unflatten(tensors: Mapping[str, Tensor], rest: Any) -> Any:
    """What :func:`flatten` was given, to the bit and with the same types; tensors are those of ``tensors``."""
    if not isinstance(rest, Mapping):
        return rest
    ((kind, inner),) = rest.items()
    if kind == "tensor":
        return tensors[inner]
    if kind == "dict":
        return {key: unflatten(tensors, entry) for key, entry in inner}
    entries = [unflatten(tensors, entry) for entry in inner]
    return tuple(entries) if kind == "tuple" else entries


def _plain(value: Any, name: str) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"{name} holds {type(value).__name__} {value!r}, which is neither a tensor nor JSON")


def _read(save: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Raises WindlassError where the save is not what was written."""
    try:
        manifest = json.loads((save / MANIFEST).read_bytes())
        content, sha256 = manifest["content"], manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WindlassError(f"{save / MANIFEST} cannot be read: {error}") from error
    if _sha256(content) != sha256:
        raise WindlassError(f"{save / MANIFEST} has been changed: its digest does not match")
    tensors = files.load(save / TENSORS)
    if files.digest(tensors) != content["tensors"]:
        raise WindlassError(f"{save / TENSORS} does not hold what was saved: its digest does not match")
    return content, tensors


def _sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _number(save: Path) -> int:
    return int(save.name)
