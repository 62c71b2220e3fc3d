"""The running mean of the training loss at the end of the progress bar, as before 2.0."""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

import leyden
import torch

from leyden_lightning.legacy.notices import definition, legacy
from leyden_lightning.legacy.users import own

_WINDOW = 20


class RunningLoss:
    """Keeps the last losses on their device; they are read when the bar is drawn, and only then.

    Args:
        bar: the progress bar, if there is one.
        items: the module's own ``get_progress_bar_dict``, or None.
    """

    def __init__(self, bar: Any, items: Any = None) -> None:
        self.bar = bar
        self.items = items
        self.losses: deque[torch.Tensor] = deque(maxlen=_WINDOW)
        if bar is not None:
            plain = bar.get_metrics

            def get_metrics(trainer: Any, module: Any) -> dict[str, Any]:
                shown: dict[str, Any] = plain(trainer, module)
                if items is not None:
                    return {**items(), **{key: value for key, value in shown.items() if key != "v_num"}}
                mean = self.mean()
                return {"loss": mean, **shown} if mean is not None else shown

            vars(bar)["get_metrics"] = get_metrics

    def mean(self) -> float | None:
        """The mean of the last losses, or None before the first."""
        return float(torch.stack(list(self.losses)).float().mean()) if self.losses else None

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keeps the loss."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else None
        if isinstance(loss, torch.Tensor) and loss.numel() == 1:
            self.losses.append(loss.detach().reshape(()))

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        """Leaves the bar and the bus with the run."""
        if self.bar is not None:
            vars(self.bar).pop("get_metrics", None)
        trainer.bus.unregister(self)


def show_running_loss(trainer: leyden.Trainer, module: leyden.Module) -> None:
    """Keeps losses in a fit of the port's Trainer whose bar is drawn on a terminal, or whose module says what the bar shows."""
    from leyden_lightning.api.trainer import Trainer  # which imports what uses this

    if trainer.stage != "fit":
        return
    items = own(module, "get_progress_bar_dict")
    bar: Any = trainer.progress_bar_callback
    drawn = bool(getattr(bar, "refresh_rate", 0)) and sys.stderr.isatty()
    if callable(items):
        instead = "get_metrics(self, trainer, module) of a progress bar of one's own"
        legacy(f"{type(module).__qualname__}.get_progress_bar_dict", instead, definition(items))
    elif not drawn or not isinstance(trainer, Trainer):
        return
    trainer.bus.register(RunningLoss(bar, items), name="the running loss")
