"""ORPO by TRL's trainer. Loads trl: call :func:`windlass.training.environment.pin` before this is imported.

What Windlass changes of it, and nothing else: states are saved as safetensors and JSON where TRL would pickle, SIGTERM
ends it after a step, a loss that is not finite ends it at once, and stdout stays empty. Its weights are those of the
same trainer run bare, to the bit.

TRL's defaults that are switched off: ``disable_dropout`` zeroes LoRA's dropout, ``logging_nan_inf_filter`` reports NaN
as 0. Held-out pairs are scored before TRL seeds its random numbers, and without drawing any.
"""

from __future__ import annotations

import json
import math
import random
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

import datasets
from windlass.errors import Diverged, Preempted, PreflightError
from windlass.training import environment, models, tensors
from windlass.training.orpo.loss import Encoded, encode, score
from windlass.training.orpo.plan import ADAPTER, ADAPTER_CONFIG, BudgetSpent, Plan, Tell, Trained
from windlass.training.state import Saved, TrainingState, flatten, unflatten

#: TRL's name of a metric -> Windlass's; what is logged is of the training pairs
LOGGED = {"loss": "train_loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate"}


class Asked(Protocol):
    @property
    def now(self) -> bool: ...


def load(plan: Plan) -> tuple[Any, Any]:
    """The base model and its tokenizer, by transformers."""
    return models.load_model(plan.model, plan.dtype).to(plan.device), models.load_tokenizer(plan.model)


def train(plan: Plan, tell: Tell, asked: Asked, load: Callable[[Plan], tuple[Any, Any]] = load) -> Trained:
    """Score the held-out pairs, train from the last saved state (if there is one), score them again.

    ``load`` gives the model on its device, with or without LoRA matrices, and the tokenizer. The adapter is left in
    ``plan.adapter``. The same plan gives the same adapter, to the bit, however often it was interrupted.

    Raises Preempted where ``asked`` to end, BudgetSpent where ``plan.seconds`` are over (both with the state saved),
    Diverged, and PreflightError ``resume.changed`` for a state of another training.
    """
    _quiet()
    state = TrainingState(plan.state, plan.identity)
    saved = state.load()
    model, tokenizer = load(plan)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked, whatever stands there
    held_out = encode(tokenizer, plan.held_out, plan.max_length)
    before = _scores(model, held_out, tokenizer, plan)
    trainer = Trainer(plan, model, tokenizer, state, saved, tell, asked)
    start = tensors.digest(trainer.trained)
    trainer.to_the_end()
    after = _scores(trainer.model, held_out, tokenizer, plan)
    if asked.now:
        raise Preempted(f"asked to end after all {plan.steps} steps, before the outcome was recorded")
    _write_adapter(trainer.model, plan.adapter)
    return Trained(
        steps=trainer.state.global_step,
        tokens=trainer.tokens,
        seconds=trainer.seconds,
        curve=trainer.curve,
        notes=trainer.notes,
        before=before,
        after=after,
        digest_before=start,
        digest_after=tensors.digest(trainer.trained),
    )


