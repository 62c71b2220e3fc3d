"""Checkpoints of several ranks that cannot be written: all of them agree, go on and keep what was there."""

from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path

import leyden as ly
import pytest
from leyden import CheckpointIO, LeydenWarning
from leyden.checkpoint.manifest import Manifest
from leyden.testing import TinyModule, run_ranks
from leyden_callbacks import ModelCheckpoint
from leyden_strategies import DDPStrategy


class Refusing:
    """A file system that refuses, on one rank and between two steps, what :meth:`fails` is asked about."""

    def __init__(self, monkeypatch, rank=0, first=3, until=5, number=errno.ENOSPC):
        self.rank, self.steps, self.number = rank, range(first, until), number
        self.trainer = None
        self.refused = 0
        self.monkeypatch = monkeypatch

    def fails(self):
        trainer = self.trainer
        if trainer is None or trainer.strategy.rank != self.rank or trainer.global_step not in self.steps:
            return
        self.refused += 1
        raise OSError(self.number, os.strerror(self.number))

    def around(self, where, name, of=""):
        own = getattr(where, name)

        def replaced(*args, **kwargs):
            if of in str(args[0]):
                self.fails()
            return own(*args, **kwargs)

        self.monkeypatch.setattr(where, name, replaced)


class Settles(ly.Callback):
    """Has what is being written be there before the next step, so that a test knows in which step it failed."""

    def on_train_batch_start(self, trainer):
        trainer.checkpoint_io.wait()


def train(ranked, environment, refusing, callback, *others, quiet=True, **options):
    options = {"max_epochs": 4, **options}
    trainer = ranked(environment, callbacks=[callback, *others], enable_checkpointing=None, **options)
    refusing.trainer = trainer
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore", LeydenWarning)
        trainer.fit(TinyModule())
    folder = Path(callback.dirpath)
    results = trainer.test(TinyModule(), ckpt_path="best", verbose=False) if callback.best_model_path else None
    return {
        "steps": trainer.global_step,
        "best": callback.best_model_path,
        "last": callback.last_model_path,
        "failed": callback.failed_saves,
        "there": sorted(path.name for path in folder.glob("*.ckpt")),
        "listed": sorted(entry.name for entry in Manifest.read(folder).of_run()),
        "results": results,
    }, refusing.refused


def agreed(found):
    """What all ranks have, which is one thing."""
    for other, _ in found[1:]:
        assert other == found[0][0]
    return found[0][0]


@pytest.mark.parametrize(
    ("checkpoint_io", "save_last", "number"),
    [
        (None, True, errno.ENOSPC),
        (None, None, errno.EACCES),
        ("async", True, errno.ENOSPC),
        ("async", "link", errno.EIO),
        ("async", None, errno.EACCES),
    ],
)
def test_where_rank_0_cannot_write_all_ranks_go_on_and_save_when_the_next_is_due(
    ranked, monkeypatch, checkpoint_io, save_last, number
):
    refusing = Refusing(monkeypatch, number=number)
    refusing.around(os, "open", of=".leyden-tmp")

    def fit(environment):
        callback = ModelCheckpoint(every_n_train_steps=1, on_save_error="warn", save_last=save_last)
        return train(ranked, environment, refusing, callback, Settles(), checkpoint_io=checkpoint_io)

    found = run_ranks(fit)
    result = agreed(found)
    assert found[0][1] >= 2
    names = ["epoch=3-step=8.ckpt"] + (["last.ckpt"] if save_last else [])
    assert result["steps"] == 8
    assert result["there"] == result["listed"] == names
    assert result["best"].endswith("epoch=3-step=8.ckpt")
    assert result["last"].endswith("last.ckpt" if save_last else "")
    assert len(result["failed"]) >= 2
    assert all(os.strerror(number) in text for text in result["failed"])


@pytest.mark.parametrize("checkpoint_io", [None, "async"])
def test_the_older_checkpoint_stays_the_newest_where_every_later_save_fails(ranked, monkeypatch, checkpoint_io):
    refusing = Refusing(monkeypatch, first=3, until=99)
    refusing.around(os, "open", of=".leyden-tmp")

    def fit(environment):
        callback = ModelCheckpoint(every_n_train_steps=2, on_save_error="warn", monitor="step", mode="max", save_last=True)
        return train(ranked, environment, refusing, callback, checkpoint_io=checkpoint_io)

    result = agreed(run_ranks(fit))
    assert result["steps"] == 8
    assert result["there"] == result["listed"] == ["epoch=0-step=2.ckpt", "last.ckpt"]
    assert result["best"].endswith("epoch=0-step=2.ckpt")
    assert result["last"].endswith("last.ckpt")
    assert result["results"]
    assert len(result["failed"]) >= 3


def test_a_run_whose_first_save_fails_has_no_checkpoint_on_any_rank(ranked, monkeypatch):
    refusing = Refusing(monkeypatch, first=0, until=99)
    refusing.around(os, "open", of=".leyden-tmp")

    def fit(environment):
        callback = ModelCheckpoint(on_save_error="warn", every_n_train_steps=4)
        return train(ranked, environment, refusing, callback, checkpoint_io="async")

    result = agreed(run_ranks(fit))
    assert (result["steps"], result["best"], result["there"]) == (8, "", [])
    assert len(result["failed"]) == 2


