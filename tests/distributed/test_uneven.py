"""Ranks with different amounts of training data: every policy ends, on every rank, with the same weights."""

from __future__ import annotations

import leyden as ly
import pytest
import torch
from leyden.testing import run_ranks
from torch.utils.data import DataLoader

from tests.distributed.test_gradients import ROUNDING, Line, batches, weights


class Stream:
    """Does not say how many batches it has."""

    def __init__(self, data):
        self.data = data

    def __iter__(self):
        return iter(self.data)


class Logs(Line):
    """Logs, and remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.given = []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.given.append(batch_idx)
        self.log("loss", loss.detach(), on_step=True, on_epoch=True)
        self.log("batches", 1.0, on_epoch=True, on_step=False, reduce_fx="sum")
        return loss


def trained(ranked, counts, policy, make=Stream, **options):
    data = [batches(count, seed=rank) for rank, count in enumerate(counts)]

    def fit(environment):
        module = Logs()
        strategy = {"ddp": {"uneven": policy}}
        trainer = ranked(environment, strategy=strategy, log_every_n_steps=1, use_distributed_sampler=False, **options)
        trainer.fit(module, make(data[environment.rank]))
        steps = list(trainer.history["loss_step"])
        return weights(module), trainer.global_step, len(module.given), trainer.callback_metrics.get("batches"), steps

    found = run_ranks(fit, len(counts))
    assert all(other[0] == found[0][0] for other in found)
    assert all(other[1] == found[0][1] for other in found)
    return data, found


def by_hand(data, steps, batch_of):
    """Steps by the mean over the ranks that have a batch; ``batch_of(rank, step)`` is its index or None."""
    model = Line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        chosen = [(rank, batch_of(rank, step)) for rank in range(len(data))]
        losses = [(model.net(data[rank][index]) ** 2).mean() for rank, index in chosen if index is not None]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    return weights(model)


@pytest.mark.parametrize("policy", [None, "stop"])
@pytest.mark.parametrize("make", [Stream, list])
def test_all_stop_with_the_first_that_has_no_more(ranked, policy, make):
    data, found = trained(ranked, (3, 7), policy, make)
    assert [steps for _, steps, *_ in found] == [3, 3]
    assert found[0][0] == pytest.approx(by_hand(data, 3, lambda rank, step: step), abs=ROUNDING)


def test_whoever_has_no_more_begins_again(ranked):
    data, found = trained(ranked, (3, 7), "wrap")
    assert [(steps, given) for _, steps, given, *_ in found] == [(7, 7)] * 2
    assert found[0][0] == pytest.approx(by_hand(data, 7, lambda rank, step: step % (3, 7)[rank]), abs=ROUNDING)


def test_whoever_has_no_more_joins_the_steps_of_the_others_without_weight(ranked):
    counts = (0, 3, 7)
    data, found = trained(ranked, counts, "join")
    assert [(steps, given) for _, steps, given, *_ in found] == [(7, 0), (7, 3), (7, 7)]
    assert found[0][0] == pytest.approx(by_hand(data, 7, lambda rank, step: step if step < counts[rank] else None), abs=ROUNDING)
    assert [float(batches) for *_, batches, _ in found] == [10.0] * 3
    # A rank without a batch records what the others logged: rank 0 has the loggers.
    assert [len(steps) for *_, steps in found] == [7] * 3
    assert found[0][-1] == found[1][-1] == found[2][-1]


def test_a_rank_without_any_batch_joins_in_every_epoch(ranked):
    _, found = trained(ranked, (0, 2, 1), "join", list, max_epochs=3)
    assert [(steps, given) for _, steps, given, *_ in found] == [(6, 0), (6, 6), (6, 3)]


@pytest.mark.parametrize("policy", ["stop", "wrap"])
def test_a_rank_without_any_batch_is_named_on_all_ranks_where_it_cannot_join(ranked, policy):
    def fit(environment):
        trainer = ranked(environment, strategy={"ddp": {"uneven": policy}}, use_distributed_sampler=False)
        with pytest.raises(ValueError) as raised:
            trainer.fit(Logs(), batches([2, 0, 3][environment.rank]))
        return str(raised.value)

    assert run_ranks(fit, 3) == ["train_dataloaders is empty on rank 1: it has no batch to train on"] * 3


class Validates(Logs):
    """Remembers when it was validated."""

    def __init__(self):
        super().__init__()
        self.at = []

    def on_validation_start(self):
        self.at.append(self.trainer.progress.total_batches)

    def validation_step(self, batch, batch_idx):
        self.log("validated", self.net(batch).mean())


@pytest.mark.parametrize(
    ("policy", "interval", "length", "expected"),
    [("wrap", 0.5, 7, [3, 6]), ("join", 0.5, 7, [3, 6]), ("stop", 1, 2, [1, 2]), ("wrap", 4, 7, [4])],
)
def test_all_validate_at_once_by_the_length_of_the_epoch_that_all_train(ranked, policy, interval, length, expected):
    def fit(environment):
        module = Validates()
        strategy = {"ddp": {"uneven": policy}}
        trainer = ranked(environment, strategy=strategy, use_distributed_sampler=False, val_check_interval=interval)
        trainer.fit(module, batches((2, 7, 5)[environment.rank]), batches(2))
        return module.at[1:], trainer.num_training_batches, trainer.estimated_stepping_batches

    assert run_ranks(fit, 3) == [(expected, length, length)] * 3


@pytest.mark.parametrize("interval", ["8 samples", "0.001 s"])
def test_all_validate_at_once_though_samples_and_clocks_differ(ranked, interval):
    def fit(environment):
        module = Validates()
        trainer = ranked(environment, use_distributed_sampler=False, val_check_interval=interval, log_every_n_steps=2)
        trainer.fit(module, batches(6, samples=1 + environment.rank), batches(2))
        return module.at[1:]

    assert run_ranks(fit, 3) == [[4, 6] if interval == "8 samples" else [2, 4, 6]] * 3


class Draws(Logs):
    """Draws random numbers in each step, and remembers its losses."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(torch.nn.functional.dropout(batch), batch_idx)
        self.losses.append(float(loss.detach()))
        return loss


