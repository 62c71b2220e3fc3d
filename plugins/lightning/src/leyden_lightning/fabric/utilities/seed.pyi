"""Lightning's ``fabric.utilities.seed``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.seeding import isolate_rng as isolate_rng
from leyden_lightning.api.seeding import pl_worker_init_function as pl_worker_init_function
from leyden_lightning.api.seeding import reset_seed as reset_seed
from leyden_lightning.api.seeding import seed_everything as seed_everything
