"""Hooks limited to every so many steps, or to moments of a run."""

from __future__ import annotations

from types import SimpleNamespace

import leyden as ly
import pytest
from leyden import Callback, Trainer, at, every, hookimpl, when
from leyden.binding import HookError
from leyden.limits import Limit
from leyden.testing import TinyModule


class Recorder(Callback):
    """Notes which hooks were called and after how many steps."""

    def __init__(self):
        self.calls = []

    def note(self, trainer, hook):
        self.calls.append((hook, trainer.global_step))

    def of(self, hook):
        return [step for name, step in self.calls if name == hook]


def recorder(*hooks):
    """A Recorder that answers these hooks."""

    def answer(name):
        def hook(self, trainer, module):
            self.note(trainer, name)

        return hook

    return type("Recorder", (Recorder,), {name: answer(name) for name in hooks})()


@pytest.fixture
def fit(tmp_path):
    def run(*callbacks, module=None, ckpt_path=None, **settings):
        settings = {"max_epochs": 3, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
                    "enable_model_summary": False, "accelerator": "cpu", "default_root_dir": tmp_path, **settings}  # fmt: skip
        trainer = Trainer(callbacks=list(callbacks), **settings)
        trainer.fit(module or TinyModule(), ckpt_path=ckpt_path)  # 4 batches of 4 samples an epoch
        return trainer

    return run


def test_a_callback_is_called_when_every_so_many_steps_are_done(fit):
    callback = every("5 steps", recorder("on_train_batch_end"))
    fit(callback)
    assert callback.of("on_train_batch_end") == [5, 10]


def test_a_number_counts_optimizer_steps(fit):
    callback = every(5, recorder("on_train_batch_end"))
    fit(callback)
    assert callback.of("on_train_batch_end") == [5, 10]


def test_hooks_inside_of_a_step_count_it_as_done(fit):
    callback = every("5 steps", recorder("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end"))
    fit(callback)
    assert callback.calls == [(hook, step + (hook == "on_train_batch_end")) for step in (4, 9)
                              for hook in ("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end")]  # fmt: skip


def test_of_an_accumulated_step_every_batch_is_shown_and_the_end_once(fit):
    callback = every("2 steps", recorder("on_train_batch_start", "on_train_batch_end"))
    fit(callback, accumulate_grad_batches=2, max_epochs=1)
    assert callback.calls == [("on_train_batch_start", 1), ("on_train_batch_start", 1), ("on_train_batch_end", 2)]


@pytest.mark.parametrize(
    ("interval", "steps"),
    [("6 batches", [6, 12]), ("2 epochs", [8]), ("20 samples", [5, 10]), ("0.25 duration", [3, 6, 9, 12]), ("1 h", [])],
)
def test_units(fit, interval, steps):
    callback = every(interval, recorder("on_train_batch_end"))
    fit(callback)
    assert callback.of("on_train_batch_end") == steps


