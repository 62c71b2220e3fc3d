"""Range tests of the learning rate and the search for a batch size."""

from __future__ import annotations

import hashlib
import io
import random

import numpy as np
import pytest
import torch
from leyden import Trainer
from leyden.testing import RandomData, TinyDataModule, TinyModule, run_ranks
from leyden_callbacks import BatchSizeFinder, LambdaCallback, LearningRateFinder, Tuner
from leyden_callbacks.batch_size_finder import Search
from leyden_callbacks.learning_rate_finder import RangeTest
from torch import nn
from torch.utils.data import DataLoader


@pytest.fixture
def trainer(tmp_path):
    return Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False, max_epochs=2,
                   enable_model_summary=False, enable_checkpointing=False)  # fmt: skip


def fit_on_two_ranks(tmp_path, callback, make_module, read):
    """Fits with ``callback()`` in two processes; what ``read(callback, module)`` says on each, and the weights."""

    def train(environment):
        torch.manual_seed(5)
        module, finder = make_module(environment.rank), callback()
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "logger": False}
        trainer = Trainer(environment=environment, devices=2, strategy="ddp", accelerator="cpu", callbacks=[finder], max_steps=4,
                          default_root_dir=tmp_path, **quiet)  # fmt: skip
        trainer.fit(module)
        return read(finder, module), [parameter.tolist() for parameter in module.parameters()], trainer.global_step

    first, second = run_ranks(train)
    assert first == second
    assert first[2] == 4
    return first[0]


