"""Logged values over processes: right numbers, and an error where the ranks do not log the same."""

from __future__ import annotations

import leyden as ly
import pytest
import torch
import torch.distributed as dist
from leyden.testing import TinyModule, run_ranks
from torch import nn
from torch.utils.data import DataLoader

SIZES = [[4, 4, 1], [2]]


class Logs(TinyModule):
    """Logs what a function says in each evaluation batch."""

    def __init__(self, log=None):
        super().__init__()
        self.log_more = log

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        if self.log_more is not None:
            self.log_more(self, batch, batch_idx)
            return
        self.log("mean", batch.mean())
        for name in ("sum", "min", "max"):
            self.log(name, getattr(batch, name)(), reduce_fx=name)
        self.log("number", float(len(batch)))


def values(rank):
    torch.manual_seed(rank)
    return [torch.randn(size) for size in SIZES[rank]]


def test_an_evaluation_over_uneven_ranks_gives_the_numbers_of_one_process(ranked):
    def validate(environment):
        trainer = ranked(environment, use_distributed_sampler=False)
        [found] = trainer.validate(Logs(), values(environment.rank), verbose=False)
        return found, {key: float(value) for key, value in trainer.callback_metrics.items()}

    everything = torch.cat([*values(0), *values(1)]).double()
    sums = [batch.sum().double() for rank in (0, 1) for batch in values(rank)]
    means = [batch.mean().double() * len(batch) for rank in (0, 1) for batch in values(rank)]
    expected = {
        "mean": float(sum(means) / 11),
        "sum": float(sum(sums)),
        "min": float(everything.min()),
        "max": float(everything.max()),
        "number": (4 * 4 + 4 * 4 + 1 + 2 * 2) / 11,
    }
    for found, monitored in run_ranks(validate):
        assert found == pytest.approx(expected, abs=1e-15)
        assert monitored == pytest.approx(expected, abs=1e-6)


def test_a_rank_without_a_batch_has_the_values_of_the_others(ranked):
    class Monitor(ly.Callback):
        def on_validation_epoch_end(self, trainer):
            self.monitored = sorted(trainer.callback_metrics)

    def validate(environment):
        monitor = Monitor()
        trainer = ranked(environment, use_distributed_sampler=False, callbacks=[monitor])
        [found] = trainer.validate(Logs(), [values(0), []][environment.rank], verbose=False)
        return found, monitor.monitored

    first, second = run_ranks(validate)
    assert first == second
    assert first[0]["sum"] == pytest.approx(float(torch.cat(values(0)).double().sum()), abs=1e-6)
    assert first[1] == ["max", "mean", "min", "number", "sum"]


def test_a_rank_without_a_batch_of_one_of_two_loaders(ranked):
    class Two(TinyModule):
        def validation_step(self, batch, batch_idx, dataloader_idx):
            self.log("sum", batch.sum(), reduce_fx="sum", add_dataloader_idx=True)

    def validate(environment):
        data = {"a": values(0), "b": values(1)} if environment.rank == 0 else {"a": [], "b": values(1)}
        return ranked(environment, use_distributed_sampler=False).validate(Two(), data, verbose=False)

    first, second = run_ranks(validate)
    assert first == second
    assert [sorted(each) for each in first] == [["sum/a"], ["sum/b"]]


class Counts(TinyModule):
    """Logs torchmetrics objects in each evaluation batch, those of the given names for each loader."""

    def __init__(self, *names):
        super().__init__()
        self.names = names
        torchmetrics = pytest.importorskip("torchmetrics")
        self.parts = nn.ModuleDict({"a": torchmetrics.SumMetric(), "b": torchmetrics.MeanMetric()})

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        for name in self.names[dataloader_idx]:
            self.parts[name].update(batch)
            self.log(name, self.parts[name], on_step=False, on_epoch=True, add_dataloader_idx=False)


@pytest.mark.parametrize("empty", [0, 1])
def test_a_rank_without_a_batch_has_its_part_in_torchmetrics_objects(ranked, empty):
    def validate(environment):
        data = [] if environment.rank == empty else values(0)
        module = Counts("ba")
        found = [ranked(environment, use_distributed_sampler=False).validate(module, data, verbose=False) for _ in range(2)]
        assert found[0] == found[1]  # the object begins anew
        return found[0][0]

    first, second = run_ranks(validate)
    everything = torch.cat(values(0))
    assert first == second == pytest.approx({"a": float(everything.sum()), "b": float(everything.mean())}, abs=1e-6)


def test_ranks_that_lack_different_loaders_wait_for_torchmetrics_objects_in_one_order(ranked):
    def validate(environment):
        data = {"first": values(0), "second": []} if environment.rank == 0 else {"first": [], "second": values(1)}
        return ranked(environment, use_distributed_sampler=False).validate(Counts("b", "a"), data, verbose=False)

    first, second = run_ranks(validate)
    assert first == second
    assert first[0]["b"] == pytest.approx(float(torch.cat(values(0)).mean()), abs=1e-6)
    assert first[1]["a"] == pytest.approx(float(torch.cat(values(1)).sum()), abs=1e-6)


def test_a_torchmetrics_object_that_keeps_lists_is_refused_on_a_rank_without_a_batch(ranked):
    class Keeps(TinyModule):
        def __init__(self):
            super().__init__()
            self.kept = pytest.importorskip("torchmetrics").CatMetric()

        def validation_step(self, batch, batch_idx):
            self.kept.update(batch)
            self.log("kept", self.kept, on_step=False, on_epoch=True)

    def validate(environment):
        data = [] if environment.rank == 1 else values(0)
        with pytest.raises((ValueError, RuntimeError)) as raised:  # rank 0 loses the other
            ranked(environment, use_distributed_sampler=False).validate(Keeps(), data, verbose=False)
        return str(raised.value)

    assert run_ranks(validate)[1] == (
        "an evaluation batch had no batch on rank 1, and 'kept' is a torchmetrics object, which reduces over processes itself "
        "and would wait for this one, but keeps lists, of which an empty one has no shape; give every rank a batch, or "
        "log its value"
    )


