"""Lightning's ``core.mixins.hparams_mixin``, for type checkers; written by tools/make_stubs.py."""

from leyden.hparams import HyperparametersMixin as HyperparametersMixin
