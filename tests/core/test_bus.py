"""The bus: who answers a hook, with which arguments, in which order, and what happens when one of them fails."""

from __future__ import annotations

import traceback
import types
import unittest.mock
import warnings
from contextlib import suppress
from pathlib import Path

import leyden
import pytest
import torch
from leyden import Callback, DataModule, LeydenWarning, Logger, Module, Profiler, Strategy, Trainer, hookimpl
from leyden.binding import HookError, hook_names
from leyden.bus import Bus
from leyden.testing import TinyDataModule, TinyModule

pytestmark = pytest.mark.usefixtures("core_alone")

BATCH_END = "'trainer', 'module', 'outputs', 'batch', 'batch_idx'"
LIBRARY = str(Path(leyden.__file__).parent)


def cls(name: str, *bases: type, **members: object) -> type:
    """A class whose name in messages is ``name``, not that of the test it is made in."""
    return type(name, bases, members)


def fit(*callbacks, module=None, datamodule=None, **options):
    trainer = Trainer(callbacks=list(callbacks), **{"max_steps": 1, **options})
    trainer.fit(module or TinyModule(), datamodule=datamodule)
    return trainer


class Records:
    """Makes participants that write down who was called."""

    def __init__(self, hook):
        self.calls = []
        self.hook = hook

    def make(self, who, *bases, mark=None):
        calls = self.calls

        def method(self):
            calls.append(who)

        return cls("Records", *bases, **{self.hook: hookimpl(**mark)(method) if mark is not None else method})()

    def around(self, who, **mark):
        calls = self.calls

        def method(self):
            calls.append(f"{who} before")
            result = yield
            calls.append(f"{who} after")
            return result

        return cls("Around", **{self.hook: hookimpl(wrapper=True, **mark)(method)})()


# on_train_start is called through pluggy, on_train_batch_end from the compiled lists.
@pytest.fixture(params=["on_train_start", "on_train_batch_end"])
def records(request):
    return Records(request.param)


# ---- order ----


def test_plugins_come_first_then_the_data_module_then_callbacks_as_given_then_the_module_then_components(records):
    module, datamodule = records.make("module", TinyModule), records.make("datamodule", TinyDataModule)
    callbacks = [records.make("first"), records.make("second", Callback), records.make("third")]
    strategy = records.make("strategy", Strategy, mark={})
    fit(*callbacks, module=module, datamodule=datamodule, plugins=[records.make("plug-in")], strategy=strategy)
    assert records.calls == ["plug-in", "datamodule", "first", "second", "third", "module", "strategy"]


def test_implementations_marked_trylast_come_after_the_module_as_given(records):
    callbacks = [
        records.make("first", mark={"trylast": True}),
        records.make("second", mark={"trylast": True}),
        records.make("third"),
    ]
    fit(*callbacks, module=records.make("module", TinyModule))
    assert records.calls == ["third", "module", "first", "second"]


def test_implementations_marked_tryfirst_come_before_everybody_as_given(records):
    callbacks = [
        records.make("first"),
        records.make("second", mark={"tryfirst": True}),
        records.make("third", mark={"tryfirst": True}),
    ]
    fit(*callbacks, plugins=[records.make("plug-in")])
    assert records.calls == ["second", "third", "plug-in", "first"]


def test_wrappers_enclose_everybody_the_first_one_outermost(records):
    callbacks = [
        records.make("first"),
        records.around("outer"),
        records.around("inner"),
        records.make("last", mark={"trylast": True}),
    ]
    fit(*callbacks, module=records.make("module", TinyModule))
    assert records.calls == ["outer before", "inner before", "first", "module", "last", "inner after", "outer after"]


def test_wrappers_marked_tryfirst_and_trylast_are_outermost_and_innermost(records):
    fit(
        records.around("last", trylast=True),
        records.around("middle"),
        records.around("first", tryfirst=True),
        records.make("inside"),
    )
    assert records.calls == [
        "first before", "middle before", "last before", "inside", "last after", "middle after", "first after",
    ]  # fmt: skip


def test_a_wrapper_takes_any_subset_of_the_arguments():
    calls = []

    class Around:
        @hookimpl(wrapper=True)
        def on_train_batch_end(self, batch_idx, outputs):
            calls.append((batch_idx, sorted(outputs)))
            return (yield)

    fit(Around())
    assert calls == [(0, ["loss"])]


