"""``leyden port``: what it finds in source files, and what it rewrites."""

from __future__ import annotations

import textwrap

import pytest
from leyden_cli.main import main

pytest.importorskip("libcst")

from leyden_lightning.porting.findings import examine

SOURCE = textwrap.dedent(
    """
    import os
    import pytorch_lightning as pl   # the old one
    import lightning as L
    from pytorch_lightning.callbacks import (
        ModelCheckpoint,
    )
    from lightning.fabric.utilities.seed import isolate_rng


    class M(pl.LightningModule):
        def training_epoch_end(self, outs): pass

        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_idx, closure):
            self.manual_backward(1, optimizer)

        def transfer_batch_to_device(self, batch, device): return batch


    t = pl.Trainer(gpus=2, max_nb_epochs = 3, checkpoint_callback=False)
    t.fit(M(), train_dataloader=None)
    """
)


def found(source):
    return {(finding.line, finding.what): finding for finding in examine(source)[0]}


def test_every_construct_is_found_with_its_line():
    assert {(line, what) for line, what in found(SOURCE)} == {
        (3, "import pytorch_lightning"),
        (4, "import lightning"),
        (5, "from pytorch_lightning.callbacks import ..."),
        (8, "from lightning.fabric.utilities.seed import ..."),
        (12, "M.training_epoch_end"),
        (14, "M.optimizer_step(..., optimizer_idx)"),
        (15, "manual_backward(loss, optimizer)"),
        (17, "M.transfer_batch_to_device(batch, device)"),
        (20, "Trainer(gpus=...)"),
        (20, "Trainer(max_nb_epochs=...)"),
        (20, "Trainer(checkpoint_callback=...)"),
        (21, "fit(train_dataloader=...)"),
    }


def test_imports_and_renamed_arguments_are_rewritten_and_nothing_else():
    changed = examine(SOURCE)[1]
    assert changed == (
        SOURCE.replace("import pytorch_lightning as pl ", "import leyden_lightning as pl ")
        .replace("import lightning as L", "import leyden_lightning as L")
        .replace("from pytorch_lightning.callbacks", "from leyden_lightning.callbacks")
        .replace("from lightning.fabric", "from leyden_lightning.fabric")
        .replace("max_nb_epochs = 3", "max_epochs = 3")
        .replace("train_dataloader=None", "train_dataloaders=None")
    )
    assert examine(changed)[1] == changed


def test_a_plain_import_keeps_its_name():
    changed = examine("import pytorch_lightning\n\nx = pytorch_lightning.Trainer\n")[1]
    assert changed == "import leyden_lightning as pytorch_lightning\n\nx = pytorch_lightning.Trainer\n"


def test_what_cannot_run_is_said_and_fails_a_build(tmp_path, capsys):
    path = tmp_path / "train.py"
    path.write_text("from pytorch_lightning import Trainer\nt = Trainer(tpu_cores=8)\n")
    assert main(["port", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f"{path}:2: Trainer(tpu_cores=...): does not run; in 2.6 and leyden: leyden has no XLA part")
    assert lines[-1] == "2 found in 1 files; 1 would be rewritten with --write; 1 do not run"
    assert path.read_text().startswith("from pytorch_lightning")


def test_write_changes_the_file(tmp_path, capsys):
    path = tmp_path / "train.py"
    path.write_text(SOURCE)
    assert main(["port", "--write", str(path)]) == 0
    assert path.read_text() == examine(SOURCE)[1]
    assert capsys.readouterr().out.endswith("12 found in 1 files; 6 were rewritten; 0 do not run\n")


def test_a_file_that_is_no_python_and_one_that_is_not_there(tmp_path, capsys):
    path = tmp_path / "broken.py"
    path.write_text("def f(:\n")
    assert main(["port", str(path)]) == 1
    assert "cannot be read" in capsys.readouterr().out
    assert main(["port", str(tmp_path / "nowhere.py")]) == 2


def test_a_script_of_today_is_left_alone():
    source = "import torch\nimport leyden as ly\n\ntrainer = ly.Trainer(max_epochs=3)\n"
    assert examine(source) == ([], source)
