"""What modules and loggers of older generations had as attributes, for every module and logger."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import leyden
import torch
from leyden.adapted import extend

from leyden_lightning.api.missing import NotPortedError
from leyden_lightning.api.tools import grad_norm
from leyden_lightning.legacy.named_precision import PrecisionName
from leyden_lightning.legacy.notices import legacy
from leyden_lightning.legacy.tbptt import tbptt_split_batch

_trainers: WeakKeyDictionary[Any, ReferenceType[leyden.Trainer]] = WeakKeyDictionary()
"""By loggers and strategies; weak, for a Trainer keeps both alive and would be kept by its entry."""


def _trainer_of(part: object) -> leyden.Trainer | None:
    known = _trainers.get(part)
    return None if known is None else known()


def precision_name(trainer: leyden.Trainer | None) -> PrecisionName:
    """The name of a run's precision; ``"32-true"`` without a run."""
    given: Any = trainer.choices.get("precision") if trainer is not None else None
    component = vars(trainer).get("precision") if trainer is not None else None  # not the name that pl.Trainer has there
    name = str(given) if isinstance(given, str | int) else getattr(component, "name", "32-true")
    known = {"16": "16-mixed", "32": "32-true", "64": "64-true", "bf16": "bf16-mixed"}
    return PrecisionName(known.get(name, name))


def _run(module: leyden.Module) -> Any:
    return vars(module).get("_trainer")


def _on_strategy(*names: str) -> property:
    def asked(module: leyden.Module) -> bool:
        trainer = _run(module)
        return trainer is not None and any(trainer.strategy.name.startswith(name) for name in names)

    return property(asked)


def _use_amp(module: leyden.Module) -> bool:
    return "mixed" in precision_name(_run(module))


def manual_optimizer_step(
    module: leyden.Module,
    optimizer: Any,
    force_optimizer_step: bool = False,
    make_optimizer_step: bool | None = None,
    **kwargs: Any,
) -> None:
    """Steps an optimizer in manual optimization and clears its gradients, as 1.0 did.

    Args:
        module: the module.
        optimizer: one of ``self.optimizers()``.
        force_optimizer_step: whether to step although the accumulation window is not full.
        make_optimizer_step: False leaves it at the gradients; the name of 1.0.7.
        kwargs: accepted where 1.0 had a closure, which is not run.
    """
    legacy("self.manual_optimizer_step(optimizer)", "optimizer.step(); optimizer.zero_grad()")
    if make_optimizer_step is False:
        return
    step: Any = module.trainer.train_step
    due, step.due = step.due, step.due or force_optimizer_step or bool(make_optimizer_step)
    try:
        if step.due:
            optimizer.step()
            getattr(optimizer, "optimizer", optimizer).zero_grad()
    finally:
        step.due = due


def get_progress_bar_dict(module: leyden.Module) -> dict[str, Any]:
    """What stands at the end of the progress bar: the running loss, the version, and what was logged for it."""
    trainer = _run(module)
    if trainer is None:
        return {}
    items: dict[str, Any] = {}
    losses = (getattr(participant.plugin, "losses", None) for participant in trainer.bus.participants)
    kept = next((found for found in losses if found), None)
    if kept:
        loss = float(torch.stack(list(kept)).float().mean())
        items["loss"] = f"{loss:.3g}"
    version = getattr(trainer.logger, "version", None)
    if version is not None:
        items["v_num"] = version
    return items


def _summarize(module: leyden.Module, mode: str | None = "top", max_depth: int | None = None) -> str:
    from leyden_lightning.api.resolution import resolve

    depth = max_depth if max_depth is not None else {"top": 1, "full": -1}.get(mode or "top", 1)
    text: str = resolve("summarize")(module, depth)
    return text


class Summary:
    """``self.logger.summary.scalar("loss", loss)``, a call that a tutorial of 0.8 had."""

    def __init__(self, logger: leyden.Logger) -> None:
        self.logger = logger

    def scalar(self, name: str, value: Any, step: int | None = None) -> None:
        """Hands a value to the logger, at the step of the run."""
        legacy("self.logger.summary.scalar(name, value)", "self.log(name, value)")
        trainer = _trainer_of(self.logger)
        now: int = trainer.global_step if trainer is not None else 0
        number = value.item() if isinstance(value, torch.Tensor) else float(value)
        self.logger.log_metrics({name: number}, now if step is None else step)


def remember(trainer: leyden.Trainer) -> None:
    """Notes which run loggers and a strategy belong to."""
    _trainers[trainer.strategy] = ref(trainer)
    for logger in trainer.loggers:
        _trainers[logger] = ref(trainer)


def _nothing(name: str) -> Callable[..., None]:
    def method(module: Any, *args: Any, **kwargs: Any) -> None:
        return None

    method.__name__ = name
    method.__doc__ = "Did nothing in Lightning; an override is called."
    return method


def _to_tensorrt(module: leyden.Module, *args: Any, **kwargs: Any) -> Any:
    raise NotPortedError(
        "to_tensorrt() is not here: write torch_tensorrt.compile(module.eval(), inputs=[...]), or hand TensorRT what "
        "module.to_onnx() wrote"
    )


