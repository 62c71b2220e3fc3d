"""ModelCheckpoint and the directory it saves to: other processes, other runs, broken files, signals, full disks."""

from __future__ import annotations

import json
import os
import signal
import struct
from pathlib import Path

import pytest
import torch
from leyden import Terminated, Trainer
from leyden.checkpoint.lock import DirectoryLock, DirectoryTaken
from leyden.testing import TinyModule
from leyden_callbacks import ModelCheckpoint

pytestmark = pytest.mark.usefixtures("plain_handlers")


def listed(folder):
    return [entry["name"] for entry in json.loads((folder / "checkpoints.json").read_text())["checkpoints"]]


def damage(path):
    """Flips one bit of a weight."""
    data = bytearray(path.read_bytes())
    state = torch.load(path)["state_dict"]["layer.bias"]
    data[data.index(struct.pack("<2f", *state.tolist()))] ^= 1
    path.write_bytes(data)


class Signalled(TinyModule):
    def __init__(self, at=6, number=signal.SIGTERM):
        super().__init__()
        self.at, self.number = at, number

    def training_step(self, batch, batch_idx):
        if self.global_step == self.at - 1:
            os.kill(os.getpid(), self.number)
        return super().training_step(batch, batch_idx)


# ---- a new process ----


def test_promise_46_best_and_last_are_found_by_a_new_process_from_the_list_in_the_directory(fit, scripted, tmp_path):
    fit(ModelCheckpoint(dirpath=tmp_path / "a", monitor="score", save_last=True), module=scripted([0.1, 0.2]))
    (tmp_path / "a").rename(tmp_path / "b")
    os.utime(tmp_path / "b/last.ckpt", (0, 0))  # times of files say nothing
    for options in ({"monitor": "score"}, {}):
        fresh = ModelCheckpoint(dirpath=tmp_path / "b", **options)
        assert fresh.resolve_checkpoint("best") == str(tmp_path / "b/epoch=0-step=4.ckpt")
        assert fresh.resolve_checkpoint("last") == str(tmp_path / "b/last.ckpt")
    assert ModelCheckpoint(dirpath=tmp_path / "b", monitor="other").resolve_checkpoint("best") is None


def test_promise_46_without_a_dirpath_they_are_those_of_the_newest_run_below_the_root(fit, scripted, tmp_path):
    fit(ModelCheckpoint(monitor="score", save_last=True), module=scripted([0.1, 0.2]), logger="csv")
    fit(ModelCheckpoint(monitor="score", save_last=True), module=scripted([0.2, 0.1]), logger="csv")
    trainer = Trainer(default_root_dir=tmp_path, callbacks=[ModelCheckpoint()], logger=False, enable_progress_bar=False)
    newest = tmp_path / "leyden_logs/version_1/checkpoints"
    assert trainer.resolve_checkpoint("best") == str(newest / "epoch=1-step=8.ckpt")
    assert trainer.resolve_checkpoint("last") == str(newest / "last.ckpt")


def test_the_best_in_the_directory_that_a_run_came_from_is_known_to_a_new_process(fit, scripted, tmp_path):
    options = {"monitor": "score", "save_last": True}
    fit(ModelCheckpoint(dirpath=tmp_path / "old", **options), module=scripted([0.1, 0.4]))
    second = ModelCheckpoint(dirpath=tmp_path / "new", **options)
    fit(second, module=scripted([0.3, 0.2]), max_epochs=4, ckpt_path=tmp_path / "old/last.ckpt")
    fresh = ModelCheckpoint(dirpath=tmp_path / "new", **options)
    assert fresh.resolve_checkpoint("best") == str(tmp_path / "old/epoch=0-step=4.ckpt")


def test_two_callbacks_in_one_directory_share_its_list(fit, scripted, tmp_path):
    loss, score = ModelCheckpoint(tmp_path, "l-{step}", "val_loss"), ModelCheckpoint(tmp_path, "s-{step}", "score", save_top_k=2)
    fit(loss, score, module=scripted([0.5, 0.4]))
    assert ModelCheckpoint(tmp_path, monitor="score").resolve_checkpoint("best") == score.best_model_path
    assert ModelCheckpoint(tmp_path, monitor="val_loss").resolve_checkpoint("best") == loss.best_model_path
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == sorted(
        {Path(loss.best_model_path).name, "s-step=4.ckpt", "s-step=8.ckpt"}
    )


@pytest.mark.parametrize("version_counter", [True, False])
def test_two_callbacks_with_the_same_names_never_delete_each_others_files(fit, scripted, tmp_path, version_counter):
    options = {"dirpath": tmp_path, "enable_version_counter": version_counter}
    falling, rising = ModelCheckpoint(monitor="score", **options), ModelCheckpoint(monitor="step", mode="max", **options)
    fit(falling, rising, module=scripted([0.1, 0.2, 0.3]), max_epochs=3)
    assert torch.load(falling.best_model_path)["global_step"] == 4
    assert torch.load(rising.best_model_path)["global_step"] == 12


