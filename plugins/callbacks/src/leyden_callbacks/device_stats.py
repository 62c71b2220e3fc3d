"""Records what the device says of its memory and load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leyden import Callback

from leyden_callbacks.arguments import check_bool
from leyden_callbacks.log_points import LogPoints

if TYPE_CHECKING:
    import torch
    from leyden import Module, Trainer


class DeviceStatsMonitor(Callback):
    """Gives loggers the statistics of the device at each log point, and those of the machine's processors if asked.

    The keys are ``device/<name>``, such as ``device/memory_allocated_bytes``, and ``cpu/percent``, ``cpu/memory_percent``,
    ``cpu/swap_percent`` and ``cpu/process_memory_bytes``. Where a process trains on several devices, as under ``strategy="dp"``,
    each has keys of its own, ``device/<index>/<name>``. Nothing is waited for.

    Args:
        cpu_stats: whether to record the processors too; None does so where the run trains on them.

    Raises:
        TypeError: it is neither a bool nor None.
        ImportError: processors are to be recorded and psutil is not installed.
    """

    name = "device_stats"

    def __init__(self, cpu_stats: bool | None = None) -> None:
        if cpu_stats is not None:
            check_bool(type(self).__name__, "cpu_stats", cpu_stats)
        if cpu_stats:
            _psutil()
        self.cpu_stats = cpu_stats
        self._process: Any = None
        self._log_points = LogPoints()

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Refuses a run that has nowhere to record to, or nothing to record.

        Raises:
            ValueError: the run has no logger.
            ImportError: psutil is needed and not installed.
        """
        if stage != "fit" or trainer.fast_dev_run:
            return
        if not trainer.loggers:
            raise ValueError(
                f"{type(self).__name__} has no logger to give statistics to; pass Trainer(logger='csv') or another one, "
                f"or leave out the callback"
            )
        self._process = None
        if self.cpu_stats or (self.cpu_stats is None and trainer.strategy.device.type == "cpu"):
            psutil = _psutil()
            self._process = psutil.Process()
            psutil.cpu_percent()  # the first call says 0: it is since the call before

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Records from here on."""
        self._log_points.start(trainer)

    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Records at log points."""
        if not self._log_points.is_reached(trainer) or not trainer.is_global_zero:
            return
        module.log_dict(self.stats(trainer), on_step=True, on_epoch=False, rank_zero_only=True)

    def _devices(self, trainer: Trainer) -> list[tuple[str, torch.device]]:
        """The devices of this process, and what their keys begin with."""
        own = {"device": trainer.strategy.device}
        if trainer.strategy.replicas > 1:
            several = {trainer.accelerator.device(index): f"device/{index}" for index in reversed(trainer.device_ids)}
            if len(several) > 1:  # simulated ones are all the same
                own = {prefix: device for device, prefix in reversed(several.items())}
        return list(own.items())

    def stats(self, trainer: Trainer) -> dict[str, float]:
        """What it records, as of now."""
        found: dict[str, float] = {}
        for prefix, device in self._devices(trainer):
            found |= {f"{prefix}/{name}": float(value) for name, value in trainer.accelerator.stats(device).items()}
        if self._process is not None:
            psutil = _psutil()
            found |= {
                "cpu/percent": float(psutil.cpu_percent()),
                "cpu/memory_percent": float(psutil.virtual_memory().percent),
                "cpu/swap_percent": float(psutil.swap_memory().percent),
                "cpu/process_memory_bytes": float(self._process.memory_info().rss),
            }
        return found


def _psutil() -> Any:
    try:
        import psutil  # type: ignore[import-untyped]  # its stubs are another package
    except ImportError as error:
        raise ImportError(
            "DeviceStatsMonitor needs psutil for the processors, which is not installed; run: "
            'pip install "leyden-callbacks[psutil]", or pass cpu_stats=False'
        ) from error
    return psutil
