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


class Values(ly.Module):
    """Logs the samples of its batches, and remembers them and how often it was validated."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen: list[int] = []
        self.validations = 0

    def training_step(self, batch, batch_idx):
        [samples] = batch["own"] if isinstance(batch, dict) else batch
        self.seen += [int(sample) for sample in samples]
        self.log("step", samples.mean(), on_step=True)
        self.log("mean", samples.mean(), on_step=False, on_epoch=True)
        for name in ("sum", "min", "max"):
            self.log(name, getattr(samples, name)(), reduce_fx=name, on_step=False, on_epoch=True)
        if self.global_rank == 0:
            self.log("first", samples.mean(), on_step=False, on_epoch=True, rank_zero_only=True)
        return self.weight * 0.0

    def on_validation_start(self):
        self.validations += 1

    def validation_step(self, batch, batch_idx):
        self.log("validated", batch[0].mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def parts_of_an_epoch(ranked, tmp_path, count, batch_size, make, parts, hook="on_train_batch_end"):
    """Trains an epoch with other numbers of processes one after the other: what all saw, and what the last ones found."""
    numbers = DataLoader(TensorDataset(torch.arange(float(count))), batch_size=batch_size, shuffle=True)
    path = tmp_path / "at.ckpt"
    seen: list[int] = []
    for number, (world_size, batches) in enumerate(parts):

        class Save(ly.Callback):
            had = None

            def on_train_start(self, trainer):
                self.begun = trainer.progress.total_batches

            def save(self, trainer, module, batches=batches):
                if trainer.progress.total_batches - self.begun == batches and not trainer.sanity_checking and self.had is None:
                    self.had = len(module.seen)
                    trainer.save_checkpoint(path)

        setattr(Save, hook, Save.save)

        def fit(environment, number=number, Save=Save):
            save, module = Save(), Values()
            ly.seed_everything(3)
            trainer = ranked(environment, callbacks=[save], log_every_n_steps=1, num_sanity_val_steps=0)
            loader = {"own": numbers, "other": numbers} if make is dict else numbers
            validation = DataLoader(TensorDataset(torch.ones(5)))
            trainer.fit(module, loader, validation, ckpt_path=path if number else None)
            found = {key: float(trainer.callback_metrics[key]) for key in ("mean", "sum", "min", "max", "validated")}
            return module.seen[: save.had], found, module.validations

        ranks = run_ranks(fit, world_size)
        seen += [sample for samples, *_ in ranks for sample in samples]
    return seen, [(found, validations) for _, found, validations in ranks]


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (list, ((3, 2), (2, None))),
        (list, ((2, 5), (5, 4), (3, None))),
        (dict, ((3, 4), (2, 4), (4, None))),
        (list, ((3, 4), (1, None))),
    ],
)
def test_an_epoch_that_others_begin_has_the_values_of_one_process(ranked, tmp_path, make, parts):
    seen, ranks = parts_of_an_epoch(ranked, tmp_path, 60, 1, make, parts)
    assert sorted(seen) == list(range(60))
    expected = {"mean": 29.5, "sum": 1770.0, "min": 0.0, "max": 59.0, "validated": 1.0}
    assert ranks == [(expected, 1)] * parts[-1][0]


@pytest.mark.parametrize(
    ("hook", "validations"),
    [("on_train_batch_end", 1), ("on_validation_start", 1), ("on_validation_end", 0), ("on_train_epoch_end", 0)],
)
@pytest.mark.parametrize("after", [2, 5])
def test_an_epoch_that_others_have_trained_is_only_ended(ranked, tmp_path, hook, validations, after):
    seen, ranks = parts_of_an_epoch(ranked, tmp_path, 9, 4, list, ((3, 1), (after, None)), hook)
    assert sorted(seen) == list(range(9))
    expected = {"mean": 4.0, "sum": 36.0, "min": 0.0, "max": 8.0, "validated": 1.0}
    assert ranks == [(expected, validations)] * after
