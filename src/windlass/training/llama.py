"""A compact Llama on torch alone, in the folder format of Hugging Face: ``config.json`` and ``model.safetensors``.

Notation: B rows, T new tokens, S tokens with what a cache holds (S = T without one), D hidden, H heads, K key and value
heads, E = D / H, V vocabulary. Pre-norm blocks of rotary attention (Su et al. 2021, arXiv:2104.09864) with grouped
queries (Ainslie et al. 2023, arXiv:2305.13245) and SwiGLU (Shazeer 2020, arXiv:2002.05202); RMSNorm (Zhang and
Sennrich 2019, arXiv:1910.07467). Rows are padded on the left. No dropout: sampler and trainer see one model.

Parameters are named as in ``transformers.LlamaForCausalLM``, which loads the same folder and gives the same logits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from windlass.errors import PreflightError, WindlassError
from windlass.training import tensors

CONFIG, WEIGHTS = "config.json", "model.safetensors"
#: what a config may not ask for otherwise -> what this model does
_FIXED: Mapping[str, Any] = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of a model."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int  #: width of the feed-forward part
    context: int  #: most tokens of a row
    tied: bool = True  #: the output layer is the embedding
    theta: float = 10_000.0  #: base of the rotary frequencies
    epsilon: float = 1e-6
    pad: int | None = None  #: a token that, where it is read, is not learned from; as transformers does it

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """From a ``config.json``. Raises PreflightError for a Llama that this code does not compute."""
        rope = {"rope_theta": 10_000.0, "rope_type": "default", **config, **(config.get("rope_parameters") or {})}
        wrong = {key: config[key] for key, value in _FIXED.items() if config.get(key, value) != value}
        if config.get("model_type") != "llama":
            wrong["model_type"] = config.get("model_type")
        if rope["rope_type"] != "default" or config.get("rope_scaling"):
            wrong["rope_type"] = rope["rope_type"]
        heads = config["num_attention_heads"]
        if config.get("head_dim") not in (None, config["hidden_size"] // heads):
            wrong["head_dim"] = config["head_dim"]
        if wrong:
            said = ", ".join(f"{key} {value!r}" for key, value in wrong.items())
            raise PreflightError("model.unsupported", f"the own Llama does not compute {said}", "Use backend: trl.")
        return cls(
            vocabulary=config["vocab_size"],
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            inner=config["intermediate_size"],
            context=config["max_position_embeddings"],
            tied=config.get("tie_word_embeddings", False),
            theta=float(rope["rope_theta"]),
            epsilon=config.get("rms_norm_eps", 1e-6),
            pad=config.get("pad_token_id"),
        )

    def config(self, **more: Any) -> dict[str, Any]:
        """A ``config.json``; ``more`` are further keys, such as token ids."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "dtype": "float32",
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": self.context,
            "tie_word_embeddings": self.tied,
            "rms_norm_eps": self.epsilon,
            "pad_token_id": self.pad,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.theta},
            **_FIXED,
            **more,
        }


