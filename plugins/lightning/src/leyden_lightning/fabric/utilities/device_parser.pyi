"""Lightning's ``fabric.utilities.device_parser``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import num_cuda_devices as num_cuda_devices
