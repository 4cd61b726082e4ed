"""Hardware tiers, on machines that are made up: each check refuses what is too small, and lets pass what is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from orpojobs import build_base, plan
from windlass.errors import PreflightError
from windlass.training import models
from windlass.training.orpo import tiers
from windlass.training.orpo.tiers import GIB, TIERS, Machine, Size, check_machine, check_memory, check_size


def gpu(**changed: Any) -> Machine:
    given = {"device": "cuda", "name": "RTX 4090", "total": 23 * GIB, "free": 22 * GIB, "capability": (8, 9)}
    return Machine(**{**given, **changed})


CPU = Machine(device="cpu", name="this machine", total=16 * GIB, free=8 * GIB)


@pytest.mark.parametrize(
    ("tier", "machine", "dtype"),
    [
        ("consumer-gpu", gpu(), "bfloat16"),
        ("small-gpu", gpu(total=6 * GIB), "bfloat16"),
        ("small-gpu", gpu(name="T4", total=15 * GIB, capability=(7, 5)), "float32"),
        ("cpu-experimental", CPU, "float32"),
    ],
)
def test_a_machine_of_the_tier_passes_and_gives_the_dtype(tier: str, machine: Machine, dtype: str) -> None:
    assert check_machine(tier, machine) == dtype


@pytest.mark.parametrize(
    ("tier", "machine", "code", "words"),
    [
        ("consumer-gpu", None, "tier.device", "trains on an NVIDIA GPU; there is none that torch can use"),
        ("consumer-gpu", CPU, "tier.device", "trains on an NVIDIA GPU; there is this machine"),
        ("cpu-experimental", gpu(), "tier.device", "trains on the CPU; there is RTX 4090"),
        (
            "consumer-gpu",
            gpu(capability=(7, 5)),
            "tier.dtype",
            "which RTX 4090 (compute capability 7.5) cannot",
        ),
        ("small-gpu", gpu(capability=(6, 1)), "tier.capability", "needs compute capability 7.0; RTX 4090 has 6.1"),
        ("consumer-gpu", gpu(total=12 * GIB), "tier.memory", "needs 15 GiB of memory; RTX 4090 has 12.0 GiB"),
        ("small-gpu", gpu(total=4 * GIB), "tier.memory", "needs 5 GiB"),
    ],
)
def test_another_machine_is_refused_with_its_values(tier: str, machine: Machine, code: str, words: str) -> None:
    with pytest.raises(PreflightError) as refused:
        check_machine(tier, machine)
    assert refused.value.code == code
    assert words in refused.value.message


@pytest.mark.parametrize("tier", TIERS)
def test_a_model_of_the_largest_size_passes_and_no_larger_one(tier: str) -> None:
    def size(parameters: int) -> Size:
        return Size(parameters=parameters, trainable=1, layers=1, hidden=1, vocabulary=1, context=1)

    most = TIERS[tier].parameters
    check_size(tier, size(most))
    with pytest.raises(PreflightError, match=rf"takes at most {most:,} \[tier.model_size\]"):
        check_size(tier, size(most + 1))


def test_what_is_needed_is_held_against_what_is_free() -> None:
    check_memory("small-gpu", gpu(), 22 * GIB)
    with pytest.raises(PreflightError, match=r"about 22.5 GiB of memory; RTX 4090 has 22.0 GiB free.*tier.memory"):
        check_memory("small-gpu", gpu(), int(22.5 * GIB))


def test_the_memory_of_this_machine_is_bounded_by_the_limit_of_the_run_and_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "CGROUPS", ())
    whole, limited = tiers.this_machine("cpu-experimental"), tiers.this_machine("cpu-experimental", 2**20)
    assert whole is not None
    assert limited is not None
    assert 2**20 < whole.free <= whole.total
    assert limited.free == limited.total == 2**20
    bound = tmp_path / "memory.max"
    monkeypatch.setattr(tiers, "CGROUPS", (str(bound), str(tmp_path / "missing")))
    for text, free in (("1048576\n", 2**20), ("max\n", whole.total), (str(2**63 - 4096), whole.total)):
        bound.write_text(text)
        machine = tiers.this_machine("cpu-experimental")
        assert machine is not None
        assert machine.total == free


def test_the_table_of_the_documentation_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| ([a-z-]+) \| .* \| (\d+) GiB \| (\d+) billion \|", tiers.__doc__ or "", re.MULTILINE)
    assert {name: (int(memory) * GIB, int(size) * 10**9) for name, memory, size in rows} == {
        tier.name: (tier.memory, tier.parameters) for tier in TIERS.values()
    }


def test_sizes_are_those_of_the_model_with_its_lora_matrices(tmp_path: Path) -> None:
    base = build_base(tmp_path / "base")
    size = tiers.size_of(base, rank=4)
    from peft import get_peft_model

    from windlass.training.orpo import trl

    model = models.load_model(base)
    assert size.parameters == models.parameters(model)
    adapted = get_peft_model(model, trl.lora(plan(tmp_path, base, rank=4)))
    assert size.trainable == models.parameters(adapted, trainable=True)
    config = model.config
    assert (size.layers, size.hidden, size.vocabulary, size.context) == (
        config.num_hidden_layers,
        config.hidden_size,
        config.vocab_size,
        config.max_position_embeddings,
    )


def test_a_model_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no such model"}')
    with pytest.raises(PreflightError, match=r"model.unreadable"):
        tiers.size_of(tmp_path, rank=4)
