"""Named tensors: their digest, whether they are finite, and files of them. Safetensors alone, never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.errors import NotFound, WindlassError
from windlass.runs.folder import flush

if TYPE_CHECKING:
    from torch import Tensor


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (64 hex digits) of ``name|dtype|shape|bytes`` in the order of the names.

    The same for equal content, whatever the order, the device, the memory layout or the file. NaN is content too.
    """
    import torch

    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        if tensor.numel():
            content: Any = tensor.reshape(-1).view(torch.uint8).numpy()
            sha.update(content)
    return sha.hexdigest()


def finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names, sorted, of the tensors that hold NaN or infinity; empty where all is well."""
    import torch

    def is_finite(tensor: Tensor) -> bool:
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return True
        if tensor.element_size() == 1:  # 8-bit floats have no isfinite
            tensor = tensor.float()
        return bool(torch.isfinite(tensor.detach()).all())

    return [name for name in sorted(tensors) if not is_finite(tensors[name])]


def save(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file: aside, fsync, rename. Equal content gives equal bytes.

    Tensors that share memory (tied weights) are each written whole. Raises WindlassError where the disk is full or the
    file cannot be written; what was at ``path`` is then as before.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        save_file(_apart(tensors), beside, dict(metadata or {"format": "pt"}))
        _sort_metadata(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
        flush(path.parent)
    except (OSError, SafetensorError) as error:
        raise WindlassError(f"{path} could not be written: {error}", f"df -h {path.parent}") from error
    finally:
        beside.unlink(missing_ok=True)


def load(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises NotFound where there is no file, WindlassError where it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise NotFound(f"there is no file {path}")
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise WindlassError(f"{path} is no readable safetensors file: {error}") from error


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU of which no two share memory, as the format wants them."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return apart


def _sort_metadata(path: Path) -> None:
    """The library writes the metadata in an order of chance; the header keeps its length."""
    with path.open("rb+") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:
            file.seek(8)
            file.write(text.ljust(length))
