"""What every test starts from: an empty directory, the same random numbers, the same environment, no module of another test."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Runs the test in a directory of its own, where default logs land, and undoes what it did to the environment."""
    before, modules = dict(os.environ), set(sys.modules)
    directory = tmp_path_factory.mktemp("cwd")
    monkeypatch.chdir(directory)
    for variable in [name for name in os.environ if name.startswith("LEYDEN_")]:
        monkeypatch.delenv(variable)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    try:
        yield directory
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
        # Two tests may each write a package of one name; the second is to import its own.
        temporary = str(tmp_path_factory.getbasetemp())
        for name in sys.modules.keys() - modules:
            module = sys.modules[name]
            paths = getattr(module, "__path__", [])  # a namespace package has no file; torch's stand-ins have numbers here
            places = [getattr(module, "__file__", None), *(paths if isinstance(paths, Iterable) else [])]
            if any(str(place).startswith(temporary) for place in places):
                del sys.modules[name]


@pytest.fixture
def plain_handlers() -> Iterator[None]:
    """The system's own handlers of signals, whatever the tests run under, and those before them afterwards."""
    own = {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in own.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
