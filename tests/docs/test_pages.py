"""The code of the README and of the pages of docs/ runs, their links lead somewhere, and what they name is there."""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
from pathlib import Path

import leyden as ly
import pytest
import torch
from leyden.binding import hook_names
from leyden.checkpoint import allowed
from leyden.messages import _voice
from leyden.plugins import available
from leyden.testing import TinyModule
from leyden_cli.main import main

ROOT = Path(__file__).parents[2]
# Where the examples of a page are run, if that is not here.
ELSEWHERE = {
    "README.md": "core/test_readme.py", "batteries.md": "callbacks/test_docs.py", "callbacks.md": "callbacks/test_docs.py",
    "from_other_libraries.md": "callbacks/test_from_other_libraries.py", "lightning.md": "lightning/test_surface.py",
    "loggers.md": "loggers/test_docs.py", "plugins.md": "contracts/test_docs.py",
}  # fmt: skip
HERE = {"checkpoint-format.md", "distributed.md", "first-steps.md", "messages.md", "profilers.md", "resume.md", "trainer.md"}


def test_links_lead_somewhere(page, pages):
    for link in page.links:
        if not link.startswith("http"):
            name, _, anchor = link.partition("#")
            target = (page.path.parent / name).resolve() if name else page.path
            assert target.exists(), link
            assert not anchor or anchor in next(other for other in pages.values() if other.path == target).anchors, link


def test_every_page_is_found_from_the_readme(pages):
    paths = {page.path: page for page in pages.values()}
    found, new = set(), {ROOT / "README.md"}
    while new:
        page = paths[new.pop()]
        found.add(page.path)
        new |= {(page.path.parent / link.partition("#")[0]).resolve() for link in page.links} & (paths.keys() - found)
    assert found == paths.keys()


# ---- examples ----


def test_the_examples_of_every_page_are_run(pages):
    assert {name for name, page in pages.items() if page.blocks} == HERE | set(ELSEWHERE)
    assert all((ROOT / "tests" / test).exists() for test in ELSEWHERE.values())


@pytest.fixture
def run(pages, capfd):
    """Runs the examples of a page one after the other; returns what they define and what they print."""

    def run(name):
        names = {}
        for block in pages[name].blocks:
            exec(compile(block, name, "exec"), names)
        return names, capfd.readouterr().out

    return run


def test_first_steps(run, pages):
    names, said = run("first-steps.md")
    listed = re.search(r"```text\nleyden_logs/version_0/\n(.*?)```", pages["first-steps.md"].text, flags=re.DOTALL)[1].split()
    went_on = [name.replace("epoch=4-step=60", "epoch=6-step=84") for name in listed]
    folder = Path("leyden_logs/version_0")
    assert {path for path in Path().rglob("*") if path.is_file()} == {folder / name for name in went_on}
    assert len(eval(said.splitlines()[0])) == 5
    assert len(names["classes"]) > 30
    assert names["trainer"].current_epoch == 7


def test_the_page_of_the_trainer(run):
    _, said = run("trainer.md")
    assert "[3, 7] [0, 1]" in said
    assert "\n[8]\n" in said


def test_the_page_of_profilers(run):
    _, said = run("profilers.md")
    assert re.search(r"^augment +4 ", said, flags=re.MULTILINE)


def test_the_page_of_resuming(run):
    names, said = run("resume.md")
    assert names["report"]
    assert "of 60 steps without interruption" in said


def test_the_page_of_several_processes(run):
    names, _ = run("distributed.md")
    assert names["trainer"].strategy.name == "dp"


def test_the_page_of_messages(run, monkeypatch):
    monkeypatch.setattr(_voice, "silenced", set())
    run("messages.md")
    assert _voice.silenced == {"LY003", "LY006"}


