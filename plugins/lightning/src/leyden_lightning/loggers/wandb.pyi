"""Lightning's ``loggers.wandb``, for type checkers; written by tools/make_stubs.py."""

from leyden_loggers.wandb import WandbLogger as WandbLogger
