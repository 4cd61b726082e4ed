"""A plan in the environment of unsloth: started by :func:`windlass.training.orpo.unsloth.train`, with its Python.

Of Windlass this loads only what the standard library and that environment can carry. Every line on the stdout that it
was started with is a JSON object: ``{"step", "metrics"}``, and last ``{"trained"}`` or ``{"failed"}``. What libraries
print goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from windlass.errors import PreflightError, WindlassError
from windlass.records.run import FailureKind
from windlass.runs.failure import describe_failure
from windlass.training import environment
from windlass.training.orpo.plan import Plan
from windlass.training.preemption import Preemption


def main(plan_file: str) -> NoReturn:
    channel = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)

    def say(**message: Any) -> None:
        channel.write(json.dumps(message) + "\n")

    def tell(step: int, metrics: Mapping[str, float]) -> None:
        say(step=step, metrics=dict(metrics))

    with Preemption() as asked:
        try:
            plan = Plan.from_dict(json.loads(Path(plan_file).read_text(encoding="utf-8")))
            environment.pin(plan.threads)
            importlib.import_module("unsloth")  # before trl, which it patches
            from windlass.training.orpo import trl

            say(trained=trl.train(plan, tell, asked, load).to_dict())
        except BaseException as error:
            traceback.print_exc()
            say(failed=_described(error))
            sys.exit(error.exit_code if isinstance(error, WindlassError) else 1)
    sys.exit(0)


def load(plan: Plan) -> tuple[Any, Any]:
    """The base model with its LoRA matrices, by unsloth; and the tokenizer as it was saved."""
    import torch

    from windlass.training import models

    fast = importlib.import_module("unsloth").FastLanguageModel
    model, _ = fast.from_pretrained(
        model_name=plan.model,
        max_seq_length=plan.max_length,
        dtype=getattr(torch, plan.dtype),
        load_in_4bit=plan.four_bit,
    )
    model = fast.get_peft_model(
        model,
        r=plan.rank,
        lora_alpha=plan.alpha,
        lora_dropout=plan.dropout,
        bias="none",
        use_gradient_checkpointing="unsloth",
        random_state=plan.seed,
    )
    return model, models.load_tokenizer(plan.model)


def _described(error: BaseException) -> dict[str, str]:
    failure = describe_failure(error)
    code = error.code if isinstance(error, PreflightError) else ""
    return {
        "kind": "MemoryError" if failure.kind is FailureKind.OUT_OF_MEMORY else type(error).__name__,
        "message": failure.message.removesuffix(f" [{code}]"),
        "code": code,
        "next_step": getattr(error, "next_step", ""),
    }
