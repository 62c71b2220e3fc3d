"""Scripts that import Lightning by its own names run without an edit, also in the processes and packages that they use."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import leyden
import leyden_lightning as pl
import pytest
from leyden_cli.main import main

from tests.distributed.nodes import reserved_port, run_together

SCRIPT = """
import sys
import torch
import lightning as L
import pytorch_lightning as pl
import lightning.pytorch as lp
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.callbacks.early_stopping import EarlyStopping
import helper_package

assert L.LightningModule is pl.LightningModule is lp.LightningModule is helper_package.Base
assert pl.callbacks.ModelCheckpoint is ModelCheckpoint is L.pytorch.callbacks.ModelCheckpoint


class Model(helper_package.Base):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.net(batch).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


if __name__ == "__main__":
    trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                         enable_model_summary=False, accelerator="cpu", devices=int(sys.argv[1]), strategy=sys.argv[2])
    trainer.fit(Model(), torch.utils.data.DataLoader(torch.ones(8, 2), batch_size=2))
    if trainer.is_global_zero:
        print("trained", trainer.global_step, type(trainer).__module__, pl.__version__)
"""
PACKAGE = "from pytorch_lightning import LightningModule as Base\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "helper_package").mkdir()
    (tmp_path / "helper_package/__init__.py").write_text(PACKAGE)
    path = tmp_path / "train.py"
    path.write_text(textwrap.dedent(SCRIPT))
    return path


def run(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def restored() -> Iterator[None]:
    argv, path = list(sys.argv), list(sys.path)
    yield
    sys.argv, sys.path[:] = argv, path
    pl.uninstall()
    sys.modules.pop("helper_package", None)


@pytest.mark.usefixtures("restored")
def test_leyden_run_runs_a_script_without_an_edit(script, capsys):
    assert main(["run", str(script), "1", "auto"]) == 0
    assert capsys.readouterr().out == "trained 4 leyden_lightning.api.trainer 2.6.6\n"


@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_ranks_that_a_script_starts_see_the_port_too(script, strategy):
    assert run("leyden_lightning", str(script), "2", strategy) == "trained 2 leyden_lightning.api.trainer 2.6.6\n"


NODES = """
import sys
import torch
import pytorch_lightning as pl


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(1, 1)
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen += batch.flatten().tolist()
        return self.net(batch).mean()

    def on_train_end(self):
        seen = self.all_gather(torch.tensor(self.seen)).flatten().tolist()
        ranks = self.trainer.node_rank, self.trainer.local_rank, self.global_rank, self.trainer.world_size
        line = " ".join(map(str, [*ranks, sorted(seen)])) + "\\n"
        print(line, end="", flush=True)  # in one write, for the others print to the same pipe

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


if __name__ == "__main__":
    trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                         weights_summary=None, num_processes=2, num_nodes=2)
    trainer.fit(Model(), torch.utils.data.DataLoader(torch.arange(8.0).reshape(8, 1), 2, True))
