"""The submodules of the port: made when they are imported, from the table of names."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from leyden.messages import did_you_mean

from leyden_lightning.api import resolution, surface
from leyden_lightning.api.tools import availability

_ROOT = "leyden_lightning"


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the submodules of the table."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        root, _, inner = fullname.partition(".")
        if root != _ROOT or not inner or inner not in surface.PATHS:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        path = module.__name__.partition(".")[2]
        names = surface.PATHS[path]
        module.__doc__ = f"Lightning's ``{path}``."
        attributes = vars(module)
        attributes["__all__"] = list(names)
        attributes["__getattr__"] = lambda name: lookup(path, name)
        attributes["__dir__"] = lambda: sorted({*attributes, *names, *surface.children(path)})


def register(package: str) -> None:
    """Has the submodules found, before the folders of their stub files, which Python would take for packages without code."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def lookup(path: str, name: str) -> Any:
    """What ``name`` is in the submodule ``path`` ("" is the package): a submodule, or what the table says.

    Raises:
        AttributeError: Lightning has no such name there.
    """
    inner = f"{path}.{name}" if path else name
    if name not in surface.PATHS.get(path, ()) and inner in surface.PATHS:
        return importlib.import_module(f"{_ROOT}.{inner}")
    found = availability(name)
    if found is not None:
        return found
    if name.startswith("__") or name not in surface.NAMES:
        raise AttributeError(f"module {_dotted(path)!r} has no attribute {name!r}{_hint(path, name)}")
    value = resolution.resolve(name)
    module = sys.modules.get(_dotted(path))
    if module is not None:
        setattr(module, name, value)  # asked for once
    return value


def _dotted(path: str) -> str:
    return f"{_ROOT}.{path}" if path else _ROOT


def _hint(path: str, name: str) -> str:
    if name in surface.GONE:
        return f": {surface.GONE[name]}"
    return did_you_mean(name, [*surface.PATHS.get(path, ()), *surface.children(path), *surface.NAMES])
