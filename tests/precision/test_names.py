"""The names under which leyden-precision registers number formats."""

from __future__ import annotations

import pytest
from leyden import Trainer


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("32-true", "32-true"), (32, "32-true"), ("32", "32-true"), (None, "32-true"), ("64-true", "64-true"), (64, "64-true"),
        ("16-true", "16-true"), ("bf16-true", "bf16-true"), ("16-mixed", "16-mixed"), (16, "16-mixed"), ("16", "16-mixed"),
        ("bf16-mixed", "bf16-mixed"), ("bf16", "bf16-mixed"),
    ],
)  # fmt: skip
def test_each_name_and_alias_gives_its_precision(given, name):
    assert Trainer(precision=given, accelerator="cpu", logger=False).precision.name == name


def test_an_alias_takes_options():
    trainer = Trainer(precision={"16": {"init_scale": 1024.0}}, accelerator="cpu", logger=False)
    trainer.precision.load_state_dict({})
    assert trainer.precision.name == "16-mixed"


def test_bad_scaler_options_are_refused_when_the_trainer_is_built():
    with pytest.raises(ValueError, match="growth_factor") as caught:
        Trainer(precision={"16-mixed": {"growth_factor": 1.0}}, accelerator="cpu", logger=False)
    assert str(caught.value) == (
        "precision='16-mixed': init_scale=65536.0, growth_factor=1.0, backoff_factor=0.5, growth_interval=2000; expected a "
        "positive scale, a growth factor above 1, a backoff factor between 0 and 1, and an interval of at least 1"
    )
