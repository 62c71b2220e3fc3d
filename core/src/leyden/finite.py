"""Notices losses, gradients and parameters that are not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from leyden.loops.closure_step import takes_closure
from leyden.metrics.values import to_floats
from leyden.module import Module
from leyden.precision import Precision

if TYPE_CHECKING:
    from leyden.trainer import Trainer

POLICIES = ("stop", "skip", "strict", "off")

_ADVICE = (
    "a smaller learning rate, gradient_clip_val=... or other data may help, Trainer(detect_anomaly=True) finds the operation; "
    "nan_policy='skip' leaves such steps out, 'off' goes on"
)


class NonFiniteError(FloatingPointError):
    """Training went wrong: a loss, a gradient or a parameter is infinite or not a number."""


class FiniteWatch:
    """Looks at nothing: ``nan_policy="off"``, and runs that do not train. Subclasses are the other policies."""

    def wrap_backward(self, backward: Callable[..., None]) -> Callable[..., None]:
        """Returns the callable that runs backward on each loss; asked once a run."""
        return backward

    def wrap_step(self, step: Callable[..., bool]) -> Callable[..., bool]:
        """Returns the callable that steps an optimizer, as ``Precision.step``; asked once a run."""
        return step

    def read(self, values: Mapping[str, float]) -> None:
        """Called at each log point with what was just read, in every process."""

    def before_save(self, path: str) -> None:
        """Called before a checkpoint of the running fit is written, in every process."""


class LazyWatch(FiniteWatch):
    """The default: values that are read anyway are looked at when they are read, and parameters only if need be.

    Where a value that was logged is not finite, at the end of each epoch and before each checkpoint, parameters that are not
    finite stop the run. A step costs nothing.
    """

    def __init__(self, trainer: Trainer, module: Module) -> None:
        self.trainer = trainer
        self.module = module

    def read(self, values: Mapping[str, float]) -> None:
        """Looks at values just read.

        Raises:
            NonFiniteError: a value and a parameter are not finite, or a parameter at the end of an epoch.
        """
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        ended = self.trainer.progress.epoch_ended
        if (bad or ended) and not parameters_finite(self.trainer, self.module, together=ended):
            what = f"the logged {bad[0]!r} is {values[bad[0]]} and " if bad else ""
            raise NonFiniteError(f"{what}training went wrong by {self.where()}: {first_bad(self.module)}; {_ADVICE}")

    def before_save(self, path: str) -> None:
        """Looks at the parameters.

        Raises:
            NonFiniteError: one is not finite; nothing is written.
        """
        if not parameters_finite(self.trainer, self.module, together=True):
            raise NonFiniteError(
                f"{path!r} is not written: training went wrong by {self.where()}: {first_bad(self.module)}; {_ADVICE}"
            )

    def where(self) -> str:
        """Where the run is, for messages."""
        progress = self.trainer.progress
        return f"step {progress.global_step} (epoch {progress.epoch}, batch {progress.batch})"


class StopWatch(LazyWatch):
    """``nan_policy="stop"``: every loss stays on its device until the next log point, and is looked at there."""

    def __init__(self, trainer: Trainer, module: Module) -> None:
        super().__init__(trainer, module)
        self.losses: list[Tensor] = []
        self.places: list[tuple[int, int, int]] = []
        """The step, the epoch and the batch of each loss."""

    def wrap_backward(self, backward: Callable[..., None]) -> Callable[..., None]:
        """Keeps each loss."""
        progress, losses, places = self.trainer.progress, self.losses, self.places

        def keep(loss: Tensor, *args: Any, **kwargs: Any) -> None:
            losses.append(loss.detach())
            places.append((progress.global_step, progress.epoch, progress.batch))
            backward(loss, *args, **kwargs)

        return keep

    def read(self, values: Mapping[str, float]) -> None:
        """Looks at the losses since the last log point.

        Raises:
            NonFiniteError: one is not finite, or as the base class says.
        """
        if self.losses:
            numbers = to_floats([loss.reshape(()) if loss.numel() == 1 else loss.sum() for loss in self.losses])
            places = list(self.places)
            self.losses.clear()
            self.places.clear()
            bad = [index for index, number in enumerate(numbers) if not math.isfinite(number)]
            if bad:
                batches = ", ".join(f"epoch {places[index][1]} batch {places[index][2]}" for index in bad[:3])
                more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
                raise NonFiniteError(
                    f"the loss of step {places[bad[0]][0]} is {numbers[bad[0]]} ({batches}{more}); {first_bad(self.module)}; "
                    f"{_ADVICE}"
                )
        super().read(values)


class StrictWatch(LazyWatch):
    """``nan_policy="strict"``: loss and gradients are read before each update, which waits for the device once a step."""

    def __init__(self, trainer: Trainer, module: Module) -> None:
        super().__init__(trainer, module)
        self.losses: list[Tensor] = []
        self.scaled = type(trainer.precision).unscale is not Precision.unscale
        """Whether the precision looks at gradients itself: an overflow of scaled ones is no fault."""

    def wrap_backward(self, backward: Callable[..., None]) -> Callable[..., None]:
        """Keeps the losses of the running window."""

        def keep(loss: Tensor, *args: Any, **kwargs: Any) -> None:
            self.losses.append(loss.detach())
            backward(loss, *args, **kwargs)

        return keep

    def wrap_step(self, step: Callable[..., bool]) -> Callable[..., bool]:
        """Looks at losses and gradients before each step, also inside the closures of optimizers that take one."""

        def guarded(optimizer: Optimizer, closure: Callable[[], Any] | None = None) -> bool:
            if closure is not None:
                return step(optimizer, lambda: self.evaluated(closure, optimizer))
            if not self.is_fine(optimizer):
                return self.refuse(optimizer)
            return step(optimizer)

        return guarded

    def evaluated(self, closure: Callable[[], Any], optimizer: Optimizer) -> Any:
        """What a closure returns, when its loss and gradients are finite; inside an optimizer there is no way to skip.

        Raises:
            NonFiniteError: they are not.
        """
        loss = closure()
        if not self.is_fine(optimizer):
            StrictWatch.refuse(self, optimizer)
        return loss

    def is_fine(self, optimizer: Optimizer) -> bool:
        """Whether the losses since the last step, and the gradients, are finite; the same in every process."""
        tensors = list(self.losses)
        if not self.scaled:
            tensors += [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not _finite(tensors, self.trainer, together=True):
            return False
        self.losses.clear()
        return True

    def refuse(self, optimizer: Optimizer) -> bool:
        """What happens in place of a step.

        Raises:
            NonFiniteError: always.
        """
        [*_, last] = [float(loss.sum()) for loss in self.losses] or [math.nan]
        self.losses.clear()
        names = {id(parameter): name for name, parameter in self.module.named_parameters()}
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                name = names.get(id(parameter), "a parameter")
                what = f"the first gradient that is not finite: {_described(name, parameter.grad)}"
                break
        else:
            what = "every gradient is finite"
        raise NonFiniteError(f"the update after {self.where()} was not done: its loss is {last}; {what}; {_ADVICE}")

    def read(self, values: Mapping[str, float]) -> None:
        """Nothing more is to be looked at: no update was done that is not finite."""


class SkipWatch(StrictWatch):
    """``nan_policy="skip"``: as strict, but the update is left out, counted in ``trainer.progress.skipped_steps``."""

    def refuse(self, optimizer: Optimizer) -> bool:
        """Leaves the step out."""
        self.losses.clear()
        return False


def choose_watch(trainer: Trainer, module: Module) -> FiniteWatch:
    """The policy of a run.

    Raises:
        ValueError: it cannot be kept with these optimizers.
    """
    if trainer.stage != "fit" or trainer.nan_policy == "off":
        return FiniteWatch()
    if trainer.nan_policy is None:
        return LazyWatch(trainer, module)
    if trainer.nan_policy == "skip" and module.automatic_optimization:
        for optimizer in filter(takes_closure, trainer.optimizers):
            raise ValueError(
                f"nan_policy='skip': {type(optimizer).__name__} evaluates the loss itself and cannot take back what it did "
                f"before; use nan_policy='strict' or 'stop'"
            )
    return {"stop": StopWatch, "skip": SkipWatch, "strict": StrictWatch}[trainer.nan_policy](trainer, module)


def parameters_finite(trainer: Trainer, module: Module, *, together: bool) -> bool:
    """Whether every parameter that is trained is finite, by one read from the device.

    Args:
        trainer: the run.
        module: whose parameters.
        together: whether every process asks, so that all are to get the same answer: where each has a part of the parameters
            that takes a collective, where each has them all they have the same answer anyway.
    """
    parameters = [parameter.detach() for parameter in module.parameters() if parameter.requires_grad]
    sharded = any(hasattr(parameter, "to_local") for parameter in parameters)
    return _finite(parameters, trainer, together=together and sharded)


def first_bad(module: Module) -> str:
    """Names the first parameter that is not finite, with how much of it."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            return f"the first parameter that is not finite: {_described(name, parameter)}"
    return "every parameter is finite"


def _described(name: str, tensor: Tensor) -> str:
    return f"{name} ({int((~torch.isfinite(tensor)).sum())} of {tensor.numel()} values)"


def _finite(tensors: Iterable[Tensor], trainer: Trainer, *, together: bool) -> bool:
    local = [getattr(tensor, "to_local", lambda tensor=tensor: tensor)() for tensor in tensors]  # a shard's own part
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in local:
        if tensor.numel() and (tensor.is_floating_point() or tensor.is_complex()):
            groups.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    finite = all(_group_finite(device, tensors) for (device, _), tensors in groups.items())
    if together and trainer.strategy.world_size > 1:
        flag = torch.tensor(float(finite), device=trainer.strategy.device)
        finite = bool(trainer.strategy.all_reduce(flag, "min") > 0)
    return finite


def _group_finite(device: torch.device, tensors: list[Tensor]) -> bool:
    if device.type == "cpu":
        # A sum takes a tenth of the time of a norm there. Finite values may add up to infinity, so that is looked at again.
        total = torch.stack([tensor.sum() for tensor in tensors]).sum()
        return bool(torch.isfinite(total)) or all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
    # The largest absolute value is nan or inf exactly where one of them is.
    return math.isfinite(float(get_total_norm(tensors, math.inf)))
