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

from leyden.messages import nearest

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


class _LastFinder(importlib.abc.MetaPathFinder):
    """Asked when no other finder has a name: says what became of it.

    Python asks for ``from leyden_lightning.callbacks import Nmae`` too, and would say itself that the name cannot be imported.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        root, _, inner = fullname.partition(".")
        parent, _, name = inner.rpartition(".")
        if root != _ROOT or parent not in ("", *surface.PATHS) or not name or name.startswith("__"):
            return None
        # Under the name of its package: an import statement keeps an error about the module itself to itself.
        raise ModuleNotFoundError(f"there is no {name!r} in {_dotted(parent)!r}{hint(parent, name)}", name=_dotted(parent))


def register(package: str) -> None:
    """Has the submodules found, before the folders of their stub files, which Python would take for packages without code."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
        sys.meta_path.append(_LastFinder())


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
        # With its name, so that Python adds no guess of its own.
        raise AttributeError(f"module {_dotted(path)!r} has no attribute {name!r}{hint(path, name)}", name=name)
    value = resolution.resolve(name)
    module = sys.modules.get(_dotted(path))
    if module is not None:
        setattr(module, name, value)  # asked for once
    return value


def _dotted(path: str) -> str:
    return f"{_ROOT}.{path}" if path else _ROOT


def hint(path: str, name: str) -> str:
    """What to write in place of a name that the submodule ``path`` has not; for the end of a message."""
    if name in surface.GONE:
        return f": {surface.GONE[name]}"
    near = nearest(name, [*surface.PATHS.get(path, ()), *surface.children(path)]) or nearest(name, surface.NAMES, 0.75)
    return f"; did you mean {near!r}?" if near else f"; dir({_dotted(path)}) lists what is there"
