"""The own Llama is the one of transformers, to the bit, and with a cache it is what it is without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rlvrjobs import CHARACTERS
from windlass.errors import PreflightError
from windlass.training import environment, llama, small, tensors

SIZES = ({"kv_heads": 2}, {"kv_heads": 1, "inner": 48}, {"kv_heads": 4})


def build(folder: Path, **sizes: Any) -> Path:
    return small.build(folder, characters=CHARACTERS, hidden=32, layers=2, heads=4, context=24, seed=3, **sizes)


def untie(folder: Path) -> Path:
    """The same model with an output layer of its own."""
    config = llama.read_config(folder) | {"tie_word_embeddings": False}
    (folder / llama.CONFIG).write_text(json.dumps(config))
    llama.save(llama.Llama(llama.Shape.of(config)).initialise(5), folder)
    return folder


def rows(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ids (3, 9), and a mask with padding on the left."""
    mask = torch.ones(3, 9, dtype=torch.long)
    mask[0, :4] = 0
    mask[2, :1] = 0
    return torch.randint(4, 16, (3, 9), generator=generator), mask


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("tied", [True, False])
def test_the_same_folder_gives_the_logits_of_transformers(tmp_path: Path, sizes: dict[str, int], tied: bool) -> None:
    environment.pin(1)
    from transformers import LlamaForCausalLM

    folder = build(tmp_path, **sizes)
    if not tied:
        untie(folder)
    ours, theirs = llama.load(folder), LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids, mask = rows(torch.Generator().manual_seed(1))
    places = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        padded = theirs(input_ids=ids, attention_mask=mask, position_ids=places).logits
        torch.testing.assert_close(ours(ids, mask) * mask[..., None], padded * mask[..., None], rtol=0, atol=1e-6)
        torch.testing.assert_close(ours(ids), theirs(input_ids=ids).logits, rtol=0, atol=1e-6)
    for name, weight in ours.named_parameters():
        assert torch.equal(weight, dict(theirs.named_parameters())[name]), name


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("parts", [[6, 1, 1, 1], [4, 3, 2], [1] * 9], ids=str)
def test_a_cache_changes_no_logits(tmp_path: Path, parts: list[int], padded: bool) -> None:
    model = llama.load(build(tmp_path, kv_heads=2))
    ids, mask = rows(torch.Generator().manual_seed(2))
    given = mask if padded else None
    with torch.no_grad():
        whole, cache, found, end = model(ids, given), model.cache(9), [], 0
        for part in parts:
            end += part
            seen = None if given is None else given[:, :end]
            found.append(model(ids[:, end - part : end], seen, cache))
    kept = torch.ones_like(mask) if given is None else given
    torch.testing.assert_close(torch.cat(found, 1) * kept[..., None], whole * kept[..., None], rtol=0, atol=1e-5)


def test_a_repeated_cache_goes_on_for_each_copy(tmp_path: Path) -> None:
    model = llama.load(build(tmp_path, kv_heads=2))
    ids, mask = rows(torch.Generator().manual_seed(3))
    with torch.no_grad():
        cache = model.cache(9)
        model(ids[:, :8], mask[:, :8], cache)
        cache.batch_repeat_interleave(2)
        again = model(ids[:, 8:].repeat_interleave(2, 0), mask.repeat_interleave(2, 0), cache)
        whole = model(ids, mask, last=1)
    torch.testing.assert_close(again, whole.repeat_interleave(2, 0), rtol=0, atol=1e-5)


def test_padding_on_the_left_changes_nothing(tmp_path: Path) -> None:
    model = llama.load(build(tmp_path))
    ids = torch.tensor([[4, 5, 6, 7]])
    padded, mask = torch.tensor([[0, 0, 4, 5, 6, 7]]), torch.tensor([[0, 0, 1, 1, 1, 1]])
    with torch.no_grad():
        torch.testing.assert_close(model(padded, mask, last=4), model(ids), rtol=0, atol=1e-5)
        assert torch.isfinite(model(padded, mask)).all()


def test_a_saved_model_is_the_one_that_was_saved(tmp_path: Path) -> None:
    folder = build(tmp_path)
    model = llama.load(folder)
    with torch.no_grad():
        model.model.norm.weight.mul_(1.5)
    llama.save(model, folder)
    assert tensors.digest(llama.load(folder).state_dict()) == tensors.digest(model.state_dict())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model_type": "qwen2"}, "model_type 'qwen2'"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"attention_bias": True}, "attention_bias True"),
        ({"head_dim": 128}, "head_dim 128"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5}}, "rope_type 'llama3'"),
    ],
)
def test_another_model_is_not_taken_for_a_llama(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    folder = build(tmp_path)
    config = llama.read_config(folder) | changed
    (folder / llama.CONFIG).write_text(json.dumps(config))
    with pytest.raises(PreflightError, match=rf"{words}.*model.unsupported"):
        llama.load(folder)


def test_an_old_config_has_the_base_of_the_rotation_at_its_top(tmp_path: Path) -> None:
    config = llama.read_config(build(tmp_path))
    del config["rope_parameters"]
    assert llama.Shape.of(config | {"rope_theta": 777}).theta == 777


@pytest.mark.parametrize("damage", ["missing", "torn", "other"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, damage: str) -> None:
    folder = build(tmp_path)
    weights = folder / llama.WEIGHTS
    if damage == "missing":
        weights.unlink()
    elif damage == "torn":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        tensors.save(weights, {"something": torch.zeros(2)})
    with pytest.raises(PreflightError, match=r"model.missing"):
        llama.load(folder)
