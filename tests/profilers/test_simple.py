"""SimpleProfiler: what is counted, and what a step is said to be made of."""

from __future__ import annotations

import re
from typing import Any

import pytest
from leyden import Callback
from leyden.testing import TinyDataModule, TinyModule
from leyden_profilers import SimpleProfiler


class Beats:
    """A clock on which only what the test does takes time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("leyden_profilers.simple.time.perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Beats(monkeypatch)


def cells(text: str) -> dict[str, list[str]]:
    """The rows of the tables, by first column."""
    rows = [re.split(r"  +", line.strip()) for line in text.splitlines() if line.strip() and not line.startswith("---")]
    return {row[0]: row[1:] for row in rows}


class Slow(TinyModule):
    """Its training step takes 2 s, its validation step 10 s, of the clock's."""

    clock: Any

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.clock.now += 2
        with self.trainer.profiler.profile("my block"):
            self.clock.now += 1
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.clock.now += 10


class SlowCallback(Callback):
    def __init__(self, clock: Any) -> None:
        self.clock = clock

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.clock.now += 0.5

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.clock.now += 100


def slow(clock: Any) -> Slow:
    module = Slow()
    module.clock = clock
    return module


def test_the_table_has_calls_totals_means_and_shares(quiet, clock, capsys):
    trainer = quiet("simple", callbacks=[SlowCallback(clock)], max_epochs=2, val_check_interval=2)
    trainer.fit(slow(clock))
    found = cells(capsys.readouterr().out)
    assert found["fit"] == ["calls", "total ms", "mean us", "of the steps"]
    assert found["[Module]Slow.training_step"] == ["8", "24000.000", "3000000.0", "85.7 %"]
    assert found["my block"] == ["8", "8000.000", "1000000.0", "28.6 %"]
    assert found["[Callback]SlowCallback.on_train_batch_end"] == ["8", "4000.000", "500000.0", "14.3 %"]
    assert found["[Callback]SlowCallback.on_train_epoch_start"] == ["2", "200000.000", "100000000.0"]
    assert found["[Module]Slow.validation_step"] == ["10", "100000.000", "10000000.0"]
    assert found["[Loop]validation"] == ["4", "80000.000", "20000000.0"]


