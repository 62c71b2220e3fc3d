"""Lightning's ``trainer``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.seeding import seed_everything as seed_everything
from leyden_lightning.api.trainer import Trainer as Trainer