def different(ranked, log, **options):
    """The message that each rank gets."""

    def validate(environment):
        with pytest.raises(ValueError) as raised:
            ranked(environment, use_distributed_sampler=False).validate(Logs(log), values(0), verbose=False)
        return str(raised.value)

    first, second = run_ranks(validate)
    assert first == second
    return first


ADVICE = "log the same keys in the same order on every rank, or pass rank_zero_only=True for what rank 0 alone logs"


def test_different_keys_are_one_error_that_names_them_and_the_ranks(ranked):
    def log(module, batch, batch_idx):
        module.log("same", 1.0)
        module.log(f"of_{module.global_rank}", 1.0)

    assert different(ranked, log) == (
        f"the ranks logged different keys in an evaluation batch: rank 0 logged 'of_0' and rank 1 did not; "
        f"rank 1 logged 'of_1' and rank 0 did not; {ADVICE}"
    )


def test_another_order_is_an_error_that_names_the_first_difference(ranked):
    def log(module, batch, batch_idx):
        for key in ("a", "b", "c") if module.global_rank == 0 else ("a", "c", "b"):
            module.log(key, 1.0)

    assert different(ranked, log) == (
        f"the ranks logged their keys in another order in an evaluation batch: where rank 0 has 'b', rank 1 has 'c'; {ADVICE}"
    )


def test_what_rank_0_alone_logs_by_intention_is_no_difference(ranked):
    class OnRankZero(TinyModule):
        def validation_step(self, batch, batch_idx):
            if self.global_rank == 0:
                self.log("own", 5.0, rank_zero_only=True)
            self.log("both", float(self.global_rank))

    def validate(environment):
        return ranked(environment, use_distributed_sampler=False).validate(OnRankZero(), values(0), verbose=False)

    assert run_ranks(validate) == [[{"own": 5.0, "both": 0.5}], [{"both": 0.5}]]


def test_different_keys_of_training_steps_are_found_at_the_next_log_point(ranked):
    class Different(TinyModule):
        def training_step(self, batch, batch_idx):
            self.log("loss" if self.global_rank == 0 else "lost", 1.0)
            return super().training_step(batch, batch_idx)

    def fit(environment):
        trainer = ranked(environment, log_every_n_steps=2)
        with pytest.raises(ValueError) as raised:
            trainer.fit(Different())
        return trainer.global_step, str(raised.value).partition(";")[0]

    assert (
        run_ranks(fit)
        == [(2, "the ranks logged different keys in the steps up to a log point: rank 0 logged 'loss' and rank 1 did not")] * 2
    )


def test_step_values_are_the_mean_over_ranks(ranked):
    class Rank(TinyModule):
        def training_step(self, batch, batch_idx):
            self.log("rank", float(self.global_rank))
            self.log("batches", 1.0, reduce_fx="sum", on_step=True)
            return super().training_step(batch, batch_idx)

    def fit(environment):
        trainer = ranked(environment, log_every_n_steps=1)
        trainer.fit(Rank())
        return trainer.logged_metrics["rank"], trainer.logged_metrics["batches"]

    assert run_ranks(fit) == [(0.5, 2.0)] * 2


@pytest.mark.parametrize("keys", [5, 200])
def test_there_is_one_collective_for_each_point_of_reduction(ranked, keys):
    class Many(TinyModule):
        def validation_step(self, batch, batch_idx):
            for index in range(keys):
                self.log(f"key{index}", float(index), reduce_fx=("mean", "sum", "min", "max")[index % 4])

    def validate(environment):
        calls = []
        original = dist.all_gather

        def counting(*args, **kwargs):
            calls.append(1)
            return original(*args, **kwargs)

        class Watch(ly.Callback):
            def on_validation_epoch_start(self):
                dist.all_gather = counting

        trainer = ranked(environment, callbacks=[Watch()])
        [found] = trainer.validate(Many(), values(0), verbose=False)
        return len(calls), len(found), found["key1"]

    # What does not fit into the first, of a fixed size, is in a second; that there was nothing for the epoch costs one more.
    assert run_ranks(validate) == [(2 if keys == 5 else 3, keys, 2.0 * 3)] * 2


@pytest.mark.parametrize("policy", ["skip_rank", "skip_all"])
def test_a_rank_that_skips_a_batch_lacks_by_right_what_the_others_log_in_it(ranked, policy):
    class Skips(TinyModule):
        def training_step(self, batch, batch_idx):
            if batch_idx == 1 and self.global_rank != 1:
                return None
            self.log("rank", float(self.global_rank), on_step=True, on_epoch=True)
            return super().training_step(batch, batch_idx)

    def fit(environment):
        trainer = ranked(environment, strategy={"ddp": {"skipped": policy}}, log_every_n_steps=1, limit_train_batches=2)
        trainer.fit(Skips(), DataLoader(TinyModule().train_dataloader().dataset, batch_size=2))
        return list(trainer.history["rank_step"]), float(trainer.callback_metrics["rank_epoch"])

    steps = [1.0, 1.0]  # of 0, 1 and 2 the mean, and then that of the one rank
    assert run_ranks(fit, 3) == [(steps, 1.0)] * 3
