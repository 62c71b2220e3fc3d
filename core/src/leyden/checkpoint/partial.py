"""Gives optimizers the saved state of the parameters whose weights were loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from leyden.checkpoint.choose import Choice
from leyden.messages import quoted


def parameter_names(module: nn.Module, optimizers: Iterable[Optimizer]) -> list[list[str]] | None:
    """For each optimizer the names of its parameters in the order in which its state counts them.

    None if one is not a parameter of the module, as where a strategy has put others in their place.
    """
    by_id = {id(parameter): name for name, parameter in module.named_parameters()}
    names = [[by_id.get(id(p), "") for group in optimizer.param_groups for p in group["params"]] for optimizer in optimizers]
    return names if all(all(each) for each in names) else None


def restore_optimizers(
    module: nn.Module,
    optimizers: Sequence[Optimizer],
    checkpoint: Mapping[str, Any],
    choice: Choice,
    loaded: set[str],
    path: object,
) -> None:
    """Loads state for parameters in ``loaded``; options of the optimizers and state of other parameters stay.

    Raises:
        ValueError: the checkpoint has no such state, or does not say whose it is.
    """
    saved = checkpoint.get("optimizer_states")
    if not saved:
        raise ValueError(f"{quoted(str(path))} has no state of optimizers: it holds weights only; leave out optimizers=")
    if len(optimizers) > len(saved):
        raise ValueError(f"{quoted(str(path))} has the state of {len(saved)} optimizer(s), but {len(optimizers)} were given")
    new_names = {old: new for new, old in choice.names(checkpoint["state_dict"]).items()}
    own_names = parameter_names(module, optimizers)
    if own_names is None:
        raise ValueError(f"optimizers=: one has parameters that are not of this {type(module).__name__}")
    for number, (optimizer, state) in enumerate(zip(optimizers, saved, strict=False)):
        file_names = _file_names(checkpoint, number, state)
        if file_names is None:
            raise ValueError(
                f"{quoted(str(path))} does not say which parameters the state of its optimizer {number} belongs to; "
                f"leave out optimizers="
            )
        index = {new_names[old]: position for position, old in enumerate(file_names) if old in new_names}
        merged = optimizer.state_dict()
        for position, name in enumerate(own_names[number]):
            if name in loaded and name in index and index[name] in state["state"]:
                merged["state"][position] = state["state"][index[name]]
        optimizer.load_state_dict(merged)


def _file_names(checkpoint: Mapping[str, Any], number: int, state: Mapping[str, Any]) -> list[str] | None:
    named = checkpoint.get("leyden", {}).get("optimizer_parameters")
    if named:
        return list(named[number])
    groups = state["param_groups"]
    if all("param_names" in group for group in groups):  # torch's optimizers of named parameters keep them
        return [name for group in groups for name in group["param_names"]]
    # Lightning's files have numbers only. One optimizer of all parameters counts them as the weights are: their shapes tell.
    count = sum(len(group["params"]) for group in groups)
    names = list(checkpoint["state_dict"])
    if len(checkpoint["optimizer_states"]) != 1 or len(names) != count:
        return None
    shapes = [checkpoint["state_dict"][name].shape for name in names]
    for position, values in state["state"].items():
        if any(isinstance(value, Tensor) and value.dim() and value.shape != shapes[position] for value in values.values()):
            return None
    return names
