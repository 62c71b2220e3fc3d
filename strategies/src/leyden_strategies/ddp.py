"""Data parallel training: each process has a replica, and gradients are averaged while backward runs."""

from __future__ import annotations

import gc
import inspect
import weakref
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from leyden import Module, Precision, Profiler, hookimpl
from leyden.interrupts import in_notebook
from leyden.messages import listed
from leyden.module import is_overridden
from torch import Tensor, nn
from torch.optim import Optimizer

from leyden_strategies.bucket_order import BucketOrder
from leyden_strategies.collectives import broadcast_in_place, reduce_in_place
from leyden_strategies.nothing import nothing_of, sparse_weights
from leyden_strategies.processes import ProcessesStrategy
from leyden_strategies.short_forward import can_shorten, short_forward
from leyden_strategies.uneven import Batches, join_others, stop_together, wrap_around

if TYPE_CHECKING:
    from leyden import Accelerator, Trainer
    from torch.nn.parallel import DistributedDataParallel


SKIPPED = ("skip_rank", "skip_all", "raise")
UNEVEN = ("wrap", "stop", "join")


class StepModule(nn.Module):
    """A module whose ``forward`` is one of the user's step functions."""

    def __init__(self, module: Module, name: str) -> None:
        super().__init__()
        self.module = module
        self.name = name

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the step function."""
        return getattr(self.module, self.name)(*args, **kwargs)

    # Nobody sees this module, so that nobody has hooks on it, and those of torch's call cost two frames in each step.
    __call__ = forward


class Votes:
    """What a :class:`BallotModule` has for each step, as plain attributes: those of a module cost some calls each."""

    def __init__(self, module: Module, step: Callable[..., Any], ballot: nn.Parameter) -> None:
        self.step = step
        self.ballot = ballot
        self.strategy = module.trainer.strategy
        self.skipped = False
        """Whether the last batch was skipped here."""
        self.reads_loss = module.trainer.nan_policy == "skip"
        """Whether a loss that is not finite is one that is skipped, which is read from the device in each step."""
        self.is_scaled = is_overridden("unscale", module.trainer.precision, Precision)
        """Whether the ballot's gradient has the scale of a loss that was scaled."""
        self.is_plain = ballot.device.type == "cpu" and not self.is_scaled
        """Whether the ballot's gradient is what was counted, and read at once."""
        self.written: Tensor | None = None
        """The ballot's gradient, where it is written before backward, which then knows nothing of the ballot."""
        self.holds = 1.0
        """What is in it."""

    def write(self, reducer: Any) -> Callable[[], None] | None:
        """Has the ballot's gradient written from now on, where each batch is a step and so counts 0 or 1.

        Returns:
            Tells DDP in each step that the gradient is there; None where this version of torch has no way to.
        """
        hook = getattr(reducer, "_autograd_hook", None)
        if hook is None:
            return None
        assert self.ballot.grad is not None
        self.written, self.holds = self.ballot.grad, self.ballot.grad.item()
        return partial(hook, 0)  # a module's own parameters are the first that DDP numbers


