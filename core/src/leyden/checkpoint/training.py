"""What a fit needs to go on exactly where it was: positions in its data, random numbers, unfinished windows, logged values."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer

from leyden.data.combined import CombinedLoader
from leyden.data.dealing import can_be_dealt
from leyden.data.loaders import INFINITE
from leyden.data.transfer import move_to_device
from leyden.interrupts import Terminated
from leyden.loops.stopping import reads_of
from leyden.messages import notify
from leyden.metrics.state import load_metrics_state, metrics_state, shared_metrics_state
from leyden.progress import BATCH_START, END, EVAL_BATCH_START, STEP, VALIDATION, Progress
from leyden.seeding import random_state, set_random_state

if TYPE_CHECKING:
    from leyden.loops.fit import FitLoop
    from leyden.trainer import Trainer


def refuse_inside_step(trainer: Trainer, weights_only: bool = False) -> None:
    """A checkpoint is taken when optimizers, schedulers and counters stand at one moment, which they do not inside a step.

    An exception may come out of a step: then that step is as if it had not begun, as long as no optimizer has stepped. Weights
    alone can be saved at any moment but where an optimizer failed half-way.

    Raises:
        RuntimeError: a training or validation step is running.
    """
    loop = trainer.fit_loop if trainer.running else None
    if loop is None or not _in_step(trainer.progress):
        return
    if trainer.error is None:
        if weights_only:
            return
        raise RuntimeError(
            "a checkpoint was asked for inside a step, where optimizer, schedulers and counters do not stand at one moment; save "
            "in on_train_batch_end, on_validation_end or on_train_epoch_end, or with weights_only=True"
        )
    where = f"batch {trainer.progress.batch} of epoch {trainer.progress.epoch}"
    if _trains(trainer) and (_is_interrupt(trainer.error) or _came_from_optimizer(trainer.error)):
        how = "was interrupted in the middle of its step" if _is_interrupt(trainer.error) else "failed inside optimizer.step()"
        raise RuntimeError(
            f"no checkpoint can be taken: {where} {how}, so that some parameters may have been updated and others not; go on "
            f"from an earlier one"
        )
    if weights_only:
        return
    if loop.stepped or loop.step.has_stepped:
        raise RuntimeError(
            f"no checkpoint can be taken: {where} failed after its optimizer step and before its schedulers; go on from an "
            f"earlier one"
        )


def _is_interrupt(error: BaseException) -> bool:
    """Whether it can have come at any point of a step, between any two instructions."""
    return isinstance(error, KeyboardInterrupt | Terminated)


def _came_from_optimizer(error: BaseException) -> bool:
    """Whether an optimizer was updating parameters when it was raised."""
    inside: Optimizer | None = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        if frame.f_code.co_name == "step" and isinstance(owner, Optimizer):
            inside = owner
        elif inside is not None and frame.f_code.co_name == "closure" and _evaluates_first(inside):
            inside = None  # the loss is evaluated before anything is updated
    return inside is not None


def _evaluates_first(optimizer: Optimizer) -> bool:
    return type(optimizer).__module__.startswith("torch.optim.") and not isinstance(optimizer, torch.optim.LBFGS)


def _trains(trainer: Trainer) -> bool:
    """Whether it is a training step that runs, not one of a validation."""
    return trainer.progress.moment == STEP


def training_state(trainer: Trainer) -> dict[str, Any]:
    """Where a fit is, as plain data; every process calls it. ``progress`` and what follows only from it is not part of it."""
    loop = trainer.fit_loop
    state: dict[str, Any] = {"seed": trainer.seed}
    if loop is None or not trainer.running:
        # Before or after the loop nothing is under way.
        state["ranks"] = trainer.strategy.gather_state({"random": random_state(), "streams": _streams(trainer)})
        return state
    state["loop"] = {
        "stepped": loop.stepped,
        "is_last": trainer.is_last_batch,
        "since_validation": time.monotonic() - loop.last_validation,
        "failed": _in_step(trainer.progress),
        "cut": loop.cut,
    }
    own = {
        "random": random_state(),
        "steps": list(loop.numbers.states),
        "streams": _streams(trainer),
        "metrics": metrics_state(trainer.metrics, loop.module),
        "window": loop.step.state_dict(),
    }
    if _in_batch(trainer.progress) and not _repeats(loop) and _is_plain(trainer.metrics.batch):
        own["batch"] = trainer.metrics.batch  # reading it again would draw other numbers
    if loop.step.keeps_gradients:
        named = loop.module.named_parameters()
        own["gradients"] = {name: parameter.grad for name, parameter in named if parameter.grad is not None}
    state["ranks"] = trainer.strategy.gather_state(own)
    return state


def progress_state(progress: Progress) -> dict[str, Any]:
    """The counters; a batch whose step is running is one whose step is to begin."""
    state = progress.state_dict()
    if state["moment"] == STEP:
        state["moment"] = BATCH_START
    if state["validation"]["moment"] == STEP:
        state["validation"]["moment"] = EVAL_BATCH_START
    return state


def restore_seed(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Goes on with the seed of the run that was saved."""
    trainer.seed = checkpoint.get("leyden", {}).get("seed", trainer.seed)


