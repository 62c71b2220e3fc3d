"""What the replicas of a module log in one step, as one value for each key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leyden.metrics.store import REDUCTIONS, Metrics, is_metric
from leyden.metrics.values import largest, smallest


@dataclass
class Logged:
    """One call of ``log()`` in one replica."""

    value: Any
    options: tuple[Any, ...]
    batch_size: int | None
    samples: int
    """Samples that the replica had."""

    @property
    def weight(self) -> int:
        """What it counts for in a mean."""
        return self.samples if self.batch_size is None else self.batch_size


class ReplicaLogs:
    """Collects what replicas log, one after another, and logs it as one run on the whole batch would have.

    A mean is weighted by the samples of each replica, or the ``batch_size`` that it gave; sums, minima and maxima are taken over
    the replicas. A torchmetrics object that all of them update is logged once; its value of the step is the mean of theirs.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.device: torch.device | None = None
        self.found: dict[tuple[str, int], list[Logged]] = {}
        self._counts: dict[str, int] = {}
        self._samples = 0

    @contextmanager
    def collecting(self, device: torch.device) -> Iterator[None]:
        """Inside, ``log()`` appends here; afterwards everything is logged, with values on ``device``."""
        self.device = device
        attributes = vars(self.metrics)
        attributes["log"] = self._log  # for the module and every callback, whichever way they come to it
        try:
            yield
        finally:
            del attributes["log"]
        for (name, _), logged in self.found.items():
            self._merge(name, logged)

    def begin(self, samples: int) -> None:
        """The next replica, which has so many samples, begins."""
        self._counts.clear()
        self._samples = samples

    def _log(self, name: str, value: Any, options: tuple[Any, ...], batch_size: int | None) -> None:
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.reshape(()).to(self.device, non_blocking=True)
            value = value if options[5] else value.detach().clone()  # enable_graph
        elif is_metric(value) and not callable(getattr(value, "items", None)):
            cache = getattr(value, "_forward_cache", None)
            value = (value, cache.clone() if isinstance(cache, Tensor) else cache)
        elif isinstance(value, np.generic | np.ndarray) and value.size == 1:
            value = float(value.item())
        elif not isinstance(value, int | float):
            Metrics.log(self.metrics, name, value, options, batch_size)  # says what is wrong with it
            return
        count = self._counts[name] = self._counts.get(name, 0) + 1
        self.found.setdefault((name, count), []).append(Logged(value, options, batch_size, self._samples))

    def _merge(self, name: str, logged: list[Logged]) -> None:
        first = logged[0]
        for other in logged[1:]:
            if other.options != first.options:
                for one in logged:  # is refused there
                    self.metrics.log(name, _plain(one.value), one.options, one.batch_size)
        weights = [one.weight for one in logged]
        values = [one.value for one in logged]
        if isinstance(first.value, tuple):
            metric, caches = first.value[0], [cache for _, cache in values]
            if all(isinstance(cache, Tensor) and cache.is_floating_point() for cache in caches):
                metric._forward_cache = mean([cache.to(self.device) for cache in caches], weights)
            value: Any = metric
        else:
            reduction = REDUCTIONS.get(first.options[4], "mean") if _hashable(first.options[4]) else "mean"
            value = mean(values, weights) if reduction == "mean" else _reduced(reduction, values)
        self.metrics.log(name, value, first.options, sum(weights))


def mean(values: list[Any], weights: list[float] | list[int]) -> Any:
    """The mean of numbers or tensors, weighted; without weights in all the plain one."""
    if len(values) == 1:
        return values[0]
    total = sum(weights)
    shares = [weight / total for weight in weights] if total else [1 / len(values)] * len(values)
    # sum() would begin with 0, which is one operation more on the device.
    result = values[0] * shares[0]
    for value, share in zip(values[1:], shares[1:], strict=True):
        result = result + value * share
    return result


def _reduced(reduction: str, values: list[Any]) -> Any:
    result = values[0]
    for value in values[1:]:
        if reduction == "sum":
            result = result + value
        elif isinstance(result, Tensor) or isinstance(value, Tensor):
            pick = torch.minimum if reduction == "min" else torch.maximum
            result = pick(torch.as_tensor(result), torch.as_tensor(value))
        else:
            result = (smallest if reduction == "min" else largest)((result, value))
    return result


def _plain(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _hashable(value: Any) -> bool:
    return getattr(value, "__hash__", None) is not None