def test_seconds_are_those_since_training_began(fit, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("leyden.limits.time", SimpleNamespace(monotonic=lambda: now[0]))

    class SevenSeconds(Callback):
        def on_before_backward(self):
            now[0] += 7

    callback = every("1 min", recorder("on_train_batch_end"))
    fit(SevenSeconds(), callback, max_epochs=5)
    assert callback.of("on_train_batch_end") == [9, 18]  # after 63 and 126 seconds


def test_an_epochs_hooks_are_limited_together(fit):
    callback = every("2 epochs", recorder("on_train_epoch_start", "on_train_epoch_end"))
    fit(callback, max_epochs=5)
    assert callback.calls == [("on_train_epoch_start", 4), ("on_train_epoch_end", 8),
                              ("on_train_epoch_start", 12), ("on_train_epoch_end", 16)]  # fmt: skip


def test_a_validation_is_limited_as_a_whole(fit):
    hooks = ("on_validation_start", "on_validation_batch_end", "on_validation_end")
    callback = every("2 epochs", recorder(*hooks))
    fit(callback, num_sanity_val_steps=0, max_epochs=2)
    assert callback.calls == [(hooks[0], 8), (hooks[1], 8), (hooks[1], 8), (hooks[2], 8)]


def test_what_is_late_is_called_once(fit):
    callback = every("3 steps", recorder("on_train_epoch_end"))
    fit(callback, limit_train_batches=2, max_epochs=4)
    assert callback.of("on_train_epoch_end") == [4, 6]


def test_at_calls_once_for_each_moment(fit):
    half, twice = at("0.5 duration", recorder("on_train_batch_end")), at(["2 steps", "11 steps"], recorder("on_train_batch_end"))
    fit(half, twice)
    assert (half.of("on_train_batch_end"), twice.of("on_train_batch_end")) == ([6], [2, 11])


def test_a_fraction_of_a_run_by_steps(fit):
    callback = at("0.5 duration", recorder("on_train_batch_end"))
    fit(callback, max_epochs=-1, max_steps=8)
    assert callback.of("on_train_batch_end") == [4]


def test_other_hooks_are_called_as_ever(fit):
    hooks = ("setup", "on_fit_start", "on_train_start", "on_train_batch_end", "on_train_end", "on_fit_end", "teardown")
    callback = every("100 steps", recorder(*hooks))
    fit(callback)
    assert [hook for hook, _ in callback.calls] == [hook for hook in hooks if hook != "on_train_batch_end"]


def test_validation_outside_of_fit_is_not_limited(fit):
    callback = every("100 steps", recorder("on_validation_end"))
    trainer = fit(callback, num_sanity_val_steps=0)
    assert callback.calls == []
    trainer.validate(TinyModule(), verbose=False)
    assert len(callback.calls) == 1


def test_the_callback_stays_what_it_is(fit):
    callback = recorder("on_train_batch_end")
    assert every("5 steps", callback) is callback
    assert fit(callback).callbacks == [callback]


def test_by_name_with_options(fit, monkeypatch):
    made = []

    class GradientNorm(Recorder):
        def __init__(self, power=2):
            super().__init__()
            self.power = power
            made.append(self)

        def on_before_optimizer_step(self, trainer, module, optimizer):
            self.note(trainer, "step")

    monkeypatch.setattr(GradientNorm, "name", "callback_of_this_test", raising=False)
    monkeypatch.setattr("leyden.selection.Callback", GradientNorm)
    fit({"callback_of_this_test": {"power": 1, "every": "5 steps"}}, {"callback_of_this_test": {"at": ["1 step"]}})
    assert [callback.of("step") for callback in made] == [[4, 9], [0]]
    assert [callback.power for callback in made] == [1, 2]


def test_a_decorator_limits_one_method(fit):
    class Mixed(Recorder):
        @every("5 steps")
        def on_train_batch_end(self, trainer):
            self.note(trainer, "limited")

        def on_train_epoch_end(self, trainer):
            self.note(trainer, "free")

    callback = Mixed()
    fit(callback)
    assert callback.calls == [("free", 4), ("limited", 5), ("free", 8), ("limited", 10), ("free", 12)]


def test_a_decorator_limits_a_method_of_the_module(fit):
    class Watched(TinyModule):
        seen = ()

        @ly.at("0.5 duration")
        def on_before_optimizer_step(self, optimizer):
            self.seen = (*self.seen, self.trainer.global_step + 1)

    module = Watched()
    fit(module=module)
    assert module.seen == (6,)


def test_a_limited_wrapper_passes_on_when_it_is_not_due(fit):
    order = []

    class Around(Callback):
        @hookimpl(wrapper=True)
        def on_train_batch_end(self, trainer):
            order.append(("before", trainer.global_step))
            yield

    class Inside(Callback):
        def on_train_batch_end(self, trainer):
            order.append(("inside", trainer.global_step))

    fit(every("3 steps", Around()), Inside(), max_epochs=1)
    assert order == [("inside", 1), ("inside", 2), ("before", 3), ("inside", 3), ("inside", 4)]


def test_every_optimizers_step_of_a_batch_is_let_through(fit):
    class Two(TinyModule):
        def configure_optimizers(self):
            return [super().configure_optimizers(), super().configure_optimizers()]

    callback = every("2 steps", recorder("on_before_optimizer_step"))
    fit(callback, module=Two(), max_epochs=1)
    assert callback.of("on_before_optimizer_step") == [1, 1, 3, 3]


@pytest.mark.parametrize("interval", ["5 steps", "20 samples"])
def test_a_resumed_run_makes_the_calls_of_the_whole_one(fit, tmp_path, interval):
    class Saver(Callback):
        def on_train_batch_end(self, trainer):
            if trainer.global_step == 7:
                trainer.save_checkpoint(tmp_path / "saved.ckpt")

    # The limit is passed at step 5 and told at the epoch's end, step 8; then at 10 and 12.
    whole = every(interval, recorder("on_train_batch_end", "on_train_epoch_end"))
    fit(Saver(), whole)
    resumed = every(interval, recorder("on_train_batch_end", "on_train_epoch_end"))
    fit(resumed, ckpt_path=tmp_path / "saved.ckpt")
    assert whole.of("on_train_batch_end") == [5, 10]
    assert resumed.calls == whole.calls[1:]


def test_a_second_fit_starts_anew(fit):
    callback = every("5 steps", recorder("on_train_batch_end"))
    trainer = fit(callback, max_epochs=2)
    trainer.fit(TinyModule())
    assert callback.of("on_train_batch_end") == [5, 5]


def test_what_is_not_limited_costs_nothing_and_a_limit_leaves_with_its_callback(fit):
    callback = every("5 steps", recorder("on_train_batch_end"))
    trainer = fit(callback)
    trainer.bus.unregister(callback)
    assert not any(isinstance(participant.plugin, Limit) for participant in trainer.bus.participants)
    assert trainer.bus.calls.on_train_batch_end == ()


# ---- bad input ----

UNIT_LIST = "'steps', 'batches', 'epochs', 'samples', 's', 'min', 'h', 'd', 'duration'"


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (every, "100 stepz", f"every('100 stepz'): there is no unit 'stepz'; did you mean 'steps'? Units: {UNIT_LIST}"),
        (every, "often", "every('often'): expected a number and a unit, such as '500 steps'"),
        (every, "0 steps", "every('0 steps'): expected a number above 0, whole but for times"),
        (every, "1.5 epochs", "every('1.5 epochs'): expected a number above 0, whole but for times"),
        (every, 0, "every(0): expected a number of optimizer steps of at least 1"),
        (at, "2 duration", "at('2 duration'): a run ends at '1 duration'; expected at most that"),
        (at, ["1 step", "1 epoch"], "at(['1 step', '1 epoch']): its moments have different units, 'epoch', 'step'; "
                                    "limit the callback to one of them"),
    ],
)  # fmt: skip
def test_bad_intervals(kind, given, message):
    with pytest.raises(ValueError) as error:
        kind(given)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [(every, 1.5, "got float 1.5"), (every, True, "got bool True"), (at, [], "of them, got list []")],
)
def test_intervals_of_the_wrong_type(kind, given, expected):
    several = " or a list of them" if kind is at else ""
    with pytest.raises(TypeError) as error:
        kind(given)
    assert str(error.value) == (
        f"{kind.__name__}({given!r}): expected a number and a unit, such as '100 steps' or '0.5 duration', or a number of "
        f"optimizer steps{several}, {expected.removeprefix('of them, ')}"
    )


