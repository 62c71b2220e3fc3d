"""Builds a module or a data module from the hyperparameters in a checkpoint."""

from __future__ import annotations

import inspect
from argparse import Namespace
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from leyden.checkpoint.allowed import AllowList, Refused
from leyden.checkpoint.choose import Choice, load_state
from leyden.checkpoint.format import understood
from leyden.checkpoint.rebuild import NotAllowed, from_data
from leyden.checkpoint_io import CheckpointIO
from leyden.hparams import AttributeDict
from leyden.messages import listed, quoted

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
    ours: dict[str, Any],
    kwargs: dict[str, Any],
) -> M:
    """See :meth:`leyden.Module.load_from_checkpoint`; ``ours`` are its arguments of names that a constructor may have too."""
    for name in ours.keys() & inspect.signature(cls.__init__).parameters:
        if ours[name] is not None:
            kwargs[name], ours[name] = ours[name], None
    choice = Choice(ours["include"], ours["exclude"], ours["rename"])
    if hparams_file is not None:
        raise ValueError(
            f"hparams_file={hparams_file!r}: hyperparameters come from the checkpoint; pass others by keyword, as in "
            f"{cls.__name__}.load_from_checkpoint(path, lr=0.1)"
        )
    checkpoint = read_checkpoint(path, map_location, weights_only)
    module: M = _build(cls, checkpoint, "hyper_parameters", "hparams_name", ours["allow"], kwargs, path)
    module.on_load_checkpoint(checkpoint)
    strict = module.strict_loading if strict is None else strict
    load_state(module, checkpoint["state_dict"], choice, strict=strict, path=path)
    return module


def build_datamodule_from_checkpoint(
    cls: type[D],
    path: Any,
    map_location: Any,
    weights_only: bool | None,
    allow: Iterable[Any] | Mapping[str, Any] | None,
    kwargs: dict[str, Any],
) -> D:
    """See :meth:`leyden.DataModule.load_from_checkpoint`."""
    checkpoint = read_checkpoint(path, map_location, weights_only)
    datamodule: D = _build(cls, checkpoint, "datamodule_hyper_parameters", "datamodule_hparams_name", allow, kwargs, path)
    state = checkpoint.get(cls.__qualname__)
    if state:
        datamodule.load_state_dict(state)
    return datamodule


def read_checkpoint(path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
    """A checkpoint from a file or a URL, of leyden or of Lightning.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint of plain data, or ``weights_only`` is False.
    """
    if weights_only is False:
        raise ValueError("weights_only=False would run code named in the file; leyden reads plain data only, so leave it out")
    return understood(CheckpointIO().load(path, "cpu" if map_location is None else map_location), path)


def _build(
    cls: Any,
    checkpoint: Mapping[str, Any],
    key: str,
    name_key: str,
    allow: Iterable[Any] | Mapping[str, Any] | None,
    kwargs: dict[str, Any],
    path: Any,
) -> Any:
    parameters = inspect.signature(cls.__init__).parameters
    allowed = AllowList(allow, cls)
    recipes = checkpoint.get("leyden", {}).get("rebuild", {}).get(key, [])
    # What the caller passes need not be rebuilt, and so not be allowed.
    inner = [recipe for recipe in recipes if recipe["at"] and recipe["at"][0] not in kwargs]
    whole = [recipe for recipe in recipes if not recipe["at"]]
    saved = _rebuilt(cls, dict(checkpoint.get(key) or {}), inner, allowed, path)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    name = checkpoint.get(name_key)
    if name and name != "kwargs" and name in parameters and name not in kwargs:
        # The constructor takes all of them as one object.
        arguments = {k: v for k, v in kwargs.items() if k in parameters and k not in saved}
        merged = {**saved, **{k: v for k, v in kwargs.items() if k not in arguments}}
        if whole:
            arguments[name] = _rebuilt(cls, merged, whole, allowed, path)
        else:
            arguments[name] = _as_one_object(cls, merged, name, checkpoint.get(name_key.replace("name", "type")))
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
            f"{cls.__name__} needs {listed(missing)}, which {quoted(str(path))} does not have; pass them: "
            f"{cls.__name__}.load_from_checkpoint(path, {', '.join(f'{m}=...' for m in missing)})"
        )
    return cls(**arguments)


def _rebuilt(cls: Any, data: dict[str, Any], recipes: list[dict[str, Any]], allowed: AllowList, path: Any) -> Any:
    try:
        return from_data(data, recipes, allowed)
    except NotAllowed as error:
        names = ", ".join(path.rpartition(":")[2].rpartition(".")[2] for path in _not_allowed(recipes, allowed))
        way_out = f", or pass the argument itself, {error.where[0]}=..." if error.where else ""
        raise TypeError(
            f"{quoted(str(path))}: to rebuild the hyperparameters of {cls.__name__}, {error}; what a file names is used only "
            f"if you allow it: {cls.__name__}.load_from_checkpoint(path, allow=[{names}]), "
            f"or leyden.allow_rebuild({names}){way_out}"
        ) from None
    except ValueError as error:
        raise ValueError(f"{quoted(str(path))}: hyperparameter {error}; pass it to load_from_checkpoint()") from error


def _not_allowed(recipes: list[dict[str, Any]], allowed: AllowList) -> list[str]:
    """Every import path that the recipes need and that is not allowed, so that one message names them all."""
    found: dict[str, None] = {}
    for recipe in recipes:
        for path in (recipe.get("class"), recipe.get("factory")):
            try:
                if path is not None:
                    allowed.find_enum(path) if recipe["kind"] == "enum" else allowed.find(path)
            except Refused as error:
                found[error.args[0]] = None
    return list(found)


def _as_one_object(cls: Any, values: dict[str, Any], name: str, kind: Any) -> Any:
    """The object of a file that does not say of what class it was: Lightning's, or of leyden before there were recipes."""
    try:
        wanted = get_type_hints(cls.__init__).get(name)
    except Exception:  # names that exist for type checkers only
        wanted = None
    if kind == "Namespace" or wanted is Namespace:
        return Namespace(**values)
    return values if kind == "dict" or wanted is dict else AttributeDict(values)
