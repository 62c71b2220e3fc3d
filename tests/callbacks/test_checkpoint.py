"""What ModelCheckpoint saves, keeps and deletes."""

import math
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from leyden import Callback, LeydenWarning, Trainer
from leyden.testing import TinyModule
from leyden_callbacks import LambdaCallback, ModelCheckpoint


def test_by_default_the_newest_epoch_is_kept_in_the_checkpoints_folder_of_the_log_directory(fit, saved, tmp_path):
    checkpoint = ModelCheckpoint()
    fit(checkpoint)
    assert saved() == ["epoch=1-step=8.ckpt"]
    assert checkpoint.dirpath == str(tmp_path / "checkpoints")
    assert checkpoint.best_model_path == str(tmp_path / "checkpoints/epoch=1-step=8.ckpt")
    assert checkpoint.best_model_score is None


def test_first_epoch_is_saved_after_its_last_step(fit, saved):
    fit(ModelCheckpoint(), max_epochs=1)
    assert saved() == ["epoch=0-step=4.ckpt"]


def test_the_best_k_by_the_monitor_are_kept(fit, saved, scripted):
    checkpoint = ModelCheckpoint(monitor="score", mode="max", save_top_k=2)
    fit(checkpoint, module=scripted([0.5, 0.9, 0.1, 0.7]), max_epochs=4)
    assert saved() == ["epoch=1-step=8.ckpt", "epoch=3-step=16.ckpt"]
    assert Path(checkpoint.best_model_path).name == "epoch=1-step=8.ckpt"
    assert checkpoint.best_model_score.item() == pytest.approx(0.9)
    assert Path(checkpoint.kth_best_model_path).name == "epoch=3-step=16.ckpt"
    assert checkpoint.kth_value.item() == pytest.approx(0.7)
    assert checkpoint.current_score.item() == pytest.approx(0.7)
    assert {Path(path).name: round(score.item(), 3) for path, score in checkpoint.best_k_models.items()} == {
        "epoch=1-step=8.ckpt": 0.9,
        "epoch=3-step=16.ckpt": 0.7,
    }


def test_mode_min_keeps_the_least(fit, saved, scripted):
    fit(ModelCheckpoint(monitor="score"), module=scripted([0.5, 0.9, 0.1, 0.7]), max_epochs=4)
    assert saved() == ["epoch=2-step=12.ckpt"]


def test_an_equal_value_is_not_saved(fit, saved, scripted):
    steps = []

    class Recorder(Callback):
        def on_save_checkpoint(self, trainer):
            steps.append(trainer.global_step)

    fit(Recorder(), ModelCheckpoint(monitor="score"), module=scripted([0.5, 0.5]))
    assert saved() == ["epoch=0-step=4.ckpt"]
    assert steps == [4]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_value_that_is_not_finite_replaces_no_finite_one(fit, saved, scripted, bad, mode):
    checkpoint = ModelCheckpoint(monitor="score", mode=mode)
    fit(checkpoint, module=scripted([0.5, bad]))
    assert saved() == ["epoch=0-step=4.ckpt"]
    assert checkpoint.best_model_score.item() == 0.5


def test_a_finite_value_replaces_one_that_is_not(fit, saved, scripted):
    fit(ModelCheckpoint(monitor="score"), module=scripted([float("nan"), 0.5]))
    assert saved() == ["epoch=1-step=8.ckpt"]


def test_save_top_k_of_minus_one_keeps_all_and_of_zero_none(fit, saved, tmp_path):
    fit(ModelCheckpoint(save_top_k=-1, dirpath=tmp_path / "all"))
    fit(ModelCheckpoint(save_top_k=0, dirpath=tmp_path / "none"))
    assert saved(tmp_path) == ["all/epoch=0-step=4.ckpt", "all/epoch=1-step=8.ckpt"]


def test_a_metric_of_the_training_step_can_be_monitored(fit, saved):
    checkpoint = ModelCheckpoint(monitor="train_loss", save_top_k=1)
    trainer = fit(checkpoint)
    assert saved() == ["epoch=1-step=8.ckpt"]
    assert checkpoint.best_model_score == pytest.approx(trainer.callback_metrics["train_loss"].item())


