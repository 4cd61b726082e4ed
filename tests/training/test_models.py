"""Loading by path and by hub name, and the checks before a training: tokenizer, lengths, memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from windlass.errors import PreflightError
from windlass.training import models
from windlass.training.tensors import digest, load, save

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXTS = [
    "User: what colour is cart 12?",
    "Bot: the cart is red, isn't it?",
    "   two  spaces\nand 1234567 digits\t!",
] * 20
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def byte_level_bpe() -> Any:
    """A tokenizer as people train it: byte-level, split by the GPT-2 expression."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers import models as kinds

    made = Tokenizer(kinds.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<bos>", "<eos>"]
    made.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", padding_side="left"
    )


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 with a tokenizer of its own beside it, as ``save_pretrained`` leaves them."""
    folder = tmp_path_factory.mktemp("qwen2")
    tokenizer = byte_level_bpe()
    torch.manual_seed(0)
    config = transformers.Qwen2Config(vocab_size=len(tokenizer), tie_word_embeddings=True, **SIZES)
    transformers.Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(qwen2: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(qwen2, tmp_path / "copy"))


def refused(code: str, call: Any, *args: Any) -> PreflightError:
    with pytest.raises(PreflightError) as error:
        call(*args)
    assert error.value.code == code and error.value.next_step
    return error.value


# Loading -------------------------------------------------------------------------------------------------------------


def test_a_model_is_loaded_as_it_was_saved(qwen2: Path) -> None:
    model = models.load_model(qwen2)
    assert type(model).__name__ == "Qwen2ForCausalLM" and {p.dtype for p in model.parameters()} == {torch.float32}
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    assert digest(state) == digest(load(qwen2 / "model.safetensors"))
    assert {p.dtype for p in models.load_model(str(qwen2), "bfloat16").parameters()} == {torch.bfloat16}


def test_parameters_are_counted_once_and_by_what_is_trained(qwen2: Path) -> None:
    model = models.load_model(qwen2)
    everything = models.parameters(model)
    assert everything == sum(tensor.numel() for tensor in load(qwen2 / "model.safetensors").values())
    model.model.embed_tokens.weight.requires_grad_(False)
    assert models.parameters(model, trainable=True) == everything - model.model.embed_tokens.weight.numel()


def test_a_tokenizer_is_loaded_as_it_was_saved(qwen2: Path) -> None:
    tokenizer = models.load_tokenizer(qwen2)
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.padding_side) == ("<pad>", "<eos>", "left")
    assert tokenizer(TEXTS[0])["input_ids"] == byte_level_bpe()(TEXTS[0])["input_ids"]


@pytest.mark.parametrize("name", ["{}/no/such", "./nothing", "~/nothing-here", "a/b/c", "{}/file"])
def test_a_path_without_a_model(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    error = refused("model.missing", models.load_model, name.format(tmp_path))
    assert "a model is a folder" in error.message


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    assert "config.json" in refused("model.missing", models.load_model, tmp_path).message
    assert "safetensors" in refused("model.missing", models.base_digest, tmp_path).message


def test_weights_that_are_damaged_or_pickled(copy: Path) -> None:
    weights = copy / "model.safetensors"
    torch.save(load(weights), copy / "pytorch_model.bin")
    weights.unlink()
    refused("model.unreadable", models.load_model, copy)
    weights.write_bytes(b"\0" * 100)
    refused("model.unreadable", models.load_model, copy)


def test_memory_that_runs_out_while_loading_is_no_damage(qwen2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried 10 bytes.")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        models.load_model(qwen2)


def test_a_model_without_a_tokenizer(copy: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).unlink()
    assert "save_pretrained" in refused("tokenizer.missing", models.load_tokenizer, copy).next_step
    (copy / "tokenizer.json").write_text("{}")
    refused("tokenizer.missing", models.load_tokenizer, copy)


@pytest.fixture
def hub(qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A name whose model is in the hub's cache; the hub itself is switched off."""
    from huggingface_hub import constants

    stored = tmp_path / "models--lab--small"
    shutil.copytree(qwen2, stored / "snapshots" / "abc123")
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text("abc123")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return "lab/small"


def test_a_hub_name_is_its_snapshot(hub: str, qwen2: Path) -> None:
    assert models.locate(hub).name == "abc123"
    assert digest(models.load_model(hub).state_dict()) == digest(models.load_model(qwen2).state_dict())
    assert models.load_tokenizer(hub)("a")["input_ids"]
    assert models.base_digest(models.locate(hub)) == models.base_digest(qwen2)


