"""Lightning's ``core.mixins.device_dtype_mixin``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import DeviceDtypeModuleMixin as DeviceDtypeModuleMixin
