"""Checks every argument of the Trainer against one table, so that messages have one shape."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from leyden.elsewhere import ELSEWHERE
from leyden.intervals import Interval, as_timedelta, parse_interval
from leyden.messages import did_you_mean, listed, quoted, shown
from leyden.quarantine import is_policy


@dataclass(frozen=True)
class Argument:
    """What one argument may be."""

    expected: str
    types: tuple[type, ...]
    accepts: Callable[[Any], bool] = lambda _: True


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count_or_all(value: Any) -> bool:
    return _is_int(value) and value >= -1


def _positive(value: Any) -> bool:
    return _is_int(value) and value >= 1


def _limit(value: Any) -> bool:
    return (_is_int(value) and value >= 0) or (isinstance(value, float) and 0.0 <= value <= 1.0)


_LIMIT = Argument("an int >= 0 (batches) or a float from 0.0 to 1.0 (a fraction)", (int, float), _limit)
_MINIMUM = Argument("an int >= 0", (int,), lambda v: _is_int(v) and v >= 0)
_SWITCH = Argument("True or False", (bool,))
_DURATION = "a timedelta, a dict of its arguments or a str 'DD:HH:MM:SS' or '30 min'"

TABLE: dict[str, Argument] = {
    "devices": Argument("'auto', a count, a list of indices or a str such as '0,1'", (int, str, list, tuple)),
    "num_nodes": Argument("an int >= 1", (int,), _positive),
    "fast_dev_run": Argument("True, False or an int >= 0 (batches)", (bool, int), lambda v: v >= 0),
    "max_epochs": Argument("an int >= 0 or -1", (int,), _count_or_all),
    "min_epochs": _MINIMUM,
    "max_steps": Argument("an int >= 0 or -1", (int,), _count_or_all),
    "min_steps": _MINIMUM,
    "max_time": Argument(_DURATION, (str, timedelta, dict)),
    "limit_train_batches": _LIMIT,
    "limit_val_batches": _LIMIT,
    "limit_test_batches": _LIMIT,
    "limit_predict_batches": _LIMIT,
    "overfit_batches": _LIMIT,
    "val_check_interval": Argument(
        f"an int >= 1 (batches), a float above 0.0 and up to 1.0 (a fraction of an epoch), a str such as '500 steps' or "
        f"{_DURATION}",
        (int, float, str, timedelta, dict, Interval),
        lambda v: not isinstance(v, int | float) or _positive(v) or (isinstance(v, float) and 0.0 < v <= 1.0),
    ),
    "check_val_every_n_epoch": Argument("an int >= 1 or None", (int,), _positive),
    "num_sanity_val_steps": Argument("an int >= 0 or -1", (int,), _count_or_all),
    "log_every_n_steps": Argument("an int >= 0", (int,), lambda v: _is_int(v) and v >= 0),
    "enable_checkpointing": _SWITCH,
    "enable_progress_bar": _SWITCH,
    "enable_model_summary": _SWITCH,
    "accumulate_grad_batches": Argument("an int >= 1", (int,), _positive),
    "carry_accumulation": _SWITCH,
    "gradient_clip_val": Argument("a number >= 0 (0 is none)", (int, float), lambda v: v >= 0),
    "gradient_clip_algorithm": Argument("'norm' or 'value'", (str,), lambda v: v in ("norm", "value")),
    "deterministic": Argument("True, False or 'warn'", (bool, str), lambda v: isinstance(v, bool) or v == "warn"),
    "benchmark": _SWITCH,
    "inference_mode": _SWITCH,
    "use_distributed_sampler": _SWITCH,
    "detect_anomaly": _SWITCH,
    "barebones": _SWITCH,
    "sync_batchnorm": _SWITCH,
    "reload_dataloaders_every_n_epochs": Argument("an int >= 0", (int,), lambda v: _is_int(v) and v >= 0),
    "default_root_dir": Argument("a path or URL", (str, os.PathLike)),
    "enable_autolog_hparams": _SWITCH,
    "model_registry": Argument("a str", (str,)),
    "nan_policy": Argument("'stop', 'skip', 'strict' or 'off'", (str,), lambda v: v in ("stop", "skip", "strict", "off")),
    "loader_key_template": Argument(
        "a str with '{name}' and '{loader}', such as '{loader}/{name}'", (str,), lambda v: "{name}" in v and "{loader}" in v
    ),
    "grace_s": Argument("a number >= 0 (seconds)", (int, float), lambda v: v >= 0),
    "auto_resume": _SWITCH,
    "on_plugin_error": Argument(
        "'raise', 'quarantine', or a dict of these such as {'logger': 'quarantine', 'callback': 'raise'}", (str, dict), is_policy
    ),
    "on_interrupt": Argument("'raise' or 'return'", (str,), lambda v: v in ("raise", "return")),
}

REFUSED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model_registry": (
        lambda v: v is not None,
        "it names a place in the cloud of Lightning's makers; upload from a callback that saves checkpoints, or in on_train_end, "
        "with the client of your registry",
    ),
}
"""Arguments of Lightning's whose use is refused: when, and what to do instead."""


