"""Copies a checkpoint, so that what it was made of may change."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor


class Snapshots:
    """Makes one copy at a time, in memory that it keeps for the next: new memory takes longer to get than to fill.

    Tensors of a GPU are copied to pinned memory in the order of its stream, so that neither the copy nor a later step waits for
    the other; :meth:`ready` does. Tensors that share memory share it in the copy, too.
    """

    def __init__(self) -> None:
        self._buffers: list[Tensor] = []
        self._next = 0
        self._copied: dict[int, Tensor] = {}
        self._events: list[Any] = []

    def take(self, value: Any) -> Any:
        """A copy of ``value``: nested dicts, lists and tuples of tensors and plain data. The one before is overwritten."""
        self._next, self._copied, self._events = 0, {}, []
        devices: set[torch.device] = set()
        found = self._copy(value, devices)
        for device in devices:
            event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch declares no types here
            event.record(torch.cuda.current_stream(device))
            self._events.append(event)
        self._copied = {}
        del self._buffers[self._next :]
        return found

    def ready(self) -> None:
        """Waits until the copy is there; any thread may."""
        for event in self._events:
            event.synchronize()

    def _copy(self, value: Any, devices: set[torch.device]) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value, devices)
        kind = type(value)
        if kind in (dict, OrderedDict):
            found = kind((key, self._copy(item, devices)) for key, item in value.items())
            if kind is OrderedDict:
                vars(found).update(vars(value))  # a module's state_dict has its versions there
            return found
        if kind in (list, tuple):
            return kind(self._copy(item, devices) for item in value)
        return copy.deepcopy(value)

    def _tensor(self, tensor: Tensor, devices: set[torch.device]) -> Tensor:
        usual = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout is torch.strided and not tensor.is_quantized
        if not usual or tensor.device.type not in ("cpu", "cuda") or tensor.is_conj() or tensor.is_neg():
            return tensor.detach().clone()
        storage = tensor.untyped_storage()
        buffer = self._copied.get(storage._cdata)
        if buffer is None:
            on_gpu = tensor.device.type == "cuda"
            buffer = self._buffer(storage.nbytes(), pinned=on_gpu)
            for copy_of, original in zip(_pieces(buffer.untyped_storage()), _pieces(storage), strict=True):
                copy_of.copy_(original, non_blocking=on_gpu)
            self._copied[storage._cdata] = buffer
            if on_gpu:
                devices.add(tensor.device)
        place = torch.empty(0, dtype=tensor.dtype)
        place.set_(buffer.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
        return place

    def _buffer(self, size: int, *, pinned: bool) -> Tensor:
        index, self._next = self._next, self._next + 1
        if index < len(self._buffers):
            old = self._buffers[index]
            if old.numel() == size and old.is_pinned() == pinned:
                return old
        new = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
        self._buffers[index : index + 1] = [new]
        return new


def _pieces(storage: torch.UntypedStorage) -> list[Tensor]:
    """The bytes of ``storage`` as numbers of eight bytes, which torch copies a quarter faster than single ones, and the rest."""
    whole, rest = divmod(storage.nbytes(), 8)
    words = torch.empty(0, dtype=torch.int64, device=storage.device).set_(storage, 0, (whole,), (1,))
    if not rest:
        return [words]
    return [words, torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage, whole * 8, (rest,), (1,))]
