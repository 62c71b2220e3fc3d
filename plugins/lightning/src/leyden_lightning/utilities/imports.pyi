"""Lightning's ``utilities.imports``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.tools import ModuleAvailableCache as ModuleAvailableCache
from leyden_lightning.api.tools import RequirementCache as RequirementCache
from leyden_lightning.api.tools import _module_available as _module_available
from leyden_lightning.api.tools import compare_version as compare_version
from leyden_lightning.api.tools import module_available as module_available
