"""Lightning's ``demos.boring_classes``, for type checkers; written by tools/make_stubs.py."""

from leyden_lightning.api.boring import BoringDataModule as BoringDataModule
from leyden_lightning.api.boring import BoringDataModuleNoLen as BoringDataModuleNoLen
from leyden_lightning.api.boring import BoringModel as BoringModel
from leyden_lightning.api.boring import DemoModel as DemoModel
from leyden_lightning.api.boring import IterableBoringDataModule as IterableBoringDataModule
from leyden_lightning.api.boring import ManualOptimBoringModel as ManualOptimBoringModel
from leyden_lightning.api.boring import Net as Net
from leyden_lightning.api.boring import RandomDataset as RandomDataset
from leyden_lightning.api.boring import RandomDictDataset as RandomDictDataset
from leyden_lightning.api.boring import RandomIterableDataset as RandomIterableDataset
from leyden_lightning.api.boring import RandomIterableDatasetWithLen as RandomIterableDatasetWithLen
