"""The page for users of other libraries: all that it names here is there and runs."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import leyden
import leyden_callbacks
import pytest
from leyden import Callback, Module, Precision
from leyden.binding import hook_names
from leyden.plugins import available

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/from_other_libraries.md").read_text()
SHARED = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[0]
CALLBACKS = [plugin.name for plugin in available(Callback.group)]
COMMANDS = [plugin.name for plugin in available("leyden.commands")]
PRECISIONS = [plugin.name for plugin in available(Precision.group)]


def rows():
    """The pieces of code of each row; what an earlier row has is not run again."""
    seen = set()
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        library = section.split("\n")[0]
        for there, here in re.findall(r"^\| (.*) \| (.*) \|$", section, flags=re.MULTILINE)[1:]:
            pieces = [code for code in re.findall(r"`([^`]+)`", here) if code not in seen]
            seen.update(pieces)
            if pieces:
                yield pytest.param(pieces, id=f"{library}: {there}".replace("`", ""))


@functools.cache
def source():
    return "\n".join(path.read_text() for path in sorted(ROOT.glob("core/src/**/*.py")))


class Quiet(leyden.Trainer):
    """A Trainer on the CPU that ends soon."""

    def __init__(self, **options):
        parts = str(options.get("callbacks", ""))
        short = {"accelerator": "cpu", "max_epochs": 1, "logger": "csv", "enable_model_summary": False}
        if "progress" not in parts:
            short["enable_progress_bar"] = False
        super().__init__(**{**short, **options})


@pytest.fixture
def names(tmp_path, monkeypatch, capfd, pieces):
    """What the page's first lines define, in a folder of its own; without their run where nobody asks for it."""
    monkeypatch.chdir(tmp_path)
    found = {"MyCallback": type("MyCallback", (), {"on_train_batch_end": lambda self: None})}
    monkeypatch.setattr(leyden, "Trainer", Quiet)
    asks = any(re.search(r"\b(trainer|history)\.", code) or "history[" in code for code in pieces)
    exec(SHARED if asks else SHARED.partition("trainer = ")[0], found)
    return found


def run(code, names):
    """Does what a piece of the page says."""
    if code.startswith("torchvision."):
        return
    if code.startswith("leyden "):
        assert code.split()[1] in COMMANDS
        return
    statements = ast.parse(code).body
    if len(statements) > 1 or not isinstance(statements[0], ast.Expr):
        exec(code, names)
        return
    expression = statements[0].value
    if isinstance(expression, ast.Name):
        owners = (Module, leyden.Trainer, Callback, leyden_callbacks)
        assert code in hook_names() or any(hasattr(owner, code) for owner in owners)
        return
    value = eval(code, names)
    if isinstance(value, leyden.Trainer):
        if value.choices["devices"] == "auto" and "webhook" not in code:  # several processes and servers have tests of their own
            value.fit(names["module"], names["loader"], names["loader"])
    elif isinstance(expression, ast.Constant) and value not in CALLBACKS:
        assert code in source() or value in PRECISIONS
    elif isinstance(expression, ast.Constant | ast.Dict) or isinstance(value, names["MyCallback"] | Callback):
        fit_with(value, names)


def fit_with(callback, names):
    beside = {"restore_best": [{"checkpoint": {"monitor": "val_loss"}}]}.get(callback, []) if isinstance(callback, str) else []
    module = names["TinyModule"]()
    module.batch_size = 4
    module.train_dataloader = lambda: names["DataLoader"](names["loader"].dataset, batch_size=module.batch_size)
    names["Trainer"](callbacks=[callback, *beside], logger="csv").fit(module)


@pytest.mark.parametrize("pieces", list(rows()))
def test_what_the_page_names_is_there(pieces, names):
    for code in pieces:
        run(code, names)
