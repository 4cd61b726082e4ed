"""What a backend is told and what it gives back: plain values, so that they may cross into another environment.

Everything that was checked is in the plan; a backend decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from windlass.errors import WindlassError

Text = tuple[str, str, str]  #: prompt, chosen, rejected
Tell = Callable[[int, Mapping[str, float]], None]  #: step, what was measured in it

ADAPTER = "adapter_model.safetensors"  #: the names that PEFT loads
ADAPTER_CONFIG = "adapter_config.json"


class BudgetSpent(WindlassError):
    """The minutes ended before the steps did. The state is saved; more minutes are a decision for a person."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One ORPO training; see :class:`windlass.training.orpo.spec.Hyper` for the hyper-parameters."""

    model: str
    train: Sequence[Text]
    held_out: Sequence[Text]
    seed: int
    learning_rate: float
    batch: int
    accumulation: int
    rank: int
    alpha: int
    dropout: float
    warmup: float
    steps: int
    max_length: int
    beta: float
    device: str  #: cpu, cuda
    dtype: str  #: of the base's weights: float32, bfloat16
    four_bit: bool  #: the base is loaded in 4 bits
    seconds: float  #: of training, over all attempts
    save_every: int  #: steps
    threads: int
    state: str  #: folder of the saved states
    identity: Mapping[str, str]  #: of these states
    scratch: str  #: folder for what nobody keeps; the adapter is left there

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        pairs = {name: [tuple(row) for row in data[name]] for name in ("train", "held_out")}
        return cls(**{**data, **pairs})

    @property
    def adapter(self) -> Path:
        """The folder in which a backend leaves ``ADAPTER`` and ``ADAPTER_CONFIG``."""
        return Path(self.scratch) / "adapter"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came out. Scores are of the held-out pairs, (chosen, rejected, nll, tokens) each; see ``loss.Score``."""

    steps: int
    tokens: int
    seconds: float  #: in the training loop, over all attempts
    curve: Sequence[tuple[int, float, float]]  #: of the training pairs: step, loss, accuracy; over all attempts
    notes: Sequence[str]
    before: Sequence[Sequence[float]]
    after: Sequence[Sequence[float]]
    digest_before: str  #: of the adapter's tensors
    digest_after: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def cumulative_tokens(tokens: Sequence[int], seed: int, batch: int, accumulation: int) -> Iterator[int]:
    """Tokens read after each step, without end; ``tokens``: those of each training pair, padding not counted.

    The order is the trainer's: in epoch e the permutation that torch draws from seed + e, in batches of ``batch``
    pairs, ``accumulation`` of them a step; an epoch's last step takes what is left.
    """
    import torch

    total, epoch = 0, 0
    while True:
        order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed + epoch)).tolist()
        for at in range(0, len(order), batch * accumulation):
            total += sum(tokens[row] for row in order[at : at + batch * accumulation])
            yield total
        epoch += 1
