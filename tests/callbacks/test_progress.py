"""What the progress bars show, where, and at what cost."""

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import threading

import leyden_callbacks
import pytest
from leyden import Callback, Trainer
from leyden.testing import RandomData, TinyModule
from leyden_callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar, TQDMProgressBar, progress_bar
from leyden_callbacks.progress import base
from torch.utils.data import DataLoader


class Terminal:
    """A pseudo-terminal whose output is collected."""

    def __init__(self, columns):
        self.main, self.end = os.openpty()
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.file = open(self.end, "w", encoding="utf-8", buffering=1)  # noqa: PTH123, SIM115  # a descriptor; closed in text()
        self.chunks = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        while True:
            try:
                chunk = os.read(self.main, 65536)
            except OSError:  # the other end is closed
                return
            if not chunk:
                return
            self.chunks.append(chunk)

    def __enter__(self):
        # pytest puts its own in place after fixtures are set up, so this is not monkeypatch's work.
        self.before, sys.stderr = sys.stderr, self.file

    def __exit__(self, *_):
        sys.stderr = self.before

    def text(self):
        self.file.close()
        self.reader.join()
        os.close(self.main)
        return b"".join(self.chunks).decode()

    def lines(self):
        """What was drawn, one entry for each time a line was begun, without colours and movements."""
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.text())
        return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


@pytest.fixture
def terminal(monkeypatch):
    made = Terminal(100)
    monkeypatch.setattr(base, "SECONDS_BETWEEN_REDRAWS", 0.0)
    yield made
    if not made.file.closed:
        made.text()


