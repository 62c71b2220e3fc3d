"""The parts of a run: which ones the Trainer's arguments, and ``auto``, stand for."""

from __future__ import annotations

import pytest
from leyden import (
    Accelerator,
    Callback,
    CheckpointIO,
    ClusterEnvironment,
    Logger,
    PluginWarning,
    Precision,
    Trainer,
    hookimpl,
)
from leyden.testing import TinyDataModule, TinyModule

pytestmark = pytest.mark.usefixtures("core_alone")


def raised(kind, **options):
    """The text of the error that a Trainer of these arguments raises; its type is exactly ``kind``."""
    with pytest.raises(kind) as caught:
        Trainer(**options)
    assert type(caught.value) is kind
    return str(caught.value)


# ---- accelerators ----


def device(name, priority, available="True"):
    """The source of an accelerator."""
    return f"""
from leyden import Accelerator

class Device(Accelerator):
    name = {name!r}
    priority = {priority}

    @classmethod
    def is_available(cls):
        return {available}
"""


@pytest.fixture
def accelerator(core_alone, distribution):
    """Installs an accelerator in a distribution of its own."""

    def install(name, priority, available="True"):
        distribution(
            f"{name}-leyden", {"leyden.accelerators": {name: f"{name}_leyden:Device"}}, device(name, priority, available)
        )

    return install


def test_auto_takes_the_available_accelerator_of_the_highest_priority(accelerator):
    for name, priority, available in (("slow", 10, "True"), ("best", 500, "True"), ("fast", 100, "True"), ("gone", 900, "False")):
        accelerator(name, priority, available)
    assert Trainer().accelerator.name == "best"
    assert Trainer(accelerator="auto").accelerator.name == "best"


def test_a_strangers_accelerator_competes_with_ours(accelerator, monkeypatch):
    monkeypatch.delenv("LEYDEN_DISABLE_PLUGINS")
    accelerator("acme", 500)
    assert Trainer(logger=False).accelerator.name == "acme"


def test_auto_is_the_cpu_where_nothing_else_is_there(accelerator):
    assert type(Trainer().accelerator) is Accelerator
    accelerator("gone", 500, "False")
    assert type(Trainer().accelerator) is Accelerator


def test_auto_prefers_the_cpu_to_a_device_of_negative_priority(accelerator):
    accelerator("simulator", -1)
    assert type(Trainer().accelerator) is Accelerator
    assert Trainer(accelerator="simulator").accelerator.name == "simulator"


def test_auto_prefers_a_registered_accelerator_to_the_plain_one_of_the_same_priority(accelerator):
    accelerator("cpu", 0)
    assert type(Trainer().accelerator).__name__ == "Device"


def test_auto_leaves_out_what_cannot_be_imported(distribution):
    distribution("acme-leyden", {"leyden.accelerators": {"acme": "acme_leyden:Device"}}, "import a_client_that_nobody_has\n")
    with pytest.warns(PluginWarning) as caught:
        trainer = Trainer()
    assert [str(warning.message) for warning in caught] == [
        "plug-in 'acme' (leyden.accelerators) of acme-leyden 1.0 cannot be imported from 'acme_leyden:Device': "
        "ModuleNotFoundError: No module named 'a_client_that_nobody_has'; it is left out"
    ]
    assert type(trainer.accelerator) is Accelerator


def test_auto_leaves_out_what_cannot_say_whether_it_is_there(accelerator):
    accelerator("acme", 500, "1 / 0")
    with pytest.warns(PluginWarning) as caught:
        trainer = Trainer()
    assert [str(warning.message) for warning in caught] == [
        "plug-in 'acme' (leyden.accelerators) of acme-leyden 1.0 cannot say whether its device is there: "
        "ZeroDivisionError: division by zero; it is left out"
    ]
    assert type(trainer.accelerator) is Accelerator


def test_auto_does_not_ask_a_function_that_chooses_among_accelerators(distribution):
    source = device("acme", 500) + "\ndef choose():\n    return Device()\n"
    distribution("acme-leyden", {"leyden.accelerators": {"choose": "acme_leyden:choose"}}, source)
    assert type(Trainer().accelerator) is Accelerator
    assert Trainer(accelerator="choose").accelerator.name == "acme"


def test_an_accelerator_that_is_not_there_is_an_error(accelerator):
    accelerator("gone", 500, "False")
    assert raised(ValueError, accelerator="gone") == (
        "accelerator='gone' was asked for, but this machine has no such device; "
        "use accelerator='auto', which takes the best one there is"
    )


# ---- environments ----

