"""What becomes of a logged value: which keys, which number, which record, when."""

from __future__ import annotations

import math

import pytest
import torch
from leyden import Callback, Logger, Trainer, hookimpl
from leyden.testing import TinyModule
from torch.utils.data import BatchSampler, DataLoader, SubsetRandomSampler, TensorDataset

pytestmark = pytest.mark.usefixtures("core_alone")


class Memory(Logger):
    """Keeps records as ``(step, metrics)``."""

    def __init__(self):
        self.records = []

    def log_metrics(self, metrics, step):
        self.records.append((step, dict(metrics)))

    def of(self, key):
        return [(step, metrics[key]) for step, metrics in self.records if key in metrics]


class Silent(TinyModule):
    """Logs nothing by itself; the tests override what they need."""

    def training_step(self, batch, batch_idx):
        return self(batch[0]).mean()

    def validation_step(self, batch, batch_idx):
        pass

    def test_step(self, batch, batch_idx):
        pass


def fit(module, **options):
    """Four training batches of four samples an epoch, two validation batches; every step is recorded."""
    logger = Memory()
    trainer = Trainer(**{"max_epochs": 1, "logger": logger, "log_every_n_steps": 1, **options})
    trainer.fit(module)
    return trainer, logger


def values(trainer):
    return {key: round(value.item(), 6) for key, value in trainer.callback_metrics.items()}


# ---- keys and defaults ----


def test_a_training_step_logs_step_values_by_default():
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            self.log("x", float(batch_idx))
            return super().training_step(batch, batch_idx)

    trainer, logger = fit(Logs())
    assert logger.of("x") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]
    assert values(trainer) == {"x": 3.0}


@pytest.mark.parametrize("hook", ["validation_step", "on_validation_batch_start", "on_validation_batch_end"])
def test_a_validation_batch_logs_the_epochs_mean_by_default(hook):
    class Logs(Silent):
        pass

    def log(self, *args):
        self.log("x", float(args[-2] if isinstance(args[-1], int) and len(args) > 2 and isinstance(args[-2], int) else args[-1]))

    if hook == "validation_step":
        Logs.validation_step = lambda self, batch, batch_idx: log(self, batch_idx)
    elif hook == "on_validation_batch_start":
        Logs.on_validation_batch_start = lambda self, batch, batch_idx: log(self, batch_idx)
    else:
        Logs.on_validation_batch_end = lambda self, outputs, batch, batch_idx: log(self, batch_idx)
    trainer, logger = fit(Logs())
    assert logger.of("x") == [(3, 0.5)]
    assert values(trainer) == {"x": 0.5}


@pytest.mark.parametrize(
    "hook",
    [
        "on_train_batch_start",
        "on_before_backward",
        "on_after_backward",
        "on_before_optimizer_step",
        "on_before_zero_grad",
        "on_train_batch_end",
    ],
)
def test_a_hook_of_a_training_batch_logs_step_values_by_default(hook):
    logger = Memory()
    callback = type("Logs", (Callback,), {hook: lambda self, trainer, module, *args: module.log("x", 1.0)})()
    Trainer(max_epochs=1, limit_train_batches=2, logger=logger, log_every_n_steps=1, callbacks=[callback]).fit(Silent())
    assert logger.of("x") == [(0, 1.0), (1, 1.0)]


@pytest.mark.parametrize("hook", ["on_train_start", "on_train_epoch_start", "on_train_epoch_end", "on_validation_start",
                                  "on_validation_epoch_start", "on_validation_epoch_end"])  # fmt: skip
def test_a_hook_of_an_epoch_logs_once_an_epoch(hook):
    module = type("Logs", (Silent,), {hook: lambda self: self.log("x", 2.5)})()
    trainer, logger = fit(module)
    assert logger.of("x") == [(3, 2.5)]
    assert values(trainer) == {"x": 2.5}


@pytest.mark.parametrize("hook", ["on_test_start", "on_test_epoch_start", "on_test_epoch_end"])
def test_a_hook_of_a_test_logs_once(hook):
    module = type("Logs", (Silent,), {hook: lambda self: self.log("x", 2.5)})()
    assert Trainer().test(module, verbose=False) == [{"x": 2.5}]


