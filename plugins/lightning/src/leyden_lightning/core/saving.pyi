"""Lightning's ``core.saving``, for type checkers; written by tools/make_stubs.py."""

from leyden import AttributeDict as AttributeDict
from leyden import Module as _Module
from leyden_lightning.api.inside import _load_from_checkpoint as _load_from_checkpoint
from leyden_lightning.api.tools import load_hparams_from_yaml as load_hparams_from_yaml
from leyden_lightning.api.tools import save_hparams_to_yaml as save_hparams_to_yaml

ModelIO = _Module
