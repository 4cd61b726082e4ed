"""For a study's ``trainer.preload``: every run is forked with TRL loaded, which saves it some 5 CPU-seconds.

A fork needs a process with one thread and without CUDA: Arrow's allocator is told not to start a thread of its own, and
torch to ask the driver's library whether there is a GPU. With a GPU this has not been run.
"""

from __future__ import annotations

import os

os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

from windlass.training import environment

environment.pin()

from windlass.training.orpo import program, trl  # noqa: E402, F401
