"""The specifications of the hooks, and the order of the calls as data."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator

import pytest
from leyden import Callback, DataModule, Module
from leyden.binding import METHODS, hook_names
from leyden.hookspecs import Block, Call, Hooks, Step, describe, order

CONSTRUCTION = ("translate_arguments", "default_logger", "default_callbacks", "adapt_hooks", "adapt_methods")
EVENTS = tuple(name for name in hook_names() if name not in CONSTRUCTION)
STAGES = ("fit", "validate", "test", "predict")

# The hooks of API.md L100, beside those of the Trainer's construction.
EXPECTED = {
    "setup", "teardown", "on_fit_start", "on_fit_end", "on_sanity_check_start", "on_sanity_check_end", "on_train_start",
    "on_train_end", "on_train_epoch_start", "on_train_epoch_end", "on_train_batch_start", "on_train_batch_end", "on_exception",
    "on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad", "on_save_checkpoint",
    "on_load_checkpoint",
    *(f"on_{stage}_{moment}" for stage in ("validation", "test", "predict")
      for moment in ("start", "end", "epoch_start", "epoch_end", "batch_start", "batch_end")),
}  # fmt: skip


def calls(steps: tuple[Step, ...]) -> Iterator[Call]:
    for step in steps:
        if isinstance(step, Block):
            yield from calls(step.body)
        else:
            yield step


def arguments(function: object) -> list[tuple[str, object, object]]:
    """Name, default and annotation of each argument."""
    assert callable(function)
    return [(p.name, p.default, p.annotation) for p in inspect.signature(function).parameters.values()]


def test_the_hooks_are_those_that_are_promised():
    assert set(EVENTS) == EXPECTED


def test_every_public_function_of_the_specifications_is_a_hook():
    assert [name for name in vars(Hooks) if not name.startswith("_")] == list(hook_names())


@pytest.mark.parametrize("name", hook_names())
def test_every_hook_says_when_it_fires(name):
    assert inspect.getdoc(getattr(Hooks, name))


@pytest.mark.parametrize("name", EVENTS)
def test_every_hook_of_a_run_is_given_the_trainer_and_the_module_first(name):
    assert [argument for argument, _, _ in arguments(getattr(Hooks, name))][:3] == ["self", "trainer", "module"]


@pytest.mark.parametrize("name", hook_names())
def test_every_argument_of_a_hook_is_annotated(name):
    signature = inspect.signature(getattr(Hooks, name))
    assert [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name != "self"] == []
    assert signature.return_annotation is not signature.empty


@pytest.mark.parametrize("name", EVENTS)
def test_a_module_has_every_hook_of_a_run_without_the_trainer_and_the_module(name):
    short = [argument for argument in arguments(getattr(Hooks, name)) if argument[0] not in ("trainer", "module")]
    assert arguments(getattr(Module, name)) == short
    assert inspect.signature(getattr(Module, name)).return_annotation == inspect.signature(getattr(Hooks, name)).return_annotation


@pytest.mark.parametrize("name", ["setup", "teardown", "on_exception"])
def test_a_data_modules_hooks_have_the_arguments_of_a_modules(name):
    assert arguments(getattr(DataModule, name)) == arguments(getattr(Module, name))


@pytest.mark.parametrize("name", hook_names())
def test_a_callbacks_hooks_are_the_specifications(name):
    assert getattr(Callback, name) is getattr(Hooks, name)


def test_no_name_is_both_a_hook_and_a_method_that_core_calls():
    assert set(METHODS) & set(hook_names()) == set()


@pytest.mark.parametrize("name", METHODS)
def test_the_methods_that_core_calls_exist(name):
    assert hasattr(Module, name) or hasattr(DataModule, name)


# ---- the order ----


@pytest.mark.parametrize("stage", STAGES)
def test_the_order_names_hooks_that_callbacks_and_modules_can_answer(stage):
    known = {
        "callbacks": {*EVENTS, "state_dict", "load_state_dict"},
        "module": {*EVENTS, *METHODS},
        "monitors": {"on_train_epoch_end"},
    }
    assert [step for step in calls(order(stage)) if step.who in known and step.name not in known[step.who]] == []


def test_the_order_has_every_hook_of_a_run_except_that_of_failures():
    found = {step.name for stage in STAGES for step in calls(order(stage)) if step.who == "callbacks"}
    assert set(EVENTS) - found == {"on_exception"}


@pytest.mark.parametrize("stage", STAGES)
def test_the_order_has_the_module_after_the_callbacks(stage):
    found = [(step.who, step.name) for step in calls(order(stage))]
    pairs = [i for i, (who, name) in enumerate(found) if who == "callbacks" and name in EVENTS and "checkpoint" not in name]
    assert [found[i + 1] for i in pairs] == [("module", found[i][1]) for i in pairs]


def test_an_unknown_stage_is_an_error():
    with pytest.raises(LookupError) as caught:
        order("training")
    assert str(caught.value) == "there is no stage 'training'; stages are fit, validate, test, predict"


def test_the_order_of_a_stage_is_described_a_line_for_each_call():
    lines = list(describe("fit"))
    assert lines[:4] == [
        "fit:",
        "    module.configure_callbacks",
        "    data.prepare_data                               the data module's, then the module's",
        "    datamodule.setup",
    ]
    assert "            each batch:" not in lines
    assert "    each epoch:" in lines
    assert "        each batch:" in lines


def test_the_orders_are_printed_from_the_command_line_without_a_warning():
    done = subprocess.run([sys.executable, "-m", "leyden.hookspecs"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join("\n".join(describe(stage)) + "\n\n" for stage in STAGES)