def test_a_wrapper_of_the_older_style_encloses_the_others():
    calls = []

    class Around:
        @hookimpl(hookwrapper=True)
        def on_train_batch_end(self):
            outcome = yield
            calls.append(outcome.get_result())

    class Inside:
        def on_train_batch_end(self):
            calls.append("inside")

    fit(Inside(), Around())
    assert calls == ["inside", []]


def test_a_wrapper_sees_the_error_of_those_inside(records):
    seen = []

    def method(self):
        try:
            yield
        except RuntimeError as error:
            seen.append(str(error))
            raise

    def fail(self):
        raise RuntimeError("inside")

    callbacks = [cls("Around", **{records.hook: hookimpl(wrapper=True)(method)})(), cls("Fails", **{records.hook: fail})()]
    with pytest.raises(RuntimeError, match=r"^inside$"):
        fit(*callbacks)
    assert seen == ["inside"]


# ---- arguments ----


def call_batch_end(
    function, *bases, role="callback", hook="on_train_batch_end", values=("trainer", "module", "outputs", "batch", 7)
):
    """Registers an object whose method is ``function`` and calls the hook with ``values``."""
    bus = Bus()
    plugin = cls("Mine", *bases, **{hook: function})()
    bus.register(plugin, role=role)
    for compiled in getattr(bus.calls, hook):
        compiled(*values)
    return plugin


SUBSETS = [
    (lambda self: self.got(), ()),
    (lambda self, outputs: self.got(outputs), ("outputs",)),
    (lambda self, batch_idx, trainer: self.got(batch_idx, trainer), (7, "trainer")),
    (lambda self, module, batch: self.got(module, batch), ("module", "batch")),
    (lambda self, batch, batch_idx: self.got(batch, batch_idx), ("batch", 7)),
    (lambda self, outputs, batch, batch_idx: self.got(outputs, batch, batch_idx), ("outputs", "batch", 7)),
    (lambda self, trainer, module, outputs, batch, batch_idx: self.got(trainer, module, outputs, batch, batch_idx),
     ("trainer", "module", "outputs", "batch", 7)),
    (lambda self, batch_idx, batch, outputs, module, trainer: self.got(batch_idx, batch, outputs, module, trainer),
     (7, "batch", "outputs", "module", "trainer")),
    (lambda self, batch=None: self.got(batch), ("batch",)),
    (lambda self, batch, scale=2.0: self.got(batch, scale), ("batch", 2.0)),
]  # fmt: skip
BY_POSITION = [
    (lambda self, trainer, pl_module, outputs, batch, batch_idx: self.got(trainer, pl_module, outputs, batch, batch_idx),
     ("trainer", "module", "outputs", "batch", 7)),
    (lambda self, _, __, out, b, i: self.got(_, __, out, b, i), ("trainer", "module", "outputs", "batch", 7)),
    (lambda self, *args: self.got(*args), ("trainer", "module", "outputs", "batch", 7)),
    (lambda self, *args, **kwargs: self.got(*args, **kwargs), ("trainer", "module", "outputs", "batch", 7)),
    (lambda self, trainer, pl_module, *rest: self.got(trainer, pl_module, *rest), ("trainer", "module", "outputs", "batch", 7)),
    (lambda self, t, m, o, b, i, more=9: self.got(t, m, o, b, i, more), ("trainer", "module", "outputs", "batch", 7, 9)),
]  # fmt: skip
SHORT = [
    (lambda self, out, b, i: self.got(out, b, i), ("outputs", "batch", 7)),
    (lambda self, outputs, b, i: self.got(outputs, b, i), ("outputs", "batch", 7)),
    (lambda self, *args: self.got(*args), ("outputs", "batch", 7)),
    (lambda self, outputs, *args: self.got(outputs, *args), ("outputs", "batch", 7)),
    (lambda self, t, m, o, b, i: self.got(t, m, o, b, i), ("trainer", "module", "outputs", "batch", 7)),
]


def got(role, function, *bases, **options):
    calls = []
    call_batch_end(function, cls("Base", *bases, got=lambda self, *values: calls.append(values)), role=role, **options)
    return calls


