"""Short, quiet runs for the tests of callbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from leyden import Trainer
from leyden.testing import TinyModule


class Scripted(TinyModule):
    """Logs the given values as ``score``, one at the end of each validation."""

    def __init__(self, scores: Sequence[float]) -> None:
        super().__init__()
        self.scores = list(scores)
        self.validations = 0

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.log("score", self.scores[self.validations])
            self.validations += 1


@pytest.fixture
def scripted() -> type[Scripted]:
    """A module that logs given values: ``scripted([0.3, 0.2])``."""
    return Scripted


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., Trainer]:
    """Trains two epochs of four steps with nothing but the given callbacks; returns the Trainer."""

    def run(*callbacks: Any, module: Any = None, ckpt_path: str | None = None, **settings: Any) -> Trainer:
        settings = {
            "default_root_dir": tmp_path,
            "accelerator": "cpu",
            "logger": False,
            "max_epochs": 2,
            "enable_progress_bar": None if any(getattr(c, "role", "") == "progress_bar" for c in callbacks) else False,
            "enable_model_summary": None if any(getattr(c, "role", "") == "model_summary" for c in callbacks) else False,
            "enable_checkpointing": None if any(getattr(c, "role", "") == "checkpointing" for c in callbacks) else False,
            **settings,
        }
        trainer = Trainer(callbacks=list(callbacks), **settings)
        trainer.fit(module if module is not None else TinyModule(), ckpt_path=ckpt_path)
        return trainer

    return run


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[], list[str]]:
    """The names of all checkpoints below ``tmp_path``, sorted, relative to a folder."""

    def names(folder: Path = tmp_path / "checkpoints") -> list[str]:
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.ckpt"))

    return names


@pytest.fixture
def refusal() -> Callable[..., str]:
    """The message with which a call is refused: ``refusal(ValueError, function, *args, **options)``."""

    def message(kind: type[BaseException], call: Callable[..., Any], *args: Any, **options: Any) -> str:
        with pytest.raises(kind) as error:
            call(*args, **options)
        return str(error.value)

    return message
