"""Completions of prompts, and the log-probabilities of their tokens.

P prompts, N completions (P times ``copies``), T prompt tokens, C completion tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from windlass.errors import Diverged
from windlass.training.text import Tokens, padded


class Decoder(Protocol):
    """What can be sampled from; see :mod:`windlass.training.rlvr.policy`."""

    @property
    def device(self) -> torch.device: ...

    def cache(self, room: int) -> Any:
        """An empty cache for ``room`` tokens a row, with ``batch_repeat_interleave(copies)``."""

    def __call__(self, ids: Tensor, mask: Tensor | None = None, cache: Any = None, last: int = 0) -> Tensor:
        """Logits, see :meth:`windlass.training.llama.Llama.forward`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """N completions."""

    ids: Tensor  #: (N, T + C) prompts, padded on the left, and completions, padded after their end
    mask: Tensor | None  #: (N, T + C): 0 at the padding of prompts; None where there is none
    kept: Tensor  #: (N, C) float: 1 up to and with the first token that ends a completion
    log_probabilities: Tensor  #: (N, C) of the tokens as they were sampled; 0 after the end
    texts: list[str]  #: (N,)

    @property
    def length(self) -> int:
        """C."""
        return self.kept.shape[1]

    @property
    def tokens(self) -> int:
        """Tokens of prompts and completions, without padding."""
        prompts = self.ids[:, : -self.length].numel() if self.mask is None else int(self.mask[:, : -self.length].sum())
        return prompts + int(self.kept.sum())

    def of(self, rows: Tensor) -> Sampled:
        """Some of the completions, by their numbers."""
        return Sampled(
            ids=self.ids[rows],
            mask=None if self.mask is None else self.mask[rows],
            kept=self.kept[rows],
            log_probabilities=self.log_probabilities[rows],
            texts=[self.texts[row] for row in rows.tolist()],
        )

    def unfinished(self, end: int) -> float:
        """The share of completions that were cut at the most tokens allowed."""
        return float(1 - (self.ids[:, -self.length :] == end).any(1).float().mean())


@torch.no_grad()
def sample(
    model: Decoder,
    tokens: Tokens,
    prompts: Sequence[Sequence[int]],
    *,
    most: int,
    copies: int = 1,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Sampled:
    """``copies`` completions of each prompt, next to each other, of at most ``most`` tokens.

    Temperature 0 takes the most probable token. Prompts are read once, whatever ``copies`` is. Raises Diverged where a
    probability is NaN.
    """
    rows, marks = padded(prompts, tokens.pad)
    ids = torch.tensor(rows, device=model.device)
    mask = None if all(map(all, marks)) else torch.tensor(marks, device=model.device)
    cache = model.cache(ids.shape[1] + most)
    logits = model(ids, mask, cache, 1)[:, -1]
    if copies > 1:
        cache.batch_repeat_interleave(copies)
        logits, ids = logits.repeat_interleave(copies, 0), ids.repeat_interleave(copies, 0)
        mask = None if mask is None else mask.repeat_interleave(copies, 0)
    open_ = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    drawn, scores, kept = [], [], []
    while True:
        log_probabilities = F.log_softmax(logits.float() / (temperature or 1.0), -1)
        if bool(log_probabilities.isnan().any()):
            raise Diverged("the model's probabilities are NaN")
        if temperature == 0:
            new = log_probabilities.argmax(-1)
        else:
            new = torch.multinomial(log_probabilities.exp(), 1, generator=generator)[:, 0]
        new = torch.where(open_, new, tokens.pad)
        drawn.append(new)
        scores.append(log_probabilities.gather(1, new[:, None])[:, 0] * open_)
        kept.append(open_.float())
        open_ = open_ & (new != tokens.end)
        if mask is not None:
            mask = F.pad(mask, (0, 1), value=1)
        if len(drawn) == most or not bool(open_.any()):
            break
        logits = model(new[:, None], mask, cache, 1)[:, -1]
    completions = torch.stack(drawn, 1)
    return Sampled(
        ids=torch.cat([ids, completions], 1),
        mask=mask,
        kept=torch.stack(kept, 1),
        log_probabilities=torch.stack(scores, 1),
        texts=[tokens.decode(row) for row in completions.tolist()],
    )


def log_probabilities(model: Decoder, sampled: Sampled, temperature: float = 1.0) -> Tensor:
    """(N, C) of the completions' tokens under a model, in one pass, with gradients."""
    logits = model(sampled.ids, sampled.mask, None, sampled.length + 1)[:, :-1]
    told = F.log_softmax(logits.float() / temperature, -1)
    return told.gather(-1, sampled.ids[:, -sampled.length :, None])[..., 0]
