"""Names: found in what is installed, imported when chosen, and explained when they cannot be."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import leyden
import pytest
from leyden import Accelerator, Callback, Logger, PluginError, PluginWarning, Precision, Strategy, Trainer
from leyden.plugins import conflicts, find, installed, names, resolve
from leyden.testing import TinyModule

pytestmark = pytest.mark.usefixtures("core_alone")

LOGGER = """
from leyden import Logger

class Acme(Logger):
    def __init__(self, project, tags=()):
        self.project, self.tags = project, tags
"""
STRATEGY = """
from leyden import Strategy

class Acme(Strategy):
    pass
"""


def raised(kind, function, *arguments, **options):
    """The text of the error that a call raises; its type is exactly ``kind``."""
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    assert type(caught.value) is kind
    return str(caught.value)


# ---- the three forms ----


def test_a_name_stands_for_what_a_distribution_registered_under_it(distribution):
    distribution("acme-leyden", {"leyden.strategies": {"acme": "acme_leyden:Acme"}}, STRATEGY)
    strategy = Trainer(strategy="acme").strategy
    assert (type(strategy).__module__, type(strategy).__name__) == ("acme_leyden", "Acme")


def test_a_plugin_is_imported_when_it_is_chosen_and_not_before(distribution):
    distribution("acme-leyden", {"leyden.strategies": {"acme": "acme_leyden:Acme"}}, STRATEGY)
    Trainer(strategy="auto")
    assert names(Strategy) == ["acme", "single_device"]
    assert "acme_leyden" not in sys.modules
    Trainer(strategy="acme")
    assert "acme_leyden" in sys.modules


def test_a_name_with_options_passes_them_to_the_constructor(distribution):
    distribution("acme-leyden", {"leyden.loggers": {"acme": "acme_leyden:Acme"}}, LOGGER)
    (logger,) = Trainer(logger={"acme": {"project": "digits", "tags": ["a"]}}).loggers
    assert (logger.project, logger.tags) == ("digits", ["a"])


def test_an_entry_point_can_be_a_function_that_makes_the_component(distribution):
    source = LOGGER + "\ndef make(project='none', *, more=1):\n    return Acme(project, more)\n"
    distribution("acme-leyden", {"leyden.loggers": {"acme": "acme_leyden:make"}}, source)
    (logger,) = Trainer(logger={"acme": {"more": 2}}).loggers
    assert (type(logger).__name__, logger.project, logger.tags) == ("Acme", "none", 2)


def test_an_object_is_taken_as_it_is():
    strategy, logger = Strategy(), Logger()
    trainer = Trainer(strategy=strategy, logger=logger)
    assert trainer.strategy is strategy
    assert trainer.loggers == [logger]


def test_the_plain_case_has_a_name_without_any_plugin():
    trainer = Trainer(accelerator="cpu", strategy="single_device", precision="32-true", environment="local")
    assert [type(part) for part in (trainer.accelerator, trainer.strategy, trainer.precision)] == [
        Accelerator,
        Strategy,
        Precision,
    ]


def test_a_plugin_can_take_over_the_name_of_the_plain_case(distribution):
    distribution("acme-leyden", {"leyden.strategies": {"single_device": "acme_leyden:Acme"}}, STRATEGY)
    assert type(Trainer(strategy="single_device").strategy).__name__ == "Acme"


def test_a_callback_of_a_plugin_need_not_inherit_from_callback(distribution):
    source = "class Acme:\n    def on_train_start(self, module):\n        module.seen = True\n"
    distribution("acme-leyden", {"leyden.callbacks": {"acme": "acme_leyden:Acme"}}, source)
    module = TinyModule()
    Trainer(callbacks="acme", max_steps=1).fit(module)
    assert module.seen


# ---- names that are not there ----


def test_an_unknown_name_lists_what_is_installed_and_the_nearest(distribution):
    distribution("acme-leyden", {"leyden.strategies": {"acme": "acme_leyden:Acme"}}, STRATEGY)
    assert raised(LookupError, Trainer, strategy="acmee") == (
        "unknown strategy 'acmee'; did you mean 'acme'? Installed: 'acme', 'single_device'"
    )


def test_an_unknown_name_that_resembles_none_lists_what_is_installed(distribution):
    distribution("acme-leyden", {"leyden.strategies": {"acme": "acme_leyden:Acme"}}, STRATEGY)
    assert (
        raised(LookupError, Trainer, strategy="hurricane") == "unknown strategy 'hurricane'; installed: 'acme', 'single_device'"
    )


@pytest.fixture
def bare(core_alone, monkeypatch):
    """A search path without any distribution that leyden's plug-ins are in."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry])
    monkeypatch.delenv("LEYDEN_DISABLE_PLUGINS")
    assert [plugin.distribution for plugin in installed()] == []


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("base", "name", "message"),
    [
        (Logger, "csv", "logger='csv' comes with leyden-loggers, which is not installed; run: pip install leyden-loggers"),
        (Callback, "early_stopping",
         "callback='early_stopping' comes with leyden-callbacks, which is not installed; run: pip install leyden-callbacks"),
        (Logger, "tensorbord",
         "unknown logger 'tensorbord'; did you mean 'tensorboard'? (pip install leyden-loggers) Installed: 'none'"),
        (Accelerator, "cdua",
         "unknown accelerator 'cdua'; did you mean 'cuda'? (pip install leyden-accelerators) Installed: 'cpu'"),
        (Accelerator, "cpuu", "unknown accelerator 'cpuu'; did you mean 'cpu'? Installed: 'cpu'"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_installed_says_which_distribution_brings_it(base, name, message):
    assert raised(LookupError, resolve, base, name) == message


def test_the_catalog_says_who_brings_the_default_logger_and_callbacks():
    assert raised(LookupError, Trainer, logger=True) == (
        "logger=True: no installed plug-in brings a default logger; run: pip install leyden-loggers"
    )
    assert raised(LookupError, Trainer, enable_progress_bar=True) == (
        "Trainer(enable_progress_bar=True): no installed plug-in brings one; run: pip install leyden-callbacks"
    )
    catalog = json.loads((Path(leyden.__file__).parent / "catalog.json").read_text())
    assert catalog["leyden"].items() >= {"default_callbacks": "leyden-callbacks", "default_logger": "leyden-loggers"}.items()


# ---- two claimants ----


@pytest.fixture
def claimed_twice(core_alone, distribution):
    distribution("acme-leyden", {"leyden.strategies": {"fast": "acme_leyden:Acme"}}, STRATEGY)
    distribution("zoom.leyden", {"leyden.strategies": {"fast": "zoom_leyden:Zoom"}}, STRATEGY.replace("Acme", "Zoom"))


@pytest.mark.usefixtures("claimed_twice")
def test_a_name_that_two_distributions_claim_is_an_error_that_names_both():
    assert raised(LookupError, Trainer, strategy="fast") == (
        "strategy='fast' is registered by acme-leyden and zoom.leyden; choose with "
        "strategy='fast@acme-leyden' or strategy='fast@zoom.leyden'"
    )


@pytest.mark.usefixtures("claimed_twice")
@pytest.mark.parametrize(
    ("name", "made"),
    [("fast@acme-leyden", "Acme"), ("fast@Acme_Leyden", "Acme"), ("fast@zoom.leyden", "Zoom"), ("fast@zoom-leyden", "Zoom")],
)
def test_a_distribution_can_be_named_to_choose_between_two(name, made):
    assert type(Trainer(strategy=name).strategy).__name__ == made
    assert type(Trainer(strategy={name: {}}).strategy).__name__ == made


@pytest.mark.usefixtures("claimed_twice")
def test_conflicts_are_listed():
    assert [[(plugin.name, plugin.distribution) for plugin in claim] for claim in conflicts()] == [
        [("fast", "zoom.leyden"), ("fast", "acme-leyden")]
    ]


@pytest.mark.usefixtures("claimed_twice")
def test_a_distribution_that_does_not_have_the_name_is_an_error_that_lists_those_that_do():
    assert raised(LookupError, Trainer, strategy="fast@other") == (
        "strategy='fast@other': distribution 'other' does not register 'fast'; there is: 'fast@acme-leyden', 'fast@zoom.leyden'"
    )
    assert raised(LookupError, Trainer, strategy="slow@other") == (
        "strategy='slow@other': distribution 'other' does not register 'slow'; there is: none"
    )


@pytest.mark.usefixtures("claimed_twice")
def test_switching_one_claimant_off_leaves_the_other(monkeypatch):
    monkeypatch.setenv("LEYDEN_DISABLE_PLUGINS", "acme-leyden")
    assert find(Strategy, "fast").distribution == "zoom.leyden"


def test_a_distribution_that_is_on_the_path_twice_is_one_claimant(distribution):
    for _ in range(2):
        distribution("acme-leyden", {"leyden.strategies": {"fast": "acme_leyden:Acme"}}, STRATEGY)
    assert type(Trainer(strategy="fast").strategy).__name__ == "Acme"


# ---- switched off ----


@pytest.mark.parametrize("switch", ["acme-leyden", "other, ACME_Leyden", "acme", " acme ,"])
@pytest.mark.parametrize("name", ["acme", "acme@acme-leyden", "acme@Acme.Leyden"])
def test_a_plugin_is_switched_off_by_its_distribution_or_its_name(distribution, monkeypatch, switch, name):
    distribution("acme-leyden", {"leyden.strategies": {"acme": "acme_leyden:Acme"}}, STRATEGY)
    monkeypatch.setenv("LEYDEN_DISABLE_PLUGINS", switch)
    assert raised(LookupError, find, Strategy, name) == (
        f"strategy={name!r}: its plug-in of acme-leyden is switched off by LEYDEN_DISABLE_PLUGINS"
    )
    assert "acme" not in names(Strategy)


def test_a_name_that_is_switched_off_is_the_plain_case_again(distribution, monkeypatch):
    distribution("acme-leyden", {"leyden.strategies": {"single_device": "acme_leyden:Acme"}}, STRATEGY)
    monkeypatch.setenv("LEYDEN_DISABLE_PLUGINS", "acme-leyden,leyden-strategies")
    assert find(Strategy, "single_device") is None


# ---- broken plug-ins ----

BROKEN = "import a_client_that_nobody_has\n"


def test_a_broken_plugin_that_was_asked_for_is_an_error_with_its_cause(distribution):
    distribution("acme-leyden", {"leyden.loggers": {"acme": "acme_leyden:Acme"}}, BROKEN, version="2.3")
    with pytest.raises(PluginError) as caught:
        Trainer(logger="acme")
    assert str(caught.value) == (
        "plug-in 'acme' (leyden.loggers) of acme-leyden 2.3 cannot be imported from 'acme_leyden:Acme': "
        "ModuleNotFoundError: No module named 'a_client_that_nobody_has'"
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_an_entry_point_that_names_nothing_is_an_error(distribution):
    distribution("acme-leyden", {"leyden.loggers": {"acme": "acme_leyden:Acme"}}, "")
    assert raised(PluginError, Trainer, logger="acme") == (
        "plug-in 'acme' (leyden.loggers) of acme-leyden 1.0 cannot be imported from 'acme_leyden:Acme': "
        "AttributeError: module 'acme_leyden' has no attribute 'Acme'"
    )


def test_a_broken_plugin_that_nobody_asked_for_is_not_even_imported(distribution):
    distribution("acme-leyden", {"leyden.loggers": {"acme": "acme_leyden:Acme"}}, BROKEN)
    Trainer(max_steps=1).fit(TinyModule())
    assert "acme_leyden" not in sys.modules


# ---- options ----


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"acme": {"projct": "x"}},
         "logger 'acme' has no option 'projct'; did you mean 'project'? Its options: 'project', 'tags'"),
        ({"acme": {"zzz": "x"}}, "logger 'acme' has no option 'zzz'; its options: 'project', 'tags'"),
        ("acme", "logger 'acme' needs 'project': {'acme': {'project': ...}}; its options: 'project', 'tags'"),
        ({"acme": {}}, "logger 'acme' needs 'project': {'acme': {'project': ...}}; its options: 'project', 'tags'"),
        ({}, "logger={}: expected one name with its options, such as {'name': {'option': 1}}"),
        ({"acme": {}, "csv": {}},
         "logger={'acme': {}, 'csv': {}}: expected one name with its options, such as {'name': {'option': 1}}"),
        ({1: {}}, "logger={1: {}}: expected one name with its options, such as {'name': {'option': 1}}"),
        ({"acme": 3}, "logger={'acme': 3}: the options of 'acme' must be a dict, got int 3"),
        ({"acme": None}, "logger={'acme': None}: the options of 'acme' must be a dict, got NoneType None"),
    ],
)  # fmt: skip
def test_wrong_options_are_an_error(distribution, choice, message):
    distribution("acme-leyden", {"leyden.loggers": {"acme": "acme_leyden:Acme"}}, LOGGER)
    assert raised(TypeError, Trainer, logger=choice) == message


