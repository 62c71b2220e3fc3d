"""The examples of docs/loggers.md, run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "loggers.md"
BLOCKS = {
    re.search(r"^## (.*)$", section, flags=re.MULTILINE)[1] if section.startswith("## ") else "": block
    for section in re.split(r"^(?=## )", PAGE.read_text(), flags=re.MULTILINE)
    for block in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
}


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's store and SQLAlchemy 2.1
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # connections of the clients
@pytest.mark.parametrize("title", [title for title in BLOCKS if title], ids=str)
def test_an_example_runs(title, monkeypatch, isolated, request):
    for variable, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false", "COMET_LOGGING_CONSOLE": "CRITICAL"
    }.items():  # fmt: skip
        monkeypatch.setenv(variable, value)
    if title == "MLflow":  # whose tables take seconds to make
        shutil.copy(request.getfixturevalue("store"), isolated / "mlflow.db")
    names = {}
    exec(BLOCKS[""], names)
    exec(BLOCKS[title], names)
    if title == "JSON lines":
        assert list(names["losses"]) == [3, 7]
    if title == "MLflow":
        assert names["run"].data.params == {"lr": "0.1"}
    if title == "Comet":
        assert Path(f"{names['logger'].version}.zip").exists()
    if title == "Weights & Biases":
        assert list(Path("wandb").glob(f"offline-run-*-{names['logger'].version}"))


def test_every_logger_has_an_example_of_at_most_30_lines():
    assert set(BLOCKS) >= {"", "CSV", "JSON lines", "The terminal", "TensorBoard", "Weights & Biases", "MLflow", "Comet"}
    assert max(block.count("\n") for block in BLOCKS.values()) <= 30
