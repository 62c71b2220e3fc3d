"""Writes hyperparameters as YAML that every YAML reader takes for plain data."""

from __future__ import annotations

import math
import os
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

from leyden.masking import masked

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_WORDS_WITH_MEANING = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
_LONGEST = 200
_ADDRESS: Any = object.__repr__  # what a class has that says nothing of itself


def to_yaml(params: Mapping[str, Any]) -> str:
    """Nested dicts, lists and scalars as block-style YAML, in their order; see :func:`readable` for everything else."""
    tree = readable(params)
    return "\n".join(_lines(tree)) + "\n" if tree else "{}\n"


def readable(params: Mapping[str, Any] | Namespace) -> dict[str, Any]:
    """Hyperparameters as nested plain data for people to read: see :func:`plain`; secrets in them are ``"***"``."""
    tree: dict[str, Any] = masked(plain(masked(vars(params) if isinstance(params, Namespace) else params)))
    return tree


def plain(value: Any) -> Any:
    """Dicts with string keys, lists, numbers, strings, booleans and None that stand for ``value``.

    Tuples become lists and sets sorted lists; a Namespace a dict; an Enum its name; a path a string; a tensor or an array of
    one element its number, a larger one its type and shape; a class or a function its qualified name. What remains becomes
    its ``repr`` on one line, or its class's name where the ``repr`` would show an address.
    """
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=lambda item: (type(item).__name__, str(item)))
    if isinstance(value, PurePath):
        return str(value)
    return _described(value)


def flattened(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """What :func:`plain` gave for a mapping, with the keys of nested ones joined as in ``model/depth``; lists become strings."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flattened(value, f"{above}{key}/")
        else:
            yield f"{above}{key}", value if isinstance(value, bool | int | float | str) else str(value)


def _described(value: Any) -> Any:
    try:
        return _in_words(value)
    except Exception:  # of the value's own code; a run does not fail because its hyperparameters cannot be described
        return f"{type(value).__module__}.{type(value).__qualname__}"


def _in_words(value: Any) -> Any:
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and callable(getattr(value, "item", None)):
        one = math.prod(shape) == 1 and not getattr(value, "is_meta", False)
        return plain(value.item()) if one else f"{type(value).__name__} of shape {tuple(shape)}"
    if hasattr(value, "__qualname__") and hasattr(value, "__module__"):
        return f"{value.__module__}.{value.__qualname__}"
    if type(value).__repr__ is _ADDRESS:
        return f"{type(value).__module__}.{type(value).__qualname__}"
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _lines(value: Any, indent: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, dict | list) and item:
                yield f"{indent}{scalar(key)}:"
                yield from _lines(item, indent + "  ")
            else:
                yield f"{indent}{scalar(key)}: {scalar(item)}"
    else:
        for item in value:
            if isinstance(item, dict | list) and item:
                first, *rest = _lines(item, indent + "  ")
                yield f"{indent}- {first.lstrip(' ')}"
                yield from rest
            else:
                yield f"{indent}- {scalar(item)}"


def scalar(value: Any) -> str:
    """One value as a YAML scalar that YAML 1.1 and 1.2 read alike."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, dict | list):
        return "{}" if isinstance(value, dict) else "[]"  # only empty ones come here
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS_WITH_MEANING:
        return str(value)
    return '"' + "".join(_escaped(character) for character in value) + '"'


def _float(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = repr(value)
    # YAML 1.1 takes 1e-05 for a string: a float needs a point.
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces a file's content; a process that is killed leaves the old or the new one whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
