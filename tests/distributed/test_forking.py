"""While processes are forked nothing else runs here, whose locks they would have without anybody to let go of them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import leyden as ly
import pytest
import torch
from leyden.testing import TinyModule, run_ranks
from torch.utils.data import DataLoader, TensorDataset

from tests.distributed.conftest import QUIET


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


_at_forks: list[int] = []
os.register_at_fork(before=lambda: _at_forks.append(threads()))


def by_the_launcher() -> None:
    ly.Trainer(**QUIET, strategy="ddp_fork", devices=3, max_steps=1).fit(TinyModule())


def by_the_tests_helper() -> None:
    run_ranks(lambda environment: environment.main_port, world_size=3)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux shows them")
@pytest.mark.parametrize("start", [by_the_launcher, by_the_tests_helper])
def test_no_thread_of_a_store_runs_while_ranks_are_forked(start):
    before = threads()
    _at_forks.clear()
    start()
    assert _at_forks == [before] * 3


def test_what_the_workers_of_forked_ranks_write_to_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data = TensorDataset(torch.randn(8, 8), torch.zeros(8, dtype=torch.long))
    loader = DataLoader(data, batch_size=2, num_workers=1, persistent_workers=True)
    ly.Trainer(**QUIET, strategy="ddp_fork", devices=2, max_epochs=1, limit_val_batches=0).fit(TinyModule(), loader)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_forked_rank_waits_for_no_thread_of_its_parent(tmp_path):
    class Counts(TinyModule):
        def on_fit_start(self):
            if torch.get_num_threads() != 1:
                raise AssertionError(f"{torch.get_num_threads()} threads")

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        trainer = ly.Trainer(**{**QUIET, "default_root_dir": tmp_path}, strategy="ddp_fork", devices=2, max_epochs=1)
        trainer.fit(Counts())
    finally:
        torch.set_num_threads(before)
    assert trainer.global_step == 2
