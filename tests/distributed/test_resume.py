"""A run of two ranks goes on exactly where its checkpoint was taken."""

from __future__ import annotations

import leyden as ly
import pytest
import torch
from leyden.testing import run_ranks
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Noisy(ly.Module):
    """Draws random numbers in each step, and remembers its losses."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.losses: list[float] = []

    def training_step(self, batch, batch_idx):
        loss = self.net(batch[0]).square().mean()
        self.losses.append(float(loss.detach()))
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


def data():
    return DataLoader(TensorDataset(torch.randn(36, 3, generator=torch.Generator().manual_seed(1))), batch_size=3, shuffle=True)


@pytest.mark.parametrize(("batches", "accumulated"), [(4, 1), (6, 1), (2, 2), (3, 2), (5, 4)])
def test_a_run_of_two_ranks_resumes_to_the_same_bits(ranked, tmp_path, batches, accumulated):
    class Save(ly.Callback):
        def on_train_batch_end(self, trainer):
            if trainer.progress.total_batches == batches:
                trainer.save_checkpoint(tmp_path / "at.ckpt")

    def fit(environment):
        options = {"max_epochs": 3, "accumulate_grad_batches": accumulated, "log_every_n_steps": 1}
        ly.seed_everything(3)
        whole = Noisy()
        first = ranked(environment, callbacks=[Save()], **options)
        first.fit(whole, data())
        torch.manual_seed(99)
        again = Noisy()
        second = ranked(environment, **options)
        second.fit(again, data(), ckpt_path=tmp_path / "at.ckpt")
        weights = [p.detach().tolist() for p in whole.parameters()], [p.detach().tolist() for p in again.parameters()]
        return whole.losses, again.losses, *weights, first.logged_metrics, second.logged_metrics

    ranks = run_ranks(fit)
    assert ranks[0][0] != ranks[1][0]
    assert ranks[0][2] == ranks[1][2]
    for whole, again, weights, resumed, logged, relogged in ranks:
        assert again == whole[batches:]
        assert weights == resumed
        assert logged == relogged