def restore_loop(trainer: Trainer, loop: FitLoop, checkpoint: dict[str, Any]) -> None:
    """Puts back what :func:`training_state` gave; random numbers when training begins, for setting up a run draws some."""
    own = checkpoint.get("leyden", {})
    if "ranks" not in own:
        trainer.progress.moment = ""  # from a library or a version that does not save where it was
        return
    mine = trainer.strategy.own_state(own["ranks"])
    if mine is None:
        _deal_anew(trainer, loop, own)
        return
    for purpose, state in mine["streams"].items():
        if purpose in trainer.streams:
            trainer.streams[purpose].load_state_dict(state)
    loop.resumes = lambda: set_random_state(mine["random"])
    if "loop" not in own:
        _begin_anew(trainer.progress)
        return
    device = trainer.strategy.device
    where = own["loop"]
    loop.stepped, trainer.is_last_batch = where["stepped"], where["is_last"]
    loop.last_validation = time.monotonic() - where["since_validation"]
    loop.cut = where.get("cut", False)
    if where["failed"]:
        notify(
            "LY034",
            f"the checkpoint was taken when batch {trainer.progress.batch} of epoch {trainer.progress.epoch} failed in the "
            f"middle of its step, which is done again; what its first half changed in buffers and logged stays",
        )
    if "batch" in mine:
        loop.kept_batch = (move_to_device(mine["batch"], device),)
    loop.numbers.states = list(mine["steps"])
    loop.step.load_state_dict(mine["window"])
    parameters = dict(loop.module.named_parameters())
    for name, gradient in mine.get("gradients", {}).items():
        if name in parameters:
            parameters[name].grad = gradient.to(device)
    load_metrics_state(trainer.metrics, loop.module, mine["metrics"], device)


def _begin_anew(progress: Progress) -> None:
    """Goes on from a checkpoint that was saved when its fit was over: of one that failed, much was let go of by then."""
    if not progress.batch and not progress.moment:
        return
    notify(
        "LY039",
        f"the checkpoint was saved after its fit had ended inside epoch {progress.epoch}, so random numbers, an unfinished "
        f"accumulation window, a validation under way and what the epoch had logged start anew; a callback that saves in "
        f"on_exception keeps them",
    )
    progress.validation.clear()
    if progress.moment == BATCH_START:
        progress.moment = ""


def _deal_anew(trainer: Trainer, loop: FitLoop, own: dict[str, Any]) -> None:
    """Goes on in the middle of an epoch with another number of processes: those samples are left that none of them has had."""
    strategy, progress, ranks, where = trainer.strategy, trainer.progress, own["ranks"], own.get("loop")
    said = f"the checkpoint is of {len(ranks)} process(es) and this run has {trainer.world_size}"
    again = ""
    has_ended = where is not None and where["is_last"] and progress.batch > 0 and progress.moment != BATCH_START
    if has_ended:
        # Shares of an epoch are rounded, so that there may be room for a round that the others did not have.
        progress.batch = progress.batch if reads_of(loop) == INFINITE else int(reads_of(loop))
    elif trainer.use_distributed_sampler and _can_be_dealt(loop.loader.iterable):
        # Each batch was a round of all processes, and the rounds are a beginning of the sequence.
        progress.batch, rest = divmod(progress.batch * len(ranks), trainer.world_size)
        again = f"; {rest} batch(es) of the epoch are trained on again, for they do not fill a round" if rest else ""
    notify("LY033", f"{said}: random numbers and an unfinished accumulation window start anew{again}")
    if where is None:
        return
    mine = ranks[strategy.rank :: strategy.world_size]
    strategy.skipped_batches = sum(state.get("skipped_batches", 0) for state in mine)
    metrics = shared_metrics_state([state["metrics"] for state in ranks], strategy.rank, strategy.world_size)
    load_metrics_state(trainer.metrics, loop.module, metrics, strategy.device)
    loop.stepped, trainer.is_last_batch, loop.resumes = where["stepped"], has_ended, _nothing
    loop.cut = where.get("cut", False)
    loop.last_validation = time.monotonic() - where["since_validation"]
    if progress.moment == BATCH_START and progress.batch:
        progress.moment = ""  # it is another batch
    if progress.moment == VALIDATION and progress.validation.moment != END:
        progress.validation.clear()


def _nothing() -> None:
    """Stands for random numbers that are put back, where there are none."""


def _can_be_dealt(iterable: Any) -> bool:
    return all(map(can_be_dealt, iterable.flattened if isinstance(iterable, CombinedLoader) else [iterable]))


def _in_step(progress: Progress) -> bool:
    return progress.moment == STEP or (progress.moment == VALIDATION and progress.validation.moment == STEP)


def _in_batch(progress: Progress) -> bool:
    return progress.moment in (BATCH_START, STEP)


def _repeats(loop: FitLoop) -> bool:
    return loop.loader.stream is None or loop.loader.stream.repeats_batches


def _is_plain(batch: Any) -> bool:
    """Whether a checkpoint gives a batch back as it was."""
    if type(batch) is dict:
        return all(_is_plain(value) for value in batch.values())
    if type(batch) in (list, tuple):
        return all(_is_plain(value) for value in batch)
    return type(batch) in (torch.Tensor, int, float, str, bool)


def _streams(trainer: Trainer) -> dict[str, Any]:
    states = {purpose: stream.state_dict() for purpose, stream in trainer.streams.items()}
    return {purpose: state for purpose, state in states.items() if state}
