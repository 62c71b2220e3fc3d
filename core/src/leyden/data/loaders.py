"""Where batches come from, and how many of them an epoch reads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset

from leyden.datamodule import DataModule
from leyden.messages import shown
from leyden.module import Module

if TYPE_CHECKING:
    from leyden.data.streams import Stream

INFINITE = float("inf")


@dataclass
class Loader:
    """Batches of one kind, limited as the Trainer's arguments say."""

    iterable: Any
    length: int | float
    """Batches an epoch reads; infinite where the iterable does not know its length and no count limits it."""

    whole: int | float
    """Batches the iterable has, infinite if unknown."""

    reliable: bool
    """Whether the length is certain, so that the last batch is known without reading one ahead."""

    name: str | None = None
    """The key under which the user gave it, if any."""

    where: str = "the loader"
    """Where the user gave it, for messages."""

    samples: int | None = None
    """How many samples this process reads in an epoch, where it reads but a part of them and that is known."""

    even: bool = False
    """Whether all processes, each of which reads batches of its own, are known to have as many."""

    @property
    def is_dealt(self) -> bool:
        """Whether its batches are dealt out among the processes."""
        return self.stream is not None and self.stream.deal is not None

    @property
    def reads(self) -> int | float:
        """Batches an epoch reads at most. What a stream says of its length is no limit: all that it gives is read."""
        return self.length if self.reliable or self.length != self.whole else INFINITE

    stream: Stream | None = None
    """Reads it; None if nobody does, as where a fit is only planned."""

    @property
    def draws_once(self) -> bool:
        """Whether torch, in a plain loop, would draw a number when this is iterated over."""
        return isinstance(self.iterable, DataLoader) and self.iterable.generator is None

    def step_seed(self, epoch: int) -> int | None:
        """What ``random`` and numpy are seeded with before the first step of an epoch, before another with so much more.

        None where batches are not seeded either, or no code of the user runs while one is read.
        """
        stream = self.stream
        return stream.seeds.own("step", stream.purpose, epoch) if stream is not None and stream.seeds_steps else None

    def batch_sizes(self) -> tuple[int, int] | tuple[None, None]:
        """How many samples torch's own sampler puts into each batch, and into the last one; None if it cannot be known."""
        loader = self.iterable
        if not (isinstance(loader, DataLoader) and self.reliable and type(loader.batch_sampler) is BatchSampler):
            return None, None
        size = loader.batch_sampler.batch_size
        try:
            # A sampler without length raises. Of a batch sampler that the user made, the loader's own attributes know nothing.
            samples = len(loader.batch_sampler.sampler) if self.samples is None else self.samples  # type: ignore[arg-type]
            rest = samples - int(self.whole - 1) * size
        except TypeError:
            return None, None
        return size, rest if self.length == self.whole and not loader.batch_sampler.drop_last else size


def source(stage: str, given: Any, datamodule: DataModule | None, module: Module) -> tuple[Any, str]:
    """What the user gave for a stage, from the first of: the argument, the data module, the module.

    Args:
        stage: ``"train"``, ``"val"``, ``"test"`` or ``"predict"``.
        given: the argument of ``fit`` and its like, or None.
        datamodule: the data module of the run.
        module: the module of the run.

    Returns:
        The loaders, None if there are none, and where they come from, for messages.
    """
    if given is not None:
        return given, f"{stage}_dataloaders"
    method = f"{stage}_dataloader"
    for owner, base in ((datamodule, DataModule), (module, Module)):
        if owner is not None and has_loader(owner, method, base):
            return getattr(owner, method)(), f"{type(owner).__name__}.{method}()"
    return None, method


def has_source(stage: str, given: Any, datamodule: DataModule | None, module: Module) -> bool:
    """Whether :func:`source` would find something, without asking anybody to make it."""
    method = f"{stage}_dataloader"
    there = has_loader(module, method, Module) or (datamodule is not None and has_loader(datamodule, method, DataModule))
    return given is not None or there


def has_loader(owner: object, method: str, base: type) -> bool:
    """Whether ``owner`` has the loader method itself, on its class or on the object."""
    own = getattr(owner, method, None)
    return own is not None and getattr(own, "__func__", own) is not getattr(base, method, None)


def is_loader(value: Any) -> bool:
    """Whether ``value`` is an iterable of batches rather than one batch.

    A list of tensors, or of tuples or dicts of tensors, is an iterable of batches; a list of such lists is ambiguous no
    longer: its elements hold batches, so it is several loaders.
    """
    if isinstance(value, DataLoader):
        return True
    if isinstance(value, Tensor | str | bytes | Mapping | tuple) or not isinstance(value, Iterable):
        return False
    if isinstance(value, list):
        return bool(value) and not _is_leaf(value[0])
    return True


