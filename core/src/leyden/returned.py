"""Refuses what an overridden method returned, where it was called and not where the value breaks something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from leyden.messages import shown

T = TypeVar("T")


def returned(value: Any, owner: object, method: str, kind: type[T] | tuple[type[T], ...], expected: str) -> T:
    """``value``, which ``owner.method`` returned.

    Args:
        value: what came back.
        owner: whose method it is; its class is named.
        method: the method's name.
        kind: the types it may be of.
        expected: what to write instead, such as ``"a dict"``.

    Raises:
        TypeError: it is of another type.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{type(owner).__name__}.{method} returned {shown(value)}; expected {expected}")
    return value


def returned_callable(value: Any, owner: object, method: str) -> Callable[..., Any]:
    """As :func:`returned`, for a method that returns what is to be called each batch.

    Raises:
        TypeError: it cannot be called.
    """
    if not callable(value):
        raise TypeError(f"{type(owner).__name__}.{method} returned {shown(value)}; expected what is to be called in each batch")
    function: Callable[..., Any] = value
    return function
