"""Gradients over processes: those of one process on all samples, at the price of DDP's own reductions."""

from __future__ import annotations

from typing import Any

import leyden as ly
import pytest
import torch
import torch.distributed as dist
from leyden.testing import run_ranks
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook, fp16_compress_hook
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook

ROUNDING = 1e-6


class Line(ly.Module):
    """A linear map that is trained on the batches it is given."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Linear(3, 1)
        self.lr = lr

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return (self.net(batch) ** 2).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Manual(Line):
    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward((self.net(batch) ** 2).mean())
        optimizer.step()


def batches(count, samples=2, seed=0):
    torch.manual_seed(seed)
    return [torch.randn(samples, 3) for _ in range(count)]


def weights(module):
    return torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()]).tolist()


def plainly(data_of_ranks, steps_of=1, module=Line):
    """A loop by hand over all ranks' samples: each step takes ``steps_of`` batches of every rank."""
    model = module()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for start in range(0, len(data_of_ranks[0]), steps_of):
        samples = torch.cat([batch for data in data_of_ranks for batch in data[start : start + steps_of]])
        optimizer.zero_grad()
        (model.net(samples) ** 2).mean().backward()
        optimizer.step()
    return weights(model)


@pytest.mark.parametrize("module", [Line, Manual])
@pytest.mark.parametrize("accumulated", [1, 2, 3])
def test_two_processes_train_as_one_on_all_samples(ranked, module, accumulated):
    data = [batches(6, seed=0), batches(6, seed=1)]

    def train(environment):
        model = module()
        trainer = ranked(environment, accumulate_grad_batches=accumulated)
        trainer.fit(model, data[environment.rank])
        return weights(model), trainer.global_step

    (first, steps), (second, _) = run_ranks(train)
    assert first == second
    assert steps == 6 // accumulated
    assert first == pytest.approx(plainly(data, accumulated), abs=ROUNDING)


COLLECTIVES = [
    "all_gather", "all_gather_into_tensor", "all_gather_object", "all_reduce", "barrier", "broadcast", "broadcast_object_list",
    "gather", "reduce", "scatter", "send", "recv",
]  # fmt: skip


