"""What scripts read of a running fit, hand to a logger and write of predictions: as Lightning 2.6 has it."""

from __future__ import annotations

import pickle
import sys

import leyden_lightning as pl
import pytest
import torch
from leyden_lightning.callbacks import BasePredictionWriter, Callback, ModelCheckpoint
from leyden_lightning.demos.boring_classes import BoringModel
from leyden_lightning.loggers import Logger
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm


def trainer(**options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(**{"max_epochs": 2, "limit_train_batches": 3, "limit_val_batches": 1, "accelerator": "cpu", "devices": 1,
                         "num_sanity_val_steps": 0, **quiet, **options})  # fmt: skip


def counters(run):
    loop = run.fit_loop.epoch_loop
    batches, epochs = loop.batch_progress, run.fit_loop.epoch_progress
    return (loop.batch_idx, loop.total_batch_idx, batches.current.ready, batches.current.completed, batches.total.ready,
            epochs.current.ready, epochs.current.processed, epochs.current.completed, loop._batches_that_stepped)  # fmt: skip


def test_the_counters_of_the_loop_are_those_of_lightning():
    seen = {}

    class Module(BoringModel):
        def training_step(self, batch, batch_idx):
            seen[f"step {self.current_epoch} {batch_idx}"] = counters(self.trainer)
            return super().training_step(batch, batch_idx)

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen[f"end {trainer.current_epoch} {batch_idx}"] = counters(trainer)

        def on_validation_start(self, trainer, pl_module):
            seen[f"validation {trainer.current_epoch}"] = counters(trainer)

        def on_train_epoch_end(self, trainer, pl_module):
            seen[f"epoch {trainer.current_epoch}"] = counters(trainer)

    run = trainer(callbacks=[Watch()])
    assert run.fit_loop.batch_idx == run.fit_loop.total_batch_idx == -1
    run.fit(Module())
    # What Lightning 2.6.6 says at these moments.
    assert seen["step 1 1"] == (1, 4, 2, 1, 5, 2, 1, 1, 4)
    assert seen["end 1 0"] == (0, 3, 1, 0, 4, 2, 1, 1, 3)
    assert seen["validation 1"] == (2, 5, 3, 3, 6, 2, 1, 1, 5)
    assert seen["epoch 1"] == (2, 5, 3, 3, 6, 2, 2, 1, 6)


def test_the_limits_of_the_loop_are_those_of_the_trainer():
    run = trainer(max_steps=5, min_epochs=1)
    loop = run.fit_loop
    assert (loop.max_epochs, loop.min_epochs, loop.max_steps, loop.min_steps) == (2, 1, 5, None)
    loop.max_epochs = 1
    assert run.max_epochs == 1
    run.fit(BoringModel())
    assert (loop.max_batches, loop.epoch_loop.val_loop.max_batches, run.current_epoch) == (3, [1], 1)
    with pytest.raises(AttributeError) as caught:
        run.fit_loop.max_epochs = 4
    assert str(caught.value) == (
        "trainer.fit_loop.max_epochs = 4: a further fit() begins with epoch 0 here; to go on, write trainer.max_epochs = 4 and "
        "trainer.fit(model, ckpt_path='last')"
    )


def test_what_the_loop_has_of_no_name_is_said_before_a_fit():
    with pytest.raises(AttributeError) as caught:
        _ = trainer().fit_loop.outputs
    assert str(caught.value) == "trainer.fit_loop has no 'outputs' before a fit runs"


def test_a_validation_inside_of_a_fit_is_no_training():
    """Modules ask ``trainer.training`` whether to augment a batch."""
    seen = []

    class Module(BoringModel):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            seen.append((self.trainer.training, self.trainer.validating))
            return batch

    run = trainer(max_epochs=1)
    run.fit(Module())
    assert seen == [(True, False)] * 3 + [(False, True)]
    assert not run.training


class Told(Logger):
    name, version = "told", 0

    def __init__(self):
        super().__init__()
        self.saved = []

    def after_save_checkpoint(self, checkpoint_callback):
        self.saved.append(checkpoint_callback)


def test_a_logger_is_told_of_the_callback_that_saved(tmp_path):
    logger, checkpoint = Told(), ModelCheckpoint(tmp_path / "saved")
    run = trainer(max_epochs=1, logger=logger, enable_checkpointing=True, callbacks=[checkpoint])
    run.fit(BoringModel())
    assert logger.saved == [checkpoint]
    run.save_checkpoint(tmp_path / "by-hand.ckpt")
    assert logger.saved == [checkpoint] * 2
    again = pickle.loads(pickle.dumps(run))
    again.loggers[0].after_save_checkpoint("a.ckpt")
    assert again.loggers[0].saved[-1] is again.checkpoint_callback


def test_a_logger_that_takes_a_path_is_given_it(tmp_path):
    class WithPath(Told):
        def after_save_checkpoint(self, path):
            self.saved.append(path)

    logger = WithPath()
    trainer(max_epochs=1, logger=logger, enable_checkpointing=True, callbacks=[ModelCheckpoint(tmp_path, "a")]).fit(BoringModel())
    assert logger.saved == [str(tmp_path / "a.ckpt")]


class Numbers(BoringModel):
    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return batch[0]


def written(loaders, interval="batch_and_epoch", **options):
    """What a writer was given of the indices, and whether the samples of each batch are those."""
    batches, epochs = [], []

    class Writer(BasePredictionWriter):
        def write_on_batch_end(self, trainer, pl_module, prediction, batch_indices, batch, batch_idx, dataloader_idx):
            batches.append(batch_indices)
            if batch_indices is not None:
                assert prediction.flatten().tolist() == batch_indices

        def write_on_epoch_end(self, trainer, pl_module, predictions, batch_indices):
            epochs.append(batch_indices)

    trainer(callbacks=[Writer(interval)], **options).predict(Numbers(), loaders)
    return batches, epochs


DATA = TensorDataset(torch.arange(7.0))


def test_a_prediction_writer_is_given_the_indices_of_the_samples():
    batches, epochs = written(DataLoader(DATA, batch_size=3))
    assert batches == [[0, 1, 2], [3, 4, 5], [6]]
    assert epochs == [[batches]]


def test_indices_of_several_loaders_of_samples_in_any_order_and_of_limits():
    pl.seed_everything(1)
    loaders = [DataLoader(DATA, batch_size=4, shuffle=True, num_workers=1), DataLoader(DATA, batch_size=None)]
    batches, epochs = written(loaders, limit_predict_batches=2)
    assert [len(indices) for indices in batches] == [4, 3, 1, 1]
    assert sorted(batches[0] + batches[1]) == list(range(7))
    assert batches[0] + batches[1] != list(range(7))
    assert epochs == [[batches[:2], batches[2:]]]


def test_indices_that_nobody_knows_are_none():
    assert written([[torch.ones(1)]], interval="batch") == ([None], [])


def test_a_run_that_writes_nothing_has_a_logger_and_a_checkpoint_callback(isolated):
    class Module(BoringModel):
        def on_train_start(self):
            self.logger.experiment.add_text("note", "nothing comes of it")
            self.logger.experiment["run"].log(1)
            self.logger.log_image("x", [])
            self.logger.log_metrics({"x": 1.0}, step=0)

    run = trainer(fast_dev_run=True, logger=True, enable_checkpointing=True)
    run.fit(Module())
    assert isinstance(run.logger, pl.loggers.logger.DummyLogger)
    assert (run.logger.name, run.logger.version, run.logger.save_dir) == ("", "", None)
    with pytest.raises(AttributeError):
        _ = run.logger.image
    assert (run.checkpoint_callback.best_model_path, list(isolated.iterdir())) == ("", [])


def test_a_run_that_writes_nothing_has_no_part_that_was_switched_off():
    run = trainer(fast_dev_run=True)
    assert (run.logger, run.checkpoint_callback) == (None, None)
    own = ModelCheckpoint()
    assert trainer(fast_dev_run=True, enable_checkpointing=True, callbacks=[own]).checkpoint_callbacks == [own]


@pytest.mark.parametrize(("start", "epochs", "first"), [(2, 4, 1), (4, 4, 3), (0.75, 4, 2), (0.1, 4, 0)])
def test_averaging_starts_in_the_epoch_that_lightning_starts_in(start, epochs, first):
    rates = []

    class Rates(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    averaging = pl.callbacks.StochasticWeightAveraging(swa_lrs=0.5, swa_epoch_start=start, annealing_epochs=0)
    trainer(max_epochs=epochs, callbacks=[averaging, Rates()], limit_val_batches=0).fit(BoringModel())
    assert [rate == 0.5 for rate in rates] == [epoch >= first for epoch in range(epochs)]
    assert averaging.swa_epoch_start == start


def test_a_bar_of_ones_own_reads_the_lengths_of_the_run_and_nothing_else_is_drawn(capsys):
    seen = []

    class Own(pl.callbacks.ProgressBar):
        def __init__(self):
            super().__init__()
            self.enable = True  # as the documentation has it

        def disable(self):
            self.enable = False

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            seen.append((batch_idx / self.total_train_batches, self.total_val_batches, self.trainer is trainer))

    own = Own()
    run = trainer(max_epochs=1, limit_train_batches=2, enable_progress_bar=True, callbacks=[own])
    run.fit(BoringModel())
    assert seen == [(0.0, 1, True), (0.5, 1, True)]
    assert run.progress_bar_callback is own
    run.test(BoringModel(), verbose=False)
    assert own.total_test_batches == 64
    run.predict(BoringModel())
    assert own.total_predict_batches == 64
    assert "Epoch" not in capsys.readouterr().err


def test_a_bar_of_tqdm_is_switched_off_and_on(capsys):
    bar = pl.callbacks.TQDMProgressBar(refresh_rate=3)
    bar.disable()
    run = trainer(max_epochs=1, enable_progress_bar=True, callbacks=[bar])
    run.fit(BoringModel())
    assert (bar.is_enabled, bar.is_disabled, capsys.readouterr().err.count("Epoch")) == (False, True, 0)
    bar.enable()
    run.fit(BoringModel())
    assert (bar.refresh_rate, bar.is_enabled, capsys.readouterr().err.count("Epoch")) == (3, True, 1)


def test_bars_of_tqdm_are_those_that_overrides_return(monkeypatch):
    made = []

    class Own(pl.callbacks.TQDMProgressBar):
        def init_validation_tqdm(self):
            bar = super().init_validation_tqdm()
            bar.set_description("running validation")
            made.append(bar)
            return bar

        def init_train_tqdm(self):
            made.append(tqdm(desc="own", total=3, file=sys.stderr))
            return made[-1]

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    own = Own()
    trainer(max_epochs=1, enable_progress_bar=True, callbacks=[own]).fit(BoringModel())
    train, validation = made
    assert (train.n, train.desc, validation.n, validation.desc) == (3, "own", 1, "running validation: ")
    pickle.dumps(own.state_dict())
    assert own._drawn is None


def test_early_stopping_is_checked_at_another_moment():
    """As the documentation has it: not after each validation, but when training ends."""

    class Own(pl.callbacks.EarlyStopping):
        def on_validation_end(self, trainer, pl_module):
            pass

        def on_train_epoch_end(self, trainer, pl_module):
            pass

        def on_train_end(self, trainer, pl_module):
            self._run_early_stopping_check(trainer)

    class Module(BoringModel):
        def validation_step(self, batch, batch_idx):
            self.log("x", float("inf") if self.current_epoch else 1.0)

    stopping = Own("x", patience=1)
    trainer(max_epochs=1, callbacks=[stopping]).fit(Module())
    assert (stopping.wait_count, stopping.best_score.item(), stopping.stopped_epoch) == (0, 1.0, 0)
    trainer(callbacks=[stopping]).fit(Module())
    assert stopping.stopping_reason_message == "x is inf; the best was inf"


class Counter(Callback):
    def __init__(self, what):
        self.what, self.count = what, 0

    @property
    def state_key(self):
        return self._generate_state_key(what=self.what)

    def on_train_epoch_end(self, *args, **kwargs):
        self.count += 1

    def state_dict(self):
        return {"count": self.count}


def test_callbacks_of_one_class_tell_their_states_apart(tmp_path):
    run = trainer(callbacks=[Counter("a"), Counter("b")])
    run.fit(BoringModel())
    run.save_checkpoint(tmp_path / "a.ckpt")
    states = torch.load(tmp_path / "a.ckpt", weights_only=True)["callbacks"]
    assert {key: states[key] for key in states if "Counter" in key} == {
        "Counter{'what': 'a'}": {"count": 2}, "Counter{'what': 'b'}": {"count": 2}
    }  # fmt: skip


def test_the_loop_reads_the_data_for_configure_optimizers():
    lengths = []

    class Module(BoringModel):
        def configure_optimizers(self):
            self.trainer.fit_loop.setup_data()
            lengths.append((len(self.trainer.train_dataloader), self.trainer.num_training_batches))
            return super().configure_optimizers()

    trainer(max_epochs=1).fit(Module())
    assert lengths == [(64, 3)]


def test_what_torch_compile_made_of_a_module_is_refused():
    with pytest.raises(TypeError) as caught:
        trainer().fit(torch.compile(BoringModel(), backend="eager"))
    assert str(caught.value) == (
        "model: torch.compile made this of BoringModel; give the module itself, and Trainer(compile=True), or a dict of "
        "torch.compile's options"
    )


def test_what_scripts_ask_the_strategy():
    strategy = trainer().strategy
    assert (strategy.global_rank, strategy.is_global_zero, strategy.strategy_name) == (0, True, "single_device")
    assert strategy.reduce(torch.tensor(2.0)).item() == strategy.reduce(2, reduce_op="sum").item() == 2
    with pytest.raises(ValueError) as caught:
        strategy.reduce(torch.tensor(2.0), reduce_op="max")
    assert str(caught.value) == "strategy.reduce(group=None, reduce_op='max'): it is a 'mean' or a 'sum' over all processes"
