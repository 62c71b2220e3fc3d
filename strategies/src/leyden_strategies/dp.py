"""Replicas of a module on several devices of one process, each running a part of every batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from leyden import Strategy
from leyden.data.batch_size import samples_of
from leyden.data.transfer import apply_to_tensors, move_to_device
from leyden.metrics.replicas import ReplicaLogs
from leyden.metrics.store import is_metric
from leyden.seeding import device_generators
from torch import Tensor
from torch.func import functional_call

from leyden_strategies.ddp import StepModule
from leyden_strategies.joining import join
from leyden_strategies.splitting import Splitter

if TYPE_CHECKING:
    from leyden import Accelerator, ClusterEnvironment, Module

Join = Callable[[list[Any]], Any]


class DPStrategy(Strategy):
    """One process on several devices: each batch is split, and each part runs through the module on a device of its own.

    On the CPU the devices are simulated, so that code for several GPUs can be tried where there are none: parameters are shared,
    and everything else is as it is on GPUs.

    A loss, which is taken to be a mean over samples, is averaged over the replicas by their samples (by ``loss_weight`` if
    ``training_step`` returns that), so gradients are those of one device on the whole batch, to rounding. A replica that
    returns None is left out. What ``self.log`` is given in the replicas is logged once, as if for the whole batch. Other outputs
    are joined as :func:`leyden_strategies.joining.join` says.

    Replicas start one after another in one thread, and kernels of several GPUs run at the same time. ``self`` is the one module
    in each, so attributes that a step sets stay; of buffers, such as the averages of batch norm, only those of the first replica.
    Random numbers differ between replicas. A torchmetrics object of the module is updated by all replicas, which on GPUs works
    only for what was brought to its device.

    Args:
        split: makes parts of a batch: a function of ``(batch, parts)`` that returns a list of at most so many batches. Without,
            batches are split as :class:`leyden_strategies.splitting.Splitter` says.
    """

    name = "dp"

    def __init__(self, split: Callable[[Any, int], list[Any]] | None = None) -> None:
        if split is not None and not callable(split):
            raise TypeError(f"strategy='dp': split={split!r} must be a function of (batch, parts) that returns a list of batches")
        self.splits = split
        self.devices: list[torch.device] = []
        """The device of each replica, the module's first."""
        self._joins: dict[str, Join] = {}

    # ---- a run ----

    def connect(
        self, accelerator: Accelerator, device_indices: list[int], num_nodes: int, environment: ClusterEnvironment
    ) -> None:
        """Takes the devices; see :meth:`leyden.Strategy.connect`.

        Raises:
            ValueError: there are several nodes or processes.
        """
        processes = environment.world_size if environment.creates_processes_externally else 1
        if num_nodes != 1 or processes != 1:
            there = f"num_nodes={num_nodes}" if num_nodes != 1 else f"environment {environment.name!r} has {processes} processes"
            raise ValueError(
                f"strategy='dp' drives the devices of one process, but {there}; use strategy='ddp', which has a process for "
                f"each device"
            )
        super().connect(accelerator, device_indices[:1], num_nodes, environment)
        self.devices = [self.device, *(accelerator.device(index) for index in device_indices[1:])]
        self.replicas = len(self.devices)

    def synchronize_batchnorm(self, module: Module) -> None:
        """Batch norm sees the part of its replica only.

        Raises:
            ValueError: there are several replicas.
        """
        if self.replicas > 1:
            raise ValueError(
                "sync_batchnorm=True: the replicas of strategy='dp' run one after another, so batch norm cannot see the batch of "
                "all; pass sync_batchnorm=False, or use strategy='ddp'"
            )

    def join_replicas(self, name: str, function: Join) -> bool:
        """Has ``function`` join the outputs of a step; see :meth:`leyden.Strategy.join_replicas`."""
        if self.replicas == 1:
            return False
        self._joins[name] = function
        return True

    def wrap_step(self, module: Module, name: str) -> Callable[..., Any]:
        """The step function on all replicas.

        Raises:
            ValueError: optimization is manual, or steps are to be compiled.
        """
        step = super().wrap_step(module, name)
        if self.replicas == 1:
            return step
        if name == "training_step" and not module.automatic_optimization:
            raise ValueError(
                f"strategy='dp' runs {type(module).__name__}.training_step once for each of {self.replicas} replicas, and in "
                f"manual optimization each would step the optimizers; use automatic optimization, or strategy='ddp'"
            )
        if module.trainer.compile_options is not None:
            raise ValueError(
                "strategy='dp' splits and joins batches in Python, which Trainer(compile=...) cannot compile; compile a part of "
                "the module with torch.compile, or use strategy='ddp'"
            )
        return ReplicatedStep(self, module, name, self._joins.get(name))

    def teardown(self, module: Module) -> None:
        """Forgets how outputs are joined; see :meth:`leyden.Strategy.teardown`."""
        self._joins.clear()
        super().teardown(module)

    # ---- for subclasses ----

    def replicate(self, tensor: Tensor, device: torch.device) -> Tensor:
        """A parameter or buffer for a replica on ``device``: itself on its own device, else a copy that passes gradients back."""
        return tensor.to(device, non_blocking=True)


