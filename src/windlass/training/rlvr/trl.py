"""GRPO by TRL's trainer. Loads trl: call :func:`windlass.training.environment.pin` before this is imported.

The same plan, verifiers, metrics and result as :mod:`windlass.training.rlvr.grpo`, for models and machines that TRL
knows how to train. What Windlass changes of TRL, and nothing else:

- A step's prompts and random numbers depend on the seed and the step alone (they are those of the own loop), so that
  model, optimizer and step are all that a resume needs. Each attempt trains the steps that are left.
- States are saved between steps, never between two updates from the same completions, as safetensors and JSON.
- The sampler's log-probabilities are recorded, and compared with the trainer's.
- Dropout is off: sampler and trainer are one model. A loss that is not finite ends the training at once.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.utils.data import Sampler
from transformers import LogitsProcessor, LogitsProcessorList, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]

import datasets
from windlass.errors import Diverged, Preempted
from windlass.training import models, tensors
from windlass.training.rlvr import policy
from windlass.training.rlvr.examine import Examiner, seed_of
from windlass.training.rlvr.plan import Asked, Course, Examined, Plan, Scores, Tell, Trained
from windlass.training.rlvr.scoring import Judge
from windlass.training.state import TrainingState, flatten, unflatten
from windlass.training.text import Tokens

#: TRL's name of a metric -> Windlass's
LOGGED = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "entropy": "entropy",
    "kl": "kl",
    "completions/clipped_ratio": "clipped_length",
}
SAMPLER = "windlass_sampler"  #: in a batch of TRL: the sampler's log-probabilities


def train(plan: Plan, judge: Judge, checker: Judge, tell: Tell, asked: Asked) -> Trained:
    """As :func:`windlass.training.rlvr.grpo.train`, by TRL."""
    _quiet()
    trainer = Trainer(plan, judge, checker, tell, asked)
    if trainer.course.step < plan.hyper.steps:
        trainer.train()
    return trainer.finish()


class Trainer(GRPOTrainer):
    """TRL's trainer of a plan, from the last saved state where there is one."""

    def __init__(self, plan: Plan, judge: Judge, checker: Judge, tell: Tell, asked: Asked) -> None:
        self._plan, self._judge, self._tell, self._asked = plan, judge, tell, asked
        self._saves = TrainingState(plan.state, plan.identity)
        saved = self._saves.load()
        model, tokenizer = models.load_model(plan.model), models.load_tokenizer(plan.model)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token  # padding is masked, whatever stands there
        tokens = Tokens(plan.model)
        self._decoder = policy.Transformers(model.to(plan.device).eval())
        self._examined = self._decoder if plan.precision == "float32" else policy.Mixed(self._decoder)
        self._base = policy.load(plan.model, plan.device, plan.precision)
        policy.module(self._base).requires_grad_(False)
        self._digest_before = tensors.digest(policy.weights(self._decoder))
        self._examiner = Examiner(plan, tokens, judge, checker)
        self._optimizer_state: Mapping[str, Any] | None = None
        if saved is None:
            self.course = Course()
            self._before = self._examiner.all(self._examined)
            self._tell(0, self._examiner.check(self._examined, self._base, self.course, self._before.checked))
        else:
            self.course = Course.from_json(saved.numbers["course"])
            self._before = Examined(**saved.numbers["before"])
            found = unflatten(saved.tensors, saved.numbers["rest"])
            model.load_state_dict(found["model"], strict=False)  # tied weights are held once
            self._optimizer_state = found["optimizer"]
        self._first = self.course.step
        self._lengths = [len(tokens.encode(plan.prompt(task))) for task in plan.tasks]
        self._scores: Scores = []
        self._drawn = 0  # tokens of the step
        self._now: Tensor | None = None  # log-probabilities of the last forward pass
        self._drift: float | None = None  # of the step
        super().__init__(
            model=model,
            reward_funcs=[self._verify],
            args=arguments(plan, plan.hyper.steps - self._first),
            train_dataset=datasets.Dataset.from_list(rows(plan)),
            processing_class=tokenizer,
            callbacks=[_Watch(self)],
        )
        self.remove_callback(PrinterCallback)  # it prints on stdout
        self._recorder = _Recorder(plan.hyper.temperature)
        generate = model.generate

        def recorded(**given: Any) -> Tensor:
            self._recorder.begin(given["input_ids"].shape[1])
            found: Tensor = generate(**given, logits_processor=LogitsProcessorList([self._recorder]))
            self._recorder.end(found)
            return found

        model.generate = recorded

    def finish(self) -> Trained:
        """Examine what came out, and write it into the scratch folder."""
        self._decoder.model.eval()
        after = self._examiner.all(self._examined)
        if self._asked.now:
            raise Preempted(f"asked to end after all {self._plan.hyper.steps} steps, before the outcome was recorded")
        now, folder = policy.weights(self._decoder), self._plan.scratch / "model"
        del self._decoder.model.generate  # what records the sampler
        policy.save(self._decoder, self._plan.model, folder)
        return Trained(
            course=self.course,
            before=self._before,
            after=after,
            weights=now,
            digest_before=self._digest_before,
            digest_after=tensors.digest(now),
            folder=folder,
        )

    # What TRL calls -----------------------------------------------------------------------------------------------

    def create_optimizer(self, *given: Any) -> Any:
        made = super().create_optimizer(*given)
        if self._optimizer_state is not None:
            assert self.optimizer is not None
            self.optimizer.load_state_dict(dict(self._optimizer_state))
            self._optimizer_state = None
        return made

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        return _Steps(self._plan, self._first)

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        device = self._decoder.device
        torch.manual_seed(seed_of(self._plan.seed, self.course.step))
        found = super()._generate_and_score_completions(inputs)
        width = found["completion_ids"].shape[1]
        found[SAMPLER] = self._recorder.log_probabilities[:, :width].to(device)
        self._drift = None
        return found

    def _get_per_token_logps_and_entropies(self, *given: Any, **named: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(*given, **named)
        self._now = found[0].detach()
        return found

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        loss = super()._compute_loss(model, inputs)  # type: ignore[no-untyped-call]
        if self._drift is None and self._now is not None:
            off = (self._now - inputs[SAMPLER]).abs() * inputs["completion_mask"]
            self._drift = float(off.max())
        return loss

    def _verify(self, completions: list[str], completion_ids: list[list[int]], task: list[int], **_: Any) -> Scores:
        self._scores = self._judge(completions, [self._plan.tasks[number] for number in task])
        self._drawn = sum(map(len, completion_ids)) + sum(self._lengths[number] for number in task)
        return self._scores

    # Between two steps --------------------------------------------------------------------------------------------

    def _ended(self, logs: Mapping[str, Any], seconds: float) -> None:
        """Count the step, check and save. Raises Diverged and Preempted."""
        plan, course = self._plan, self.course
        found = {ours: float(logs[theirs]) for theirs, ours in LOGGED.items() if theirs in logs}
        if not (math.isfinite(found["loss"]) and math.isfinite(found["grad_norm"])):
            raise Diverged(
                f"at step {course.step + 1} the loss is {found['loss']}, the gradient's norm {found['grad_norm']}"
            )
        counted = course.count(self._scores, plan.hyper.generations)
        course.losses.append(found["loss"])
        course.tokens += self._drawn
        course.drift = max(course.drift, self._drift or 0.0)
        metrics = {**counted, **found, "drift": self._drift or 0.0, "tokens": course.tokens}
        if plan.checks_at(course.step):
            self._decoder.model.eval()
            metrics |= self._examiner.check(self._examined, self._base, course)
            self._decoder.model.train()
        self._tell(course.step, {**metrics, "tokens_per_second": self._drawn / seconds})
        asked = self._asked.now
        if plan.saves_at(course.step) or asked:
            self._save_state()
        if asked and course.step < plan.hyper.steps:
            raise Preempted(f"asked to end after step {course.step} of {plan.hyper.steps}; the state is saved")

    def _save_state(self) -> None:
        assert self.optimizer is not None
        held, rest = flatten({"model": policy.weights(self._decoder), "optimizer": self.optimizer.state_dict()})
        self._saves.save(
            self.course.step,
            held,
            {"rest": rest, "course": self.course.to_json(), "before": self._before.to_json()},
        )


class _Steps(Sampler[int]):
    """The prompts of all steps from ``first`` on: each as many times as it has completions, for each update anew."""

    def __init__(self, plan: Plan, first: int) -> None:
        self._plan, self._first = plan, first

    def __len__(self) -> int:
        hyper = self._plan.hyper
        return (hyper.steps - self._first) * hyper.updates * hyper.batch * hyper.generations

    def __iter__(self) -> Iterator[int]:
        hyper = self._plan.hyper
        for step in range(self._first, hyper.steps):
            chosen = self._plan.drawn(step)
            for _ in range(hyper.updates):
                for number in chosen:
                    yield from [number] * hyper.generations


class _Watch(TrainerCallback):
    """Tells the trainer that a step has ended: with ``logging_steps`` = updates, that is when it logs."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._began = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if "loss" in more["logs"]:  # not what the trainer sums up at its end
            self._trainer._ended(more["logs"], time.monotonic() - self._began)
            self._began = time.monotonic()


class _Recorder(LogitsProcessor):
    """Log-probabilities of the tokens that transformers samples, without keeping its logits."""

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self._start = 0
        self._last: Tensor | None = None  # (N, V)
        self._found: list[Tensor] = []

    def begin(self, prompt: int) -> None:
        self._start, self._last, self._found = prompt, None, []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._take(input_ids)
        self._last = torch.log_softmax(scores.float() / self._temperature, -1)
        return scores

    def end(self, ids: Tensor) -> None:
        self._take(ids)
        self._last = None

    def _take(self, ids: Tensor) -> None:
        if self._last is not None:
            self._found.append(self._last.gather(1, ids[:, -1:])[:, 0])

    @property
    def log_probabilities(self) -> Tensor:
        """(N, C)."""
        return torch.stack(self._found, 1)


def arguments(plan: Plan, steps: int, **changed: Any) -> GRPOConfig:
    """TRL's arguments for so many steps of a plan; ``changed`` go over them."""
    hyper, on_gpu = plan.hyper, plan.device != "cpu"
    chosen = {
        "output_dir": str(plan.scratch),
        "max_steps": steps * hyper.updates,
        "per_device_train_batch_size": hyper.batch * hyper.generations,
        "num_generations": hyper.generations,
        "gradient_accumulation_steps": 1,
        "steps_per_generation": 1,
        "num_iterations": hyper.updates,
        "max_completion_length": plan.max_new_tokens,
        "temperature": hyper.temperature,
        "top_k": 0,
        "top_p": 1.0,
        "learning_rate": hyper.learning_rate,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": hyper.max_grad_norm,
        "beta": hyper.kl,
        "use_bias_correction_kl": False,
        "epsilon": hyper.clip,
        "loss_type": "dapo",
        "scale_rewards": "group",
        "disable_dropout": True,
        "seed": plan.seed % 2**32,
        "use_cpu": not on_gpu,
        "bf16": plan.precision == "bfloat16",
        "gradient_checkpointing": False,
        "logging_nan_inf_filter": False,
        "logging_steps": hyper.updates,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": on_gpu,
    }
    with warnings.catch_warnings():  # of an option's new name, which TRL does not know yet
        warnings.simplefilter("ignore", FutureWarning)
        return GRPOConfig(**{**chosen, **changed})


def rows(plan: Plan) -> list[dict[str, Any]]:
    """The tasks as TRL's data."""
    return [{"prompt": plan.prompt(task), "task": number} for number, task in enumerate(plan.tasks)]


def _quiet() -> None:
    """Libraries say what goes wrong, not how far they are."""
    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
