"""PyTorch Lightning's names, of 0.8 to 2.6, for leyden: ``import leyden_lightning as pl``.

``pl.LightningModule`` is :class:`leyden.Module`. Submodules (``pl.callbacks.early_stopping``, ``pl.utilities.seed``, ...) exist
under every path that Lightning had; each name is one object whatever the path. What is not there says so in a sentence when it
is used. :func:`install` has ``import pytorch_lightning`` and ``import lightning`` mean this package.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from leyden import Callback
from leyden import DataModule as LightningDataModule
from leyden import Module as LightningModule

from leyden_lightning.api import modules
from leyden_lightning.api.seeding import seed_everything
from leyden_lightning.api.trainer import Trainer
from leyden_lightning.api.version import __version__
from leyden_lightning.legacy.notices import LegacyWarning
from leyden_lightning.running.install import install, uninstall

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "Callback",
    "LegacyWarning",
    "LightningDataModule",
    "LightningModule",
    "Trainer",
    "__version__",
    "install",
    "seed_everything",
    "uninstall",
]

modules.register(__name__)


def __getattr__(name: str) -> Any:
    if name == "pytorch":
        return sys.modules[__name__]  # `import lightning as L` has L.pytorch
    value: Any | ModuleType = modules.lookup("", name)
    return value
