"""What users and plug-ins read from a Trainer, and modules built where they will run."""

from __future__ import annotations

import signal

import pytest
import torch
from leyden import Callback, Logger, Module, Precision, Strategy, Trainer, hookimpl
from leyden.testing import TinyModule
from leyden.trial import trial
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


def test_the_state_says_which_method_runs_what_its_batches_are_for_and_how_it_ended():
    seen = []

    class Watch(Callback):
        def _look(self, trainer):
            seen.append((trainer.state.fn, trainer.state.status, trainer.state.stage))

        def on_train_batch_start(self, trainer):
            self._look(trainer)

        def on_validation_batch_start(self, trainer):
            self._look(trainer)

        def on_predict_batch_start(self, trainer):
            self._look(trainer)

    trainer = Trainer(max_epochs=1, callbacks=[Watch()], limit_train_batches=1, limit_val_batches=1, limit_predict_batches=1)
    assert (trainer.state.fn, trainer.state.status, trainer.state.stage) == (None, "initializing", None)
    module = TinyModule()
    trainer.fit(module)
    trainer.predict(module, module.val_dataloader())
    assert seen == [
        ("fit", "running", "sanity_check"), ("fit", "running", "train"), ("fit", "running", "validate"),
        ("predict", "running", "predict"),
    ]  # fmt: skip
    assert (trainer.state.fn, trainer.state.finished, trainer.state.stage) == ("predict", True, None)


def test_a_run_that_an_exception_ended_is_interrupted():
    class Breaks(TinyModule):
        def validation_step(self, batch, batch_idx):
            raise RuntimeError("broken")

    trainer = Trainer()
    with pytest.raises(RuntimeError, match="broken"):
        trainer.validate(Breaks())
    assert (trainer.state.fn, trainer.state.status, trainer.state.stopped) == ("validate", "interrupted", True)


def test_each_method_of_the_trainer_has_its_loop():
    module, loader = TinyModule(), TinyModule().val_dataloader()
    trainer = Trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=1)
    trainer.fit(module)
    assert (trainer.fit_loop is not None, trainer.validate_loop) == (True, None)
    trainer.validate(module, loader)
    assert (trainer.fit_loop, trainer.validate_loop.stage) == (None, "validation")
    trainer.predict(module, loader)
    assert (trainer.validate_loop, trainer.predict_loop.module) == (None, module)


def test_the_scaler_is_that_of_the_precision_and_none_without():
    class Scaled(Precision):
        scaler = "a scaler"

    assert Trainer().scaler is None
    trainer = Trainer(precision=Scaled())
    assert (trainer.scaler, trainer.precision_plugin) == ("a scaler", trainer.precision)


def test_a_sampler_of_ones_own_is_told_its_part():
    assert Trainer().distributed_sampler_kwargs == {"num_replicas": 1, "rank": 0}


def test_a_module_has_the_mesh_of_its_strategy():
    class Sharded(Strategy):
        device_mesh = "a mesh"

    module = TinyModule()
    assert (module.device_mesh, module.fabric) == (None, None)
    trainer = Trainer(strategy=Sharded(), max_epochs=1, limit_train_batches=1)
    trainer.fit(module)
    assert module.device_mesh == "a mesh"


def test_there_is_no_sanity_check_without_validation_data():
    seen = []

    class Watch(Callback):
        def on_sanity_check_start(self):
            seen.append("start")

        def on_sanity_check_end(self):
            seen.append("end")

    class NoData(TinyModule):
        val_dataloader = Module.val_dataloader

    Trainer(max_epochs=1, limit_train_batches=1, callbacks=[Watch()]).fit(NoData())
    assert seen == []
    Trainer(max_epochs=1, limit_train_batches=1, callbacks=[Watch()]).fit(TinyModule())
    assert seen == ["start", "end"]


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


def state_of(trainer):
    state = trainer.state
    return state.fn, state.status, state.stage, state.finished, state.stopped


