"""Of several processes that train one model, the first one logs: the rule, in one place."""

from __future__ import annotations

import os
import sys

#: set by torchrun and accelerate; by MPI
GLOBAL_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


def main_process() -> bool:
    """Whether this is the process that logs: rank 0, or the only one.

    By ``torch.distributed`` where it is set up, else by what the launcher put into the environment.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return bool(distributed.get_rank() == 0)
    for name in GLOBAL_RANKS:
        if name in os.environ:
            return os.environ[name] == "0"
    if "LOCAL_RANK" in os.environ:  # Lightning's own launcher sets these two
        return os.environ["LOCAL_RANK"] == "0" and os.environ.get("NODE_RANK", "0") == "0"
    return os.environ.get("SLURM_PROCID", "0") == "0"