def test_a_bad_interval_by_name_says_where(fit):
    with pytest.raises(ValueError) as error:
        fit({"early_stopping": {"monitor": "val_loss", "every": "2 epoch s"}})
    assert str(error.value) == "callbacks[0]: every='2 epoch s': expected a number and a unit, such as '500 steps'"


def test_a_name_is_no_object():
    with pytest.raises(TypeError) as error:
        every("2 epochs", "early_stopping")
    assert str(error.value) == (
        "every='2 epochs' limits an object or a hook method, got str 'early_stopping'; "
        "write {'early_stopping': {'every': '2 epochs'}}"
    )


def test_two_limits_of_one_callback():
    with pytest.raises(ValueError) as error:
        at("1 epoch", every("2 epochs", recorder("on_train_epoch_end")))
    assert str(error.value) == "Recorder is limited to every='2 epochs' already, so at='1 epoch' cannot be added"


def test_a_hook_that_is_called_once_a_run_cannot_be_limited(fit):
    class Wrong(Callback):
        @every("2 steps")
        def on_train_end(self):
            pass

    with pytest.raises(HookError) as error:
        fit(Wrong())
    assert f"{Wrong.__qualname__}." in str(error.value)
    assert (
        str(error.value)
        .removeprefix(Wrong.__qualname__.removesuffix("Wrong"))
        .startswith("Wrong.on_train_end is limited to every='2 steps', but only these can be: 'on_train_epoch_start', ")
    )