def test_a_hook_of_an_epoch_has_no_step_values():
    class Logs(Silent):
        def on_train_epoch_end(self):
            self.log("x", 1.0, on_step=True)

    with pytest.raises(ValueError) as caught:
        fit(Logs())
    assert str(caught.value) == (
        "self.log('x', ..., on_step=True): a training epoch has no step; leave on_step out, or log from a batch hook"
    )


def test_both_step_and_epoch_have_two_keys():
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            self.log("x", float(batch_idx), on_step=True, on_epoch=True)
            return super().training_step(batch, batch_idx)

    trainer, logger = fit(Logs())
    assert logger.of("x_step") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]
    assert logger.of("x_epoch") == [(3, 1.5)]
    assert logger.of("x") == []
    assert values(trainer) == {"x": 1.5, "x_step": 3.0, "x_epoch": 1.5}


def test_neither_step_nor_epoch_keeps_nothing():
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            self.log("x", 1.0, on_step=False, on_epoch=False)
            return super().training_step(batch, batch_idx)

    trainer, logger = fit(Logs())
    assert (logger.records, values(trainer)) == ([], {})


def test_a_validation_batch_may_log_step_values_for_callbacks():
    seen = []

    class Logs(Silent):
        def validation_step(self, batch, batch_idx):
            self.log("x", float(batch_idx), on_step=True, on_epoch=True)
            seen.append(self.trainer.callback_metrics["x_step"])

    trainer, _ = fit(Logs(), num_sanity_val_steps=0)
    assert seen == [0.0, 1.0]
    assert values(trainer)["x_epoch"] == 0.5


def test_known_keys_has_what_the_sanity_check_logged():
    seen = []

    class Asks(Callback):
        def validate_run(self, trainer, module):
            seen.append(trainer.metrics.known_keys())

    fit(TinyModule(), callbacks=[Asks()])
    assert seen == [{"val_loss", "val_acc"}]


# ---- numbers ----


def unequal():
    """Batches of 1, 3 and 4 samples whose first feature is 1, 2 and 3."""
    return [(torch.full((size, 8), value), torch.zeros(size)) for size, value in ((1, 1.0), (3, 2.0), (4, 3.0))]


def reduced(value=lambda batch: batch[0].mean(), batches=None, **options):
    class Logs(Silent):
        def test_step(self, batch, batch_idx):
            self.log("x", value(batch), **options)

    [results] = Trainer().test(Logs(), unequal() if batches is None else batches, verbose=False)
    return results["x"]


def test_a_mean_is_weighted_by_batch_size():
    assert reduced() == (1 * 1 + 3 * 2 + 4 * 3) / 8


@pytest.mark.parametrize(
    ("order", "drop_last", "expected"), [(range(10), False, 4.5), (range(10), True, 3.5), (SubsetRandomSampler([5]), False, 5.0)]
)
def test_a_mean_is_weighted_by_the_batches_of_a_batch_sampler_of_the_users(order, drop_last, expected):
    data = TensorDataset(torch.arange(100.0).view(100, 1))  # most of which the batch sampler leaves out
    loader = DataLoader(data, batch_sampler=BatchSampler(order, 4, drop_last))
    assert reduced(batches=loader) == expected


def test_a_given_batch_size_is_the_weight():
    assert reduced(batch_size=1) == 2.0


@pytest.mark.parametrize("first", ["x", "x_epoch"])
def test_two_names_that_would_be_one_key_are_an_error(first):
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            for name in (first, {"x": "x_epoch", "x_epoch": "x"}[first]):
                self.log(name, 1.0, on_step=name == "x", on_epoch=True)
            return super().training_step(batch, batch_idx)

    with pytest.raises(ValueError, match="would both be recorded as 'x_epoch'; give one of them another name"):
        fit(Logs())


@pytest.mark.parametrize("make", [float, torch.tensor])
def test_a_batch_without_samples_counts_for_nothing_in_a_mean(make):
    given = iter([(1.0, 1), (math.nan, 0), (100.0, 0), (3.0, 3)])

    class Logs(Silent):
        def test_step(self, batch, batch_idx):
            value, size = next(given)
            self.log("x", make(value), batch_size=size)

    assert Trainer().test(Logs(), [torch.zeros(1, 8)] * 4, verbose=False) == [{"x": 2.5}]


