"""Lightning's ``demos``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.boring import BoringDataModule as BoringDataModule
from leyden_lightning.api.boring import BoringModel as BoringModel
from leyden_lightning.api.boring import DemoModel as DemoModel