@pytest.mark.parametrize(
    ("role", "base"),
    [("callback", object), ("callback", Callback), ("plugin", object), ("module", Module), ("datamodule", DataModule)],
)
@pytest.mark.parametrize(("function", "expected"), SUBSETS)
def test_an_implementation_takes_any_subset_of_the_arguments_by_name(role, base, function, expected):
    assert got(role, function, base) == [expected]


@pytest.mark.parametrize(("role", "base"), [("callback", object), ("callback", Callback), ("plugin", object)])
@pytest.mark.parametrize(("function", "expected"), BY_POSITION)
def test_other_names_are_bound_by_position(role, base, function, expected):
    assert got(role, function, base) == [expected]


@pytest.mark.parametrize(("role", "base"), [("module", Module), ("datamodule", DataModule)])
@pytest.mark.parametrize(("function", "expected"), SHORT)
def test_other_names_of_a_module_are_bound_without_trainer_and_module(role, base, function, expected):
    assert got(role, function, base) == [expected]


@pytest.mark.parametrize(
    ("role", "base", "function", "expected"),
    [
        ("callback", Callback, lambda self, t, m, o, b, i, loader: self.got(t, m, o, b, i, loader), ("t", "m", "o", "b", 7, 3)),
        ("callback", Callback, lambda self, t, m, o, b, i: self.got(t, m, o, b, i), ("t", "m", "o", "b", 7)),
        ("module", Module, lambda self, o, b, i, loader=0: self.got(o, b, i, loader), ("o", "b", 7, 3)),
        ("module", Module, lambda self, o, b, i: self.got(o, b, i), ("o", "b", 7)),
        ("module", Module, lambda self, dataloader_idx: self.got(dataloader_idx), (3,)),
    ],
)
def test_the_loader_index_may_be_left_out_by_position(role, base, function, expected):
    values = ("t", "m", "o", "b", 7, 3)
    assert got(role, function, base, hook="on_validation_batch_end", values=values) == [expected]


def test_static_and_class_methods_answer_hooks():
    calls = []

    class Mine:
        @staticmethod
        def on_train_start(trainer):
            calls.append(type(trainer).__name__)

        @classmethod
        def on_train_end(cls, trainer):
            calls.append(type(trainer).__name__)

    fit(Mine())
    assert calls == ["Trainer", "Trainer"]


def test_an_object_whose_only_hook_is_a_class_method_is_a_callback():
    calls = []

    class Mine:
        @classmethod
        def on_train_end(cls):
            calls.append("end")

    fit(Mine())
    assert calls == ["end"]


def test_functions_assigned_to_an_object_answer_hooks():
    calls = []
    fit(types.SimpleNamespace(on_train_start=lambda trainer, module: calls.append(type(module).__name__)))
    assert calls == ["TinyModule"]


def test_a_python_module_answers_hooks_with_its_functions():
    calls = []
    plugin = types.ModuleType("my_plugin")
    plugin.on_train_start = lambda trainer, pl_module: calls.append(type(pl_module).__name__)
    fit(plugins=plugin)
    assert calls == ["TinyModule"]


