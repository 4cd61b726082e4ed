"""Hardware tiers: which machine a training asks for, and whether the machine and the model are of that size.

| tier | device | its memory, at least | parameters of the base, at most | dtype of the base |
|---|---|---|---|---|
| consumer-gpu | NVIDIA, compute capability 8.0 | 15 GiB | 9 billion | bfloat16 |
| small-gpu | NVIDIA, compute capability 7.0 | 5 GiB | 4 billion | bfloat16 from capability 8.0 on, else float32 |
| cpu-experimental | the CPU | 1 GiB | 1 billion | float32 |

The bounds are rules, not measurements: cards sold with 16 GiB and with 6 GiB (of which a little is always taken), and
what fits on them with LoRA. What a training needs is estimated and held against what is free, whatever the tier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windlass.errors import PreflightError

GIB = 2**30
BFLOAT16 = (8, 0)  #: the compute capability from which on a GPU calculates with it
CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a training would run on."""

    device: str  #: cuda, cpu
    name: str
    total: int  #: bytes of the device's memory
    free: int  #: bytes
    capability: tuple[int, int] | None = None  #: of an NVIDIA GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a base model with LoRA matrices."""

    parameters: int
    trainable: int  #: in the LoRA matrices
    layers: int
    hidden: int
    vocabulary: int
    context: int  #: tokens that the model can attend to


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    name: str
    device: str
    memory: int
    parameters: int
    capability: tuple[int, int] | None = None
    needs_bfloat16: bool = False


TIERS: Mapping[str, Tier] = {
    tier.name: tier
    for tier in (
        Tier(
            name="consumer-gpu",
            device="cuda",
            memory=15 * GIB,
            parameters=9_000_000_000,
            capability=(7, 0),
            needs_bfloat16=True,
        ),
        Tier(name="small-gpu", device="cuda", memory=5 * GIB, parameters=4_000_000_000, capability=(7, 0)),
        Tier(name="cpu-experimental", device="cpu", memory=GIB, parameters=1_000_000_000),
    )
}


def check_machine(name: str, machine: Machine | None) -> str:
    """The dtype for the base's weights. ``machine`` is None where the tier's device is not there.

    Raises PreflightError ``tier.device``, ``tier.capability``, ``tier.dtype``, ``tier.memory``.
    """
    tier = TIERS[name]
    if machine is None or machine.device != tier.device:
        there = "there is none that torch can use" if machine is None else f"there is {machine.name}"
        wanted = "an NVIDIA GPU" if tier.device == "cuda" else "the CPU"
        raise PreflightError(
            "tier.device",
            f"tier {name!r} trains on {wanted}; {there}",
            "On a machine without a GPU: tier cpu-experimental",
        )
    has = machine.capability
    if tier.capability is not None and (has is None or has < tier.capability):
        raise PreflightError(
            "tier.capability",
            f"tier {name!r} needs compute capability {_dotted(tier.capability)}; {machine.name} has {_dotted(has)}",
        )
    if tier.needs_bfloat16 and (has is None or has < BFLOAT16):
        raise PreflightError(
            "tier.dtype",
            f"tier {name!r} calculates in bfloat16, which {machine.name} (compute capability {_dotted(has)}) cannot",
            "tier small-gpu calculates in float32 there",
        )
    if machine.total < tier.memory:
        raise PreflightError(
            "tier.memory",
            f"tier {name!r} needs {tier.memory / GIB:.0f} GiB of memory; {machine.name} has"
            f" {machine.total / GIB:.1f} GiB",
            "A smaller tier: " + ", ".join(other for other in TIERS if TIERS[other].memory < tier.memory),
        )
    return "bfloat16" if tier.device == "cuda" and has is not None and has >= BFLOAT16 else "float32"


def check_size(name: str, size: Size) -> None:
    """Raises PreflightError ``tier.model_size``."""
    tier = TIERS[name]
    if size.parameters > tier.parameters:
        raise PreflightError(
            "tier.model_size",
            f"the base model has {size.parameters:,} parameters; tier {name!r} takes at most {tier.parameters:,}",
            "Choose a smaller base model or a larger tier.",
        )


def check_memory(name: str, machine: Machine, needed: int) -> None:
    """Raises PreflightError ``tier.memory``. ``needed`` is an estimate in bytes."""
    if needed > machine.free:
        raise PreflightError(
            "tier.memory",
            f"the training needs about {needed / GIB:.1f} GiB of memory; {machine.name} has"
            f" {machine.free / GIB:.1f} GiB free (tier {name!r})",
            "Lower batch (and raise accumulation), max_length or rank; or choose a smaller base model.",
        )


def this_machine(name: str, limit: int | None = None) -> Machine | None:
    """What torch finds of the tier's device; ``limit`` is the bytes that the run may use. Loads torch."""
    import torch

    if TIERS[name].device == "cuda":
        if not torch.cuda.is_available():
            return None
        free, total = torch.cuda.mem_get_info()
        return Machine(
            device="cuda",
            name=torch.cuda.get_device_name(),
            total=total,
            free=free,
            capability=torch.cuda.get_device_capability(),
        )
    bounds = [bound for bound in (limit, *map(_cgroup_limit, CGROUPS)) if bound is not None]
    total, free = _host_memory()
    return Machine(device="cpu", name="this machine", total=min([total, *bounds]), free=min([free, *bounds]))


def size_of(folder: Path, rank: int) -> Size:
    """Of a model's folder with LoRA of ``rank`` on every linear layer but the output, without loading a weight.

    Loads transformers. Raises PreflightError ``model.unreadable``.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    build: Any = AutoModelForCausalLM
    try:
        config = AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            model = build.from_config(config)
    except (OSError, ValueError, ImportError) as error:
        raise PreflightError(
            "model.unreadable", f"the model in {folder} cannot be loaded: {str(error).splitlines()[0]}", f"ls {folder}"
        ) from error
    output = model.get_output_embeddings()
    inner = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not output]
    text: Any = config.get_text_config()
    return Size(
        parameters=sum(p.numel() for p in model.parameters()),
        trainable=rank * sum(layer.in_features + layer.out_features for layer in inner),
        layers=int(getattr(text, "num_hidden_layers", 1)),
        hidden=int(getattr(text, "hidden_size", 1)),
        vocabulary=int(text.vocab_size),
        context=int(getattr(text, "max_position_embeddings", 0) or 2**31),
    )


def _host_memory() -> tuple[int, int]:
    """Total and available bytes."""
    import psutil

    memory = psutil.virtual_memory()
    return memory.total, memory.available


def _cgroup_limit(path: str) -> int | None:
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) < 2**60 else None  # "max", or a number beyond all memory


def _dotted(capability: tuple[int, int] | None) -> str:
    return "none" if capability is None else f"{capability[0]}.{capability[1]}"
