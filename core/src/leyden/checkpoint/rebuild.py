"""Turns hyperparameters into plain data that says what it was made of, and back."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import inspect
import pathlib
import re
import types
import uuid
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from leyden.checkpoint.allowed import AllowList, Refused, import_path
from leyden.checkpoint.plain import PLAIN, NotPlain
from leyden.hparams import AttributeDict

Recipe = dict[str, Any]
"""What a place in plain data stands for: ``at`` (its keys), ``kind``, and what else the kind needs."""


class NotAllowed(LookupError):
    """A file names a class or a function that nobody allowed; ``where`` are the keys, ``path`` is its import path."""

    def __init__(self, where: Sequence[Any], kind: str, path: str) -> None:
        super().__init__(f"{shown_place(where)} is of kind {kind!r} with {path!r}")
        self.where, self.kind, self.path = where, kind, path


@dataclasses.dataclass
class Stored:
    """Stands for an object whose class is not here: what it is made of, and the recipe that would make it."""

    data: Any
    kind: str
    more: dict[str, Any]


def to_data(value: Any, at: tuple[Any, ...]) -> tuple[Any, list[Recipe]]:
    """``value`` as tensors, numbers, strings, lists and dicts, and the recipes that turn these back, innermost first.

    The data is what somebody without leyden would want: a path's string, a Namespace's dict, an Enum's value.

    Raises:
        NotPlain: something in it is neither data nor something that can be found again by name.
    """
    encoder = _Encoder()
    try:
        return encoder.take(value, at), encoder.recipes
    except RecursionError:
        raise NotPlain(shown_place(at), value) from None


def from_data(values: Any, recipes: Sequence[Recipe], allowed: AllowList) -> Any:
    """A copy of ``values`` in which the recipes are carried out; the one whose ``at`` is empty makes the object itself.

    Raises:
        NotAllowed: one needs a class or a function that is not allowed.
        ValueError: a recipe does not fit the data, or this version does not know its kind.
    """
    root = [_copied(values)]
    for recipe in recipes:
        at, kind = recipe["at"], recipe["kind"]
        give = _GIVE.get(kind)
        if give is None:
            raise ValueError(f"{shown_place(at)} is of kind {kind!r}, which this version of leyden does not know")
        try:
            holder: Any = root
            key: Any = 0
            for step in at:
                holder, key = holder[key], step
            holder[key] = give(holder[key], recipe, allowed)
        except Refused as error:
            raise NotAllowed(at, kind, error.args[0]) from None
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            name = recipe.get("class") or kind
            raise ValueError(f"{shown_place(at)} cannot be rebuilt as {name!r}: {type(error).__name__}: {error}") from error
    return root[0]


def shown_place(at: Sequence[Any]) -> str:
    """``lr`` or ``optimizer['betas'][0]``."""
    return str(at[0]) + "".join(f"[{key!r}]" for key in at[1:]) if at else "the object"


def _copied(value: Any) -> Any:
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return type(value)(map(_copied, value)) if type(value) in (list, tuple) else value


class _Encoder:
    def __init__(self) -> None:
        self.recipes: list[Recipe] = []
        self._open: list[int] = []  # containers that are being walked through, by id

    def take(self, value: Any, at: tuple[Any, ...]) -> Any:
        kind = type(value)
        if kind in PLAIN:
            return value
        if isinstance(value, Tensor):
            return value.detach()
        if id(value) in self._open:
            raise NotPlain(f"{shown_place(at)} contains itself, and", value)
        self._open.append(id(value))
        try:
            return self._take_other(value, kind, at)
        finally:
            self._open.pop()

    def _note(self, at: tuple[Any, ...], kind: str, **more: Any) -> None:
        self.recipes.append({"at": list(at), "kind": kind, **more})

    def _take_other(self, value: Any, kind: type, at: tuple[Any, ...]) -> Any:
        if isinstance(value, enum.Enum):
            return self._enum(value, at)
        if kind is Stored:
            data = self.take(value.data, at)
            self._note(at, value.kind, **value.more)
            return data
        if kind is dict:
            return self._dict(value, at)
        if kind is list:
            return self._items(value, at)
        if kind is tuple:
            before = len(self.recipes)
            items = self._items(value, at)
            if len(self.recipes) == before:
                return tuple(items)
            self._note(at, "tuple")  # a list for now, for what is in it will be replaced
            return items
        simple = _SIMPLE.get(kind)
        if simple is not None:
            name, take = simple
            data = take(value)
            more = {"maxlen": value.maxlen} if isinstance(value, deque) else {}
            plain = self._dict(data, at) if isinstance(data, dict) else self._items(data, at) if isinstance(data, list) else data
            self._note(at, name, **more)
            return plain
        return self._take_instance(value, kind, at)

    def _take_instance(self, value: Any, kind: type, at: tuple[Any, ...]) -> Any:
        if isinstance(value, pathlib.PurePath):
            self._note(at, "path", flavour="Path" if isinstance(value, pathlib.Path) else kind.__name__)
            return str(value)
        if isinstance(value, np.generic) or kind is np.ndarray:
            return self._numpy(value, at)
        if kind in (datetime.datetime, datetime.time):
            return self._moment(value, at)
        if isinstance(value, defaultdict):
            data = self._dict(value, at)
            self._note(
                at, "defaultdict", factory=None if value.default_factory is None else self._path(value.default_factory, at)
            )
            return data
        if isinstance(value, functools.partial):
            data = {"function": None, "args": list(value.args), "keywords": dict(value.keywords)}
            plain = self._dict(data, at)
            plain["function"] = path = self._path(value.func, at)
            self._note(at, "partial", **{"class": path})
            return plain
        if isinstance(value, type) or (callable(value) and _has_name(value)):
            path = self._path(value, at)
            self._note(at, "object", **{"class": path})
            return path
        return self._take_of_class(value, kind, at)

    def _take_of_class(self, value: Any, kind: type, at: tuple[Any, ...]) -> Any:
        """Something that its class and data make again; loading needs the class to be allowed."""
        if isinstance(value, nn.Module | torch.utils.data.Dataset):
            raise NotPlain(shown_place(at), value)
        path = self._path(kind, at)
        if dataclasses.is_dataclass(value):
            data: Any = self._dict({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, at)
            self._note(at, "dataclass", **{"class": path})
        elif isinstance(value, tuple) and hasattr(value, "_fields"):
            data = self._items(value, at)
            self._note(at, "namedtuple", **{"class": path})
        elif isinstance(value, Mapping):
            with _Reading(value, at):
                items = dict(value)
            data = self._dict(items, at)
            self._note(at, "mapping", **{"class": path})
        elif isinstance(value, bool | int | float | str | bytes):
            bases: tuple[Any, ...] = (bool, int, float, str, bytes)
            base = next(base for base in bases if isinstance(value, base))
            data = base(value)
            self._note(at, "value", **{"class": path})
        elif isinstance(value, Sequence | set | frozenset):
            with _Reading(value, at):
                contents = list(value)
            data = self._items(contents, at)
            self._note(at, "sequence", **{"class": path})
        else:
            raise NotPlain(shown_place(at), value)
        return data

    def _dict(self, value: Mapping[Any, Any], at: tuple[Any, ...]) -> Any:
        if all(_is_plain_key(key) for key in value):
            return {key: self.take(item, (*at, key)) for key, item in value.items()}
        pairs = [[self.take(key, (*at, i, 0)), self.take(item, (*at, i, 1))] for i, (key, item) in enumerate(value.items())]
        self._note(at, "pairs")
        return pairs

    def _items(self, value: Any, at: tuple[Any, ...]) -> list[Any]:
        return [self.take(item, (*at, index)) for index, item in enumerate(value)]

    def _enum(self, value: enum.Enum, at: tuple[Any, ...]) -> Any:
        data = value.value if type(value.value) in PLAIN else value.name
        named = value.name is not None and type(value).__members__.get(value.name) is value
        self._note(at, "enum", **{"class": self._path(type(value), at), "member": value.name if named else None})
        return data

    def _numpy(self, value: Any, at: tuple[Any, ...]) -> Any:
        dtype: np.dtype[Any] = value.dtype
        array = np.asarray(value)
        if dtype.kind in "US":
            data: Any = array.tolist()
        elif dtype.kind in "mM":
            data = str(value) if dtype.kind == "M" and isinstance(value, np.generic) else _tensor(array.view(np.int64))
        elif dtype.kind in "biufc" and dtype.itemsize <= (16 if dtype.kind == "c" else 8):
            data = array.item() if isinstance(value, np.generic) else _tensor(array)
        else:  # objects, structures, long doubles
            raise NotPlain(f"{shown_place(at)} (dtype {dtype})", value)
        if isinstance(value, np.generic) and isinstance(data, Tensor):
            data = int(data)
        self._note(at, "numpy" if isinstance(value, np.generic) else "array", dtype=dtype.str)
        return data

    def _moment(self, value: Any, at: tuple[Any, ...]) -> str:
        import zoneinfo  # takes its time, and few have one

        zone = value.tzinfo
        if zone is None or type(zone) is datetime.timezone:
            self._note(at, type(value).__name__)
        elif isinstance(zone, zoneinfo.ZoneInfo) and zone.key and isinstance(value, datetime.datetime):
            self._note(at, "datetime", zone=zone.key)
        else:
            raise NotPlain(f"the time zone of {shown_place(at)}", zone)
        return str(value.isoformat())

    def _path(self, value: Any, at: tuple[Any, ...]) -> str:
        try:
            return import_path(value)
        except TypeError:
            raise NotPlain(shown_place(at), value) from None


def _has_name(value: Any) -> bool:
    """Whether it is a function rather than an object that can be called."""
    return inspect.isroutine(value) or isinstance(value, np.ufunc)


def _is_plain_key(key: Any) -> bool:
    return type(key) in (str, int, float, bool, bytes, type(None)) or (type(key) is tuple and all(map(_is_plain_key, key)))


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


class _Reading(contextlib.AbstractContextManager[None]):
    """Containers of strangers that cannot be read, as those with missing values, are no data."""

    def __init__(self, value: Any, at: Sequence[Any]) -> None:
        self.value, self.at = value, at

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, Exception):
            raise NotPlain(f"{shown_place(self.at)} cannot be read ({error}) and", self.value) from error


def _seconds(value: datetime.timedelta) -> Any:
    seconds = value.total_seconds()
    return seconds if datetime.timedelta(seconds=seconds) == value else [value.days, value.seconds, value.microseconds]


def _torch_constant(data: str) -> Any:
    found = vars(torch).get(data.removeprefix("torch."))
    if not isinstance(found, torch.layout | torch.memory_format):
        raise TypeError(f"torch has no {data!r}")
    return found


def _sorted(value: Any) -> list[Any]:
    try:
        return sorted(value)
    except TypeError:
        return list(value)


# What is data in itself: its name in files, and the way there. The way back is in _GIVE under the same name.
_SIMPLE: dict[type, tuple[str, Callable[[Any], Any]]] = {
    Namespace: ("Namespace", lambda v: dict(vars(v))),
    types.SimpleNamespace: ("SimpleNamespace", lambda v: dict(vars(v))),
    OrderedDict: ("OrderedDict", dict),
    Counter: ("Counter", dict),
    AttributeDict: ("AttributeDict", dict),
    types.MappingProxyType: ("mappingproxy", dict),
    set: ("set", _sorted),
    frozenset: ("frozenset", _sorted),
    deque: ("deque", list),
    range: ("range", lambda v: [v.start, v.stop, v.step]),
    slice: ("slice", lambda v: [v.start, v.stop, v.step]),
    bytearray: ("bytearray", bytes),
    datetime.date: ("date", lambda v: v.isoformat()),
    datetime.timedelta: ("timedelta", _seconds),
    decimal.Decimal: ("Decimal", str),
    fractions.Fraction: ("Fraction", lambda v: [v.numerator, v.denominator]),  # "1e999999999" would be read for hours
    uuid.UUID: ("UUID", str),
    re.Pattern: ("pattern", lambda v: [v.pattern, v.flags]),
    torch.layout: ("torch", str),
    torch.memory_format: ("torch", str),
}

_LONGEST = 2**20  # bytes of one string of an array: a file could ask for more than there is memory
_FLAVOURS = {"Path": pathlib.Path, "PurePosixPath": pathlib.PurePosixPath, "PureWindowsPath": pathlib.PureWindowsPath}


def _give_dataclass(data: Any, recipe: Recipe, allowed: AllowList) -> Any:
    cls = allowed.find(recipe["class"])
    if not dataclasses.is_dataclass(cls) or not isinstance(cls, type):
        raise TypeError(f"{cls!r} is no dataclass")
    own = {field.name: field for field in dataclasses.fields(cls)}
    built = cls(**{key: value for key, value in data.items() if key not in own or own[key].init})
    for key, value in data.items():
        if key in own and not own[key].init:
            object.__setattr__(built, key, value)  # also where the class is frozen
    return built


def _give_namedtuple(data: Any, recipe: Recipe, allowed: AllowList) -> Any:
    return allowed.find(recipe["class"])(*data)


def _give_partial(data: Any, recipe: Recipe, allowed: AllowList) -> Any:
    return functools.partial(allowed.find(recipe["class"]), *data["args"], **data["keywords"])


def _give_enum(data: Any, recipe: Recipe, allowed: AllowList) -> Any:
    cls: Any = allowed.find_enum(recipe["class"])
    member = recipe["member"]
    if member is None:
        return cls(data)
    if member not in cls.__members__:
        raise TypeError(f"{cls.__qualname__} has no member {member!r}")
    return cls[member]


def _give_array(data: Any, recipe: Recipe, _: AllowList) -> Any:
    dtype = np.dtype(recipe["dtype"])
    if dtype.itemsize > _LONGEST:
        raise ValueError(f"an item of {dtype.itemsize} bytes")
    array = np.array(data, dtype=dtype) if dtype.kind in "US" else data.cpu().numpy()
    return array.view(dtype) if dtype.kind in "mM" else array.astype(dtype)


def _give_number(data: Any, recipe: Recipe, _: AllowList) -> Any:
    dtype: Any = np.dtype(recipe["dtype"])
    if dtype.kind == "M":
        return np.array(data, dtype=dtype)[()]
    return np.int64(data).view(dtype) if dtype.kind == "m" else dtype.type(data)


def _give_datetime(data: Any, recipe: Recipe, _: AllowList) -> Any:
    import zoneinfo  # see _moment

    moment = datetime.datetime.fromisoformat(data)
    return moment.astimezone(zoneinfo.ZoneInfo(recipe["zone"])) if "zone" in recipe else moment


def _of_class(data: Any, recipe: Recipe, allowed: AllowList) -> Any:
    return allowed.find(recipe["class"])(data)


def _always(give: Callable[[Any], Any]) -> Callable[[Any, Recipe, AllowList], Any]:
    return lambda data, recipe, allowed: give(data)


_GIVE: dict[str, Callable[[Any, Recipe, AllowList], Any]] = {
    "Namespace": _always(lambda data: Namespace(**data)),
    "SimpleNamespace": _always(lambda data: types.SimpleNamespace(**data)),
    "OrderedDict": _always(OrderedDict),
    "Counter": _always(Counter),
    "mappingproxy": _always(types.MappingProxyType),
    "AttributeDict": _always(AttributeDict),
    "dict": _always(dict),
    "pairs": _always(dict),
    "tuple": _always(tuple),
    "set": _always(set),
    "frozenset": _always(frozenset),
    "deque": lambda data, recipe, allowed: deque(data, recipe["maxlen"]),
    "range": _always(lambda data: range(*data)),
    "slice": _always(lambda data: slice(*data)),
    "bytearray": _always(bytearray),
    "date": _always(datetime.date.fromisoformat),
    "time": _always(datetime.time.fromisoformat),
    "datetime": _give_datetime,
    "timedelta": _always(lambda data: datetime.timedelta(*data) if isinstance(data, list) else datetime.timedelta(seconds=data)),
    "Decimal": _always(decimal.Decimal),
    "Fraction": _always(lambda data: fractions.Fraction(*data)),
    "UUID": _always(uuid.UUID),
    "pattern": _always(lambda data: re.compile(*data)),
    "torch": _always(_torch_constant),
    "path": lambda data, recipe, allowed: _FLAVOURS[recipe["flavour"]](data),
    "numpy": _give_number,
    "array": _give_array,
    "enum": _give_enum,
    "dataclass": _give_dataclass,
    "namedtuple": _give_namedtuple,
    "partial": _give_partial,
    "defaultdict": lambda data, recipe, allowed: defaultdict(
        None if recipe["factory"] is None else allowed.find(recipe["factory"]), data
    ),
    "object": lambda data, recipe, allowed: allowed.find(recipe["class"]),
    "mapping": _of_class,
    "sequence": _of_class,
    "value": _of_class,
}
