"""A rank that runs out of memory takes its batch apart, while the others wait for it at the step."""

from __future__ import annotations

import leyden as ly
import pytest
import torch
import torch.distributed as dist
from leyden.testing import TinyModule, run_ranks
from leyden_callbacks import OOMMicrobatch
from leyden_strategies import DDPStrategy
from torch import nn

ROUNDING = {"rel": 1e-5, "abs": 1e-6}


class Greedy(ly.Module):
    """Asks for more memory than there is when it is given more than ``most`` samples; 0 is any number."""

    def __init__(self, most=0, in_backward=False, skips=()):
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.most, self.in_backward, self.skips, self.sizes = most, in_backward, skips, []
        self.handle = None

    def training_step(self, batch, batch_idx):
        self.sizes.append(len(batch))
        if self.handle is not None:
            self.handle.remove()
            self.handle = None
        loss = (self.net(batch) ** 2).mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        if self.most and len(batch) > self.most:
            if not self.in_backward:
                self.allocate()
            self.handle = self.net[0].bias.register_hook(self.allocate)
        return None if (self.global_rank, batch_idx) in self.skips else loss

    def allocate(self, *_):
        return torch.empty(2**60)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.05)


def batches(environment, count=6, samples=8):
    torch.manual_seed(environment.rank)
    return [torch.randn(samples + environment.rank, 3) for _ in range(count)]


def trained(ranked, environment, module, data=None, callbacks=(), **options):
    trainer = ranked(environment, callbacks=list(callbacks), log_every_n_steps=1, **options)
    trainer.fit(module, batches(environment) if data is None else data)
    weights = torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()]).tolist()
    return weights, list(trainer.history["loss_step"]), list(trainer.history["loss_epoch"]), trainer.global_step


def compare(ranked, most, *, module=Greedy, data=None, rounding=ROUNDING, **options):
    """What ranks with so much memory have, after it was compared with a run that has enough."""

    def short(environment):
        own = module(most[environment.rank])
        callback = OOMMicrobatch()
        found = trained(ranked, environment, own, data and data(environment), [callback], **options)
        return found, own.sizes, callback.microbatch_size

    def plenty(environment):
        return trained(ranked, environment, module(), data and data(environment), **options)

    found, expected = run_ranks(short), run_ranks(plenty)
    for ((weights, steps, epochs, count), _, _), other in zip(found, expected, strict=True):
        assert weights == found[0][0][0]
        assert weights == pytest.approx(other[0], **rounding)
        assert steps == pytest.approx(other[1], **rounding)
        assert epochs == pytest.approx(other[2], **rounding)
        assert count == other[3]
    return [(sizes, size) for _, sizes, size in found]


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("in_backward", [False, True])
def test_one_rank_out_of_memory_trains_all_as_if_it_were_not(ranked, accumulate, in_backward):
    def module(most=0):
        return Greedy(most, in_backward)

    (first, one), (second, other) = compare(ranked, [0, 3], module=module, accumulate_grad_batches=accumulate)
    assert one == other == 2
    assert second == [9, 4, *[2, 2, 2, 2, 1] * 6]
    # The other rank takes the size over at the first log point, which is the first step.
    assert first == [8] * accumulate + [2] * 4 * (6 - accumulate)


def test_all_ranks_out_of_memory_by_different_amounts(ranked):
    (first, one), (second, other) = compare(ranked, [4, 1])
    assert one == other == 1
    assert first[:3] == [8, 4, 4]
    assert second[:4] == [9, 4, 2, 1]


def test_a_batch_that_one_rank_skips_still_leaves_the_mean_to_the_others(ranked):
    def module(most=0):
        return Greedy(most, skips=[(0, 1), (1, 3), (0, 4), (1, 4)])

    compare(ranked, [0, 3], module=module)


def test_a_rank_that_only_joins_in_is_asked_for_nothing(ranked):
    def data(environment):
        return iter(batches(environment, count=6 if environment.rank else 2))

    compare(ranked, [3, 3], data=data, strategy={"ddp": {"uneven": "join"}}, limit_train_batches=6)


