"""Finds a learning rate by a range test before training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from leyden import Callback
from leyden.messages import did_you_mean, shown
from leyden.trial import trial
from torch import Tensor

from leyden_callbacks.arguments import check_bool, check_choice, check_int, check_number
from leyden_callbacks.speech import say

if TYPE_CHECKING:
    from leyden import DataModule, Module, Trainer

_SMOOTHING = 0.98  # as the loss of one batch says little


class RangeTest:
    """What a range test found: the loss at each learning rate, smoothed.

    ``results["lr"]`` and ``results["loss"]`` are lists of one length.
    """

    def __init__(self, mode: str, min_lr: float, max_lr: float, num_training: int) -> None:
        self.mode = mode
        self.min_lr = min_lr
        self.max_lr = max_lr
        self.num_training = num_training
        self.results: dict[str, list[float]] = {"lr": [], "loss": []}
        self.stopped_early = False
        """Whether the loss grew so much that the test broke off."""

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        share = step / max(1, self.num_training - 1)
        if self.mode == "linear":
            return self.min_lr + share * (self.max_lr - self.min_lr)
        return float(self.min_lr * (self.max_lr / self.min_lr) ** share)

    def suggestion(self, skip_begin: int = 10, skip_end: int = 1, method: str = "steepest") -> float | None:
        """A learning rate to train with.

        Args:
            skip_begin: steps to leave out at the start.
            skip_end: steps to leave out at the end.
            method: ``"steepest"`` where the loss falls fastest on its way to the lowest; ``"minimum"`` a tenth of where it
                is lowest; ``"valley"`` two thirds into its longest fall.

        Returns:
            None if there are too few points.

        Raises:
            ValueError: there is no such method.
        """
        check_choice("suggestion", "method", method, ("steepest", "minimum", "valley"))
        index = self._suggested(skip_begin, skip_end, method)
        if index is None:
            return None
        rate = self.results["lr"][index]
        return rate / 10 if method == "minimum" else rate

    def _suggested(self, skip_begin: int, skip_end: int, method: str) -> int | None:
        stop = len(self.results["lr"]) - skip_end
        points = [
            (math.log10(rate) if self.mode == "exponential" else rate, loss, index)
            for index, (rate, loss) in enumerate(zip(self.results["lr"], self.results["loss"], strict=True))
            if skip_begin <= index < stop and math.isfinite(loss)
        ]
        if len(points) < 2:
            return None
        losses = [loss for _, loss, _ in points]
        if method == "minimum":
            return points[losses.index(min(losses))][2]
        if method == "valley":
            start, end = _longest_fall(losses)
            return points[start + (end - start) * 2 // 3][2]
        # What comes after the lowest loss jumps up and down, and some of those falls are the steepest of all.
        points = points[: max(2, losses.index(min(losses)) + 1)]
        slopes = [
            (points[min(i + 1, len(points) - 1)][1] - points[max(i - 1, 0)][1])
            / (points[min(i + 1, len(points) - 1)][0] - points[max(i - 1, 0)][0])
            for i in range(len(points))
        ]
        return points[slopes.index(min(slopes))][2]

    def plot(self, suggest: bool = False, show: bool = False, ax: Any = None, **options: Any) -> Any:
        """Draws the loss over the learning rate with matplotlib.

        Args:
            suggest: whether to mark the suggestion.
            show: whether to show the figure at once.
            ax: where to draw; a new figure if not given.
            options: those of :meth:`suggestion`.

        Returns:
            The figure.

        Raises:
            ImportError: matplotlib is not installed.
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError("plot() needs matplotlib, which is not installed; run: pip install matplotlib") from error
        figure, axes = plt.subplots() if ax is None else (ax.figure, ax)
        axes.plot(self.results["lr"], self.results["loss"])
        if self.mode == "exponential":
            axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        if suggest:
            rate = self.suggestion(**options)
            if rate is not None:
                nearest = min(range(len(self.results["lr"])), key=lambda i: abs(self.results["lr"][i] - rate))
                axes.plot(rate, self.results["loss"][nearest], "o", color="tab:red", label=f"suggestion {rate:.3g}")
                axes.legend()
        if show:
            plt.show()
        return figure


