"""Apple GPUs through torch.mps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from leyden import Accelerator


class MPSAccelerator(Accelerator):
    """The GPU of an Apple machine; there is at most one."""

    name = "mps"
    priority = 90

    @classmethod
    def is_available(cls) -> bool:
        """Whether torch has Metal support and the machine a GPU for it."""
        return torch.backends.mps.is_available()

    @classmethod
    def device_count(cls) -> int:
        """1 or 0."""
        return int(cls.is_available())

    @classmethod
    def absence(cls) -> str:
        """Why there is no device, for messages."""
        if not torch.backends.mps.is_built():
            return "torch is built without MPS"
        return "torch is built with MPS but finds no device: it needs macOS 14 or newer"

    def device(self, index: int) -> torch.device:
        """``mps:0``, whatever the index."""
        return torch.device("mps", 0)

    def parse_devices(self, devices: int | str | Sequence[int]) -> list[int]:
        """Turns the Trainer's ``devices`` into indices, as :meth:`leyden.Accelerator.parse_devices` does.

        Raises:
            ValueError: there is no MPS device, or ``devices`` asks for more than the one.
        """
        if not self.is_available():
            raise ValueError(
                f"accelerator='mps' was asked for but there is no MPS device here ({self.absence()}); use accelerator='auto'"
            )
        return super().parse_devices(devices)

    def teardown(self) -> None:
        """Gives cached memory back to the system."""
        if self.is_available():  # torch.mps.empty_cache fails without a device
            torch.mps.empty_cache()

    def synchronize(self, device: torch.device) -> None:
        """Waits for all streams of the device."""
        torch.mps.synchronize()

    def stats(self, device: torch.device) -> dict[str, float]:
        """Memory of the device as torch and Metal count it; waits for nothing.

        Returns:
            ``memory_allocated_bytes`` (tensors), ``memory_driver_bytes`` (all that Metal gave this process) and
            ``memory_recommended_max_bytes`` (above which the system may slow down).
        """
        return {
            "memory_allocated_bytes": float(torch.mps.current_allocated_memory()),
            "memory_driver_bytes": float(torch.mps.driver_allocated_memory()),
            "memory_recommended_max_bytes": float(torch.mps.recommended_max_memory()),
        }