def test_a_window_that_the_end_of_an_epoch_cuts_short(ranked):
    compare(ranked, [0, 3], accumulate_grad_batches=4, max_epochs=2)


class Overflows(Greedy):
    """Has a loss that is too large for half precision on rank 1 in one batch."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * 1e36 if (self.global_rank, batch_idx) == (1, 2) else loss


def test_an_overflow_on_one_rank_skips_the_step_of_all(ranked):
    compare(ranked, [0, 3], module=Overflows, precision="16-mixed", rounding={"rel": 1e-2, "abs": 1e-3})


def test_an_overflow_in_a_window_that_was_cut_short_skips_the_step_of_all(ranked):
    class CutsShort(ly.Callback):
        def on_train_batch_start(self, batch_idx):
            return -1 if batch_idx == 3 else None

    def train(environment):
        module = Overflows()
        found = trained(
            ranked, environment, module, callbacks=[CutsShort()], precision="16-mixed", accumulate_grad_batches=4, max_epochs=2
        )
        return found[0], found[3], all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters())

    first, second = run_ranks(train)
    assert first == second
    assert first[1:] == (0, True)


def test_a_step_costs_one_reduction_and_a_log_point_one_small_one(ranked, monkeypatch):
    calls = []
    own = dist.all_reduce

    def counting(tensor, *args, **kwargs):
        calls.append(tensor.numel())
        return own(tensor, *args, **kwargs)

    monkeypatch.setattr(dist, "all_reduce", counting)

    def train(environment):
        module = Greedy(3 if environment.rank else 0)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        tensors = len(list(module.parameters()))

        class Counts(ly.Callback):
            def on_train_batch_start(self, batch_idx):
                if not batch_idx:
                    calls.clear()

        trainer = ranked(environment, callbacks=[Counts(), OOMMicrobatch()], log_every_n_steps=0)
        trainer.fit(module, batches(environment))
        found = calls[: trainer.global_step], parameters + 1 + tensors + 1  # and what was counted; and who has each
        # Without the callback DDP does so itself again.
        trainer.callbacks = trainer.callbacks[:1]
        module.most = 0
        trainer.fit(module, batches(environment))
        return *found, [numel for numel in calls if numel >= parameters]

    for by_hand, numbers, later in run_ranks(train):
        assert by_hand == [numbers] * 6
        assert later == []


def test_a_rank_whose_samples_do_not_fit_one_by_one_ends_the_run_and_is_named(ranked):
    def train(environment):
        module = Greedy(3 if environment.rank else 0)
        trained(ranked, environment, module, callbacks=[OOMMicrobatch(min_size=4)])

    with pytest.raises(AssertionError, match=r"rank 1 raised[\s\S]*can't allocate memory"):
        run_ranks(train)


def test_what_a_rank_says_when_it_takes_a_batch_apart(ranked, capfd):
    def train(environment):
        trained(ranked, environment, Greedy(4 if environment.rank else 0), callbacks=[OOMMicrobatch()])

    run_ranks(train)
    said = capfd.readouterr().err
    assert "leyden: rank 1 is out of memory with 9 samples at once in step 0; now it is 4\n" in said
    assert "leyden: another process was out of memory: now it is 4 samples at once here, too\n" in said


class Early(DDPStrategy):
    """Reduces while backward runs, whatever it is told."""

    name = "early"
    averages_later = False


def test_runs_whose_ranks_communicate_before_the_step_are_refused(ranked):
    def refusal(environment, **options):
        with pytest.raises(ValueError) as caught:
            ranked(environment, callbacks=[OOMMicrobatch()], **options).fit(TinyModule())
        return str(caught.value)

    def refusals(environment):
        return refusal(environment, strategy=Early()), refusal(environment, sync_batchnorm=True)

    strategy, batchnorm = run_ranks(refusals, world_size=2)[0]
    assert strategy == (
        "OOMMicrobatch: strategy='early' cannot average gradients at the step, so that one process out of memory would leave "
        "the others waiting; use strategy='ddp'"
    )
    assert batchnorm == (
        "OOMMicrobatch: with sync_batchnorm=True processes communicate in each forward pass, so that one out of memory would "
        "leave the others waiting; pass sync_batchnorm=False"
    )
