"""Runs in the environment of another backend, with its Python and the standard library alone: what is there?

The text of this file is given to that Python by ``-c``: as a script, its folder would hide the packages ``trl`` and
``unsloth``. It writes one JSON object on the stdout that it was started with; whatever libraries print goes to stderr.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from typing import Any

NEEDED = ("unsloth", "unsloth_zoo", "torch", "transformers", "trl", "peft", "datasets", "accelerate", "safetensors")
NATIVE = ("torchvision", "triton", "bitsandbytes")  #: compiled against one torch and one CUDA
CAPS_OF = ("unsloth", "unsloth_zoo")
EXTRA = "huggingface"  #: the extra in which unsloth names its caps
LISTING_S = 30


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in (*NEEDED, *NATIVE):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def misfits(installed: dict[str, str | None]) -> list[str]:
    """Every distribution that is missing, or not as unsloth's own metadata asks for."""
    wrong = [f"{name} is not installed" for name in (*NEEDED, *NATIVE) if installed[name] is None]
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return [*wrong, "packaging is not installed"]
    for owner in CAPS_OF:
        for line in importlib.metadata.requires(owner) or () if installed[owner] else ():
            asked = Requirement(line)
            name = asked.name.lower().replace("-", "_")
            has = installed.get(name)
            applies = asked.marker is None or asked.marker.evaluate({"extra": EXTRA})
            if has is not None and applies and not asked.specifier.contains(has, prereleases=True):
                wrong.append(f"{name} is {has}, {owner} wants {name}{asked.specifier}")
    return wrong


def device() -> dict[str, Any]:
    """What torch says of itself and of the first GPU."""
    try:
        import torch
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    facts = {"torch": str(torch.__version__), "cuda": torch.version.cuda, "available": False}
    if facts["cuda"] is None or not torch.cuda.is_available():
        return facts
    free, total = torch.cuda.mem_get_info()
    return {
        **facts,
        "available": True,
        "name": torch.cuda.get_device_name(0),
        "capability": list(torch.cuda.get_device_capability(0)),
        "free": free,
        "total": total,
    }


def listed() -> list[str]:
    """The GPUs that the driver lists, whatever torch says."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        done = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=LISTING_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.startswith("GPU ")]


def broken() -> list[str]:
    """Each in a process of its own, which it may crash."""
    found = []
    for name in NATIVE:
        done = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            found.append(f"{name}: {last}")
    return found


def main() -> None:
    out = os.dup(1)
    os.dup2(2, 1)
    installed = versions()
    found: dict[str, Any] = {"python": list(sys.version_info[:2]), "misfits": misfits(installed)}
    if not found["misfits"]:
        found["device"] = device()
        found["listed"] = listed()
        found["broken"] = broken() if found["device"].get("available") else []
    with os.fdopen(out, "w") as channel:
        json.dump(found, channel)


if __name__ == "__main__":
    main()