ENVIRONMENT = """
from leyden import ClusterEnvironment

class Here(ClusterEnvironment):
    @classmethod
    def detect(cls):
        return True

class Away(ClusterEnvironment):
    pass
"""


def test_auto_takes_the_environment_that_detects_itself(distribution):
    names = {"away": "acme_leyden:Away", "here": "acme_leyden:Here"}
    distribution("acme-leyden", {"leyden.environments": names}, ENVIRONMENT)
    assert type(Trainer().environment).__name__ == "Here"
    assert type(Trainer(environment="away").environment).__name__ == "Away"


def test_auto_is_the_plain_environment_where_none_detects_itself(distribution):
    assert type(Trainer().environment) is ClusterEnvironment
    distribution("acme-leyden", {"leyden.environments": {"away": "acme_leyden:Away"}}, ENVIRONMENT)
    assert type(Trainer().environment) is ClusterEnvironment


def test_two_environments_that_detect_themselves_are_an_error(distribution):
    names = {"one": "acme_leyden:Here", "two": "acme_leyden:Here"}
    distribution("acme-leyden", {"leyden.environments": names}, ENVIRONMENT)
    assert raised(ValueError) == "environments 'one', 'two' all detect themselves; choose one with environment=..."


# ---- strategies ----

STRATEGIES = """
from leyden import Strategy

class Several(Strategy):
    def connect(self, accelerator, device_indices, num_nodes, environment):
        pass

class Few(Several):
    @classmethod
    def priority(cls, accelerator, num_devices, num_nodes):
        return 10 if num_nodes == 1 else 0

class Many(Several):
    @classmethod
    def priority(cls, accelerator, num_devices, num_nodes):
        return num_devices
"""


@pytest.mark.parametrize(("devices", "chosen"), [(1, "Strategy"), (2, "Few"), (9, "Few"), (11, "Many")])
def test_auto_takes_the_strategy_that_suits_the_devices_best(distribution, devices, chosen):
    distribution("acme-leyden", {"leyden.strategies": {"few": "acme_leyden:Few", "many": "acme_leyden:Many"}}, STRATEGIES)
    assert type(Trainer(devices=devices).strategy).__name__ == chosen


def test_several_devices_without_a_strategy_for_them_are_an_error():
    assert raised(ValueError, devices=2) == (
        "no installed strategy drives 2 devices on 1 node(s) with accelerator 'cpu'; pass devices=1, "
        "or install a distribution that brings one. Installed: 'single_device'"
    )


# ---- loggers ----


def test_loggers_are_one_or_a_list():
    one, two = Logger(), Logger()
    assert Trainer(logger=one).loggers == [one]
    assert Trainer(logger=[one, two]).loggers == [one, two]
    assert Trainer(logger=False).loggers == Trainer(logger=[]).loggers == []


# ---- callbacks ----


class Answers:
    """Answers a hook without being a Callback."""

    def on_fit_start(self) -> None: ...

    def __repr__(self) -> str:
        return "<answers>"


class Silent:
    """Answers nothing."""

    def __repr__(self) -> str:
        return "<silent>"


def test_callbacks_are_one_or_a_list_of_objects_that_answer_hooks():
    one, two = Callback(), Answers()
    assert Trainer(callbacks=one).callbacks == [one]
    assert Trainer(callbacks=two).callbacks == [two]
    assert Trainer(callbacks=(two, one)).callbacks == [two, one]
    assert Trainer(callbacks=None).callbacks == Trainer(callbacks=[]).callbacks == []


EXPECTED = "expected a name, {name: options} or an object that answers a hook"
INSTANCE = "expected a name, {name: options} or an instance of Callback"


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (3, f"callbacks=3: {INSTANCE}, got int 3"),
        ([Callback(), None], f"callbacks[1]=None: {INSTANCE}, got NoneType None"),
        ([[Silent()]], f"callbacks[0]=[<silent>]: {INSTANCE}, got list [<silent>]"),
        (Silent(), f"callbacks=<silent>: {EXPECTED}, got Silent <silent>"),
        ([Callback(), Silent()], f"callbacks[1]=<silent>: {EXPECTED}, got Silent <silent>"),
        (Answers, "callbacks=Answers is a class; pass an object, Answers(...)"),
        ([Callback(), Callback], "callbacks[1]=Callback is a class; pass an object, Callback(...)"),
        ({"a": {}, "b": {}}, "callbacks={'a': {}, 'b': {}}: expected one name with its options, such as {'name': {'option': 1}}"),
    ],
)
def test_what_is_no_callback_is_an_error_that_says_where(callbacks, message):
    assert raised(TypeError, callbacks=callbacks) == message


def named(name, base):
    return type(name, (base,), {"__repr__": lambda self: f"<{name}>"})()


