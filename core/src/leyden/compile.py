"""Compiles step functions with torch.compile, and lets them log without leaving the graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from leyden.messages import did_you_mean, listed, quoted, shown
from leyden.metrics.store import Metrics

if TYPE_CHECKING:
    from leyden.trainer import Trainer


class TracedMetrics(Metrics):
    """Metrics of a run whose steps are compiled.

    While a step is traced, ``log`` appends to a list, which the compiler does after the graph and without a break; the values
    are taken from there when the step returned.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pending: list[tuple[Any, ...]] = []
        """What the running step logged so far: the arguments of :meth:`log`."""

    def log(self, name: str, value: Any, options: tuple[Any, ...], batch_size: int | None) -> None:
        """Keeps a value, as the base class does, when the step returned if it is compiled."""
        if not torch.compiler.is_compiling():
            super().log(name, value, options, batch_size)
        elif isinstance(value, torch.Tensor):
            self.pending.append((value.clone(), name, options, batch_size))  # the step may change it in place
        else:
            self.pending.append((value, name, options, batch_size))

    def take(self) -> None:
        """Logs what the step that just returned has left."""
        for value, name, options, batch_size in self.pending:
            super().log(name, value, options, batch_size)
        self.pending.clear()


def check_options(options: Any) -> dict[str, Any] | None:
    """The options of ``torch.compile`` that ``Trainer(compile=...)`` stands for; None to compile nothing.

    Raises:
        TypeError: it is neither True, False nor a dict, or ``torch.compile`` has no such option.
    """
    if options is None or options is False:
        return None
    if options is True:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(
            f"Trainer(compile={quoted(options)}): expected True, False or a dict of torch.compile's options, got {shown(options)}"
        )
    known = [name for name in inspect.signature(torch.compile).parameters if name not in ("model", "disable")]
    for name in options:
        if name not in known:
            hint = did_you_mean(str(name), known)
            raise TypeError(
                f"Trainer(compile={quoted(options)}): torch.compile has no option {name!r}{hint + ' Its' if hint else '; its'} "
                f"options: {listed(known)}"
            )
    return dict(options)


def compiled(trainer: Trainer, step: Callable[..., Any]) -> Callable[..., Any]:
    """A step function as the Trainer was asked to run it: compiled, or as it is.

    Tracing starts inside what the strategy wrapped and outside of the module, so nothing of the module is replaced; the
    precision's contexts stay outside, where they break no graph.
    """
    if trainer.compile_options is None:
        return step
    run: Callable[..., Any] = torch.compile(step, **trainer.compile_options)

    def call(*args: Any, **kwargs: Any) -> Any:
        metrics = trainer.metrics
        assert isinstance(metrics, TracedMetrics)
        output = run(*args, **kwargs)
        metrics.take()
        return output

    return call


def leave_out(trainer: Trainer, owner: object, *names: str) -> None:
    """Has compiled steps call these methods of an object that lives for one run without tracing them."""
    if trainer.compile_options is not None:
        for name in names:
            setattr(owner, name, torch.compiler.disable(getattr(owner, name)))  # type: ignore[no-untyped-call]  # torch has no types here