class Counting(ly.Callback):
    """Counts the collectives that are called from Python between the first and the last batch of training."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_train_batch_start(self, batch_idx):
        if batch_idx:
            return
        self.originals = {name: getattr(dist, name) for name in COLLECTIVES}
        for name, original in self.originals.items():
            setattr(dist, name, self.counting(name, original))

    def counting(self, name, original):
        def wrapped(*args, **kwargs):
            self.calls.append(name)
            return original(*args, **kwargs)

        return wrapped

    def on_train_batch_end(self, trainer):
        if trainer.is_last_batch:
            for name, original in self.originals.items():
                setattr(dist, name, original)


@pytest.mark.parametrize("module", [Line, Manual])
@pytest.mark.parametrize("accumulated", [1, 3])
def test_the_only_collectives_are_ddps_own_once_for_each_step_and_bucket(ranked, module, accumulated):
    class Logging(module):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            for key in "abcde":
                self.log(key, float(batch_idx), prog_bar=True)
            return loss

    def train(environment):
        buckets = []

        def hook(state, bucket):
            buckets.append(bucket.index())
            return allreduce_hook(state, bucket)

        counting = Counting()
        trainer = ranked(
            environment,
            strategy={"ddp": {"comm_hook": hook}},
            accumulate_grad_batches=accumulated,
            callbacks=[counting],
            log_every_n_steps=0,
        )
        trainer.fit(Logging(), batches(6, seed=environment.rank))
        return len(buckets), trainer.global_step, counting.calls

    for reductions, steps, calls in run_ranks(train):
        assert steps == 6 // accumulated
        assert reductions == steps
        assert calls == ["all_reduce"] * steps  # by the hook, which does in Python what DDP does itself


def test_an_accumulation_window_of_batches_of_unequal_size_is_one_large_batch_over_all_processes(ranked):
    data = [[*batches(2, 4), *batches(1, 1)], [*batches(1, 4, 1), *batches(1, 2, 1), *batches(1, 3, 1)]]

    def train(environment):
        model = Line()
        ranked(environment, accumulate_grad_batches=3).fit(model, data[environment.rank])
        return weights(model)

    first, second = run_ranks(train)
    assert first == second
    assert first == pytest.approx(plainly(data, 3), abs=ROUNDING)


class AccumulatesLater(ly.Callback):
    """Has one batch make a step in the first epoch, and three in the second."""

    def on_train_epoch_start(self, trainer):
        trainer.accumulate(1 if trainer.current_epoch == 0 else 3)


class AccumulatesOnce(ly.Callback):
    """The same, where nobody knows before the second epoch."""

    def on_train_epoch_start(self, trainer):
        if trainer.current_epoch == 1:
            trainer.accumulate(3)


@pytest.mark.parametrize("callback", [AccumulatesLater, AccumulatesOnce])
def test_batches_may_be_accumulated_from_a_later_epoch_on(ranked, callback):
    data = [batches(6, seed=0), batches(6, seed=1)]

    def train(environment):
        model = Line()
        trainer = ranked(environment, max_epochs=2, callbacks=[callback()])
        trainer.fit(model, data[environment.rank])
        return weights(model), trainer.global_step

    (first, steps), (second, _) = run_ranks(train)
    assert first == second
    assert steps == 6 + 2
    both = [own + own[:3] + own[3:] for own in data]
    model = Line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for start, end in [*((index, index + 1) for index in range(6)), (6, 9), (9, 12)]:
        optimizer.zero_grad()
        (model.net(torch.cat([batch for own in both for batch in own[start:end]])) ** 2).mean().backward()
        optimizer.step()
    assert first == pytest.approx(weights(model), abs=ROUNDING)


class Stream:
    """Says nothing of its length, so that the last batch is not known as such."""

    def __init__(self, data):
        self.data = data

    def __iter__(self):
        return iter(self.data)


class StopsEarly(Line):
    def on_train_batch_start(self, batch, batch_idx):
        return -1 if batch_idx == 3 else None


def test_a_window_that_the_end_of_an_epoch_cuts_short_is_reduced(ranked):
    data = [batches(5, seed=0), batches(5, seed=1)]

    def train(environment):
        model = StopsEarly()
        ranked(environment, accumulate_grad_batches=2).fit(model, Stream(data[environment.rank]))
        return weights(model)

    first, second = run_ranks(train)
    assert first == second
    assert first == pytest.approx(plainly([each[:3] for each in data], 2), abs=ROUNDING)


def test_what_is_averaged_of_a_window_that_was_cut_short_is_as_exact_as_the_gradients(ranked):
    data = [batches(5, seed=0), batches(5, seed=1)]

    def train(environment):
        model = StopsEarly()
        ranked(environment, accumulate_grad_batches=2, precision="64-true").fit(model, Stream(data[environment.rank]))
        return weights(model)

    first, second = run_ranks(train)
    model = Line().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for start, end in ((0, 2), (2, 3)):
        optimizer.zero_grad()
        (model.net(torch.cat([each for rank in data for each in rank[start:end]]).double()) ** 2).mean().backward()
        optimizer.step()
    assert first == second
    assert first == pytest.approx(weights(model), abs=1e-13)


def test_a_parameter_that_nobody_used_is_not_moved_by_a_window_that_was_cut_short(ranked):
    class Decays(StopsEarly):
        """Has parameters of which one is used on rank 1 alone, and one nowhere."""

        def __init__(self):
            super().__init__()
            self.some, self.none = (nn.Linear(3, 1, bias=False) for _ in range(2))

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss + self.some(batch).mean() if self.global_rank else loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1, weight_decay=0.5)

    def train(environment):
        model = Decays()
        before = [model.some.weight.tolist(), model.none.weight.tolist()]
        options = {"strategy": "ddp_find_unused_parameters_true", "accumulate_grad_batches": 9}
        ranked(environment, **options).fit(model, Stream(batches(5)))
        return before, [model.some.weight.tolist(), model.none.weight.tolist()]

    (before, after), (_, second) = run_ranks(train)
    assert after == second
    assert after[0] != before[0]
    assert after[1] == before[1]


class Skipping(Line):
    """Skips the batches that begin with 99."""

    def training_step(self, batch, batch_idx):
        return None if batch[0, 0] == 99 else super().training_step(batch, batch_idx)


def with_gaps(*gaps, count=4):
    """Batches of two ranks; ``gaps`` are pairs of a rank and the batch that it skips."""
    data = [batches(count, seed=0), batches(count, seed=1)]
    for rank, index in gaps:
        data[rank][index][0, 0] = 99
    return data


class SkippingInADict(Skipping):
    def training_step(self, batch, batch_idx):
        return {"loss": super().training_step(batch, batch_idx), "batch": batch_idx}


def train_with(ranked, data, policy, module=Skipping, ddp=None, **options):
    def train(environment):
        model = module()
        trainer = ranked(environment, strategy={"ddp": {"skipped": policy, **(ddp or {})}}, **options)
        trainer.fit(model, data[environment.rank])
        return weights(model), trainer.global_step, trainer.progress.skipped_steps

    (first, steps, skipped), (second, *_) = run_ranks(train)
    assert first == second
    return first, steps, skipped


def by_hand(data, counted):
    """Steps by the mean of the losses of the ranks that ``counted(rank, index)`` names; none where it names none."""
    model = Line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for index in range(len(data[0])):
        losses = [(model.net(data[rank][index]) ** 2).mean() for rank in range(len(data)) if counted(rank, index)]
        if losses:
            optimizer.zero_grad()
            torch.stack(losses).mean().backward()
            optimizer.step()
    return weights(model)


def test_a_rank_that_skips_a_batch_leaves_the_mean_to_the_others(ranked):
    data = with_gaps((0, 1), (1, 3))
    found, steps, skipped = train_with(ranked, data, "skip_rank")
    assert (steps, skipped) == (4, 0)
    assert found == pytest.approx(by_hand(data, lambda rank, index: data[rank][index][0, 0] != 99), abs=ROUNDING)


def test_nobody_steps_where_one_rank_skips_by_the_other_policy(ranked):
    data = with_gaps((0, 1), (1, 3))
    found, steps, skipped = train_with(ranked, data, "skip_all")
    assert (steps, skipped) == (2, 2)
    assert found == pytest.approx(by_hand(data, lambda rank, index: index in (0, 2)), abs=ROUNDING)


@pytest.mark.parametrize("module", [Skipping, SkippingInADict])
@pytest.mark.parametrize("ddp", [{}, {"gradient_as_bucket_view": False}, {"comm_hook": allreduce_hook}, {"static_graph": True}])
@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_ranks_skip_and_go_on_at_any_step(ranked, module, ddp, precision):
    data = with_gaps((0, 1), (0, 3), (1, 4), (0, 6), (1, 6), (1, 7), (1, 8), count=11)
    found, steps, skipped = train_with(ranked, data, "skip_rank", module, ddp, precision=precision)
    assert (steps, skipped) == (10, 1)
    assert found == pytest.approx(by_hand(data, lambda rank, index: data[rank][index][0, 0] != 99), abs=ROUNDING)


@pytest.mark.parametrize("policy", ["skip_all", "raise"])
def test_ten_ranks_of_which_none_skips_all_step_though_ten_tenths_are_not_one(ranked, policy):
    def train(environment):
        trainer = ranked(environment, strategy={"ddp": {"skipped": policy}})
        trainer.fit(Line(), batches(4))
        return trainer.global_step

    assert run_ranks(train, world_size=10, seconds=180) == [4] * 10


def test_a_hook_that_halves_the_digits_leaves_it_known_which_ranks_skip(ranked):
    def train(environment):
        trainer = ranked(environment, strategy={"ddp": {"skipped": "skip_all", "comm_hook": fp16_compress_hook}})
        trainer.fit(Skipping(), with_gaps((1, 2))[environment.rank % 2])
        return trainer.global_step, trainer.progress.skipped_steps

    assert run_ranks(train, 6) == [(3, 1)] * 6  # six sixths are not 1 in float16, while three thirds are


def test_a_hook_that_compresses_matrices_trains(ranked):
    state = PowerSGDState(None, matrix_approximation_rank=1, start_powerSGD_iter=2, min_compression_rate=0.1)
    data = with_gaps((1, 2), count=6)
    ddp = {"comm_hook": powerSGD_hook, "comm_state": state}
    found, steps, _ = train_with(ranked, data, "skip_rank", ddp=ddp)
    assert steps == 6
    # A row is of rank 1, so that nothing is lost.
    assert found == pytest.approx(by_hand(data, lambda rank, index: data[rank][index][0, 0] != 99), abs=0.01)


class Embeds(Skipping):
    """Has gradients of an embedding that are sparse."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(3, 2, sparse=True)

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return None if loss is None else loss + self.embedding(torch.tensor([batch_idx % 3])).square().sum()


