"""What every test starts from: an empty directory, the same random numbers, the same environment and no log of its own."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Runs the test in a directory of its own, where default logs land, and undoes what it did to the environment."""
    before = dict(os.environ)
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
