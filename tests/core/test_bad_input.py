"""Bad input gets a clear error, and an error of the user's own comes out as it is."""

from __future__ import annotations

import inspect
import traceback
from datetime import timedelta

import pytest
import torch
from leyden import (
    Accelerator,
    Callback,
    CheckpointIO,
    ClusterEnvironment,
    DataModule,
    LeydenWarning,
    Logger,
    Module,
    Precision,
    Profiler,
    Strategy,
    Trainer,
)
from leyden.arguments import REFUSED, TABLE
from leyden.elsewhere import ABSENT, CHOICES, ELSEWHERE
from leyden.plugins import catalog
from leyden.testing import TinyModule
from torch import nn

pytestmark = pytest.mark.usefixtures("core_alone")


def refusal(error, function, *args, **options):
    with pytest.raises(error) as caught:
        function(*args, **options)
    assert type(caught.value) is error
    return str(caught.value)


# ---- arguments of the Trainer ----

COUNT, ALL = "an int >= 0", "an int >= 0 or -1"
LIMIT = "an int >= 0 (batches) or a float from 0.0 to 1.0 (a fraction)"
SWITCH = "True or False"
DURATION = "a timedelta, a dict of its arguments or a str 'DD:HH:MM:SS' or '30 min'"
INTERVAL = (
    f"an int >= 1 (batches), a float above 0.0 and up to 1.0 (a fraction of an epoch), a str such as '500 steps' or {DURATION}"
)

# For each argument what is expected, values of a wrong type and values out of range.
WRONG = {
    "devices": ("'auto', a count, a list of indices or a str such as '0,1'", [1.5, True, object], []),
    "num_nodes": ("an int >= 1", ["2", 1.0, True], [0, -1]),
    "fast_dev_run": ("True, False or an int >= 0 (batches)", ["yes", 1.0], [-1]),
    "max_epochs": (ALL, ["ten", 1.0, True], [-2]),
    "min_epochs": (COUNT, ["1", 1.0, False], [-1]),
    "max_steps": (ALL, ["ten", 1.0, True], [-2]),
    "min_steps": (COUNT, ["1", 1.0, False], [-1]),
    "max_time": (DURATION, [3, 1.5, True], ["1:2:3", {"day": 1}, {"days": "x"}]),
    "limit_train_batches": (LIMIT, ["1", True], [-1, 1.5, -0.1, float("nan")]),
    "limit_val_batches": (LIMIT, ["1", True], [-1, 1.5, -0.1, float("nan")]),
    "limit_test_batches": (LIMIT, ["1", True], [-1, 1.5, -0.1, float("nan")]),
    "limit_predict_batches": (LIMIT, ["1", True], [-1, 1.5, -0.1, float("nan")]),
    "overfit_batches": (LIMIT, ["1", True], [-1, 1.5]),
    "val_check_interval": (INTERVAL, [True, [1]], [0, -1, 0.0, 1.5, float("nan"), "1:2", {"day": 1}]),
    "check_val_every_n_epoch": ("an int >= 1 or None", [1.0, True], [0, -1]),
    "num_sanity_val_steps": (ALL, ["1", 1.0, True], [-2]),
    "log_every_n_steps": (COUNT, [1.0, True], [-1]),
    "enable_checkpointing": (SWITCH, ["no", 1, 0], []),
    "enable_progress_bar": (SWITCH, ["no", 1, 0], []),
    "enable_model_summary": (SWITCH, ["no", 1, 0], []),
    "accumulate_grad_batches": ("an int >= 1", ["2", 2.0, True, {0: 2}], [0, -1]),
    "carry_accumulation": (SWITCH, ["yes", 1], []),
    "gradient_clip_val": ("a number >= 0 (0 is none)", ["1", True], [-0.5, float("nan")]),
    "gradient_clip_algorithm": ("'norm' or 'value'", [2, True], ["norms", ""]),
    "deterministic": ("True, False or 'warn'", [1, 0.0], ["warning"]),
    "benchmark": (SWITCH, ["yes", 1], []),
    "inference_mode": (SWITCH, ["yes", 1], []),
    "use_distributed_sampler": (SWITCH, ["yes", 1], []),
    "detect_anomaly": (SWITCH, ["yes", 1], []),
    "barebones": (SWITCH, ["yes", 1], []),
    "sync_batchnorm": (SWITCH, ["yes", 1], []),
    "reload_dataloaders_every_n_epochs": (COUNT, [1.0, True], [-1]),
    "default_root_dir": ("a path or URL", [3, True], []),
    "enable_autolog_hparams": (SWITCH, ["yes", 1], []),
    "model_registry": ("a str", [3, True], []),
    "grace_s": ("a number >= 0 (seconds)", ["1", True], [-1, float("nan")]),
    "auto_resume": (SWITCH, ["yes", 1], []),
    "nan_policy": ("'stop', 'skip', 'strict' or 'off'", [1, True], ["raise"]),
    "loader_key_template": ("a str with '{name}' and '{loader}', such as '{loader}/{name}'", [1, True], ["{name}", "x"]),
    "on_plugin_error": (
        "'raise', 'quarantine', or a dict of these such as {'logger': 'quarantine', 'callback': 'raise'}",
        [1, True],
        ["stop", {"loggers": "raise"}],
    ),
    "on_interrupt": ("'raise' or 'return'", [1, True], ["stop"]),
}


