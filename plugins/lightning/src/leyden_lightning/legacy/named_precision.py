"""A precision's name, the str that ``trainer.precision`` is in Lightning 2.6, through which the precision itself is used."""

from __future__ import annotations

from functools import cache
from typing import Any

import leyden


class PrecisionName(str):
    """A precision's name that is also equal to what 1.x called it: ``"16-mixed" == 16``."""

    def __eq__(self, other: object) -> bool:
        if isinstance(other, int) and not isinstance(other, bool):
            return str(self).startswith(str(other))
        if isinstance(other, str):
            return str(self) in (other, f"{other}-mixed", f"{other}-true")
        return NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return str.__hash__(self)


class NamedPrecision(PrecisionName):
    """The name of a run's precision that has the precision's attributes and methods too, for whoever calls them."""

    component: leyden.Precision

    def __getattr__(self, name: str) -> Any:
        if name == "component":  # not there yet, in a copy
            raise AttributeError(name)
        return getattr(self.component, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.component, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.component, name)

    def __reduce__(self) -> Any:
        return named, (str(self), self.component)


class _Through:
    """An attribute of the precision's class: read from the class it is the class's, from the name the precision's."""

    def __init__(self, name: str, of: type) -> None:
        self.name = name
        self.of = of

    def __get__(self, instance: Any, owner: type) -> Any:
        return getattr(self.of if instance is None else instance.component, self.name)


@cache
def _class_for(kind: Any) -> type[NamedPrecision]:
    names = {name for name in dir(kind) if not name.startswith("__") and not hasattr(str, name)}
    through: dict[str, Any] = {name: _Through(name, kind) for name in names}
    made = type(kind.__name__, (NamedPrecision,), {**through, "__module__": kind.__module__})
    made.__qualname__ = kind.__qualname__
    return made


def named(name: str, component: leyden.Precision) -> NamedPrecision:
    """The name of a precision, through which the precision is used."""
    kind: type = type(component)
    made = _class_for(kind)(name)
    vars(made)["component"] = component
    return made


def unnamed(precision: Any) -> Any:
    """The precision itself."""
    return precision.component if isinstance(precision, NamedPrecision) else precision
