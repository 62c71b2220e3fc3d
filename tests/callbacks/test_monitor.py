"""A monitor that nobody logs is refused, as early as that is certain."""

import pytest
from leyden import Callback, LeydenWarning
from leyden.testing import TinyModule
from leyden_callbacks import EarlyStopping, ModelCheckpoint
from leyden_callbacks.monitor import mistyped


class Untrained(TinyModule):
    def training_step(self, batch, batch_idx):
        raise AssertionError("training began")


class Epochs(Callback):
    count = 0

    def on_train_epoch_start(self):
        self.count += 1


@pytest.mark.parametrize("kind", [ModelCheckpoint, EarlyStopping])
def test_a_mistyped_key_of_the_validation_is_refused_after_the_sanity_check(fit, kind):
    with pytest.raises(ValueError) as error:  # the whole message is compared
        fit(kind(monitor="val_los"), module=Untrained())
    assert str(error.value) == (
        f"{kind.__name__}(monitor='val_los'): 'val_los' was not logged; did you mean 'val_loss'? Logged: 'val_acc', 'val_loss'; "
        f"log it with self.log('val_los', value) or monitor one of these"
    )


@pytest.mark.parametrize("kind", [ModelCheckpoint, EarlyStopping])
def test_a_key_that_nobody_logged_in_the_first_epoch_is_refused_at_its_end(fit, kind):
    epochs = Epochs()
    with pytest.raises(ValueError) as error:  # the whole message is compared
        fit(epochs, kind(monitor="accuracy"))
    assert epochs.count == 1
    assert str(error.value) == (
        f"{kind.__name__}(monitor='accuracy'): 'accuracy' was not logged. Logged: 'train_loss', 'val_acc', 'val_loss'; "
        f"log it with self.log('accuracy', value) or monitor one of these"
    )


def test_a_key_that_only_training_logs_is_accepted(fit):
    fit(ModelCheckpoint(monitor="train_loss"), EarlyStopping("train_loss"))


def test_a_key_of_a_validation_that_is_yet_to_come_is_waited_for(fit):
    epochs = Epochs()
    fit(epochs, ModelCheckpoint(monitor="val_loss"), check_val_every_n_epoch=3, max_epochs=3, num_sanity_val_steps=0)
    assert epochs.count == 3


def test_a_key_that_is_never_logged_in_training_without_an_end_is_refused_after_a_validation(fit):
    def forever():
        while True:
            yield from TinyModule().train_dataloader()

    class Endless(TinyModule):
        def train_dataloader(self):
            return forever()

    with pytest.raises(ValueError, match="'accuracy' was not logged"):
        fit(
            ModelCheckpoint(monitor="accuracy"),
            module=Endless(),
            val_check_interval=3,
            check_val_every_n_epoch=None,
            max_epochs=-1,
            max_steps=100,
        )


def test_early_stopping_that_is_not_strict_warns_once(fit):
    with pytest.warns(LeydenWarning) as warned:
        fit(EarlyStopping("accuracy", strict=False), max_epochs=3)
    assert [str(warning.message) for warning in warned] == [
        "EarlyStopping(monitor='accuracy'): nothing logs 'accuracy', so it never stops training; strict=True makes this an error"
    ]


@pytest.mark.parametrize("key", ["val_los", "val/loss", "valid_loss", "vall_oss", "Val_loss"])
def test_these_are_taken_for_val_loss_mistyped(key):
    assert mistyped(key, ["val_loss", "val_acc"])


@pytest.mark.parametrize("key", ["train_loss", "loss", "val_loss_2", "val_accuracy", "val_loss_a"])
def test_these_are_not(key):
    assert not mistyped(key, ["val_loss", "val_acc", "val_loss_1", "val_loss_b"])


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        (ModelCheckpoint(save_on_train_epoch_end=False), "ModelCheckpoint(save_on_train_epoch_end=False) saves"),
        (EarlyStopping("train_loss", check_on_train_epoch_end=False), "EarlyStopping(check_on_train_epoch_end=False) checks"),
    ],
)
def test_what_waits_for_validations_in_a_run_without_says_so(fit, callback, said):
    message = f"{said} after validations, and this run has none, so that it never does; leave that out"
    with pytest.warns(LeydenWarning) as warned:
        fit(callback, limit_val_batches=0, max_epochs=1)
    assert [str(warning.message) for warning in warned] == [message]