def test_every_argument_of_the_table_is_tried():
    assert set(WRONG) == set(TABLE)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        pytest.param(name, value, error, id=f"{name}={value}")
        for name, (_, types, ranges) in WRONG.items()
        for values, error in ((types, TypeError), (ranges, ValueError))
        for value in values
    ],
)
def test_a_wrong_argument_says_what_was_expected_and_what_came(name, value, error):
    message = refusal(error, Trainer, **{name: value})
    assert message == f"Trainer({name}={value!r}): expected {WRONG[name][0]}, got {type(value).__name__} {value!r}"


@pytest.mark.parametrize("name", ["max_steps", "fast_dev_run", "devices", "num_nodes", "accumulate_grad_batches", "barebones",
                                  "inference_mode", "limit_train_batches", "accelerator", "strategy"])  # fmt: skip
def test_none_is_the_default(name):
    given, plain = Trainer(max_epochs=1, **{name: None}), Trainer(max_epochs=1)
    assert getattr(given, name, None).__class__ is getattr(plain, name, None).__class__
    given.fit(TinyModule())
    assert given.global_step == 4


def test_the_cloud_of_lightnings_makers_is_refused():
    assert set(REFUSED) == {"model_registry"}
    assert refusal(ValueError, Trainer, model_registry="m") == (
        "Trainer(model_registry='m'): it names a place in the cloud of Lightning's makers; upload from a callback that saves "
        "checkpoints, or in on_train_end, with the client of your registry"
    )


def test_an_unknown_argument_gets_the_nearest():
    assert refusal(TypeError, Trainer, max_epoch=3) == "Trainer() has no argument 'max_epoch'; did you mean 'max_epochs'?"


def test_an_argument_like_no_other_gets_the_list():
    message = refusal(TypeError, Trainer, zzz=3)
    assert message.startswith("Trainer() has no argument 'zzz'; its arguments: 'accelerator', 'strategy', 'devices', ")


@pytest.mark.parametrize(
    ("word", "here"),
    [
        ("num_train_epochs", "max_epochs"),
        ("max_duration", "max_epochs, max_steps or max_time"),
        ("gradient_accumulation_steps", "accumulate_grad_batches"),
        ("fp16", "precision='16-mixed' or 'bf16-mixed'"),
        ("lr", "what configure_optimizers() of the module returns"),
    ],
)
def test_an_argument_of_another_library_is_told_what_it_is_here(word, here):
    assert refusal(TypeError, Trainer, **{word: 1}) == f"Trainer() has no argument {word!r}; here that is {here}"


def test_no_argument_of_ours_is_said_to_be_another_librarys():
    assert not set(ELSEWHERE) & set(inspect.signature(Trainer.__init__).parameters)


# ---- components ----


