"""What every strategy of several processes shares: how they start, talk, stop together and end."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from leyden import Module, Strategy, hookimpl
from leyden.messages import listed, nearest, notify
from torch import Tensor

from leyden_strategies.agreement import StopAgreement
from leyden_strategies.collectives import broadcast_object, gather, gather_objects, reduce_in_place
from leyden_strategies.group import Store, close_group, open_group, runs_so_far, store_of
from leyden_strategies.launchers.board import PHASES
from leyden_strategies.launchers.external import ExternalLauncher
from leyden_strategies.launchers.processes import ProcessesLauncher
from leyden_strategies.launchers.rank import Rank
from leyden_strategies.launchers.script import ScriptLauncher

if TYPE_CHECKING:
    from leyden import Accelerator, ClusterEnvironment, Precision, Trainer

T = TypeVar("T")

LAUNCHERS: dict[str, Callable[[], Any]] = {
    "script": ScriptLauncher,
    "spawn": lambda: ProcessesLauncher("spawn"),
    "fork": lambda: ProcessesLauncher("fork"),
    "forkserver": lambda: ProcessesLauncher("forkserver"),
}

_OPERATIONS = {"sum": dist.ReduceOp.SUM, "mean": dist.ReduceOp.SUM, "min": dist.ReduceOp.MIN, "max": dist.ReduceOp.MAX}
_BACKENDS = {"cuda": "nccl", "xpu": "xccl"}
_LEAVING = (KeyboardInterrupt, SystemExit)
"""What no error is, but somebody's will."""
_SETUP, _TRAINING, _VALIDATION, _TEST, _PREDICTION, _SAVING, _TEARDOWN, _END = range(1, len(PHASES))


