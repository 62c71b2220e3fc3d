"""One process on one device, under its registered name."""

from __future__ import annotations

from leyden import Strategy


class SingleDeviceStrategy(Strategy):
    """One process on one device: :class:`leyden.Strategy` is that plain case, this is the name under which it is chosen."""

    name = "single_device"
