"""Loggers in the Trainer's hands."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from leyden import Callback, LeydenWarning, Trainer, hookimpl
from leyden.testing import TinyModule
from leyden_loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

QUIET = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "log_every_n_steps": 1,
    "max_epochs": 1,
}


def trainer(root, **arguments):
    return Trainer(**{**QUIET, "default_root_dir": root, **arguments})


def rows(directory):
    """The table without its column of times."""
    with Path(directory, "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "time"} for row in csv.DictReader(file)]


def scalars(directory):
    found = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    found.Reload()
    return {tag: sorted((event.step, event.value) for event in found.Scalars(tag)) for tag in found.Tags()["scalars"]}


def names(directory):
    return sorted(path.name for path in Path(directory).iterdir())


# ---- choosing ----


def test_importing_and_choosing_a_logger_imports_no_client():
    program = """
import sys
import leyden, leyden_loggers
trainer = leyden.Trainer(logger=["tensorboard", "csv"], accelerator="cpu")
print([name for name in sys.modules if name.split(".")[0] == "tensorboard" or name.startswith("torch.utils.tensorboard")])
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "choice",
    ["csv", ["csv"], {"csv": {}}, {"csv": {"flush_every_n_records": 2}}, CSVLogger(), "csv@leyden-loggers"],
    ids=["name", "list", "no options", "options", "object", "distribution"],
)
def test_the_csv_logger_in_each_form_writes_below_default_root_dir(choice, tmp_path):
    trainer(tmp_path, logger=choice).fit(TinyModule())
    found = rows(tmp_path / "leyden_logs/version_0")
    assert [(row["step"], row["epoch"]) for row in found] == [("0", "0"), ("1", "0"), ("2", "0"), ("3", "0"), ("3", "0")]
    assert [bool(row["train_loss"]) for row in found] == [True, True, True, True, False]
    assert [bool(row["val_loss"]) for row in found] == [False, False, False, False, True]


def test_two_loggers_by_name_share_one_directory(tmp_path):
    run = trainer(tmp_path, logger=["tensorboard", "csv"])
    run.fit(TinyModule(lr=0.25))
    assert names(tmp_path / "leyden_logs") == ["version_0"]
    events, *others = names(run.log_dir)
    assert events.startswith("events.out.tfevents.")
    assert others == ["hparams.yaml", "metrics.csv"]
    assert Path(run.log_dir, "hparams.yaml").read_text() == "lr: 0.25\n"
    found = scalars(run.log_dir)
    assert sorted(found) == ["epoch", "hp_metric", "train_loss", "val_acc", "val_loss"]
    table = rows(run.log_dir)
    for key in ("train_loss", "val_loss", "val_acc"):
        assert [(int(row["step"]), torch.tensor(float(row[key])).item()) for row in table if row[key]] == found[key]


@pytest.mark.parametrize(
    ("loggers", "name"),
    [
        (["csv", "csv"], "CSVLogger"), (["csv", {"csv": {"prefix": "a"}}], "CSVLogger"),
        ([{"jsonl": {"version": 3}}, "csv", {"jsonl": {"version": 3}}], "JSONLinesLogger"),
        (["tensorboard", "tensorboard"], "TensorBoardLogger"),
    ],
)  # fmt: skip
def test_two_loggers_that_would_write_the_same_file_are_refused(loggers, name, tmp_path):
    with pytest.raises(ValueError) as error:
        Trainer(logger=loggers, default_root_dir=tmp_path)
    root = str(tmp_path / "leyden_logs")
    assert str(error.value) == (
        f"two {name} of this Trainer would write into one place below {root!r}; give one of them another name"
    )


@pytest.mark.parametrize("other", [{"prefix": "a"}, {"sub_dir": "a"}, {"name": "a"}, {"version": "a"}])
def test_two_event_files_that_can_be_told_apart_may_share_a_directory(other, tmp_path):
    Trainer(logger=["tensorboard", {"tensorboard": other}], default_root_dir=tmp_path)


def test_the_first_loggers_directory_is_the_runs(tmp_path):
    run = trainer(tmp_path, logger=[{"csv": {"name": "table"}}, {"tensorboard": {"name": "events", "version": 5}}])
    run.fit(TinyModule())
    assert run.log_dir == str(tmp_path / "table/version_0")
    assert [logger.log_dir for logger in run.loggers] == [str(tmp_path / "table/version_0"), str(tmp_path / "events/version_5")]
    assert "metrics.csv" in names(tmp_path / "table/version_0")
    assert "metrics.csv" not in names(tmp_path / "events/version_5")


