"""Each contract fails on a plug-in that breaks it, with the test that says what is wrong."""

from __future__ import annotations

import inspect
import itertools
import json
import unittest

import pytest
import torch
from leyden import Accelerator, Callback, CheckpointIO, ClusterEnvironment, Logger, Precision, Profiler, Strategy
from leyden.testing import (
    AcceleratorContract,
    CallbackContract,
    CheckpointIOContract,
    EnvironmentContract,
    LoggerContract,
    PrecisionContract,
    ProfilerContract,
    StrategyContract,
)

KINDS = {
    AcceleratorContract: "accelerator",
    StrategyContract: "strategy",
    PrecisionContract: "precision",
    LoggerContract: "logger",
    CallbackContract: "callback",
    ProfilerContract: "profiler",
    EnvironmentContract: "environment",
    CheckpointIOContract: "checkpoint_io",
}


def failures(contract, plugin, root):
    """The names of a contract's tests that fail on ``plugin``, a class or function, with what they say."""
    if contract is LoggerContract:
        members = {"logger": lambda self, root: plugin(root), "written": lambda self, logger: logger.written()}
    else:
        members = {KINDS[contract]: lambda self: plugin()}
    kind = type("Author", (contract,), members)
    found = {}
    for name in (name for name in dir(kind) if name.startswith("test_")):
        directory = root / name
        directory.mkdir()
        test = getattr(kind(), name)
        try:
            test(**{"tmp_path": directory} if "tmp_path" in inspect.signature(test).parameters else {})
        except unittest.SkipTest:
            pass
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


# ---- accelerators ----


class Unnamed(Accelerator):
    name = ""


class Pretending(Accelerator):
    """Says that it is there, and counts no device."""

    @classmethod
    def device_count(cls):
        return 0

    def parse_devices(self, devices):
        return super().parse_devices(devices) if devices not in ("auto", 1) else [0]


class Indulgent(Accelerator):
    def parse_devices(self, devices):
        return [0]


class Bodiless(Accelerator):
    """Its device computes nothing."""

    def device(self, index):
        return torch.device("meta")


class OneShot(Accelerator):
    """Can be torn down once."""

    gone = False

    def teardown(self):
        if self.gone:
            raise RuntimeError("gone already")
        self.gone = True


class Unmeasured(Accelerator):
    def stats(self, device):
        return {"memory_bytes": None}


# ---- strategies ----


class Undecided(Strategy):
    @classmethod
    def priority(cls, accelerator, num_devices, num_nodes):
        return None


class Negating(Strategy):
    """Backward adds the gradients of the loss's negative."""

    def bind_backward(self, precision):
        return lambda loss: precision.backward(-loss)


class Keeping(Strategy):
    """Leaves the module where it was."""

    def setup(self, module, precision):
        super().setup(module, precision)
        self.device = torch.device("meta")

    def teardown(self, module):
        self.device = torch.device("cpu")


class Repeating(Strategy):
    """Runs each step twice."""

    def wrap_step(self, module, name):
        step = getattr(module, name)

        def twice(*args):
            step(*args)
            return step(*args)

        return twice


class Prefixing(Strategy):
    """Saves the module under names that are not its own."""

    def module_state(self, module):
        return {f"wrapped.{name}": tensor for name, tensor in super().module_state(module).items()}

    def load_module_state(self, module, state, strict=True):
        super().load_module_state(module, {name.removeprefix("wrapped."): tensor for name, tensor in state.items()}, strict)


class Forgetful(Strategy):
    """Loads nothing."""

    def load_module_state(self, module, state, strict=True):
        pass


class Flat(Strategy):
    """Gathers without a dimension of ranks."""

    def all_gather(self, tensor):
        return tensor


class Leaking(Strategy):
    """Cannot be set up again before it was torn down twice."""

    open = 0

    def setup_environment(self):
        if self.open:
            raise RuntimeError("already open")
        self.open = 2

    def teardown(self, module):
        self.open -= 1


# ---- precisions ----