@pytest.mark.parametrize("size", [0, None])
def test_the_mean_of_no_samples_at_all_is_nan(size):
    assert math.isnan(reduced(lambda batch: 1.0, [torch.zeros(0, 8)] * 2, batch_size=size))


@pytest.mark.parametrize(
    ("reduce_fx", "expected"),
    [
        ("sum", 6.0),
        (sum, 6.0),
        (torch.sum, 6.0),
        ("min", 1.0),
        (min, 1.0),
        ("max", 3.0),
        (max, 3.0),
        ("mean", 2.375),
        ("avg", 2.375),
    ],
)
def test_values_are_reduced_by(reduce_fx, expected):
    assert reduced(reduce_fx=reduce_fx) == expected
    assert reduced(value=lambda batch: batch[0].mean().item(), reduce_fx=reduce_fx) == expected


def test_tensors_and_numbers_may_be_mixed_under_one_key():
    for reduce_fx, expected in (("sum", 6.0), ("min", 1.0), ("max", 3.0), ("mean", 2.375)):
        mixed = iter([torch.tensor(1.0), 2, torch.tensor(3)])
        assert reduced(value=lambda batch, mixed=mixed: next(mixed), reduce_fx=reduce_fx) == expected
        mixed = iter([1, torch.tensor(2.0), 3.0])
        assert reduced(value=lambda batch, mixed=mixed: next(mixed), reduce_fx=reduce_fx) == expected


@pytest.mark.parametrize("reduce_fx", ["min", "max"])
@pytest.mark.parametrize("first", [0, 1, 2, 64])
@pytest.mark.parametrize("make", [float, torch.tensor])
def test_an_extreme_is_nan_where_one_value_is_wherever_that_stands(reduce_fx, first, make):
    numbers = [float(number) for number in range(100)]
    numbers[first] = math.nan
    given = iter(numbers)
    assert math.isnan(reduced(lambda batch: make(next(given)), [torch.zeros(1, 8)] * 100, reduce_fx=reduce_fx))


def test_a_long_sum_of_float32_keeps_its_digits():
    batches = [torch.zeros(1, 8)] * 2000
    assert reduced(value=lambda batch: torch.tensor(0.1), batches=batches) == pytest.approx(torch.tensor(0.1).item(), rel=1e-12)


@pytest.mark.parametrize(
    "value", [3, 3.0, True, torch.tensor(3), torch.tensor([3.0]), torch.tensor([[3.0]]), torch.tensor(3.0, dtype=torch.float64)]
)
def test_a_value_may_be_any_one_number(value):
    assert reduced(value=lambda batch: value) == float(value)


def test_a_value_may_be_a_number_of_numpy():
    np = pytest.importorskip("numpy")
    assert reduced(value=lambda batch: np.float32(0.5)) == 0.5
    assert reduced(value=lambda batch: np.array([2])) == 2.0


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (torch.ones(2, 3), ValueError, "self.log('x', ...): expected one number, got a tensor of shape (2, 3); "
         "reduce it first, for instance with .mean()"),
        ({"a": 1}, ValueError, "self.log('x', ...): expected one number, got a dict; use self.log_dict(...) for several"),
        ("high", TypeError, "self.log('x', ...): expected a number or a tensor of one element, got str 'high'"),
        (None, TypeError, "self.log('x', ...): expected a number or a tensor of one element, got NoneType None"),
    ],
)  # fmt: skip
def test_a_value_may_not_be(value, error, message):
    with pytest.raises(error) as caught:
        reduced(value=lambda batch: value)
    assert str(caught.value) == message


def test_an_unknown_reduction_is_an_error():
    with pytest.raises(ValueError) as caught:
        reduced(reduce_fx="median")
    assert str(caught.value) == "self.log('x', ..., reduce_fx='median'): expected 'mean', 'sum', 'min' or 'max'"


def test_a_name_is_a_str():
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            self.log(3, 1.0)

    with pytest.raises(TypeError) as caught:
        fit(Logs())
    assert str(caught.value) == "self.log(3, ...): the name must be a str, got int 3"