def test_a_logger_with_a_version_of_its_own_shares_none(tmp_path):
    run = trainer(tmp_path, logger=["csv", {"csv": {"version": 7}}, {"jsonl": {"version": 7}}])
    first, second, third = run.loggers
    assert first.run_directory is not second.run_directory
    assert second.run_directory is not first.run_directory
    assert third.run_directory is second.run_directory


def test_without_a_choice_tensorboard_is_taken(tmp_path):
    assert type(trainer(tmp_path).logger) is TensorBoardLogger
    assert type(trainer(tmp_path, logger=True).logger) is TensorBoardLogger


def test_without_a_choice_and_without_tensorboards_client_csv_is_taken(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert type(trainer(tmp_path).logger) is CSVLogger


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            {"csv": {"flush_every_n_record": 5}},
            "logger 'csv' has no option 'flush_every_n_record'; did you mean 'flush_every_n_records'? "
            "Its options: 'save_dir', 'name', 'version', 'prefix', 'flush_every_n_records'",
        ),
        (
            {"tensorboard": {"max_queu": 5}},
            "logger 'tensorboard' has no option 'max_queu'; did you mean 'max_queue'? "
            "Its options: 'save_dir', 'name', 'version', 'log_graph', 'default_hp_metric', 'prefix', 'sub_dir', "
            "'purge_step', 'max_queue', 'flush_secs', 'filename_suffix'",
        ),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest(choice, message):
    with pytest.raises(TypeError) as error:
        Trainer(logger=choice, accelerator="cpu")
    assert str(error.value) == message


# ---- when things are created ----


def test_a_trainer_that_is_built_or_only_predicts_creates_nothing(tmp_path):
    run = trainer(tmp_path, logger=["tensorboard", "csv"])
    assert names(tmp_path) == []
    run.predict(TinyModule())
    assert names(tmp_path) == []


def test_a_place_that_cannot_be_written_to_is_refused_before_training(tmp_path):
    (tmp_path / "taken").write_text("a file")

    class Untouched(TinyModule):
        def training_step(self, batch, batch_idx):
            raise AssertionError("trained")

        validation_step = training_step

    with pytest.raises(NotADirectoryError) as error:
        trainer(tmp_path, logger={"csv": {"save_dir": tmp_path / "taken"}}).fit(Untouched())
    assert str(error.value) == (
        f"[Errno 20] the logger cannot write to {str(tmp_path / 'taken/leyden_logs')!r}: Not a directory; "
        f"pass a save_dir that can be written to, or logger=False"
    )


def test_every_run_of_a_trainer_goes_on_in_its_directory_and_another_trainer_gets_a_new_one(tmp_path):
    run = trainer(tmp_path, logger="csv")
    run.fit(TinyModule())
    run.test(verbose=False)
    run.validate(verbose=False)
    assert [bool(row["test_loss"]) for row in rows(run.log_dir)] == [False] * 5 + [True, False]
    other = trainer(tmp_path, logger="csv")
    other.fit(TinyModule())
    assert names(tmp_path / "leyden_logs") == ["version_0", "version_1"]
    assert len(rows(run.log_dir)) == 7


# ---- what goes wrong ----


class At(Callback):
    """Does something after one batch."""

    def __init__(self, batch_idx, action):
        self.batch_idx, self.action = batch_idx, action

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx == self.batch_idx:
            self.action()


def test_a_run_directory_deleted_while_training_is_made_again(tmp_path):
    def delete():
        for logger in run.loggers:
            logger.save()  # the client's thread may write at any moment what waits in its queue, and would end with a traceback
        shutil.rmtree(tmp_path / "leyden_logs")

    run = trainer(tmp_path, logger=["csv", "tensorboard"], callbacks=[At(2, delete)])
    for logger in run.loggers:
        logger.seconds_between_writes = 0.0
    with pytest.warns(LeydenWarning) as warned:
        run.fit(TinyModule(lr=0.5))
    assert [str(warning.message) for warning in warned] == [
        f"the run's directory {str(tmp_path / 'leyden_logs/version_0')!r} was deleted while the run wrote to it; it was made "
        f"again and has only what is logged from now on"
    ]
    assert [row["step"] for row in rows(run.log_dir)] == ["2", "3", "3"]
    assert [step for step, _ in scalars(run.log_dir)["train_loss"]] == [2, 3]
    assert Path(run.log_dir, "hparams.yaml").read_text() == "lr: 0.5\n"