class Cache:
    """Keys and values, (B, K, room, E) a layer, of the tokens that a model has read. Filled from the left."""

    def __init__(self, layers: int, room: int) -> None:
        self.room = room
        self.length = 0  #: tokens held
        self._kept: list[tuple[Tensor, Tensor] | None] = [None] * layers

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds (B, K, T, E) new ones; gives all, (B, K, S, E)."""
        rows, heads, new, width = keys.shape
        kept = self._kept[layer]
        if kept is None:
            kept = (keys.new_empty(rows, heads, self.room, width), values.new_empty(rows, heads, self.room, width))
            self._kept[layer] = kept
        end = self.length + new
        for room, added in zip(kept, (keys, values), strict=True):
            room[:, :, self.length : end] = added
        return kept[0][:, :, :end], kept[1][:, :, :end]

    def batch_repeat_interleave(self, copies: int) -> None:
        """Each row becomes ``copies`` rows next to each other."""
        self._kept = [
            None if kept is None else (kept[0].repeat_interleave(copies, 0), kept[1].repeat_interleave(copies, 0))
            for kept in self._kept
        ]


class Norm(nn.Module):
    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.width = shape.hidden // shape.heads
        self.grouped = shape.heads != shape.kv_heads
        self.q_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.kv_heads * self.width, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.kv_heads * self.width, bias=False)
        self.o_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], seen: Tensor | None, causal: bool, cache: Cache | None, layer: int
    ) -> Tensor:
        rows, new, hidden = x.shape
        query, keys, values = (
            project(x).view(rows, new, -1, self.width).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, keys = _rotate(query, turn), _rotate(keys, turn)
        if cache is not None:
            keys, values = cache.update(layer, keys, values)
        out = F.scaled_dot_product_attention(
            query, keys, values, attn_mask=seen, is_causal=causal, enable_gqa=self.grouped
        )
        return self.o_proj(out.transpose(1, 2).reshape(rows, new, hidden))  # type: ignore[no-any-return]


class Feed(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.inner, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.inner, bias=False)
        self.down_proj = nn.Linear(shape.inner, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.hidden, shape.epsilon)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape.hidden, shape.epsilon)
        self.mlp = Feed(shape)

    def forward(self, x: Tensor, *attending: Any) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), *attending)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class Trunk(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden, shape.pad)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden, shape.epsilon)


class Llama(nn.Module):
    """A decoder of the given shape, with torch's present weights undefined until ``initialise`` or ``load``."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Trunk(shape)
        if not shape.tied:
            self.lm_head = nn.Linear(shape.hidden, shape.vocabulary, bias=False)
        width = shape.hidden // shape.heads
        frequencies = 1.0 / (shape.theta ** (torch.arange(0, width, 2, dtype=torch.float) / width))
        angles = torch.outer(torch.arange(shape.context).float(), frequencies).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def initialise(self, seed: int) -> Self:
        """Normal weights, standard deviation 0.02; layers that write to the residual stream narrower by
        1 / sqrt(2 layers) (Radford et al. 2019, GPT-2, section 2.3). The same seed gives the same bits."""
        generator = torch.Generator().manual_seed(seed)
        narrow = 1 / math.sqrt(2 * self.shape.layers)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.dim() > 1:
                    writes = name.endswith(("o_proj.weight", "down_proj.weight"))
                    weight.normal_(0.0, 0.02 * (narrow if writes else 1.0), generator=generator)
        return self

    @property
    def device(self) -> torch.device:
        return self.model.embed_tokens.weight.device

    def cache(self, room: int) -> Cache:
        """An empty cache for at most ``room`` tokens a row."""
        return Cache(self.shape.layers, room)

    def forward(self, ids: Tensor, mask: Tensor | None = None, cache: Cache | None = None, last: int = 0) -> Tensor:
        """Logits (B, last, V) at the last positions; 0 asks for all T.

        ``ids`` (B, T) are new tokens. ``mask`` (B, S) is 0 at padding and 1 at tokens, those in the cache included;
        None where there is no padding.
        """
        new = ids.shape[1]
        held = 0 if cache is None else cache.length
        seen: Tensor | None = None
        if mask is None and held and new > 1:
            mask = ids.new_ones(len(ids), held + new)
        if mask is None:
            turn = (self.cos[held : held + new], self.sin[held : held + new])  # type: ignore[index]
        else:
            places = (mask.cumsum(1) - 1).clamp(min=0)[:, held:]
            turn = (self.cos[places].unsqueeze(1), self.sin[places].unsqueeze(1))  # type: ignore[index]
            seen = _seen(mask, new)
        x = self.model.embed_tokens(ids)
        turn = (turn[0].to(x.dtype), turn[1].to(x.dtype))
        for layer, block in enumerate(self.model.layers):
            x = block(x, turn, seen, mask is None and new > 1, cache, layer)
        if cache is not None:
            cache.length += new
        x = self.model.norm(x[:, -last:])
        return F.linear(x, self.model.embed_tokens.weight if self.shape.tied else self.lm_head.weight)


def _rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = turn
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat((-right, left), -1) * sin


def _seen(mask: Tensor, new: int) -> Tensor:
    """(B, 1, T, S): a token sees the tokens up to itself; padding sees itself, so that no row of a softmax is empty."""
    held = mask.shape[1] - new
    square = torch.ones(new, mask.shape[1], dtype=torch.bool, device=mask.device)
    itself = square.tril(held) & square.triu(held)
    return (square.tril(held) & mask[:, None, None, :].bool()) | itself


def read_config(folder: Path) -> dict[str, Any]:
    """Raises PreflightError where there is no readable ``config.json``."""
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise PreflightError(
            "model.missing", f"{folder / CONFIG} cannot be read: {error}", "Name a model's folder."
        ) from None
    if not isinstance(config, dict):
        raise PreflightError("model.missing", f"{folder / CONFIG} is no JSON object", "Name a model's folder.")
    return config


def load(folder: Path) -> Llama:
    """The model of a folder, float32, on the CPU.

    Raises PreflightError for a folder without a model, one of another kind, and weights that do not fit the config.
    """
    model = Llama(Shape.of(read_config(folder)))
    try:
        model.load_state_dict({name: weight.float() for name, weight in tensors.load(folder / WEIGHTS).items()})
    except (WindlassError, RuntimeError) as error:
        raise PreflightError("model.missing", f"{folder / WEIGHTS} does not hold this model: {error}") from None
    return model


def save(model: Llama, folder: Path) -> None:
    """The weights; ``config.json`` is the caller's."""
    tensors.save(folder / WEIGHTS, model.state_dict())