class Scaling(Precision):
    """Scales the loss and forgets to undo it."""

    def backward(self, loss, *args, **kwargs):
        super().backward(loss * 1024, *args, **kwargs)


class Silent(Precision):
    """Does not say that it stepped."""

    def step(self, optimizer, closure=None):
        super().step(optimizer, closure)


class Global(Precision):
    """Changes torch's default dtype for good."""

    def convert_module(self, module):
        torch.set_default_dtype(torch.float64)


class Amnesiac(Precision):
    """Has state and cannot take it back."""

    steps = 0

    def step(self, optimizer, closure=None):
        self.steps += 1
        return super().step(optimizer, closure)

    def state_dict(self):
        return {"steps": self.steps}


class Greedy(Precision):
    """Converts integers too."""

    def convert_module(self, module):
        for name, buffer in list(module.named_buffers()):
            setattr(module, name, buffer.float())


class Wedged(Precision):
    """A step that was prepared and not taken stops all later ones."""

    prepared = False

    def unscale(self, optimizer):
        if self.prepared:
            raise RuntimeError("unscaled already")
        self.prepared = True

    def step(self, optimizer, closure=None):
        self.prepared = False
        return super().step(optimizer, closure)


# ---- loggers ----


class JSONLogger(Logger):
    """A good logger of one file; the others break it."""

    name = "json"

    def __init__(self, root):
        self.path = root / "records.jsonl"
        self.records = []

    @property
    def log_dir(self):
        return str(self.path.parent)

    def log_metrics(self, metrics, step):
        self.records.append({**metrics, "step": step})

    def save(self):
        if self.records:
            with self.path.open("a") as file:
                file.writelines(json.dumps(record) + "\n" for record in self.records)
            self.records = []

    def finalize(self, status):
        self.save()

    def written(self):
        series = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            record = json.loads(line)
            for key in record.keys() - {"step"}:
                series.setdefault(key, []).append((record["step"], record[key]))
        return series


class Eager(JSONLogger):
    """Opens its file when it is built."""

    def __init__(self, root):
        super().__init__(root)
        self.path.touch()


class Dropping(JSONLogger):
    """Drops every second record."""

    def log_metrics(self, metrics, step):
        if step % 2:
            super().log_metrics(metrics, step)


class Overwriting(JSONLogger):
    """Each run of the Trainer writes over the one before."""

    def finalize(self, status):
        if self.records:
            self.path.unlink(missing_ok=True)
        super().finalize(status)


class Grabbing(JSONLogger):
    """Changes what it is given."""

    def log_metrics(self, metrics, step):
        metrics["step"] = step
        super().log_metrics(metrics, step)


class Literal(JSONLogger):
    """Takes hyperparameters of JSON's kinds only."""

    def log_hyperparams(self, params, metrics=None):
        json.dumps(params)


class Lazy(JSONLogger):
    """Writes only at a happy end."""

    def save(self):
        pass

    def finalize(self, status):
        if status == "success":
            super().save()


class Wandering(JSONLogger):
    """A new directory each time one asks."""

    def __init__(self, root):
        super().__init__(root)
        self.version = itertools.count()

    @property
    def log_dir(self):
        return f"{self.path.parent}/{next(self.version)}"


class Meddling(JSONLogger):
    """Cannot log infinities."""

    def log_metrics(self, metrics, step):
        json.dumps(dict(metrics), allow_nan=False)
        super().log_metrics(metrics, step)


# ---- callbacks ----


class Counting(Callback):
    """A good callback; the others break it."""

    def __init__(self):
        self.batches = 0

    def on_train_batch_end(self):
        self.batches += 1

    def state_dict(self):
        return {"batches": self.batches}

    def load_state_dict(self, state_dict):
        self.batches = state_dict["batches"]


class Deaf(Callback):
    """Answers nothing."""


class Trembling(Counting):
    """Moves the weights."""

    def on_train_batch_start(self, module):
        with torch.no_grad():
            module.layer.weight.add_(0.1)


class Forgetting(Counting):
    def load_state_dict(self, state_dict):
        pass


class Pickling(Counting):
    """Its state is an object."""

    def state_dict(self):
        return {"batches": self.batches, "self": type(self)}


