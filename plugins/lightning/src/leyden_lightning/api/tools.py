"""The small functions of Lightning's utilities."""

from __future__ import annotations

import gc
import importlib
import inspect
import os
import pickle
import re
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import leyden
import torch
from leyden.checkpoint.plain import plain
from leyden.data.batch_size import UnknownBatchSize, batch_size_of
from leyden.data.transfer import apply_to_tensors, move_to_device
from leyden.module import is_overridden as overrides
from torch import Tensor, nn

from leyden_lightning.api.argparsing import str_to_bool, str_to_bool_or_int, str_to_bool_or_str

__all__ = ["str_to_bool", "str_to_bool_or_int", "str_to_bool_or_str"]

# ---- collections ----


def apply_to_collection(
    data: Any, dtype: Any, function: Callable[..., Any], *args: Any, wrong_dtype: Any = None, include_none: bool = True,
    allow_frozen: bool = False, **kwargs: Any,
) -> Any:  # fmt: skip
    """Calls ``function`` on every element of a nested collection that is an instance of ``dtype``.

    Args:
        data: lists, tuples, dicts, dataclasses, and what is in them.
        dtype: a class or a tuple of classes.
        function: called with an element, ``args`` and ``kwargs``.
        args: further arguments.
        wrong_dtype: classes whose instances are left alone, although they are of ``dtype``.
        include_none: whether None stays in a collection where the function returned it.
        allow_frozen: accepted; a frozen dataclass is copied like another.
        kwargs: further arguments.
    """
    if isinstance(data, dtype) and not (wrong_dtype is not None and isinstance(data, wrong_dtype)):
        return function(data, *args, **kwargs)

    def inner(value: Any) -> Any:
        return apply_to_collection(
            value, dtype, function, *args, wrong_dtype=wrong_dtype, include_none=include_none, **kwargs
        )  # fmt: skip

    if isinstance(data, Mapping):
        items = {key: inner(value) for key, value in data.items()}
        items = items if include_none else {key: value for key, value in items.items() if value is not None}
        if hasattr(data, "default_factory"):
            return type(data)(data.default_factory, items)  # type: ignore[call-arg]  # a defaultdict
        return type(data)(items)  # type: ignore[call-arg]  # as most mappings are made
    if isinstance(data, list | tuple):
        values = [inner(value) for value in data]
        values = values if include_none else [value for value in values if value is not None]
        return type(data)(*values) if hasattr(data, "_fields") else type(data)(values)
    if hasattr(data, "__dataclass_fields__") and not isinstance(data, type):
        import copy

        result = copy.copy(data)
        for name in data.__dataclass_fields__:
            object.__setattr__(result, name, inner(getattr(data, name)))
        return result
    return data


def apply_to_collections(
    data1: Any, data2: Any, dtype: Any, function: Callable[..., Any], *args: Any, wrong_dtype: Any = None, **kwargs: Any
) -> Any:
    """As :func:`apply_to_collection`, with the elements of two collections of one shape."""
    if data1 is None:
        return None if data2 is None else apply_to_collection(data2, dtype, lambda b: function(None, b, *args, **kwargs))
    if isinstance(data1, dtype) and not (wrong_dtype is not None and isinstance(data1, wrong_dtype)):
        return function(data1, data2, *args, **kwargs)
    if isinstance(data1, Mapping):
        return type(data1)({k: apply_to_collections(v, data2[k], dtype, function, *args, **kwargs) for k, v in data1.items()})  # type: ignore[call-arg]  # as most mappings are made
    if isinstance(data1, list | tuple):
        pairs = zip(data1, data2, strict=True)
        values = [apply_to_collections(a, b, dtype, function, *args, **kwargs) for a, b in pairs]
        return type(data1)(*values) if hasattr(data1, "_fields") else type(data1)(values)
    return data1


