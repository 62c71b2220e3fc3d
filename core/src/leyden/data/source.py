"""The way of a batch from its loader to the device."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import torch

from leyden.data.loaders import Loader
from leyden.data.reading import Reader, counted, read_ahead
from leyden.datamodule import DataModule
from leyden.module import Module, is_overridden
from leyden.profiler import Profiler
from leyden.strategy import Strategy

_METHODS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


def bind_transfer(
    module: Module, datamodule: DataModule | None, device: torch.device, profiler: Profiler
) -> Callable[[Any, int], Any] | None:
    """The function of ``(batch, dataloader_idx)`` that brings a batch to the device.

    The data module's transfer methods replace the module's. None where batches can be used as they come: on the CPU, with
    no method overridden.
    """
    chosen: dict[str, Callable[..., Any]] = {}
    overridden = False
    for name in _METHODS:
        chosen[name] = getattr(module, name)
        overridden |= is_overridden(name, module, Module)
        if datamodule is not None and is_overridden(name, datamodule, DataModule):
            chosen[name] = getattr(datamodule, name)
            overridden = True
    if not overridden and device.type == "cpu":
        return None
    before, move, after = (_checked(chosen[name], name) for name in _METHODS)

    def transfer(batch: Any, dataloader_idx: int) -> Any:
        return after(move(before(batch, dataloader_idx), device, dataloader_idx), dataloader_idx)

    return profiler.wrap(transfer, "[Data]transfer")


def _checked(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A transfer method of the user's own that says so when it returns no batch; the base class's as it is."""
    owner = getattr(method, "__self__", None)
    if owner is None or not is_overridden(name, owner, Module if isinstance(owner, Module) else DataModule):
        return method

    def call(batch: Any, *more: Any) -> Any:
        moved = method(batch, *more)
        if moved is None and batch is not None:
            raise TypeError(f"{type(owner).__name__}.{name} returned None; expected the batch: end it with `return batch`")
        return moved

    return call


def batches(
    loader: Loader,
    transfer: Callable[[Any, int], Any] | None,
    device: torch.device,
    dataloader_idx: int = 0,
    epoch: object = 0,
    done: int = 0,
    sure: bool = True,
    knows_last: bool = True,
) -> Generator[tuple[Any, bool], None, None]:
    """Pairs of a batch on the device and whether it is the last, for one epoch of one loader, after ``done`` batches of it.

    Close it where reading ends early: a traceback that somebody keeps would keep the loader's workers too. One batch is read
    ahead where the length is not certain, where a copy to the device can overlap the step before, and where a length that
    turned out to be wrong would not do (``sure`` is False). Where nobody asks which batch is the last (``knows_last`` is False),
    that is done for a device alone.
    """
    assert loader.stream is not None
    ahead = not loader.reliable or device.type != "cpu" or not sure
    loader.stream.read_ahead(ahead)
    reader = Reader(loader.stream, loader.where, transfer, dataloader_idx, epoch, done)
    if not knows_last and device.type == "cpu":
        ahead = False
    return read_ahead(reader, loader.reads - done) if ahead else counted(reader, loader.reads - done)


def training_batches(
    strategy: Strategy,
    loader: Loader,
    transfer: Callable[[Any, int], Any] | None,
    epoch: int,
    done: int,
    kept: tuple[Any] | None = None,
) -> Generator[tuple[Any, bool], None, None]:
    """As :func:`batches`; so many on every process, where the strategy has several that may have different numbers.

    ``kept`` has the first of them, if a checkpoint was taken between its reading and its step.
    """
    even = strategy.world_size == 1 or loader.even or loader.is_dealt

    def opened(position: int = 0) -> Generator[tuple[Any, bool], None, None]:
        return batches(loader, transfer, strategy.device, epoch=epoch, done=position, sure=even)

    begin, count = done, int(loader.length) - done if loader.reliable else None
    if not even and done and strategy.uneven == "wrap":
        begin, count = _wrapped(loader, opened, done)
    fetched = opened(begin) if kept is None else _after(kept[0], begin + 1 == loader.length, opened(begin + 1))
    return fetched if even else strategy.align(fetched, opened, count)


def _wrapped(
    loader: Loader, opened: Callable[[int], Generator[tuple[Any, bool], None, None]], done: int
) -> tuple[int, int | None]:
    """Where a process that begins again at its end is after ``done`` batches, and how many it then has that it has not had."""
    if loader.reliable:
        return done % int(loader.length) if loader.length else 0, int(loader.length) - done
    with closing(opened(done)) as rest:
        if next(rest, None) is not None:
            return done, None
    with closing(opened(0)) as whole:
        length = sum(1 for _ in whole)
    return done % length if length else 0, 0


def _after(batch: Any, is_last: bool, others: Generator[tuple[Any, bool], None, None]) -> Generator[tuple[Any, bool], None, None]:
    try:
        yield batch, is_last
        del batch  # freed before the next one is read
        yield from others
    finally:
        others.close()
