"""Builds a module or a data module from the hyperparameters in a checkpoint."""

from __future__ import annotations

import inspect
from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from leyden.checkpoint_io import CheckpointIO
from leyden.messages import listed
from leyden.strategy import Strategy

if TYPE_CHECKING:
    from leyden.datamodule import DataModule
    from leyden.module import Module

M = TypeVar("M", bound="Module")
D = TypeVar("D", bound="DataModule")


def build_from_checkpoint(
    cls: type[M],
    path: Any,
    map_location: Any,
    hparams_file: Any,
    strict: bool | None,
    weights_only: bool | None,
    kwargs: dict[str, Any],
) -> M:
    """See :meth:`leyden.Module.load_from_checkpoint`."""
    if hparams_file is not None:
        raise ValueError(
            f"hparams_file={hparams_file!r}: hyperparameters come from the checkpoint; pass others by keyword, as in "
            f"{cls.__name__}.load_from_checkpoint(path, lr=0.1)"
        )
    checkpoint = _read(path, map_location, weights_only)
    module: M = _build(cls, checkpoint, "hyper_parameters", "hparams_name", kwargs, path)
    module.on_load_checkpoint(checkpoint)
    strict = module.strict_loading if strict is None else strict
    try:
        Strategy().load_module_state(module, checkpoint["state_dict"], strict=strict)
    except RuntimeError as error:
        raise RuntimeError(
            f"the weights in {str(path)!r} do not fit {cls.__name__}: {error}; strict=False passes over names"
        ) from None
    return module


def build_datamodule_from_checkpoint(
    cls: type[D], path: Any, map_location: Any, weights_only: bool | None, kwargs: dict[str, Any]
) -> D:
    """See :meth:`leyden.DataModule.load_from_checkpoint`."""
    checkpoint = _read(path, map_location, weights_only)
    datamodule: D = _build(cls, checkpoint, "datamodule_hyper_parameters", "datamodule_hparams_name", kwargs, path)
    state = checkpoint.get(cls.__qualname__)
    if state:
        datamodule.load_state_dict(state)
    return datamodule


def _read(path: Any, map_location: Any, weights_only: bool | None) -> dict[str, Any]:
    if weights_only is False:
        raise ValueError("weights_only=False would run code named in the file; leyden reads plain data only, so leave it out")
    return CheckpointIO().load(path, "cpu" if map_location is None else map_location)


def _build(cls: Any, checkpoint: Mapping[str, Any], key: str, name_key: str, kwargs: dict[str, Any], path: Any) -> Any:
    saved = dict(checkpoint.get(key) or {})
    name = checkpoint.get(name_key)
    parameters = inspect.signature(cls.__init__).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if name and name != "kwargs" and name in parameters:
        # The constructor takes all of them as one object.
        merged = {**saved, **kwargs}
        as_dict = checkpoint.get(name_key.replace("name", "type")) == "dict"
        arguments: dict[str, Any] = {name: merged if as_dict else Namespace(**merged)}
    else:
        arguments = {k: v for k, v in {**saved, **kwargs}.items() if takes_any or k in parameters}
        unknown = [k for k in kwargs if k not in arguments]
        if unknown:
            raise TypeError(f"{cls.__name__} has no argument {listed(unknown)}; its arguments: {listed(list(parameters)[1:])}")
    missing = [
        p.name
        for p in list(parameters.values())[1:]
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in arguments
    ]
    if missing:
        raise TypeError(
            f"{cls.__name__} needs {listed(missing)}, which {str(path)!r} does not have; pass them: "
            f"{cls.__name__}.load_from_checkpoint(path, {', '.join(f'{m}=...' for m in missing)})"
        )
    return cls(**arguments)
