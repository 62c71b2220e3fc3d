"""Callbacks that stand for arguments that Lightning no longer has."""

from __future__ import annotations

from typing import Any

import leyden

from leyden_lightning.api.tools import grad_norm


class GradientNorm(leyden.Callback):
    """Logs the norm of each parameter's gradient and of all together, as ``track_grad_norm`` did.

    Args:
        norm_type: 1, 2, ..., or ``"inf"``.
    """

    def __init__(self, norm_type: float | str) -> None:
        self.norm_type = norm_type

    def on_before_optimizer_step(self, trainer: leyden.Trainer, module: leyden.Module, optimizer: Any) -> None:
        """Logs, where the values will be read."""
        if trainer.log_every_n_steps and (trainer.progress.global_step + 1) % trainer.log_every_n_steps == 0:
            module.log_dict(grad_norm(module, self.norm_type, group_separator="/"))