def test_options_of_a_part_that_has_none_are_an_error():
    assert raised(TypeError, Trainer, strategy={"single_device": {"a": 1}}) == (
        "strategy 'single_device' has no option 'a'; its options: none"
    )


def test_any_option_is_passed_to_a_constructor_that_takes_any(distribution):
    source = """
from leyden import Logger

def make(**options):
    logger = Logger()
    logger.options = options
    return logger
"""
    distribution("acme-leyden", {"leyden.loggers": {"acme": "acme_leyden:make"}}, source)
    assert Trainer(logger={"acme": {"anything": 1}}).logger.options == {"anything": 1}


def test_an_error_of_the_constructor_is_the_users(distribution):
    source = LOGGER.replace("self.project, self.tags = project, tags", "raise ValueError('no such project')")
    distribution("acme-leyden", {"leyden.loggers": {"acme": "acme_leyden:Acme"}}, source)
    assert raised(ValueError, Trainer, logger={"acme": {"project": "x"}}) == "no such project"


def test_a_plugin_that_makes_something_else_is_an_error(distribution):
    distribution("acme-leyden", {"leyden.loggers": {"acme": "acme_leyden:make"}}, "def make():\n    return 'nothing'\n")
    assert raised(TypeError, Trainer, logger="acme") == "logger 'acme' made a str, which is no Logger"