@pytest.mark.parametrize("rank", [0, 1])
def test_a_hook_that_cannot_write_on_one_rank_is_a_save_that_failed_on_all(ranked, monkeypatch, rank):
    refusing = Refusing(monkeypatch, rank=rank)

    class Beside(ly.Callback):
        def on_save_checkpoint(self, trainer):
            refusing.fails()

    def fit(environment):
        callback = ModelCheckpoint(every_n_train_steps=1, on_save_error="warn", save_top_k=-1, monitor="step", save_last=True)
        return train(ranked, environment, refusing, callback, Beside())

    result = agreed(run_ranks(fit))
    names = [f"epoch={(step - 1) // 2}-step={step}.ckpt" for step in (1, 2, 5, 6, 7, 8)]
    assert result["there"] == result["listed"] == [*names, "last.ckpt"]
    assert set(result["failed"]) == {("rank 1: " if rank else "") + "No space left on device"}


class Parts(DDPStrategy):
    """Each rank writes a part of a checkpoint."""

    writes_checkpoint = True


class PartsIO(CheckpointIO):
    def save(self, checkpoint, path):
        own = Path(path)
        super().save(checkpoint, own if not self.rank else own.with_name(f"{own.name}.rank{self.rank}"))


@pytest.mark.parametrize("filename", [None, "same"])
def test_a_checkpoint_of_which_another_rank_lacks_its_part_is_taken_back(ranked, monkeypatch, filename):
    refusing = Refusing(monkeypatch, rank=1, first=5, until=99)
    refusing.around(os, "open", of=".leyden-tmp")

    def fit(environment):
        checkpoint_io = PartsIO()
        checkpoint_io.rank = environment.rank
        callback = ModelCheckpoint(every_n_train_steps=2, on_save_error="warn", filename=filename, enable_version_counter=False)
        return train(ranked, environment, refusing, callback, strategy=Parts(), checkpoint_io=checkpoint_io)

    result = agreed(run_ranks(fit))
    assert result["steps"] == 8
    assert len(result["failed"]) == 2
    assert all(text.startswith("rank 1: ") for text in result["failed"])
    # One that was overwritten in part is gone; a name of its own keeps the older one.
    left = [] if filename else ["epoch=1-step=4.ckpt"]
    assert result["there"] == result["listed"] == left
    assert bool(result["best"]) == bool(left)


@pytest.mark.parametrize("checkpoint_io", [None, "async"])
def test_a_list_that_cannot_be_written_is_said_and_written_with_the_next_save(ranked, monkeypatch, checkpoint_io):
    refusing = Refusing(monkeypatch)
    refusing.around(os, "open", of=".checkpoints.json.")

    def fit(environment):
        callback = ModelCheckpoint(every_n_train_steps=1, on_save_error="warn", save_last=True)
        return train(ranked, environment, refusing, callback, Settles(), checkpoint_io=checkpoint_io)

    result = agreed(run_ranks(fit))
    assert result["steps"] == 8
    assert result["there"] == result["listed"] == ["epoch=3-step=8.ckpt", "last.ckpt"]
    assert len(result["failed"]) >= 2


def test_an_old_checkpoint_that_cannot_be_deleted_is_said_and_deleted_with_the_next(ranked, monkeypatch):
    refusing = Refusing(monkeypatch, number=errno.EACCES)
    refusing.around(CheckpointIO, "remove")

    def fit(environment):
        callback = ModelCheckpoint(every_n_train_steps=1, on_save_error="warn")
        return train(ranked, environment, refusing, callback)

    result = agreed(run_ranks(fit))
    assert result["there"] == result["listed"] == ["epoch=3-step=8.ckpt"]
    assert len(result["failed"]) == 2


def test_two_callbacks_that_save_in_the_background_each_know_their_own_failures(ranked, monkeypatch):
    refusing = Refusing(monkeypatch, first=4, until=5)
    refusing.around(os, "open", of=".leyden-tmp")

    def fit(environment):
        second = ModelCheckpoint(every_n_train_steps=3, on_save_error="warn", filename="other-{step}")
        first = ModelCheckpoint(every_n_train_steps=4, on_save_error="warn")
        found = train(ranked, environment, refusing, first, second, Settles(), checkpoint_io="async")
        return found[0], second.failed_saves, second.best_model_path

    (first, own, path), (second, *others) = run_ranks(fit)
    assert first == second
    assert others == [own, path]
    assert (len(first["failed"]), own) == (1, [])
    assert first["best"].endswith("epoch=3-step=8.ckpt")
    assert path.endswith("other-step=6.ckpt")


def test_the_save_of_a_run_that_is_asked_to_end_may_fail_too(ranked, monkeypatch):
    refusing = Refusing(monkeypatch, first=3, until=20_000)
    refusing.around(os, "open", of=".leyden-tmp")

    class Ends(ly.Callback):
        def on_train_batch_end(self, trainer):
            if trainer.global_step == 3 and trainer.strategy.rank == 1:
                os.kill(os.getpid(), 15)

    def fit(environment):
        callback = ModelCheckpoint(every_n_train_steps=2, on_save_error="warn")
        try:
            # Not to be over before the ranks have agreed.
            train(ranked, environment, refusing, callback, Ends(), max_epochs=-1, max_steps=20_000)
        except ly.Terminated as end:
            return end.code, callback.failed_saves, callback.best_model_path
        return "not ended"

    first, second = run_ranks(fit)
    assert first == second
    assert first[0] == 143
    assert first[1]
    assert first[2].endswith("epoch=0-step=2.ckpt")


def test_by_default_the_run_ends_with_what_rank_0_could_not_write(ranked, monkeypatch):
    refusing = Refusing(monkeypatch, first=4, until=99)
    refusing.around(os, "open", of=".leyden-tmp")

    def fit(environment):
        train(ranked, environment, refusing, ModelCheckpoint(every_n_train_steps=2))

    with pytest.raises(AssertionError, match="No space left on device"):
        run_ranks(fit)
