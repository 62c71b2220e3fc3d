"""Where batches come from, in which order, and how they reach the device."""

from __future__ import annotations

import random
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from dataclasses import InitVar, dataclass, field

import numpy as np
import pytest
import torch
from leyden import DataModule, Module, Trainer, seed_everything
from leyden.data.combined import CombinedLoader
from leyden.data.transfer import move_to_device
from leyden.messages import LeydenWarning
from leyden.testing import RandomData, TinyDataModule, TinyModule
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

pytestmark = pytest.mark.usefixtures("core_alone")


class Takes(Module):
    """Keeps every batch it is given; any batch will do."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.trained, self.validated, self.last = [], [], []

    def training_step(self, batch, batch_idx):
        self.trained.append(batch)
        self.last.append(self.trainer.is_last_batch)
        return self.weight * 1

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.validated.append((dataloader_idx, batch))

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return dataloader_idx, batch

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(train, val=None, **options):
    module = Takes()
    trainer = Trainer(**{"max_epochs": 1, "num_sanity_val_steps": 0, **options})
    trainer.fit(module, train, val)
    return module, trainer


class Numbers(Dataset):
    def __init__(self, numbers):
        self.numbers = list(numbers)

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        return self.numbers[index]


def numbers(*values, batch_size=1, **options):
    return DataLoader(Numbers(values), batch_size, **options)


def plain(batches):
    """Batches of numbers as lists."""
    return [batch.tolist() for batch in batches]


# ---- what may be given as a loader ----


def test_a_data_loader_with_a_positional_batch_size():
    module, trainer = fit(numbers(1, 2, 3, batch_size=2))
    assert plain(module.trained) == [[1, 2], [3]]
    assert trainer.num_training_batches == 2


X, Y = torch.ones(2, 3), torch.zeros(2)


@pytest.mark.parametrize(
    "batches",
    [
        [X, Y],
        [(X, Y), (Y, X)],
        [[X, Y], [Y, X]],
        [{"x": X, "y": Y}, {"x": Y}],
        [{"x": [X, Y]}, {"x": [X]}],
        [((X, X), Y)],
        [[(X, X), Y]],
        (X, Y),
        ((X, Y), (Y, X)),
    ],
    ids=[
        "tensors",
        "tuples",
        "lists",
        "dicts",
        "dicts of lists",
        "nested tuples",
        "nested lists",
        "a tuple",
        "a tuple of tuples",
    ],
)
def test_a_list_of_batches_is_an_iterable_of_batches(batches):
    module, trainer = fit(batches, batches)
    assert len(module.trained) == len(module.validated) == trainer.num_training_batches == len(batches)
    assert all(a is b for a, b in zip(module.trained, batches, strict=True))
    assert {index for index, _ in module.validated} == {0}


def test_an_iterator_is_read_once():
    module, _ = fit(iter([X, Y]))
    assert len(module.trained) == 2


def test_a_list_of_loaders_is_read_in_parallel_the_shorter_ones_over_again():
    module, trainer = fit([numbers(1, 2, 3), numbers(7, 8)])
    assert [plain(batch) for batch in module.trained] == [[[1], [7]], [[2], [8]], [[3], [7]]]
    assert trainer.num_training_batches == 3


def test_a_dict_of_loaders_gives_dicts():
    module, _ = fit({"a": numbers(1, 2), "b": numbers(3)})
    assert [{key: value.tolist() for key, value in batch.items()} for batch in module.trained] == [
        {"a": [1], "b": [3]},
        {"a": [2], "b": [3]},
    ]


@pytest.mark.parametrize("batches", [[X, Y], [(X, Y), (Y, X)], [{"x": X}, {"x": Y}], [[X, Y], [Y, X]]])
def test_a_dict_of_lists_of_batches_gives_dicts(batches):
    module, _ = fit({"a": batches})
    assert all(given["a"] is batch for given, batch in zip(module.trained, batches, strict=True))


def test_lists_of_lists_of_batches_are_several_loaders():
    module, _ = fit([[(X, Y)], [(Y, X), (Y, Y)]])
    assert [len(batch) for batch in module.trained] == [2, 2]
    assert module.trained[1][0][0] is X
    assert module.trained[1][1][1] is Y


def test_loaders_may_be_nested():
    module, _ = fit({"a": [numbers(1), numbers(2)], "b": numbers(3)})
    [batch] = module.trained
    assert (plain(batch["a"]), batch["b"].tolist()) == ([[1], [2]], [3])


def test_several_validation_loaders_are_read_one_after_the_other():
    module, trainer = fit([X], [numbers(1, 2), numbers(3)])
    assert [(index, batch.tolist()) for index, batch in module.validated] == [(0, [1]), (0, [2]), (1, [3])]
    assert trainer.num_val_batches == [2, 1]


@pytest.mark.parametrize(
    ("given", "shown"), [(3, "int 3"), ("data", "str 'data'"), (RandomData, "type <class 'leyden.testing.modules.RandomData'>")]
)
def test_what_is_no_loader_is_an_error(given, shown):
    with pytest.raises(TypeError) as caught:
        fit(given)
    assert str(caught.value) == f"train_dataloaders: expected a DataLoader or an iterable of batches, got {shown}"


def test_a_data_set_is_no_loader():
    with pytest.raises(TypeError) as caught:
        fit(RandomData(8))
    assert str(caught.value).startswith("train_dataloaders: expected a DataLoader or an iterable of batches, got RandomData <")
    assert str(caught.value).endswith("; pass DataLoader(dataset, batch_size=...)")


def test_one_tensor_is_no_loader():
    with pytest.raises(TypeError) as caught:
        fit([X], torch.ones(2))
    assert str(caught.value) == (
        "val_dataloaders: expected a DataLoader or an iterable of batches, got Tensor of shape (2,) and float32"
    )


# ---- lengths ----


class Stream(IterableDataset):
    """Gives ``given`` samples, whatever ``says`` says."""

    def __init__(self, given, says=None):
        self.given = given
        self.epochs = 0
        if says is not None:
            self.__class__ = type("SizedStream", (Stream,), {"__len__": lambda self: says})

    def __iter__(self):
        self.epochs += 1
        return iter(range(self.given))


def test_a_stream_of_unknown_length_is_read_to_its_end():
    module, trainer = fit(DataLoader(Stream(5), batch_size=2), max_epochs=2)
    assert plain(module.trained) == [[0, 1], [2, 3], [4]] * 2
    assert module.last == [False, False, True] * 2
    assert trainer.num_training_batches == float("inf")


def test_a_stream_under_a_limit_reads_no_further():
    read = []

    class Endless:
        def __iter__(self):
            number = 0
            while True:
                number += 1
                read.append(number)
                yield torch.tensor(number)

    module, trainer = fit(Endless(), limit_train_batches=3)
    assert len(module.trained) == 3
    assert read == [1, 2, 3]
    assert trainer.num_training_batches == 3


def test_a_stream_that_says_too_much_trains_what_it_gives_and_is_told_once():
    with pytest.warns(LeydenWarning) as caught:
        module, _ = fit(DataLoader(Stream(3, says=5)), [X], max_epochs=2)
    assert [str(warning.message) for warning in caught] == [
        "the training loader says it has 5 batches an epoch but gave 3; every epoch trains what it gives"
    ]
    assert len(module.trained) == 6
    assert module.last == [False, False, True] * 2
    assert len(module.validated) == 2


def test_a_list_that_says_too_much_trains_what_it_gives_and_is_told():
    class Lies(list):
        def __len__(self):
            return 5

    with pytest.warns(LeydenWarning) as caught:
        module, trainer = fit(Lies([X, Y, X]), [X], max_epochs=2, accumulate_grad_batches=2)
    assert [str(warning.message) for warning in caught] == [
        "the training loader says it has 5 batches an epoch but gave 3; every epoch trains what it gives"
    ]
    assert (len(module.trained), len(module.validated), trainer.global_step) == (6, 2, 4)


@pytest.mark.filterwarnings("ignore:Length of IterableDataset")
def test_a_stream_that_says_too_little_trains_all_that_it_gives_and_is_told_once():
    with pytest.warns(LeydenWarning) as told:
        module, _ = fit(DataLoader(Stream(5, says=3)), max_epochs=2)
    assert len(module.trained) == 10
    assert [str(warning.message) for warning in told if issubclass(warning.category, LeydenWarning)] == [  # torch tells too
        "the training loader says it has 3 batches an epoch but gave 5; every epoch trains what it gives"
    ]


@pytest.mark.filterwarnings("ignore:Length of IterableDataset")
def test_a_limit_is_heeded_whatever_a_stream_says():
    module, _ = fit(DataLoader(Stream(5, says=3)), limit_train_batches=2)
    assert len(module.trained) == 2


@pytest.mark.filterwarnings("ignore:Length of IterableDataset")
@pytest.mark.filterwarnings("ignore::leyden.LeydenWarning")
@pytest.mark.parametrize("says", [3, 5, 8, None])
def test_a_stream_validates_at_each_epochs_end_whatever_it_says(says):
    validated = []

    class Validating(Takes):
        def validation_step(self, batch, batch_idx):
            validated.append(self.trainer.progress.batch)

    module = Validating()
    Trainer(max_epochs=2, num_sanity_val_steps=0).fit(module, DataLoader(Stream(5, says=says)), [X])
    assert len(module.trained) == 10
    assert validated == [5, 5]


def test_a_short_last_window_of_a_stream_is_stepped():
    _, trainer = fit(DataLoader(Stream(5)), accumulate_grad_batches=2)
    assert trainer.global_step == 3


@pytest.mark.parametrize("empty", [[], (), numbers()], ids=["list", "tuple", "loader"])
def test_an_empty_training_loader_is_an_error(empty):
    with pytest.raises(ValueError) as caught:
        fit(empty)
    assert str(caught.value) == "train_dataloaders is empty: it has no batch to train on"


def test_an_empty_validation_loader_of_a_fit_is_an_error():
    with pytest.raises(ValueError) as caught:
        fit([X], [])
    assert str(caught.value) == "val_dataloaders is empty: it has no batch to validate"


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_an_empty_evaluation_loader_is_an_error(stage):
    with pytest.raises(ValueError) as caught:
        getattr(Trainer(), stage)(TinyModule(), [])
    assert str(caught.value) == f"dataloaders is empty: it has no batch to {stage}"


def test_an_empty_loader_among_several_is_named():
    with pytest.raises(ValueError) as caught:
        Trainer().test(TinyModule(), [numbers(1), numbers()])
    assert str(caught.value) == "dataloaders[1] is empty: it has no batch to test"
    with pytest.raises(ValueError) as caught:
        Trainer().test(TinyModule(), {"one": numbers(1), "two": numbers()})
    assert str(caught.value) == "dataloaders['two'] is empty: it has no batch to test"


def test_a_stream_without_a_batch_is_an_error():
    with pytest.raises(ValueError) as caught:
        fit(DataLoader(Stream(0)))
    assert str(caught.value) == (
        "the training loader gave no batch in epoch 0; pass a DataLoader, a list, or an iterable that starts anew each epoch "
        "(an iterator can be read once)"
    )


def test_an_iterator_for_two_epochs_is_an_error():
    with pytest.raises(ValueError) as caught:
        fit(iter([X, Y]), max_epochs=2)
    assert str(caught.value) == (
        "the training loader gave no batch in epoch 1; pass a DataLoader, a list, or an iterable that starts anew each epoch "
        "(an iterator can be read once)"
    )


def test_a_validation_iterator_for_two_epochs_is_an_error_for_its_values_would_be_those_of_the_first():
    with pytest.raises(ValueError) as caught:
        fit([X], iter([X, Y]), max_epochs=2)
    assert str(caught.value) == (
        "val_dataloaders gave no batch to validate; pass a DataLoader, a list, or an iterable that starts anew each time (an "
        "iterator can be read once)"
    )


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_an_evaluation_of_a_stream_without_a_batch_is_an_error(stage):
    with pytest.raises(ValueError, match=f"^dataloaders gave no batch to {stage}; pass a DataLoader, "):
        getattr(Trainer(), stage)(TinyModule(), iter([]))


# ---- CombinedLoader ----


@pytest.mark.parametrize(
    ("mode", "length", "batches"),
    [
        ("min_size", 2, [[1, 7], [2, 8]]),
        ("max_size_cycle", 3, [[1, 7], [2, 8], [3, 7]]),
        ("max_size", 3, [[1, 7], [2, 8], [3, None]]),
        ("sequential", 5, [(1, 0, 0), (2, 1, 0), (3, 2, 0), (7, 0, 1), (8, 1, 1)]),
    ],
)
def test_a_combined_loader_in_mode(mode, length, batches):
    loader = CombinedLoader([[1, 2, 3], [7, 8]], mode)
    assert len(loader) == length
    assert list(loader) == batches
    assert list(loader) == batches


@pytest.mark.parametrize("empty", [numbers, lambda: iter([torch.ones(1)])])
def test_a_loader_that_cannot_be_read_over_again_is_an_error_and_no_none(empty):
    with pytest.raises(
        ValueError, match=r"the loader \['b'\]\[1\] of a CombinedLoader gave no batch when it was read over again; it is"
    ):
        fit({"a": numbers(1, 2, 3), "b": [numbers(1, 2), empty()]})


def test_a_combined_loader_can_be_trained_on():
    module, trainer = fit(CombinedLoader([numbers(1, 2, 3), numbers(7, 8)], "min_size"))
    assert [plain(batch) for batch in module.trained] == [[[1], [7]], [[2], [8]]]
    assert trainer.num_training_batches == 2


def test_a_combined_loader_has_the_nesting_it_was_given():
    loader = CombinedLoader({"a": [numbers(1), numbers(2)], "b": (numbers(3),)})
    [batch] = loader
    assert (plain(batch["a"]), plain(batch["b"]), type(batch["b"])) == ([[1], [2]], [[3]], tuple)
    assert len(loader.flattened) == 3


def test_a_combined_loader_of_a_stream_has_no_length():
    loader = CombinedLoader([DataLoader(Stream(2)), numbers(1)], "max_size")
    with pytest.raises(TypeError) as caught:
        len(loader)
    assert str(caught.value) == "a loader of this CombinedLoader does not say how many batches it has"
    assert len(CombinedLoader([DataLoader(Stream(2)), numbers(1)], "min_size")) == 1


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("max_size_cycl", "mode='max_size_cycl'; did you mean 'max_size_cycle'? The modes: "
         "'min_size', 'max_size', 'max_size_cycle', 'sequential'"),
        ("zip", "mode='zip'; the modes: 'min_size', 'max_size', 'max_size_cycle', 'sequential'"),
    ],
)  # fmt: skip
def test_an_unknown_mode_is_an_error(mode, message):
    with pytest.raises(ValueError) as caught:
        CombinedLoader([], mode)
    assert str(caught.value) == message


# ---- whose loaders ----


class OwnData(DataModule):
    def __init__(self, value):
        self.value = value

    def train_dataloader(self):
        return numbers(self.value)

    val_dataloader = predict_dataloader = train_dataloader


class HasLoaders(Takes):
    def train_dataloader(self):
        return numbers(1)

    def val_dataloader(self):
        return numbers(2)


def test_given_loaders_come_before_the_modules():
    module = HasLoaders()
    Trainer(max_epochs=1).fit(module, numbers(5))
    assert plain(module.trained) == [[5]]
    assert module.validated[0][1].tolist() == [2]


def test_the_data_modules_loaders_come_before_the_modules():
    module = HasLoaders()
    trainer = Trainer(max_epochs=1)
    datamodule = OwnData(9)
    trainer.fit(module, datamodule=datamodule)
    assert plain(module.trained) == [[9]]
    assert module.validated[0][1].tolist() == [9]
    assert datamodule.trainer is trainer


def test_what_the_data_module_lacks_the_module_brings():
    class TrainOnly(DataModule):
        def train_dataloader(self):
            return numbers(9)

    module = HasLoaders()
    Trainer(max_epochs=1, num_sanity_val_steps=0).fit(module, datamodule=TrainOnly())
    assert (plain(module.trained), module.validated[0][1].tolist()) == ([[9]], [2])


def test_a_data_module_may_be_the_second_argument():
    module = Takes()
    Trainer(max_epochs=1).fit(module, OwnData(9))
    assert plain(module.trained) == [[9]]
    assert Trainer().predict(module, OwnData(3))[0][1].tolist() == [3]


def test_a_loader_method_put_on_the_object_counts():
    module = Takes()
    module.train_dataloader = lambda: numbers(4)
    Trainer(max_epochs=1).fit(module)
    assert plain(module.trained) == [[4]]


def test_loaders_and_a_data_module_together_are_an_error():
    with pytest.raises(ValueError) as caught:
        Trainer().fit(TinyModule(), [X], datamodule=TinyDataModule())
    assert str(caught.value) == "both loaders and a datamodule were given; pass one of them"


def test_a_data_module_must_be_one():
    with pytest.raises(TypeError) as caught:
        Trainer().fit(TinyModule(), datamodule="mnist")
    assert str(caught.value) == "datamodule: expected a leyden.DataModule, got str 'mnist'"


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(ValueError) as caught:
        Trainer(max_epochs=1).fit(Takes())
    assert str(caught.value) == (
        "there is nothing to train on: pass train_dataloaders or datamodule to fit(), or define Takes.train_dataloader()"
    )


@pytest.mark.parametrize(("stage", "method"), [("fit", "train_dataloader"), ("predict", "predict_dataloader")])
def test_a_loader_method_that_returns_none_is_an_error_that_names_it(stage, method):
    data = type("Data", (DataModule,), {method: lambda self: None})
    with pytest.raises(ValueError) as caught:
        getattr(Trainer(max_epochs=1), stage)(Takes(), datamodule=data())
    assert str(caught.value) == f"Data.{method}() returned None; end it with `return loader`"


@pytest.mark.parametrize(("stage", "short"), [("validate", "val"), ("predict", "predict")])
def test_nothing_to_evaluate_on_is_an_error(stage, short):
    with pytest.raises(ValueError) as caught:
        getattr(Trainer(), stage)(Takes())
    assert str(caught.value) == (
        f"there is no data: pass dataloaders or datamodule to {stage}(), or define Takes.{short}_dataloader()"
    )


def test_from_datasets_makes_a_data_module():
    datamodule = DataModule.from_datasets(
        RandomData(8), [RandomData(4), RandomData(6)], predict_dataset=RandomData(2), batch_size=2
    )
    train, val = datamodule.train_dataloader(), datamodule.val_dataloader()
    assert isinstance(train.sampler, torch.utils.data.RandomSampler)
    assert [len(loader) for loader in val] == [2, 3]
    assert isinstance(val[0].sampler, torch.utils.data.SequentialSampler)
    trainer = Trainer(max_epochs=1)
    trainer.fit(Takes(), datamodule=datamodule)
    assert (trainer.num_training_batches, trainer.num_val_batches) == (4, [2, 3])
    assert len(trainer.predict(Takes(), datamodule=datamodule)) == 1
    with pytest.raises(ValueError, match=r"^there is no data: "):
        trainer.test(TinyModuleWithoutData(), datamodule=datamodule)


class TinyModuleWithoutData(Module):
    def test_step(self, batch, batch_idx):
        pass


def test_from_datasets_shuffles_no_stream():
    loader = DataModule.from_datasets(Stream(3)).train_dataloader()
    assert plain(loader) == [[0], [1], [2]]


@pytest.mark.parametrize(("every", "asked"), [(0, 1), (1, 4), (2, 2), (3, 2)])
def test_reload_dataloaders_every_n_epochs(every, asked):
    calls = []

    class Counts(HasLoaders):
        def train_dataloader(self):
            calls.append("train")
            return numbers(self.current_epoch)

        def val_dataloader(self):
            calls.append("val")
            return numbers(self.current_epoch)

    module = Counts()
    Trainer(max_epochs=4, reload_dataloaders_every_n_epochs=every, num_sanity_val_steps=0).fit(module)
    assert calls.count("train") == calls.count("val") == asked
    expected = [[epoch // every * every if every else 0] for epoch in range(4)]
    assert plain(module.trained) == expected
    assert [batch.tolist() for _, batch in module.validated] == expected


def test_a_sampler_that_shuffles_by_epoch_is_told_the_epoch():
    epochs = []

    class ByEpoch(torch.utils.data.SequentialSampler):
        def set_epoch(self, epoch):
            epochs.append(epoch)

    data = Numbers([1, 2])
    fit(DataLoader(data, sampler=ByEpoch(data)), max_epochs=3)
    fit(DataLoader(data, batch_sampler=torch.utils.data.BatchSampler(ByEpoch(data), 2, False)), max_epochs=2)
    assert epochs == [0, 1, 2, 0, 1]


class Told:
    """An order that notes which epoch it was told of."""

    def __init__(self, order):
        self.order, self.epochs = order, []

    def __iter__(self):
        return iter(self.order)

    def __len__(self):
        return len(self.order)

    def set_epoch(self, epoch):
        self.epochs.append(epoch)


def test_a_batch_sampler_that_shuffles_by_epoch_is_told_the_epoch():
    told = Told([[0], [1]])
    fit(DataLoader(Numbers([1, 2]), batch_sampler=told), max_epochs=2)
    assert told.epochs == [0, 1]


def test_samplers_of_several_training_loaders_are_told_the_epoch():
    one, other = Told([0, 1]), Told([[0], [1]])
    data = Numbers([1, 2])
    fit({"a": DataLoader(data, sampler=one), "b": [DataLoader(data, batch_sampler=other)]}, max_epochs=2)
    assert one.epochs == other.epochs == [0, 1]


def test_samplers_of_validation_loaders_are_told_the_epoch():
    told = Told([0, 1])
    fit(DataLoader(Numbers([1, 2])), DataLoader(Numbers([1, 2]), sampler=told), max_epochs=2)
    assert told.epochs == [0, 1]


# ---- to the device ----


def test_transfer_hooks_run_in_order_with_the_loaders_index():
    calls = []

    class Transfers(Takes):
        def on_before_batch_transfer(self, batch, dataloader_idx):
            calls.append(("before", batch.item(), dataloader_idx))
            return batch + 1

        def transfer_batch_to_device(self, batch, device, dataloader_idx):
            calls.append(("move", batch.item(), device, dataloader_idx))
            return super().transfer_batch_to_device(batch, device, dataloader_idx)

        def on_after_batch_transfer(self, batch, dataloader_idx):
            calls.append(("after", batch.item(), dataloader_idx))
            return batch * 10

    module = Transfers()
    Trainer(max_epochs=1, num_sanity_val_steps=0).fit(module, [torch.tensor(1)], [numbers(5), numbers(6)])
    cpu = torch.device("cpu")
    assert calls[:3] == [("before", 1, 0), ("move", 2, cpu, 0), ("after", 2, 0)]
    assert calls[-3:] == [("before", 6, 1), ("move", 7, cpu, 1), ("after", 7, 1)]
    assert module.trained == [20]
    assert [batch.item() for _, batch in module.validated] == [60, 70]


def test_the_data_modules_transfer_hooks_come_before_the_modules():
    class Doubles(Takes):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch * 2

    class AddsOne(OwnData):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch + 1

    module = Doubles()
    Trainer(max_epochs=1).fit(module, datamodule=AddsOne(4))
    assert plain(module.trained) == [[5]]
    Trainer(max_epochs=1).fit(module, datamodule=OwnData(4))
    assert plain(module.trained) == [[5], [8]]


def test_on_the_cpu_a_batch_is_handed_on_as_it_is():
    batch = {"x": X}
    module, _ = fit([batch])
    assert module.trained[0] is batch


Pair = namedtuple("Pair", ["x", "y"])


@dataclass
class Sample:
    x: torch.Tensor
    name: str


class Moves:
    """Anything with a ``to`` method."""

    def __init__(self, device="cpu"):
        self.device = torch.device(device)

    def to(self, device):
        return Moves(device)


def test_tensors_are_found_in_batches_of_any_nesting():
    batch = {
        "list": [X, (X, "text")],
        "pair": Pair(X, 3),
        "ordered": OrderedDict(x=X),
        "sample": Sample(X, "name"),
        "object": Moves(),
        "none": None,
    }
    moved = move_to_device(batch, torch.device("meta"))
    assert moved["list"][0].device.type == moved["list"][1][0].device.type == "meta"
    assert moved["list"][1][1] == "text"
    assert (type(moved["pair"]), moved["pair"].x.device.type, moved["pair"].y) == (Pair, "meta", 3)
    assert (type(moved["ordered"]), moved["ordered"]["x"].device.type) == (OrderedDict, "meta")
    assert (moved["sample"].x.device.type, moved["sample"].name) == ("meta", "name")
    assert moved["object"].device.type == "meta"
    assert moved["none"] is None
    assert batch["list"][0].device.type == "cpu"


class Encoding(UserDict):
    """As a tokenizer's: it knows more than the tensors that it holds."""

    def to(self, device):
        moved = Encoding({key: value.to(device) for key, value in self.items()})
        moved.words = self.words
        return moved


