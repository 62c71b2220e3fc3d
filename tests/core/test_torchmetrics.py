"""torchmetrics objects given to ``log()``: their own values, reset once, never changed by logging."""

from __future__ import annotations

import copy

import pytest
import torch
from leyden import Callback, Logger, Trainer
from leyden.testing import RandomData, TinyModule
from torch.utils.data import DataLoader

torchmetrics = pytest.importorskip("torchmetrics")
from torchmetrics import MeanMetric, MeanSquaredError, MetricCollection  # noqa: E402  # after the check that it is there
from torchmetrics.classification import BinaryAccuracy, BinaryF1Score, BinaryPrecision, BinaryRecall  # noqa: E402

pytestmark = pytest.mark.usefixtures("core_alone")

LOADER = DataLoader(RandomData(10), batch_size=4)  # batches of 4, 4 and 2 samples


class Counts(BinaryAccuracy):
    """Counts its resets."""

    resets = 0
    inside = False

    def forward(self, *args):
        self.inside = True  # where torchmetrics resets it to work out the value of the batch alone, and takes that back
        try:
            return super().forward(*args)
        finally:
            self.inside = False

    def reset(self):
        self.resets += not self.inside
        super().reset()


class Measured(TinyModule):
    """Logs one accuracy for each stage; what it saw is kept to compare."""

    def __init__(self, **options):
        super().__init__()
        self.options = options
        self.train_acc, self.val_acc = Counts(), Counts()
        self.train_acc.resets = self.val_acc.resets = 0
        self.seen = {"train": [], "val": []}

    def measure(self, metric, stage, batch):
        x, y = batch
        predictions = self(x).argmax(dim=1)
        self.seen[stage].append((self.current_epoch, predictions, y))
        metric(predictions, y)
        self.log(f"{stage}_acc", metric, **self.options)

    def training_step(self, batch, batch_idx):
        self.measure(self.train_acc, "train", batch)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.measure(self.val_acc, "val", batch)


def own_value(seen, epoch, metric=BinaryAccuracy):
    """torchmetrics' own value over an epoch."""
    own = metric()
    for when, predictions, y in seen:
        if when == epoch:
            own.update(predictions, y)
    return own.compute().item()


def fit(module, **options):
    trainer = Trainer(**{"max_epochs": 3, "num_sanity_val_steps": 0, **options})
    return trainer, trainer.fit(module, LOADER, LOADER)


def test_an_epochs_value_is_torchmetrics_own_over_the_epoch():
    module = Measured(on_step=False, on_epoch=True)
    _, history = fit(module)
    for stage in ("train", "val"):
        assert history[f"{stage}_acc"] == [own_value(module.seen[stage], epoch) for epoch in range(3)]
    assert len(set(history["train_acc"])) > 1


def test_a_steps_value_is_that_of_its_batch_alone():
    module = Measured(on_step=True, on_epoch=True)
    _, history = fit(module, log_every_n_steps=1, limit_val_batches=0)
    assert history["train_acc_step"] == [(p == y).float().mean().item() for _, p, y in module.seen["train"]]
    assert history["train_acc_epoch"] == [own_value(module.seen["train"], epoch) for epoch in range(3)]


def test_the_defaults_are_those_of_every_value():
    module = Measured()
    _, history = fit(module, log_every_n_steps=1)
    assert len(history["train_acc"]) == 9
    assert len(history["val_acc"]) == 3


def test_a_metric_is_reset_once_an_epoch():
    module = Measured(on_step=False, on_epoch=True)
    fit(module)
    assert (module.train_acc.resets, module.val_acc.resets) == (3, 3)


def test_a_metric_of_step_values_only_is_reset_at_the_epochs_end_too():
    module = Measured(on_step=True, on_epoch=False)
    fit(module, limit_val_batches=0)
    assert module.train_acc.resets == 3