def _is_leaf(value: Any) -> bool:
    # What a list must hold for the list to be one batch: tensors or numbers, not things that hold tensors.
    return isinstance(value, int | float | str) or (isinstance(value, Tensor) and value.dim() == 0)


def several(value: Any) -> bool:
    """Whether ``value`` is a list, tuple or dict of loaders."""
    if isinstance(value, Mapping):
        return bool(value) and all(_holds_batches(item) for item in value.values())
    if isinstance(value, list | tuple):
        return bool(value) and all(_holds_batches(item) for item in value)
    return False


def _holds_batches(value: Any) -> bool:
    # A list element that is itself a list of tensors is a batch; one that is a list of batches is a loader.
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, tuple | list | Mapping) for item in value)
    return several(value) if isinstance(value, Mapping | tuple) else is_loader(value)


def length_of(iterable: Any) -> int | float:
    """The number of batches, infinite if the iterable does not say."""
    if (
        isinstance(iterable, DataLoader)
        and isinstance(iterable.dataset, IterableDataset)
        and not isinstance(iterable.dataset, Sized)
    ):
        return INFINITE
    try:
        return len(iterable)
    except (TypeError, NotImplementedError):
        return INFINITE


def part_of(whole: int | float, fraction: float) -> int:
    """The whole batches that a fraction of so many is: of 0.57 of 100 they are 57, although that product is a little less."""
    return int(whole * fraction + 1e-6)


def limited(
    iterable: Any, limit: float, argument: str, where: str, name: str | None = None, whole: int | float | None = None
) -> Loader:
    """One loader under a limit.

    Args:
        iterable: the batches.
        limit: a whole number of batches, or a fraction from 0.0 to 1.0 of them.
        argument: the Trainer's argument that the limit comes from, for messages.
        where: where the loader comes from, for messages.
        name: the key under which the user gave it.
        whole: batches that this process reads, where those are but a part of the iterable's.

    Raises:
        TypeError: it is not an iterable of batches.
        ValueError: a fraction of an unknown length, or of so few batches that none is left.
    """
    if not isinstance(iterable, Iterable) or isinstance(iterable, Tensor | str | bytes | Mapping):
        hint = "; pass DataLoader(dataset, batch_size=...)" if isinstance(iterable, Dataset) else ""
        raise TypeError(f"{where}: expected a DataLoader or an iterable of batches, got {shown(iterable)}{hint}")
    whole = length_of(iterable) if whole is None else whole
    reliable = isinstance(iterable, Sequence) or (
        isinstance(iterable, DataLoader) and not isinstance(iterable.dataset, IterableDataset)
    )
    if isinstance(limit, int):
        return Loader(iterable, min(whole, limit), whole, reliable, name, where)
    if limit in (0.0, 1.0):
        return Loader(iterable, whole if limit else 0, whole, reliable, name, where)
    if whole == INFINITE:
        raise ValueError(f"{argument}={limit}: {where} does not say how many batches it has; pass a whole number of batches")
    length = part_of(whole, limit)
    if not length and whole:
        raise ValueError(
            f"{argument}={limit}: a fraction of {limit} of the {int(whole)} batches of {where} is none; "
            f"pass at least {math.ceil(1e6 / whole) / 1e6:g}, or a whole number of batches"
        )
    return Loader(iterable, length, whole, reliable, name, where)


def evaluation_loaders(given: Any, limit: float, argument: str, where: str) -> list[Loader]:
    """One Loader for each of the loaders given, in order."""
    if isinstance(given, Mapping):
        return [limited(value, limit, argument, f"{where}[{key!r}]", str(key)) for key, value in given.items()]
    if several(given):
        return [limited(value, limit, argument, f"{where}[{index}]") for index, value in enumerate(given)]
    return [limited(given, limit, argument, where)]


def names_of(loaders: Iterable[Loader]) -> list[str]:
    """What steps and keys call each of several loaders: the key under which it was given, else ``dataloader_idx_N``."""
    return [loader.name or f"dataloader_idx_{index}" for index, loader in enumerate(loaders)]


def set_epoch(iterable: Any, epoch: int) -> None:
    """Tells loaders, samplers and batch samplers that shuffle by epoch, as ``DistributedSampler`` does, which one it is."""
    for loader in getattr(iterable, "flattened", [iterable]):  # those that a CombinedLoader reads
        batches = getattr(loader, "batch_sampler", None)
        owners = (getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None), loader)
        for owner in {id(owner): owner for owner in owners}.values():
            setter = getattr(owner, "set_epoch", None)
            if callable(setter):
                setter(epoch)
