"""A training batch of a module with several optimizers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch.nn import Parameter
from torch.optim import Optimizer

from leyden.loops.closure_step import ClosureStep
from leyden.loops.step import TrainStep
from leyden.module import Module

if TYPE_CHECKING:
    from leyden.trainer import Trainer


def step_of(trainer: Trainer, module: Module, optimizer_idx: int | None = None) -> TrainStep:
    """The step for one of a run's optimizers, with a closure where the optimizer or the module needs one."""
    if trainer.optimizers and ClosureStep.is_needed(trainer.optimizers[optimizer_idx or 0], module):
        return ClosureStep(trainer, module, optimizer_idx)
    return TrainStep(trainer, module, optimizer_idx)


class TurnsStep:
    """Calls ``training_step(batch, batch_idx, optimizer_idx)`` once for each optimizer, one after the other.

    While one optimizer has its turn, parameters that only others have need no gradient. With frequencies, one optimizer has
    its turn at a batch: the first for as many accumulation windows in a row as its frequency says, then the next.
    """

    def __init__(self, trainer: Trainer, module: Module, frequencies: list[int]) -> None:
        self.trainer = trainer
        self.module = module
        self.progress = trainer.progress
        self.steps = [step_of(trainer, module, index) for index in range(len(trainer.optimizers))]
        for step in self.steps:
            step.counts = False
        self.cycle = [index for index, frequency in enumerate(frequencies) for _ in range(frequency)]
        self.stepped_optimizers: list[int] = []
        self.skipped = False

    def accumulate(self, batches: int) -> None:
        """As :meth:`TrainStep.accumulate`, for each optimizer's step."""
        for step in self.steps:
            step.accumulate(batches)

    @property
    def window(self) -> int:
        """Batches in the running accumulation window."""
        return max(step.window for step in self.steps)

    @property
    def has_stepped(self) -> bool:
        """Whether an optimizer has stepped in the running batch."""
        return bool(self.stepped_optimizers)

    @property
    def keeps_gradients(self) -> bool:
        """Whether gradients of an unfinished window are under way."""
        return self.window > 0

    def state_dict(self) -> dict[str, Any]:
        """The running windows, without their gradients."""
        return {"windows": [step.state_dict() for step in self.steps]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes that back."""
        for step, window in zip(self.steps, state["windows"], strict=True):
            step.load_state_dict(window)

    @property
    def active(self) -> list[int]:
        """The indices of the optimizers whose turn the running batch is."""
        if not self.cycle:
            return list(range(len(self.steps)))
        return [self.cycle[self.progress.turns % len(self.cycle)]]

    def forward_backward(self, batch: Any, batch_idx: int, is_last: bool) -> Any:
        """Gives each active optimizer its turn; returns what each turn's ``training_step`` returned, alone if there is one."""
        outputs: list[Any] = []
        self.stepped_optimizers, self.skipped = [], False
        active = self.active
        for index in active:
            step = self.steps[index]
            step.skipped = False
            with self.module.toggled_optimizer(self.trainer.optimizers[index]):
                outputs.append(step.forward_backward(batch, batch_idx, is_last))
                self._note(index, step.update())
        self.progress.turns += any(self.steps[index].due for index in active)
        return outputs[0] if len(outputs) == 1 else outputs

    def update(self) -> bool:
        """Counts one training step if any optimizer stepped."""
        return self._count()

    def flush(self) -> bool:
        """Steps windows that an epoch's end left incomplete."""
        self.stepped_optimizers, self.skipped = [], False
        for index, step in enumerate(self.steps):
            if step.window:
                self._note(index, step.flush())
                self.progress.turns += 1
        return self._count()

    def _note(self, index: int, updated: bool) -> None:
        if updated:
            self.stepped_optimizers.append(index)
        self.skipped |= self.steps[index].skipped

    def _count(self) -> bool:
        updated = bool(self.stepped_optimizers)
        if updated:
            self.progress.global_step += 1
        elif self.skipped:
            self.progress.skipped_steps += 1
        return updated


class TogetherStep(TrainStep):
    """One forward and backward for all optimizers, where ``training_step`` takes no ``optimizer_idx``; then each one steps."""

    def __init__(self, trainer: Trainer, module: Module) -> None:
        super().__init__(trainer, module)
        self.optimizers = trainer.optimizers
        self.shared = shared_parameters(trainer.optimizers)

    def before_step(self, optimizer: Optimizer) -> None:
        """As the base class's, but what an optimizer shares with one before it was unscaled, corrected and clipped there."""
        shared = self.shared[id(optimizer)]
        if not shared:
            super().before_step(optimizer)
            return
        trainer, module = self.trainer, self.module
        with _set_aside(shared):
            self.complete_gradients(optimizer)
        for hook in self.calls.on_before_optimizer_step:
            hook(trainer, module, optimizer)
        if self.clips:
            with _set_aside(shared):
                self.clip(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)

    def update(self) -> bool:
        """Steps every optimizer if the window is complete; one training step, however many optimizers."""
        if not self.due or not self.window:
            return False
        self.stepped_optimizers = []
        for optimizer in self.trainer.optimizers:
            self.before_step(optimizer)
        if self.trainer.strategy.withholds_step:
            return self.stepped(False)
        for index, optimizer in enumerate(self.trainer.optimizers):
            if self.step_optimizer(optimizer):
                self.stepped_optimizers.append(index)
                self.progress.optimizer_steps[index] += 1
        self.window = 0
        updated = bool(self.stepped_optimizers)
        self.progress.global_step += updated
        self.progress.skipped_steps += not updated
        return updated


def shared_parameters(optimizers: list[Optimizer]) -> dict[int, list[Parameter]]:
    """For each optimizer, by its id, the parameters that an optimizer before it has too."""
    seen: set[int] = set()
    shared: dict[int, list[Parameter]] = {}
    for optimizer in optimizers:
        own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        shared[id(optimizer)] = [parameter for parameter in own if id(parameter) in seen]
        seen |= {id(parameter) for parameter in own}
    return shared


@contextmanager
def _set_aside(parameters: list[Parameter]) -> Iterator[None]:
    """Inside, the parameters have no gradient."""
    gradients = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
