"""Several processes in a test: forked, with gloo, in a fraction of a second."""

from __future__ import annotations

from typing import Any

import leyden as ly
import pytest

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


@pytest.fixture
def ranked(tmp_path):
    """Makes the Trainer of a rank."""

    def make(environment: Any, **options: Any) -> ly.Trainer:
        given = {**QUIET, "strategy": "ddp", "default_root_dir": tmp_path, "environment": environment, "max_epochs": 1, **options}
        return ly.Trainer(devices=environment.world_size, **given)

    return make


@pytest.fixture(scope="session", autouse=True)
def warm():
    """Imports what a run needs once, so that forks have it, and none is timed while it imports what building DDP does."""
    import torch._dynamo  # noqa: F401  # for who is forked from here

    ly.Trainer(**QUIET, strategy="ddp", devices=2)
