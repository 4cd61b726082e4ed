"""Small models built here, for demos and tests: a Llama and its tokenizer in a folder that every library can load.

    build(folder, characters="0123456789+=", hidden=64, layers=2, heads=4, context=32)
    warm_up(folder, [("1+1=", "2"), ...], steps=300)

A text is learned whole; of a pair (prompt, completion) only the completion is. The same arguments give the same bits on
one machine: a step's random numbers depend on the seed and the step alone.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from windlass.errors import Diverged, WindlassError
from windlass.training import llama
from windlass.training.text import SETTINGS, TOKENIZER, Tokens

PAD, BEGIN, END, UNKNOWN = SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
_NOT_LEARNED = -100  #: torch's ignore_index
#: a text, or a prompt and its completion
Text = str | tuple[str, str]


def build(
    folder: Path,
    *,
    characters: Iterable[str] | None = None,
    texts: Iterable[str] | None = None,
    vocabulary: int = 512,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int | None = None,
    inner: int | None = None,
    context: int = 64,
    seed: int = 0,
) -> Path:
    """A fresh model: ``config.json``, ``model.safetensors``, ``tokenizer.json``, ``tokenizer_config.json``.

    The tokens are ``characters``, or byte-level BPE of at most ``vocabulary`` tokens learned from ``texts``.
    ``inner``, the width of the feed-forward part, is 4 hidden by default. Returns the folder.

    Raises WindlassError where not exactly one of ``characters`` and ``texts`` is given, or sizes do not fit.
    """
    if (characters is None) == (texts is None):
        raise WindlassError(
            "a small model's tokens are either its characters or learned from texts", "Give one of them."
        )
    if hidden % heads or (hidden // heads) % 2 or heads % (kv_heads or heads):
        raise WindlassError(
            f"hidden {hidden} in {heads} heads with {kv_heads or heads} key heads: hidden / heads has to be whole and"
            " even, heads / key heads whole"
        )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _characters(characters) if characters is not None else _bpe(texts or (), vocabulary)
    tokenizer.save(str(folder / TOKENIZER))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "bos_token": BEGIN,
        "eos_token": END,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
    }
    if characters is not None:
        settings["unk_token"] = UNKNOWN
    _write(folder / SETTINGS, settings)
    shape = llama.Shape(
        vocabulary=tokenizer.get_vocab_size(),
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads or heads,
        inner=inner or 4 * hidden,
        context=context,
        pad=tokenizer.token_to_id(PAD),
    )
    ids = {"bos_token_id": tokenizer.token_to_id(BEGIN), "eos_token_id": tokenizer.token_to_id(END)}
    _write(folder / llama.CONFIG, shape.config(**ids))
    llama.save(llama.Llama(shape).initialise(seed), folder)
    return folder


def warm_up(
    folder: Path,
    texts: Sequence[Text],
    steps: int,
    *,
    batch: int = 64,
    learning_rate: float = 3e-3,
    seed: int = 0,
    until: Callable[[llama.Llama, Tokens], bool] | None = None,
    every: int = 50,
) -> int:
    """Supervised training of the model in a folder, which then holds the trained one. Returns the steps taken.

    AdamW, betas 0.9 and 0.98, weight decay 0.01, gradients clipped to norm 1; the learning rate falls to 0 in a line.
    ``until`` is asked after every ``every`` steps, and ends it where it says so.

    Raises Diverged where the loss is not finite, WindlassError for no texts.
    """
    if not texts:
        raise WindlassError("there are no texts to warm up on")
    tokens, model = Tokens(folder), llama.load(folder)
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    known: dict[int, tuple[list[int], list[int]]] = {}
    step = 0
    for step in range(1, steps + 1):
        draw = random.Random(f"{seed}/{step}")
        chosen = [draw.randrange(len(texts)) for _ in range(batch)]
        for number in chosen:
            if number not in known:
                known[number] = _ids(texts[number], tokens)
        ids, labels = _padded([known[number] for number in chosen], tokens.pad)
        loss = F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=_NOT_LEARNED)
        if not torch.isfinite(loss):
            raise Diverged(f"the warm-up's loss is {loss.item()} at step {step}")
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - (step - 1) / steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if until is not None and step % every == 0 and until(model, tokens):
            break
    llama.save(model, folder)
    return step


def _ids(text: Text, tokens: Tokens) -> tuple[list[int], list[int]]:
    """A text's ids and labels, with the token that ends it."""
    prompt, completion = ("", text) if isinstance(text, str) else text
    before = tokens.encode(prompt) if prompt else [] if tokens.begin is None else [tokens.begin]
    after = [*tokens.encode_plain(completion), tokens.end]
    return before + after, [_NOT_LEARNED] * len(before) + after


def _padded(rows: Sequence[tuple[list[int], list[int]]], pad: int) -> tuple[Tensor, Tensor]:
    """Padded on the right, where no token sees it."""
    most = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [pad] * (most - len(ids)) for ids, _ in rows])
    return ids, torch.tensor([labels + [_NOT_LEARNED] * (most - len(labels)) for _, labels in rows])


def _characters(characters: Iterable[str]):  # type: ignore[no-untyped-def]
    """A token a character; any other one is ``<unk>``."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *dict.fromkeys(characters)))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def _bpe(texts: Iterable[str], vocabulary: int):  # type: ignore[no-untyped-def]
    """Byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909, on bytes as in GPT-2)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(SPECIAL[:3]),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