class Counted(TinyModule):
    """With all kinds of state that a run changes."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.5)
        self.norm.eval()
        self.calls = []
        self.batch_size = 4
        self.data = RandomData(16)

    def forward(self, x):
        return self.layer(self.drop(self.norm(x)))

    def training_step(self, batch, batch_idx):
        self.calls.append(random.random() + np.random.rand())
        return super().training_step(batch, batch_idx)

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=self.batch_size, shuffle=True)


def digest(*things):
    """A hash of everything that a tuner could have changed."""
    buffer = io.BytesIO()
    torch.save([torch.get_rng_state(), *things], buffer)
    return hashlib.sha256(buffer.getvalue() + repr((random.getstate(), np.random.get_state())).encode()).hexdigest()


def everything(trainer, module, loader):
    return digest(
        module.state_dict(),
        [part.training for part in module.modules()],
        [(parameter.requires_grad, parameter.grad) for parameter in module.parameters()],
        [optimizer.state_dict() for optimizer in trainer.optimizers],
        module.calls,
        loader.generator.get_state(),
        repr(trainer.progress),
        list(trainer.history),
        [type(callback).__name__ for callback in trainer.callbacks],
        [trainer.max_epochs, trainer.max_steps, trainer.limit_val_batches, repr(trainer.should_stop)],
    )


@pytest.mark.parametrize("tune", ["lr_find", "scale_batch_size"])
def test_promise_39_a_tuner_leaves_everything_as_it_was(trainer, tune):
    module = Counted()
    loader = DataLoader(module.data, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(3))
    module.kept = loader
    trainer.fit(module, loader)  # so that there are optimizers, gradients and a history
    before = everything(trainer, module, loader)
    if tune == "lr_find":
        Tuner(trainer).lr_find(module, loader, num_training=20, update_attr=False)
    else:
        Tuner(trainer).scale_batch_size(module, max_trials=3)
        module.batch_size = 4
    assert everything(trainer, module, loader) == before
    assert module.trainer is trainer


@pytest.mark.parametrize(
    "callback", [LearningRateFinder(num_training_steps=20, update_attr=False), BatchSizeFinder(max_trials=3)]
)
def test_promise_39_a_fit_with_a_finder_goes_as_one_without(trainer, tmp_path, callback):
    torch.manual_seed(5)
    plain, tuned = Counted(), Counted()
    tuned.load_state_dict(plain.state_dict())
    torch.manual_seed(7)
    trainer.fit(plain)
    trainer.callbacks.append(callback)
    if isinstance(callback, BatchSizeFinder):
        trainer.callbacks.append(LambdaCallback(on_fit_start=lambda module: setattr(module, "batch_size", 4)))
    torch.manual_seed(7)
    trainer.fit(tuned)
    assert torch.equal(plain.layer.weight, tuned.layer.weight)
    assert len(tuned.calls) == len(plain.calls) == 8


@pytest.mark.parametrize("tune", ["lr_find", "scale_batch_size"])
def test_promise_39_what_is_drawn_before_the_first_step_leaves_no_trace(trainer, tune):
    """A fit isolates its loop; what sets it up draws random numbers too, as a random split does."""
    splits = []

    class Split(TinyDataModule):
        batch_size = 2

        def setup(self, stage):
            self.train, _ = torch.utils.data.random_split(RandomData(16), [12, 4])
            splits.append((self.train.indices, random.random(), np.random.rand()))

        def train_dataloader(self):
            return DataLoader(self.train, batch_size=self.batch_size)

    module, data = TinyModule(), Split()
    before = digest()
    if tune == "lr_find":
        Tuner(trainer).lr_find(module, datamodule=data, num_training=3, update_attr=False)
    else:
        Tuner(trainer).scale_batch_size(module, datamodule=data, max_trials=2)
    assert digest() == before
    assert splits
    assert splits == splits[:1] * len(splits)


# ---- the learning rate ----


def test_a_range_test_raises_the_rate_step_by_step(trainer):
    rates = []

    class Watched(TinyModule):
        def optimizer_step(self, epoch, batch_idx, optimizer, closure):
            optimizer.step(closure)
            rates.append(optimizer.param_groups[0]["lr"])

        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return [optimizer], [{"scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1), "interval": "step"}]

    found = Tuner(trainer).lr_find(Watched(), min_lr=1e-4, max_lr=1.0, num_training=5, update_attr=False)
    assert found.results["lr"] == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    assert rates == found.results["lr"]
    linear = Tuner(trainer).lr_find(TinyModule(), min_lr=0.1, max_lr=0.5, num_training=5, mode="linear", update_attr=False)
    assert linear.results["lr"] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_the_losses_are_those_of_training_with_these_rates(trainer):
    module = TinyModule()
    copied = TinyModule()
    copied.load_state_dict(module.state_dict())
    found = Tuner(trainer).lr_find(module, min_lr=1e-3, max_lr=0.1, num_training=8, update_attr=False)
    average, expected, batches = 0.0, [], [*copied.train_dataloader()] * 2
    for step, (rate, (x, y)) in enumerate(zip(found.results["lr"], batches, strict=True), start=1):
        copied.zero_grad()
        loss = nn.functional.cross_entropy(copied(x), y)
        loss.backward()
        with torch.no_grad():
            for parameter in copied.parameters():
                parameter -= rate * parameter.grad
        average = 0.98 * average + 0.02 * float(loss.detach())
        expected.append(average / (1 - 0.98**step))
    assert found.results["loss"] == pytest.approx(expected, rel=1e-5)


def test_it_breaks_off_when_the_loss_grows(trainer):
    class Unstable(TinyModule):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) + (self.layer.weight**4).sum()

    module = Unstable()
    found = Tuner(trainer).lr_find(module, max_lr=100.0, num_training=100)
    assert found.stopped_early
    assert len(found.results["lr"]) < 100
    assert module.lr == module.hparams.lr == found.suggestion()
    assert module.lr in found.results["lr"]


def test_it_goes_on_where_a_negative_loss_falls(trainer):
    class Negative(TinyModule):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) - 10

    found = Tuner(trainer).lr_find(Negative(), num_training=40)
    assert not found.stopped_early
    assert len(found.results["loss"]) == 40


def curve(losses, mode="exponential"):
    found = RangeTest(mode, 1e-3, 1.0, len(losses))
    found.results = {"lr": [found.rate(step) for step in range(len(losses))], "loss": losses}
    return found


def test_suggestions():
    found = curve([1.0, 1.0, 0.9, 0.5, 0.3, 0.25, 5.0])
    rates = found.results["lr"]
    assert found.suggestion(0, 1) == rates[3]
    assert found.suggestion(0, 1, "minimum") == rates[5] / 10
    assert curve([1.0, 0.9, 0.5, 0.4, 9.0, 5.0, 6.0]).suggestion(0, 0) == pytest.approx(rates[1])  # not the fall from 9 to 5
    falling = curve([9.0, 1.0, 0.9, 0.8, 3.0, 0.7, 0.6, 0.5, 0.4])
    assert falling.suggestion(1, 0, "valley") == falling.results["lr"][5]
    assert curve([1.0, float("nan"), float("inf")]).suggestion(0, 0) is None
    assert curve([1.0] * 10).suggestion() is None


def test_the_plot_shows_the_curve_and_the_suggestion(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    found = curve([1.0, 1.0, 0.9, 0.5, 0.3, 0.25, 5.0])
    figure = found.plot(suggest=True, skip_begin=0)
    [axes] = figure.axes
    assert axes.get_xscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("learning rate", "loss")
    line, point = axes.get_lines()
    assert list(line.get_ydata()) == found.results["loss"]
    assert point.get_xdata()[0] == found.suggestion(0)
    figure.savefig(tmp_path / "range.png")
    assert (tmp_path / "range.png").stat().st_size > 5000
    matplotlib.pyplot.close(figure)


def test_a_fit_trains_with_the_rate_that_was_found(trainer, capsys):
    finder = LearningRateFinder(num_training_steps=30)
    trainer.callbacks.append(finder)
    module = TinyModule()
    trainer.fit(module)
    assert finder.suggested == finder.optimal_lr.suggestion() == module.lr == trainer.optimizers[0].param_groups[0]["lr"]
    assert f"leyden: the learning rate is {module.lr:.3g}, by a range test\n" in capsys.readouterr().err


def test_a_test_of_too_few_steps_says_how_many(trainer, capsys):
    trainer.callbacks.append(LearningRateFinder(num_training_steps=12))
    trainer.fit(TinyModule())
    assert (
        "leyden: LearningRateFinder: the test has 12 losses, 12 of them finite, which is too few to suggest a learning rate, for "
        "the first 10 and the last say little; it stays as it is\n"
    ) in capsys.readouterr().err


def test_a_resumed_fit_keeps_its_rate(trainer, tmp_path):
    finder = LearningRateFinder(num_training_steps=30)
    trainer.callbacks.append(finder)
    trainer.fit(TinyModule())
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    before, finder.optimal_lr, finder.suggested = finder.suggested, None, None
    trainer.fit(TinyModule(), ckpt_path=tmp_path / "saved.ckpt")
    assert (finder.optimal_lr, finder.suggested) == (None, before)


def test_all_processes_train_with_one_rate(tmp_path):
    """Each tests with random numbers of its own, so that they would find different ones."""

    def read(finder, module):
        assert module.lr == finder.suggested
        return finder.suggested, finder.optimal_lr.results

    rate, results = fit_on_two_ranks(
        tmp_path, lambda: LearningRateFinder(1e-4, num_training_steps=20), lambda rank: Counted(), read
    )
    assert rate in results["lr"]
    assert len(results["loss"]) == 20


def test_range_tests_that_cannot_be(trainer, refusal):
    class NoRate(TinyModule):
        def __init__(self):
            super().__init__()
            del self.lr
            del self.hparams["lr"]

    class Two(TinyModule):
        def configure_optimizers(self):
            return [super().configure_optimizers(), super().configure_optimizers()]

    find = Tuner(trainer).lr_find
    assert refusal(AttributeError, find, NoRate()) == (
        "lr_find: NoRate has no 'lr' or 'learning_rate' to set, nor has its hparams; name it with attr_name, or pass "
        "update_attr=False"
    )
    assert refusal(AttributeError, find, TinyModule(), attr_name="lrr") == (
        "lr_find: TinyModule has no 'lrr' to set, nor has its hparams; did you mean 'lr'?, or pass update_attr=False"
    )
    assert refusal(ValueError, find, Two()) == "a range test changes the learning rate of one optimizer, but Two has 2"
    assert refusal(ValueError, find, TinyModule(), min_lr=1.0, max_lr=0.1) == (
        "lr_find(min_lr=1.0, max_lr=0.1): expected 0 < min_lr < max_lr"
    )
    assert refusal(ValueError, find, TinyModule(), iter([])) == (
        "a trial would use up the iterator that was given; pass an iterable that starts anew each epoch"
    )
    assert refusal(ValueError, find, TinyModule(), method="test") == (
        "lr_find(method='test'): a learning rate matters to 'fit' only; pass train_dataloaders"
    )
    assert (
        refusal(ValueError, LearningRateFinder, mode="log")
        == "LearningRateFinder(mode='log'): expected 'exponential' or 'linear'"
    )
    assert refusal(ValueError, LearningRateFinder, num_training_steps=1) == (
        "LearningRateFinder(num_training=1): expected an int of at least 2, got int 1"
    )


def test_a_module_that_cannot_be_copied(trainer, refusal):
    module = TinyModule()
    module.stream = (number for number in range(3))
    assert refusal(TypeError, Tuner(trainer).lr_find, module) == (
        "a trial runs on a copy of the module, but TinyModule cannot be copied: TypeError: cannot pickle 'generator' object"
    )


def test_a_tuner_of_several_processes(tmp_path, refusal):
    def tune(environment):
        trainer = Trainer(environment=environment, devices=2, strategy="ddp", accelerator="cpu", default_root_dir=tmp_path)
        return refusal(ValueError, Tuner(trainer).lr_find, TinyModule())

    assert run_ranks(tune) == 2 * [
        "a trial runs in one process; this Trainer has 2: try with devices=1 first, or with a callback, such as "
        "'learning_rate_finder' or 'batch_size_finder'"
    ]


# ---- the batch size ----


class Sized(TinyModule):
    """Runs out of memory with more than ``most`` samples."""

    def __init__(self, most, batch_size=4, length=10_000):
        super().__init__()
        self.most, self.batch_size = most, batch_size
        self.data = RandomData(length)

    def training_step(self, batch, batch_idx):
        if len(batch[0]) > self.most:
            torch.empty(2**60)
        return super().training_step(batch, batch_idx)

    def test_step(self, batch, batch_idx):
        if len(batch[0]) > self.most // 2:
            torch.empty(2**60)

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=self.batch_size)

    test_dataloader = train_dataloader


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, 64),
        ({"mode": "binsearch", "margin": 0.0}, 100),
        ({"mode": "binsearch"}, 95),
        ({"init_val": 1000}, 62),
        ({"max_trials": 3}, 8),
        ({"max_val": 50}, 50),
        ({"method": "test"}, 32),
    ],
)
def test_the_largest_that_fits(trainer, options, found):
    module = Sized(100)
    assert Tuner(trainer).scale_batch_size(module, **options) == found
    assert module.batch_size == found


@pytest.mark.parametrize(
    ("most", "length", "options", "found"),
    [
        ((100, 20), 10_000, {}, 16),
        ((20, 100), 10_000, {"mode": "binsearch", "margin": 0.0}, 20),
        ((10, 1000), 40, {"init_val": 1000}, 7),  # the larger sizes are all of the data on the rank on which they fit
    ],
)
def test_all_processes_train_with_the_size_that_fits_everywhere(tmp_path, most, length, options, found):
    size = fit_on_two_ranks(
        tmp_path,
        lambda: BatchSizeFinder(**options),
        lambda rank: Sized(most[rank], length=length),
        lambda finder, module: (finder.optimal_batch_size, module.batch_size),
    )
    assert size == (found, found)


def test_no_larger_than_the_data(trainer):
    assert Tuner(trainer).scale_batch_size(Sized(10_000, length=40)) == 40


def test_it_is_set_on_a_data_module(trainer):
    class Data(TinyDataModule):
        batch_size = 2

        def train_dataloader(self):
            return DataLoader(RandomData(16), batch_size=self.batch_size)

    data = Data()
    assert Tuner(trainer).scale_batch_size(TinyModule(), datamodule=data, max_val=8) == data.batch_size == 8


def test_a_fit_trains_with_the_size_that_was_found(trainer, capsys):
    sizes = []
    finder = BatchSizeFinder(mode="binsearch", margin=0)
    trainer.callbacks += [finder, LambdaCallback(on_train_batch_start=lambda batch: sizes.append(len(batch[0])))]
    trainer.fit(Sized(100, length=200))
    assert sizes == [100, 100] * 2
    assert finder.optimal_batch_size == 100
    assert "leyden: the batch size is 100, the largest that was found to fit\n" in capsys.readouterr().err


def test_a_search_asks_as_little_as_it_can():
    asked = []

    def fits(size):
        asked.append(size)
        return size <= 13

    options = {"steps_per_trial": 3, "init_val": 2, "max_trials": 25, "margin": 0.0, "max_val": 8192}
    assert Search("power", **options).largest(fits) == 8
    assert asked == [2, 4, 8, 16]
    asked.clear()
    assert Search("binsearch", **options).largest(fits) == 13
    assert asked == [2, 4, 8, 16, 12, 14, 13]


def test_searches_that_cannot_be(trainer, refusal):
    scale = Tuner(trainer).scale_batch_size
    module = Sized(100)
    assert refusal(RuntimeError, scale, Sized(0)) == "out of memory with a batch of one sample"
    assert refusal(RuntimeError, scale, Sized(3), init_val=1000, max_trials=2) == (
        "out of memory with a batch of 500 samples; allow more than max_trials=2, or begin lower"
    )
    assert refusal(ValueError, scale, module, module.train_dataloader()) == (
        "scale_batch_size() cannot change the batch size of a loader that you pass; write the loaders in the module or a data "
        "module, with batch_size=self.batch_size"
    )
    assert refusal(AttributeError, scale, TinyModule()) == (
        "scale_batch_size: TinyModule has no 'batch_size' to set; its loaders must be made in train_dataloader() with "
        "batch_size=self.batch_size"
    )
    assert refusal(ValueError, scale, module, mode="pow") == (
        "scale_batch_size(mode='pow'): expected 'power' or 'binsearch'; did you mean 'power'?"
    )
    assert refusal(ValueError, BatchSizeFinder, margin=1) == "BatchSizeFinder(margin=1): expected a fraction below 1"
    trainer.callbacks.append(BatchSizeFinder())
    assert refusal(ValueError, trainer.fit, module, module.train_dataloader()) == (
        "BatchSizeFinder cannot change the batch size of a loader that you pass; write the loaders in the module or a data "
        "module, with batch_size=self.batch_size"
    )


def test_other_errors_of_the_step_leave_the_search(trainer, refusal):
    class Broken(Sized):
        def training_step(self, batch, batch_idx):
            raise KeyError("no")

    module = Broken(10)
    refusal(KeyError, Tuner(trainer).scale_batch_size, module)
    assert module.batch_size == 4
