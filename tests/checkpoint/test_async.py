"""Checkpoints written in the background: never torn, never silent about a failure."""

from __future__ import annotations

import json
import pickle
import threading
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from leyden import CheckpointIO, Logger, Trainer
from leyden.testing import TinyModule
from leyden.testing.contracts import CheckpointIOContract
from leyden_callbacks import ModelCheckpoint
from leyden_checkpoint import AsyncCheckpointIO
from leyden_checkpoint.snapshot import Snapshots

OPTIONS = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


class TestAsync(CheckpointIOContract):
    def checkpoint_io(self):
        return AsyncCheckpointIO()


class Held(CheckpointIO):
    """Writes when it is let."""

    def __init__(self):
        self.go = threading.Event()

    def save(self, checkpoint, path):
        assert self.go.wait(60)
        super().save(checkpoint, path)


class Fails(CheckpointIO):
    """Fails from the n-th save on."""

    def __init__(self, at):
        self.at, self.saves = at, 0

    def save(self, checkpoint, path):
        self.saves += 1
        if self.saves >= self.at:
            raise OSError(28, f"no space left on device for {Path(path).name}")
        super().save(checkpoint, path)


def test_promise_58_training_goes_on_while_a_checkpoint_is_written_and_the_end_waits(tmp_path):
    held = Held()
    seen = []

    class Module(TinyModule):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            seen.append((self.global_step, (tmp_path / "epoch=0-step=2.ckpt").exists()))
            if self.global_step == 3:
                held.go.set()

    callback = ModelCheckpoint(tmp_path, every_n_train_steps=2, save_top_k=-1)
    Trainer(max_epochs=1, callbacks=[callback], checkpoint_io=AsyncCheckpointIO(held), **OPTIONS).fit(Module())
    assert seen[:3] == [(1, False), (2, False), (3, False)]
    assert [torch.load(tmp_path / f"epoch=0-step={step}.ckpt")["global_step"] for step in (2, 4)] == [2, 4]
    assert [entry["step"] for entry in json.loads((tmp_path / "checkpoints.json").read_text())["checkpoints"]] == [2, 4]


def test_promise_58_weights_that_change_after_save_returned_are_saved_as_they_were(tmp_path):
    held = Held()
    checkpoint_io = AsyncCheckpointIO(held)
    weight = torch.arange(1000.0)
    checkpoint = {"state_dict": OrderedDict(whole=weight, part=weight[10:20]), "epoch": 3, "list": [{"lr": 0.1}]}
    checkpoint_io.save(checkpoint, tmp_path / "a.ckpt")
    weight.zero_()
    checkpoint["epoch"] = 4
    checkpoint["list"][0]["lr"] = 0.2
    held.go.set()
    found = checkpoint_io.load(tmp_path / "a.ckpt")
    assert torch.equal(found["state_dict"]["whole"], torch.arange(1000.0))
    assert torch.equal(found["state_dict"]["part"], torch.arange(10.0, 20.0))
    assert found["state_dict"]["part"].untyped_storage().data_ptr() == found["state_dict"]["whole"].untyped_storage().data_ptr()
    assert (found["epoch"], found["list"]) == (3, [{"lr": 0.1}])


