"""Every argument that a Trainer of Lightning ever had: what it becomes, or the sentence that says what to write."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from datetime import timedelta

import leyden
import leyden_lightning as pl
import pytest
import torch
from leyden_lightning.callbacks import EarlyStopping, ModelCheckpoint
from leyden_lightning.demos.boring_classes import BoringModel
from leyden_lightning.legacy import arguments
from leyden_lightning.utilities.exceptions import MisconfigurationException

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
         "accelerator": "cpu", "devices": 1}  # fmt: skip
OLD = pytest.mark.filterwarnings("ignore::leyden.LeydenWarning")


def callback(trainer, name):
    return next(callback for callback in trainer.callbacks if type(callback).__name__ == name)


SIMPLE = {
    "max_nb_epochs=3": ({"max_nb_epochs": 3}, lambda t: t.max_epochs == 3),
    "min_nb_epochs": ({"min_nb_epochs": 2}, lambda t: t.min_epochs == 2),
    "nb_sanity_val_steps": ({"nb_sanity_val_steps": 5}, lambda t: t.num_sanity_val_steps == 5),
    "gradient_clip": ({"gradient_clip": 0.5}, lambda t: t.gradient_clip_val == 0.5),
    "default_save_path": ({"default_save_path": "x"}, lambda t: t.default_root_dir == "x"),
    "add_row_log_interval": ({"add_row_log_interval": 7}, lambda t: t.log_every_n_steps == 7),
    "row_log_interval": ({"row_log_interval": 7}, lambda t: t.log_every_n_steps == 7),
    "overfit_pct": ({"overfit_pct": 0.5}, lambda t: t.overfit_batches == 0.5),
    "train_percent_check": ({"train_percent_check": 0.5}, lambda t: t.limit_train_batches == 0.5),
    "val_percent_check": ({"val_percent_check": 0.5}, lambda t: t.limit_val_batches == 0.5),
    "test_percent_check": ({"test_percent_check": 0.5}, lambda t: t.limit_test_batches == 0.5),
    "gpus=0": ({"gpus": 0}, lambda t: t.accelerator.name == "cpu"),
    "num_processes=1": ({"num_processes": 1}, lambda t: t.num_devices == 1),
    "reload": ({"reload_dataloaders_every_epoch": True}, lambda t: t.reload_dataloaders_every_n_epochs == 1),
    "use_amp": ({"use_amp": True}, lambda t: t.choices["precision"] == "16-mixed"),
    "amp_backend": ({"amp_backend": "native"}, lambda t: True),
    "terminate_on_nan": ({"terminate_on_nan": True}, lambda t: t.nan_policy == "strict"),
    "print_nan_grads": ({"print_nan_grads": True}, lambda t: t.detect_anomaly is True),
    "auto_select_gpus": ({"auto_select_gpus": True}, lambda t: True),
    "move_metrics_to_cpu": ({"move_metrics_to_cpu": True}, lambda t: True),
    "enable_pl_optimizer": ({"enable_pl_optimizer": True}, lambda t: True),
    "log_save_interval": ({"log_save_interval": 10}, lambda t: True),
    "flush_logs_every_n_steps": ({"flush_logs_every_n_steps": 10}, lambda t: True),
    "profiler=True": ({"profiler": True}, lambda t: type(t.profiler).__name__ == "SimpleProfiler"),
    "profiler=False": ({"profiler": False}, lambda t: type(t.profiler) is leyden.Profiler),
    "accumulate": ({"accumulate_grad_batches": {0: 8, 4: 4}}, lambda t: callback(t, "GradientAccumulationScheduler")),
    "track_grad_norm": ({"track_grad_norm": 2}, lambda t: callback(t, "GradientNorm").norm_type == 2),
    "track_grad_norm=-1": ({"track_grad_norm": -1}, lambda t: t.callbacks == []),
    "log_gpu_memory": ({"log_gpu_memory": True}, lambda t: callback(t, "DeviceStatsMonitor")),
    "swa": ({"stochastic_weight_avg": True}, lambda t: callback(t, "StochasticWeightAveraging")),
    "early_stopping_callback": ({"early_stopping_callback": EarlyStopping("x")}, lambda t: t.early_stopping_callback.monitor == "x"),
    "early_stop_callback": ({"early_stop_callback": True}, lambda t: t.early_stopping_callback.monitor == "val_loss"),
    "truncated_bptt_steps": ({"truncated_bptt_steps": 3}, lambda t: t.truncated_bptt_steps == 3),
    "automatic_optimization": ({"automatic_optimization": False}, lambda t: t.automatic_optimization is False),
    "prepare_data_per_node": ({"prepare_data_per_node": False}, lambda t: t.prepare_data_per_node is False),
    "multiple_trainloader_mode": ({"multiple_trainloader_mode": "min_size"}, lambda t: t.multiple_trainloader_mode == "min_size"),
    "auto_lr_find": ({"auto_lr_find": "lr"}, lambda t: t.auto_lr_find == "lr"),
    "auto_scale_batch_size": ({"auto_scale_batch_size": "power"}, lambda t: t.auto_scale_batch_size == "power"),
    "resume_from_checkpoint": ({"resume_from_checkpoint": "a.ckpt"}, lambda t: t.resume_from_checkpoint == "a.ckpt"),
    "accelerator=ddp_spawn": ({"accelerator": "ddp_spawn", "devices": 2}, lambda t: "spawn" in type(t.strategy).__name__.lower()),
    "max_time": ({"max_time": "00:12:00:00"}, lambda t: t.max_time == timedelta(hours=12)),
    "suggest_integrations": ({"suggest_integrations": False}, lambda t: True),
}  # fmt: skip


@OLD
@pytest.mark.parametrize("case", SIMPLE)
def test_an_old_argument_is_translated(case):
    given, holds = SIMPLE[case]
    trainer = pl.Trainer(**{**QUIET, **given})
    assert holds(trainer)


@OLD
@pytest.mark.parametrize(
    ("given", "devices"),
    [(1, 1), (8, 8), ([1, 3, 5], [1, 3, 5]), ("1, 2", [1, 2]), ("3", 3), ("3,", [3]), (-1, -1), ("-1", -1)],
)
def test_gpus_are_an_accelerator_and_devices(given, devices):
    translation = arguments.Translation({"gpus": given})
    assert translation.run() == {"accelerator": "gpu", "devices": devices}


@OLD
def test_num_processes_trains_on_so_many_cpus():
    trainer = pl.Trainer(num_processes=2, logger=False, enable_checkpointing=False)
    assert (trainer.accelerator.name, trainer.num_devices, trainer.strategy.name) == ("cpu", 2, "ddp")


@OLD
def test_num_processes_on_many_nodes_are_so_many_processes_in_all():
    trainer = pl.Trainer(num_processes=8, num_nodes=128, logger=False, enable_checkpointing=False)
    assert (trainer.accelerator.name, trainer.strategy.name) == ("cpu", "ddp")
    assert (trainer.num_devices, trainer.num_nodes, trainer.world_size) == (8, 128, 1024)


@OLD
@pytest.mark.parametrize("backend", ["ddp", "ddp_cpu"])
def test_distributed_backend_is_a_strategy(backend):
    trainer = pl.Trainer(distributed_backend=backend, num_processes=2, logger=False, enable_checkpointing=False)
    assert (trainer.accelerator.name, trainer.strategy.name, trainer.num_devices) == ("cpu", "ddp", 2)


@OLD
def test_checkpoint_callback_is_a_switch_or_a_callback():
    assert pl.Trainer(logger=False, checkpoint_callback=False).checkpoint_callback is None
    given = ModelCheckpoint(dirpath="x")
    trainer = pl.Trainer(logger=False, checkpoint_callback=given)
    assert trainer.checkpoint_callback is given
    assert len(trainer.checkpoint_callbacks) == 1


@OLD
def test_weights_summary_and_the_refresh_rate():
    trainer = pl.Trainer(logger=False, weights_summary="full", progress_bar_refresh_rate=20)
    assert callback(trainer, "ModelSummary").max_depth == -1
    assert trainer.progress_bar_callback.refresh_rate == 20
    silent = pl.Trainer(logger=False, weights_summary=None, progress_bar_refresh_rate=0)
    assert silent.progress_bar_callback is None


REFUSED = {
    "tpu": ({"tpu_cores": 8}, "Trainer(tpu_cores=8): leyden has no XLA part; install a distribution that registers the accelerator 'tpu', or choose accelerator='auto'"),
    "ipus": ({"ipus": 4}, "Trainer(ipus=4): Graphcore's IPUs were dropped by Lightning in 2.1 and torch no longer drives them; choose accelerator='auto'"),
    "ddp2": ({"distributed_backend": "ddp2"}, "Trainer(distributed_backend='ddp2'): 'ddp2' (dp inside a node, ddp between nodes) was dropped by Lightning in 1.7; write strategy='ddp'"),
    "horovod": ({"strategy": "horovod"}, "Trainer(strategy='horovod'): 'horovod' was dropped by Lightning in 2.0; write strategy='ddp'"),
    "apex": ({"amp_backend": "apex"}, "Trainer(amp_backend='apex'): NVIDIA's apex is not supported; torch's own mixed precision does the same: precision='16-mixed'"),
    "amp_level": ({"amp_level": "O1"}, "Trainer(amp_level='O1'): NVIDIA's apex is not supported; torch's own mixed precision does the same: precision='16-mixed'"),
    "process_position": ({"process_position": 1}, "Trainer(process_position=1): leyden's progress bars find their own place; leave it out"),
    "xla": ({"strategy": "xla"}, "Trainer(strategy='xla'): leyden has no XLA part; install a distribution that registers the accelerator 'tpu', or choose accelerator='auto'"),
    "tpu_spawn": ({"strategy": "tpu_spawn"}, "Trainer(strategy='tpu_spawn'): leyden has no XLA part; install a distribution that registers the accelerator 'tpu', or choose accelerator='auto'"),
    "hpu_parallel": ({"strategy": "hpu_parallel"}, "Trainer(strategy='hpu_parallel'): leyden has no HPU part; install a distribution that registers the accelerator 'hpu', or choose accelerator='auto'"),
    "ipu_strategy": ({"strategy": "ipu_strategy"}, "Trainer(strategy='ipu_strategy'): Graphcore's IPUs were dropped by Lightning in 2.1 and torch no longer drives them; choose accelerator='auto'"),
    "hivemind": ({"strategy": "hivemind"}, "Trainer(strategy='hivemind'): Lightning dropped it in 2.0 and so did its library; write strategy='ddp'"),
    "hpu": ({"accelerator": "hpu"}, "Trainer(accelerator='hpu'): leyden has no HPU part; install a distribution that registers the accelerator 'hpu', or choose accelerator='auto'"),
    "both": ({"max_nb_epochs": 1, "max_epochs": 2}, "Trainer(max_nb_epochs=1, max_epochs=2): both say what max_epochs is; leave out max_nb_epochs"),
}  # fmt: skip


@OLD
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_with_the_way_out(case):
    given, message = REFUSED[case]
    with pytest.raises(MisconfigurationException) as caught:
        pl.Trainer(logger=False, **given)
    assert str(caught.value) == message


def test_every_old_argument_has_a_test():
    tested = {name for given, _ in [*SIMPLE.values(), *REFUSED.values()] for name in given}
    tested |= {
        "gpus",
        "num_processes",
        "distributed_backend",
        "checkpoint_callback",
        "weights_summary",
        "progress_bar_refresh_rate",
    }
    aside = {"nb_gpu_nodes", "num_gpu_nodes", "num_tpu_cores", "show_progress_bar", "replace_sampler_ddp", "weights_save_path"}
    assert arguments.OLD - tested == aside


@OLD
def test_the_others_that_only_rename():
    translation = arguments.Translation({"nb_gpu_nodes": 2, "show_progress_bar": False, "replace_sampler_ddp": True})
    assert translation.run() == {"num_nodes": 2, "enable_progress_bar": False, "use_distributed_sampler": True}
    trainer = pl.Trainer(logger=False, weights_save_path="w")
    assert trainer.checkpoint_callback.dirpath.endswith("w/checkpoints")


# ---- how it is said ----


def test_a_use_of_an_old_argument_is_said_once_with_the_line_to_change():
    def build():
        return pl.Trainer(max_nb_epochs=3, **QUIET)

    with pytest.warns(pl.LegacyWarning) as caught:
        assert [build().max_epochs, build().max_epochs] == [3, 3]
    assert len(caught) == 1
    assert str(caught[0].message) == (
        "Trainer(max_nb_epochs=3) is of an older Lightning; it works, and in 2.6 one writes Trainer(max_epochs=3)"
    )
    assert caught[0].filename == __file__
    assert caught[0].lineno == build.__code__.co_firstlineno + 1


def test_strict_api_forbids_what_is_old():
    with pytest.raises(MisconfigurationException) as caught:
        pl.Trainer(strict_api="2.6", max_nb_epochs=3, **QUIET)
    assert "is older than strict_api='2.6' allows; write Trainer(max_epochs=3)" in str(caught.value)

    class Old(BoringModel):
        def training_epoch_end(self, outputs):
            pass

    trainer = pl.Trainer(strict_api="2.6", fast_dev_run=True, **QUIET)
    with pytest.raises(MisconfigurationException, match="training_epoch_end"):
        trainer.fit(Old())
    trainer.fit(BoringModel())


def test_an_argument_by_position_is_refused_with_its_place():
    with pytest.raises(TypeError) as caught:
        pl.Trainer(True)
    assert str(caught.value) == (
        "Trainer(True, ...): its arguments have names, and their order changed between releases; write Trainer(logger=True), "
        "or whichever argument was meant"
    )


def test_an_unknown_argument_is_a_type_error_with_the_nearest_name():
    with pytest.raises(TypeError, match="did you mean 'max_epochs'"):
        pl.Trainer(max_epoch=3)


def test_a_trainer_of_leyden_takes_the_simple_old_arguments_too():
    with pytest.warns(pl.LegacyWarning, match="max_nb_epochs"):
        assert leyden.Trainer(max_nb_epochs=2, logger=False).max_epochs == 2
    with pytest.raises(TypeError) as caught:
        leyden.Trainer(weights_summary="full")
    assert str(caught.value) == (
        "Trainer() has no argument 'weights_summary'; it was Lightning's, and leyden_lightning.Trainer translates it"
    )


# ---- from elsewhere ----


def test_defaults_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("PL_TRAINER_MAX_EPOCHS", "7")
    monkeypatch.setenv("PL_TRAINER_LIMIT_VAL_BATCHES", "0.5")
    monkeypatch.setenv("PL_TRAINER_LOGGER", "false")
    trainer = pl.Trainer(limit_val_batches=3)
    assert (trainer.max_epochs, trainer.limit_val_batches, trainer.loggers) == (7, 3, [])


def test_a_parser_gets_the_trainers_options_and_both_styles_of_the_models():
    class Grouped(pl.LightningModule):
        @staticmethod
        def add_model_specific_args(parent_parser):
            group = parent_parser.add_argument_group("Grouped")
            group.add_argument("--encoder_layers", type=int, default=12)
            return parent_parser

    class Parent(pl.LightningModule):
        @staticmethod
        def add_model_specific_args(parent_parser):
            parser = ArgumentParser(parents=[parent_parser], add_help=False)
            parser.add_argument("--data_path", type=str, default="/some/path")
            return parser

    parser = ArgumentParser()
    parser.add_argument("--model_name", type=str, default="gan")
    parser = pl.Trainer.add_argparse_args(parser)
    first, _ = parser.parse_known_args(["--model_name", "mnist"])
    assert first.model_name == "mnist"
    parser = Parent.add_model_specific_args(Grouped.add_model_specific_args(parser))
    words = ["--accelerator", "cpu", "--devices", "2", "--num_nodes", "1", "--encoder_layers", "3", "--max_epochs", "2"]
    args = parser.parse_args(words)
    trainer = pl.Trainer.from_argparse_args(args, logger=False, callbacks=[EarlyStopping("x")])
    assert (trainer.num_devices, trainer.max_epochs, args.encoder_layers, args.data_path) == (2, 2, 3, "/some/path")
    assert trainer.early_stopping_callback.monitor == "x"


@OLD
def test_old_options_of_a_command_line_are_understood():
    parser = pl.Trainer.add_argparse_args(ArgumentParser())
    trainer = pl.Trainer.from_argparse_args(parser.parse_args(["--gpus", "0", "--fast_dev_run", "7"]))
    assert (trainer.accelerator.name, trainer.fast_dev_run) == ("cpu", 7)


def test_a_namespace_may_hold_more_than_the_trainer_knows():
    trainer = pl.Trainer.from_argparse_args(Namespace(max_epochs=4, model="gan"), logger=False)
    assert trainer.max_epochs == 4


# ---- methods ----


@OLD
def test_loaders_by_their_old_names():
    class Logging(BoringModel):
        def test_step(self, batch, batch_idx):
            self.log("t", self.step(batch))

        def validation_step(self, batch, batch_idx):
            self.log("v", self.step(batch))

    loader = torch.utils.data.DataLoader(torch.ones(4, 32), batch_size=2)
    trainer = pl.Trainer(max_epochs=1, **QUIET)
    module = Logging()
    trainer.fit(module, train_dataloader=loader, val_dataloaders=loader)
    assert trainer.global_step == 2
    [tested] = trainer.test(module, test_dataloaders=loader, verbose=False)
    [validated] = trainer.validate(module, val_dataloaders=loader, verbose=False)
    assert tested["t"] == validated["v"]
    assert type(tested["t"]) is float


def test_a_mistyped_argument_of_a_method_has_a_hint():
    with pytest.raises(TypeError) as caught:
        pl.Trainer(**QUIET).fit(BoringModel(), train_dataloder=None)
    assert str(caught.value) == "trainer.fit() has no argument 'train_dataloder'; did you mean 'train_dataloaders'?"


@OLD
def test_tune_does_what_auto_scale_batch_size_and_auto_lr_find_ask_for():
    class Model(BoringModel):
        def __init__(self):
            super().__init__()
            self.lr = 1e-3

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    module = Model()
    trainer = pl.Trainer(auto_lr_find=True, max_epochs=1, **QUIET)
    found = trainer.tune(module, lr_find_kwargs={"num_training": 20})
    assert set(found) == {"lr_find"}
    assert module.lr != 1e-3


def test_an_attribute_of_lightnings_inside_says_what_there_is_now():
    with pytest.raises(AttributeError) as caught:
        _ = pl.Trainer(**QUIET).logger_connector
    assert str(caught.value) == (
        "trainer.logger_connector was of Lightning's inside: values are in trainer.callback_metrics, logged_metrics and "
        "progress_bar_metrics"
    )
    assert "PL_TRAINER_MAX_EPOCHS" not in os.environ