class Trainer(ORPOTrainer):
    """TRL's trainer of a plan, which goes on from the last saved state where there is one."""

    def __init__(
        self,
        plan: Plan,
        model: Any,
        tokenizer: Any,
        state: TrainingState,
        saved: Saved | None,
        tell: Tell,
        asked: Asked,
    ) -> None:
        self._plan, self._state, self._saved = plan, state, saved
        self._environment = environment.fingerprint()
        self.notes: list[str] = _notes(saved, self._environment) if saved else []
        self.tokens: int = saved.numbers["tokens"] if saved else 0  #: read so far
        self.curve: list[tuple[int, float, float]] = [tuple(point) for point in saved.numbers["curve"]] if saved else []
        self._seconds: float = saved.numbers["seconds"] if saved else 0.0
        self._began: float | None = None
        self._differences: list[Tensor] = []
        self.watch = _Watch(self, tell, asked)
        adapted = isinstance(model, PeftModel)  # by unsloth, which has its own gradient checkpointing
        super().__init__(
            model=model,
            args=arguments(plan, gradient_checkpointing=plan.device != "cpu" and not adapted),
            train_dataset=rows(plan.train),
            processing_class=tokenizer,
            peft_config=None if adapted else lora(plan),
            callbacks=[self.watch],
        )
        self.remove_callback(PrinterCallback)  # it prints on stdout
        _require_dropout(self.model, plan.dropout)

    @property
    def trained(self) -> dict[str, Tensor]:
        """The tensors that are trained, by name."""
        model: Any = self.model
        return {name: value for name, value in model.named_parameters() if value.requires_grad}

    @property
    def seconds(self) -> float:
        """In the training loop so far, over all attempts."""
        return self._seconds + (time.monotonic() - self._began if self._began is not None else 0.0)

    def to_the_end(self) -> None:
        """Raises Preempted and BudgetSpent where that is not reached."""
        self._began = time.monotonic()
        if self._saved is None:
            self.train()
        elif self._saved.step < self._plan.steps:
            folder = Path(self._plan.scratch) / "resumed"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / TRAINER_STATE_NAME).write_text(json.dumps(self._saved.numbers["trainer"]), encoding="utf-8")
            self.train(resume_from_checkpoint=str(folder))
        else:  # TRL would do one step more
            self._load_from_checkpoint("")
            self.state.global_step = self._saved.step
        self._seconds, self._began = self.seconds, None
        done = self.state.global_step
        if done < self._plan.steps and self.watch.out_of_time:
            raise BudgetSpent(
                f"the budget of {self._plan.seconds / 60:g} minutes ended after step {done} of {self._plan.steps}",
                f"Give it more minutes, or ask for at most {done} steps.",
            )
        if done < self._plan.steps and self.watch.asked.now:
            raise Preempted(f"asked to end after step {done} of {self._plan.steps}; the state is saved")

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        self.tokens += int(inputs["chosen_attention_mask"].sum() + inputs["rejected_attention_mask"].sum())
        return super().training_step(model, inputs, num_items_in_batch)

    def odds_ratio_loss(self, policy_chosen_logps: Any, policy_rejected_logps: Any) -> Any:
        self._differences.append((policy_chosen_logps - policy_rejected_logps).detach())
        return super().odds_ratio_loss(policy_chosen_logps, policy_rejected_logps)

    def preferences(self) -> dict[str, float]:
        """Accuracy and margin on the pairs since the last call.

        TRL's own leave pairs out where an epoch ends, and others after a resume.
        """
        differences = torch.cat(self._differences)
        self._differences.clear()
        accuracy, margin = (differences > 0).float().mean(), self.beta * differences.mean()
        return {"train_accuracy": accuracy.item(), "train_margin": margin.item()}

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        optimizer, scheduler = self._optimizer_and_scheduler()
        held, rest = flatten(
            {
                "trained": self.trained,
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "random": _random_states(),
            }
        )
        numbers = {
            "rest": rest,
            "trainer": {**asdict(self.state), "log_history": []},
            "tokens": self.tokens,
            "curve": self.curve,
            "seconds": self.seconds,
            "environment": self._environment,
            "notes": self.notes,
        }
        self._state.save(self.state.global_step, held, numbers)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        found = self._found("trained")
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(found[name])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            optimizer, scheduler = self._optimizer_and_scheduler()
            optimizer.load_state_dict(self._found("optimizer"))
            scheduler.load_state_dict(self._found("scheduler"))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            _set_random_states(self._found("random"))

    def _optimizer_and_scheduler(self) -> tuple[Any, Any]:
        return self.optimizer, self.lr_scheduler

    def _found(self, part: str) -> Any:
        assert self._saved is not None
        return unflatten(self._saved.tensors, self._saved.numbers["rest"])[part]


class _Watch(TrainerCallback):
    """Tells what was logged; stops the trainer after a step, with its state saved."""

    def __init__(self, trainer: Trainer, tell: Tell, asked: Asked) -> None:
        self._trainer, self._tell, self.asked = trainer, tell, asked
        self.out_of_time = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.out_of_time = self._trainer.seconds >= self._trainer._plan.seconds
        if self.asked.now or self.out_of_time:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        logs = more["logs"]
        if "loss" not in logs:  # what the trainer sums up at its end
            return
        found = {ours: float(logs[theirs]) for theirs, ours in LOGGED.items()} | self._trainer.preferences()
        if broken := [f"{name} is {value}" for name, value in found.items() if not math.isfinite(value)]:
            raise Diverged(f"at step {state.global_step} {', '.join(broken)}")
        self._trainer.curve.append((state.global_step, found["train_loss"], found["train_accuracy"]))
        self._tell(state.global_step, {**found, "tokens": self._trainer.tokens})