class Numbered(Counting):
    """A key for each object."""

    @property
    def state_key(self):
        return f"Numbered-{id(self)}"


class SingleUse(Counting):
    """Cannot take part twice."""

    def on_fit_start(self):
        if self.batches:
            raise RuntimeError("used already")


# ---- profilers ----


class Swallowing(Profiler):
    """Loses what a function returns."""

    def wrap(self, function, action):
        def call(*args, **kwargs):
            function(*args, **kwargs)

        return call


class Speechless(Profiler):
    def summary(self):
        return None


class Vague(Profiler):
    """Its summary names no action."""

    def summary(self):
        return "it took some time"


# ---- environments ----


class Beyond(ClusterEnvironment):
    """A rank that its world does not have."""

    rank = 1


class Stringly(ClusterEnvironment):
    """Values as the variables hold them."""

    main_port = "29500"


class Fickle(ClusterEnvironment):
    """Another port each time."""

    ports = itertools.count(29500)

    @property
    def main_port(self):
        return next(self.ports)


class Unsure(ClusterEnvironment):
    @classmethod
    def detect(cls):
        return None


# ---- checkpoint IO ----


class Half(CheckpointIO):
    """Writes in place."""

    def save(self, checkpoint, path):
        with open(path, "wb") as file:  # noqa: PTH123  # the mistake that people make
            torch.save(checkpoint, file)


class Trusting(CheckpointIO):
    """Unpickles whatever there is."""

    def load(self, path, map_location="cpu"):
        return torch.load(path, weights_only=False)


class Littering(CheckpointIO):
    def save(self, checkpoint, path):
        super().save(checkpoint, path)
        super().save({"state_dict": {}}, f"{path}.backup")


class Strict(CheckpointIO):
    def remove(self, path):
        import os

        os.remove(path)  # noqa: PTH107  # the mistake that people make


class Lossy(CheckpointIO):
    """Keeps the weights only."""

    def save(self, checkpoint, path):
        super().save({key: checkpoint[key] for key in ("state_dict", "epoch", "global_step")}, path)


BROKEN = {
    AcceleratorContract: {
        Unnamed: "",
        Pretending: "",
        Indulgent: "",
        Bodiless: "",
        OneShot: "",
        Unmeasured: "",
    },
    StrategyContract: {
        Undecided: "",
        Negating: "",
        Keeping: "",
        Repeating: "",
        Prefixing: "",
        Forgetful: "",
        Flat: "",
        Leaking: "",
    },
    PrecisionContract: {
        Scaling: "",
        Silent: "",
        Global: "",
        Amnesiac: "",
        Greedy: "",
        Wedged: "",
    },
    LoggerContract: {
        Eager: "",
        Dropping: "",
        Overwriting: "",
        Grabbing: "",
        Literal: "",
        Lazy: "",
        Wandering: "",
        Meddling: "",
    },
    CallbackContract: {
        Deaf: "",
        Trembling: "",
        Forgetting: "",
        Pickling: "",
        Numbered: "",
        SingleUse: "",
    },
    ProfilerContract: {Swallowing: "", Speechless: "", Vague: ""},
    EnvironmentContract: {Beyond: "", Stringly: "", Fickle: "", Unsure: ""},
    CheckpointIOContract: {Half: "", Trusting: "", Littering: "", Strict: "", Lossy: ""},
}


@pytest.mark.parametrize(
    ("contract", "plugin"),
    [pytest.param(contract, plugin, id=plugin.__name__) for contract, plugins in BROKEN.items() for plugin in plugins],
)
def test_a_broken_plugin_fails_the_contract(contract, plugin, tmp_path):
    found = failures(contract, plugin, tmp_path)
    print("@@", plugin.__name__, json.dumps(found, indent=1))


@pytest.mark.parametrize(("contract", "plugin"), [(LoggerContract, JSONLogger), (CallbackContract, Counting)])
def test_the_good_ones_beside_them_pass(contract, plugin, tmp_path):
    assert failures(contract, plugin, tmp_path) == {}
