"""Samples are dealt out among processes: each once, in the sampler's order."""

from __future__ import annotations

import leyden as ly
import pytest
import torch
from leyden.data.dealing import Deal
from leyden.testing import TinyModule, run_ranks
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler, WeightedRandomSampler


class Numbers(Dataset):
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.tensor(float(index))


class Sees(ly.Module):
    """Remembers the samples of each batch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.seen: list[list[int]] = []

    def training_step(self, batch, batch_idx):
        self.seen.append([int(x) for x in batch])
        return (self.weight * batch).mean()

    def validation_step(self, batch, batch_idx):
        self.seen.append([int(x) for x in batch])
        self.log("mean", batch.mean())
        self.log("sum", batch.sum(), reduce_fx="sum")

    def predict_step(self, batch, batch_idx):
        return batch * 2

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def trained(ranked, loader, world_size=2, **options):
    """The batches that each rank trains on."""

    def fit(environment):
        module = Sees()
        ly.seed_everything(5)
        trainer = ranked(environment, **options)
        trainer.fit(module, loader())
        return module.seen, trainer.num_training_batches

    return run_ranks(fit, world_size)


def alone(loader, epochs=1):
    ly.seed_everything(5)
    module = Sees()
    from tests.distributed.conftest import QUIET

    ly.Trainer(**QUIET, max_epochs=epochs).fit(module, loader())
    return module.seen


def together(found):
    """The samples in the order of the sequence that was dealt out: rank by rank, sample by sample."""
    return [
        sample
        for batches in zip(*(seen for seen, _ in found), strict=True)
        for samples in zip(*batches, strict=True)
        for sample in samples
    ]


def test_ranks_together_draw_what_one_process_draws_in_its_order(ranked):
    def loader():
        return DataLoader(Numbers(24), batch_size=3, shuffle=True)

    found = trained(ranked, loader, max_epochs=2)
    assert [length for _, length in found] == [4, 4]
    whole = alone(loader, epochs=2)
    assert together(found) == [sample for batch in whole for sample in batch]
    assert whole[:8] != whole[8:]


class Backwards(Sampler[int]):
    """A sampler of the user's, which draws from torch's own generator as it goes."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __iter__(self):
        for index in reversed(range(self.count)):
            yield index if torch.rand(()) < 0.5 else -1 - index + self.count


def test_a_sampler_of_the_users_keeps_its_order(ranked):
    def loader():
        return DataLoader(Numbers(12), batch_size=2, sampler=Backwards(12))

    found = trained(ranked, loader)
    drawn = together(found)
    assert len(drawn) == 12
    assert all(sample in (11 - position, position) for position, sample in enumerate(drawn))


def test_a_weighted_sampler_is_the_same_on_every_rank(ranked):
    def loader():
        return DataLoader(Numbers(12), batch_size=2, sampler=WeightedRandomSampler(torch.arange(1.0, 13.0), 12))

    assert together(trained(ranked, loader)) == [sample for batch in alone(loader) for sample in batch]


class Pairs(Sampler[list[int]]):
    """A batch sampler of the user's."""

    def __len__(self):
        return 6

    def __iter__(self):
        return iter([[index, index + 10] for index in range(6)])


def test_the_batches_of_a_batch_sampler_of_the_users_are_dealt_out_whole(ranked):
    found = trained(ranked, lambda: DataLoader(Numbers(16), batch_sampler=Pairs()))
    assert [seen for seen, _ in found] == [[[0, 10], [2, 12], [4, 14]], [[1, 11], [3, 13], [5, 15]]]


@pytest.mark.parametrize(
    ("uneven", "expected"),
    [
        (None, [[[0, 2], [4, 6]], [[1, 3], [5, 0]]]),
        ("wrap", [[[0, 2], [4, 6]], [[1, 3], [5, 0]]]),
        ("stop", [[[0, 2], [4]], [[1, 3], [5]]]),
    ],
)
def test_a_last_round_that_is_not_full_is_filled_from_the_beginning_or_left_out(ranked, uneven, expected):
    found = trained(ranked, lambda: DataLoader(Numbers(7), batch_size=2), strategy={"ddp": {"uneven": uneven}})
    assert [seen for seen, _ in found] == expected


def test_fewer_samples_than_ranks(ranked):
    found = trained(ranked, lambda: DataLoader(Numbers(1), batch_size=2), world_size=3)
    assert [seen for seen, _ in found] == [[[0]]] * 3


def test_loaders_that_deal_out_themselves_and_those_of_use_distributed_sampler_false_are_left_alone(ranked):
    def own():
        from torch.distributed import get_rank, get_world_size

        data = Numbers(8)
        return DataLoader(data, batch_size=2, sampler=DistributedSampler(data, get_world_size(), get_rank(), shuffle=False))

    class Own(Sees):
        def train_dataloader(self):
            return own()

    def fit(environment):
        module = Own()
        ranked(environment).fit(module)
        other = Sees()
        ranked(environment, use_distributed_sampler=False).fit(other, DataLoader(Numbers(4), batch_size=2))
        return module.seen, other.seen

    assert run_ranks(fit) == [
        ([[0, 2], [4, 6]], [[0, 1], [2, 3]]),
        ([[1, 3], [5, 7]], [[0, 1], [2, 3]]),
    ]