def test_a_batch_of_unequal_tensors_has_no_size_of_its_own():
    batches = [(torch.zeros(2, 8), torch.zeros(3))]
    with pytest.raises(ValueError) as caught:
        reduced(value=lambda batch: 1.0, batches=batches)
    assert str(caught.value) == (
        "self.log('x', ..., on_epoch=True) needs the number of samples to weight this batch: the tensors of the batch have "
        "different first dimensions: 2, 3; pass batch_size=..."
    )
    assert reduced(value=lambda batch: 1.0, batches=batches, batch_size=2) == 1.0
    assert reduced(value=lambda batch: 1.0, batches=batches, reduce_fx="sum") == 1.0


def test_a_batch_without_a_tensor_has_no_size():
    with pytest.raises(ValueError) as caught:
        reduced(value=lambda batch: 1.0, batches=[("a", "b")])
    assert str(caught.value) == (
        "self.log('x', ..., on_epoch=True) needs the number of samples to weight this batch: a batch of type tuple holds no "
        "tensor that shows its size; pass batch_size=..."
    )


@pytest.mark.parametrize("attribute", ["__batch_size__", "num_graphs"])
def test_a_batch_may_say_its_own_size(attribute):
    def batch(size, value):
        made = type("Graphs", (), {})()
        setattr(made, attribute, size)
        made.x, made.edges = torch.full((7, 2), value), torch.zeros(2, 9)
        return made

    assert reduced(value=lambda b: b.x.mean(), batches=[batch(1, 1.0), batch(3, 5.0)]) == 4.0


def test_a_value_changed_in_place_after_log_is_kept_as_it_was():
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx) * 0 + 4
            self.log("x", loss, on_step=True, on_epoch=True)
            loss.detach().mul_(10)
            return loss

    trainer, logger = fit(Logs())
    assert logger.of("x_step") == [(step, 4.0) for step in range(4)]
    assert values(trainer)["x_epoch"] == 4.0


def test_a_value_in_callback_metrics_holds_no_graph():
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("x", loss, on_step=True, on_epoch=True)
            return loss

    trainer, _ = fit(Logs())
    assert not any(value.requires_grad for value in trainer.callback_metrics.values())


def test_log_dict_logs_each_item_with_the_same_options():
    class Logs(Silent):
        def test_step(self, batch, batch_idx):
            self.log_dict({"a": 1.0, "b": torch.tensor(2.0)}, reduce_fx="sum")

    assert Trainer(limit_test_batches=2).test(Logs(), verbose=False) == [{"a": 2.0, "b": 4.0}]


def test_one_key_has_one_set_of_options():
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            self.log("x", 1.0, prog_bar=True)
            self.log("x", 1.0, on_step=True)

    with pytest.raises(ValueError) as caught:
        fit(Logs())
    assert str(caught.value) == (
        "self.log('x', ...) was called with prog_bar=True and prog_bar=False, on_step=None and on_step=True; "
        "one key has one set of options"
    )


# ---- where logging is possible ----


@pytest.mark.parametrize("hook", ["setup", "on_fit_start", "on_train_end", "on_fit_end", "on_validation_end", "teardown"])
def test_log_outside_of_training_and_evaluation_is_an_error(hook):
    module = type("Logs", (Silent,), {hook: lambda self, *stage: self.log("x", 1.0)})()
    if hook in ("on_fit_end", "teardown"):
        trainer, logger = fit(module)  # the run is over: harmless, as outside of it
        assert (logger.of("x"), values(trainer)) == ([], {})
        return
    with pytest.raises(ValueError) as caught:
        fit(module)
    assert str(caught.value) == (
        "self.log('x', ...) cannot be used here: there is no step or epoch the value belongs to; "
        "log from a training, validation or test hook between on_train_start and on_train_end"
    )


def test_log_in_predict_is_an_error():
    class Logs(Silent):
        def predict_step(self, batch, batch_idx):
            self.log("x", 1.0)

    with pytest.raises(ValueError, match=r"^self\.log\('x', \.\.\.\) cannot be used here: "):
        Trainer().predict(Logs())


def test_log_without_a_trainer_is_harmless():
    module = TinyModule()
    module.log("x", 1.0)
    assert module.training_step((torch.zeros(2, 8), torch.zeros(2, dtype=torch.long)), 0).ndim == 0


