"""A callback made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from leyden import Callback
from leyden.binding import hook_names
from leyden.messages import did_you_mean, shown


class LambdaCallback(Callback):
    """Calls functions at hooks: ``LambdaCallback(on_train_end=lambda trainer, module: print(trainer.global_step))``.

    A function takes the hook's arguments by position, or any of them by name.

    Args:
        functions: by the name of the hook, one of those that ``python -m leyden.hookspecs`` prints.

    Raises:
        TypeError: something is not callable.
        ValueError: there is no such hook, or no function at all.
    """

    name = "lambda"

    def __init__(self, **functions: Callable[..., Any]) -> None:
        owner = type(self).__name__
        if not functions:
            raise ValueError(f"{owner}() does nothing; pass functions by hook, such as on_train_end=print")
        names = hook_names()
        for hook, function in functions.items():
            if hook not in names:
                hint = did_you_mean(hook, names) or "; hooks are listed by: python -m leyden.hookspecs"
                raise ValueError(f"{owner}({hook}=...): there is no hook {hook!r}{hint}")
            if not callable(function):
                raise TypeError(f"{owner}({hook}={function!r}): expected a function, got {shown(function)}")
            setattr(self, hook, function)