def recursive_detach(in_dict: Any, to_cpu: bool = False) -> Any:
    """The same collection with every tensor detached, and on the CPU if asked."""

    def detach(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.detach().cpu() if to_cpu else value.detach()

    return apply_to_tensors(in_dict, detach)


def convert_tensors_to_scalars(metrics: Any) -> Any:
    """The same collection with tensors of one element as numbers.

    Raises:
        ValueError: a tensor has several elements.
    """

    def number(value: Tensor) -> Any:
        if value.numel() != 1:
            raise ValueError(f"the metric {value} has {value.numel()} elements; expected one")
        return value.item()

    return apply_to_collection(metrics, Tensor, number)


metrics_to_scalars = convert_tensors_to_scalars


def flatten_dict(params: Mapping[Any, Any], delimiter: str = "/", parent_key: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a/b": 1}``."""
    found: dict[str, Any] = {}
    for key, value in params.items():
        name = f"{parent_key}{delimiter}{key}" if parent_key else str(key)
        value = vars(value) if isinstance(value, Namespace) else value
        found.update(flatten_dict(value, delimiter, name) if isinstance(value, Mapping) else {name: value})
    return found


def optimizer_to_device(optimizer: Any, device: Any) -> None:
    """Moves an optimizer's state."""
    for state in optimizer.state.values():
        state.update({key: move_to_device(value, torch.device(device)) for key, value in state.items()})


def optimizers_to_device(optimizers: Iterable[Any], device: Any) -> None:
    """Moves the state of several optimizers."""
    for optimizer in optimizers:
        optimizer_to_device(optimizer, device)


# ---- modules ----


def is_overridden(method_name: str, instance: Any = None, parent: type | None = None) -> bool:
    """Whether an object's class replaces a method of its base class.

    Args:
        method_name: the method.
        instance: a module, a data module or a callback; None is False.
        parent: the base class, found by the instance if not given.

    Raises:
        ValueError: the base class has no such method, or cannot be found.
    """
    if instance is None:
        return False
    if parent is None:
        bases = (leyden.Module, leyden.DataModule, leyden.Callback)
        parent = next((base for base in bases if isinstance(instance, base)), None)
        if parent is None:
            raise ValueError(f"is_overridden({method_name!r}): expected a module, a data module or a callback")
    if not hasattr(parent, method_name):
        raise ValueError(f"is_overridden({method_name!r}): {parent.__name__} has no such method")
    return overrides(method_name, instance, parent)


def grad_norm(module: nn.Module, norm_type: float | str, group_separator: str = "/") -> dict[str, float]:
    """The norm of each parameter's gradient and of all together, by key, for ``log_dict``.

    Raises:
        ValueError: the norm is not above 0.
    """
    norm_type = float(norm_type)
    if norm_type <= 0:
        raise ValueError(f"norm_type={norm_type!r}: expected a number above 0, or inf")
    key = f"grad_{norm_type}_norm"
    norms: dict[str, Any] = {
        f"{key}{group_separator}{name}": parameter.grad.data.norm(norm_type)
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    if norms:
        norms[f"{key}_total"] = torch.tensor(list(norms.values())).norm(norm_type)
    return norms


def measure_flops(model: nn.Module, forward_fn: Callable[[], Any], loss_fn: Callable[[Any], Tensor] | None = None) -> int:
    """The floating-point operations of a forward, and of the backward on what ``loss_fn`` makes of it."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        output = forward_fn()
        if loss_fn is not None:
            loss_fn(output).backward()  # type: ignore[no-untyped-call]  # torch has no types here
    return int(counter.get_total_flops())


def find_shared_parameters(module: nn.Module) -> list[list[str]]:
    """The names of parameters that are one tensor, in groups."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def set_shared_parameters(module: nn.Module, shared_params: list[list[str]]) -> nn.Module:
    """Makes the parameters of each group the first of it."""
    for first, *others in shared_params:
        parameter = module.get_parameter(first)
        for name in others:
            path, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(path), attribute, parameter)
    return module


def detect_nan_parameters(model: nn.Module) -> None:
    """Raises ValueError if a parameter is not finite."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(f"parameter {name!r} is not finite; gradient clipping or a smaller learning rate may help")


def print_nan_gradients(model: nn.Module) -> None:
    """Prints the parameters whose gradients are not finite."""
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and torch.isnan(parameter.grad).any():
            print(name, parameter.grad)


def get_model_size_mb(model: nn.Module) -> float:
    """Megabytes of a module's state."""
    return sum(value.nbytes for value in model.state_dict().values() if isinstance(value, Tensor)) / 1e6


def unwrap_lightning_module(wrapped_model: nn.Module) -> nn.Module:
    """The module inside of wrappers such as DistributedDataParallel."""
    while not isinstance(wrapped_model, leyden.Module) and isinstance(getattr(wrapped_model, "module", None), nn.Module):
        wrapped_model = wrapped_model.module  # type: ignore[assignment]  # asked for above
    return wrapped_model


def from_compiled(model: Any) -> Any:
    """The module in what ``torch.compile`` made."""
    return getattr(model, "_orig_mod", model)


to_uncompiled = from_compiled


class DeviceDtypeModuleMixin(nn.Module):
    """A module that knows its ``device`` and ``dtype``."""

    @property
    def device(self) -> torch.device:
        """The device of the first parameter or buffer; the CPU if there is none."""
        tensor: Tensor | None = next(self.parameters(), next(self.buffers(), None))
        return tensor.device if tensor is not None else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first parameter; torch's default if there is none."""
        tensor = next(self.parameters(), None)
        return tensor.dtype if tensor is not None else torch.get_default_dtype()


def auto_move_data(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates ``forward``: arguments are moved to the module's device first."""

    @wraps(fn)
    def moved(self: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = move_to_device((args, kwargs), self.device)
        return fn(self, *args, **kwargs)

    return moved


def data_loader(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The decorator of 0.6; it has done nothing since."""
    return fn


def get_human_readable_count(number: int) -> str:
    """``1234`` as ``"1.2 K"``."""
    for unit in (" ", "K", "M", "B"):
        if number < 1000:
            return f"{number:,.1f} {unit}".replace(".0  ", "  ") if unit != " " else f"{int(number)}  "
        number = number / 1000  # type: ignore[assignment]  # shown with one digit
    return f"{number:,.1f} T"


def get_formatted_model_size(total_model_size: float) -> str:
    """A size in megabytes, as text."""
    return f"{total_model_size:,.3f}"


# ---- attributes, wherever a model keeps them ----


def _holders(model: Any, attribute: str) -> list[Any]:
    found: list[Any] = [model] if hasattr(model, attribute) else []
    hparams = getattr(model, "hparams", None)
    if hparams is not None and attribute in (hparams if isinstance(hparams, Mapping) else vars(hparams)):
        found.append(hparams)
    trainer = getattr(model, "_trainer", None) or (None if isinstance(model, nn.Module) else getattr(model, "trainer", None))
    if trainer is not None and trainer.datamodule is not None and trainer.datamodule is not model:
        found += [trainer.datamodule] if hasattr(trainer.datamodule, attribute) else []
    return found


def lightning_hasattr(model: Any, attribute: str) -> bool:
    """Whether the model, its hyperparameters or its data module have an attribute."""
    return bool(_holders(model, attribute))


def lightning_getattr(model: Any, attribute: str) -> Any:
    """That attribute, of the last of them that has it.

    Raises:
        AttributeError: none has it.
    """
    holders = _holders(model, attribute)
    if not holders:
        raise AttributeError(f"{attribute!r} is neither on the model, nor among its hparams, nor on its data module")
    holder = holders[-1]
    return holder[attribute] if isinstance(holder, dict) else getattr(holder, attribute)


def lightning_setattr(model: Any, attribute: str, value: Any) -> None:
    """Sets that attribute wherever it is.

    Raises:
        AttributeError: it is nowhere.
    """
    holders = _holders(model, attribute)
    if not holders:
        raise AttributeError(f"{attribute!r} is neither on the model, nor among its hparams, nor on its data module")
    for holder in holders:
        if isinstance(holder, dict):
            holder[attribute] = value
        else:
            setattr(holder, attribute, value)


def is_picklable(obj: object) -> bool:
    """Whether an object can be pickled."""
    try:
        pickle.dumps(obj)
    except Exception:
        return False
    return True


def clean_namespace(hparams: Any) -> None:
    """Takes out of a namespace or dict what cannot be pickled."""
    values = hparams if isinstance(hparams, dict) else vars(hparams)
    for name in [name for name, value in values.items() if not is_picklable(value)]:
        del values[name]


def save_hyperparameters(obj: Any, *args: Any, ignore: Any = None, frame: Any = None) -> None:
    """As the method of that name."""
    obj.save_hyperparameters(*args, ignore=ignore, frame=frame or inspect.currentframe().f_back)  # type: ignore[union-attr]  # CPython has frames


def load_hparams_from_yaml(config_yaml: str | os.PathLike[str], use_omegaconf: bool = True) -> dict[str, Any]:
    """The hyperparameters in a YAML file; empty if there is none."""
    import yaml

    path = Path(config_yaml)
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def save_hparams_to_yaml(config_yaml: str | os.PathLike[str], hparams: Any, use_omegaconf: bool = True) -> None:
    """Writes hyperparameters that are plain data as YAML."""
    import yaml

    values = vars(hparams) if isinstance(hparams, Namespace) else dict(hparams)
    Path(config_yaml).write_text(yaml.safe_dump(plain(values, "hparams")), encoding="utf-8")


def instantiate_class(args: Any, init: Mapping[str, Any]) -> Any:
    """Builds ``{"class_path": ..., "init_args": {...}}``."""
    module, _, name = init["class_path"].rpartition(".")
    args = args if isinstance(args, tuple) else (args,)
    return getattr(importlib.import_module(module), name)(*args, **init.get("init_args", {}))


def is_param_in_hook_signature(
    hook_fx: Callable[..., Any], param: str, explicit: bool = False, min_args: int | None = None
) -> bool:
    """Whether a function takes an argument of that name, or any."""
    parameters = inspect.signature(getattr(hook_fx, "__wrapped__", hook_fx)).parameters
    if param in parameters:
        return True
    if explicit:
        return False
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    return takes_any or (min_args is not None and len(parameters) >= min_args)


# ---- data and files ----


def extract_batch_size(batch: Any) -> int:
    """The number of samples in a batch; 1 if it does not show it."""
    try:
        return int(batch_size_of(batch))
    except UnknownBatchSize:
        return 1


def sized_len(dataloader: object) -> int | None:
    """The length, or None if there is none."""
    try:
        return len(dataloader)  # type: ignore[arg-type]  # asked for here
    except (TypeError, NotImplementedError):
        return None


def has_len(dataloader: object) -> bool:
    """Whether there is a length."""
    return sized_len(dataloader) is not None


def has_iterable_dataset(dataloader: object) -> bool:
    """Whether a loader's data set is a stream."""
    return isinstance(getattr(dataloader, "dataset", None), torch.utils.data.IterableDataset)


def suggested_max_num_workers(local_world_size: int) -> int:
    """Workers a loader may have on this machine, with so many processes on it.

    Raises:
        ValueError: there is no process.
    """
    if local_world_size < 1:
        raise ValueError(f"local_world_size={local_world_size!r}: expected at least 1")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, cores // local_world_size - 1)


def is_shared_filesystem(strategy: Any, path: Any = None, timeout: int = 3) -> bool:
    """Whether all processes see one file system: those of one node do, and URLs are the same everywhere."""
    return "://" in str(path or "") or strategy.world_size == 1 or strategy.node_rank == 0


def get_filesystem(path: Any, **kwargs: Any) -> Any:
    """The fsspec file system of a path or URL."""
    return fsspec.core.url_to_fs(str(path), **kwargs)[0]


def load(path_or_url: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
    """Reads a checkpoint of plain data."""
    opened: Any = fsspec.open(str(path_or_url), "rb")
    with opened as file:
        return torch.load(file, map_location=map_location, weights_only=True)


pl_load = _load = load


def atomic_save(checkpoint: dict[str, Any], filepath: Any) -> None:
    """Writes a checkpoint so that there is never half of one."""
    leyden.CheckpointIO().save(checkpoint, filepath)


# ---- devices and memory ----


def num_cuda_devices() -> int:
    """How many CUDA devices there are."""
    return torch.cuda.device_count()


def find_usable_cuda_devices(num_devices: int = -1) -> list[int]:
    """The indices of CUDA devices that can be used.

    Raises:
        ValueError: there are none.
        RuntimeError: there are fewer than asked for.
    """
    there = list(range(torch.cuda.device_count()))
    if not there and num_devices:
        raise ValueError(f"find_usable_cuda_devices({num_devices}): this machine has no CUDA device")
    if num_devices > len(there):
        raise RuntimeError(f"find_usable_cuda_devices({num_devices}): this machine has {len(there)}")
    return there if num_devices == -1 else there[:num_devices]


def garbage_collection_cuda() -> None:
    """Frees what Python no longer needs, on the host and the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_cuda_out_of_memory(exception: BaseException) -> bool:
    """Whether a CUDA device had too little memory."""
    return isinstance(exception, torch.OutOfMemoryError) or (
        isinstance(exception, RuntimeError) and "CUDA out of memory" in str(exception)
    )


def is_cudnn_snafu(exception: BaseException) -> bool:
    """Whether cuDNN failed as it does when there is too little memory."""
    return isinstance(exception, RuntimeError) and "CUDNN_STATUS_NOT_SUPPORTED" in str(exception)


def is_out_of_cpu_memory(exception: BaseException) -> bool:
    """Whether the host had too little memory."""
    return isinstance(exception, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(exception)


def is_oom_error(exception: BaseException) -> bool:
    """Whether there was too little memory anywhere."""
    return is_cuda_out_of_memory(exception) or is_cudnn_snafu(exception) or is_out_of_cpu_memory(exception)


# ---- processes ----


def distributed_available() -> bool:
    """Whether several processes are connected."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def gather_all_tensors(result: Tensor, group: Any = None) -> list[Tensor]:
    """The tensors of all processes."""
    if not distributed_available():
        return [result]
    gathered = [torch.zeros_like(result) for _ in range(torch.distributed.get_world_size(group))]
    torch.distributed.all_gather(gathered, result, group)
    return gathered


def sync_ddp_if_available(result: Tensor, group: Any = None, reduce_op: Any = None) -> Tensor:
    """The sum over all processes, or with ``reduce_op="mean"`` the mean."""
    if not distributed_available():
        return result
    result = result.clone()
    torch.distributed.all_reduce(result, group=group)
    return result / torch.distributed.get_world_size(group) if str(reduce_op).lower() in ("mean", "avg") else result


class TensorRunningAccum:
    """The last so many values, and what they are together.

    Args:
        window_length: how many.
    """

    def __init__(self, window_length: int) -> None:
        self.window_length = window_length
        self.values: list[Tensor] = []

    def append(self, x: Tensor) -> None:
        """Adds a value; the oldest makes room."""
        self.values = [*self.values, x.detach()][-self.window_length :]

    def last(self) -> Tensor | None:
        """The newest value."""
        return self.values[-1] if self.values else None

    def mean(self) -> Tensor | None:
        """Their mean, or None if there are none."""
        return torch.stack(self.values).mean() if self.values else None

    def max(self) -> Tensor | None:
        """The largest, or None if there are none."""
        return torch.stack(self.values).max() if self.values else None

    def min(self) -> Tensor | None:
        """The smallest, or None if there are none."""
        return torch.stack(self.values).min() if self.values else None

    def reset(self, window_length: int | None = None) -> None:
        """Forgets all."""
        self.window_length = window_length or self.window_length
        self.values = []


# ---- what is installed ----


def module_available(module_path: str) -> bool:
    """Whether a module can be found."""
    try:
        return find_spec(module_path) is not None
    except (ImportError, ValueError):
        return False


_module_available = module_available


def compare_version(package: str, op: Callable[[Any, Any], bool], version: str, use_base_version: bool = False) -> bool:
    """Whether the installed version of a package compares so; False if it is not installed."""
    from packaging.version import Version  # every Trainer imports this module, and few programs compare versions

    try:
        found = Version(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False
    return op(Version(found.base_version) if use_base_version else found, Version(version))


class RequirementCache:
    """True if a requirement such as ``"torch>=2.0"`` is met."""

    def __init__(self, requirement: str = "", module: str | None = None) -> None:
        self.requirement = requirement
        self.module = module

    def __bool__(self) -> bool:
        if not self.requirement:
            return module_available(self.module or "")
        from packaging.requirements import Requirement  # as above

        wanted = Requirement(self.requirement)
        try:
            return wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
        except metadata.PackageNotFoundError:
            return bool(self.module) and module_available(self.module or "")

    def __str__(self) -> str:
        return f"Requirement {self.requirement or self.module!r} {'met' if self else 'not met'}"


class ModuleAvailableCache(RequirementCache):
    """True if a module can be found."""

    def __init__(self, module: str) -> None:
        super().__init__(module=module)


def availability(name: str) -> Any:
    """What constants such as ``_RICH_AVAILABLE`` and ``_TORCH_GREATER_EQUAL_1_10`` say; None if it is not one of these."""
    found = re.fullmatch(r"_(\w+)_AVAILABLE", name)
    if found:
        return module_available(found[1].lower())
    found = re.fullmatch(r"_(TORCH|PYTHON|TORCHMETRICS)_GREATER_EQUAL_(\d+(?:_\d+)*)", name)
    if found:
        import platform

        from packaging.version import Version  # as above

        package, version = found[1].lower(), Version(found[2].replace("_", "."))
        return Version(platform.python_version() if package == "python" else metadata.version(package)) >= version
    return None


def each_of(values: Any) -> Iterator[Any]:
    """The items of a list or tuple, or the one value."""
    yield from values if isinstance(values, list | tuple) else [values]
