"""How processes and devices share the work of a leyden run."""

from leyden_strategies.single_device import SingleDeviceStrategy

__all__ = ["SingleDeviceStrategy"]
