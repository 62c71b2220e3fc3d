"""Follows a run, and says when which bar is to be drawn."""

from __future__ import annotations

import math
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any

from leyden import Callback
from leyden.interrupts import in_notebook

from leyden_callbacks.arguments import check_bool, check_int
from leyden_callbacks.progress.lines import Bar, OneLineBar, formatted

if TYPE_CHECKING:
    from leyden import Module, Trainer

SECONDS_BETWEEN_REDRAWS = 0.1


class ProgressBar(Callback):
    """One line for each pass over data; subclasses draw bars where standard error is a terminal.

    In a notebook there is one bar, which stands still during validation.

    Between redraws a batch costs one call, and nothing is ever read from the device.

    Args:
        refresh_rate: batches between redraws at least; 0 shows nothing. Redraws are at least a tenth of a second apart.
        leave: whether each epoch's bar stays on the screen.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: ``refresh_rate`` is negative.
    """

    name = "progress"
    role = "progress_bar"

    def __init__(self, refresh_rate: int = 1, leave: bool = False) -> None:
        check_int(type(self).__name__, "refresh_rate", refresh_rate, 0)
        check_bool(type(self).__name__, "leave", leave)
        self.refresh_rate = refresh_rate
        self.leave = leave
        self._version: str | int | None = None
        self._train: Bar | None = None
        self._train_next = (math.inf, math.inf)  # the batch and the time of the next redraw
        self._pass: Bar | None = None  # an evaluation or prediction, alone or inside training
        self._pass_next = (math.inf, math.inf)
        self._pass_done = 0

    # ---- for subclasses and users ----

    def get_metrics(self, trainer: Trainer, module: Module) -> dict[str, Any]:
        """What stands at the end of the bar; override it to add or leave out items. Called at redraws only."""
        items: dict[str, Any] = dict(trainer.progress_bar_metrics)
        if self._version is not None:
            items["v_num"] = self._version
        return items

    def make_bar(self, description: str, total: int | None, done: int, *, nested: bool, leave: bool) -> Bar:
        """Returns a bar to draw on a terminal.

        Args:
            description: what is counted, such as ``"Epoch 1"``.
            total: the number of batches; None if it is not known.
            done: batches done before.
            nested: whether it stands below another bar.
            leave: whether it stays on the screen.
        """
        return Bar(description, total, done, nested=nested)

    def print(self, *values: Any) -> None:
        """Prints a line on standard error without tearing the bar."""
        print(*values, file=sys.stderr, flush=True)

    # ---- opening and closing ----

    def _open(self, trainer: Trainer, description: str, total: float, done: int = 0, *, nested: bool, leave: bool) -> Bar | None:
        if not self.refresh_rate or not trainer.is_global_zero:
            return None
        count = None if math.isinf(total) else int(total)
        if in_notebook():  # whose output is no terminal, and where a second bar would break the first
            return Bar(description, count, done, nested=True) if nested else OneLineBar(description, count, done, leave=leave)
        if sys.stderr.isatty():
            return self.make_bar(description, count, done, nested=nested, leave=leave)
        return Bar(description, count, done, nested=nested)

    def _next(self, bar: Bar | None, done: int) -> tuple[float, float]:
        if bar is None or not bar.is_live:
            return math.inf, math.inf
        return done + self.refresh_rate - 1, monotonic() + SECONDS_BETWEEN_REDRAWS

    def _close(self) -> None:
        for bar in (self._pass, self._train):
            if bar is not None:
                bar.abandon()
        self._train = self._pass = None
        self._train_next = self._pass_next = (math.inf, math.inf)

    def _text(self, trainer: Trainer, module: Module) -> str:
        return ", ".join(f"{key}={formatted(value)}" for key, value in self.get_metrics(trainer, module).items())

    # ---- training ----

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Asks the logger for its version; continues the bar of an epoch that a checkpoint was taken in."""
        version = getattr(trainer.logger, "version", None)
        self._version = version if isinstance(version, int | str) else None
        if trainer.progress.batch:
            self._open_epoch(trainer)

    def on_train_epoch_start(self, trainer: Trainer, module: Module) -> None:
        """Opens the epoch's bar."""
        self._open_epoch(trainer)

    def _open_epoch(self, trainer: Trainer) -> None:
        if self._train is not None:
            self._train.abandon(erase=True)  # without ``leave`` each gives way to the next, and the last one stays
        done = trainer.progress.batch
        self._train = self._open(
            trainer, f"Epoch {trainer.current_epoch}", trainer.num_training_batches, done, nested=False, leave=True
        )
        self._train_next = self._next(self._train, done)

    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Redraws the bar if it is time."""
        due, at = self._train_next
        if batch_idx >= due and monotonic() >= at and self._train is not None:
            self._train.draw(batch_idx + 1, self._text(trainer, module))
            self._train_next = self._next(self._train, batch_idx + 1)

    def on_train_epoch_end(self, trainer: Trainer, module: Module) -> None:
        """Completes the epoch's bar."""
        if self._train is None:
            return
        self._train.finish(trainer.progress.batch, self._text(trainer, module), keep_open=not self.leave)
        self._train_next = (math.inf, math.inf)
        if self.leave:
            self._train = None

    def on_train_end(self, trainer: Trainer, module: Module) -> None:
        """Leaves the last epoch's bar on the screen."""
        self._close()

    # ---- a pass: validation, test, prediction ----

    def _open_pass(self, trainer: Trainer, description: str, lengths: list[int | float], *, nested: bool) -> None:
        self._pass_done = 0
        self._pass = self._open(trainer, description, sum(lengths), nested=nested, leave=not nested)
        self._pass_next = self._next(self._pass, 0)

    def _advance(self, trainer: Trainer, module: Module) -> None:
        if self._pass is not None:
            self._pass.draw(self._pass_done, "")
            self._pass_next = self._next(self._pass, self._pass_done)

    def _close_pass(self, trainer: Trainer, module: Module) -> None:
        if self._pass is not None:
            self._pass.finish(self._pass_done, self._text(trainer, module) if trainer.stage != "fit" else "", keep_open=False)
        self._pass = None
        self._pass_next = (math.inf, math.inf)

    def on_validation_start(self, trainer: Trainer, module: Module) -> None:
        """Opens a bar, below the epoch's if there is one."""
        if trainer.sanity_checking:
            self._open_pass(trainer, "Sanity check", trainer.num_sanity_val_batches, nested=True)
        else:
            if self._train is not None:
                self._train.draw(trainer.progress.batch, self._text(trainer, module))
            self._open_pass(trainer, "Validation", trainer.num_val_batches, nested=trainer.stage == "fit")

    def on_validation_batch_end(
        self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Redraws the bar if it is time."""
        self._pass_done += 1
        due, at = self._pass_next
        if self._pass_done > due and monotonic() >= at:
            self._advance(trainer, module)

    def on_validation_end(self, trainer: Trainer, module: Module) -> None:
        """Closes the bar."""
        self._close_pass(trainer, module)

    def on_test_start(self, trainer: Trainer, module: Module) -> None:
        """Opens a bar."""
        self._open_pass(trainer, "Test", trainer.num_test_batches, nested=False)

    on_test_batch_end = on_validation_batch_end
    on_test_end = on_validation_end

    def on_predict_start(self, trainer: Trainer, module: Module) -> None:
        """Opens a bar."""
        self._open_pass(trainer, "Predict", trainer.num_predict_batches, nested=False)

    on_predict_batch_end = on_validation_batch_end
    on_predict_end = on_validation_end

    # ---- the end ----

    def on_exception(self, trainer: Trainer, module: Module, exception: BaseException) -> None:
        """Leaves the screen to the traceback."""
        self._close()

    def teardown(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Leaves the screen to what comes next."""
        self._close()
