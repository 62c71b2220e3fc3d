"""Lightning's ``core.mixins``, for type checkers; written by tools/make_stubs.py."""

from leyden.hparams import HyperparametersMixin as HyperparametersMixin
from leyden_lightning.api.tools import DeviceDtypeModuleMixin as DeviceDtypeModuleMixin
