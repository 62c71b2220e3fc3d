"""Counts a batch whose ``training_step`` returned None as a step, as Lightning's Trainer does."""

from __future__ import annotations

import dis
from collections.abc import Callable
from functools import wraps
from types import CodeType
from typing import Any

import leyden

from leyden_lightning.legacy.users import codes


def counted(trainer: leyden.Trainer, module: leyden.Module, step: Callable[..., Any]) -> Callable[..., Any] | None:
    """``step``, counting; None where the user's code has no None that could be returned, so that it costs nothing there.

    In Lightning the optimizer steps after such a batch too, with the gradients cleared: nothing changes but the count. The
    middle of an accumulation window is no step, and its end is leyden's to decide.
    """
    if not getattr(trainer, "counts_empty_steps", False) or trainer.accumulate_grad_batches != 1 or not _may_be_none(module):
        return None
    progress = trainer.progress

    @wraps(step)
    def training_step(*args: Any, **kwargs: Any) -> Any:
        output = step(*args, **kwargs)
        if output is None and len(progress.optimizer_steps) == 1:
            progress.optimizer_steps[0] += 1
            progress.global_step += 1
        return output

    return training_step


def _may_be_none(module: leyden.Module) -> bool:
    """Whether ``training_step``, or a method of the class that it calls, has None among what it works with."""
    methods: dict[str, list[CodeType]] = {}
    for code in codes(module):
        methods.setdefault(code.co_name, []).append(code)
    seen: set[str] = set()
    waiting = ["training_step", "training_step_end"]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for code in methods.get(name, ()):
            if any(i.argval is None and i.opname in ("LOAD_CONST", "RETURN_CONST") for i in dis.get_instructions(code)):
                return True
            waiting += [other for other in code.co_names if other in methods]
    return False
