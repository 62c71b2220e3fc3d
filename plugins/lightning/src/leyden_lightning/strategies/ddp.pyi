"""Lightning's ``strategies.ddp``, for type checkers; written by tools/make_stubs.py."""

from leyden_strategies.ddp import DDPStrategy as DDPStrategy
