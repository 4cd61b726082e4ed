"""Models and tokenizers by path or hub name, and the checks to make before a training spends anything on them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from windlass.errors import PreflightError
from windlass.records import content
from windlass.records.run import FailureKind
from windlass.runs.failure import describe_failure
from windlass.training import tensors as files

if TYPE_CHECKING:
    from torch import Tensor

TOKENIZER = "tokenizer.json"
CONFIG = "config.json"
#: in config.json, but nothing that the model computes with: where it was saved, and by what
NOT_CONTENT = ("_name_or_path", "transformers_version")
SHOWN = 20  #: rows listed in a message
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "int4": 0.5}
#: numbers kept for each token, layer and hidden unit by a Llama with transformers, measured: 29 to 36; 64 to 73 with
#: LoRA on every linear layer, whose dropout keeps its inputs a second time
KEPT, KEPT_ADAPTER = 36, 72
LIBRARIES = 500 * 2**20  #: bytes of a process that has imported torch, transformers and TRL: 450 to 470 MB measured


def locate(path_or_name: Path | str) -> Path:
    """The folder of a model: a local path, or a hub name's snapshot (downloaded unless the hub is switched off).

    Raises PreflightError ``model.missing``.
    """
    folder = Path(path_or_name).expanduser()
    if folder.is_dir():
        return folder
    name = str(path_or_name)
    missing = f"there is no model {name!r}"
    if folder.exists() or folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise PreflightError("model.missing", f"{missing}: a model is a folder", "Give the path of a model folder.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]))
    except Exception as error:
        raise PreflightError(
            "model.missing",
            f"{missing}: no such folder, and the hub does not give it: {_first_line(error)}",
            "Download it first, then give the path of its folder.",
        ) from error


def load_model(path_or_name: Path | str, dtype: str = "float32") -> Any:
    """A causal language model through transformers, on the CPU, from safetensors alone.

    Raises PreflightError ``model.missing`` where there is none, ``model.unreadable`` where it cannot be loaded.
    """
    folder = locate(path_or_name)
    if not (folder / CONFIG).is_file():
        raise PreflightError("model.missing", f"{folder} holds no model: it has no {CONFIG}", f"ls {folder}")
    import torch
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), use_safetensors=True)
    except Exception as error:  # the libraries raise what they like
        if describe_failure(error).kind is FailureKind.OUT_OF_MEMORY:
            raise
        raise PreflightError(
            "model.unreadable", f"the model in {folder} cannot be loaded: {_first_line(error)}", f"ls {folder}"
        ) from error


def load_tokenizer(path_or_name: Path | str) -> Any:
    """The tokenizer of a model: tokenizer.json as it was saved, where there is one; else what AutoTokenizer makes.

    AutoTokenizer may rebuild a tokenizer by its model's type, with other token ids (:func:`check_tokenizer`). Raises
    PreflightError ``tokenizer.missing``.
    """
    folder = locate(path_or_name)
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    kind = PreTrainedTokenizerFast if (folder / TOKENIZER).is_file() else AutoTokenizer
    try:
        tokenizer = kind.from_pretrained(folder)
        empty = set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens)
    except Exception as error:
        raise _no_tokenizer(folder, _first_line(error)) from error
    if empty:  # of a folder without tokenizer files, for some types of model, and without an error
        raise _no_tokenizer(folder, f"{type(tokenizer).__name__} knows no token but special ones")
    return tokenizer


def _no_tokenizer(folder: Path, reason: str) -> PreflightError:
    return PreflightError(
        "tokenizer.missing",
        f"{folder} has no tokenizer that can be loaded: {reason}",
        f"Save the model's tokenizer into {folder}: tokenizer.save_pretrained(...).",
    )


def base_digest(path: Path | str) -> str:
    """SHA-256 of a local model's content: its tensors, config.json and tokenizer.json, however it was split and saved.

    Raises PreflightError ``model.missing`` where there are no safetensors.
    """
    folder = Path(path)
    weights = _Weights(folder)
    if not weights:
        raise PreflightError("model.missing", f"{folder} holds no model: it has no *.safetensors", f"ls {folder}")
    config = _json(folder / CONFIG)
    parts = {key: value for key, value in config.items() if key not in NOT_CONTENT}
    return content.digest({"tensors": files.digest(weights), "config": parts, "tokenizer": _json(folder / TOKENIZER)})


def parameters(model: Any, *, trainable: bool = False) -> int:
    """How many numbers a model has, tied ones once; with ``trainable``, of those that a training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def memory_needed(
    parameters: int,
    trainable: int,
    batch: int,
    tokens: int,
    dtype: str,
    layers: int,
    hidden: int,
    vocabulary: int = 0,
) -> int:
    """Bytes of memory that training needs at its peak, roughly: libraries, weights, optimizer, activations, logits.

    ``batch`` sequences of ``tokens`` are in one forward pass (two for each preference pair), ``dtype`` is that of the
    weights ("float32", "bfloat16", "float16", "int8", "int4"). Assumed are AdamW in 32 bits with a gradient in 32 bits
    (12 bytes a trainable parameter), no gradient checkpointing, attention that does not keep its scores, and so many
    numbers kept for the backward pass as ``KEPT`` says. Raises KeyError for an unknown dtype.
    """
    adapter = trainable < parameters
    number = 4 if dtype == "float32" else 3  # in 16 bits, norms and sums are still kept in 32
    activations = (KEPT_ADAPTER if adapter else KEPT) * number * batch * tokens * hidden * layers
    logits = 3 * 4 * batch * tokens * vocabulary  # themselves, their softmax, their gradient
    return int(LIBRARIES + parameters * BYTES[dtype] + 12 * trainable + activations + logits)


