"""What LearningRateMonitor gives to loggers."""

import pytest
import torch
from leyden import Logger, Trainer
from leyden.testing import TinyModule
from leyden_callbacks import LearningRateMonitor, StochasticWeightAveraging
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import ExponentialLR, StepLR


class Memory(Logger):
    def __init__(self):
        self.records = []

    def log_metrics(self, metrics, step):
        self.records.append((step, {key: round(value, 6) for key, value in metrics.items()}))

    def rates(self):
        return [
            (step, {k: v for k, v in metrics.items() if k != "epoch"})
            for step, metrics in self.records
            if "train_loss" not in metrics
        ]


@pytest.fixture
def recorded(fit):
    def run(monitor, configure, automatic=True, **settings):
        class Configured(TinyModule):
            automatic_optimization = automatic

            def training_step(self, batch, batch_idx):
                loss = super().training_step(batch, batch_idx)
                if not automatic:
                    for optimizer in self.optimizers():
                        optimizer.step()
                return loss

            def configure_optimizers(self):
                return configure(self)

        logger = Memory()
        fit(monitor, module=Configured(), logger=logger, limit_val_batches=0, **{"log_every_n_steps": 2, **settings})
        return logger.rates()

    return run


def test_a_scheduler_of_each_epoch_is_recorded_at_the_start_of_each(recorded):
    def configure(module):
        optimizer = SGD(module.parameters(), lr=0.1)
        return [optimizer], [ExponentialLR(optimizer, 0.5)]

    assert recorded(LearningRateMonitor(), configure) == [(0, {"lr-SGD": 0.1}), (4, {"lr-SGD": 0.05})]


def test_rates_that_other_callbacks_set_are_recorded_as_they_are_in_the_coming_step(fit):
    monitor = LearningRateMonitor()
    fit(monitor, StochasticWeightAveraging(0.3, 1, annealing_epochs=0), logger=Memory(), max_epochs=3)
    assert monitor.lrs == {"lr-SGD": [0.1, 0.3, 0.3]}


def test_groups_of_one_name_have_keys_of_their_own(recorded):
    def configure(module):
        return SGD([{"params": [p], "lr": lr, "name": "net"} for p, lr in zip(module.parameters(), (0.1, 0.2), strict=True)])

    assert recorded(LearningRateMonitor(), configure, max_epochs=1) == [(0, {"lr-SGD/net": 0.1, "lr-SGD/net-1": 0.2})]


