"""Plug-ins as users meet them: installed from wheels, chosen by name, missing, broken, claimed twice, switched off."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

PREPARE = """
import warnings
import leyden
from leyden import Trainer
from leyden.testing import TinyModule
warnings.filterwarnings("ignore", category=leyden.plugins.PluginWarning)
quiet = dict(max_steps=4, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=1)

def error(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except Exception as raised:
        return f"{type(raised).__name__}: {raised}"
"""


BROKEN = (
    "of acme-leyden 3.1 cannot be imported from 'acme_leyden.broken{}': "
    "ModuleNotFoundError: No module named 'acme_client_that_nobody_has'"
)


@pytest.fixture(scope="module")
def with_stranger(new_environment):
    """Everything of ours and the stranger's package."""
    return new_environment("leyden", "acme-leyden")


@pytest.fixture(scope="module")
def core_alone(new_environment):
    return new_environment("leyden-core")


def test_a_strangers_parts_are_chosen_by_name_without_importing_the_package(with_stranger):
    found = with_stranger.run(
        PREPARE
        + """
trainer = Trainer(accelerator="acme", strategy="acme", precision="acme", logger={"acme": {"file": "named.jsonl"}},
                  callbacks=["acme"], **quiet)
trainer.fit(TinyModule())
import acme_leyden.parts
records = [json.loads(line) for line in open("named.jsonl")]
report([sorted(acme_leyden.parts.WITNESSED), [record["step"] for record in records if "train_loss" in record]])
"""
    )
    assert found == [["accelerator", "callback", "precision", "strategy"], [0, 1, 2, 3]]


@pytest.fixture(scope="module")
def choices(with_stranger):
    """What comes of building a Trainer of several kinds, all in one process: starting one takes longer than these do."""
    return with_stranger.run(
        PREPARE
        + """
report({
    "auto": type(Trainer(accelerator="auto", logger=False, **quiet).accelerator).__module__,
    "two claimants": error(Trainer, accelerator="cpu", logger="csv", **quiet),
    "one of two": type(Trainer(accelerator="cpu", logger="csv@acme-leyden", **quiet).logger).__module__,
    "broken": error(Trainer, accelerator="cpu", logger=False, callbacks=["broken"], **quiet),
})
"""
    )


def test_auto_takes_a_strangers_accelerator_of_higher_priority(choices):
    assert choices["auto"] == "acme_leyden.parts"


def test_a_name_with_two_claimants_is_an_error_that_shows_how_to_choose(choices):
    assert choices["two claimants"] == (
        "LookupError: logger='csv' is registered by acme-leyden and leyden-loggers; "
        "choose with logger='csv@acme-leyden' or logger='csv@leyden-loggers'"
    )
    assert choices["one of two"] == "acme_leyden.parts"


def test_a_broken_plugin_that_was_asked_for_is_an_error(choices):
    assert choices["broken"] == f"PluginError: plug-in 'broken' (leyden.callbacks) {BROKEN.format(':Callback')}"


def test_a_strangers_hooks_are_on_the_bus_of_every_run_because_the_package_is_installed(with_stranger):
    found = with_stranger.run(
        PREPARE
        + """
Trainer(accelerator="cpu", logger=False, **quiet).fit(TinyModule())
import acme_leyden.hooks
report(acme_leyden.hooks.STARTED)
"""
    )
    assert found == [4]


def test_a_broken_plugin_is_named_and_left_out(with_stranger):
    found = with_stranger.run(
        PREPARE
        + """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    trainer = Trainer(accelerator="cpu", logger=False, **quiet)
    trainer.fit(TinyModule())
report([sorted({str(warning.message) for warning in caught}), trainer.global_step])
"""
    )
    assert found == [[f"plug-in 'acme_broken' (leyden) {BROKEN.format('')}; it is left out"], 4]


@pytest.mark.parametrize("switch", ["acme-leyden", "Acme_Leyden , other"])
def test_plugins_of_a_distribution_can_be_switched_off(with_stranger, switch):
    found = with_stranger.run(
        PREPARE
        + """
warnings.resetwarnings()
warnings.simplefilter("error")
trainer = Trainer(accelerator="auto", logger="csv", **quiet)
trainer.fit(TinyModule())
report([type(trainer.accelerator).__module__.split(".")[0], error(Trainer, strategy="acme"), "acme_leyden" in sys.modules])
""",
        LEYDEN_DISABLE_PLUGINS=switch,
    )
    assert found[0] != "acme_leyden"
    assert found[1:] == [
        "LookupError: strategy='acme': its plug-in of acme-leyden is switched off by LEYDEN_DISABLE_PLUGINS",
        False,
    ]


def test_one_plugin_can_be_switched_off_by_its_name(with_stranger):
    found = with_stranger.run(
        PREPARE
        + """
warnings.resetwarnings()
warnings.simplefilter("error")
Trainer(accelerator="cpu", strategy="acme@acme-leyden", logger=False, **quiet).fit(TinyModule())
report("acme_leyden.hooks" in sys.modules)
""",
        LEYDEN_DISABLE_PLUGINS="acme_broken",
    )
    assert found is True


def test_importing_leyden_imports_no_plugin(with_stranger):
    assert with_stranger.run("import leyden; report([n for n in sys.modules if n.startswith(('leyden_', 'acme'))])") == []


def test_the_command_serves_a_strangers_subcommand(with_stranger):
    done = with_stranger.command("leyden", "acme", "world")
    assert (done.returncode, done.stdout, done.stderr) == (3, "hello world\n", "")


def test_the_command_lists_what_is_broken_and_what_is_claimed_twice(with_stranger):
    done = with_stranger.command("leyden", "plugins", "--json")
    found = json.loads(done.stdout)
    (acme,) = [owner for owner in found["distributions"] if owner["distribution"] == "acme-leyden"]
    plugins = {plugin["name"]: plugin for plugin in acme["plugins"] if plugin["group"] in ("leyden", "leyden.callbacks")}
    assert done.returncode == 1
    assert acme["version"] == "3.1"
    assert plugins["acme_hooks"]["hooks"] == ["on_train_start"]
    assert plugins["acme"]["hooks"] == ["on_fit_start"]
    assert plugins["acme_broken"]["error"] == "ModuleNotFoundError: No module named 'acme_client_that_nobody_has'"
    assert found["conflicts"] == [
        {"group": "leyden.loggers", "name": "csv", "claimants": ["csv@acme-leyden", "csv@leyden-loggers"]}
    ]


def test_core_alone_trains_on_the_cpu(core_alone):
    found = core_alone.run(
        PREPARE
        + """
trainer = Trainer(max_steps=4)
trainer.fit(TinyModule())
report([trainer.global_step, type(trainer.accelerator).__module__, [str(p) for p in __import__("pathlib").Path().iterdir()]])
"""
    )
    assert found == [4, "leyden.accelerator", []]


def test_core_alone_says_which_distribution_brings_a_name(core_alone):
    found = core_alone.run(
        PREPARE
        + """
report([error(Trainer, logger="tensorboard"), error(Trainer, precision="bf16-mixd")])
"""
    )
    assert found == [
        "LookupError: logger='tensorboard' comes with leyden-loggers, which is not installed; run: pip install leyden-loggers",
        "LookupError: unknown precision 'bf16-mixd'; did you mean 'bf16-mixed'? (pip install leyden-precision) "
        "Installed: '32-true'",
    ]


def test_one_plugin_beside_core_brings_its_names_and_takes_them_along(new_environment):
    environment = new_environment("leyden-core", "leyden-precision")
    code = PREPARE + "report(error(Trainer(precision='bf16-mixed', **quiet).fit, TinyModule()))"
    assert environment.run(code) is None
    environment.uninstall("leyden-precision")
    gone = environment.run(PREPARE + "report([error(Trainer, precision='bf16-mixed'), leyden.plugins.names(leyden.Precision)])")
    assert gone == [
        "LookupError: precision='bf16-mixed' comes with leyden-precision, which is not installed; "
        "run: pip install leyden-precision",
        ["32-true"],
    ]


def test_a_strangers_parts_keep_the_contracts_of_their_kinds(with_stranger):
    contracts = Path(__file__).parent / "acme" / "contracts.py"
    command = [str(with_stranger.python), "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", str(contracts)]
    variables = {**with_stranger.variables, "LEYDEN_DISABLE_PLUGINS": "acme_broken"}
    done = subprocess.run(command, cwd=with_stranger.workdir, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


SEVERAL = """
import sys
import leyden
from leyden.testing import TinyModule
import acme_leyden.parts

class Tells(leyden.Callback):
    def on_train_start(self, trainer, module):
        witnessed = trainer.strategy.all_gather_object(acme_leyden.parts.WITNESSED)
        weights = trainer.strategy.all_gather(module.layer.weight)
        if trainer.is_global_zero:
            print("WITNESSED", witnessed, flush=True)

    def on_train_end(self, trainer, module):
        weights = trainer.strategy.all_gather(module.layer.weight)
        if trainer.is_global_zero:
            print("EQUAL", bool((weights[0] == weights[1]).all()), trainer.world_size, flush=True)

if __name__ == "__main__":
    leyden.seed_everything(1)
    trainer = leyden.Trainer(
        accelerator="acme", strategy={"acme_processes": {"launcher": sys.argv[1]}}, devices=2, callbacks=[Tells()], max_epochs=1,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )
    trainer.fit(TinyModule())
"""


@pytest.mark.parametrize("launcher", ["script", "spawn", "fork"])
def test_a_strangers_strategy_and_accelerator_run_in_ranks_however_they_are_started(with_stranger, launcher):
    script = with_stranger.workdir / "several.py"
    script.write_text(SEVERAL)
    command = [str(with_stranger.python), str(script), launcher]
    variables = {**with_stranger.variables, "LEYDEN_DISABLE_PLUGINS": "acme_broken"}
    options = {"cwd": with_stranger.workdir, "env": variables, "capture_output": True, "text": True, "timeout": 250}
    done = subprocess.run(command, check=False, **options)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        "EQUAL True 2",
        "WITNESSED [['accelerator', 'strategy of rank 0'], ['accelerator', 'strategy of rank 1']]",
    ]
