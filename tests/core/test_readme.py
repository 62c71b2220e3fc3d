"""The README's code, run."""

from __future__ import annotations

import re
from pathlib import Path

import leyden as ly
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def loader(length: int) -> DataLoader:
    return DataLoader(TensorDataset(torch.randn(length, 8, 8), torch.randint(0, 10, (length,))), batch_size=8)


def test_the_module_of_the_readme_trains_and_its_best_checkpoint_is_validated(blocks, capsys):
    names = {}
    exec(blocks[0].replace("max_epochs=20", "max_epochs=2"), names)
    assert names["trainer"].current_epoch == 2
    assert "val/acc" in capsys.readouterr().out


def test_the_parts_of_the_readme_are_chosen_by_name(blocks):
    names = {"ly": ly}
    exec(blocks[1].replace("ly.Trainer(", "trainer = ly.Trainer(", 1), names)
    assert [type(logger).__name__ for logger in names["trainer"].loggers] == ["TensorBoardLogger", "CSVLogger"]
    assert {"LearningRateMonitor", "EarlyStopping", "EMA"} <= {type(part).__name__ for part in names["trainer"].callbacks}


def test_the_callback_of_the_readme_logs_the_norm_of_the_gradients(blocks):
    names = {"ly": ly, "torch": torch}
    exec(blocks[0].replace("max_epochs=20", "max_epochs=1"), names)
    exec(blocks[2], names)
    trainer = ly.Trainer(callbacks=[names["GradientNorm"]()], max_epochs=1, log_every_n_steps=1, logger=False)
    history = trainer.fit(names["Digits"](), loader(16))
    assert len(history["grad_norm"]) == 2


def test_every_name_in_the_table_of_the_readme_can_be_chosen():
    rows = re.findall(r"^\| (\w+) \| (`.*`) \|$", README.read_text(), flags=re.MULTILINE)
    bases = {"accelerator": ly.Accelerator, "strategy": ly.Strategy, "precision": ly.Precision, "logger": ly.Logger,
             "callback": ly.Callback, "profiler": ly.Profiler}  # fmt: skip
    assert [kind for kind, _ in rows] == list(bases)
    for kind, names in rows:
        wanted = set(re.findall(r"`([^`]+)`", names)) - {"auto"}
        assert wanted <= set(ly.plugins.names(bases[kind]))