@pytest.mark.parametrize("world_size", [2, 3])
def test_a_rank_skips_a_batch_of_a_module_with_sparse_gradients(ranked, world_size):
    def train(environment):
        module = Embeds()
        before = module.embedding.weight.detach()[1].clone()
        trainer = ranked(environment)
        trainer.fit(module, with_gaps((1, 1), count=3)[environment.rank % 2])
        return trainer.global_step, weights(module), (module.embedding.weight.detach()[1] / before).tolist()

    ranks = run_ranks(train, world_size)
    assert ranks == [ranks[0]] * world_size
    assert ranks[0][0] == 3
    assert ranks[0][2] == pytest.approx([0.8, 0.8], abs=ROUNDING)  # a step of 0.1 by the gradient of the squares


@pytest.mark.parametrize("policy", ["skip_rank", "skip_all", "raise"])
def test_nobody_steps_where_all_ranks_skip(ranked, policy):
    data = with_gaps((0, 1), (1, 1))
    found, steps, skipped = train_with(ranked, data, policy)
    assert (steps, skipped) == (3, 1)
    assert found == pytest.approx(by_hand(data, lambda rank, index: index != 1), abs=ROUNDING)


@pytest.mark.parametrize("gaps", [[], [(0, 1), (1, 1), (1, 3)]])
def test_the_number_of_batches_that_ranks_skipped_is_logged_with_each_epoch_and_only_where_there_are_any(ranked, gaps):
    data = with_gaps(*gaps)

    def train(environment):
        trainer = ranked(environment, max_epochs=2)
        history = trainer.fit(Skipping(), data[environment.rank])
        return list(history["skipped_batches"]) if "skipped_batches" in history else []

    assert run_ranks(train) == [[3.0, 3.0] if gaps else []] * 2


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_train_epoch_end"])
def test_a_run_that_goes_on_has_the_number_of_skipped_batches_of_one_that_was_not_interrupted(ranked, tmp_path, hook):
    data = with_gaps((0, 1), (1, 0))

    class Save(ly.Callback):
        pass

    def save(self, trainer):
        if trainer.current_epoch == 1 and (hook == "on_train_epoch_end" or trainer.progress.batch == 2):
            trainer.save_checkpoint(tmp_path / "at.ckpt")

    setattr(Save, hook, save)

    def train(environment):
        whole = ranked(environment, max_epochs=3, callbacks=[Save()])
        whole.fit(Skipping(), data[environment.rank])
        resumed = ranked(environment, max_epochs=3)
        history = resumed.fit(Skipping(), data[environment.rank], ckpt_path=tmp_path / "at.ckpt")
        return [list(found["skipped_batches"]) for found in (whole.history, history)]

    for whole, resumed in run_ranks(train):
        assert whole == [2.0, 2.0, 2.0]
        assert resumed == [2.0, 2.0]


