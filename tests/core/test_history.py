"""What ``Trainer.fit`` returns: every record of the run, with or without a logger."""

from __future__ import annotations

import math
import pickle
import sys
import time

import pytest
from leyden import History, Logger, Trainer
from leyden.testing import TinyModule

pytestmark = pytest.mark.usefixtures("core_alone")


class Records(TinyModule):
    """Logs a step value that is the number of the step, and an epoch value that is that of the epoch."""

    def training_step(self, batch, batch_idx):
        self.log("step_value", float(self.global_step))
        return super().training_step(batch, batch_idx)

    def on_train_epoch_end(self):
        self.log("epoch_value", float(self.current_epoch))


def fit(**options):
    return Trainer(**{"max_epochs": 2, "log_every_n_steps": 2, **options}).fit(Records())


def test_a_fit_without_a_logger_returns_the_values_of_every_key_with_their_steps_and_epochs():
    history = fit(logger=False)
    assert history["step_value"] == [1.0, 3.0, 5.0, 7.0]
    assert history.steps("step_value") == [1, 3, 5, 7]
    assert history.epochs("step_value") == [0, 0, 1, 1]
    assert history["epoch_value"] == [0.0, 1.0]
    assert history.steps("epoch_value") == [3, 7]


def test_keys_are_in_the_order_of_their_first_appearance():
    history = fit()
    assert history.keys() == list(history) == ["step_value", "train_loss", "val_loss", "val_acc", "epoch_value"]
    assert "val_loss" in history
    assert "val_los" not in history


def test_a_history_has_what_loggers_got():
    records = []

    class Keeps(Logger):
        def log_metrics(self, metrics, step):
            records.append((step, {key: value for key, value in metrics.items() if key != "epoch"}))

    history = fit(logger=Keeps())
    assert [(record.step, record.values) for record in history.records] == records
    assert len(history) == len(records)


def test_every_record_has_the_wall_time_of_its_log_point():
    before = time.time()
    history = fit()
    times = [record.time for record in history.records]
    assert times == sorted(times)
    assert before <= times[0]
    assert times[-1] <= time.time()


def test_steps_never_go_backwards():
    steps = [record.step for record in fit(log_every_n_steps=1, val_check_interval=2).records]
    assert steps == sorted(steps)


def test_an_unknown_key_gets_the_nearest_and_the_list():
    history = fit()
    for ask in (history.__getitem__, history.steps, history.epochs):
        with pytest.raises(KeyError) as caught:
            ask("val_los")
        assert caught.value.args == (
            "'val_los' was not logged; did you mean 'val_loss'? "
            "Logged: 'step_value', 'train_loss', 'val_loss', 'val_acc', 'epoch_value'",
        )
    with pytest.raises(KeyError) as caught:
        history["zzz"]
    assert caught.value.args == (
        "'zzz' was not logged; logged: 'step_value', 'train_loss', 'val_loss', 'val_acc', 'epoch_value'",
    )


def test_a_fit_that_logged_nothing_has_an_empty_history_that_is_true():
    history = Trainer(max_epochs=1, barebones=True).fit(TinyModule())
    assert history
    assert len(history) == 0
    assert history.keys() == []


def test_a_second_fit_has_a_history_of_its_own_and_an_evaluation_adds_to_the_last():
    trainer = Trainer(max_epochs=1)
    module = TinyModule()
    first = trainer.fit(module)
    second = trainer.fit(module)
    assert first is not second
    before = len(second)
    trainer.test(module, verbose=False)
    assert trainer.history is second
    assert len(second) == before + 1
    assert len(second["test_loss"]) == 1
    assert "test_loss" not in first


def test_a_history_can_be_pickled():
    history = fit()
    copy = pickle.loads(pickle.dumps(history))
    assert copy.records == history.records
    assert repr(copy) == repr(history)