class Shown(TinyModule):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("loss", 0.5, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("acc", 0.25, prog_bar=True)


def shape(line):
    """A line without what depends on time."""
    line = re.sub(r"\[.*?(it/s|s/it|\?it/s)", "[..", line)
    return re.sub(r"\|[^|]*\| ", "|##| ", line)


# ---- no terminal ----


def test_without_a_terminal_each_epoch_is_one_plain_line(fit, capsys):
    fit(progress_bar(), module=Shown(), log_every_n_steps=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert [shape(line) for line in err.splitlines()] == [
        "Epoch 0: 4/4 [.., loss=0.500, acc=0.250]",
        "Epoch 1: 4/4 [.., loss=0.500, acc=0.250]",
    ]
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", err)


def test_without_a_terminal_rich_prints_the_same_lines(fit, capsys):
    fit(progress_bar("rich"), max_epochs=1)
    assert [shape(line) for line in capsys.readouterr().err.splitlines()] == ["Epoch 0: 4/4 [..]"]


def test_without_a_terminal_test_and_predict_are_one_line_each(fit, capsys):
    trainer = fit(progress_bar(), max_epochs=1)
    trainer.test(verbose=False)
    trainer.validate(verbose=False)
    trainer.predict()
    assert [shape(line) for line in capsys.readouterr().err.splitlines()] == [
        "Epoch 0: 4/4 [..]",
        "Test: 2/2 [..]",
        "Validation: 2/2 [..]",
        "Predict: 2/2 [..]",
    ]


def test_an_unknown_length_shows_counts_and_rate(fit, capsys):
    class Endless(TinyModule):
        def train_dataloader(self):
            while True:
                yield from DataLoader(RandomData(16), batch_size=4)

    fit(progress_bar(), module=Endless(), max_epochs=-1, max_steps=6, limit_val_batches=0)
    assert [shape(line) for line in capsys.readouterr().err.splitlines()] == ["Epoch 0: 6it [..]"]


def test_an_epoch_that_goes_on_from_a_checkpoint_counts_from_there(fit, tmp_path, terminal):
    fit(ModelCheckpoint(dirpath=tmp_path, every_n_train_steps=3), max_epochs=1)
    with terminal:
        fit(progress_bar(), max_epochs=1, limit_val_batches=0, ckpt_path=tmp_path / "epoch=0-step=3.ckpt")
    drawn = [shape(line) for line in terminal.lines()]
    assert drawn[0] == "Epoch 0:  75%|##| 3/4 [..]"
    assert drawn[-1] == "Epoch 0: 100%|##| 4/4 [..]"


def test_nothing_is_shown_at_a_refresh_rate_of_zero(fit, capsys):
    fit(progress_bar(refresh_rate=0))
    assert capsys.readouterr() == ("", "")


# ---- a terminal ----


def test_a_bar_is_drawn_in_the_known_format(fit, terminal):
    with terminal:
        fit(progress_bar(), module=Shown(), log_every_n_steps=1, max_epochs=1, limit_val_batches=0)
    drawn = [shape(line) for line in terminal.lines()]
    assert drawn[:3] == [
        "Epoch 0:   0%|##| 0/4 [..]",
        "Epoch 0:  25%|##| 1/4 [..]",  # the first log point comes after this
        "Epoch 0:  50%|##| 2/4 [.., loss=0.500]",
    ]
    assert drawn[-1] == "Epoch 0: 100%|##| 4/4 [.., loss=0.500]"


@pytest.mark.parametrize("kind", ["tqdm", "rich"])
def test_sanity_check_validation_test_and_prediction_have_bars(fit, terminal, kind):
    with terminal:
        trainer = fit(progress_bar(kind), max_epochs=1)
        trainer.test(verbose=False)
        trainer.predict()
    seen = dict.fromkeys(re.match(r"[A-Z][a-z]+( check)?", line).group() for line in terminal.lines())
    assert list(seen) == ["Sanity check", "Epoch", "Validation", "Test", "Predict"]


@pytest.mark.parametrize("kind", ["tqdm", "rich"])
def test_redraws_are_at_least_a_moment_apart(fit, terminal, monkeypatch, kind):
    monkeypatch.setattr(base, "SECONDS_BETWEEN_REDRAWS", 3600.0)
    drawn = []
    bar = progress_bar(kind)
    monkeypatch.setattr(type(bar), "get_metrics", lambda *_: drawn.append(1) or {})
    with terminal:
        fit(bar, max_epochs=1, limit_val_batches=0)
    assert len(drawn) == 1  # the end of the epoch


def test_the_refresh_rate_is_the_least_number_of_batches_between_redraws(fit, terminal):
    with terminal:
        fit(progress_bar(refresh_rate=3), max_epochs=1, limit_val_batches=0)
    counts = [re.search(r"(\d+)/4", line).group(1) for line in terminal.lines()]
    assert list(dict.fromkeys(counts)) == ["0", "3", "4"]


def test_a_terminal_that_says_no_width_gets_bars_all_the_same(fit, terminal):
    fcntl.ioctl(terminal.end, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
    with terminal:
        fit(progress_bar(), max_epochs=1, limit_val_batches=0)
    assert shape(terminal.lines()[-1]) == "Epoch 0: 100%|##| 4/4 [..]"


@pytest.mark.parametrize("kind", ["tqdm", "rich"])
def test_messages_stand_on_lines_of_their_own(fit, scripted, terminal, kind):
    with terminal:
        fit(progress_bar(kind), EarlyStopping("score", patience=1), module=scripted([0.5, 0.6]))
    assert "leyden: training stops early in epoch 1: score did not improve on 0.5 at 1 checks in a row" in terminal.lines()


def test_the_version_of_the_logger_is_shown(fit, terminal):
    from leyden import Logger

    class Versioned(Logger):
        version = 10

    with terminal:
        fit(progress_bar(), logger=Versioned(), max_epochs=1, limit_val_batches=0)
    assert shape(terminal.lines()[-1]) == "Epoch 0: 100%|##| 4/4 [.., v_num=10]"


def test_items_can_be_added_and_left_out_by_overriding_get_metrics(fit, capsys):
    class Mine(TQDMProgressBar):
        def get_metrics(self, trainer, module):
            items = super().get_metrics(trainer, module)
            items.pop("acc", None)
            return {**items, "note": "mine", "rate": 1.25e-5}

    fit(Mine(), module=Shown(), log_every_n_steps=1, max_epochs=1)
    assert [shape(line) for line in capsys.readouterr().err.splitlines()] == [
        "Epoch 0: 4/4 [.., loss=0.500, note=mine, rate=1.25e-05]"
    ]


@pytest.mark.parametrize("kind", ["tqdm", "rich"])
def test_a_run_that_fails_gives_the_screen_back(fit, terminal, kind):
    class Failing(TinyModule):
        def training_step(self, batch, batch_idx):
            raise RuntimeError("no")

    bar = progress_bar(kind)
    with terminal:
        with pytest.raises(RuntimeError, match="no"):
            fit(bar, module=Failing())
        fit(progress_bar(kind), max_epochs=1)  # another one can draw
    text = terminal.text()
    assert "Epoch 0" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is shown as often as it was hidden


def test_bars_start_no_thread(fit, terminal):
    running = []
    before = set(threading.enumerate())  # bars of other tests may have left tqdm's monitor

    class Watcher(Callback):
        def on_train_batch_end(self):
            running.extend(type(thread).__name__ for thread in threading.enumerate() if thread not in before)

    with terminal:
        fit(progress_bar(), Watcher())
        fit(progress_bar("rich"), Watcher())
    assert set(running) <= {"Thread"}  # which reads the terminal


# ---- cost ----


@pytest.mark.parametrize("kind", ["tqdm", "rich"])
def test_a_batch_without_a_redraw_costs_one_call(fit, terminal, monkeypatch, kind):
    monkeypatch.setattr(base, "SECONDS_BETWEEN_REDRAWS", 3600.0)
    folder = os.path.dirname(leyden_callbacks.__file__)  # noqa: PTH120  # compared with names of code objects

    def calls(batches):
        count = 0

        def profile(frame, event, _):
            nonlocal count
            count += event == "call" and frame.f_code.co_filename.startswith(folder)

        module = TinyModule()
        loader = DataLoader(RandomData(4 * batches), batch_size=4)
        module.train_dataloader = lambda: loader
        sys.setprofile(profile)
        try:
            with terminal:
                fit(progress_bar(kind), module=module, max_epochs=1, limit_val_batches=0)
        finally:
            sys.setprofile(None)
        return count

    assert calls(30) - calls(10) == 20


# ---- construction ----


def test_the_kinds():
    assert type(progress_bar()) is TQDMProgressBar
    assert type(progress_bar("tqdm")) is TQDMProgressBar
    assert type(progress_bar("rich")) is RichProgressBar
    assert type(progress_bar("auto")) is RichProgressBar


def test_auto_is_tqdm_where_rich_is_not_installed(monkeypatch):
    monkeypatch.setattr(leyden_callbacks.progress, "find_spec", lambda name: None)
    assert type(progress_bar("auto")) is TQDMProgressBar


def test_rich_that_is_not_installed_is_said_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with pytest.raises(ImportError) as error:
        progress_bar("rich")
    assert str(error.value) == (
        'RichProgressBar needs rich, which is not installed; run: pip install "leyden-callbacks[rich]", '
        "or choose the progress bar of tqdm"
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "tdqm"}, ValueError, "progress_bar(kind='tdqm'): expected 'tqdm', 'rich' or 'auto'; did you mean 'tqdm'?"),
        ({"refresh_rate": -1}, ValueError, "TQDMProgressBar(refresh_rate=-1): expected an int of at least 0, got int -1"),
        ({"refresh_rate": 0.5}, TypeError, "TQDMProgressBar(refresh_rate=0.5): expected an int of at least 0, got float 0.5"),
        ({"leave": "no"}, TypeError, "TQDMProgressBar(leave='no'): expected True or False, got str 'no'"),
    ],
)
def test_a_wrong_argument_is_refused(arguments, error, message):
    with pytest.raises(error) as raised:
        progress_bar(**arguments)
    assert str(raised.value) == message


