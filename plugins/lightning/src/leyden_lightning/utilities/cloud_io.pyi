"""Lightning's ``utilities.cloud_io``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import _load as _load
from leyden_lightning.api.tools import atomic_save as atomic_save
from leyden_lightning.api.tools import get_filesystem as get_filesystem
from leyden_lightning.api.tools import load as load
from leyden_lightning.api.tools import pl_load as pl_load