def test_a_metric_logged_at_the_end_of_the_training_epoch_can_be_monitored(fit, saved):
    class Module(TinyModule):
        def on_train_epoch_end(self):
            self.log("epoch_score", 1.0 + self.current_epoch)

    checkpoint = ModelCheckpoint(monitor="epoch_score")
    fit(checkpoint, module=Module())
    assert saved() == ["epoch=0-step=4.ckpt"]
    assert checkpoint.best_model_score.item() == 1.0


def test_step_can_be_monitored_without_being_logged_so_that_the_newest_k_stay(fit, saved):
    fit(ModelCheckpoint(monitor="global_step", mode="max", save_top_k=2, filename="{global_step}"), max_epochs=3)
    assert saved() == ["global_step=12.ckpt", "global_step=8.ckpt"]


# ---- when ----


def test_every_n_train_steps_counts_optimizer_steps(fit, saved):
    fit(ModelCheckpoint(every_n_train_steps=3, save_top_k=-1))
    assert saved() == ["epoch=0-step=3.ckpt", "epoch=1-step=6.ckpt"]


def test_every_n_train_steps_saves_a_step_of_several_batches_once(fit, saved):
    fit(ModelCheckpoint(every_n_train_steps=1, save_top_k=-1), accumulate_grad_batches=2, max_epochs=1)
    assert saved() == ["epoch=0-step=1.ckpt", "epoch=0-step=2.ckpt"]


def test_every_n_epochs(fit, saved):
    fit(ModelCheckpoint(every_n_epochs=2, save_top_k=-1), max_epochs=5)
    assert saved() == ["epoch=1-step=8.ckpt", "epoch=3-step=16.ckpt"]


def test_a_time_interval_of_nothing_saves_after_every_step(fit, saved):
    fit(ModelCheckpoint(train_time_interval=timedelta(microseconds=1), save_top_k=-1), max_epochs=1)
    assert saved() == [f"epoch=0-step={step}.ckpt" for step in (1, 2, 3, 4)]


def test_validations_inside_an_epoch_are_each_followed_by_a_checkpoint(fit, saved, scripted):
    checkpoint = ModelCheckpoint(monitor="score", save_top_k=-1)
    fit(checkpoint, module=scripted([0.1, 0.2]), max_epochs=1, val_check_interval=0.5)
    assert saved() == ["epoch=0-step=2.ckpt", "epoch=0-step=4.ckpt"]


def test_save_on_train_epoch_end_waits_for_the_end_of_the_epoch(fit, saved, scripted):
    checkpoint = ModelCheckpoint(monitor="score", save_top_k=-1, save_on_train_epoch_end=True)
    fit(checkpoint, module=scripted([0.1, 0.2]), max_epochs=1, val_check_interval=0.5)
    assert saved() == ["epoch=0-step=4.ckpt"]


def test_a_monitored_checkpoint_is_never_saved_with_a_value_of_older_weights(fit, saved, scripted):
    class Recorder(Callback):
        seen: dict[int, float] = {}  # noqa: RUF012  # one instance

        def on_save_checkpoint(self, trainer, checkpoint):
            self.seen[trainer.global_step] = trainer.callback_metrics["score"].item()

    recorder = Recorder()
    checkpoint = ModelCheckpoint(monitor="score", save_top_k=-1, every_n_train_steps=3)
    fit(recorder, checkpoint, module=scripted([1.0, 2.0, 3.0]), max_epochs=3)
    # Due at steps 3, 6, 9 and 12: each waits for the validation at the end of its epoch.
    assert saved() == ["epoch=0-step=4.ckpt", "epoch=1-step=8.ckpt", "epoch=2-step=12.ckpt"]
    assert recorder.seen == {4: 1.0, 8: 2.0, 12: 3.0}


def test_a_value_that_no_checkpoint_has_used_yet_is_too_old_after_the_next_step_all_the_same(fit, saved, scripted):
    fit(ModelCheckpoint(monitor="score", save_top_k=-1, every_n_train_steps=6), module=scripted([1.0, 2.0]))
    assert saved() == ["epoch=1-step=8.ckpt"]