@pytest.mark.parametrize(
    ("kind", "names", "said"),
    [
        ("accelerator", "hpu ipu xpu npu", "nothing here drives "),
        ("accelerator", "tpu xla", "will come with leyden-xla"),
        ("strategy", "tpu tpu_spawn xla xla_debug xla_fsdp single_xla single_tpu", "will come with leyden-xla"),
        ("strategy", "hpu_parallel hpu_single ipu_strategy", "nothing here drives "),
        ("precision", "int8 int8-training nf4 nf4-dq fp4 fp4-dq", "as with bitsandbytes.nn.Linear4bit"),
        ("precision", "transformer-engine transformer-engine-float16 fp8", "as with transformer_engine.pytorch.Linear"),
        ("logger", "neptune clearml aim dvclive", "nothing here writes to "),
    ],
)
def test_a_name_that_nobody_brings_is_told_what_there_is_instead_or_what_will_bring_it(kind, names, said):
    for name in names.split():
        message = refusal(LookupError, Trainer, **{kind: name})
        assert said in message
        assert "did you mean" not in message
        assert f"register a class under {name!r}" in message


def test_no_name_of_ours_is_said_to_be_absent():
    groups = {Accelerator: "accelerator", Strategy: "strategy", Precision: "precision", Logger: "logger"}
    for base, kind in groups.items():
        absent = ABSENT[kind].keys()
        assert not absent & (catalog()[base.group].keys() | catalog().get(f"{base.group} to come", {}).keys())
        assert not absent & CHOICES[kind].keys()


