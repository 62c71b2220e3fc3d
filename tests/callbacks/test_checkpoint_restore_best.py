"""What RestoreBest leaves in the module."""

import time

import pytest
import torch
from leyden import CheckpointIO, Trainer
from leyden.testing import TinyModule, run_ranks
from leyden_callbacks import EMA, ModelCheckpoint, ModelPruning, RestoreBest, StochasticWeightAveraging
from leyden_checkpoint import AsyncCheckpointIO


def same(module, path):
    return all(torch.equal(value, module.state_dict()[key]) for key, value in torch.load(path)["state_dict"].items())


def test_after_training_the_module_has_the_best_weights(fit, scripted, tmp_path, capsys):
    module, checkpoint, restore = scripted([0.3, 0.1, 0.2]), ModelCheckpoint(monitor="score", save_last=True), RestoreBest()
    trainer = fit(restore, checkpoint, module=module, max_epochs=3)
    best = tmp_path / "checkpoints/epoch=1-step=8.ckpt"
    assert same(module, best)
    assert not same(module, tmp_path / "checkpoints/last.ckpt")
    assert restore.restored_path == str(best)
    assert trainer.global_step == 12
    assert capsys.readouterr().err == f"leyden: the module has the weights of the best checkpoint: {best} (step 8)\n"


def test_the_last_epoch_may_be_the_best_and_a_save_in_the_background_is_waited_for(fit, scripted, tmp_path):
    module = scripted([0.3, 0.1])
    fit(RestoreBest(), ModelCheckpoint(monitor="score"), module=module, checkpoint_io="async")
    assert same(module, tmp_path / "checkpoints/epoch=1-step=8.ckpt")


class Slow(CheckpointIO):
    """Takes its time to write."""

    def save(self, checkpoint, path):
        time.sleep(0.3)
        super().save(checkpoint, path)


def test_every_process_waits_for_what_rank_0_writes_in_the_background(tmp_path):
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 1}
    start = TinyModule().state_dict()

    def train(environment):
        module, checkpoint = TinyModule(), ModelCheckpoint(tmp_path, monitor="val_loss")
        module.load_state_dict(start)
        options = {"environment": environment, "devices": 2, "strategy": "ddp", "checkpoint_io": AsyncCheckpointIO(Slow())}
        Trainer(callbacks=[RestoreBest(), checkpoint], default_root_dir=tmp_path, **options, **quiet).fit(module)
        return same(module, checkpoint.best_model_path)

    assert run_ranks(train) == [True, True]


@pytest.mark.parametrize("other", [EMA(0.5), ModelPruning(), StochasticWeightAveraging(0.1, 1)])
@pytest.mark.parametrize("comes_first", [True, False])
def test_it_has_the_last_word_whatever_others_leave_in_the_module(fit, scripted, other, comes_first):
    checkpoint, restore = ModelCheckpoint(monitor="score"), RestoreBest()
    others = (restore, other) if comes_first else (other, restore)
    trainer = fit(*others, checkpoint, module=scripted([0.1, 0.2, 0.3]), max_epochs=3)
    assert same(trainer.module, checkpoint.best_model_path)


def test_masks_that_stay_in_the_module_are_refused(fit, scripted):
    with pytest.raises(
        ValueError, match=r"^RestoreBest and ModelPruning\(make_pruning_permanent=False\): checkpoints have plain"
    ):
        fit(RestoreBest(), ModelPruning(make_pruning_permanent=False), ModelCheckpoint(monitor="score"), module=scripted([1]))


def test_a_run_without_a_monitor_is_refused(fit):
    with pytest.raises(ValueError) as error:
        fit(RestoreBest(), ModelCheckpoint())
    assert str(error.value) == (
        "RestoreBest restores the best checkpoint, but no checkpoint callback of this Trainer monitors a value; add one, such as "
        "{'checkpoint': {'monitor': 'val_loss'}}"
    )


def test_an_interrupted_run_keeps_its_weights(fit, scripted, tmp_path):
    class Stops(scripted):
        def on_train_epoch_end(self):
            if self.current_epoch == 1:
                raise KeyboardInterrupt

    module, restore = Stops([0.1, 0.2]), RestoreBest()
    with pytest.raises(KeyboardInterrupt):
        fit(restore, ModelCheckpoint(monitor="score"), module=module)
    assert restore.restored_path == ""
    assert not same(module, tmp_path / "checkpoints/epoch=0-step=4.ckpt")


def test_a_fast_development_run_has_nothing_to_restore(fit):
    restore = RestoreBest()
    fit(restore, fast_dev_run=True)
    assert restore.restored_path == ""


def test_it_is_registered_as_restore_best(tmp_path):
    trainer = Trainer(callbacks=["restore_best"], logger=False, default_root_dir=tmp_path)
    assert isinstance(trainer.callbacks[0], RestoreBest)
