"""Says where two checkpoints differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from leyden.messages import quoted
from torch import Tensor

_ABSENT = object()


class Differences:
    """Where ``other`` differs from ``one``, in the order of ``one``'s keys.

    Args:
        one: a checkpoint.
        other: the one it is compared with.
        weights: whether to compare the weights only.
    """

    def __init__(self, one: Mapping[str, Any], other: Mapping[str, Any], weights: bool = False) -> None:
        keys = ("state_dict",) if weights else tuple(dict.fromkeys([*one, *other]))
        self.lines: list[str] = []
        for key in keys:
            self.lines += _compare(one.get(key, _ABSENT), other.get(key, _ABSENT), str(key))

    def __bool__(self) -> bool:
        return bool(self.lines)

    def text(self, limit: int) -> str:
        """For people; at most ``limit`` differences."""
        if not self.lines:
            return "no difference"
        more = len(self.lines) - limit
        return "\n".join([*self.lines[:limit], *([f"and {more} more"] if more > 0 else [])])


def _compare(one: Any, other: Any, where: str) -> Iterator[str]:
    if one is _ABSENT or other is _ABSENT:
        present, file = (other, "second") if one is _ABSENT else (one, "first")
        yield f"{where}: only in the {file} file ({_shown(present, where)})"
    elif isinstance(one, Tensor) and isinstance(other, Tensor):
        yield from _compare_tensors(one, other, where)
    elif isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*one, *other]):
            inner = f"{where}.{key}" if isinstance(key, str) and key.isidentifier() else f"{where}[{key!r}]"
            yield from _compare(one.get(key, _ABSENT), other.get(key, _ABSENT), inner)
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        for index in range(max(len(one), len(other))):
            mine = one[index] if index < len(one) else _ABSENT
            yield from _compare(mine, other[index] if index < len(other) else _ABSENT, f"{where}[{index}]")
    elif type(one) is not type(other) or (one != other and not (one != one and other != other)):
        yield f"{where}: {_shown(one, where)}, and {_shown(other, where)} in the second"


def _compare_tensors(one: Tensor, other: Tensor, where: str) -> Iterator[str]:
    if one.shape != other.shape or one.dtype != other.dtype:
        yield f"{where}: {_shown(one)}, and {_shown(other)} in the second"
        return
    if one.is_sparse or other.is_sparse:
        one, other = one.to_dense(), other.to_dense()
    same = (one == other) | ((one != one) & (other != other))  # NaN in the same place is no difference
    if bool(same.all()):
        return
    count = int((~same).sum())
    largest = ""
    if one.dtype not in (torch.bool,):
        gap = (one.to(torch.complex128) - other.to(torch.complex128)).abs()
        largest = f", by {float(gap[~same].max()):.3g} at most"
    first = [int(i) for i in (~same).nonzero()[0]]
    yield f"{where}: {count} of {one.numel()} elements differ{largest}; the first at {first}"


def _shown(value: Any, where: str = "") -> str:
    if isinstance(value, Tensor):
        return f"tensor {list(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return quoted(value, where, room=60)