def test_a_module_or_a_data_module_that_answers_nothing_is_no_callback():
    module, datamodule = named("Mine", TinyModule), named("Data", TinyDataModule)
    assert raised(TypeError, callbacks=module) == f"callbacks=<Mine>: {EXPECTED}, got Mine <Mine>"
    assert raised(TypeError, callbacks=[datamodule]) == f"callbacks[0]=<Data>: {EXPECTED}, got Data <Data>"


def test_a_callback_given_twice_is_an_error():
    one = Answers()
    assert raised(ValueError, callbacks=[one, Callback(), one]) == "callbacks[2]: Answers is given twice; give each callback once"


def test_a_callback_that_is_among_the_plugins_too_is_an_error():
    one = Answers()
    assert raised(ValueError, callbacks=[one], plugins=[one]) == (
        "Answers is on the bus already; one object can be registered once"
    )


def test_a_plugin_that_makes_no_callback_is_an_error(distribution):
    distribution("acme-leyden", {"leyden.callbacks": {"acme": "acme_leyden:make"}}, "def make():\n    return object\n")
    assert raised(TypeError, callbacks="acme") == "callback 'acme' made a type, which is no Callback"


class OwnCallbacks(TinyModule):
    def __init__(self, own):
        super().__init__()
        self.own = own

    def configure_callbacks(self):
        return self.own


def test_what_is_no_callback_of_a_modules_own_is_an_error_that_says_where():
    with pytest.raises(TypeError) as caught:
        Trainer(max_steps=1).fit(OwnCallbacks([Callback(), 3]))
    assert str(caught.value) == f"OwnCallbacks.configure_callbacks()[1]=3: {INSTANCE}, got int 3"


def test_a_modules_own_callback_replaces_one_of_the_same_class_for_its_run():
    calls = []

    class Says:
        def __init__(self, what):
            self.what = what

        def on_train_start(self):
            calls.append(self.what)

    class Other:
        def on_train_start(self):
            calls.append("other")

    trainer = Trainer(callbacks=[Says("trainer's"), Other()], max_steps=1)
    trainer.fit(OwnCallbacks(Says("module's")))
    trainer.fit(TinyModule())
    assert calls == ["other", "module's", "trainer's", "other"]


# ---- plugins= ----


def test_plugins_are_sorted_by_what_they_are():
    precision, checkpoint_io, environment, hears = Precision(), CheckpointIO(), ClusterEnvironment(), Answers()
    trainer = Trainer(plugins=[hears, precision, checkpoint_io, environment])
    assert (trainer.precision, trainer.checkpoint_io, trainer.environment) == (precision, checkpoint_io, environment)
    assert trainer.bus.implementations_of(hears) == ["on_fit_start"]


def test_one_plugin_need_not_be_in_a_list():
    precision, hears = Precision(), Answers()
    assert Trainer(plugins=precision).precision is precision
    assert Trainer(plugins=hears).bus.implementations_of(hears) == ["on_fit_start"]


def test_two_plugins_of_one_kind_are_an_error():
    class Half(Precision): ...

    assert raised(ValueError, plugins=[Precision(), Half()]) == "plugins: Precision and Half are both a precision; pass one"


@pytest.mark.parametrize(
    ("argument", "given"), [("precision", "32-true"), ("environment", "local"), ("checkpoint_io", CheckpointIO())]
)
def test_a_plugin_and_the_argument_it_stands_for_are_an_error(argument, given):
    part = {"precision": Precision(), "environment": ClusterEnvironment(), "checkpoint_io": CheckpointIO()}[argument]
    assert raised(ValueError, plugins=[part], **{argument: given}) == (
        f"plugins has a {type(part).__name__} and {argument}={given!r} is given too; pass one of them"
    )


@pytest.mark.parametrize(
    ("plugin", "got"),
    [
        ("ddp", "str 'ddp'"),
        (Silent(), "Silent <silent>"),
        (None, "NoneType None"),
        (Callback, "type <class 'leyden.callback.Callback'>"),
    ],
)
def test_what_is_no_plugin_is_an_error(plugin, got):
    assert raised(TypeError, plugins=[plugin]) == (
        "plugins: expected objects of 'Precision', 'CheckpointIO', 'ClusterEnvironment', or an object that answers hooks, "
        f"got {got}"
    )


def test_an_object_among_the_plugins_hears_of_the_construction():
    calls = []

    class Mine:
        @hookimpl
        def default_logger(self, trainer):
            calls.append("logger")

        @hookimpl
        def default_callbacks(self, trainer):
            calls.append("callbacks")

    Trainer(plugins=[Mine()])
    assert calls == ["logger", "callbacks"]