"""


def test_a_script_of_several_nodes_and_processes_trains_on_all_of_them(tmp_path):
    """``num_processes=2, num_nodes=2``, and a loader whose batch size and shuffling are given by position."""
    (tmp_path / "train.py").write_text(NODES)
    command = [sys.executable, "-m", "leyden_lightning", "train.py"]
    with reserved_port() as port:
        environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        nodes = run_together([["env", f"NODE_RANK={node}", *command] for node in range(2)], cwd=tmp_path, env=environment)
    assert [node.code for node in nodes] == [0, 0], nodes
    rows = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert sorted(line for node in nodes for line in node.out.splitlines()) == [
        f"{rank // 2} {rank % 2} {rank} 4 {rows}" for rank in range(4)
    ]


@pytest.mark.usefixtures("restored")
def test_a_module_can_be_run_as_well(script, capsys, monkeypatch):
    monkeypatch.chdir(script.parent)
    assert main(["run", "-m", "train", "1", "auto"]) == 0
    assert capsys.readouterr().out == "trained 4 leyden_lightning.api.trainer 2.6.6\n"


NOT_RUN = {
    "no script": ([], "expected a script, or -m and a module: leyden run train.py --epochs 3"),
    "no module": (["-m"], "expected a script, or -m and a module: leyden run train.py --epochs 3"),
    "a script that is not there": (["nowhere.py", "--x"], "there is no script 'nowhere.py' in '{here}'"),
    "a folder": (["folder"], "'folder' is a folder without a __main__.py; name the script in it"),
    "a module that is not there": (
        ["-m", "nopkg"],
        "there is no module 'nopkg', neither in '{here}' nor among what is installed",
    ),
    "a module in no package": (
        ["-m", "json.tool.nope"],
        "there is no module 'json.tool.nope', neither in '{here}' nor among what is installed",
    ),
    "a file as a module": (["-m", "train.py"], "-m takes the name of a module, not a file; write leyden run train.py"),
    "a relative name": (["-m", ".train"], "-m takes the whole name of a module, not the relative one '.train'"),
    "a package": (["-m", "folder"], "'folder' is a package without a __main__; name the module in it: -m folder.train"),
}


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("case", NOT_RUN)
def test_what_cannot_be_run_is_said_in_one_line(tmp_path, capsys, monkeypatch, case):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    words, message = NOT_RUN[case]
    assert main(["run", *words]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"leyden run: {message.format(here=tmp_path)}\n")
    sys.modules.pop("folder", None)


def test_python_m_says_it_too():
    done = subprocess.run(
        [sys.executable, "-m", "leyden_lightning", "-m", "train.py"], capture_output=True, text=True, timeout=250
    )
    message = "python -m leyden_lightning: -m takes the name of a module, not a file; write leyden run train.py\n"
    assert (done.returncode, done.stderr) == (2, message)


@pytest.mark.usefixtures("restored")
def test_what_a_module_lacks_itself_is_an_error_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "lacking_package").mkdir()
    (tmp_path / "lacking_package/__init__.py").write_text("import no_such_dependency\n")
    (tmp_path / "lacking_package/train.py").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_dependency'"):
        main(["run", "-m", "lacking_package.train"])


@pytest.fixture
def installed() -> Iterator[None]:
    pl.install()
    yield
    pl.uninstall()


@pytest.mark.usefixtures("installed")
def test_install_has_lightnings_names_mean_the_port():
    assert importlib.import_module("pytorch_lightning") is pl
    assert importlib.import_module("lightning.pytorch") is pl
    lightning = importlib.import_module("lightning")
    assert lightning.Trainer is pl.Trainer
    assert lightning.pytorch is pl
    assert importlib.import_module("pytorch_lightning.utilities.seed") is importlib.import_module(
        "leyden_lightning.utilities.seed"
    )
    assert importlib.import_module("lightning.fabric.utilities.seed").seed_everything is pl.seed_everything


@pytest.mark.usefixtures("installed")
def test_the_ports_own_modules_keep_their_names_and_specs():
    importlib.import_module("pytorch_lightning.callbacks")
    module = sys.modules["leyden_lightning.callbacks"]
    assert module.__name__ == module.__spec__.name == "leyden_lightning.callbacks"
    assert pl.__spec__.name == "leyden_lightning"


@pytest.mark.usefixtures("installed")
def test_libraries_that_ask_for_the_version_are_answered():
    assert metadata.version("pytorch-lightning") == metadata.version("lightning") == "2.6.6"


_APPS = (
    "Lightning's apps and its cloud are not part of leyden; start the script itself, as `leyden run train.py` or as a job of "
    "your cluster"
)
_DATA = "Lightning's data library is one of its own since 2.3: pip install litdata, and write `import litdata`"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("import lightning.app", f"there is no 'app' in 'lightning': {_APPS}"),
        ("from lightning.app.storage import Drive", f"there is no 'app' in 'lightning': {_APPS}"),
        ("from lightning import LightningApp", f"there is no 'LightningApp' in 'lightning': {_APPS}"),
        ("from lightning.store import upload_model", f"there is no 'store' in 'lightning': {_APPS}"),
        ("from lightning.data import StreamingDataset", f"there is no 'data' in 'lightning': {_DATA}"),
        ("from lightning import Trainr", "there is no 'Trainr' in 'lightning'; did you mean 'Trainer'?"),
        (
            "from pytorch_lightning.callbacks import EarlyStoping",
            "there is no 'EarlyStoping' in 'leyden_lightning.callbacks'; did you mean 'EarlyStopping'?",
        ),
        (
            "from pytorch_lightning.metrics.functional import accuracy",
            "there is no 'metrics' in 'leyden_lightning': Lightning's metrics are a library of their own since 1.5; write "
            "`import torchmetrics`",
        ),
    ],
)
def test_an_import_of_what_is_not_ported_says_what_became_of_it(line, message):
    with pytest.raises(ModuleNotFoundError) as caught:
        exec(line, {})
    assert str(caught.value) == message


@pytest.mark.usefixtures("installed")
def test_an_attribute_of_lightning_that_is_not_ported_says_what_became_of_it():
    lightning = importlib.import_module("lightning")
    with pytest.raises(AttributeError) as caught:
        _ = lightning.LightningWork
    assert str(caught.value) == f"module 'leyden_lightning' has no attribute 'LightningWork': {_APPS}"


def test_install_is_undone():
    path = os.environ.get("PYTHONPATH")
    pl.install()
    importlib.import_module("pytorch_lightning")
    pl.uninstall()
    assert "pytorch_lightning" not in sys.modules
    assert os.environ.get("PYTHONPATH") == path


def test_a_lightning_that_was_imported_before_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_lightning", type(sys)("pytorch_lightning"))
    with pytest.raises(RuntimeError) as caught:
        pl.install()
    assert str(caught.value) == ("pytorch_lightning was imported already, from None; call leyden_lightning.install() before that")


def test_torchmetrics_objects_are_logged_under_the_port():
    torchmetrics = pytest.importorskip("torchmetrics")

    class Module(pl.demos.boring_classes.BoringModel):
        def __init__(self):
            super().__init__()
            self.metric = torchmetrics.MeanMetric()

        def training_step(self, batch, batch_idx):
            loss = self.step(batch)
            self.metric(loss)
            self.log("mean", self.metric, on_epoch=True, on_step=False)
            return loss

    trainer = pl.Trainer(max_epochs=1, limit_train_batches=2, limit_val_batches=0, logger=False, enable_checkpointing=False,
                         enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(Module())
    assert trainer.callback_metrics["mean"] > 0
    assert isinstance(trainer, leyden.Trainer)


STARTER = """
import multiprocessing
import pickle
import sys
import helper_package
from pytorch_lightning import LightningModule