# ---- objects of the wrong kind ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": 3}, "strategy=3: expected a name, {name: options} or an instance of Strategy, got int 3"),
        (
            {"accelerator": 3},
            "accelerator=3: expected a name, {name: options} or an instance of Accelerator, got int 3",
        ),
        ({"precision": 16.0}, "precision=16.0: expected a name, {name: options} or an instance of Precision, got float 16.0"),
        ({"strategy": Strategy}, "strategy=Strategy is a class; pass an object, Strategy(...)"),
        ({"logger": Logger}, "logger=Logger is a class; pass an object, Logger(...)"),
        ({"logger": [3]}, "logger=3: expected a name, {name: options} or an instance of Logger, got int 3"),
        ({"callbacks": Callback}, "callbacks=Callback is a class; pass an object, Callback(...)"),
        ({"profiler": True}, "profiler=True: expected a name, {name: options} or an instance of Profiler, got bool True"),
    ],
)
def test_something_that_is_no_such_part_is_an_error(options, message):
    assert raised(TypeError, Trainer, **options) == message


# ---- the entry-point group leyden ----

MODULE = """
from leyden import hookimpl

@hookimpl
def on_train_start(module):
    module.seen.append(__name__)
"""
CLASS = """
class Acme:
    def on_train_start(self, module):
        module.seen.append(type(self).__name__)

instance = Acme()
"""


