"""Names that Lightning 2.6 documents of Trainer, LightningModule and LightningDataModule, beside those of leyden itself."""

from __future__ import annotations

import leyden_lightning as pl
import pytest
from leyden_lightning.api.missing import NotPortedError
from leyden_lightning.demos.boring_classes import BoringModel
from leyden_lightning.trainer.states import RunningStage, TrainerFn, TrainerStatus

ARGUMENTS = {
    "accelerator", "strategy", "devices", "num_nodes", "precision", "logger", "callbacks", "fast_dev_run", "max_epochs",
    "min_epochs", "max_steps", "min_steps", "max_time", "limit_train_batches", "limit_val_batches", "limit_test_batches",
    "limit_predict_batches", "overfit_batches", "val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps",
    "log_every_n_steps", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "accumulate_grad_batches",
    "gradient_clip_val", "gradient_clip_algorithm", "deterministic", "benchmark", "inference_mode", "use_distributed_sampler",
    "profiler", "detect_anomaly", "barebones", "plugins", "sync_batchnorm", "reload_dataloaders_every_n_epochs",
    "default_root_dir", "enable_autolog_hparams", "model_registry",
}  # fmt: skip


def trainer(**options):
    return pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False, limit_train_batches=1, limit_val_batches=1, **options)  # fmt: skip


def test_a_trainer_has_the_41_arguments_of_2_6_and_no_other():
    assert set(pl.Trainer.default_attributes()) == ARGUMENTS
    assert len(ARGUMENTS) == 41


def test_the_state_is_in_lightnings_enumerations():
    seen = []

    class Module(BoringModel):
        def validation_step(self, batch, batch_idx):
            seen.append(self.trainer.state.stage)

    run = trainer()
    assert run.state.status is TrainerStatus.INITIALIZING
    assert (run.state.fn, run.state.stage) == (None, None)
    run.fit(Module())
    assert (run.state.fn, run.state.status) == (TrainerFn.FITTING, TrainerStatus.FINISHED)
    assert (run.state.finished, run.state.stopped) == (True, True)
    assert seen[0] is RunningStage.SANITY_CHECKING
    assert seen[-1] is RunningStage.VALIDATING


def test_what_a_module_has_of_parts_that_are_not_here():
    trainer()
    module = BoringModel()
    assert (module.fabric, module.device_mesh) == (None, None)
    assert module.allow_zero_length_dataloader_with_multiple_devices is False
    assert pl.LightningDataModule().allow_zero_length_dataloader_with_multiple_devices is False
    with pytest.raises(NotPortedError) as caught:
        module.to_tensorrt("x.ts")
    assert str(caught.value) == (
        "to_tensorrt() is not here: write torch_tensorrt.compile(module.eval(), inputs=[...]), or hand TensorRT what "
        "module.to_onnx() wrote"
    )


def test_remove_ignored_hparams():
    class Module(BoringModel):
        def __init__(self, size, seed):
            super().__init__()
            self.save_hyperparameters()

    trainer()
    module = Module(1, seed=2)
    module.remove_ignored_hparams(["seed", "other"])
    assert module.hparams == module.hparams_initial == {"size": 1}
