"""What replicas returned from a step, as ``*_step_end`` of Lightning 1.x was given it and as its documentation showed it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch


class Parts:
    """The outputs of the replicas: by a key all replicas' tensors in one, by an index one replica's output.

    ``parts["output"]`` joins tensors along their first dimension, and numbers to a vector with one for each replica, as the
    releases 1.0 to 1.9 did; ``parts[0]["output"]`` is the first replica's, as their documentation said. Graphs are kept.
    ``len(parts)`` and ``for part in parts`` go over the replicas; ``keys()``, ``items()`` and ``dict(parts)`` over the joined.
    """

    def __init__(self, outputs: list[Mapping[str, Any]]) -> None:
        self._outputs = outputs

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, int | slice):
            return self._outputs[which]
        return joined([output[which] for output in self._outputs])

    def __len__(self) -> int:
        return len(self._outputs)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._outputs)

    def __contains__(self, key: object) -> bool:
        return key in self._outputs[0]

    def keys(self) -> list[str]:
        """The keys of the first replica's output."""
        return list(self._outputs[0])

    def values(self) -> list[Any]:
        """The joined values."""
        return [self[key] for key in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        """Keys with their joined values."""
        return [(key, self[key]) for key in self.keys()]

    def get(self, key: str, default: Any = None) -> Any:
        """The joined value of a key, or ``default``."""
        return self[key] if key in self else default  # noqa: SIM401  # this is no dict


def joined(values: list[Any]) -> Any:
    """One value of those of the replicas: tensors along their first dimension, numbers as a vector, others as a list."""
    if all(isinstance(value, torch.Tensor) for value in values):
        return torch.cat([value.reshape(1) if value.ndim == 0 else value for value in values])
    if all(isinstance(value, int | float) for value in values):
        return torch.tensor(values)
    return values


def gathered(outputs: list[Any]) -> Any:
    """What ``*_step_end`` is given of the replicas' outputs."""
    return Parts(outputs) if all(isinstance(output, Mapping) for output in outputs) else joined(outputs)
