"""Where the time of a run goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from leyden.component import Component

T = TypeVar("T")


class Profiler(Component):
    """Measures nothing; subclasses override what differs.

    An action is a kind of owner in brackets, and what is done:

    * ``"[Module]Digits.training_step"``, ``"[Callback]EarlyStopping.on_train_epoch_end"``, ``"[Plugin]..."``: step functions
      and hook implementations;
    * ``"[Data]train.fetch"`` (or ``validation``, ``test``, ``predict``), inside it ``"[Data]transfer"``;
    * ``"[Step]zero_grad"``, ``"[Step]backward"``, ``"[Step]clip"``, ``"[Step]optimizer_step"``, ``"[Step]schedulers"``;
    * ``"[Log]log"`` for ``self.log``, ``"[Log]read"`` for reading values from the device, ``"[Log]record"`` for the loggers;
    * ``"[Loop]validation"``: validation inside fit.
    """

    group = "leyden.profilers"
    kind = "profiler"
    name = "none"

    def wrap(self, function: Callable[..., Any], action: str) -> Callable[..., Any]:
        """Returns the callable to use in place of ``function``; here ``function`` itself, so that it costs nothing.

        Called once a run for each step function, hook implementation and part of a step; several functions may be one action.
        """
        return function

    def wrap_iterator(self, iterator: Iterator[T], action: str) -> Iterator[T]:
        """Returns the iterator to use in place of ``iterator``, each of whose steps is an ``action``.

        Called once an epoch; core's items are pairs of a batch and whether it is the last.
        """
        fetch = iterator.__next__
        wrapped = self.wrap(fetch, action)
        return iterator if wrapped is fetch else iter(wrapped, object())  # ends when it raises StopIteration

    def wrap_method(self, owner: object, name: str, action: str) -> None:
        """Has an object that lives for one run use the wrapped method in place of its method ``name``."""
        method = getattr(owner, name)
        wrapped = self.wrap(method, action)
        if wrapped is not method:
            setattr(owner, name, wrapped)

    def profile(self, action: str) -> AbstractContextManager[Any]:
        """Measures a ``with`` block of the user's as ``action``; here it measures nothing."""
        return nullcontext()

    def summary(self) -> str:
        """What was measured, as text; empty if nothing was."""
        return ""
