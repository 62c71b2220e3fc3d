"""Says what a checkpoint file holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from leyden.masking import masked
from leyden.messages import table
from torch import Tensor

from leyden_cli.ckpt.reading import in_bytes, opened, size_of

_KNOWN = (
    "state_dict", "epoch", "global_step", "optimizer_states", "lr_schedulers", "callbacks", "hyper_parameters", "hparams_name",
    "hparams_type", "datamodule_hyper_parameters", "datamodule_hparams_name", "datamodule_hparams_type", "leyden",
    "pytorch-lightning_version", "loops",
)  # fmt: skip


def inspect_file(path: str, as_json: bool = False) -> str:
    """What a file holds, for people or as JSON.

    Raises:
        UsageError: there is no such file.
        ValueError: it is no checkpoint.
    """
    facts = describe(opened(path), path)
    return json.dumps(facts, indent=2) if as_json else "\n".join(_lines(facts))


def describe(checkpoint: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The facts, as plain as JSON."""
    own = checkpoint.get("leyden", {})
    lightning = checkpoint.get("pytorch-lightning_version")
    progress = own.get("progress", {})
    weights = [
        {"name": name, "shape": list(value.shape), "dtype": _dtype(value), "bytes": value.numel() * value.element_size()}
        if isinstance(value, Tensor)
        else {"name": name, "shape": None, "dtype": type(value).__name__, "bytes": 0}
        for name, value in checkpoint["state_dict"].items()
    ]
    return {
        "file": path,
        "bytes": size_of(path),
        "written_by": f"leyden {own['version']}" if "version" in own else f"Lightning {lightning}" if lightning else None,
        "format": own.get("format"),
        "epoch": progress.get("epoch", checkpoint.get("epoch")),
        "batch": progress.get("batch"),
        "global_step": progress.get("global_step", checkpoint.get("global_step")),
        "weights": weights,
        "elements": sum(value.numel() for value in checkpoint["state_dict"].values() if isinstance(value, Tensor)),
        "optimizers": [_optimizer(state) for state in checkpoint.get("optimizer_states", [])],
        "schedulers": len(checkpoint.get("lr_schedulers", [])),
        "callbacks": list(map(str, checkpoint.get("callbacks", {}))),
        "hyper_parameters": masked(_plain(checkpoint.get("hyper_parameters", {}))),
        "rebuilt": {_place(r["at"]): _kind(r) for r in own.get("rebuild", {}).get("hyper_parameters", [])},
        "datamodule_hyper_parameters": masked(_plain(checkpoint.get("datamodule_hyper_parameters", {}))),
        "other_keys": [str(key) for key in checkpoint if key not in _KNOWN],
        "trainable": "optimizer_states" in checkpoint,
    }


def _optimizer(state: Mapping[str, Any]) -> dict[str, Any]:
    groups = state["param_groups"]
    return {
        "parameters": sum(len(group["params"]) for group in groups),
        "state": sorted({str(name) for values in state["state"].values() for name in values}),
        "lr": [_plain(group.get("lr")) for group in groups],
    }


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _place(at: list[Any]) -> str:
    return str(at[0]) + "".join(f"[{key!r}]" for key in at[1:]) if at else "(all)"


def _kind(recipe: Mapping[str, Any]) -> str:
    return f"{recipe['kind']} {recipe['class']}" if "class" in recipe else str(recipe["kind"])


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else f"tensor {list(value.shape)} {_dtype(value)}"
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    size = "" if facts["bytes"] is None else f", {in_bytes(facts['bytes'])}"
    number = "" if facts["format"] is None else f", format {facts['format']}"
    yield f"{facts['file']}{size}"
    yield f"written by     {facts['written_by'] or 'unknown'}{number}"
    batch = f", {facts['batch']} batches into the next" if facts["batch"] else ""
    yield f"progress       {facts['epoch']} epoch(s) done{batch}, step {facts['global_step']}"
    for index, optimizer in enumerate(facts["optimizers"]):
        state = f" with {', '.join(optimizer['state'])}" if optimizer["state"] else ""
        rates = ", ".join(map(str, optimizer["lr"]))
        yield f"optimizer {index}    {optimizer['parameters']} parameters{state}; lr {rates}"
    if not facts["trainable"]:
        yield "optimizers     none: weights only"
    if facts["schedulers"]:
        yield f"schedulers     {facts['schedulers']}"
    for label, key in (("callbacks", "callbacks"), ("other keys", "other_keys")):
        if facts[key]:
            yield f"{label:<15}{', '.join(facts[key])}"
    for label, key in (("hyperparameters", "hyper_parameters"), ("hyperparameters of the data", "datamodule_hyper_parameters")):
        if facts[key]:
            yield f"{label}:"
            for name, value in facts[key].items():
                yield f"  {name}: {value!r}"
    if facts["rebuilt"]:
        yield "rebuilt on loading:"
        yield from (f"  {place}: {kind}" for place, kind in facts["rebuilt"].items())
    total = sum(weight["bytes"] for weight in facts["weights"])
    yield f"weights: {len(facts['weights'])}, {facts['elements']} elements, {in_bytes(total)}"
    rows = [
        [f"  {w['name']}", "-" if w["shape"] is None else str(w["shape"]), w["dtype"], in_bytes(w["bytes"])]
        for w in facts["weights"]
    ]
    if rows:
        yield table(rows, ["  name", "shape", "dtype", "size"])