@pytest.mark.parametrize(
    ("role", "function", "message"),
    [
        ("callback", lambda self, trainer, pl_module: None,
         "Mine.on_train_batch_end(self, trainer, pl_module) does not fit its hook: write "
         f"on_train_batch_end(self, trainer, module, outputs, batch, batch_idx), or any subset of {BATCH_END} by name"),
        ("callback", lambda self, a, b, c, d, e, f: None,
         "Mine.on_train_batch_end(self, a, b, c, d, e, f) does not fit its hook: write "
         f"on_train_batch_end(self, trainer, module, outputs, batch, batch_idx), or any subset of {BATCH_END} by name"),
        ("callback", lambda self, *, batch: None,
         "Mine.on_train_batch_end(self, *, batch) does not fit its hook: write "
         f"on_train_batch_end(self, trainer, module, outputs, batch, batch_idx), or any subset of {BATCH_END} by name"),
        ("callback", lambda self, trainer, pl_module, batch, outputs, batch_idx: None,
         "Mine.on_train_batch_end(self, trainer, pl_module, batch, outputs, batch_idx) does not fit its hook: write "
         f"on_train_batch_end(self, trainer, module, outputs, batch, batch_idx), or any subset of {BATCH_END} by name"),
        ("callback", lambda self, batch, *rest: None,
         "Mine.on_train_batch_end(self, batch, *rest) does not fit its hook: write "
         f"on_train_batch_end(self, trainer, module, outputs, batch, batch_idx), or any subset of {BATCH_END} by name"),
        ("module", lambda self, out, b: None,
         "Mine.on_train_batch_end(self, out, b) does not fit its hook: write "
         f"on_train_batch_end(self, outputs, batch, batch_idx), or any subset of {BATCH_END} by name"),
        ("datamodule", lambda self, out, b: None,
         "Mine.on_train_batch_end(self, out, b) does not fit its hook: write "
         f"on_train_batch_end(self, outputs, batch, batch_idx), or any subset of {BATCH_END} by name"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_an_error_that_shows_the_specification(role, function, message):
    with pytest.raises(HookError) as caught:
        call_batch_end(function, {"callback": Callback, "module": Module, "datamodule": DataModule}[role], role=role)
    assert str(caught.value) == message


def test_a_function_of_a_python_module_is_shown_without_self():
    plugin = types.ModuleType("my_plugin")
    plugin.on_train_start = lambda one, two, three: None
    with pytest.raises(HookError) as caught:
        Trainer(plugins=[plugin])
    assert str(caught.value) == (
        "my_plugin.on_train_start(one, two, three) does not fit its hook: write on_train_start(trainer, module), "
        "or any subset of 'trainer', 'module' by name"
    )


def test_a_modules_hook_that_does_not_fit_stops_fit_before_anything_runs():
    calls = []
    module = cls("Mine", TinyModule, on_fit_start=lambda self, a, b, c: None, setup=lambda self: calls.append("setup"))()
    trainer = Trainer()
    with pytest.raises(HookError) as caught:
        trainer.fit(module)
    assert str(caught.value) == (
        "Mine.on_fit_start(self, a, b, c) does not fit its hook: write on_fit_start(self), "
        "or any subset of 'trainer', 'module' by name"
    )
    assert (calls, trainer.running, [who.role for who in trainer.bus.participants if who.role == "module"]) == ([], False, [])


# ---- which methods are implementations ----


def test_methods_that_nobody_overrode_cost_a_step_nothing():
    seen = []

    class Mine(Callback):
        def on_train_start(self, trainer, module):
            seen.append({name: getattr(trainer.bus.calls, name) for name in hook_names() if hasattr(trainer.bus.calls, name)})

    fit(Mine(), datamodule=TinyDataModule())
    assert seen == [dict.fromkeys(seen[0], ())]
    assert len(seen[0]) == 12


def test_a_hook_answered_with_the_whole_specification_is_called_without_anything_in_between():
    class Mine(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx): ...

    mine = Mine()
    trainer = Trainer(callbacks=[mine])
    assert trainer.bus.calls.on_train_batch_end == (mine.on_train_batch_end,)


def test_the_bus_tells_which_hooks_somebody_answers():
    class Mine(Callback):
        def on_train_start(self): ...
        def on_fit_end(self): ...

    mine = Mine()
    trainer = Trainer(callbacks=[mine])
    assert trainer.bus.implementations_of(mine) == ["on_fit_end", "on_train_start"]
    assert trainer.bus.implementations_of(trainer.strategy) == []


def test_a_marked_method_of_another_name_answers_the_hook_it_names():
    calls = []

    class Mine:
        @hookimpl(specname="on_train_start")
        def begin(self, trainer):
            calls.append(type(trainer).__name__)

    fit(Mine())
    assert calls == ["Trainer"]


def test_a_components_life_cycle_methods_are_no_hooks_unless_marked():
    calls = []

    class Mine(Logger):
        def on_train_start(self):
            calls.append("not marked")

        @hookimpl
        def on_train_end(self, trainer):
            calls.append("marked")

    fit(logger=Mine())
    assert calls == ["marked"]


def test_a_property_and_a_child_with_a_hooks_name_are_no_implementations():
    class Mine(TinyModule):
        def __init__(self):
            super().__init__()
            self.on_train_start = torch.nn.Linear(1, 1)

        @property
        def on_train_end(self):
            raise RuntimeError("not to be read")

    trainer = fit(module=Mine())
    assert trainer.global_step == 1


def test_an_object_that_answers_to_every_name_is_not_taken_for_a_marked_function():
    plugin = types.ModuleType("my_plugin")
    plugin.ops, plugin.call = torch.ops, unittest.mock.call
    plugin.on_train_start = lambda: None
    assert fit(plugins=plugin).bus.implementations_of(plugin) == ["on_train_start"]


# ---- names that are no hooks ----


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("on_train_batch_edn", "on_train_batch_end"),
        ("on_validation_epochs_end", "on_validation_epoch_end"),
        ("on_fitstart", "on_fit_start"),
    ],
)
def test_a_misspelt_hook_of_a_callback_is_an_error_at_construction(name, nearest):
    for base in (Callback, object):
        with pytest.raises(HookError) as caught:
            Trainer(callbacks=[cls("Mine", base, **{name: lambda self: None})()])
        assert str(caught.value) == f"Mine.{name} answers no hook: there is none named {name!r}; did you mean {nearest!r}?"


def test_a_misspelt_hook_of_a_module_is_an_error_before_anything_runs():
    with pytest.raises(HookError) as caught:
        fit(module=cls("Mine", TinyModule, on_after_batch_transfr=lambda self: None, setup=lambda self: pytest.fail("ran"))())
    assert str(caught.value) == (
        "Mine.on_after_batch_transfr answers no hook: there is none named 'on_after_batch_transfr'; "
        "did you mean 'on_after_batch_transfer'?"
    )


def test_a_marked_method_that_resembles_no_hook_is_an_error():
    with pytest.raises(HookError) as caught:
        Trainer(callbacks=[cls("Mine", unheard=hookimpl(lambda self: None))()])
    assert str(caught.value) == (
        "Mine.unheard answers no hook: there is none named 'unheard'; hooks are listed by: python -m leyden.hookspecs"
    )


def test_a_marked_method_whose_specname_is_no_hook_is_an_error():
    with pytest.raises(HookError) as caught:
        Trainer(callbacks=[cls("Mine", begin=hookimpl(specname="on_train_strat")(lambda self: None))()])
    assert str(caught.value) == (
        "Mine.begin answers no hook: there is none named 'on_train_strat'; did you mean 'on_train_start'?"
    )


def test_an_optional_hook_that_does_not_exist_is_no_error():
    class Mine:
        def on_train_start(self): ...

        @hookimpl(optionalhook=True)
        def on_something_of_another_version(self): ...

    mine = Mine()
    assert Trainer(callbacks=[mine]).bus.implementations_of(mine) == ["on_train_start"]


def test_an_unmarked_method_that_resembles_no_hook_is_a_warning():
    with pytest.warns(LeydenWarning) as caught:
        Trainer(callbacks=[cls("Mine", on_mouse_click=lambda self: None, on_train_start=lambda self: None)()])
    assert [str(warning.message) for warning in caught] == [
        "Mine.on_mouse_click looks like a hook but leyden never calls it: there is no hook 'on_mouse_click'; "
        "a name that does not start with 'on_' silences this"
    ]


def test_a_module_method_on_a_callback_is_an_error_because_nobody_calls_it_there():
    with pytest.raises(HookError) as caught:
        Trainer(callbacks=[cls("Mine", Callback, on_after_batch_transfer=lambda self, batch: batch)()])
    assert str(caught.value) == (
        "Mine.on_after_batch_transfer is never called: on_after_batch_transfer is a method of modules and data modules, "
        "not a hook of a callback"
    )


def test_methods_of_modules_that_are_no_hooks_are_no_mistake():
    module = cls(
        "Mine", TinyModule, on_validation_model_eval=lambda self: self.eval(), on_after_batch_transfer=lambda self, b, i: b
    )()
    assert fit(module=module).global_step == 1


def test_a_hook_of_the_trainers_construction_is_an_error_on_a_callback():
    with pytest.raises(HookError) as caught:
        Trainer(callbacks=[cls("Mine", Callback, default_logger=lambda self, trainer: None)()])
    assert str(caught.value) == (
        "Mine.default_logger is never called: the Trainer asks default_logger while it is built, before callbacks take part; "
        "answer it in a plug-in of the entry-point group 'leyden'"
    )


# ---- plug-ins that come and go ----


def test_somebody_registered_inside_a_hook_answers_from_the_next_call_on_in_its_place():
    records = Records("on_train_epoch_end")
    late = records.make("late")

    class Registers:
        def on_train_epoch_end(self, trainer):
            if not trainer.current_epoch:
                trainer.bus.register(late, role="callback")

    fit(records.make("early"), Registers(), module=records.make("module", TinyModule), max_steps=-1, max_epochs=2)
    assert records.calls == ["early", "module", "early", "late", "module"]


def test_somebody_registered_inside_a_batch_hook_answers_from_the_next_batch_on():
    calls = []

    class Late:
        def on_train_batch_end(self, batch_idx):
            calls.append(("late", batch_idx))

    class Registers:
        def on_train_batch_end(self, trainer, batch_idx):
            calls.append(("early", batch_idx))
            if batch_idx == 1:
                trainer.bus.register(Late(), role="callback")

    fit(Registers(), max_steps=3)
    assert calls == [("early", 0), ("early", 1), ("early", 2), ("late", 2)]


def test_somebody_unregistered_inside_a_batch_hook_is_gone_from_the_next_batch_on():
    calls = []

    class Leaves:
        def on_train_batch_end(self, trainer, batch_idx):
            calls.append(("leaves", batch_idx))
            trainer.bus.unregister(self)

        def on_train_end(self):
            calls.append("never")

    class Stays:
        def on_train_batch_end(self, batch_idx):
            calls.append(("stays", batch_idx))

    fit(Leaves(), Stays(), max_steps=2)
    assert calls == [("leaves", 0), ("stays", 0), ("stays", 1)]


def test_the_order_holds_when_somebody_comes_and_goes():
    calls = []

    def make(who, **mark):
        return cls("Mine", on_train_end=hookimpl(**mark)(lambda self: calls.append(who)))()

    guest = make("guest")

    class Visits:
        def on_train_start(self, trainer):
            trainer.bus.register(guest, role="callback")

        def on_train_epoch_end(self, trainer):
            trainer.bus.unregister(guest)
            trainer.bus.register(make("second guest"), role="callback")

    module = cls("Mine", TinyModule, on_train_end=lambda self: calls.append("module"))()
    fit(make("monitor", trylast=True), make("first"), Visits(), make("second"), module=module)
    assert calls == ["first", "second", "second guest", "module", "monitor"]


def test_a_participant_can_be_registered_before_another():
    calls = []

    def make(who):
        return cls("Mine", on_train_end=lambda self: calls.append(who))()

    first, second, third = make("first"), make("second"), make("third")
    trainer = Trainer(callbacks=[first, third], max_steps=1)
    trainer.bus.register(second, role="callback", before=third)
    assert [who.plugin for who in trainer.bus.participants if who.role == "callback"] == [first, second, third]


def test_registering_before_somebody_who_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="before=") as caught:
        Bus().register(Callback(), before=cls("Stranger")())
    assert str(caught.value) == "before=Stranger: it is not on the bus"