def test_what_a_run_that_goes_on_from_an_older_checkpoint_had_saved_later_is_its_own(fit, saved, tmp_path):
    fit(ModelCheckpoint(save_top_k=-1), max_epochs=3)
    fit(ModelCheckpoint(save_top_k=-1), max_epochs=3, ckpt_path=tmp_path / "checkpoints/epoch=0-step=4.ckpt")
    assert saved() == ["epoch=0-step=4.ckpt", "epoch=1-step=8.ckpt", "epoch=2-step=12.ckpt"]


# ---- broken files ----


def test_a_damaged_newest_checkpoint_is_passed_over_and_that_is_said(fit, scripted, tmp_path, capsys):
    fit(ModelCheckpoint(tmp_path, save_top_k=-1), max_epochs=2)
    damage(tmp_path / "epoch=1-step=8.ckpt")
    capsys.readouterr()
    trainer = fit(ModelCheckpoint(tmp_path, save_top_k=-1), max_epochs=3, ckpt_path="last")
    assert trainer.ckpt_path is None or trainer.ckpt_path == str(tmp_path / "epoch=0-step=4.ckpt")
    assert trainer.global_step == 12
    assert capsys.readouterr().err == (
        f"leyden: the newest checkpoint is passed over: '{tmp_path}/epoch=1-step=8.ckpt' is damaged: 'archive/data/1' in it is "
        f"not what was written (its checksum differs); going on from '{tmp_path}/epoch=0-step=4.ckpt' of step 4: "
        f"4 steps are lost [LY016]\n"
    )


def test_a_damaged_checkpoint_that_was_asked_for_by_its_path_is_refused_and_a_whole_one_is_named(fit, tmp_path):
    fit(ModelCheckpoint(tmp_path, save_top_k=-1))
    (tmp_path / "epoch=1-step=8.ckpt").write_bytes((tmp_path / "epoch=1-step=8.ckpt").read_bytes()[:1000])
    with pytest.raises(ValueError) as caught:
        fit(ModelCheckpoint(tmp_path), ckpt_path=tmp_path / "epoch=1-step=8.ckpt")
    assert "it is cut off at byte 1000 of" in str(caught.value)
    assert f"; the newest whole one there: '{tmp_path}/epoch=0-step=4.ckpt' (step 4)" in str(caught.value)


def test_if_none_is_whole_the_error_of_the_newest_is_raised(fit, tmp_path):
    fit(ModelCheckpoint(tmp_path, save_top_k=-1))
    for path in tmp_path.glob("*.ckpt"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"epoch=1-step=8\.ckpt' is not a checkpoint: it is an empty file$"):
        fit(ModelCheckpoint(tmp_path), ckpt_path="last")


# ---- auto_resume ----


def test_auto_resume_starts_anew_and_then_goes_on(fit, tmp_path, capsys):
    first = fit(ModelCheckpoint(), auto_resume=True, max_epochs=1)
    second = fit(ModelCheckpoint(), auto_resume=True, max_epochs=3)
    assert (first.global_step, second.global_step) == (4, 12)
    assert capsys.readouterr().err == (
        f"leyden: auto_resume: there is no checkpoint below '{tmp_path}' yet; training starts anew [LY017]\n"
        f"leyden: auto_resume: going on from '{tmp_path}/checkpoints/epoch=0-step=4.ckpt' [LY017]\n"
    )


def test_auto_resume_finds_the_newest_run_of_the_logger_and_passes_over_a_damaged_file(fit, tmp_path, capsys):
    for max_epochs in (1, 2):
        fit(ModelCheckpoint(save_top_k=-1), logger="csv", auto_resume=True, max_epochs=max_epochs)
    first, second = (tmp_path / f"leyden_logs/version_{number}/checkpoints" for number in (0, 1))
    assert [path.name for path in second.glob("*.ckpt")] == ["epoch=1-step=8.ckpt"]
    trainer = fit(ModelCheckpoint(save_top_k=-1), logger="csv", auto_resume=True, max_epochs=3)
    assert trainer.global_step == 12
    assert f"going on from '{second}/epoch=1-step=8.ckpt'" in capsys.readouterr().err
    assert listed(first) == ["epoch=0-step=4.ckpt"]


def test_auto_resume_takes_no_checkpoint_that_has_weights_only(fit, tmp_path):
    fit(ModelCheckpoint(tmp_path, save_weights_only=True), max_epochs=1)
    assert fit(ModelCheckpoint(), auto_resume=True, max_epochs=1).global_step == 4


