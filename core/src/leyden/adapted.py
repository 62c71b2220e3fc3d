"""What plug-ins put on modules and data modules: attributes for all of them, and other methods for one during a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leyden.trainer import Trainer

_MISSING = object()
_TABLES = ("_parameters", "_buffers", "_modules")


class _Offered:
    """An attribute of a plug-in; whatever the user has under that name goes before it."""

    leyden_spec = None
    """The mark of a method that nobody overrode: the bus takes none of these for an implementation."""

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.value = value
        self.__doc__ = getattr(value, "__doc__", None)

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self  # whoever looks for the functions and properties of a class finds none here
        for table in _TABLES:  # an instance's plain attributes come before this by Python's own rules
            found = vars(instance).get(table)
            if found and self.name in found:
                return found[self.name]
        bind = getattr(self.value, "__get__", None)
        return self.value if bind is None else bind(instance, owner)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.value(*args, **kwargs)  # as in ``Module.method(self)``


def extend(owner: type, **attributes: Any) -> None:
    """Gives every object of a class attributes that it lacks: functions, properties or values.

    For plug-ins whose users expect more of :class:`leyden.Module` or :class:`leyden.DataModule` than core has. A subclass's
    or an object's own attribute of that name goes before it.

    Args:
        owner: the class.
        attributes: by name.

    Raises:
        ValueError: the class has such an attribute already.
    """
    for name, value in attributes.items():
        if hasattr(owner, name):
            raise ValueError(f"{owner.__name__}.{name} exists already; a plug-in adds attributes and replaces none")
        setattr(owner, name, _Offered(name, value))


def adapt(trainer: Trainer, owner: Any) -> None:
    """Puts the methods that plug-ins answer for a module or a data module in place of its own, until :func:`restore`."""
    attributes = vars(owner)
    answers: Any = trainer.bus.hook.adapt_methods(trainer=trainer, owner=owner)  # a list: pluggy asks every plug-in
    for methods in answers:
        for name, method in methods.items():
            attributes.setdefault("_adapted", {}).setdefault(name, attributes.get(name, _MISSING))
            attributes[name] = method


def restore(owner: Any) -> None:
    """Undoes :func:`adapt`."""
    _put_back(vars(owner))


def own_state(owner: Any) -> dict[str, Any]:
    """A copy of an object's attributes as they are without :func:`adapt`, for copies and pickles of it."""
    state: dict[str, Any] = vars(owner).copy()
    _put_back(state)
    return state


def _put_back(attributes: dict[str, Any]) -> None:
    for name, before in attributes.pop("_adapted", {}).items():
        if before is _MISSING:
            attributes.pop(name, None)
        else:
            attributes[name] = before