def test_one_object_cannot_be_registered_twice():
    mine = cls("Mine", on_train_start=lambda self: None)()
    trainer = Trainer(callbacks=[mine])
    with pytest.raises(ValueError, match="once") as caught:
        trainer.bus.register(mine)
    assert str(caught.value) == "Mine is on the bus already; one object can be registered once"


def test_taking_off_somebody_who_is_not_there_is_no_error():
    Bus().unregister(object())


def test_a_second_run_finds_the_bus_as_the_first_did(records):
    trainer = Trainer(callbacks=[records.make("callback")], max_steps=1)
    for _ in range(2):
        trainer.fit(records.make("module", TinyModule), datamodule=records.make("datamodule", TinyDataModule))
    assert records.calls == ["datamodule", "callback", "module"] * 2


# ---- the one answer that means something ----


def stops_at(batch, *, wrapped):
    class Stops:
        def on_train_batch_start(self, batch_idx):
            return -1 if batch_idx == batch else None

    class Around:
        @hookimpl(wrapper=True)
        def on_train_batch_start(self):
            return (yield)

    class Answers:
        def on_train_batch_start(self):
            return 1

    return [Answers(), Stops(), *([Around()] if wrapped else [])]


@pytest.mark.parametrize("wrapped", [False, True])
def test_answering_minus_one_skips_the_batch_and_the_rest_of_the_epoch(wrapped):
    epochs = []

    class Epochs:
        def on_train_epoch_end(self, trainer):
            epochs.append(trainer.global_step)

    trainer = fit(*stops_at(2, wrapped=wrapped), Epochs(), max_steps=-1, max_epochs=2)
    assert epochs == [2, 4]
    assert trainer.current_epoch == 2