def check_memory(needed: int, available: int) -> None:
    """Raises PreflightError ``memory.short``, with both in GiB."""
    if needed > available:
        raise PreflightError(
            "memory.short",
            f"the training needs about {needed / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB are free",
            "Use a smaller batch (with accumulation), shorter sequences, LoRA, or a smaller model.",
        )


def check_tokenizer(path: Path | str, samples: Sequence[str]) -> None:
    """That everybody who loads a folder's tokenizer gets the same token ids for ``samples``.

    Compares tokenizer.json as saved (library tokenizers), transformers' PreTrainedTokenizerFast and AutoTokenizer,
    without special tokens. Raises PreflightError ``tokenizer.changes`` with the first difference,
    ``tokenizer.missing`` where there is none. A folder without a tokenizer.json has nothing to compare with.
    """
    folder = Path(path)
    load_tokenizer(folder)
    if not (folder / TOKENIZER).is_file():
        return
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    saved = Tokenizer.from_file(str(folder / TOKENIZER))
    for kind in (PreTrainedTokenizerFast, AutoTokenizer):
        loaded = kind.from_pretrained(folder)
        for sample in samples:
            was = saved.encode(sample, add_special_tokens=False).ids
            now = loaded(sample, add_special_tokens=False)["input_ids"]
            if was != now:
                at = next(
                    (i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now))
                )
                raise PreflightError(
                    "tokenizer.changes",
                    f"{kind.__name__} loads {folder} as {type(loaded).__name__}, which gives other token ids than its"
                    f" {TOKENIZER}: {len(was)} tokens become {len(now)}, the first difference at position {at}, in"
                    f" {sample[:80]!r}",
                    "Keep the tokenizer in a folder without config.json, or save it with the model's own class.",
                )


def check_lengths(rows: Iterable[tuple[int, int]], limit: int, *, room: int = 1) -> None:
    """That every prompt leaves ``room`` tokens for its completion. ``rows`` are (row number, tokens of the prompt).

    A prompt that fills ``limit``, the longest sequence, leaves an empty completion, whose mean log-probability is 0/0:
    one of them turns all weights into NaN. Raises PreflightError ``data.too_long`` with the row numbers.
    """
    long = [(row, tokens) for row, tokens in rows if tokens + room > limit]
    if long:
        listed = ", ".join(f"row {row} ({tokens})" for row, tokens in long[:SHOWN])
        more = f" and {len(long) - SHOWN} more" if len(long) > SHOWN else ""
        raise PreflightError(
            "data.too_long",
            f"{len(long)} prompts leave less than {room} of {limit} tokens for a completion: {listed}{more}",
            "Shorten or remove these rows, or allow more tokens.",
        )


class _Weights(Mapping[str, "Tensor"]):
    """The tensors of a folder's safetensors files, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        import safetensors

        open_file: Any = safetensors.safe_open
        opened = [open_file(path, framework="pt") for path in sorted(folder.glob("*.safetensors"))]
        self._file: dict[str, Any] = {name: file for file in opened for name in file.keys()}  # noqa: SIM118

    def __getitem__(self, name: str) -> Tensor:
        return cast("Tensor", self._file[name].get_tensor(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._file)

    def __len__(self) -> int:
        return len(self._file)


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes()) if path.is_file() else {}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
