"""Small models that are built here: every library reads the folder alike, and the same arguments give the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rlvrjobs import CHARACTERS
from windlass.errors import PreflightError, WindlassError
from windlass.training import environment, llama, models, small, tensors
from windlass.training.rlvr.examine import greedy
from windlass.training.text import SETTINGS, Tokens, padded

TEXTS = ["the cat sat on the mat", "the dog sat on the log", "a cat and a dog"] * 20
SIZES = {"hidden": 16, "layers": 1, "heads": 2, "context": 32}


def test_characters_are_tokens_and_come_back(tmp_path: Path) -> None:
    tokens = Tokens(small.build(tmp_path, characters="ab\n c", **SIZES))
    assert len(tokens) == 9
    assert tokens.decode(tokens.encode("a b\nc")) == "a b\nc"
    assert len(tokens.encode("a b\nc")) == 5
    assert tokens.decode([*tokens.encode("ab"), tokens.end, *tokens.encode("c")]) == "ab"
    assert (tokens.pad, tokens.begin, tokens.end) == (0, 1, 2)


@pytest.mark.parametrize("kind", ["characters", "texts"])
def test_every_library_gives_the_same_token_ids(tmp_path: Path, kind: str) -> None:
    environment.pin(1)
    given = {"characters": sorted(set("".join(TEXTS)))} if kind == "characters" else {"texts": TEXTS}
    folder = small.build(tmp_path, vocabulary=300, **given, **SIZES)
    models.check_tokenizer(folder, TEXTS[:3])
    tokenizer, tokens = models.load_tokenizer(folder), Tokens(folder)
    for text in TEXTS[:3]:
        assert tokenizer(text).input_ids == tokens.encode(text)
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.padding_side) == (tokens.pad, tokens.end, "left")


def test_the_same_arguments_give_the_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    def trained(name: str, seed: int) -> str:
        folder = small.build(tmp_path / name, characters=CHARACTERS, seed=seed, **SIZES)
        small.warm_up(folder, [("1+1=", "2"), "3+4=7"], 5, batch=4, seed=seed)
        return tensors.digest(tensors.load(folder / llama.WEIGHTS))

    torch.manual_seed(1)
    first = trained("one", 1)
    torch.manual_seed(2)  # random numbers of others play no part
    assert trained("two", 1) == first
    assert trained("three", 2) != first


def test_a_warm_up_learns_completions_and_ends_when_told(tmp_path: Path) -> None:
    folder = small.build(tmp_path, characters=CHARACTERS, **SIZES)
    pairs = [("1+1=", "2"), ("2+3=", "5"), ("4+4=", "8")]
    asked: list[int] = []

    def knows(model: llama.Llama, tokens: Tokens) -> bool:
        asked.append(1)
        return greedy(model, tokens, [tokens.encode(prompt) for prompt, _ in pairs], 3) == [a for _, a in pairs]

    steps = small.warm_up(folder, pairs, 500, batch=8, until=knows, every=10)
    assert steps == 10 * len(asked) < 500
    assert knows(llama.load(folder), Tokens(folder))


def test_what_cannot_be_built_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WindlassError, match="characters or learned from texts"):
        small.build(tmp_path)
    with pytest.raises(WindlassError, match="hidden 30 in 4 heads"):
        small.build(tmp_path, characters="ab", hidden=30)
    folder = small.build(tmp_path, characters="ab", **SIZES)
    with pytest.raises(WindlassError, match="no texts"):
        small.warm_up(folder, [], 3)


def test_a_tokenizer_that_is_missing_or_ends_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"tokenizer.missing"):
        Tokens(tmp_path)
    folder = small.build(tmp_path, characters="ab", **SIZES)
    (folder / SETTINGS).write_text("{}")
    config = llama.read_config(folder)
    assert Tokens(folder).end == config["eos_token_id"]  # the model knows it as well
    (folder / llama.CONFIG).write_text("{}")
    with pytest.raises(PreflightError, match=r"tokenizer.no_end"):
        Tokens(folder)


def test_rows_are_padded_on_the_left() -> None:
    assert padded([[5], [6, 7]], 0) == ([[0, 5], [6, 7]], [[0, 1], [1, 1]])