def test_without_a_monitor_epochs_without_validation_are_saved_too(fit, saved):
    fit(ModelCheckpoint(save_top_k=-1), check_val_every_n_epoch=2, max_epochs=3)
    assert saved() == ["epoch=0-step=4.ckpt", "epoch=1-step=8.ckpt", "epoch=2-step=12.ckpt"]


def test_with_a_monitor_epochs_without_validation_are_not_saved(fit, saved, scripted):
    fit(ModelCheckpoint(monitor="score", save_top_k=-1), module=scripted([0.1]), check_val_every_n_epoch=2, max_epochs=3)
    assert saved() == ["epoch=1-step=8.ckpt"]


def test_an_epoch_without_a_step_is_not_saved_again(fit, saved):
    class Lazy(TinyModule):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if self.current_epoch else None

    with pytest.warns(LeydenWarning, match="epoch 1 trained on no batch"):
        fit(ModelCheckpoint(save_top_k=-1), module=Lazy())
    assert saved() == ["epoch=0-step=4.ckpt"]


def test_nothing_is_saved_by_a_fast_development_run(fit, tmp_path):
    fit(ModelCheckpoint(monitor="val_loss", save_last=True), fast_dev_run=True)
    assert list(tmp_path.rglob("*")) == []


def test_a_module_may_validate_alone_without_being_saved(fit, saved):
    trainer = fit(ModelCheckpoint(), max_epochs=1)
    trainer.validate(verbose=False)
    assert saved() == ["epoch=0-step=4.ckpt"]


# ---- last ----


def test_save_last_keeps_the_newest_state_beside_the_best(fit, saved, scripted):
    checkpoint = ModelCheckpoint(monitor="score", save_last=True)
    fit(checkpoint, module=scripted([0.1, 0.2]))
    assert saved() == ["epoch=0-step=4.ckpt", "last.ckpt"]
    assert torch.load(checkpoint.last_model_path)["global_step"] == 8


def test_save_last_as_link_points_to_the_newest_state_if_it_was_saved_under_another_name(fit, saved, scripted, tmp_path):
    fit(ModelCheckpoint(monitor="score", save_last="link"), module=scripted([0.2, 0.1]))
    assert (tmp_path / "checkpoints/last.ckpt").readlink() == Path("epoch=1-step=8.ckpt")
    assert torch.load(tmp_path / "checkpoints/last.ckpt")["global_step"] == 8


def test_save_last_as_link_becomes_a_file_when_the_newest_state_is_not_among_the_best(fit, scripted, tmp_path):
    fit(ModelCheckpoint(monitor="score", save_last="link"), module=scripted([0.1, 0.2]))
    assert not (tmp_path / "checkpoints/last.ckpt").is_symlink()
    assert torch.load(tmp_path / "checkpoints/last.ckpt")["global_step"] == 8


def test_save_last_saves_at_the_end_of_every_epoch_beside_steps(fit):
    checkpoint = ModelCheckpoint(every_n_train_steps=3, save_last=True)
    fit(checkpoint, max_epochs=1)
    assert torch.load(checkpoint.last_model_path)["global_step"] == 4


@pytest.mark.parametrize("save_last", [True, "link"])
def test_the_newest_state_never_takes_the_place_of_the_best_whatever_that_is_called(fit, scripted, save_last):
    checkpoint = ModelCheckpoint(filename="last", monitor="score", mode="max", save_last=save_last)
    fit(checkpoint, module=scripted([0.3, 0.2, 0.4, 0.1]), max_epochs=4)
    assert torch.load(checkpoint.best_model_path)["global_step"] == 12
    assert torch.load(checkpoint.last_model_path)["global_step"] == 16


def test_the_state_in_the_newest_file_knows_every_file_that_is_kept(fit, scripted):
    checkpoint = ModelCheckpoint(monitor="score", save_top_k=2, save_last=True)
    fit(checkpoint, module=scripted([0.3, 0.2, 0.1]), max_epochs=3)
    assert torch.load(checkpoint.last_model_path)["callbacks"][checkpoint.state_key] == checkpoint.state_dict()
    assert torch.load(checkpoint.best_model_path)["callbacks"][checkpoint.state_key] == checkpoint.state_dict()