FORMS = "expected a name, {name: options} or"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"accelerator": "cpuu"}, LookupError, "unknown accelerator 'cpuu'; did you mean 'cpu'? Installed: 'cpu'"),
        ({"accelerator": "zzz"}, LookupError, "unknown accelerator 'zzz'; installed: 'cpu'"),
        (
            {"strategy": "single_devise"},
            LookupError,
            "unknown strategy 'single_devise'; did you mean 'single_device'? Installed: 'single_device'",
        ),
        ({"precision": 17}, LookupError, "unknown precision '17'; installed: '32-true'"),
        (
            {"precision": "FP16"},
            LookupError,
            "unknown precision 'FP16'; here that is '16-mixed', or '16-true' for weights of 16 bits too. Installed: '32-true'",
        ),
        ({"strategy": "horovod"}, LookupError, "unknown strategy 'horovod'; here that is 'ddp'. Installed: 'single_device'"),
        (
            {"strategy": "fsdp"},
            LookupError,
            "strategy='fsdp' will come with a later leyden-strategies, which does not exist yet; installed: 'single_device'. A "
            "package of your own can bring it too: register a class under 'fsdp' in the entry-point group 'leyden.strategies'",
        ),
        (
            {"strategy": "FSDP"},
            LookupError,
            "strategy='FSDP' will come with a later leyden-strategies, which does not exist yet; installed: 'single_device'. A "
            "package of your own can bring it too: register a class under 'fsdp' in the entry-point group 'leyden.strategies'",
        ),
        (
            {"strategy": "tpu_spawn"},
            LookupError,
            "strategy='tpu_spawn' will come with leyden-xla, which does not exist yet; installed: 'single_device'. A package of "
            "your own can bring it too: register a class under 'tpu_spawn' in the entry-point group 'leyden.strategies'",
        ),
        (
            {"accelerator": "HPU"},
            LookupError,
            "unknown accelerator 'HPU': nothing here drives Gaudi; accelerator='auto' takes the best device of this machine. "
            "Installed: 'cpu'. A package of your own can bring it: register a class under 'hpu' in the entry-point group "
            "'leyden.accelerators'",
        ),
        (
            {"logger": "aim"},
            LookupError,
            "unknown logger 'aim': nothing here writes to Aim; a subclass of leyden.Logger with one method, "
            "log_metrics(metrics, step), can send to it. Installed: 'none'. A package of your own can bring it: register a class "
            "under 'aim' in the entry-point group 'leyden.loggers'",
        ),
        (
            {"strategy": "Single_Device"},
            LookupError,
            "unknown strategy 'Single_Device'; did you mean 'single_device'? Installed: 'single_device'",
        ),
        (
            {"precision": "bf16-mixd"},
            LookupError,
            "unknown precision 'bf16-mixd'; did you mean 'bf16-mixed'? (pip install leyden-precision) Installed: '32-true'",
        ),
        (
            {"logger": "tensorbord"},
            LookupError,
            "unknown logger 'tensorbord'; did you mean 'tensorboard'? (pip install leyden-loggers) Installed: 'none'",
        ),
        (
            {"callbacks": "early_stoping"},
            LookupError,
            "unknown callback 'early_stoping'; did you mean 'early_stopping'? (pip install leyden-callbacks) Installed: none",
        ),
        ({"profiler": "zzz"}, LookupError, "unknown profiler 'zzz'; installed: 'none'"),
        ({"environment": "locl"}, LookupError, "unknown environment 'locl'; did you mean 'local'? Installed: 'local'"),
        ({"checkpoint_io": "torhc"}, LookupError, "unknown checkpoint_io 'torhc'; did you mean 'torch'? Installed: 'torch'"),
        (
            {"strategy": {"single_device": {"timeout": 1}}},
            TypeError,
            "strategy 'single_device' has no option 'timeout'; its options: none",
        ),
        (
            {"strategy": {"single_device": 3}},
            TypeError,
            "strategy={'single_device': 3}: the options of 'single_device' must be a dict, got int 3",
        ),
        (
            {"logger": {"csv": {}, "tensorboard": {}}},
            TypeError,
            "logger={'csv': {}, 'tensorboard': {}}: expected one name with its options, such as {'name': {'option': 1}}",
        ),
        ({"accelerator": 3}, TypeError, f"accelerator=3: {FORMS} an instance of Accelerator, got int 3"),
        ({"strategy": 3}, TypeError, f"strategy=3: {FORMS} an instance of Strategy, got int 3"),
        ({"precision": 3.5}, TypeError, f"precision=3.5: {FORMS} an instance of Precision, got float 3.5"),
        ({"precision": True}, TypeError, f"precision=True: {FORMS} an instance of Precision, got bool True"),
        ({"logger": [3]}, TypeError, f"logger=3: {FORMS} an instance of Logger, got int 3"),
        ({"profiler": 3}, TypeError, f"profiler=3: {FORMS} an instance of Profiler, got int 3"),
        ({"environment": 3}, TypeError, f"environment=3: {FORMS} an instance of ClusterEnvironment, got int 3"),
        ({"checkpoint_io": 3}, TypeError, f"checkpoint_io=3: {FORMS} an instance of CheckpointIO, got int 3"),
        ({"strategy": Strategy}, TypeError, "strategy=Strategy is a class; pass an object, Strategy(...)"),
        ({"callbacks": 3}, TypeError, f"callbacks=3: {FORMS} an instance of Callback, got int 3"),
        ({"callbacks": [None]}, TypeError, f"callbacks[0]=None: {FORMS} an instance of Callback, got NoneType None"),
        (
            {"callbacks": [Callback(), Callback]},
            TypeError,
            "callbacks[1]=Callback is a class; pass an object, Callback(...)",
        ),
        ({"callbacks": [TinyModule]}, TypeError, "callbacks[0]=TinyModule is a class; pass an object, TinyModule(...)"),
        (
            {"plugins": [3]},
            TypeError,
            "plugins: expected objects of 'Precision', 'CheckpointIO', 'ClusterEnvironment', or an object that answers hooks, "
            "got int 3",
        ),
        (
            {"plugins": [Precision(), Precision()]},
            ValueError,
            "plugins: Precision and Precision are both a precision; pass one",
        ),
        (
            {"plugins": Precision(), "precision": "32-true"},
            ValueError,
            "plugins has a Precision and precision='32-true' is given too; pass one of them",
        ),
    ],
)
def test_a_component_that_cannot_be_chosen(options, error, message):
    assert refusal(error, Trainer, **options) == message


