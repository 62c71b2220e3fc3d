"""Computes the activations of chosen layers again in backward, in place of keeping them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from leyden import Callback
from leyden.messages import alternatives, shown
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from leyden import Module, Trainer


class ActivationCheckpointing(Callback):
    """Has ``torch.utils.checkpoint`` around the layers whose names match, during training.

    Memory for what such a layer would keep for backward is traded for a second forward pass of it; gradients stay the same to the
    bit, dropout included. Of layers within one another the outermost is taken. When the fit is over the layers are as before;
    weights and checkpoints never differ.

    Args:
        layers: patterns of names as ``module.named_modules()`` has them, such as ``["encoder.layers.*"]``.

    Raises:
        TypeError: it is no list of patterns.
        ValueError: it is empty.
    """

    name = "activation_checkpointing"

    def __init__(self, layers: Sequence[str]) -> None:
        label = f"{type(self).__name__}(layers={layers!r})"
        message = f"{label}: expected a list of patterns such as ['encoder.layers.*'], got {shown(layers)}"
        if isinstance(layers, str) or not isinstance(layers, Sequence) or not all(isinstance(name, str) for name in layers):
            raise TypeError(message)
        if not layers:
            raise ValueError(message)
        self.layers = tuple(layers)
        self.checkpointed: list[str] = []
        """The names of the layers of the running or the last fit."""
        self._changed: list[nn.Module] = []

    def on_fit_start(self, trainer: Trainer, module: Module) -> None:
        """Puts it around the layers.

        Raises:
            ValueError: a pattern matches no layer, or one with batch normalization, which would count each batch twice.
        """
        names = [name for name, _ in module.named_modules() if name]
        for pattern in self.layers:
            if not any(fnmatchcase(name, pattern) for name in names):
                label = f"{type(self).__name__}(layers=...): no layer matches {pattern!r}"
                raise ValueError(f"{label}{alternatives(pattern, names[:20], 'layers')}")
        chosen: dict[str, nn.Module] = {}
        for name, layer in module.named_modules():
            inside = any(name.startswith(f"{outer}.") for outer in chosen)
            if not inside and any(fnmatchcase(name, pattern) for pattern in self.layers):
                chosen[name] = layer
        for name, layer in chosen.items():
            if any(isinstance(part, _BatchNorm) and part.track_running_stats for part in layer.modules()):
                raise ValueError(
                    f"{type(self).__name__}(layers=...): {name!r} has batch normalization, which would count each batch twice; "
                    f"choose layers without"
                )
        self.checkpointed = list(chosen)
        for layer in chosen.values():
            # torch calls an instance's own forward; a copy of the module has a copy of it.
            layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
            self._changed.append(layer)

    def on_fit_end(self, trainer: Trainer, module: Module) -> None:
        """Takes it away again."""
        self._put_back()

    def teardown(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Also when the fit failed."""
        self._put_back()

    def outline(self, trainer: Trainer) -> str | None:
        """Says of how many layers."""
        return f"computes the activations of {len(self.checkpointed)} layers again in backward"

    def _put_back(self) -> None:
        while self._changed:
            layer = self._changed.pop()
            before = layer.forward.args[0]  # type: ignore[attr-defined]  # the partial function of on_fit_start
            del layer.forward
            if getattr(before, "__func__", None) is not type(layer).forward:
                layer.forward = before  # somebody else's own, from before the fit
