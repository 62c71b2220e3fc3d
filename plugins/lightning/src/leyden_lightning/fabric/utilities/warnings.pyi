"""Lightning's ``fabric.utilities.warnings``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.rank_zero import PossibleUserWarning as PossibleUserWarning
from leyden_lightning.api.rank_zero import disable_possible_user_warnings as disable_possible_user_warnings