def test_everybody_hears_of_a_batch_that_is_skipped():
    calls = []

    class Hears:
        def on_train_batch_start(self, batch_idx):
            calls.append(batch_idx)

        def on_train_batch_end(self, batch_idx):
            calls.append(f"{batch_idx} done")

    fit(*stops_at(1, wrapped=False), Hears(), max_steps=-1, max_epochs=1)
    assert calls == [0, "0 done", 1]


def test_a_wrapper_can_answer_itself():
    class Around:
        @hookimpl(wrapper=True)
        def on_train_batch_start(self, batch_idx):
            yield
            return -1 if batch_idx == 3 else None

    assert fit(Around(), max_steps=-1, max_epochs=1).global_step == 3


# ---- failures ----


class Failure(Exception):
    """A user's own."""


def failing(name, *bases, hooks=("on_exception", "teardown"), calls=None):
    def method(hook):
        def fail(self):
            if calls is not None:
                calls.append(f"{name}.{hook}")
            raise RuntimeError(f"{hook} of {name}")

        return fail

    return cls(name, *bases, **{hook: method(hook) for hook in hooks})()


def raises_in(hook):
    def fail(self):
        raise Failure("mine")

    return cls("Raises", **{hook: fail})()


@pytest.mark.parametrize(
    "hook", ["setup", "on_fit_start", "on_train_start", "on_train_batch_end", "on_validation_start", "on_train_end"]
)
def test_an_exception_of_a_hook_leaves_fit_as_it_is_and_everybody_hears_of_it(hook):
    calls = []

    class Hears(Callback):
        def on_exception(self, trainer, module, exception):
            calls.append(exception)

        def teardown(self, stage):
            calls.append(stage)

    with pytest.raises(Failure) as caught:
        fit(raises_in(hook), Hears())
    assert calls == [caught.value, "fit"]
    assert getattr(caught.value, "__notes__", []) == []
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_errors_while_everybody_is_told_become_notes_and_stop_nobody():
    calls = []
    participants = [failing("One", calls=calls), failing("Two", Callback, calls=calls)]
    module, datamodule = failing("Mine", TinyModule, calls=calls), failing("Data", TinyDataModule, calls=calls)
    with pytest.raises(Failure) as caught:
        fit(raises_in("on_train_batch_end"), *participants, module=module, datamodule=datamodule)
    everybody = ["Data", "One", "Two", "Mine"]
    assert calls == [f"{who}.{hook}" for hook in ("on_exception", "teardown") for who in everybody]
    assert caught.value.__notes__ == [
        f"afterwards, {hook} of {who} raised RuntimeError: {hook} of {who}"
        for hook in ("on_exception", "teardown")
        for who in everybody
    ]


