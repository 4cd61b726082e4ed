"""transformers' Trainer: what it logs is in the run's journal, at its step.

    python examples/frameworks/huggingface_trainer.py
    accelerate launch --num_processes 2 --multi_gpu examples/frameworks/huggingface_trainer.py

TRL's trainers take the callback in the same way. ``--multi_gpu`` starts both processes on a machine without GPUs too.
"""

from contextlib import nullcontext

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import windlass as wl
from windlass.training.callbacks import main_process
from windlass.training.callbacks.huggingface import WindlassCallback


class Counting(torch.utils.data.Dataset):
    """Sequences that count upwards, modulo 32."""

    def __len__(self):
        return 256

    def __getitem__(self, index):
        tokens = (torch.arange(16) + index) % 32
        return {"input_ids": tokens, "labels": tokens}


def train(run):
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    arguments = TrainingArguments(
        output_dir="checkpoint",
        max_steps=20,
        per_device_train_batch_size=8,
        learning_rate=3e-3,
        logging_steps=5,
        logging_nan_inf_filter=False,  # else a loss that is NaN is logged as 0
        include_num_input_tokens_seen="all",  # for a budget of tokens
        save_strategy="no",
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
    )
    model = LlamaForCausalLM(LlamaConfig(vocab_size=32, **size))
    Trainer(model, arguments, train_dataset=Counting(), callbacks=[WindlassCallback(run)]).train()


if __name__ == "__main__":
    with wl.start_run(name="huggingface") if main_process() else nullcontext() as run:
        train(run)
