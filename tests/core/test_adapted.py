"""What plug-ins put on modules: other hooks, other methods during a run, attributes for all."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from leyden import Callback, Module, Trainer
from leyden.adapted import extend
from leyden.testing.modules import TinyModule

HOOKS = """
def adapt_hooks(participant, role):
    found = {}
    if hasattr(participant, "on_acme_epoch"):
        found["on_acme_epoch"] = None
        found["on_train_epoch_end"] = participant.on_acme_epoch
    return found
"""
METHODS = """
def adapt_methods(owner):
    def training_step(batch, batch_idx):
        owner.adapted_batches += 1
        return type(owner).training_step(owner, batch, batch_idx)

    return {"training_step": training_step} if hasattr(owner, "adapted_batches") else {}
"""


class Counting(TinyModule):
    def __init__(self):
        super().__init__()
        self.adapted_batches = 0


def fit(module, **options):
    options = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
               "enable_model_summary": False, "accelerator": "cpu", **options}  # fmt: skip
    trainer = Trainer(**options)
    trainer.fit(module, [(torch.ones(2, 8), torch.ones(2, 2))] * 3)
    return trainer


def test_a_plugin_can_bind_a_method_of_another_name_to_a_hook(distribution):
    distribution("acme-leyden", {"leyden": {"acme": "acme_leyden"}}, HOOKS)
    seen = []

    class Old(Callback):
        def on_acme_epoch(self, trainer, pl_module):
            seen.append(trainer.current_epoch)

    fit(TinyModule(), callbacks=[Old()], max_epochs=2)
    assert seen == [0, 1]


def test_a_plugin_can_put_a_step_in_place_of_a_modules_during_a_run(distribution):
    distribution("acme-leyden", {"leyden": {"acme": "acme_leyden"}}, METHODS)
    module = Counting()
    fit(module)
    assert module.adapted_batches == 3
    assert "training_step" not in vars(module)


def test_the_users_own_step_is_put_back_when_a_run_fails(distribution):
    distribution("acme-leyden", {"leyden": {"acme": "acme_leyden"}}, METHODS)
    module = Counting()

    def own(batch, batch_idx):
        return None

    module.training_step = own

    class Failing(Callback):
        def on_train_start(self):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fit(module, callbacks=[Failing()])
    assert vars(module)["training_step"] is own


def test_a_copy_made_during_a_run_has_its_own_methods(distribution):
    distribution("acme-leyden", {"leyden": {"acme": "acme_leyden"}}, METHODS)
    copies = []

    class Copying(Callback):
        def on_train_batch_end(self, module):
            copies.append(copy.deepcopy(module))
            copies.append(pickle.loads(pickle.dumps(module)))

    fit(Counting(), callbacks=[Copying()])
    assert len(copies) == 6
    assert not any("training_step" in vars(module) or "_adapted" in vars(module) for module in copies)


@pytest.fixture
def extended():
    extend(Module, acme=property(lambda self: f"of {type(self).__name__}"), acme_call=lambda self, value: (self, value))
    yield
    del Module.acme, Module.acme_call


@pytest.mark.usefixtures("extended")
def test_an_attribute_of_a_plugin_is_on_every_module():
    module = TinyModule()
    assert module.acme == "of TinyModule"
    assert module.acme_call(3) == (module, 3)


@pytest.mark.usefixtures("extended")
def test_the_users_attribute_goes_before_a_plugins():
    module = TinyModule()
    module.acme = torch.nn.Linear(1, 1)
    module.acme_call = 5
    assert isinstance(module.acme, torch.nn.Linear)
    assert module.acme_call == 5


def test_a_plugin_replaces_no_attribute():
    with pytest.raises(ValueError) as caught:
        extend(Module, log=None)
    assert str(caught.value) == "Module.log exists already; a plug-in adds attributes and replaces none"
