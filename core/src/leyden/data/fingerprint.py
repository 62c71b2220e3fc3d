"""A digest of what a sample or a batch holds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def fingerprint(data: Any, *, seed: int = 0, most: int | None = None) -> int:
    """A number of 64 bits that is the same for the same content, in every process and on every machine.

    Tensors, arrays, numbers, texts, bytes, None and any nesting of lists, tuples and dicts count by their content, other
    objects by what pickles of their attributes would hold: their ``__dict__``.

    Args:
        data: what to look at.
        seed: another seed gives another, unrelated number.
        most: how many bytes of each tensor or array to look at; all if not given.

    Raises:
        TypeError: something in it has no content that could be looked at.
    """
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8)
    _add(digest, data, most)
    return int.from_bytes(digest.digest(), "little")


def _add(digest: Any, data: Any, most: int | None) -> None:
    if isinstance(data, Tensor):
        flat = data.detach().cpu().contiguous().reshape(-1)
        digest.update(f"array {_dtype(data.dtype)} {tuple(data.shape)}".encode())
        size = flat.numel() if most is None else min(flat.numel(), max(1, most // max(1, flat.element_size())))
        digest.update(flat[:size].view(torch.uint8).numpy().tobytes() if size else b"")
    elif isinstance(data, np.ndarray | np.generic) and data.dtype != object:
        _add(digest, torch.from_numpy(np.ascontiguousarray(data)), most) if data.dtype.kind in "biuf" else digest.update(
            f"array {data.dtype}".encode() + data.tobytes()
        )
    elif data is None or isinstance(data, bool | int | float | complex | str | bytes):
        digest.update(f"{type(data).__name__} {data!r};".encode())
    elif isinstance(data, Mapping):
        digest.update(f"dict {len(data)}".encode())
        for key, value in data.items():
            _add(digest, key, most)
            _add(digest, value, most)
    elif isinstance(data, list | tuple):
        digest.update(f"list {len(data)}".encode())
        for value in data:
            _add(digest, value, most)
    elif getattr(data, "__dict__", None):
        digest.update(type(data).__qualname__.encode())
        _add(digest, vars(data), most)
    elif callable(getattr(data, "tobytes", None)):  # an image
        digest.update(type(data).__qualname__.encode() + data.tobytes())
    else:
        raise TypeError(f"a {type(data).__name__} has no content that could be told from another's")


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
