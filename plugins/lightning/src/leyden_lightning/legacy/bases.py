"""What ``super().optimizer_step(...)`` and the like call, with the arguments of whichever release."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import leyden

from leyden_lightning.legacy.binding import canonical

_BASES = (leyden.Module, leyden.DataModule, leyden.Callback)


def accept_older_calls(owner: Any, name: str, modern: Sequence[str], older: Sequence[str]) -> None:
    """Has the base class's method of that name take the arguments of 1.x, as an override of ``owner``'s may pass them on.

    Only for methods of which an override of another generation was found, so that nobody else pays for it.

    Args:
        owner: the object with the override.
        name: the method.
        modern: the arguments of 2.6, in their order.
        older: the arguments of 1.x, in their order.
    """
    base = next((cls for cls in type(owner).__mro__ if cls in _BASES), None)
    plain = vars(base).get(name) if base is not None else None
    if callable(plain) and not hasattr(plain, "takes_older"):
        setattr(base, name, _tolerant(plain, tuple(modern), tuple(older)))


def _tolerant(plain: Callable[..., Any], modern: tuple[str, ...], older: tuple[str, ...]) -> Callable[..., Any]:
    only_older = set(older) - set(modern) | {"on_tpu", "using_native_amp", "using_lbfgs"}

    @wraps(plain)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        known = {canonical(name): value for name, value in kwargs.items()}
        if modern[-1:] == ("dataloader_idx",) and len(args) + len(known) == len(modern) - 1:
            known["dataloader_idx"] = 0  # before 1.4 there was none
        index_in_place = len(args) > 3 and modern[3:4] == ("optimizer_closure",) and isinstance(args[3], int)
        if not (index_in_place or len(args) + len(kwargs) > len(modern) or known.keys() & only_older):
            return plain(self, *args, **(kwargs if known.keys() == kwargs.keys() else known))
        given = dict(zip((name for name in older if name not in known), args, strict=False)) | known
        return plain(self, **{name: value for name, value in given.items() if name in modern})

    vars(method)["takes_older"] = True
    return method
