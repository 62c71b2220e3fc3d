"""Which callbacks a Trainer gets without being given them."""

import pytest
from leyden import Callback, Trainer
from leyden_callbacks import ModelCheckpoint, RichProgressBar


def classes(**arguments):
    return [type(callback).__name__ for callback in Trainer(logger=False, **arguments).callbacks]


def test_a_trainer_has_a_bar_a_summary_and_checkpoints():
    assert classes() == ["TQDMProgressBar", "ModelSummary", "ModelCheckpoint"]


@pytest.mark.parametrize(
    ("switch", "missing"),
    [
        ("enable_progress_bar", "TQDMProgressBar"),
        ("enable_model_summary", "ModelSummary"),
        ("enable_checkpointing", "ModelCheckpoint"),
    ],
)
def test_each_can_be_switched_off(switch, missing):
    assert classes(**{switch: False}) == [
        name for name in ["TQDMProgressBar", "ModelSummary", "ModelCheckpoint"] if name != missing
    ]


def test_one_that_was_given_is_not_added_again():
    assert classes(callbacks=[RichProgressBar(), ModelCheckpoint(save_top_k=0)]) == [
        "RichProgressBar",
        "ModelSummary",
        "ModelCheckpoint",
    ]


def test_a_strangers_callback_that_has_the_role_takes_the_place():
    class Bar(Callback):
        role = "progress_bar"

    assert classes(callbacks=[Bar()]) == ["Bar", "ModelSummary", "ModelCheckpoint"]


def test_a_fast_development_run_saves_no_checkpoint():
    assert classes(fast_dev_run=True) == ["TQDMProgressBar", "ModelSummary"]


def test_a_bare_trainer_has_none():
    assert classes(barebones=True) == []
