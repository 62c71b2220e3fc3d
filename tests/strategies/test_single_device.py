"""One process on one device."""

from __future__ import annotations

import pytest
from leyden import Strategy, Trainer
from leyden_strategies import SingleDeviceStrategy


def test_the_registered_name_is_the_plain_case():
    trainer = Trainer(strategy="single_device", accelerator="cpu", logger=False)
    assert isinstance(trainer.strategy, SingleDeviceStrategy)
    overridden = set(vars(SingleDeviceStrategy)) & {name for name in vars(Strategy) if not name.startswith("_")}
    assert overridden == {"name"}


def test_auto_is_one_device_where_there_is_one():
    trainer = Trainer(strategy="auto", accelerator="cpu", devices=1, logger=False)
    assert trainer.strategy.name == "single_device"


def test_several_devices_are_an_error():
    with pytest.raises(ValueError, match="single_device") as caught:
        Trainer(strategy="single_device", accelerator="cpu", devices=2, logger=False)
    assert str(caught.value) == (
        "strategy='single_device' drives one device on one node, not 2 devices on 1 node(s); pass devices=1 or choose a strategy "
        "for several"
    )
