"""A plain PyTorch loop that can be ended at any step and goes on from there, to the bit.

python examples/frameworks/plain_loop.py

As a job of a study, it is started again by the lab after a preemption; its first step is then the one after the last.
"""

import sys

import torch

import windlass as wl
from windlass.errors import Preempted
from windlass.training import health, tensors
from windlass.training.preemption import Preemption
from windlass.training.state import TrainingState, flatten, unflatten

STEPS = 200


def train(run):
    torch.manual_seed(run.seed)
    x = torch.linspace(-3, 3, 256)[:, None]
    model = torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    before = tensors.digest(model.state_dict())
    first, losses = 0, []

    state = TrainingState(run.folder.state, {"config": str(dict(run.config)), "steps": str(STEPS)})
    if saved := state.load():
        tree = unflatten(saved.tensors, saved.numbers["rest"])
        model.load_state_dict(tree["model"])
        optimizer.load_state_dict(tree["optimizer"])
        first = saved.step

    with Preemption() as asked:
        for step in range(first, STEPS):
            batch = torch.randint(256, (32,), generator=torch.Generator().manual_seed(run.seed * 1_000_003 + step))
            loss = torch.nn.functional.mse_loss(model(x[batch]), torch.sin(x[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            run.log(step=step, loss=losses[-1])
            stop = asked.now
            if stop or (step + 1) % 50 == 0:
                trained, rest = flatten({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
                state.save(step + 1, trained, {"rest": rest})
            if stop:
                raise Preempted(f"asked to end; step {step} and its state are done")

    health.require(
        [
            health.finite_weights(model.state_dict()),
            health.weights_changed(before, tensors.digest(model.state_dict())),
            health.loss_finite(losses),
        ]
    )
    tensors.save(run.checkpoint_dir / "model.safetensors", model.state_dict())


if __name__ == "__main__":
    try:
        with wl.start_run(name="sine") as run:
            train(run)
    except Preempted as preempted:
        print(preempted, file=sys.stderr)
        sys.exit(preempted.exit_code)
