"""Loggers and callbacks that fail, and what becomes of the run."""

from __future__ import annotations

import pytest
from leyden import Callback, Logger, Trainer
from leyden.testing import TinyModule

QUIET = {
    "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
    "log_every_n_steps": 1, "max_epochs": 1, "logger": False,
}  # fmt: skip


def trainer(**arguments):
    return Trainer(**{**QUIET, **arguments})


class Recorder(Logger):
    """Notes the steps that it was given, and what else was called."""

    def __init__(self):
        self.steps, self.calls = [], []

    def log_metrics(self, metrics, step):
        self.steps.append(step)

    def after_save_checkpoint(self, path):
        self.calls.append("after_save_checkpoint")

    def finalize(self, status):
        self.calls.append("finalize")


class Dead(Recorder):
    """Its server goes away after two steps."""

    def log_metrics(self, metrics, step):
        super().log_metrics(metrics, step)
        if step >= 2:
            raise ConnectionError("the server is gone")


def test_a_logger_that_fails_is_left_out_and_the_run_goes_on_and_lists_it_at_its_end(capsys):
    dead, alive = Dead(), Recorder()
    run = trainer(logger=[dead, alive])
    run.fit(TinyModule())
    assert dead.steps == [0, 1, 2]
    assert alive.steps == [0, 1, 2, 3, 3]
    assert dead.calls == ["finalize"]
    failure = "logger Dead, whose log_metrics raised ConnectionError: the server is gone after step 3"
    assert capsys.readouterr().err.splitlines() == [
        f"leyden: from now on the run goes on without {failure}; on_plugin_error={{'logger': 'raise'}} ends it there [LY019]",
        f"leyden: the run was without {failure} [LY020]",
    ]
    assert [str(failure) for failure in run.quarantine.failures] == [failure]


def test_a_test_after_the_fit_leaves_it_out_too_and_the_next_fit_tries_it_again():
    class Opening(Dead):
        def log_hyperparams(self, params, metrics=None):
            self.calls.append("log_hyperparams")

    dead = Opening()
    run = trainer(logger=dead)
    run.fit(TinyModule())
    run.test(verbose=False)
    assert dead.calls == ["log_hyperparams", "finalize", "finalize"]
    run.fit(TinyModule())
    assert dead.calls[3:] == ["log_hyperparams", "finalize"]


@pytest.mark.parametrize("policy", ["raise", {"logger": "raise"}])
def test_a_logger_that_fails_ends_the_run_where_that_is_asked_for(policy):
    dead = Dead()
    with pytest.raises(ConnectionError, match=r"^the server is gone$"):
        trainer(logger=dead, on_plugin_error=policy).fit(TinyModule())
    assert dead.steps == [0, 1, 2]


def test_what_fails_before_the_first_step_ends_the_run():
    class Unopened(Recorder):
        def log_hyperparams(self, params, metrics=None):
            raise ConnectionError("nobody there")

    with pytest.raises(ConnectionError, match=r"^nobody there$"):
        trainer(logger=Unopened(), on_plugin_error="quarantine").fit(TinyModule())


@pytest.mark.parametrize("hook", ["setup", "on_fit_start", "on_train_start", "on_validation_epoch_start"])
def test_a_callback_that_fails_before_the_first_step_ends_the_run(hook):
    # Validation begins with the sanity check.
    callback = type("Failing", (Callback,), {hook: lambda self, trainer, module: 1 / 0})()
    if hook == "setup":
        callback = type("Failing", (Callback,), {hook: lambda self, trainer, module, stage: 1 / 0})()
    with pytest.raises(ZeroDivisionError):
        trainer(callbacks=callback, on_plugin_error="quarantine").fit(TinyModule())


@pytest.mark.parametrize("method", ["after_save_checkpoint", "finalize"])
def test_whatever_method_of_a_logger_fails_the_run_goes_on(method, tmp_path):
    def fail(self, argument):
        raise OSError("disk full")

    class Saving(TinyModule):
        def on_train_epoch_end(self):
            self.trainer.save_checkpoint(tmp_path / "a.ckpt")

    logger = type("Failing", (Recorder,), {method: fail})()
    run = trainer(logger=logger)
    run.fit(Saving())
    assert [(failure.where, failure.error) for failure in run.quarantine.failures] == [(method, "OSError: disk full")]


def test_a_finalize_that_fails_after_an_error_is_a_note_of_that_error():
    class Failing(TinyModule):
        def training_step(self, batch, batch_idx):
            raise ZeroDivisionError("mine")

    class Stuck(Recorder):
        def finalize(self, status):
            raise OSError("disk full")

    with pytest.raises(ZeroDivisionError) as error:
        trainer(logger=Stuck()).fit(Failing())
    assert error.value.__notes__ == ["afterwards, Stuck.finalize raised OSError: disk full"]