def test_log_after_the_run_is_harmless():
    module = Silent()
    trainer, _ = fit(module)
    module.log("x", 1.0)
    assert "x" not in trainer.callback_metrics


# ---- records ----


def test_records_have_epoch_and_the_index_of_their_step():
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            self.log("x", 1.0, on_step=True, on_epoch=True)
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch, batch_idx):
            self.log("y", 1.0)

    _, logger = fit(Logs(), max_epochs=2, log_every_n_steps=2)
    assert [(step, sorted(metrics.items())) for step, metrics in logger.records] == [
        (1, [("epoch", 0), ("x_step", 1.0)]),
        (3, [("epoch", 0), ("x_step", 1.0)]),
        (3, [("epoch", 0), ("y", 1.0)]),
        (3, [("epoch", 0), ("x_epoch", 1.0)]),
        (5, [("epoch", 1), ("x_step", 1.0)]),
        (7, [("epoch", 1), ("x_step", 1.0)]),
        (7, [("epoch", 1), ("y", 1.0)]),
        (7, [("epoch", 1), ("x_epoch", 1.0)]),
    ]


def test_the_step_of_a_record_never_decreases():
    class Logs(TinyModule):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("both", loss, on_step=True, on_epoch=True)
            return loss

    _, logger = fit(Logs(), max_epochs=3, val_check_interval=1, accumulate_grad_batches=3)
    steps = [step for step, _ in logger.records]
    assert steps == sorted(steps)
    assert steps[-1] == 5


def test_a_value_logged_now_and_then_is_in_the_next_record():
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            if batch_idx == 0:
                self.log("rare", 7.0)
            return super().training_step(batch, batch_idx)

    _, logger = fit(Logs(), log_every_n_steps=3)
    assert logger.of("rare") == [(2, 7.0)]


def test_the_last_steps_of_a_fit_reach_the_loggers():
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            self.log("x", float(batch_idx))
            return super().training_step(batch, batch_idx)

    trainer, logger = fit(Logs(), log_every_n_steps=50)
    assert logger.of("x") == [(3, 3.0)]
    assert logger.of("epoch") == [(3, 0)]
    assert trainer.history.epochs("x") == [0]


def test_the_last_steps_of_a_fit_that_ends_inside_of_an_epoch_have_its_number():
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            self.log("x", float(batch_idx))
            return super().training_step(batch, batch_idx)

    trainer, _ = fit(Logs(), log_every_n_steps=50, max_epochs=3, max_steps=6)
    assert trainer.history.epochs("x") == [1]


def test_steps_are_recorded_every_fifty_by_default():
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            self.log("x", float(self.global_step))
            return super().training_step(batch, batch_idx)

    _, logger = fit(Logs(), max_epochs=25, log_every_n_steps=None)
    assert logger.of("x") == [(49, 49.0), (99, 99.0)]


def test_no_step_is_recorded_with_log_every_n_steps_0():
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            self.log("x", 1.0, on_step=True, on_epoch=True)
            return super().training_step(batch, batch_idx)

    _, logger = fit(Logs(), log_every_n_steps=0)
    assert (logger.of("x_step"), logger.of("x_epoch")) == ([], [(3, 1.0)])


def test_a_value_without_a_logger_is_for_callbacks_only():
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            self.log("x", 1.0, logger=False, on_step=True, on_epoch=True)
            return super().training_step(batch, batch_idx)

    trainer, logger = fit(Logs())
    assert logger.records == []
    assert values(trainer) == {"x": 1.0, "x_step": 1.0, "x_epoch": 1.0}
    assert trainer.logged_metrics == {}


def test_a_key_step_is_the_step_of_its_record():
    class Logs(Silent):
        def on_train_epoch_end(self):
            self.log_dict({"x": 1.0, "step": float(self.current_epoch)})

    _, logger = fit(Logs(), max_epochs=2)
    assert logger.records == [(0, {"x": 1.0, "epoch": 0}), (1, {"x": 1.0, "epoch": 1})]


def test_every_logger_gets_every_record():
    one, two = Memory(), Memory()
    Trainer(max_epochs=1, log_every_n_steps=2, logger=[one, two]).fit(TinyModule())
    assert one.records == two.records != []


