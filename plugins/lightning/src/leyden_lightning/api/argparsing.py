"""The Trainer's arguments as options of an argparse parser."""

from __future__ import annotations

import inspect
from argparse import ArgumentParser, Namespace, _ArgumentGroup
from collections.abc import Callable, Mapping
from typing import Any

_SWITCHES = {
    "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "inference_mode", "use_distributed_sampler",
    "detect_anomaly", "barebones", "sync_batchnorm", "enable_autolog_hparams", "benchmark", "deterministic",
    "replace_sampler_ddp", "auto_scale_batch_size", "auto_lr_find", "terminate_on_nan", "auto_select_gpus",
    "checkpoint_callback", "logger", "prepare_data_per_node", "stochastic_weight_avg", "move_metrics_to_cpu", "log_gpu_memory",
}  # fmt: skip
_WHOLE = {
    "num_nodes", "max_epochs", "min_epochs", "max_steps", "min_steps", "num_sanity_val_steps", "log_every_n_steps",
    "check_val_every_n_epoch", "accumulate_grad_batches", "reload_dataloaders_every_n_epochs", "num_processes", "tpu_cores",
    "ipus", "progress_bar_refresh_rate", "process_position", "flush_logs_every_n_steps", "truncated_bptt_steps",
}  # fmt: skip
_LIMITS = {
    "limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches", "overfit_batches",
    "val_check_interval",
}  # fmt: skip
_NUMBERS = {"gradient_clip_val", "track_grad_norm"}
_OLD = (
    "gpus", "num_processes", "tpu_cores", "ipus", "distributed_backend", "resume_from_checkpoint", "auto_select_gpus",
    "progress_bar_refresh_rate", "process_position", "weights_summary", "weights_save_path", "log_gpu_memory", "track_grad_norm",
    "terminate_on_nan", "flush_logs_every_n_steps", "amp_backend", "amp_level", "replace_sampler_ddp", "auto_lr_find",
    "auto_scale_batch_size", "checkpoint_callback", "multiple_trainloader_mode", "stochastic_weight_avg", "move_metrics_to_cpu",
    "truncated_bptt_steps", "prepare_data_per_node",
)  # fmt: skip


def str_to_bool(value: Any) -> bool:
    """True or False from ``"yes"``, ``"1"``, ``"off"`` and so on.

    Raises:
        ValueError: it is none of them.
    """
    text = str(value).lower()
    if text in ("y", "yes", "t", "true", "on", "1"):
        return True
    if text in ("n", "no", "f", "false", "off", "0"):
        return False
    raise ValueError(f"{value!r}: expected yes or no, true or false, on or off, 1 or 0")


def str_to_bool_or_str(value: Any) -> bool | str:
    """As :func:`str_to_bool`, but other words stay what they are."""
    try:
        return str_to_bool(value)
    except ValueError:
        return str(value)


def str_to_bool_or_int(value: Any) -> bool | int | str:
    """As :func:`str_to_bool_or_str`, but whole numbers other than 0 and 1 are numbers."""
    found = str_to_bool_or_str(value)
    try:
        return found if isinstance(found, bool) else int(found)
    except ValueError:
        return found


def _number(value: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return value


def _devices(value: str) -> int | str:
    return int(value) if value.lstrip("-").isdigit() else value


def from_text(name: str, value: str) -> Any:
    """What an argument of the Trainer is, given as text on the command line or in the environment."""
    if value.lower() in ("none", ""):
        return None
    if name == "fast_dev_run" or name in _SWITCHES:
        return str_to_bool_or_int(value)
    if name in ("devices", "gpus", "precision"):
        return _devices(value)
    if name in _WHOLE or name in _LIMITS or name in _NUMBERS:
        return _number(value)
    return value


def arguments_of(cls: type) -> dict[str, inspect.Parameter]:
    """The Trainer's arguments by name."""
    parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]  # the class itself is asked
    return {p.name: p for p in parameters if p.name != "self" and p.kind is p.KEYWORD_ONLY}


def add_argparse_args(cls: type, parent_parser: ArgumentParser, *, use_argument_group: bool = True) -> ArgumentParser:
    """Adds an option for each argument of the Trainer that can be written on a command line, those of old included.

    Args:
        cls: the Trainer's class.
        parent_parser: the parser; it is changed and returned.
        use_argument_group: whether the options are a group of their own in its help.

    Raises:
        RuntimeError: a group was given in place of a parser.
    """
    if isinstance(parent_parser, _ArgumentGroup):
        raise RuntimeError("add_argparse_args() takes the parser, not a group of it; the options become a group by themselves")
    parser: Any = parent_parser.add_argument_group(f"pl.{cls.__name__}") if use_argument_group else parent_parser
    taken = {option for action in parent_parser._actions for option in action.option_strings}
    defaults = {name: p.default for name, p in arguments_of(cls).items() if name not in ("callbacks", "plugins")}
    for name in [*defaults, *_OLD]:
        option = f"--{name}"
        if option in taken:
            continue
        switch: dict[str, Any] = {"nargs": "?", "const": True} if name == "fast_dev_run" or name in _SWITCHES else {}
        kind: Callable[[str], Any] = _typed(name)
        # Old ones have no default, so that a namespace holds them only when they were typed.
        given = {"default": defaults[name]} if name in defaults else {"default": None}
        parser.add_argument(option, dest=name, type=kind, help=f"the Trainer's {name}", **given, **switch)
    return parent_parser


def _typed(name: str) -> Callable[[str], Any]:
    def kind(value: str) -> Any:
        return from_text(name, value)

    kind.__name__ = "number" if name in _WHOLE | _LIMITS | _NUMBERS else "value"
    return kind


def from_argparse_args(cls: Any, args: Namespace | ArgumentParser, **kwargs: Any) -> Any:
    """Builds a Trainer from a namespace: entries that are none of its arguments are ignored, ``kwargs`` go before the rest."""
    if isinstance(args, ArgumentParser):
        args = args.parse_args()
    known = arguments_of(cls)
    taken = {name: value for name, value in vars(args).items() if name in known}
    taken.update({name: value for name, value in vars(args).items() if name in _OLD and value is not None})
    return cls(**{**taken, **kwargs})


def parse_argparser(cls: type, arg_parser: ArgumentParser | Namespace) -> Namespace:
    """The namespace of a parser."""
    return arg_parser if isinstance(arg_parser, Namespace) else arg_parser.parse_args()


def environment_defaults(cls: type, environment: Mapping[str, str]) -> dict[str, Any]:
    """The Trainer's arguments that ``PL_TRAINER_<NAME>`` variables give."""
    prefix = f"PL_{cls.__name__.upper()}_"
    found: dict[str, Any] = {}
    for name in [*arguments_of(cls), *_OLD]:
        text = environment.get(prefix + name.upper())
        if text is not None:
            found[name] = from_text(name, text)
    return found


def parse_env_variables(cls: type, template: str = "PL_%(cls_name)s_%(cls_argument)s") -> Namespace:
    """The Trainer's arguments that environment variables give, as a namespace."""
    import os

    return Namespace(**environment_defaults(cls, os.environ))
