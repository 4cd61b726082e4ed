"""A checkpoint of RLVR on disk: a model as transformers and the own Llama load it, and a manifest of what it is.

    checkpoint/config.json  model.safetensors  tokenizer.json ...
    checkpoint/manifest.json      written last: SHA-256 of each file, digest of the tensors, base, data, config

Nothing is pickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from windlass.errors import DataError
from windlass.runs.folder import flush, read_json, write_atomic
from windlass.runs.source import file_digest

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    files: Mapping[str, str]  #: name -> SHA-256
    tensors: str  #: digest of the weights, those that are tied once; see ``windlass.training.tensors``
    base: str  #: digest of the base model
    data: Mapping[str, str]  #: fingerprints of what was trained and judged on
    config: str  #: fingerprint of the hyper-parameters and options
    backend: str
    seed: int
    steps: int
    template: str  #: what the model reads; {prompt} stands for the task's
    max_new_tokens: int
    verifier: Mapping[str, Any] | None  #: of tasks that have none of their own


def publish(made: Path, checkpoint: Path, **fields: Any) -> Manifest:
    """Move the model in ``made`` to ``checkpoint``, each file by rename, the manifest last. ``fields`` are the
    manifest's, ``files`` excepted."""
    files = {}
    for path in sorted(made.iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(path, checkpoint / path.name)
        files[path.name] = file_digest(checkpoint / path.name)
    manifest = Manifest(files=files, **fields)
    write_atomic(checkpoint / MANIFEST, json.dumps(asdict(manifest), indent=1, sort_keys=True).encode(), durable=True)
    flush(checkpoint)
    return manifest


def verify(checkpoint: Path) -> Manifest:
    """The manifest of a checkpoint whose files are what it says. Raises DataError where they are not."""
    try:
        manifest = Manifest(**read_json(checkpoint / MANIFEST))
    except TypeError:
        raise DataError(f"{checkpoint} holds no {MANIFEST}: it is no checkpoint of RLVR", f"ls {checkpoint}") from None
    for name, sha256 in manifest.files.items():
        path = checkpoint / name
        found = file_digest(path) if path.is_file() else "missing"
        if found != sha256:
            raise DataError(
                f"{path} is not what its manifest says: SHA-256 {found[:12]}, not {sha256[:12]}",
                "windlass audit verify",
            )
    return manifest
