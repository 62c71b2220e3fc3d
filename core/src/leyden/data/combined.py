"""Several training loaders read as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from leyden.data.loaders import INFINITE, length_of, several
from leyden.messages import alternatives

_LENGTHS: dict[str, Callable[[list[int | float]], int | float]] = {
    "min_size": min,
    "max_size": max,
    "max_size_cycle": max,
    "sequential": sum,
}

_NOTHING = object()


class CombinedLoader:
    """Reads a list or dict of loaders, nested as the user likes; a batch has the same nesting.

    Modes: ``min_size`` ends with the shortest; ``max_size_cycle`` ends with the longest and starts the others over;
    ``max_size`` ends with the longest and gives None for those that ended; ``sequential`` reads one after the other and
    gives ``(batch, batch_idx, dataloader_idx)``.
    """

    def __init__(self, iterables: Any, mode: str = "min_size") -> None:
        """Takes the loaders.

        Args:
            iterables: a list, tuple or dict of loaders, or of such.
            mode: ``"min_size"``, ``"max_size"``, ``"max_size_cycle"`` or ``"sequential"``.

        Raises:
            ValueError: there is no such mode.
        """
        if mode not in _LENGTHS:
            raise ValueError(f"mode={mode!r}{alternatives(mode, _LENGTHS, 'the modes')}")
        self.iterables = iterables
        self.mode = mode

    @property
    def flattened(self) -> list[Any]:
        """The loaders, in order."""
        found: list[Any] = []
        _map(self.iterables, found.append)
        return found

    def with_loaders(self, loaders: list[Any]) -> CombinedLoader:
        """One of the same nesting and mode that reads other loaders, given in order."""
        return CombinedLoader(_filled(self.iterables, loaders), self.mode)

    def __len__(self) -> int:
        """Batches in an epoch.

        Raises:
            TypeError: a loader that decides it does not know its length.
        """
        length = self.length_of([length_of(loader) for loader in self.flattened])
        if length == INFINITE:
            raise TypeError("a loader of this CombinedLoader does not say how many batches it has")
        return int(length)

    def length_of(self, lengths: list[int | float]) -> int | float:
        """Batches in an epoch, where the loaders have so many."""
        return _LENGTHS[self.mode](lengths)

    def __iter__(self) -> Iterator[Any]:
        loaders = self.flattened
        return self.read(lambda index, cycle, done: iter(loaders[index]))

    @property
    def has_lengths(self) -> bool:
        """Whether every loader says how many batches it has, and so where it is when so many batches are done."""
        return all(length_of(loader) != INFINITE for loader in self.flattened)

    def read(
        self, opened: Callable[[int, int, int], Iterator[Any]], done: int = 0, counts: list[int | float] | None = None
    ) -> Iterator[Any]:
        """Reads an epoch.

        Args:
            opened: returns the iterator of loader ``index`` in its ``cycle``, starting after ``done`` batches of that.
            done: batches of the epoch to start after; only if the loaders have lengths.
            counts: the lengths, where this process reads but a part of each.
        """
        loaders = self.flattened
        lengths = counts if counts is not None else [length_of(loader) if done else 0 for loader in loaders]
        if self.mode == "sequential":
            for dataloader_idx, length in enumerate(lengths):
                if done and done >= length:
                    done -= int(length)
                    continue
                for batch_idx, batch in enumerate(opened(dataloader_idx, 0, done), done):
                    yield batch, batch_idx, dataloader_idx
                done = 0
            return
        # Whoever has done all its batches has not noticed that it ended, so it stands at the end of its last cycle.
        places = [divmod(done - 1, int(length)) if done and length else (0, -1) for length in lengths]
        cycles = [cycle if self.mode == "max_size_cycle" else 0 for cycle, _ in places]
        ended = [cycle > 0 for cycle in cycles]
        iterators = [
            opened(index, cycles[index], int(length) if cycle > cycles[index] else batch + 1)
            for index, ((cycle, batch), length) in enumerate(zip(places, lengths, strict=True))
        ]
        while True:
            values: list[Any] = []
            for index, iterator in enumerate(iterators):
                try:
                    values.append(next(iterator))
                    continue
                except StopIteration:
                    ended[index] = True
                if self.mode == "min_size" or all(ended):
                    return
                values.append(None)
                if self.mode == "max_size_cycle":
                    cycles[index] += 1
                    iterators[index] = opened(index, cycles[index], 0)
                    values[-1] = next(iterators[index], _NOTHING)
                    if values[-1] is _NOTHING:
                        raise ValueError(
                            f"the loader {_places(self.iterables)[index]} of a CombinedLoader gave no batch when it was read "
                            f"over again; it is empty, or an iterator, which can be read once: pass a DataLoader or a list, or "
                            f"CombinedLoader(..., mode='min_size')"
                        )
            yield _filled(self.iterables, values)


def _map(value: Any, function: Callable[[Any], Any]) -> Any:
    """Applies ``function`` to each loader of a nesting; what is given is a nesting, or one loader."""

    def inner(item: Any) -> Any:
        return _map(item, function) if several(item) else function(item)

    if isinstance(value, Mapping):
        return {key: inner(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(inner(item) for item in value)
    return function(value)


def _places(value: Any, at: str = "") -> list[str]:
    """Where in a nesting each loader is, in order, as one would write it: ``['a'][0]``."""
    if isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        nested = ((key, item, several(item)) for key, item in items)
        return [
            place for key, item, nest in nested for place in (_places(item, f"{at}[{key!r}]") if nest else [f"{at}[{key!r}]"])
        ]
    return [at]


def _filled(iterables: Any, values: list[Any]) -> Any:
    """The nesting of ``iterables`` with ``values`` in the places of the loaders, in order."""
    remaining = iter(values)
    return _map(iterables, lambda _: next(remaining))
