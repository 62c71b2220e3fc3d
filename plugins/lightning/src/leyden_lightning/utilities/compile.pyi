"""Lightning's ``utilities.compile``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import from_compiled as from_compiled
from leyden_lightning.api.tools import to_uncompiled as to_uncompiled