class ReplicatedStep:
    """A step function that is called with a batch and runs on its parts."""

    def __init__(self, strategy: DPStrategy, module: Module, name: str, joins: Join | None) -> None:
        self.strategy = strategy
        self.module = module
        self.name = name
        self.where = f"{type(module).__name__}.{name}"
        self.joins = joins
        self.splitter = Splitter()
        self.wrapper = StepModule(module, name)
        metrics = [child for child, part in self.wrapper.named_modules() if part is not module and is_metric(part)]
        self.shared = tuple(f"{child}." for child in metrics)
        """What the names of buffers begin with that all replicas share, because they count samples."""

    def __call__(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """Runs the step function on each part; returns the output for the whole."""
        strategy, metrics = self.strategy, self.module.trainer.metrics
        parts = self._parts(batch)
        samples = [count for _, count in parts]
        if len(parts) == 1:
            outputs = [getattr(self.module, self.name)(parts[0][0], *args, **kwargs)]
            return outputs[0] if self.joins is None else self.joins(outputs)
        logs = ReplicaLogs(metrics)
        devices, home = strategy.devices[: len(parts)], strategy.device
        seed_devices(devices)
        outputs = []
        with logs.collecting(home):
            for index, (device, (part, count)) in enumerate(zip(devices, parts, strict=True)):
                logs.begin(count)
                away = device != home
                with self._on(device):
                    own = move_to_device(part, device) if away else part
                    output = self._run(index, device, own, *args, **kwargs)
                outputs.append(_returned(output, home) if away else output)
        if self.joins is not None:
            return self.joins(outputs)
        if self.name == "training_step":
            return joined_losses(outputs, samples, self.where)
        return join(outputs, [float(count) for count in samples], samples, f"what {self.where} returned")

    def _parts(self, batch: Any) -> list[tuple[Any, int]]:
        strategy, metrics = self.strategy, self.module.trainer.metrics
        if strategy.splits is not None:
            found = strategy.splits(batch, strategy.replicas)
            if not isinstance(found, list) or not 1 <= len(found) <= strategy.replicas:
                shown = f"{len(found)} batches" if isinstance(found, list) else f"a {type(found).__name__}"
                raise ValueError(
                    f"strategy='dp': split returned {shown}; expected a list of 1 to {strategy.replicas} batches, one for each "
                    f"replica"
                )
            return [(part, samples_of(part)) for part in found]
        known = metrics.batch_size if metrics.batch is not None else None
        return self.splitter.split(batch, known, strategy.replicas)

    def _run(self, index: int, device: torch.device, *args: Any, **kwargs: Any) -> Any:
        strategy, wrapper = self.strategy, self.wrapper
        if index == 0:
            return getattr(self.module, self.name)(*args, **kwargs)
        tensors: dict[str, Tensor] = {}
        for name, buffer in wrapper.named_buffers():
            if not name.startswith(self.shared or ("\0",)):
                replica = strategy.replicate(buffer, device)
                tensors[name] = replica.clone() if replica is buffer else replica
        for name, parameter in wrapper.named_parameters():
            replica = strategy.replicate(parameter, device)
            if replica is not parameter:
                tensors[name] = replica
        return functional_call(wrapper, tensors, args, kwargs) if tensors else wrapper(*args, **kwargs)

    @contextmanager
    def _on(self, device: torch.device) -> Iterator[None]:
        """Inside, ``device`` is the current one and the module's."""
        strategy, before = self.strategy, self.strategy.device
        library = getattr(torch, device.type)
        strategy.device = device
        try:
            with library.device(device) if hasattr(library, "device") and device.index is not None else nullcontext():
                yield
        finally:
            strategy.device = before


def _returned(output: Any, device: torch.device) -> Any:
    """An output with its tensors on ``device``, and their graphs with them."""
    return apply_to_tensors(output, lambda value: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value)


def seed_devices(devices: list[torch.device]) -> None:
    """Gives every device but the first random numbers of its own, which follow from those of the CPU.

    All devices are seeded alike at the start, so that replicas would drop the same units; and checkpoints hold the CPU's state
    and the first device's.
    """
    for device in dict.fromkeys(devices[1:]):
        if device != devices[0]:
            for generator in device_generators(device)[1:]:
                generator.manual_seed(int(torch.randint(2**62, ())))


def joined_losses(outputs: list[Any], samples: list[int], where: str) -> Any:
    """The output of ``training_step`` for the whole batch; what is no output of one is returned as it is, and refused later.

    Args:
        outputs: for each part, in order.
        samples: how many samples each part had.
        where: whose output it is, for messages.
    """
    kept: list[Any] = []
    weights: list[float] = []
    counts: list[int] = []
    for output, count in zip(outputs, samples, strict=True):
        if output is None or (isinstance(output, Mapping) and "loss" in output and output["loss"] is None):
            continue
        if not isinstance(output, Tensor | Mapping) or (isinstance(output, Mapping) and "loss" not in output):
            return output
        if isinstance(output, Mapping):
            loss = output["loss"]
            kept.append({**output, "loss": loss.reshape(()) if isinstance(loss, Tensor) and loss.numel() == 1 else loss})
            weights.append(float(output.get("loss_weight", count)))
        else:
            kept.append(output.reshape(()) if output.numel() == 1 else output)
            weights.append(float(count))
        counts.append(count)
    if not kept:
        return None
    weighs = isinstance(kept[0], Mapping) and "loss_weight" in kept[0]
    joined = join(kept, weights, counts, f"what {where} returned")
    if weighs or len(kept) < len(outputs):  # the samples of a replica that has no loss do not count in an accumulation window
        joined = dict(joined) if isinstance(joined, Mapping) else {"loss": joined}
        joined["loss_weight"] = sum(weights)
    return joined