def _longest_fall(losses: list[float]) -> tuple[int, int]:
    """Where the longest run of falling losses, others left out, begins and ends."""
    lengths, before = [1] * len(losses), [-1] * len(losses)
    for i in range(len(losses)):
        for j in range(i):
            if losses[j] > losses[i] and lengths[j] + 1 > lengths[i]:
                lengths[i], before[i] = lengths[j] + 1, j
    end = start = lengths.index(max(lengths))
    while before[start] >= 0:
        start = before[start]
    return start, end


class _Ramp(Callback):
    """Raises the learning rate step by step and keeps the losses."""

    def __init__(self, found: RangeTest, early_stop_threshold: float | None) -> None:
        self.found = found
        self.early_stop_threshold = early_stop_threshold
        self.average = 0.0
        self.best = math.inf
        self.window: list[Tensor] = []

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        if len(trainer.optimizers) != 1:
            raise ValueError(
                f"a range test changes the learning rate of one optimizer, but {type(module).__name__} has "
                f"{len(trainer.optimizers)}"
            )
        for config in trainer.lr_scheduler_configs:
            config.paused = True

    def on_train_batch_start(self, trainer: Trainer, module: Module, batch: Any, batch_idx: int) -> None:
        rate = self.found.rate(trainer.global_step)
        for group in trainer.optimizers[0].param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else None
        if not isinstance(loss, Tensor):
            raise ValueError(
                f"a range test needs the loss of each batch, but {type(module).__name__}.training_step returned none"
            )
        self.window.append(loss)
        step = trainer.global_step
        if step <= len(self.found.results["lr"]):
            return  # the window is not complete, or the step was skipped
        mean = sum(float(value) for value in self.window) / len(self.window)
        self.window.clear()
        self.average = _SMOOTHING * self.average + (1 - _SMOOTHING) * mean
        smoothed = self.average / (1 - _SMOOTHING**step)
        self.found.results["lr"].append(self.found.rate(step - 1))
        self.found.results["loss"].append(smoothed)
        # Four times a negative loss would be a lower one.
        grew = (
            self.early_stop_threshold is not None
            and step > 1
            and smoothed - self.best > (self.early_stop_threshold - 1) * abs(self.best)
        )
        if grew or not math.isfinite(smoothed):
            self.found.stopped_early = True
            trainer.should_stop = True
        self.best = min(self.best, smoothed) if step > 1 else smoothed


def range_test(
    trainer: Trainer,
    module: Module,
    train_dataloaders: Any = None,
    datamodule: DataModule | None = None,
    *,
    min_lr: float = 1e-8,
    max_lr: float = 1.0,
    num_training: int = 100,
    mode: str = "exponential",
    early_stop_threshold: float | None = 4.0,
    owner: str = "range_test",
) -> RangeTest:
    """Trains a copy of the module for a while, with a learning rate that grows at each step; nothing of the original changes.

    Args:
        trainer: whose parts and settings.
        module: what to train a copy of.
        train_dataloaders: as for ``fit``.
        datamodule: as for ``fit``.
        min_lr: the first learning rate.
        max_lr: the last one.
        num_training: optimizer steps.
        mode: ``"exponential"`` or ``"linear"``, how it grows.
        early_stop_threshold: ends the test when the loss is so many times the lowest, or as far above one that is negative; None
            never does.
        owner: what messages call it.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range, or there are several optimizers.
    """
    check_rates(owner, min_lr, max_lr, num_training, mode, early_stop_threshold)
    found = RangeTest(mode, min_lr, max_lr, num_training)
    ramp = _Ramp(found, early_stop_threshold)
    given: dict[str, Any] = {"datamodule": datamodule, "loaders": train_dataloaders, "callbacks": [ramp]}
    with trial(trainer, module, **given, max_steps=num_training, max_epochs=-1) as (other, copied, data):
        other.fit(copied, train_dataloaders, datamodule=data)
    # Each process tests by itself; all go by what the first one saw.
    found.results, found.stopped_early = trainer.strategy.broadcast((found.results, found.stopped_early))
    return found


def check_rates(
    owner: str, min_lr: float, max_lr: float, num_training: int, mode: str, early_stop_threshold: float | None
) -> None:
    """Raises TypeError or ValueError if a range test cannot be made so."""
    check_number(owner, "min_lr", min_lr, 0)
    check_number(owner, "max_lr", max_lr, 0)
    if not 0 < min_lr < max_lr:
        raise ValueError(f"{owner}(min_lr={min_lr!r}, max_lr={max_lr!r}): expected 0 < min_lr < max_lr")
    check_int(owner, "num_training", num_training, 2)
    check_choice(owner, "mode", mode, ("exponential", "linear"))
    if early_stop_threshold is not None:
        check_number(owner, "early_stop_threshold", early_stop_threshold, 1)