OPTIONS = """
import dataclasses, enum

class Color(enum.Enum):
    RED = "red"

@dataclasses.dataclass
class Options:
    size: int
"""


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """What docs/checkpoint-format.md takes for granted: the classes it speaks of, and files with them."""
    safetensors = pytest.importorskip("safetensors.torch")
    package = tmp_path / "project"
    package.mkdir()
    for name, text in {"__init__": "", "options": OPTIONS, "losses": "def focal(x, y):\n    return x\n"}.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(allowed, "_registered", {})
    options, losses = importlib.import_module("project.options"), importlib.import_module("project.losses")

    class Net(TinyModule):
        def __init__(self, root, color, loss):
            super().__init__()
            self.save_hyperparameters()
            self.encoder, self.head = torch.nn.Linear(8, 2), torch.nn.Linear(2, 2)

    net = Net(Path("data"), options.Color.RED, losses.focal)
    net.hparams.pop("lr", None)
    trainer = ly.Trainer(max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(net)
    trainer.save_checkpoint("run.ckpt")
    shutil.copy("run.ckpt", "remote.ckpt")
    safetensors.save_file(net.state_dict(), "weights.safetensors")
    return {"Net": Net, "Options": options.Options, "focal": losses.focal, "model": net, "optimizer": trainer.optimizers[0]}


def test_the_page_of_the_format_of_checkpoints(checkpoint, pages):
    reading, stored, building, loading = pages["checkpoint-format.md"].blocks
    exec(reading, checkpoint)
    data, recipes = re.search(r'"\]  # (\{.*?\})\n.*?\n# (\[.*\])', stored, flags=re.DOTALL).groups()
    found = checkpoint["checkpoint"]
    assert eval(data) == found["hyper_parameters"]
    assert eval(recipes.replace("\n#", "\n")) == found["leyden"]["rebuild"]["hyper_parameters"]
    exec(building, checkpoint)
    exec(loading.replace("https://host/run.ckpt", Path("remote.ckpt").absolute().as_uri()), checkpoint)


# ---- what is named ----


def test_arguments_and_defaults_are_those_of_the_code(pages):
    table = {row[0].strip("`"): row[1].strip("`") for row in pages["trainer.md"].rows if len(row) == 3}
    for function in (ly.Trainer.__init__, ly.Module.log):
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.default is not parameter.empty and name not in ("sync_dist", "sync_dist_group", "metric_attribute"):
                assert table.get(name) == repr(parameter.default).replace("'", '"'), name


def test_methods_and_their_arguments_are_those_of_the_code(pages):
    named = re.findall(r"`(\w+)\(([^`()]*)\)`", "\n".join(" ".join(row) for row in pages["trainer.md"].rows))
    assert len(named) > 25
    for method, arguments in named:
        given = {argument.partition("=")[0].strip() for argument in arguments.split(",")} - {""}
        owners = [owner for owner in (ly.Trainer, ly.Module) if hasattr(owner, method)]
        taken = [set(inspect.signature(getattr(owner, method)).parameters) for owner in owners]
        assert any(given <= names or "args" in names for names in taken) or method == "self", (method, arguments)


def test_commands_and_their_options_exist(page, capsys):
    commands = {plugin.name for plugin in available("leyden.commands")}
    lines = re.findall(r"`(leyden [a-z][^`]*)`", page.prose)
    lines += [line for fence in page.fenced for line in fence.splitlines() if re.match(r"leyden [a-z-]+($| [^=])", line)]
    for line in lines:
        command, *words = line.partition("#")[0].split()[1:]
        assert command in commands, line
        below = words[:1] if command == "ckpt" else []
        with pytest.raises(SystemExit) as caught:
            main([command, *below, "--help"])
        assert caught.value.code == 0, line
        usage = capsys.readouterr().out
        if command != "run":  # whose further words are the script's
            assert all(word in usage for word in words if word.startswith("--")), line


def test_messages_exist(page):
    modules = [
        importlib.import_module(f"{name}.message_ids")
        for name in ("leyden", "leyden_callbacks", "leyden_loggers", "leyden_strategies")
    ]
    known = {key for module in modules for table in vars(module).values() if isinstance(table, dict) for key in table}
    assert set(re.findall(r"\bLY[A-Z]?\d{2,3}\b", page.text)) <= known


SOURCES = ["core", "accelerators", "strategies", "loggers", "plugins", "tests", "tools", "examples", "benchmarks"]


def test_files_exist(page):
    for name in re.findall(r"`((?:[\w-]+/)*\w+\.py)`", page.prose):
        if "/" in name or page.name == "docs/architecture.md":
            found = any(next((ROOT / folder).rglob(name), None) for folder in SOURCES)
            assert found or (ROOT / name).exists() or name.startswith("src/acme_leyden/"), name


def test_hooks_exist(page):
    if page.name in ("docs/lightning.md", "docs/from_other_libraries.md"):
        return  # they name hooks of other libraries too; what they say of ours is tested where their code is
    known = set(hook_names()) | set(dir(ly.Module)) | set(dir(ly.Callback)) | set(dir(ly.CheckpointIO))
    options = {"on_step", "on_epoch", "on_save_error", "on_exception_checkpoint", *inspect.signature(ly.Trainer).parameters}
    mistakes = {"on_training_epoch_end", "on_init_end"}
    assert set(re.findall(r"\bon_[a-z_]+[a-z]\b", page.text)) <= known | options | mistakes
