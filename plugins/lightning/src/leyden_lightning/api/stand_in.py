"""Subclasses with Lightning's arguments that count leyden's own objects as their instances."""

from __future__ import annotations

from typing import Any


class _Meta(type):
    """``isinstance`` and ``issubclass`` ask the class that a stand-in stands for."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, vars(cls).get("stands_for", ())) or super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, vars(cls).get("stands_for", ())) or super().__subclasscheck__(subclass)


def meta_of(base: type) -> type:
    """The metaclass of a stand-in for ``base``."""
    return _Meta if type(base) is type else type("_Meta", (_Meta, type(base)), {})


def stand_in(made: Any, module: str) -> Any:
    """Completes a stand-in, a subclass of one class: where it is found by its name, and what it stands for."""
    made.stands_for = made.__bases__[0]
    made.__module__, made.__qualname__ = module, made.__name__
    made.__doc__ = made.stands_for.__doc__
    return made