def test_a_rank_that_skips_ends_the_run_where_that_is_asked_for(ranked):
    data = with_gaps((1, 2))

    def train(environment):
        with pytest.raises(ValueError) as raised:
            ranked(environment, strategy={"ddp": {"skipped": "raise"}}).fit(Skipping(), data[environment.rank])
        return str(raised.value)

    assert run_ranks(train) == [
        f"Skipping.training_step returned None on 1 of 2 ranks ({who}); strategy option skipped='skip_rank' goes on with the "
        f"others, 'skip_all' skips the step"
        for who in ("not this one", "this one too")
    ]


def test_batches_of_an_accumulation_window_that_a_rank_skips_do_not_count(ranked):
    data = with_gaps((0, 1))
    found, steps, _ = train_with(ranked, data, "skip_rank", accumulate_grad_batches=4)
    assert steps == 1
    model = Line()
    samples = [batch for rank in (0, 1) for batch in data[rank] if batch[0, 0] != 99]
    (model.net(torch.cat(samples)) ** 2).mean().backward()
    assert found == pytest.approx((torch.tensor(weights(model)) - 0.1 * gradient(model)).tolist(), abs=ROUNDING)


def gradient(model):
    return torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters()])


@pytest.mark.parametrize("policy", ["skip_rank", "skip_all"])
def test_a_loss_that_is_not_finite_is_skipped_by_the_same_policies(ranked, policy):
    data = with_gaps()
    data[1][2][0, 0] = float("nan")
    found, steps, skipped = train_with(ranked, data, policy, nan_policy="skip")
    assert (steps, skipped) == ((4, 0) if policy == "skip_rank" else (3, 1))
    whole = (lambda rank, index: (rank, index) != (1, 2)) if policy == "skip_rank" else lambda rank, index: index != 2
    assert found == pytest.approx(by_hand(data, whole), abs=ROUNDING)


