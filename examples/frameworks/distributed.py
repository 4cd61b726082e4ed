"""Several processes that train one model: the first one logs, and all of them end with the job.

torchrun --standalone --nproc-per-node 2 examples/frameworks/distributed.py
"""

from contextlib import nullcontext

import torch
import torch.distributed as dist

import windlass as wl
from windlass.training.callbacks import main_process


def train(run):
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = torch.Generator().manual_seed(dist.get_rank())  # each process has its own
    for step in range(20):
        x = torch.randn(16, 8, generator=data)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = loss.detach()
        dist.all_reduce(mean, dist.ReduceOp.SUM)
        if run is not None:
            run.log(step=step, loss=mean / dist.get_world_size())
    dist.destroy_process_group()


if __name__ == "__main__":
    with wl.start_run(name="distributed") if main_process() else nullcontext() as run:
        train(run)
