"""When EarlyStopping ends a run."""

import contextlib
import io

import pytest
import torch
from leyden import Callback, Trainer
from leyden.testing import TinyModule, run_ranks
from leyden_callbacks import EarlyStopping, EarlyStoppingReason, LambdaCallback, ModelCheckpoint


def epochs_run(fit, scripted, stopping, scores, **settings):
    trainer = fit(stopping, module=scripted(scores), max_epochs=settings.pop("max_epochs", len(scores)), **settings)
    return trainer.current_epoch


@pytest.mark.parametrize(
    ("options", "scores", "epochs"),
    [
        ({"patience": 2}, [5, 4, 4, 4, 4], 4),
        ({"patience": 3}, [5, 4, 4, 4, 3, 3], 6),
        ({"patience": 1}, [5, 4, 4, 3], 3),
        ({"patience": 0}, [5, 4, 5, 3], 3),
        ({"patience": 2, "mode": "max"}, [1, 2, 1, 2, 3], 4),
        ({"patience": 1, "min_delta": 0.5}, [5, 4.6, 3], 2),
        ({"patience": 1, "min_delta": 0.5}, [5, 4.4, 3.8], 3),
    ],
)
def test_it_stops_after_patience_checks_without_improvement(fit, scripted, options, scores, epochs):
    assert epochs_run(fit, scripted, EarlyStopping("score", **options), scores) == epochs


def test_it_says_why_it_stopped(fit, scripted, capsys):
    stopping = EarlyStopping("score", patience=2)
    epochs_run(fit, scripted, stopping, [0.5, 0.6, 0.7, 0.1])
    assert stopping.stopped_epoch == 2
    assert stopping.wait_count == 2
    assert stopping.best_score.item() == 0.5
    assert stopping.stopping_reason is EarlyStoppingReason.PATIENCE_EXHAUSTED
    assert stopping.stopping_reason_message == "score did not improve on 0.5 at 2 checks in a row"
    assert capsys.readouterr().err == (
        "leyden: training stops early in epoch 2: score did not improve on 0.5 at 2 checks in a row\n"
    )


def test_a_run_that_it_does_not_stop_leaves_no_reason(fit, scripted):
    stopping = EarlyStopping("score")
    epochs_run(fit, scripted, stopping, [0.5, 0.4])
    assert stopping.stopping_reason is EarlyStoppingReason.NOT_STOPPED
    assert stopping.stopping_reason_message is None


@pytest.mark.parametrize(
    ("options", "scores", "reason", "message"),
    [
        ({"stopping_threshold": 0.2}, [0.5, 0.1, 0.0], EarlyStoppingReason.STOPPING_THRESHOLD, "score=0.1 is better than 0.2"),
        ({"divergence_threshold": 2}, [0.5, 3, 0.0], EarlyStoppingReason.DIVERGENCE_THRESHOLD, "score=3 is worse than 2"),
        (
            {"stopping_threshold": 0.9, "mode": "max"},
            [0.5, 0.95, 1],
            EarlyStoppingReason.STOPPING_THRESHOLD,
            "score=0.95 is better than 0.9",
        ),
        ({}, [0.5, float("nan"), 0.1], EarlyStoppingReason.NON_FINITE_METRIC, "score is nan; the best was 0.5"),
        ({}, [0.5, float("-inf"), 0.1], EarlyStoppingReason.NON_FINITE_METRIC, "score is -inf; the best was 0.5"),
    ],
)
def test_it_stops_at_once_for_another_reason(fit, scripted, options, scores, reason, message):
    stopping = EarlyStopping("score", **options)
    assert epochs_run(fit, scripted, stopping, scores) == 2
    assert stopping.stopping_reason is reason
    assert stopping.stopping_reason_message == message


def test_without_check_finite_a_value_that_is_not_finite_is_no_improvement(fit, scripted):
    stopping = EarlyStopping("score", patience=2, check_finite=False, mode="max")
    assert epochs_run(fit, scripted, stopping, [0.5, float("inf"), 0.6, 0.7]) == 4
    assert stopping.best_score.item() == pytest.approx(0.7)


def test_each_validation_inside_an_epoch_is_checked(fit, scripted):
    trainer = fit(EarlyStopping("score", patience=1), module=scripted([1.0, 2.0, 3.0, 4.0]), val_check_interval=1, max_epochs=2)
    assert trainer.global_step == 2


def test_a_value_is_checked_once_however_many_epochs_pass_without_validation(fit, scripted):
    stopping = EarlyStopping("score", patience=2)
    assert epochs_run(fit, scripted, stopping, [1.0, 1.0, 1.0], check_val_every_n_epoch=2, max_epochs=6) == 6
    assert stopping.wait_count == 2


