"""Averages the weights of the last epochs, trained with a constant learning rate."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback
from leyden.messages import shown
from leyden.seeding import isolated_random_state
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from leyden_callbacks.arguments import check_choice, check_int, check_number
from leyden_callbacks.ema import EMA, at_least_32_bits
from leyden_callbacks.finetuning import BaseFinetuning
from leyden_callbacks.speech import say

if TYPE_CHECKING:
    from leyden import Module, Trainer


class StochasticWeightAveraging(Callback):
    """Averages the weights at the end of each of the last epochs, and leaves the average in the module.

    From ``swa_epoch_start`` on, the learning rates go to ``swa_lrs`` and stay there; the module's own schedulers stand
    still. When training ends the module has the average. If it has batch normalization, its statistics are taken anew: one
    more pass over the training data, without gradients, logs and hooks; of data without an end, over as many batches as the
    last epoch had. Layers that were trained in eval mode keep theirs. Averages of weights in 16 bits are kept in 32.

    Args:
        swa_lrs: the learning rate of each parameter group, or one for all.
        swa_epoch_start: the first epoch of it, counted from 0, or a fraction of ``max_epochs``.
        annealing_epochs: epochs in which the learning rate gets there.
        annealing_strategy: ``"cos"`` or ``"linear"``.
        avg_fn: ``(average, weights, number)`` to the new average of one parameter, ``number`` averages being in it; the mean
            if not given.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
    """

    name = "stochastic_weight_averaging"

    def __init__(
        self,
        swa_lrs: float | list[float],
        swa_epoch_start: int | float = 0.8,
        annealing_epochs: int = 10,
        annealing_strategy: str = "cos",
        avg_fn: Callable[[Tensor, Tensor, int], Tensor] | None = None,
    ) -> None:
        owner = type(self).__name__
        for rate in swa_lrs if isinstance(swa_lrs, list) and swa_lrs else [swa_lrs]:
            check_number(owner, "swa_lrs", rate, 0)
        check_number(owner, "swa_epoch_start", swa_epoch_start, 0)
        if isinstance(swa_epoch_start, float) and swa_epoch_start > 1:
            raise ValueError(f"{owner}(swa_epoch_start={swa_epoch_start!r}): expected an int, or a fraction from 0 to 1")
        check_int(owner, "annealing_epochs", annealing_epochs, 0)
        check_choice(owner, "annealing_strategy", annealing_strategy, ("cos", "linear"))
        if avg_fn is not None and not callable(avg_fn):
            raise TypeError(f"{owner}(avg_fn={avg_fn!r}): expected a function, got {shown(avg_fn)}")
        self.swa_lrs = swa_lrs
        self.swa_epoch_start = swa_epoch_start
        self.annealing_epochs = annealing_epochs
        self.annealing_strategy = annealing_strategy
        self.avg_fn = avg_fn
        self._forget()

    def _forget(self) -> None:
        self.n_averaged = 0
        """Epochs in the average."""
        self.average: dict[str, Tensor] = {}
        """The average of each parameter, by its name."""
        self._began: list[float] = []  # the learning rates before
        self._batches = 0  # of the last epoch

    # ---- state ----

    def state_dict(self) -> dict[str, Any]:
        """The average so far and the learning rates it began with."""
        return {"n_averaged": self.n_averaged, "average": dict(self.average), "began": list(self._began)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them back."""
        self.n_averaged = int(state_dict["n_averaged"])
        self.average = dict(state_dict["average"])
        self._began = list(state_dict["began"])

    # ---- the run ----

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """A fit starts anew; one that goes on from a checkpoint gets its state after this.

        Raises:
            ValueError: the run has no last epochs, or starts later than it ends, or another average stays in the module too.
        """
        if stage != "fit":
            return
        self._forget()
        owner = type(self).__name__
        if any(isinstance(callback, EMA) and callback.keep for callback in trainer.callbacks):
            raise ValueError(f"{owner} and EMA both leave their average in the module; pass EMA(keep=False), or leave out one")
        before = trainer.callbacks[: next(i for i, callback in enumerate(trainer.callbacks) if callback is self)]
        for other in trainer.callbacks:
            if isinstance(other, BaseFinetuning) and not any(other is callback for callback in before):
                raise ValueError(
                    f"{owner}: {type(other).__name__} comes after it and would change the rates that it sets; put it before"
                )
        if trainer.max_epochs < 1:
            raise ValueError(f"{owner} needs to know the last epoch; pass max_epochs to the Trainer")
        start = self.swa_epoch_start
        self._start = int(trainer.max_epochs * start) if isinstance(start, float) else start
        if self._start >= trainer.max_epochs:
            raise ValueError(
                f"{owner}(swa_epoch_start={start!r}): averaging would start in epoch {self._start}, but the last of "
                f"max_epochs={trainer.max_epochs} is {trainer.max_epochs - 1}"
            )

    def on_fit_start(self, trainer: Trainer, module: Module) -> None:
        """Refuses learning rates that do not fit.

        Raises:
            ValueError: there is another number of parameter groups.
        """
        self._wanted([group for optimizer in trainer.optimizers for group in optimizer.param_groups])
        device = trainer.strategy.device
        self.average = {name: tensor.to(device) for name, tensor in self.average.items()}

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Goes on with the learning rates inside the epoch that a checkpoint was taken in.

        Raises:
            ValueError: there is batch normalization, whose statistics cannot be taken anew.
        """
        if not module.automatic_optimization and list(_norms(module)):
            raise ValueError(
                f"{type(self).__name__}: the statistics of {type(module).__name__}'s batch normalization cannot be taken anew, "
                f"for its training_step steps optimizers itself; average modules without it in manual optimization"
            )
        if trainer.current_epoch >= self._start:
            self._set_rates(trainer)

    def on_train_epoch_start(self, trainer: Trainer, module: Module) -> None:
        """Sets the learning rates of this epoch."""
        if trainer.current_epoch >= self._start:
            self._set_rates(trainer)

    def _wanted(self, groups: list[dict[str, Any]]) -> list[float]:
        """The learning rate that each parameter group goes to.

        Raises:
            ValueError: there is another number of them.
        """
        if not isinstance(self.swa_lrs, list):
            return [self.swa_lrs] * len(groups)
        if len(self.swa_lrs) != len(groups):
            raise ValueError(
                f"{type(self).__name__}(swa_lrs={self.swa_lrs!r}): {len(self.swa_lrs)} learning rate(s) for {len(groups)} "
                f"parameter group(s)"
            )
        return self.swa_lrs

    def _set_rates(self, trainer: Trainer) -> None:
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self._began += [float(group["lr"]) for group in groups[len(self._began) :]]  # finetuning may have added some
        for config in trainer.lr_scheduler_configs:
            config.paused = True
        done = trainer.current_epoch - self._start
        share = 1.0 if done >= self.annealing_epochs else done / self.annealing_epochs
        if self.annealing_strategy == "cos":
            share = (1 - math.cos(math.pi * share)) / 2
        wanted = self._wanted(groups)
        for group, begun, rate in zip(groups, self._began, wanted, strict=True):
            value = begun + (rate - begun) * share
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(value)
            else:
                group["lr"] = value

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: Trainer, module: Module) -> None:
        """Adds the weights to the average."""
        if trainer.current_epoch < self._start:
            return
        self._batches = trainer.progress.batch
        for name, parameter in module.named_parameters():
            weights = at_least_32_bits(parameter.detach())
            if not self.n_averaged:
                self.average[name] = weights.clone()
            elif self.avg_fn is not None:
                self.average[name] = self.avg_fn(self.average[name], weights, self.n_averaged)
            elif weights.is_floating_point():
                self.average[name].add_((weights - self.average[name]) / (self.n_averaged + 1))
        self.n_averaged += 1

    @torch.no_grad()
    def on_train_end(self, trainer: Trainer, module: Module) -> None:
        """Puts the average into the module, and the statistics that belong to it."""
        if not self.n_averaged:
            return
        for name, parameter in module.named_parameters():
            parameter.copy_(self.average[name])
        norms = list(_norms(module))
        if norms:
            self._update_statistics(trainer, module, norms)
        say(trainer, f"the module has the mean of its weights after {self.n_averaged} epoch(s)")

    def _update_statistics(self, trainer: Trainer, module: Module, norms: list[Any]) -> None:
        momenta = [layer.momentum for layer in norms]
        logs, trainer.accepts_logs = trainer.accepts_logs, False
        loop, loader = trainer.fit_loop, trainer.train_loader
        assert loop is not None
        assert loader is not None
        try:
            for layer in norms:
                layer.reset_running_stats()
                layer.momentum = None  # the plain mean over all batches
            step = trainer.precision.wrap_step(_step_of(module), trainer.strategy.device.type)
            length = loader.length if math.isfinite(loader.length) else self._batches
            with isolated_random_state():
                for batch_idx, batch in enumerate(loader.iterable):
                    if batch_idx >= length:
                        break
                    step(batch if loop.transfer is None else loop.transfer(batch, 0), batch_idx)
        finally:
            trainer.accepts_logs = logs
            for layer, momentum in zip(norms, momenta, strict=True):
                layer.momentum = momentum


def _norms(module: nn.Module) -> Iterator[Any]:
    """The layers that keep statistics of the batches that they are trained on."""
    return (part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats and part.training)


def _step_of(module: Module) -> Callable[[Any, int], Any]:
    """``training_step`` as a function of ``(batch, batch_idx)``, whichever it takes; of several optimizers the first one's."""
    parameters = inspect.signature(module.training_step).parameters
    options = {"optimizer_idx": 0} if "optimizer_idx" in parameters else {}
    places = [p for p in parameters.values() if p.name not in options and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    count = 2 if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()) else len(places)

    def step(batch: Any, batch_idx: int) -> Any:
        return module.training_step(*(batch, batch_idx)[:count], **options)

    return step