def learning_rate_attribute(module: Module, attr_name: str, owner: str) -> str:
    """The attribute of a module, or of its hparams, that is its learning rate.

    Raises:
        AttributeError: there is none.
    """
    for name in [attr_name] if attr_name else ["lr", "learning_rate"]:
        if hasattr(module, name) or name in getattr(module, "hparams", {}):
            return name
    wanted = repr(attr_name) if attr_name else "'lr' or 'learning_rate'"
    known = [*getattr(module, "hparams", {}), *(key for key in vars(module) if not key.startswith("_"))]
    hint = did_you_mean(attr_name, known) if attr_name else ""
    raise AttributeError(
        f"{owner}: {type(module).__name__} has no {wanted} to set, nor has its hparams{hint or '; name it with attr_name'}, "
        f"or pass update_attr=False"
    )


def set_learning_rate(module: Module, name: str, rate: float) -> None:
    """Sets it wherever the module has it."""
    if hasattr(module, name):
        setattr(module, name, rate)
    if name in getattr(module, "hparams", {}):
        module.hparams[name] = rate


class LearningRateFinder(Callback):
    """Makes a range test before training and trains with the learning rate that it suggests.

    The module's ``configure_optimizers`` reads it from ``self.lr``, ``self.learning_rate`` or ``self.hparams``. A run that
    goes on from a checkpoint has its learning rate already, so nothing is tested then.

    With several processes each tests by itself, with batches of one process, and all train with what rank 0 found.

    Args:
        min_lr: the first learning rate of the test.
        max_lr: the last one.
        num_training_steps: optimizer steps of the test.
        mode: ``"exponential"`` or ``"linear"``, how it grows.
        early_stop_threshold: ends the test when the loss is so many times the lowest; None never does.
        update_attr: whether to set the module's learning rate.
        attr_name: the name of that attribute; ``lr`` or ``learning_rate`` if not given.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
    """

    name = "learning_rate_finder"

    def __init__(
        self,
        min_lr: float = 1e-8,
        max_lr: float = 1.0,
        num_training_steps: int = 100,
        mode: str = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
        attr_name: str = "",
    ) -> None:
        owner = type(self).__name__
        check_rates(owner, min_lr, max_lr, num_training_steps, mode, early_stop_threshold)
        check_bool(owner, "update_attr", update_attr)
        if not isinstance(attr_name, str):
            raise TypeError(f"{owner}(attr_name={attr_name!r}): expected the name of an attribute, got {shown(attr_name)}")
        self.min_lr = min_lr
        self.max_lr = max_lr
        self.num_training_steps = num_training_steps
        self.mode = mode
        self.early_stop_threshold = early_stop_threshold
        self.update_attr = update_attr
        self.attr_name = attr_name
        self.optimal_lr: RangeTest | None = None
        """What the test of the last fit found."""
        self.suggested: float | None = None
        """The learning rate that it suggested."""

    def state_dict(self) -> dict[str, Any]:
        """What was suggested."""
        return {"suggested": self.suggested}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it back."""
        self.suggested = state_dict["suggested"]

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Tests, before the optimizers are made.

        Raises:
            AttributeError: the module has no learning rate to set.
        """
        if stage != "fit" or trainer.ckpt_path is not None or trainer.fast_dev_run:
            return
        owner = type(self).__name__
        name = learning_rate_attribute(module, self.attr_name, owner) if self.update_attr else ""
        self.optimal_lr = range_test(
            trainer,
            module,
            trainer.given_train,
            trainer.datamodule,
            min_lr=self.min_lr,
            max_lr=self.max_lr,
            num_training=self.num_training_steps,
            mode=self.mode,
            early_stop_threshold=self.early_stop_threshold,
            owner=owner,
        )
        self.suggested = self.optimal_lr.suggestion()
        if self.suggested is None:
            found, finite = self.optimal_lr.results["loss"], sum(map(math.isfinite, self.optimal_lr.results["loss"]))
            say(
                trainer,
                f"{owner}: the test has {len(found)} losses, {finite} of them finite, which is too few to suggest a learning "
                f"rate, for the first 10 and the last say little; it stays as it is",
            )
        elif self.update_attr:
            set_learning_rate(module, name, self.suggested)
            say(trainer, f"the learning rate is {self.suggested:.3g}, by a range test")
