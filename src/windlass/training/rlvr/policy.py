"""The model that is trained: the own Llama where the folder holds one, else what transformers loads."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from windlass.errors import PreflightError
from windlass.training import llama, models, tensors
from windlass.training.rlvr.sampling import Decoder
from windlass.training.rlvr.spec import Precision

#: what a tokenizer is made of, and how a model generates; copied from the base
TOKENIZER_FILES = ("tokenizer*.json", "special_tokens_map.json", "*.model", "vocab.*", "merges.txt", "*.jinja",
                   "generation_config.json")  # fmt: skip


class Transformers:
    """A causal language model of transformers as a :class:`Decoder`. It trains the model's own weights."""

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model

    @property
    def device(self) -> torch.device:
        found: torch.device = self.model.device
        return found

    def cache(self, room: int) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config)

    def __call__(self, ids: Tensor, mask: Tensor | None = None, cache: Any = None, last: int = 0) -> Tensor:
        held = 0 if cache is None else cache.get_seq_length()
        if mask is None:
            mask = ids.new_ones(len(ids), held + ids.shape[1])
        logits: Tensor = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, held:],
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=last,
        ).logits
        return logits


class Mixed:
    """Another decoder whose products are computed in 16 bits; its weights and sums stay in 32.

    Each call is an autocast of its own: one that reached from sampling to learning would keep copies of the weights
    that have no gradients.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    @property
    def device(self) -> torch.device:
        return self.decoder.device

    def cache(self, room: int) -> Any:
        return self.decoder.cache(room)

    def __call__(self, ids: Tensor, mask: Tensor | None = None, cache: Any = None, last: int = 0) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.decoder(ids, mask, cache, last)


def load(folder: Path, device: str, precision: Precision = "float32") -> Decoder:
    """Without dropout: sampler and trainer are one model. Raises PreflightError where it cannot be loaded."""
    found: Decoder
    if own(folder):
        found = llama.load(folder).to(device).eval()
    else:
        found = Transformers(models.load_model(folder).to(device).eval())
    return found if precision == "float32" else Mixed(found)


def own(folder: Path) -> bool:
    """Whether the own Llama computes the model of a folder."""
    if not (folder / llama.WEIGHTS).is_file():
        return False
    try:
        llama.Shape.of(llama.read_config(folder))
    except PreflightError:
        return False
    return True


def module(decoder: Decoder) -> nn.Module:
    """What holds the weights."""
    if isinstance(decoder, Mixed):
        return module(decoder.decoder)
    found = decoder.model if isinstance(decoder, Transformers) else decoder
    assert isinstance(found, nn.Module)
    return found


def weights(decoder: Decoder) -> dict[str, Tensor]:
    """By name, those that are tied once."""
    return {name: weight.detach() for name, weight in module(decoder).named_parameters()}


def save(decoder: Decoder, base: Path, folder: Path) -> None:
    """A folder that every library loads: weights, config, and the tokenizer of the base."""
    if isinstance(decoder, Mixed):
        return save(decoder.decoder, base, folder)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(decoder, Transformers):
        decoder.model.save_pretrained(folder)
    else:
        tensors.save(folder / llama.WEIGHTS, module(decoder).state_dict())
        shutil.copyfile(base / llama.CONFIG, folder / llama.CONFIG)
    for path in _files(base, TOKENIZER_FILES):
        shutil.copyfile(path, folder / path.name)


def _files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