class Noise(torch.utils.data.Dataset):
    """Draws each sample."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.randn(batches(1)[0].shape[1])


@pytest.mark.parametrize("make", [lambda data: DataLoader(Noise(2 * len(data)), 2) if data else [], Stream])
@pytest.mark.parametrize(
    ("policy", "at", "start"), [("stop", 1, 0), ("join", 3, 0), ("join", 2, 1), ("wrap", 3, 0), ("wrap", 4, 1)]
)
def test_a_run_goes_on_exactly_where_ranks_have_ended_or_begun_again(ranked, tmp_path, make, policy, at, start):
    counts = (2, 5, 0 if policy == "join" else 3)

    class Save(ly.Callback):
        def on_train_batch_start(self, trainer):
            if start and trainer.progress.total_batches == at:
                trainer.save_checkpoint(tmp_path / "at.ckpt")

        def on_train_batch_end(self, trainer):
            if not start and trainer.progress.total_batches == at:
                trainer.save_checkpoint(tmp_path / "at.ckpt")

    def fit(environment):
        options = {"strategy": {"ddp": {"uneven": policy}}, "use_distributed_sampler": False, "max_epochs": 2}
        data = batches(counts[environment.rank], seed=environment.rank)
        ly.seed_everything(4)
        whole, again = Draws(), Draws()
        trainer = ranked(environment, callbacks=[Save()], log_every_n_steps=1, **options)
        trainer.fit(whole, make(data))
        torch.manual_seed(99)
        ranked(environment, log_every_n_steps=1, **options).fit(again, make(data), ckpt_path=tmp_path / "at.ckpt")
        left = len(again.losses)
        return weights(whole) == weights(again), whole.losses[len(whole.losses) - left :] == again.losses, left

    found = run_ranks(fit, 3)
    epoch = {"stop": (2, 2, 2), "wrap": (5, 5, 5), "join": counts}[policy]
    assert found == [(True, True, length + max(length - at, 0)) for length in epoch]
