"""Where the time of a run goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from leyden.component import Component


class Profiler(Component):
    """Measures nothing; subclasses override what differs."""

    group = "leyden.profilers"
    kind = "profiler"
    name = "none"

    def wrap(self, function: Callable[..., Any], action: str) -> Callable[..., Any]:
        """Returns the callable to use in place of ``function``; here ``function`` itself, so that it costs nothing.

        Called once for each step function of a run and each hook implementation, with ``action`` saying whose it is,
        such as ``"[Module]Digits.training_step"``.
        """
        return function

    def summary(self) -> str:
        """What was measured, as text; empty if nothing was."""
        return ""
