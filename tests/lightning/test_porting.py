"""``leyden port``: what it finds in source files, and what it rewrites."""

from __future__ import annotations

import runpy
import sys
import textwrap

import leyden_lightning
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
    assert lines[1].startswith(f"{path}:2: Trainer(tpu_cores=8): does not run; in 2.6 and leyden: leyden has no XLA part")
    assert lines[-1] == "2 found in 1 files; 1 would be rewritten with --write; 1 do not run"
    assert path.read_text().startswith("from pytorch_lightning")


NOT_THERE = {
    "import pytorch_lightning.metrics as m": ("import of pytorch_lightning.metrics", "Lightning's metrics are"),
    "from pytorch_lightning.metrics.functional import iou": (
        "import of pytorch_lightning.metrics.functional", "Lightning's metrics are"),
    "from lightning.app.storage import Drive": ("import of lightning.app.storage", "Lightning's apps and its cloud"),
    "from pytorch_lightning.logging import TestTubeLogger": (
        "import of pytorch_lightning.logging", "it is pytorch_lightning.loggers"),
    "from pytorch_lightning.callbacks.pt_callbacks import EarlyStopping": (
        "import of pytorch_lightning.callbacks.pt_callbacks", "its callbacks are in pytorch_lightning.callbacks"),
}  # fmt: skip


@pytest.mark.parametrize("line", NOT_THERE)
def test_an_import_of_a_module_that_is_not_there_does_not_run_and_is_left(line):
    findings, changed = examine(line + "\n")
    what, start = NOT_THERE[line]
    assert [(finding.what, finding.runs, finding.rewritten) for finding in findings] == [(what, False, False)]
    assert findings[0].instead.startswith(start)
    assert changed == line + "\n"


@pytest.mark.parametrize("name", ["LightningWork", "Fabric", "TestTubeLogger", "Trainr"])
def test_an_imported_name_that_is_not_there_does_not_run(name):
    findings, _ = examine(f"from lightning.pytorch import Trainer, {name}, callbacks, LegacyWarning, __version__\n")
    assert [finding.what for finding in findings if not finding.runs] == [f"from lightning.pytorch import {name}"]


@pytest.mark.parametrize(
    ("argument", "runs", "instead"),
    [
        ("strategy='horovod'", False, "'horovod' was dropped by Lightning in 2.0; write strategy='ddp'"),
        ("strategy='xla'", False, "leyden has no XLA part; install a distribution that registers the accelerator 'tpu', or "
         "choose accelerator='auto'"),
        ("accelerator='ipu'", False, "Graphcore's IPUs were dropped by Lightning in 2.1 and torch no longer drives them; choose "
         "accelerator='auto'"),
        ("amp_backend='apex'", False, "NVIDIA's apex is not supported; torch's own mixed precision does the same: "
         "precision='16-mixed'"),
        ("accelerator='ddp'", True, "write strategy='ddp'"),
        ("distributed_backend='ddp_cpu'", True, "write strategy='ddp', accelerator='cpu'"),
        ("tpu_cores=None", True, "leave it out"),
    ],
)  # fmt: skip
def test_whether_an_argument_runs_is_told_by_its_value(argument, runs, instead):
    findings, changed = examine(f"t = Trainer({argument}, max_epochs=1)\n")
    name, _, value = argument.partition("=")
    assert [(f.what, f.runs, f.instead) for f in findings] == [(f"Trainer({name}={value})", runs, instead)]
    assert changed == f"t = Trainer({argument}, max_epochs=1)\n"


@pytest.mark.parametrize(
    "argument", ["strategy='ddp'", "accelerator='gpu'", "strategy=chosen", "accelerator=f()", "strategy=S()"]
)
def test_an_argument_of_today_is_no_finding(argument):
    assert examine(f"t = Trainer({argument})\n")[0] == []


def test_arguments_beside_a_command_lines_are_found_and_rewritten():
    findings, changed = examine("t = pl.Trainer.from_argparse_args(args, gpus=2,\n    max_nb_epochs = 3)\n")
    assert [finding.what for finding in findings] == ["Trainer(gpus=...)", "Trainer(max_nb_epochs=...)"]
    assert changed == "t = pl.Trainer.from_argparse_args(args, gpus=2,\n    max_epochs = 3)\n"
    assert examine("d = Data.from_argparse_args(args, gpus=2)\n")[0] == []


