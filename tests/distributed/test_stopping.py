"""Decisions that end or save a run are made once, for all ranks."""

from __future__ import annotations

import sys

import leyden as ly
import pytest
import torch
from leyden.testing import TinyModule, run_ranks

from tests.distributed.conftest import QUIET


@pytest.mark.parametrize("where", ["on_train_batch_end", "on_validation_end", "on_train_epoch_end"])
def test_a_rank_that_wants_to_stop_stops_all_at_the_same_step(ranked, where):
    class OneRankStops(ly.Callback):
        pass

    def stop(self, trainer):
        if trainer.strategy.rank == 1 and trainer.global_step >= 3 and not trainer.sanity_checking:
            trainer.should_stop = True

    setattr(OneRankStops, where, stop)

    def fit(environment):
        trainer = ranked(environment, callbacks=[OneRankStops()], max_epochs=20, log_every_n_steps=5)
        trainer.fit(TinyModule())
        return trainer.global_step, trainer.should_stop

    # An epoch has 2 steps: at a log point, or at the end of the epoch in which it was wanted.
    first, second = run_ranks(fit)
    assert first == second == (4, True)


def test_early_stopping_with_values_that_differ_between_ranks(ranked):
    class Contradicts(TinyModule):
        def validation_step(self, batch, batch_idx):
            rank = self.global_rank
            # Better and better on rank 0, worse and worse on rank 1, and in the mean unchanged.
            self.log("value", float(self.current_epoch if rank else -self.current_epoch), batch_size=1)

    def fit(environment):
        stopping = {"early_stopping": {"monitor": "value", "patience": 2}}
        trainer = ranked(environment, callbacks=[stopping], max_epochs=50)
        trainer.fit(Contradicts())
        return trainer.current_epoch

    assert run_ranks(fit) == [3, 3]


def test_a_time_limit_ends_all_ranks_at_one_step(ranked):
    def fit(environment):
        trainer = ranked(environment, max_epochs=-1, max_time={"seconds": 0.3 + 0.2 * environment.rank}, log_every_n_steps=1)
        trainer.fit(TinyModule())
        return trainer.global_step

    first, second = run_ranks(fit)
    assert first == second


def test_one_script_for_several_jobs_has_one_folder_for_each(tmp_path, monkeypatch):
    finished = []
    for job in ("a", "b"):
        folder = tmp_path / f"job-{job}"
        folder.mkdir()  # a second one would fail
        monkeypatch.chdir(folder)
        trainer = ly.Trainer(**{**QUIET, "enable_checkpointing": None}, devices=2, strategy="ddp_fork", max_epochs=1)
        trainer.fit(TinyModule())
        finished.append((job, trainer.global_step, trainer.checkpoint_callback.best_model_path.startswith(str(folder))))
    assert finished == [("a", 2, True), ("b", 2, True)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job-a", "job-b"]


def test_two_devices_in_a_notebook_train_and_leave_what_they_made_in_the_cell(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    module = TinyModule()
    before = module.layer.weight.detach().clone()
    trainer = ly.Trainer(**{**QUIET, "default_root_dir": tmp_path}, devices=2, max_epochs=1)
    history = trainer.fit(module)
    assert trainer.strategy.name == "ddp_notebook"
    assert not bool((module.layer.weight == before).all())
    assert "val_loss" in trainer.callback_metrics
    assert history is trainer.history
    assert trainer.state.finished


class OnRankZero(TinyModule):
    """Logs ``own`` on rank 0 alone, better for two epochs and then worse."""

    def validation_step(self, batch, batch_idx):
        if self.global_rank == 0:
            self.log("own", abs(2.0 - self.current_epoch), rank_zero_only=True)
        self.log("both", float(self.global_rank))


def test_what_rank_0_alone_logs_decides_for_all(ranked):
    def fit(environment):
        stopping = {"early_stopping": {"monitor": "own", "patience": 2}}
        checkpoint = {"checkpoint": {"monitor": "own", "filename": "{epoch}"}}
        trainer = ranked(environment, callbacks=[stopping, checkpoint], enable_checkpointing=None, max_epochs=50)
        trainer.fit(OnRankZero())
        return trainer.current_epoch, trainer.checkpoint_callback.best_model_path

    first, second = run_ranks(fit)
    assert first == second
    assert first[0] == 5
    assert first[1].endswith("/epoch=2.ckpt")


def test_a_monitor_that_nobody_logs_is_told_by_rank_0(ranked):
    def fit(environment):
        ranked(environment, callbacks=[{"early_stopping": {"monitor": "nothing"}}]).fit(OnRankZero())

    with pytest.raises(AssertionError, match=r"rank 0 raised[\s\S]*EarlyStopping\(monitor='nothing'\): 'nothing' was not logged"):
        run_ranks(fit)


class Plateau(TinyModule):
    """Lowers its learning rate by a value that is not the same on all ranks."""

    def __init__(self, interval):
        super().__init__()
        self.interval = interval

    def training_step(self, batch, batch_idx):
        # Better and better on rank 0, worse and faster so on rank 1: in the mean worse.
        value = 3.0 * self.global_step if self.global_rank else -1.0 * self.global_step
        self.log("value", value, on_step=self.interval == "step", on_epoch=self.interval != "step")
        if self.global_rank == 0:
            self.log("own", 1.0, rank_zero_only=True)
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        monitor = "own" if self.interval == "own" else "value"
        interval = "epoch" if self.interval == "own" else self.interval
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": monitor, "interval": interval}}


@pytest.mark.parametrize(("interval", "rate"), [("step", 0.1 * 0.5**5), ("epoch", 0.1 * 0.5**2), ("own", 0.1 * 0.5**2)])
def test_a_scheduler_that_goes_by_a_value_has_one_learning_rate_on_all_ranks(ranked, interval, rate):
    def fit(environment):
        trainer = ranked(environment, max_epochs=3)
        module = Plateau(interval)
        trainer.fit(module)
        return trainer.optimizers[0].param_groups[0]["lr"], module.layer.weight.tolist()

    first, second = run_ranks(fit)
    assert first == second
    assert first[0] == pytest.approx(rate)
