"""What users and plug-ins read from a Trainer, and modules built where they will run."""

from __future__ import annotations

import signal

import pytest
import torch
from leyden import Callback, Precision, Trainer
from leyden.testing import TinyModule
from torch import nn

pytestmark = pytest.mark.usefixtures("core_alone")


def test_a_trainer_knows_its_place_among_processes():
    trainer = Trainer(accelerator="cpu")
    assert (trainer.global_rank, trainer.local_rank, trainer.node_rank, trainer.world_size) == (0, 0, 0, 1)
    assert (trainer.num_devices, trainer.num_nodes, trainer.is_global_zero) == (1, 1, True)


def test_evaluating_is_true_in_validation_inside_of_a_fit_only_then():
    seen = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            seen.append(("train", trainer.evaluating))

        def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
            seen.append(("val", trainer.evaluating))

    Trainer(max_epochs=1, callbacks=[Watch()], limit_train_batches=1, limit_val_batches=1, num_sanity_val_steps=0).fit(
        TinyModule()
    )
    assert seen == [("train", False), ("val", True)]


def test_received_sigterm_tells_sigterm_from_no_signal():
    trainer = Trainer()
    assert trainer.received_sigterm is False
    trainer.received.number = signal.SIGTERM
    assert trainer.received_sigterm is True


def test_callbacks_that_stop_early_are_found_by_their_role():
    class Stop(Callback):
        role = "early_stopping"

    first, second = Stop(), Stop()
    assert Trainer().early_stopping_callback is None
    trainer = Trainer(callbacks=[first, second])
    assert trainer.early_stopping_callback is first
    assert trainer.early_stopping_callbacks == [first, second]


def test_init_module_builds_in_the_precision_and_leaves_the_default_as_it_was():
    class Double(Precision):
        storage_dtype = torch.float64

    trainer = Trainer(precision=Double(), accelerator="cpu")
    with trainer.init_module():
        layer = nn.Linear(2, 2)
    assert layer.weight.dtype == torch.float64
    assert layer.weight.device == trainer.strategy.device
    assert nn.Linear(2, 2).weight.dtype == torch.float32


def test_init_module_can_leave_parameters_unfilled():
    filled = []

    class Layer(nn.Linear):
        def reset_parameters(self):
            with torch.no_grad():
                self.weight.fill_(7.0)
            before = self.weight.clone()
            nn.init.normal_(self.weight)
            filled.append(not torch.equal(before, self.weight))

    with Trainer(accelerator="cpu").init_module(empty_init=True):
        Layer(4, 4)
    with Trainer(accelerator="cpu").init_module():
        Layer(4, 4)
    assert filled == [False, True]


def test_all_gather_takes_any_nesting_and_has_the_processes_in_front():
    module = TinyModule()
    found = module.all_gather({"a": torch.ones(3), "b": [torch.zeros(2, 2)]})
    assert found["a"].shape == (1, 3)
    assert found["b"][0].shape == (1, 2, 2)


def test_all_gather_among_some_processes_is_refused():
    with pytest.raises(ValueError) as caught:
        TinyModule().all_gather(torch.ones(1), group="some")
    assert str(caught.value) == "all_gather(group='some'): all processes take part; call torch.distributed for some of them"
