"""Packages whose modules are imported when something of them is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(namespace: dict[str, Any], homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package, which then imports a module only for who asks for something of it.

    Write in its ``__init__.py`` ``__getattr__ = lazy(globals(), {"MyLogger": "my_logger"})``, and the imports themselves under
    ``if TYPE_CHECKING:``, where type checkers and editors look for names.

    Args:
        namespace: the package's ``globals()``, where what was asked for is kept.
        homes: the module of each name, relative to the package.
    """

    def __getattr__(name: str) -> Any:
        home = homes.get(name)
        package = namespace["__name__"]
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = namespace[name] = getattr(import_module(f"{package}.{home}"), name)
        return value

    return __getattr__