class Boxes(list):
    """A list of the user's own."""


@dataclass
class Derived:
    x: torch.Tensor
    count: InitVar[int]
    y: torch.Tensor = field(init=False)

    def __post_init__(self, count):
        self.y, self.z = self.x * count, self.x


def test_batches_keep_their_types_on_their_way_to_the_device():
    encoding = Encoding(x=X)
    encoding.words = ["a"]
    packed = nn.utils.rnn.pack_sequence([torch.ones(2, 1), torch.ones(1, 1)])
    lists = defaultdict(list, x=X)
    meta = torch.device("meta")
    moved = move_to_device([encoding, packed, lists, Boxes([X]), Derived(X, 2), X.max(0)], meta)
    assert [type(item) for item in moved] == [Encoding, type(packed), defaultdict, Boxes, Derived, torch.return_types.max]
    assert (moved[0]["x"].device, moved[0].words) == (meta, ["a"])
    assert (moved[1].data.device, moved[1].batch_sizes.device.type) == (meta, "cpu")
    assert (moved[2]["x"].device, moved[2]["absent"]) == (meta, [])
    assert moved[3][0].device == moved[4].x.device == moved[4].y.device == moved[4].z.device == moved[5].values.device == meta


def test_predictions_keep_their_types():
    class Gives(Takes):
        def predict_step(self, batch, batch_idx):
            return nn.utils.rnn.pack_sequence([torch.ones(2, 1)]), defaultdict(list, x=X)

    [(packed, lists)] = Trainer().predict(Gives(), [X])
    assert (type(packed), type(lists), lists["absent"]) == (nn.utils.rnn.PackedSequence, defaultdict, [])


def test_a_module_class_in_a_batch_is_passed_on():
    assert move_to_device([nn.Linear, 3], torch.device("meta")) == [nn.Linear, 3]


# ---- workers ----


class Draws(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()], dtype=torch.float64)


def test_seeded_workers_draw_what_the_seed_says():
    drawn = []
    for _ in range(2):
        seed_everything(11, workers=True)
        module, _ = fit(DataLoader(Draws(), num_workers=2))
        drawn.append(torch.cat(module.trained))
    assert torch.equal(drawn[0], drawn[1])
    assert len(drawn[0].unique()) == 12


def test_a_worker_init_fn_of_the_user_stays():
    def own(worker_id):
        raise AssertionError("no worker is started here")

    seed_everything(1, workers=True)
    loader = DataLoader(Draws(), num_workers=1, worker_init_fn=own)
    Trainer(max_epochs=0, num_sanity_val_steps=0).fit(Takes(), loader)
    assert loader.worker_init_fn is own


def test_workers_are_left_alone_unless_asked():
    seed_everything(1)
    loader = DataLoader(Draws(), num_workers=1)
    Trainer(max_epochs=0, num_sanity_val_steps=0).fit(Takes(), loader)
    assert loader.worker_init_fn is None
