"""``leyden doctor``: what this machine has, and whether what is installed works on it."""

from __future__ import annotations

import platform
import textwrap
from argparse import Namespace
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import leyden
import torch
from leyden import plugins
from torch import distributed

from leyden_cli.command import Command
from leyden_cli.selftest import STEPS, Outcome, outcomes


class DoctorCommand(Command):
    """Prints versions, devices and backends, then trains ten steps with each installed part."""

    help = f"versions, devices and backends, then {STEPS} training steps with each installed part"

    def run(self, args: Namespace) -> int:
        """Prints the report as it grows; 1 if a part failed."""
        for title, rows in (("versions", _versions()), ("devices", _devices()), ("backends", _backends())):
            print(title)
            for name, value in rows:
                print(f"  {name:<26}{value}")
            print()
        print(f"self-test: {STEPS} training steps with each part")
        failed = 0
        for outcome in outcomes():
            print(_shown(outcome), flush=True)
            failed += outcome.state == "failed"
        print()
        print(f"{failed} of the parts above failed" if failed else "everything that can work on this machine works")
        return int(failed > 0)


def _shown(outcome: Outcome) -> str:
    start = f"  {outcome.part:<27} {outcome.state:<10}"
    return textwrap.fill(outcome.detail, 120, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False)


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    yield "torch", torch.__version__
    for name in sorted({"leyden-core", *(plugin.distribution for plugin in plugins.installed())}):
        yield name, metadata.version(name)


def _devices() -> Iterator[tuple[str, str]]:
    registered = False
    for plugin, kind in plugins.load_all(leyden.Accelerator):
        if isinstance(kind, type):  # a function chooses among accelerators that have names of their own
            registered = True
            yield plugin.name, _device(kind)
    if not registered:
        yield leyden.Accelerator.name, _device(leyden.Accelerator)


def _device(kind: type[leyden.Accelerator]) -> str:
    if not kind.is_available():
        return "not here"
    count = kind.device_count()
    number = f"{torch.get_num_threads()} threads" if count is None else f"{count} device{'' if count == 1 else 's'}"
    return f"available, {number}; priority {kind.priority} for accelerator='auto'"


def _backends() -> Iterator[tuple[str, str]]:
    if distributed.is_available():
        known = {name: distributed.is_backend_available(name) for name in ("gloo", "nccl", "mpi", "ucc", "xccl")}
    else:
        known = {}
    yield "distributed", ", ".join(name for name, here in known.items() if here) or "none"
    yield "CUDA build", torch.version.cuda or "no"
    libraries: Any = torch.backends  # torch leaves their functions untyped
    yield "cuDNN", str(libraries.cudnn.version()) if libraries.cudnn.is_available() else "no"
    yield "oneDNN", "yes" if libraries.mkldnn.is_available() else "no"
    yield "OpenMP", "yes" if libraries.openmp.is_available() else "no"