def test_a_hub_name_that_the_hub_does_not_give(hub: str) -> None:
    error = refused("model.missing", models.load_model, "lab/other")
    assert error.message.startswith("there is no model 'lab/other': no such folder, and the hub does not give it: ")


# Identity ------------------------------------------------------------------------------------------------------------


def test_a_base_is_its_content_however_it_was_saved(qwen2: Path, copy: Path) -> None:
    base = models.base_digest(qwen2)
    tensors = load(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    half = len(tensors) // 2
    for number, names in enumerate([list(tensors)[:half], list(tensors)[half:]], 1):
        save(copy / f"model-{number:05d}-of-00002.safetensors", {name: tensors[name] for name in names})
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "_name_or_path": "/x", "transformers_version": "9"}))
    (copy / "README.md").write_text("about")
    assert models.base_digest(copy) == base


@pytest.mark.parametrize("what", ["weights", "config.json", "tokenizer.json"])
def test_another_base_has_another_digest(qwen2: Path, copy: Path, what: str) -> None:
    if what == "weights":
        tensors = load(copy / "model.safetensors")
        tensors["model.norm.weight"] += 1e-3
        save(copy / "model.safetensors", tensors)
    else:
        content = json.loads((copy / what).read_text())
        (copy / what).write_text(json.dumps({**content, "rms_norm_eps": 0.1}))
    assert models.base_digest(copy) != models.base_digest(qwen2)


# Checks --------------------------------------------------------------------------------------------------------------


def test_auto_tokenizer_changes_the_tokens_of_this_model_and_is_refused(qwen2: Path) -> None:
    saved = byte_level_bpe()
    loaded = transformers.AutoTokenizer.from_pretrained(qwen2)  # returns normally
    assert any(loaded(text)["input_ids"] != saved(text)["input_ids"] for text in TEXTS)
    error = refused("tokenizer.changes", models.check_tokenizer, qwen2, TEXTS)
    assert error.message.startswith(f"AutoTokenizer loads {qwen2} as Qwen2Tokenizer, ")
    assert "tokens become" in error.message and "the first difference at position " in error.message


def test_a_tokenizer_that_everybody_loads_alike(qwen2: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(qwen2 / name, tmp_path / name)
    models.check_tokenizer(tmp_path, TEXTS)  # without the model's config beside it
    refused("tokenizer.missing", models.check_tokenizer, tmp_path / "..", TEXTS)


def test_a_llama_with_its_own_tokenizer(tmp_path: Path) -> None:
    tokenizer = byte_level_bpe()
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), **SIZES)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    models.check_tokenizer(tmp_path, TEXTS)


def test_prompts_that_leave_no_room_are_listed_by_row() -> None:
    models.check_lengths([(1, 39), (2, 3)], 40)
    error = refused("data.too_long", models.check_lengths, [(1, 39), (2, 40), (3, 41)], 40)
    assert error.message == (
        "2 prompts leave less than 1 of 40 tokens for a completion: row 2 (40), row 3 (41) [data.too_long]"
    )
    with pytest.raises(PreflightError, match=r"row 20 \(37\) and 5 more"):
        models.check_lengths(((row, 37) for row in range(1, 26)), 40, room=4)


def test_memory_that_is_short() -> None:
    models.check_memory(2**30, 2**30)
    error = refused("memory.short", models.check_memory, 3 * 2**30, 2**29)
    assert "about 3.0 GiB of memory, 0.5 GiB are free" in error.message


def test_the_estimate_grows_with_everything_it_is_given() -> None:
    base = {"parameters": 10**8, "trainable": 10**8, "batch": 8, "tokens": 256, "layers": 8, "hidden": 512}
    start = models.memory_needed(**base, dtype="bfloat16")
    for name in base.keys() - {"parameters", "trainable"}:
        assert models.memory_needed(**{**base, name: 2 * base[name]}, dtype="bfloat16") > start, name
    assert models.memory_needed(**base, dtype="float32") > start
    assert models.memory_needed(**base, dtype="bfloat16", vocabulary=32_000) > start
    assert models.memory_needed(**{**base, "trainable": 10**6}, dtype="bfloat16") < start


def test_the_estimate_of_a_known_model() -> None:
    """25.6 M parameters, 8 x 256 tokens, 8 layers of 512, in 32 bits: 1768 MiB were measured at the peak."""
    needed = models.memory_needed(25_633_280, 25_633_280, 8, 256, "float32", 8, 512, 1024)
    assert 0.95 < needed / (1768 * 2**20) < 1.35
