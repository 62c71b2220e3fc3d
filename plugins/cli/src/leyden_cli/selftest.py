"""Trains ten steps with each installed part, to find out what works on this machine."""

from __future__ import annotations

import inspect
import io
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import Any

import leyden
import torch
from leyden import plugins
from leyden.component import Component
from leyden.messages import listed
from leyden.plugins import Plugin
from leyden.testing import TinyModule
from torch import Tensor

STEPS = 10


class _NotHereError(Exception):
    """This machine lacks what the part needs; no fault of the part."""


@dataclass
class Outcome:
    """What came of one run of ten steps."""

    part: str
    """``"plain run"``, or the kind and name of what was tried."""

    state: str
    """``"ok"``, ``"failed"`` or ``"not here"``: what the part needs is not here."""

    detail: str
    """The loss before and after, the error, or what is missing."""


def outcomes() -> Iterator[Outcome]:
    """Runs the test of each part in turn: plug-ins of every run, a plain run, accelerators, precisions, loggers.

    Names that stand for one and the same object are tried once. Everything is written to a directory that is gone afterwards.
    """
    yield from _broken_hook_plugins()
    yield _try("plain run", _train)
    for names, plugin in _distinct(leyden.Accelerator):
        yield _try(f"accelerator {names}", partial(_try_accelerator, plugin))
    for names, plugin in _distinct(leyden.Precision):
        yield _try(f"precision {names}", partial(_try_precision, plugin))
    for names, plugin in _distinct(leyden.Logger):
        yield _try(f"logger {names}", partial(_try_logger, plugin))


def _broken_hook_plugins() -> Iterator[Outcome]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plugins.hook_plugins()
    for warning in caught:
        yield Outcome("plug-ins of every run", "failed", str(warning.message))


def _distinct(base: type[Component]) -> Iterator[tuple[str, Plugin]]:
    by_object: dict[tuple[str, str], list[Plugin]] = {}
    for plugin in plugins.available(base.group):
        by_object.setdefault((plugin.distribution, plugin.value), []).append(plugin)
    for same in by_object.values():
        yield ", ".join(plugin.name for plugin in same), same[0]


def _full_name(plugin: Plugin) -> str:
    return f"{plugin.name}@{plugin.distribution}"


def _try_accelerator(plugin: Plugin) -> str:
    kind = plugin.load()
    try:
        accelerator: leyden.Accelerator = kind()
    except ValueError as error:  # a function that chooses among devices, and found none
        raise _NotHereError(str(error)) from None
    if not accelerator.is_available():
        raise _NotHereError("there is no such device")
    return _train(accelerator=accelerator)


def _try_precision(plugin: Plugin) -> str:
    precision = plugins.resolve(leyden.Precision, _full_name(plugin))
    accelerator = _trainer("", accelerator="auto").accelerator
    try:
        precision.check([TinyModule().configure_optimizers()], accelerator.device(0).type)
    except ValueError as error:
        raise _NotHereError(str(error)) from None
    return _train(accelerator=accelerator, precision=precision)


def _try_logger(plugin: Plugin) -> str:
    needed = plugins.required_options(inspect.signature(plugin.load()))
    if needed:
        raise _NotHereError(f"it cannot be tried without its option {listed(needed)}")
    return _train(logger=_full_name(plugin))


def _trainer(directory: str, **parts: Any) -> leyden.Trainer:
    chosen: dict[str, Any] = {"accelerator": "cpu", "logger": False, **parts}
    return leyden.Trainer(
        nan_policy="off",  # what is not finite is said below
        on_plugin_error="raise",
        devices=1,
        max_steps=STEPS,
        log_every_n_steps=1,
        default_root_dir=directory,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **chosen,
    )


class _RecordedModule(TinyModule):
    """Keeps the loss of every step; ten numbers on a device are no burden."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.losses.append(loss.detach())
        return loss


def _train(**parts: Any) -> str:
    torch.manual_seed(0)
    module = _RecordedModule()
    with tempfile.TemporaryDirectory() as directory:
        trainer = _trainer(directory, **parts)
        trainer.fit(module)
    losses = [loss.item() for loss in module.losses]
    if trainer.global_step != STEPS:
        raise RuntimeError(f"{trainer.global_step} steps were made in place of {STEPS}")
    if not all(math.isfinite(loss) for loss in losses):
        raise RuntimeError(f"the losses are not all finite: {losses}")
    return f"loss {losses[0]:.3f} -> {losses[-1]:.3f}"


def _try(part: str, run: Callable[[], str]) -> Outcome:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", plugins.PluginWarning)  # said once, before
        try:
            with redirect_stdout(io.StringIO()):  # a logger may write to the terminal
                state, detail = "ok", run()
        except _NotHereError as error:
            state, detail = "not here", str(error)
        except (ModuleNotFoundError, ConnectionError) as error:  # a client, or a server that it must reach
            state, detail = "not here", f"{error}"
        except Exception as error:  # whatever it is, the next part is tried all the same
            state, detail = "failed", f"{type(error).__name__}: {error}"
    notes = [f"{warning.category.__name__}: {warning.message}" for warning in caught]
    return Outcome(part, state, "; ".join([detail, *notes]))
