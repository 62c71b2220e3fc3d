"""What docs/first-steps.md says that newcomers read is what they read."""

from __future__ import annotations

import re

import leyden as ly
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

DATA = TensorDataset(torch.ones(32 * 12, 8), torch.ones(32 * 12, dtype=torch.long))
LOADER = DataLoader(DATA, batch_size=32)


class Net(ly.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 2)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def derived(**attributes):
    return type("Net", (Net,), {"__qualname__": "Net", **attributes})


def step(change):
    return derived(training_step=lambda self, batch, batch_idx: change(Net.training_step(self, batch, batch_idx)))


def log_of_a_validation(self, batch, batch_idx):
    self.log("val/loss", 1.0)


MISTAKES = {
    "`super().__init__()` forgotten": lambda fit: fit(derived(__init__=lambda self: setattr(self, "width", 8))()),
    "`training_step` without `return loss`": lambda fit: fit(step(lambda loss: None)()),
    "`return loss.item()`": lambda fit: fit(step(lambda loss: loss.item())()),
    "a loss of several elements": lambda fit: fit(step(lambda loss: loss.expand(32))()),
    "no `configure_optimizers`": lambda fit: fit(derived(configure_optimizers=ly.Module.configure_optimizers)()),
    "a data set where loaders are due": lambda fit: fit(Net(), DATA),
    "`Trainer(epochs=5)`": lambda fit: fit(Net(), epochs=5),
    "`def on_training_epoch_end(self)`": lambda fit: fit(derived(on_training_epoch_end=lambda self: None)()),
    "early stopping on `val_loss`": lambda fit: fit(
        derived(validation_step=log_of_a_validation)(), callbacks=[{"early_stopping": {"monitor": "val_loss"}}]
    ),
}


def fit(module, loader=LOADER, **options):
    quiet = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    ly.Trainer(**quiet, enable_model_summary=False, **options).fit(module, loader, LOADER)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_as_the_page_says(mistake, pages, capsys):
    (row,) = [row for row in pages["first-steps.md"].rows if row[0] == mistake]
    promised = re.match(r"(``?)(.*?)\1(?!`)", row[1])[2]
    try:
        MISTAKES[mistake](fit)
        said = capsys.readouterr().err
    except (TypeError, ValueError) as error:
        said = str(error)
    assert re.search(".*".join(re.escape(part) for part in promised.split("...")), said), said


def test_every_mistake_on_the_page_is_tried(pages):
    rows = [row[0] for row in pages["first-steps.md"].rows if len(row) == 2][1:]
    told = {"`.cuda()` without a GPU", "`ddp_spawn` in such a script"}  # torch's own; tested with the strategies
    told |= {row for row in rows if row.startswith("workers of a loader that are spawned")}  # Python's own
    assert set(rows) == set(MISTAKES) | told