@pytest.mark.parametrize("part", [Accelerator, Strategy, Precision, Logger, Profiler, ClusterEnvironment, CheckpointIO])
def test_every_component_can_be_given_as_an_object(part):
    argument = "environment" if part is ClusterEnvironment else part.kind
    trainer = Trainer(max_epochs=1, **{argument: part()})
    trainer.fit(TinyModule())
    assert trainer.global_step == 4


def test_an_object_that_answers_no_hook_is_no_callback():
    class Empty:
        def __repr__(self):
            return "<Empty>"

    assert refusal(TypeError, Trainer, callbacks=[Empty()]) == (
        "callbacks[0]=<Empty>: expected a name, {name: options} or an object that answers a hook, got Empty <Empty>"
    )


def test_a_callback_given_twice_is_an_error():
    callback = Callback()
    assert refusal(ValueError, Trainer, callbacks=[callback, callback]) == (
        "callbacks[1]: Callback is given twice; give each callback once"
    )


class Board(Accelerator):
    """Has two devices."""

    name = "board"

    @classmethod
    def device_count(cls):
        return 2


def test_an_accelerator_that_is_not_there_is_an_error():
    class Absent(Accelerator):
        name = "absent"

        @classmethod
        def is_available(cls):
            return False

    assert refusal(ValueError, Trainer, accelerator=Absent()) == (
        "accelerator='absent' was asked for, but this machine has no such device; use accelerator='auto', which takes the best "
        "one there is"
    )


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (3, "devices=3 but accelerator 'board' has 2 on this machine; pass devices=2 or another accelerator"),
        ("3", "devices='3' but accelerator 'board' has 2 on this machine; pass devices=2 or another accelerator"),
        ([0, 2], "devices=[0, 2]: there is no device 2; accelerator 'board' has 0 to 1"),
        ([-1], "devices=[-1]: there is no device -1; accelerator 'board' has 0 to 1"),
        ([1, 1], "devices=[1, 1] names a device twice"),
        ("0,0", "devices='0,0' names a device twice"),
        ([], "devices=[] is no device at all; pass a count of at least 1, or -1 for all"),
        (0, "devices=0 is no device at all; pass a count of at least 1, or -1 for all"),
        (-3, "devices=-3 is no device at all; pass a count of at least 1, or -1 for all"),
        ("two", "devices='two': expected 'auto', a count such as 2, or indices such as '0,1'"),
    ],
)
def test_devices_that_do_not_exist(devices, message):
    assert refusal(ValueError, Trainer, accelerator=Board(), devices=devices) == message


def test_more_devices_than_any_strategy_drives():
    assert refusal(ValueError, Trainer, devices=2) == (
        "no installed strategy drives 2 devices on 1 node(s) with accelerator 'cpu'; pass devices=1, or install a distribution "
        "that brings one. Installed: 'single_device'"
    )


@pytest.mark.parametrize(
    ("switch", "distribution"),
    [
        ("enable_checkpointing", "leyden-callbacks"),
        ("enable_progress_bar", "leyden-callbacks"),
        ("enable_model_summary", "leyden-callbacks"),
    ],
)
def test_a_default_callback_that_nobody_brings(switch, distribution):
    assert refusal(LookupError, Trainer, **{switch: True}) == (
        f"Trainer({switch}=True): no installed plug-in brings one; run: pip install {distribution}"
    )


def test_a_default_logger_that_nobody_brings():
    assert refusal(LookupError, Trainer, logger=True) == (
        "logger=True: no installed plug-in brings a default logger; run: pip install leyden-loggers"
    )


# ---- modules ----


def fit(module, *args, **options):
    Trainer(**{"max_epochs": 1, **options}).fit(module, *args)


def without(name):
    return type("Lacks", (TinyModule,), {name: getattr(Module, name)})()


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("fit", "training_step"),
        ("fit", "configure_optimizers"),
        ("validate", "validation_step"),
        ("test", "test_step"),
    ],
)
def test_a_module_that_lacks_what_a_run_needs(stage, name):
    run = getattr(Trainer(), stage)
    assert refusal(ValueError, run, without(name)) == f"{stage}() needs Lacks.{name}(), which is not defined"