# ---- names ----


def test_names_hold_values_in_the_format_asked_for(fit, saved, scripted):
    fit(ModelCheckpoint(monitor="score", filename="sample-{epoch:02d}-{score:.2f}"), module=scripted([0.321, 0.5]))
    assert saved() == ["sample-epoch=00-score=0.32.ckpt"]


def test_a_value_that_is_not_finite_can_be_part_of_any_name(fit, saved, scripted):
    fit(ModelCheckpoint(filename="{score:02d}-{epoch:02d}"), module=scripted([math.nan, math.inf]), max_epochs=2)
    assert saved() == ["score=inf-epoch=01.ckpt"]


def test_names_of_values_can_be_left_out(fit, saved):
    fit(ModelCheckpoint(filename="run-{epoch:02d}", auto_insert_metric_name=False), max_epochs=1)
    assert saved() == ["run-00.ckpt"]


def test_a_slash_in_a_key_makes_a_folder(fit, saved):
    class Module(TinyModule):
        def validation_step(self, batch, batch_idx):
            self.log("valid/acc", 0.25)

    fit(ModelCheckpoint(monitor="valid/acc", filename="{epoch}-{valid/acc:.2f}"), module=Module(), max_epochs=1)
    assert saved() == ["epoch=0-valid/acc=0.25.ckpt"]