def test_a_scaled_loss_trains_as_on_one_process(ranked):
    data = [batches(3, 4), [*batches(1, 4, 1), *batches(2, 2, 2)]]

    def train(environment):
        model = Line()
        trainer = ranked(environment, precision="16-mixed", accumulate_grad_batches=3)
        trainer.fit(model, data[environment.rank])
        return weights(model), trainer.precision.scaler.get_scale()

    (first, scale), (second, _) = run_ranks(train)
    assert first == second
    assert scale == 65536.0
    assert first == pytest.approx(plainly(data, 3), abs=2e-3)


class Unused(Line):
    """Has parameters on which the loss does not depend, from some batch on."""

    def __init__(self, used_before=0, frozen=False):
        super().__init__()
        self.spare = nn.Linear(3, 1, bias=False).requires_grad_(not frozen)
        self.used_before = used_before

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss + self.spare(batch).mean() if batch_idx < self.used_before else loss


@pytest.mark.parametrize(("used_before", "when"), [(0, "in the first batch of step 0"), (2, "in the last batch of step 3")])
def test_parameters_without_a_gradient_are_named(ranked, used_before, when):
    def train(environment):
        with pytest.raises(RuntimeError) as raised:
            ranked(environment).fit(Unused(used_before), batches(5))
        return str(raised.value)

    assert run_ranks(train) == [
        f"{when} the loss of rank {rank} did not depend on 'spare.weight', and DDP waits for the gradient of every parameter; "
        f"freeze those with requires_grad_(False), or pass strategy='ddp_find_unused_parameters_true', which looks for them in "
        f"each step"
        for rank in (0, 1)
    ]


@pytest.mark.parametrize(("strategy", "frozen"), [("ddp", True), ("ddp_find_unused_parameters_true", False)])
def test_frozen_parameters_are_no_fault_and_the_option_lets_others_pass(ranked, strategy, frozen):
    def train(environment):
        trainer = ranked(environment, strategy=strategy)
        trainer.fit(Unused(2, frozen), batches(5))
        return trainer.global_step

    assert run_ranks(train) == [5, 5]
