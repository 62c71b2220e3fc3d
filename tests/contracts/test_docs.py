"""The package that docs/plugins.md builds works as it says."""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path

import pytest
from leyden import Trainer
from leyden.testing import TinyModule

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"


def other_examples():
    """The examples that are no files of the package."""
    return [text for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL) if not text.startswith("# ")]


@pytest.fixture
def acme(tmp_path, monkeypatch):
    """The package of the page, installed; returns its tests."""
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    blocks = re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    sources = dict(blocks)
    package = tmp_path / "acme_leyden"
    package.mkdir()
    for name, text in sources.items():
        if name.startswith("src/"):
            (tmp_path / name.removeprefix("src/")).write_text(text)
    project = tomllib.loads(sources["pyproject.toml"])["project"]
    installed = tmp_path / "acme_leyden-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in project["entry-points"].items()
    ]
    (installed / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    return sources["tests/test_contracts.py"]


def test_the_example_package_trains_by_name(acme, tmp_path, capsys):
    trainer = Trainer(
        logger={"records": {"directory": str(tmp_path / "out")}}, strategy="counted", accelerator="cpu", max_epochs=1,
        log_every_n_steps=1, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(TinyModule())
    assert trainer.strategy.batches == 4
    records = [json.loads(line) for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "train_loss" in record] == [0, 1, 2, 3]
    assert "acme: training TinyModule on cpu" in capsys.readouterr().out


def test_the_other_examples_of_the_page_run(acme):
    assert len(other_examples()) == 2
    for example in other_examples():
        exec(example, {})


def test_every_part_of_the_example_package_is_chosen_by_its_name(acme, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ACME_CHIPS", "1")
    monkeypatch.setenv("ACME_RANK", "0")
    trainer = Trainer(
        precision="acme-bf16", callbacks=[{"samples_seen": {"key": "seen"}}], profiler="calls", checkpoint_io="counting",
        logger="records", max_epochs=1, default_root_dir=tmp_path, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    history = trainer.fit(TinyModule())
    assert history["seen"] == [16.0]
    assert (trainer.accelerator.name, trainer.environment.name, trainer.precision.name) == ("acme", "acme", "acme-bf16")
    assert trainer.checkpoint_io.saved == [trainer.checkpoint_callback.best_model_path]
    assert trainer.profiler.calls["[Module]TinyModule.training_step"] == 4
    assert "[Callback]SamplesSeen.on_train_batch_end" in capsys.readouterr().out


def test_the_example_package_keeps_the_contracts(acme, tmp_path, monkeypatch):
    monkeypatch.setenv("ACME_CHIPS", "1")
    names = {}
    exec(acme, names)
    classes = [value for name, value in names.items() if name.startswith("Test")]
    assert [kind.__name__ for kind in classes] == [
        "TestAccelerator", "TestCounted", "TestPrecision", "TestSamplesSeen", "TestCallCounter", "TestEnvironment",
        "TestCountingIO", "TestJSONLines",
    ]  # fmt: skip
    for kind in classes:
        for name in (name for name in dir(kind) if name.startswith("test_")):
            test, directory = getattr(kind(), name), tmp_path / kind.__name__ / name
            directory.mkdir(parents=True)
            test(**{"tmp_path": directory} if "tmp_path" in inspect.signature(test).parameters else {})