def test_a_loop_of_ones_own_has_a_state_too():
    trainer = Trainer(max_epochs=1)
    for _ in trainer.batches(TinyModule()):
        assert state_of(trainer) == ("fit", "running", "train", False, False)
    assert state_of(trainer) == ("fit", "finished", None, True, True)


def test_a_trial_leaves_the_state_as_it_was():
    trainer = Trainer(max_epochs=1)
    module = TinyModule()
    with trial(trainer, module) as (other, copied, _):
        other.fit(copied)
        assert state_of(other) == ("fit", "finished", None, True, True)
    assert state_of(trainer) == (None, "initializing", None, False, False)


def test_estimated_stepping_batches_is_known_from_the_first_hook_on():
    class Asks(TinyModule):
        def configure_optimizers(self):
            self.steps = self.trainer.estimated_stepping_batches
            return super().configure_optimizers()

    trainer, module = Trainer(max_epochs=3), Asks()
    with pytest.raises(RuntimeError) as caught:
        _ = trainer.estimated_stepping_batches
    assert str(caught.value) == (
        "trainer.estimated_stepping_batches is known from trainer.fit(module) on; read it in configure_optimizers or in a hook, "
        "or ask trainer.plan(module, loader)"
    )
    trainer.fit(module)
    assert module.steps == trainer.estimated_stepping_batches == 12


# ---- what users set ----


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_a_checkpoint_that_is_set_is_where_every_run_starts_from(stage, tmp_path):
    first = Trainer(max_epochs=1)
    trained = TinyModule()
    first.fit(trained)
    first.save_checkpoint(tmp_path / "first.ckpt")
    trainer = Trainer(max_epochs=1)
    trainer.ckpt_path = tmp_path / "first.ckpt"
    module = TinyModule()
    getattr(trainer, stage)(module)
    assert torch.equal(module.layer.weight, trained.layer.weight)
    assert trainer.ckpt_path == str(tmp_path / "first.ckpt")
    trainer.ckpt_path = None
    getattr(trainer, stage)(TinyModule())
    assert trainer.ckpt_path is None


def test_an_argument_goes_before_a_checkpoint_that_is_set(tmp_path):
    first = Trainer(max_epochs=1)
    first.fit(TinyModule())
    first.save_checkpoint(tmp_path / "first.ckpt")
    trainer = Trainer(max_epochs=2)
    trainer.ckpt_path = "best"  # which nobody knows here
    trainer.fit(TinyModule(), ckpt_path=tmp_path / "first.ckpt")
    assert (trainer.global_step, trainer.ckpt_path) == (8, str(tmp_path / "first.ckpt"))


def test_what_cannot_be_a_checkpoint_is_refused_when_it_is_set():
    with pytest.raises(TypeError) as caught:
        Trainer().ckpt_path = 3
    assert str(caught.value) == "trainer.ckpt_path = 3: expected a path, 'best', 'last' or None, got int 3"


@pytest.mark.parametrize("how", ["logger", "loggers"])
def test_a_logger_that_is_set_hears_what_one_that_was_given_hears(how):
    class Hears(Logger):
        def __init__(self):
            self.heard = []

        def connect(self, trainer):
            self.heard.append("connect")

        @hookimpl
        def on_train_start(self):
            self.heard.append("on_train_start")

    old, new = Hears(), Hears()
    trainer = Trainer(max_epochs=1, logger=old)
    setattr(trainer, how, new if how == "logger" else [new])
    trainer.fit(TinyModule())
    assert old.heard == ["connect"]
    assert list(dict.fromkeys(new.heard)) == ["connect", "on_train_start"]


def test_max_steps_is_heeded_where_a_batch_makes_two_steps():
    module, trainer = TinyModule(), Trainer(max_steps=3)
    for batch in trainer.batches(module, [(torch.zeros(1, 8), torch.zeros(1, dtype=torch.int64))] * 9):
        for _ in range(2):
            trainer.step(nn.functional.cross_entropy(module(batch[0]), batch[1]))
    assert (trainer.global_step, trainer.progress.total_batches) == (4, 2)