def _remove_ignored_hparams(module: leyden.Module, ignore_list: Iterable[str]) -> None:
    for kept in (module._hparams, module._hparams_initial):
        for name in ignore_list:
            if kept is not None:
                kept.pop(name, None)


def _datamodule(module: leyden.Module) -> Any:
    trainer = _run(module)
    return trainer.datamodule if trainer is not None else None


def _module_of(strategy: leyden.Strategy) -> Any:
    trainer = _trainer_of(strategy)
    return trainer.module if trainer is not None else None


def _optimizers_of(strategy: leyden.Strategy) -> Any:
    trainer = _trainer_of(strategy)
    return trainer.optimizers if trainer is not None else []


def _save_checkpoint(strategy: leyden.Strategy, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
    """Writes a checkpoint, on the ranks that write."""
    trainer = _trainer_of(strategy)
    if trainer is None:
        raise RuntimeError("strategy.save_checkpoint() needs a run; call it in a hook")
    if strategy.writes_checkpoint:
        trainer.checkpoint_io.save(checkpoint, filepath)


def _accept_weights_only() -> None:
    """Lets ``Module.load_from_checkpoint(path, weights_only=False)`` pass: Lightning 2.6 needs it for hyperparameters."""
    load: Any = vars(leyden.Module)["load_from_checkpoint"].__func__

    @wraps(load)
    def load_from_checkpoint(cls: type[leyden.Module], *args: Any, weights_only: bool | None = None, **kwargs: Any) -> Any:
        omegaconf: Any = sys.modules.get("omegaconf")
        if omegaconf is not None and kwargs.get("allow") is None:  # its containers hold data, and are hyperparameters of many
            kwargs["allow"] = [omegaconf.DictConfig, omegaconf.ListConfig]
        return load(cls, *args, weights_only=weights_only or None, **kwargs)  # leyden reads plain data whatever is asked

    replacement: Any = load_from_checkpoint
    setattr(leyden.Module, load.__name__, classmethod(replacement))


def _generate_state_key(callback: leyden.Callback, **kwargs: Any) -> str:
    """A ``state_key`` of the class's name and of what tells one of its objects from another."""
    return f"{type(callback).__qualname__}{kwargs!r}"


def _reduce(strategy: leyden.Strategy, tensor: Any, group: Any = None, reduce_op: str = "mean") -> torch.Tensor:
    """The mean or the sum of a tensor over all processes."""
    if group is not None or reduce_op not in ("mean", "avg", "sum"):
        raise ValueError(
            f"strategy.reduce(group={group!r}, reduce_op={reduce_op!r}): it is a 'mean' or a 'sum' over all processes"
        )
    reduced = strategy.all_reduce(torch.as_tensor(tensor, device=strategy.device).clone(), "sum")
    return reduced if reduce_op == "sum" else reduced / strategy.world_size


def add() -> None:
    """Adds them, once."""
    if hasattr(leyden.Module, "use_amp"):
        return
    extend(
        leyden.Module,
        precision=property(lambda module: precision_name(_run(module))),
        use_amp=property(_use_amp),
        use_ddp=_on_strategy("ddp"),
        use_ddp2=_on_strategy("ddp2"),
        use_dp=_on_strategy("dp"),
        use_tpu=property(lambda module: module.device.type == "xla"),
        on_tpu=property(lambda module: module.device.type == "xla"),
        truncated_bptt_steps=0,
        datamodule=property(_datamodule),
        CHECKPOINT_HYPER_PARAMS_KEY="hyper_parameters",
        CHECKPOINT_HYPER_PARAMS_NAME="hparams_name",
        get_progress_bar_dict=get_progress_bar_dict,
        manual_optimizer_step=manual_optimizer_step,
        tbptt_split_batch=tbptt_split_batch,
        summarize=_summarize,
        to_tensorrt=_to_tensorrt,
        remove_ignored_hparams=_remove_ignored_hparams,
        allow_zero_length_dataloader_with_multiple_devices=False,  # a process may always have no batch, whatever this says
        grad_norm=lambda module, norm_type: grad_norm(module, norm_type),
        **{
            name: _nothing(name)
            for name in (
                "training_epoch_end", "validation_epoch_end", "test_epoch_end", "on_epoch_start", "on_epoch_end",
                "on_pretrain_routine_start", "on_pretrain_routine_end", "on_batch_start", "on_batch_end",
            )
        },
    )  # fmt: skip
    extend(leyden.DataModule, allow_zero_length_dataloader_with_multiple_devices=False)
    extend(leyden.Logger, summary=property(Summary))
    extend(leyden.Callback, _generate_state_key=_generate_state_key)
    _accept_weights_only()
    extend(
        leyden.Strategy,
        lightning_module=property(_module_of),
        model=property(_module_of),
        optimizers=property(_optimizers_of),
        root_device=property(lambda strategy: strategy.device),
        global_rank=property(lambda strategy: strategy.rank),
        is_global_zero=property(lambda strategy: strategy.rank == 0),
        strategy_name=property(lambda strategy: strategy.name),
        reduce=_reduce,
        save_checkpoint=_save_checkpoint,
    )
