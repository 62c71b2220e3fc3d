"""Lightning's ``plugins.training_type.ddp``, for type checkers; written by tools/make_stubs.py."""

from leyden_strategies.ddp import DDPStrategy as _DDPStrategy

DDPPlugin = _DDPStrategy
