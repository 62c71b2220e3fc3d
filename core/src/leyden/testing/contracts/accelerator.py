"""What core relies on in an accelerator."""

from __future__ import annotations

import math
import unittest
from pathlib import Path

import torch

from leyden.accelerator import Accelerator
from leyden.testing.contracts.runs import (
    Breakdown,
    FailingModule,
    difference,
    introduced,
    plainly_trained,
    quiet,
    refusal,
    tiny,
    weights,
)


class AcceleratorContract:
    """Subclass it as ``class TestAcme(AcceleratorContract)`` and return an accelerator from :meth:`accelerator`.

    Tests that need a device are skipped where there is none.
    """

    tolerance: float = 1e-4
    """How far weights trained for one epoch may be from those trained on the CPU, as an absolute difference."""

    def accelerator(self) -> Accelerator:
        """A new accelerator."""
        raise NotImplementedError(f"{type(self).__name__}.accelerator must return the accelerator to test")

    def _present(self) -> Accelerator:
        accelerator = self.accelerator()
        if not accelerator.is_available():
            raise unittest.SkipTest(f"there is no {accelerator.name} device here")
        return accelerator

    def test_says_who_it_is(self) -> None:
        accelerator = self.accelerator()
        introduced(accelerator, Accelerator)
        assert isinstance(accelerator.priority, int), f"priority={accelerator.priority!r} must be an int"

    def test_availability_agrees_with_the_count(self) -> None:
        accelerator = self.accelerator()
        available, count = accelerator.is_available(), accelerator.device_count()
        assert isinstance(available, bool), f"is_available() returned {available!r}, not a bool"
        assert count is None or (isinstance(count, int) and count >= 0), f"device_count() returned {count!r}"
        assert count is None or available == (count > 0), f"is_available() is {available} but device_count() is {count}"

    def test_refuses_devices_that_do_not_exist(self) -> None:
        accelerator = self._present()
        for devices in (0, [], [0, 0], [-1], "many"):
            refusal(ValueError, accelerator.parse_devices, devices)
        count = accelerator.device_count()
        if count is not None:
            for beyond in (count + 1, [count]):
                refusal(ValueError, accelerator.parse_devices, beyond)

    def test_every_device_holds_a_tensor(self) -> None:
        accelerator = self._present()
        indices = accelerator.parse_devices("auto")
        assert indices, "devices='auto' means no device"
        assert accelerator.parse_devices(1) == indices[:1], "devices=1 is not the first device"
        devices = [accelerator.device(index) for index in indices]
        if accelerator.device_count() is not None:
            assert len(set(devices)) == len(devices), f"indices {indices} share devices: {devices}"
        for device in devices:
            accelerator.setup(device)
            assert torch.ones(2, device=device).sum().item() == 2.0, f"{device} does not compute"
        accelerator.teardown()

    def test_trains_as_the_cpu_does(self, tmp_path: Path) -> None:
        module = tiny()
        quiet(tmp_path, accelerator=self._present()).fit(module)
        apart = difference(weights(module), weights(plainly_trained(tmp_path)))
        assert apart <= self.tolerance, f"after one epoch the weights are {apart} from those trained on the CPU"

    def test_the_module_is_back_on_the_cpu_after_a_run(self, tmp_path: Path) -> None:
        module = tiny()
        quiet(tmp_path, accelerator=self._present()).fit(module)
        assert module.layer.weight.device.type == "cpu", f"the weights stayed on {module.layer.weight.device}"

    def test_serves_several_runs_and_survives_a_failed_one(self, tmp_path: Path) -> None:
        trainer = quiet(tmp_path, accelerator=self._present())
        refusal(Breakdown, trainer.fit, tiny(FailingModule))
        module = tiny()
        trainer.fit(module)
        trainer.validate(module)

    def test_teardown_can_be_called_again(self) -> None:
        accelerator = self._present()
        accelerator.setup(accelerator.device(accelerator.parse_devices(1)[0]))
        accelerator.teardown()
        accelerator.teardown()
        self.accelerator().teardown()  # one that was never set up

    def test_stats_are_numbers_by_name(self) -> None:
        accelerator = self._present()
        device = accelerator.device(accelerator.parse_devices(1)[0])
        accelerator.setup(device)
        accelerator.synchronize(device)
        stats = accelerator.stats(device)
        assert isinstance(stats, dict), f"stats() returned {stats!r}, not a dict"
        for name, value in stats.items():
            assert isinstance(name, str), f"stats() has the key {name!r}, which is not a string"
            assert isinstance(value, float), f"stats()[{name!r}] is {value!r}, not a float"
            assert math.isfinite(value), f"stats()[{name!r}] is {value!r}, not finite"
        accelerator.teardown()
