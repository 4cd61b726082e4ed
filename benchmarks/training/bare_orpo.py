"""The ORPO training of ``overhead.py`` as a script of its own: TRL and nothing of Windlass. Prints one JSON object.

python bare_orpo.py '{"base": ..., "train": ..., "held_out": ..., "out": ..., "steps": ..., ...}'
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from datasets import Dataset

given = json.loads(sys.argv[1])
torch.set_num_threads(1)


def rows(path: str) -> Dataset:
    with open(path) as file:
        pairs = [json.loads(line) for line in file]
    return Dataset.from_list([{key: pair[key] for key in ("prompt", "chosen", "rejected")} for pair in pairs])


arguments = ORPOConfig(
    output_dir=given["out"],
    max_steps=given["steps"],
    per_device_train_batch_size=given["batch"],
    per_device_eval_batch_size=given["batch"],
    gradient_accumulation_steps=given["accumulation"],
    learning_rate=given["learning_rate"],
    lr_scheduler_type="cosine",
    warmup_steps=given["warmup"],
    max_length=given["max_length"],
    beta=given["beta"],
    seed=given["seed"],
    data_seed=given["seed"],
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    disable_dropout=False,
    logging_steps=given["logging_steps"],
    save_steps=given["save_every"],
    report_to="none",
    disable_tqdm=True,
    dataloader_pin_memory=False,
)
trainer = ORPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(given["base"], dtype=torch.float32),
    args=arguments,
    train_dataset=rows(given["train"]),
    eval_dataset=rows(given["held_out"]),
    processing_class=PreTrainedTokenizerFast.from_pretrained(given["base"]),
    peft_config=LoraConfig(
        r=given["rank"],
        lora_alpha=given["alpha"],
        lora_dropout=given["dropout"],
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    ),
)
before = trainer.evaluate()
wall, cpu = time.perf_counter(), time.process_time()
trainer.train()
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
after = trainer.evaluate()
trainer.save_model(given["out"] + "/adapter")
accuracy = [found["eval_rewards/accuracies"] for found in (before, after)]
print(json.dumps({"loop_wall": wall, "loop_cpu": cpu, "accuracy": accuracy}))
