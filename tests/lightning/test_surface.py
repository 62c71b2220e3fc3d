"""Lightning's names: every path, one object each, and a sentence for what is not there."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import leyden
import leyden_lightning as pl
import numpy as np
import pytest
import torch
from leyden_lightning.api import surface

RECORDED = json.loads((Path(__file__).parent / "recorded/names.json").read_text(encoding="utf-8"))


def test_the_modules_are_leydens():
    assert pl.LightningModule is leyden.Module
    assert pl.LightningDataModule is leyden.DataModule
    assert pl.Callback is leyden.Callback
    assert issubclass(pl.Trainer, leyden.Trainer)


def test_every_name_of_every_submodule_is_found_and_is_one_object():
    seen = {}
    for path, names in surface.PATHS.items():
        module = importlib.import_module(f"leyden_lightning.{path}" if path else "leyden_lightning")
        for name in names:
            value = getattr(module, name)
            assert seen.setdefault(name, value) is value, (path, name)


@pytest.mark.parametrize("release", sorted(RECORDED))
def test_every_public_name_of_a_release_exists_at_its_path(release):
    missing = []
    for path, names in RECORDED[release].items():
        try:
            module = importlib.import_module(f"leyden_lightning.{path}" if path else "leyden_lightning")
        except ModuleNotFoundError:
            missing.append(path)
            continue
        missing += [f"{path}.{name}" for name in names if not hasattr(module, name)]
    assert missing == []


def test_submodules_are_attributes_without_an_import():
    code = "import leyden_lightning as pl; print(pl.callbacks.early_stopping.EarlyStopping is pl.callbacks.EarlyStopping)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_mistyped_name_has_a_hint():
    with pytest.raises(AttributeError) as caught:
        _ = pl.callbacks.ModelCheckpont
    assert str(caught.value) == (
        "module 'leyden_lightning.callbacks' has no attribute 'ModelCheckpont'; did you mean 'ModelCheckpoint'?"
    )


def test_pytorch_of_the_package_is_the_package():
    assert pl.pytorch.callbacks.EarlyStopping is pl.callbacks.EarlyStopping


def test_a_name_like_no_other_is_told_where_to_look():
    with pytest.raises(AttributeError) as caught:
        _ = pl.callbacks.Foo
    assert str(caught.value) == (
        "module 'leyden_lightning.callbacks' has no attribute 'Foo'; dir(leyden_lightning.callbacks) lists what is there"
    )


def test_a_traceback_adds_no_guess_of_pythons_own():
    code = "import leyden_lightning as pl; pl.app"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250)
    assert done.stderr.splitlines()[-1] == (
        "AttributeError: module 'leyden_lightning' has no attribute 'app': Lightning's apps and its cloud are not part of "
        "leyden; start the script itself, as `leyden run train.py` or as a job of your cluster"
    )


def test_an_import_that_fails_can_be_caught_as_python_has_it():
    with pytest.raises(ImportError) as caught:
        exec("from leyden_lightning.utilities import something_old", {})
    assert str(caught.value) == (
        "there is no 'something_old' in 'leyden_lightning.utilities'; dir(leyden_lightning.utilities) lists what is there"
    )
    assert importlib.util.find_spec("leyden_lightning.api.modules") is not None
    assert not hasattr(pl.utilities, "something_old")


def test_what_fabric_is_written_as():
    with pytest.raises(NotImplementedError) as caught:
        pl.fabric.Fabric(accelerator="cpu")
    assert str(caught.value) == (
        "Fabric: Fabric is not part of this port yet; write `for batch in trainer.batches(module): trainer.step(loss)` for a "
        "loop of your own"
    )


def test_a_name_that_is_not_ported_can_be_imported_and_says_what_to_do_when_used():
    cli = importlib.import_module("leyden_lightning.cli")
    with pytest.raises(NotImplementedError) as caught:
        cli.LightningCLI(pl.LightningModule)
    assert str(caught.value) == (
        "LightningCLI: the command line from a class is not part of this port yet; pass the arguments in Python, or read them "
        "with argparse"
    )
    assert not isinstance(3, cli.LightningCLI)


def test_a_class_derived_from_a_part_that_is_not_there_says_so_when_it_is_made():
    class Mine(importlib.import_module("leyden_lightning.strategies").HorovodStrategy):
        pass

    with pytest.raises(pl.utilities.exceptions.MisconfigurationException, match="HorovodStrategy: Lightning dropped it in 2"):
        Mine()


def test_what_became_of_an_old_module_is_in_the_message():
    with pytest.raises(AttributeError, match="write `import torchmetrics`"):
        _ = pl.metrics


def test_constants_of_what_is_installed_are_answered():
    imports = importlib.import_module("leyden_lightning.utilities.imports")
    assert imports._TENSORBOARD_AVAILABLE is True
    assert imports._NO_SUCH_THING_AVAILABLE is False
    assert imports._TORCH_GREATER_EQUAL_2_0 is True


# ---- seeds ----


def test_seed_everything_seeds_all_generators_and_sets_the_variables():
    assert pl.seed_everything(42, workers=True) == 42
    first = (random.random(), np.random.rand(), torch.rand(1).item())
    pl.seed_everything(42)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == first
    assert (os.environ["PL_GLOBAL_SEED"], os.environ["PL_SEED_WORKERS"]) == ("42", "0")


def test_the_seed_of_the_environment_is_taken(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "17")
    assert pl.seed_everything() == 17


def test_seeding_leaves_cudnns_flags_alone():
    before = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    pl.seed_everything(1)
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == before


# ---- signatures ----


def test_the_trainer_has_the_arguments_and_defaults_of_2_6():
    recorded = json.loads((Path(__file__).parent / "recorded/signatures.json").read_text(encoding="utf-8"))
    ours = {
        name: repr(p.default) for name, p in inspect.signature(pl.Trainer.__init__).parameters.items() if p.kind is p.KEYWORD_ONLY
    }
    assert ours == recorded["Trainer"]


def test_callbacks_and_loggers_take_the_arguments_of_2_6():
    recorded = json.loads((Path(__file__).parent / "recorded/signatures.json").read_text(encoding="utf-8"))
    refused = {}
    for name, arguments in recorded.items():
        if name == "Trainer" or " " in surface.NAMES[name]:
            continue
        value = getattr(importlib.import_module(f"leyden_lightning.{'loggers' if 'Logger' in name else 'callbacks'}"), name)
        parameters = inspect.signature(value.__init__).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        lacks = [argument for argument in arguments if argument not in parameters]
        if lacks:
            refused[name] = lacks
    assert refused == KNOWN_DIFFERENCES


KNOWN_DIFFERENCES: dict[str, list[str]] = {}


def test_early_stopping_speaks_on_every_rank_unless_told_otherwise():
    """Lightning's default, which is not leyden's."""

    class Own(pl.callbacks.EarlyStopping):
        def __init__(self):
            super().__init__("x", patience=2)

    stopping = pl.callbacks.EarlyStopping
    by_position = ("x", 0.0, 3, False, "min", True, True, None, None, None, True)
    made = [stopping("x"), Own(), stopping("x", log_rank_zero_only=True), stopping(*by_position)]
    assert [callback.log_rank_zero_only for callback in made] == [False, False, True, True]