def test_a_value_is_checked_once_however_many_validations_see_it(fit):
    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            self.log("epoch_loss", 1.0, on_step=False, on_epoch=True)
            return super().training_step(batch, batch_idx)

    stopping = EarlyStopping("epoch_loss", check_on_train_epoch_end=False)
    fit(stopping, module=Module(), val_check_interval=2, max_epochs=3)
    assert stopping.wait_count == 1  # the value of epoch 0 was the best, that of epoch 1 no better


def test_a_value_that_the_module_logs_at_the_end_of_the_epoch_is_seen_in_that_epoch(fit):
    class Module(TinyModule):
        def on_train_epoch_end(self):
            self.log("epoch_score", 1.0 + self.current_epoch)

    trainer = fit(EarlyStopping("epoch_score", patience=1), module=Module(), max_epochs=5)
    assert trainer.current_epoch == 2


def test_min_epochs_are_trained_all_the_same(fit, scripted):
    assert epochs_run(fit, scripted, EarlyStopping("score", patience=1), [1.0, 2.0, 3.0, 4.0], min_epochs=3) == 3


def test_the_sanity_check_is_not_counted(fit):
    class Module(TinyModule):
        def validation_step(self, batch, batch_idx):
            self.log("score", 0.0 if self.trainer.sanity_checking else 1.0 - 0.1 * self.current_epoch)

    assert fit(EarlyStopping("score", patience=1), module=Module(), max_epochs=3).current_epoch == 3


def test_a_fast_development_run_is_not_stopped(fit):
    fit(EarlyStopping("nothing"), fast_dev_run=True)


def test_a_resumed_run_goes_on_waiting(fit, scripted, tmp_path):
    checkpoint = ModelCheckpoint(dirpath=tmp_path)
    first = EarlyStopping("score", patience=3)
    fit(checkpoint, first, module=scripted([1.0, 2.0, 3.0]), max_epochs=3)
    assert first.wait_count == 2
    state = torch.load(checkpoint.best_model_path)["callbacks"]["EarlyStopping{'monitor': 'score', 'mode': 'min'}"]
    counted = {"wait_count": 2, "stopped_epoch": 0, "best_score": 1.0, "stopping_reason": 0}
    assert state == {**counted, "watched": {"taken": True, "measured_at": 12}}

    second = EarlyStopping("score", patience=3)
    trainer = fit(second, module=scripted([4.0, 5.0]), max_epochs=9, ckpt_path=checkpoint.best_model_path)
    assert trainer.current_epoch == 4
    assert second.best_score.item() == 1.0


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_end", "on_train_epoch_end"])
def test_a_run_resumed_anywhere_stops_where_the_whole_one_would(fit, scripted, tmp_path, hook):
    def save(trainer):
        if trainer.stage == "fit" and not trainer.sanity_checking:
            trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt")

    options = {"max_epochs": 12, "check_val_every_n_epoch": 2}
    scores = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    whole = EarlyStopping("score", patience=3, check_on_train_epoch_end=True)
    assert fit(whole, LambdaCallback(**{hook: save}), module=scripted(scores), **options).current_epoch == 8
    for path in tmp_path.glob("*.ckpt"):
        resumed, done = EarlyStopping("score", patience=3, check_on_train_epoch_end=True), torch.load(path)["leyden"]["progress"]
        trainer = fit(resumed, module=scripted(scores[done["validations"] :]), ckpt_path=str(path), **options)
        assert (trainer.current_epoch, resumed.wait_count) == (8, 3)


def test_a_checkpoint_of_the_same_moment_has_the_count_of_that_moment(fit, scripted, tmp_path):
    stopping = EarlyStopping("score")
    for_order = ModelCheckpoint(dirpath=tmp_path, monitor="score", save_top_k=-1)
    fit(for_order, stopping, module=scripted([1.0, 2.0]), val_check_interval=2, max_epochs=1)
    states = [torch.load(path)["callbacks"][stopping.state_key]["wait_count"] for path in for_order.best_k_models]
    assert states == [0, 1]


def test_a_second_fit_starts_anew(fit, scripted):
    stopping = EarlyStopping("score", patience=1)
    trainer = fit(stopping, module=scripted([1.0, 2.0]), max_epochs=4)
    trainer.fit(scripted([3.0, 2.0, 1.0, 0.0]))
    assert trainer.current_epoch == 4
    assert stopping.best_score.item() == 0.0