def arguments(plan: Plan, **changed: Any) -> ORPOConfig:
    """TRL's arguments of a plan; ``changed`` go over them."""
    on_gpu = plan.device != "cpu"
    chosen = {
        "output_dir": plan.scratch,
        "max_steps": plan.steps,
        "per_device_train_batch_size": plan.batch,
        "gradient_accumulation_steps": plan.accumulation,
        "learning_rate": plan.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": plan.warmup,  # below 1 it is a share of the steps
        "max_length": plan.max_length,
        "beta": plan.beta,
        "seed": plan.seed,
        "data_seed": plan.seed,
        "use_cpu": not on_gpu,
        "bf16": plan.dtype == "bfloat16",
        "gradient_checkpointing": False,
        "disable_dropout": False,
        "logging_nan_inf_filter": False,
        "logging_steps": 1,  # so that a resumed training logs the values of an uninterrupted one
        "save_strategy": "steps",
        "save_steps": plan.save_every,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": on_gpu,
    }
    with warnings.catch_warnings():  # of an option's new name, which TRL does not know yet
        warnings.simplefilter("ignore", FutureWarning)
        found = ORPOConfig(**{**chosen, **changed})
    found._n_gpu = min(found.n_gpu, 1)  # of several, TRL would take all, each with a batch of its own
    return found


def lora(plan: Plan) -> LoraConfig:
    """On every linear layer but the output."""
    return LoraConfig(
        r=plan.rank,
        lora_alpha=plan.alpha,
        lora_dropout=plan.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def rows(texts: Iterable[tuple[str, str, str]]) -> datasets.Dataset:
    names = ("prompt", "chosen", "rejected")
    return datasets.Dataset.from_list([dict(zip(names, text, strict=True)) for text in texts])


def _scores(model: Any, held_out: list[Encoded], tokenizer: Any, plan: Plan) -> list[tuple[float, ...]]:
    return [astuple(found) for found in score(model, held_out, tokenizer.pad_token_id, plan.batch)]


def _require_dropout(model: Any, wanted: float) -> None:
    found = {m.p for name, m in model.named_modules() if "lora_dropout" in name and isinstance(m, torch.nn.Dropout)}
    if found != ({wanted} if wanted else set()):
        raise PreflightError(
            "training.dropout",
            f"a dropout of {wanted:g} was asked for, the LoRA layers have {sorted(found) or 'none'}",
            "The backend changes it; set dropout to what it allows.",
        )


def _write_adapter(model: Any, folder: Path) -> None:
    """As PEFT does, but with sets in order: equal adapters are equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors.save(folder / ADAPTER, get_peft_model_state_dict(model), {"format": "pt"})
    config = model.peft_config["default"].to_dict()
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
    text = json.dumps({**plain, "inference_mode": True}, indent=2, sort_keys=True)
    (folder / ADAPTER_CONFIG).write_text(text, encoding="utf-8")


def _notes(saved: Saved, now: Mapping[str, str]) -> list[str]:
    """Those of the attempts before, and what is no longer as it was in them."""
    was = saved.numbers["environment"]
    changed = [
        f"{name} was {was.get(name, 'not there')}, is {now.get(name, 'not there')}"
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name)
    ]
    words = f"went on after step {saved.step} in another environment, so not to the bit: {'; '.join(changed)}"
    notes: list[str] = saved.numbers["notes"]
    return [*notes, words] if changed else notes


def _random_states() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    found = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state_all()
    return found


def _set_random_states(found: Mapping[str, Any]) -> None:
    random.setstate(found["python"])
    kind, keys, *rest = found["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(found["torch"])
    if "cuda" in found:
        torch.cuda.set_rng_state_all(found["cuda"])


def _quiet() -> None:
    """Libraries say what goes wrong, not how far they are."""
    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
