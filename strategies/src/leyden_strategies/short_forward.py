"""What is left of DDP's forward once everything that it looks at in each step is known."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.nn.parallel import DistributedDataParallel


REDUCER = ("prepare_for_forward", "_rebuild_buckets", "prepare_for_backward")
"""What DDP's forward calls of its reducer in each step."""


def can_shorten(ddp: DistributedDataParallel) -> bool:
    """Whether no option of DDP and nothing compiled needs all of its forward.

    Args:
        ddp: has run two steps, the second of which orders its buckets anew.
    """
    needs_all = (
        ddp.find_unused_parameters
        or ddp.static_graph
        or ddp.will_sync_module_buffers()  # type: ignore[no-untyped-call]  # torch has no types here
        or not getattr(ddp, "_has_rebuilt_buckets", False)
        or _compiles()
        or os.environ.get("TORCH_DISTRIBUTED_DEBUG", "OFF").upper() != "OFF"  # DDP reports how long its forward takes
    )
    return not needs_all and all(hasattr(ddp.reducer, name) for name in REDUCER)


def short_forward(ddp: DistributedDataParallel, ready: Callable[[], None] | None = None) -> Callable[..., Any]:
    """DDP's forward without what it does in vain in each step: 50 microseconds, which is as long as a small layer takes.

    That is: looking for options that are off, moving a batch that is on the device, keeping times for reports that nobody asked
    for, and telling a compiler that nobody uses which DDP runs. What prepares its reducer for the gradients stays, by the three
    calls that forward itself makes.

    Args:
        ddp: one that :func:`can_shorten` its forward.
        ready: called as soon as the reducer expects gradients, for one that backward does not bring.

    Returns:
        A function like ``ddp.forward``.
    """
    begin, refuse_unfinished, expect_gradients = (getattr(ddp.reducer, name) for name in REDUCER)
    whole: Callable[..., Any] = ddp.forward
    step = ddp.module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not ddp.require_backward_grad_sync:  # inside of an accumulation window
            return whole(*args, **kwargs)
        begin()
        refuse_unfinished()  # raises where the last backward left parameters out; there is nothing to order anew
        output = step(*args, **kwargs)
        expect_gradients([])
        if ready is not None:
            ready()
        return output

    return forward


def _compiles() -> bool:
    """Whether anything was compiled in this process: the compiler cuts graphs where DDP's buckets end."""
    utilities = sys.modules.get("torch._dynamo.utils")
    return utilities is not None and bool(utilities.counters["frames"])