class Seen(TinyModule):
    """Remembers who was called."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_start(self):
        self.seen.append("module")


def seen(**options):
    module = Seen()
    Trainer(max_steps=1, **options).fit(module)
    return module.seen


@pytest.mark.parametrize(
    ("value", "source", "who"),
    [("acme_leyden", MODULE, "acme_leyden"), ("acme_leyden:Acme", CLASS, "Acme"), ("acme_leyden:instance", CLASS, "Acme")],
)
def test_a_hook_plugin_is_a_module_a_class_or_an_object_and_takes_part_in_every_run(distribution, value, source, who):
    distribution("acme-leyden", {"leyden": {"acme": value}}, source)
    assert [seen(), seen()] == [[who, "module"]] * 2


def test_hook_plugins_are_called_by_name_before_everybody(distribution):
    for name in ("b", "a"):
        distribution(f"{name}-leyden", {"leyden": {name: f"{name}_leyden"}}, MODULE)

    class Mine:
        def on_train_start(self, module):
            module.seen.append("callback")

    assert seen(callbacks=[Mine()]) == ["a_leyden", "b_leyden", "callback", "module"]


def test_one_object_under_two_names_takes_part_once(distribution):
    distribution("acme-leyden", {"leyden": {"one": "acme_leyden", "two": "acme_leyden"}}, MODULE)
    assert seen() == ["acme_leyden", "module"]


@pytest.mark.parametrize("switch", ["acme-leyden", "acme"])
def test_a_hook_plugin_can_be_switched_off(distribution, monkeypatch, switch):
    distribution("acme-leyden", {"leyden": {"acme": "acme_leyden"}}, MODULE)
    monkeypatch.setenv("LEYDEN_DISABLE_PLUGINS", f"leyden-loggers,leyden-callbacks,{switch}")
    assert seen() == ["module"]
    assert "acme_leyden" not in sys.modules


@pytest.mark.parametrize(
    ("value", "source", "problem"),
    [
        ("acme_leyden", BROKEN,
         " cannot be imported from 'acme_leyden': ModuleNotFoundError: No module named 'a_client_that_nobody_has'"),
        ("acme_leyden:Acme", "class Acme:\n    def __init__(self):\n        raise OSError('no server')\n",
         " cannot be built: OSError: no server"),
        ("acme_leyden:Acme", "class Acme:\n    def __init__(self, server):\n        pass\n",
         " cannot be built: TypeError: Acme.__init__() missing 1 required positional argument: 'server'"),
        ("acme_leyden", "def on_train_strat(module):\n    pass\n",
         ": acme.on_train_strat answers no hook: there is none named 'on_train_strat'; did you mean 'on_train_start'?"),
        ("acme_leyden", "def on_train_start(one, two, three):\n    pass\n",
         ": acme.on_train_start(one, two, three) does not fit its hook: write on_train_start(trainer, module), "
         "or any subset of 'trainer', 'module' by name"),
        ("acme_leyden:answer", "answer = 42\n", " answers no hook: 'acme_leyden:answer' is int 42"),
    ],
)  # fmt: skip
def test_a_broken_hook_plugin_is_named_and_left_out(distribution, value, source, problem):
    distribution("acme-leyden", {"leyden": {"acme": value}}, source)
    distribution("fine-leyden", {"leyden": {"fine": "fine_leyden"}}, MODULE)
    with pytest.warns(PluginWarning) as caught:
        found = seen()
    assert [str(warning.message) for warning in caught] == [
        f"plug-in 'acme' (leyden) of acme-leyden 1.0{problem}; it is left out"
    ]
    assert found == ["fine_leyden", "module"]


def test_a_plugin_of_a_newer_leyden_says_which_of_its_hooks_are_optional(distribution):
    source = MODULE + "\n@hookimpl(optionalhook=True)\ndef on_warp_start():\n    pass\n"
    distribution("acme-leyden", {"leyden": {"acme": "acme_leyden"}}, source)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert seen() == ["acme_leyden", "module"]
    assert caught == []


# ---- hooks of the Trainer's construction ----


def test_a_plugin_can_understand_arguments_that_core_does_not(distribution):
    source = """
