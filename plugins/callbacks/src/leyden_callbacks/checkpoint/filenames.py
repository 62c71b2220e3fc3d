"""The file name of a checkpoint, from a template and the values of the moment."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Mapping
from typing import Any

from leyden.messages import did_you_mean, listed, warn

DEFAULT_TEMPLATE = "{epoch}-{step}"


def check_template(owner: str, template: str) -> None:
    """Raises ValueError unless ``template`` can be filled in."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{owner}(filename={template!r}): {error}; write values as {{epoch:02d}} or {{val_loss:.2f}}") from None
    if any(field == "" for _, field, _, _ in parts):
        raise ValueError(f"{owner}(filename={template!r}): a pair of braces names no value; write {{epoch}} or {{val_loss:.2f}}")
    if template.startswith("/") or ".." in "".join(literal for literal, _, _, _ in parts).split("/"):
        raise ValueError(f"{owner}(filename={template!r}): it leads out of the folder of checkpoints; pass that as dirpath")


def format_name(template: str, values: Mapping[str, Any], *, insert_names: bool = True) -> str:
    """Fills in a template.

    Args:
        template: such as ``"{epoch:02d}-{val_loss:.2f}"``. A ``/``, also one in a key, begins a sub-folder.
        values: numbers by key; one that is not there counts as 0, with a warning.
        insert_names: whether ``{epoch}`` becomes ``epoch=3`` rather than ``3``.

    Returns:
        The name without its ending.

    Raises:
        ValueError: a value cannot be written in the format that the template asks for.
    """
    parts: list[str] = []
    for literal, field, spec, _ in string.Formatter().parse(template):
        parts.append(literal)
        if field is None:
            continue
        if field not in values:
            warn(
                "LYC01",
                f"the checkpoint name {template!r} asks for {field!r}, which was not logged{did_you_mean(field, values) or '.'} "
                f"It is written as 0. Logged: {listed(values)}",
            )
        parts.append(f"{field}=" if insert_names else "")
        parts.append(_formatted(template, field, values.get(field, 0), spec or ""))
    return "".join(parts)


def _formatted(template: str, field: str, value: Any, spec: str) -> str:
    number = float(value)
    if spec.endswith("d") and not math.isfinite(number):
        return str(number)  # no integer is, and a name is no reason to lose the state
    if spec.endswith("d") or isinstance(value, int):
        number = int(value)
    try:
        return format(number, spec)
    except ValueError as error:
        raise ValueError(f"the checkpoint name {template!r} cannot hold {field}={number!r}: {error}") from None


def unused_name(name: str, is_taken: Callable[[str], bool], *, first: int = 1) -> str:
    """``name``, or ``name-v1``, ``name-v2`` and so on: the first that is not taken."""
    candidate, version = name, first
    while is_taken(candidate):
        candidate = f"{name}-v{version}"
        version += 1
    return candidate
