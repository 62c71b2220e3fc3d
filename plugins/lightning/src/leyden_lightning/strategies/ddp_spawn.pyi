"""Lightning's ``strategies.ddp_spawn``, for type checkers; written by tools/make_stubs.py."""

from leyden_strategies.names import DDPSpawnStrategy as DDPSpawnStrategy