_UNITS: dict[str, tuple[str, ...]] = {
    "val_check_interval": ("step", "batch", "epoch", "sample", "second"),
    "log_every_n_steps": ("step",),
    "check_val_every_n_epoch": ("epoch",),
    "reload_dataloaders_every_n_epochs": ("epoch",),
    "max_time": ("second",),
}
"""The intervals that may be given with a unit, and which."""


def read_units(arguments: dict[str, Any]) -> None:
    """Replaces intervals given as ``"500 steps"`` by what the Trainer works with, in place.

    Raises:
        ValueError: it is no number with a unit, or the unit makes no sense there.
    """
    for name, units in _UNITS.items():
        value = arguments.get(name)
        if not isinstance(value, str) or ":" in value:
            continue
        interval = parse_interval(value, name, units)
        if name == "max_time":
            arguments[name] = timedelta(seconds=interval.count)
        else:
            arguments[name] = interval if name == "val_check_interval" else int(interval.count)


def fill_defaults(arguments: dict[str, Any], function: Callable[..., Any]) -> None:
    """Puts the default of ``function`` in the place of each None, in place, where None has no meaning of its own."""
    for name, parameter in inspect.signature(function).parameters.items():
        if name != "check_val_every_n_epoch" and name in arguments and arguments[name] is None:
            arguments[name] = parameter.default


def check(arguments: Mapping[str, Any]) -> None:
    """Checks the Trainer's arguments; None passes.

    Raises:
        TypeError: a value's type is wrong.
        ValueError: a value is out of range.
    """
    for name, argument in TABLE.items():
        value = arguments.get(name)
        if value is None:
            continue
        right_type = isinstance(value, argument.types) and not (isinstance(value, bool) and bool not in argument.types)
        if not right_type or not argument.accepts(value):
            error = ValueError if right_type else TypeError
            raise error(f"Trainer({name}={quoted(value, name)}): expected {argument.expected}, got {shown(value)}")
        if name in REFUSED and REFUSED[name][0](value):
            raise ValueError(f"Trainer({name}={quoted(value, name)}): {REFUSED[name][1]}")


def refuse_unknown(unknown: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuses arguments that neither core nor a plug-in knows.

    Raises:
        TypeError: there is one.
    """
    for name in unknown:
        here = ELSEWHERE.get(name)
        hint = f"; here that is {here}" if here else did_you_mean(name, known) or f"; its arguments: {listed(known)}"
        raise TypeError(f"Trainer() has no argument {name!r}{hint}")


def duration(value: Any, argument: str) -> timedelta:
    """A ``timedelta`` from one, from a dict of its arguments, or from ``"DD:HH:MM:SS"`` with all its parts.

    Raises:
        ValueError: it is none of these.
    """
    label = f"Trainer({argument}={quoted(value)})"
    try:
        if isinstance(value, str) and value.count(":") != 3:
            raise ValueError("a part is missing")
        return as_timedelta(value, label)
    except (TypeError, ValueError):
        raise ValueError(f"{label}: expected {TABLE[argument].expected}, got {shown(value)}") from None