def test_an_error_in_teardown_alone_leaves_fit_after_everybody_was_told():
    calls = []
    with pytest.raises(RuntimeError) as caught:
        fit(failing("One", hooks=["on_fit_end", "teardown"], calls=calls), failing("Two", hooks=["teardown"], calls=calls))
    assert calls == ["One.on_fit_end", "One.teardown", "Two.teardown"]
    assert str(caught.value) == "on_fit_end of One"
    assert caught.value.__notes__ == [
        "afterwards, teardown of One raised RuntimeError: teardown of One",
        "afterwards, teardown of Two raised RuntimeError: teardown of Two",
    ]


def test_a_wrapper_does_not_keep_the_failure_of_one_from_the_others():
    calls = []

    class Around:
        @hookimpl(wrapper=True)
        def teardown(self, stage):
            calls.append(f"before {stage}")
            yield
            calls.append("after")

    with pytest.raises(RuntimeError) as caught:
        fit(failing("One", hooks=["teardown"], calls=calls), Around(), failing("Two", hooks=["teardown"], calls=calls))
    assert calls == ["before fit", "One.teardown", "Two.teardown", "after"]
    assert str(caught.value) == "teardown of One"
    assert caught.value.__notes__ == ["afterwards, teardown of Two raised RuntimeError: teardown of Two"]


