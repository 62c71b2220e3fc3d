"""Checks of constructor arguments, so that their messages have one shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

from leyden.messages import did_you_mean, shown


def check_choice(owner: str, argument: str, value: object, choices: Sequence[object]) -> None:
    """Raises ValueError unless ``value`` is one of ``choices``."""
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        expected = " or ".join(", ".join(repr(choice) for choice in choices).rsplit(", ", 1))
        words = [choice for choice in choices if isinstance(choice, str)]
        hint = did_you_mean(value, words) if isinstance(value, str) else ""
        raise ValueError(f"{owner}({argument}={value!r}): expected {expected}{hint}")


def check_int(owner: str, argument: str, value: object, least: int) -> None:
    """Raises TypeError unless ``value`` is an int, ValueError if it is less than ``least``."""
    message = f"{owner}({argument}={value!r}): expected an int of at least {least}, got {shown(value)}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(message)
    if value < least:
        raise ValueError(message)


def check_number(owner: str, argument: str, value: object, least: float = -math.inf) -> None:
    """Raises TypeError unless ``value`` is an int or a float, ValueError if it is NaN or less than ``least``."""
    bound = f" of at least {least:g}" if math.isfinite(least) else ""
    message = f"{owner}({argument}={value!r}): expected a number{bound}, got {shown(value)}"
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(message)
    if not value >= least:
        raise ValueError(message)


def check_bool(owner: str, argument: str, value: object) -> None:
    """Raises TypeError unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{owner}({argument}={value!r}): expected True or False, got {shown(value)}")


def check_key(owner: str, argument: str, value: object) -> None:
    """Raises TypeError unless ``value`` is a str, ValueError if it is empty."""
    message = f"{owner}({argument}={value!r}): expected the key of a logged value such as 'val_loss', got {shown(value)}"
    if not isinstance(value, str):
        raise TypeError(message)
    if not value:
        raise ValueError(message)
