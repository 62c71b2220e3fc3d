"""The directory of a run is one, on all ranks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import leyden as ly
import leyden_lightning as pl
import pytest
from leyden.testing import TinyModule, run_ranks


class Asks(ly.Callback):
    """Notes the directory wherever a rank asks by itself."""

    def __init__(self):
        self.found = {}

    def setup(self, trainer, module, stage):
        self.found[f"{stage} setup"] = trainer.log_dir

    def on_train_batch_end(self, trainer):
        if trainer.strategy.rank == 1 and trainer.global_step == 1:
            self.found["alone"] = trainer.log_dir

    def on_exception(self, trainer):
        self.found["after an error"] = trainer.log_dir


def names(directory):
    return sorted(str(path.relative_to(directory)) for path in Path(directory).rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "logger",
    ["csv", "tensorboard", {"tensorboard": {"sub_dir": "events"}}, {"csv": {"version": "mine"}}, ["console", "csv"], False],
    ids=["csv", "tensorboard", "sub_dir", "version", "the second logger's", "none"],
)
def test_every_rank_has_the_directory_of_rank_0_and_asks_for_it_alone(ranked, logger):
    def fit(environment):
        asks = Asks()
        trainer = ranked(environment, logger=logger, callbacks=[asks], default_root_dir=f"root-of-{environment.rank}")
        trainer.fit(TinyModule())
        return {**asks.found, "after": trainer.log_dir}

    os.mkdir("root-of-0")  # noqa: PTH102  # relative, as what is compared
    first, second = run_ranks(fit)
    assert second.pop("alone") == first["after"]
    assert second == first
    assert len(set(first.values())) == 1
    assert first["after"].startswith("root-of-0")


@pytest.mark.parametrize("logger", ["csv", {"tensorboard": {"sub_dir": "events"}}], ids=["csv", "sub_dir"])
def test_loggers_of_every_rank_know_the_directory_too(ranked, logger):
    def fit(environment):
        trainer = ranked(environment, logger=[logger, {"csv": {"name": "other"}}])
        found = [(one.log_dir, one.version) for one in trainer.loggers] if environment.rank else []
        trainer.fit(TinyModule())
        return found, [(one.log_dir, one.version) for one in trainer.loggers]

    (_, first), (before, second) = run_ranks(fit)
    assert before == [(None, None)] * 2  # nobody has chosen one yet
    assert second == first
    assert [version for _, version in first] == [0, 0]


def test_each_run_of_a_trainer_agrees_anew(ranked):
    def fit(environment):
        trainer = ranked(environment, logger="csv")
        trainer.fit(TinyModule())
        found = [trainer.log_dir]
        trainer.logger = ly.Trainer(logger={"csv": {"name": "another"}}).logger
        trainer.test(TinyModule(), verbose=False)
        return [*found, trainer.log_dir]

    first, second = run_ranks(fit)
    assert first == second
    assert [Path(path).parent.name for path in first] == ["leyden_logs", "another"]


def test_the_directory_is_known_where_an_error_is_handled(ranked):
    def fit(environment):
        class Fails(TinyModule):
            def training_step(self, batch, batch_idx):
                raise ValueError("broken")

        asks = Asks()
        trainer = ranked(environment, logger="csv", callbacks=[asks])
        with pytest.raises(ValueError, match="broken"):
            trainer.fit(Fails())
        return asks.found["after an error"]

    first, second = run_ranks(fit)
    assert first == second
    assert Path(first).name == "version_0"


def test_what_callbacks_and_profilers_write_on_each_rank_lies_in_one_directory(ranked, tmp_path):
    def fit(environment):
        callbacks = ["checkpoint", {"memory_snapshot": {"at_step": 1}}, {"spike_detection": {"action": "warn"}}]
        profiler = {"simple": {"filename": "profile"}}
        trainer = ranked(environment, logger="csv", callbacks=callbacks, profiler=profiler, enable_checkpointing=None)
        trainer.fit(Jumps())
        return trainer.checkpoint_callback.dirpath

    class Jumps(TinyModule):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) * (1000.0 if batch_idx else 1.0)

    first, second = run_ranks(fit)
    run = tmp_path / "leyden_logs" / "version_0"
    assert first == second == str(run / "checkpoints")
    found = names(tmp_path)
    assert all(name.startswith("leyden_logs/version_0/") for name in found), found
    written = {name.removeprefix("leyden_logs/version_0/") for name in found}
    assert {"fit-profile.txt", "fit-profile-1.txt"} <= written
    assert {f"memory/memory-step1-rank{rank}.tracemalloc" for rank in (0, 1)} <= written
    assert {f"skip_batches-rank{rank}.json" for rank in (0, 1)} <= written
    assert len(json.loads((run / "skip_batches-rank1.json").read_text())) == 1


def test_the_predictions_of_all_ranks_lie_in_one_directory(ranked, tmp_path):
    def predict(environment):
        trainer = ranked(environment, logger="csv", callbacks=[{"prediction_writer": {"write_interval": "batch"}}])
        trainer.predict(TinyModule())

    run_ranks(predict)
    assert sorted({str(Path(name).parent) for name in names(tmp_path)}) == ["leyden_logs/version_0/predictions"]
    assert len(names(tmp_path)) == 2


def test_lightnings_loggers_and_trainer_do_so_as_well(tmp_path):
    def fit(environment):
        logger = pl.loggers.TensorBoardLogger(tmp_path, name="runs")
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=2,
            strategy="ddp",
            environment=environment,
            logger=logger,
            max_epochs=1,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(TinyModule())
        return trainer.log_dir, logger.log_dir, trainer.checkpoint_callback.dirpath

    first, second = run_ranks(fit)
    assert first == second == (str(tmp_path / "runs/version_0"),) * 2 + (str(tmp_path / "runs/version_0/checkpoints"),)
