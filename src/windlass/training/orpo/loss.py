"""ORPO's loss and the rows that it reads, on torch alone: what scores held-out pairs, and the measure of any trainer.

Odds-ratio preference optimisation (Hong, Lee and Thorne 2024, arXiv:2403.07691). For a prompt x with a chosen
completion c and a rejected one r, and P(y|x) the geometric mean of the probabilities of y's tokens (equation 3):

    odds(y|x) = P(y|x) / (1 - P(y|x))                                                   (4)
    L_OR      = -log sigmoid(log odds(c|x) - log odds(r|x))                             (7)
    L         = L_SFT + beta * L_OR                                                     (6; beta is its lambda)

L_SFT is the mean negative log-likelihood of the tokens of x and c, as in the authors' code and in TRL. Rows are made as
TRL makes them: a token that begins texts before the prompt and one that ends them after the completion, where the
tokenizer has them; what reaches beyond the limit is cut from the completion.

B pairs, T tokens in the longest row, V tokens in the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NOT_SCORED = -100  #: torch's ignore_index


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt with one completion."""

    ids: tuple[int, ...]
    prompt: int  #: tokens of it that are prompt
    cut: bool = False  #: the completion was longer than the limit lets it be


@dataclass(frozen=True, slots=True)
class Encoded:
    """A pair as rows of token ids."""

    chosen: Row
    rejected: Row
    merged: bool = False  #: prompt and completion share a token, which counts as the completion's
    torn: bool = False  #: they share more than one, or the two prompts differ by more: TRL refuses such a pair

    @property
    def tokens(self) -> int:
        return len(self.chosen.ids) + len(self.rejected.ids)

    @property
    def prompt(self) -> int:
        """Tokens of the longer prompt: the two differ where a last token merged."""
        return max(self.chosen.prompt, self.rejected.prompt)

    @property
    def cut(self) -> bool:
        return self.chosen.cut or self.rejected.cut


def encode(tokenizer: Any, pairs: Iterable[tuple[str, str, str]], max_length: int) -> list[Encoded]:
    """(prompt, chosen, rejected) as TRL's ORPO trainer tokenises them; ``tokenizer`` is one of transformers'.

    A prompt of ``max_length`` tokens or more leaves no completion: training on such a row gives NaN.
    """
    prompts, chosen, rejected = zip(*pairs, strict=True)
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id

    def row(whole: list[int], start: int) -> Row:
        first, rest = whole[:start], whole[start:]
        if begin is not None and (not first or first[0] != begin):
            first = [begin, *first]
        if end is not None and (not rest or rest[-1] != end):
            rest = [*rest, end]
        room = max(0, max_length - len(first))
        return Row((*first, *rest[:room]), len(first), len(rest) > room)

    encoded = []
    for prompt, better, worse in zip(
        _ids(tokenizer, prompts),
        _ids(tokenizer, map(str.__add__, prompts, chosen)),
        _ids(tokenizer, map(str.__add__, prompts, rejected)),
        strict=True,
    ):
        size = len(prompt)
        one, other = (size - (whole[:size] != prompt) for whole in (better, worse))
        different = sum(a != b for a, b in zip(better[:one], worse[:other], strict=False))
        encoded.append(
            Encoded(
                row(better, one),
                row(worse, other),
                merged=min(one, other) < size,
                torn=min(len(better), len(worse)) < size or different > 1,
            )
        )
    return encoded


def _ids(tokenizer: Any, texts: Iterable[str]) -> list[list[int]]:
    found: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return found


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows padded on the right: all chosen ones, then all rejected ones."""

    ids: Tensor  #: (2B, T)
    mask: Tensor  #: (2B, T): 1 where there is a token, 0 where there is padding
    labels: Tensor  #: (2B, T): the ids of completions, elsewhere NOT_SCORED

    def to(self, device: Any) -> Batch:
        return Batch(self.ids.to(device), self.mask.to(device), self.labels.to(device))


def collate(pairs: Sequence[Encoded], pad: int) -> Batch:
    rows = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    ids = torch.full((len(rows), max(len(row.ids) for row in rows)), pad)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, NOT_SCORED)
    for at, row in enumerate(rows):
        size = len(row.ids)
        ids[at, :size] = torch.tensor(row.ids)
        mask[at, :size] = 1
        labels[at, row.prompt : size] = ids[at, row.prompt : size]
    return Batch(ids, mask, labels)


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """What a model says of B pairs."""

    chosen: Tensor  #: (B,) log P(c|x), the mean over the completion's tokens
    rejected: Tensor  #: (B,) log P(r|x)
    nll: Tensor  #: (B,) summed over the tokens of x and c, but the first
    tokens: Tensor  #: (B,) how many these are


def likelihoods(logits: Tensor, batch: Batch) -> Likelihoods:
    """``logits``: (2B, T, V)."""
    half = len(batch.ids) // 2
    heads = logits[:, :-1].float()
    log_p = heads.gather(-1, batch.ids[:, 1:, None]).squeeze(-1) - heads.logsumexp(-1)  # (2B, T-1)
    scored = batch.labels[:, 1:] != NOT_SCORED
    means = (log_p * scored).sum(1) / scored.sum(1)
    there = batch.mask[:half, 1:] == 1
    return Likelihoods(means[:half], means[half:], -(log_p[:half] * there).sum(1), there.sum(1))


def orpo_loss(found: Likelihoods, beta: float) -> Tensor:
    """The loss of a batch, a scalar. NaN where a completion has no token."""
    ratio = F.logsigmoid(_log_odds(found.chosen) - _log_odds(found.rejected))
    return found.nll.sum() / found.tokens.sum() - beta * ratio.mean()


def _log_odds(log_p: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p < 0, exact near both ends."""
    return log_p - torch.where(log_p < -math.log(2), torch.log1p(-torch.exp(log_p)), torch.log(-torch.expm1(log_p)))


@dataclass(frozen=True, slots=True)
class Score:
    """A held-out pair under a model."""

    chosen: float  #: log P(c|x)
    rejected: float
    nll: float
    tokens: int

    @property
    def preferred(self) -> bool:
        """Whether the model finds the chosen completion the more likely one; on a tie it does not."""
        return self.chosen > self.rejected

    def margin(self, beta: float) -> float:
        """beta * (log P(c|x) - log P(r|x)): the margin of rewards that TRL reports."""
        return beta * (self.chosen - self.rejected)


def score(model: Any, pairs: Sequence[Encoded], pad: int, batch: int) -> list[Score]:
    """(n,) one after the other in batches of ``batch`` pairs, without dropout and without a random number.

    The model is left in the mode (training or evaluation) in which it was.
    """
    was_training = model.training
    model.eval()
    found: list[Score] = []
    device = next(model.parameters()).device
    try:
        with torch.inference_mode():
            for at in range(0, len(pairs), batch):
                rows = collate(pairs[at : at + batch], pad).to(device)
                logits = model(input_ids=rows.ids, attention_mask=rows.mask, use_cache=False).logits
                seen = likelihoods(logits, rows)
                columns = (seen.chosen, seen.rejected, seen.nll, seen.tokens)
                found += [Score(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]
    finally:
        model.train(was_training)
    return found


def loss_of(scores: Sequence[Score], beta: float) -> float:
    """ORPO's loss of all pairs as one batch."""
    columns = zip(*((s.chosen, s.rejected, s.nll, s.tokens) for s in scores), strict=True)
    chosen, rejected, nll, tokens = (torch.tensor(column, dtype=torch.float64) for column in columns)
    return float(orpo_loss(Likelihoods(chosen, rejected, nll, tokens), beta))
