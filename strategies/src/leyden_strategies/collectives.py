"""Collectives that leave no tensor behind in a thread of gloo.

Gloo's threads let go of a collective's tensors after they have told that it is done. For a tensor that Python has made they need
the interpreter's lock, and a process that ends meanwhile is aborted ("terminate called without an active exception"). So these
return when the threads have let go.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_use_count: Any = getattr(Tensor, "_use_count", None)
"""How many hold a tensor; torch has no type for it."""

_PATIENCE = 1.0
"""Seconds after which nobody waits any longer for a thread that has no processor."""


def reduce_in_place(tensor: Tensor, op: Any = dist.ReduceOp.SUM) -> None:
    """Reduces ``tensor`` over all processes."""
    held = _held([tensor])
    dist.all_reduce(tensor, op=op)
    _wait_until_let_go([tensor], held)


def broadcast_in_place(tensor: Tensor, source: int) -> None:
    """Makes ``tensor`` that of rank ``source``."""
    held = _held([tensor])
    dist.broadcast(tensor, src=source)
    _wait_until_let_go([tensor], held)


def gather(own: Tensor) -> list[Tensor]:
    """The tensors of all processes, of one shape, by rank."""
    everybody = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    tensors = [own, *everybody]
    held = _held(tensors)
    dist.all_gather(everybody, own)
    _wait_until_let_go(tensors, held)
    return everybody


def gather_objects(obj: Any, device: torch.device) -> list[Any]:
    """The objects of all processes, which must be picklable, by rank; their bytes travel over ``device``."""
    data = _packed(obj, device)
    sizes = [int(size) for size in gather(torch.tensor(data.numel(), device=device))]
    padded = torch.zeros(max(sizes), dtype=torch.uint8, device=device)
    padded[: data.numel()] = data
    return [_unpacked(part[:size]) for part, size in zip(gather(padded), sizes, strict=True)]


def broadcast_object(obj: Any, source: int, device: torch.device) -> Any:
    """The object of rank ``source``, which must be picklable; its bytes travel over ``device``."""
    sends = dist.get_rank() == source
    data = _packed(obj, device) if sends else None
    size = torch.tensor(0 if data is None else data.numel(), device=device)
    broadcast_in_place(size, source)
    if data is None:
        data = torch.empty(int(size), dtype=torch.uint8, device=device)
    broadcast_in_place(data, source)
    return obj if sends else _unpacked(data)


def _packed(obj: Any, device: torch.device) -> Tensor:
    return torch.frombuffer(bytearray(pickle.dumps(obj)), dtype=torch.uint8).to(device)


def _unpacked(data: Tensor) -> Any:
    return pickle.loads(data.cpu().numpy().tobytes())


def _held(tensors: Sequence[Tensor]) -> list[int]:
    """How many hold each tensor; nothing where that is no matter, or where torch does not say it."""
    return [_use_count(tensor) for tensor in tensors if tensor.device.type == "cpu"] if _use_count is not None else []


def _wait_until_let_go(tensors: Sequence[Tensor], held: list[int]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while any(_use_count(tensor) > before for tensor, before in zip(tensors, held, strict=False)):
        if time.monotonic() > deadline:
            return
        time.sleep(0.00002)  # which lets a thread have the interpreter's lock