class ProcessesStrategy(Strategy):
    """One process for each device; what they do together is for a subclass to say.

    Args:
        launcher: how processes are started where nobody else does: ``"script"`` runs the script again, ``"fork"``, ``"spawn"``
            and ``"forkserver"`` start children and return to the code that called ``fit``.
        timeout: seconds, or a timedelta, that no process may move before the run is ended with a dump of every stack.
        process_group_backend: ``"gloo"``, ``"nccl"``, ...; what suits the device if not given.

    Raises:
        ValueError: there is no such launcher, or ``timeout`` is not positive.
    """

    name = "processes"

    def __init__(
        self, launcher: str = "script", timeout: float | timedelta = 1800.0, process_group_backend: str | None = None
    ) -> None:
        if launcher not in LAUNCHERS:
            match = nearest(str(launcher), LAUNCHERS)
            hint = f"; did you mean {match!r}?" if match else ""
            raise ValueError(f"launcher={launcher!r}: expected one of {listed(LAUNCHERS)}{hint}")
        self.stall_seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
        if self.stall_seconds <= 0:
            raise ValueError(f"timeout={timeout!r}: expected more than 0 seconds")
        self.launcher = launcher
        self.process_group_backend = process_group_backend
        self.device_indices: list[int] = []
        """The devices of this node."""
        self.num_nodes = 1
        self.environment: ClusterEnvironment
        self.failed: BaseException | None = None
        """What ended the run on this rank, if that was an error."""
        self._left_alone = False
        """Whether this rank leaves the run at once, while the others may be inside of a collective."""
        self._stopped_together = False
        """Whether the ranks have agreed to stop here."""
        self._trainer: Callable[[], Any] = _nobody
        self._port: Path | None = None
        """The file that says where the store is, in a process that a launcher made."""
        self._started = False
        """Whether a launcher made this process for the run."""
        self._rank: Rank | None = None
        self._said = False
        self._agreed_at = 0
        """The step at which ranks agreed last whether to stop."""
        self._agreement: StopAgreement | None = None
        self._saves = False
        """Whether the run has saved a checkpoint, or is about to."""
        self._saved = False
        """Whether that was after the last batch had begun."""
        self._newest = ""
        """The newest checkpoint that the watcher knows."""

    # ---- which process this is ----

    def connect(
        self, accelerator: Accelerator, device_indices: list[int], num_nodes: int, environment: ClusterEnvironment
    ) -> None:
        """Takes the devices; see :meth:`leyden.Strategy.connect`.

        Raises:
            ValueError: whoever started the processes started another number of them.
        """
        self.accelerator, self.device_indices, self.num_nodes = accelerator, list(device_indices), num_nodes
        self.environment = environment
        self.world_size = len(device_indices) * num_nodes
        if environment.creates_processes_externally:
            if environment.world_size != self.world_size:
                raise ValueError(
                    f"environment {environment.name!r} has {environment.world_size} processes, but devices={len(device_indices)} "
                    f"and num_nodes={num_nodes} need {self.world_size}; start as many, or leave devices and num_nodes out"
                )
            self.rank, self.local_rank, self.node_rank = environment.rank, environment.local_rank, environment.node_rank
        self.device = accelerator.device(device_indices[self.local_rank])

    def become(self, local_rank: int, port: Path) -> None:
        """Makes this process, which was just started, the given rank; the file ``port`` will say where the store is."""
        self.rank = self.local_rank = local_rank
        self.device = self.accelerator.device(self.device_indices[local_rank])
        self._port = port
        self._started = True

    def store(self) -> Store:
        """The store of this run, through which ranks tell each other small things without a collective."""
        return store_of(self, self._port)

    # ---- a run ----

    def launch(self, function: Callable[..., T], *args: Any) -> T:
        """Runs the function in every process; see :meth:`leyden.Strategy.launch`.

        Raises:
            RuntimeError: processes cannot be started here.
        """
        external = self.environment.creates_processes_externally or self._started
        alone = self.world_size == 1
        launcher = ExternalLauncher() if external or alone else LAUNCHERS[self.launcher]()
        if not self._said and self.rank == 0 and not alone and not (self.launcher == "script" and not external):
            self._said = True  # ranks that run the script again say it themselves
            way = (
                f"environment {self.environment.name!r} ({self.environment.reason()})"
                if external
                else f"launcher {self.launcher!r}"
            )
            notify(
                "LYS01", f"{self.world_size} processes with strategy {self.name!r} and backend {self.backend!r}, started by {way}"
            )
        result: T = launcher.launch(self, function, args)
        return result

    def guard(self, function: Callable[..., T], *args: Any) -> T:
        """Runs the function; an exception is told to whoever watches, if the hooks have not done so."""
        self._rank, self.failed, self._left_alone, self._stopped_together = Rank.current, None, False, False
        self._trainer = weakref.ref(args[0])
        if self._rank is not None:
            self._rank.begin()
        try:
            return function(*args)
        except BaseException as error:
            self._note_failure(error)
            raise
        finally:
            self._at(_END, args[0].module)  # and not before: whoever hangs or dies in the hooks of the end has not ended well

    def setup_environment(self) -> None:
        """Opens the process group, after the device."""
        self._at(_SETUP, None)
        super().setup_environment()
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        store = self.store()
        open_group(self, self.backend, store)
        self.agrees_to_stop, self._agreed_at, self.skipped_batches = self.world_size == 1, 0, 0
        if self.world_size > 1:
            self._agreement = StopAgreement(store, runs_so_far(), self.rank, self.world_size)
            if self._rank is not None:
                self._rank.poll(self._look_for_stop)
        if self._rank is not None and self.local_rank == 0:
            self._rank.poll(self._look_for_checkpoint)

    @property
    def backend(self) -> str:
        """The backend of the process group."""
        return self.process_group_backend or _BACKENDS.get(self.device.type, "gloo")

    def setup(self, module: Module, precision: Precision) -> None:
        """Moves the module to the device; refuses modules that are not the same on every rank."""
        super().setup(module, precision)
        if self.world_size > 1:
            self.check_same_parameters(module)

    def check_same_parameters(self, module: Module) -> None:
        """Compares the names, shapes and dtypes of the module's parameters over the ranks.

        Raises:
            ValueError: they differ; the message has the first difference.
        """
        own = [(name, tuple(p.shape), str(p.dtype), p.requires_grad) for name, p in module.named_parameters()]
        digest = int.from_bytes(hashlib.blake2b(repr(own).encode(), digest_size=6).digest(), "little")
        if self.all_gather(torch.tensor([digest], dtype=torch.int64, device=self.device)).unique().numel() == 1:  # type: ignore[no-untyped-call]  # torch has no types here
            return
        everybody = self.all_gather_object(own)
        for rank, other in enumerate(everybody):
            if other != everybody[0]:
                raise ValueError(
                    f"{type(module).__name__} is not the same on every rank: {_difference(everybody[0], other, rank)}"
                )

    def teardown(self, module: Module) -> None:
        """Closes the process group; after a failure it is left alone, for another rank may be inside of a collective."""
        self._at(_TEARDOWN, module)
        if self._rank is not None:
            self._rank.forget()
        self._agreement = None
        if self.failed is None and not self._left_alone:
            close_group()
        super().teardown(module)

    # ---- stopping together ----

    def _look_for_stop(self) -> None:
        """Called by a thread: has this rank ask where to stop, if another one was sent a signal."""
        trainer, agreement = self._trainer(), self._agreement
        if agreement is not None and trainer is not None and agreement.poll():
            trainer.interrupt_requested = True

    def _look_for_checkpoint(self) -> None:
        """Called between batches and by a thread: tells the watcher of a checkpoint that was saved, once it is there."""
        trainer = self._trainer()
        if trainer is None or not self._saves:
            return
        path = trainer.known_checkpoint("last")
        if path is not None and path != self._newest and Path(path).exists():
            self._newest = path
            assert self._rank is not None
            self._rank.saved(path)

    def request_stop(self, number: int) -> int:
        """Tells the other ranks; see :meth:`leyden.Strategy.request_stop`."""
        return number if self._agreement is None else self._agreement.request(number)

    def stops_here(self, done: int, going_on_to: int) -> bool:
        """Whether this is where all ranks stop, which is the same training batch for all of them.

        A validation inside of a fit is gone through: another rank may have done its batches and wait for this one's values.
        Outside of a fit there is nothing to save, so that each rank leaves for itself.
        """
        trainer = self._trainer()
        if self._agreement is None or trainer is None or trainer.stage != "fit":
            return True
        self._stopped_together = going_on_to > done and self._agreement.reached(done, going_on_to)
        return self._stopped_together

    def _agree_on_should_stop(self, trainer: Trainer) -> None:
        if self.world_size > 1 and trainer.stage == "fit" and not trainer.sanity_checking:
            wanted = torch.tensor(float(trainer.should_stop), device=self.device)
            trainer.should_stop = self.agrees_to_stop = bool(self.all_reduce(wanted, "max") > 0)

    @hookimpl(specname="on_train_epoch_end", tryfirst=True)
    def _log_skipped(self, trainer: Trainer, module: Module) -> None:
        """Logs what all ranks skipped, before anybody saves what is to be resumed."""
        if self.world_size == 1 or not self.weighs_batches:
            return
        skipped = self.all_reduce(torch.tensor(float(self.skipped_batches), device=self.device)).item()
        self.skipped_batches = 0
        if skipped and trainer.accepts_logs:
            module.log("skipped_batches", skipped, reduce_fx="max")

    @hookimpl(specname="on_train_epoch_end", trylast=True)
    def _epoch_ended(self, trainer: Trainer) -> None:
        self._agree_on_should_stop(trainer)

    @hookimpl(specname="on_validation_end", trylast=True)
    def _validation_ended(self, trainer: Trainer) -> None:
        self._agree_on_should_stop(trainer)

    @hookimpl(specname="on_train_batch_end", trylast=True)
    def _batch_ended(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        # At log points, where ranks meet anyway: a flag that one of them set, or its clock, is everybody's from here on.
        step, every = trainer.progress.global_step, trainer.log_every_n_steps
        if every and step != self._agreed_at and step % every == 0:
            self._agreed_at = step
            self._agree_on_should_stop(trainer)

    # ---- what hooks tell the watcher ----

    def _at(self, phase: int, module: Module | None, batch: int = 0) -> None:
        rank = self._rank
        if rank is not None:
            progress = None if module is None or module._trainer is None else module._trainer.progress
            step, epoch = (0, 0) if progress is None else (progress.global_step, progress.epoch)
            rank.board.write(phase, step, epoch, batch)

    @hookimpl
    def on_train_batch_start(self, trainer: Trainer, module: Module, batch: Any, batch_idx: int) -> None:
        """Says where this rank is."""
        if self._rank is not None:
            self._rank.board.write(_TRAINING, trainer.progress.global_step, trainer.progress.epoch, batch_idx)
            if self._saved:  # the thread may come to it when many batches are done
                self._saved = False
                self._look_for_checkpoint()

    @hookimpl
    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Says where this rank is, after the sanity check."""
        self.on_train_batch_start(trainer, module, None, trainer.progress.batch)

    @hookimpl
    def on_validation_end(self, trainer: Trainer, module: Module) -> None:
        """Says where this rank is, back from a validation."""
        if trainer.stage == "fit":
            self.on_train_batch_start(trainer, module, None, trainer.progress.batch)

    @hookimpl
    def on_validation_batch_start(self, module: Module, batch_idx: int) -> None:
        """Says where this rank is."""
        self._at(_VALIDATION, module, batch_idx)

    @hookimpl
    def on_test_batch_start(self, module: Module, batch_idx: int) -> None:
        """Says where this rank is."""
        self._at(_TEST, module, batch_idx)

    @hookimpl
    def on_predict_batch_start(self, module: Module, batch_idx: int) -> None:
        """Says where this rank is."""
        self._at(_PREDICTION, module, batch_idx)

    @hookimpl(tryfirst=True)
    def on_save_checkpoint(self, module: Module) -> None:
        """Says where this rank is."""
        self._at(_SAVING, module)
        self._saves = self._saved = True

    @hookimpl(tryfirst=True)
    def on_exception(self, exception: BaseException) -> None:
        """Tells of an error before anything is cleaned up; from now on this rank takes part in no collective."""
        self._note_failure(exception)
        if isinstance(exception, _LEAVING) and (self._agreement is None or self._agreement.target is None):
            self._left_alone = True

    def _note_failure(self, error: BaseException) -> None:
        if not isinstance(error, _LEAVING):
            self.failed = error
            if self._rank is not None:
                self._rank.failed(error)
        elif self._rank is not None:
            trainer = self._trainer()
            # A signal that came after the last batch of a fit: there is nothing any more that the others would wait for.
            late = trainer is not None and trainer.stage == "fit" and trainer.received.agreed
            self._rank.left(error, self._stopped_together or late)

    # ---- communication ----

    def _ready(self, what: str) -> bool:
        """Whether there is anybody to talk to.

        Raises:
            RuntimeError: the run failed on this rank, so that the others would be waited for in vain.
        """
        if self.failed is not None:
            raise RuntimeError(
                f"{what} after rank {self.rank} failed would wait for ranks that do something else; "
                f"code that handles an exception must not communicate"
            ) from self.failed
        return self.world_size > 1

    @property
    def _talks_over(self) -> torch.device:
        """Where objects travel: gloo is for the CPU's tensors, others for the device's."""
        return torch.device("cpu") if "gloo" in self.backend else self.device

    def all_reduce(self, tensor: Tensor, op: str = "sum") -> Tensor:
        """Returns ``tensor`` reduced over all processes, same shape; ``op`` is ``sum``, ``mean``, ``min`` or ``max``."""
        if not self._ready("all_reduce"):
            return tensor
        reduced = tensor.detach().clone().to(self.device)
        reduce_in_place(reduced, _OPERATIONS[op])
        return reduced / self.world_size if op == "mean" else reduced

    def all_gather(self, tensor: Tensor, sync_grads: bool = False) -> Tensor:
        """Returns the tensors of all processes, shape ``(world_size, *tensor.shape)``, by rank; see the base class."""
        if not self._ready("all_gather"):
            return tensor.unsqueeze(0)
        if sync_grads:
            from torch.distributed.nn.functional import all_gather  # few modules need it

            return torch.stack(all_gather(tensor.contiguous().to(self.device)))  # type: ignore[no-untyped-call]  # torch has no types here
        own = tensor.detach().contiguous().to(self.device)
        return torch.stack(gather(own))

    def all_gather_object(self, obj: T) -> list[T]:
        """Returns the objects of all processes, by rank."""
        if not self._ready("all_gather_object"):
            return [obj]
        return gather_objects(obj, self._talks_over)

    def gather_state(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        """What each process has for itself, by rank; see :meth:`leyden.Strategy.gather_state`."""
        own = {"skipped_batches": self.skipped_batches, "idle": self.idle}
        return self.all_gather_object({**state, **{name: value for name, value in own.items() if value}})

    def own_state(self, states: list[dict[str, Any]]) -> dict[str, Any] | None:
        """Takes back what this process has for itself; see :meth:`leyden.Strategy.own_state`."""
        own = super().own_state(states)
        self.skipped_batches = 0 if own is None else own.get("skipped_batches", 0)
        self.idle = own is not None and own.get("idle", False)
        return own

    def broadcast(self, obj: T, source: int = 0) -> T:
        """Returns the object of rank ``source``."""
        if not self._ready("broadcast"):
            return obj
        found: T = broadcast_object(obj, source, self._talks_over)
        return found

    def barrier(self) -> None:
        """Waits for all processes."""
        if self._ready("barrier"):
            dist.barrier(device_ids=[self.device.index or 0] if self.backend == "nccl" else None)


def _nobody() -> None:
    """Stands for a weak reference that is not there yet."""


def _difference(first: list[Any], other: list[Any], rank: int) -> str:
    for index in range(max(len(first), len(other))):
        here = first[index] if index < len(first) else None
        there = other[index] if index < len(other) else None
        if here == there:
            continue
        if here is None or there is None:
            has, lacks = (0, rank) if there is None else (rank, 0)
            return f"rank {has} has a parameter {(here or there or [''])[0]!r}, rank {lacks} has not"
        if here[0] != there[0]:
            return f"parameter {index} is {here[0]!r} on rank 0 and {there[0]!r} on rank {rank}"
        for position, what in ((1, "shape"), (2, "dtype"), (3, "requires_grad")):
            if here[position] != there[position]:
                return f"{here[0]!r} has {what} {here[position]} on rank 0 and {there[position]} on rank {rank}"
    return "their order differs"
