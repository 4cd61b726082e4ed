"""What a training runs on: made reproducible and silent before the libraries load, and written down as a fingerprint.

Bit-equal results are promised for one fingerprint: 3 threads instead of 2, or another instruction set of the CPU, do
change bits.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from windlass.errors import PreflightError
from windlass.records import content
from windlass.runs.folder import write_atomic

THREADS = "OMP_NUM_THREADS"
SMALL = 5_000_000  #: parameters; below, a second thread costs more than it gives
#: read by huggingface_hub, transformers, trl, tokenizers and cuBLAS when they load
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
OFFLINE = {"HF_HUB_OFFLINE": "1"}
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "safetensors", "numpy")


def pin(threads: int | None = None, *, hub: bool = False) -> int:
    """Switch telemetry off and deterministic algorithms on, and set torch's threads; returns how many these are.

    Call it before anything imports transformers or trl. ``hub`` leaves the model hub reachable, for a model that is
    named and not a path. ``threads`` is at most what OMP_NUM_THREADS allows, the job's share of the cores; None means
    just that. May be called again, once the size of the model is known.
    """
    os.environ.update(QUIET if hub else QUIET | OFFLINE)
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:  # it has read the environment already
        vars(constants).update(HF_HUB_DISABLE_TELEMETRY=True, **({} if hub else {"HF_HUB_OFFLINE": True}))
    import torch

    allowed = os.environ.get(THREADS, "")
    if allowed.isdigit() and int(allowed) > 0:
        threads = min(threads or int(allowed), int(allowed))
    if threads is not None:
        torch.set_num_threads(threads)
    # on a GPU some operations have no deterministic form: there it is a warning, and no crash after hours
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.backends.cudnn.benchmark = False
    return int(torch.get_num_threads())


def threads_for(parameters: int, cores: int, concurrent: int) -> int:
    """An equal share of the cores for each of so many runs at a time; 1 for a model below 5 million parameters.

    Measured on two busy cores: a step of a model with 1 million parameters took 80 ms with one thread, 366 ms with two.
    """
    return 1 if parameters < SMALL else max(1, cores // concurrent)


def fingerprint() -> dict[str, str]:
    """Versions, threads, the CPU's instruction set, the GPU. No clock, no path, no host name."""
    import torch

    found = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "deterministic": str(torch.are_deterministic_algorithms_enabled()).lower(),
    }
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    if torch.cuda.is_available():
        found["gpu"] = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        found["cuda"] = str(torch.version.cuda)
        found["gpu_driver"] = _driver()
    return dict(sorted(found.items()))


def digest(fingerprint: Mapping[str, str]) -> str:
    """SHA-256 of a fingerprint: equal environments give equal digests."""
    return content.digest(dict(fingerprint))


def write(path: Path) -> dict[str, str]:
    """Write the fingerprint as JSON (``artifacts/environment.json``), and return it."""
    found = fingerprint()
    write_atomic(path, json.dumps(found, indent=1).encode(), durable=True)
    return found


def _driver() -> str:
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.split("\n")[0].strip() or "unknown"


def is_hub(model: str) -> bool:
    """Whether a model is named, and no folder."""
    return not Path(model).exists()


def one_process(program: str) -> str:
    """The world size, 1. Raises PreflightError ``world_size`` under a launcher of several: each would train alone."""
    size = os.environ.get("WORLD_SIZE", "1")
    if size != "1":
        raise PreflightError(
            "world_size",
            f"{program} trains in one process, not in {size}",
            "Start it without torchrun or accelerate launch.",
        )
    return size