def test_it_is_registered_as_progress():
    trainer = Trainer(callbacks=[{"progress": {"kind": "rich", "refresh_rate": 5}}], logger=False)
    assert isinstance(trainer.progress_bar_callback, RichProgressBar)
    assert trainer.progress_bar_callback.refresh_rate == 5


def test_importing_the_plugin_loads_no_bar():
    # torch loads tqdm by itself.
    code = (
        "import sys, torch\nfor name in [n for n in sys.modules if n.split('.')[0] == 'tqdm']: del sys.modules[name]\n"
        "import leyden_callbacks, leyden_callbacks.defaults\n"
        "print([n for n in sys.modules if n.split('.')[0] in ('tqdm', 'rich')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_two_bars(fit, refusal):
    assert refusal(ValueError, fit, TQDMProgressBar(), {"progress": {}}, enable_progress_bar=None) == (
        "callbacks has 2 progress bars, TQDMProgressBar and TQDMProgressBar; they would tear each other: give one"
    )


@pytest.mark.parametrize("leave", [False, True])
def test_in_a_notebook_there_is_one_bar_on_one_line(fit, capsys, monkeypatch, leave):
    monkeypatch.setattr("leyden_callbacks.progress.base.in_notebook", lambda: True)
    fit(TQDMProgressBar(leave=leave))
    err = capsys.readouterr().err
    lines = err.split("\n")
    assert len(lines) == (3 if leave else 2)  # what follows the last line end is empty
    shown = [line.rsplit("\r", 1)[-1] for line in lines[:-1]]
    assert [line.split(":")[0] for line in shown] == (["Epoch 0", "Epoch 1"] if leave else ["Epoch 1"])
    assert shown[-1].rstrip().endswith("#################### 100%")
    assert "Validation" not in err
    assert "\x1b" not in err