def test_every_plugin_has_a_line(quiet, clock, capsys):
    class Other(SlowCallback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            self.clock.now += 1

    class Hooked(Slow):
        def on_train_epoch_end(self) -> None:
            self.clock.now += 5

    module = Hooked()
    module.clock = clock
    quiet("simple", callbacks=[SlowCallback(clock), Other(clock)], max_epochs=2, limit_val_batches=0).fit(module)
    text = capsys.readouterr().out
    table = text[text.index("hooks of each plug-in") :].split("\n\n")[0]
    assert [line.split()[0] for line in table.splitlines()[2:]] == [
        "[Callback]SlowCallback",
        f"[Module]{Hooked.__qualname__}",
        f"[Callback]{Other.__qualname__}",
    ]
    found = cells(table)
    assert found["[Callback]SlowCallback"] == ["10", "204000.000", "20400000.0", "12.5 %"]
    assert found[f"[Module]{Hooked.__qualname__}"] == ["2", "10000.000", "5000000.0"]


def test_a_step_is_split_into_the_bare_step_and_what_is_beside_it(quiet, clock, capsys):
    quiet("simple", callbacks=[SlowCallback(clock)], max_epochs=2, val_check_interval=2).fit(slow(clock))
    found = cells(capsys.readouterr().out)
    assert found["mean of 8 training step(s)"] == ["us", "share"]
    assert found["bare step: batch, forward, backward, optimizer"] == ["2000000.0", "57.1 %"]
    assert found["profile() blocks"] == ["1000000.0", "28.6 %"]
    assert found["hooks of the module, callbacks and plug-ins"] == ["500000.0", "14.3 %"]
    assert found["logging"] == ["0.0", "0.0 %"]
    assert found["the framework itself"] == ["0.0", "0.0 %"]
    assert found["together"] == ["3500000.0", "100.0 %"]


def test_time_between_steps_that_no_action_explains_is_the_framework_s(quiet, clock, monkeypatch, capsys):
    trainer = quiet("simple")
    record = trainer.progress.__class__.__setattr__

    def slow_counter(progress: Any, name: str, value: Any) -> None:
        if name == "total_batches" and value:
            clock.now += 0.25
        record(progress, name, value)

    monkeypatch.setattr(type(trainer.progress), "__setattr__", slow_counter)
    trainer.fit(slow(clock))
    found = cells(capsys.readouterr().out)
    assert found["the framework itself"] == ["250000.0", "7.7 %"]
    assert found["together"] == ["3250000.0", "100.0 %"]


def test_what_self_log_takes_is_no_part_of_the_bare_step(quiet, clock, monkeypatch, capsys):
    from leyden.metrics.store import Metrics

    plain = Metrics.log

    def slow_log(metrics: Any, *args: Any, **kwargs: Any) -> None:
        clock.now += 0.5
        plain(metrics, *args, **kwargs)

    monkeypatch.setattr(Metrics, "log", slow_log)
    quiet("simple").fit(slow(clock))
    found = cells(capsys.readouterr().out)
    assert found["bare step: batch, forward, backward, optimizer"] == ["2000000.0", "57.1 %"]
    assert found["logging"] == ["500000.0", "14.3 %"]


def test_each_run_is_reported_by_itself(quiet, capsys):
    trainer = quiet("simple")
    module = TinyModule()
    trainer.fit(module)
    capsys.readouterr()
    trainer.test(module, verbose=False)
    found = cells(capsys.readouterr().out)
    assert found["test"] == ["calls", "total ms", "mean us", "of the steps"]
    assert found["[Module]TinyModule.test_step"][0] == "2"
    assert "[Module]TinyModule.training_step" not in found
    assert "together" not in found


def test_a_failed_run_is_reported_too(quiet, capsys):
    class Failing(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 2:
                raise RuntimeError("no more")
            return super().training_step(batch, batch_idx)

    trainer = quiet("simple")
    with pytest.raises(RuntimeError, match="no more"):
        trainer.fit(Failing())
    name = "[Module]test_a_failed_run_is_reported_too.<locals>.Failing.training_step"
    assert cells(capsys.readouterr().out)[name][0] == "3"


@pytest.mark.parametrize("profiler", ["simple", "advanced"])
def test_a_run_that_fails_before_its_setup_is_not_reported_as_the_one_before(quiet, capsys, profiler):
    class Unprepared(TinyDataModule):
        def prepare_data(self) -> None:
            raise ValueError("no data")

    trainer = quiet(profiler)
    trainer.fit(TinyModule())
    assert "training_step" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no data"):
        trainer.test(TinyModule(), datamodule=Unprepared())
    assert capsys.readouterr().out == ""


def test_a_filename_writes_the_report_in_place_of_printing_it(quiet, tmp_path, capsys):
    trainer = quiet({"simple": {"dirpath": tmp_path / "reports", "filename": "times"}})
    trainer.fit(TinyModule())
    printed = capsys.readouterr()
    written = tmp_path / "reports" / "fit-times.txt"
    assert written.read_text() == trainer.profiler.summary() + "\n"
    assert printed.out == ""
    assert printed.err == f"leyden: profile written to {written}\n"


def test_without_a_dirpath_the_report_is_in_the_run_s_directory(quiet, tmp_path):
    quiet({"simple": {"filename": "times"}}).fit(TinyModule())
    assert (tmp_path / "fit-times.txt").is_file()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dirpath": 3}, TypeError, "SimpleProfiler(dirpath=3): expected a path, got int 3"),
        ({"filename": 3}, TypeError, "SimpleProfiler(filename=3): expected a str, got int 3"),
        ({"filename": "a/b"}, ValueError,
         "SimpleProfiler(filename='a/b'): expected a name without a directory; that is dirpath"),
    ],
)  # fmt: skip
def test_arguments_are_checked(options, error, message):
    with pytest.raises(error) as caught:
        SimpleProfiler(**options)
    assert str(caught.value) == message
