"""Which devices there are, and how to talk to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from leyden.component import Component
from leyden.interrupts import in_notebook
from leyden.messages import quoted, shown


class Accelerator(Component):
    """The CPU; subclasses override what differs.

    ``accelerator="auto"`` takes the registered accelerator of the highest ``priority`` that is available, a stranger's
    as well as ours.
    """

    group = "leyden.accelerators"
    kind = "accelerator"
    name = "cpu"

    priority: ClassVar[int] = 0
    """Higher wins under ``accelerator="auto"``. Ours: cpu 0, mps 90, cuda 100."""

    @classmethod
    def is_available(cls) -> bool:
        """Whether this machine has at least one such device, asked without touching it."""
        return True

    @classmethod
    def device_count(cls) -> int | None:
        """How many devices there are; None where each process is its own device, as on the CPU."""
        return None

    @classmethod
    def auto_device_count(cls) -> int:
        """How many devices ``devices="auto"`` means."""
        return cls.device_count() or 1

    def device(self, index: int) -> torch.device:
        """The device of the given index, from 0."""
        return torch.device("cpu")

    def parse_devices(self, devices: int | str | Sequence[int]) -> list[int]:
        """Turns the Trainer's ``devices`` into indices: a count, a list, ``"0,2"``, ``-1`` for all, ``"auto"``.

        ``"auto"`` is all devices; in a notebook, where processes do not start as in scripts, one if they can be counted.

        Raises:
            ValueError: for a device that does not exist, a device given twice, or none at all.
        """
        available = self.device_count()
        wanted: int | list[int]
        if isinstance(devices, str):
            text = devices.strip()
            try:
                if text == "auto":
                    wanted = 1 if available and in_notebook() else self.auto_device_count()
                elif "," in text:
                    wanted = [int(part) for part in text.split(",") if part.strip()]
                else:
                    wanted = int(text)
            except ValueError:
                raise ValueError(
                    f"devices={quoted(devices)}: expected 'auto', a count such as 2, or indices such as '0,1'"
                ) from None
        elif isinstance(devices, int):
            wanted = devices
        else:
            wanted = list(devices)
            for index in wanted:
                if not isinstance(index, int) or isinstance(index, bool):
                    raise ValueError(f"devices={quoted(devices)}: expected indices such as [0, 1], got {shown(index)}")
        if wanted == -1:
            wanted = self.auto_device_count()
        if isinstance(wanted, int):
            if wanted < 1:
                raise ValueError(f"devices={quoted(devices)} is no device at all; pass a count of at least 1, or -1 for all")
            if available is not None and wanted > available:
                raise ValueError(
                    f"devices={quoted(devices)} but accelerator {self.name!r} has {available} on this machine; "
                    f"pass devices={available} or another accelerator"
                )
            return list(range(wanted))
        if not wanted:
            raise ValueError(f"devices={quoted(devices)} is no device at all; pass a count of at least 1, or -1 for all")
        if len(set(wanted)) < len(wanted):
            raise ValueError(f"devices={quoted(devices)} names a device twice")
        for index in wanted:
            if index < 0 or (available is not None and index >= available):
                known = "indices are not negative" if available is None else f"accelerator {self.name!r} has 0 to {available - 1}"
                raise ValueError(f"devices={quoted(devices)}: there is no device {index}; {known}")
        return wanted

    def setup(self, device: torch.device) -> None:
        """Called in each process before the module is moved to ``device``."""

    def teardown(self) -> None:
        """Called in each process at the end of a run."""

    def synchronize(self, device: torch.device) -> None:
        """Waits until ``device`` has done all it was asked to do; for measurements only, the loop never calls it."""

    def stats(self, device: torch.device) -> dict[str, float]:
        """Memory and load of ``device``, by name with the unit in it, such as ``"memory_allocated_bytes"``."""
        return {}
