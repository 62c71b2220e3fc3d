"""How processes and devices share the work of a run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from leyden.component import Component
from leyden.precision import Precision
from leyden.returned import returned

if TYPE_CHECKING:
    from leyden.accelerator import Accelerator
    from leyden.environment import ClusterEnvironment
    from leyden.module import Module

T = TypeVar("T")


class Strategy(Component):
    """One process on one device; subclasses override what differs.

    Core calls, in this order: :meth:`connect` when the Trainer is built; :meth:`launch` at each run, and in the launched
    processes :meth:`setup_environment`, :meth:`setup`, :meth:`wrap_step` for each step function, and :meth:`teardown`.
    """

    group = "leyden.strategies"
    kind = "strategy"
    name = "single_device"

    accelerator: Accelerator
    """The accelerator of the run, from :meth:`connect` on."""

    device: torch.device = torch.device("cpu")
    """The device this process trains on, from :meth:`setup_environment` on."""

    world_size: int = 1
    """How many processes take part."""

    rank: int = 0
    """This process among all of them."""

    local_rank: int = 0
    """This process among those of its node."""

    node_rank: int = 0
    """This node among the nodes."""

    device_mesh: Any = None
    """The ``torch.distributed.device_mesh.DeviceMesh`` of one that shards the module, from :meth:`setup_environment` on."""

    @classmethod
    def priority(cls, accelerator: Accelerator, num_devices: int, num_nodes: int) -> int:
        """How well this strategy suits such a run, for ``strategy="auto"``; 0 means not at all, the highest is taken.

        Asked only when a run has several devices or nodes: one device on one node is the plain case.
        """
        return 0

    def connect(
        self, accelerator: Accelerator, device_indices: list[int], num_nodes: int, environment: ClusterEnvironment
    ) -> None:
        """Takes the devices to use, when the Trainer is built.

        Args:
            accelerator: makes devices of the indices.
            device_indices: the devices of this node.
            num_nodes: how many nodes take part.
            environment: who started this process.

        Raises:
            ValueError: this strategy cannot drive those devices.
        """
        if len(device_indices) != 1 or num_nodes != 1:
            raise ValueError(
                f"strategy={self.name!r} drives one device on one node, not {len(device_indices)} devices on {num_nodes} "
                f"node(s); pass devices=1 or choose a strategy for several"
            )
        self.accelerator = accelerator
        device = accelerator.device(device_indices[0])
        self.device = returned(device, accelerator, "device", torch.device, "a torch.device")

    def launch(self, function: Callable[..., T], *args: Any) -> T:
        """Runs ``function(*args)`` in every process of the run and returns what rank 0's returned.

        The first of the arguments is the Trainer. A strategy whose processes are not this one sees to it that the Trainer and
        its module are here afterwards as rank 0 left them: :func:`leyden.outcome.dump_outcome` and ``take_outcome`` do that.
        """
        return function(*args)

    def setup_environment(self) -> None:
        """Prepares this process: its device, its communication with the others."""
        self.accelerator.setup(self.device)

    def check_precision(self, precision: Precision) -> None:
        """Called when the Trainer is built, after :meth:`connect`.

        Raises:
            ValueError: this strategy cannot train in that precision.
        """

    def module_context(self) -> AbstractContextManager[object]:
        """What the module's ``configure_model`` runs under: a device such as ``torch.device("meta")``, for modules that are
        sharded before they are allocated."""
        return nullcontext()

    def setup(self, module: Module, precision: Precision) -> None:
        """Moves the module to its device in its precision; called before optimizers exist."""
        precision.convert_module(module)
        module.to(self.device)

    def synchronize_batchnorm(self, module: Module) -> None:
        """Makes batch norm see the batches of all processes; called before :meth:`setup` if the Trainer was asked to.

        Raises:
            ValueError: the device cannot do that.
        """

    def setup_optimizers(self, module: Module, optimizers: list[Optimizer]) -> list[Optimizer]:
        """Returns the optimizers to step, usually those given."""
        return optimizers

    def wrap_step(self, module: Module, name: str) -> Callable[..., Any]:
        """Returns the callable that runs the module's step function ``name`` each batch.

        On one device that is the bound method itself; a strategy that wraps modules returns its wrapper.
        """
        step: Callable[..., Any] = getattr(module, name)
        return step

    def bind_backward(self, precision: Precision) -> Callable[..., None]:
        """Returns the callable that runs backward on a loss; asked once a run."""
        # torch's own method, where the precision's does nothing else, saves a call for each batch.
        return precision.backward if type(precision).backward is not Precision.backward else Tensor.backward

    def synchronize_gradients(self, module: Module, enabled: bool) -> None:
        """Called before each batch of a run that accumulates: whether backward is to reduce gradients over processes."""

    averages_later: bool = False
    """Whether gradients that backward left local, as :meth:`synchronize_gradients` was told, are averaged before the step all the
    same, so that a batch that failed on one process alone can be tried again there."""

    def average_gradients(self, optimizer: Optimizer) -> None:
        """Called when a step is due, before gradients are unscaled: averages over processes those that backward left local."""

    def counted_so_far(self) -> Any:
        """What a batch that fails half-way changes beside gradients; before the next one :meth:`count_from` may take it back."""
        return None

    def count_from(self, counted: Any) -> None:
        """Takes back what batches have counted since :meth:`counted_so_far` gave ``counted``."""

    def reduction_dtype(self, gradient: torch.dtype) -> torch.dtype | None:
        """The dtype in which gradients of dtype ``gradient`` are reduced over processes; None where they are not."""
        return None

    uneven: str | None = None
    """What is done where processes have different amounts of training data: ``"stop"`` with the first that has no more,
    ``"wrap"`` has that begin again, ``"join"`` has it wait for the others; None is what suits the loader."""

    agrees_to_stop: bool = True
    """Whether ``trainer.should_stop`` is every process's and not this one's alone; only then it is heeded."""

    idle: bool = False
    """Whether this process has no more batches while others train on theirs."""

    skipped_batches: int = 0
    """Batches of the running epoch that this process skipped, while others may have trained on theirs."""

    def align(
        self,
        batches: Generator[tuple[Any, bool], None, None],
        reopen: Callable[[], Generator[tuple[Any, bool], None, None]],
        count: int | None,
    ) -> Generator[tuple[Any, bool], None, None]:
        """The training batches of an epoch, so many on every process, where nobody knows that there are as many.

        Args:
            batches: what this process has: pairs of a batch and whether it is the last.
            reopen: gives them from the beginning once more.
            count: how many this process has; None if that is not certain.
        """
        return batches

    weighs_batches: bool = False
    """Whether gradients, when ``on_before_optimizer_step`` is called, are those of the mean over all samples of an accumulation
    window in all processes; otherwise the loop makes them so for this process."""

    steps_each_batch: bool = False
    """Whether each batch is ``loss.backward()`` of the loss as it is and a step, as the loop says when an epoch begins; where
    that comes to an end in a later epoch, :meth:`synchronize_gradients` is called."""

    withholds_step: bool = False
    """Whether the step for which ``on_before_optimizer_step`` was just called is not to be taken, on any process."""

    replicas: int = 1
    """How many replicas of the module this process runs each batch on, a part of the batch on each, from :meth:`connect` on."""

    def join_replicas(self, name: str, function: Callable[[list[Any]], Any]) -> bool:
        """Has ``function`` make the output of a step function of what it returned in each replica, until the run ends.

        Called before :meth:`setup_environment`. Without, a strategy with several replicas makes one output of theirs itself.

        Args:
            name: ``"training_step"`` and so on.
            function: is given the outputs of the replicas, in order, their tensors on :attr:`device` and with their graphs; what
                it returns is the step's output.

        Returns:
            False if a step runs on the whole batch, so that there is nothing to join and ``function`` is not called.
        """
        return False

    # ---- communication: every process takes part in each ----

    def all_reduce(self, tensor: Tensor, op: str = "sum") -> Tensor:
        """Returns ``tensor`` reduced over all processes, same shape; ``op`` is ``sum``, ``mean``, ``min`` or ``max``."""
        return tensor

    def all_gather(self, tensor: Tensor, sync_grads: bool = False) -> Tensor:
        """Returns the tensors of all processes, shape ``(world_size, *tensor.shape)``, by rank.

        Args:
            tensor: of the same shape in every process.
            sync_grads: whether gradients flow back to the processes that the tensors came from.
        """
        return tensor.unsqueeze(0)

    def all_gather_object(self, obj: T) -> list[T]:
        """Returns the objects of all processes, which must be picklable, by rank."""
        return [obj]

    def broadcast(self, obj: T, source: int = 0) -> T:
        """Returns the object of rank ``source``."""
        return obj

    def barrier(self) -> None:
        """Waits for all processes."""

    def request_stop(self, number: int) -> int:
        """Has every process stop, because this one was sent a signal; on the others ``interrupt_requested`` is true soon after.

        Called between two batches, once ``trainer.interrupt_requested`` is true.

        Args:
            number: the signal that came to this process, or any if it came to another.

        Returns:
            The signal that ends the run on all processes.
        """
        return number

    def stops_here(self, done: int, going_on_to: int) -> bool:
        """Whether this is where all processes stop; asked between two batches, once one of them was asked to stop.

        Args:
            done: training batches that this process has completed, in all epochs.
            going_on_to: the last training batch, counted from 1, that it may begin before it asks again; ``done`` inside of an
                evaluation.
        """
        return True

    # ---- state ----

    loads_after_setup: bool = False
    """Whether the weights of a checkpoint are loaded when :meth:`setup` has sharded the module, rather than before."""

    @property
    def writes_checkpoint(self) -> bool:
        """Whether the Trainer's ``checkpoint_io`` is called on this process: on rank 0, or on all where each has a part."""
        return self.rank == 0

    def module_state(self, module: Module) -> dict[str, Any]:
        """The module's whole state, under the module's own names; every process calls it, rank 0's result is saved."""
        return returned(module.state_dict(), module, "state_dict", dict, "a dict")

    def load_module_state(self, module: Module, state: Mapping[str, Any], strict: bool = True) -> None:
        """Takes back what :meth:`module_state` gave.

        Raises:
            RuntimeError: ``strict`` and the names differ, or shapes differ.
        """
        nn.Module.load_state_dict(module, state, strict=strict)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """An optimizer's whole state; every process calls it, rank 0's result is saved."""
        return optimizer.state_dict()

    def load_optimizer_state(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        """Takes back what :meth:`optimizer_state` gave."""
        optimizer.load_state_dict(state)

    def gather_state(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        """What each process has for itself (random numbers, positions in its data, sums of logged values), by rank.

        Every process calls it; rank 0's result is saved.
        """
        return self.all_gather_object(state)

    def own_state(self, states: list[dict[str, Any]]) -> dict[str, Any] | None:
        """What of :meth:`gather_state` is this process's; None if it was of another number of processes."""
        return states[self.rank] if len(states) == self.world_size else None

    def teardown(self, module: Module) -> None:
        """Lets go of the module and of what :meth:`setup_environment` opened; also called when a run failed.

        The module goes back to the CPU, so that the device's memory is free for the next run.
        """
        module.to("cpu")
        self.accelerator.teardown()
