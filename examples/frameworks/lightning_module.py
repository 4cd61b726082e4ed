"""A Lightning module: what it logs is in the run's journal, at its step.

python examples/frameworks/lightning_module.py
"""

from contextlib import nullcontext

import lightning
import torch

import windlass as wl
from windlass.training.callbacks import main_process
from windlass.training.callbacks.lightning import WindlassLogger


class Sine(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))

    def training_step(self, batch, index):
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.layers(x), y)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, index):
        x, y = batch
        self.log("val_loss", torch.nn.functional.mse_loss(self.layers(x), y))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


def train(run):
    lightning.seed_everything(0)
    x = torch.linspace(-3, 3, 256)[:, None]
    data = torch.utils.data.TensorDataset(x, torch.sin(x))
    batches = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True)
    trainer = lightning.Trainer(
        logger=WindlassLogger(run),
        max_epochs=5,
        log_every_n_steps=4,
        accelerator="auto",
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Sine(), batches, torch.utils.data.DataLoader(data, batch_size=256))


if __name__ == "__main__":
    with wl.start_run(name="lightning") if main_process() else nullcontext() as run:
        train(run)
