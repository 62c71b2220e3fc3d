"""What log() has kept so far, as plain data."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from leyden.messages import notify
from leyden.metrics.store import EVAL_BATCH, EVAL_EPOCH, TRAIN_BATCH, TRAIN_EPOCH, Entry, Metrics, is_metric
from leyden.metrics.values import largest, smallest

if TYPE_CHECKING:
    from leyden.module import Module

_CONTEXTS = {context.name: context for context in (TRAIN_BATCH, TRAIN_EPOCH, EVAL_BATCH, EVAL_EPOCH)}
_FUNCTIONS = {"torch.mean": torch.mean, "torch.sum": torch.sum, "torch.min": torch.min, "torch.max": torch.max,
              "builtins.sum": sum, "builtins.min": min, "builtins.max": max}  # fmt: skip
_REDUCE_FX, _RANK_ZERO_ONLY = 4, 7  # their places among the options of log()


def metrics_state(metrics: Metrics, module: Module) -> dict[str, Any]:
    """The latest values, the sums of the running epoch and evaluation, step values no record has yet, torchmetrics states."""
    names = {id(child): name for name, child in module.named_modules()}
    return {
        "callback_metrics": {key: value.detach().cpu() for key, value in metrics.callback_metrics.items()},
        "logged_metrics": dict(metrics.logged_metrics),
        "progress_bar_metrics": dict(metrics.progress_bar_metrics),
        "known": sorted(metrics.known_keys()),
        "tables": [
            [context.name, index, {key: _entry_state(entry, metrics, names) for key, entry in table.items()}]
            for (context, index), table in metrics.tables()
        ],
        "torchmetrics": {name: _torchmetric_state(child) for name, child in _torchmetrics(module)},
    }


def load_metrics_state(metrics: Metrics, module: Module, state: dict[str, Any], device: torch.device) -> None:
    """Takes that back."""
    metrics.callback_metrics.update({key: value.to(device) for key, value in state["callback_metrics"].items()})
    metrics.logged_metrics.update(state["logged_metrics"])
    metrics.progress_bar_metrics.update(state["progress_bar_metrics"])
    children = dict(module.named_modules())
    tables = {
        (_CONTEXTS[name], index): {key: _entry(entry, children, device) for key, entry in entries.items()}
        for name, index, entries in state["tables"]
    }
    metrics.load(tables, state["known"])
    for name, child in _torchmetrics(module):
        if name in state["torchmetrics"]:
            _load_torchmetric(child, state["torchmetrics"][name], device)


def shared_metrics_state(states: Sequence[dict[str, Any]], rank: int, world_size: int) -> dict[str, Any]:
    """Of the states of all processes what one of another number goes on with: its share of the sums of the running epoch.

    Each sum is one process's, and every process has every key. What torchmetrics objects have accumulated is left out, and step
    values that no record has yet.
    """
    tables: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for number, state in enumerate(states):
        for name, index, entries in state["tables"]:
            if _CONTEXTS[name] in (EVAL_BATCH, EVAL_EPOCH):
                continue
            table = tables.setdefault((name, index), {})
            for key, entry in entries.items():
                if entry["metric"] is not None or (entry["options"][_RANK_ZERO_ONLY] and rank):
                    continue
                kept = table.setdefault(key, {**entry, **_NOTHING, "total": _NEUTRAL[entry["reduction"]]})
                kept["count"] = kept["count"] or min(entry["count"], 1)
                if number % world_size == rank and entry["count"]:
                    kept["total"] = _COMBINED[entry["reduction"]](kept["total"], entry["total"])
                    kept["weight"] += entry["weight"]
                    kept["count"] += entry["count"]
    known = sorted({key for state in states for key in state["known"]})
    listed = [[name, index, entries] for (name, index), entries in tables.items()]
    return {**states[0], "known": known, "tables": listed, "torchmetrics": {}}


_NOTHING: dict[str, Any] = {"value": None, "due": False, "weight": 0.0, "count": 0}
_NEUTRAL = {"mean": 0.0, "sum": 0.0, "min": float("inf"), "max": float("-inf")}
_COMBINED: dict[str, Callable[[Any, Any], Any]] = {
    "mean": operator.add,
    "sum": operator.add,
    "min": lambda one, other: smallest((one, other)),
    "max": lambda one, other: largest((one, other)),
}


# ---- what log() keeps for one key ----


def _entry_state(entry: Entry, metrics: Metrics, names: dict[int, str]) -> dict[str, Any]:
    entry.gather()
    options = list(entry.options)
    options[_REDUCE_FX] = next((name for name, fx in _FUNCTIONS.items() if fx is options[_REDUCE_FX]), options[_REDUCE_FX])
    metric = None
    if entry.metric is not None:
        metric = names.get(id(entry.metric))
        if metric is None:
            notify(
                "LY032",
                f"the {type(entry.metric).__name__} that is logged as {entry.name!r} is no attribute of the module, so what it "
                f"has accumulated is not in checkpoints; assign it in __init__",
            )
    return {
        "name": entry.name,
        "options": options,
        "on_step": entry.on_step,
        "on_epoch": entry.on_epoch,
        "reduction": entry.reduction,
        "value": _on_cpu(entry.value) if metrics.is_due(entry) else None,
        "due": metrics.is_due(entry),
        "total": _on_cpu(entry.total),
        "weight": entry.weight,
        "count": entry.count,
        "metric": metric,
    }


def _entry(state: dict[str, Any], children: Mapping[str, nn.Module], device: torch.device) -> tuple[Entry, bool]:
    options = list(state["options"])
    options[_REDUCE_FX] = _FUNCTIONS.get(options[_REDUCE_FX], options[_REDUCE_FX])
    entry = Entry(state["name"], tuple(options), state["on_step"], state["on_epoch"], state["reduction"])
    entry.value = _on_device(state["value"], device)
    entry.total, entry.weight, entry.count = _on_device(state["total"], device), state["weight"], state["count"]
    if state["metric"] is not None:
        entry.metric, entry.local = children.get(state["metric"]), True
    return entry, state["due"]


def _on_cpu(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _on_device(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


# ---- torchmetrics, whose state is not part of a module's state_dict by default ----


def _torchmetrics(module: nn.Module) -> list[tuple[str, Any]]:
    collections: list[Any] = [child for child in module.modules() if hasattr(child, "_compute_groups_create_state_ref")]
    for collection in collections:
        # It updates one metric of each group that shares a state; asked for its metrics, it shares it again.
        list(collection.values(copy_state=False))
    return [
        (name, child)
        for name, child in module.named_modules()
        if is_metric(child) and isinstance(getattr(child, "_defaults", None), dict)
    ]


def _torchmetric_state(metric: Any) -> dict[str, Any]:
    def copied(value: Any) -> Any:
        return value.detach().cpu().clone() if isinstance(value, Tensor) else [item.detach().cpu().clone() for item in value]

    return {"count": metric._update_count, "state": {name: copied(getattr(metric, name)) for name in metric._defaults}}


def _load_torchmetric(metric: Any, state: dict[str, Any], device: torch.device) -> None:
    for name, value in state["state"].items():
        if name in metric._defaults:
            placed = value.to(device) if isinstance(value, Tensor) else [item.to(device) for item in value]
            setattr(metric, name, placed)
    metric._update_count = state["count"]
    metric._computed = None