class Counting(Callback):
    """Fails at its second batch."""

    def __init__(self):
        self.batches = 0

    def on_train_batch_end(self):
        self.batches += 1
        if self.batches == 2:
            raise KeyError("mine")


def test_a_callback_that_fails_ends_the_run_unless_told_otherwise():
    with pytest.raises(KeyError, match="mine"):
        trainer(callbacks=Counting()).fit(TinyModule())
    with pytest.raises(KeyError, match="mine"):
        trainer(callbacks=Counting(), on_plugin_error={"logger": "quarantine"}).fit(TinyModule())


@pytest.mark.parametrize("policy", ["quarantine", {"callback": "quarantine"}])
def test_a_callback_can_be_left_out_too(policy, capsys):
    class Other(Counting):
        def on_train_batch_end(self):
            self.batches += 1

    first, second = Counting(), Other()
    run = trainer(callbacks=[first, second], on_plugin_error=policy)
    run.fit(TinyModule())
    assert (run.global_step, first.batches, second.batches) == (4, 2, 4)
    failure = "callback Counting, whose on_train_batch_end raised KeyError: 'mine' after step 2"
    assert f"leyden: the run was without {failure} [LY020]\n" in capsys.readouterr().err


def test_a_callback_that_is_watched_can_still_skip_the_epoch():
    class Skipping(Callback):
        def on_train_batch_start(self, batch_idx):
            return -1 if batch_idx == 2 else None

    run = trainer(callbacks=Skipping(), on_plugin_error="quarantine")
    run.fit(TinyModule())
    assert run.global_step == 2


def test_ctrl_c_is_no_failure_of_a_callback():
    class Interrupting(Callback):
        def on_train_batch_end(self):
            raise KeyboardInterrupt

    run = trainer(callbacks=Interrupting(), on_plugin_error="quarantine")
    with pytest.raises(KeyboardInterrupt):
        run.fit(TinyModule())
    assert run.quarantine.failures == []


def test_nothing_is_put_around_a_hook_that_may_end_the_run():
    callback = Counting()
    run = trainer(callbacks=callback)
    watched = trainer(callbacks=callback, on_plugin_error="quarantine")
    assert [call.__qualname__ for call in run.bus.calls.on_train_batch_end] == ["Counting.on_train_batch_end"]
    assert [call.__qualname__ for call in watched.bus.calls.on_train_batch_end] == ["Quarantine.wrap.<locals>.guarded"]


EXPECTED = "expected 'raise', 'quarantine', or a dict of these such as {'logger': 'quarantine', 'callback': 'raise'}"


@pytest.mark.parametrize(
    ("given", "kind", "shown"),
    [
        ("ignore", ValueError, "str 'ignore'"),
        ({"loggers": "raise"}, ValueError, "dict {'loggers': 'raise'}"),
        ({"logger": True}, ValueError, "dict {'logger': True}"),
        (True, TypeError, "bool True"),
    ],
)
def test_another_policy_is_refused(given, kind, shown):
    with pytest.raises(kind) as error:
        Trainer(on_plugin_error=given)
    assert str(error.value) == f"Trainer(on_plugin_error={given!r}): {EXPECTED}, got {shown}"


# ---- which plug-in it was ----


def test_an_error_of_an_installed_plug_in_names_its_distribution(monkeypatch):
    from leyden_callbacks import EarlyStopping

    def fail(self, *args):
        raise ZeroDivisionError

    monkeypatch.setattr(EarlyStopping, "on_validation_end", fail)
    with pytest.raises(ZeroDivisionError) as error:
        trainer(callbacks={"early_stopping": {"monitor": "val_loss"}}, num_sanity_val_steps=0).fit(TinyModule())
    [note] = error.value.__notes__
    assert note.startswith("in plug-in EarlyStopping (leyden-callbacks 0.")
    assert note.endswith("): fail")


def test_an_error_of_the_users_own_code_below_a_plug_in_names_none(tmp_path):
    class Failing(TinyModule):
        def on_save_checkpoint(self, checkpoint):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as error:
        trainer(callbacks={"checkpoint": {"dirpath": tmp_path}}, enable_checkpointing=True).fit(Failing())
    assert not hasattr(error.value, "__notes__")


def test_an_error_of_a_function_that_was_given_a_part_names_none():
    def check(strategy):
        raise ZeroDivisionError

    class Failing(TinyModule):
        def on_fit_start(self):
            check(self.trainer.strategy)

    with pytest.raises(ZeroDivisionError) as error:
        trainer(strategy="single_device").fit(Failing())
    assert not hasattr(error.value, "__notes__")
