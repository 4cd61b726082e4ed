"""Trainers that run inside jobs: ORPO, RLVR, and what every training needs. The only place that imports torch.

orpo/ rlvr/     the two trainers
tensors.py      digest, finite, save and load of named tensors (safetensors alone)
state.py        what a new attempt goes on from: atomic, verified, refused where data or config have changed
preemption.py   SIGTERM as a flag
health.py       the checks that a training has to pass before its checkpoint counts
environment.py  telemetry off, threads, determinism; the fingerprint of what the training ran on
models.py       loading and preflight: tokenizer, lengths, memory
callbacks/      metrics of other frameworks' trainers in the journal
llama.py small.py text.py   small models that are built here, on torch and tokenizers alone
"""