def test_hooks_with_parameters_of_old_are_found():
    source = textwrap.dedent(
        """
        class M(LightningModule):
            def training_step(self, batch, batch_idx, optimizer_idx): pass
            def on_train_epoch_end(self, outputs): pass
            def on_train_batch_end(self, outputs, batch, batch_idx, dataloader_idx): pass
            def on_validation_batch_end(self, outputs, batch, batch_idx, dataloader_idx=0): pass
        """
    )
    assert list(found(source)) == [
        (3, "M.training_step(..., optimizer_idx)"),
        (4, "M.on_train_epoch_end(..., outputs)"),
        (5, "M.on_train_batch_end(..., dataloader_idx)"),
    ]
    assert all(finding.runs for finding in examine(source)[0])


OLD_SCRIPT = textwrap.dedent(
    """
    import pytorch_lightning
    import pytorch_lightning.callbacks   # both under one name
    import lightning as L; import torch
    from pytorch_lightning.callbacks import EarlyStopping as Stop, \\
        ModelCheckpoint


    class Model( pytorch_lightning.LightningModule ):
        def __init__(self):
            super(Model, self).__init__()
            self.net = torch.nn.Linear(2, 1)

        def training_step(self, batch, batch_nb):
            loss = self.net(batch).mean()
            return {'loss': loss, 'log': {'train_loss': loss}}

        def validation_step(self, batch, batch_nb):
            return {'val_loss': self.net(batch).mean()}

        def validation_epoch_end(self, outputs):
            return {'log': {'val_loss': torch.stack([x['val_loss'] for x in outputs]).mean()}}

        def configure_optimizers(self):
            return [torch.optim.SGD(self.parameters(), lr=0.1)]


    data = torch.utils.data.DataLoader(torch.ones(8, 2), batch_size=2)
    trainer = L.pytorch.Trainer(max_nb_epochs=2, train_percent_check = 0.5,   # half
                                gpus=0, early_stop_callback=Stop('val_loss'), logger=False, weights_summary=None,
                                show_progress_bar=False,)
    L.seed_everything(0)
    module = Model()
    trainer.fit(module, train_dataloader=data,  val_dataloaders=data)
    kind = pytorch_lightning.callbacks.ModelCheckpoint
    print(trainer.global_step, kind is ModelCheckpoint, round(float(trainer.callback_metrics["val_loss"]), 5))
    """
)


@pytest.mark.filterwarnings("ignore")
def test_a_script_of_0_8_runs_and_what_was_rewritten_does_the_same_without_a_lightning(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "train.py"
    path.write_text(OLD_SCRIPT)
    monkeypatch.setattr("sys.argv", ["leyden"])
    monkeypatch.setattr("sys.path", [*sys.path])
    assert main(["run", "train.py"]) == 0
    leyden_lightning.uninstall()
    before = capsys.readouterr().out
    assert before.startswith("4 True ")
    assert main(["port", "--write", "train.py"]) == 0
    written = OLD_SCRIPT
    for old, new in (
        ("import pytorch_lightning\n", "import leyden_lightning as pytorch_lightning\n"),
        ("import pytorch_lightning.callbacks ", "import leyden_lightning as pytorch_lightning "),
        ("import lightning as L", "import leyden_lightning as L"),
        ("from pytorch_lightning.callbacks", "from leyden_lightning.callbacks"),
        ("max_nb_epochs=", "max_epochs="),
        ("train_percent_check = ", "limit_train_batches = "),
        ("show_progress_bar=", "enable_progress_bar="),
        ("train_dataloader=", "train_dataloaders="),
    ):
        written = written.replace(old, new)
    assert path.read_text() == written
    assert "pytorch_lightning" not in sys.modules
    capsys.readouterr()
    runpy.run_path("train.py", run_name="__main__")
    assert capsys.readouterr().out == before


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


def test_names_of_an_imported_module_that_are_not_there_do_not_run():
    source = """
import lightning as L
import lightning.pytorch as pl

fabric = L.Fabric(devices=1)
pl.cli.LightningCLI(1)
L.pytorch.Trainer(logger=L.pytorch.loggers.CSVLogger("a"), callbacks=[pl.callbacks.EarlyStopping("b")])
pl.utilities.seed.seed_everything(L.Nothing)
print(pl.__version__, pl.Trainer.from_argparse_args, other.Fabric)
"""
    found = {(finding.line, finding.what): finding.instead for finding in examine(source)[0] if not finding.runs}
    assert list(found) == [(5, "L.Fabric"), (6, "pl.cli.LightningCLI"), (8, "L.Nothing")]
    assert found[5, "L.Fabric"].startswith("Fabric is not part of this port yet; write `for batch in trainer.batches(module)")