def test_it_can_be_subclassed_and_asked_inside_a_run(fit, scripted):
    waits = []

    class Watcher(Callback):
        def on_train_epoch_start(self, trainer):
            waits.append(trainer.callbacks[0].wait_count)

    fit(EarlyStopping("score"), Watcher(), module=scripted([1.0, 1.0, 0.5]), max_epochs=3)
    assert waits == [0, 0, 1]


def test_verbose_says_that_the_value_improved(fit, scripted, capsys):
    fit(EarlyStopping("score", verbose=True), module=scripted([0.5, 0.25]))
    assert capsys.readouterr().err == "leyden: score is 0.5\nleyden: score improved from 0.5 to 0.25\n"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mode": "auto"}, ValueError, "EarlyStopping(mode='auto'): expected 'min' or 'max'"),
        ({"patience": -1}, ValueError, "EarlyStopping(patience=-1): expected an int of at least 0, got int -1"),
        ({"patience": 1.5}, TypeError, "EarlyStopping(patience=1.5): expected an int of at least 0, got float 1.5"),
        ({"min_delta": -0.1}, ValueError, "EarlyStopping(min_delta=-0.1): expected a number of at least 0, got float -0.1"),
        (
            {"stopping_threshold": "low"},
            TypeError,
            "EarlyStopping(stopping_threshold='low'): expected a number, got str 'low'",
        ),
        (
            {"check_on_train_epoch_end": "yes"},
            TypeError,
            "EarlyStopping(check_on_train_epoch_end='yes'): expected True or False, got str 'yes'",
        ),
        (
            {"monitor": None},
            TypeError,
            "EarlyStopping(monitor=None): expected the key of a logged value such as 'val_loss', got NoneType None",
        ),
    ],
)
def test_a_wrong_argument_is_refused(arguments, error, message):
    with pytest.raises(error) as raised:
        EarlyStopping(**{"monitor": "val_loss", **arguments})
    assert str(raised.value) == message


def test_it_is_registered_as_early_stopping():
    trainer = Trainer(callbacks=[{"early_stopping": {"monitor": "val_loss", "patience": 7}}], logger=False)
    stopping = next(callback for callback in trainer.callbacks if isinstance(callback, EarlyStopping))
    assert stopping.patience == 7


def test_nothing_counts_before_start_from_epoch(fit, scripted):
    stopping = EarlyStopping("score", patience=1, start_from_epoch=3)
    trainer = fit(stopping, module=scripted([1, 2, 3, 2.5, 2.6, 0]), max_epochs=6)
    assert trainer.current_epoch == 5
    assert float(stopping.best_score) == 2.5


def test_an_improvement_must_beat_the_baseline(fit, scripted):
    stopping = EarlyStopping("score", patience=2, baseline=0.5)
    trainer = fit(stopping, module=scripted([0.9, 0.8, 0.4, 0.3]), max_epochs=4)
    assert trainer.current_epoch == 2
    assert stopping.stopping_reason_message == "score did not improve on 0.5 at 2 checks in a row"


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"verbose": 1}, TypeError, "EarlyStopping(verbose=1): expected True or False, got int 1"),
        ({"strict": None}, TypeError, "EarlyStopping(strict=None): expected True or False, got NoneType None"),
        ({"baseline": "low"}, TypeError, "EarlyStopping(baseline='low'): expected a number, got str 'low'"),
        ({"start_from_epoch": -1}, ValueError, "EarlyStopping(start_from_epoch=-1): expected an int of at least 0, got int -1"),
    ],
)
def test_wrong_switches(options, kind, message, refusal):
    assert refusal(kind, EarlyStopping, "val_loss", **options) == message


@pytest.mark.parametrize(("zero_only", "said"), [(True, [True, False]), (False, [True, True])])
def test_every_rank_may_say_why_it_stops(tmp_path, zero_only, said):
    def train(environment):
        stopping = EarlyStopping("val_loss", stopping_threshold=1e9, log_rank_zero_only=zero_only)
        quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False, "logger": False}
        quiet |= {"accelerator": "cpu", "max_epochs": 3, "default_root_dir": tmp_path, "callbacks": [stopping]}
        trainer = Trainer(environment=environment, devices=2, strategy="ddp", **quiet)
        with contextlib.redirect_stderr(io.StringIO()) as err:
            trainer.fit(TinyModule())
        start = f"leyden: {f'rank {environment.rank}: ' if environment.rank else ''}training stops early in epoch 0: val_loss="
        return trainer.current_epoch, start in err.getvalue()

    assert run_ranks(train) == [(1, told) for told in said]