def test_a_name_that_is_taken_gets_a_version(fit, saved, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/epoch=0-step=4.ckpt").write_text("somebody else's")
    fit(ModelCheckpoint(), max_epochs=1)
    assert saved() == ["epoch=0-step=4-v1.ckpt", "epoch=0-step=4.ckpt"]
    assert (tmp_path / "checkpoints/epoch=0-step=4.ckpt").read_text() == "somebody else's"


def test_without_version_counter_a_name_that_is_taken_is_overwritten(fit, saved, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/epoch=0-step=4.ckpt").write_text("somebody else's")
    fit(ModelCheckpoint(enable_version_counter=False), max_epochs=1)
    assert saved() == ["epoch=0-step=4.ckpt"]
    assert torch.load(tmp_path / "checkpoints/epoch=0-step=4.ckpt")["global_step"] == 4


def test_a_name_without_values_is_overwritten_by_its_own_successor(fit, saved):
    checkpoint = ModelCheckpoint(filename="newest")
    fit(checkpoint)
    assert saved() == ["newest.ckpt"]
    assert torch.load(checkpoint.best_model_path)["epoch"] == 1


def test_a_value_that_was_not_logged_is_written_as_zero_with_a_warning(fit, saved):
    with pytest.warns(LeydenWarning) as warned:
        fit(ModelCheckpoint(filename="{epoch}-{val_los:.1f}"), max_epochs=1)
    assert saved() == ["epoch=0-val_los=0.0.ckpt"]
    assert str(warned[0].message) == (
        "the checkpoint name '{epoch}-{val_los:.1f}' asks for 'val_los', which was not logged; did you mean 'val_loss'? It is "
        "written as 0. Logged: 'epoch', 'step', 'global_step', 'train_loss', 'val_loss', 'val_acc'"
    )


def test_format_checkpoint_name(tmp_path):
    checkpoint = ModelCheckpoint(dirpath=tmp_path, filename="{epoch:02d}-{val_loss:.2f}")
    assert checkpoint.format_checkpoint_name({"epoch": 3, "val_loss": torch.tensor(0.256)}, ver=2) == str(
        tmp_path / "epoch=03-val_loss=0.26-v2.ckpt"
    )


def test_to_yaml_lists_the_kept_files_with_their_scores(fit, scripted, tmp_path):
    checkpoint = ModelCheckpoint(monitor="score")
    fit(checkpoint, module=scripted([0.5, 0.25]))
    checkpoint.to_yaml(tmp_path / "best.yaml")
    assert (tmp_path / "best.yaml").read_text() == f'"{tmp_path}/checkpoints/epoch=1-step=8.ckpt": 0.25\n'


# ---- what a checkpoint holds, and resuming ----


def test_save_weights_only_leaves_out_what_only_training_needs(fit):
    checkpoint = ModelCheckpoint(save_weights_only=True)
    fit(checkpoint)
    assert "optimizer_states" not in torch.load(checkpoint.best_model_path)


def test_a_resumed_run_goes_on_with_the_files_it_kept(fit, saved, scripted, tmp_path):
    first = ModelCheckpoint(monitor="score", save_last=True, save_top_k=2)
    fit(first, module=scripted([0.5, 0.4]))
    second = ModelCheckpoint(monitor="score", save_last=True, save_top_k=2)
    fit(second, module=scripted([0.3, 0.6]), max_epochs=4, ckpt_path=tmp_path / "checkpoints/last.ckpt")
    assert saved() == ["epoch=1-step=8.ckpt", "epoch=2-step=12.ckpt", "last.ckpt"]
    assert Path(second.best_model_path).name == "epoch=2-step=12.ckpt"


@pytest.mark.parametrize("save_top_k", [0, 1])
def test_a_validation_that_goes_on_from_a_checkpoint_saves_what_the_whole_one_would(fit, saved, scripted, tmp_path, save_top_k):
    class Failing(Callback):
        def on_validation_batch_end(self, trainer):
            if trainer.global_step == 8:
                raise ValueError("one of the user's")

    options = {"monitor": "score", "mode": "max", "save_last": True, "save_on_exception": True, "save_top_k": save_top_k}
    with pytest.raises(ValueError, match="one of the user's"):
        fit(ModelCheckpoint(**options), Failing(), module=scripted([0.1]), max_epochs=3)
    resumed = ModelCheckpoint(**options)
    spare = str(tmp_path / "checkpoints/exception-epoch=1-step=8.ckpt")
    fit(resumed, module=scripted([0.9, 0.3]), max_epochs=2, ckpt_path=spare)
    assert saved() == ["epoch=1-step=8.ckpt"] * save_top_k + ["last.ckpt"]
    assert torch.load(resumed.last_model_path)["global_step"] == 8


def test_a_value_that_waits_for_the_end_of_its_epoch_does_so_in_a_resumed_run(fit, saved, scripted, tmp_path):
    checkpoint = ModelCheckpoint(monitor="score", mode="max")
    save = LambdaCallback(on_validation_end=lambda trainer: trainer.save_checkpoint(tmp_path / "saved.ckpt"))
    fit(checkpoint, save, module=scripted([0.1]), max_epochs=1, num_sanity_val_steps=0)
    shutil.rmtree(tmp_path / "checkpoints")
    fit(ModelCheckpoint(monitor="score", mode="max"), module=scripted([]), max_epochs=1, ckpt_path=str(tmp_path / "saved.ckpt"))
    assert saved() == ["epoch=0-step=4.ckpt"]


def test_a_run_that_was_moved_goes_on_in_its_new_place(fit, saved, scripted, tmp_path):
    folder, moved = tmp_path / "old", tmp_path / "new"
    fit(ModelCheckpoint(dirpath=folder, monitor="score", save_last=True), module=scripted([0.5, 0.4]))
    shutil.move(folder, moved)
    checkpoint = ModelCheckpoint(dirpath=moved, monitor="score", save_last=True)
    fit(checkpoint, module=scripted([0.3]), max_epochs=3, ckpt_path=moved / "last.ckpt")
    assert saved(moved) == ["epoch=2-step=12.ckpt", "last.ckpt"]
    assert not folder.exists()


def test_a_run_resumed_elsewhere_remembers_the_best_and_deletes_nothing_there(fit, saved, scripted, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    fit(ModelCheckpoint(dirpath=old, monitor="score", save_last=True), module=scripted([0.1, 0.4]))
    checkpoint = ModelCheckpoint(dirpath=new, monitor="score", save_last=True)
    fit(checkpoint, module=scripted([0.3, 0.2]), max_epochs=4, ckpt_path=old / "last.ckpt")
    assert saved(old) == ["epoch=0-step=4.ckpt", "last.ckpt"]
    assert saved(new) == ["epoch=3-step=16.ckpt", "last.ckpt"]
    assert checkpoint.best_model_path == str(old / "epoch=0-step=4.ckpt")
    assert checkpoint.best_model_score.item() == pytest.approx(0.1)


def test_there_is_no_absolute_path_in_the_state(fit, scripted, tmp_path):
    checkpoint = ModelCheckpoint(monitor="score", save_last=True)
    fit(checkpoint, module=scripted([0.2, 0.1]))
    assert str(tmp_path) not in repr(checkpoint.state_dict())


@pytest.mark.parametrize("kept", [{"../precious.ckpt": 0.9}, {"sub/../../precious.ckpt": 0.9}, {"/precious.ckpt": 0.9}])
def test_files_outside_the_folder_that_a_state_names_are_never_deleted(fit, saved, scripted, tmp_path, kept):
    precious = tmp_path / "precious.ckpt"
    precious.write_text("not ours")
    kept = {name.replace("/precious", str(precious).removesuffix(".ckpt")) if name[0] == "/" else name: 0.9 for name in kept}
    first = ModelCheckpoint(dirpath=tmp_path / "run/sub", monitor="score", filename="{epoch}")
    trainer = fit(first, module=scripted([0.5]), max_epochs=1)
    state = torch.load(first.best_model_path)
    state["callbacks"][first.state_key] |= {"best_k_models": kept, "last_model_path": next(iter(kept))}
    trainer.checkpoint_io.save(state, tmp_path / "forged.ckpt")
    second = ModelCheckpoint(dirpath=tmp_path / "run", monitor="score", save_last=True)
    fit(second, module=scripted([0.4]), ckpt_path=tmp_path / "forged.ckpt")
    assert precious.read_text() == "not ours"
    assert saved(tmp_path / "run") == ["epoch=1-step=8.ckpt", "last.ckpt", "sub/epoch=0.ckpt"]


def test_the_state_that_lightning_wrote_is_understood(tmp_path):
    (tmp_path / "epoch=0-step=4.ckpt").touch()
    checkpoint = ModelCheckpoint(dirpath=tmp_path, monitor="val_loss")
    path = str(tmp_path / "epoch=0-step=4.ckpt")
    checkpoint.load_state_dict(
        {
            "monitor": "val_loss",
            "best_model_score": torch.tensor(0.5),
            "best_model_path": path,
            "current_score": torch.tensor(0.5),
            "dirpath": str(tmp_path),
            "best_k_models": {path: torch.tensor(0.5)},
            "kth_best_model_path": path,
            "kth_value": torch.tensor(0.5),
            "last_model_path": "",
        }
    )
    assert checkpoint.best_model_path == path
    assert checkpoint.best_k_models == {path: torch.tensor(0.5)}


def test_a_second_fit_keeps_the_files_of_the_first(fit, saved):
    trainer = fit(ModelCheckpoint())
    trainer.fit(TinyModule())
    assert saved() == ["epoch=1-step=8-v1.ckpt", "epoch=1-step=8.ckpt"]


def test_ckpt_path_best_and_last_are_this_callbacks_files(fit, scripted, tmp_path):
    checkpoint = ModelCheckpoint(monitor="score", save_last=True)
    fit(checkpoint, module=scripted([0.1, 0.2]))
    assert checkpoint.resolve_checkpoint("best") == str(tmp_path / "checkpoints/epoch=0-step=4.ckpt")
    assert checkpoint.resolve_checkpoint("last") == str(tmp_path / "checkpoints/last.ckpt")


def test_last_is_found_in_a_given_folder_by_a_new_process(fit, tmp_path):
    fit(ModelCheckpoint(dirpath=tmp_path, save_last=True))
    assert ModelCheckpoint(dirpath=tmp_path).resolve_checkpoint("last") == str(tmp_path / "last.ckpt")
    assert ModelCheckpoint(dirpath=tmp_path / "empty").resolve_checkpoint("last") is None


def test_two_callbacks_of_different_monitors_save_side_by_side(fit, saved):
    fit(
        ModelCheckpoint(monitor="val_loss", filename="loss-{epoch}"),
        ModelCheckpoint(monitor="val_acc", mode="max", filename="acc-{epoch}"),
        max_epochs=1,
    )
    assert saved() == ["acc-epoch=0.ckpt", "loss-epoch=0.ckpt"]


# ---- failures ----


class Failing(TinyModule):
    def training_step(self, batch, batch_idx):
        if self.global_step == 6:
            raise RuntimeError("six steps are enough")
        return super().training_step(batch, batch_idx)


def test_save_on_exception_saves_the_state_after_the_last_step(fit, saved, tmp_path, capsys):
    with pytest.raises(RuntimeError, match="six steps are enough"):
        fit(ModelCheckpoint(save_on_exception=True), module=Failing())
    path = tmp_path / "checkpoints/exception-epoch=1-step=6.ckpt"
    assert saved() == ["epoch=0-step=4.ckpt", path.name]
    assert torch.load(path)["global_step"] == 6
    assert capsys.readouterr().err == f"leyden: the state after step 6 was saved as {path}\n"


def test_the_state_saved_on_exception_is_the_last_one(fit, tmp_path):
    checkpoint = ModelCheckpoint(dirpath=tmp_path, save_on_exception=True, save_last=True)
    with pytest.raises(RuntimeError, match="six steps are enough"):
        fit(checkpoint, module=Failing())
    assert checkpoint.resolve_checkpoint("last") == str(tmp_path / "exception-epoch=1-step=6.ckpt")
    assert ModelCheckpoint(dirpath=tmp_path).resolve_checkpoint("last") == str(tmp_path / "exception-epoch=1-step=6.ckpt")


@pytest.mark.parametrize("when", ["setup", "on_sanity_check_start", "on_fit_end"])
def test_nothing_is_saved_on_exception_outside_training(fit, saved, when):
    class Failed(TinyModule):
        pass

    def fail(self, *_):
        raise RuntimeError("too early or too late")

    setattr(Failed, when, fail)
    with pytest.raises(RuntimeError, match="too early or too late"):
        fit(ModelCheckpoint(save_on_exception=True, every_n_epochs=10), module=Failed())
    assert saved() == []


def test_without_save_on_exception_nothing_is_saved(fit, saved):
    with pytest.raises(RuntimeError, match="six steps are enough"):
        fit(ModelCheckpoint(), module=Failing())
    assert saved() == ["epoch=0-step=4.ckpt"]


def test_a_folder_that_cannot_be_made_is_refused_before_the_first_step(fit, tmp_path):
    class Untrained(TinyModule):
        def training_step(self, batch, batch_idx):
            raise AssertionError("training began")

    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as error:  # the whole message is compared
        fit(ModelCheckpoint(dirpath=tmp_path / "file/inside"), module=Untrained())
    assert str(error.value) == (
        f"ModelCheckpoint(dirpath='{tmp_path}/file/inside'): checkpoints cannot be written there: {tmp_path}/file: "
        f"Not a directory; pass a dirpath or a default_root_dir that can be written, or Trainer(enable_checkpointing=False)"
    )


def test_the_check_of_the_folder_leaves_nothing_behind(fit, tmp_path):
    fit(ModelCheckpoint(dirpath=tmp_path / "a/b", every_n_train_steps=100))
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_fails_ends_the_run_and_leaves_the_older_file(fit, saved, scripted):
    class Full(ModelCheckpoint):
        def on_save_checkpoint(self, trainer, checkpoint):
            if trainer.global_step == 8:
                raise OSError("no space left on device")

    checkpoint = Full(monitor="score")
    with pytest.raises(OSError, match="no space left on device"):
        fit(checkpoint, module=scripted([0.2, 0.1]))
    assert saved() == ["epoch=0-step=4.ckpt"]
    assert Path(checkpoint.best_model_path).name == "epoch=0-step=4.ckpt"


def test_verbose_says_what_was_saved_and_why(fit, scripted, tmp_path, capsys):
    fit(ModelCheckpoint(monitor="score", verbose=True), module=scripted([0.25, 0.5]))
    assert capsys.readouterr().err == (
        f"leyden: score=0.25 was saved as {tmp_path}/checkpoints/epoch=0-step=4.ckpt\nleyden: score=0.5 is not among the best 1\n"
    )


# ---- arguments ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "mni"}, "ModelCheckpoint(mode='mni'): expected 'min' or 'max'; did you mean 'min'?"),
        ({"save_last": "lnk"}, "ModelCheckpoint(save_last='lnk'): expected None, True, False or 'link'; did you mean 'link'?"),
        ({"save_top_k": -2}, "ModelCheckpoint(save_top_k=-2): expected an int of at least -1, got int -2"),
        (
            {"save_top_k": 3},
            "ModelCheckpoint(save_top_k=3) keeps the best 3, but of what? Pass monitor='val_loss' or the key of another logged "
            "value; monitor='step' with mode='max' keeps the newest 3",
        ),
        ({"every_n_epochs": -1}, "ModelCheckpoint(every_n_epochs=-1): expected an int of at least 0, got int -1"),
        (
            {"every_n_epochs": 1, "every_n_train_steps": 5},
            "ModelCheckpoint(every_n_train_steps=5, every_n_epochs=1): pass one of them, or one ModelCheckpoint for each",
        ),
        (
            {"filename": "{epoch"},
            "ModelCheckpoint(filename='{epoch'): expected '}' before end of string; "
            "write values as {epoch:02d} or {val_loss:.2f}",
        ),
        (
            {"filename": "{}"},
            "ModelCheckpoint(filename='{}'): a pair of braces names no value; write {epoch} or {val_loss:.2f}",
        ),
        *(
            (
                {"filename": filename},
                f"ModelCheckpoint(filename={filename!r}): it leads out of the folder of checkpoints; pass that as dirpath",
            )
            for filename in ("/tmp/{epoch}", "../{epoch}", "best/../../{epoch}")
        ),
        (
            {"filename": "last", "save_last": True, "enable_version_counter": False},
            "ModelCheckpoint(filename='last', save_last=True, enable_version_counter=False): the newest state would overwrite "
            "the best; pass another filename",
        ),
        ({"monitor": ""}, "ModelCheckpoint(monitor=''): expected the key of a logged value such as 'val_loss', got str ''"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_a_wrong_argument_is_refused(arguments, message):
    with pytest.raises(ValueError) as error:  # the whole message is compared
        ModelCheckpoint(**arguments)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_n_train_steps": 2.5}, "ModelCheckpoint(every_n_train_steps=2.5): expected an int of at least 0, got float 2.5"),
        (
            {"train_time_interval": 60},
            "ModelCheckpoint(train_time_interval=60): expected a text such as '30 min' or 'DD:HH:MM:SS', a timedelta or a dict, "
            "got int 60",
        ),
        ({"dirpath": 3}, "ModelCheckpoint(dirpath=3): expected a str, got int 3"),
        ({"monitor": 3}, "ModelCheckpoint(monitor=3): expected the key of a logged value such as 'val_loss', got int 3"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_an_argument_of_the_wrong_type_is_refused(arguments, message):
    with pytest.raises(TypeError) as error:
        ModelCheckpoint(**arguments)
    assert str(error.value) == message


def test_it_is_registered_as_checkpoint(tmp_path):
    trainer = Trainer(callbacks=[{"checkpoint": {"monitor": "val_acc", "mode": "max"}}], logger=False, default_root_dir=tmp_path)
    assert isinstance(trainer.checkpoint_callback, ModelCheckpoint)
    assert trainer.checkpoint_callback.monitor == "val_acc"


def test_a_trainer_that_has_fitted_nothing_tests_the_checkpoint_of_another(fit):
    trainer = fit(ModelCheckpoint())
    again = Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False)
    assert again.test(TinyModule(), ckpt_path=trainer.checkpoint_callback.best_model_path, verbose=False) == trainer.test(
        ckpt_path="best", verbose=False
    )


def test_a_test_of_an_older_checkpoint_leaves_the_best_one_as_it_was(fit, scripted):
    checkpoint = ModelCheckpoint(monitor="score", mode="max", save_top_k=3)
    trainer = fit(checkpoint, module=scripted([0.1, 0.5, 0.9]), max_epochs=3)
    best, kept = checkpoint.best_model_path, checkpoint.best_k_models
    trainer.test(ckpt_path=min(kept, key=kept.get), verbose=False)
    assert Path(best).name == "epoch=2-step=12.ckpt"
    assert (checkpoint.best_model_path, checkpoint.best_k_models) == (best, kept)