def test_a_failed_fit_leaves_what_was_logged_on_the_trainer():
    class Fails(Records):
        def training_step(self, batch, batch_idx):
            if self.global_step == 5:
                raise RuntimeError("the user's own")
            return super().training_step(batch, batch_idx)

    trainer = Trainer(max_epochs=2, log_every_n_steps=2)
    with pytest.raises(RuntimeError):
        trainer.fit(Fails())
    assert trainer.history["step_value"] == [1.0, 3.0]


# ---- pandas and matplotlib ----


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pandas's own, at import
def test_a_data_frame_has_a_row_for_each_record():
    pytest.importorskip("pandas")
    history = fit()
    frame = history.to_pandas()
    assert list(frame.columns) == [
        *("step", "epoch", "batch", "samples", "time"),
        *("step_value", "train_loss", "val_loss", "val_acc", "epoch_value"),
    ]
    assert list(frame["step"]) == [record.step for record in history.records]
    assert list(frame["step_value"].dropna()) == history["step_value"]


def test_a_plot_has_a_line_for_each_key_over_optimizer_steps():
    pytest.importorskip("matplotlib")
    history = fit()
    axes = history.plot(["step_value", "epoch_value"])
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}
    assert lines == {"step_value": ([1, 3, 5, 7], [1.0, 3.0, 5.0, 7.0]), "epoch_value": ([3, 7], [0.0, 1.0])}
    assert axes.get_xlabel() == "optimizer step"
    assert len(history.plot().get_lines()) == 5
    assert history.plot(["val_acc"], ax=axes) is axes


def test_a_plot_of_an_unknown_key_is_an_error():
    pytest.importorskip("matplotlib")
    with pytest.raises(KeyError) as caught:
        fit().plot(["val_los"])
    assert caught.value.args[0].startswith("'val_los' was not logged; did you mean 'val_loss'?")


@pytest.mark.parametrize(
    ("method", "package", "module"),
    [("to_pandas", "pandas", "pandas"), ("plot", "matplotlib", "matplotlib.figure")],
)
def test_a_missing_package_is_said_with_the_way_to_install_it(monkeypatch, method, package, module):
    history = fit()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        getattr(history, method)()
    assert str(caught.value) == f"History.{method}() needs {package}; run: pip install {package}"


def test_every_record_says_where_the_run_was():
    history = Trainer(max_epochs=2, log_every_n_steps=2, num_sanity_val_steps=0, val_check_interval=3).fit(TinyModule())
    places = [(record.step, record.epoch, record.batch, record.samples, sorted(record.values)) for record in history.records]
    train, val = ["train_loss"], ["val_acc", "val_loss"]
    assert places == [
        (1, 0, 2, 8, train),
        (2, 0, 3, 12, val),
        (3, 0, 4, 16, train),
        (5, 1, 2, 24, train),
        (6, 1, 3, 28, val),
        (7, 1, 4, 32, train),
    ]


def test_samples_that_nobody_counted_are_none():
    history = Trainer(max_epochs=1, log_every_n_steps=1, limit_val_batches=0).fit(
        TinyModule(), list(TinyModule().train_dataloader())
    )
    assert {record.samples for record in history.records} == {None}


def test_a_sparkline_is_a_curve_as_text():
    history = History()
    for step in range(80):
        history.add(step, 0, {"loss": 80.0 - step, **({"acc": 0.5} if step == 3 else {}), "odd": math.nan if step < 8 else step})
    assert history.sparkline(width=8) == ("loss  █▇▆▅▄▃▂▁  80 to 1\nodd   ·▁▂▃▅▆▇█  nan to 79\nacc   ▁         0.5 to 0.5")
    assert history.sparkline(["acc"]) == f"acc  ▁{' ' * 39}  0.5 to 0.5"
    assert History().sparkline() == ""
    with pytest.raises(ValueError, match=r"History.sparkline\(width=0\): expected at least 1"):
        history.sparkline(width=0)
    with pytest.raises(KeyError):
        history.sparkline(["los"])