def test_several_loaders_are_each_dealt_out(ranked):
    class Two(Sees):
        def training_step(self, batch, batch_idx):
            self.seen.append([[int(x) for x in batch[key]] for key in ("long", "short")])
            return self.weight * 0

    def fit(environment):
        module = Two()
        trainer = ranked(environment)
        trainer.fit(module, {"long": DataLoader(Numbers(8), batch_size=2), "short": DataLoader(Numbers(4), batch_size=1)})
        return module.seen, trainer.num_training_batches

    assert run_ranks(fit) == [
        ([[[0, 2], [0]], [[4, 6], [2]]], 2),
        ([[[1, 3], [1]], [[5, 7], [3]]], 2),
    ]


def test_workers_load_what_was_dealt_to_their_rank(ranked):
    found = trained(ranked, lambda: DataLoader(Numbers(8), batch_size=2, num_workers=1))
    assert [seen for seen, _ in found] == [[[0, 2], [4, 6]], [[1, 3], [5, 7]]]


@pytest.mark.parametrize("count", [1, 2, 6, 7, 8, 9, 13])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_evaluation_sees_each_sample_once_and_predictions_are_in_order(ranked, count, batch_size):
    def evaluate(environment):
        module = Sees()
        trainer = ranked(environment)
        [values] = trainer.validate(module, DataLoader(Numbers(count), batch_size=batch_size), verbose=False)
        predictions = trainer.predict(module, DataLoader(Numbers(count), batch_size=batch_size))
        return module.seen, values, [batch.tolist() for batch in predictions]

    (first, values, predictions), (second, others, repeated) = run_ranks(evaluate)
    batches = [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]
    assert first == batches[0::2]
    assert second == batches[1::2]
    assert values == others == {"mean": sum(range(count)) / count, "sum": sum(range(count))}
    assert predictions == repeated == [[2.0 * sample for sample in batch] for batch in batches]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("remainder", ["wrap", "stop"])
def test_a_deal_takes_as_many_as_it_says(training, remainder):
    for world_size in (1, 2, 3, 5):
        for count in range(12):
            deals = [Deal(rank, world_size, training, remainder) for rank in range(world_size)]
            taken = [list(deal.out(range(count))) for deal in deals]
            assert [len(items) for items in taken] == [deal.share(count) for deal in deals]
            if not training:
                assert sorted(item for items in taken for item in items) == list(range(count))
            elif remainder == "wrap" and count:
                assert {item for items in taken for item in items} == set(range(count))


@pytest.mark.parametrize("dealt", [True, False])
def test_a_list_of_which_each_rank_reads_everything_is_said_once(ranked, capfd, dealt):
    def fit(environment):
        batch = (torch.zeros(2, 8), torch.zeros(2, dtype=torch.int64))
        trainer = ranked(environment, use_distributed_sampler=dealt, max_epochs=2)
        trainer.fit(TinyModule(), [batch], [batch])

    run_ranks(fit)
    said = [line for line in capfd.readouterr().err.splitlines() if "LY036" in line]
    assert said == dealt * [
        f"leyden: {where}: each of the 2 processes reads every batch of a list; pass a torch DataLoader over a data set, whose "
        f"samples are dealt out among them, or give each process batches of its own and pass use_distributed_sampler=False "
        f"[LY036]"
        for where in ("val_dataloaders", "train_dataloaders")
    ]


@pytest.mark.parametrize(("count", "limit"), [(9, 0.34), (9, 0.5), (10, 0.9)])
def test_a_fraction_of_an_evaluation_is_one_of_all_batches(ranked, count, limit):
    def predict(environment):
        trainer = ranked(environment, limit_predict_batches=limit)
        return [batch.tolist() for batch in trainer.predict(Sees(), DataLoader(Numbers(count), batch_size=1))]

    assert run_ranks(predict, 5) == [[[2.0 * sample] for sample in range(int(count * limit))]] * 5


def test_an_evaluation_of_nothing_is_an_error_on_all_ranks(ranked):
    def validate(environment):
        trainer = ranked(environment)
        with pytest.raises(ValueError) as raised:
            trainer.validate(Sees(), DataLoader(Numbers(0), batch_size=1), verbose=False)
        return str(raised.value)

    assert run_ranks(validate, 3) == ["dataloaders is empty: it has no batch to validate"] * 3


@pytest.mark.parametrize("mode", ["min_size", "max_size"])
def test_predictions_of_loaders_that_are_read_as_one_are_in_order_too(ranked, mode):
    class Pairs(Sees):
        def predict_step(self, batch, batch_idx):
            return [None if part is None else part.tolist() for part in batch]

    def predict(trainer):
        loaders = [DataLoader(Numbers(9), batch_size=2), DataLoader(Numbers(4), batch_size=1)]
        return trainer.predict(Pairs(), ly.CombinedLoader(loaders, mode))

    from tests.distributed.conftest import QUIET

    assert run_ranks(lambda environment: predict(ranked(environment)), 3) == [predict(ly.Trainer(**QUIET))] * 3
