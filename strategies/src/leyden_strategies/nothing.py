"""A loss that is 0 and gives each of some parameters a gradient of 0."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def sparse_weights(module: nn.Module) -> set[int]:
    """The ``id`` of each parameter of which DDP expects a sparse gradient."""
    embeddings = (child for child in module.modules() if isinstance(child, nn.Embedding | nn.EmbeddingBag))
    return {id(child.weight) for child in embeddings if child.sparse}


def nothing_of(parameters: Iterable[Tensor], sparse: set[int]) -> Any:
    """A 0 that depends on these parameters; backward comes to the last of them first.

    Args:
        parameters: at least one.
        sparse: the ``id`` of those whose gradient is to be sparse.
    """

    def some(parameter: Tensor) -> Tensor:
        if id(parameter) in sparse:
            parameter = functional.embedding(torch.zeros(1, dtype=torch.int64, device=parameter.device), parameter, sparse=True)
        return (torch.view_as_real(parameter) if parameter.is_complex() else parameter).sum() * 0.0

    return sum(map(some, parameters))
