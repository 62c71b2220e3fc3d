"""The order in which DDP has gradients in its buckets, which a run that goes on takes over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from leyden_strategies.nothing import nothing_of, sparse_weights

if TYPE_CHECKING:
    from torch.nn.parallel import DistributedDataParallel


class BucketOrder:
    """Learns the order of the first backward, by which DDP orders its buckets for all steps that follow.

    The last bit of a sum over three or more ranks depends on where in a bucket a number is. A run that goes on from a checkpoint
    would reduce its first gradients in the order in which parameters were registered, and so differ from one that did not end.
    """

    def __init__(self, ddp: DistributedDataParallel) -> None:
        self._ddp = ddp
        self._parameters = [parameter for parameter in ddp.module.parameters() if parameter.requires_grad]
        self._handles: list[Any] = []
        self.indices: list[int] = []
        """The parameters in the order of their gradients."""

    @property
    def is_unknown(self) -> bool:
        """Whether no backward was watched yet, nor the order of one taken over."""
        return not self.indices and not self._handles

    def watch(self) -> None:
        """Watches the next backward, which is DDP's first."""
        found = self.indices  # and not self: whoever keeps a parameter must not keep DDP

        def watched(index: int, parameter: Any) -> Any:
            return parameter.register_post_accumulate_grad_hook(lambda _: found.append(index))

        self._handles = [watched(index, parameter) for index, parameter in enumerate(self._parameters)]

    def unwatch(self) -> None:
        """That was it."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def take(self, indices: list[int]) -> None:
        """Has DDP order its buckets as by a backward in that order, of which no gradient remains; all ranks call it.

        Where somebody else watches gradients, or some are sparse, it is left to the first step: what it comes to then differs
        in the last bits from the run that the order is of.
        """
        if sorted(indices) != list(range(len(self._parameters))) or any(map(_is_watched, self._parameters)):
            return
        if sparse_weights(self._ddp.module):
            return
        self.indices = list(indices)
        gradients = [parameter.grad for parameter in self._parameters]
        for parameter in self._parameters:
            parameter.grad = None
        with torch.enable_grad():
            nothing = nothing_of((self._parameters[index] for index in reversed(indices)), sparse=set())
        reducer = self._ddp.reducer
        reducer.prepare_for_forward()
        reducer.prepare_for_backward([])
        nothing.backward()
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        # And not in the next forward: it would put gradients of a window that the checkpoint brought into the buckets, where
        # they are divided by the number of ranks instead of multiplied by its inverse.
        self._ddp._has_rebuilt_buckets = reducer._rebuild_buckets()


def _is_watched(parameter: nn.Parameter) -> bool:
    return bool(parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None))