from leyden import hookimpl

@hookimpl
def translate_arguments(arguments):
    if "epochs" in arguments:
        return {"max_epochs": arguments.pop("epochs")}
"""
    distribution("acme-leyden", {"leyden": {"acme": "acme_leyden"}}, source)
    assert Trainer(epochs=3).max_epochs == 3
    assert raised(TypeError, Trainer, epochs=3, gpu=1).startswith("Trainer() has no argument 'gpu'")


def test_what_a_plugin_passes_instead_is_checked_like_the_users(distribution):
    source = "def translate_arguments(arguments):\n    return {'max_epochs': arguments.pop('epochs')}\n"
    distribution("acme-leyden", {"leyden": {"acme": "acme_leyden"}}, source)
    assert raised(TypeError, Trainer, epochs="many") == "Trainer(max_epochs='many'): expected an int >= 0 or -1, got str 'many'"


def test_an_argument_that_no_plugin_removes_is_an_error(distribution):
    distribution("acme-leyden", {"leyden": {"acme": "acme_leyden"}}, "def translate_arguments(arguments):\n    return {}\n")
    assert raised(TypeError, Trainer, max_epoch=3) == "Trainer() has no argument 'max_epoch'; did you mean 'max_epochs'?"


DEFAULT_LOGGER = """
from leyden import Logger, hookimpl

