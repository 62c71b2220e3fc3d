"""Saves what a sampler of the user draws its order from, so that it can be drawn again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import numpy as np
import torch

_DEPTH = 4


class SamplerState:
    """The generators that a sampler, and samplers in it, have as attributes, and their numbers and orders that have changed.

    An order is a list of indices, or of lists of them, or an array: samplers shuffle such in place, the one of the epoch before.

    A sampler with ``state_dict`` and ``load_state_dict`` is asked for its state instead.
    """

    def __init__(self, sampler: Any) -> None:
        """Takes a batch sampler or a sampler; ``list(range(9))`` is one too."""
        self._samplers = list(_nested(sampler))
        self._first = [(_numbers(item), _orders(item)) for item in self._samplers]
        self._pending: dict[str, Any] | None = None
        self.began: dict[str, Any] = {}
        """The state when the running epoch began."""

    @property
    def has_state(self) -> bool:
        """Whether there is a state to load, or one to save."""
        return self._pending is not None or bool(self._current())

    def before(self) -> None:
        """An epoch's iterator is about to be made: loads a state that was saved between two epochs."""
        if self._pending is not None and not self._pending["began"]:
            self._take()

    def begin(self) -> None:
        """An epoch's order is about to be drawn: loads a state that was saved after this moment, and remembers the state.

        Between the two, torch may draw the seed of the workers from the generator that it also gave the sampler.
        """
        if self._pending is not None:
            self._take()
        current = self._current()
        self.began = {**current, "began": True} if current else {}

    def state_dict(self) -> dict[str, Any]:
        """The state between two epochs, as plain data; empty if there is none."""
        if self._pending is not None:
            return self._pending
        current = self._current()
        return {**current, "began": False} if current else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes a state back when the next epoch begins."""
        self._pending = {"samplers": state["samplers"], "began": state["began"]} if "samplers" in state else None

    def _take(self) -> None:
        assert self._pending is not None
        for sampler, state in zip(self._samplers, self._pending["samplers"], strict=False):
            _load(sampler, state)
        self._pending = None

    def _current(self) -> dict[str, Any]:
        states = [_save(sampler, first) for sampler, first in zip(self._samplers, self._first, strict=True)]
        return {"samplers": states} if any(states) else {}


def _nested(sampler: Any) -> Iterator[Any]:
    for _ in range(_DEPTH):
        if sampler is None or isinstance(sampler, list | tuple | range):
            return
        yield sampler
        sampler = getattr(sampler, "sampler", getattr(sampler, "batch_sampler", None))


def _attributes(sampler: Any) -> dict[str, Any]:
    return getattr(sampler, "__dict__", {})


def _numbers(sampler: Any) -> dict[str, Any]:
    return {name: value for name, value in _attributes(sampler).items() if type(value) in (int, float, bool, str)}


def _orders(sampler: Any) -> dict[str, list[torch.Tensor]]:
    if type(sampler).__module__.startswith("torch.utils.data"):
        return {}  # torch's own change none
    found = {name: _flat(value) for name, value in _attributes(sampler).items()}
    return {name: flat for name, flat in found.items() if flat is not None}


def _flat(value: Any) -> list[torch.Tensor] | None:
    """The numbers of an order, and the lengths of its lists if it is one of lists; None if it is no order."""
    if isinstance(value, torch.Tensor):
        return [value.detach().cpu().clone()]
    if isinstance(value, np.ndarray):
        wide = {"i": np.int64, "u": np.int64, "f": np.float64, "b": np.bool_}.get(value.dtype.kind)
        return None if wide is None else [torch.from_numpy(value.astype(wide))]
    if type(value) is not list or not value:
        return None
    lengths: list[torch.Tensor] = []
    if all(type(item) is list for item in value):
        lengths = [torch.tensor([len(item) for item in value])]
        value = list(chain.from_iterable(value))
    if not all(type(item) is int and abs(item) < 2**63 for item in value):
        return None
    return [torch.tensor(value, dtype=torch.int64), *lengths]


def _put(sampler: Any, name: str, flat: list[torch.Tensor]) -> None:
    """Takes an order back: in place where that is possible, for others may hold the same list."""
    value = _attributes(sampler).get(name)
    if isinstance(value, list):
        numbers: list[Any] = flat[0].tolist()
        if len(flat) > 1:
            rest = iter(numbers)
            numbers = [list(islice(rest, length)) for length in flat[1].tolist()]
        value[:] = numbers
    elif isinstance(value, np.ndarray):
        array = flat[0].numpy().astype(value.dtype)
        if array.shape == value.shape and value.flags.writeable:
            value[...] = array
        else:
            setattr(sampler, name, array)
    elif isinstance(value, torch.Tensor):
        setattr(sampler, name, flat[0].to(value.device))


def _are_same(one: list[torch.Tensor], other: list[torch.Tensor] | None) -> bool:
    if other is None or [tensor.dtype for tensor in one] != [tensor.dtype for tensor in other]:
        return False
    return all(map(torch.equal, one, other))


def _is_stateful(sampler: Any) -> bool:
    return callable(getattr(sampler, "state_dict", None)) and callable(getattr(sampler, "load_state_dict", None))


def _save(sampler: Any, first: tuple[dict[str, Any], dict[str, list[torch.Tensor]]]) -> dict[str, Any]:
    if _is_stateful(sampler):
        return {"own": sampler.state_dict()}
    state: dict[str, Any] = {}
    generators = {name: _generator_state(value) for name, value in _attributes(sampler).items() if _is_generator(value)}
    numbers = {name: value for name, value in _numbers(sampler).items() if name not in first[0] or first[0][name] != value}
    orders = {name: flat for name, flat in _orders(sampler).items() if not _are_same(flat, first[1].get(name))}
    if generators:
        state["generators"] = generators
    if numbers:
        state["numbers"] = numbers
    if orders:
        state["orders"] = orders
    return state


def _load(sampler: Any, state: dict[str, Any]) -> None:
    if "own" in state and _is_stateful(sampler):
        sampler.load_state_dict(state["own"])
    for name, generator_state in state.get("generators", {}).items():
        generator = _attributes(sampler).get(name)
        if _is_generator(generator):
            _set_generator(generator, generator_state)
    for name, value in state.get("numbers", {}).items():
        setattr(sampler, name, value)
    for name, flat in state.get("orders", {}).items():
        _put(sampler, name, flat)


def _is_generator(value: Any) -> bool:
    return isinstance(value, torch.Generator | random.Random | np.random.Generator | np.random.RandomState)


def _generator_state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        version, words, gauss = generator.getstate()
        return [version, torch.tensor(words), gauss]
    bits = generator.bit_generator if isinstance(generator, np.random.Generator) else generator._bit_generator
    return _without_arrays(bits.state)


def _set_generator(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        version, words, gauss = state
        generator.setstate((version, tuple(words.tolist()), gauss))
    else:
        bits = generator.bit_generator if isinstance(generator, np.random.Generator) else generator._bit_generator
        bits.state = _with_arrays(state, bits.state)


def _without_arrays(state: Any) -> Any:
    """A bit generator's state with int64 tensors for its arrays of smaller numbers, and lists for others."""
    if isinstance(state, dict):
        return {key: _without_arrays(value) for key, value in state.items()}
    if isinstance(state, np.ndarray):
        return torch.from_numpy(state.astype(np.int64)) if state.itemsize < 8 else [int(number) for number in state]
    return state


def _with_arrays(state: Any, like: Any) -> Any:
    if isinstance(like, dict):
        return {key: _with_arrays(state[key], value) for key, value in like.items()}
    if isinstance(like, np.ndarray):
        return np.asarray(state.tolist() if isinstance(state, torch.Tensor) else state, dtype=like.dtype)
    return state
