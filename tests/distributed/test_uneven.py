"""Ranks with different amounts of training data: every policy ends, on every rank, with the same weights."""

from __future__ import annotations

import pytest
import torch
from leyden.testing import run_ranks

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
