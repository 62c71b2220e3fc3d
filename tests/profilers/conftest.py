"""Quiet runs under a profiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from leyden import Trainer


@pytest.fixture
def quiet(tmp_path: Path) -> Any:
    """Makes a Trainer that writes and prints nothing but what its profiler does: ``quiet("simple", max_epochs=2)``."""

    def make(profiler: Any, **options: Any) -> Trainer:
        silent = {
            "accelerator": "cpu", "max_epochs": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
            "enable_model_summary": False, "default_root_dir": tmp_path, "log_every_n_steps": 2,
        }  # fmt: skip
        return Trainer(profiler=profiler, **{**silent, **options})

    return make