class BallotModule(StepModule):
    """As :class:`StepModule`, with one more parameter, whose gradient says how much was counted.

    It is 0 and added to each loss, so that it changes none; its gradient is what the loss is multiplied by. DDP averages it
    together with all the others, so that a rank that skips a batch is known without a further collective. Once
    :meth:`Votes.write` was called it is not added: taking it through backward costs as much as a small layer does.
    """

    def __init__(self, module: Module, name: str) -> None:
        super().__init__(module, name)
        first = next(parameter for parameter in module.parameters() if parameter.requires_grad)
        # Hooks that compress gradients take none without a dimension.
        shape = () if getattr(module.trainer.strategy, "comm_hook", None) is None else (1,)
        self.ballot = nn.Parameter(torch.zeros(shape, dtype=torch.float32, device=first.device))
        self.box = torch.optim.SGD([self.ballot], lr=0.0)
        """Has the precision take the scale out of the ballot as out of the others."""
        self.votes = Votes(module, getattr(module, name), self.ballot)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the step function; where it skips the batch, the loss is 0 and depends on every parameter."""
        votes = self.votes
        output = None if votes.strategy.idle else votes.step(*args, **kwargs)
        if output.__class__ is Tensor and votes.written is not None and votes.holds == 1.0 and not votes.reads_loss:
            votes.skipped = False  # the usual step, as below
            return output
        loss = output.get("loss") if isinstance(output, Mapping) else output
        skipped = loss is None and (output is None or "loss" in output)
        if votes.reads_loss and isinstance(loss, Tensor):
            skipped = not bool(torch.isfinite(loss).all())
        votes.skipped = skipped
        if votes.written is not None:
            votes.written.fill_(0.0 if skipped else 1.0)
        if skipped:
            votes.strategy.skipped_batches += not votes.strategy.idle
            trained = (parameter for parameter in self.module.parameters() if parameter.requires_grad)
            loss = nothing_of(trained, sparse_weights(self.module))
        if votes.written is None and isinstance(loss, Tensor):
            ballot = self.ballot.sum() if self.ballot.ndim else self.ballot
            loss = loss + (ballot * 0.0 if skipped else ballot)
        return {**output, "loss": loss} if isinstance(output, Mapping) else loss

    __call__ = forward


class DDPStrategy(ProcessesStrategy):
    """``torch.nn.parallel.DistributedDataParallel`` around a module whose ``forward`` is ``training_step``.

    Args:
        launcher: how processes are started where nobody else does: ``"script"`` (the script runs again in each), ``"fork"``,
            ``"spawn"`` or ``"forkserver"`` (children; the code after ``fit`` runs once).
        timeout: seconds, or a timedelta, that no process may move before the run is ended with a dump of every stack.
        process_group_backend: ``"gloo"``, ``"nccl"``, ...; what suits the device if not given.
        find_unused_parameters: whether parameters that a loss does not depend on are looked for in each step; None is yes
            where several optimizers make several losses, else no.
        static_graph: whether each step uses the same parameters in the same way.
        bucket_cap_mb: the size of the buckets in which gradients are reduced, in MiB.
        gradient_as_bucket_view: whether gradients are views of the buckets, which saves their memory once.
        broadcast_buffers: whether rank 0's buffers are sent to all before each forward. Without, they are sent before each
            evaluation.
        skipped: what becomes of a step when ``training_step`` returned None on some ranks: ``"skip_rank"`` steps by the mean over
            the others, ``"skip_all"`` steps nowhere, ``"raise"`` ends the run; the last two read a number from the device in
            each step. Where all ranks return None, nobody steps. With the Trainer's ``nan_policy="skip"`` a loss that is not
            finite counts as None.
        uneven: what is done where ranks have different amounts of training data: ``"wrap"`` has those with less begin again,
            ``"stop"`` ends the epoch with the first that has no more, ``"join"`` has those with less take part in the steps of
            the others with no batch (None for hooks) and no weight. None fills the last round of a loader that is dealt out
            from its beginning, and stops with the shortest of others. Where lengths are not known to be equal, each step
            costs one more small reduction.
        comm_hook: a communication hook of DDP, such as ``fp16_compress_hook``.
        comm_state: the state that the hook is given.

    Raises:
        ValueError: there is no such launcher, or ``timeout`` is not positive.
    """

    name = "ddp"

    def __init__(
        self,
        launcher: str = "script",
        timeout: float | timedelta = 1800.0,
        process_group_backend: str | None = None,
        find_unused_parameters: bool | None = None,
        static_graph: bool = False,
        bucket_cap_mb: int | None = None,
        gradient_as_bucket_view: bool = True,
        broadcast_buffers: bool = False,
        skipped: str = "skip_rank",
        uneven: str | None = None,
        comm_hook: Callable[..., Any] | None = None,
        comm_state: Any = None,
    ) -> None:
        super().__init__(launcher, timeout, process_group_backend)
        if skipped not in SKIPPED:
            raise ValueError(f"skipped={skipped!r}: expected one of {listed(SKIPPED)}")
        if uneven not in (*UNEVEN, None):
            raise ValueError(f"uneven={uneven!r}: expected one of {listed(UNEVEN)}, or None")
        self.skipped = skipped
        self.uneven = uneven
        self.find_unused_parameters = find_unused_parameters
        self.static_graph = static_graph
        self.bucket_cap_mb = bucket_cap_mb
        self.gradient_as_bucket_view = gradient_as_bucket_view
        self.broadcast_buffers = broadcast_buffers
        self.comm_hook = comm_hook
        self.comm_state = comm_state
        self._ddp: DistributedDataParallel | None = None
        self._forward: Callable[..., Any] = _let_go
        """What runs a step in DDP."""
        self._votes: Votes | None = None
        self._automatic = True
        """Whether the module that DDP is around is optimized automatically."""
        self._reduces = True
        """Whether the running batch reduces gradients: not inside of an accumulation window."""
        self._reduced = False
        """Whether the gradients as they are were averaged over the processes."""
        self._counted = True
        """Whether the next batch begins an accumulation window."""
        self._looked = False
        """Whether the first gradients were looked at, for parameters that have none."""
        self._settled = False
        """Whether DDP has run the two steps after which it does the same in each."""
        self._rounding = 0.0
        """What may be between 1 and what was counted where nobody skipped anything."""
        self._shortens = True
        """Whether nobody asked to see or to compile what DDP does in its forward."""
        self._order: BucketOrder | None = None
        """How DDP orders its buckets, where the bits of a sum depend on it."""
        self._averaged: Optimizer | None = None
        """Whose gradients were averaged ahead of the hook that does it otherwise."""
        self._divided: set[int] = set()
        """The parameters whose gradients were divided by what was counted."""

    @classmethod
    def priority(cls, accelerator: Accelerator, num_devices: int, num_nodes: int) -> int:
        """Suits every accelerator with several devices or nodes."""
        return 10 if num_devices * num_nodes > 1 else 0

    # ---- a run ----

    def synchronize_batchnorm(self, module: Module) -> None:
        """Replaces batch norm by torch's ``SyncBatchNorm``.

        Raises:
            ValueError: the device is a CPU, for which torch has none.
        """
        if self.world_size == 1:
            return
        if self.device.type == "cpu":
            raise ValueError(
                "sync_batchnorm=True: torch's SyncBatchNorm needs GPUs, and this run is on the CPU; pass sync_batchnorm=False"
            )
        for name, child in list(module.named_children()):
            setattr(module, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))  # type: ignore[no-untyped-call]  # torch has no types here

    def wrap_step(self, module: Module, name: str) -> Callable[..., Any]:
        """DDP around ``training_step``; evaluation needs none."""
        step: Callable[..., Any] = getattr(module, name)
        if name != "training_step" or not any(parameter.requires_grad for parameter in module.parameters()):
            return step
        if self._ddp is None:
            self._ddp = self._wrapped(module)
            self._forward = self._ddp
        # In manual optimization backward runs inside of the step, so that DDP's forward would come too late.
        return self._run if module.automatic_optimization else step

    def _wrapped(self, module: Module) -> DistributedDataParallel:
        from torch.nn.parallel import DistributedDataParallel  # builds on 800 modules, which a run on one device never needs

        several = len(module.trainer.optimizers) > 1 or not module.automatic_optimization
        find = several if self.find_unused_parameters is None else self.find_unused_parameters
        options: dict[str, Any] = {_buffers_argument(DistributedDataParallel): self.broadcast_buffers}
        if self.bucket_cap_mb is not None:
            options["bucket_cap_mb"] = self.bucket_cap_mb
        ballots = self.world_size > 1 and module.automatic_optimization
        self.weighs_batches = ballots
        # A sum of rounded parts, of which a rank that skips a batch takes one away: ten tenths are not 1 in float32.
        self._rounding = min(self.world_size * torch.finfo(torch.float32).eps, 0.25 / self.world_size)
        wrapped = DistributedDataParallel(
            (BallotModule if ballots else StepModule)(module, "training_step"),
            device_ids=None if self.device.type == "cpu" else [self.device],
            find_unused_parameters=find and not self.static_graph,
            static_graph=self.static_graph,
            gradient_as_bucket_view=self.gradient_as_bucket_view,
            **options,
        )
        if self.world_size > 2 and ballots and not wrapped.find_unused_parameters and not self.static_graph:
            self._order = BucketOrder(wrapped)
        self._automatic = module.automatic_optimization
        self._shortens = module.trainer.compile_options is None and type(module.trainer.profiler) is Profiler
        self._votes = wrapped.module.votes if ballots else None
        if self.comm_hook is not None:
            wrapped.register_comm_hook(self.comm_state, self.comm_hook)
        return wrapped

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        self._reduced = self._reduces
        if self._divided and self._counted:
            self._divided.clear()
        votes = self._votes
        if self._counted and votes is not None and votes.written is None:
            self._counted = False
            votes.ballot.grad = None  # a window begins
        if self._reduces and self._order is not None and self._order.is_unknown:
            self._order.watch()
        try:
            return self._forward(*args, **kwargs)
        except RuntimeError as error:
            if self._ddp is not None and "finished reduction in the prior iteration" in str(error):
                self._refuse_unused(self._ddp.module.module, "in the last batch")
            raise

    def _refuse_unused(self, module: Module, when: str) -> None:
        """Names the parameters for whose gradients DDP waits in vain.

        Raises:
            RuntimeError: there are some.
        """
        unused = [name for name, parameter in module.named_parameters() if parameter.requires_grad and parameter.grad is None]
        if unused:
            more = f" and {len(unused) - 5} more" if len(unused) > 5 else ""
            raise RuntimeError(
                f"{when} of step {module.trainer.global_step} the loss of rank {self.rank} did not depend on {listed(unused[:5])}"
                f"{more}, and DDP waits for the gradient of every parameter; freeze those with requires_grad_(False), or pass "
                f"strategy='ddp_find_unused_parameters_true', which looks for them in each step"
            ) from None

    def bind_backward(self, precision: Precision) -> Callable[..., None]:
        """The precision's backward; in manual optimization DDP is made ready for it."""
        plain = super().bind_backward(precision)
        ddp = self._ddp
        if ddp is None or ddp.module.module.automatic_optimization:
            return plain
        find = ddp.find_unused_parameters
        del ddp

        def backward(loss: Tensor, *args: Any, **kwargs: Any) -> None:
            ddp = self._ddp  # not the enclosing one: whoever keeps this function must not keep DDP beyond the process group
            if self._reduces and ddp is not None and torch.is_grad_enabled():
                # What DDP does at the end of its forward: in manual optimization there may be several losses in one.
                ddp.require_forward_param_sync = True
                ddp.reducer._rebuild_buckets()
                ddp.reducer.prepare_for_backward([loss] if find else [])
            self._reduced = self._reduces
            plain(loss, *args, **kwargs)

        return backward

    def synchronize_gradients(self, module: Module, enabled: bool) -> None:
        """As DDP's ``no_sync`` does: inside of an accumulation window gradients stay local."""
        self._reduces = enabled
        if self._ddp is not None:
            self._ddp.require_backward_grad_sync = enabled
            if self._votes is not None and self._votes.written is not None:  # batches are accumulated from here on
                self._votes.written = None
                self._forward = short_forward(self._ddp)

    averages_later = True

    def average_gradients(self, optimizer: Optimizer) -> None:
        """Averages gradients that backward left local, before they are unscaled."""
        if self.world_size > 1 and self._ddp is not None and self._automatic and not self._reduced:
            self._average(optimizer, None if self._votes is None else self._votes.ballot)
            self._averaged = optimizer

    def counted_so_far(self) -> Any:
        """What was counted in the running window."""
        counted = None if self._votes is None or self._counted else self._votes.ballot.grad
        return None if counted is None else counted.clone()

    def count_from(self, counted: Any) -> None:
        """Takes back what was counted since."""
        if self._votes is not None:
            self._votes.ballot.grad = counted

    @hookimpl(tryfirst=True)
    def on_before_optimizer_step(self, trainer: Trainer, module: Module, optimizer: Optimizer) -> None:
        """Makes gradients the mean over what was counted, which they are where no rank skipped anything."""
        self.withholds_step = False
        votes = self._votes
        if votes is not None and votes.is_plain and self._settled and self._reduced:
            counted = votes.ballot.grad
            if counted is not None:
                votes.holds = counted.item()
                if abs(votes.holds - 1.0) <= self._rounding:  # a whole window on every rank
                    self._counted = True
                    return
        self._complete(optimizer)

    def _complete(self, optimizer: Optimizer) -> None:
        """Averages gradients that backward left local, those of a window that an epoch's end cut short, and counts."""
        reduced, self._reduced = self._reduced, self._reduced and self._ddp is not None and self._automatic
        if self.world_size == 1 or self._ddp is None:
            return
        if not self._looked and reduced:
            self._looked = True
            if self._order is not None:
                self._order.unwatch()
            if not self._ddp.find_unused_parameters and self._automatic:
                self._refuse_unused(self._ddp.module.module, "in the first batch")
        elif reduced and not self._settled:
            self._settle(self._ddp)
        votes = self._votes
        if not reduced and self._averaged is not optimizer:
            self._average(optimizer, None if votes is None else votes.ballot)
        self._averaged = None
        if votes is not None:
            self._count(votes, optimizer)

    def _settle(self, ddp: DistributedDataParallel) -> None:
        """From here on leaves out what neither DDP nor the ballot need in each step."""
        self._settled = True
        if self._shortens and can_shorten(ddp):
            votes, ready = self._votes, None
            if votes is not None and votes.is_plain and self.steps_each_batch:
                ready = votes.write(ddp.reducer)
            self._forward = short_forward(ddp, ready)

    def align(self, batches: Batches, reopen: Callable[[], Batches], count: int | None) -> Batches:
        """By the option ``uneven``; see :meth:`leyden.Strategy.align`. Where all counts are equal, nothing is asked in a step."""
        counts = self.all_gather(torch.tensor([-1 if count is None else count])).flatten().tolist()
        if counts[0] >= 0 and len(set(counts)) == 1:
            return batches

        def all_have(has: bool) -> bool:
            return bool(self.all_reduce(torch.tensor(float(has)), "min") > 0)

        def any_has(has: bool) -> bool:
            return bool(self.all_reduce(torch.tensor(float(has)), "max") > 0)

        def idle(is_idle: bool) -> None:
            self.idle = is_idle

        if self.uneven == "wrap":
            return wrap_around(batches, reopen, any_has, wrapped=count is not None and count <= 0)
        return join_others(batches, any_has, idle) if self.uneven == "join" else stop_together(batches, all_have)

    # ---- state ----

    def gather_state(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        """With what was counted so far of an accumulation window that is not complete."""
        votes = None if self._ddp is None else self._ddp.module
        own: dict[str, Any] = {}
        if isinstance(votes, BallotModule) and votes.ballot.grad is not None and not self._counted:
            own["counted"] = float(votes.ballot.grad)
        if self._order is not None and not self._order.is_unknown:
            own["order"] = self._order.indices
        return super().gather_state({**state, "strategy": own} if own else state)

    def own_state(self, states: list[dict[str, Any]]) -> dict[str, Any] | None:
        """Takes that back."""
        own = super().own_state(states)
        votes = None if self._ddp is None else self._ddp.module
        mine = {} if own is None else own.get("strategy", {})
        if "order" in mine and self._order is not None:
            self._order.take(mine["order"])
        if "counted" in mine and isinstance(votes, BallotModule):
            votes.ballot.grad = torch.full_like(votes.ballot, mine["counted"])
            self._counted = False
        return own

    def _count(self, votes: Votes, optimizer: Optimizer) -> None:
        """Divides the gradients by what was counted, which is 1 where every rank had a whole window."""
        self._counted = True
        counted = votes.ballot.grad
        if counted is None:
            return
        assert self._ddp is not None
        if votes.is_scaled:
            own: BallotModule = self._ddp.module
            own.module.trainer.precision.step(own.box)  # takes the scale out; a step of 0 changes nothing
        reads = self.skipped != "skip_rank" or votes.skipped or self.device.type == "cpu"
        if reads:
            number = float(counted)
            module: Module = self._ddp.module.module
            whole = module.trainer.accumulate_grad_batches == 1
            # What a hook compresses is rounded to less than float32; of whole batches one rank's is still seen.
            rounding = 0.25 / self.world_size if whole and self.comm_hook is not None else self._rounding
            if abs(number - 1.0) <= rounding:
                return
            if number == 0.0 or (whole and self.skipped == "skip_all"):
                self.withholds_step = True
                return
            if whole and self.skipped == "raise":
                skipping = round((1 - number) * self.world_size)
                raise ValueError(
                    f"{type(module).__name__}.training_step returned None on {skipping} of {self.world_size} ranks "
                    f"({'this one too' if votes.skipped else 'not this one'}); strategy option skipped='skip_rank' goes on "
                    f"with the others, 'skip_all' skips the step"
                )
        parameters = [
            p for group in optimizer.param_groups for p in group["params"] if p.grad is not None and id(p) not in self._divided
        ]
        self._divided |= {id(parameter) for parameter in parameters}  # two optimizers may share one
        gradients = [parameter.grad for parameter in parameters]
        torch._foreach_div_(gradients, counted.reshape(()))  # pyright: ignore[reportPrivateImportUsage]  # as torch's optimizers do

    def _average(self, optimizer: Optimizer, ballot: Tensor | None) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.requires_grad]
        parameters += [] if ballot is None else [ballot]
        for bucket in _buckets(parameters):
            self._average_bucket(bucket)

    def _average_bucket(self, parameters: list[Tensor]) -> None:
        dtype = max((parameter.dtype for parameter in parameters), key=lambda own: own.itemsize)
        dtype = dtype if dtype.itemsize > 4 else torch.float32
        own = [parameter.grad for parameter in parameters]
        has_one = torch.tensor([float(gradient is not None) for gradient in own], dtype=dtype, device=self.device)
        gradients = [torch.zeros_like(p) if gradient is None else gradient for p, gradient in zip(parameters, own, strict=True)]
        flat = torch.cat([*(gradient.reshape(-1).to(dtype) for gradient in gradients), has_one])
        reduce_in_place(flat)
        flat /= self.world_size
        *parts, anybody = torch.split(flat, [*(parameter.numel() for parameter in parameters), len(parameters)])
        # As DDP does, one that nobody used is left without, for an optimizer with momentum would move it by 0 too.
        used = anybody.tolist() if None in own else [1.0] * len(own)
        for parameter, part, is_used in zip(parameters, parts, used, strict=True):
            if is_used:
                parameter.grad = part.view_as(parameter).to(parameter.dtype)

    def _send_buffers(self, module: Module) -> None:
        """Makes all buffers rank 0's, as DDP does before each forward: statistics of batch norm are each rank's own."""
        if self.world_size == 1 or self.broadcast_buffers:
            return
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for buffer in module.buffers():
            by_dtype.setdefault(buffer.dtype, []).append(buffer)
        for buffers in by_dtype.values():
            flat = torch.cat([buffer.detach().reshape(-1) for buffer in buffers])
            broadcast_in_place(flat, 0)
            for buffer, part in zip(buffers, torch.split(flat, [buffer.numel() for buffer in buffers]), strict=True):
                buffer.detach().copy_(part.view_as(buffer))

    @hookimpl(tryfirst=True)
    def on_validation_start(self, trainer: Trainer, module: Module) -> None:
        """Evaluates one and the same module on every rank."""
        if trainer.stage == "fit":
            self._send_buffers(module)

    def teardown(self, module: Module) -> None:
        """Lets go of DDP before the process group is closed: torch deadlocks where it is freed after."""
        if self._order is not None:
            self._order.unwatch()
        alive = None if self._ddp is None else weakref.ref(self._ddp)
        self._ddp = self._votes = self._order = None
        self._forward = _let_go
        if self.failed is None and alive is not None and alive() is not None:
            gc.collect()  # it was in a cycle; looking for those takes a second in a large process
        self._counted, self.withholds_step, self._looked, self._settled, self.idle = True, False, False, False, False
        super().teardown(module)


def _let_go(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("a training step was run outside of a fit")


def _buckets(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """Parts of some 25 MiB, as DDP's are: what is reduced is a copy."""
    bucket: list[Tensor] = []
    size = 0
    for parameter in parameters:
        bucket.append(parameter)
        size += parameter.numel() * parameter.element_size()
        if size >= 25 * 2**20:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


def _buffers_argument(ddp: type) -> str:
    """The name of the argument that has buffers sent before each forward; newer versions of torch have a new one."""
    new = "forward_sync_buffers"
    return new if new in inspect.signature(ddp).parameters else "broadcast_buffers"


class DDPNotebookStrategy(DDPStrategy):
    """DDP in the cells of a notebook: processes are forked, so that nothing need be importable or picklable."""

    name = "ddp_notebook"

    def __init__(self, launcher: str = "fork", **options: Any) -> None:
        super().__init__(launcher, **options)

    @classmethod
    def priority(cls, accelerator: Accelerator, num_devices: int, num_nodes: int) -> int:
        """Suits several devices of one node in a notebook."""
        return 20 if in_notebook() and num_devices > 1 and num_nodes == 1 else 0
