"""The own ORPO loss beside TRL's: the same rows, the same loss to seven digits, the same failure where TRL fails."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orpojobs import build_base, pairs, plan, texts
from windlass.training import environment, models
from windlass.training.orpo.loss import Likelihoods, Score, collate, encode, likelihoods, loss_of, orpo_loss, score

LIMIT = 30  #: cuts some completions
BETA = 0.3


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def model(base: Path) -> Any:
    return models.load_model(base)


@pytest.fixture(scope="module")
def trainer(base: Path, model: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """TRL's own, with the same 16 pairs to train and to evaluate on."""
    environment.pin()
    from trl.experimental.orpo import ORPOTrainer

    from windlass.training.orpo import trl

    made = plan(tmp_path_factory.mktemp("trl"), base, max_length=LIMIT, beta=BETA)
    rows = trl.rows(texts(pairs(16, seed=3)))
    arguments = trl.arguments(made, per_device_eval_batch_size=16)
    return ORPOTrainer(model, arguments, None, rows, rows, models.load_tokenizer(base))


def test_rows_are_those_of_trl(trainer: Any) -> None:
    ours = encode(trainer.processing_class, texts(pairs(16, seed=3)), LIMIT)
    for pair, theirs in zip(ours, trainer.train_dataset, strict=True):
        for row, name in ((pair.chosen, "chosen"), (pair.rejected, "rejected")):
            assert list(row.ids) == theirs[f"{name}_input_ids"]
            assert [-100] * row.prompt + list(row.ids[row.prompt :]) == theirs[f"{name}_labels"]
    assert any(pair.chosen.cut for pair in ours)
    assert not all(pair.chosen.cut for pair in ours)
    assert ours[0].tokens == len(ours[0].chosen.ids) + len(ours[0].rejected.ids)


def test_rows_whose_prompt_merges_with_the_completion_are_those_of_trl(trainer: Any) -> None:
    """A text cut in two anywhere, also within a token; what TRL refuses is known for it."""
    whole, merged, torn = "User: what color is the cart?\nBot: Of course! The cart is obviously red.", 0, 0
    for cut, size in itertools.product(range(1, len(whole) - 1), (1, 2, 4, 99)):
        text = (whole[:cut], whole[cut : cut + size], " " + whole[cut:])
        (ours,) = encode(trainer.processing_class, [text], LIMIT)
        try:
            theirs = trainer.tokenize_row(dict(zip(("prompt", "chosen", "rejected"), text, strict=True)))
        except ValueError:
            torn += 1
            assert ours.torn
            continue
        assert not ours.torn
        merged += ours.merged
        for row, name in ((ours.chosen, "chosen"), (ours.rejected, "rejected")):
            assert list(row.ids) == theirs[f"{name}_input_ids"]
            assert row.prompt == theirs[f"{name}_labels"].count(-100)
    assert merged > 10
    assert torn > 10


def test_the_loss_is_that_of_trl_to_seven_digits(trainer: Any, model: Any) -> None:
    theirs = trainer.evaluate()
    tokenizer = trainer.processing_class
    batch = collate(encode(tokenizer, texts(pairs(16, seed=3)), LIMIT), tokenizer.pad_token_id)
    with torch.no_grad():
        found = likelihoods(model(input_ids=batch.ids, attention_mask=batch.mask).logits, batch)
    assert orpo_loss(found, BETA).item() == pytest.approx(theirs["eval_loss"], rel=1e-7)
    assert found.chosen.mean().item() == pytest.approx(theirs["eval_logps/chosen"], rel=1e-6)
    assert (found.nll.sum() / found.tokens.sum()).item() == pytest.approx(theirs["eval_nll_loss"], rel=1e-6)
    scores = score(model, encode(tokenizer, texts(pairs(16, seed=3)), LIMIT), tokenizer.pad_token_id, 16)
    assert loss_of(scores, BETA) == pytest.approx(theirs["eval_loss"], rel=1e-7)
    assert np.mean([s.preferred for s in scores]) == theirs["eval_rewards/accuracies"]
    assert np.mean([s.margin(BETA) for s in scores]) == pytest.approx(theirs["eval_rewards/margins"], rel=1e-5)


def test_gradients_are_those_of_trl(trainer: Any, model: Any) -> None:
    tokenizer, rows = trainer.processing_class, trainer.train_dataset
    theirs, _ = trainer.get_batch_loss_metrics(model, trainer.data_collator([rows[i] for i in range(4)]))
    theirs.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    batch = collate(encode(tokenizer, texts(pairs(16, seed=3)[:4]), LIMIT), tokenizer.pad_token_id)
    orpo_loss(likelihoods(model(input_ids=batch.ids, attention_mask=batch.mask).logits, batch), BETA).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-4, atol=1e-6)
    model.zero_grad()


def test_scores_depend_neither_on_the_batch_nor_on_the_mode_and_draw_nothing(base: Path, model: Any) -> None:
    tokenizer = models.load_tokenizer(base)
    encoded = encode(tokenizer, texts(pairs(9)), LIMIT)
    model.train()
    torch.manual_seed(5), random.seed(5)
    states = torch.get_rng_state(), random.getstate()
    one, other = (score(model, encoded, tokenizer.pad_token_id, size) for size in (9, 2))
    assert model.training
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    for a, b in zip(one, other, strict=True):
        assert (a.chosen, a.rejected, a.nll) == pytest.approx((b.chosen, b.rejected, b.nll), rel=1e-5)
        assert a.tokens == b.tokens
    model.eval()


def test_a_completion_without_a_token_makes_the_loss_nan(base: Path, model: Any) -> None:
    tokenizer = models.load_tokenizer(base)
    rows = texts(pairs(4))
    limit = len(encode(tokenizer, rows, 999)[0].chosen.ids[: encode(tokenizer, rows, 999)[0].prompt])
    encoded = encode(tokenizer, rows, limit)
    assert len(encoded[0].chosen.ids) == encoded[0].chosen.prompt
    batch = collate(encoded, tokenizer.pad_token_id)
    with torch.no_grad():
        found = likelihoods(model(input_ids=batch.ids, attention_mask=batch.mask).logits, batch)
    assert orpo_loss(found, BETA).isnan()


@given(st.floats(-30, -1e-9), st.floats(-30, -1e-9))
def test_log_odds_hold_over_the_whole_range(chosen: float, rejected: float) -> None:
    """Against the definition, with Python's floats; and a preferred chosen completion lowers the loss."""

    def log_odds(log_p: float) -> float:
        return log_p - math.log(-math.expm1(log_p))

    of = [torch.tensor([value], dtype=torch.float64) for value in (chosen, rejected, 0.0, 1.0)]
    difference = log_odds(chosen) - log_odds(rejected)
    wanted = math.log1p(math.exp(-abs(difference))) + max(0.0, -difference)
    assert orpo_loss(Likelihoods(*of), 1.0).item() == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_a_tie_is_no_preference() -> None:
    assert not Score(-1.0, -1.0, 1.0, 1).preferred
    assert Score(-1.0, -1.1, 1.0, 1).preferred