def test_an_explicit_path_comes_before_auto_resume(fit, tmp_path):
    fit(ModelCheckpoint(save_top_k=-1), max_epochs=2)
    steps = []

    class Looks(TinyModule):
        def on_train_start(self):
            steps.append(self.global_step)

    path = tmp_path / "checkpoints/epoch=0-step=4.ckpt"
    fit(ModelCheckpoint(), module=Looks(), auto_resume=True, max_epochs=2, ckpt_path=path)
    assert steps == [4]


# ---- signals ----


def test_sigterm_saves_the_state_which_a_newer_one_makes_superfluous(fit, saved, tmp_path, capsys):
    with pytest.raises(Terminated):
        fit(ModelCheckpoint(), module=Signalled())
    assert saved() == ["epoch=0-step=4.ckpt", "interrupted-epoch=1-step=6.ckpt"]
    assert f"the state after step 6 is saved as {tmp_path}/checkpoints/interrupted-epoch=1-step=6.ckpt" in capsys.readouterr().err
    trainer = fit(ModelCheckpoint(), auto_resume=True)
    assert trainer.global_step == 8
    assert saved() == ["epoch=1-step=8.ckpt"]


def test_ctrl_c_saves_the_whole_state_even_where_only_weights_are_kept(fit, saved, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(ModelCheckpoint(save_weights_only=True, save_last=True), module=Signalled(number=signal.SIGINT))
    path = tmp_path / "checkpoints/interrupted-epoch=1-step=6.ckpt"
    assert saved() == ["epoch=0-step=4.ckpt", path.name, "last.ckpt"]
    assert "optimizer_states" in torch.load(path)
    assert "optimizer_states" not in torch.load(tmp_path / "checkpoints/last.ckpt")


def test_a_state_that_was_saved_already_is_not_saved_again(fit, saved, capsys, tmp_path):
    with pytest.raises(Terminated):
        fit(ModelCheckpoint(every_n_train_steps=3), module=Signalled())
    assert saved() == ["epoch=1-step=6.ckpt"]
    assert f"the state after step 6 is saved as {tmp_path}/checkpoints/epoch=1-step=6.ckpt" in capsys.readouterr().err


def test_a_second_signal_in_the_middle_of_a_save_corrupts_nothing(fit, saved, tmp_path, monkeypatch):
    real = torch.save

    def slow(checkpoint, file):
        if checkpoint.get("global_step") == 6:
            file.write(b"half")
            os.kill(os.getpid(), signal.SIGINT)
        real(checkpoint, file)

    monkeypatch.setattr(torch, "save", slow)
    with pytest.raises(KeyboardInterrupt):
        fit(ModelCheckpoint(tmp_path), module=Signalled())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints.json", "epoch=0-step=4.ckpt"]
    assert ModelCheckpoint(tmp_path).resolve_checkpoint("last") == str(tmp_path / "epoch=0-step=4.ckpt")


def test_what_is_saved_on_exception_goes_when_a_newer_state_is_safe(fit, saved, tmp_path):
    class Fails(TinyModule):
        def training_step(self, batch, batch_idx):
            if self.global_step == 5:
                raise RuntimeError("once")
            return super().training_step(batch, batch_idx)

    with pytest.raises(RuntimeError, match="once"):
        fit(ModelCheckpoint(save_on_exception=True), module=Fails())
    assert saved() == ["epoch=0-step=4.ckpt", "exception-epoch=1-step=5.ckpt"]
    fit(ModelCheckpoint(), auto_resume=True)
    assert saved() == ["epoch=1-step=8.ckpt"]


def test_an_interrupt_in_the_middle_of_a_step_saves_nothing_whatever_was_asked_for(fit, saved):
    class Torn(TinyModule):
        def on_before_optimizer_step(self, optimizer):
            if self.global_step == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(ModelCheckpoint(save_on_exception=True), module=Torn())
    assert saved() == ["epoch=0-step=4.ckpt"]


# ---- other runs ----


def test_a_second_run_in_a_directory_that_was_given_is_refused(fit, tmp_path):
    class Starts(TinyModule):
        def on_train_start(self):
            fit(ModelCheckpoint(tmp_path / "run"))

    with pytest.raises(DirectoryTaken) as caught:
        fit(ModelCheckpoint(tmp_path / "run"), module=Starts())
    assert str(caught.value) == (
        f"ModelCheckpoint: '{tmp_path}/run' is where another run of this process saves its checkpoints; two runs in one "
        f"directory would delete each other's: pass another dirpath, or end that run (if it is gone, delete "
        f"'{tmp_path}/run/.leyden-lock')"
    )
    assert not (tmp_path / "run").exists(), "a directory that was made for nothing goes"


def test_where_none_was_given_a_second_run_has_a_directory_of_its_own(fit, saved, tmp_path):
    lock = None
    (tmp_path / "checkpoints").mkdir()
    lock = DirectoryLock(tmp_path / "checkpoints")
    fit(ModelCheckpoint(), max_epochs=1)
    lock.release()
    assert saved(tmp_path) == ["checkpoints_1/epoch=0-step=4.ckpt"]


def test_four_runs_started_at_once_in_one_directory_never_touch_each_others_files(tmp_path):
    """Each reports its best file, and every file that was reported holds that run's weights."""
    reports, children = {}, []
    for run in range(4):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            code = 1
            try:
                torch.set_num_threads(1)
                module = TinyModule()
                module.run = torch.nn.Parameter(torch.tensor(float(run)))
                checkpoint = ModelCheckpoint(monitor="val_loss", save_top_k=2, filename="best")
                Trainer(
                    max_epochs=3, callbacks=[checkpoint], logger=False, enable_progress_bar=False, enable_model_summary=False,
                    accelerator="cpu", default_root_dir=tmp_path,
                ).fit(module)  # fmt: skip
                os.write(writing, "\n".join(checkpoint.best_k_models).encode())
                code = 0
            finally:
                os._exit(code)
        os.close(writing)
        children.append((run, child, reading))
    for run, child, reading in children:
        _, status = os.waitpid(child, 0)
        assert status == 0
        with os.fdopen(reading) as file:
            reports[run] = file.read().splitlines()
    for run, paths in reports.items():
        assert paths
        for path in paths:
            assert torch.load(path)["state_dict"]["run"].item() == run
    assert len(set().union(*map(set, reports.values()))) == sum(map(len, reports.values()))


class Big(TinyModule):
    """Large enough for a save to take a while; says each step."""

    def __init__(self, pipe):
        super().__init__()
        self.pipe, self.ballast = pipe, torch.nn.Parameter(torch.zeros(1 << 18))

    def on_train_start(self):
        os.write(self.pipe, f"from {self.global_step}\n".encode())

    def on_train_batch_end(self, outputs, batch, batch_idx):
        os.write(self.pipe, f"step {self.global_step}\n".encode())


def test_kill_9_at_any_moment_leaves_a_run_that_goes_on(tmp_path):
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    done = 0
    for steps in (3, 5, 4, 6):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            torch.set_num_threads(1)
            callback = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_last=True)
            trainer = Trainer(max_steps=5000, callbacks=[callback], auto_resume=True, limit_val_batches=0, **options)
            trainer.fit(Big(writing))
            os._exit(1)
        os.close(writing)
        with os.fdopen(reading) as said:
            started = int(said.readline().split()[1])
            assert done - 1 <= started, "at most the step that was being saved is lost"
            for _ in range(steps):
                done = int(said.readline().split()[1])
            os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        assert (tmp_path / ".leyden-lock").exists()
    assert len([path for path in tmp_path.iterdir() if not path.name.startswith(".")]) <= 4
    assert ModelCheckpoint(tmp_path).resolve_checkpoint("last")
    Trainer(max_epochs=1, callbacks=[ModelCheckpoint(tmp_path)], **options).fit(TinyModule())
    assert not list(tmp_path.glob(".*")), "the lock and the temporary files of the dead are gone"


