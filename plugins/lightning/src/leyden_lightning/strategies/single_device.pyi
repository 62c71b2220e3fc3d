"""Lightning's ``strategies.single_device``, for type checkers; written by tools/make_stubs.py."""

from leyden_strategies.single_device import SingleDeviceStrategy as SingleDeviceStrategy
