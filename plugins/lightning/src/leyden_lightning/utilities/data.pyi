"""Lightning's ``utilities.data``, for type checkers; written by tools/make_stubs.py."""

from leyden import CombinedLoader as CombinedLoader
from leyden_lightning.api.tools import extract_batch_size as extract_batch_size
from leyden_lightning.api.tools import has_iterable_dataset as has_iterable_dataset
from leyden_lightning.api.tools import has_len as has_len
from leyden_lightning.api.tools import sized_len as sized_len
from leyden_lightning.api.tools import suggested_max_num_workers as suggested_max_num_workers
