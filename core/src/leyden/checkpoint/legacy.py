"""Reads files with pickled objects, and keeps what these hold as data: no class or function that a file names is used."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import pathlib
import pickle
import types
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import _utils

from leyden.checkpoint.archive import check_sizes, foreign_names, present_name
from leyden.checkpoint.format import understood
from leyden.checkpoint.plain import PLAIN
from leyden.checkpoint.rebuild import Stored, to_data
from leyden.messages import listed, quoted

# Made by their own constructors: they only hold what they are given.
_HARMLESS: dict[str, Any] = {
    "argparse.Namespace": argparse.Namespace,
    "collections.defaultdict": collections.defaultdict,
    "collections.deque": collections.deque,
    "datetime.date": datetime.date,
    "datetime.datetime": datetime.datetime,
    "datetime.time": datetime.time,
    "datetime.timedelta": datetime.timedelta,
    "datetime.timezone": datetime.timezone,
    "decimal.Decimal": decimal.Decimal,
    "uuid.UUID": uuid.UUID,
    "builtins.frozenset": frozenset,
    **{f"builtins.{kind.__name__}": kind for kind in (bool, dict, float, int, list, str, tuple)},
    "builtins.range": range,
    "builtins.slice": slice,
    "pathlib.PosixPath": Path,
    "pathlib.WindowsPath": pathlib.PureWindowsPath,
    "pathlib.PurePosixPath": pathlib.PurePosixPath,
    "pathlib.PureWindowsPath": pathlib.PureWindowsPath,
    "pathlib._local.PosixPath": Path,
    "numpy.dtype": np.dtype,
    "numpy.ndarray": np.ndarray,
}


_PLAIN_NAMES: dict[str, Any] = {
    "collections.OrderedDict": collections.OrderedDict,
    "collections.Counter": collections.Counter,
    "builtins.set": set,
    "builtins.complex": complex,
    "builtins.bytearray": bytearray,
    "_codecs.encode": lambda text, encoding: text.encode("latin1"),  # how old pickles keep bytes; others name a codec
}
_REBUILDS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter", "_rebuild_sparse_tensor")


class _Kept:
    """What a pickle did with an object of a class that is not here."""

    path = ""

    def __new__(cls, *args: Any) -> _Kept:
        kept = super().__new__(cls)
        kept.args, kept.state, kept.items = args, None, {}
        return kept

    args: tuple[Any, ...]
    state: Any
    items: dict[Any, Any]

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, item: Any) -> None:
        self.items[len(self.items)] = item

    def extend(self, items: Iterable[Any]) -> None:
        for item in items:
            self.append(item)


def read_legacy(path: str, allow: Iterable[str] = ()) -> dict[str, Any]:
    """A checkpoint of plain data from a file with pickled objects, as Lightning writes for hyperparameters that are no data.

    Paths, dates, numbers of numpy, Namespaces and such are taken as what they are. An object of another class becomes what it
    holds, with the class's import path; a class or a function becomes its import path. Nothing is imported or called.

    Args:
        path: a local file.
        allow: names of the other classes and functions, as the message of a refusal has them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it names what is not in ``allow``, or is no checkpoint.
    """
    names = set(allow)
    with Path(path).open("rb") as file:
        check_sizes(file, path)
        found = foreign_names(file)
        numpys = _of_numpy()
        unknown = [name for name in found if name not in names and name not in _HARMLESS and name not in numpys]
        if unknown:
            raise ValueError(f"{quoted(path)} names {listed(unknown)}; allow them, and what they hold is kept as data")
        kept: dict[str, Any] = {name: type(name.rpartition(".")[2], (_Kept,), {"path": name}) for name in names}
        # torch lets the module that it unpickles with be chosen; ours finds nothing but what stands in these tables.
        module = _unpickling({**_HARMLESS, **numpys, **kept})
        try:
            checkpoint = torch.load(file, map_location="cpu", pickle_module=module, weights_only=False)
        except OSError:
            raise
        except Exception as error:
            raise ValueError(
                f"{quoted(path)} cannot be read as a checkpoint, though what it names is allowed: {error}"
            ) from error
    if not isinstance(checkpoint, Mapping) or "state_dict" not in checkpoint:
        raise ValueError(f"{quoted(path)} is not a checkpoint: it holds no 'state_dict'")
    return _plain_checkpoint(dict(checkpoint), path)


def _unpickling(table: Mapping[str, Any]) -> Any:
    class Unpickler(pickle._Unpickler):
        """Finds what is in the table, and the functions that put tensors together; anything else ends it."""

        def find_class(self, module: str, name: str) -> Any:
            path = present_name(f"{module}.{name}")
            found = table.get(path, _of_torch(path))
            if found is None:
                raise pickle.UnpicklingError(f"{path} is not allowed")
            return found

        def get_extension(self, code: int) -> None:
            raise pickle.UnpicklingError(f"extension {code} is not allowed")

    def load(file: Any, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    return types.SimpleNamespace(Unpickler=Unpickler, load=load, __name__="pickle")


def _of_torch(path: str) -> Any:
    if path == "torch.serialization._get_layout":
        return lambda name: _of_torch(name)  # "torch.sparse_coo"
    if path in _PLAIN_NAMES:
        return _PLAIN_NAMES[path]
    module, _, name = path.rpartition(".")
    if module == "torch":
        found = vars(torch).get(name)
        return found if isinstance(found, torch.dtype | torch.layout) or name in ("Size", "device") else None
    if module == "torch._utils" and name in _REBUILDS:
        return getattr(_utils, name)
    return torch.nn.Parameter if path == "torch.nn.parameter.Parameter" else None


def _of_numpy() -> dict[str, Any]:
    reconstruct: Any = np.zeros(0).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    found = {f"numpy.{core}.multiarray.{f.__name__}": f for core in ("core", "_core") for f in (reconstruct, scalar)}
    # What dtypes are instances of; torch asks for these too.
    kinds = {type(np.dtype(code)) for code in "?bBhHiIlLqQefdFDSUmM"}
    return {**found, **{f"{kind.__module__}.{kind.__qualname__}": kind for kind in kinds}}


def _plain_checkpoint(checkpoint: dict[str, Any], path: object) -> dict[str, Any]:
    checkpoint = understood(checkpoint, path)
    own = checkpoint.setdefault("leyden", {})
    recipes: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for key, value in checkpoint.items():
        if key == "state_dict":
            plain[key] = value
        elif key in ("hyper_parameters", "datamodule_hyper_parameters"):
            plain[key], recipes[key] = _hyperparameters(value)
        else:
            plain[key], _ = to_data(_without_classes(value, data_only=True), (key,))
    if any(recipes.values()):
        own["rebuild"] = {**own.get("rebuild", {}), **{key: found for key, found in recipes.items() if found}}
    plain["leyden"] = own
    plain.pop("hparams_type", None)  # of Lightning: a class; what it said is a recipe now
    return plain


def _hyperparameters(value: Any) -> tuple[dict[str, Any], list[Any]]:
    taken: Any = _without_classes(value)
    root: list[Any] = []
    if isinstance(taken, Stored) and isinstance(taken.data, dict):
        root, taken = [{"at": [], "kind": taken.kind, **taken.more}], taken.data
    if isinstance(taken, argparse.Namespace):
        root, taken = [{"at": [], "kind": "Namespace"}], vars(taken)
    if not isinstance(taken, dict):
        raise ValueError(f"its hyperparameters are a {type(taken).__name__}; expected a dict or a Namespace")
    data: dict[str, Any] = {}
    recipes: list[Any] = []
    for name, item in taken.items():
        data[name], more = to_data(item, (name,))
        recipes += more
    return data, [*recipes, *root]


def _without_classes(value: Any, data_only: bool = False) -> Any:
    """The same with :class:`Stored` for each object of a class that is not here; or just its data."""
    if isinstance(value, _Kept):
        stored = _stored(value, data_only)
        return stored.data if data_only else stored
    if isinstance(value, type) and issubclass(value, _Kept):
        path = _import_path(value.path)
        return path if data_only else Stored(path, "object", {"class": path})
    if isinstance(value, argparse.Namespace):
        inner = {key: _without_classes(item, data_only) for key, item in vars(value).items()}
        return inner if data_only else argparse.Namespace(**inner)
    if isinstance(value, dict):
        kind: Any = dict if type(value) in (dict, collections.OrderedDict) else type(value)
        items = {_key(key): _without_classes(item, data_only) for key, item in value.items()}
        return items if kind is dict or data_only else value
    for sequence in (list, tuple, set):
        if type(value) is sequence:
            return sequence(_without_classes(item, data_only) for item in value)
    return value


def _key(key: Any) -> Any:
    # Lightning before 1.5 kept the state of callbacks under their classes.
    return key.__name__ if isinstance(key, type) and issubclass(key, _Kept) else key


def _stored(value: _Kept, data_only: bool) -> Stored:
    path = _import_path(value.path)
    if path.endswith(":AttributeDict") and path.startswith(("pytorch_lightning", "lightning")):
        return Stored({key: _without_classes(item, data_only) for key, item in value.items.items()}, "AttributeDict", {})
    if value.items:
        return Stored({k: _without_classes(v, data_only) for k, v in value.items.items()}, "mapping", {"class": path})
    if isinstance(value.state, Mapping):
        return Stored({k: _without_classes(v, data_only) for k, v in value.state.items()}, "dataclass", {"class": path})
    if len(value.args) == 1 and type(value.args[0]) in PLAIN:  # as members of an Enum are pickled
        return Stored(value.args[0], "enum", {"class": path, "member": None})
    return Stored([_without_classes(item, data_only) for item in value.args], "namedtuple", {"class": path})


def _import_path(dotted: str) -> str:
    """``package.module:Class``, as far as one can tell: names of modules are in lower case."""
    parts = dotted.split(".")
    upper = [index for index, part in enumerate(parts) if part[:1].isupper()]
    cut = upper[0] if upper else len(parts) - 1
    return ".".join(parts[:cut]) + ":" + ".".join(parts[cut:])