def test_what_was_logged_before_an_exception_is_written_and_files_are_closed(tmp_path):
    def fail():
        raise ZeroDivisionError("mine")

    loggers = [{"csv": {"flush_every_n_records": 100}}, "tensorboard"]
    threads = threading.active_count()
    run = trainer(tmp_path, logger=loggers, callbacks=[At(2, fail)])
    with pytest.raises(ZeroDivisionError, match=r"^mine$"):
        run.fit(TinyModule())
    assert threading.active_count() == threads
    assert [row["step"] for row in rows(run.log_dir)] == ["0", "1"]
    assert [step for step, _ in scalars(run.log_dir)["train_loss"]] == [0, 1]


KILLED = """
import os, signal, sys
from leyden import Callback, Trainer
from leyden.testing import TinyModule

class Kill(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == 58:
            os.kill(os.getpid(), signal.SIGKILL)

Trainer(logger=["csv", "tensorboard"], callbacks=[Kill()], log_every_n_steps=1, max_epochs=20, default_root_dir=sys.argv[1],
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False).fit(TinyModule())
"""


def test_a_killed_run_leaves_every_row_but_those_of_the_last_second(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    directory = tmp_path / "leyden_logs/version_0"
    found = [int(row["step"]) for row in rows(directory) if row["train_loss"]]
    assert found == list(range(len(found)))
    assert len(found) >= 56  # the epoch that ended last; of the running one what came within a second may wait
    steps = [step for step, _ in scalars(directory)["train_loss"]]
    assert steps == list(range(len(steps)))
    assert len(steps) >= 56 - 12  # ten wait in the client's queue, two are in its hands


# ---- continuing ----


def fit_in_version_0(root, ckpt_path=None, module_class=TinyModule, **arguments):
    torch.manual_seed(0)
    run = trainer(root, logger=[{"csv": {"version": 0}}, {"tensorboard": {"version": 0}}], **arguments)
    run.fit(module_class(), ckpt_path=ckpt_path)
    return run


class LogsEpochs(TinyModule):
    """Its last row of an epoch comes after validation and bears the number of the last step."""

    def on_train_epoch_end(self):
        self.log("of_the_epoch", float(self.current_epoch))


def test_a_fit_that_continues_from_a_checkpoint_leaves_the_log_of_a_run_that_was_never_interrupted(tmp_path, capsys, monkeypatch):
    # The client names files by second, process and a count, and reads them in the order of their names: 10 before 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(100))
    whole = fit_in_version_0(tmp_path / "whole", max_epochs=3)
    cut = fit_in_version_0(tmp_path / "cut", max_epochs=1)
    cut.save_checkpoint(tmp_path / "one.ckpt")
    fit_in_version_0(tmp_path / "cut", ckpt_path=tmp_path / "one.ckpt", max_epochs=2)
    capsys.readouterr()
    fit_in_version_0(tmp_path / "cut", ckpt_path=tmp_path / "one.ckpt", max_epochs=3)
    table = tmp_path / "cut/leyden_logs/version_0/metrics.csv"
    assert (
        f"leyden: 5 row(s) from step 4 on were taken out of {str(table)!r}: the run continues there\n" in capsys.readouterr().err
    )
    assert rows(cut.log_dir) == rows(whole.log_dir)
    assert scalars(cut.log_dir) == scalars(whole.log_dir)


@pytest.mark.parametrize("when", ["on_validation_end", "on_train_epoch_end"])
def test_no_row_comes_twice_when_the_checkpoint_lies_between_a_step_and_its_last_row(when, tmp_path):
    @hookimpl(trylast=True)  # after the module, as checkpoint callbacks
    def save(self, trainer):
        if trainer.global_step == 4 and not trainer.sanity_checking:
            trainer.save_checkpoint(tmp_path / "four.ckpt")

    saves = type("Saves", (Callback,), {when: save})
    options = {"module_class": LogsEpochs, "max_epochs": 2, "log_every_n_steps": 1}
    run = fit_in_version_0(tmp_path / "whole", callbacks=[saves()], **options)
    before = rows(run.log_dir)
    fit_in_version_0(tmp_path / "whole", ckpt_path=tmp_path / "four.ckpt", **options)
    assert rows(run.log_dir) == before
    assert Path(f"{run.log_dir}/metrics.csv").read_text().count("\n") == len(before) + 1


def test_a_table_in_another_directory_is_cut_by_steps(tmp_path):
    run = fit_in_version_0(tmp_path, max_epochs=1)
    run.save_checkpoint(tmp_path / "one.ckpt")
    (tmp_path / "leyden_logs/version_0").rename(tmp_path / "leyden_logs/other")
    torch.manual_seed(0)
    trainer(tmp_path, logger={"csv": {"version": "other"}}, max_epochs=2).fit(TinyModule(), ckpt_path=tmp_path / "one.ckpt")
    assert [row["step"] for row in rows(tmp_path / "leyden_logs/other")] == ["0", "1", "2", "3", "3", "4", "5", "6", "7", "7"]


def test_a_fit_from_the_start_in_a_version_that_exists_appends(tmp_path):
    fit_in_version_0(tmp_path)
    run = fit_in_version_0(tmp_path)
    assert [row["step"] for row in rows(run.log_dir)] == ["0", "1", "2", "3", "3"] * 2


def test_a_checkpoint_that_is_refused_or_only_tested_takes_nothing_out(tmp_path):
    run = fit_in_version_0(tmp_path)
    run.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
    other = trainer(tmp_path, logger={"csv": {"version": 0}})
    with pytest.raises(ValueError, match="has weights only"):
        other.fit(TinyModule(), ckpt_path=tmp_path / "weights.ckpt")
    other.test(TinyModule(), ckpt_path=tmp_path / "weights.ckpt", verbose=False)
    other.fit(TinyModule())
    assert [row["step"] for row in rows(run.log_dir)] == ["0", "1", "2", "3", "3", "0", "0", "1", "2", "3", "3"]


# ---- what users reach for ----


def test_the_graph_can_be_asked_for_after_the_trainer_was_built(tmp_path):
    class Outer(TinyModule):
        def __init__(self):
            super().__init__()
            self.inner = TinyModule()  # a module of ours that no Trainer knows
            self.example_input_array = torch.ones(2, 8)

        def forward(self, x):
            return self.inner(x) + self.layer(x)

    run = trainer(tmp_path, logger="tensorboard")
    run.logger._log_graph = True
    run.logger._default_hp_metric = None
    run.fit(Outer())
    found = EventAccumulator(run.log_dir)
    found.Reload()
    assert any("TinyModule[inner]/Linear[layer]" in node.name for node in found.Graph().node)
    assert "hp_metric" not in found.Tags()["scalars"]


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_the_graph_is_drawn_in_the_runs_precision(precision, tmp_path):
    module = TinyModule()
    module.example_input_array = torch.ones(2, 8)
    trainer(tmp_path, logger={"tensorboard": {"log_graph": True}}, precision=precision).fit(module)
    found = EventAccumulator(str(tmp_path / "leyden_logs/version_0"))
    found.Reload()
    assert found.Tags()["graph"] is True


def test_drawing_the_graph_does_not_change_the_run(tmp_path):
    losses = []
    for drawn in (False, True):
        torch.manual_seed(0)
        module = TinyModule()
        module.example_input_array = torch.ones(2, 8)
        run = trainer(tmp_path, logger=["csv", {"tensorboard": {"log_graph": drawn}}])
        run.fit(module)
        losses.append(rows(run.log_dir))
    assert losses[0] == losses[1]


def test_a_hook_reaches_the_writer(tmp_path):
    class Histograms(TinyModule):
        def on_after_backward(self):
            self.logger.experiment.add_histogram(
                tag="weight", values=self.layer.weight.grad, global_step=self.trainer.global_step
            )

    run = trainer(tmp_path, logger="tensorboard")
    run.fit(Histograms())
    found = EventAccumulator(run.log_dir, size_guidance={"histograms": 0})
    found.Reload()
    assert [event.step for event in found.Histograms("weight")] == [0, 1, 2, 3]


@pytest.mark.parametrize("logger", [CSVLogger, TensorBoardLogger])
def test_on_another_rank_a_logger_takes_every_call_and_writes_nothing(logger, tmp_path):
    built = logger(tmp_path)
    built.connect(SimpleNamespace(is_global_zero=False, loggers=[built], default_root_dir=str(tmp_path)))
    assert (built.log_dir, built.version) == (None, None)
    assert built.experiment.add_scalar("loss", 1.0, global_step=0) is None
    built.log_metrics({"loss": 1.0}, 0)
    built.log_hyperparams({"lr": 0.1}, {"acc": 0.5})
    built.save()
    built.finalize("success")
    assert names(tmp_path) == []