def test_promise_58_a_run_resumed_from_a_background_save_equals_one_resumed_from_a_plain_one(tmp_path):
    def train(checkpoint_io, folder):
        torch.manual_seed(1)
        callback = ModelCheckpoint(tmp_path / folder, every_n_train_steps=3, save_top_k=-1)
        Trainer(max_epochs=2, callbacks=[callback], checkpoint_io=checkpoint_io, **OPTIONS).fit(TinyModule())
        return [torch.load(tmp_path / folder / name)["state_dict"] for name in ("epoch=0-step=3.ckpt", "epoch=1-step=6.ckpt")]

    for one, other in zip(train(None, "plain"), train("async", "async"), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_promise_58_a_write_that_fails_is_raised_at_the_next_step_and_what_was_there_stays(tmp_path):
    steps = []

    class Module(TinyModule):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            steps.append(self.global_step)
            checkpoint_io.wait()  # so that it has failed

    checkpoint_io = AsyncCheckpointIO(Fails(at=2))
    callback = ModelCheckpoint(tmp_path, every_n_train_steps=2)
    with pytest.raises(OSError, match=r"no space left on device for epoch=0-step=4\.ckpt") as caught:
        Trainer(max_epochs=3, callbacks=[callback], checkpoint_io=checkpoint_io, **OPTIONS).fit(Module())
    assert steps == [1, 2, 3, 4, 5]
    assert caught.value.__notes__[0] == "it was raised in the background, by an earlier save"
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["epoch=0-step=2.ckpt"]
    assert ModelCheckpoint(tmp_path).resolve_checkpoint("last") == str(tmp_path / "epoch=0-step=2.ckpt")


def test_a_failure_of_the_last_write_is_raised_at_the_end_of_the_run(tmp_path):
    checkpoint_io = AsyncCheckpointIO(Fails(at=1))
    with pytest.raises(OSError, match="no space left"):
        Trainer(max_epochs=1, callbacks=[ModelCheckpoint(tmp_path)], checkpoint_io=checkpoint_io, **OPTIONS).fit(TinyModule())
    assert not list(tmp_path.glob("*.ckpt"))


def test_the_error_of_the_run_is_the_one_that_leaves_fit_and_a_failed_write_is_its_note(tmp_path):
    class Module(TinyModule):
        def on_train_end(self):
            raise RuntimeError("the user's own")

    checkpoint_io = AsyncCheckpointIO(Fails(at=1))
    with pytest.raises(RuntimeError, match="the user's own") as caught:
        Trainer(max_epochs=1, callbacks=[ModelCheckpoint(tmp_path)], checkpoint_io=checkpoint_io, **OPTIONS).fit(Module())
    assert any("no space left on device" in note for note in caught.value.__notes__)


def test_a_save_outside_of_a_run_waits(tmp_path):
    trainer = Trainer(max_epochs=1, checkpoint_io="async", enable_checkpointing=False, **OPTIONS)
    trainer.fit(TinyModule())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt")["global_step"] == 4


def test_no_thread_is_left_and_a_second_fit_saves_again(tmp_path):
    before = set(threading.enumerate())
    trainer = Trainer(max_epochs=1, callbacks=[ModelCheckpoint(tmp_path)], checkpoint_io="async", **OPTIONS)
    trainer.fit(TinyModule())
    assert set(threading.enumerate()) == before
    trainer.fit(TinyModule())
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["epoch=0-step=4-v1.ckpt", "epoch=0-step=4.ckpt"]


def test_best_links_and_last_are_kept_as_by_the_plain_one(tmp_path):
    class Module(TinyModule):
        def on_validation_epoch_end(self):
            self.log("score", float([3, 1, 2, 0, 4][self.current_epoch]) if not self.trainer.sanity_checking else 9.0)

    found = {}
    for name in ("torch", "async"):
        callback = ModelCheckpoint(tmp_path / name, monitor="score", save_top_k=2, save_last="link")
        checkpoint_io = None if name == "torch" else name
        Trainer(max_epochs=5, callbacks=[callback], checkpoint_io=checkpoint_io, **OPTIONS).fit(Module())
        found[name] = sorted(path.name for path in (tmp_path / name).iterdir()), Path(callback.best_model_path).name
    assert found["torch"] == found["async"]


def test_loggers_are_told_when_the_file_is_there(tmp_path):
    told = []

    class Told(Logger):
        def after_save_checkpoint(self, path):
            told.append(Path(path).exists())

    callback = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1)
    options = {**OPTIONS, "logger": Told()}
    Trainer(max_epochs=1, callbacks=[callback], checkpoint_io="async", **options).fit(TinyModule())
    assert told == [True] * 4


def test_a_trainer_with_it_can_be_sent_to_another_process(tmp_path):
    checkpoint_io = pickle.loads(pickle.dumps(AsyncCheckpointIO()))
    checkpoint_io.save({"state_dict": {}}, tmp_path / "a.ckpt")
    checkpoint_io.teardown()
    assert (tmp_path / "a.ckpt").exists()


# ---- the copy ----


def test_a_copy_shares_no_memory_keeps_layout_and_reuses_the_memory_of_the_one_before():
    snapshots, matrix = Snapshots(), torch.arange(12.0).reshape(3, 4)
    value = {"t": matrix.t(), "row": matrix[1], "half": torch.ones(3, dtype=torch.bfloat16), "no": torch.empty(0)}
    first = snapshots.take(value)
    where = first["t"].untyped_storage().data_ptr()
    assert where != matrix.untyped_storage().data_ptr()
    assert first["t"].stride() == (1, 4)
    matrix.add_(1)
    second = snapshots.take(value)
    assert second["t"].untyped_storage().data_ptr() == where
    assert torch.equal(second["row"], matrix[1])
    assert torch.equal(snapshots.take({"other": torch.ones(5)})["other"], torch.ones(5))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(3).to_sparse(),
        torch.ones(2, dtype=torch.complex64).conj(),
        torch.nn.Parameter(torch.ones(2)),
    ],
    ids=["sparse", "conjugate", "parameter"],
)
def test_tensors_of_other_kinds_are_copied(tensor):
    copied = Snapshots().take([tensor])[0]
    assert type(copied) is torch.Tensor
    assert not copied.requires_grad
    assert torch.equal(copied.to_dense(), tensor.detach().to_dense())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_tensors_of_a_gpu_are_copied_to_pinned_memory_before_a_later_step_changes_them():
    snapshots, weight = Snapshots(), torch.full((1 << 24,), 1.0, device="cuda")
    copied = snapshots.take({"w": weight})["w"]
    weight.fill_(2.0)
    snapshots.ready()
    assert copied.is_pinned()
    assert (copied == 1.0).all()