@pytest.mark.parametrize("before", [True, False])
def test_a_wrapper_that_fails_stops_nobody(before):
    calls = []

    class Around:
        @hookimpl(wrapper=True)
        def teardown(self):
            if before:
                raise RuntimeError("wrapper")
            yield
            raise RuntimeError("wrapper")

    Around.__qualname__ = "Around"
    with pytest.raises(Failure) as caught:
        fit(raises_in("on_train_start"), Around(), cls("Told", teardown=lambda self: calls.append("told"))())
    assert calls == ["told"]
    assert caught.value.__notes__ == ["afterwards, teardown of Around raised RuntimeError: wrapper"]


def test_raising_the_exception_again_on_exception_leaves_it_as_it_was():
    class Again:
        def on_exception(self, exception):
            raise exception

    with pytest.raises(Failure) as caught:
        fit(raises_in("on_train_batch_end"), Again())
    assert getattr(caught.value, "__notes__", []) == []
    assert [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)].count("on_exception") == 0


def test_control_c_is_told_to_everybody_and_leaves_fit():
    calls = []

    class Interrupts:
        def on_train_batch_end(self):
            raise KeyboardInterrupt

        def on_exception(self, exception):
            calls.append(type(exception).__name__)

    with pytest.raises(KeyboardInterrupt):
        fit(Interrupts())
    assert calls == ["KeyboardInterrupt"]


def frames(error):
    return [(frame.name, frame.filename) for frame in traceback.extract_tb(error.__traceback__)]


def test_the_traceback_of_a_users_error_ends_in_the_users_code_a_few_frames_below_fit():
    class Mine(TinyModule):
        def training_step(self, batch, batch_idx):
            raise Failure("mine")

    with pytest.raises(Failure) as caught:
        Trainer().fit(Mine())
    found = frames(caught.value)
    assert found[-1] == ("training_step", __file__)
    library = [name for name, filename in found if filename.startswith(LIBRARY)]
    assert library[0] == "fit"
    assert len(library) <= 6, library


def test_the_traceback_of_a_callbacks_error_ends_in_the_callback():
    class Mine(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            raise Failure("mine")

    with pytest.raises(Failure) as caught:
        fit(Mine())
    found = frames(caught.value)
    assert found[-1] == ("on_train_batch_end", __file__)
    assert len([name for name, filename in found if filename.startswith(LIBRARY)]) <= 6


def test_after_a_failure_the_same_trainer_runs_again():
    raising = raises_in("on_train_start")
    trainer = Trainer(callbacks=[raising], max_steps=1)
    with suppress(Failure):
        trainer.fit(TinyModule())
    trainer.callbacks.remove(raising)
    trainer.fit(TinyModule())
    assert trainer.global_step == 1


def test_a_correct_run_warns_of_nothing():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(Callback(), datamodule=TinyDataModule())
    assert [str(warning.message) for warning in caught] == []


# ---- profilers ----


def test_a_profiler_is_given_every_implementation_under_a_name_that_says_whose_it_is():
    actions = []

    class Times(Profiler):
        def wrap(self, function, action):
            def timed(*values):
                actions.append(action)
                return function(*values)

            return timed

    callback = cls("Mine", Callback, on_train_start=lambda self, module: None, on_train_batch_end=lambda self, batch_idx: None)()
    module = cls("Net", TinyModule, on_train_batch_end=lambda self, outputs: None)()
    fit(callback, module=module, datamodule=cls("Data", TinyDataModule, setup=lambda self, stage: None)(), profiler=Times())
    hooks = [
        "[Datamodule]Data.setup",
        "[Callback]Mine.on_train_start",
        "[Callback]Mine.on_train_batch_end",
        "[Module]Net.on_train_batch_end",
    ]
    assert [action for action in actions if action in hooks] == hooks