def test_a_module_that_cannot_predict():
    class Lacks(Module):
        pass

    assert refusal(ValueError, Trainer().predict, Lacks()) == "predict() needs Lacks.predict_step(), which is not defined"


def test_a_misspelt_step_is_guessed():
    class Misspelt(Module):
        def trainig_step(self, batch, batch_idx):
            pass

    assert refusal(ValueError, fit, Misspelt()) == (
        "fit() needs Misspelt.training_step(), which is not defined; did you mean its 'trainig_step'?"
    )


def told(module, **options):
    with pytest.warns(LeydenWarning) as caught:
        fit(module, **options)
    return [(str(warning.message), warning.category.__name__) for warning in caught]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("validaton_step", "did you mean 'validation_step'?"),
        ("val_dataloaders", "did you mean 'val_dataloader'?"),
        ("configure_gradient_cliping", "did you mean 'configure_gradient_clipping'?"),
        ("training_epoch_end", "write on_train_epoch_end, and keep what it needs of each batch in training_step"),
        ("validation_step_end", "do what it does at the end of validation_step"),
        ("configure_sharded_model", "write configure_model"),
    ],
)
def test_a_method_that_is_never_called_is_said_with_what_to_write(name, advice):
    class Bare(Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 2)

        training_step, configure_optimizers = TinyModule.training_step, TinyModule.configure_optimizers
        train_dataloader, forward, lr = TinyModule.train_dataloader, TinyModule.forward, 0.1

    Bare.__qualname__ = "Bare"
    setattr(Bare, name, lambda self, *args: None)
    assert told(Bare()) == [(f"Bare.{name} is never called by leyden; {advice}", "LY002")]


def test_a_plug_in_may_call_methods_that_core_does_not():
    class Calls:
        calls_methods = frozenset({"training_epoch_end"})

        def on_train_epoch_end(self, module):
            module.training_epoch_end()

    class Old(TinyModule):
        ended = 0

        def training_epoch_end(self):
            self.ended += 1

    module = Old()
    fit(module, plugins=[Calls()])  # warnings are errors in tests
    assert module.ended == 1


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            nn.Linear(1, 1),
            "fit() expected a leyden.Module, got Linear Linear(in_features=1, out_features=1, bias=True); "
            "an nn.Module needs steps: derive it from leyden.Module",
        ),
        (
            TinyModule,
            "fit() expected a leyden.Module, got type <class 'leyden.testing.modules.TinyModule'>; it is a class: pass an "
            "object, TinyModule(...)",
        ),
        (Module.__new__(Module), "Module.__init__ must call super().__init__(), before anything else"),
        (None, "fit() expected a leyden.Module, got NoneType None"),
        ("model", "fit() expected a leyden.Module, got str 'model'"),
    ],
)
def test_what_is_no_module(module, message):
    assert refusal(TypeError, fit, module) == message


class Returns(TinyModule):
    def __init__(self, value, automatic=True):
        super().__init__()
        self.value, self.automatic_optimization = value, automatic

    def training_step(self, batch, batch_idx):
        return self.value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("loss", "returned str 'loss'; expected the loss as a tensor, a dict with 'loss', or None to skip the batch"),
        (1.5, "returned float 1.5; expected the loss as a tensor, a dict with 'loss', or None to skip the batch"),
        ({"los": 1}, "returned a dict without 'loss'; its keys are 'los'"),
        ({}, "returned a dict without 'loss'; its keys are none"),
        ({"loss": 1.5}, "returned float 1.5 as 'loss'; expected a tensor of one element"),
    ],
)
def test_what_training_step_may_not_return(value, message):
    assert refusal(TypeError, fit, Returns(value)) == f"Returns.training_step {message}"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda logits: logits,
            "of shape (4, 2); expected one element: reduce it, for instance with .mean()",
        ),
        (
            lambda logits: {"loss": logits[0]},
            "of shape (2,); expected one element: reduce it, for instance with .mean()",
        ),
        (
            lambda logits: logits.mean().detach(),
            "that depends on no parameter with a gradient; is it made from .item(), .detach() or under torch.no_grad(), or is "
            "every parameter frozen?",
        ),
    ],
)
def test_a_loss_that_backward_cannot_use(make, message):
    class Makes(TinyModule):
        def training_step(self, batch, batch_idx):
            return make(self(batch[0]))

    assert refusal(ValueError, fit, Makes()) == f"Makes.training_step returned a loss {message}"


