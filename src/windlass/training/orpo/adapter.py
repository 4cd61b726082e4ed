"""A checkpoint of ORPO on disk: a LoRA adapter as PEFT loads it, and a manifest that says what it is and whose.

    checkpoint/adapter_model.safetensors
    checkpoint/adapter_config.json
    checkpoint/manifest.json      written last: SHA-256 of both, digest of the tensors, base, data, config

Nothing is pickled, and nothing is loaded before the manifest was found to be true.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from windlass.errors import DataError, PreflightError
from windlass.runs.folder import flush, read_json, write_atomic
from windlass.training import models, tensors
from windlass.training.orpo.plan import ADAPTER, ADAPTER_CONFIG

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    files: Mapping[str, str]  #: name -> SHA-256
    tensors: str  #: their digest, whatever the file that holds them; see ``windlass.training.tensors``
    base: str  #: digest of the base model
    data: Mapping[str, str]  #: fingerprints of what was trained and judged on
    config: str  #: fingerprint of the hyper-parameters
    backend: str
    profile: str
    family: str
    seed: int
    steps: int
    max_length: int
    beta: float
    dtype: str  #: of the base's weights in training


def publish(made: Path, checkpoint: Path, **fields: Any) -> Manifest:
    """Copy the adapter in ``made`` to ``checkpoint``, each file by rename, the manifest last. ``fields`` are the
    manifest's, ``files`` and ``tensors`` excepted."""
    content = {name: (made / name).read_bytes() for name in (ADAPTER, ADAPTER_CONFIG)}
    for name, data in content.items():
        write_atomic(checkpoint / name, data, durable=True)
    manifest = Manifest(
        files={name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
        tensors=tensors.digest(tensors.load(checkpoint / ADAPTER)),
        **fields,
    )
    write_atomic(checkpoint / MANIFEST, json.dumps(asdict(manifest), indent=1, sort_keys=True).encode(), durable=True)
    flush(checkpoint)
    return manifest


def verify(checkpoint: Path) -> Manifest:
    """The manifest of a checkpoint whose files are what it says. Raises DataError where they are not."""
    data = read_json(checkpoint / MANIFEST)
    try:
        manifest = Manifest(**data)
    except TypeError:
        raise DataError(f"{checkpoint} holds no {MANIFEST}: it is no checkpoint of ORPO", f"ls {checkpoint}") from None
    for name in (ADAPTER, ADAPTER_CONFIG):
        path = checkpoint / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
        if found != manifest.files.get(name):
            raise DataError(
                f"{path} is not what its manifest says: SHA-256 {found[:12]}, not"
                f" {manifest.files.get(name, 'listed')[:12]}",
                "windlass audit verify",
            )
    return manifest


def load(checkpoint: Path, base: str | os.PathLike[str], manifest: Manifest) -> Any:
    """The base model in evaluation mode with the adapter on it. Loads torch and peft.

    Raises PreflightError ``base.changed`` where the base is not the one that it was trained on.
    """
    folder = models.locate(Path(base))
    found = models.base_digest(folder)
    if found != manifest.base:
        raise PreflightError(
            "base.changed",
            f"the adapter was trained on a base model with digest {manifest.base[:12]}; {folder} has {found[:12]}",
            "Give the folder of the base model in the benchmark: options: {model: FOLDER}",
        )
    from peft import PeftModel

    return PeftModel.from_pretrained(models.load_model(folder, manifest.dtype), str(checkpoint)).eval()
