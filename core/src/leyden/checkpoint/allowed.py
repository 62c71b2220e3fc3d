"""Which classes and functions that a file names may be used: nothing is imported because a file says so."""

from __future__ import annotations

import enum
import inspect
import sys
import typing
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

_BUILTINS = (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, object, OrderedDict, Counter)
# Functions on tensors that serve as activations; the rest of torch's namespace loads files, among other things.
_TORCH = ("abs", "cos", "exp", "log", "relu", "sigmoid", "sin", "softmax", "sqrt", "square", "tanh")

_registered: dict[str, Any] = {}


def allow_rebuild(*objects: Any) -> Any:
    """Lets checkpoints rebuild hyperparameters with these classes and functions; also a decorator.

    A hyperparameter such as a dataclass, a function or a class is stored as data and as its import path. Who loads the file
    must have said that this path may be used, for a file must not choose what a program runs. These need not be named:

    * classes that the constructor names itself, in an annotation or as the class of a default value, and its default values;
    * members of an ``enum.Enum`` that is imported already;
    * modules of ``torch.nn``, functions of ``torch.nn.functional``, optimizers, schedulers, and Python's own plain types.

    Args:
        objects: classes and functions.

    Returns:
        The object, if there is one, so that ``@leyden.allow_rebuild`` can stand above a class.

    Raises:
        TypeError: one has no import path.
    """
    for item in objects:
        _registered[import_path(item)] = item
    return objects[0] if len(objects) == 1 else None


def import_path(value: Any) -> str:
    """``"package.module:Class"`` of a class or a function.

    Raises:
        TypeError: it has none, as a lambda, a function made inside another one, or a bound method.
    """
    name, module = getattr(value, "__qualname__", None), getattr(value, "__module__", None)
    if isinstance(value, type):
        return f"{module}:{name}"
    if inspect.isfunction(value) and module and name and _member(module, name) is value:
        return f"{module}:{name}"
    plain_name = getattr(value, "__name__", None)
    if callable(value) and isinstance(plain_name, str):
        # Functions of C code do not say where they can be found, and some of torch's are made by other functions.
        for place in ("torch.nn.functional", "torch", "math", "operator", "builtins", "numpy", module):
            for candidate in (plain_name, *(_names_in(place, value) if place == "torch.nn.functional" else ())):
                if place and _member(place, candidate) is value:
                    return f"{place}:{candidate}"
    raise TypeError(f"{value!r} cannot be found again by an import path")


class Refused(LookupError):
    """An import path that is not allowed; its only argument."""


class AllowList:
    """What may be used while one file is loaded.

    Args:
        extra: classes and functions; or a mapping from import paths, as a file has them, to what stands for them now.
        owner: the class that is built: what its constructor names may be used.
    """

    def __init__(self, extra: Iterable[Any] | Mapping[str, Any] | None = None, owner: type | None = None) -> None:
        named = dict(extra) if isinstance(extra, Mapping) else {import_path(item): item for item in extra or ()}
        self._objects = {**(_vouched_by(owner) if owner else {}), **_registered, **named}

    def find(self, path: str) -> Any:
        """What stands for an import path.

        Raises:
            Refused: it is not allowed.
        """
        if path in self._objects:
            return self._objects[path]
        found = _allowed_always(path)
        if found is None:
            raise Refused(path)
        return found

    def find_enum(self, path: str) -> type[enum.Enum]:
        """An Enum; looking up a member runs nothing, so it only has to be imported already.

        Raises:
            Refused: it is neither allowed nor imported, or no Enum.
        """
        module, _, name = path.partition(":")
        found = self._objects.get(path) or _member(module, name)
        if isinstance(found, type) and issubclass(found, enum.Enum):
            return found
        raise Refused(path)


def _allowed_always(path: str) -> Any:
    module, _, name = path.partition(":")
    for kind in _BUILTINS:
        if import_path(kind) == path:
            return kind
    if module == "torch" and name in _TORCH:
        return getattr(torch, name)
    found = _member(module, name)
    if module == "torch.nn.functional" and not name.startswith("_"):
        return found if getattr(found, "__module__", None) in ("torch.nn.functional", "torch._C._nn") else None
    if module.startswith(("torch.nn.", "torch.optim")) and isinstance(found, type):
        kinds = (nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
        return found if issubclass(found, kinds) else None
    return found if path == "torch.torch_version:TorchVersion" else None


def _member(module: str, qualname: str) -> Any:
    """An attribute of a module that is imported already; a module that would import more on being asked is not asked."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found


def _names_in(module: str, value: Any) -> list[str]:
    return [name for name, item in vars(sys.modules[module]).items() if item is value and not name.startswith("_")]


def _vouched_by(owner: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for cls in owner.__mro__:
        init = vars(cls).get("__init__")
        if not inspect.isfunction(init):
            continue
        try:
            hints: Iterable[Any] = typing.get_type_hints(init).values()
        except Exception:  # names that exist for type checkers only
            hints = [hint for hint in init.__annotations__.values() if not isinstance(hint, str)]
        pending = list(hints)
        defaults = [p.default for p in inspect.signature(init).parameters.values() if p.default is not inspect.Parameter.empty]
        pending += [default if callable(default) else type(default) for default in defaults]
        while pending:
            item = pending.pop()
            pending += typing.get_args(item)
            if isinstance(item, type) or inspect.isfunction(item):
                try:
                    found.setdefault(import_path(item), item)
                except TypeError:  # a lambda as a default value
                    continue
    return found
