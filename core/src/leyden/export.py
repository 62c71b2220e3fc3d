"""Turns a module's forward into a file that needs neither leyden nor the module's class."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch

from leyden.data.transfer import move_to_device
from leyden.messages import did_you_mean, listed
from leyden.module import Module, is_overridden

PathLike = str | os.PathLike[str]


def to_onnx(module: Module, file_path: PathLike | None, input_sample: Any, options: dict[str, Any]) -> Any:
    """See :meth:`leyden.Module.to_onnx`."""
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"{type(module).__name__}.to_onnx() needs {' and '.join(missing)}, which torch does not bring; run: pip install "
            f"{' '.join(missing)}"
        )
    path = _destination(module, "to_onnx", file_path)
    args, kwargs = _inputs(module, "to_onnx", "input_sample", input_sample)
    with _as_for_inference(module), _without_word_of_torchvision(), warnings.catch_warnings():
        # torch 2.13 warns about its own use of its own functions.
        warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", FutureWarning)
        # Before torch 2.9 the older exporter is the default.
        return torch.onnx.export(module, args, path, kwargs=kwargs or None, **{"verbose": False, "dynamo": True, **options})


def to_torchscript(
    module: Module, file_path: PathLike | None, method: str, example_inputs: Any, options: dict[str, Any]
) -> torch.jit.ScriptModule:
    """See :meth:`leyden.Module.to_torchscript`."""
    name = type(module).__name__
    if method not in ("script", "trace"):
        hint = did_you_mean(str(method), ("script", "trace"))
        raise ValueError(f"{name}.to_torchscript(method={method!r}): expected {listed(('script', 'trace'))}{hint}")
    path = _destination(module, "to_torchscript", file_path)
    with _as_for_inference(module), warnings.catch_warnings():
        # torch deprecates all of TorchScript; whoever calls this has chosen it.
        warnings.filterwarnings("ignore", "`torch.jit.*` is deprecated", DeprecationWarning)
        if method == "trace":
            args, kwargs = _inputs(module, "to_torchscript", "example_inputs", example_inputs)
            inputs = {"example_kwarg_inputs": kwargs} if kwargs else {"example_inputs": args}
            result: torch.jit.ScriptModule = torch.jit.trace(module, **inputs, **options)  # type: ignore[no-untyped-call]  # torch has no types here
        else:
            result = torch.jit.script(module, **options)
        if path is not None:
            torch.jit.save(result, path)
    return result


def to_torch_export(
    module: Module, file_path: PathLike | None, input_sample: Any, dynamic_shapes: Any, options: dict[str, Any]
) -> torch.export.ExportedProgram:
    """See :meth:`leyden.Module.to_torch_export`."""
    path = _destination(module, "to_torch_export", file_path)
    args, kwargs = _inputs(module, "to_torch_export", "input_sample", input_sample)
    with _as_for_inference(module):
        program = torch.export.export(module, args, kwargs or None, dynamic_shapes=dynamic_shapes, **options)
        if path is not None:
            torch.export.save(program, path)
    return program


@contextmanager
def _without_word_of_torchvision() -> Iterator[None]:
    """Inside, torch does not log that torchvision is missing, which it does for each operator of it that nobody uses here."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")

    def lets_pass(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("torchvision is not installed")

    logger.addFilter(lets_pass)
    try:
        yield
    finally:
        logger.removeFilter(lets_pass)


class _NoTrainer:
    """Stands where a module keeps its Trainer; TorchScript reads every property, and ``trainer`` raises where there is none."""

    running = False
    accepts_logs = False

    def __bool__(self) -> bool:
        return False


@contextmanager
def _as_for_inference(module: Module) -> Iterator[None]:
    """The module in eval mode, without gradients, and without its run, of which nothing may get into the result."""
    modes = [(child, child.training) for child in module.modules()]
    trainer, module._trainer = module._trainer, cast("Any", _NoTrainer())
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module._trainer = trainer
        for child, training in modes:
            child.training = training


def _inputs(module: Module, method: str, argument: str, sample: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and the named arguments that forward is called with, on the module's device."""
    if sample is None:
        sample = module.example_input_array
    name = type(module).__name__
    if sample is None:
        raise ValueError(
            f"{name}.{method}() needs an input to follow through forward(); pass {argument}=..., or set "
            f"{name}.example_input_array"
        )
    sample = move_to_device(sample, module.device)
    if isinstance(sample, dict):
        return (), sample
    return (sample if isinstance(sample, tuple) else (sample,)), {}


def _destination(module: Module, method: str, file_path: PathLike | None) -> str | None:
    """The path of a local file, whose directory exists."""
    name = type(module).__name__
    if not is_overridden("forward", module, Module):
        raise ValueError(f"{name}.{method}() needs {name}.forward(), which is not defined")
    if file_path is None:
        return None
    path = os.fspath(file_path)
    if "://" in path:
        raise ValueError(f"{name}.{method}(file_path={path!r}): torch writes local files only; copy it from there")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return path
