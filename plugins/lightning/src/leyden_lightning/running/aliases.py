"""Has ``import pytorch_lightning``, ``import lightning`` and their submodules mean the port.

Of the standard library alone, and loaded by path in processes that start: nothing else is imported before a script asks.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import sys
from collections.abc import Iterable, Sequence
from email.message import Message
from types import ModuleType
from typing import Any

PORT = "leyden_lightning"
VERSION = "2.6.6"

_PREFIXES = {
    "pytorch_lightning": PORT,
    "lightning.pytorch": PORT,
    "lightning.fabric": f"{PORT}.fabric",
    "lightning_fabric": f"{PORT}.fabric",
}
_DISTRIBUTIONS = ("pytorch-lightning", "lightning", "lightning-fabric")
ROOTS = ("pytorch_lightning", "lightning", "lightning_fabric")


def target_of(name: str) -> str | None:
    """The module of the port that an imported name means; None if it is no name of Lightning's."""
    for prefix, port in _PREFIXES.items():
        if name == prefix or name.startswith(prefix + "."):
            return port + name[len(prefix) :]
    return None


class AliasFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds Lightning's names before anything that is installed does."""

    def __init__(self) -> None:
        self.specs: dict[str, importlib.machinery.ModuleSpec | None] = {}
        """The specs of the port's modules, while the import system has those of their other names there."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec for each name of Lightning's."""
        if fullname.partition(".")[0] not in ROOTS:
            return None
        if fullname != "lightning" and target_of(fullname) is None:
            # Not installed Lightning's either: half of one and half of the other would be two of each class.
            name = fullname.split(".")[1]
            hint = importlib.import_module(f"{PORT}.api.modules").hint("", name)
            raise ModuleNotFoundError(f"there is no {name!r} in 'lightning'{hint}", name="lightning")
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """The module of the port itself, so that every class is one object under all names."""
        name = target_of(spec.name)
        if name is None:
            return None  # `lightning`, which has parts that the port's package has not
        module = importlib.import_module(name)
        self.specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Leaves a module of the port as it is."""
        if module.__name__ == "lightning":
            _fill_lightning(module)
            return
        for name, spec in list(self.specs.items()):
            if spec is not None and spec.name == module.__name__:
                module.__spec__ = spec  # the import system has put the alias's there
                del self.specs[name]

    def find_distributions(self, context: Any = None) -> Iterable[importlib.metadata.Distribution]:
        """What says its version, where Lightning is not installed."""
        wanted = getattr(context, "name", None)
        for name in _DISTRIBUTIONS:
            if wanted is not None and wanted.lower().replace("_", "-") == name:
                yield _Distribution(name)


class _Distribution(importlib.metadata.Distribution):
    def __init__(self, name: str) -> None:
        self.text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {VERSION}\n"

    def read_text(self, filename: str) -> str | None:
        return self.text if filename in ("METADATA", "PKG-INFO") else None

    def locate_file(self, path: Any) -> Any:
        raise FileNotFoundError(path)

    @property
    def metadata(self) -> Any:
        import email

        found: Message = email.message_from_string(self.text)
        return found


def _fill_lightning(module: ModuleType) -> None:
    port = importlib.import_module(PORT)
    attributes = vars(module)
    attributes["__version__"] = VERSION

    def __getattr__(name: str) -> Any:
        if name in ("pytorch", "fabric"):
            return importlib.import_module(f"lightning.{name}")
        return getattr(port, name)

    attributes["__getattr__"] = __getattr__
    attributes["__all__"] = [
        "LightningDataModule",
        "LightningModule",
        "Callback",
        "Trainer",
        "seed_everything",
        "pytorch",
        "fabric",
    ]


def install() -> None:
    """Puts the finder before all others; a second call does nothing.

    Raises:
        RuntimeError: Lightning itself was imported already.
    """
    if any(type(finder).__name__ == "AliasFinder" for finder in sys.meta_path):
        return
    for name in ROOTS:
        if name in sys.modules:
            where = getattr(sys.modules[name], "__file__", None)
            raise RuntimeError(f"{name} was imported already, from {where}; call leyden_lightning.install() before that")
    sys.meta_path.insert(0, AliasFinder())


def uninstall() -> None:
    """Takes the finder and the names away."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "AliasFinder"]
    for name in list(sys.modules):
        if name.partition(".")[0] in ROOTS:
            del sys.modules[name]