# ---- disks ----


def test_a_directory_that_becomes_unwritable_is_an_error_and_never_silence(fit, tmp_path, monkeypatch):
    real = os.open

    def refuse(path, flags, *args, **options):
        if str(path).startswith(str(tmp_path)) and "step=8" in str(path) and flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError) as caught:
        fit(ModelCheckpoint(tmp_path))
    assert str(caught.value) == (
        f"[Errno 13] '{tmp_path}/epoch=1-step=8.ckpt' could not be written: Permission denied; what stood there before is kept; "
        f"pass a dirpath or a default_root_dir that can be written to"
    )
    assert listed(tmp_path) == ["epoch=0-step=4.ckpt"]
    assert ModelCheckpoint(tmp_path).resolve_checkpoint("last") == str(tmp_path / "epoch=0-step=4.ckpt")


def test_only_what_the_list_has_is_deleted(fit, saved, tmp_path):
    """A state may name a file of the directory that no run's list has: it is the user's."""
    first = ModelCheckpoint(tmp_path, monitor="val_loss", mode="max", save_top_k=-1)
    fit(first, max_epochs=1)
    (tmp_path / "mine.ckpt").write_text("the user's")
    state = torch.load(first.best_model_path)
    for options in state["callbacks"].values():
        options["best_k_models"]["mine.ckpt"] = 1e9
    torch.save(state, tmp_path / "forged.ckpt")
    (tmp_path / "checkpoints.json").unlink()
    fit(ModelCheckpoint(tmp_path, monitor="val_loss", mode="max", save_top_k=1), max_epochs=3, ckpt_path=tmp_path / "forged.ckpt")
    assert (tmp_path / "mine.ckpt").read_text() == "the user's"
