"""What a run of several processes refuses, and what it says."""

from __future__ import annotations

import multiprocessing
import pickle
import sys

import leyden as ly
import pytest
import torch
from leyden.plugins import names
from leyden.testing import TinyModule, run_ranks
from torch import nn

from tests.distributed.conftest import QUIET


def trainer(**options):
    return ly.Trainer(**{**QUIET, "max_epochs": 1, **options})


def message(kind, function, *args, **options):
    with pytest.raises(kind) as raised:
        function(*args, **options)
    return str(raised.value)


def test_a_device_given_twice():
    assert message(ValueError, trainer, devices=[0, 1, 0]) == "devices=[0, 1, 0] names a device twice"
    assert message(ValueError, trainer, devices="1,1") == "devices='1,1' names a device twice"


def test_more_devices_than_there_are():
    class Two(ly.Accelerator):
        name = "two"

        @classmethod
        def device_count(cls):
            return 2

    assert message(ValueError, trainer, accelerator=Two(), devices=3, strategy="ddp") == (
        "devices=3 but accelerator 'two' has 2 on this machine; pass devices=2 or another accelerator"
    )


def test_ddp_in_a_cell_of_a_notebook(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    run = trainer(strategy="ddp", devices=2)
    assert message(RuntimeError, run.fit, TinyModule()) == (
        "strategy='ddp' starts its processes by running the script again, and a notebook cell is none; use "
        "strategy='ddp_notebook', or 'auto'"
    )
    assert trainer(devices=2).strategy.name == "ddp_notebook"


def test_ddp_at_a_prompt(monkeypatch):
    monkeypatch.setattr(sys, "argv", [""])
    run = trainer(strategy="ddp", devices=2)
    assert message(RuntimeError, run.fit, TinyModule()) == (
        "strategy='ddp' starts its processes by running the script again, but this interpreter reads its code from a prompt or "
        "from standard input; put it into a file, or use strategy='ddp_fork'"
    )


class Unpicklable(TinyModule):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({"inner": nn.Linear(2, 2)})
        self.parts["inner"].activation = lambda x: x


def test_a_module_that_cannot_go_to_a_spawned_process_names_the_attribute():
    run = trainer(strategy="ddp_spawn", devices=2)
    module = Unpicklable()
    with pytest.raises(Exception) as raised:  # which it is, and what it says, depends on the version of Python
        pickle.dumps(module.parts["inner"].activation)
    assert message(TypeError, run.fit, module) == (
        f"strategy='ddp_spawn' starts new processes, and Unpicklable.parts.inner.activation cannot be sent there: "
        f"{type(raised.value).__name__}: {raised.value}; make it in setup() or in configure_model(), which run in each process, "
        f"or use strategy='ddp_fork'"
    )


def test_a_script_that_a_spawned_process_would_run_again(monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)  # as it imports the script
    assert message(RuntimeError, trainer(strategy="ddp_spawn", devices=2).fit, TinyModule()) == (
        "strategy='ddp_spawn' imports the script anew in each process, and this one would start the run again: put what starts "
        "it below `if __name__ == '__main__':`, or use strategy='ddp' or 'ddp_fork'"
    )


def test_cuda_that_was_used_before_a_fork(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    run = trainer(strategy="ddp_notebook", devices=2)
    assert message(RuntimeError, run.fit, TinyModule()) == (
        "strategy='ddp_notebook' forks, which cannot work once CUDA was used in this process; restart it (a notebook: its "
        "kernel) and touch no CUDA device before fit(), not even by torch.zeros(1, device='cuda'); the run itself is then free to"
    )


def test_options_of_ddp():
    assert message(ValueError, trainer, strategy={"ddp": {"launcher": "forks"}}, devices=2) == (
        "launcher='forks': expected one of 'script', 'spawn', 'fork', 'forkserver'; did you mean 'fork'?"
    )
    assert message(ValueError, trainer, strategy={"ddp": {"timeout": 0}}, devices=2) == "timeout=0: expected more than 0 seconds"
    assert message(ValueError, trainer, strategy={"ddp": {"skipped": "skip"}}, devices=2) == (
        "skipped='skip': expected one of 'skip_rank', 'skip_all', 'raise'"
    )


def test_batch_norm_over_processes_on_the_cpu():
    def fit(environment):
        run = trainer(strategy="ddp", devices=2, environment=environment, sync_batchnorm=True)
        return message(ValueError, run.fit, TinyModule())

    assert (
        run_ranks(fit)
        == ["sync_batchnorm=True: torch's SyncBatchNorm needs GPUs, and this run is on the CPU; pass sync_batchnorm=False"] * 2
    )


class Different(TinyModule):
    """Is not the same on all ranks."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def configure_model(self):
        if self.global_rank == 0:
            self.extra = nn.Linear(2, 2)
        elif self.kind == "shape":
            self.extra = nn.Linear(2, 3)
        elif self.kind == "name":
            self.other = nn.Linear(2, 2)
        elif self.kind == "frozen":
            self.extra = nn.Linear(2, 2).requires_grad_(False)


@pytest.mark.parametrize(
    ("kind", "difference"),
    [
        ("fewer", "rank 0 has a parameter 'extra.weight', rank 1 has not"),
        ("shape", "'extra.weight' has shape (2, 2) on rank 0 and (3, 2) on rank 1"),
        ("name", "parameter 2 is 'extra.weight' on rank 0 and 'other.weight' on rank 1"),
        ("frozen", "'extra.weight' has requires_grad True on rank 0 and False on rank 1"),
    ],
)
def test_a_rank_whose_module_has_other_parameters(kind, difference):
    def fit(environment):
        run = trainer(strategy="ddp", devices=2, environment=environment)
        return message(ValueError, run.fit, Different(kind))

    assert run_ranks(fit) == [f"Different is not the same on every rank: {difference}"] * 2


def test_an_exception_hook_that_communicates_is_told_so_and_does_not_wait():
    class Asks(ly.Callback):
        def on_exception(self, trainer, exception):
            self.trainer = trainer
            try:
                trainer.strategy.barrier()
            except RuntimeError as error:
                self.told = str(error)

    class Fails(TinyModule):
        def training_step(self, batch, batch_idx):
            if self.global_rank == 1:
                raise KeyError("only here")
            return super().training_step(batch, batch_idx)

    def fit(environment):
        asks = Asks()
        run = trainer(strategy="ddp", devices=2, environment=environment, callbacks=[asks])
        with pytest.raises((KeyError, RuntimeError)):
            run.fit(Fails())
        return asks.told if environment.rank == 1 else None

    def either(environment):  # rank 0 waits for the other's gradients until that is gone
        try:
            return fit(environment)
        except (AssertionError, AttributeError):
            return None

    _, told = run_ranks(either)
    assert told == (
        "barrier after rank 1 failed would wait for ranks that do something else; code that handles an exception must not "
        "communicate"
    )


def test_lightnings_names_of_variants():
    for launcher in ("ddp", "ddp_spawn", "ddp_fork", "ddp_notebook"):
        for suffix, value in (("", None), ("_find_unused_parameters_true", True), ("_find_unused_parameters_false", False)):
            assert launcher + suffix in names(ly.Strategy)
            strategy = trainer(strategy=launcher + suffix, devices=2).strategy
            assert strategy.find_unused_parameters is value
            assert strategy.launcher == {"ddp": "script", "ddp_spawn": "spawn"}.get(launcher, "fork")