class Own:
    pass


def ask(answers):
    import leyden
    import lightning.pytorch

    answers.put((lightning.pytorch.LightningModule is helper_package.Base is leyden.Module, sys.argv[1:]))


if __name__ == "__main__":
    assert type(pickle.loads(pickle.dumps(Own()))) is Own
    for method in ("spawn", "fork", "forkserver"):
        context = multiprocessing.get_context(method)
        answers = context.Queue()
        process = context.Process(target=ask, args=(answers,))
        process.start()
        print(method, answers.get(timeout=250))
        process.join()
    if "--exit" in sys.argv:
        sys.exit(7)
    raise KeyError("of the script")
"""


@pytest.fixture
def starter(script: Path) -> Path:
    path = script.with_name("starter.py")
    path.write_text(textwrap.dedent(STARTER))
    return path


def test_processes_that_a_script_starts_see_the_port_and_its_arguments(starter):
    words = [sys.executable, "-m", "leyden_lightning", str(starter), "-m", "x", "--exit"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=250)
    expected = [f"{method} (True, ['-m', 'x', '--exit'])" for method in ("spawn", "fork", "forkserver")]
    assert done.stdout.splitlines() == expected, done.stderr
    assert done.returncode == 7


@pytest.mark.usefixtures("restored")
def test_a_scripts_traceback_names_its_lines(script, capsys):
    failing = script.with_name("failing.py")
    failing.write_text("import lightning\n\n\ndef inner():\n    raise KeyError('of the script')\n\n\ninner()\n")
    with pytest.raises(KeyError, match="of the script") as caught:
        main(["run", str(failing)])
    assert [(Path(entry.path).name, entry.lineno + 1) for entry in caught.traceback[-2:]] == [
        ("failing.py", 8),
        ("failing.py", 5),
    ]
