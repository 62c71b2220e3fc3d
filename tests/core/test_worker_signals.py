"""Workers of loaders leave signals to the process that reads them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from leyden import Callback, Terminated, Trainer
from leyden.testing import TinyModule
from leyden_strategies.launchers.tree import descendants, is_running
from torch.utils.data import DataLoader, Dataset

pytestmark = pytest.mark.usefixtures("plain_handlers")

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]


class Plain(Dataset):
    """Samples of which a worker makes each."""

    def __len__(self):
        return 64

    def __getitem__(self, index):
        return torch.full((8,), float(index)), index % 2


def workers():
    """The processes below this one, but what cleans up for spawned ones, which heeds some of the signals."""
    return [pid for pid in descendants(os.getpid()) if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]


class ToAll(Callback):
    """Has a signal come to this process and to its workers, as a scheduler sends it."""

    def __init__(self, number):
        self.number = number
        self.workers = []

    def on_train_batch_end(self, trainer, batch_idx):
        if batch_idx == 1:
            self.workers = workers()
            for pid in self.workers:
                os.kill(pid, self.number)
        if batch_idx == 9:  # of these they had made none yet
            os.kill(os.getpid(), self.number)

    def save_before_stop(self, trainer):
        return f"after {trainer.global_step}"


def trainer(*callbacks, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(accelerator="cpu", callbacks=list(callbacks), max_epochs=1, **quiet, **options)


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_the_workers_too_stops_the_run_where_it_would_alone(number, context, capsys):
    sends = ToAll(number)
    loader = DataLoader(Plain(), batch_size=4, num_workers=2, multiprocessing_context=context)
    with pytest.raises((KeyboardInterrupt, Terminated)):
        trainer(sends).fit(TinyModule(), loader)
    assert "the state after step 10 is saved as after 10" in capsys.readouterr().err
    assert len(sends.workers) == 2
    assert not [pid for pid in sends.workers if is_running(pid)]


def test_a_signal_to_a_worker_alone_takes_no_batch_from_the_run():
    class ToWorkers(Callback):
        def on_train_batch_end(self, trainer, batch_idx):
            for pid in workers():
                os.kill(pid, signal.SIGTERM)

    fit = trainer(ToWorkers())
    fit.fit(TinyModule(), DataLoader(Plain(), batch_size=4, num_workers=2))
    assert fit.global_step == 16


def test_programs_that_a_data_set_starts_have_the_usual_signals():
    class Starts(Plain):
        def __getitem__(self, index):
            done = subprocess.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 15)"], check=False)
            assert done.returncode == -15
            return super().__getitem__(index)

    fit = trainer(limit_train_batches=1)
    fit.fit(TinyModule(), DataLoader(Starts(), batch_size=2, num_workers=1))
    assert fit.global_step == 1


def test_a_worker_that_does_not_come_to_its_end_is_ended(monkeypatch):
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.5)  # how long torch waits for it

    class Hangs(Plain):
        def __getitem__(self, index):
            if index == 8:
                time.sleep(1000)
            return super().__getitem__(index)

    class Looks(Callback):
        def on_train_batch_end(self):
            self.found = workers()

    looks = Looks()
    trainer(looks, limit_train_batches=1).fit(TinyModule(), DataLoader(Hangs(), batch_size=4, num_workers=1))
    deadline = time.monotonic() + 60
    while any(map(is_running, looks.found)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(looks.found) == 1
    assert not is_running(looks.found[0])


def test_the_users_own_init_function_comes_after_and_its_handlers_stand(tmp_path):
    def own(worker_id):
        def note(number, frame):
            (tmp_path / str(worker_id)).touch()

        signal.signal(signal.SIGUSR1, note)

    class ToWorkers(Callback):
        def on_train_batch_end(self, trainer, batch_idx):
            for pid in workers():
                os.kill(pid, signal.SIGUSR1)

    loader = DataLoader(Plain(), batch_size=4, num_workers=2, worker_init_fn=own, persistent_workers=True)
    trainer(ToWorkers()).fit(TinyModule(), loader)
    assert loader.worker_init_fn is own
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def test_a_script_whose_workers_are_persistent_ends(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "from tests.core.test_worker_signals import Plain, DataLoader, TinyModule, trainer\n"
        "loader = DataLoader(Plain(), batch_size=4, num_workers=2, persistent_workers=True)\n"
        "trainer().fit(TinyModule(), loader)\n"
        "print('trained')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False, timeout=200
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "trained\n", "")
