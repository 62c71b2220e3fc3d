"""What a user's class has of its own, and what its code mentions."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

import leyden

_BASES = (leyden.Module, leyden.DataModule, leyden.Callback, leyden.Logger)


def own(owner: Any, name: str) -> Any:
    """A user's method or attribute of that name, bound; None if only leyden has one."""
    if name in vars(owner):
        return getattr(owner, name)
    for cls in type(owner).__mro__:
        if cls in _BASES or cls.__module__ == "builtins":
            return None
        if name in vars(cls):
            return getattr(owner, name)
    return None


def codes(owner: Any) -> Iterator[CodeType]:
    """The code of every method of a user's class, and of the functions in it."""
    for cls in type(owner).__mro__:
        if cls in _BASES:
            return
        if cls.__module__.split(".")[0] in ("torch", "leyden", "leyden_lightning"):
            continue
        for value in vars(cls).values():
            function = getattr(value, "__func__", value)
            function = getattr(function, "__wrapped__", function)
            if isinstance(function, FunctionType):
                yield from _inside(function.__code__)


def _inside(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _inside(constant)


def mentions(owner: Any, *names: str) -> bool:
    """Whether a user's code has an attribute or a global of one of these names."""
    return any(name in code.co_names for code in codes(owner) for name in names)


def says(owner: Any, *words: str) -> bool:
    """Whether a user's code has one of these words as a constant: a key of a dict, or the name of an argument in a call."""
    for code in codes(owner):
        for constant in code.co_consts:
            found = constant if isinstance(constant, tuple | frozenset) else (constant,)
            if any(isinstance(part, str) and part in words for part in found):
                return True
    return False