def test_a_scheduler_of_each_step_is_recorded_at_log_points_with_the_rate_of_the_step(recorded):
    def configure(module):
        optimizer = SGD(module.parameters(), lr=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": StepLR(optimizer, 1, 0.5), "interval": "step"}}

    assert recorded(LearningRateMonitor(), configure, max_epochs=1) == [(1, {"lr-SGD": 0.05}), (3, {"lr-SGD": 0.0125})]


def test_without_a_scheduler_the_rate_is_recorded_each_epoch(recorded):
    assert recorded(LearningRateMonitor(), lambda module: SGD(module.parameters(), lr=0.1)) == [
        (0, {"lr-SGD": 0.1}),
        (4, {"lr-SGD": 0.1}),
    ]


def test_the_interval_can_be_chosen(recorded):
    def configure(module):
        return SGD(module.parameters(), lr=0.1)

    assert [step for step, _ in recorded(LearningRateMonitor("epoch"), configure)] == [0, 4]
    assert [step for step, _ in recorded(LearningRateMonitor("step"), configure)] == [1, 3, 5, 7]


def test_a_step_of_several_batches_is_recorded_once(recorded):
    def configure(module):
        return SGD(module.parameters(), lr=0.1)

    found = recorded(LearningRateMonitor("step"), configure, accumulate_grad_batches=2, log_every_n_steps=1)
    assert [step for step, _ in found] == [0, 1, 2, 3]


def test_parameter_groups_have_keys_of_their_own(recorded):
    def configure(module):
        return SGD([{"params": [module.layer.weight], "lr": 0.1}, {"params": [module.layer.bias], "lr": 0.2}])

    assert recorded(LearningRateMonitor(), configure, max_epochs=1) == [(0, {"lr-SGD/pg1": 0.1, "lr-SGD/pg2": 0.2})]


def test_named_parameter_groups_are_called_by_their_names(recorded):
    def configure(module):
        return SGD([{"params": [module.layer.weight], "name": "body"}, {"params": [module.layer.bias], "name": "head"}], lr=0.1)

    assert recorded(LearningRateMonitor(), configure, max_epochs=1) == [(0, {"lr-SGD/body": 0.1, "lr-SGD/head": 0.1})]


def test_a_second_optimizer_of_the_same_class_is_numbered(recorded):
    def configure(module):
        return [SGD([module.layer.weight], lr=0.1), SGD([module.layer.bias], lr=0.2)]

    assert recorded(LearningRateMonitor(), configure, automatic=False, max_epochs=1) == [(0, {"lr-SGD": 0.1, "lr-SGD-1": 0.2})]


def test_the_name_of_a_scheduler_replaces_that_of_the_optimizer(recorded):
    def configure(module):
        optimizer = SGD(module.parameters(), lr=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": StepLR(optimizer, 1), "name": "warm-up"}}

    assert recorded(LearningRateMonitor(), configure, max_epochs=1) == [(0, {"warm-up": 0.1})]


def test_momentum_and_weight_decay_on_request(recorded):
    monitor = LearningRateMonitor(log_momentum=True, log_weight_decay=True)
    assert recorded(monitor, lambda module: SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01), max_epochs=1) == [
        (0, {"lr-SGD": 0.1, "lr-SGD-momentum": 0.9, "lr-SGD-weight_decay": 0.01})
    ]
    assert recorded(monitor, lambda module: Adam(module.parameters(), lr=0.1, betas=(0.8, 0.9)), max_epochs=1) == [
        (0, {"lr-Adam": 0.1, "lr-Adam-momentum": 0.8, "lr-Adam-weight_decay": 0.0})
    ]


def test_a_rate_that_is_a_tensor_is_recorded_as_a_number(recorded):
    assert recorded(LearningRateMonitor(), lambda module: SGD(module.parameters(), lr=torch.tensor(0.25)), max_epochs=1) == [
        (0, {"lr-SGD": 0.25})
    ]


def test_the_rates_of_the_run_are_kept(recorded):
    monitor = LearningRateMonitor()
    recorded(monitor, lambda module: SGD(module.parameters(), lr=0.1))
    assert monitor.lrs == {"lr-SGD": [0.1, 0.1]}


def test_a_run_without_logger_is_refused(fit):
    with pytest.raises(ValueError) as error:  # the whole message is compared
        fit(LearningRateMonitor())
    assert str(error.value) == (
        "LearningRateMonitor has no logger to give learning rates to; pass Trainer(logger='csv') or another one, "
        "or leave out the callback"
    )


def test_a_fast_development_run_needs_no_logger(fit):
    fit(LearningRateMonitor(), fast_dev_run=True)


def test_a_wrong_interval_is_refused():
    with pytest.raises(ValueError) as error:  # the whole message is compared
        LearningRateMonitor("epochs")
    assert (
        str(error.value)
        == "LearningRateMonitor(logging_interval='epochs'): expected None, 'step' or 'epoch'; did you mean 'epoch'?"
    )


def test_it_is_registered_as_learning_rate_monitor():
    trainer = Trainer(callbacks=["learning_rate_monitor"], logger=False)
    assert any(isinstance(callback, LearningRateMonitor) for callback in trainer.callbacks)


def test_a_prefix_comes_before_every_key(fit):
    monitor = LearningRateMonitor("epoch", log_momentum=True, log_key_prefix="optim/")
    trainer = fit(monitor, logger=Logger())
    assert trainer.history["optim/lr-SGD"] == [0.1, 0.1]
    assert trainer.history["optim/lr-SGD-momentum"] == [0, 0]
    assert list(monitor.lrs) == ["optim/lr-SGD"]


def test_a_wrong_prefix(refusal):
    assert (
        refusal(TypeError, LearningRateMonitor, log_key_prefix=3)
        == "LearningRateMonitor(log_key_prefix=3): expected a str, got int 3"
    )
