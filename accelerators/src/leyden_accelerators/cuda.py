"""NVIDIA and AMD GPUs through torch.cuda."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from leyden import Accelerator


class CUDAAccelerator(Accelerator):
    """The GPUs that ``torch.cuda`` drives: NVIDIA's, and AMD's with a ROCm build of torch.

    Counting devices and asking whether there are any creates no CUDA context, so that processes can still be forked.
    """

    name = "cuda"
    priority = 100

    @classmethod
    def is_available(cls) -> bool:
        """Whether there is at least one device; asked of the driver's NVML where it has one."""
        # torch.cuda.is_available() initialises the CUDA runtime, which a process forked later cannot use.
        return cls.device_count() > 0

    @classmethod
    def device_count(cls) -> int:
        """How many devices there are, those that ``CUDA_VISIBLE_DEVICES`` hides not counted."""
        return torch.cuda.device_count()

    @classmethod
    def absence(cls) -> str:
        """Why there is no device, for messages."""
        if torch.version.cuda is None and torch.version.hip is None:
            return "torch is a CPU build"
        build = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = f" and CUDA_VISIBLE_DEVICES is {visible!r}" if visible is not None else ""
        return f"torch is built for {build} but finds no device{hidden}"

    def device(self, index: int) -> torch.device:
        """``cuda:index``."""
        return torch.device("cuda", index)

    def parse_devices(self, devices: int | str | Sequence[int]) -> list[int]:
        """Turns the Trainer's ``devices`` into indices, as :meth:`leyden.Accelerator.parse_devices` does.

        Raises:
            ValueError: there is no CUDA device at all, or ``devices`` names one that does not exist.
        """
        if not self.is_available():
            raise ValueError(
                f"accelerator='cuda' was asked for but there is no CUDA device here ({self.absence()}); use accelerator='auto'"
            )
        return super().parse_devices(devices)

    def setup(self, device: torch.device) -> None:
        """Makes ``device`` the process's current one, so that what names only ``"cuda"`` lands on it."""
        torch.cuda.set_device(device)

    def teardown(self) -> None:
        """Gives cached memory back to the driver; does nothing where CUDA was never used."""
        torch.cuda.empty_cache()

    def synchronize(self, device: torch.device) -> None:
        """Waits for all streams of ``device``."""
        torch.cuda.synchronize(device)

    def stats(self, device: torch.device) -> dict[str, float]:
        """Memory of ``device`` as torch's caching allocator and the driver count it; waits for nothing.

        Returns:
            ``memory_allocated_bytes`` and ``memory_reserved_bytes`` of this process now; ``memory_allocated_peak_bytes`` and
            ``memory_reserved_peak_bytes`` since its start or the last ``torch.cuda.reset_peak_memory_stats``;
            ``allocation_retries_count`` and ``out_of_memory_count`` of this process; ``memory_free_bytes`` and
            ``memory_total_bytes`` of the device.
        """
        counted = torch.cuda.memory_stats(device)
        free, total = torch.cuda.mem_get_info(device)
        return {
            "memory_allocated_bytes": float(counted.get("allocated_bytes.all.current", 0)),
            "memory_allocated_peak_bytes": float(counted.get("allocated_bytes.all.peak", 0)),
            "memory_reserved_bytes": float(counted.get("reserved_bytes.all.current", 0)),
            "memory_reserved_peak_bytes": float(counted.get("reserved_bytes.all.peak", 0)),
            "memory_free_bytes": float(free),
            "memory_total_bytes": float(total),
            "allocation_retries_count": float(counted.get("num_alloc_retries", 0)),
            "out_of_memory_count": float(counted.get("num_ooms", 0)),
        }
