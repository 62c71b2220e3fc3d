"""A run of several ranks goes on exactly where its checkpoint was taken."""

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


@pytest.mark.parametrize(
    ("world_size", "batches", "accumulated"),
    # The sum of three numbers depends on their order, and so on where DDP has them in its buckets.
    [(2, 4, 1), (2, 6, 1), (2, 2, 2), (2, 3, 2), (2, 5, 4), (3, 1, 1), (3, 3, 1), (3, 1, 3), (3, 6, 2), (5, 2, 1)],
)
def test_a_run_of_several_ranks_resumes_to_the_same_bits(ranked, tmp_path, world_size, batches, accumulated):
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

    ranks = run_ranks(fit, world_size)
    assert ranks[0][0] != ranks[1][0]
    assert all(other[2] == ranks[0][2] for other in ranks)
    for whole, again, weights, resumed, logged, relogged in ranks:
        assert again == whole[batches:]
        assert weights == resumed
        assert logged == relogged


@pytest.mark.parametrize(("before", "after", "batches"), [(2, 1, 3), (1, 2, 4), (2, 3, 3), (3, 2, 2)])
def test_another_number_of_ranks_goes_on_in_the_middle_of_an_epoch_with_the_samples_that_are_left(
    ranked, tmp_path, before, after, batches
):
    class Sees(Noisy):
        def training_step(self, batch, batch_idx):
            self.losses += [int(sample) for sample in batch[0][:, 0]]
            return super().training_step(batch, batch_idx) * 0.0

    class Save(ly.Callback):
        def on_train_batch_end(self, trainer, module):
            if trainer.progress.total_batches == batches:
                self.seen = [sample for sample in module.losses if type(sample) is int]
                trainer.save_checkpoint(tmp_path / "at.ckpt")

    numbers = TensorDataset(torch.arange(36.0).reshape(36, 1).repeat(1, 3))

    def loader():
        return DataLoader(numbers, batch_size=2, shuffle=True)

    def first(environment):
        save = Save()
        ly.seed_everything(3)
        ranked(environment, callbacks=[save]).fit(Sees(), loader())
        return save.seen

    def second(environment):
        module = Sees()
        ranked(environment).fit(module, loader(), ckpt_path=tmp_path / "at.ckpt")
        return [sample for sample in module.losses if type(sample) is int]

    seen = [sample for samples in run_ranks(first, before) for sample in samples]
    left = [sample for samples in run_ranks(second, after) for sample in samples]
    assert len(seen) == before * batches * 2
    assert sorted(seen + left) == list(range(36))
