"""Keeps what the steps of an epoch returned, for those who ask for it at the epoch's end."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from leyden_lightning.api.tools import recursive_detach


class Outputs:
    """The outputs of the batches of one epoch, by loader."""

    def __init__(self) -> None:
        self.loaders: dict[int, list[Any]] = {}

    def clear(self) -> None:
        """Forgets them."""
        self.loaders = {}

    def add(self, output: Any, dataloader_idx: int = 0) -> None:
        """Keeps one, detached; None is none."""
        kept = self.loaders.setdefault(dataloader_idx, [])
        if output is not None:
            kept.append(recursive_detach(output))

    def take(self, loaders: int = 1, *, nested: bool = False) -> list[Any]:
        """All of them: a list by batch, or a list of such by loader if there are several; they are then forgotten."""
        found = [self.loaders.get(index, []) for index in range(max(loaders, 1))]
        self.clear()
        return found if nested or len(found) > 1 else found[0]


def optimizer_major(outputs: list[Any]) -> list[Any]:
    """Outputs by batch, by part of the batch if it was split, and by optimizer, as 1.0 had them: by optimizer first."""
    if not outputs or not all(isinstance(output, list) and output for output in outputs):
        return outputs  # of one optimizer, or of optimizers that take turns by batches
    if all(isinstance(part, list) for output in outputs for part in output):
        return [[[part[i] for part in output] for output in outputs] for i in range(len(outputs[0][0]))]
    return [list(of_one) for of_one in zip(*outputs, strict=True)]


class EpochEnds:
    """Calls the ``*_epoch_end(outputs)`` of a module before any other hook of the epoch's end.

    Args:
        methods: the module's own, by the stage ``"training"``, ``"validation"`` or ``"test"``.
        returned: handles what they return.
        splits: gives the outputs of each part of a batch that was split over time; None where batches are whole.
        by_optimizer: whether the outputs of several optimizers in training come by optimizer and then by batch.
    """

    def __init__(
        self,
        methods: dict[str, Callable[[Any], Any]],
        returned: Callable[[Any], None],
        splits: Callable[[], list[Any]] | None = None,
        by_optimizer: bool = False,
    ) -> None:
        self.returned = returned
        self.by_optimizer = by_optimizer
        self.splits = splits
        self.kept = {stage: Outputs() for stage in methods}
        for stage, method in methods.items():
            self._serve(stage, method)

    def _serve(self, stage: str, method: Callable[[Any], Any]) -> None:
        kept, returned = self.kept[stage], self.returned
        short = "train" if stage == "training" else stage
        # 1.6 and 1.7: who had this argument got the outputs of several optimizers by batch.
        named = {"new_format": not self.by_optimizer} if "new_format" in inspect.signature(method).parameters else {}

        def start(trainer: Any, module: Any) -> None:
            kept.clear()

        def end(trainer: Any, module: Any) -> None:
            loaders = {"validation": trainer.num_val_batches, "test": trainer.num_test_batches}.get(stage, [0])
            outputs = kept.take(len(loaders))
            if stage == "training" and self.by_optimizer:
                outputs = optimizer_major(outputs)
            returned(method(outputs, **named))

        def train_batch_end(trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            parts = self.splits() if self.splits is not None else None
            kept.add(parts if parts is not None and len(parts) > 1 else outputs)

        def batch_end(trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            kept.add(outputs, dataloader_idx)

        # Attributes of the object, which the bus finds like methods; only the stages that have a method cost anything.
        setattr(self, f"on_{short}_epoch_start", start)
        setattr(self, f"on_{short}_batch_end", train_batch_end if stage == "training" else batch_end)
        setattr(self, f"on_{short}_epoch_end", end)

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        """Leaves the bus with the run."""
        trainer.bus.unregister(self)