def test_an_error_of_backward_itself_is_left_as_it_is():
    class Odd(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            raise RuntimeError("the user's own")

    class Makes(TinyModule):
        def training_step(self, batch, batch_idx):
            return Odd.apply(self(batch[0]).mean())

    assert refusal(RuntimeError, fit, Makes()) == "the user's own"


def test_what_training_step_may_not_return_in_manual_optimization():
    assert refusal(TypeError, fit, Returns("loss", automatic=False)) == (
        "Returns.training_step returned str 'loss'; in manual optimization expected a tensor, a dict or None"
    )


def test_a_monitor_that_nobody_logs_is_an_error_before_training(monkeypatch):
    monkeypatch.delenv("LEYDEN_DISABLE_PLUGINS")
    pytest.importorskip("leyden_callbacks")
    steps = []

    class Counts(TinyModule):
        def training_step(self, batch, batch_idx):
            steps.append(batch_idx)
            return super().training_step(batch, batch_idx)

    message = refusal(
        ValueError,
        fit,
        Counts(),
        callbacks=[{"early_stopping": {"monitor": "val_los"}}],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    assert "'val_los'" in message
    assert "did you mean 'val_loss'?" in message
    assert steps == []


def test_module_outside_of_a_run_says_when_it_has_a_trainer():
    with pytest.raises(RuntimeError) as caught:
        _ = TinyModule().trainer
    assert str(caught.value) == "TinyModule is not attached to a Trainer; it is from trainer.fit(module) on"


# ---- the user's own exception ----


class Boom(Exception):
    pass


class Witness(Callback):
    def __init__(self):
        self.calls = []

    def on_exception(self, trainer, module, exception):
        self.calls.append(("on_exception", exception))

    def teardown(self, trainer, module, stage):
        self.calls.append(("teardown", stage))


class File(Logger):
    """Has a file open from its first record on."""

    def __init__(self, path):
        self.path, self.file, self.status = path, None, None

    def log_metrics(self, metrics, step):
        if self.file is None:
            self.file = self.path.open("w")
        self.file.write(f"{step} {metrics}\n")

    def finalize(self, status):
        self.status = status
        if self.file is not None:
            self.file.close()


class Fails(TinyModule):
    def __init__(self, place, error):
        super().__init__()
        self.place, self.error, self.calls = place, error, []

    def here(self, place):
        if place == self.place:
            raise self.error

    def setup(self, stage):
        self.here("setup")

    def configure_optimizers(self):
        self.here("configure_optimizers")
        return super().configure_optimizers()

    def training_step(self, batch, batch_idx):
        if batch_idx == 2:
            self.here("training_step")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.here("validation_step")

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if batch_idx == 2:
            self.here("on_train_batch_end")

    def train_dataloader(self):
        self.here("train_dataloader")
        return super().train_dataloader()

    def on_exception(self, exception):
        self.calls.append(("on_exception", exception))

    def teardown(self, stage):
        self.calls.append(("teardown", stage))


PLACES = ["setup", "configure_optimizers", "training_step", "validation_step", "on_train_batch_end", "train_dataloader"]


@pytest.mark.parametrize("error", [Boom("mine"), KeyboardInterrupt(), SystemExit(3)], ids=["error", "ctrl-c", "exit"])
@pytest.mark.parametrize("place", PLACES)
def test_an_exception_of_the_users_own_leaves_fit_unchanged(place, error, tmp_path):
    class Data(DataModule):
        calls = ()

        def on_exception(self, exception):
            self.calls += (("on_exception", exception),)

        def teardown(self, stage):
            self.calls += (("teardown", stage),)

    error.__traceback__ = None
    witness, logger, module, datamodule = Witness(), File(tmp_path / "log"), Fails(place, error), Data()
    trainer = Trainer(max_epochs=1, callbacks=[witness], logger=logger, log_every_n_steps=1)
    with pytest.raises(type(error)) as caught:
        trainer.fit(module, datamodule=datamodule)
    assert caught.value is error
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert not hasattr(caught.value, "__notes__")
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert (frames[-1].filename, frames[-1].name) == (__file__, "here")
    expected = [("on_exception", error), ("teardown", "fit")]
    assert witness.calls == module.calls == list(datamodule.calls) == expected
    assert logger.status == ("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
    assert logger.file is None or logger.file.closed
    if place in ("training_step", "on_train_batch_end"):
        assert (tmp_path / "log").read_text().count("train_loss") == 2
    assert not trainer.running
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_an_exception_leaves_every_other_run_unchanged_too(stage):
    class FailsToo(TinyModule):
        def step(self, batch, batch_idx):
            raise Boom("mine")

        validation_step = test_step = predict_step = step

    witness = Witness()
    with pytest.raises(Boom) as caught:
        getattr(Trainer(callbacks=[witness]), stage)(FailsToo())
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "step"
    assert witness.calls == [("on_exception", caught.value), ("teardown", stage)]


def test_a_traceback_from_the_users_step_stays_on_one_screen():
    with pytest.raises(Boom) as caught:
        fit(Fails("training_step", Boom("mine")))
    frames = traceback.extract_tb(caught.value.__traceback__)
    names = [frame.name for frame in frames]
    assert len(names[names.index("fit") + 1 :]) <= 9


@pytest.mark.skipif(not hasattr(BaseException, "add_note"), reason="exceptions have notes from Python 3.11 on")
def test_errors_of_the_end_become_notes_of_the_users_own():
    class BadEnd(Callback):
        def on_exception(self, trainer, module, exception):
            raise ValueError("in on_exception")

        def teardown(self, trainer, module, stage):
            raise ValueError("in teardown")

    class BadLogger(Logger):
        def finalize(self, status):
            raise OSError("disk gone")

    error, witness = Boom("mine"), Witness()
    trainer = Trainer(max_epochs=1, callbacks=[BadEnd(), witness], logger=BadLogger())
    with pytest.raises(Boom) as caught:
        trainer.fit(Fails("training_step", error))
    assert caught.value is error
    who = "test_errors_of_the_end_become_notes_of_the_users_own.<locals>.BadEnd"
    assert error.__notes__ == [
        f"afterwards, on_exception of {who} raised ValueError: in on_exception",
        f"afterwards, teardown of {who} raised ValueError: in teardown",
        "afterwards, BadLogger.finalize raised OSError: disk gone",
    ]
    assert witness.calls == [("on_exception", error), ("teardown", "fit")]
    assert traceback.extract_tb(error.__traceback__)[-1].name == "here"


def test_an_error_of_the_end_alone_is_raised_after_everyone_ended():
    class BadEnd(Callback):
        def teardown(self, trainer, module, stage):
            raise Boom("in teardown")

    witness = Witness()
    with pytest.raises(Boom, match=r"^in teardown$"):
        fit(TinyModule(), callbacks=[BadEnd(), witness])
    assert witness.calls == [("teardown", "fit")]


def test_the_next_run_after_a_failed_one_is_an_ordinary_one():
    witness = Witness()
    trainer = Trainer(max_epochs=1, callbacks=[witness])
    module = Fails("training_step", Boom("mine"))
    with pytest.raises(Boom):
        trainer.fit(module)
    module.place = None
    witness.calls.clear()
    trainer.fit(module)
    assert trainer.global_step == 4
    assert witness.calls == [("teardown", "fit")]


def test_a_duration_may_be_given_in_every_form():
    for given in ("00:01:30:00", timedelta(minutes=90), {"minutes": 90}):
        trainer = Trainer(max_time=given, val_check_interval=given)
        assert trainer.max_time == timedelta(minutes=90)
        assert trainer.val_check_seconds == 5400
