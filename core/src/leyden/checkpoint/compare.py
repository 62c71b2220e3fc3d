"""Refuses to resume training with other optimizers or schedulers than those that were saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from leyden.checkpoint.partial import parameter_names
from leyden.messages import listed

if TYPE_CHECKING:
    from leyden.trainer import Trainer

_SHOWN = 5


def classes(trainer: Trainer) -> dict[str, list[str]]:
    """The classes of a fit's optimizers and schedulers, by name, for its checkpoints."""
    return {
        "optimizers": [type(optimizer).__qualname__ for optimizer in trainer.optimizers],
        "schedulers": [type(config.scheduler).__qualname__ for config in trainer.lr_scheduler_configs],
    }


def refuse_others(trainer: Trainer, checkpoint: Mapping[str, Any]) -> None:
    """Compares the optimizers and schedulers of a fit with those of a checkpoint, as far as it tells of them.

    Raises:
        ValueError: they differ in number, class, or in the parameters of their groups.
    """
    differences = list(_differences(trainer, checkpoint))
    if differences:
        raise ValueError(
            f"training cannot continue from this checkpoint, because configure_optimizers returned something else: "
            f"{'; '.join(differences)}. To train on with other optimizers, load the weights with load_from_checkpoint() and fit "
            f"without ckpt_path"
        )


def _differences(trainer: Trainer, checkpoint: Mapping[str, Any]) -> Any:
    own = checkpoint.get("leyden", {})
    saved_classes, now_classes = own.get("classes", {}), classes(trainer)
    for what, key in (("optimizers", "optimizer_states"), ("schedulers", "lr_schedulers")):
        saved, now = saved_classes.get(what), now_classes[what]
        before = len(checkpoint.get(key, []))
        if before != len(now):
            named, named_now = (f" ({listed(names)})" if names else "" for names in (saved, now))
            yield f"the checkpoint has {before} {what[:-1]}(s){named}, now there are {len(now)}{named_now}"
        for index, (old, new) in enumerate(zip(saved or (), now, strict=False)):
            if before == len(now) and old != new:
                yield f"{what[:-1]} {index} was of class {old}, now it is of class {new}"
    names_before = own.get("optimizer_parameters")
    names_now = parameter_names(trainer.module, trainer.optimizers) if trainer.module is not None else None
    for index, (state, optimizer) in enumerate(zip(checkpoint["optimizer_states"], trainer.optimizers, strict=False)):
        sizes_before = [len(group["params"]) for group in state["param_groups"]]
        sizes_now = [len(group["params"]) for group in optimizer.param_groups]
        if sizes_before != sizes_now:
            yield (
                f"the parameter groups of optimizer {index} had {', '.join(map(str, sizes_before))} parameters, "
                f"now {', '.join(map(str, sizes_now))}"
            )
        elif names_before and names_now and names_before[index] != names_now[index]:
            gone = [name for name in names_before[index] if name not in names_now[index]]
            added = [name for name in names_now[index] if name not in names_before[index]]
            if gone or added:
                yield f"optimizer {index} had {listed(gone[:_SHOWN])}, now it has {listed(added[:_SHOWN])} instead"
            elif _by_group(names_before[index], sizes_now) != _by_group(names_now[index], sizes_now):
                yield f"optimizer {index} has its parameters in other groups"


def _by_group(names: list[str], sizes: list[int]) -> list[set[str]]:
    found = iter(names)
    return [{next(found) for _ in range(size)} for size in sizes]


def in_order(trainer: Trainer, checkpoint: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The states of the optimizers, which count parameters, in the order in which this run's optimizers have them."""
    names_before = checkpoint.get("leyden", {}).get("optimizer_parameters")
    names_now = parameter_names(trainer.module, trainer.optimizers) if trainer.module is not None else None
    states: list[dict[str, Any]] = list(checkpoint["optimizer_states"])
    if not names_before or not names_now:
        return states
    for index, (before, now) in enumerate(zip(names_before, names_now, strict=True)):
        if before != now:
            place = {name: position for position, name in enumerate(before)}
            saved = states[index]["state"]
            moved = {position: saved[place[name]] for position, name in enumerate(now) if place[name] in saved}
            states[index] = {**states[index], "state": moved}
    return states
