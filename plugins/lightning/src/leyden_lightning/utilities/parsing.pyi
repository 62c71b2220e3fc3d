"""Lightning's ``utilities.parsing``, for type checkers; written by tools/make_stubs.py."""

from leyden import AttributeDict as AttributeDict
from leyden_lightning.api.inside import get_init_args as get_init_args
from leyden_lightning.api.tools import clean_namespace as clean_namespace
from leyden_lightning.api.tools import flatten_dict as flatten_dict
from leyden_lightning.api.tools import is_picklable as is_picklable
from leyden_lightning.api.tools import lightning_getattr as lightning_getattr
from leyden_lightning.api.tools import lightning_hasattr as lightning_hasattr
from leyden_lightning.api.tools import lightning_setattr as lightning_setattr
from leyden_lightning.api.tools import save_hyperparameters as save_hyperparameters
from leyden_lightning.api.tools import str_to_bool as str_to_bool
from leyden_lightning.api.tools import str_to_bool_or_int as str_to_bool_or_int
from leyden_lightning.api.tools import str_to_bool_or_str as str_to_bool_or_str
