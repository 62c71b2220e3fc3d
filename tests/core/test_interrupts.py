"""What signals do to a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from leyden import Callback, Logger, Terminated, Trainer
from leyden.testing import TinyModule

pytestmark = pytest.mark.usefixtures("core_alone", "plain_handlers")


class Signalled(TinyModule):
    """Sends itself signals inside a step."""

    def __init__(self, *signals, place="training_step"):
        super().__init__()
        self.signals, self.place, self.steps_ended = signals, place, []

    def send(self, place):
        if place == self.place:
            for number in self.signals:
                os.kill(os.getpid(), number)

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if batch_idx == 2:
            self.send("training_step")
        return loss

    def validation_step(self, batch, batch_idx):
        self.send("validation_step")

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.steps_ended.append(self.global_step)


class Saves(Callback):
    """Takes note of when it is asked to save."""

    def __init__(self):
        self.asked = []

    def save_before_stop(self, trainer):
        self.asked.append(trainer.global_step)
        return "saved.ckpt"


class Status(Logger):
    def finalize(self, status):
        self.status = status


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["SIGTERM", "SIGHUP"])
def test_the_step_ends_the_state_is_saved_loggers_are_closed_and_the_exit_code_says_which_signal(number, code, capsys):
    module, saves, logger = Signalled(number), Saves(), Status()
    with pytest.raises(Terminated) as caught:
        Trainer(max_epochs=5, callbacks=[saves], logger=logger).fit(module)
    assert (caught.value.code, caught.value.signal) == (code, number)
    assert module.steps_ended == [1, 2, 3]
    assert saves.asked == [3]
    assert logger.status == "interrupted"
    assert signal.getsignal(number) is signal.SIG_DFL
    assert capsys.readouterr().err == (
        f"leyden: {number.name}: the run stops after this batch; a second one stops at once [LY008]\n"
        f"leyden: {number.name}: the state after step 3 is saved as saved.ckpt [LY015]\n"
    )


def test_a_second_signal_stops_at_once_and_saves_nothing():
    module, saves = Signalled(signal.SIGTERM, signal.SIGHUP), Saves()
    with pytest.raises(Terminated):
        Trainer(max_epochs=5, callbacks=[saves]).fit(module)
    assert (module.steps_ended, saves.asked) == ([1, 2], [])


def test_inside_validation_the_state_after_the_last_step_is_saved():
    module, saves = Signalled(signal.SIGTERM, place="validation_step"), Saves()
    with pytest.raises(Terminated):
        Trainer(max_epochs=5, callbacks=[saves], num_sanity_val_steps=0).fit(module)
    assert saves.asked == [4]


@pytest.mark.parametrize("stage", ["validate", "predict"])
def test_outside_of_fit_the_run_ends_and_nothing_is_saved(stage):
    class Module(Signalled):
        def predict_step(self, batch, batch_idx):
            self.send("validation_step")

    module, saves = Module(signal.SIGTERM, place="validation_step"), Saves()
    with pytest.raises(Terminated):
        getattr(Trainer(callbacks=[saves]), stage)(module, module.val_dataloader())
    assert saves.asked == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_after_the_last_batch_the_run_comes_to_its_end_and_then_the_signal_is_heeded(number):
    class Ends(Signalled):
        def on_train_end(self):
            self.send("on_train_end")

    module, logger = Ends(number, place="on_train_end"), Status()
    with pytest.raises(Terminated if number == signal.SIGTERM else KeyboardInterrupt):
        Trainer(max_epochs=1, logger=logger).fit(module)
    assert module.steps_ended == [1, 2, 3, 4]
    assert logger.status == "interrupted"


def test_before_training_there_is_nothing_to_wait_for_and_nothing_to_save():
    module, saves = Signalled(signal.SIGTERM, place="validation_step"), Saves()
    with pytest.raises(Terminated):
        Trainer(max_epochs=1, callbacks=[saves]).fit(module)
    assert saves.asked == []


def test_a_handler_from_before_is_called_after_the_state_was_saved_and_is_put_back():
    calls, saves = [], Saves()

    def handler(number, frame):
        calls.append((number, list(saves.asked)))

    signal.signal(signal.SIGTERM, handler)
    with pytest.raises(Terminated):
        Trainer(max_epochs=5, callbacks=[saves]).fit(Signalled(signal.SIGTERM))
    assert calls == [(signal.SIGTERM, [3])]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_handler_that_ends_the_process_its_own_way_may():
    def handler(number, frame):
        raise SystemExit(7)

    signal.signal(signal.SIGTERM, handler)
    with pytest.raises(SystemExit) as caught:
        Trainer(max_epochs=5).fit(Signalled(signal.SIGTERM))
    assert caught.value.code == 7


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    module = Signalled(signal.SIGHUP)
    Trainer(max_epochs=1).fit(module)
    assert module.steps_ended == [1, 2, 3, 4]
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_handler_that_somebody_installs_during_the_run_stays():
    def later(number, frame):
        pass

    class Installs(TinyModule):
        def on_train_start(self):
            signal.signal(signal.SIGTERM, later)

    Trainer(max_epochs=1).fit(Installs())
    assert signal.getsignal(signal.SIGTERM) is later


def test_ctrl_c_saves_as_well(capsys):
    module, saves = Signalled(signal.SIGINT), Saves()
    with pytest.raises(KeyboardInterrupt):
        Trainer(max_epochs=5, callbacks=[saves]).fit(module)
    assert saves.asked == [3]
    assert "leyden: Ctrl-C: the state after step 3 is saved as saved.ckpt [LY015]\n" in capsys.readouterr().err


def test_after_the_deadline_a_step_is_not_waited_for():
    waiting = threading.Event()

    class Slow(Signalled):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            if batch_idx == 2:
                waiting.wait(60)
            return loss

    saves = Saves()
    with pytest.raises(Terminated) as caught:
        Trainer(max_epochs=5, callbacks=[saves], grace_s=0.2).fit(Slow(signal.SIGTERM))
    assert caught.value.code == 143
    assert saves.asked == []


def test_in_time_before_the_deadline_the_state_is_saved_and_nothing_comes_after():
    saves = Saves()
    with pytest.raises(Terminated):
        Trainer(max_epochs=5, callbacks=[saves], grace_s=60).fit(Signalled(signal.SIGTERM))
    assert saves.asked == [3]
    assert not [
        thread for thread in threading.enumerate() if isinstance(thread, threading.Timer) and not thread.finished.is_set()
    ]


def test_in_another_thread_signals_are_left_alone():
    seen = []

    class Looks(TinyModule):
        def on_train_start(self):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=lambda: Trainer(max_epochs=1).fit(Looks()))
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def test_a_script_that_catches_nothing_ends_as_one_that_was_terminated(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal
            from leyden import Trainer
            from leyden.testing import TinyModule

            class Module(TinyModule):
                def training_step(self, batch, batch_idx):
                    if self.global_step == 5:
                        os.kill(os.getpid(), signal.SIGTERM)
                    return super().training_step(batch, batch_idx)

            trainer = Trainer(max_epochs=5, logger=False, enable_progress_bar=False, enable_model_summary=False)
            try:
                trainer.fit(Module())
            except Exception:
                raise AssertionError("a signal is no error")
            """
        )
    )
    environment = {key: value for key, value in os.environ.items() if key != "LEYDEN_DISABLE_PLUGINS"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    path = tmp_path / "checkpoints/interrupted-epoch=1-step=6.ckpt"
    assert done.returncode == 143, done.stderr
    assert done.stderr.splitlines() == [
        "leyden: SIGTERM: the run stops after this batch; a second one stops at once [LY008]",
        f"leyden: SIGTERM: the state after step 6 is saved as {path} [LY015]",
    ]
    assert path.is_file()
    assert {entry.name for entry in Path(path.parent).iterdir()} == {path.name, "epoch=0-step=4.ckpt", "checkpoints.json"}
