"""Signals to one rank or to all: every rank stops after the same batch, with one checkpoint."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import leyden as ly
import pytest
import torch
from leyden.interrupts import Terminated
from leyden.testing import TinyModule, run_ranks
from leyden_strategies.agreement import StopAgreement
from torch.distributed import HashStore

from tests.distributed.conftest import QUIET


class Slow(TinyModule):
    """Takes its time, so that signals come at any instant; ranks do not go in step inside of accumulation windows."""

    def training_step(self, batch, batch_idx):
        time.sleep(0.001 * (1 + 3 * self.global_rank))
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        time.sleep(0.001)
        return super().validation_step(batch, batch_idx)


def stopped(ranked, tmp_path, number, receivers, *, seed=0, **options):
    """Fits until a signal at a random instant; what each rank has to say."""
    instants = random.Random(seed)
    delay = instants.uniform(0.0, 0.25)

    def fit(environment):
        def send():
            started.wait()
            time.sleep(delay)
            if environment.rank in receivers:
                os.kill(os.getpid(), number)

        class Start(ly.Callback):
            def on_train_batch_start(self, trainer):
                if trainer.global_step:
                    started.set()

        signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever other tests left
        for other in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(other, signal.SIG_DFL)
        started = threading.Event()
        sender = threading.Thread(target=send)
        sender.start()
        checkpoint = {"checkpoint": {"dirpath": tmp_path / "saved", "save_top_k": 0}}
        trainer = ranked(
            environment, callbacks=[checkpoint, Start()], enable_checkpointing=None, max_epochs=-1, max_steps=20_000, **options
        )
        try:
            trainer.fit(Slow())
        except (KeyboardInterrupt, Terminated) as error:
            sender.join()
            code = error.code if isinstance(error, SystemExit) else "interrupt"
            return code, trainer.progress.total_batches, trainer.global_step
        raise AssertionError("nobody stopped")

    return run_ranks(fit)


@pytest.mark.parametrize("receivers", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_every_rank_stops_after_the_same_batch_with_one_checkpoint(ranked, tmp_path, number, receivers):
    seed = len(receivers) * 10 + receivers[-1] + int(number)
    first, second = stopped(ranked, tmp_path, number, receivers, seed=seed, accumulate_grad_batches=3)
    assert first == second
    assert first[0] == ("interrupt" if number == signal.SIGINT else 128 + number)
    [file] = (tmp_path / "saved").glob("*.ckpt")
    assert torch.load(file, weights_only=True)["global_step"] == first[2]


def test_a_signal_in_validation_stops_all_ranks_after_it(ranked, tmp_path):
    class InValidation(TinyModule):
        def validation_step(self, batch, batch_idx):
            if not self.trainer.sanity_checking and self.global_rank == 1 and self.current_epoch == 1 and batch_idx == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3 if self.current_epoch == 1 else 0.0)
            return super().validation_step(batch, batch_idx)

    def fit(environment):
        checkpoint = {"checkpoint": {"dirpath": tmp_path / "saved", "save_top_k": 0}}
        # Not to be over before the ranks have agreed.
        trainer = ranked(environment, callbacks=[checkpoint], enable_checkpointing=None, max_epochs=-1, max_steps=20_000)
        with pytest.raises(Terminated):
            trainer.fit(InValidation())
        return trainer.progress.total_batches

    first, second = run_ranks(fit)
    assert first == second
    assert len(list((tmp_path / "saved").glob("*.ckpt"))) == 1


def test_a_fork_sends_signals_on_and_ends_with_its_code(tmp_path):
    trainer = ly.Trainer(
        **{**QUIET, "default_root_dir": tmp_path}, strategy="ddp_fork", devices=2, max_epochs=-1, max_steps=100_000
    )
    before = signal.getsignal(signal.SIGTERM)

    class Says(Slow):
        def on_train_batch_start(self, batch, batch_idx):
            if self.trainer.global_step:
                (tmp_path / "trained").touch()

    sender = threading.Thread(target=send_when_there_is, args=(tmp_path / "trained", signal.SIGTERM))
    sender.start()
    with pytest.raises(SystemExit) as raised:
        trainer.fit(Says())
    sender.join()
    assert raised.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert 0 < trainer.global_step < 100_000


def test_a_signal_to_one_rank_after_its_last_batch_ends_the_run_and_leaves_what_it_made(tmp_path, capfd):
    class Late(TinyModule):
        def on_train_end(self):
            if self.global_rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    trainer = ly.Trainer(**{**QUIET, "default_root_dir": tmp_path}, strategy="ddp_fork", devices=2, max_epochs=1)
    with pytest.raises(SystemExit) as raised:
        trainer.fit(Late())
    assert raised.value.code == 143
    assert trainer.global_step == 2
    assert "was stopped because of" not in capfd.readouterr().err


def send_when_there_is(file, number):
    deadline = time.monotonic() + 120
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("seed", range(20))
def test_ranks_that_go_on_as_they_like_agree_on_one_batch_that_none_has_passed(seed):
    store = HashStore()
    order = random.Random(seed)
    ranks = [StopAgreement(store, 1, rank, 4) for rank in range(4)]
    started = [order.randrange(5) for _ in ranks]
    stopped_at: dict[int, int] = {}
    while len(stopped_at) < 4:
        rank = order.choice([rank for rank in range(4) if rank not in stopped_at])
        ranks[rank].request(signal.SIGTERM)
        if ranks[rank].reached(started[rank], started[rank] + 1):
            stopped_at[rank] = started[rank]
        else:
            started[rank] += 1
    assert len(set(stopped_at.values())) == 1