def test_logging_does_not_change_what_a_metric_has_accumulated():
    states = []

    class Looks(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            states.append((module.train_acc.update_count, module.train_acc.tp + module.train_acc.tn + module.train_acc.fp
                           + module.train_acc.fn))  # fmt: skip

    class Often(Measured):
        def measure(self, metric, stage, batch):
            super().measure(metric, stage, batch)
            before = copy.deepcopy(metric.metric_state)
            self.log(f"{stage}_acc", metric, **self.options)  # a second time
            assert all(torch.equal(before[name], value) for name, value in metric.metric_state.items())

    module = Often(on_step=True, on_epoch=True)
    fit(module, callbacks=[Looks()], max_epochs=2, log_every_n_steps=1)
    assert [(count, int(samples)) for count, samples in states] == [(1, 4), (2, 8), (3, 10)] * 2


def test_a_metric_that_was_only_updated_has_an_epochs_value():
    class Updates(TinyModule):
        def __init__(self):
            super().__init__()
            self.error, self.seen = MeanSquaredError(), []

        def validation_step(self, batch, batch_idx):
            x, y = batch
            self.seen.append((self(x)[:, 1] - y).square())
            self.error.update(self(x)[:, 1], y)
            self.log("error", self.error)

    module = Updates()
    _, history = fit(module, max_epochs=1)
    assert history["error"] == [pytest.approx(torch.cat(module.seen).mean().item())]


def test_a_step_value_needs_a_forward():
    class Updates(TinyModule):
        def __init__(self):
            super().__init__()
            self.mean = MeanMetric()

        def training_step(self, batch, batch_idx):
            self.mean.update(1.0)
            self.log("mean", self.mean)

    with pytest.raises(ValueError) as caught:
        fit(Updates())
    assert str(caught.value) == (
        "self.log('mean', ..., on_step=True) needs the value of this batch: call the MeanMetric itself, as in "
        "self.metric(preds, target), not only its update(); or pass on_step=False, on_epoch=True"
    )


def test_the_epochs_end_may_log_a_metric_that_batches_updated():
    class Late(Measured):
        def measure(self, metric, stage, batch):
            x, y = batch
            predictions = self(x).argmax(dim=1)
            self.seen[stage].append((self.current_epoch, predictions, y))
            metric.update(predictions, y)

        def on_train_epoch_end(self):
            self.log("train_acc", self.train_acc)

        def on_validation_epoch_end(self):
            self.log("val_acc", self.val_acc)
            assert self.trainer.callback_metrics["val_acc"] == self.val_acc.compute()

    module = Late()
    _, history = fit(module)
    for stage in ("train", "val"):
        assert history[f"{stage}_acc"] == [own_value(module.seen[stage], epoch) for epoch in range(3)]
    assert (module.train_acc.resets, module.val_acc.resets) == (3, 3)


# ---- when it is reset ----


class Skips(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        return -1 if batch_idx == 1 else None


@pytest.mark.parametrize(
    "options", [{"callbacks": [Skips()]}, {"limit_train_batches": 1}, {"max_steps": 4}], ids=["skipped", "limited", "stopped"]
)
def test_a_metric_is_reset_when_the_epoch_is_cut_short(options):
    module = Measured(on_step=False, on_epoch=True)
    _, history = fit(module, limit_val_batches=0, **options)
    epochs = sorted({epoch for epoch, *_ in module.seen["train"]})
    assert history["train_acc"] == [own_value(module.seen["train"], epoch) for epoch in epochs]
    assert module.train_acc.update_count == 0


@pytest.mark.parametrize("stage", ["train", "val", "sanity"])
def test_a_metric_is_reset_when_a_run_fails(stage):
    class Fails(Measured):
        fails = True

        def measure(self, metric, what, batch):
            super().measure(metric, what, batch)
            if self.fails and what == stage.replace("sanity", "val"):
                raise RuntimeError("the user's own")

    module = Fails(on_step=False, on_epoch=True)
    with pytest.raises(RuntimeError, match="the user's own"):
        fit(module, num_sanity_val_steps=2 if stage == "sanity" else 0)
    assert (module.train_acc.update_count, module.val_acc.update_count) == (0, 0)


def test_the_sanity_check_leaves_nothing_in_a_metric():
    values = []
    for steps in (0, 2):
        torch.manual_seed(0)
        module = Measured(on_step=False, on_epoch=True)
        _, history = fit(module, num_sanity_val_steps=steps)
        values.append((history["val_acc"], history["train_acc"]))
    assert values[0] == values[1]


def test_validation_inside_an_epoch_leaves_the_training_metric_as_it_was():
    module = Measured(on_step=False, on_epoch=True)
    _, history = fit(module, val_check_interval=1)
    assert history["train_acc"] == [own_value(module.seen["train"], epoch) for epoch in range(3)]
    assert len(history["val_acc"]) == module.val_acc.resets == 9


# ---- stages ----


def test_one_object_in_training_and_validation_is_an_error():
    class Shares(Measured):
        def validation_step(self, batch, batch_idx):
            self.measure(self.train_acc, "val", batch)

    with pytest.raises(ValueError) as caught:
        fit(Shares())
    assert str(caught.value) == (
        "self.log('val_acc', ...): the same Counts object is logged as 'train_acc' in a training batch too, so each would count "
        "the other's samples; make one for each stage"
    )


def test_one_object_may_be_used_in_validation_and_in_test():
    class Evaluates(Measured):
        def test_step(self, batch, batch_idx):
            self.measure(self.val_acc, "val", batch)

    module = Evaluates()
    trainer, _ = fit(module, max_epochs=1)
    module.seen["val"].clear()
    [results] = trainer.test(module, LOADER, verbose=False)
    assert results == {"val_acc": own_value(module.seen["val"], 1)}


# ---- collections ----


class Collected(TinyModule):
    """A collection whose members share their state, as precision, recall and F1 do."""

    def __init__(self):
        super().__init__()
        self.metrics = MetricCollection([BinaryPrecision(), BinaryRecall(), BinaryF1Score()], prefix="val_")
        self.seen = []

    def validation_step(self, batch, batch_idx):
        x, y = batch
        predictions = self(x).argmax(dim=1)
        self.seen.append((self.current_epoch, predictions, y))
        self.metrics(predictions, y)
        self.log_dict(self.metrics)


def test_a_collection_gives_the_values_of_its_members():
    module = Collected()
    _, history = fit(module)
    for metric in (BinaryPrecision, BinaryRecall, BinaryF1Score):
        assert history[f"val_{metric.__name__}"] == [own_value(module.seen, epoch, metric) for epoch in range(3)]
    assert [member.update_count for member in module.metrics.values()] == [0, 0, 0]


def test_a_collection_given_to_log_is_told_of_log_dict():
    class Wrong(Collected):
        def validation_step(self, batch, batch_idx):
            self.metrics(batch[0][:, 0].sigmoid(), batch[1])
            self.log("all", self.metrics)

    with pytest.raises(ValueError) as caught:
        fit(Wrong())
    assert str(caught.value) == ("self.log('all', ...): a MetricCollection has several values; use self.log_dict(collection)")


def test_a_metric_of_several_numbers_is_an_error():
    class Several(TinyModule):
        def __init__(self):
            super().__init__()
            self.metric = torchmetrics.classification.MulticlassAccuracy(num_classes=2, average=None)

        def validation_step(self, batch, batch_idx):
            self.metric(self(batch[0]), batch[1])
            self.log("classes", self.metric)

    with pytest.raises(ValueError) as caught:
        fit(Several())
    assert str(caught.value) == (
        "self.log('classes', ...): MulticlassAccuracy gives a tensor of shape (2,), not one number; log its parts by name"
    )


def test_loggers_and_the_bar_get_a_metrics_values():
    records = []

    class Keeps(Logger):
        def log_metrics(self, metrics, step):
            records.append(dict(metrics))

    module = Measured(on_step=False, on_epoch=True, prog_bar=True)
    trainer, history = fit(module, logger=Keeps(), max_epochs=1)
    assert [record["val_acc"] for record in records if "val_acc" in record] == history["val_acc"]
    assert trainer.progress_bar_metrics["train_acc"] == history["train_acc"][0]


def test_a_metric_may_be_logged_without_a_trainer():
    module = Measured()
    module.measure(module.train_acc, "train", next(iter(LOADER)))
    assert module.train_acc.update_count == 1