def test_a_callback_without_a_hook_to_limit(fit):
    with pytest.raises(HookError) as error:
        fit(every("2 steps", recorder("on_fit_start", "setup")))
    assert str(error.value).startswith(
        "Recorder is limited to every='2 steps', but it answers 'on_fit_start', 'setup'; only these can be limited: "
    )


def test_a_fraction_of_a_run_without_an_end(fit):
    with pytest.raises(ValueError) as error:
        fit(at("0.5 duration", recorder("on_train_batch_end")), max_epochs=-1)
    assert str(error.value) == (
        "Recorder at='0.5 duration': this run has no end to take a fraction of; pass max_epochs, max_steps or max_time to the "
        "Trainer"
    )


def test_samples_that_cannot_be_counted(fit):
    class Odd(TinyModule):
        def train_dataloader(self):
            return [object()]

        def training_step(self, batch, batch_idx):
            return self.layer.weight.sum()

    with pytest.raises(ValueError) as error:
        fit(every("20 samples", recorder("on_train_batch_end")), module=Odd())
    assert str(error.value) == (
        "Recorder every='20 samples': the samples of batch 0 cannot be counted: a batch of type object holds no tensor that "
        "shows its size"
    )


def test_a_condition_is_asked_each_time(fit):
    callback = when(lambda trainer: trainer.global_step % 5 == 1, recorder("on_train_batch_end", "on_before_optimizer_step"))
    fit(callback)
    assert callback.of("on_train_batch_end") == [1, 6, 11]
    assert callback.of("on_before_optimizer_step") == [1, 6, 11]


def test_a_condition_lets_a_validation_through_as_a_whole(fit):
    hooks = ("on_validation_start", "on_validation_batch_end", "on_validation_end")
    callback = recorder(*hooks)
    asked = []

    def condition(trainer):
        asked.append(trainer.global_step)
        return len(asked) == 2

    trainer = fit(when(condition, callback), num_sanity_val_steps=0)
    assert [callback.of(hook) for hook in hooks] == [[8], [8, 8], [8]]
    assert asked == [4, 8, 12]
    trainer.validate(trainer.module, verbose=False)
    assert callback.of("on_validation_end") == [8, 12]


def test_a_condition_above_a_method_and_among_options(fit, monkeypatch):
    class Mixed(Recorder):
        name = "callback_of_this_test"

        @when(lambda trainer: trainer.current_epoch == 1)
        def on_train_batch_end(self, trainer):
            self.note(trainer, "limited")

        def on_train_epoch_end(self, trainer):
            self.note(trainer, "free")

    callback = Mixed()
    fit(callback)
    assert callback.of("limited") == [5, 6, 7, 8]
    assert callback.of("free") == [4, 8, 12]
    monkeypatch.setattr("leyden.selection.Callback", Mixed)
    trainer = fit({"callback_of_this_test": {"when": lambda trainer: trainer.current_epoch == 2}})
    assert trainer.callbacks[0].of("free") == [12]


def test_a_condition_that_is_none():
    with pytest.raises(TypeError) as error:
        when("2 epochs", recorder("on_train_batch_end"))
    assert str(error.value) == "when('2 epochs'): expected a function of the trainer, got str '2 epochs'"
    with pytest.raises(TypeError) as error:
        Trainer(callbacks={"early_stopping": {"monitor": "val_loss", "when": 3}})
    assert str(error.value) == "callbacks: when=3: expected a function of the trainer, got int 3"
    callback = every(2, recorder("on_train_batch_end"))
    with pytest.raises(ValueError, match=r"^Recorder is limited to every=2 already, so when=.* cannot be added$"):
        when(lambda trainer: True, callback)