class Acme(Logger):
    def __init__(self, name):
        self.label = name

@hookimpl(MARK)
def default_logger(trainer):
    return Acme(__name__) if trainer.max_epochs != 7 else None
"""


def labels(**options):
    return [logger.label for logger in Trainer(**options).loggers]


def test_the_first_plugin_with_a_default_logger_gives_it(distribution):
    distribution("b-leyden", {"leyden": {"b": "b_leyden"}}, DEFAULT_LOGGER.replace("MARK", ""))
    assert [labels(), labels(logger=True)] == [["b_leyden"]] * 2
    distribution("a-leyden", {"leyden": {"a": "a_leyden"}}, DEFAULT_LOGGER.replace("MARK", ""))
    assert labels() == ["a_leyden"]
    distribution("c-leyden", {"leyden": {"c": "c_leyden"}}, DEFAULT_LOGGER.replace("MARK", "tryfirst=True"))
    assert labels() == ["c_leyden"]


def test_a_default_logger_is_not_asked_for_where_one_is_given_or_refused(distribution):
    distribution("a-leyden", {"leyden": {"a": "a_leyden"}}, DEFAULT_LOGGER.replace("MARK", ""))
    given = Logger()
    assert Trainer(logger=False).loggers == []
    assert Trainer(logger=given).loggers == [given]


def test_a_plugin_need_not_give_a_default_logger(distribution):
    distribution("a-leyden", {"leyden": {"a": "a_leyden"}}, DEFAULT_LOGGER.replace("MARK", ""))
    assert labels(max_epochs=7) == []
    assert raised(LookupError, Trainer, max_epochs=7, logger=True) == (
        "logger=True: no installed plug-in brings a default logger; run: pip install leyden-loggers"
    )


def test_default_callbacks_of_plugins_are_appended_to_the_users(distribution):
    source = """
from leyden import Callback, hookimpl

class Acme(Callback):
    def on_train_start(self, trainer, module):
        module.seen.append("default")

@hookimpl
def default_callbacks(trainer):
    return [Acme()] if trainer.enable_progress_bar is not False else None
"""
    distribution("acme-leyden", {"leyden": {"acme": "acme_leyden"}}, source)

    class Mine:
        def on_train_start(self, module):
            module.seen.append("mine")

    assert seen(callbacks=[Mine()]) == ["mine", "default", "module"]
    assert seen(callbacks=[Mine()], enable_progress_bar=False) == ["mine", "module"]