def test_logged_metrics_has_the_latest_of_every_key():
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            self.log("x", float(batch_idx))
            return super().training_step(batch, batch_idx)

        def on_validation_epoch_end(self):
            self.log("y", 5.0)

    trainer, _ = fit(Logs(), log_every_n_steps=2)
    assert trainer.logged_metrics == {"x": 3.0, "y": 5.0}


def test_several_loaders_have_keys_of_their_own():
    class Logs(Silent):
        def test_step(self, batch, batch_idx, dataloader_idx):
            self.log("x", float(dataloader_idx))
            self.log("same", float(dataloader_idx), add_dataloader_idx=False)

        def on_test_epoch_end(self):
            self.log("all", 9.0)

    results = Trainer().test(Logs(), [unequal(), unequal()], verbose=False)
    assert results == [{"x/dataloader_idx_0": 0.0, "same": 0.0, "all": 9.0}, {"x/dataloader_idx_1": 1.0, "same": 1.0}]


def test_the_sanity_check_records_nothing():
    class Logs(Silent):
        def validation_step(self, batch, batch_idx):
            self.log("y", 1.0)

        def on_train_start(self):
            self.seen = dict(self.trainer.callback_metrics)

    module = Logs()
    _, logger = fit(module, limit_train_batches=2)
    assert logger.of("y") == [(1, 1.0)]
    assert module.seen == {}


# ---- when values can be read ----


def test_validation_values_can_be_read_in_on_validation_epoch_end():
    class Reads(Silent):
        def validation_step(self, batch, batch_idx):
            self.log("y", float(batch_idx + 1))

        def on_validation_epoch_end(self):
            self.seen = self.trainer.callback_metrics["y"].item()

    module = Reads()
    fit(module)
    assert module.seen == 1.5


def test_training_values_can_be_read_in_on_train_epoch_end():
    class Reads(Silent):
        def training_step(self, batch, batch_idx):
            self.log("x", float(batch_idx), on_step=False, on_epoch=True)
            return super().training_step(batch, batch_idx)

        def on_train_epoch_end(self):
            self.seen = self.trainer.callback_metrics["x"].item()

    module = Reads()
    fit(module)
    assert module.seen == 1.5


def test_a_monitor_sees_what_the_module_logs_in_the_same_hook():
    seen = []

    class Logs(Silent):
        def on_train_epoch_end(self):
            self.log("own", float(self.current_epoch))

    class Monitor(Callback):
        @hookimpl(trylast=True)
        def on_train_epoch_end(self, trainer, module):
            seen.append(trainer.callback_metrics["own"].item())

    fit(Logs(), max_epochs=2, callbacks=[Monitor()])
    assert seen == [0.0, 1.0]


def test_each_epoch_starts_its_mean_anew():
    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            self.log("x", float(self.current_epoch), on_step=False, on_epoch=True)
            return super().training_step(batch, batch_idx)

    _, logger = fit(Logs(), max_epochs=3)
    assert logger.of("x") == [(3, 0.0), (7, 1.0), (11, 2.0)]


def test_the_bar_has_its_values_at_log_points_only():
    seen = []

    class Logs(Silent):
        def training_step(self, batch, batch_idx):
            self.log("x", float(batch_idx), prog_bar=True)
            return super().training_step(batch, batch_idx)

        def on_train_batch_end(self, outputs, batch, batch_idx):
            seen.append(self.trainer.progress_bar_metrics.get("x"))

    trainer, _ = fit(Logs(), log_every_n_steps=2)
    assert seen == [None, None, 1.0, 1.0]
    assert trainer.progress_bar_metrics == {"x": 3.0}


def test_the_bar_has_the_epochs_values_without_a_logger():
    class Logs(Silent):
        def validation_step(self, batch, batch_idx):
            self.log("y", 4.0, prog_bar=True, logger=False)

    trainer, logger = fit(Logs())
    assert trainer.progress_bar_metrics == {"y": 4.0}
    assert logger.records == []


def test_barebones_logs_nothing():
    trainer = Trainer(max_epochs=1, barebones=True)
    trainer.fit(TinyModule())
    assert (trainer.callback_metrics, trainer.logged_metrics) == ({}, {})
